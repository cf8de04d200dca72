"""Statistics of the notes in a MIDI file by MusPy's definitions, and of as many random notes.

Drums count where MusPy counts them: in the groove and in whether a beat is empty, not in what has to do with pitch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from expotion_cli.errors import ClipError
from expotion_cli.music.codecs.notes import muspy
from expotion_cli.music.codecs.notes.muspy import MEASURES
from expotion_cli.timing import BEATS_PER_BAR

RESOLUTION = 24
"""Time steps a beat, MusPy's default."""


@dataclass(frozen=True)
class NoteList:
    """The notes of a cue.

    Attributes:
        start, end: [n] int, in steps of which a beat has `RESOLUTION`; end > start.
        pitch: [n] int.
        is_drum: [n] bool.
        bar_lines: [m + 1] int, where each bar begins, and where the last one ends.
    """

    start: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    is_drum: np.ndarray
    bar_lines: np.ndarray


def read_notes(midi: bytes) -> NoteList:
    """The notes of a standard MIDI file, all tracks together.

    Raises:
        ClipError: it is not a MIDI file.
    """
    import symusic

    try:
        score = symusic.Score.from_midi(midi)
    except Exception as error:  # the parser's own errors have no common class
        raise ClipError(f"its MIDI file can't be read ({error}).", remedy="Write it again.") from error
    scale = RESOLUTION / score.ticks_per_quarter
    rows = [(n.time, n.time + n.duration, n.pitch, t.is_drum) for t in score.tracks for n in t.notes]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    start = np.rint(table[:, 0] * scale).astype(int)
    end = np.maximum(np.rint(table[:, 1] * scale).astype(int), start + 1)
    signatures = [(round(t.time * scale), t.numerator, t.denominator) for t in score.time_signatures]
    lines = _bar_lines(signatures, int(end.max(initial=0)))
    return NoteList(start, end, table[:, 2].astype(int), table[:, 3].astype(bool), lines)


def _bar_lines(signatures: Sequence[tuple[int, int, int]], length: int) -> np.ndarray:
    """Bar lines of a file's time signatures (step, numerator, denominator).

    As in MusPy, the last bar ends after `length`. Before the first signature, and in a file without any, bars are in
    4/4. One that stands within a bar ends it.
    """
    spans = [(step, RESOLUTION * 4 * upper // lower) for step, upper, lower in sorted(signatures) if upper and lower]
    if not spans or spans[0][0] > 0:
        spans.insert(0, (0, RESOLUTION * BEATS_PER_BAR))
    lines: list[int] = []
    for (first, bar), (after, _) in itertools.pairwise([*spans, (length + 1, 0)]):
        lines += range(first, min(after, length + 1), max(1, bar))
    last_bar = [bar for first, bar in spans if first <= lines[-1]][-1]
    return np.array([*lines, lines[-1] + max(1, last_bar)])


def note_statistics(notes: NoteList) -> dict[str, float]:
    """Measure a cue.

    Returns:
        pitch_class_entropy: bits; 3.58 where all twelve are equally frequent.
        scale_consistency: largest share of notes within one of the 24 major and minor scales.
        groove_consistency: 1 less the share of steps at which a bar's onsets differ from the bar before, by the file's
            own bar lines.
        polyphony: mean number of pitches sounding at the steps at which any does.
        empty_beat_rate: share of beats during which nothing sounds.
        NaN for what there are no notes for.
    """
    if not len(notes.start):
        return dict.fromkeys(MEASURES, math.nan)
    length = int(notes.end.max())
    pitched = ~notes.is_drum
    classes = np.bincount(notes.pitch[pitched] % 12, minlength=12)
    has_pitch = bool(classes.sum())
    return {
        "pitch_class_entropy": muspy.entropy_bits(classes) if has_pitch else math.nan,
        "scale_consistency": muspy.scale_consistency(classes),
        "groove_consistency": muspy.groove_consistency(notes.start, notes.bar_lines),
        "polyphony": muspy.polyphony(_pitches_sounding(notes, pitched, length)),
        "empty_beat_rate": muspy.empty_beat_rate(notes.start, notes.end, math.ceil(length / RESOLUTION), RESOLUTION),
    }


def at_random(notes: NoteList, seed: int) -> NoteList:
    """As many notes of the same lengths, with random pitches on random sixteenths (the chance level)."""
    if not len(notes.start):
        return notes
    rng = np.random.default_rng(seed)
    unit = RESOLUTION // 4
    start = unit * rng.integers(0, max(1, int(notes.end.max()) // unit), len(notes.start))
    low, high = int(notes.pitch.min()), int(notes.pitch.max())
    pitch = rng.integers(low, max(high, low + 11) + 1, len(notes.start))
    return replace(notes, start=start, end=start + (notes.end - notes.start), pitch=pitch)


def _pitches_sounding(notes: NoteList, pitched: np.ndarray, length: int) -> np.ndarray:
    """[length] number of different pitches that sound at each step."""
    sounding = np.zeros((length, 128), bool)
    for start, end, pitch in zip(notes.start[pitched], notes.end[pitched], notes.pitch[pitched], strict=True):
        sounding[start:end, pitch] = True
    return sounding.sum(axis=1)
