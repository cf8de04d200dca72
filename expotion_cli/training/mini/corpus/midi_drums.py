"""General-MIDI drum keys and programs as lanes of the two drum voices, and as words for captions."""

from __future__ import annotations

from expotion_cli.training.mini.corpus.drums import (
    CLAP,
    CLOSED,
    CRASH,
    HIGH,
    KICK,
    LOW,
    OPEN,
    RIDE,
    SNARE,
    TAMBOURINE,
)

D, P = "drums", "percussion"
_BY_LANE: dict[tuple[str, int], tuple[int, ...]] = {
    (D, KICK): (35, 36),
    (D, SNARE): (37, 38, 40),
    (D, LOW): (41, 43, 45, 61, 64, 66, 86, 87),
    (D, HIGH): (47, 48, 50, 60, 62, 63, 65),
    (D, CRASH): (49, 52, 55, 57),
    (P, CLOSED): (33, 42, 44),
    (P, OPEN): (46, 71, 72, 78, 79),
    (P, RIDE): (34, 51, 53, 56, 59, 67, 68, 80, 81, 84),
    (P, TAMBOURINE): (29, 30, 54, 69, 70, 73, 74, 82, 83),
    (P, CLAP): (27, 28, 31, 32, 39, 58, 75, 76, 77, 85),
}
LANES: dict[int, tuple[str, int]] = {key: lane for lane, keys in _BY_LANE.items() for key in keys}
"""Drum key → (voice, lane as a bit): itself, or the nearest in character."""
PROGRAM_LANES: dict[int, tuple[str, int]] = {
    47: (D, LOW), 113: (P, RIDE), 115: (P, CLAP), 116: (D, LOW), 117: (D, LOW), 118: (D, HIGH),
}  # fmt: skip
"""Programs that are drums played on keys: timpani, agogo, woodblock, taiko, melodic tom, synth drum."""
UNPITCHED = (*range(119, 128),)
"""Programs that are noises; they are left out."""
BASSES = tuple(range(32, 40))

_NAMES: tuple[tuple[range, str], ...] = (
    (range(4), "piano"), (range(4, 6), "electric piano"), (range(6, 8), "harpsichord"), (range(8, 10), "bells"),
    (range(10, 11), "music box"), (range(11, 12), "vibraphone"), (range(12, 14), "marimba"), (range(14, 15), "bells"),
    (range(15, 16), "dulcimer"), (range(16, 21), "organ"), (range(21, 24), "accordion"),
    (range(24, 26), "acoustic guitar"), (range(26, 29), "electric guitar"), (range(29, 30), "overdriven guitar"),
    (range(30, 31), "distorted guitar"), (range(31, 32), "electric guitar"), (range(32, 33), "acoustic bass"),
    (range(33, 38), "electric bass"), (range(38, 40), "synth bass"), (range(40, 41), "violin"),
    (range(41, 42), "viola"),
    (range(42, 43), "cello"), (range(43, 44), "double basses"), (range(44, 46), "strings"), (range(46, 47), "harp"),
    (range(48, 52), "strings"), (range(52, 55), "choir"), (range(55, 56), "orchestra hits"), (range(56, 57), "trumpet"),
    (range(57, 59), "trombones"), (range(59, 60), "trumpet"), (range(60, 61), "french horn"), (range(61, 64), "brass"),
    (range(64, 68), "saxophone"), (range(68, 70), "oboe"), (range(70, 71), "bassoon"), (range(71, 72), "clarinet"),
    (range(72, 80), "flute"), (range(80, 88), "synth lead"), (range(88, 104), "synth pad"), (range(104, 105), "sitar"),
    (range(105, 109), "plucked strings"), (range(109, 112), "bagpipes"), (range(112, 115), "bells"),
)  # fmt: skip


def instrument(program: int) -> str:
    """A General-MIDI program in the words of captions; "instrument" where there is none."""
    return next((name for programs, name in _NAMES if program in programs), "instrument")
