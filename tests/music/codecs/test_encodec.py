"""Long cues are decoded piece by piece and sound as if they had been decoded at once."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from expotion_cli.music.codecs import encodec
from expotion_cli.music.codecs.encodec import CONTEXT_STEPS, EncodecCodec
from expotion_cli.timing import Timeline

INAUDIBLE_DB = -100.0
SMALL = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64}


def random_encodec(**changes):
    """MusicGen's EnCodec at 32 kHz with random weights and an LSTM that remembers for seconds."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    settings = {
        "sampling_rate": 32_000,
        "upsampling_ratios": [8, 5, 4, 4],
        "num_filters": 64,
        "hidden_size": 128,
        "codebook_dim": 128,
        "codebook_size": 2048,
        "target_bandwidths": [2.2],
        "use_causal_conv": False,
    }
    model = EncodecModel(EncodecConfig(**(settings | changes))).eval()
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
        lstm = next(layer.lstm for layer in model.decoder.layers if hasattr(layer, "lstm"))
        for name, parameter in lstm.named_parameters():
            if name.startswith("bias_ih"):
                parameter[lstm.hidden_size : 2 * lstm.hidden_size] = 5.0  # the forget gates stay open
    return model


def decode(model, tokens: np.ndarray, seconds: Fraction | None = None) -> np.ndarray:
    codec = EncodecCodec(model, len(tokens), "random")
    duration = tokens.shape[1] / codec.rate_hz if seconds is None else seconds
    return codec.decode(tokens, Timeline(duration, codec.rate_hz)).audio


def random_tokens(model, num_steps: int, num_codebooks: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(0, model.config.codebook_size, (num_codebooks, num_steps))


def decode_in_pieces(monkeypatch, model, tokens: np.ndarray, context: int = CONTEXT_STEPS) -> np.ndarray:
    """In pieces of one second (50 steps)."""
    with monkeypatch.context() as patch:
        for name, value in (("WHOLE_S", 1), ("PIECE_S", 1), ("CONTEXT_STEPS", context)):
            patch.setattr(encodec, name, value)
        return decode(model, tokens)


def error_db(one: np.ndarray, other: np.ndarray, around: list[int] | None = None) -> float:
    """Energy of the difference against that of the signal, of all or of 10 ms on either side of some samples."""
    reach = 320
    chosen = np.ones(one.shape[1], bool)
    if around is not None:
        chosen = np.min([np.abs(np.arange(one.shape[1]) - place) for place in around], axis=0) < reach
    difference = ((one - other)[:, chosen].astype(np.float64) ** 2).mean()
    return float(10 * np.log10(difference / (other.astype(np.float64) ** 2).mean() + 1e-30))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_steps", [51, 66, 67, 116, 150, 233])
def test_pieces_equal_the_whole_also_at_the_joins(monkeypatch, causal, num_steps):
    model = random_encodec(**SMALL, use_causal_conv=causal)
    tokens = random_tokens(model, num_steps)
    whole, pieces = decode(model, tokens), decode_in_pieces(monkeypatch, model, tokens)
    assert pieces.shape == whole.shape == (2, 640 * num_steps) and np.abs(whole).max() > 1e-3
    joins = [640 * step for step in range(50, num_steps, 50)]
    assert error_db(pieces, whole) < INAUDIBLE_DB and error_db(pieces, whole, joins) < INAUDIBLE_DB


def test_the_context_and_the_remembered_state_are_what_closes_the_seams(monkeypatch):
    model = random_encodec(**SMALL)
    tokens = random_tokens(model, 200)
    whole = decode(model, tokens)
    joins = [640 * step for step in (50, 100, 150)]
    assert error_db(decode_in_pieces(monkeypatch, model, tokens, context=0), whole, joins) > -40
    forgetful = np.concatenate([decode(model, tokens[:, k : k + 50]) for k in range(0, 200, 50)], axis=1)
    later = slice(640 * 60, 640 * 90)  # well away from the joins: only the LSTM knows of what was before
    assert error_db(forgetful[:, later], whole[:, later]) > -60


@pytest.mark.long
def test_the_real_sizes_too_decode_in_pieces_without_a_seam(monkeypatch):
    model = random_encodec()
    assert sum(p.numel() for p in model.decoder.parameters()) > 28e6
    tokens = random_tokens(model, 125)
    whole, pieces = decode(model, tokens), decode_in_pieces(monkeypatch, model, tokens)
    assert error_db(pieces, whole, [32_000, 64_000]) < INAUDIBLE_DB and error_db(pieces, whole) < INAUDIBLE_DB


def test_both_sides_of_a_stereo_cue_are_decoded_in_pieces(monkeypatch):
    model = random_encodec(**SMALL)
    tokens = random_tokens(model, 120, num_codebooks=8)
    whole, pieces = decode(model, tokens), decode_in_pieces(monkeypatch, model, tokens)
    assert not np.allclose(whole[0], whole[1], atol=1e-3)
    assert error_db(pieces, whole) < INAUDIBLE_DB
    mono = decode(model, tokens[0::2])
    assert np.array_equal(mono[0], mono[1]) and np.array_equal(mono[0], whole[0])


def test_up_to_half_a_minute_the_sound_is_bit_for_bit_what_transformers_makes():
    model = random_encodec(**SMALL, upsampling_ratios=[4, 4], sampling_rate=800)
    tokens = random_tokens(model, 1500)
    with torch.no_grad():
        theirs = model.decode(torch.from_numpy(tokens)[None, None], [None]).audio_values[0, 0].numpy()
    assert np.array_equal(decode(model, tokens)[0], theirs)


def test_sound_is_cut_or_padded_to_the_pictures_length(monkeypatch):
    model = random_encodec(**SMALL)
    tokens = random_tokens(model, 120)
    for name in ("WHOLE_S", "PIECE_S"):
        monkeypatch.setattr(encodec, name, 1)
    full = decode(model, tokens)
    short, longer = decode(model, tokens, Fraction(3, 2)), decode(model, tokens, Fraction(5, 2))
    assert np.array_equal(short, full[:, :48_000])
    assert longer.shape == (2, 80_000) and np.array_equal(longer[:, : full.shape[1]], full)
    assert not longer[:, full.shape[1] :].any()


def test_a_codec_that_normalises_over_its_whole_length_is_not_cut(monkeypatch):
    model = random_encodec(**SMALL, norm_type="time_group_norm")
    tokens = random_tokens(model, 120)
    assert np.array_equal(decode_in_pieces(monkeypatch, model, tokens), decode(model, tokens))


PEAKS = """
import resource
import numpy as np
from test_encodec import SMALL, decode, random_encodec, random_tokens

model = random_encodec(**SMALL)
decode(model, random_tokens(model, 50))
for seconds in (30, 120):
    decode(model, random_tokens(model, 50 * seconds))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_two_minutes_need_no_more_memory_than_half_a_minute_but_for_the_sound_itself(repository):
    """Peaks of the process: half a minute at once, then two minutes (at once they would need four times as much)."""
    done = subprocess.run(
        [sys.executable, "-c", PEAKS], cwd=repository / "tests" / "music" / "codecs", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    half_a_minute_mb, two_minutes_mb = map(int, done.stdout.split())
    sound_mb = 2 * 4 * 120 * 32_000 / 2**20
    assert two_minutes_mb < half_a_minute_mb + sound_mb + 10
