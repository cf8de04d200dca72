"""Begins an adapter as one that is trained already."""

from __future__ import annotations

import torch

from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter


@torch.no_grad()
def continue_adapter(adapter: JointEmbeddingAdapter, known: JointEmbeddingAdapter) -> None:
    """Begin an adapter as another one of the same sizes; what it reads for the first time gets random weights.

    Args:
        adapter: new; changed in place.
        known: trained.
    """
    torch.nn.init.normal_(adapter.ld_proj.weight, std=adapter.config.input_dim**-0.5)
    columns = {key: i for i, key in enumerate(_dims(known))}
    for i, key in enumerate(_dims(adapter)):
        if key in columns:
            adapter.ld_proj.weight[:, i] = known.ld_proj.weight[:, columns[key]]
    adapter.pos_emb.copy_(known.pos_emb)
    adapter.gates.copy_(known.gates)
    for own, other in zip(adapter.merge_linear, known.merge_linear, strict=True):
        own.load_state_dict(other.state_dict())
    for spec in adapter.config.streams:
        if spec in known.config.streams:
            adapter.missing[spec.name].copy_(known.missing[spec.name])


def _dims(adapter: JointEmbeddingAdapter) -> list[tuple[str, str]]:
    return [(spec.name, dim) for spec in adapter.config.streams for dim in spec.dims]
