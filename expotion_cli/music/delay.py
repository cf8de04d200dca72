"""The delay pattern: stream k runs k steps behind stream 0, so that at one position the decoder predicts all streams.

Position 0 holds the start token everywhere; token t of stream k stands at position t + k + 1. What no token reaches
is filled with the start token.
"""

from __future__ import annotations

import torch
from torch import Tensor


def num_positions(num_steps: int, num_streams: int) -> int:
    """Positions that hold `num_steps` steps: one for the start, K - 1 for the delay."""
    return num_steps + num_streams


def apply_delay(tokens: Tensor, start_token: int) -> Tensor:
    """Lay tokens out in the delay pattern. [..., K, S] → [..., K, S + K]."""
    num_streams, num_steps = tokens.shape[-2:]
    delayed = tokens.new_full((*tokens.shape[:-1], num_positions(num_steps, num_streams)), start_token)
    for k in range(num_streams):
        delayed[..., k, k + 1 : k + 1 + num_steps] = tokens[..., k, :]
    return delayed


def remove_delay(delayed: Tensor, num_steps: int) -> Tensor:
    """The inverse of `apply_delay`. [..., K, P] → [..., K, S]."""
    num_streams = delayed.shape[-2]
    rows = [delayed[..., k, k + 1 : k + 1 + num_steps] for k in range(num_streams)]
    return torch.stack(rows, dim=-2)
