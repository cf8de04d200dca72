"""The loss that all models are trained on."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""Target of positions that the delay pattern leaves empty, or that lie beyond a clip's end."""


def token_loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of tokens over the valid delayed positions (EXPOTION, section 3; MusicGen, section 2.1).

    Args:
        logits: [B, K, P, V], any float type; taken as float32.
        targets: [B, K, P] int64, `IGNORED` where no loss is taken.
        reduction: "mean" over the valid positions, their "sum", or "none".

    Returns:
        Nats: a scalar, or for "none" [B * K * P], 0 where no loss is taken.
    """
    return F.cross_entropy(logits.float().flatten(0, 2), targets.flatten(), ignore_index=IGNORED, reduction=reduction)
