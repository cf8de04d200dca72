"""Prompts: read from a file, and what one states in figures and plain words: tempo and key."""

from __future__ import annotations

import json
import re
from pathlib import Path

from expotion_cli.errors import UsageError, reading

_TEMPO = re.compile(r"(?<![\d.-])(\d{2,3}(?:\.\d+)?)\s*(?:bpm\b|beats (?:per|a) minute)", re.IGNORECASE)
_TEMPO_AFTER = re.compile(
    r"\btempo (?:of |is |= ?)?(?:about |around )?(\d{2,3}(?:\.\d+)?)(?![\d.]*\s*%)", re.IGNORECASE
)
# The tonic in capitals: "a minor role" and "a major chord" are no keys.
_KEY = re.compile(r"(?<![A-Za-z])([A-G])(#|♯|b|♭|[ -](?:[Ss]harp|[Ff]lat))?[ -]?([Mm]ajor|[Mm]inor|maj\b|min\b)")
_PITCH = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def read_prompts(path: str | Path) -> dict[str, str]:
    """Read prompts of single clips, `{"clip name": "prompt"}`, from a JSON file.

    Raises:
        UsageError: the file can't be read, or is not a table of texts.
    """
    remedy = 'Write {"clip name": "prompt", ...}.'
    with reading(path, "the prompts", error=UsageError, remedy=remedy):
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UsageError("the prompts are not a table of texts.", path=path, remedy=remedy)
    return found


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


_STATED = re.compile(
    r"(\d{2,3}(?:\.\d+)?)[ -]*bpm\b|\b(?:bpm|tempo)(?: of| is)?[ :=]*(\d{2,3}(?:\.\d+)?)\b", re.IGNORECASE
)
_PLAUSIBLE_BPM = (20.0, 300.0)
_TEMPO_WORDS = (
    (re.compile(r"\b(slow(ly)?|unhurried|downtempo|adagio|largo)\b", re.IGNORECASE), (50.0, 84.0)),
    (re.compile(r"\b(fast|quick|up-?tempo|presto|allegro)\b", re.IGNORECASE), (124.0, 168.0)),
    (re.compile(r"\b(moderate|medium|mid)[ -]?(tempo|paced?)\b", re.IGNORECASE), (84.0, 124.0)),
)
"""The words of the training captions and their kin, with the tempos they were used for."""


def asked_tempo(prompt: str, bpm_range: tuple[float, float]) -> tuple[float, float]:
    """The tempo range of a cue whose prompt may ask for a tempo.

    A number ("120 bpm", "tempo 96") leaves that tempo alone. A word ("slow", "fast", "medium tempo") narrows the range
    to what it shares with the word's, or replaces it where they share nothing.

    Args:
        prompt: as the user wrote it.
        bpm_range: the recipe's lowest and highest tempo; equal ends are a tempo that was fixed, and stay.
    """
    low, high = bpm_range
    if low == high:
        return bpm_range
    for found in _STATED.finditer(prompt):
        bpm = float(found[1] or found[2])
        if _PLAUSIBLE_BPM[0] <= bpm <= _PLAUSIBLE_BPM[1]:
            return bpm, bpm
    for words, (slowest, fastest) in _TEMPO_WORDS:
        if words.search(prompt):
            shared = max(low, slowest), min(high, fastest)
            return shared if shared[0] < shared[1] else (slowest, fastest)
    return bpm_range
