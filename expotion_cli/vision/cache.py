"""The embedding cache: what was seen once is never computed again.

An entry's name is the digest of all that decided it (clip content, encoder, version, weights, settings), so an entry
can only be right or damaged, never out of date. Entries are written whole or not at all and carry a checksum.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expotion_cli import storage
from expotion_cli.vision.encoder import EmbeddingStream

_FORMAT = "expotion-embedding-2"
_SETTLED_NS = 2_000_000_000  # a file changed more recently than this may change again within one tick of its clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds: number of entries, their bytes, entries by encoder name."""

    root: Path
    entries: int
    num_bytes: int
    by_encoder: dict[str, int]


@dataclass(frozen=True)
class CacheCleaning:
    """What `verify` or `prune` removed."""

    checked: int
    removed: tuple[Path, ...]
    freed_bytes: int


class EmbeddingCache:
    """Keeps embedding streams in a folder. Safe for many processes at once.

    Args:
        root: the cache's folder; by default `embeddings` in `storage.cache_root()`. Made when first written.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root) if root is not None else storage.cache_root() / "embeddings"

    def path_of(self, digest: str) -> Path:
        """Where the entry of that digest stands or would stand."""
        return self.root / digest[:2] / f"{digest}.safetensors"

    def get(self, digest: str) -> EmbeddingStream | None:
        """The stream of that digest; None if there is none or it is damaged (then it is removed, with a warning)."""
        path = self.path_of(digest)
        try:
            stream = _read(path)
            if stream.digest != digest:
                raise ValueError("the entry stands under another entry's name")
        except FileNotFoundError:
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
        """Store a stream under its digest; returns the entry's path."""
        path = self.path_of(stream.digest)
        storage.write_bytes(path, _serialise(stream))
        return path

    def content_hash(self, clip: str | Path) -> str:
        """sha256 of a clip's content.

        The hash is remembered under the file's (size, mtime, ctime, inode, device), so that an unchanged file is not
        read again; a file written within the last two seconds is not remembered.

        Raises:
            OSError: the file can't be read.
        """
        status = os.stat(clip)
        key = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
        hint = self.root / "hints" / f"{storage.digest_of(key)[:32]}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(hint.read_text())
            if known["key"] == key and len(known["sha256"]) == 64:
                return known["sha256"]
        sha256 = storage.digest_file(clip)
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
            with contextlib.suppress(OSError):  # a read-only cache still serves
                storage.write_json(hint, {"key": key, "sha256": sha256})
        return sha256

    def info(self) -> CacheInfo:
        """Count what is there, by the entries' headers."""
        by_encoder: dict[str, int] = {}
        paths = self._entries()
        for path in paths:
            try:
                name = _read_metadata(path)["encoder"]
            except Exception:  # counted, and left to `verify`
                name = "damaged"
            by_encoder[name] = by_encoder.get(name, 0) + 1
        return CacheInfo(self.root, len(paths), sum(_size(path) for path in paths), by_encoder)

    def verify(self) -> CacheCleaning:
        """Read and check every entry; remove damaged ones and all remembered hashes (they are made again)."""
        removed, freed = [], 0
        paths = self._entries()
        for path in paths:
            try:
                healthy = _read(path).digest == path.stem
            except FileNotFoundError:
                continue
            except Exception:  # any way of being unreadable counts as damage
                healthy = False
            if not healthy:
                freed += _size(path)
                removed.append(path)
                path.unlink(missing_ok=True)
        for hint in (self.root / "hints").glob("*.json"):
            hint.unlink(missing_ok=True)
        return CacheCleaning(len(paths), tuple(removed), freed)

    def prune(self, max_bytes: int) -> CacheCleaning:
        """Remove the entries that were unused for longest until at most `max_bytes` are left."""
        dated = []
        for path in self._entries():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                dated.append((status.st_mtime_ns, status.st_size, path))
        left = sum(size for _, size, _ in dated)
        removed, freed = [], 0
        for _, size, path in sorted(dated, key=lambda item: item[0]):
            if left <= max_bytes:
                break
            path.unlink(missing_ok=True)
            removed.append(path)
            freed += size
            left -= size
        return CacheCleaning(len(dated), tuple(removed), freed)

    def _entries(self) -> list[Path]:
        return sorted(path for path in self.root.glob("??/*.safetensors") if not path.name.startswith("."))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _checksum(values: np.ndarray, mask: np.ndarray) -> str:
    return storage.digest_bytes(values.tobytes(), mask.tobytes())


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
        return json.loads(file.read(length))["__metadata__"]


def _read(path: Path) -> EmbeddingStream:
    from safetensors.numpy import load

    arrays = load(path.read_bytes())
    metadata = _read_metadata(path)
    values, mask = arrays["values"], arrays["mask"]
    if metadata["format"] != _FORMAT or metadata["checksum"] != _checksum(values, mask):
        raise ValueError("checksum differs")
    return EmbeddingStream(
        name=metadata["name"],
        values=values,
        mask=mask,
        rate_hz=float(metadata["rate_hz"]),
        dims=tuple(json.loads(metadata["dims"])),
        encoder=metadata["encoder"],
        version=metadata["version"],
        digest=metadata["digest"],
        skipped=int(metadata["skipped"]),
    )
