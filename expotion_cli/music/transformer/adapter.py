"""The joint-embedding adapter of EXPOTION (arXiv 2507.04955, section 3): a frozen decoder that follows the picture.

Embedding streams on the decoder's step grid are concatenated to x, projected to rank r and merged into a *side stream*
o that runs through the frozen model's own layers, without text. With P the projection, M_i and pos_i learned, and o
beginning as pos_0, adapted layer i does:

    n = norm1_i(o) + M_i(P(x)) + pos_{i+1}
    q', k', v' = the layer's own projections of n
    o <- o + out_i(causal attention(q', k', v'))
    o <- o + feed_forward_i(o)

The same layer's self-attention in the music, before its output projection, becomes

    Attn(q, k, v) + g_i * Attn(q + q'_t, k', v')

where q'_t is the side stream's query at the music's own position, and the second attention is not causal: music may
attend to what the picture is about to do. The gates g_i start at 0, where the decoder is MusicGen exactly. The side
stream does not depend on the music, so it is computed once a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from expotion_cli.music.identity import LARGEST_WIDTH
from expotion_cli.music.transformer.attention import GuidanceRows, attend, sinusoidal_positions, unfold_rows
from expotion_cli.music.transformer.config import LARGEST_DEPTH, LARGEST_SIZE
from expotion_cli.music.transformer.decoder import MusicDecoder

MOST = 1 << 29
"""Elements of the table of positions."""


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
        """A stream of all of a network's embedding, whose dimensions have no names of their own."""
        if not 0 < width <= LARGEST_WIDTH:
            raise ValueError(f"a width of {width} for {name}, expected 1 to {LARGEST_WIDTH}")
        return StreamSpec(name, tuple(map(str, range(width))))

    @property
    def is_numbered(self) -> bool:
        """Whether its dimensions are numbers, that is, read by position."""
        return self.dims == tuple(map(str, range(len(self.dims))))


@dataclass(frozen=True)
class AdapterConfig:
    """Sizes of an adapter.

    Attributes:
        dim: the decoder's width d.
        num_layers: adapted layers N, the decoder's last ones.
        rank: width r of the projected condition.
        window_steps: steps of the condition; its tables have one row more, for the start token.
        streams: the streams it reads, in the order of their concatenation.
    """

    dim: int
    num_layers: int
    rank: int
    window_steps: int
    streams: tuple[StreamSpec, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        # Checked before anything is built: files may state any size.
        layers, numbers = self.num_layers + 1, (self.dim, self.rank, self.window_steps, self.input_dim)
        if layers > LARGEST_DEPTH or max(numbers) > LARGEST_SIZE or layers * (self.window_steps + 1) * self.dim > MOST:
            sizes = f"{self.num_layers} layers of width {self.dim}, {self.window_steps} steps, rank {self.rank}"
            raise ValueError(f"sizes that no adapter has ({sizes})")

    @property
    def input_dim(self) -> int:
        """Total width D of the concatenated streams."""
        return sum(len(stream.dims) for stream in self.streams)

    def to_dict(self) -> dict:
        """A JSON-like dict, which `from_dict` reads back. A numbered stream is described by its width."""
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

    `pos_emb` [N + 1, T_c, d], `ld_proj` (P) D → r, `merge_linear.i` (M_i) r → d, `gates` [N], and one learned row per
    stream in `missing`, which replaces the stream where it is masked.

    Args:
        config: sizes.
    """

    def __init__(self, config: AdapterConfig):
        super().__init__()
        self.config = config
        rows = config.window_steps + 1
        table = sinusoidal_positions(0, rows, config.dim, torch.device("cpu"))
        self.pos_emb = nn.Parameter(table.repeat(config.num_layers + 1, 1, 1))
        self.ld_proj = nn.Linear(config.input_dim, config.rank, bias=False)
        self.merge_linear = nn.ModuleList(
            nn.Linear(config.rank, config.dim, bias=False) for _ in range(config.num_layers)
        )
        self.gates = nn.Parameter(torch.zeros(config.num_layers))
        self.missing = nn.ParameterDict({s.name: nn.Parameter(torch.zeros(len(s.dims))) for s in config.streams})

    def join_streams(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Concatenate streams, with the learned row where a mask is False; a stream left out is masked throughout.

        Args:
            values: per stream [C, T_c, D_s].
            masks: per stream [C, T_c] bool.

        Returns:
            x, [C, T_c, D].
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

    def side_stream(self, decoder: MusicDecoder, condition: Tensor) -> SideStream:
        """Run the side stream for a window.

        Args:
            decoder: the frozen decoder.
            condition: x, [C, T_c, D], from `join_streams`; row p belongs to the decoder's position p.

        Returns:
            Queries, keys and values of every adapted layer.
        """
        first = decoder.config.num_layers - self.config.num_layers
        projected = self.ld_proj(condition.to(self.ld_proj.weight.dtype))
        side = self.pos_emb[0].expand(condition.shape[0], -1, -1)
        queries, keys, values = [], [], []
        for i, layer in enumerate(decoder.layers[first:]):
            normed = layer.self_attn_layer_norm(side) + self.merge_linear[i](projected) + self.pos_emb[i + 1]
            q, k, v = layer.self_attn.qkv(normed)
            queries.append(q.contiguous())
            keys.append(k.contiguous())
            values.append(v.contiguous())
            side = side + layer.self_attn.output(F.scaled_dot_product_attention(q, k, v, is_causal=True))
            side = side + layer.feed_forward(side)
        return SideStream(queries, keys, values, self.gates, first)


@dataclass(frozen=True)
class SideStream:
    """The side stream of one window as queries, keys and values, one entry a cue.

    Attributes:
        queries: per adapted layer [C, H, T_c, d/H], read at the music's own position.
        keys: per adapted layer [C, H, T_c, d/H].
        values: per adapted layer [C, H, T_c, d/H].
        gates: [N], one scalar for each adapted layer.
        first_layer: index of the first adapted decoder layer, L - N.
    """

    queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    gates: Tensor
    first_layer: int

    def first(self, count: int) -> SideStream:
        """That of the first `count` cues."""
        return SideStream(
            [layer[:count] for layer in self.queries],
            [layer[:count] for layer in self.keys],
            [layer[:count] for layer in self.values],
            self.gates,
            self.first_layer,
        )


def side_queries(side: SideStream, layer: int, start: int, length: int) -> Tensor:
    """The side stream's queries q'_t at consecutive positions.

    Positions past the condition's end (the delay pattern's tail) take its last row. Layers that are not adapted get
    the queries of the first one that is, which `add_side_attention` ignores.

    Args:
        side: of C cues.
        layer: index of the decoder layer.
        start: the first position.
        length: number of positions T.

    Returns:
        [C, H, T, d/H].
    """
    queries = side.queries[max(0, layer - side.first_layer)]
    bound = queries.shape[2] - 1
    if start + length - 1 <= bound:
        return queries[:, :, start : start + length]
    places = torch.arange(start, start + length, device=queries.device).clamp(max=bound)
    return queries[:, :, places]


def add_side_attention(
    own: Tensor,
    query: Tensor,
    layer: int,
    rows: GuidanceRows,
    sides: Iterable[tuple[SideStream, Tensor, int, int]],
) -> Tensor:
    """Add g_i * Attn(q + q'_t, k', v') to a layer's own self-attention.

    Args:
        own: [C * n, H, T, d/H].
        query: the music's queries q, likewise.
        layer: index of the decoder layer.
        rows: rows n of each cue.
        sides: (side stream, its queries q'_t [C, H, T, d/H], first row of a cue that attends to it, last row plus 1);
            together they cover all rows of a cue, in order.

    Returns:
        [C * n, H, T, d/H].
    """
    terms = []
    for side, side_query, first, last in sides:
        adapted = layer - side.first_layer
        if adapted < 0:
            return own
        moved = query.unflatten(0, (-1, rows.count))[:, first:last] + side_query[:, None]
        attended = attend(moved.transpose(1, 2).flatten(2, 3), side.keys[adapted], side.values[adapted])
        terms.append(side.gates[adapted] * unfold_rows(attended, last - first))
    if not terms:
        return own
    return own + (terms[0] if len(terms) == 1 else torch.cat(terms, dim=1)).reshape(own.shape)
