"""Musical keys as users write them: "D", "A minor", "F# major", "Bbm"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

AUTO_KEY = "auto"
PITCHES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
TONICS = ("C", "C#", "Db", "D", "D#", "Eb", "E", "F", "F#", "Gb", "G", "G#", "Ab", "A", "A#", "Bb", "B")
"""Names that messages give; others, such as "E sharp", are understood as well."""
SIGNS = {"": 0, "#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1}
_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_NAMES_IN_MINOR = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
_MODES = {"": None, "major": False, "maj": False, "minor": True, "min": True, "m": True}
_KEY = re.compile(r"([A-G])\s*-?\s*(#|♯|b|♭|sharp|flat)?\s*-?\s*(major|maj|minor|min|m)?", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
        tonic: its pitch class, 0 for C.
        is_minor: its mode; None leaves it open.
    """

    tonic: int
    is_minor: bool | None = None

    def __str__(self) -> str:
        name = tonic_name(self.tonic, self.is_minor)
        return name if self.is_minor is None else f"{name} {mode_name(self.is_minor)}"


def tonic_name(tonic: int, is_minor: bool | None = None) -> str:
    """The name of a tonic, spelt as its key usually is.

    Args:
        tonic: semitones above C, of any octave.
        is_minor: the mode, which decides between names such as Db and C#.
    """
    return (_NAMES_IN_MINOR if is_minor else _NAMES)[tonic % 12]


def mode_name(is_minor: bool) -> str:
    """`minor` or `major`."""
    return "minor" if is_minor else "major"


def parse_key(value: Any) -> Key | None:
    """Read a key: a tonic with or without its mode, semitones above C, or "auto".

    Returns:
        The key; None for "auto".

    Raises:
        ValueError: there is no such key; the known ones are named.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return Key(value % 12)
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == AUTO_KEY:
        return None
    found = _KEY.fullmatch(text)
    if found is None:
        raise ValueError(f'must be "auto", or one of {", ".join(TONICS)}, alone or with major or minor')
    tonic, sign, mode = found[1].upper(), (found[2] or "").lower(), (found[3] or "").lower()
    return Key((PITCHES[tonic] + SIGNS[sign]) % 12, _MODES[mode])
