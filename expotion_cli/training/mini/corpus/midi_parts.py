"""Parts of a MIDI file on the step grid: what each channel and program plays."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from expotion_cli.training.mini.corpus.midi_drums import LANES, PROGRAM_LANES, UNPITCHED
from expotion_cli.training.mini.corpus.midi_grid import Grid

_VOLUME, _EXPRESSION = 7, 11
_SAME = 0.85
"""Parts that share this many of their notes are one part, doubled."""

Note = tuple[int, int, int, float]
"""(start step, end step, MIDI pitch, loudness 0..1)."""
Stroke = tuple[int, str, int, float]
"""(step, drum voice, lane as a bit, loudness 0..1)."""


@dataclass(frozen=True)
class Part:
    """What one program of a file plays.

    Attributes:
        program: General-MIDI program.
        notes: in order of their starts.
    """

    program: int
    notes: list[Note]

    @property
    def mean_pitch(self) -> float:
        """Mean MIDI pitch."""
        return float(np.mean([note[2] for note in self.notes]))


def read_parts(score: Any, grid: Grid) -> tuple[list[Part], list[Stroke]]:
    """Parts and drum strokes of a score in ticks.

    Args:
        score: from symusic.
        grid: its beat grid.

    Returns:
        (pitched parts without doublings, drum strokes of all tracks).
    """
    found: dict[tuple[int, str], list[Note]] = defaultdict(list)
    strokes: list[Stroke] = []
    for track in score.tracks:
        if not len(track.notes):
            continue
        is_drum = track.is_drum or track.program in PROGRAM_LANES
        if not is_drum and track.program in UNPITCHED:
            continue
        times = np.array([note.time for note in track.notes])
        ends = times + np.array([note.duration for note in track.notes])
        gain = _curve(track, _VOLUME, 100, times) / 127 * _curve(track, _EXPRESSION, 127, times) / 127
        loudness = np.array([note.velocity for note in track.notes]) / 127 * np.sqrt(gain / (100 / 127))
        starts, stops = grid.steps(times), grid.steps(ends)
        for start, stop, note, loud in zip(
            starts.tolist(), stops.tolist(), track.notes, loudness.tolist(), strict=True
        ):
            if is_drum:
                lane = LANES.get(note.pitch) if track.is_drum else PROGRAM_LANES[track.program]
                if lane is not None and start >= 0:
                    strokes.append((start, *lane, loud))
            elif start >= 0:
                found[(track.program, track.name)].append((start, max(stop, start + 1), note.pitch, loud))
    parts = [Part(program, sorted(notes)) for (program, _), notes in found.items()]
    return _without_doublings(parts), sorted(strokes)


def _curve(track: Any, number: int, default: int, times: np.ndarray) -> np.ndarray:
    """[n] value of a controller at these ticks."""
    changes = sorted((c.time, c.value) for c in track.controls if c.number == number)
    at = np.searchsorted([time for time, _ in changes], times, side="right")
    # A file sets its levels shortly after its first tick: what comes first also counts before.
    first = changes[0][1] if changes else default
    return np.array([first, *(value for _, value in changes)], dtype=float)[at]


def _without_doublings(parts: list[Part]) -> list[Part]:
    """Parts in order of their number of notes, without those that play what another does, also an octave away."""
    kept: list[tuple[Part, set[tuple[int, int]]]] = []
    for part in sorted(parts, key=lambda p: -len(p.notes)):
        notes = {(start, pitch % 12) for start, _, pitch, _ in part.notes}
        if not any(len(notes & other) > _SAME * len(notes) for _, other in kept):
            kept.append((part, notes))
    return [part for part, _ in kept]
