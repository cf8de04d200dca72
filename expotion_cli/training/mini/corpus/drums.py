"""Drums and percussion: a style's patterns, thinned by energy, with fills and crashes."""

from __future__ import annotations

from random import Random

from expotion_cli.training.mini.corpus.arrangement import BAR, BEAT, Arrangement, metrical_weight
from expotion_cli.training.mini.corpus.styles import EIGHTH, SIXTEENTHS

KICK, SNARE, LOW, HIGH, CRASH = 1, 2, 4, 8, 16
CLOSED, OPEN, RIDE, TAMBOURINE, CLAP = 1, 2, 4, 8, 16

Hit = tuple[int, str, int, float, float]
"""(step in the bar, voice, drums as bits, energy that the stroke needs, bias on its velocity)."""


def pattern(r: Random, manner: str, feel: str) -> list[Hit]:
    """Draw one bar of a drum pattern.

    Args:
        r: source of randomness, for optional strokes.
        manner: playing pattern, see `Style.drums`.
        feel: division of the beat.
    """
    eighth = EIGHTH[feel]
    parts = SIXTEENTHS[feel]
    d, p = "drums", "percussion"
    hits: list[Hit] = []

    def often(chance: float) -> bool:
        return r.random() < chance

    if manner == "four":
        hits += [(12 * b, d, KICK, 0.18 if b in (0, 2) else 0.26, 0.6) for b in range(4)]
        hits += [(12 * b, d, SNARE, 0.45, 0.3) for b in (1, 3)]
        if often(0.5):
            hits += [(12 * b, p, CLAP, 0.5, 0.3) for b in (1, 3)]
        hits += [(12 * b + 6, p, OPEN if often(0.7) else CLOSED, 0.38, 0.2) for b in range(4)]
        hits += [(12 * b + s, p, CLOSED, 0.68 if s == 0 else 0.8, -0.7) for b in range(4) for s in (0, 3, 9)]
    elif manner == "breakbeat":
        hits += [(0, d, KICK, 0.1, 0.6), (12, d, SNARE, 0.3, 0.5), (36, d, SNARE, 0.3, 0.5)]
        hits += [(s, d, KICK, 0.5, 0.2) for s in r.choice(((18, 30), (6, 30), (30,), (27, 30)))]
        hits += [(s, d, SNARE, 0.8, -1.2) for s in r.choice(((21, 27), (9, 45), (21,), (45,)))]
        hits += [(12 * b + s, p, CLOSED, 0.4 if s in (0, 6) else 0.75, -0.3) for b in range(4) for s in parts]
    elif manner == "boombap":
        hits += [(0, d, KICK, 0.12, 0.5), (12, d, SNARE, 0.25, 0.5), (36, d, SNARE, 0.25, 0.5)]
        hits += [(s, d, KICK, 0.48, 0.0) for s in r.choice(((18,), (30,), (18, 30), (10, 30), (22, 30), (24, 34)))]
        if often(0.4):
            hits.append((r.choice((22, 34, 46)), d, SNARE, 0.85, -1.5))
        hits += [
            (12 * b + s, p, CLOSED, 0.3 if s in (0, 6) else 0.8, -0.4 if s else 0) for b in range(4) for s in parts
        ]
        if often(0.5):
            hits.append((r.choice((18, 42)), p, OPEN, 0.6, 0.0))
    elif manner == "halftime":
        hits += [(0, d, KICK, 0.08, 0.5), (24, d, SNARE, 0.2, 0.5)]
        hits += [(s, d, KICK, 0.55, 0.0) for s in r.choice(((30,), (18,), (42,), (18, 42), (9, 42)))]
        hits += [(12 * b + s, p, CLOSED, 0.32 if s == 0 else 0.5, -0.3) for b in range(4) for s in (0, eighth)]
        hits += [(12 * r.randrange(4) + s, p, CLOSED, 0.8, -0.6) for s in parts]
    elif manner in ("rock", "claps"):
        hits += [(0, d, KICK, 0.1, 0.6), (24, d, KICK, 0.25, 0.4)]
        hits += [(s, d, KICK, 0.55, 0.2) for s in r.choice(((18,), (30,), (18, 30), (42,), (30, 42), ()))]
        back, voice = (CLAP, p) if manner == "claps" else (SNARE, d)
        hits += [(12, voice, back, 0.25, 0.6), (36, voice, back, 0.25, 0.6)]
        metal = RIDE if often(0.2) else CLOSED
        hits += [
            (12 * b + s, p, metal, 0.35 if s == 0 else 0.48, 0.0 if s == 0 else -0.4)
            for b in range(4)
            for s in (0, eighth)
        ]
        if often(0.5):
            hits += [(12 * b + s, p, TAMBOURINE, 0.75, -0.3) for b in range(4) for s in parts]
        if often(0.6):
            hits += [(12 * b + s, p, metal, 0.86, -0.6) for b in range(4) for s in parts]
    elif manner == "taiko":
        size = 16 if feel == "straight" else 12
        unit = BAR // size
        strokes = r.sample(range(1, size), r.randint(size // 3, (2 * size) // 3))
        hits.append((0, d, KICK | LOW, 0.08, 0.8))
        for s in strokes:
            step = s * unit
            lane = KICK if step % 24 == 0 else (LOW if r.random() < 0.6 else HIGH)
            hits.append((step, d, lane, min(metrical_weight(step) + r.uniform(0, 0.12), 0.95), 0.0))
        if often(0.6):
            hits += [
                (12 * b + s, p, r.choice((TAMBOURINE, CLOSED)), 0.6 if s == 0 else 0.82, -0.4)
                for b in range(4)
                for s in (parts if often(0.5) else (0, eighth))
            ]
    elif manner == "ride":
        hits += [(0, p, RIDE, 0.12, 0.2), (12, p, RIDE | CLOSED, 0.25, 0.3), (24, p, RIDE, 0.2, 0.1)]
        hits += [(36, p, RIDE | CLOSED, 0.28, 0.3), (20, p, RIDE, 0.45, -0.5), (44, p, RIDE, 0.45, -0.5)]
        hits += [(s, d, SNARE, 0.68, -0.9) for s in r.sample((8, 16, 20, 28, 32, 40, 44), r.randint(1, 3))]
        hits += [(s, d, KICK, 0.72, -0.4) for s in r.sample((0, 8, 20, 24, 32, 44), r.randint(1, 2))]
    elif manner == "brushes":
        hits += [(12 * b, p, RIDE if b % 2 == 0 else RIDE | CLOSED, 0.2 + 0.1 * (b % 2), -0.4) for b in range(4)]
        hits += [(s, p, RIDE, 0.5, -0.8) for s in (20, 44)]
        hits += [(12, d, SNARE, 0.4, -0.8), (36, d, SNARE, 0.4, -0.8)]
    elif manner == "light":
        hits += [(12, d, SNARE, 0.4, -0.4), (36, d, SNARE, 0.36, -0.3), (0, d, KICK, 0.3, 0.0)]
        hits += [
            (s, d, SNARE, 0.8, -0.9) for s in r.sample((18, 27, 30, 42, 45) if feel == "straight" else (20, 32, 44), 2)
        ]
        lane = r.choice((TAMBOURINE, CLAP, CLOSED))
        hits += [(12 * b + (eighth if often(0.5) else 0), p, lane, 0.42, -0.2) for b in range(4)]
    elif manner == "pulse":
        first = r.choice((KICK, LOW))
        hits.append((0, d, first, 0.06, 0.3))
        hits += [
            (s, d, first, 0.3 if s % 12 == 0 else 0.4, -0.3) for s in r.choice(((6,), (24,), (24, 30), (9,), (36,)))
        ]
        hits += [(12 * b + s, p, CLOSED, 0.32 if s == 0 else 0.55, -0.6) for b in range(4) for s in (0, eighth)]
        hits += [(s, d, HIGH | LOW, 0.75, 0.2) for s in (36, 42, 45)]
    elif manner == "soft_pulse":
        hits += [(0, d, KICK, 0.12, -0.6), (24, p, TAMBOURINE, 0.3, -0.8)]
        hits += [(12 * b, p, CLOSED, 0.5, -0.9) for b in range(4)]
    return hits


def _fill(arrangement: Arrangement, bar: int, melodic: bool) -> None:
    """Replace the last beat or two of a bar with a fill into the next."""
    r = arrangement.r
    beats = r.choice((1, 1, 2))
    start = bar * BAR + BAR - beats * BEAT
    parts = SIXTEENTHS[arrangement.feel]
    row = arrangement.voices["drums"]
    for step in [s for s in row if start <= s < bar * BAR + BAR]:
        del row[step]
    lanes = (HIGH, HIGH, LOW, LOW) if melodic or r.random() < 0.5 else (SNARE, SNARE, HIGH, LOW)
    total = beats * len(parts)
    for i in range(total):
        if i and r.random() < 0.2:
            continue
        step = start + i // len(parts) * BEAT + parts[i % len(parts)]
        if arrangement.at(step) > 0.35:
            arrangement.hit("drums", step, lanes[min(3, 4 * i // total)], min(2, 1 + (2 * i) // total))


def write_drums(arrangement: Arrangement, manner: str, percussion: bool, drums: bool) -> None:
    """Write both drum voices for the body of the piece: all bars but the last.

    Args:
        arrangement: gets the events.
        manner: playing pattern, see `Style.drums`.
        percussion: write the percussion.
        drums: write the drum kit.
    """
    if manner == "none":
        return
    r = arrangement.r
    patterns: dict[str, tuple[list[Hit], list[Hit]]] = {}
    enters = r.choice((0.1, 0.18, 0.25, 0.32)) if arrangement.profile.follow else 0.0
    late_start = r.choice((0, 0, 0, 0, 2, 4)) * BAR
    bias = r.uniform(-0.08, 0.1)
    crashes = r.random() < 0.8 and manner not in ("brushes", "soft_pulse", "light", "pulse")
    fills = r.choice((0.0, 0.5, 0.8)) if manner not in ("brushes", "soft_pulse", "pulse") else 0.0
    for first, length, letter in arrangement.sections:
        if letter not in patterns:
            patterns[letter] = (pattern(r, manner, arrangement.feel), pattern(r, manner, arrangement.feel))
        usual, other = patterns[letter]
        for bar in range(first, min(first + length, arrangement.num_bars - 1)):
            base = bar * BAR
            if base < late_start:
                continue
            hits = other if (bar - first) % 4 == 3 and r.random() < 0.5 else usual
            for step, voice, lanes, weight, loudness in hits:
                if (voice == "drums" and not drums) or (voice == "percussion" and not percussion):
                    continue
                at = base + step
                if arrangement.at(at) >= enters and arrangement.allows(at, bias, weight):
                    arrangement.hit(voice, at, lanes, arrangement.velocity(at, loudness))
            if drums and (bar - first) % 4 == 3 and arrangement.at(base + 36) > 0.45 and r.random() < fills:
                _fill(arrangement, bar, manner in ("taiko", "halftime"))
        start = first * BAR
        if drums and crashes and start >= late_start and arrangement.at(start) > 0.5:
            arrangement.hit("drums", start, CRASH | KICK, 2)
