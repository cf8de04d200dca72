"""The recipe's table `[compose]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from expotion_cli import declare, timing
from expotion_cli.keys import AUTO_KEY, parse_key

AUTO_METRE = "auto"
METRES = tuple(timing.METRES)
"""Those that the model of notes can write in."""
MUTES = ("harmony", "drums", "percussion", "bass", "figure", "melody", "counter", "piano", "keyboards", "bells",
         "organ", "guitar", "strings", "choir", "brass", "woodwinds", "synth", "harp")  # fmt: skip
"""What `compose.mute` can leave out: voices of the note codec, then families of instruments."""


def _key() -> Any:
    def check(value: Any) -> str:
        return str(parse_key(value) or AUTO_KEY)

    doc = "tonic, with or without its mode: D, A minor, F# major; auto: what plan or prompt say, else one drawn by seed"
    return declare.custom(AUTO_KEY, check, {"type": "string"}, doc)


def _metre() -> Any:
    def check(value: Any) -> str:
        if value not in (AUTO_METRE, *METRES):
            raise ValueError(f'must be "auto" or a metre that the model has learned: {", ".join(METRES)}')
        return str(value)

    return declare.custom(AUTO_METRE, check, {"enum": [AUTO_METRE, *METRES]}, "auto: what the prompt says, else 4/4")


@dataclass(frozen=True)
class Compose:
    """What is composed, whatever the prompt says. Models of sound take it from words alone."""

    key: str = _key()
    metre: str = _metre()
    mute: tuple[str, ...] = declare.names((), "voices and families of instruments to leave out", MUTES)
    groove: str = declare.text("", "name or path of a drum groove; empty lets the model compose the drums")
    answers: float = declare.number(1.0, 0.0, 1.0, "how strongly notes answer hit points; 0 not at all")
    section_words: bool = declare.flag(
        True, "tell models of sound, in cues longer than a window, which of the plan's sections are calm or energetic"
    )
    loop: bool = declare.flag(False, "the cue repeats without a seam: whole bars, and no fade at its ends")
