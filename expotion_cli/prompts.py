"""Prompts: read from a file, and what one states about tempo and key, in figures and in plain words."""

from __future__ import annotations

import re
from pathlib import Path

from expotion_cli import keys
from expotion_cli.errors import UsageError
from expotion_cli.recipe import bounds
from expotion_cli.storage import read_json

_NUMBER = r"\d{2,3}(?:\.\d+)?"
# Not inside a word or a longer number, and not after a minus sign; a hyphen after a word ("lofi-96bpm") is fine.
_START = r"(?<![\w.\N{MINUS SIGN}])(?<!\d[,-])(?<!\W-)(?<!^-)"
_TO = r"\s*(?:-|\N{EN DASH}|to)\s*"
_UNIT = r"(?:b\.?p\.?m\b|beats (?:per|a) min)"
# What ends a number after the word "tempo": a share (20 %), a count (64 bars), a decade (90's) and a metre (12/8) are
# no tempos.
_COUNTED = r"%|per ?cent\b|bars?\b|beats?\b|measures?\b|seconds?\b|minutes?\b"
_END = rf"\b(?!\.?\d)(?!['/\N{{RIGHT SINGLE QUOTATION MARK}}])(?!\s*(?:{_COUNTED}))"
_LINK = r"(?:\s*[:=~]|\s+(?:of|is|at|about|around|from|approximately|roughly|circa|ca\.))*"
_STATED_TEMPO = re.compile(
    rf"{_START}(?P<low>{_NUMBER})(?:{_TO}(?P<high>{_NUMBER}))?[ -]*{_UNIT}"
    rf"|\b(?:bpm|tempo){_LINK}\s*(?P<low_after>{_NUMBER}){_END}(?:{_TO}(?P<high_after>{_NUMBER}){_END})?",
    re.IGNORECASE,
)
_BETWEEN = re.compile(rf"\bbetween ({_NUMBER}) and ({_NUMBER})", re.IGNORECASE)
_UNDENIED = r"(?<!\bnot )(?<!\bnot too )(?<!\bnot so )(?<!\bnot very )(?<!\bnever )"
_TEMPO_WORDS = (
    (re.compile(rf"{_UNDENIED}\b(slow(ly)?|unhurried|downtempo|adagio|largo)\b", re.IGNORECASE), (50.0, 84.0)),
    (re.compile(rf"{_UNDENIED}\b(fast|quick|up-?tempo|presto|allegro)\b", re.IGNORECASE), (124.0, 168.0)),
    (re.compile(r"\b(moderate|medium|mid)[ -]?(tempo|paced?)\b", re.IGNORECASE), (84.0, 124.0)),
)
"""Tempo words as the training captions use them, with the tempos that they stand for there."""


def read_prompts(path: str | Path) -> dict[str, str]:
    """Read prompts of single clips, `{"clip name": "prompt"}`, from a JSON file.

    Raises:
        UsageError: the file can't be read, or is not a table of texts.
    """
    remedy = 'Write {"clip name": "prompt", ...}.'
    found = read_json(path, "the prompts", remedy=remedy)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UsageError("the prompts are not a table of texts.", path=path, remedy=remedy)
    return found


def stated_tempo(prompt: str) -> tuple[float, float] | None:
    """Find the tempo that a prompt states as a number or a range: "120 bpm", "tempo: 96", "80-100 beats a minute".

    Numbers that no recipe accepts as a tempo are skipped; the first of the others counts.

    Returns:
        (lowest, highest) in beats a minute, equal unless the prompt states a range; None if it states no tempo.
    """
    slowest, fastest = bounds("tempo.min")[0], bounds("tempo.max")[1]
    for found in _STATED_TEMPO.finditer(_BETWEEN.sub(r"\1-\2", prompt)):
        stated = [float(text) for text in found.groups() if text is not None]
        if all(slowest <= bpm <= fastest for bpm in stated):
            return min(stated), max(stated)
    return None


def tempo_range(prompt: str, bpm_range: tuple[float, float]) -> tuple[float, float]:
    """The tempos a cue may take: the recipe's range, narrowed or replaced by what the prompt asks for.

    A number ("120 bpm") replaces the range. A word ("slow", "fast", "medium tempo") narrows it to what it shares with
    the word's own range, or replaces it where they share nothing.

    Args:
        prompt: as the user wrote it.
        bpm_range: lowest and highest tempo of the recipe; equal ends fix the tempo, whatever the prompt says.

    Returns:
        (lowest, highest) in beats a minute.
    """
    low, high = bpm_range
    if low == high:
        return bpm_range
    if (stated := stated_tempo(prompt)) is not None:
        return stated
    for words, (slowest, fastest) in _TEMPO_WORDS:
        if words.search(prompt):
            shared = max(low, slowest), min(high, fastest)
            return shared if shared[0] < shared[1] else (slowest, fastest)
    return bpm_range


def stated_key(prompt: str) -> tuple[int, bool] | None:
    """Find the key that a prompt states with its mode, e.g. "F# minor" or "in Am".

    Returns:
        (pitch class of the tonic, 0 for C; whether it is minor), or None.
    """
    found = keys.stated_key(prompt)
    return (found.key.tonic, found.key.is_minor) if found is not None and found.key.is_minor is not None else None
