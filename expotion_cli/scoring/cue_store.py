"""The cue store: the tokens of composed cues on disk, addressed by the digest of all that decided them."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.storage import digest_bytes, parse_json, remove_stale, write_bytes


@dataclass(frozen=True)
class StoredCue:
    """A cue's tokens with what is needed to render them again without seeing the clip again.

    Attributes:
        tokens: [K, S] int64.
        notes: plain values: tempo, streams, messages, stage durations.
    """

    tokens: np.ndarray
    notes: dict[str, Any]


class CueStore:
    """Tokens on disk, addressed by the digest of all that decided them.

    Args:
        root: the folder; made when the first cue arrives.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.trouble: OSError | None = None

    def path(self, digest: str) -> Path:
        """Where the cue of this digest lies."""
        return self.root / digest[:2] / f"{digest}.safetensors"

    def has(self, digest: str) -> bool:
        """Whether there is a file for this cue that could be read."""
        return os.path.isfile(self.path(digest))

    def put(self, digest: str, cue: StoredCue) -> None:
        """Keep a cue; atomic, so a reader sees all of it or nothing. What can't be written is kept in `trouble`."""
        remove_stale(self.path(digest).parent)
        try:
            write_bytes(self.path(digest), cue_bytes(cue))
        except OSError as error:
            self.trouble = error

    def get(self, digest: str) -> StoredCue | None:
        """The cue, or None where there is none or its bytes are damaged."""
        path = self.path(digest)
        cue = read_cue(path) if self.has(digest) else None
        if cue is not None:
            with contextlib.suppress(OSError):
                os.utime(path)  # `prune` removes what was not used for longest
        return cue

    def size(self) -> tuple[int, int]:
        """(number of cues, their bytes)."""
        sizes = [path.stat().st_size for path in self._entries()]
        return len(sizes), sum(sizes)

    def verify(self) -> tuple[int, list[Path]]:
        """Check all cues and remove damaged ones: (number checked, removed)."""
        entries = self._entries()
        damaged = [path for path in entries if read_cue(path) is None]
        for path in damaged:
            path.unlink(missing_ok=True)
        return len(entries), damaged

    def prune(self, max_bytes: int) -> tuple[int, list[Path]]:
        """Remove the cues unused for longest until `max_bytes` are left at most: (number before, removed)."""
        entries = sorted(self._entries(), key=lambda path: path.stat().st_mtime_ns)
        left = sum(path.stat().st_size for path in entries)
        removed = []
        for path in entries:
            if left <= max_bytes:
                break
            left -= path.stat().st_size
            path.unlink(missing_ok=True)
            removed.append(path)
        return len(entries), removed

    def _entries(self) -> list[Path]:
        return sorted(path for path in self.root.glob("??/*.safetensors") if not path.name.startswith("."))


def cue_bytes(cue: StoredCue) -> bytes:
    """The content of a cue's file, which `read_cue` reads."""
    from safetensors.numpy import save

    tokens = np.ascontiguousarray(cue.tokens, dtype=np.int64)
    notes = json.dumps(cue.notes, sort_keys=True)
    return bytes(save({"tokens": tokens}, metadata={"notes": notes, "sum": _sum(tokens, notes)}))


def read_cue(path: Path) -> StoredCue | None:
    """Read one stored cue and check its sum; None when it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            tokens, metadata = file.get_tensor("tokens"), file.metadata() or {}
        notes = metadata["notes"]
        whole = metadata["sum"] == _sum(tokens, notes)
        return StoredCue(tokens, parse_json(notes)) if whole else None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _sum(tokens: np.ndarray, notes: str) -> str:
    return digest_bytes(repr(tokens.shape).encode(), tokens.tobytes(), notes.encode())
