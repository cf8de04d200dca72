"""A finished piece of the corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from expotion_cli.training.mini.corpus.energy import EnergyProfile

LICENCE = "own work, same licence as this package"


@dataclass
class Piece:
    """A piece of music as tokens, and what is known about it.

    Attributes:
        tokens: [8, S] int16, see `music.codecs.notes.tokens`.
        attributes: style, mode, tempo, ..., as `captions.caption` reads them.
        source: "composed", or the score or MIDI file it comes from.
        licence: terms of its use.
        profile: energy and accents it was arranged on; None for scores and MIDI files.
    """

    tokens: np.ndarray
    attributes: dict[str, Any]
    source: str
    licence: str
    profile: EnergyProfile | None = field(default=None)
