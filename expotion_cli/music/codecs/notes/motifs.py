"""Rhythms of two bars that a theme is made of; the decoder finds the notes.

A tune is remembered by its rhythm. Left alone, the decoder holds its notes or wanders; a motif that comes back gives
the listener something to recognise.
"""

from __future__ import annotations

import hashlib

from expotion_cli.music.codecs.notes.groove_file import LET_GO, STRUCK, Part
from expotion_cli.timing import METRES, STEPS_PER_BEAT

_CELL = STEPS_PER_BEAT // 4
MOTIFS: dict[str, tuple[tuple[str, ...], ...]] = {
    "4/4": (
        (
            "x-------x-------|x-----x-x-------",
            "x-------x---x-x-|x---x-----------",
            "x---------x-x---|x-----------....",
            "x-----x-x-------|x-------x-------",
        ),
        (
            "x-----x-x---x---|x-------x---....",
            "x---x---x-x-x---|x-----------....",
            "--x-x-x-x---x---|x-------------..",
            "x--x--x-x-------|x--x--x-x---....",
            "....x-x-x---x-x-|x-----------x---",
        ),
        (
            "x-x-x---x-----x-|x---------x-x---",
            "x---x-x-x---x-x-|x-------x-x-x---",
            "x-x-x-x-x---x---|x-x-x---x-------",
            "x--x--x-x-x-x---|x--x--x-x-------",
        ),
    ),
    "3/4": (
        ("x-------x---|x-----------", "x-----------|x-------x---"),
        ("x---x---x---|x-----------", "x-----x-x---|x-------x---", "x-------x-x-|x---x-------"),
        ("x-x-x---x---|x---x-------", "x-----x-x-x-|x-x-x-------"),
    ),
    "6/8": (
        ("x-----------|x-----x-----", "x---------x-|x-----------"),
        ("x---x-x---x-|x-----------", "x-----x-x-x-|x-----------"),
        ("x-x-x-x-----|x---x-x-----", "x-x-x-x-x-x-|x-----x-----"),
    ),
}
"""By metre: calm, middling and lively motifs; `x` struck, `-` held, `.` let go, a character a sixteenth."""


def motif_of(theme: str, metre: str, intensity: float, seed: int) -> Part:
    """The motif of a theme.

    Args:
        theme: its letter.
        metre: one of `timing.METRES`.
        intensity: 0..1, of the section that brings it first.
        seed: of the cue.
    """
    kinds = MOTIFS[metre]
    among = kinds[min(int(intensity * len(kinds)), len(kinds) - 1)]
    drawn = hashlib.sha256(f"motif {seed} {theme}".encode()).digest()
    text = among[int.from_bytes(drawn[:4], "big") % len(among)].replace("|", "")
    marks = tuple((place * _CELL, mark) for place, mark in enumerate(text) if mark in (STRUCK, LET_GO))
    assert len(text) * _CELL == 2 * METRES[metre] * STEPS_PER_BEAT
    return Part(marks, len(text) * _CELL)
