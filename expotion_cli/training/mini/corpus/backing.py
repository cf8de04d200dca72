"""The accompaniment: harmony, bass and figure in a style's playing patterns, thinned by energy."""

from __future__ import annotations

from bisect import bisect_left
from random import Random

from expotion_cli.training.mini.corpus.arrangement import BAR, BEAT, Arrangement, metrical_weight
from expotion_cli.training.mini.corpus.energy import STILL
from expotion_cli.training.mini.corpus.styles import EIGHTH, SIXTEENTHS
from expotion_cli.training.mini.corpus.theory import Chord, fold, nearest, scale_step


def chord_spans(arrangement: Arrangement, bars: bool = True) -> list[tuple[int, int, Chord]]:
    """(start, end, chord) of each run of beats on one chord, in steps; split at bar lines if `bars` is set."""
    spans: list[tuple[int, int, Chord]] = []
    start = 0
    last = arrangement.body_steps // BEAT
    for beat in range(1, last + 1):
        if beat == last or arrangement.chords[beat] is not arrangement.chords[start] or (bars and beat % 4 == 0):
            spans.append((start * BEAT, beat * BEAT, arrangement.chords[start]))
            start = beat
    return spans


# --- harmony ------------------------------------------------------------------------------------------------------


def write_harmony(arrangement: Arrangement, manner: str) -> None:
    """Write the chord voice for the body of the piece."""
    if manner == "none":
        return
    r = arrangement.r
    eighth = EIGHTH[arrangement.feel]
    short = r.choice((3, 4, 5)) if manner in ("stabs", "comp") else 6

    def write(start: int, end: int, chord: Chord) -> None:
        arrangement.note("harmony", start, end, chord.value, int(arrangement.at(start) > 0.5))

    if manner == "pad":
        restrike = r.random() < 0.3
        for start, end, chord in chord_spans(arrangement, bars=restrike):
            beat = start
            while beat < end and arrangement.at(beat) <= STILL:
                beat += BEAT
            if beat < end:
                write(beat, end, chord)
                if end - beat >= 48 and arrangement.at(beat + 24) > 0.72:
                    write(beat + 24, end, chord)
        return
    patterns: dict[str, list[tuple[int, int, float]]] = {}
    for first, length, letter in arrangement.sections:
        if letter not in patterns:
            patterns[letter] = _harmony_pattern(r, manner, eighth, short)
        for bar in range(first, min(first + length, arrangement.num_bars - 1)):
            for step, size, weight in patterns[letter]:
                start = bar * BAR + step
                if arrangement.allows(start, 0.06, weight) or (arrangement.at(start) > STILL and weight < 0.1):
                    sparse = arrangement.at(start) < 0.3 and manner != "stabs"
                    write(start, start + (2 * size if sparse else size), arrangement.chord_at(start))


def _harmony_pattern(r: Random, manner: str, eighth: int, short: int) -> list[tuple[int, int, float]]:
    """Draw a bar's chords: (step, length, energy that the chord needs)."""
    if manner == "halves":
        return [(0, 24, 0.05), (24, 24, 0.18)]
    if manner == "beats":
        return [(12 * b, r.choice((8, 11)), metrical_weight(12 * b)) for b in range(4)]
    if manner == "pulse8":
        return [(12 * b + s, 5, metrical_weight(12 * b + s) * 0.9) for b in range(4) for s in (0, eighth)]
    if manner == "tremble":
        return [(3 * i, 3, metrical_weight(3 * i) * 0.8) for i in range(16)]
    if manner == "pump":  # off the beat, like chords ducked by the kick
        late = r.choice((3, 3, 6))
        return [(12 * b + late, 12 - late, 0.15 + 0.1 * (b % 2)) for b in range(4)]
    if manner == "stabs":
        if r.random() < 0.5:
            return [(12 * b + eighth, short, 0.2 + 0.08 * (b % 2)) for b in range(4)]
        stabs: tuple[int, ...] = r.choice(((0, 18, 30), (0, 9, 18), (12, 36), (0, 18), (6, 18, 36), (0, 9, 24, 33)))
        return [(s, short, 0.15 + 0.5 * metrical_weight(s)) for s in stabs]
    comps: tuple[tuple[int, ...], ...] = {  # "comp": a few syncopated chords, some held
        6: ((0, 18), (0, 30), (0, 18, 36), (6, 30), (0, 42), (10, 34), (0, 22)),
        8: ((0, 20), (8, 32), (20, 36), (0, 20, 44), (12, 36), (8, 36), (0, 32)),
    }[8 if eighth == 8 else 6]
    chosen = r.choice(comps)
    return [(s, r.choice((short, 10, 18)), 0.08 + 0.45 * metrical_weight(s)) for s in chosen]


# --- bass ---------------------------------------------------------------------------------------------------------


def write_bass(arrangement: Arrangement, manner: str) -> None:
    """Write the bass for the body of the piece."""
    if manner == "none":
        return
    r = arrangement.r
    centre = r.choice((33, 36, 38, 40))
    bias = 0.06
    eighth = EIGHTH[arrangement.feel]
    gate = r.choice((0.9, 0.9, 0.6))

    def root(chord: Chord) -> int:
        low = centre - 5
        return low + (chord.pcs[chord.value in arrangement.inverted] - low) % 12

    if manner in ("walking", "two_feel", "chorale"):
        _walk(arrangement, manner, root)
        return
    if manner in ("long", "pedal"):
        home = root(arrangement.chords[0])
        moving = False
        for start, end, chord in chord_spans(arrangement):
            if manner == "pedal" and start % (8 * BAR) == 0:
                moving = start > 0 and r.random() < 0.3
            if arrangement.at(start) > STILL:
                pitch = root(chord) if manner == "long" or moving else home
                arrangement.note("bass", start, end, pitch, arrangement.velocity(start))
                if end - start == BAR and arrangement.allows(start + 36, -0.25):
                    step = start + r.choice((36, 36, 42))
                    arrangement.note(
                        "bass",
                        step,
                        end,
                        r.choice((pitch, pitch + 12, pitch + 7 if 7 + pitch in chord.tones else pitch)),
                        arrangement.velocity(step),
                    )
        return
    patterns: dict[str, list[tuple[int, int, float, int]]] = {}
    for first, length, letter in arrangement.sections:
        if letter not in patterns:
            patterns[letter] = _bass_pattern(r, manner, eighth, gate)
        for bar in range(first, min(first + length, arrangement.num_bars - 1)):
            for step, size, weight, role in patterns[letter]:
                start = bar * BAR + step
                if not arrangement.allows(start, bias, weight):
                    continue
                chord = arrangement.chord_at(start)
                pitch = root(chord)
                if role == 1:
                    pitch += 12
                elif role == 2:
                    fifth = pitch - 5 if pitch - 5 >= 28 else pitch + 7
                    pitch = nearest(chord.tones, fifth)
                elif role == 3 and start + 12 < arrangement.body_steps:  # leads to the next bar's root
                    goal = root(arrangement.chord_at(min((bar + 1) * BAR, arrangement.num_steps - BEAT)))
                    pitch = scale_step(chord, goal, r.choice((-1, 1)))
                longer = arrangement.at(start) < 0.3
                arrangement.note(
                    "bass",
                    start,
                    start + (2 * size if longer else size),
                    fold(pitch, 24, 60),
                    arrangement.velocity(start),
                )


def _bass_pattern(r: Random, manner: str, eighth: int, gate: float) -> list[tuple[int, int, float, int]]:
    """Draw a bar's bass: (step, length, needed energy, role); roles: 0 root, 1 octave, 2 fifth, 3 approach note."""
    if manner == "root_beats":
        return [
            (12 * b, round(12 * gate), metrical_weight(12 * b), 2 if b == 3 and r.random() < 0.4 else 0)
            for b in range(4)
        ]
    if manner == "pulse8":
        return [
            (12 * b + s, max(2, round(6 * gate)), metrical_weight(12 * b + s) * 0.95, 0)
            for b in range(4)
            for s in (0, eighth)
        ]
    if manner == "offbeat":
        extra = [(0, 5, 0.1, 0)] if r.random() < 0.3 else []
        return extra + [(12 * b + 6, round(6 * gate), 0.14 + 0.1 * (b % 2), 0) for b in range(4)]
    if manner == "octave":
        return [
            (12 * b + s, round(6 * gate), metrical_weight(12 * b + s) * 0.9, int(s > 0))
            for b in range(4)
            for s in (0, 6)
        ]
    if manner == "oompah":
        return [(0, 5, 0.05, 0), (24, 5, 0.16, 2), (36, 5, 0.8, 3), (12, 4, 0.85, 0)]
    if manner == "staccato":
        return [(12 * b, 4, metrical_weight(12 * b), (0, 2, 1, 2)[b]) for b in range(4)]
    if manner == "heartbeat":
        return [(0, 4, 0.05, 0), (r.choice((6, 9)), 5, 0.2, 0), (24, 4, 0.3, 0), (30, 5, 0.42, 0)]
    if manner == "ostinato":
        spots: tuple[int, ...] = r.choice(
            ((0, 9, 18, 24, 33, 42), (0, 6, 12, 18, 24, 36), (0, 12, 18, 24, 36, 42), (0, 18, 24, 42))
        )
        return [(s, 5, metrical_weight(s) * 0.9, r.choice((0, 0, 0, 1, 2)) if s else 0) for s in spots]
    spots = r.choice(((0, 18, 30), (0, 9, 24, 42), (0, 18, 24), (0, 30, 36), (0, 10, 30), (0, 18, 36, 42)))  # synco
    return [
        (s, 8, 0.05 if s == 0 else 0.18 + 0.4 * metrical_weight(s), 0 if s == 0 else r.choice((0, 0, 1, 2, 3)))
        for s in spots
    ]


def _walk(arrangement: Arrangement, manner: str, root) -> None:
    """Write a bass line in beats that approaches each new root by step."""
    r = arrangement.r
    skip = EIGHTH[arrangement.feel] if arrangement.feel == "swing8" else 6
    beats = arrangement.body_steps // BEAT
    previous = root(arrangement.chords[0])
    aim = previous
    for beat in range(beats):
        start = beat * BEAT
        chord = arrangement.chords[beat]
        new = beat == 0 or chord is not arrangement.chords[beat - 1] or beat % 4 == 0
        needs = 0.05 if new else (0.2 if manner == "walking" and beat % 2 == 0 else 0.34)
        if manner == "two_feel" and beat % 2 and not new:
            needs = 0.8
        if not arrangement.allows(start, 0.05, needs):
            continue
        following = arrangement.chords[beat + 1] if beat + 1 < beats else arrangement.chords[-1]
        if new:
            pitch = aim if aim % 12 in chord.pcs and beat else root(chord)
        elif following is not chord or beat % 4 == 3:
            goal = root(following)
            aim = min((goal - 12, goal, goal + 12), key=lambda p: abs(p - previous) + 3 * (p < 26) + 3 * (p > 52))
            pitch = scale_step(chord, aim, 1 if previous > aim else -1)
            if arrangement.style.sevenths > 0.9 and r.random() < 0.2:
                pitch = aim + (1 if previous > aim else -1)  # a chromatic step into the next root
        else:
            up = 1 if previous < 36 or (previous < 46 and r.random() < 0.5) else -1
            pitch = scale_step(chord, previous, up) if r.random() < 0.45 else nearest(chord.tones, previous + 4 * up)
        pitch = fold(pitch, 26, 56)
        if new:
            aim = root(following)
        length = BEAT * (2 if arrangement.at(start) < 0.35 and manner != "walking" else 1)
        arrangement.note("bass", start, start + length, pitch, arrangement.velocity(start))
        if manner == "walking" and arrangement.at(start) > 0.7 and r.random() < 0.12:
            arrangement.note("bass", start + skip, start + BEAT, pitch, arrangement.velocity(start + skip))
        previous = pitch


# --- figure -------------------------------------------------------------------------------------------------------

_ORDERS = {
    "alberti": ((0, 2, 1, 2), (0, 2, 1, 2)),
    "arp_up": ((0, 1, 2, 3), (0, 1, 2)),
    "broken": ((0, 1, 2, 1), (0, 2, 1)),
    "arp_updown": ((0, 1, 2, 3, 2, 1), (0, 1, 2, 1)),
    "arp16": ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)),
    "arp_slow": ((0, 1, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2)),
    "bells": ((3, 1, 2, 0), (0, 3, 2, 4), (4, 2, 3, 1)),
}


def write_figure(arrangement: Arrangement, manner: str, articulation: float) -> None:
    """Write the figure (arpeggio, ostinato, riff) for the body of the piece.

    Args:
        arrangement: gets the events.
        manner: playing pattern, see `Style.figure`.
        articulation: articulation, see `Style.articulation`.
    """
    if manner == "none":
        return
    r = arrangement.r
    low = {"bells": 67, "tick": 62, "alberti": 52, "guide": 55}.get(manner, r.choice((52, 55, 57, 60)))
    enters = r.choice((0.07, 0.12, 0.2, 0.3)) if arrangement.profile.follow else 0.0
    bias = r.uniform(-0.05, 0.12)
    doubles = r.random() < 0.6 and manner not in ("guide", "bells", "arp_slow")
    shapes: dict[str, tuple[list[tuple[int, int]], int]] = {}
    for first, length, letter in arrangement.sections:
        if letter not in shapes:
            shapes[letter] = _figure_shape(r, manner, arrangement.feel)
        shape, room = shapes[letter]
        for bar in range(first, min(first + length, arrangement.num_bars - 1)):
            for step, index in shape:
                start = bar * BAR + step
                energy = arrangement.at(start)
                if energy < enters or not arrangement.allows(start, bias):
                    continue
                chord = arrangement.chord_at(start)
                pitch = _figure_pitch(chord, low, index)
                size = max(2, round(room * articulation))
                if energy < 0.4:
                    size *= 2 if energy > 0.2 else 3
                arrangement.note("figure", start, start + size, pitch, arrangement.velocity(start, -0.5))
                if doubles and room == 6 and energy > 0.84:  # eighths become sixteenths at full energy
                    turn = _figure_pitch(chord, low, index + 1 if index < 3 else 0)
                    middle = start + (3 if arrangement.feel != "swing16" else 4)
                    arrangement.note("figure", middle, middle + 2, turn, arrangement.velocity(middle, -0.5))


def _figure_shape(r: Random, manner: str, feel: str) -> tuple[list[tuple[int, int]], int]:
    """Draw a bar's figure: (step, index) pairs, and steps a note; indices are chord tones, around 100 scale steps."""
    parts = SIXTEENTHS[feel]
    eighths = [12 * b + s for b in range(4) for s in (0, EIGHTH[feel])]
    sixteenths = [12 * b + s for b in range(4) for s in parts]
    if manner in ("ostinato8", "ostinato16", "riff8", "tick"):
        steps = sixteenths if manner == "ostinato16" else eighths
        cell = [0] + [r.choice((0, 0, 1, 1, 2, 101, 102, 99, 3)) for _ in range(r.choice((1, 3, 3, 7)))]
        if manner == "tick":
            cell = [0, 0, 0, r.choice((0, 1, 101))]
        keep = [i % 2 == 0 or r.random() < 0.85 for i in range(len(steps))]
        return [(s, cell[i % len(cell)]) for i, s in enumerate(steps) if keep[i]], parts[1] or 3
    if manner == "tremolo":
        pair = r.choice(((0, 1), (0, 2), (0, 0)))
        return [(s, pair[i % 2]) for i, s in enumerate(sixteenths)], 3
    if manner == "stabs":
        return [(12 * b + EIGHTH[feel], r.choice((1, 2))) for b in range(4)], 5
    if manner == "guide":
        return [(0, 1), (24, r.choice((1, 2, 3)))], 24
    order = r.choice(_ORDERS[manner])
    if manner in ("arp_slow", "bells"):
        steps = r.choice(([0, 12, 24, 36], [0, 18, 30], [0, 12, 24], eighths, [0, 24], [6, 18, 30, 42]))
        return [(s, order[i % len(order)]) for i, s in enumerate(steps)], 12
    steps = sixteenths if manner == "arp16" or (manner != "broken" and r.random() < 0.35) else eighths
    return [(s, order[i % len(order)]) for i, s in enumerate(steps)], 3 if steps is sixteenths else 6


def _figure_pitch(chord: Chord, low: int, index: int) -> int:
    first = bisect_left(chord.tones, low)
    if index < 50:
        return chord.tones[min(first + index, len(chord.tones) - 1)]
    return scale_step(chord, chord.tones[first], index - 100)
