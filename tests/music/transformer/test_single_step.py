"""One position of flat rows is, to the bit, what the decoder's layers make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.attention import GuidanceRows
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.onednn import pack
from expotion_cli.music.transformer.prefix import NO_PITCH, encode_prefix
from expotion_cli.music.transformer.single_step import SingleStep, StepContext

CONFIG = DecoderConfig(dim=64, num_layers=3, num_heads=2, ffn_dim=128, num_codebooks=4, vocab_size=50, text_dim=20)
CUES, KNOWN, LENGTH = 3, 4, 12
DTYPES = [torch.float32, torch.bfloat16, torch.float64]  # the last can't be packed
ROWS = [
    GuidanceRows(1, 0, 0),
    GuidanceRows(2, 1, 0),
    GuidanceRows(2, 0, 1),
    GuidanceRows(3, 1, 2),
]


def make_decoder(config: DecoderConfig, dtype: torch.dtype) -> MusicDecoder:
    torch.manual_seed(0)
    decoder = MusicDecoder(config).to(dtype).eval().requires_grad_(False)
    pack(decoder)
    return decoder


def side_streams(decoder: MusicDecoder, rows: GuidanceRows) -> dict:
    """Of the picture and of no picture, for the last two layers."""
    torch.manual_seed(4)
    config = AdapterConfig(decoder.config.dim, 2, 4, LENGTH - 4, (StreamSpec("pose", ("energy",)),))
    adapter = JointEmbeddingAdapter(config).to(decoder.dtype).requires_grad_(False)
    adapter.gates.fill_(0.7)
    seen = torch.randn(CUES, LENGTH - 3, 1, dtype=decoder.dtype)
    side = adapter.side_stream(decoder, seen) if rows.without_picture < rows.count else None
    masked = adapter.side_stream(decoder, 0 * seen) if rows.without_picture else None
    return {"side_stream": side, "masked": masked}


def both_ways(decoder: MusicDecoder, text, rows: GuidanceRows, sides: dict, kept: int = CUES):
    """Logits of all positions after the known ones, by the layers and by single steps; some cues leave half-way."""
    tokens = torch.randint(0, 51, (CUES * rows.count, 4, LENGTH), generator=torch.Generator().manual_seed(1))
    prefix = text.length if decoder.config.takes_melody else 0
    made = []
    for kind in (LockstepContext, StepContext):
        cache = decoder.new_cache(CUES * rows.count, prefix + LENGTH)
        context, current = kind(text, cache=cache, rows=rows, **sides), tokens
        with torch.inference_mode():
            logits = [decoder(current[:, :, :KNOWN], context, last_only=True)]
            for position in range(KNOWN, LENGTH):
                if position == 7 and kept < CUES:
                    context.keep_first(kept)
                    current = current[: kept * rows.count]
                now = current[:, :, position : position + 1]
                if isinstance(context, StepContext):
                    x = decoder.embed(now, context.positions(1, decoder.config.dim))[:, 0]
                    logits.append(decoder.predict(SingleStep(decoder)(x, context)[:, None]))
                    context.advance(1)
                else:
                    logits.append(decoder(now, context))
        made.append(logits)
    return made


def assert_equal(made) -> None:
    by_layers, by_steps = made
    assert len(by_layers) == LENGTH - KNOWN + 1 and by_layers[-1].float().std() > 0.1
    for ours, theirs in zip(by_steps, by_layers, strict=True):
        assert torch.equal(ours, theirs)


def make_text(decoder: MusicDecoder, lengths=(5, 3, 0), seed=2):
    torch.manual_seed(seed)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    return decoder.encode_text(torch.randn(CUES, 5, 20), mask)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("num_heads", [2, 4])  # 1 / sqrt(d / H) is a power of two for 4
def test_single_steps_equal_the_layers_to_the_bit(dtype, rows, negative, num_heads):
    decoder = make_decoder(replace(CONFIG, num_heads=num_heads), dtype)
    text = make_text(decoder)
    if negative:
        text = replace(text, negative=make_text(decoder, (2, 5, 4), seed=3))
    assert_equal(both_ways(decoder, text, rows, side_streams(decoder, rows)))


@pytest.mark.parametrize("kept", [1, 2])
def test_cues_that_are_done_leave_and_change_nothing_for_the_others(kept):
    decoder, rows = make_decoder(CONFIG, torch.float32), ROWS[-1]
    made = both_ways(decoder, make_text(decoder), rows, side_streams(decoder, rows), kept)
    assert_equal(made)
    assert len(made[1][-1]) == kept * rows.count


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_a_prefix_of_melody_and_text_is_attended_to_as_part_of_the_music(dtype):
    config = replace(CONFIG, num_chroma=12, melody_frames=6)
    decoder, rows = make_decoder(config, dtype), GuidanceRows(2, 1, 0)
    assert config.takes_melody
    torch.manual_seed(5)
    count = CUES * rows.count
    states, mask = torch.randn(count, 5, 20), torch.ones(count, 5, dtype=torch.bool)
    pitches = torch.randint(0, 12, (count, 6))
    pitches[::2] = NO_PITCH
    prefix = encode_prefix(decoder, states, mask, pitches)
    assert_equal(both_ways(decoder, prefix, rows, side_streams(decoder, rows)))
