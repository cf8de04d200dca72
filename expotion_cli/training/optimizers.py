"""Muon for matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

BETAS = (0.9, 0.98)
"""AdamW's betas here: a shorter memory of squared gradients than PyTorch's default suits short runs."""
_ADAMW_ONLY = ("embed", "lm_heads", "shared", "bias")


def muon_and_adamw(
    modules: Sequence[nn.Module],
    *,
    matrix_lr: float,
    other_lr: float,
    weight_decay: float,
    gate_lr: float | None = None,
    muon: bool = True,
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for hidden matrices; AdamW for embeddings, output heads, norms, biases and gates.

    Args:
        modules: trained together; parameters that need no gradient are left out.
        matrix_lr: learning rate of Muon; its updates are rescaled to AdamW's RMS, so both rates are on one scale.
        other_lr: learning rate of AdamW.
        weight_decay: of Muon; AdamW's is 0.
        gate_lr: learning rate of parameters named "gates"; `other_lr` by default.
        muon: False leaves the matrices to AdamW as well, at `matrix_lr`: PyTorch's Muon works in bf16, which processors
            without it emulate, at a thirtieth of the speed.

    Returns:
        [Muon, AdamW], or AdamW alone.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    gates: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                is_matrix = parameter.ndim == 2 and not any(part in name for part in _ADAMW_ONLY)
                (gates if name == "gates" else matrices if is_matrix else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": others}]
    if gates:
        groups.append({"params": gates, "lr": other_lr if gate_lr is None else gate_lr})
    if not muon:
        groups.append({"params": matrices, "lr": matrix_lr, "weight_decay": weight_decay})
    adamw = torch.optim.AdamW(groups, lr=other_lr, weight_decay=0.0, betas=BETAS, fused=True)
    if not muon:
        return [adamw]
    return [
        torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        adamw,
    ]
