"""Sound kept as 16-bit FLAC."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.errors import DecodeError
from expotion_cli.media.flac import read_flac, to_16_bit, write_flac


def noise(num_samples: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (2, num_samples)).astype(np.int16)


@pytest.mark.parametrize(("num_samples", "sample_rate"), [(100, 8_000), (100_003, 44_100), (48_000, 48_000)])
def test_samples_come_back_as_they_were(tmp_path, num_samples, sample_rate):
    samples = noise(num_samples)
    write_flac(tmp_path / "a.flac", samples, sample_rate)
    again, rate = read_flac(tmp_path / "a.flac")
    assert rate == sample_rate and again.dtype == np.int16 and np.array_equal(again, samples)


def test_the_same_sound_gives_the_same_bytes(tmp_path):
    for name in ("a.flac", "b.flac"):
        write_flac(tmp_path / name, noise(20_000), 44_100)
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()


def test_what_is_louder_than_full_scale_is_clipped_and_does_not_wrap():
    assert to_16_bit(np.array([[1.5, -1.5, 0.0], [1.0, -1.0, 0.5]])).tolist() == [
        [32767, -32768, 0],
        [32767, -32768, 16384],
    ]


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"fLaC" + bytes(50)])
def test_what_is_no_flac_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(DecodeError, match="a.flac"):
        read_flac(tmp_path / "a.flac")


def test_mono_is_of_another_kind(tmp_path, ffmpeg):
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.5", "-ac", "1", tmp_path / "mono.flac")
    with pytest.raises(DecodeError, match="stereo"):
        read_flac(tmp_path / "mono.flac")
