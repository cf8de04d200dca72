"""The cue plan: what the picture asks of the music of one clip, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from expotion_cli.timing import Tempo


@dataclass(frozen=True)
class CuePlan:
    """What the music of a clip should do, and when.

    Attributes:
        tempo: of the music, with the place of its beats. Music without a beat grid ignores it.
    """

    tempo: Tempo
