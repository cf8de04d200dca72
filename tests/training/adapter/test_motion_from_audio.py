"""Motion made up from music meets it, spreads like real motion, and can be learnt from like real motion."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from tiny_music import song

from expotion_cli.errors import UsageError
from expotion_cli.evaluation.sync import motion_onset_correlation
from expotion_cli.music.conditioning import EMBEDDED_STREAMS, condition
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.spotting.activity import normalise
from expotion_cli.timing import Timeline
from expotion_cli.training.adapter.motion_from_audio import DIMS, MARGIN_S, require_synthesizable, synthetic_motion
from expotion_cli.training.data.curves import measure_curves

SEEN = [spec for spec in EMBEDDED_STREAMS if spec.name in ("pose", "face", "flow")]


def music(seed: int = 0, duration_s: float = 10.0, bpm: float = 100.0):
    heard = measure_curves(song(seed, duration_s, bpm), 16_000)
    return heard.between(-MARGIN_S, duration_s + MARGIN_S)


def column(streams, name: str, dim: str) -> np.ndarray:
    return streams[name].values[:, DIMS[name].index(dim)]


def test_every_dimension_that_the_embedded_streams_read_can_be_made_up():
    require_synthesizable(EMBEDDED_STREAMS)
    streams = synthetic_motion(music(), np.random.default_rng(0))
    grid = condition(streams, Timeline(Fraction(10), Fraction(50)), SEEN)
    for spec in SEEN:
        assert grid[spec.name].values.shape == (500, len(spec.dims)) and grid[spec.name].mask.shape == (500,)
        assert np.isfinite(grid[spec.name].values).all() and np.abs(grid[spec.name].values).max() < 12


def test_networks_embeddings_can_not_be_made_up():
    with pytest.raises(UsageError, match="'raft'"):
        require_synthesizable([StreamSpec.numbered("raft", 256)])
    with pytest.raises(UsageError, match="pose.left_wrist_x"):
        require_synthesizable([StreamSpec("pose", ("energy", "left_wrist_x"))])


def test_bodies_move_to_their_own_music_more_than_to_other_music():
    own, other = [], []
    for seed in range(24):
        bpm = 70 + 3 * seed
        heard, foreign = music(seed, bpm=bpm), music(seed + 100, bpm=bpm * 1.37)
        sharp = column(synthetic_motion(heard, np.random.default_rng(seed)), "pose", "accent")
        curve = np.interp(np.arange(500) / 2, np.arange(len(sharp)), sharp)
        own.append(motion_onset_correlation(curve, heard.hits[50:550]).value)
        other.append(motion_onset_correlation(curve, foreign.hits[50:550]).value)
    assert np.mean(own) > 2 * np.mean(other)
    assert np.mean(np.array(own) > np.array(other)) > 0.8


def test_accents_fall_near_hits():
    near, far = [], []
    for seed in range(20):
        heard = music(seed)
        accents = column(synthetic_motion(heard, np.random.default_rng(seed)), "pose", "accent")
        hits = heard.hits[50:-50]
        strong = np.flatnonzero(hits > 0.8) // 2
        close = np.zeros(len(accents), bool)
        for row in strong:
            close[max(0, row - 3) : row + 4] = True
        if 0 < close.sum() < len(accents):
            near.append(accents[close].mean())
            far.append(accents[~close].mean())
    assert len(near) > 10 and np.mean(near) > 1.2 * np.mean(far)


def test_people_differ_and_the_same_draw_is_the_same_person():
    heard = music()
    one, again, other = (column(synthetic_motion(heard, np.random.default_rng(s)), "flow", "energy") for s in (1, 1, 2))
    assert np.array_equal(one, again) and not np.allclose(one, other)


def test_louder_music_is_moved_to_more_widely():
    ratios = []
    for seed in range(16):
        sound = song(seed, 12.0) * np.linspace(0.05, 1.0, 12 * 16_000)
        heard = measure_curves(sound, 16_000).between(-MARGIN_S, 12 + MARGIN_S)
        energy = column(synthetic_motion(heard, np.random.default_rng(seed)), "pose", "energy")
        ratios.append(energy[150:].mean() / energy[:150].mean())
    assert np.median(ratios) > 1.15


def test_silence_leaves_a_body_nearly_to_itself():
    quiet = measure_curves(1e-3 * np.random.default_rng(0).normal(size=16_000 * 6), 16_000).between(-1, 7)
    still = type(quiet)(0 * quiet.hits, 0 * quiet.pulse, 0 * quiet.level)
    for seed in range(4):
        alone, moved = (synthetic_motion(heard, np.random.default_rng(seed)) for heard in (still, music()))
        assert len(alone["pose"].values) == 150 and all(np.isfinite(s.values).all() for s in alone.values())
        rest, dance = (column(streams, "pose", "energy").mean() for streams in (alone, moved))
        assert rest < 0.25 * dance


def test_what_is_made_up_spreads_about_as_far_as_people_do():
    """Ranges that people on video keep to; the benchmark compares the whole distributions."""
    medians, tops, rates = [], [], []
    for seed in range(40):
        energy = column(synthetic_motion(music(seed), np.random.default_rng(seed)), "pose", "energy")
        values = normalise("pose", "energy", energy, np.ones(len(energy), bool))
        medians.append(np.median(values))
        tops.append(np.percentile(values, 95))
        centred = values - values.mean()
        rates.append((centred[:-1] * centred[1:]).sum() / (centred**2).sum())
    assert 0.1 < np.mean(medians) < 0.3 and 0.45 < np.mean(tops) < 0.8 and np.std(tops) > 0.08
    assert 0.75 < np.mean(rates) < 0.95
