"""The delay pattern: some streams run steps behind others, so that at one position the decoder predicts all of them.

Position 0 holds the start token everywhere; token t of a stream with delay d stands at position t + d + 1. What no
token reaches is filled with the start token. In mono stream k is delayed by k steps; in stereo the streams of left and
right alternate and go in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def codebook_delays(num_codebooks: int, channels: int = 1) -> tuple[int, ...]:
    """Steps that each stream runs behind the first."""
    return tuple(k // channels for k in range(num_codebooks))


def num_positions(num_steps: int, delays: Sequence[int]) -> int:
    """Positions that hold `num_steps` steps: one for the start, and the longest delay."""
    return num_steps + 1 + max(delays)


def apply_delay(tokens: Tensor, start_token: int, delays: Sequence[int] | None = None) -> Tensor:
    """Lay tokens out in the delay pattern, mono's by default. [..., K, S] → [..., K, P]."""
    delays = codebook_delays(tokens.shape[-2]) if delays is None else delays
    num_steps = tokens.shape[-1]
    delayed = tokens.new_full((*tokens.shape[:-1], num_positions(num_steps, delays)), start_token)
    for k, delay in enumerate(delays):
        delayed[..., k, delay + 1 : delay + 1 + num_steps] = tokens[..., k, :]
    return delayed


def remove_delay(delayed: Tensor, num_steps: int, delays: Sequence[int] | None = None) -> Tensor:
    """The inverse of `apply_delay`. [..., K, P] → [..., K, S]."""
    delays = codebook_delays(delayed.shape[-2]) if delays is None else delays
    rows = [delayed[..., k, delay + 1 : delay + 1 + num_steps] for k, delay in enumerate(delays)]
    return torch.stack(rows, dim=-2)
