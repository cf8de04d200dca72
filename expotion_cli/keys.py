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


MODES: dict[str, bool] = {
    "major": False, "maj": False, "ionian": False, "lydian": False, "mixolydian": False,
    "minor": True, "min": True, "aeolian": True, "dorian": True, "phrygian": True, "locrian": True,
}  # fmt: skip
"""Modes that a prompt can name, and whether the mode nearest to each that the model has learned is minor."""
LEARNED_MODES = ("major", "maj", "ionian", "minor", "min", "aeolian")
_LETTER = r"(?<![\w#♯♭])(?P<tonic>[A-Ga-g])(?P<sign>#|♯|b(?![a-z])|♭|[ -](?:sharp|flat)\b)?"
_NAMED_MODE = re.compile(
    rf"{_LETTER}[ -]?(?:(?:harmonic|melodic|natural) )?(?P<mode>{'|'.join(MODES)})\b", re.IGNORECASE
)
_SHORT_MINOR = re.compile(r"(?<![\w#♯♭])(?P<tonic>[A-G])(?P<sign>#|♯|b|♭)?m(?:in)?(?![\w'])")
_TONIC_ALONE = re.compile(
    r"\b(?P<lead>key of|key:|key is|in)\s(?P<tonic>[A-G])(?P<sign>#|♯|b(?![a-z])|♭|[ -](?:sharp|flat)\b)?"
    r"(?=[\s]*(?:$|[,.;:!?)\n]|(?:at|with|and|for)\b))"
)
_ENDS = re.compile(r"\s*(?:$|[,.;:!?)\n])")
_GOES_ON = re.compile(r"\s*(?:$|[,.;:!?)\n]|(?:with|and|at|for|in|waltz)\b)")
_AFTER_IN = re.compile(r"(?:\bin|\bof|\bkey:?)\s$", re.IGNORECASE)
_BEGINS = re.compile(r"(?:^|[.!?:;\n])\s*$")
_BOUND = re.compile(r"(?:^|[,.;:!?(\n])\s*$")


@dataclass(frozen=True)
class StatedKey:
    """A key as a text states it.

    Attributes:
        key: the tonic, and the mode if it is named.
        mode: the mode's name, e.g. "dorian"; empty if there is none.
        span: (first, past the last) character.
    """

    key: Key
    mode: str
    span: tuple[int, int]


def stated_key(text: str) -> StatedKey | None:
    """Find the key that a text states: "in A minor", "Eb major", "D dorian", "in F#m", "key of D".

    "A minor role" and "a major chord" are no keys.
    """
    for pattern in (_NAMED_MODE, _SHORT_MINOR, _TONIC_ALONE):
        for found in pattern.finditer(text):
            if not _is_key(found, pattern, text):
                continue
            sign = (found["sign"] or "").strip(" -").lower()
            tonic = (PITCHES[found["tonic"].upper()] + SIGNS[sign]) % 12
            mode = found["mode"].lower() if pattern is _NAMED_MODE else "minor" if pattern is _SHORT_MINOR else ""
            return StatedKey(Key(tonic, MODES.get(mode)), mode, found.span())
    return None


def _is_key(found: re.Match[str], pattern: re.Pattern[str], text: str) -> bool:
    before, after = text[max(0, found.start() - 12) : found.start()], text[found.end() : found.end() + 12]
    if pattern is _TONIC_ALONE or found["sign"]:
        return True
    if pattern is _SHORT_MINOR:
        return bool(_AFTER_IN.search(before) or (_BOUND.search(before) and _ENDS.match(after)))
    if found["tonic"] == "a":
        return bool(_AFTER_IN.search(before) and _ENDS.match(after))
    if found["tonic"] == "A" and _BEGINS.search(before):
        return bool(_GOES_ON.match(after))
    return True
