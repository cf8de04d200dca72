"""What `expotion train prepare` leaves behind: clips as tokens, streams and curves, in safetensors shards.

A folder holds `data.json` (which clips there are, their words, splits and leaks) and `shards/`. Every clip has the
digest of all that decided it; while a folder is being prepared, finished clips lie in `items/` under that digest, so a
run that was killed goes on, and clips that are known from an earlier run are never encoded again. At last they are
packed; a shard's name holds the digest of its clips.
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
from expotion_cli.training.data.curves import Hearing
from expotion_cli.training.data.tokens import TokenFormat

FORMAT = 1
DATA_FILE, SHARDS, ITEMS = "data.json", "shards", "items"
SHARD_BYTES = 128 << 20


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
class Item:
    """A clip as it is learnt from.

    Attributes:
        tokens: [K, S] int16.
        streams: by name; empty without a picture.
        hearing: of its sound; None where only tokens are known.
        words: [T] uint32, its fingerprint.
        duration_s: seconds of music and picture.
    """

    tokens: np.ndarray
    streams: dict[str, StoredStream]
    hearing: Hearing | None
    words: np.ndarray
    duration_s: float

    def tensors(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays by name, facts) for a file."""
        arrays = {"tokens": self.tokens, "words": self.words}
        facts: dict[str, Any] = {"duration_s": self.duration_s, "streams": {}}
        for name, stream in self.streams.items():
            arrays[f"stream.{name}.values"], arrays[f"stream.{name}.mask"] = stream.values, stream.mask
            facts["streams"][name] = {"rate_hz": stream.rate_hz, "dims": list(stream.dims)}
        if self.hearing is not None:
            arrays |= {f"hearing.{name}": curve for name, curve in self.hearing.tensors().items()}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        facts["sum"] = _sum(arrays)
        return arrays, facts

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Item:
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
        curves = {n.removeprefix("hearing."): a for n, a in arrays.items() if n.startswith("hearing.")}
        hearing = Hearing.of(curves) if curves else None
        return Item(arrays["tokens"], streams, hearing, arrays["words"], facts["duration_s"])


@dataclass(frozen=True)
class ClipRecord:
    """What `data.json` says of a clip.

    Attributes:
        name, caption, track, person: as listed.
        digest: of all that decided its item.
        split: "train", "held_out" or "aside".
        num_steps: steps of tokens.
        duration_s: seconds.
        streams: names of what was seen, with the share of rows where something was.
        has_sound: its sound is known, so motion can be made up for it.
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
        self._sound: set[str] = set()

    @staticmethod
    def open(path: str | Path) -> DataFolder:
        """A folder that is complete.

        Raises:
            UsageError: it is not.
        """
        folder = DataFolder(path)
        if not (folder.path / DATA_FILE).is_file():
            unfinished = (folder.path / ITEMS).is_dir()
            what = "the data are not ready: preparing them was interrupted." if unfinished else "there are no data."
            raise UsageError(what, path=folder.path, remedy="Run `expotion train prepare FOLDER --out DATA`.")
        for name, facts in folder.content["shards"].items():
            shard = folder.path / SHARDS / name
            if not shard.is_file() or shard.stat().st_size != facts["bytes"]:
                remedy = "Run the same `expotion train prepare` again; what is whole is kept."
                raise UsageError("a shard is missing or cut off.", path=shard, remedy=remedy)
        return folder

    @cached_property
    def content(self) -> dict[str, Any]:
        """`data.json`.

        Raises:
            UsageError: it can't be read.
        """
        path = self.path / DATA_FILE
        content = storage.read_json(path, remedy="Prepare the data again.")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise UsageError(f"it is not of format {FORMAT}.", path=path, remedy="Prepare the data again.")
        return content

    @property
    def digest(self) -> str:
        """Hash of all that decides what is learnt from here."""
        kept = ("format", "tokens", "streams", "clips")
        return storage.digest_of({key: self.content[key] for key in kept})

    @property
    def tokens(self) -> TokenFormat:
        """What its tokens mean."""
        return TokenFormat(**self.content["tokens"])

    @property
    def streams(self) -> dict[str, dict[str, Any]]:
        """Streams that clips here have: name → {"dims": [...], "width": D, "clips": number}."""
        return self.content["streams"]

    def clips(self, split: str) -> list[ClipRecord]:
        """The clips of a split, in the order of their names."""
        return [ClipRecord(**values) for values in self.content["clips"] if values["split"] == split]

    def load(self, digest: str) -> Item:
        """A clip's item.

        Raises:
            ExpotionError: it is damaged.
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

    def find(self, digest: str) -> Item | None:
        """An item from an earlier run, packed or not; None if there is none that is whole."""
        if (path := self.item_path(digest)).is_file():
            return self._read(path, digest)
        if (self.path / DATA_FILE).is_file() and digest in self._places:
            return self._read(self.path / SHARDS / self._places[digest], digest)
        return None

    def item_path(self, digest: str) -> Path:
        """Where an item waits to be packed."""
        return self.path / ITEMS / digest[:2] / f"{digest}.safetensors"

    def put(self, digest: str, item: Item) -> None:
        """Keep a finished item.

        Raises:
            OutputError: it can't be written.
        """
        arrays, facts = item.tensors()
        _write(self.item_path(digest), {digest: (arrays, facts)})

    def finish(self, content: dict[str, Any], records: Iterable[ClipRecord]) -> None:
        """Pack the items of these clips and write `data.json`; what no clip needs any more is removed.

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
            # An item that was made again tells that its shard is damaged inside.
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

    def _read(self, path: Path, digest: str) -> Item | None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()[digest])
                names = [name for name in file.keys() if name.startswith(digest)]  # noqa: SIM118 (no mapping)
                arrays = {name.partition("/")[2]: file.get_tensor(name) for name in names}
            return Item.of(arrays, facts)
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
