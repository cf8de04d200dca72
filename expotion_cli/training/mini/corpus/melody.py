"""The melody, made from motives, and the counter-melody that answers it."""

from __future__ import annotations

import math
from random import Random

from expotion_cli.training.mini.corpus.arrangement import BAR, BEAT, Arrangement, metrical_weight
from expotion_cli.training.mini.corpus.backing import chord_spans
from expotion_cli.training.mini.corpus.energy import STILL
from expotion_cli.training.mini.corpus.styles import CELLS, EIGHTH
from expotion_cli.training.mini.corpus.theory import fold, nearest, scale_step

Motive = list[tuple[int, int]]
"""(step in the bar, scale steps from the previous note)."""

_FORMS = ("aabc", "abac", "aaac", "abcc", "abab", "aaba", "abca")
_CONTOURS = {
    "arch": lambda x: math.sin(math.pi * x) - 0.4,
    "rise": lambda x: 1.4 * x - 0.7,
    "fall": lambda x: 0.7 - 1.4 * x,
    "valley": lambda x: 0.4 - math.sin(math.pi * x),
    "wave": lambda x: math.sin(2 * math.pi * x) * 0.8,
}
_LEVEL = {
    "broad": 0.22,
    "sparse": 0.1,
    "riff": 0.6,
    "playful": 0.62,
    "swing": 0.68,
    "lyric": 0.45,
    "classic": 0.58,
    "chorale": 0.36,
}


def _motive(r: Random, feel: str, busy: float, manner: str) -> Motive:
    """Draw a bar of rhythm and its intervals."""
    cells = CELLS[feel]
    steps: list[int] = []
    for beat in range(4):
        if manner == "chorale":
            cell: tuple[int, ...] = (0,) if r.random() < 0.78 else (0, 6)
        else:
            level = min(max(r.gauss(busy, 0.2) + (0.12 if beat == 0 else 0.0), 0.0), 0.999)
            cell = cells[int(level * len(cells))]
        steps += [12 * beat + part for part in cell]
    if not steps:
        steps = [r.choice((0, 0, 12, 24))]
    direction = r.choice((-1, 1))
    motive: Motive = []
    for _ in steps:
        if r.random() < 0.3:
            direction = -direction
        size = r.choices((0, 1, 2, 3, 4, 5), weights=(12, 50, 18, 8, 6, 3 if manner != "playful" else 14))[0]
        motive.append((steps[len(motive)], direction * size))
    return motive


def _vary(r: Random, motive: Motive) -> Motive:
    """Repeat a motive: mostly unchanged, sometimes inverted, thinned or with another ending."""
    way = r.random()
    if way < 0.45:
        return motive
    if way < 0.6:
        return [(step, -move) for step, move in motive]
    if way < 0.8 and len(motive) > 2:
        gone = r.randrange(1, len(motive))
        return [note for i, note in enumerate(motive) if i != gone]
    return [*motive[:-1], (motive[-1][0], r.choice((-2, -1, 1, 2)))]


def write_melody(arrangement: Arrangement, manner: str, busy: float, articulation: float) -> None:
    """Write the melody for the body of the piece: phrases of four bars that end in a rest.

    Args:
        arrangement: gets the events.
        manner: playing pattern, see `Style.melody`.
        busy: 0..1, how many notes it has.
        articulation: articulation, see `Style.articulation`.
    """
    if manner == "none":
        return
    r = arrangement.r
    busy = 0.5 * busy + 0.5 * _LEVEL[manner]
    centre = r.uniform(66, 76)
    span = r.uniform(4, 9)
    themes: dict[str, tuple[dict[str, Motive], str, str]] = {}
    climax = max(arrangement.sections, key=lambda s: s[0] if s[2] != "A" else s[0] * 0.5)[0]
    silent_intro = arrangement.num_bars >= 20 and r.random() < 0.3
    bias = r.uniform(-0.02, 0.12)
    previous, was_chord_tone = nearest(arrangement.chords[0].tones, centre), True
    for first, length, letter in arrangement.sections:
        if letter not in themes:
            motives = {name: _motive(r, arrangement.feel, busy, manner) for name in "abc"}
            themes[letter] = (motives, r.choice(_FORMS), r.choice(tuple(_CONTOURS)))
        motives, form, contour_name = themes[letter]
        if silent_intro and first == 0:
            continue
        if manner == "sparse" and r.random() < 0.15:
            continue
        for four in range(first, first + length, 4):
            contour = _CONTOURS[contour_name]
            lift = 4.0 if first == climax and four == first else r.uniform(-1.5, 1.5)
            last_bar = min(four + 4, first + length, arrangement.num_bars - 1)
            rest_after = last_bar * BAR - r.choice((6, 12, 12, 18, 24)) if manner != "chorale" else last_bar * BAR
            onsets: list[tuple[int, int, bool]] = []
            for bar in range(four, last_bar):
                closing = bar == last_bar - 1
                if closing:
                    motive: Motive = _closing(r, manner, motives["a"])
                else:
                    motive = motives[form[(bar - four) % 4]]
                    if four > first or bar > four:
                        motive = _vary(r, motive)
                onsets += [
                    (bar * BAR + s, move, closing and i == len(motive) - 1) for i, (s, move) in enumerate(motive)
                ]
            placed: list[tuple[int, int, int]] = []
            for start, move, is_last in onsets:
                if not arrangement.allows(start, bias, 0.1 if is_last else None):
                    continue
                chord = arrangement.chord_at(start)
                position = (start - four * BAR) / ((last_bar - four) * BAR)
                target = centre + lift + span * contour(position) + 3 * (arrangement.at(start) - 0.5)
                if not was_chord_tone and abs(move) > 1:
                    move = 1 if move > 0 else -1
                pitch = scale_step(chord, previous, move)
                off = target - pitch
                if abs(off) > 5:
                    pitch = scale_step(chord, pitch, (1 if off > 0 else -1) * (1 if abs(off) < 8 else 3))
                if is_last or metrical_weight(start) < 0.4 or (abs(move) > 1 and r.random() < 0.7):
                    pitch = nearest(chord.tones, pitch + 0.2 * max(min(off, 3), -3))
                    if pitch == previous and not is_last and move and r.random() < 0.65:
                        pitch = nearest(chord.tones, pitch + (4 if off > 0 else -4))
                pitch = fold(pitch, 55, 89)
                was_chord_tone = pitch % 12 in chord.pcs
                placed.append((start, pitch, arrangement.velocity(start, 0.3 if is_last else 0.1)))
                previous = pitch
            _place(arrangement, placed, rest_after, articulation)


def _closing(r: Random, manner: str, motive: Motive) -> Motive:
    """The last bar of a phrase: a few notes that lead to a long one."""
    if manner == "chorale":
        return r.choice(([(0, -1), (12, -1), (24, -1)], [(0, 1), (12, -1), (24, 0)], [(0, -1), (24, -1)]))
    head = [note for note in motive if note[0] < 12][: r.choice((0, 1, 2))]
    return [*head, (r.choice((0, 12, 12, 24)) if head else r.choice((0, 0, 12)), r.choice((-1, -1, 1, 0)))]


def _place(arrangement: Arrangement, placed: list[tuple[int, int, int]], rest_after: int, articulation: float) -> None:
    """Write notes that last up to the next one, with passing notes where the energy is high."""
    r = arrangement.r
    row = arrangement.voices["melody"]
    for i, (start, pitch, velocity) in enumerate(placed):
        following = placed[i + 1][0] if i + 1 < len(placed) else max(rest_after, start + 6)
        room = min(following - start, 60)
        end = start + max(2, round(room * articulation)) if room < 36 or articulation > 0.6 else start + 18
        if i + 1 == len(placed):
            end = start + room
        row[start] = [end, pitch, velocity]
        if i + 1 < len(placed) and 6 < room <= 24:
            middle = start + (room // 2 if arrangement.feel == "straight" or room >= 24 else EIGHTH[arrangement.feel])
            if middle < following and arrangement.at(middle) > 0.72 and r.random() < 0.5:
                chord = arrangement.chord_at(middle)
                gap = placed[i + 1][1] - pitch
                way = (1 if gap > 0 else -1) if gap else r.choice((-1, 1))
                row[start][0] = middle
                row[middle] = [following, scale_step(chord, pitch, way), arrangement.velocity(middle)]


def write_counter(arrangement: Arrangement, manner: str) -> None:
    """Write the counter-melody for the body of the piece."""
    if manner == "none":
        return
    r = arrangement.r
    melody = sorted((start, *event) for start, event in arrangement.voices["melody"].items())
    centre = r.choice((55, 57, 60, 62))
    enters = r.choice((0.1, 0.2, 0.3, 0.4)) if arrangement.profile.follow else 0.0
    previous = nearest(arrangement.chords[0].tones, centre)

    def write(start: int, end: int, pitch: int) -> None:
        arrangement.note("counter", start, end, fold(pitch, 42, 79), arrangement.velocity(start, -0.5))

    if manner == "long" or (manner in ("contrary", "parallel") and not melody):
        for start, end, chord in chord_spans(arrangement):
            if arrangement.at(start) >= enters and arrangement.at(start) > STILL:
                pull = 0.25 * (centre - previous)
                previous = nearest(chord.tones, previous + pull + r.uniform(-2.5, 2.5))
                write(start, end, previous)
                if arrangement.allows(start + 24, -0.45) and end - start == BAR:
                    previous = scale_step(chord, previous, r.choice((-1, 1)))
                    write(start + 24, end, previous)
        return
    if manner in ("contrary", "parallel"):
        last = None
        for start, end, pitch, _ in melody:
            if arrangement.at(start) < enters or (
                metrical_weight(start) > 0.35 and (manner == "contrary" or r.random() < 0.4)
            ):
                last = pitch
                continue
            chord = arrangement.chord_at(start)
            if manner == "parallel":
                own = scale_step(chord, pitch, -2)
                if metrical_weight(start) < 0.2:
                    own = nearest(chord.tones, own)
                own = own if own > 47 else own + 12
            else:
                way = 0 if last is None else (1 if pitch < last else -1 if pitch > last else 0)
                own = nearest(chord.tones, previous + 2.5 * way + 0.2 * (centre - previous))
                end = max(end, start + BEAT)
            write(start, end, own)
            previous, last = own, pitch
        return
    # "answer": short phrases where the melody is silent
    motive = _motive(r, arrangement.feel, 0.5, "riff")
    sounding = [(start, end) for start, end, _, _ in melody]
    index = 0
    for beat in range(arrangement.body_steps // BEAT):
        start = beat * BEAT
        while index + 1 < len(sounding) and sounding[index + 1][0] <= start:
            index += 1
        held_since = start - sounding[index][0] if sounding and sounding[index][0] <= start else BAR
        coming = sounding[index + 1][0] - start if index + 1 < len(sounding) else BAR
        free = held_since >= 12 and coming >= 12
        if not free or arrangement.at(start) < max(enters, 0.1):
            continue
        for step, move in motive:
            if step // BEAT == beat % 4 and arrangement.allows(start + step % BEAT, -0.05):
                at = start + step % BEAT
                chord = arrangement.chord_at(at)
                if abs(previous - centre) > 7:  # turn back to the middle of the range
                    move = max(abs(move), 1) * (1 if previous < centre else -1)
                previous = scale_step(chord, previous, move)
                if metrical_weight(at) < 0.4:
                    previous = nearest(chord.tones, previous)
                write(at, at + EIGHTH[arrangement.feel], previous)
