"""What is remembered of files, so that an unchanged file need not be read again.

A hint is kept under the state of its file (size, mtime, ctime, inode, device) and says the sha256 of the content, with
whatever else was found out about it. It is only a hint: a file that was changed without a sign is taken for what it
was, until somebody verifies it. What must be right under all circumstances reads the bytes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expotion_cli import storage

State = tuple[int, ...]
"""Size, mtime and ctime in nanoseconds, inode, device."""

SETTLED_NS = 2_000_000_000
"""A file changed more recently than this may change again within one tick of its file system's clock."""

LARGEST_HINT_BYTES = 1 << 20

_hashed: dict[State, str] = {}  # within this process also of files that were changed just now


def state_of(path: str | Path) -> State:
    """What tells that a file is unchanged.

    Raises:
        OSError: it can't be read.
    """
    status = os.stat(path)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def content_hash(path: str | Path) -> str:
    """sha256 (hex) of a file's content, which this process reads only once while the file stays as it is.

    Raises:
        OSError: it can't be read.
    """
    key = state_of(path)
    if key not in _hashed:
        _hashed[key] = storage.digest_file(path)
    return _hashed[key]


class FileHints:
    """Hints in a folder, one small JSON file each. Safe for many threads and processes at once.

    Args:
        root: the folder; by default `embeddings/hints` in `storage.cache_root()`. Made when first written.
        trusted: whether hints of earlier runs are believed; otherwise each file is read once more, and hints that
            turn out wrong are replaced.
    """

    def __init__(self, root: str | Path | None = None, *, trusted: bool = True):
        self.root = Path(root) if root is not None else storage.cache_root() / "embeddings" / "hints"
        self.trusted = trusted
        self._unsettled: list[tuple[State, Path, str]] = []
        self._lock = threading.Lock()

    def sha256(self, path: str | Path) -> str:
        """sha256 (hex) of a file's content, read only if nothing is known of it.

        Raises:
            OSError: it can't be read.
        """
        key = state_of(path)
        if self.trusted and (known := self._read(key)) is not None:
            return known["sha256"]
        return self._learn(key, path)["sha256"]

    def facts(self, path: str | Path, name: str) -> Any:
        """What was remembered of a file under this name, or None.

        Args:
            path: the file.
            name: as `remember` was told it.

        Raises:
            OSError: the file can't be read.
        """
        return (self.known(path) or {}).get(name)

    def known(self, path: str | Path) -> Mapping[str, Any] | None:
        """All that is remembered of a file, its `sha256` among it, or None.

        Raises:
            OSError: the file can't be read.
        """
        known = self._read(state_of(path))
        return known if known is None or self.trusted or self._is_right(known, path) else None

    def remember(self, path: str | Path, **facts: Any) -> None:
        """Keep facts (JSON values) about the file as it is now; a file changed just now is not remembered.

        Raises:
            OSError: the file can't be read.
        """
        key = state_of(path)
        known = (self._read(key) if self.trusted else None) or self._learn(key, path)
        if _is_settled(key):
            self._write(key, {**known, **facts})

    def expect(self, path: str | Path, sha256: str) -> None:
        """Note the content of a file that was written just now; `settle` keeps the note once the file has settled."""
        with self._lock, contextlib.suppress(OSError):
            self._unsettled.append((state_of(path), Path(path), sha256))

    def settle(self) -> None:
        """Keep what `expect` noted of files that have settled and did not change since."""
        with self._lock:
            waiting, self._unsettled = self._unsettled, []
            for key, path, sha256 in waiting:
                if not _is_settled(key):
                    self._unsettled.append((key, path, sha256))
                    continue
                with contextlib.suppress(OSError):
                    if state_of(path) == key:
                        self._write(key, {"key": list(key), "sha256": sha256, "path": str(path.absolute())})

    def verify(self) -> list[Path]:
        """Read every file that is remembered. Hints of files that changed, moved or are gone are dropped.

        Returns:
            Files whose content was not what had been remembered; their hints are gone, too.
        """
        mistaken = []
        for hint in self.paths():
            wrong = None
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                known = _parsed(hint)
                key, path = state_of(known["path"]), Path(known["path"])
                if known["key"] == list(key):
                    if (sha256 := storage.digest_file(path)) == known["sha256"]:
                        continue
                    wrong = path
                    _hashed[key] = sha256
            hint.unlink(missing_ok=True)
            if wrong is not None:
                mistaken.append(wrong)
        return mistaken

    def recall(self, key: State) -> Mapping[str, Any] | None:
        """What is remembered under a key of the caller's own, or None."""
        return self._read(key) if self.trusted else None

    def keep(self, key: State, sha256: str, **facts: Any) -> None:
        """Remember facts (JSON values) under a key of the caller's own."""
        self._write(key, {"key": list(key), "sha256": sha256, **facts})

    def paths(self) -> list[Path]:
        """The files in which hints are kept, sorted."""
        return sorted(path for path in self.root.glob("*.json") if not path.name.startswith("."))

    def _place(self, key: State) -> Path:
        return self.root / f"{storage.digest_of(key)[:32]}.json"

    def _read(self, key: State) -> dict[str, Any] | None:
        place = self._place(key)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = _parsed(place)
            if known["key"] == list(key) and len(known["sha256"]) == 64:
                with contextlib.suppress(OSError):
                    os.utime(place)  # `prune` removes what was not used for longest
                return known
        return None

    def _write(self, key: State, known: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a read-only cache still serves
            storage.write_hint(self._place(key), known)

    def _learn(self, key: State, path: str | Path) -> dict[str, Any]:
        is_settled = _is_settled(key)  # by now: reading may take longer
        old = None if self.trusted else self._read(key)
        sha256 = content_hash(path) if self.trusted else storage.digest_file(path)
        if old is not None and old["sha256"] == sha256:
            return old
        _hashed[key] = sha256
        known = {"key": list(key), "sha256": sha256, "path": str(Path(path).absolute())}
        if is_settled:
            self._write(key, known)
        return known

    def _is_right(self, known: Mapping[str, Any], path: str | Path) -> bool:
        return bool(known) and known["sha256"] == self.sha256(path)


def _parsed(place: Path) -> Any:
    return storage.parse_json(storage.read_text(place, LARGEST_HINT_BYTES))


def _is_settled(key: State) -> bool:
    return time.time_ns() - max(key[1:3]) > SETTLED_NS
