"""A folder that is watched: which clips have arrived whole, and which are left alone until they change.

A clip has arrived once its file has stayed as it is for a while: what is still being copied is not touched. Events of
the file system only say when to look; what is there is found by looking, so nothing that came while nobody watched, or
on a network folder that sends no events, goes missing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import UsageError, reason_of
from expotion_cli.hints import State, state_of
from expotion_cli.scoring.discover import Found, Source, discover, listed
from expotion_cli.scoring.ledger import LEDGER, Ledger, read_ledger

if TYPE_CHECKING:
    from expotion_cli.errors import ExpotionError
    from expotion_cli.scoring.plan import Result

LOOK_ANYWAY_S = 60.0
"""Where events tell of changes, the folder is looked through this often all the same."""
LOOK_WITHOUT_EVENTS_S = 10.0
"""Where events can't be had."""
BREATH_S = 0.5
"""A copy under way sends many events: no two looks are closer than this."""
LEFT = "left"
"""The ledger's event of a clip that failed, and is left alone until its file changes."""
_TELLING = {"created", "modified", "moved", "closed", "deleted"}


@dataclass(frozen=True)
class Watching:
    """How a folder is watched.

    Attributes:
        folder: the folder.
        settle_s: a file has arrived when it has stayed unchanged for so long.
        poll_s: look every so many seconds, without asking for events; None relies on events.
        once: take what is there, then end.
    """

    folder: Path
    settle_s: float
    poll_s: float | None = None
    once: bool = False


def check_places(folder: Path, out: Path) -> None:
    """Make sure that results can't be taken for clips.

    Raises:
        UsageError: the folder isn't there, or the output folder is it or holds it.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder.", path=folder, remedy="Make it, or check the path.")
    inside, outside = os.path.realpath(folder), os.path.realpath(out)
    if inside == outside:
        raise UsageError("the output folder is also the watched one.", path=folder, remedy="Choose another --out.")
    if inside.startswith(os.path.join(outside, "")):
        reason = f"the watched folder lies inside the output folder {out}: results could be taken for new clips."
        raise UsageError(reason, path=folder, remedy="Choose another --out.")


@dataclass
class Arrivals:
    """Clips that arrive in a folder.

    Attributes:
        watching: the folder, and how it is watched.
        out: the output folder, which may lie inside.
        recursive: look into subfolders.
        settings: digest of what the clips are scored with; a clip that failed with other settings is tried again.
        note: told what a user should know.
    """

    watching: Watching
    out: Path
    recursive: bool
    settings: str
    note: Callable[[str], object]
    growing: tuple[Path, ...] = ()
    _since: dict[Path, tuple[State, float]] = field(default_factory=dict)
    _handled: dict[Path, State] = field(default_factory=dict)
    _taken: dict[str, tuple[Path, State]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _left: dict[str, list[int]] = field(default_factory=dict)
    _is_gone: bool = False

    def __post_init__(self) -> None:
        with contextlib.suppress(OSError):
            self._left = _left_before(read_ledger(self._ledger), self.settings)

    @property
    def _ledger(self) -> Path:
        return self.out / LEDGER

    def batches(self) -> Iterator[Found]:
        """Clips that have arrived, as often as there are some: for ever, or once."""
        if self.watching.once:
            if (found := self._once()) is not None:
                yield found
            return
        with _Alarm(self.watching, self.out, self.note) as alarm:
            while True:
                found = self.look()
                alarm.is_needed(not self._is_gone)
                if found is not None:
                    yield found
                    continue
                alarm.wait(self.watching.settle_s if self.growing else None)

    def look(self) -> Found | None:
        """Clips that have arrived since the last look and are whole; None for none."""
        if not self.watching.folder.is_dir():
            if not self._is_gone:
                self.note(f"{self.watching.folder} is gone; waiting for it to come back")
            self._is_gone, self.growing = True, ()
            return None
        if self._is_gone:
            self.note(f"{self.watching.folder} is back")
            self._is_gone = False
        found = discover([self.watching.folder], out=self.out, recursive=self.recursive)
        self._tell(found.problems, found.notes)
        arrived, growing = [], []
        for source in found.sources:
            with contextlib.suppress(OSError):
                state = state_of(source.path)
                if self._is_handled(source, state):
                    continue
                if self._is_whole(source.path, state):
                    arrived.append(source)
                    self._taken[source.relative.as_posix()] = source.path, state
                else:
                    growing.append(source.path)
        self.growing = tuple(growing)
        known = {source.path for source in found.sources}
        self._since = {path: since for path, since in self._since.items() if path in known}
        return replace(found, sources=tuple(arrived), problems=(), notes=(), batch=found.sources) if arrived else None

    def settle(self, results: Iterable[Result]) -> None:
        """A batch is through: its clips are left alone until their files change. Failures are noted in the ledger."""
        failed = {result.name: result.error for result in results if result.status == "failed"}
        taken, self._taken = self._taken, {}
        by_path = {str(path): name for name, (path, _) in taken.items()}
        failed = {by_path.get(name, name): error for name, error in failed.items()}
        ledger: Ledger | None = None
        for name, (path, state) in taken.items():
            if name in failed and not path.exists():
                continue  # it vanished: no fault of its own
            self._handled[path] = state
            if name in failed:
                with contextlib.suppress(OSError):
                    self.out.mkdir(parents=True, exist_ok=True)
                    ledger = ledger or Ledger(self._ledger)
                    ledger.write(LEFT, clip=name, state=list(state), settings=self.settings)

    def _once(self) -> Found | None:
        found = self.look()
        if self.growing:
            time.sleep(self.watching.settle_s + 0.1)
            again = self.look()
            if found is not None and again is not None:
                sources = {source.path: source for source in (*found.sources, *again.sources)}
                found = replace(again, sources=tuple(sources.values()))
            found = found or again
        if self._is_gone:
            raise UsageError("the folder is gone.", path=self.watching.folder, remedy="Check the path.")
        if self.growing:
            self.note(f"still growing, left for the next time: {listed(self.growing)}")
        return found

    def _is_handled(self, source: Source, state: State) -> bool:
        if self._handled.get(source.path) == state:
            return True
        name = source.relative.as_posix()
        if self._left.get(name) != list(state):
            return False
        self._handled[source.path] = state
        self.note(f"{source.path} failed before; left alone until it changes")
        return True

    def _is_whole(self, path: Path, state: State) -> bool:
        """Whether a file stayed as it is for long enough: by the clock of whoever looks, or by its own times."""
        last, since = self._since.get(path, (None, 0.0))
        now = time.monotonic()
        if last != state:
            self._since[path], since = (state, now), now
        if now - since >= self.watching.settle_s:
            return True
        return 0 < self.watching.settle_s < time.time() - max(state[1:3]) / 1e9 or self.watching.settle_s == 0

    def _tell(self, problems: Iterable[ExpotionError], notes: Iterable[str]) -> None:
        """Say once what a look found out; that the folder is empty is none of it."""
        texts = [str(error) for error in problems if str(error.path) != str(self.watching.folder)]
        for text in (*texts, *notes):
            if text not in self._said:
                self.note(text)
        self._said.update((*texts, *notes))


def _left_before(entries: Iterable[Any], settings: str) -> dict[str, list[int]]:
    """The state of each clip that failed with these settings and was not scored since."""
    left: dict[str, list[int]] = {}
    for entry in entries:
        name = str(entry.get("clip"))
        if entry.get("event") == LEFT and entry.get("settings") == settings and isinstance(entry.get("state"), list):
            left[name] = entry["state"]
        elif entry.get("event") in ("scored", "already"):
            left.pop(name, None)
    return left


class _Alarm:
    """Wakes whoever waits when something changes in a folder, or after a while."""

    def __init__(self, watching: Watching, out: Path, note: Callable[[str], object]):
        self._watching, self._note = watching, note
        self._out = os.path.join(os.path.realpath(out), "")
        self._every_s = watching.poll_s or LOOK_ANYWAY_S
        self._wake = threading.Event()
        self._observer: Any = None
        self._can_ask = watching.poll_s is None
        self._looked = time.monotonic()

    def __enter__(self) -> _Alarm:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_needed(False)

    def is_needed(self, wanted: bool) -> None:
        """Ask for events, or no more: a folder that is gone has none, and one that is back is another one."""
        if wanted and self._observer is None and self._can_ask:
            self._begin()
        elif not wanted and self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)
            self._observer = None

    def wait(self, at_most_s: float | None) -> None:
        """Wait until something changes, or for so long."""
        every_s = self._every_s if self._observer is not None or not self._can_ask else LOOK_WITHOUT_EVENTS_S
        self._wake.wait(every_s if at_most_s is None else min(every_s, at_most_s))
        since_s = time.monotonic() - self._looked
        if since_s < BREATH_S:
            time.sleep(BREATH_S - since_s)
        self._wake.clear()
        self._looked = time.monotonic()

    def _begin(self) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        alarm = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                alarm.hear(event)

        observer = Observer()
        try:
            observer.schedule(Handler(), str(self._watching.folder), recursive=True)
            observer.start()
        except OSError as error:  # too many folders are watched, or they can't be
            self._can_ask, self._every_s = False, LOOK_WITHOUT_EVENTS_S
            why = f"changes can't be watched ({reason_of(error)})"
            self._note(f"{why}; looking every {LOOK_WITHOUT_EVENTS_S:g} s instead")
            return
        self._observer = observer

    def hear(self, event: Any) -> None:
        """Something happened in the folder; reading files, and what happens in the output folder, is nothing new."""
        places = [os.fsdecode(path) for path in (event.src_path, getattr(event, "dest_path", "")) if path]
        is_ours = all(os.path.realpath(place).startswith(self._out) for place in places)
        if event.event_type in _TELLING and not is_ours:
            self._wake.set()
