"""A small made-up piece for eight voices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from expotion_cli.music.notes import QUALITIES, VOICE_INDEX, Event, chord_value, events_to_tokens

PROGRESSION = ((0, "maj"), (9, "min"), (5, "maj"), (7, "dom7"))


def piece_events(bars: int, level: int | None = 5) -> dict[str, list[Event]]:
    """Four chords over and over in all voices; `level` None swells from bar to bar."""
    events: dict[str, list[Event]] = {name: [] for name in VOICE_INDEX}
    for bar in range(bars):
        (root, quality), first = PROGRESSION[bar % 4], 48 * bar
        low, chord = (root if root < 6 else root - 12), QUALITIES[quality]
        events["dynamics"].append(Event(first, first + 48, min(7, 1 + bar) if level is None else level))
        events["harmony"].append(Event(first, first + 48, chord_value(root, quality), 1))
        events["counter"].append(Event(first, first + 48, 60 + low, 2))
        for beat in range(4):
            step = first + 12 * beat
            events["drums"].append(Event(step, step + 12, 2 if beat % 2 else 1, 2))
            events["bass"].append(Event(step, step + 11, 36 + low, 2))
            events["melody"].append(Event(step, step + 10, 72 + low + chord[beat % 3], 2))
        for half in range(8):
            step = first + 6 * half
            events["percussion"].append(Event(step, step + 6, 1, 1 + (half % 2 == 0)))
            events["figure"].append(Event(step, step + 6, 60 + low + chord[half % 3], 1))
    return events


@pytest.fixture(scope="session")
def piece() -> Callable[..., dict[str, list[Event]]]:
    return piece_events


@pytest.fixture(scope="session")
def piece_tokens() -> Callable[..., np.ndarray]:
    """Tokens [8, S] of the piece, or only of the voices named."""

    def tokens(num_steps: int, *, level: int | None = 5, only: tuple[str, ...] | None = None) -> np.ndarray:
        events = piece_events(num_steps // 48 + 1, level)
        wanted = {name: rows for name, rows in events.items() if only is None or name in (*only, "dynamics")}
        return events_to_tokens(wanted, num_steps)

    return tokens
