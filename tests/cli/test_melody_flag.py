"""`--melody` from the flag to the sidecar."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from audiocraft_files import save_audiocraft
from tiny_melody import save_tiny_melody, tiny_musicgen_melody, tune
from tiny_music import save_tiny, tiny_musicgen, write_wav

from expotion_cli.storage import digest_file


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_melody(tmp_path_factory.mktemp("model") / "melody", tiny_musicgen_melody(rate=8000))


@pytest.fixture
def clip(tmp_path, make_video) -> Path:
    return make_video(tmp_path / "clips" / "one.mp4", duration_s=1.0)


@pytest.fixture
def score(expotion, model, clip, tmp_path):
    def run(*options, model=model):
        done = expotion("score", clip, "--model", model, "--device", "cpu", *options, "--out", tmp_path / "out")
        path = tmp_path / "out" / "one.score.json"
        done.sidecar = json.loads(path.read_text()) if path.is_file() else None
        return done

    return run


def test_a_tune_is_played_and_counts_by_its_content(score, tmp_path):
    path = write_wav(tmp_path / "tune.wav", tune(2.0), 32_000)
    options = ("--melody", path, "--streams", "none", "--prompt", "")
    done = score(*options)
    assert done.exit_code == 0, done.stderr
    assert done.sidecar["melody"] == {"file": "tune.wav", "sha256": digest_file(path)}
    assert done.sidecar["recipe"]["melody"] == str(path) and done.sidecar["prompt"] == ""
    moved = path.rename(tmp_path / "moved.wav")
    again = score("--melody", moved, *options[2:], "--json")
    assert json.loads(again.stdout)["counts"]["already"] == 1
    write_wav(moved, tune(2.0, (61, 66)), 32_000)
    other = score("--melody", moved, *options[2:], "--overwrite")
    assert other.exit_code == 0 and other.sidecar["artefact"] != done.sidecar["artefact"]
    assert other.sidecar["output"]["sha256"] != done.sidecar["output"]["sha256"]


@pytest.mark.long
def test_the_embedded_model_composes_the_melody_and_the_sidecar_states_the_tempo(score):
    done = score("--melody", "mini", "--streams", "flow", "--takes", 1, "--tempo", 90)
    assert done.exit_code == 0, done.stderr
    assert done.sidecar["melody"] == {"model": "expotion-mini"} and done.sidecar["recipe"]["melody"] == "mini"
    assert done.sidecar["tempo"]["bpm"] == 90
    assert any("body and face" in note for note in done.sidecar["notes"]), "what the melody's composer reads"
    again = score("--melody", "mini", "--streams", "flow", "--takes", 1, "--tempo", 90, "--json")
    assert json.loads(again.stdout)["counts"]["already"] == 1


@pytest.mark.parametrize("melody", ["mini", "tune.wav"])
def test_other_models_and_audiocraft_say_that_they_take_none(score, melody):
    done = score("--melody", melody, model="expotion-mini")
    assert done.exit_code == 2 and "expotion-mini takes no melody" in done.stderr and "musicgen-melody" in done.stderr
    done = score("--melody", melody, "--backbone", "audiocraft")
    assert done.exit_code == 2 and "--melody does not work with audiocraft" in done.stderr


@pytest.mark.parametrize("kind", ["transformers", "audiocraft"])
@pytest.mark.parametrize("melody", ["mini", "tune.wav"])
def test_plain_musicgen_given_a_melody_is_named(score, tmp_path, kind, melody):
    plain = save_tiny(tmp_path / "plain", num_codebooks=4)
    if kind == "audiocraft":
        plain = save_audiocraft(tiny_musicgen(num_codebooks=4), plain / "tokenizer.json", tmp_path / "files")
    tune_file = write_wav(tmp_path / "tune.wav", tune(1.0), 32_000)
    done = score("--melody", tune_file if melody == "tune.wav" else melody, "--streams", "none", model=plain)
    assert done.exit_code == 2, done.stderr
    assert f"{plain} takes no melody" in done.stderr and "--model musicgen-melody" in done.stderr
    assert not list(tmp_path.glob("out/*.mp4"))


def test_weights_of_plain_musicgen_given_as_a_melody_model_are_named(score, model, tmp_path):
    plain = save_tiny(tmp_path / "mixed-up", num_codebooks=4)
    shutil.copy(model / "config.json", plain)
    path = write_wav(tmp_path / "tune.wav", tune(1.0), 32_000)
    done = score("--melody", path, "--streams", "none", model=plain)
    assert done.exit_code == 4 and "model.safetensors: The config is MusicGen Melody's" in done.stderr
    assert "Take config and weights of the same model." in done.stderr


def test_a_missing_tune_is_named(score, tmp_path):
    done = score("--melody", tmp_path / "none.wav", "--streams", "none")
    assert done.exit_code == 2 and "no such melody file" in done.stderr and "none.wav" in done.stderr
    assert not (tmp_path / "out").exists()
