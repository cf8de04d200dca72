"""Packed matrices compute the same, and rows round alike once they are padded as the check says."""

from __future__ import annotations

import pytest
import torch

from expotion_cli.music.transformer.attention import Passage
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.onednn import MOST_ROWS, can_pack, pack, row_quantum

CONFIG = DecoderConfig(dim=192, num_layers=2, num_heads=6, ffn_dim=768, num_codebooks=3, vocab_size=50, text_dim=20)


def make_decoder(dtype: torch.dtype = torch.float32) -> MusicDecoder:
    torch.manual_seed(0)
    return MusicDecoder(CONFIG).to(dtype).eval().requires_grad_(False)


def logits(decoder: MusicDecoder) -> torch.Tensor:
    torch.manual_seed(1)
    tokens = torch.randint(0, 51, (2, 3, 11))
    states, mask = torch.randn(2, 5, 20), torch.ones(2, 5, dtype=torch.bool)
    passage = Passage(decoder.remember_text(states, mask), cache=decoder.new_cache(2, 11))
    with torch.inference_mode():
        return torch.cat(
            [decoder(tokens[:, :, :4], passage), *(decoder(tokens[:, :, i : i + 1], passage) for i in range(4, 11))], 2
        )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_a_packed_decoder_is_the_same_function(dtype, tolerance):
    decoder = make_decoder(dtype)
    if not can_pack(decoder):
        pytest.skip("the library can't pack here")
    before = logits(decoder).float()
    pack(decoder)
    after = logits(decoder).float()
    assert not hasattr(decoder, "lm_heads") and not hasattr(decoder.layers[0].self_attn, "q_proj")
    assert before.std() > 0.1
    assert (after - before).abs().max() <= tolerance
    pack(decoder)  # again changes nothing
    assert torch.equal(logits(decoder).float(), after)


def test_double_precision_stays_as_it_is():
    decoder = make_decoder(torch.float64)
    pack(decoder)
    assert isinstance(decoder.layers[0].fc1, torch.nn.Linear)


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


def test_a_library_that_rounds_every_number_of_rows_otherwise_leaves_one_fixed_number(monkeypatch):
    decoder = make_decoder()

    class Moody(torch.nn.Module):
        in_features = 192

        def forward(self, x):
            return x * (1 + 1e-6 * len(x))

    decoder.layers[0].self_attn.out_proj = Moody()
    assert row_quantum(decoder) == MOST_ROWS


def test_a_library_that_rounds_odd_numbers_otherwise_asks_for_even_ones():
    decoder = make_decoder(torch.float64)

    class Odd(torch.nn.Module):
        in_features = 192

        def forward(self, x):
            return x * (1 + 1e-9 * (len(x) % 2))

    for attention in (decoder.layers[0].self_attn,):
        attention.out_proj = attention.q_proj = Odd()
    for name in ("fc1", "fc2"):
        odd = Odd()
        odd.in_features = getattr(decoder.layers[0], name).in_features
        setattr(decoder.layers[0], name, odd)
    decoder.lm_heads[0] = Odd()
    assert row_quantum(decoder) == 2
