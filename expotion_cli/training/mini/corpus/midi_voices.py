"""Parts of a piece as the eight voices: who plays bass, melody, figure and counter, bar by bar, and which chords sound.

Parts come and go in a piece, so voices are given out anew every four bars; a part tends to keep its voice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import theory
from expotion_cli.training.mini.corpus.midi_drums import BASSES, instrument
from expotion_cli.training.mini.corpus.midi_parts import Note, Part, Stroke

BAR, HALF_BAR, BLOCK = 48, 24, 4 * 48
_KEPT, _LOW = 6.0, 48.0
_FEW = 3
_LEVEL_DB, _LEVELS = 2.5, (3, 6)
_PRIOR = 0.12
"""How much the key's own tones count where a chord leaves its third open."""

_TONES = np.zeros((12 * len(notes.QUALITIES), 12))
"""[chord value, pitch class]: 1 where a chord has that tone."""
for _value in range(len(_TONES)):
    _root, _intervals = notes.chord_pitches(_value)
    _TONES[_value, [(_root + i) % 12 for i in _intervals]] = 1
_RARE = np.array([0.15 if quality in ("dim", "hdim7", "sus4") else 0.0 for quality in notes.QUALITIES])
_BIAS = -0.13 * _TONES.sum(axis=1) - np.tile(_RARE, 12)

Row = dict[str, list[notes.Event]]


def write_voices(
    parts: Sequence[Part], strokes: Sequence[Stroke], num_bars: int, swap: bool = False
) -> tuple[Row, dict[str, str]]:
    """Events of all voices but harmony and dynamics, at the pitches of the file.

    Args:
        parts: pitched parts.
        strokes: of the drums.
        num_bars: length.
        swap: give the second most salient part the melody, and the first the counter: another view of the same piece.

    Returns:
        (events by voice, voice → instrument that plays it longest).
    """
    events: dict[str, dict[int, notes.Event]] = defaultdict(dict)
    players: dict[str, Counter[str]] = defaultdict(Counter)
    before: dict[int, str] = {}
    bass_part = _bass_of(parts)
    for first in range(0, num_bars * BAR, BLOCK):
        stop = min(first + BLOCK, num_bars * BAR)
        inside = {i: [n for n in part.notes if first <= n[0] < stop] for i, part in enumerate(parts)}
        given = _give_out({i: found for i, found in inside.items() if len(found) >= _FEW}, bass_part, before)
        if swap and "melody" in given and "figure" in given:
            given["melody"], given["figure"] = given["figure"], given["melody"]
        for voice, i in given.items():
            line = _line(inside[i], lowest=voice == "bass" or _mean_pitch(inside[i]) < _LOW)
            for event in _fit(line, voice):
                events[voice][event.start] = event
            players[voice][instrument(parts[i].program)] += len(line)
        before = {i: voice for voice, i in given.items()}
    result: Row = {voice: [row[start] for start in sorted(row)] for voice, row in events.items()}
    result |= _drums(strokes, num_bars * BAR)
    sounds = {voice: count.most_common(1)[0][0] for voice, count in players.items()}
    return result, sounds | {voice: "drums" for voice in ("drums", "percussion") if result.get(voice)}


def _bass_of(parts: Sequence[Part]) -> int | None:
    """Number of the part that plays the bass: a bass program with many notes, else the lowest part if it is low."""
    basses = [i for i, part in enumerate(parts) if part.program in BASSES and part.mean_pitch < 56]
    if basses:
        return max(basses, key=lambda i: len(parts[i].notes))
    low = [i for i, part in enumerate(parts) if part.mean_pitch < 50 and len(part.notes) >= 4 * _FEW]
    return min(low, key=lambda i: parts[i].mean_pitch) if low else None


def _give_out(inside: dict[int, list[Note]], bass_part: int | None, before: dict[int, str]) -> dict[str, int]:
    """Voice → part for one block: the bass, then the most salient for the melody, then figure and counter."""
    given: dict[str, int] = {}
    rest = dict(inside)
    if bass_part in rest:
        given["bass"] = bass_part
    elif rest:
        lowest = min(rest, key=lambda i: _mean_pitch(rest[i]))
        if _mean_pitch(rest[lowest]) < _LOW:
            given["bass"] = lowest
    rest.pop(given.get("bass", -1), None)
    for voice in ("melody", "figure", "counter"):
        if rest:
            chosen = max(rest, key=lambda i: _salience(rest[i], voice) + _KEPT * (before.get(i) == voice))
            given[voice] = chosen
            del rest[chosen]
    return given


def _salience(line: list[Note], voice: str) -> float:
    """How much a part asks for a voice: a melody is high, loud and of one note at a time; a figure is busy."""
    starts = len({note[0] for note in line})
    chords = len(line) / starts
    loud = float(np.mean([note[3] for note in line]))
    if voice == "melody":
        return 0.35 * (_mean_pitch(line) - 60) + 12 * loud - 5 * (chords - 1) + 3 * np.log(starts)
    return 5 * np.log(starts) + 8 * loud + (2 if voice == "counter" and chords < 1.3 else 0)


def _mean_pitch(line: Sequence[Note]) -> float:
    return float(np.mean([note[2] for note in line]))


def _line(found: Sequence[Note], lowest: bool) -> list[Note]:
    """One note at a time: of those that start together the lowest or the highest."""
    chosen: dict[int, Note] = {}
    for note in found:
        known = chosen.get(note[0])
        if known is None or (note[2] < known[2]) == lowest:
            chosen[note[0]] = note
    return [chosen[start] for start in sorted(chosen)]


def _fit(line: list[Note], voice_name: str) -> list[notes.Event]:
    """A line in its voice's range, moved by octaves as a whole and, where that is not enough, note by note."""
    voice = notes.VOICES[notes.VOICE_INDEX[voice_name]]
    low, high = voice.base, voice.base + notes.PITCH_RANGE - 1
    pitches = [note[2] for note in line]
    shifts = (0, -12, 12, -24, 24, 36, -36)
    shift = max(shifts, key=lambda s: (sum(low <= p + s <= high for p in pitches), -abs(s)))
    classes = velocity_classes([note[3] for note in line])
    return [
        notes.Event(start, end, theory.fold(pitch + shift, low, high), velocity)
        for (start, end, pitch, _), velocity in zip(line, classes, strict=True)
    ]


def velocity_classes(loudness: Sequence[float]) -> list[int]:
    """Velocity classes 0..3 of notes that belong together: 2 is the usual one, 3 is clearly louder."""
    middle = float(np.median(loudness)) if len(loudness) else 1.0
    ratios = np.asarray(loudness) / max(middle, 1e-6)
    return [int(c) for c in np.digitize(ratios, (0.62, 0.88, 1.12))]


def _drums(strokes: Sequence[Stroke], num_steps: int) -> Row:
    """Strokes that fall together become one event; fast rolls beyond the grid are one stroke a step."""
    found: dict[str, dict[int, tuple[int, float]]] = {"drums": {}, "percussion": {}}
    for step, voice, lane, loud in strokes:
        if step < num_steps:
            mask, most = found[voice].get(step, (0, 0.0))
            found[voice][step] = (mask | lane, max(most, loud))
    result: Row = {}
    for voice, row in found.items():
        classes = velocity_classes([loud for _, loud in row.values()])
        result[voice] = [
            notes.Event(step, step + 1, mask, c)
            for (step, (mask, _)), c in sorted(zip(row.items(), classes, strict=True))
        ]
    return result


def sounding(parts: Sequence[Part], num_units: int, unit: int) -> np.ndarray:
    """[num_units, 12]: how long and how loud each pitch class sounds in each stretch of `unit` steps."""
    weights = np.zeros((num_units, 12))
    for part in parts:
        for start, end, pitch, loud in part.notes:
            for place in range(start // unit, min((min(end, start + 4 * BAR) - 1) // unit + 1, num_units)):
                weights[place, pitch % 12] += loud * (min(end, (place + 1) * unit) - max(start, place * unit))
    return weights


def write_chords(weights: np.ndarray, bass: np.ndarray, mode: str) -> list[notes.Event]:
    """A chord for each half bar where the harmony changes: the one that covers most of what sounds.

    A chord that lasts is struck again every two bars.

    Args:
        weights: [H, 12] what sounds in each half bar, on a tonic of C.
        bass: [H, 12] the same of the bass.
        mode: "major" or "minor"; its scale decides where a chord leaves its third open.
    """
    scale = np.zeros(12)
    scale[list(theory.SCALES[mode])] = 1
    events: list[notes.Event] = []
    sums = weights.sum(axis=1)
    usual = 1.1 * float(np.median(sums[sums > 0])) if (sums > 0).any() else 0.0
    for half, (row, low) in enumerate(zip(weights, bass, strict=True)):
        total = row.sum()
        if total < HALF_BAR / 8:
            continue
        share, start = row / total + _PRIOR * scale / 7, half * HALF_BAR
        of_root = 0.45 * low / max(low.sum(), 1e-9) + 0.3 * share
        fits = _TONES @ (2 * share - 0.9 * (share < 0.03)) + np.repeat(of_root, len(notes.QUALITIES)) + _BIAS
        value = int(fits.argmax())
        last = events[-1] if events else None
        if last is not None and last.value == value and last.end == start and start - last.start < 2 * BAR:
            events[-1] = notes.Event(last.start, start + HALF_BAR, value, last.velocity)
        else:
            events.append(notes.Event(start, start + HALF_BAR, value, int(total > usual)))
    return events


def write_dynamics(parts: Sequence[Part], strokes: Sequence[Stroke], num_bars: int) -> list[notes.Event]:
    """A level for each bar where it changes, within a narrow range around the piece's own loudness."""
    power = np.full(num_bars, 1e-3)
    for part in parts:
        for start, _, _, loud in part.notes:
            if start < num_bars * BAR:
                power[start // BAR] += loud**2
    for step, _, _, loud in strokes:
        if step < num_bars * BAR:
            power[step // BAR] += loud**2
    db = 10 * np.log10(power)
    levels = np.clip(np.rint(4.6 + (db - np.median(db)) / _LEVEL_DB), *_LEVELS).astype(int)
    return [
        notes.Event(bar * BAR, bar * BAR, int(level))
        for bar, level in enumerate(levels)
        if bar == 0 or level != levels[bar - 1]
    ]
