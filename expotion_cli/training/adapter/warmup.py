"""Warm-up of an adapter: learn to look at the same moment, before learning what to do with what is seen.

The side stream's queries and keys pass through frozen projections, so a fresh table of positions attends to nothing
in particular; trained from the music's loss alone it stays that way for thousands of steps, and the condition is
averaged away. Here the position tables alone are fitted until every head attends to its own moment, some narrowly
and some with a view of the surroundings. It needs no music and takes about a minute.

Then the gates are set a little open, and the training recipe lets them move slowly. At exactly 0 they wander around
it, their signs flip, and the projections, whose gradients carry that sign, never settle on what to say; opened but
free, they shut again before the projections have learned (measured: after 150 and 100 steps four of six were noise).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.decoder import MusicDecoder

NARROW_STEPS, WIDE_STEPS = 1.5, 12.0
SINUSOID_SCALE = 2.0
CONDITION_SCALE = 1.0
GATE_START = 0.2


def look_at_the_moment(
    adapter: JointEmbeddingAdapter,
    decoder: MusicDecoder,
    condition_of: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float = 0.03,
    is_quiet: bool = False,
) -> float:
    """Initialise an adapter's projections, fit its position tables and open its gates a little.

    Args:
        adapter: fresh; changed in place.
        decoder: frozen.
        condition_of: conditions [R, T_c, D] for a step of the warm-up; few rows suffice.
        steps: of Adam.
        learning_rate: falls linearly to a tenth.
        is_quiet: no progress bar.

    Returns:
        The last loss: cross-entropy in nats between the heads' attention and their targets.
    """
    nn.init.normal_(adapter.ld_proj.weight, std=adapter.config.input_dim**-0.5)
    for merge in adapter.merge_linear:
        nn.init.normal_(merge.weight, std=CONDITION_SCALE * adapter.config.rank**-0.5)
    adapter.pos_emb.data *= SINUSOID_SCALE
    target = _target(adapter.config.window_steps + 1, decoder.config.num_heads, decoder.device)
    optimizer = torch.optim.Adam([adapter.pos_emb], lr=learning_rate)
    loss = torch.tensor(torch.nan)
    for step in tqdm(range(steps), desc="look at the moment", mininterval=10, disable=is_quiet):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - 0.9 * step / steps)
        side = adapter.side_stream(decoder, condition_of(step).detach())
        losses = []
        for query, key in zip(side.queries, side.keys, strict=True):
            scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            losses.append(-(target * F.log_softmax(scores.float(), dim=-1)).sum(dim=-1).mean())
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    adapter.zero_grad(set_to_none=True)
    adapter.gates.data.fill_(GATE_START)
    return loss.item()


def _target(length: int, num_heads: int, device: torch.device) -> Tensor:
    """[H, length, length]: where each head should look; two thirds of the heads narrowly."""
    time = torch.arange(length, device=device, dtype=torch.float32)
    distance = time[:, None] - time[None]
    wide = max(1, num_heads // 3)
    widths = torch.full((num_heads,), NARROW_STEPS, device=device)
    widths[num_heads - wide :] = torch.logspace(0.5, 1.0, wide, base=WIDE_STEPS, device=device)
    return torch.softmax(-0.5 * (distance / widths[:, None, None]) ** 2, dim=-1)
