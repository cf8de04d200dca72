"""Holds notes through silences, so that a cue sounds from the first frame on and has no gaps nobody composed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from expotion_cli.music.codecs.notes.tokens import Event
from expotion_cli.timing import STEPS_PER_BEAT

_SOFT = 0
"""Velocity class of notes added to fill silences."""
_RINGING = ("harmony", "bass", "figure", "counter", "melody")
"""Voices that may be held through a silence, in order of preference; only one that sounded last is held."""


def ring_on(events: dict[str, list[Event]], num_steps: int, bar_steps: int) -> dict[str, list[Event]]:
    """Hold what sounded last through silences of a beat or more, and start with the first chord.

    While the picture is still no onsets are composed; listeners should hear a held chord there, not a gap. What is held
    for more than a bar without any new onset is struck again, softly, at bar lines, because some instruments decay.

    Args:
        events: by voice name.
        num_steps: S.
        bar_steps: steps in a bar.
    """
    rung = {name: list(found) for name, found in events.items()}
    silent = np.ones(num_steps + 1, dtype=bool)
    for name in _RINGING:
        for event in rung.get(name, ()):
            silent[event.start : event.end] = False
    silent[num_steps] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8)])))
    for first, last in edges.reshape(-1, 2).tolist():
        if last - first < STEPS_PER_BEAT:
            continue
        if first == 0:
            voice = next((name for name in _RINGING if rung.get(name)), None)
            if voice is not None:
                rung[voice] = [*_restrike(rung[voice][0].value, 0, last, bar_steps), *rung[voice]]
            continue
        for name in _RINGING:
            held = [index for index, event in enumerate(rung.get(name, ())) if event.end == first]
            if held:
                index, event = held[-1], rung[name][held[-1]]
                bar = min(last, first + bar_steps - first % bar_steps)
                rung[name][index : index + 1] = [replace(event, end=bar), *_restrike(event.value, bar, last, bar_steps)]
                break
    begins = sorted({event.start for name in _RINGING for event in rung.get(name, ())})
    for first, last in itertools.pairwise([*begins, num_steps]):
        bars = [bar for bar in range(0, last, bar_steps) if first + bar_steps // 2 <= bar <= last - STEPS_PER_BEAT]
        if last - first > bar_steps and bars:
            _restrike_held(rung, bars, last, bar_steps)
    return rung


def begin_at_once(events: dict[str, list[Event]], first: int) -> dict[str, list[Event]]:
    """Let a chord or a note sound from the picture's first frame on, if none does yet.

    A grid may begin before the picture, and then what was struck before it is not heard.

    Args:
        events: by voice name.
        first: the first step inside the picture.
    """
    soon = first + STEPS_PER_BEAT // 4
    long_enough = first + STEPS_PER_BEAT // 2
    if any(e.start <= soon and e.end > long_enough and e.start >= first for n in _RINGING for e in events.get(n, ())):
        return events
    for name in _RINGING:
        found = events.get(name, [])
        held = next((index for index, e in enumerate(found) if e.start < first < e.end - STEPS_PER_BEAT // 4), None)
        after = next((index for index, e in enumerate(found) if e.start > first), None)
        if held is not None:  # struck again, where the picture begins
            again = [
                *found[:held],
                replace(found[held], end=first),
                replace(found[held], start=first),
                *found[held + 1 :],
            ]
            return {**events, name: again}
        if after is not None:
            opening = Event(first, found[after].start, found[after].value, _SOFT)
            return {**events, name: [*found[:after], opening, *found[after:]]}
    return events


def _restrike_held(events: dict[str, list[Event]], steps: list[int], last: int, bar_steps: int) -> None:
    """Add the last chord softly at these steps; if one is sounding already, strike again what is held.

    Args:
        events: by voice name; modified in place.
        steps: bar lines without an onset.
        last: step of the next onset.
        bar_steps: steps in a bar.
    """
    chords = events.get("harmony", [])
    before = [index for index, event in enumerate(chords) if event.end <= steps[0]]
    if before and not any(event.start < last and event.end > steps[0] for event in chords):
        chords[before[-1] + 1 : before[-1] + 1] = _restrike(chords[before[-1]].value, steps[0], last, bar_steps)
        return
    for name in _RINGING:
        for index, event in enumerate(events.get(name, ())):
            kept = [step for step in steps if event.start < step <= event.end - STEPS_PER_BEAT]
            if kept and kept[0] == steps[0]:
                again = [Event(a, b, event.value, _SOFT) for a, b in itertools.pairwise([*kept, event.end])]
                events[name][index : index + 1] = [replace(event, end=steps[0]), *again]
                return


def _restrike(value: int, first: int, last: int, bar_steps: int) -> list[Event]:
    """A chord or note struck softly at its beginning and at every bar line."""
    starts = [first, *range(first - first % bar_steps + bar_steps, last, bar_steps)]
    return [Event(start, end, value, _SOFT) for start, end in itertools.pairwise([*starts, last]) if end > start]
