"""audiocraft's files hold the same model as a transformers folder, and nothing in them is executed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from audiocraft_files import CODEC_SETTINGS, codec_state, lm_settings, lm_state, save_audiocraft, save_t5

from expotion_cli.errors import WeightsError
from expotion_cli.music.attending import Passage
from expotion_cli.music.checkpoint import load_checkpoint
from expotion_cli.music.delay import apply_delay
from expotion_cli.music.engine import CueRequest
from expotion_cli.music.loading import load_model
from expotion_cli.music.sampling import Sampling

CPU = torch.device("cpu")
PROMPT = "upbeat electronic dance with drums"


def load(path: Path):
    return load_checkpoint(path, device=CPU, dtype=torch.float32)


def logits_of(checkpoint, num_codebooks: int = 4) -> torch.Tensor:
    """Logits [2, K, 20, V] for two prompts and fixed tokens."""
    ids, mask = checkpoint.text.pad([checkpoint.text.tokenize(p) for p in ("slow sad piano", PROMPT)], 24)
    torch.manual_seed(1)
    tokens = apply_delay(torch.randint(0, 64, (2, num_codebooks, 20)), 64)[:, :, :20]
    with torch.no_grad():
        text = checkpoint.decoder.remember_text(checkpoint.text(ids, mask), mask)
        return checkpoint.decoder(tokens, Passage(text))


@pytest.fixture(scope="module")
def folder(tiny, tiny_folder, tmp_path_factory) -> Path:
    return save_audiocraft(tiny, tiny_folder / "tokenizer.json", tmp_path_factory.mktemp("audiocraft") / "model")


@pytest.fixture
def own_folder(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "own"))


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Save a file again after an edit."""
    package = torch.load(path, weights_only=True)
    edit(package)
    torch.save(package, path)


def test_logits_equal_transformers_own(tiny, folder):
    checkpoint = load(folder)
    ids, mask = checkpoint.text.pad([checkpoint.text.tokenize(p) for p in ("slow sad piano", PROMPT)], 24)
    torch.manual_seed(1)
    tokens = apply_delay(torch.randint(0, 64, (2, 4, 20)), 64)[:, :, :20]
    with torch.no_grad():
        theirs = tiny(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=tokens.reshape(8, 20)).logits
    assert (logits_of(checkpoint).reshape(8, 20, 64) - theirs).abs().max() <= 1e-4
    assert theirs.std() > 0.1


def test_every_weight_equals_the_transformers_folders(folder, tiny_folder):
    ours, theirs = load(folder), load(tiny_folder)
    for part in ("decoder", "audio"):
        expected = getattr(theirs, part).state_dict()
        found = getattr(ours, part).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(ours.text.model.shared.weight, theirs.text.model.shared.weight)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_and_their_sound_equal_those_of_the_transformers_folder(folder, tiny_folder, guidance):
    heard = []
    for path in (folder, folder / "state_dict.bin", tiny_folder):
        model = load_model(str(path), device="cpu")
        timeline = model.codec.timeline(Fraction(2), None)
        request = CueRequest(PROMPT, timeline, None, 0, Sampling(guidance=guidance, temperature=0))
        ((_, tokens),) = model.generate([request])
        heard.append((tokens, model.codec.decode(tokens, timeline).audio))
    for tokens, audio in heard[:2]:
        assert np.array_equal(tokens, heard[2][0])
        assert np.abs(audio - heard[2][1]).max() <= 1e-6 and audio.std() > 0


def test_the_digest_knows_every_file(folder, own_folder):
    first = load(folder).digest
    assert load(own_folder).digest == first
    change(
        own_folder / "compression_state_dict.bin", lambda p: p["best_state"]["decoder.model.0.conv.conv.bias"].add_(1)
    )
    assert load(own_folder).digest != first


def test_stereo_files_say_so_and_their_pairs_of_codebooks_run_together(make_tiny, tiny_folder, tmp_path):
    stereo = make_tiny(num_codebooks=8, audio_channels=2)
    folder = save_audiocraft(stereo, tiny_folder / "tokenizer.json", tmp_path / "stereo")
    checkpoint = load(folder)
    assert checkpoint.config["decoder"]["audio_channels"] == 2
    assert checkpoint.decoder.config.delays == (0, 0, 1, 1, 2, 2, 3, 3)
    model = load_model(str(folder), device="cpu")
    assert model.codec.is_stereo and model.codec.num_streams == 8


def test_mono_codebooks_run_one_after_the_other(folder, tiny_folder):
    assert load(folder).decoder.config.delays == load(tiny_folder).decoder.config.delays == (0, 1, 2, 3)


def test_a_model_that_projects_text_of_its_own_width_keeps_the_projection(make_tiny, tiny_folder, tmp_path):
    wide = make_tiny(text_dim=32)  # transformers has no projection then; audiocraft always has one
    wide.enc_to_dec_proj = torch.nn.Linear(32, 32)
    checkpoint = load(save_audiocraft(wide, tiny_folder / "tokenizer.json", tmp_path / "wide"))
    assert torch.equal(checkpoint.decoder.enc_to_dec_proj.weight, wide.enc_to_dec_proj.weight)


def test_a_text_encoder_tuned_with_the_model_is_taken_from_its_file(own_folder, folder):
    def tune(package):
        prefix = "condition_provider.conditioners.description.t5."
        for name, tensor in load(folder).text.model.state_dict().items():
            package["best_state"][prefix + name] = tensor * 2

    change(own_folder / "state_dict.bin", tune)
    assert torch.equal(load(own_folder).text.model.shared.weight, 2 * load(folder).text.model.shared.weight)


def test_attention_as_torch_names_it_and_older_settings_load_as_well(own_folder, folder):
    def rewrite(package):
        state = package["best_state"]
        for name in list(state):
            if "attn" in name or "cross_attention" in name:
                state[name.replace("_attn.", "_attn.mha.").replace("attention.", "attention.mha.")] = state.pop(name)
        settings = yaml.safe_load(package["xp.cfg"])
        settings["codebooks_pattern"]["modeling"] = None
        settings["transformer_lm"]["q_modeling"] = "delay"
        del settings["interleave_stereo_codebooks"], settings["transformer_lm"]["kv_repeat"]
        package["xp.cfg"] = yaml.safe_dump(settings)

    change(own_folder / "state_dict.bin", rewrite)
    assert torch.equal(logits_of(load(own_folder)), logits_of(load(folder)))


def test_a_training_checkpoint_that_keeps_its_state_one_level_deeper_loads(own_folder, folder):
    change(own_folder / "state_dict.bin", lambda p: p.update(best_state={"model": p["best_state"]}))
    assert torch.equal(logits_of(load(own_folder)), logits_of(load(folder)))


# Settings as omegaconf's objects: the classes are made here, pickled, and gone when the file is read.


def omegaconf_like(values: Any) -> tuple[Any, dict[str, ModuleType]]:
    """Values as objects of the shape omegaconf pickles, and the modules that define their classes."""
    modules = {name: ModuleType(name) for name in ("omegaconf", "omegaconf.dictconfig", "omegaconf.listconfig")}
    modules["omegaconf.nodes"] = ModuleType("omegaconf.nodes")
    kinds = {}
    for module, name in (("dictconfig", "DictConfig"), ("listconfig", "ListConfig"), ("nodes", "AnyNode")):
        kinds[name] = type(name, (), {"__module__": f"omegaconf.{module}"})
        setattr(modules[f"omegaconf.{module}"], name, kinds[name])

    def wrap(value: Any, parent: Any) -> Any:
        name = {dict: "DictConfig", list: "ListConfig"}.get(type(value), "AnyNode")
        made = kinds[name]()
        made._parent, made._metadata = parent, {"ref_type": Any, "object_type": dict}
        if name == "DictConfig":
            made._content = {key: wrap(item, made) for key, item in value.items()}
        elif name == "ListConfig":
            made._content = [wrap(item, made) for item in value]
        else:
            made._val = value
        return made

    return wrap(values, None), modules


def test_settings_pickled_as_omegaconf_objects_are_read_without_omegaconf(own_folder, folder, monkeypatch):
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        package = torch.load(own_folder / name, weights_only=True)
        package["xp.cfg"], modules = omegaconf_like(yaml.safe_load(package["xp.cfg"]))
        with monkeypatch.context() as patch:
            for module_name, module in modules.items():
                patch.setitem(sys.modules, module_name, module)
            torch.save(package, own_folder / name)
        with pytest.raises(Exception, match="omegaconf"):
            torch.load(own_folder / name, weights_only=True)
    before = set(sys.modules)
    assert torch.equal(logits_of(load(own_folder)), logits_of(load(folder)))
    assert not [name for name in set(sys.modules) - before if name.startswith("omegaconf")]


class Runs:
    """Unpickled by an ordinary reader, it calls a function."""

    def __init__(self, function: Callable, *arguments: Any):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("name", ["state_dict.bin", "compression_state_dict.bin"])
@pytest.mark.parametrize("place", ["xp.cfg", "best_state", "extra"])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_nothing_runs(own_folder, tmp_path, name, place):
    marker = tmp_path / "it-ran"
    change(own_folder / name, lambda p: p.update({place: Runs(os.system, f"touch {marker}")}))
    with pytest.raises(WeightsError, match=r"would run (posix|nt)\.system") as caught:
        load(own_folder)
    assert str(own_folder / name) in str(caught.value) and caught.value.exit_code == 4
    assert not marker.exists()
    torch.load(own_folder / name, weights_only=False)
    assert marker.exists(), "the test's own file runs nothing"


@pytest.mark.parametrize("function", [eval, exec, __import__, getattr, open, shutil.rmtree, os.getenv])
def test_no_function_is_ever_looked_up(own_folder, function):
    change(own_folder / "state_dict.bin", lambda p: p.update(extra=Runs(function, "nothing-of-the-kind")))
    with pytest.raises(WeightsError, match=rf"would run \w+\.{function.__name__}"):
        load(own_folder)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a torch file at all", b"cos\nsystem\n(S'true'\ntR."])
def test_what_is_no_torch_file_is_named(own_folder, content):
    (own_folder / "state_dict.bin").write_bytes(content)
    with pytest.raises(WeightsError, match="no torch file, or damaged") as caught:
        load(own_folder)
    assert str(own_folder / "state_dict.bin") in str(caught.value)


@pytest.mark.parametrize("name", ["state_dict.bin", "compression_state_dict.bin"])
@pytest.mark.parametrize("share", [0.2, 0.7, 0.999])
def test_a_truncated_file_is_named(own_folder, name, share):
    whole = (own_folder / name).read_bytes()
    (own_folder / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match="damaged") as caught:
        load(own_folder)
    assert str(own_folder / name) in str(caught.value)


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
def test_a_damaged_language_model_names_the_tensor_as_its_file_does(own_folder, damage):
    edit, wanted = DAMAGE[damage]
    change(own_folder / "state_dict.bin", lambda p: edit(p["best_state"]))
    with pytest.raises(WeightsError, match=wanted) as caught:
        load(own_folder)
    assert str(own_folder / "state_dict.bin") in str(caught.value)


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
def test_a_damaged_codec_names_the_tensor_as_its_file_does(own_folder, damage):
    edit, wanted = CODEC_DAMAGE[damage]
    change(own_folder / "compression_state_dict.bin", lambda p: edit(p["best_state"]))
    with pytest.raises(WeightsError, match=wanted) as caught:
        load(own_folder)
    assert str(own_folder / "compression_state_dict.bin") in str(caught.value)


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
        ("conditioners.self_wav", {"model": "chroma_stem"}),
        ("conditioners.description.model", "clap"),
        ("codebooks_pattern.modeling", "parallel"),
        ("codebooks_pattern.delay.delays", [0, 0, 1, 1]),
        ("interleave_stereo_codebooks.per_timestep", True),
    ],
)
def test_what_the_decoder_does_not_do_is_refused_by_its_key(tiny, own_folder, key, value):
    refused(own_folder / "state_dict.bin", lm_settings(tiny), key, value)


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
def test_what_the_codec_does_not_do_is_refused_by_its_key(own_folder, key, value):
    refused(own_folder / "compression_state_dict.bin", CODEC_SETTINGS, key, value)


def refused(path: Path, settings: str, key: str, value: Any) -> None:
    values = yaml.safe_load(settings)
    *owners, last = key.split(".")
    owner = values
    for name in owners:
        owner = owner[name]
    owner[last] = value
    change(path, lambda package: package.update({"xp.cfg": yaml.safe_dump(values)}))
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
def test_settings_that_are_none_are_an_error(own_folder, settings, wanted):
    change(own_folder / "state_dict.bin", lambda p: p.update({"xp.cfg": settings}))
    with pytest.raises(WeightsError, match=wanted):
        load(own_folder)


def test_settings_may_refer_to_others_but_not_in_a_circle(tiny, own_folder):
    text = lm_settings(tiny, "width: 32\nloop: ${loop}\n")
    change(own_folder / "state_dict.bin", lambda p: p.update({"xp.cfg": text.replace("dim: 32", "dim: ${width}")}))
    assert load(own_folder).decoder.config.dim == 32
    change(own_folder / "state_dict.bin", lambda p: p.update({"xp.cfg": text.replace("dim: 32", "dim: ${loop}")}))
    with pytest.raises(WeightsError, match="circle"):
        load(own_folder)


@pytest.mark.parametrize("missing", ["best_state", "xp.cfg"])
def test_a_torch_file_of_something_else_is_an_error_that_says_what_it_holds(own_folder, missing):
    change(own_folder / "state_dict.bin", lambda p: p.pop(missing))
    with pytest.raises(WeightsError, match="expected 'best_state' and 'xp.cfg'"):
        load(own_folder)
    torch.save([1, 2], own_folder / "state_dict.bin")
    with pytest.raises(WeightsError, match="holds a list"):
        load(own_folder)


def test_without_its_codec_the_file_is_named(own_folder):
    (own_folder / "compression_state_dict.bin").unlink()
    with pytest.raises(WeightsError, match=r"compression_state_dict\.bin: The file is missing"):
        load(own_folder)


def test_without_its_text_encoder_the_error_says_what_to_put_where(own_folder):
    shutil.rmtree(own_folder / "t5-base")
    with pytest.raises(WeightsError, match="only names its text encoder, 't5-base'") as caught:
        load(own_folder)
    assert str(own_folder / "t5-base") in caught.value.remedy and "tokenizer.json" in caught.value.remedy


def test_a_codec_that_is_only_named_is_taken_from_a_folder_beside_it(tiny, own_folder, folder):
    path = own_folder / "compression_state_dict.bin"
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.2.0"}, path)
    with pytest.raises(WeightsError, match="only names its codec, 'facebook/encodec_32khz'") as caught:
        load(own_folder)
    assert str(own_folder / "encodec_32khz") in caught.value.remedy
    tiny.audio_encoder.save_pretrained(own_folder / "encodec_32khz")
    found, expected = load(own_folder).audio.state_dict(), load(folder).audio.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_text_weights_of_another_size_are_named(make_tiny, tiny_folder, own_folder):
    shutil.rmtree(own_folder / "t5-base")
    save_t5(make_tiny(text_dim=16), tiny_folder / "tokenizer.json", own_folder / "t5-base")
    with pytest.raises(
        WeightsError, match=r"description\.output_proj\.weight' has shape \[32, 24\], expected \[32, 16\]"
    ):
        load(own_folder)


def test_a_codec_with_another_number_of_codes_is_refused(own_folder):
    settings = CODEC_SETTINGS.replace("bins: 64", "bins: 32")
    change(own_folder / "compression_state_dict.bin", lambda p: p.update({"xp.cfg": settings}))
    with pytest.raises(WeightsError, match="speaks 64 tokens a codebook, its EnCodec has 32"):
        load(own_folder)


def test_the_codecs_transposed_layers_are_told_from_the_others(tiny):
    names = codec_state(tiny.audio_encoder)
    assert any(".convtr.convtr." in name for name in names) and len(names) == len(tiny.audio_encoder.state_dict())
    assert lm_state(tiny)["transformer.layers.0.self_attn.in_proj_weight"].shape == (96, 32)
