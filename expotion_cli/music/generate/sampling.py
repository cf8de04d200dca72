"""From logits to tokens: guidance, top-k, top-p, temperature, and noise that belongs to the cue alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expotion_cli import recipe
from expotion_cli.storage import digest_bytes


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Ranges and defaults are those of the recipe's table `[generate]`.

    Attributes:
        guidance: weight of the text (classifier-free guidance); 1 turns it off.
        visual_guidance: weight of the visual conditioning; 1 turns it off.
        temperature: of the softmax; 0 always takes the likeliest token.
        top_k: number of likeliest tokens to draw among; 0 for all.
        top_p: draw among the likeliest tokens that together reach this probability; 1 for all.

    Raises:
        RecipeError: a value is out of range.
    """

    guidance: float
    visual_guidance: float
    temperature: float
    top_k: int
    top_p: float

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            recipe.check(f"generate.{item.name}", getattr(self, item.name))

    @classmethod
    def of(cls, settings: recipe.Generate) -> Sampling:
        """The sampling that a recipe asks for."""
        return cls(**{item.name: getattr(settings, item.name) for item in dataclasses.fields(cls)})

    def rows(self, has_picture: bool) -> tuple[tuple[bool, bool], ...]:
        """(with text, with picture) of every row a cue needs; the last row is the full condition.

        Args:
            has_picture: the cue has visual conditioning.
        """
        if not has_picture or self.visual_guidance == 1:
            return ((True, has_picture),) if self.guidance == 1 else ((False, has_picture), (True, has_picture))
        if self.guidance == 1:
            return ((True, False), (True, True))
        if self.guidance == self.visual_guidance:
            return ((False, False), (True, True))
        return ((False, False), (True, False), (True, True))


def guide(logits: Tensor, sampling: Sampling) -> Tensor:
    """Combine a cue's rows: each step from less to more condition is amplified by its weight.

    Args:
        logits: [n, ...], in the order of `Sampling.rows`.
        sampling: gives the weights.

    Returns:
        [...].
    """
    if logits.shape[0] == 1:
        return logits[0]
    if logits.shape[0] == 3:
        texted = logits[0] + sampling.guidance * (logits[1] - logits[0])
        return texted + sampling.visual_guidance * (logits[2] - logits[1])
    weight = sampling.guidance if sampling.guidance != 1 else sampling.visual_guidance
    return (logits[1] - logits[0]).mul_(weight).add_(logits[0])


def cue_noise(seed: int, cue_digest: str, num_positions: int, num_codebooks: int) -> np.ndarray:
    """The uniform numbers a cue draws its tokens with.

    They come from a counter-based generator (Philox): the key is the seed and the cue, the counter the position and
    the stream, so no neighbour in a batch, no batch size and no resume can shift them.

    Returns:
        [num_positions, K] float64 in [0, 1).
    """
    key = int.from_bytes(bytes.fromhex(digest_bytes(str(seed).encode(), cue_digest.encode()))[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random((num_positions, num_codebooks))


def draw(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """Draw one token a stream by walking the sorted probabilities up to a uniform number.

    Args:
        logits: [K, V] float32.
        uniform: [K] float64 in [0, 1).
        sampling: top-k, top-p and temperature.

    Returns:
        [K] int64.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    count = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    values, indices = logits.topk(count, dim=-1)
    probabilities = torch.softmax(values.double() / sampling.temperature, dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    if sampling.top_p < 1:
        kept = (cumulative - probabilities) < sampling.top_p
        probabilities = probabilities * kept
        cumulative = probabilities.cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True).clamp_(max=count - 1)
    return indices.gather(-1, place)[:, 0]
