"""How long a batch still takes, from how fast its stages were measured to be: what `expotion-score` and `status` say.

Clips go through three phases, of which several may be under way at once, of different clips. For each phase two
things are measured: how many seconds of clips went through it, and for how long it was busy. What is left, at these
speeds, takes as long as the slowest phase if all of them overlap, and as long as all together if none does; how far
they overlap is measured, too. Nothing is said before anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

PHASES = ("see", "compose", "finish")
PHASE_OF = {
    "see": "see",
    "spot": "compose",
    "compose": "compose",
    "render": "finish",
    "follow": "finish",
    "finish": "finish",
}
"""Stage → phase: spotting and following take next to no time."""
ENOUGH_S = 1.0
"""A phase that was busy so long is measured, even if no clip is through it."""
RECENT, RECENT_S = 100, 3600.0
"""Of a ledger, at most so many events count, and none that lies so long before the last one."""


@dataclass(frozen=True)
class Left:
    """The time that is left.

    Attributes:
        seconds: how long.
        is_least: a phase that must still come was not measured yet, so it takes longer.
    """

    seconds: float
    is_least: bool = False

    def __str__(self) -> str:
        return f"{'more than' if self.is_least else 'about'} {_rounded(self.seconds)} left"


class Estimator:
    """Measures the phases of a batch; times are seconds of any one clock.

    Args:
        total_s: length of all clips that go through it.
    """

    def __init__(self, total_s: float):
        self._left = dict.fromkeys(PHASES, total_s)
        self._done = dict.fromkeys(PHASES, 0.0)
        self._busy = dict.fromkeys(PHASES, 0.0)
        self._busy_then = dict.fromkeys(PHASES, 0.0)  # when something of a phase got done last
        self._any_busy = 0.0
        self._passed: set[str] = set()
        self._at = -math.inf
        self._inside: dict[str, tuple[str, float, float]] = {}  # clip → phase, share, length

    def stage(self, clip: str, length_s: float, stage: str, share: float, at: float) -> None:
        """A clip's stage stands at this share, 0..1.

        Args:
            clip: its name.
            length_s: its length.
            stage: of `PHASE_OF`.
            share: of the stage that is done.
            at: the time.
        """
        self._advance(at)
        phase = PHASE_OF[stage]
        if phase == "finish":
            share = 0.0  # its stages report no shares
        now, before, _ = self._inside.get(clip, ("", 0.0, 0.0))
        if now == phase:
            self._count(phase, length_s * max(0.0, share - before))
            self._inside[clip] = (phase, max(share, before), length_s)
        elif not now or PHASES.index(phase) > PHASES.index(now):
            self._leave(clip, length_s, PHASES.index(phase))
            self._left[phase] -= length_s * share  # what was done before anybody looked has no measured time
            self._inside[clip] = (phase, share, length_s)

    def settled(self, clip: str, length_s: float, at: float) -> None:
        """A clip is through all phases."""
        self._advance(at)
        self._leave(clip, length_s, len(PHASES))
        self._inside.pop(clip, None)

    def dropped(self, clip: str, length_s: float, at: float) -> None:
        """A clip will not go through what is left: it was done already, is refused or failed."""
        self._advance(at)
        phase, share, _ = self._inside.pop(clip, (PHASES[0], 0.0, length_s))
        for each in PHASES[PHASES.index(phase) :]:
            self._left[each] -= length_s * (1 - share if each == phase else 1)

    def left(self, at: float) -> Left | None:
        """The time that is left; None as long as nothing was measured, or if nothing is left."""
        self._advance(at)
        needed = {phase: self._left[phase] for phase in PHASES if self._left[phase] > 1e-6}
        times = {phase: self._pace(phase) * left for phase, left in needed.items() if self._is_measured(phase)}
        if not times:
            return None
        all_busy = sum(self._busy.values())
        overlapped = self._any_busy / all_busy if all_busy else 1.0
        return Left(max(*times.values(), overlapped * sum(times.values())), is_least=len(times) < len(needed))

    @property
    def share(self) -> float:
        """Share of the clips' seconds that went through the phases, each counted alike, 0..1; for a bar."""
        done = sum(self._done.values())
        return done / total if (total := done + sum(self._left.values())) > 0 else 1.0

    def _is_measured(self, phase: str) -> bool:
        return self._done[phase] > 0 and (phase in self._passed or self._busy[phase] >= ENOUGH_S)

    def _pace(self, phase: str) -> float:
        """Busy seconds for each second of a clip.

        What is under way without telling its share counts as neither time nor work, until it takes longer than others.
        """
        under_way = sum(length_s for now, _, length_s in self._inside.values() if now == phase)
        done = self._done[phase]
        return max(self._busy_then[phase] / done, self._busy[phase] / (done + under_way))

    def _advance(self, at: float) -> None:
        passed, self._at = max(0.0, at - self._at) if self._at > -math.inf else 0.0, max(at, self._at)
        phases = {phase for phase, _, _ in self._inside.values()}
        for phase in phases:
            self._busy[phase] += passed
        self._any_busy += passed * bool(phases)

    def _leave(self, clip: str, length_s: float, phase: int) -> None:
        """A clip is through all phases before this one, those that it skipped included."""
        now, share, _ = self._inside.get(clip, (PHASES[0], 0.0, length_s))
        for each in PHASES[PHASES.index(now) : phase]:
            self._count(each, length_s * (1 - share if each == now else 1))
            self._passed.add(each)

    def _count(self, phase: str, seconds: float) -> None:
        if seconds > 0:
            self._busy_then[phase] = self._busy[phase]
        self._done[phase] += seconds
        self._left[phase] -= seconds


def left_by_ledger(entries: Iterable[Mapping[str, Any]]) -> tuple[Left, float] | None:
    """The time that was left when a ledger's last clip was done, and when that was (seconds since 1970).

    Args:
        entries: events of `ledger.read_ledger`; those of `scored` clips tell when each phase began and ended.

    Returns:
        None if nothing is left, or nothing was measured.
    """
    spans: list[tuple[float, str, float, str, float]] = []
    measured = [(when, entry) for entry in entries if (when := _when(entry)) is not None and "left_s" in entry]
    if not measured:
        return None
    last, newest = measured[-1]
    events: list[tuple[float, str, float, str, float]] = []
    for when, entry in measured[-RECENT:]:
        length_s = entry.get("length_s")
        spans_of = entry.get("spans")
        if last - when > RECENT_S or not isinstance(spans_of, Mapping) or not isinstance(length_s, int | float):
            continue
        clip = str(entry.get("clip"))
        for phase, span in spans_of.items():
            if phase in PHASES and _is_span(span):
                events.append((when + span[0], clip, float(length_s), phase, 0.0))
                if phase != PHASES[-1]:  # it ends when the clip is done
                    spans.append((when + span[1], clip, float(length_s), phase, 1.0))
        events.append((when, clip, float(length_s), "", 1.0))
    left_s = newest["left_s"]
    if not events or isinstance(left_s, bool) or not isinstance(left_s, int | float) or not left_s > 0:
        return None
    clips = {clip: length_s for _, clip, length_s, _, _ in events}
    estimator = Estimator(sum(clips.values()) + left_s)
    for at, clip, length_s, phase, share in sorted((*events, *spans)):
        if phase:
            estimator.stage(clip, length_s, phase, share, at)
        else:
            estimator.settled(clip, length_s, at)
    found = estimator.left(last)
    return None if found is None else (found, last)


def _is_span(span: Any) -> bool:
    return (
        isinstance(span, list) and len(span) == 2 and all(isinstance(x, int | float) and math.isfinite(x) for x in span)
    )


def _when(entry: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(str(entry["at"])).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


def _rounded(seconds: float) -> str:
    """A time as exact as an estimate can be: "20 s", "7 min", "3 h 20 min"."""
    if seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
