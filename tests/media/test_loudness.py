import math

import numpy as np
import pytest

from expotion_cli.errors import DecodeError
from expotion_cli.media.loudness import measure, measure_over_time


def sine(level_dbfs, seconds=4.0, frequency=997.0, sample_rate=48_000):
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.tile(10 ** (level_dbfs / 20) * np.sin(2 * np.pi * frequency * t), (2, 1)).astype(np.float32)


def test_the_standards_reference_tone_measures_as_the_standard_says():
    """EBU Tech 3341, case 1: a stereo 1 kHz sine at -23 dBFS is at -23 LUFS."""
    loudness = measure(sine(-23.0), 48_000)
    assert loudness.integrated_lufs == pytest.approx(-23.0, abs=0.1)
    assert loudness.true_peak_dbtp == pytest.approx(-23.0, abs=0.2)
    assert loudness.range_lu == pytest.approx(0.0, abs=0.1)


def test_peaks_between_samples_are_seen():
    """A quarter of the sampling rate at 45 degrees: every sample 3 dB below the peak."""
    n = np.arange(48_000)
    tone = np.tile(np.sin(np.pi / 2 * n + np.pi / 4) * 10 ** (-6 / 20), (2, 1)).astype(np.float32)
    tone *= np.minimum(1, np.minimum(n, n[::-1]) / 4800).astype(np.float32)  # its edges would overshoot
    assert 20 * np.log10(np.abs(tone).max()) == pytest.approx(-9.0, abs=0.05)
    assert measure(tone, 48_000).true_peak_dbtp == pytest.approx(-6.0, abs=0.2)


def test_silence_and_very_short_sound_have_no_loudness():
    assert measure(np.zeros((2, 48_000), np.float32), 48_000).integrated_lufs == -math.inf
    short = measure(sine(-20.0, seconds=0.3), 48_000)
    assert short.integrated_lufs == -math.inf and short.true_peak_dbtp == pytest.approx(-20.0, abs=0.3)


def test_three_seconds_have_no_loudness_range():
    faded = sine(-20.0, seconds=3.003)
    faded[:, -19_200:] *= np.linspace(1, 0, 19_200, dtype=np.float32)
    assert measure(faded, 48_000).range_lu == 0.0


def test_a_files_sound_track_is_measured(clip):
    assert measure(clip("ntsc.mp4")).integrated_lufs == pytest.approx(-21.7, abs=1.0)  # sine of amplitude 1/8, mono
    with pytest.raises(DecodeError, match="no sound"):
        measure(clip("silent.mov"))


def test_momentary_loudness_follows_the_sound_and_is_empty_below_a_window():
    rate = 48_000
    tone = np.tile(np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate) * 0.1, (2, 1)).astype(np.float32)
    quiet = np.concatenate([tone, tone * 0.1, np.zeros_like(tone)], axis=1)
    whole, curve = measure_over_time(quiet, rate)
    assert whole == measure(quiet, rate)
    assert len(curve) == 57
    assert abs(curve[5] - measure(tone, rate).integrated_lufs) < 0.15
    assert abs(curve[5] - curve[28] - 20) < 0.15 and curve[-1] == -np.inf
    assert len(measure_over_time(tone[:, : rate // 3], rate)[1]) == 0
    silence = np.zeros((2, rate), np.float32)
    assert measure_over_time(silence, rate)[0] == measure(silence, rate)
