"""The clip's own sound under the music, through the finish rung."""

from __future__ import annotations

import numpy as np
import pytest
from odd_files import ffmpeg, film, tone

from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring.ladder import Score, finish

RECIPE = load_recipe("cinematic", {"mix.mode": "under", "loudness.lufs": -24})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return film(tmp_path_factory.mktemp("base") / "base.mp4")


def score(seconds: float, sample_rate: int) -> Score:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    audio = 0.2 * np.sin(2 * np.pi * 220 * time) * (0.6 + 0.4 * np.cos(4 * np.pi * time))
    return Score(np.stack([audio, audio]).astype(np.float32), sample_rate, None)


@pytest.mark.parametrize("rate", [8_000, 32_000, 44_100])
def test_own_sound_keeps_its_band_whatever_rate_the_music_has(base, tmp_path, rate):
    clip = tmp_path / "highs.mkv"
    highs = tone("0.3*sin(2*PI*500*t)+0.1*sin(2*PI*12000*t)", 2)
    ffmpeg("-i", base, *highs, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "flac", clip)
    info = probe(clip)
    report = finish(info, score(2, rate), RECIPE, tmp_path / "out.mkv")
    assert report.sample_rate == 48_000
    spectrum = np.abs(np.fft.rfft(read_clip_sound(tmp_path / "out.mkv", 48_000)[0, 24_000:72_000]))
    assert 20 * np.log10(spectrum[12_000] / spectrum[500]) == pytest.approx(20 * np.log10(1 / 3), abs=1.5)


def test_music_keeps_its_rate_where_own_sound_reaches_no_higher(base, tmp_path):
    clip = tmp_path / "low.mkv"
    ffmpeg("-i", base, "-map", 0, "-c:v", "copy", "-c:a", "flac", "-ar", 16_000, clip)
    assert finish(probe(clip), score(2, 44_100), RECIPE, tmp_path / "out.mkv").sample_rate == 44_100


def test_a_clip_with_sound_that_cannot_be_decoded_gets_the_music_alone_and_a_note(base, tmp_path):
    from odd_files import edited, rename_entry, trak

    def hide(boxes):
        rename_entry(trak(boxes, 1), b"apac")
        entry = trak(boxes, 1).one(b"mdia", b"minf", b"stbl", b"stsd")
        entry.content = entry.content.replace(b"esds", b"free")

    clip = edited(base, tmp_path / "spatial.mp4", hide)
    report = finish(probe(clip), score(2, 44_100), RECIPE, tmp_path / "out.mp4")
    assert "its sound track (apac) can't be decoded and is not in the result" in report.notes
