"""The delay pattern: codebooks lag behind one another, so that one position predicts a token of each.

In EnCodec a codebook refines the ones before it. With codebook k shifted by k steps, the decoder has already seen the
coarser tokens of a step when it predicts the finer ones, and still needs only one position per step (MusicGen, arXiv
2306.05284, section 2.2). In stereo the codebooks of left and right alternate and are shifted in pairs.

Position 0 holds the start token in every codebook; token t of a codebook with delay n is at position t + n + 1. Gaps
are filled with the start token. For K = 3 and four steps a, b, c, d (. is the start token):

    position    0  1  2  3  4  5  6
    codebook 0  .  a0 b0 c0 d0 .  .
    codebook 1  .  .  a1 b1 c1 d1 .
    codebook 2  .  .  .  a2 b2 c2 d2
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def codebook_delays(num_codebooks: int, channels: int = 1) -> tuple[int, ...]:
    """Steps by which each codebook lags behind the first."""
    return tuple(k // channels for k in range(num_codebooks))


def num_positions(num_steps: int, delays: Sequence[int]) -> int:
    """Positions P that hold `num_steps` steps: one for the start token, and the longest delay at the end."""
    return num_steps + 1 + max(delays)


def apply_delay(tokens: Tensor, start_token: int, delays: Sequence[int] | None = None) -> Tensor:
    """Put tokens into the delay pattern.

    Args:
        tokens: [..., K, S].
        start_token: fills position 0 and the gaps.
        delays: of each codebook; those of mono by default.

    Returns:
        [..., K, P].
    """
    delays = codebook_delays(tokens.shape[-2]) if delays is None else delays
    num_steps = tokens.shape[-1]
    delayed = tokens.new_full((*tokens.shape[:-1], num_positions(num_steps, delays)), start_token)
    for k, delay in enumerate(delays):
        delayed[..., k, delay + 1 : delay + 1 + num_steps] = tokens[..., k, :]
    return delayed


def remove_delay(delayed: Tensor, num_steps: int, delays: Sequence[int] | None = None) -> Tensor:
    """The inverse of `apply_delay`.

    Args:
        delayed: [..., K, P].
        num_steps: S.
        delays: of each codebook; those of mono by default.

    Returns:
        [..., K, S].
    """
    delays = codebook_delays(delayed.shape[-2]) if delays is None else delays
    rows = [delayed[..., k, delay + 1 : delay + 1 + num_steps] for k, delay in enumerate(delays)]
    return torch.stack(rows, dim=-2)
