"""The ledger: an append-only account, one JSON line an event, of what batches did in an output folder."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expotion_cli.storage import append_line, open_to_append, parse_json

LEDGER = "ledger.jsonl"
"""Its name in an output folder."""
LONGEST_LINE = 1 << 20
"""Characters of one event."""
_ENDS = ("scored", "already", "refused", "failed")
_MADE = ("scored", "chosen")


class Ledger:
    """Reads what earlier runs wrote and appends to it.

    Events: `stage` (a clip is through a stage; how long that took), `begin` (a result is about to be written),
    `scored`, `chosen` (a result plays another take), `already`, `refused`, `failed` (the stage that a clip stands at,
    and how long it took so far), `interrupted`. `scored` and `failed` also say how long the clip is, when its phases
    began and ended, and what is left (`estimate.left_by_ledger`). Stages and clips that end have an outcome: `done`,
    or the event's own name.

    Args:
        path: `ledger.jsonl` in the output folder; made with the first event.

    Raises:
        OSError: it is there and can't be read.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.trouble: OSError | None = None
        self._lock = threading.Lock()
        self._is_whole = False
        self._read()

    def check(self) -> None:
        """Make sure that it can be written.

        Raises:
            OSError: it can't.
        """
        os.close(open_to_append(self.path))

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the time of day (UTC). Trouble is kept in `trouble`: no result is lost with a line."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            try:
                if not self._is_whole:
                    self._close_cut_line()
                    self._is_whole = True
                append_line(self.path, json.dumps({"at": at, "event": event, **fields}, ensure_ascii=False))
            except OSError as error:
                self.trouble = error

    def _close_cut_line(self) -> None:
        """A full disk may have cut the last line; what follows must not run into it."""
        if self.path.is_symlink() or not self.path.is_file() or not self.path.stat().st_size:
            return
        with open(self.path, "rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")

    def last(self, output: str) -> dict[str, Any] | None:
        """The last event of a result, `begin`, `scored` or `chosen`: what other processes wrote meanwhile counts.

        Args:
            output: its path inside the output folder.
        """
        with contextlib.suppress(OSError):
            if self.path.stat().st_size != self._size:
                self._read()
        return self._last.get(output)

    def knows(self, digest: str) -> bool:
        """Whether an earlier run noted this artefact as finished."""
        return digest in self._known

    def _read(self) -> None:
        self._size = self.path.stat().st_size if self.path.is_file() else 0
        entries = read_ledger(self.path)
        self._last = {str(e["output"]): e for e in entries if "output" in e and e.get("event") in ("begin", *_MADE)}
        self._known = {entry.get("artefact") for entry in entries if entry.get("event") in (*_MADE, "already")}


def last_ends(entries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The last event by which each clip ended, by its name."""
    return {str(entry["clip"]): entry for entry in entries if "clip" in entry and entry.get("event") in _ENDS}


def failed_clips(entries: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the clips whose last outcome was a failure."""
    return frozenset(clip for clip, entry in last_ends(entries).items() if entry["event"] == "failed")


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """All events; a line that a kill cut short, or that is no event, is skipped.

    Raises:
        OSError: it is there and can't be read.
    """
    if not path.is_file():
        return []
    entries = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(LONGEST_LINE):
            try:
                entry = parse_json(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
    return entries
