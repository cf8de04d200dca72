"""The embedding cache: no stream is computed twice.

An entry's name is the digest of all that decided it (clip content, encoder, version, weights, settings), so an entry
can only be right or damaged, never out of date. Entries are written whole or not at all and carry a checksum. Entries
of another format than today's are passed over, and go first when the cache is pruned.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expotion_cli import storage
from expotion_cli.hints import FileHints
from expotion_cli.vision.encoder import EmbeddingStream

_FORMAT = "expotion-embedding-2"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds: number of entries, their bytes, entries by encoder name (or "old format", "damaged")."""

    root: Path
    entries: int
    num_bytes: int
    by_encoder: dict[str, int]


@dataclass(frozen=True)
class CacheCleaning:
    """What `verify` or `prune` found and removed.

    Attributes:
        checked: entries that were read.
        removed: entries that are gone now.
        freed_bytes: their size.
        mistaken: clips whose content was not what had been remembered of them; it is forgotten.
    """

    checked: int
    removed: tuple[Path, ...]
    freed_bytes: int
    mistaken: tuple[Path, ...] = ()


class EmbeddingCache:
    """Keeps embedding streams in a folder. Safe for many processes at once.

    Args:
        root: the cache's folder; by default `embeddings` in `storage.cache_root()`. Made when first written.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root) if root is not None else storage.cache_root() / "embeddings"
        self.hints = FileHints(self.root / "hints")

    def __reduce__(self) -> tuple[type[EmbeddingCache], tuple[Path]]:
        return type(self), (self.root,)

    def path_of(self, digest: str) -> Path:
        """Where the entry of that digest stands or would stand."""
        return self.root / digest[:2] / f"{digest}.safetensors"

    def get(self, digest: str) -> EmbeddingStream | None:
        """The stream of that digest; None if there is none or only one of another format.

        A damaged entry is removed with a warning.
        """
        path = self.path_of(digest)
        try:
            stream = _read(path)
            if stream.digest != digest:
                raise ValueError("the entry stands under another entry's name")
        except (OSError, _OtherFormat):
            return None
        except Exception as error:  # whatever is wrong with an entry, the cure is to compute it again
            logger.warning("%s: damaged cache entry, computed again (%s)", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # `prune` removes what was not used for longest
        return stream

    def put(self, stream: EmbeddingStream) -> Path:
        """Store a stream under its digest, if the cache can be written; returns the entry's path."""
        path = self.path_of(stream.digest)
        storage.remove_stale(path.parent)
        try:
            storage.write_bytes(path, _serialise(stream))
        except OSError as error:  # a full or read-only cache keeps nothing, and costs nothing but time
            logger.info("%s: not kept (%s)", path, error)
        return path

    def content_hash(self, clip: str | Path) -> str:
        """sha256 of a clip's content; an unchanged clip is not read again (`hints.FileHints`).

        Raises:
            OSError: the file can't be read.
        """
        return self.hints.sha256(clip)

    def info(self) -> CacheInfo:
        """Count what is there, by the entries' headers."""
        by_encoder: dict[str, int] = {}
        paths = self._entries()
        for path in paths:
            try:
                metadata = _read_metadata(path)
                name = metadata["encoder"] if metadata.get("format") == _FORMAT else "old format"
            except Exception:  # counted, and left to `verify`
                name = "damaged"
            by_encoder[name] = by_encoder.get(name, 0) + 1
        return CacheInfo(self.root, len(paths), sum(_size(path) for path in paths), by_encoder)

    def verify(self) -> CacheCleaning:
        """Read and check every entry and every clip whose hash is remembered; remove what is damaged or wrong.

        Hashes of files that changed, were moved or are gone are dropped: they serve nobody any more.
        """
        removed, freed = [], 0
        paths = self._entries()
        for path in paths:
            try:
                healthy = _read(path).digest == path.stem
            except (FileNotFoundError, _OtherFormat):
                continue
            except Exception:  # any way of being unreadable counts as damage
                healthy = False
            if not healthy:
                freed += _size(path)
                removed.append(path)
                path.unlink(missing_ok=True)
        return CacheCleaning(len(paths), tuple(removed), freed, tuple(self.hints.verify()))

    def prune(self, max_bytes: int) -> CacheCleaning:
        """Remove what was unused for longest until at most `max_bytes` are left; entries of other formats go first.

        Remembered hashes count and go like entries, but only entries are reported. Other processes may read and write
        meanwhile: an entry that somebody used since it was listed stays.
        """
        dated = []
        paths = self._entries()
        for path in (*paths, *self.hints.paths()):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                is_usable = path.suffix == ".json" or _has_format(path)
                dated.append((is_usable, status.st_mtime_ns, status.st_size, path))
        left = sum(size for _, _, size, _ in dated)
        removed, freed = [], 0
        for is_usable, mtime_ns, size, path in sorted(dated, key=lambda item: item[:2]):
            if left <= max_bytes and is_usable:
                break
            with contextlib.suppress(FileNotFoundError):
                if is_usable and path.stat().st_mtime_ns != mtime_ns:
                    continue
            path.unlink(missing_ok=True)
            if path.suffix != ".json":
                removed.append(path)
            freed += size
            left -= size
        for folder in self.root.glob("*/"):
            storage.remove_stale(folder)
        return CacheCleaning(len(paths), tuple(removed), freed)

    def _entries(self) -> list[Path]:
        return sorted(path for path in self.root.glob("??/*.safetensors") if not path.name.startswith("."))


class _OtherFormat(Exception):
    """The entry was written by another version of this program."""


def _has_format(path: Path) -> bool:
    """Whether today's format is written on an entry; damaged ones are `verify`'s matter, and count as today's."""
    try:
        return _read_metadata(path).get("format") == _FORMAT
    except Exception:
        return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _checksum(values: np.ndarray, mask: np.ndarray) -> str:
    return storage.digest_bytes(*(np.ascontiguousarray(part).data.cast("B") for part in (values, mask)))


def _serialise(stream: EmbeddingStream) -> bytes:
    from safetensors.numpy import save

    values = np.ascontiguousarray(stream.values)
    mask = np.ascontiguousarray(stream.mask)
    metadata = {
        "format": _FORMAT,
        "name": stream.name,
        "encoder": stream.encoder,
        "version": stream.version,
        "digest": stream.digest,
        "rate_hz": repr(stream.rate_hz),
        "dims": json.dumps(stream.dims),
        "skipped": str(stream.skipped),
        "checksum": _checksum(values, mask),
    }
    return save({"values": values, "mask": mask}, metadata=metadata)


def _read_metadata(path: Path) -> dict[str, str]:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < 1 << 20:
            raise ValueError("no safetensors header")
        metadata: dict[str, str] = storage.parse_json(file.read(length))["__metadata__"]
        return metadata


def _read(path: Path) -> EmbeddingStream:
    from safetensors.numpy import load

    content = path.read_bytes()
    arrays = load(content)
    metadata = storage.parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    if metadata.get("format") != _FORMAT:
        raise _OtherFormat
    values, mask = arrays["values"], arrays["mask"]
    if metadata["checksum"] != _checksum(values, mask):
        raise ValueError("checksum differs")
    return EmbeddingStream(
        name=metadata["name"],
        values=values,
        mask=mask,
        rate_hz=float(metadata["rate_hz"]),
        dims=tuple(storage.parse_json(metadata["dims"])),
        encoder=metadata["encoder"],
        version=metadata["version"],
        digest=metadata["digest"],
        skipped=int(metadata["skipped"]),
    )
