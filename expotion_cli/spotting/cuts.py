"""Cuts between shots, as the encoders' decoding pass found them (`vision/cuts.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from expotion_cli.spotting.activity import SeenStream
from expotion_cli.vision.cuts import CUTS, from_rows


@dataclass(frozen=True)
class Cut:
    """A change of shot.

    Attributes:
        time_s: on the picture's clock: of the first frame of the new shot; of a dissolve or fade, its middle.
        kind: from one frame to the next, or little by little (fades through black or white among them).
        strength: share of the picture that is new, 0..1.
    """

    time_s: float
    kind: Literal["hard", "dissolve"]
    strength: float


def find_cuts(streams: Mapping[str, SeenStream]) -> tuple[Cut, ...]:
    """All cuts, sorted by time; none where the picture was not looked at.

    Args:
        streams: by name; only `cuts` is read.
    """
    stream = streams.get(CUTS)
    if stream is None:
        return ()
    changes = from_rows(stream.values, stream.rate_hz)
    return tuple(Cut(c.time_s, "hard" if c.is_hard else "dissolve", round(c.strength, 3)) for c in changes)
