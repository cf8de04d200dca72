"""audiocraft's files hold the same model as a transformers folder, in every form in which they come."""

from __future__ import annotations

import pickle
import sys
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from audiocraft_files import (
    CODEC_FILE,
    LM_FILE,
    change_package,
    codec_state,
    lm_settings,
    lm_state,
    load,
    save_audiocraft,
)
from options import make_request, make_sampling

from expotion_cli.errors import WeightsError
from expotion_cli.music.load import load_model
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.delay import apply_delay

PROMPT = "upbeat electronic dance with drums"


def logits_of(checkpoint, num_codebooks: int = 4) -> torch.Tensor:
    """Logits [2, K, 20, V] for two prompts and fixed tokens."""
    ids, mask = checkpoint.text.pad([checkpoint.text.tokenize(p) for p in ("slow sad piano", PROMPT)], 24)
    torch.manual_seed(1)
    tokens = apply_delay(torch.randint(0, 64, (2, num_codebooks, 20)), 64)[:, :, :20]
    with torch.no_grad():
        text = checkpoint.decoder.encode_text(checkpoint.text(ids, mask), mask)
        return checkpoint.decoder(tokens, LockstepContext(text))


def test_logits_equal_transformers_own(tiny, audiocraft_folder):
    checkpoint = load(audiocraft_folder)
    ids, mask = checkpoint.text.pad([checkpoint.text.tokenize(p) for p in ("slow sad piano", PROMPT)], 24)
    torch.manual_seed(1)
    tokens = apply_delay(torch.randint(0, 64, (2, 4, 20)), 64)[:, :, :20]
    with torch.no_grad():
        theirs = tiny(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=tokens.reshape(8, 20)).logits
    assert (logits_of(checkpoint).reshape(8, 20, 64) - theirs).abs().max() <= 1e-4
    assert theirs.std() > 0.1


def test_every_weight_equals_the_transformers_folders(audiocraft_folder, tiny_folder):
    ours, theirs = load(audiocraft_folder), load(tiny_folder)
    for part in ("decoder", "audio"):
        expected = getattr(theirs, part).state_dict()
        found = getattr(ours, part).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(ours.text.model.shared.weight, theirs.text.model.shared.weight)


@pytest.mark.long
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_and_their_sound_equal_those_of_the_transformers_folder(audiocraft_folder, tiny_folder, guidance):
    heard = []
    for path in (audiocraft_folder, audiocraft_folder / LM_FILE, tiny_folder):
        model = load_model(str(path), device="cpu")
        timeline = model.codec.timeline(Fraction(2), None)
        request = make_request(PROMPT, timeline, None, 0, make_sampling(guidance=guidance, temperature=0))
        ((_, tokens),) = model.generate([request])
        heard.append((tokens, model.codec.decode(tokens, timeline).audio))
    for tokens, audio in heard[:2]:
        assert np.array_equal(tokens, heard[2][0])
        assert np.abs(audio - heard[2][1]).max() <= 1e-6 and audio.std() > 0


def test_the_digest_knows_every_file(audiocraft_folder, own_copy):
    first = load(audiocraft_folder).digest
    assert load(own_copy).digest == first
    change_package(own_copy / CODEC_FILE, lambda p: p["best_state"]["decoder.model.0.conv.conv.bias"].add_(1))
    assert load(own_copy).digest != first


def test_stereo_files_say_so_and_their_pairs_of_codebooks_run_together(make_tiny, tiny_folder, tmp_path):
    stereo = make_tiny(num_codebooks=8, audio_channels=2)
    folder = save_audiocraft(stereo, tiny_folder / "tokenizer.json", tmp_path / "stereo")
    checkpoint = load(folder)
    assert checkpoint.config["decoder"]["audio_channels"] == 2
    assert checkpoint.decoder.config.delays == (0, 0, 1, 1, 2, 2, 3, 3)
    model = load_model(str(folder), device="cpu")
    assert model.codec.is_stereo and model.codec.num_codebooks == 8


def test_mono_codebooks_run_one_after_the_other(audiocraft_folder, tiny_folder):
    assert load(audiocraft_folder).decoder.config.delays == load(tiny_folder).decoder.config.delays == (0, 1, 2, 3)


def test_a_model_that_projects_text_of_its_own_width_keeps_the_projection(make_tiny, tiny_folder, tmp_path):
    wide = make_tiny(text_dim=32)  # transformers has no projection then; audiocraft always has one
    wide.enc_to_dec_proj = torch.nn.Linear(32, 32)
    checkpoint = load(save_audiocraft(wide, tiny_folder / "tokenizer.json", tmp_path / "wide"))
    assert torch.equal(checkpoint.decoder.enc_to_dec_proj.weight, wide.enc_to_dec_proj.weight)


def test_a_text_encoder_tuned_with_the_model_is_taken_from_its_file(own_copy, audiocraft_folder):
    def tune(package):
        prefix = "condition_provider.conditioners.description.t5."
        for name, tensor in load(audiocraft_folder).text.model.state_dict().items():
            package["best_state"][prefix + name] = tensor * 2

    change_package(own_copy / LM_FILE, tune)
    assert torch.equal(load(own_copy).text.model.shared.weight, 2 * load(audiocraft_folder).text.model.shared.weight)


def test_attention_as_torch_names_it_and_older_settings_load_as_well(own_copy, audiocraft_folder):
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

    change_package(own_copy / LM_FILE, rewrite)
    assert torch.equal(logits_of(load(own_copy)), logits_of(load(audiocraft_folder)))


def test_a_training_checkpoint_that_keeps_its_state_one_level_deeper_loads(own_copy, audiocraft_folder):
    change_package(own_copy / LM_FILE, lambda p: p.update(best_state={"model": p["best_state"]}))
    assert torch.equal(logits_of(load(own_copy)), logits_of(load(audiocraft_folder)))


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


def test_settings_pickled_as_omegaconf_objects_are_read_without_omegaconf(own_copy, audiocraft_folder, monkeypatch):
    for name in (LM_FILE, CODEC_FILE):
        package = torch.load(own_copy / name, weights_only=True)
        package["xp.cfg"], modules = omegaconf_like(yaml.safe_load(package["xp.cfg"]))
        with monkeypatch.context() as patch:
            for module_name, module in modules.items():
                patch.setitem(sys.modules, module_name, module)
            torch.save(package, own_copy / name)
        with pytest.raises(pickle.UnpicklingError, match="omegaconf"):
            torch.load(own_copy / name, weights_only=True)
    before = set(sys.modules)
    assert torch.equal(logits_of(load(own_copy)), logits_of(load(audiocraft_folder)))
    assert not [name for name in set(sys.modules) - before if name.startswith("omegaconf")]


def test_settings_may_refer_to_others_but_not_in_a_circle(tiny, own_copy):
    def say(dim: str) -> None:
        settings = lm_settings(tiny, {"width": 32, "loop": "${loop}", "transformer_lm.dim": dim})
        change_package(own_copy / LM_FILE, lambda p: p.update({"xp.cfg": settings}))

    say("${width}")
    assert load(own_copy).decoder.config.dim == 32
    say("${loop}")
    with pytest.raises(WeightsError, match="circle"):
        load(own_copy)


def test_a_codec_that_is_only_named_is_taken_from_a_folder_beside_it(tiny, own_copy, audiocraft_folder):
    path = own_copy / CODEC_FILE
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.2.0"}, path)
    with pytest.raises(WeightsError, match="only names its codec, 'facebook/encodec_32khz'") as caught:
        load(own_copy)
    assert str(own_copy / "encodec_32khz") in caught.value.remedy
    tiny.audio_encoder.save_pretrained(own_copy / "encodec_32khz")
    found, expected = load(own_copy).audio.state_dict(), load(audiocraft_folder).audio.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_codecs_transposed_layers_are_told_from_the_others(tiny):
    names = codec_state(tiny.audio_encoder)
    assert any(".convtr.convtr." in name for name in names) and len(names) == len(tiny.audio_encoder.state_dict())
    assert lm_state(tiny)["transformer.layers.0.self_attn.in_proj_weight"].shape == (96, 32)
