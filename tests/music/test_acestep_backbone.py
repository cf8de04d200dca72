"""ACE-Step through diffusers, with a tiny model in the published format."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from options import make_request, make_sampling

from expotion_cli.errors import ClipError, EnvironmentProblem, UsageError, WeightsError
from expotion_cli.music.acestep_backbone import LYRICS, is_acestep
from expotion_cli.music.load import load_model
from expotion_cli.music.request import Facts

WALTZ = Facts(96, "3/4", "A minor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("diffusers", reason="pip install diffusers (the extra acestep)")
    from tiny_acestep import save_tiny

    return save_tiny(tmp_path_factory.mktemp("acestep") / "turbo")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder), device="cpu", dtype="fp32")


@pytest.fixture
def broken(folder, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(folder, tmp_path / "copy")


def cue(model, seconds=2, prompt="calm piano", seed=1, **more):
    request = make_request(prompt, model.codec.timeline(Fraction(seconds), None), None, seed)
    return replace(request, **more)


def latents(model, request):
    ((index, found),) = model.generate([request])
    assert index == 0 and found.dtype == np.int64 and found.shape == (8, request.num_steps)
    return found


def test_it_is_diffusers_own_music(model):
    """Ten seconds, which is no less than it composes anyway."""
    request = cue(model, 10, facts=WALTZ)
    reference = model.pipeline(
        prompt="calm piano", lyrics=LYRICS, audio_duration=10.0, num_inference_steps=8, guidance_scale=1.0, shift=3.0,
        generator=torch.Generator().manual_seed(int(request.digest[:15], 16)), bpm=96, keyscale="A minor",
        timesignature="3",
    ).audios[0].numpy()  # fmt: skip
    audio = model.codec.decode(latents(model, request), request.timeline).audio
    assert audio.shape == reference.shape == (2, 480_000) and audio.std() > 1e-4 and np.abs(audio).max() <= 1
    assert np.corrcoef(audio.ravel(), reference.ravel())[0, 1] > 0.9999, "it differs in nothing but level and rounding"


def test_prompt_seed_and_facts_are_heard_and_torchs_random_numbers_left_alone(model):
    first = latents(model, cue(model))
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert np.array_equal(latents(model, cue(model)), first) and torch.equal(torch.rand(3), drawn)
    changes = [{"prompt": "loud drums"}, {"seed": 2}, *({"facts": replace(WALTZ, **f)} for f in ({}, {"bpm": 97}))]
    others = [latents(model, cue(model, **change)) for change in changes]
    assert len({found.tobytes() for found in (first, *others)}) == 5


def test_a_cue_is_the_same_alone_and_among_others_and_progress_ends_with_the_last(model):
    cues, heard = [cue(model), cue(model, 3, "loud drums"), cue(model, seed=2)], []
    together = dict(model.generate(cues, batch_size=8, on_progress=lambda *at: heard.append(at)))
    assert heard == sorted(heard) and heard[-1] == (175, 175)
    for number in (2, 1):
        assert np.array_equal(latents(model, cues[number]), together[number])


@pytest.mark.parametrize("seconds", [Fraction(1, 30), Fraction(37, 12), Fraction(1001, 90)])
def test_music_ends_exactly_with_the_picture(model, seconds):
    request = cue(model, seconds)
    rendering = model.codec.decode(latents(model, request), request.timeline)
    assert rendering.sample_rate == 48_000 and rendering.audio.shape == (2, int(seconds * 48_000 + Fraction(1, 2)))
    assert np.isfinite(rendering.audio).all()


def test_it_composes_at_most_what_it_was_trained_for(model):
    with pytest.raises(ClipError, match=r"at most 10 minutes, the clip lasts 601 s.*another --model"):
        model.codec.timeline(Fraction(601), None)


def test_guidance_counts_where_the_model_needs_it(model, tmp_path, monkeypatch):
    from tiny_acestep import save_tiny

    guided = load_model(str(save_tiny(tmp_path / "sft", turbo=False)), device="cpu")
    for one, expected in ((model, [1] * 8), (guided, [2] * 50)):
        rows, run = [], one.pipeline.transformer.forward

        def count(hidden_states, rows=rows, run=run, **more):
            rows.append(len(hidden_states))
            return run(hidden_states, **more)

        monkeypatch.setattr(one.pipeline.transformer, "forward", count)
        latents(one, cue(one, sampling=make_sampling(guidance=7.0)))
        assert rows == expected, "without the prompt as well, or not"


def test_what_is_no_number_is_refused_and_so_is_what_finds_no_memory(model, monkeypatch):
    pipeline = model.pipeline
    nothing = torch.full((1, 250, 8), float("nan"))

    def out_of_memory(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    class Wrong:
        is_turbo, transformer = True, pipeline.transformer

        def __call__(self, **_):
            return type("Made", (), {"audios": nothing})

    monkeypatch.setattr(model, "pipeline", Wrong())
    with pytest.raises(WeightsError, match="no music in float32"):
        latents(model, cue(model))
    monkeypatch.setattr(Wrong, "__call__", lambda self, **_: out_of_memory())
    with pytest.raises(EnvironmentProblem, match=r"not enough memory for a single cue.*--dtype bf16"):
        latents(model, cue(model))


def test_all_that_decides_music_and_sound_is_in_the_digests(folder, model, broken):
    from safetensors.torch import load_file, save_file

    assert load_model(str(folder), device="cpu", dtype="fp32").digest == model.digest
    assert load_model(str(folder), device="cpu", dtype="bf16").digest != model.digest
    for part in ("transformer", "vae"):
        file = min((broken / part).glob("*.safetensors"))
        tensors = load_file(file)
        next(iter(tensors.values())).add_(0.01)
        save_file(tensors, file)
        other = load_model(str(broken), device="cpu", dtype="fp32")
        assert other.digest != model.digest and (other.codec.digest != model.codec.digest) == (part == "vae")
    assert is_acestep(folder) and not is_acestep(folder / "vae") and not is_acestep(folder / "x")


def test_what_is_missing_damaged_or_out_of_bounds_is_named(broken):
    config = broken / "transformer" / "config.json"
    settings = json.loads(config.read_text())

    def refused(match):
        with pytest.raises(WeightsError, match=match):
            load_model(str(broken), device="cpu")

    for key, value in {"hidden_size": 10**9, "num_hidden_layers": 10**6, "in_channels": [10**7]}.items():
        config.write_text(json.dumps({**settings, key: value}))
        refused(f"{config}: {key} is 10+, expected at most")
    config.write_text(json.dumps({**settings, "hidden_size": 64}))
    refused("transformer")
    config.write_text("[1]")
    refused("settings can't be read")
    config.write_text(json.dumps(settings))
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused("vae")
    weights.write_bytes(whole)
    shutil.rmtree(broken / "scheduler")
    refused("scheduler: The folder is missing")


def test_nothing_that_a_folder_names_is_imported(broken):
    (broken / "mine.py").write_text("raise SystemExit('executed')")
    index = json.loads((broken / "model_index.json").read_text())
    index |= {"transformer": ["mine", "Model"], "vae": ["antigravity", "Model"]}
    (broken / "model_index.json").write_text(json.dumps(index))
    path = broken / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["mine.T", "mine.T"]}}))
    assert load_model(str(broken), device="cpu").codec.name == "oobleck"
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("flag", ["adapter", "soundfont"])
def test_adapters_and_soundfonts_are_refused(folder, tmp_path, flag):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(UsageError, match=f"Leave --{flag} out"):
        load_model(str(folder), device="cpu", **{flag: tmp_path})
    assert load_model(str(folder), device="cpu", adapter="none").adapter_name is None


def test_without_diffusers_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "model_index.json").write_text('{"_class_name": "AceStepPipeline"}')
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(EnvironmentProblem, match=r"not installed.*pip install 'expotion\[acestep\]'") as caught:
        load_model(str(tmp_path), device="cpu")
    assert caught.value.exit_code == 4
