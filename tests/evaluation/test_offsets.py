"""In time or not, as Synchformer tells: windows, figures, chance, absent weights, and whole evaluations."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation import offsets, set_measures, synchformer_audio, synchformer_av
from expotion_cli.evaluation.features import SoundFeatures
from expotion_cli.evaluation.offsets import Synchformer, in_sync, sync_offset, together, windows
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue
from expotion_cli.evaluation.pretrained import WeightsSource
from expotion_cli.evaluation.set_measures import SetMeasures
from expotion_cli.evaluation.synchformer_audio import AudioSizes
from expotion_cli.evaluation.synchformer_av import AudioVisualModel, ModelSizes
from expotion_cli.media.flac import to_16_bit, write_flac
from expotion_cli.media.frames import Frame
from expotion_cli.media.probe import probe
from expotion_cli.vision import networks
from expotion_cli.vision.cache import EmbeddingCache
from expotion_cli.vision.synchformer_model import Sizes

TINY = ModelSizes(
    visual=Sizes(width=6, depth=1, heads=2, spread=1, side=224, patch=112),
    audio=AudioSizes(width=6, depth=1, heads=2, spread=1),
    width=8,
    depth=1,
    heads=2,
    spread=1,
)
"""Takes the real pictures, spectrograms and lines; all else is small."""
GRID = np.array(synchformer_av.offsets_s(21))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> WeightsSource:
    """A folder with small random weights in the published format."""
    folder = tmp_path_factory.mktemp("weights")
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(t.shape, generator=generator) for n, t in AudioVisualModel(TINY).state_dict().items()}
    torch.save(weights, folder / "synchformer_state_dict.pth")
    return WeightsSource(folder)


@pytest.fixture
def small(monkeypatch):
    """Whoever loads the model gets it in the small sizes."""
    real = synchformer_av.load_model
    monkeypatch.setattr(synchformer_av, "load_model", lambda path, sizes=None, **more: real(path, TINY, **more))


class Oracle(torch.nn.Module):
    """In place of the model: picture and sound belong together where one is as bright as the other is loud."""

    def __init__(self, sizes: ModelSizes = TINY):
        super().__init__()
        self.sizes, self.segments, self.sounds = sizes, [], []

    def vfeat_extractor(self, pictures: torch.Tensor) -> torch.Tensor:
        """Brightness, 0 to 1."""
        assert pictures.shape[1:] == (16, 224, 224, 3) and pictures.dtype == torch.uint8
        self.segments += pictures[:, :, 0, 0, 0].tolist()
        rows = torch.zeros(len(pictures), 8, 6)
        rows[:, :, 0] = pictures.float().mean(dim=(1, 2, 3, 4))[:, None] / 255
        return rows

    def afeat_extractor(self, sounds: torch.Tensor) -> torch.Tensor:
        """Peak of a segment."""
        self.sounds += sounds[:, 0].tolist()
        rows = torch.zeros(len(sounds), 6, 6)
        rows[:, :, 0] = sounds.abs().amax(dim=1)[:, None]
        return rows

    def forward(self, seen: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Class 10 (in time) where they belong together, else class 5 (1 s)."""
        assert seen.shape[1:3] == (14, 8) and heard.shape[1:3] == (14, 6)
        apart = (seen[:, 0, 0, 0] - heard[:, 0, 0, 0]).abs()
        logits = torch.zeros(len(seen), 21)
        logits[:, 10], logits[:, 5] = 6.0 * (apart < 0.05), 6.0 * (apart >= 0.05)
        return logits


@pytest.fixture
def oracle(weights, monkeypatch) -> Oracle:
    """Judges in place of the weights; it hears the sound itself. Clips are as bright as their names say."""
    found = Oracle()
    monkeypatch.setattr(synchformer_av, "load_model", lambda *_, **__: found)
    monkeypatch.setattr(synchformer_audio, "log_mel", lambda sound, sizes: sound)

    def frames(clip, views):
        assert views[0].rate_hz == 25 and views[0].short_side == 256
        for number in range(round(25 * clip.duration)):
            level = number % 256 if clip.path == "counting" else round(255 * float(clip.path))
            yield 0, Frame(number / 25, np.broadcast_to(np.uint8(level), (256, 300, 3)))

    monkeypatch.setattr(offsets, "iter_views", frames)
    return found


def clip(name: str, duration: float = 6.0) -> SimpleNamespace:
    return SimpleNamespace(path=name, duration=duration)


def tone(name: str, level: float, duration_s: float = 6.0, prompt: str | None = None, seed: int = 0) -> Cue:
    time = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    wave = (level * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    return Cue(name, np.stack([wave, wave]), seed, prompt=prompt)


def measured(weights, cues, clips, **more):
    measures = SetMeasures(weights, 0, None, clips=clips, **more)
    return measures, measures.text([SoundFeatures(cue) for cue in cues])


def test_windows_are_spread_evenly_from_the_first_to_the_last_segment():
    assert windows(13) == [] and windows(14) == [0] and windows(15) == [0, 1]
    assert windows(24) == [0, 10], "8 s: the first and the last 4.8 s, as in DeSync"
    assert windows(29) == [0, 15] and windows(30) == [0, 8, 16]
    for count in range(15, 200):
        found = windows(count)
        assert found[0] == 0 and found[-1] + 14 == count
        assert max(np.diff(found)) <= 15, "nothing lies between two windows"


def test_figures_of_known_likelihoods():
    sure = np.eye(21)[[10, 10]]
    assert in_sync(sure, GRID) == 1 and sync_offset(sure, GRID) == 0
    even = np.full((1, 21), 1 / 21)
    assert in_sync(even, GRID) == pytest.approx(3 / 21)
    beside = np.eye(21)[[9, 11, 12, 0]]
    assert in_sync(beside, GRID) == 0.5 and sync_offset(beside, GRID) == pytest.approx((0.2 + 0.2 + 0.4 + 2.0) / 4)
    nothing = np.zeros((0, 21))
    assert math.isnan(in_sync(nothing, GRID)) and math.isnan(sync_offset(nothing, GRID))


def test_all_three_are_together_only_where_the_sound_keeps_to_both():
    assert together(0.5, 0.32) == pytest.approx(0.4) and together(1, 1) == 1
    assert together(0.9, -0.3) == 0 and together(0, 0.9) == 0


def test_segments_of_pictures_and_of_sound_are_of_the_same_times(weights, oracle):
    network = Synchformer(weights)
    seen = network.encode_video(clip("counting", 5.5))
    time = np.arange(round(5.5 * SAMPLE_RATE)) / SAMPLE_RATE
    heard = network.encode_audio(np.stack([time, time]).astype(np.float32))
    assert len(seen) == len(heard) == 16 and seen.shape[1:] == (8, 6) and heard.shape[1:] == (6, 6)
    assert oracle.segments == [list(range(8 * k, 8 * k + 16)) for k in range(16)]
    np.testing.assert_allclose(oracle.sounds, 0.32 * np.arange(16), atol=0.003)


def test_own_pictures_are_told_from_the_others(weights, oracle):
    clips = {level: clip(level) for level in ("0.2", "0.5", "0.8")}
    _, figures = measured(weights, [tone(name, float(name)) for name in clips], clips)
    sure = math.exp(6) / (math.exp(6) + 20)
    assert figures["in_sync"].value == pytest.approx((math.exp(6) + 2) / (math.exp(6) + 20))
    assert figures["in_sync"].chance == pytest.approx(3 * (1 - sure) / 20, abs=1e-3)
    assert figures["in_sync"].lift_interval[0] > 0.9
    assert figures["sync_offset"].value == 0 and figures["sync_offset"].chance == pytest.approx(1.0)
    assert figures["sync_offset"].lift_interval[1] < 0 and set(figures["in_sync"].by_clip) == set(clips)
    assert figures["consistency"].missing == set_measures.NO_PROMPTS


def test_a_smaller_offset_than_chance_has_its_star(weights, oracle):
    from expotion_cli.evaluation.report import cell
    from expotion_cli.evaluation.results import BY_KEY

    clips = {level: clip(level) for level in ("0.2", "0.5", "0.8")}
    _, good = measured(weights, [tone(name, float(name)) for name in clips], clips)
    assert cell(good["sync_offset"], BY_KEY["sync_offset"]) == "0.00* (0.00 to 0.00) [1.00]"
    _, bad = measured(weights, [tone(name, 0.99) for name in clips], clips)
    assert cell(bad["sync_offset"], BY_KEY["sync_offset"]) == "1.00 (1.00 to 1.00) [1.00]"


class Clap:
    """Words and tones as points on a circle: the louder the tone, the greater the angle that fits it."""

    identity = "made"

    def __init__(self, where: WeightsSource):
        self.where = where

    def words(self, texts):
        return np.array([[math.cos(float(text)), math.sin(float(text))] for text in texts])

    def windows(self, audio):
        angle = float(np.abs(audio).max())
        return np.array([[math.cos(angle), math.sin(angle)]])


def test_text_video_audio_is_the_geometric_mean_clip_by_clip_with_others_pictures_and_words_as_chance(
    weights, oracle, monkeypatch
):
    monkeypatch.setattr(set_measures, "Clap", Clap)
    clips = {level: clip(level) for level in ("0.2", "0.5", "0.8")}
    cues = [tone(name, float(name), prompt=f"{2 * float(name)}") for name in clips]
    measures, figures = measured(weights, cues, clips)
    for name in clips:
        expected = math.sqrt(figures["in_sync"].by_clip[name] * figures["clap"].by_clip[name])
        assert figures["consistency"].by_clip[name] == pytest.approx(expected)
        assert figures["clap"].by_clip[name] == pytest.approx(math.cos(float(name)), abs=1e-3)
    assert figures["consistency"].chance < 0.3 < figures["consistency"].value
    assert set(measures.networks) == {"clap", "synchformer"}
    # without a prompt a clip has no part in it, but keeps its time
    _, figures = measured(weights, [*cues[:2], tone("0.8", 0.8)], clips)
    assert set(figures["consistency"].by_clip) == {"0.2", "0.5"} and len(figures["in_sync"].by_clip) == 3


def test_equal_prompts_leave_the_pictures_as_chance(weights, oracle, monkeypatch):
    monkeypatch.setattr(set_measures, "Clap", Clap)
    clips = {level: clip(level) for level in ("0.2", "0.5")}
    _, figures = measured(weights, [tone(name, float(name), prompt="0.3") for name in clips], clips)
    assert figures["clap"].chance is None and figures["consistency"].chance < figures["consistency"].value


def test_absent_clap_leaves_the_time_measured(weights, oracle, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    clips = {level: clip(level) for level in ("0.2", "0.5")}
    _, figures = measured(weights, [tone(name, float(name), prompt="calm") for name in clips], clips)
    assert figures["in_sync"].value > 0.9 and figures["consistency"].missing.startswith("needs laion/clap")


def test_several_takes_of_a_clip_are_one_clip_and_it_is_encoded_once(weights, oracle):
    clips = {level: clip(level) for level in ("0.2", "0.5")}
    said = []
    cues = [tone(name, float(name) if take else 0.99, seed=take) for name in clips for take in (0, 1)]
    measures, figures = measured(weights, cues, clips, on_status=said.append)
    assert figures["sync_offset"].by_clip == {"0.2": 0.5, "0.5": 0.5}
    measures.text([SoundFeatures(cue) for cue in cues])
    assert said == ["synchformer encodes 0.2", "synchformer encodes 0.5"]


def test_what_is_too_short_or_silent_is_left_out(weights, oracle):
    clips = {"0.2": clip("0.2"), "0.5": clip("0.5", 4.7), "0.8": clip("0.8"), "0.9": clip("0.9")}
    cues = [tone("0.2", 0.2), tone("0.5", 0.5), tone("0.8", 0.8, 4.0), tone("0.9", 0.0)]
    _, figures = measured(weights, cues, clips)
    assert set(figures["in_sync"].by_clip) == {"0.2"} and figures["in_sync"].chance is None
    keys = ("in_sync", "sync_offset", "consistency")
    _, figures = measured(weights, cues[1:], clips)
    assert {figures[key].missing for key in keys} == {set_measures.TOO_SHORT} and "4.8 s" in set_measures.TOO_SHORT
    _, figures = measured(weights, cues[3:], clips)
    assert {figures[key].missing for key in keys} == {set_measures.ALL_SILENT}


def test_what_was_seen_is_kept_and_not_computed_again(weights, small, make_video, tmp_path, monkeypatch):
    info = probe(make_video(tmp_path / "clip.mp4", duration_s=1.0))
    cache, network = EmbeddingCache(tmp_path / "cache"), Synchformer(weights)
    seen = network.encode_video(info, cache)
    assert seen.shape == (2, 8, 6) and seen.std() > 0
    np.testing.assert_array_equal(seen, network.encode_video(info))
    monkeypatch.setattr(offsets, "iter_views", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(seen, Synchformer(weights).encode_video(info, cache))
    assert cache.info().entries == 1


def test_absent_weights_are_named_with_the_way_to_get_them():
    with pytest.raises(WeightsError) as caught:
        Synchformer(WeightsSource())
    assert str(caught.value).startswith("needs synchformer (run: expotion fetch synchformer, 950.1 MB; or give ")
    _, figures = measured(WeightsSource(), [tone("0.2", 0.2)], {})
    keys = ("in_sync", "sync_offset", "consistency")
    assert {figures[key].missing for key in keys} == {str(caught.value)}


def test_damaged_weights_are_told_apart_from_absent_ones(weights, small, tmp_path):
    place = networks.NetworkFile("synchformer").path
    place.parent.mkdir(parents=True)
    place.write_bytes((weights.folder / place.name).read_bytes())
    with pytest.raises(WeightsError, match=r"This file of synchformer is damaged.*expotion fetch synchformer"):
        Synchformer(WeightsSource())
    weights = torch.load(weights.folder / place.name, weights_only=True)
    torch.save({name: t for name, t in weights.items() if name.startswith("vfeat_extractor.")}, tmp_path / place.name)
    with pytest.raises(WeightsError, match="no synchronisation model in this file"):
        Synchformer(WeightsSource(tmp_path))
    del weights["afeat_extractor.ast.layernorm.weight"]
    (tmp_path / "synchformer").mkdir()
    (tmp_path / place.name).unlink()
    torch.save(weights, tmp_path / "synchformer" / place.name)
    with pytest.raises(WeightsError, match=r"afeat_extractor\.ast\.layernorm\.weight"):
        Synchformer(WeightsSource(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_video):
    """Two clips and a set of music for them."""
    root = tmp_path_factory.mktemp("offsets")
    for number, name in enumerate(("one", "two")):
        make_video(root / "clips" / f"{name}.mp4", duration_s=5.4, hue=120 * number, sound=False)
        noise = np.random.default_rng(number).standard_normal((2, round(5.4 * SAMPLE_RATE)))
        (root / "ours").mkdir(exist_ok=True)
        write_flac(root / "ours" / f"{name}.flac", to_16_bit((0.1 * noise).astype(np.float32)), SAMPLE_RATE)
    (root / "ours" / "captions.json").write_text(json.dumps({"one": "calm piano", "two": "fast drums"}))
    return root


def evaluate(folder, *more):
    from expotion_cli.cli.app import app

    outputs = ("--outputs", f"ours={folder / 'ours'}")
    arguments = ["evaluate", folder / "clips", *outputs, "--only", "text", "--no-yardsticks"]
    return CliRunner().invoke(app, [str(argument) for argument in (*arguments, *more)])


@pytest.mark.long
def test_expotion_evaluate_says_how_far_sound_and_picture_are_in_time(folder, weights, small):
    done = evaluate(folder, "--weights", weights.folder)
    assert done.exit_code == 0, done.stderr
    assert "Prompt, picture and sound" in done.stdout
    assert "in sync" in done.stdout and "sync offset, s" in done.stdout
    assert "text-video-audio: needs laion/clap-htsat-unfused" in done.stdout
    said = json.loads(evaluate(folder, "--weights", weights.folder, "--json").stdout)
    figures = said["sets"][0]["figures"]
    assert 0 <= figures["in_sync"]["value"] <= 1 and 0 <= figures["sync_offset"]["value"] <= 2
    for key in ("in_sync", "sync_offset"):
        assert set(figures[key]["by_clip"]) == {"one", "two"} and figures[key]["chance"] is not None
    assert said["settings"]["networks"]["synchformer"].startswith("synchformer, sha256 ")
    assert said["settings"]["sync_window_s"] == 4.8


def test_expotion_evaluate_says_what_it_needs_where_there_are_no_weights(folder):
    done = evaluate(folder)
    assert done.exit_code == 0, done.stderr
    assert (
        "not measured: in sync, sync offset, s, text-video-audio: needs synchformer (run: expotion fetch synchformer"
        in done.stdout
    )
