"""A frozen decoder's layers with their matrices fused and packed for few rows on a CPU, behind the same interface.

One step of decoding multiplies a few rows by every matrix of the model. An ordinary product rearranges the matrix anew
on each call; packed once by oneDNN, the same product runs at the speed at which the weights can be read. `pack` swaps
modules, and neither the decoder nor the adapter can tell:

    layer.self_attn      Attention -> FusedSelfAttention    queries, keys and values in one product
    layer.encoder_attn   its q_proj and out_proj -> PackedLinear (MusicGen Melody has no such layer)
    layer.fc1, fc2       -> PackedLinear; GELU is computed within fc1's product, so activation_fn becomes Identity
    decoder.lm_heads     OutputHeads -> FusedHeads          all heads in one product

Products of different numbers of rows may be summed in different orders, and one flipped bit can flip a token.
`row_quantum` finds out, on this machine and for these matrices, to which multiple the number of rows has to be padded
for a row's result not to depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from expotion_cli.music.transformer.attention import Attention, join_heads, split_heads
from expotion_cli.music.transformer.decoder import MusicDecoder

PACKED_ROWS = 32
"""The number of rows that the packed layout is made for."""
MOST_ROWS = 96
"""Numbers of rows are tried up to here; if none is safe, batches are padded to multiples of it."""
QUANTA = (1, 2, 4, 8, 16, 32)
_TRIED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80)

Join = Callable[[Sequence[nn.Linear]], nn.Module]
"""Makes one module of linear layers over the same input; their outputs stand side by side."""


class PackedLinear(nn.Module):
    """One or more linear layers over the same input as a single product, packed by oneDNN. Not for training.

    Args:
        layers: frozen, on a CPU; their outputs stand side by side.
        gelu: apply GELU to the result, within the product.
    """

    def __init__(self, layers: Sequence[nn.Linear], *, gelu: bool = False):
        super().__init__()
        weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), PACKED_ROWS)
        self.bias = layers[0].bias
        self.in_features, self.out_features = weight.shape[1], weight.shape[0]
        self.product = torch.ops.mkldnn._linear_pointwise.default
        # oneDNN's name of what follows the product, its scalars and its algorithm
        self.after: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., sum of the layers' outputs]."""
        return self.product(x, self.packed, self.bias, *self.after)


class FusedSelfAttention(nn.Module):
    """Stands in for `Attention` where it is used for self-attention.

    Args:
        attention: what it replaces.
        join: makes the products.
    """

    def __init__(self, attention: Attention, join: Join):
        super().__init__()
        self.num_heads = attention.num_heads
        self.qkv_proj = join([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out_proj = join([attention.out_proj])

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Attention.qkv`."""
        query, keys, values = (split_heads(part, self.num_heads) for part in self.qkv_proj(x).chunk(3, dim=-1))
        return query, keys, values

    def output(self, attended: Tensor) -> Tensor:
        """See `Attention.output`."""
        return self.out_proj(join_heads(attended))


class FusedHeads(nn.Module):
    """Stands in for `OutputHeads`.

    Args:
        heads: what it replaces.
        join: makes the product.
    """

    def __init__(self, heads: Sequence[nn.Linear], join: Join):
        super().__init__()
        self.num_codebooks = len(heads)
        self.product = join(heads)

    def forward(self, x: Tensor) -> Tensor:
        """[R, T, d] → [R, K, T, V]."""
        return self.product(x).unflatten(2, (self.num_codebooks, -1)).transpose(1, 2)


def can_pack(decoder: MusicDecoder) -> bool:
    """Whether oneDNN can pack this decoder's matrices."""
    if decoder.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or decoder.dtype not in (torch.float32, torch.bfloat16):
        return False
    return decoder.dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@torch.inference_mode()
def pack(decoder: MusicDecoder) -> None:
    """Swap the decoder's layers for fused and packed ones, in place.

    The decoder computes the same function afterwards, but can no longer be trained or saved. Where nothing can be
    packed (`can_pack`), layers are only fused. A decoder that was packed before stays as it is.
    """
    if isinstance(decoder.lm_heads, FusedHeads):
        return
    packs = can_pack(decoder)
    join: Join = PackedLinear if packs else _fused_linear
    for layer in decoder.layers:
        _swap(layer, "self_attn", FusedSelfAttention(layer.self_attn, join))
        if layer.attends_to_text:
            for name in ("q_proj", "out_proj"):  # k_proj and v_proj see the text once a cue, which is not worth packing
                _swap(layer.encoder_attn, name, join([getattr(layer.encoder_attn, name)]))
        if packs:
            _swap(layer, "fc1", PackedLinear([layer.fc1], gelu=True))
            _swap(layer, "activation_fn", nn.Identity())
            _swap(layer, "fc2", PackedLinear([layer.fc2]))
    _swap(decoder, "lm_heads", FusedHeads(cast("list[nn.Linear]", list(decoder.lm_heads)), join))


def _swap(parent: nn.Module, name: str, module: nn.Module) -> None:
    parent.register_module(name, module)


def _fused_linear(layers: Sequence[nn.Linear]) -> nn.Linear:
    if len(layers) == 1:
        return layers[0]
    weight = torch.cat([layer.weight for layer in layers])
    whole = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    whole.weight = nn.Parameter(weight, requires_grad=False)
    return whole


@torch.inference_mode()
def row_quantum(decoder: MusicDecoder) -> int:
    """The smallest q such that, padded to a multiple of q, a row's products don't depend on the number of rows.

    Tried on one layer's products and the output heads with `MOST_ROWS` random rows, each of them in every number: bf16
    rounds most of a difference away, so that a single row seldom shows it.

    Returns:
        One of `QUANTA`; `MOST_ROWS` if only a single fixed number of rows is safe.
    """
    layer, sizes = decoder.layers[0], decoder.config
    products = (
        (sizes.dim, lambda x: torch.cat(layer.self_attn.qkv(x), dim=1)),
        (sizes.dim, layer.self_attn.out_proj),
        (sizes.dim, layer.fc1),
        (sizes.ffn_dim, layer.fc2),
        (sizes.dim, decoder.lm_heads),
    )
    generator = torch.Generator().manual_seed(0)
    rows = {
        width: torch.randn(MOST_ROWS, 1, width, generator=generator).to(decoder.device, decoder.dtype)
        for width in {width for width, _ in products}
    }
    differing: set[int] = set()
    for width, product in products:
        x = rows[width]
        whole = product(x)
        for count in _TRIED:
            if count not in differing and not all(
                torch.equal(product(x[i : i + count].contiguous()), whole[i : i + count])
                for i in range(0, MOST_ROWS - count + 1, count)
            ):
                differing.add(count)
    for quantum in QUANTA:
        if not any(count % quantum == 0 for count in differing):
            return quantum
    return MOST_ROWS
