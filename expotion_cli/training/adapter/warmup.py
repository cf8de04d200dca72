"""Warm-up of a new adapter: make every step attend to the condition at the same moment before training on music.

The side stream's queries and keys pass through frozen projections (EXPOTION section 3), so new position tables attend
to nothing in particular. Trained on the token loss alone they stay that way for thousands of steps, and the condition
is averaged over the window. The warm-up fits only the position tables, until each head attends around its own step,
most heads narrowly and some more widely. It needs no music and takes about a minute.

Then the gates are opened a little, and recipes give them a small learning rate. Gates that start at exactly 0 wander
around it: their signs flip, and with them the gradients of the projections, which never settle. Gates that are opened
but trained at the full rate close again before the projections have learned (measured: four of six were down to noise
after 100 to 150 steps).
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
"""Standard deviations, in steps, of the attention around a head's own step."""
SINUSOID_SCALE = 2.0
CONDITION_SCALE = 1.0
GATE_START = 0.2
"""Value of all gates after the warm-up."""


def warm_up_adapter(
    adapter: JointEmbeddingAdapter,
    decoder: MusicDecoder,
    condition_fn: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float = 0.03,
    is_quiet: bool = False,
) -> float:
    """Initialise an adapter's projections, fit its position tables, and set its gates to `GATE_START`.

    Args:
        adapter: new; changed in place.
        decoder: frozen.
        condition_fn: returns conditions [R, T_c, D] for a step of the warm-up; one row is enough.
        steps: of Adam.
        learning_rate: falls linearly to a tenth.
        is_quiet: show no progress bar.

    Returns:
        The last loss: cross-entropy in nats between the targets and the heads' attention.
    """
    nn.init.normal_(adapter.ld_proj.weight, std=adapter.config.input_dim**-0.5)
    for merge in adapter.merge_linear.parameters():  # weights without biases
        nn.init.normal_(merge, std=CONDITION_SCALE * adapter.config.rank**-0.5)
    adapter.pos_emb.data *= SINUSOID_SCALE
    target = _target(adapter.config.window_steps + 1, decoder.config.num_heads, decoder.device)
    optimizer = torch.optim.Adam([adapter.pos_emb], lr=learning_rate)
    loss = torch.tensor(torch.nan)
    for step in tqdm(range(steps), desc="warm-up", mininterval=10, disable=is_quiet):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - 0.9 * step / steps)
        side = adapter.side_stream(decoder, condition_fn(step).detach())
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
    """[H, length, length] target attention; two thirds of the heads are narrow, the others increasingly wide."""
    time = torch.arange(length, device=device, dtype=torch.float32)
    distance = time[:, None] - time[None]
    wide = max(1, num_heads // 3)
    widths = torch.full((num_heads,), NARROW_STEPS, device=device)
    widths[num_heads - wide :] = torch.logspace(0.5, 1.0, wide, base=WIDE_STEPS, device=device)
    return torch.softmax(-0.5 * (distance / widths[:, None, None]) ** 2, dim=-1)
