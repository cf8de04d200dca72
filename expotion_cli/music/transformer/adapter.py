"""The joint-embedding adapter of EXPOTION (arXiv 2507.04955): a frozen decoder learns to see.

Embedding streams on the decoder's step grid are concatenated, projected to rank r and pushed through a side stream
made of the frozen model's own layers. In each of the last N layers the music's queries, moved by the side stream's,
also attend to the side stream's keys and values, weighed by one scalar gate that starts at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.music.transformer.attention import VisualMemory, positions
from expotion_cli.music.transformer.decoder import MusicDecoder


@dataclass(frozen=True)
class StreamSpec:
    """One embedding stream an adapter was trained on.

    Attributes:
        name: the stream ("face", "pose", ...).
        dims: names of the dimensions it reads, in order.
    """

    name: str
    dims: tuple[str, ...]

    @staticmethod
    def numbered(name: str, width: int) -> StreamSpec:
        """A stream whose dimensions have no meaning of their own: all of a network's embedding, as it comes."""
        return StreamSpec(name, tuple(map(str, range(width))))

    @property
    def is_numbered(self) -> bool:
        """Its dimensions are numbers: it is read by position, as it comes."""
        return self == StreamSpec.numbered(self.name, len(self.dims))


@dataclass(frozen=True)
class AdapterConfig:
    """Sizes of an adapter.

    Attributes:
        dim: the decoder's width d.
        num_layers: adapted layers N, the decoder's last ones.
        rank: r.
        window_steps: steps of the condition; its tables have one row more, for the start token.
        streams: what it reads; they are concatenated in this order.
    """

    dim: int
    num_layers: int
    rank: int
    window_steps: int
    streams: tuple[StreamSpec, ...] = field(default_factory=tuple)

    @property
    def input_dim(self) -> int:
        """Total width D of the concatenated streams."""
        return sum(len(stream.dims) for stream in self.streams)

    def to_dict(self) -> dict:
        """A JSON-like dict; `from_dict` reads it back. Numbered streams are told by their width."""
        streams = [
            {"name": s.name, "width": len(s.dims)} if s.is_numbered else {"name": s.name, "dims": list(s.dims)}
            for s in self.streams
        ]
        return {**asdict(self), "streams": streams}

    @staticmethod
    def from_dict(values: Mapping) -> AdapterConfig:
        """Read `to_dict`'s form; other keys are ignored."""
        streams = tuple(
            StreamSpec.numbered(s["name"], int(s["width"])) if "width" in s else StreamSpec(s["name"], tuple(s["dims"]))
            for s in values["streams"]
        )
        numbers = {name: int(values[name]) for name in ("dim", "num_layers", "rank", "window_steps")}
        return AdapterConfig(**numbers, streams=streams)


class JointEmbeddingAdapter(nn.Module):
    """Trainable parts of the adapter; parameter names follow the authors' released checkpoints.

    `pos_emb` [N + 1, T_c, d], `ld_proj` D → r, `merge_linear.i` r → d, `gates` [N], and one learned row per stream
    in `missing`, which replaces the stream where it was not seen or is dropped.

    Args:
        config: sizes.
    """

    def __init__(self, config: AdapterConfig):
        super().__init__()
        self.config = config
        rows = config.window_steps + 1
        table = positions(0, rows, config.dim, torch.device("cpu"))
        self.pos_emb = nn.Parameter(table.repeat(config.num_layers + 1, 1, 1))
        self.ld_proj = nn.Linear(config.input_dim, config.rank, bias=False)
        self.merge_linear = nn.ModuleList(
            nn.Linear(config.rank, config.dim, bias=False) for _ in range(config.num_layers)
        )
        self.gates = nn.Parameter(torch.zeros(config.num_layers))
        self.missing = nn.ParameterDict({s.name: nn.Parameter(torch.zeros(len(s.dims))) for s in config.streams})

    def join_streams(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Concatenate streams, with the learned row where a mask is False; a stream left out is missing throughout.

        Args:
            values: per stream [R, T_c, D_s].
            masks: per stream [R, T_c] bool.

        Returns:
            [R, T_c, D].
        """
        rows, length = next(iter(masks.values())).shape
        parts = []
        for stream in self.config.streams:
            missing = self.missing[stream.name].expand(rows, length, -1)
            if stream.name in values:
                seen = masks[stream.name][..., None]
                parts.append(torch.where(seen, values[stream.name].to(missing.dtype), missing))
            else:
                parts.append(missing)
        return torch.cat(parts, dim=-1)

    def remember(self, decoder: MusicDecoder, condition: Tensor) -> VisualMemory:
        """Run the side stream once for a window.

        Args:
            decoder: the frozen decoder.
            condition: [R, T_c, D], from `join_streams`; row p stands for the decoder's position p.

        Returns:
            Queries, keys and values of every adapted layer.
        """
        first = decoder.config.num_layers - self.config.num_layers
        projected = self.ld_proj(condition.to(self.ld_proj.weight.dtype))
        side = self.pos_emb[0].expand(condition.shape[0], -1, -1)
        queries, keys, values = [], [], []
        for i, layer in enumerate(decoder.layers[first:]):
            attention = layer.self_attn
            normed = layer.self_attn_layer_norm(side) + self.merge_linear[i](projected) + self.pos_emb[i + 1]
            q, k, v = attention.project(normed)
            queries.append(q.contiguous())
            keys.append(k.contiguous())
            values.append(v.contiguous())
            own = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            side = side + attention.out_proj(attention.join(own))
            side = side + layer.feed_forward(side)
        return VisualMemory(queries, keys, values, self.gates, first)
