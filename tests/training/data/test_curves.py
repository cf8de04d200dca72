"""Sound becomes curves: hits, beats, swells; shared recordings are recognised."""

from __future__ import annotations

import numpy as np
from tiny_music import song, write_wav

from expotion_cli.media.sound import read_sound
from expotion_cli.training.data import fingerprint
from expotion_cli.training.data.curves import RATE_HZ, MusicCurves, measure_curves, predominant_pulse

RATE = 16_000


def peaks(curve: np.ndarray) -> np.ndarray:
    return np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:]) & (curve[1:-1] > 0.2)) + 1


def test_hits_and_beats_are_heard_where_they_are():
    bpm = 100.0
    heard = measure_curves(song(3, 8.0, bpm), RATE)
    assert len(heard.hits) == len(heard.pulse) == len(heard.level) == 8 * RATE_HZ
    beats = np.arange(int(8.0 * bpm / 60)) * 60 / bpm
    near = [heard.hits[max(0, round(b * RATE_HZ) - 2) : round(b * RATE_HZ) + 3].max() for b in beats]
    assert np.mean(near) > 5 * heard.hits.mean()
    found = peaks(heard.pulse) / RATE_HZ
    distance = np.abs(found[:, None] - beats[None]).min(axis=1)
    assert len(found) >= 10 and np.median(distance) < 0.04


def test_the_pulse_of_noise_is_weak_and_silence_has_none():
    clicks = np.zeros(500)
    clicks[::25] = 1.0
    noise = np.abs(np.random.default_rng(0).normal(size=500))
    assert predominant_pulse(clicks)[150:350].max() > 2 * predominant_pulse(noise)[150:350].max()
    assert not predominant_pulse(np.zeros(500)).any()


def test_swells_show_in_the_level():
    sound = song(4, 8.0) * np.linspace(0.02, 1.0, 8 * RATE)
    level = measure_curves(sound, RATE).level
    assert level[:100].mean() < level[-150:].mean() - 0.1


def test_a_stretch_beyond_the_piece_is_silent():
    heard = measure_curves(song(5, 2.0), RATE)
    part = heard.between(-1.0, 3.0)
    assert len(part.hits) == 200 and not part.hits[:50].any() and not part.hits[150:].any()
    assert np.array_equal(part.hits[50:150], heard.hits) and not heard.between(5.0, 6.0).level.any()
    again = MusicCurves.from_tensors(heard.tensors())
    assert np.array_equal(again.pulse, heard.pulse) and heard.duration_s == 2.0


def test_the_same_recording_is_recognised_at_another_level_place_and_encoding(tmp_path, ffmpeg):
    sound = song(6, 9.0)
    ffmpeg("-i", write_wav(tmp_path / "a.wav", 0.4 * sound[30_000:]), "-b:a", "64k", tmp_path / "a.mp3")
    rows = [
        fingerprint.fingerprint_sound(sound, RATE),
        fingerprint.fingerprint_sound(read_sound(tmp_path / "a.mp3", RATE, 1), RATE),
        fingerprint.fingerprint_sound(song(7, 9.0), RATE),
    ]
    assert fingerprint.find_shared_recordings(rows) == [[0, 1]]
    assert fingerprint.find_shared_recordings([]) == [] and fingerprint.find_shared_recordings(rows[2:]) == []


def test_tokens_of_one_recording_are_recognised_and_held_tokens_tell_nothing():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 2048, (2, 4, 500))
    moved = np.concatenate([other[:, 300:], one[:, 100:400]], axis=1)
    still = np.full((4, 500), 7)
    rows = [fingerprint.fingerprint_tokens(tokens) for tokens in (one, other, moved, still, still)]
    assert fingerprint.find_shared_recordings(rows, 50.0) == [[0, 2], [1, 2]]


def test_recordings_shorter_than_what_is_usually_shared_are_recognised_too():
    """Other music of the same length and tempo is not."""
    sound = song(3, 2.0)
    rng = np.random.default_rng(0)
    again = 0.6 * sound + 0.0005 * rng.normal(size=len(sound)).astype(np.float32)
    mismatched_crops = [song(seed, 2.0) for seed in range(20, 32)]
    rows = [fingerprint.fingerprint_sound(each, RATE) for each in (sound, again, *mismatched_crops)]
    assert fingerprint.find_shared_recordings(rows) == [[0, 1]]
