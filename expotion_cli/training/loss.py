"""The token loss of a codebook model: next-token cross-entropy under the delay pattern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from expotion_cli.music.transformer.delay import apply_delay

IGNORE_INDEX = -100
"""Target of positions that count for nothing; PyTorch's default for cross-entropy."""


def next_token_pairs(
    tokens: Tensor, targets: Tensor, start_token: int, delays: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Decoder inputs and the targets one position ahead, both in the delay pattern (MusicGen, section 2.2).

    Args:
        tokens: [B, K, T] int64, what the decoder reads.
        targets: [B, K, T] int64, the same tokens, with `IGNORE_INDEX` where no loss is taken.
        start_token: fills what the delay pattern leaves open in the inputs; its targets are ignored.
        delays: steps by which each codebook is delayed; 0, 1, 2, ... by default.

    Returns:
        (inputs [B, K, P], targets [B, K, P]) with P = T + max(delays).
    """
    inputs = apply_delay(tokens, start_token, delays)[..., :-1]
    return inputs, apply_delay(targets, IGNORE_INDEX, delays)[..., 1:]


def token_loss(logits: Tensor, targets: Tensor, reduction: Literal["mean", "sum", "none"] = "mean") -> Tensor:
    """Cross-entropy in nats over all codebooks, at the positions whose target is not `IGNORE_INDEX`.

    Args:
        logits: [B, K, P, V], of any float type; the loss is computed in float32.
        targets: [B, K, P] int64.
        reduction: as in `torch.nn.functional.cross_entropy`; "none" gives 0 at ignored positions.

    Returns:
        A scalar, or [B * K * P] for "none".
    """
    return F.cross_entropy(
        logits.float().flatten(0, 2), targets.flatten(), ignore_index=IGNORE_INDEX, reduction=reduction
    )
