"""Writes the voices of a piece that follows a motion curve.

The curve decides when notes start, in how many voices at once, and how loud. As it rises, light percussion enters
first, then the figure, drums, bass and melody; at its peaks all voices play together. Where it is low no note starts,
and notes are held or rest. Onsets are on sixteenths, or on the feel's parts of a beat. Style, harmony and form decide
which notes are played.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import numpy as np

from expotion_cli.training.mini.corpus import theory
from expotion_cli.training.mini.corpus.arrangement import BAR, BEAT, Arrangement
from expotion_cli.training.mini.corpus.drums import CLAP, CLOSED, CRASH, HIGH, KICK, LOW, OPEN, RIDE, SNARE, TAMBOURINE
from expotion_cli.training.mini.corpus.styles import SIXTEENTHS

_NUDGE = {0: 0.11, 6: 0.06}
_CONTOURS = (
    lambda x: math.sin(math.pi * x) - 0.4,
    lambda x: 1.2 * x - 0.6,
    lambda x: 0.6 - 1.2 * x,
    lambda x: math.sin(2 * math.pi * x) * 0.8,
)


@dataclass(frozen=True)
class OnsetGrid:
    """Where notes may start, and how strongly the curve asks for them.

    Attributes:
        curve: [S] motion, 0 to about 1.
        steps: steps of the grid in the body of the piece, ascending.
        force: [len(steps)] the curve around each of them, slightly raised on beats; 0 where it is low.
    """

    curve: np.ndarray
    steps: np.ndarray
    force: np.ndarray

    @staticmethod
    def find(curve: np.ndarray, feel: str, num_steps: int) -> OnsetGrid:
        """The grid over a piece.

        Args:
            curve: [S] motion.
            feel: division of the beat, a key of `styles.SIXTEENTHS`.
            num_steps: length of the piece's body.
        """
        steps = np.array([beat * BEAT + part for beat in range(num_steps // BEAT) for part in SIXTEENTHS[feel]])
        padded = np.pad(curve, 1, mode="edge")
        around = 0.25 * padded[steps] + 0.5 * padded[steps + 1] + 0.25 * padded[steps + 2]
        nudge = np.array([_NUDGE.get(int(s % BEAT), 0.02) for s in steps])
        return OnsetGrid(curve, steps, np.where(around > 0.08, around + nudge, 0.0))

    def above(self, threshold: float) -> list[tuple[int, float]]:
        """(step, force) wherever the force exceeds a threshold."""
        return [(int(s), float(f)) for s, f in zip(self.steps, self.force, strict=True) if f > threshold]

    def peaks(self, threshold: float, apart: int) -> set[int]:
        """Steps of local maxima above a threshold, at least `apart` steps from each other."""
        found: list[int] = []
        for i in np.argsort(-self.force):
            near = self.force[max(0, i - 1) : i + 2]
            if self.force[i] <= threshold:
                break
            if self.force[i] >= near.max() and all(abs(int(self.steps[i]) - s) >= apart for s in found):
                found.append(int(self.steps[i]))
        return set(found)


def loudness(force: float) -> int:
    """Velocity class (0..3) for a force."""
    return int(min(3, max(0, math.floor(4 * force - 0.6))))


def delay_chord_changes(arrangement: Arrangement, grid: OnsetGrid, patience: int = 6) -> None:
    """Move chord changes to where notes start: a change in stillness waits, for `patience` beats at most.

    Args:
        arrangement: its chords are changed in place.
        grid: of the piece.
        patience: in beats.
    """
    on_beats = {int(s) // BEAT: float(f) for s, f in zip(grid.steps, grid.force, strict=True) if s % BEAT == 0}
    waited = 0
    for beat in range(1, arrangement.body_steps // BEAT):
        if arrangement.chords[beat] is arrangement.chords[beat - 1]:
            continue
        if on_beats.get(beat, 0.0) < 0.35 and waited < patience:
            arrangement.chords[beat] = arrangement.chords[beat - 1]
            waited += 1
        else:
            waited = 0


def follow_harmony(arrangement: Arrangement, grid: OnsetGrid, manner: str) -> None:
    """Write the chord voice: held from change to change and repeated at peaks, or short chords only.

    Args:
        arrangement: gets the events.
        grid: of the piece.
        manner: playing pattern, see `Style.harmony`.
    """
    if manner == "none":
        return
    r, body = arrangement.r, arrangement.body_steps
    short = manner in ("stabs", "comp", "pump")
    again = {"pad": r.uniform(0.75, 1.1), "halves": 0.7}.get(manner, r.uniform(0.5, 0.65))
    eighths = r.random() < 0.6
    length = r.choice((3, 4, 6)) if short else 0
    struck = {s: f for s, f in grid.above(again) if not (eighths and s % 6)}
    changes = {
        b * BEAT for b in range(body // BEAT) if b == 0 or arrangement.chords[b] is not arrangement.chords[b - 1]
    }
    starts = sorted(set(struck) | (set() if short else changes))
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else body
        force = struck.get(start, 0.0)
        if start == 0 and grid.force[0] < 0.1:
            continue
        stop = min(end, start + length) if short else end
        arrangement.note("harmony", start, stop, arrangement.chord_at(start).value, int(force > 0.7))
        if short and force < 0.5:
            arrangement.voices["harmony"][start][0] = min(end, start + BEAT)


def follow_bass(arrangement: Arrangement, grid: OnsetGrid, manner: str) -> None:
    """Write the bass: roots, with fifths and octaves between them.

    Args:
        arrangement: gets the events.
        grid: of the piece.
        manner: playing pattern, see `Style.bass`.
    """
    if manner == "none":
        return
    r = arrangement.r
    threshold = r.uniform(0.4, 0.58)
    low = r.choice((29, 31, 33, 35))
    moves = {"octave": (0, 12), "oompah": (0, 2), "walking": (0, 1, 2, 3), "two_feel": (0, 2)}.get(manner, (0,))
    gap = {"long": 12, "pedal": 12, "root_beats": 6, "two_feel": 6, "chorale": 6, "heartbeat": 6}.get(manner, 3)
    held = manner in ("long", "pedal", "chorale", "root_beats", "two_feel")
    last, count, row = -BAR, 0, arrangement.voices["bass"]
    for step, force in grid.above(threshold):
        chord = arrangement.chord_at(step)
        if step - last < gap and arrangement.chord_at(last) is chord and force < 0.9:
            continue
        root = low + (chord.pcs[chord.value in arrangement.inverted] - low) % 12
        move = moves[count % len(moves)] if chord is arrangement.chord_at(max(last, 0)) else 0
        pitch = root + 12 if move == 12 else theory.nearest(chord.tones, root + (0, 5, 7, 3)[move]) if move else root
        for start in row:  # the old bass note ends with its chord
            row[start][0] = min(row[start][0], step) if start == last else row[start][0]
        arrangement.note(
            "bass", step, step + (BAR if held else max(4, gap)), theory.fold(pitch, 26, 56), loudness(force)
        )
        last, count = step, count + 1
    _end_notes(arrangement, "bass")


def follow_figure(arrangement: Arrangement, grid: OnsetGrid, manner: str, articulation: float) -> None:
    """Write the figure (arpeggio, ostinato): at each onset the next tone of its pattern.

    Args:
        arrangement: gets the events.
        grid: of the piece.
        manner: playing pattern, see `Style.figure`.
        articulation: articulation, see `Style.articulation`.
    """
    if manner == "none":
        return
    r = arrangement.r
    threshold = r.uniform(0.24, 0.42)
    lowest = 67 if manner == "bells" else r.choice((52, 55, 57, 60))
    order: tuple[int, ...] = r.choice(
        ((0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 2, 1), (0, 2, 1, 2), (0, 1, 2, 3, 2, 1), (3, 1, 2, 0))
    )
    if manner in ("ostinato8", "ostinato16", "riff8", "tick", "tremolo"):
        order = r.choice(((0, 0, 1, 0), (0, 1), (0, 101, 0, 99), (0, 0, 0, 1, 0, 2), (0, 2, 1, 101)))
    ring = 12 if manner in ("bells", "arp_slow") else 6 if articulation > 0.6 else 3
    rolled = r.random() < 0.75
    count, last = 0, -BAR
    for step, force in grid.above(threshold):
        if (step % BEAT == 0 and step % BAR == 0) or step - last > BEAT:
            count = 0
        chord = arrangement.chord_at(step)
        first = theory.nearest(chord.tones, lowest)
        index = order[count % len(order)]
        place = chord.tones.index(first)
        if index > 50:
            pitch, index = theory.scale_step(chord, first, index - 100), 0
        else:
            pitch = chord.tones[min(place + index, len(chord.tones) - 1)]
        arrangement.note("figure", step, step + ring, theory.fold(pitch, 40, 80), loudness(force))
        for after, wanted in ((1, 0.66), (2, 0.86)) if rolled else ():  # a quick broken chord, as on a harp
            if force > wanted:
                pitch = chord.tones[min(place + index + after, len(chord.tones) - 1)]
                arrangement.note(
                    "figure", step + after, step + ring, theory.fold(pitch, 40, 84), max(0, loudness(force) - 1)
                )
        count, last = count + 1, step
    _end_notes(arrangement, "figure")


def follow_melody(arrangement: Arrangement, grid: OnsetGrid, busy: float) -> None:
    """Write the melody: phrases of four bars, with a note where the motion rises and a rest before the next phrase.

    Args:
        arrangement: gets the events.
        grid: of the piece.
        busy: 0..1, how many notes it has.
    """
    r = arrangement.r
    centre, span = r.uniform(66, 76), r.uniform(4, 8)
    threshold = r.uniform(0.4, 0.58)
    lively = 0.95 - 0.45 * busy
    peaks = grid.peaks(threshold * 0.8, 6)
    pitch, row = theory.nearest(arrangement.chords[0].tones, centre), arrangement.voices["melody"]
    moves = _moves(r)
    contour = r.choice(_CONTOURS)
    previous, last, count = 0.0, -BAR, 0
    gap = 6 if busy < 0.45 else 3
    for step, force in zip(grid.steps.tolist(), grid.force.tolist(), strict=True):
        place = step % (4 * BAR)
        if place == 0:
            contour, count = r.choice(_CONTOURS), 0
            moves = moves if r.random() < 0.6 else _moves(r)
        rising = force > previous + 0.06 or step in peaks
        previous = force
        if force < threshold or place >= 4 * BAR - 9 or (step - last < gap and step not in peaks) or step - last < 3:
            continue
        if not (rising or force > lively):
            continue
        chord = arrangement.chord_at(step)
        target = centre + span * contour(place / (4 * BAR)) + 4 * (force - 0.5)
        move = moves[count % len(moves)]
        off = target - pitch
        if abs(off) > 5:
            move = 2 if off > 0 else -2
        new = theory.scale_step(chord, pitch, move)
        if step % 6 == 0 or abs(move) > 1:
            new = theory.nearest(chord.tones, new + 0.2 * max(-3, min(3, off)))
        pitch = theory.fold(new, 55, 88)
        arrangement.note("melody", step, step + BAR, pitch, loudness(force))
        last, count = step, count + 1
    for start, event in row.items():
        event[0] = min(event[0], start // (4 * BAR) * 4 * BAR + 4 * BAR - 3)
    _end_notes(arrangement, "melody", longest=r.choice((24, 36, 48)))


def follow_counter(arrangement: Arrangement, grid: OnsetGrid, manner: str) -> None:
    """Write the counter-melody: at peaks, below the melody or in long notes of its own.

    Args:
        arrangement: gets the events.
        grid: of the piece.
        manner: playing pattern, see `Style.counter`.
    """
    if manner == "none":
        return
    r = arrangement.r
    threshold, centre = r.uniform(0.5, 0.72), r.choice((55, 57, 60, 62))
    melody, pitch, last = arrangement.voices["melody"], centre, -BAR
    for step, force in grid.above(threshold):
        chord = arrangement.chord_at(step)
        if (step - last < (12 if manner == "long" else 6) and force < 0.85) or (step - last < 6 and step not in melody):
            continue
        if step in melody and manner in ("parallel", "contrary"):
            pitch = theory.nearest(chord.tones, melody[step][1] - r.choice((3, 4, 5, 8)))
        else:
            pitch = theory.nearest(chord.tones, pitch + r.choice((-4, -2, 2, 4)) + 0.25 * (centre - pitch))
        arrangement.note("counter", step, step + (BAR if manner == "long" else 12), theory.fold(pitch, 43, 76),
                   max(0, loudness(force) - 1))  # fmt: skip
        last = step
    _end_notes(arrangement, "counter")


def follow_drums(arrangement: Arrangement, grid: OnsetGrid, manner: str, drums: bool, percussion: bool) -> None:
    """Write both drum voices: hi-hats and the like first, then the kit in the style's pattern, crashes at high peaks.

    Args:
        arrangement: gets the events.
        grid: of the piece.
        manner: playing pattern, see `Style.drums`.
        drums: write the drum kit.
        percussion: write the percussion.
    """
    if manner == "none":
        return
    r = arrangement.r
    light, kit = r.uniform(0.28, 0.42), r.uniform(0.45, 0.58)
    rolls = r.random() < 0.75
    soft = manner in ("brushes", "soft_pulse", "light", "ride")
    toms = manner in ("taiko", "pulse") or (manner == "halftime" and r.random() < 0.5)
    metal = RIDE if manner in ("ride", "brushes") else r.choice((CLOSED, CLOSED, TAMBOURINE)) if toms else CLOSED
    bright = r.choice((OPEN, TAMBOURINE, CLAP)) if not soft else TAMBOURINE
    crashes = grid.peaks(0.95, BAR) if not soft else set()
    accents = grid.peaks(0.7, BEAT)
    backbeat = (24,) if manner == "halftime" else (12, 36)
    for step, force in grid.above(light):
        hard = loudness(force)
        if percussion:
            arrangement.hit("percussion", step, bright if step in accents else metal, max(0, hard - (step % 6 > 0)))
            for after, wanted in ((1, 0.72), (2, 0.9)) if rolls else ():
                if force > wanted:
                    arrangement.hit("percussion", step + after, metal, max(0, hard - 1))
        if not drums or force < (kit + 0.12 if soft else kit):
            continue
        place = step % BAR
        if toms:
            lanes = KICK | LOW if place in (0, 24) or step in accents else r.choice((LOW, LOW, HIGH))
        elif place in backbeat:
            lanes = SNARE
        elif step % BEAT == 0 or (step in accents and force > 0.7):
            lanes = KICK
        else:
            lanes = SNARE if force > 0.72 else KICK if step % 6 == 0 else SNARE
        if force > 0.9 and not soft:
            lanes |= HIGH if toms else SNARE | KICK
        arrangement.hit("drums", step, lanes | (CRASH if step in crashes else 0), hard)


def _moves(r: Random) -> list[int]:
    """Draw a motive: scale steps from note to note."""
    direction, moves = r.choice((-1, 1)), []
    for _ in range(r.choice((3, 4, 5, 7))):
        direction = -direction if r.random() < 0.3 else direction
        moves.append(direction * r.choices((0, 1, 2, 3, 4), weights=(10, 52, 20, 8, 6))[0])
    return moves


def _end_notes(arrangement: Arrangement, voice: str, longest: int = BAR) -> None:
    """End notes at the next onset, at a chord that does not contain them, or after `longest` steps."""
    row = arrangement.voices[voice]
    starts = sorted(row)
    for i, start in enumerate(starts):
        end = min(row[start][0], start + longest, starts[i + 1] if i + 1 < len(starts) else arrangement.body_steps)
        chord = arrangement.chord_at(start)
        for beat in range(start // BEAT + 1, -(-end // BEAT)):
            if arrangement.chords[beat] is not chord and row[start][1] % 12 not in arrangement.chords[beat].pcs:
                end = min(end, beat * BEAT)
                break
        row[start][0] = max(end, start + 2)
