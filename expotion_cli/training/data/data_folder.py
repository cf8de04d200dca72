"""The data folder that `expotion train prepare` writes: clips as tokens, streams and curves in safetensors shards.

A folder holds `data.json` (clips, captions, splits, leaks) and `shards/`. A clip is stored under the digest of all that
determined it. While a folder is being prepared, finished clips lie in `items/`, so a killed run resumes and nothing is
encoded twice; at the end they are packed into shards, each named by the digest of its clips.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import ExpotionError, UsageError, writing
from expotion_cli.training.data.curves import MusicCurves
from expotion_cli.training.data.tokens import TokenFormat

LARGEST_LIST_BYTES = 256 << 20

FORMAT = 1
DATA_FILE, SHARDS, ITEMS = "data.json", "shards", "items"
SHARD_BYTES = 128 << 20
_CURVES_PREFIX = "hearing."  # stored name, older than the field's


@dataclass(frozen=True)
class StoredStream:
    """An embedding stream of a clip; what `music.conditioning.SeenStream` asks for.

    Attributes:
        values: [T_e, D] float32.
        mask: [T_e] bool.
        rate_hz: rows a second.
        dims: D names.
    """

    values: np.ndarray
    mask: np.ndarray
    rate_hz: float
    dims: tuple[str, ...]


@dataclass(frozen=True)
class PreparedClip:
    """An encoded clip.

    Attributes:
        tokens: [K, S] int16.
        streams: embedding streams by name; empty without a picture.
        curves: of its sound; None where only tokens are known.
        fingerprint: [T] uint32, see `fingerprint`.
        duration_s: length of music and picture in seconds.
    """

    tokens: np.ndarray
    streams: dict[str, StoredStream]
    curves: MusicCurves | None
    fingerprint: np.ndarray
    duration_s: float

    def tensors(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays by name, JSON facts) as stored; `words` and `hearing` are the stored names of two fields."""
        arrays = {"tokens": self.tokens, "words": self.fingerprint}
        facts: dict[str, Any] = {"duration_s": self.duration_s, "streams": {}}
        for name, stream in self.streams.items():
            arrays[f"stream.{name}.values"], arrays[f"stream.{name}.mask"] = stream.values, stream.mask
            facts["streams"][name] = {"rate_hz": stream.rate_hz, "dims": list(stream.dims)}
        if self.curves is not None:
            arrays |= {f"{_CURVES_PREFIX}{name}": curve for name, curve in self.curves.tensors().items()}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        facts["sum"] = _sum(arrays)
        return arrays, facts

    @staticmethod
    def from_tensors(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> PreparedClip:
        """The inverse of `tensors`.

        Raises:
            ValueError: the arrays are not those that were stored.
        """
        if facts["sum"] != _sum(arrays):
            raise ValueError("its checksum differs")
        streams = {
            name: StoredStream(
                arrays[f"stream.{name}.values"], arrays[f"stream.{name}.mask"], about["rate_hz"], tuple(about["dims"])
            )
            for name, about in facts["streams"].items()
        }
        stored = {n.removeprefix(_CURVES_PREFIX): a for n, a in arrays.items() if n.startswith(_CURVES_PREFIX)}
        curves = MusicCurves.from_tensors(stored) if stored else None
        return PreparedClip(arrays["tokens"], streams, curves, arrays["words"], facts["duration_s"])


@dataclass(frozen=True)
class ClipRecord:
    """What `data.json` says of a clip.

    Attributes:
        name, caption, track, person: as listed.
        digest: of all that determined its encoding.
        split: "train", "held_out" or "aside".
        num_steps: steps of tokens.
        duration_s: seconds.
        streams: names of its streams, with the share of rows in which something was seen.
        has_sound: its sound is known, so synthetic motion can be made for it.
    """

    name: str
    digest: str
    split: str
    caption: str
    track: str
    person: str
    num_steps: int
    duration_s: float
    streams: dict[str, float] = field(default_factory=dict)
    has_sound: bool = True


class DataFolder:
    """A folder of prepared clips.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @staticmethod
    def open(path: str | Path) -> DataFolder:
        """Open a complete folder.

        Raises:
            UsageError: it is not complete.
        """
        folder = DataFolder(path)
        if not (folder.path / DATA_FILE).is_file():
            unfinished = (folder.path / ITEMS).is_dir()
            what = "the data are not ready: preparing them was interrupted." if unfinished else "there are no data."
            raise UsageError(what, path=folder.path, remedy="Run `expotion train prepare FOLDER --out DATA`.")
        for name, facts in folder.content["shards"].items():
            shard = folder.path / SHARDS / name
            if not shard.is_file() or shard.stat().st_size != facts["bytes"]:
                remedy = "Run the same `expotion train prepare` again; what is finished is kept."
                raise UsageError("a shard is missing or cut off.", path=shard, remedy=remedy)
        return folder

    @cached_property
    def content(self) -> dict[str, Any]:
        """`data.json`.

        Raises:
            UsageError: it can't be read.
        """
        path = self.path / DATA_FILE
        content = storage.read_json(path, remedy="Prepare the data again.", most_bytes=LARGEST_LIST_BYTES)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UsageError(f"it is not of format {FORMAT}.", path=path, remedy="Prepare the data again.")
        return content

    @property
    def digest(self) -> str:
        """Hash of all in the folder that affects training."""
        kept = ("format", "tokens", "streams", "clips")
        return storage.digest_of({key: self.content[key] for key in kept})

    @property
    def tokens(self) -> TokenFormat:
        """What its tokens mean."""
        return TokenFormat.from_dict(self.content["tokens"])

    @property
    def streams(self) -> dict[str, dict[str, Any]]:
        """Streams of the clips: name → {"dims": D names, "rate_hz": rows a second, "clips": number}."""
        return self.content["streams"]

    def clips(self, split: str) -> list[ClipRecord]:
        """The clips of a split, in the order they were listed in."""
        return [ClipRecord(**values) for values in self.content["clips"] if values["split"] == split]

    def load(self, digest: str) -> PreparedClip:
        """Load a clip by its digest.

        Raises:
            ExpotionError: its stored form is damaged.
        """
        shard = self._places[digest]
        item = self._read(self.path / SHARDS / shard, digest)
        if item is None:
            raise ExpotionError(
                f"the clip {digest[:12]} in it is damaged.",
                path=self.path / SHARDS / shard,
                remedy="Remove the shard and run the same `expotion train prepare` again.",
            )
        return item

    def find(self, digest: str) -> PreparedClip | None:
        """A clip from an earlier run, packed or not; None if there is no intact one."""
        if (path := self.item_path(digest)).is_file():
            return self._read(path, digest)
        if (self.path / DATA_FILE).is_file() and digest in self._places:
            return self._read(self.path / SHARDS / self._places[digest], digest)
        return None

    def item_path(self, digest: str) -> Path:
        """Where a clip lies until it is packed."""
        return self.path / ITEMS / digest[:2] / f"{digest}.safetensors"

    def put(self, digest: str, clip: PreparedClip) -> None:
        """Store a finished clip.

        Raises:
            OutputError: it can't be written.
        """
        arrays, facts = clip.tensors()
        _write(self.item_path(digest), {digest: (arrays, facts)})

    def finish(self, content: dict[str, Any], records: Iterable[ClipRecord]) -> None:
        """Pack clips into shards and write `data.json`; shards that no clip needs any more are removed.

        Args:
            content: entries of `data.json` besides format, shards and clips.
            records: the folder's clips; each was stored by `put`, now or in an earlier run.

        Raises:
            OutputError: it can't be written.
        """
        records = list(records)
        wanted = dict.fromkeys(record.digest for record in records)
        shards: dict[str, dict[str, Any]] = {}
        left = dict(wanted)
        for name, facts in (self.content["shards"] if (self.path / DATA_FILE).is_file() else {}).items():
            path = self.path / SHARDS / name
            whole = path.is_file() and path.stat().st_size == facts["bytes"]
            # A clip that was encoded again shows that its shard is damaged inside.
            whole = whole and not any(self.item_path(digest).is_file() for digest in facts["items"])
            if whole and all(digest in left for digest in facts["items"]):
                shards[name] = facts
                for digest in facts["items"]:
                    del left[digest]
        batch: dict[str, tuple[dict[str, np.ndarray], dict[str, Any]]] = {}
        size = 0
        for number, digest in enumerate(left, 1):
            item = self.find(digest)
            assert item is not None, digest
            batch[digest] = item.tensors()
            size += sum(array.nbytes for array in batch[digest][0].values())
            if size >= SHARD_BYTES or number == len(left):
                name = f"{storage.digest_of(list(batch))[:24]}.safetensors"
                _write(self.path / SHARDS / name, batch)
                shards[name] = {"bytes": (self.path / SHARDS / name).stat().st_size, "items": list(batch)}
                batch, size = {}, 0
        values = [asdict(record) for record in records]
        with writing(self.path / DATA_FILE):
            storage.write_json(self.path / DATA_FILE, {"format": FORMAT, **content, "shards": shards, "clips": values})
        self.__dict__.pop("content", None)
        self.__dict__.pop("_places", None)
        shutil.rmtree(self.path / ITEMS, ignore_errors=True)
        for path in (self.path / SHARDS).glob("*"):
            if path.name not in shards:
                with contextlib.suppress(OSError):
                    path.unlink()

    @cached_property
    def _places(self) -> dict[str, str]:
        return {digest: name for name, facts in self.content["shards"].items() for digest in facts["items"]}

    def _read(self, path: Path, digest: str) -> PreparedClip | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = storage.parse_json(file.metadata()[digest])
                names = [name for name in file.keys() if name.startswith(digest)]  # noqa: SIM118 (no mapping)
                arrays = {name.partition("/")[2]: file.get_tensor(name) for name in names}
            return PreparedClip.from_tensors(arrays, facts)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None


def _write(path: Path, items: Mapping[str, tuple[Mapping[str, np.ndarray], Mapping[str, Any]]]) -> None:
    from safetensors.numpy import save

    tensors = {f"{digest}/{name}": array for digest, (arrays, _) in items.items() for name, array in arrays.items()}
    metadata = {digest: json.dumps(facts) for digest, (_, facts) in items.items()}
    with writing(path, remedy="Make room and run the same command again; what is finished is kept."):
        storage.write_bytes(path, save(tensors, metadata=metadata))


def _sum(arrays: Mapping[str, np.ndarray]) -> str:
    parts = []
    for name in sorted(arrays):
        parts += [name.encode(), repr(arrays[name].shape).encode(), np.ascontiguousarray(arrays[name]).tobytes()]
    return storage.digest_bytes(*parts)
