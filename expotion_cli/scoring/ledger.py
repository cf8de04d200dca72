"""The ledger: an append-only account, one JSON line an event, of what batches did in an output folder."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expotion_cli.storage import append_line, parse_json

LONGEST_LINE = 1 << 20
"""Characters of one event."""


class Ledger:
    """Reads what earlier runs wrote and appends to it.

    Events: `begin` (a result is about to be written), `scored`, `already`, `failed`, `interrupted`.

    Args:
        path: `ledger.jsonl` in the output folder; made with the first event.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._lock = threading.Lock()
        self._close_cut_line()
        entries = read_ledger(self.path)
        self._begun = {entry.get("output") for entry in entries if entry.get("event") == "begin"}
        self._known = {entry.get("artefact") for entry in entries if entry.get("event") in ("scored", "already")}

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the time of day (UTC)."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._lock:
            append_line(self.path, json.dumps({"at": at, "event": event, **fields}, ensure_ascii=False))

    def _close_cut_line(self) -> None:
        """A full disk may have cut the last line; what follows must not run into it."""
        if self.path.is_symlink() or not self.path.is_file() or not self.path.stat().st_size:
            return
        with open(self.path, "rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")

    def began(self, output: str) -> bool:
        """Whether an earlier run was about to write this file, given by its path inside the output folder."""
        return output in self._begun

    def knows(self, digest: str) -> bool:
        """Whether an earlier run noted this artefact as finished."""
        return digest in self._known


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
