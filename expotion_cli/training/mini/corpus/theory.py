"""Rules of harmony: scales, chords, progressions and cadences, all on a tonic of C."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from random import Random

from expotion_cli.music.codecs.notes import tokens as notes

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
LOWEST, HIGHEST = 24, 96

# degree: root, quality as a triad, quality with a seventh
_MAJOR_DEGREES = {
    "I": (0, "maj", "maj7"),
    "ii": (2, "min", "min7"),
    "iii": (4, "min", "min7"),
    "IV": (5, "maj", "maj7"),
    "V": (7, "maj", "dom7"),
    "vi": (9, "min", "min7"),
    "viio": (11, "dim", "hdim7"),
    "iv": (5, "min", "min7"),
    "bVII": (10, "maj", "dom7"),
    "V/V": (2, "dom7", "dom7"),
    "V/ii": (9, "dom7", "dom7"),
    "V/vi": (4, "dom7", "dom7"),
    "Vsus": (7, "sus4", "sus4"),
    "Isus": (0, "sus4", "sus4"),
}
_MINOR_DEGREES = {
    "i": (0, "min", "min7"),
    "iio": (2, "dim", "hdim7"),
    "ii": (2, "min", "min7"),
    "III": (3, "maj", "maj7"),
    "iv": (5, "min", "min7"),
    "IV": (5, "maj", "dom7"),
    "v": (7, "min", "min7"),
    "V": (7, "maj", "dom7"),
    "VI": (8, "maj", "maj7"),
    "VII": (10, "maj", "dom7"),
    "bII": (1, "maj", "maj7"),
    "viio": (11, "dim", "dim"),
    "Vsus": (7, "sus4", "sus4"),
    "Isus": (0, "sus4", "sus4"),
}
_DEGREES = {"major": _MAJOR_DEGREES, "minor": _MINOR_DEGREES, "dorian": _MINOR_DEGREES}

# Weights of the chords that follow a chord.
_MOVES: dict[str, dict[str, dict[str, float]]] = {
    "major": {
        "I": {"IV": 3, "V": 3, "vi": 3, "ii": 2, "iii": 1},
        "ii": {"V": 5, "IV": 1, "vi": 0.5, "I": 0.5},
        "iii": {"vi": 3, "IV": 3, "ii": 1},
        "IV": {"V": 3, "I": 2.5, "ii": 1.5, "vi": 1},
        "V": {"I": 4, "vi": 2.5, "IV": 1},
        "vi": {"IV": 3, "ii": 3, "V": 2, "iii": 1, "I": 0.5},
        "viio": {"I": 3, "iii": 1},
        "bVII": {"IV": 3, "I": 2},
        "iv": {"I": 3, "V": 1},
        "V/V": {"V": 1},
        "V/ii": {"ii": 1},
        "V/vi": {"vi": 1},
        "Vsus": {"V": 1},
        "Isus": {"I": 1},
    },
    "minor": {
        "i": {"VI": 3, "iv": 3, "VII": 3, "v": 1, "V": 1, "III": 1.5, "iio": 0.5},
        "iio": {"V": 4, "v": 1},
        "III": {"VI": 3, "VII": 2, "iv": 2, "i": 1},
        "iv": {"V": 1.2, "v": 1, "VII": 2, "i": 2, "VI": 1},
        "v": {"i": 2, "VI": 2, "iv": 1},
        "V": {"i": 4, "VI": 1.5},
        "VI": {"III": 2, "VII": 3, "iv": 2, "i": 1.5, "V": 0.6},
        "VII": {"i": 3, "III": 3, "VI": 1.5},
        "bII": {"V": 1, "i": 1},
        "viio": {"i": 1},
        "Vsus": {"V": 1},
        "Isus": {"i": 1},
    },
    "dorian": {
        "i": {"IV": 4, "VII": 2.5, "ii": 1.5, "v": 1.5, "III": 1},
        "ii": {"v": 1, "i": 2, "VII": 1},
        "III": {"IV": 2, "VII": 2, "i": 1},
        "IV": {"i": 3, "VII": 2, "v": 1, "III": 0.5},
        "v": {"i": 2, "IV": 1.5, "VII": 1},
        "VII": {"i": 3, "IV": 2, "III": 1.5},
        "V": {"i": 1},
        "Vsus": {"v": 1},
        "Isus": {"i": 1},
        "VI": {"VII": 1},
        "iv": {"i": 1},
    },
}
_COLOURS = {
    # rare chords: target → borrowed chord or secondary dominant that may precede it
    "major": {"V": "V/V", "ii": "V/ii", "vi": "V/vi", "I": "iv", "IV": "bVII"},
    "minor": {"V": "bII", "i": "viio"},
    "dorian": {},
}
_CADENCES: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "major": {
        "full": (("V", "I"), ("V", "I"), ("ii", "V", "I"), ("IV", "V", "I"), ("Vsus", "V", "I")),
        "soft": (("IV", "I"), ("iv", "I"), ("bVII", "I"), ("ii", "I"), ("vi", "IV", "I")),
        "half": (("ii", "V"), ("IV", "V"), ("I", "V"), ("vi", "V")),
        "deceptive": (("V", "vi"), ("V", "IV")),
    },
    "minor": {
        "full": (("V", "i"), ("V", "i"), ("iv", "V", "i"), ("iio", "V", "i"), ("VI", "V", "i")),
        "soft": (("VII", "i"), ("iv", "i"), ("VI", "VII", "i"), ("v", "i")),
        "half": (("iv", "V"), ("VI", "V"), ("i", "V"), ("VI", "VII"), ("iv", "v")),
        "deceptive": (("V", "VI"), ("VII", "VI")),
    },
    "dorian": {
        "full": (("VII", "i"), ("v", "i"), ("IV", "v", "i")),
        "soft": (("IV", "i"), ("VII", "i"), ("ii", "i")),
        "half": (("i", "IV"), ("III", "IV"), ("i", "v"), ("IV", "VII")),
        "deceptive": (("v", "IV"), ("VII", "IV")),
    },
}


@dataclass(frozen=True)
class Chord:
    """A chord, with all that the voices need to know about it.

    Attributes:
        root: pitch class.
        quality: a name of `notes.QUALITIES`.
        value: of the chord's events in `notes`.
        pcs: pitch classes, root first.
        tones: chord tones over the whole range, as ascending MIDI pitches.
        scale: scale tones likewise; borrowed tones replace their neighbours.
    """

    root: int
    quality: str
    value: int
    pcs: tuple[int, ...]
    tones: tuple[int, ...]
    scale: tuple[int, ...]


@cache
def make_chord(root: int, quality: str, mode: str) -> Chord:
    """The chord on `root` in the given mode ("major", "minor" or "dorian")."""
    root %= 12
    intervals = notes.QUALITIES[quality]
    pcs = tuple((root + i) % 12 for i in intervals)
    scale = set(SCALES[mode])
    for pc, interval in zip(pcs, intervals, strict=True):
        if pc not in scale:
            scale.add(pc)
            # A major third outside the scale is a raised tone, everything else a lowered one.
            neighbour = (pc - 1) % 12 if interval == 4 else (pc + 1) % 12
            if neighbour not in pcs:
                scale.discard(neighbour)
    return Chord(
        root=root,
        quality=quality,
        value=notes.chord_value(root, quality),
        pcs=pcs,
        tones=tuple(p for p in range(LOWEST, HIGHEST) if p % 12 in pcs),
        scale=tuple(p for p in range(LOWEST, HIGHEST) if p % 12 in scale),
    )


def degree_chord(degree: str, mode: str, seventh: bool) -> Chord:
    """The chord of a scale degree, as a triad or with its seventh."""
    root, triad, four = _DEGREES[mode][degree]
    return make_chord(root, four if seventh else triad, mode)


def tonic(mode: str) -> str:
    """Name of the tonic degree."""
    return "I" if mode == "major" else "i"


def nearest(pitches: tuple[int, ...], pitch: float) -> int:
    """The member of an ascending tuple nearest to `pitch`; the lower one of two equally near."""
    i = bisect_left(pitches, pitch)
    if i == 0:
        return pitches[0]
    if i == len(pitches):
        return pitches[-1]
    return pitches[i] if pitches[i] - pitch < pitch - pitches[i - 1] else pitches[i - 1]


def fold(pitch: int, low: int, high: int) -> int:
    """Move a pitch by octaves to between `low` and `high`, which are at least an octave apart."""
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch


def scale_step(chord: Chord, pitch: int, steps: int) -> int:
    """Move a pitch by steps of the chord's scale; a pitch outside the scale is first rounded down to it."""
    i = bisect_left(chord.scale, pitch)
    if steps > 0 and (i == len(chord.scale) or chord.scale[i] != pitch):
        i -= 1
    return chord.scale[min(max(i + steps, 0), len(chord.scale) - 1)]


def weighted(r: Random, table: dict[str, float]) -> str:
    """Draw a key with probability proportional to its value."""
    point = r.random() * sum(table.values())
    for key, weight in table.items():
        point -= weight
        if point < 0:
            return key
    return key


def walk(r: Random, mode: str, start: str, length: int, colour: float = 0.0) -> list[str]:
    """Draw `length` degrees from `start` on, each a likely successor of the previous one.

    Args:
        r: source of randomness.
        mode: "major", "minor" or "dorian".
        start: first degree.
        length: number of degrees.
        colour: chance of replacing a chord with a borrowed chord or a secondary dominant of the next one.
    """
    moves = _MOVES[mode]
    degrees = [start]
    while len(degrees) < length:
        degrees.append(weighted(r, moves[degrees[-1]]))
    for i in range(1, length - 1):
        borrowed = _COLOURS[mode].get(degrees[i + 1])
        if borrowed and r.random() < colour:
            degrees[i] = borrowed
    return degrees


def loop(r: Random, mode: str, length: int, colour: float = 0.0) -> list[str]:
    """Draw a progression that can be repeated: its last chord leads back to the first, and all neighbours differ.

    Args:
        r: source of randomness.
        mode: "major", "minor" or "dorian".
        length: number of degrees.
        colour: see `walk`.
    """
    home = tonic(mode)
    starts = {home: 4.0, **dict.fromkeys(("vi", "IV") if mode == "major" else ("VI", "iv", "IV"), 1.0)}
    moves = _MOVES[mode]
    start = weighted(r, {d: w for d, w in starts.items() if d in moves})
    if length < 4:
        colour = 0.0  # in a short loop a rare chord would not be rare
    for _ in range(12):
        degrees = walk(r, mode, start, length, colour)
        if start in moves[degrees[-1]] and (home in degrees or r.random() < 0.2):
            return degrees
    return degrees


def phrase(r: Random, mode: str, length: int, cadence: str, start: str | None = None, colour: float = 0.0) -> list[str]:
    """Draw a phrase of chords that ends with a cadence.

    Args:
        r: source of randomness.
        mode: "major", "minor" or "dorian".
        length: number of degrees.
        cadence: "full", "soft", "half" or "deceptive".
        start: first degree; the tonic by default.
        colour: see `walk`.
    """
    cadences = _CADENCES[mode][cadence]
    longest = min(max(length - 1, 2), length)
    ending = [c for c in cadences if len(c) <= longest] or [cadences[0][-1:]]
    tail = list(r.choice(ending))
    body = length - len(tail)
    if body == 0:
        return tail
    head = walk(r, mode, start or tonic(mode), body, colour)
    # A chord that would repeat the cadence's first is replaced by a related one.
    if body > 1 and head[-1] == tail[0]:
        head[-1] = {"V": "ii", "IV": "vi"}.get(tail[0], tonic(mode)) if mode == "major" else tonic(mode)
    return head + tail
