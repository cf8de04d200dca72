"""Packed matrices compute the same, and rows round alike once they are padded as the check says."""

from __future__ import annotations

import pytest
import torch

from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.onednn import MOST_ROWS, PackedLinear, can_pack, pack, row_quantum

CONFIG = DecoderConfig(dim=192, num_layers=2, num_heads=6, ffn_dim=768, num_codebooks=3, vocab_size=50, text_dim=20)


def make_decoder(dtype: torch.dtype = torch.float32) -> MusicDecoder:
    torch.manual_seed(0)
    return MusicDecoder(CONFIG).to(dtype).eval().requires_grad_(False)


def logits(decoder: MusicDecoder) -> torch.Tensor:
    torch.manual_seed(1)
    tokens = torch.randint(0, 51, (2, 3, 11))
    states, mask = torch.randn(2, 5, 20), torch.ones(2, 5, dtype=torch.bool)
    context = LockstepContext(decoder.encode_text(states, mask), cache=decoder.new_cache(2, 11))
    with torch.inference_mode():
        return torch.cat(
            [decoder(tokens[:, :, :4], context), *(decoder(tokens[:, :, i : i + 1], context) for i in range(4, 11))], 2
        )


has_bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float32, 1e-5),
        pytest.param(torch.bfloat16, 0.06, marks=pytest.mark.skipif(not has_bf16, reason="no bf16 in this processor")),
    ],
)
def test_a_packed_decoder_is_the_same_function(dtype, tolerance):
    decoder = make_decoder(dtype)
    assert can_pack(decoder)
    before = logits(decoder).float()
    pack(decoder)
    after = logits(decoder).float()
    assert isinstance(decoder.layers[0].fc1, PackedLinear) and not hasattr(decoder.layers[0].self_attn, "q_proj")
    assert before.std() > 0.1
    assert (after - before).abs().max() <= tolerance
    pack(decoder)  # again changes nothing
    assert torch.equal(logits(decoder).float(), after)


def test_double_precision_stays_as_it_is():
    decoder = make_decoder(torch.float64)
    before = logits(decoder)
    pack(decoder)
    assert type(decoder.layers[0].fc1) is torch.nn.Linear and decoder.layers[0].fc1.weight.dtype == torch.float64
    assert (logits(decoder) - before).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("packed", [True, False])
def test_rows_padded_to_the_quantum_round_alike_in_every_number(dtype, packed):
    decoder = make_decoder(dtype)
    if packed:
        pack(decoder)
    quantum = row_quantum(decoder)
    assert 1 <= quantum <= MOST_ROWS
    torch.manual_seed(2)
    for product in (decoder.layers[1].fc1, decoder.layers[1].fc2, decoder.layers[1].self_attn.out_proj):
        x = torch.randn(MOST_ROWS, product.in_features).to(dtype)
        with torch.inference_mode():
            whole = product(x)
            for count in range(quantum, MOST_ROWS + 1, quantum):
                assert torch.equal(product(x[MOST_ROWS - count :].contiguous()), whole[MOST_ROWS - count :]), count


class Scaled(torch.nn.Module):
    """A product that rounds according to the number of its rows."""

    def __init__(self, width: int, error_of):
        super().__init__()
        self.width, self.error_of = width, error_of

    def forward(self, x):
        return x[..., : self.width] * (1 + self.error_of(len(x)))


def test_products_that_round_differently_for_every_number_of_rows_leave_one_fixed_number():
    decoder = make_decoder()
    decoder.layers[0].self_attn.out_proj = Scaled(192, lambda rows: 1e-6 * rows)
    assert row_quantum(decoder) == MOST_ROWS


def scale_products(decoder: MusicDecoder, error_of) -> None:
    layer = decoder.layers[0]
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        setattr(layer.self_attn, name, Scaled(192, error_of))
    layer.fc1, layer.fc2 = Scaled(192, error_of), Scaled(192, error_of)
    for k in range(3):
        decoder.lm_heads[k] = Scaled(50, error_of)


def test_products_that_round_odd_numbers_of_rows_differently_ask_for_even_ones():
    decoder = make_decoder(torch.float64)
    scale_products(decoder, lambda rows: 1e-9 * (rows % 2))
    assert row_quantum(decoder) == 2


def test_a_difference_that_only_one_row_of_many_shows_is_found():
    class Rarely(Scaled):
        """Rounds a lone row differently, if it is the one with the largest first value of all."""

        def forward(self, x):
            self.most = max(getattr(self, "most", 0.0), float(x[..., 0].max()))
            return super().forward(x) if len(x) == 1 and float(x[0, 0, 0]) == self.most else x[..., : self.width]

    decoder = make_decoder()
    scale_products(decoder, lambda _: 0)
    assert row_quantum(decoder) == 1
    decoder.layers[0].self_attn.out_proj = Rarely(192, lambda _: 1e-3)
    assert row_quantum(decoder) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_packed_decoder_gives_the_adapter_the_same_side_stream(dtype):
    decoder = make_decoder(dtype)
    config = AdapterConfig(dim=192, num_layers=1, rank=4, window_steps=6, streams=(StreamSpec("pose", ("energy",)),))
    torch.manual_seed(4)
    adapter, condition = JointEmbeddingAdapter(config).to(dtype), torch.randn(1, 7, 1, dtype=dtype)
    with torch.inference_mode():
        before = adapter.side_stream(decoder, condition)
        pack(decoder)
        after = adapter.side_stream(decoder, condition)
    for name in ("queries", "keys", "values"):
        assert (getattr(after, name)[0] - getattr(before, name)[0]).abs().max() <= 1e-5
