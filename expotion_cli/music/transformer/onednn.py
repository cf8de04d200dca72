"""Lays a frozen decoder's matrices out for few rows on a CPU, and finds how many rows round alike.

One step of decoding multiplies a few rows with every matrix of the model. The library's ordinary products rearrange
the matrix anew for each call; packed once, the same products run at the speed at which the weights can be read.

Products of different numbers of rows may still be computed in different orders, and one flipped bit can flip a token.
`row_quantum` finds out, on this machine and for these matrices, to multiples of what number the rows must be padded
so that a row's result doesn't depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from expotion_cli.music.transformer.decoder import MusicDecoder

PACKED_ROWS = 32
"""The layout suits about this many rows best."""
MOST_ROWS = 96
"""Numbers of rows are tried up to here; larger batches are fixed at multiples of it."""
QUANTA = (1, 2, 4, 8, 16, 32)
_TRIED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80)


class PackedLinear(nn.Module):
    """One or more linear layers over the same input as a single product, packed by oneDNN. Not for training.

    Args:
        layers: frozen, on a CPU; their outputs stand side by side.
    """

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), PACKED_ROWS)
        self.bias = layers[0].bias
        self.in_features, self.out_features = weight.shape[1], weight.shape[0]
        self.product = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., sum of the layers' outputs]."""
        return self.product(x, self.packed, self.bias, "none", [], "")

    def gelu(self, x: Tensor) -> Tensor:
        """The product and GELU behind it in one go."""
        return self.product(x, self.packed, self.bias, "gelu", [], "none")


def can_pack(decoder: MusicDecoder) -> bool:
    """Whether the library can pack this decoder's matrices."""
    if decoder.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or decoder.dtype not in (torch.float32, torch.bfloat16):
        return False
    return decoder.dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@torch.inference_mode()
def pack(decoder: MusicDecoder) -> None:
    """Replace the decoder's linear layers by packed ones, in place; those that share an input become one product.

    The decoder computes the same function afterwards, but can't be trained or saved any more. Where the library packs
    nothing (`can_pack`), layers are joined alone; a decoder that is packed already stays as it is.
    """
    if hasattr(decoder, "heads"):
        return
    join = PackedLinear if can_pack(decoder) else _joined
    for layer in decoder.layers:
        own, text = layer.self_attn, layer.encoder_attn
        own.qkv_proj = join([own.q_proj, own.k_proj, own.v_proj])
        del own.q_proj, own.k_proj, own.v_proj
        for attention, name in ((own, "out_proj"), (text, "q_proj"), (text, "out_proj")):
            setattr(attention, name, join([getattr(attention, name)]))
        layer.fc1, layer.fc2 = join([layer.fc1]), join([layer.fc2])
    decoder.heads = join(list(decoder.lm_heads))
    del decoder.lm_heads


def _joined(layers: Sequence[nn.Linear]) -> nn.Linear:
    if len(layers) == 1:
        return layers[0]
    weight = torch.cat([layer.weight for layer in layers])
    whole = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    whole.weight = nn.Parameter(weight, requires_grad=False)
    return whole


@torch.inference_mode()
def row_quantum(decoder: MusicDecoder) -> int:
    """The smallest q such that, padded to a multiple of q, a row's products don't depend on the number of rows.

    Tried on the matrices of one layer and the output heads with random rows, in numbers up to `MOST_ROWS`.

    Returns:
        One of `QUANTA`; `MOST_ROWS` if only a single fixed number of rows is safe.
    """
    layer, dim, ffn = decoder.layers[0], decoder.config.dim, decoder.config.ffn_dim
    generator = torch.Generator().manual_seed(0)
    rows = {
        width: torch.randn(MOST_ROWS, width, generator=generator).to(decoder.device, decoder.dtype)
        for width in {dim, ffn}
    }
    heads = getattr(decoder, "heads", None) or decoder.lm_heads[0]
    first = getattr(layer.self_attn, "qkv_proj", None) or layer.self_attn.q_proj
    differing: set[int] = set()
    for product in (first, layer.self_attn.out_proj, layer.fc1, layer.fc2, heads):
        x = rows[product.in_features]
        whole = product(x)
        for count in _TRIED:
            if count not in differing and not torch.equal(product(x[:count].contiguous()), whole[:count]):
                differing.add(count)
    for quantum in QUANTA:
        if not any(count % quantum == 0 for count in differing):
            return quantum
    return MOST_ROWS
