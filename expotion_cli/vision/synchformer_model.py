"""Synchformer's visual encoder: a divided space-time transformer, and a layer that sums each moment up.

V. Iashin et al., "Synchformer: Efficient Synchronization from Sparse Cues", arXiv 2401.16423; the transformer is
Motionformer's with divided attention (M. Patrick et al., arXiv 2106.05392; G. Bertasius et al., arXiv 2102.05095).
Module names follow the published checkpoints, so that their tensors fit as they are.

Sixteen frames of 224 by 224 become 8 x 14 x 14 tokens (tubes of 2 frames by 16 by 16 points) and one more, the
class token. In each of the 12 blocks a token looks first along time at its own place, then across its own moment; the
class token sees, and is seen by, all. At the end a token of its own gathers the 196 places of every moment, so a
segment gives 8 rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.errors import WeightsError
from expotion_cli.vision import networks

EPSILON = 1e-6
PREFIXES = ("vfeat_extractor.", "module.vfeat_extractor.", "v_encoder.", "module.v_encoder.", "")
"""What the visual encoder's tensors are called in: the whole model, the same trained on many devices, the first
stage's pair of encoders, the same, a file of its own."""
UNUSED = ("patch_embed.", "temp_attn_agg.", "global_attn_agg.", "pre_logits.", "head.")
"""Parts that checkpoints carry along and that play no part here: an embedding of single frames, sums over time."""
_MARK = "patch_embed_3d.proj.weight"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the encoder, as published by default.

    Attributes:
        width: of tokens and rows, D.
        depth: blocks.
        heads: attention heads.
        spread: width of the feed-forward layers in D.
        side: points of a picture's side.
        patch: points of a patch's side.
        frames: in a segment.
        tube: frames in a token.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    spread: int = 4
    side: int = 224
    patch: int = 16
    frames: int = 16
    tube: int = 2

    @property
    def moments(self) -> int:
        """Rows of a segment."""
        return self.frames // self.tube

    @property
    def places(self) -> int:
        """Tokens of a moment."""
        return (self.side // self.patch) ** 2


class VisualEncoder(nn.Module):
    """Segments of frames in, rows out.

    Args:
        sizes: as published by default.
    """

    def __init__(self, sizes: Sizes | None = None):
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + sizes.places, sizes.width))
        self.temp_embed = nn.Parameter(torch.zeros(1, sizes.moments, sizes.width))
        self.patch_embed_3d = _Tubes(sizes)
        self.blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.spatial_attn_agg = Gather(sizes.width, sizes.heads, sizes.spread)

    def forward(self, frames: Tensor) -> Tensor:
        """Rows of some segments.

        Args:
            frames: [B, frames, side, side, 3] uint8, RGB.

        Returns:
            [B, moments, D].
        """
        sizes = self.sizes
        tokens = self.patch_embed_3d(frames.permute(0, 4, 1, 2, 3) / 127.5 - 1)  # [B, moments, places, D]
        tokens = tokens + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([first, tokens.flatten(1, 2)], dim=1)  # [B, 1 + moments * places, D]
        for block in self.blocks:
            tokens = block(tokens)
        moments = self.norm(tokens[:, 1:]).reshape(-1, sizes.places, sizes.width)  # [B * moments, places, D]
        return self.spatial_attn_agg(moments).view(-1, sizes.moments, sizes.width)


class _Tubes(nn.Module):
    """[B, 3, frames, side, side] → [B, moments, places, D]."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        size = (sizes.tube, sizes.patch, sizes.patch)
        self.proj = nn.Conv3d(3, sizes.width, kernel_size=size, stride=size)

    def forward(self, frames: Tensor) -> Tensor:
        return self.proj(frames).flatten(3).permute(0, 2, 3, 1)


class _Block(nn.Module):
    """Along time, across space, then each token by itself."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.attn = _DividedAttention(sizes, along_time=False)
        self.timeattn = _DividedAttention(sizes, along_time=True)
        self.norm2 = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.mlp = _FeedForward(sizes)
        self.norm3 = nn.LayerNorm(sizes.width, eps=EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.timeattn(self.norm3(tokens))
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class _DividedAttention(nn.Module):
    """Every token sees the class token and its own line of time, or its own moment; the class token sees all."""

    def __init__(self, sizes: Sizes, *, along_time: bool):
        super().__init__()
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)
        self._heads, self._grid, self._along_time = sizes.heads, (sizes.moments, sizes.places), along_time

    def forward(self, tokens: Tensor) -> Tensor:
        count, _, width = tokens.shape
        # [3, B, heads, tokens, D / heads]
        parts = self.qkv(tokens).unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        first = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        query, key, value = (self._in_groups(part) for part in parts)
        rest = F.scaled_dot_product_attention(query[:, :, 1:], key, value)
        rest = rest.unflatten(0, (count, -1)).permute(0, 2, 1, 3, 4)  # [B, heads, groups, members, D / heads]
        if self._along_time:
            rest = rest.transpose(2, 3)
        seen = torch.cat([first, rest.flatten(2, 3)], dim=2)
        return self.proj(seen.transpose(1, 2).reshape(count, -1, width))

    def _in_groups(self, part: Tensor) -> Tensor:
        """[B, heads, tokens, d] → [B * groups, heads, 1 + members, d], the class token leading each group."""
        members = part[:, :, 1:].unflatten(2, self._grid)
        if self._along_time:
            members = members.transpose(2, 3)
        leader = part[:, :, None, :1].expand(-1, -1, members.shape[2], -1, -1)
        return torch.cat([leader, members], dim=3).transpose(1, 2).flatten(0, 1)


class _FeedForward(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, sizes.spread * sizes.width)
        self.fc2 = nn.Linear(sizes.spread * sizes.width, sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Gather(nn.Module):
    """[N, members, D] → [N, D]: what a token of its own makes of some others, in one pre-norm transformer layer.

    Only that token's row is wanted, so only that row is computed.

    Args:
        width: of tokens, D.
        heads: attention heads.
        spread: width of the feed-forward layer in D.
    """

    def __init__(self, width: int, heads: int, spread: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.self_attn = nn.MultiheadAttention(width, heads)
        self.linear1 = nn.Linear(width, spread * width)
        self.linear2 = nn.Linear(spread * width, width)
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, members: Tensor) -> Tensor:
        """See the class."""
        own = self.cls_token.expand(len(members), -1, -1)
        seen = self.norm1(torch.cat([own, members], dim=1))
        own = own[:, 0] + self._attend(seen)
        return own + self.linear2(F.gelu(self.linear1(self.norm2(own))))

    def _attend(self, seen: Tensor) -> Tensor:
        """[N, 1 + members, D] → [N, D], what the first sees in all; `self_attn` would also compute the others."""
        attention, width = self.self_attn, seen.shape[2]
        query = F.linear(seen[:, :1], attention.in_proj_weight[:width], attention.in_proj_bias[:width])
        key, value = F.linear(seen, attention.in_proj_weight[width:], attention.in_proj_bias[width:]).chunk(2, dim=2)
        return attention.out_proj(attend(query, key, value, attention.num_heads)[:, 0])


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention in several heads, each over its share of the width.

    Args:
        query: [B, N, D].
        key: [B, M, D].
        value: [B, M, D].
        heads: they divide D.

    Returns:
        [B, N, D], the heads side by side.
    """
    parts = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


def load_encoder(path: str | Path, sizes: Sizes | None = None, *, remedy: str = "") -> VisualEncoder:
    """The visual encoder out of a checkpoint: the whole model's, the first stage's, or its own.

    Args:
        path: a torch file (a dict of tensors, or one with such a dict as "model" or "state_dict") or safetensors.
        sizes: as published by default.
        remedy: what to do where the file is wrong.

    Returns:
        The encoder, frozen, float32 on the CPU. Other parts of the model are not read.

    Raises:
        WeightsError: there is no visual encoder in the file, or not all of it, or one of other sizes.
    """
    path = Path(path)
    prefix, tensors = visual_part(networks.read_tensors(path, remedy), path, remedy)
    with torch.device("meta"):
        encoder = VisualEncoder(sizes)
    networks.fill(encoder, tensors, path, remedy, lambda name: prefix + name)
    return encoder


def visual_part(content: Mapping, path: Path, remedy: str = "") -> tuple[str, dict[str, Tensor]]:
    """The visual encoder's tensors by their own names, and what stands before those names in the file.

    Raises:
        WeightsError: there are none.
    """
    content = unwrapped(content)
    prefix = next((prefix for prefix in PREFIXES if prefix + _MARK in content), None)
    if prefix is None:
        reason = f"There is no visual encoder in this file: no tensor is called {PREFIXES[0]}{_MARK}."
        raise WeightsError(reason, path=path, remedy=remedy)
    found = {str(name)[len(prefix) :]: value for name, value in content.items() if str(name).startswith(prefix)}
    return prefix, {name: value for name, value in found.items() if not name.startswith(UNUSED)}


def unwrapped(content: Mapping) -> Mapping:
    """The tensors by name, out of what a file holds: a dict of them, or one with such a dict as an entry."""
    inner = (content[name] for name in ("model", "state_dict") if isinstance(content.get(name), dict))
    return next(inner, content)
