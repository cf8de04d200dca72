"""Regression renders with the real composer: the embedded model on a short clip in which something moves."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from expotion_cli.assets import shipped_folder
from expotion_cli.errors import WeightsError
from expotion_cli.music.load import load_model
from expotion_cli.recipe import load_recipe
from expotion_cli.regression import checking, recording
from expotion_cli.regression.reference import read_reference


def load(name, **options):
    return load_model(name, **options)


def check(repository, mode="auto", model=load):
    return checking.check(read_reference(repository / "renders"), model, mode=mode)


def changed(result):
    return {difference.what for clip in result.clips for difference in clip.differences}


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory, make_video):
    """A copy of the embedded model, a recipe that looks at the picture's flow, a clip of three seconds, a reference."""
    folder = tmp_path_factory.mktemp("embedded")
    make_video(folder / "clips" / "moving.mp4", duration_s=3.0)
    shutil.copytree(shipped_folder("models") / "expotion-mini", folder / "model")
    text = load_recipe("cinematic").path.read_text()
    # Room below the ceiling: a louder cue that is limited more swells otherwise, too.
    for old, new in (('# use = ["face", "pose", "flow"]', 'use = ["flow"]'), ("lufs = -14", "lufs = -23")):
        assert old in text
        text = text.replace(old, new)
    (folder / "mine.toml").write_text(text)
    options = {
        "name": str(folder / "model"),
        "adapter": str(folder / "model" / "adapter"),
        "soundfont": None,
        "device": "cpu",
        "dtype": "fp32",
    }
    clips, _ = recording.find_clips([folder / "clips"], folder / "renders")
    wanted = recording.RecordingOptions(str(folder / "mine.toml"), {}, options)
    recording.record(clips, folder / "renders", wanted, lambda: load(**options))
    return folder


@pytest.fixture
def repository(recorded_once, tmp_path):
    """A copy of it at another place."""
    return shutil.copytree(recorded_once, tmp_path / "repository")


@pytest.fixture(scope="module")
def loaded(recorded_once):
    """The undisturbed model, for checks that are not about loading it."""
    model = load_model(str(recorded_once / "model"), adapter=recorded_once / "model" / "adapter", dtype="fp32")
    return lambda **_: model


@pytest.mark.long
def test_it_stays_green_when_everything_is_loaded_anew(repository):
    for _ in range(3):
        result = check(repository)
        assert result.exit_code == 0 and result.mode == "exact" and not result.machine
        assert not changed(result) and set(result.clips[0].distances.values()) == {0.0}


@pytest.mark.long
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [(load_recipe("cinematic").prompt, "solo harp", "prompt"), ('"per-clip"', '"per-clip:1"', "seed")],
)
def test_a_changed_prompt_or_seed_is_named_and_heard(repository, loaded, old, new, named):
    recipe = repository / "mine.toml"
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new))
    result = check(repository, model=loaded)
    assert result.exit_code == 1 and changed(result) == {named, "tokens"} and "spectrum" in result.clips[0].beyond


@pytest.mark.long
def test_loudness_and_time_are_held_to(repository, loaded, too_loud, too_late):
    too_loud(1.0)
    loud = check(repository, model=loaded)
    assert loud.exit_code == 1 and loud.clips[0].beyond == ("loudness",) and not changed(loud)
    too_late(0.05)
    late = check(repository, "perceptual", loaded)
    assert late.exit_code == 1 and {"lag", "onsets"} <= set(late.clips[0].beyond) and not changed(late)


@pytest.mark.long
def test_disturbed_weights_are_caught_by_digest_by_token_and_by_ear(repository):
    from safetensors.numpy import load_file, save_file

    path = repository / "model" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if "layers.1.self_attn.v_proj" in name)
    flat = tensors[name].reshape(-1).copy()
    chosen = np.random.default_rng(0).choice(len(flat), len(flat) // 50, replace=False)
    flat[chosen] *= -8
    save_file(tensors | {name: flat.reshape(tensors[name].shape)}, path, metadata={"format": "pt"})
    exact, sound = check(repository, "exact"), check(repository, "perceptual")
    assert exact.exit_code == sound.exit_code == 1
    assert changed(exact) == {"weights", "tokens"} and "spectrum" in sound.clips[0].beyond


def test_weights_cut_short_are_an_error_and_no_drift(repository):
    path = repository / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="model.safetensors"):
        check(repository)


@pytest.mark.long
def test_without_the_adapter_the_weights_are_others(repository):
    result = check(repository, model=lambda name, adapter, **options: load(name, adapter="none", **options))
    assert result.exit_code == 1 and {"weights", "conditioning (what was seen)"} <= changed(result)
