"""Constrained decoding: tokens that are fixed beforehand, tokens that return, and tokens that may be drawn at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from expotion_cli.storage import digest_bytes

DRAWN = -1
"""In `Constraints.given`: this token is drawn."""
NO_SOURCE = -1
MAX_MASKS = 64
"""Most rows in `Constraints.masks`."""


@dataclass(frozen=True, eq=False)
class Constraints:
    """What is settled about a cue's tokens before they are drawn. The decoder hears all of it.

    Where several apply, a given token counts first, then one that returns, then the mask.

    Attributes:
        given: [K, S] int64: the token at this place, or `DRAWN`.
        source: [K, S] int64: the earlier step whose token in the same row returns here, or `NO_SOURCE`.
        masks: [M, V] bool, M <= `MAX_MASKS`: sets of tokens; the first holds all.
        mask_of: [K, S] int64: the set among which the token is drawn.
    """

    given: np.ndarray
    source: np.ndarray
    masks: np.ndarray
    mask_of: np.ndarray

    def __post_init__(self) -> None:
        steps = np.arange(self.given.shape[1])
        assert self.given.shape == self.source.shape == self.mask_of.shape
        assert len(self.masks) <= MAX_MASKS and self.masks[0].all() and self.masks.any(axis=1).all()
        assert (self.source < steps).all(), "a token can only return after it has been drawn"

    @cached_property
    def digest(self) -> str:
        """sha256 over all of it."""
        parts = [self.given, self.source, self.mask_of]
        numbers = [np.ascontiguousarray(part, np.int32).tobytes() for part in parts]
        return digest_bytes(*numbers, np.packbits(self.masks).tobytes(), str(self.masks.shape).encode())
