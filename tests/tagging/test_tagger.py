"""The tagger: the port beside the published code, sounds of all kinds, style and how much of it is kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_sounds import NUM_SAMPLES, band

from expotion_cli.audio.mel import slaney_triangles
from expotion_cli.errors import UnknownNameError, WeightsError
from expotion_cli.media.sound import resample
from expotion_cli.tagging import musicnn
from expotion_cli.tagging.tagger import Tagger, style, style_ratio
from expotion_cli.tags import TAGS, tags_in
from expotion_cli.weights import manifest

PUBLISHED = Path(__file__).with_name("published_musicnn.npz")
"""What benchmarks/published_musicnn.py found the published code to say of `made_sounds.band`."""


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger()


def tone(hz: float, seconds: float, sample_rate: int = 48_000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(np.float32)


def test_the_port_says_what_the_published_code_says(tagger):
    published = np.load(PUBLISHED)
    heard = tagger.hear(band(), musicnn.SAMPLE_RATE, level_lufs=None)
    assert tuple(published["tags"]) == TAGS
    assert heard.probabilities.shape == published["taggram"].shape == (4, 50)
    assert np.abs(heard.probabilities - published["taggram"]).max() < 1e-4
    assert np.abs(heard.embeddings - published["penultimate"]).max() < 1e-4
    assert np.ptp(published["taggram"], axis=0).max() > 0.2, "windows that are all alike would prove little"


def test_mel_bands_follow_slaneys_scale():
    bins_hz = np.arange(0, 8001, 1.0)
    bands = slaney_triangles(bins_hz, 0.0, 8000.0, 96)
    assert np.allclose(bands.sum(axis=1), 1, atol=0.02), "each triangle has area 1"
    # Linear up to 1 kHz, which is 15 mel; 8 kHz is 45.2 mel. 97 steps lead there.
    step = (15 + 27 * math.log(8) / math.log(6.4)) / 97
    assert bins_hz[bands[0].argmax()] == pytest.approx(step / 0.015, abs=1)
    assert bins_hz[bands[-1].argmax()] == pytest.approx(8000 * 6.4 ** (-step / 27), abs=1)


@pytest.mark.long
def test_how_loud_how_wide_and_how_finely_sampled_a_sound_is_matters_little(tagger):
    sound = band(48_000, 3 * NUM_SAMPLES)
    alone = tagger.hear(sound, 48_000)
    quiet = tagger.hear(0.05 * sound, 48_000)
    assert np.abs(quiet.probabilities - alone.probabilities).max() < 0.01
    assert np.array_equal(tagger.hear(np.stack([sound, sound]), 48_000).probabilities, alone.probabilities)
    coarse = tagger.hear(resample(sound[None], 48_000, 32_000), 32_000)
    assert np.abs(coarse.mean - alone.mean).max() < 0.05


def test_windows_cover_the_whole_sound_evenly(tagger):
    assert [len(tagger.hear(tone(220, s), 48_000).probabilities) for s in (3, 4, 6, 10)] == [1, 2, 3, 6]
    late = np.concatenate([np.zeros(16_000 * 9, np.float32), band(num_samples=16_000)])
    assert tagger.hear(late, 16_000).embeddings.shape == (1, musicnn.WIDTH), "only the last window sounds"


def test_fewer_windows_are_spread_over_the_whole_sound_too(tagger):
    sound = np.concatenate([tone(220, 6), tone(1760, 6)])
    every, some = tagger.hear(sound, 48_000), tagger.hear(sound, 48_000, most_windows=2)
    assert len(some.probabilities) == 2 < len(every.probabilities)
    assert np.allclose(some.probabilities, every.probabilities[[0, -1]], atol=1e-5)
    assert len(tagger.hear(tone(220, 4), 48_000, most_windows=9).probabilities) == 2, "no more than there are"


def test_short_sound_is_repeated_until_it_fills_a_window(tagger):
    beat = band(num_samples=8000)
    assert np.allclose(tagger.hear(beat, 16_000).mean, tagger.hear(np.tile(beat, 6), 16_000).mean, atol=0.02)


@pytest.mark.parametrize("seconds", [0, 0.01, 1, 8])
def test_silence_has_no_tags_and_no_embeddings(tagger, seconds):
    heard = tagger.hear(np.zeros((2, round(seconds * 48_000)), np.float32), 48_000)
    assert not heard.mean.any() and heard.embeddings.shape == (0, musicnn.WIDTH)
    assert style(heard.mean, ["piano"]) == 0


def test_damaged_weights_are_refused_before_they_are_read(tmp_path, monkeypatch):
    (tmp_path / "musicnn").mkdir()
    shipped = manifest.shipped_folder("models")
    (tmp_path / "musicnn.toml").write_bytes((shipped / "musicnn.toml").read_bytes())
    content = bytearray((shipped / "musicnn" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "musicnn" / "model.safetensors").write_bytes(content)
    monkeypatch.setattr(manifest, "shipped_folder", lambda name: tmp_path)
    with pytest.raises(WeightsError, match="damaged"):
        Tagger()


def test_style_is_the_mean_probability_of_its_tags():
    heard = np.zeros((2, 50))
    heard[:, TAGS.index("harp")] = 0.2, 0.4
    heard[:, TAGS.index("cello")] = 0.8, 0.6
    assert style(heard, ["harp"]) == pytest.approx(0.3)
    assert style(heard, ["harp", "cello", "harp"]) == pytest.approx(0.5)
    assert style([heard[0], heard[1]], ["harp", "cello"]) == style(heard[None], ["harp", "cello"])


def test_style_ratio_tells_what_is_kept_with_the_picture():
    bare = np.full((3, 50), 0.4)
    assert style_ratio(0.85 * bare, bare, ["techno", "dance"]) == pytest.approx(0.85)
    assert style_ratio(bare, [bare[0], bare[1]], ["techno"]) == pytest.approx(1)
    assert math.isnan(style_ratio(bare, 0 * bare, ["techno"]))


def test_an_unknown_tag_names_the_nearest():
    with pytest.raises(UnknownNameError, match="'violn'.*did you mean 'violin'"):
        style(np.zeros(50), ["violn"])


@pytest.mark.parametrize(
    ("prompt", "tags"),
    [
        ("Slow, sad PIANO over strings", ("slow", "piano", "strings")),
        ("dreamy ambient, warm pad, bells, piano, no drums", ("ambient", "piano")),
        ("a female vocal, male voice; without any beat", ("female vocal", "male voice")),
        ("no vocals, harpsichord", ("no vocals", "harpsichord")),
        ("a pianist in a rocking chair", ()),
    ],
)
def test_tags_are_found_in_prompts_as_whole_words(prompt, tags):
    assert tags_in(prompt) == tags
