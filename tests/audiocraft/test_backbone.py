"""`--backbone audiocraft`: audiocraft's own MusicGen composes, and everything else is as always."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from shutil import copytree, rmtree

import numpy as np
import pytest
import torch
from audiocraft_files import CODEC_FILE, LM_FILE, Runs, change_package
from options import make_request, make_sampling

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.music.generate.sampling import Sampling
from expotion_cli.music.request import CueRequest
from expotion_cli.timing import Timeline

SHORT = make_sampling(top_k=20)


def cue(prompt: str, num_steps: int, seed: int = 1, sampling: Sampling = SHORT) -> CueRequest:
    return make_request(prompt, Timeline(Fraction(num_steps, 50), Fraction(50)), None, seed, sampling)


@pytest.fixture(scope="module")
def model(mono):
    from expotion_cli.music.audiocraft_backbone import load_audiocraft

    return load_audiocraft(mono.folder, device="cpu")


def test_it_is_audiocrafts_own_music(model, mono):
    from audiocraft.models import MusicGen

    request = cue("slow sad piano", 40, sampling=replace(SHORT, temperature=0))
    ((index, tokens),) = model.generate([request])
    reference = MusicGen("reference", mono.codec, mono.lm, max_duration=30)
    reference.set_generation_params(use_sampling=False, duration=0.8, cfg_coef=3.0)
    audio, theirs = reference.generate([request.prompt], return_tokens=True)
    assert index == 0 and tokens.dtype == np.int64 and tokens.tolist() == theirs[0].tolist()
    rendering = model.codec.decode(tokens, request.timeline)
    assert rendering.audio.shape == (2, 25_600) and np.abs(rendering.audio).max() > 1e-3
    assert np.abs(rendering.audio[0] - audio[0, 0, :25_600].numpy()).max() <= 1e-6


def test_a_cue_is_the_same_alone_and_among_others(model):
    cues = [cue("slow sad piano", 30), cue("epic drums", 47), cue("slow sad piano", 30, seed=2)]
    together = dict(model.generate(cues, batch_size=8))
    torch.manual_seed(1234)
    for index, request in reversed(list(enumerate(cues))):
        ((_, alone),) = model.generate([request])
        assert alone.shape == (4, request.num_steps) and np.array_equal(alone, together[index])
    assert not np.array_equal(together[0], together[2])


def test_torchs_random_numbers_are_left_as_they_were(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(model.generate([cue("calm", 10)]))
    assert torch.equal(torch.rand(3), expected)


def test_sampling_settings_reach_audiocraft(model):
    base = next(model.generate([cue("calm strings", 30)]))[1]
    for change in ({"top_k": 0}, {"temperature": 0.2}, {"guidance": 1.0}, {"top_p": 0.3}):
        other = next(model.generate([cue("calm strings", 30, sampling=replace(SHORT, **change))]))[1]
        assert not np.array_equal(base, other), change
    assert next(model.generate([cue("calm", 5, sampling=replace(SHORT, top_k=4096))]))[1].shape == (4, 5)


def test_progress_ends_with_the_cue(model):
    heard = []
    list(model.generate([cue("calm", 20)], on_progress=lambda done, total: heard.append((done, total))))
    assert heard[-1] == (20, 20) and heard == sorted(heard)


@pytest.mark.parametrize("num_steps", [51, 81, 133])
def test_a_cue_longer_than_a_window_goes_on_and_ends_exactly_with_the_picture(short, num_steps):
    from expotion_cli.music.audiocraft_backbone import load_audiocraft

    model = load_audiocraft(short.folder, device="cpu")
    heard = []
    request = cue("warm strings", num_steps)
    ((_, tokens),) = model.generate([request], on_progress=lambda done, total: heard.append(done))
    assert tokens.shape == (4, num_steps) and 0 <= tokens.min() and tokens.max() < 64
    assert max(heard) <= num_steps
    assert model.codec.decode(tokens, request.timeline).audio.shape == (2, num_steps * 640)
    strict = make_sampling(temperature=0)
    longer, window = (next(model.generate([cue("calm", n, sampling=strict)]))[1] for n in (num_steps, 50))
    assert np.array_equal(longer[:, :50], window)


def test_stereo_has_two_sides(stereo):
    from expotion_cli.music.audiocraft_backbone import load_audiocraft

    model = load_audiocraft(stereo.folder, device="cpu")
    request = cue("warm strings", 25)
    ((_, tokens),) = model.generate([request])
    audio = model.codec.decode(tokens, request.timeline).audio
    assert tokens.shape == (8, 25) and audio.shape == (2, 16_000) and np.abs(audio[0] - audio[1]).max() > 1e-3


def test_what_decides_the_music_is_in_the_digest(model, mono, tmp_path):
    from expotion_cli.music.audiocraft_backbone import load_audiocraft

    assert load_audiocraft(mono.folder, device="cpu").digest == model.digest

    def nudge(package: dict) -> None:
        next(tensor for tensor in package["best_state"].values() if tensor.dtype == torch.float32).add_(0.01)

    for file in (LM_FILE, CODEC_FILE):
        folder = copytree(mono.folder, tmp_path / file)
        change_package(folder / file, nudge)
        other = load_audiocraft(folder, device="cpu")
        changed = [other.digest != model.digest, other.codec.digest != model.codec.digest]
        assert changed == [file == LM_FILE, file == CODEC_FILE]


LAYER = "transformer.layers.1.linear1.weight"
EDITS: dict[str, tuple[Callable[[dict], object], str]] = {
    "missing": (lambda package: package["best_state"].pop(LAYER), "linear1.weight"),
    "foreign": (lambda package: package["best_state"].update(surprise=torch.zeros(1)), "surprise"),
    "shape": (lambda package: package["best_state"].update({LAYER: torch.zeros(3, 32)}), "linear1.weight"),
    "nan": (lambda package: package["best_state"][LAYER].fill_(torch.nan), "NaN"),
    "no state": (lambda package: package.pop("best_state"), "best_state"),
    "melody": (
        lambda package: package.update({"xp.cfg": package["xp.cfg"].replace("model: t5", "model: chroma_stem")}),
        "melody",
    ),
}


@pytest.fixture
def bad_folder(mono, tmp_path):
    return copytree(mono.folder, tmp_path / "bad")


def refused(folder, words: str) -> None:
    from expotion_cli.music.audiocraft_backbone import load_audiocraft

    with pytest.raises(WeightsError, match=words):
        load_audiocraft(folder, device="cpu")


@pytest.mark.parametrize("how", EDITS)
def test_what_is_wrong_in_a_file_is_named(bad_folder, how):
    edit, words = EDITS[how]
    change_package(bad_folder / LM_FILE, edit)
    refused(bad_folder, words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / LM_FILE).write_bytes((folder / LM_FILE).read_bytes()[:5000]), "damaged"),
        (lambda folder: (folder / CODEC_FILE).unlink(), CODEC_FILE),
        (lambda folder: rmtree(folder / "t5-base"), "hf download t5-base"),
    ],
    ids=["cut", "no codec", "no text encoder"],
)
def test_a_damaged_or_missing_file_is_named(bad_folder, damage, words):
    damage(bad_folder)
    refused(bad_folder, words)


def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(bad_folder, tmp_path):
    marker = tmp_path / "it-ran"
    change_package(bad_folder / LM_FILE, lambda package: package.update({"xp.cfg": Runs(open, str(marker), "w")}))
    refused(bad_folder, "would run")
    assert not marker.exists()


def test_numbers_that_audiocraft_does_not_run_in_are_refused(mono):
    from expotion_cli.music.audiocraft_backbone import load_audiocraft

    with pytest.raises(UsageError, match="bf16"):
        load_audiocraft(mono.folder, device="cpu", dtype="bf16")


def test_a_clip_is_scored_and_the_sidecar_tells_the_truth(mono, make_video, tmp_path):
    from typer.testing import CliRunner

    from expotion_cli.cli.app import app
    from expotion_cli.media.loudness import measure

    clips = [make_video(tmp_path / "in" / f"{name}.mp4", duration_s=length) for name, length in (("a", 1.3), ("b", 2))]
    command = ["score", *map(str, clips), "--backbone", "audiocraft", "--model", str(mono.folder), "--device", "cpu"]
    # Random weights make clicks, which leave no room for the usual loudness below the usual peak.
    command += ["--prompt", "slow sad piano", "--seed", "7", "--lufs", "-24", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("from the prompt alone") == 1
    for clip in clips:
        video = tmp_path / "out" / clip.name
        said = json.loads(video.with_suffix(".score.json").read_text())
        assert said["model"]["backbone"] == "audiocraft" and said["model"]["name"] == str(mono.folder)
        assert (said["prompt"], said["seed"], said["adapter"]) == ("slow sad piano", 7, None)
        # The model is told of no picture; the follow layer is.
        assert {stream["name"] for stream in said["streams"]} >= {"flow"}
        assert (said["device"], said["dtype"], said["tempo"]) == ("cpu", "float32", None)
        assert said["versions"]["audiocraft"] == "1.3.0"
        assert abs(measure(video).integrated_lufs + 24) <= 0.5
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and again.stdout.splitlines()[-1].startswith("2 already there")
