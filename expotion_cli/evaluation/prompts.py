"""What a prompt states in figures: tempo and key; and whether music keeps to it."""

from __future__ import annotations

import math
import re

TEMPO_TOLERANCE = 0.1
_OCTAVES = (0.25, 0.5, 1.0, 2.0, 4.0)
_TEMPO = re.compile(r"(?<![\d.-])(\d{2,3}(?:\.\d+)?)\s*(?:bpm\b|beats (?:per|a) minute)", re.IGNORECASE)
_TEMPO_AFTER = re.compile(
    r"\btempo (?:of |is |= ?)?(?:about |around )?(\d{2,3}(?:\.\d+)?)(?![\d.]*\s*%)", re.IGNORECASE
)
# The tonic in capitals: "a minor role" and "a major chord" are no keys.
_KEY = re.compile(r"(?<![A-Za-z])([A-G])(#|♯|b|♭|[ -](?:[Ss]harp|[Ff]lat))?[ -]?([Mm]ajor|[Mm]inor|maj\b|min\b)")
_PITCH = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def stated_tempo(prompt: str) -> float | None:
    """The tempo in beats a minute that a prompt states, or None."""
    found = _TEMPO.search(prompt) or _TEMPO_AFTER.search(prompt)
    return float(found[1]) if found and 20 <= float(found[1]) <= 400 else None


def stated_key(prompt: str) -> tuple[int, bool] | None:
    """(pitch class of the tonic, whether minor) that a prompt states, or None. "A minor role" at a beginning is one."""
    found = _KEY.search(prompt)
    if not found:
        return None
    sign = (found[2] or "").strip(" -").lower()
    shift = {"#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1}.get(sign, 0)
    return (_PITCH[found[1]] + shift) % 12, found[3].lower().startswith("min")


def meets_tempo(bpm: float, wanted_bpm: float) -> float:
    """1 if a tempo is the wanted one, or an octave of it, within 10 %; else 0."""
    if not math.isfinite(bpm):
        return 0.0
    return float(any(abs(bpm * octave / wanted_bpm - 1) <= TEMPO_TOLERANCE + 1e-9 for octave in _OCTAVES))
