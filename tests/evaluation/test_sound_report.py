"""The report on signals made to have one flaw each."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from expotion_cli.evaluation.sound_report import measure_sound

SAMPLE_RATE = 44_100


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """[2, n], channels unrelated."""
    shape = (2, round(seconds * SAMPLE_RATE))
    return (level * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def tone(seconds: float, pitch_hz: float, level: float = 0.3) -> np.ndarray:
    wave = level * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)
    return np.stack([wave, wave]).astype(np.float32)


def test_a_sound_without_flaws_has_none():
    report = measure_sound(noise(3.0), SAMPLE_RATE)
    assert report.duration_s == pytest.approx(3.0)
    assert report.silent_share == report.longest_silence_s == report.silent_tail_s == report.clipped_samples == 0
    assert report.dc_offset < 1e-3 and abs(report.stereo_correlation) < 0.02
    assert -25 < report.integrated_lufs < -10 and report.true_peak_dbtp < 0


def test_silence_is_found_where_it_is():
    audio = noise(5.0)
    audio[:, SAMPLE_RATE : 2 * SAMPLE_RATE] = 0  # a second in the middle
    audio[:, -SAMPLE_RATE // 2 :] *= 1e-5  # and half a second, nearly, at the end
    report = measure_sound(audio, SAMPLE_RATE)
    assert report.silent_share == pytest.approx(0.3, abs=0.02)
    assert report.longest_silence_s == pytest.approx(1.0, abs=0.05)
    assert report.silent_tail_s == pytest.approx(0.5, abs=0.05)


def test_sound_in_one_channel_alone_is_no_silence():
    audio = noise(1.0)
    audio[0] = 0
    report = measure_sound(audio, SAMPLE_RATE)
    assert report.silent_share == 0 and math.isnan(report.stereo_correlation)


def test_nothing_at_all_is_told_as_such():
    report = measure_sound(np.zeros((2, SAMPLE_RATE), np.float32), SAMPLE_RATE)
    assert report.silent_share == 1 and report.silent_tail_s == report.longest_silence_s == pytest.approx(1.0)
    assert report.integrated_lufs == -math.inf and math.isnan(report.centroid_hz) and report.onsets_hz == 0
    record = report.record()
    assert record["integrated_lufs"] is None and record["clipped_samples"] == 0
    json.dumps(record, allow_nan=False)


def test_clipping_and_offset_are_found():
    audio = noise(1.0, level=0.05)
    audio[0, 100:117] = 1.0
    audio[1, 500:503] = -1.2
    assert measure_sound(audio, SAMPLE_RATE).clipped_samples == 20
    assert measure_sound(noise(1.0) - np.float32(0.05), SAMPLE_RATE).dc_offset == pytest.approx(0.05, abs=2e-3)


@pytest.mark.parametrize("pitch_hz", [200.0, 3000.0])
def test_the_centroid_of_a_tone_is_its_pitch(pitch_hz):
    report = measure_sound(tone(1.5, pitch_hz), SAMPLE_RATE)
    assert report.centroid_hz == pytest.approx(pitch_hz, rel=0.03) and report.stereo_correlation == pytest.approx(1.0)


def test_channels_out_of_phase_are_told():
    audio = tone(1.0, 300)
    audio[1] *= -1
    assert measure_sound(audio, SAMPLE_RATE).stereo_correlation == pytest.approx(-1.0)


def test_onsets_are_counted():
    audio = np.zeros((2, 4 * SAMPLE_RATE), np.float32)
    for beat in range(8):
        audio[:, int((0.1 + beat / 2) * SAMPLE_RATE) :][:, :4000] += noise(1.0, 0.2)[:, :4000]
    assert measure_sound(audio, SAMPLE_RATE).onsets_hz == pytest.approx(2.0)


def test_a_video_file_is_heard_as_its_samples_would_be(make_video, tmp_path):
    report = measure_sound(make_video(tmp_path / "tone.mp4", duration_s=2.0))
    assert report.duration_s == pytest.approx(2.0, abs=0.05) and report.silent_share < 0.05
    assert report.centroid_hz == pytest.approx(330, rel=0.05) and report.clipped_samples == 0
    mute = measure_sound(make_video(tmp_path / "mute.mp4", sound=False))
    assert mute.silent_share == 1 and mute.integrated_lufs == -math.inf
