"""audiocraft's files that are damaged, foreign, incomplete or hostile: named and refused, and nothing in them runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from audiocraft_files import (
    CODEC_FILE,
    LM_FILE,
    Runs,
    change_package,
    codec_settings,
    edited,
    lm_settings,
    load,
    save_t5,
)

from expotion_cli.errors import WeightsError


@pytest.mark.parametrize("name", [LM_FILE, CODEC_FILE])
@pytest.mark.parametrize("place", ["xp.cfg", "best_state", "extra"])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_nothing_runs(own_copy, tmp_path, name, place):
    marker = tmp_path / "it-ran"
    change_package(own_copy / name, lambda p: p.update({place: Runs(os.system, f"touch {marker}")}))
    with pytest.raises(WeightsError, match=r"would run (posix|nt)\.system") as caught:
        load(own_copy)
    assert str(own_copy / name) in str(caught.value) and caught.value.exit_code == 4
    assert not marker.exists()
    torch.load(own_copy / name, weights_only=False)
    assert marker.exists(), "the test's own file runs nothing"


@pytest.mark.parametrize("function", [eval, exec, __import__, getattr, open, shutil.rmtree, os.getenv])
def test_no_function_is_ever_looked_up(own_copy, function):
    change_package(own_copy / LM_FILE, lambda p: p.update(extra=Runs(function, "nothing-of-the-kind")))
    with pytest.raises(WeightsError, match=rf"would run \w+\.{function.__name__}"):
        load(own_copy)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a torch file at all", b"cos\nsystem\n(S'true'\ntR."])
def test_what_is_no_torch_file_is_named(own_copy, content):
    (own_copy / LM_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match="no torch file, or damaged") as caught:
        load(own_copy)
    assert str(own_copy / LM_FILE) in str(caught.value)


@pytest.mark.parametrize("name", [LM_FILE, CODEC_FILE])
@pytest.mark.parametrize("share", [0.2, 0.7, 0.999])
def test_a_truncated_file_is_named(own_copy, name, share):
    whole = (own_copy / name).read_bytes()
    (own_copy / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match="damaged") as caught:
        load(own_copy)
    assert str(own_copy / name) in str(caught.value)


SELF, CROSS = "transformer.layers.0.self_attn.in_proj_weight", "transformer.layers.2.cross_attention.in_proj_weight"
LINEAR, NORM = "transformer.layers.1.linear1.weight", "out_norm.bias"
DAMAGE = {
    "missing": (lambda s: s.pop(LINEAR), r"layers\.1\.linear1\.weight' is missing.*64, 32"),
    "missing fused": (lambda s: s.pop(SELF), "self_attn.in_proj_weight' is missing"),
    "extra": (lambda s: s.update(surprise=torch.zeros(2)), "'surprise' is not part"),
    "a bias": (lambda s: s.update({"linears.0.bias": torch.zeros(64)}), "linears.0.bias' is not part"),
    "shape": (
        lambda s: s.update({"emb.0.weight": torch.zeros(3, 32)}),
        r"emb\.0\.weight' has shape \[3, 32\], expected \[65, 32\]",
    ),
    "fused shape": (
        lambda s: s.update({CROSS: torch.zeros(64, 32)}),
        r"layers\.2\.cross_attention\.in_proj_weight' has shape \[64, 32\], expected \[96, 32\]",
    ),
    "NaN": (lambda s: s[CROSS][40].fill_(torch.nan), "2.cross_attention.in_proj_weight' holds NaN"),
    "infinity": (lambda s: s[NORM].fill_(torch.inf), "out_norm.bias' holds NaN or infinity"),
    "whole numbers": (
        lambda s: s.update({NORM: torch.zeros(32, dtype=torch.int64)}),
        "out_norm.bias' holds torch.int64",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_a_damaged_language_model_names_the_tensor_as_its_file_does(own_copy, damage):
    edit, wanted = DAMAGE[damage]
    change_package(own_copy / LM_FILE, lambda p: edit(p["best_state"]))
    with pytest.raises(WeightsError, match=wanted) as caught:
        load(own_copy)
    assert str(own_copy / LM_FILE) in str(caught.value)


FIRST, TURNED = "encoder.model.0.conv.conv.weight_g", "decoder.model.3.convtr.convtr.bias"
CODES, LSTM = "quantizer.vq.layers.5._codebook.embed", "decoder.model.1.lstm.bias_hh_l0"
EXTRA, BIAS = "decoder.model.99.conv.conv.bias", "decoder.model.0.conv.conv.bias"
CODEC_DAMAGE = {
    "missing": (lambda s: s.pop(FIRST), f"'{FIRST}' is missing"),
    "missing transposed": (lambda s: s.pop(TURNED), f"'{TURNED}' is missing"),
    "missing codes": (lambda s: s.pop(CODES), f"'{CODES}' is missing"),
    "extra": (lambda s: s.update({EXTRA: torch.zeros(2)}), f"'{EXTRA}' is not part"),
    "shape": (lambda s: s.update({BIAS: torch.zeros(2)}), rf"'{BIAS}' has shape \[2\], expected \[16\]"),
    "NaN": (lambda s: s[LSTM].fill_(torch.nan), f"'{LSTM}' holds NaN"),
}


@pytest.mark.parametrize("damage", CODEC_DAMAGE, ids=str)
def test_a_damaged_codec_names_the_tensor_as_its_file_does(own_copy, damage):
    edit, wanted = CODEC_DAMAGE[damage]
    change_package(own_copy / CODEC_FILE, lambda p: edit(p["best_state"]))
    with pytest.raises(WeightsError, match=wanted) as caught:
        load(own_copy)
    assert str(own_copy / CODEC_FILE) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lm_model", "transformer_lm_magnet"),
        ("transformer_lm.norm_first", False),
        ("transformer_lm.bias_ff", True),
        ("transformer_lm.bias_attn", True),
        ("transformer_lm.bias_proj", True),
        ("transformer_lm.causal", False),
        ("transformer_lm.activation", "relu"),
        ("transformer_lm.positional_embedding", "rope"),
        ("transformer_lm.layer_scale", 0.1),
        ("transformer_lm.past_context", 100),
        ("transformer_lm.qk_layer_norm", True),
        ("transformer_lm.kv_repeat", 2),
        ("transformer_lm.hidden_scale", 4.5),
        ("transformer_lm.num_layers", "three"),
        ("fuser.prepend", ["self_wav", "description"]),
        ("fuser.sum", ["description"]),
        ("conditioners.self_style", {"model": "style"}),
        ("conditioners.description.model", "clap"),
        ("codebooks_pattern.modeling", "parallel"),
        ("codebooks_pattern.delay.delays", [0, 0, 1, 1]),
        ("interleave_stereo_codebooks.per_timestep", True),
    ],
)
def test_what_the_decoder_does_not_do_is_refused_by_its_key(tiny, own_copy, key, value):
    refused(own_copy / LM_FILE, lm_settings(tiny), key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("compression_model", "dac"),
        ("encodec.renormalize", True),
        ("encodec.channels", 2),
        ("encodec.quantizer", "no_quant"),
        ("seanet.norm", "spectral_norm"),
        ("seanet.activation", "GELU"),
        ("seanet.lstm", 0),
        ("seanet.ratios", [4, "x"]),
        ("seanet.disable_norm_outer_blocks", 1),
        ("seanet.encoder", {"n_filters": 8}),
        ("seanet.decoder.n_filters", 8),
        ("seanet.decoder.final_activation", "Tanh"),
    ],
)
def test_what_the_codec_does_not_do_is_refused_by_its_key(tiny, own_copy, key, value):
    refused(own_copy / CODEC_FILE, codec_settings(tiny.audio_encoder), key, value)


def refused(path: Path, settings: str, key: str, value: Any) -> None:
    change_package(path, lambda package: package.update({"xp.cfg": edited(settings, {key: value})}))
    with pytest.raises(WeightsError, match=f"The setting {key} is ") as caught:
        load(path.parent)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ("a: [", "can't be read"),
        ("just words", "holds no settings"),
        (7, "holds no settings"),
        ("{}", "transformer_lm.norm_first"),
    ],
)
def test_settings_that_are_none_are_an_error(own_copy, settings, wanted):
    change_package(own_copy / LM_FILE, lambda p: p.update({"xp.cfg": settings}))
    with pytest.raises(WeightsError, match=wanted):
        load(own_copy)


@pytest.mark.parametrize("missing", ["best_state", "xp.cfg"])
def test_a_torch_file_of_something_else_is_an_error_that_says_what_it_holds(own_copy, missing):
    change_package(own_copy / LM_FILE, lambda p: p.pop(missing))
    with pytest.raises(WeightsError, match="expected 'best_state' and 'xp.cfg'"):
        load(own_copy)
    torch.save([1, 2], own_copy / LM_FILE)
    with pytest.raises(WeightsError, match="holds a list"):
        load(own_copy)


def test_without_its_codec_the_file_is_named(own_copy):
    (own_copy / CODEC_FILE).unlink()
    with pytest.raises(WeightsError, match=r"compression_state_dict\.bin: The file is missing"):
        load(own_copy)


def test_without_its_text_encoder_the_error_says_what_to_put_where(own_copy):
    shutil.rmtree(own_copy / "t5-base")
    with pytest.raises(WeightsError, match="only names its text encoder, 't5-base'") as caught:
        load(own_copy)
    assert str(own_copy / "t5-base") in caught.value.remedy and "tokenizer.json" in caught.value.remedy


def test_text_weights_of_another_size_are_named(make_tiny, own_copy):
    save_t5(make_tiny(text_dim=16).text_encoder, own_copy / "t5-base")
    with pytest.raises(
        WeightsError, match=r"description\.output_proj\.weight' has shape \[32, 24\], expected \[32, 16\]"
    ):
        load(own_copy)


def test_a_codec_with_another_number_of_codes_is_refused(tiny, own_copy):
    settings = codec_settings(tiny.audio_encoder, {"rvq.bins": 32})
    change_package(own_copy / CODEC_FILE, lambda p: p.update({"xp.cfg": settings}))
    with pytest.raises(WeightsError, match="speaks 64 tokens a codebook, its EnCodec has 32"):
        load(own_copy)
