"""The pitch classes that MusicGen Melody is told are those of the extractor it was published with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_melody import tune

from expotion_cli.audio.pitch_classes import (
    FFT_SIZE,
    HOP,
    SAMPLE_RATE,
    _filters,
    class_powers,
    num_frames,
    pitch_classes,
)


def test_the_filters_are_transformers_own():
    from transformers.audio_utils import chroma_filter_bank

    theirs = chroma_filter_bank(num_frequency_bins=FFT_SIZE, num_chroma=12, sampling_rate=SAMPLE_RATE, tuning=0)
    assert _filters().shape == theirs.shape and np.abs(_filters() - theirs).max() < 1e-9


def published(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pitch classes, powers) as the published extractor computes them, in float32, with torch's spectrum."""
    from transformers.audio_utils import chroma_filter_bank

    wave = torch.from_numpy(sound.astype(np.float32))
    pad = max(0, FFT_SIZE - len(wave))
    wave = torch.nn.functional.pad(wave, (pad // 2, pad - pad // 2))
    window = torch.hann_window(FFT_SIZE)
    spectrum = torch.stft(wave, FFT_SIZE, HOP, window=window, center=True, return_complex=True).abs() ** 2
    filters = chroma_filter_bank(num_frequency_bins=FFT_SIZE, num_chroma=12, sampling_rate=SAMPLE_RATE, tuning=0)
    powers = torch.from_numpy(filters).float() @ spectrum
    powers = torch.nn.functional.normalize(powers / window.square().sum(), p=float("inf"), dim=0, eps=1e-6)
    return powers.argmax(dim=0).numpy(), powers.T.numpy()


@pytest.mark.parametrize("length", [700, FFT_SIZE - 1, FFT_SIZE, 100_001, 30 * SAMPLE_RATE])
def test_frames_and_classes_are_the_published_extractors(length):
    sound = tune(length / SAMPLE_RATE) + 0.01 * np.random.default_rng(length).normal(size=length).astype(np.float32)
    expected, powers = published(sound)
    found = pitch_classes(sound)
    assert found.dtype == np.uint8 and len(found) == len(expected) == num_frames(length)
    own = class_powers(sound)
    loud = own.max(axis=1) > 1e-6 * own.max()  # the extractor doesn't scale up what is next to nothing
    assert loud.any() and np.abs(own / own.max(axis=1, keepdims=True) - powers)[loud].max() < 1e-3
    runners_up = np.sort(powers, axis=1)[:, -2]
    clear = runners_up < 1 - 1e-3
    assert clear.mean() > 0.9 and np.array_equal(found[clear], expected[clear])


def test_half_a_minute_has_the_published_number_of_frames():
    assert num_frames(30 * SAMPLE_RATE) == 235


def test_a_scale_is_heard_note_by_note():
    scale = (60, 62, 64, 65, 67, 69, 71, 72)
    found = pitch_classes(tune(4.0, scale))
    for number, note in enumerate(scale):
        middle = (0.5 * number + 0.2) * SAMPLE_RATE / HOP
        assert found[round(middle)] == note % 12


def test_silence_is_c_as_in_the_published_extractor():
    silence = np.zeros(3 * SAMPLE_RATE, np.float32)
    assert not pitch_classes(silence).any() and not published(silence)[0].any()
