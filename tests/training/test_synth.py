"""Made-up movers follow the music, each in their own way."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.music.conditioning import (
    ACTIVITY_FLOORS,
    ACTIVITY_LIMIT,
    EMBEDDED_STREAMS,
    FORM,
    form_stream,
    standardise,
)
from expotion_cli.music.notes import VOICE_INDEX, Event, events_to_tokens
from expotion_cli.training.synth import accent_curve, dynamics_curve, hit_strength, smooth, synthesise

NUM_STEPS = 768


def music(seed: int) -> np.ndarray:
    """Irregular hits of drums and bass under a swell, so that a shifted or another piece does not fit."""
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.choice(NUM_STEPS // 6, size=50, replace=False)) * 6
    events = {
        "drums": [Event(int(s), int(s) + 6, int(rng.choice([1, 3, 17])), int(rng.integers(4))) for s in starts],
        "bass": [Event(int(s), int(s) + 6, 40, 2) for s in starts[::2]],
        "dynamics": [Event(48 * bar, 48 * bar + 48, int(rng.integers(2, 8))) for bar in range(16)],
    }
    return events_to_tokens(events, NUM_STEPS)


def column(streams, name: str, dim: str) -> np.ndarray:
    spec = next(spec for spec in EMBEDDED_STREAMS if spec.name == name)
    return streams[name].values[:, spec.dims.index(dim)]


@pytest.fixture(scope="module")
def people():
    """(tokens, streams) of forty people, each moving to music of their own."""
    return [(music(seed), synthesise(music(seed), 100, False, np.random.default_rng(seed))) for seed in range(40)]


def correlation(curve: np.ndarray, hits: np.ndarray) -> float:
    """The best within a tenth of a second either way: people lead and lag."""
    return max(np.corrcoef(np.roll(curve, shift), hits)[0, 1] for shift in range(-2, 3))


@pytest.mark.parametrize(
    ("name", "dim", "least"),
    [("pose", "energy", 0.5), ("flow", "energy", 0.5), ("pose", "accent", 0.4), ("face", "head_speed", 0.2)],
)
def test_motion_peaks_where_hits_are_far_more_than_with_other_music(people, name, dim, least):
    hits = [smooth(hit_strength(tokens), 1.2) for tokens, _ in people]
    curves = [column(streams, name, dim) for _, streams in people]
    own = [correlation(curve, hit) for curve, hit in zip(curves, hits, strict=True)]
    shuffled = [correlation(curve, hit) for curve, hit in zip(curves, hits[1:] + hits[:1], strict=True)]
    assert np.mean(own) > least
    assert np.mean(own) > np.mean(shuffled) + 0.8 * least
    assert np.mean(np.array(own) > np.array(shuffled)) > 0.85


def test_people_differ_in_how_closely_they_follow(people):
    hits = [smooth(hit_strength(tokens), 1.2) for tokens, _ in people]
    own = [correlation(column(people[i][1], "pose", "energy"), hit) for i, hit in enumerate(hits)]
    assert np.std(own) > 0.03


def test_left_and_right_take_turns(people):
    sides = [[column(streams, "pose", f"energy_{side}") for side in ("left", "right")] for _, streams in people]
    shares = [(smooth(left, 24) > smooth(right, 24)).mean() for left, right in sides]
    assert 0.3 < np.mean(shares) < 0.7
    assert np.mean([0.05 < share < 0.95 for share in shares]) > 0.5


def mean_of(tokens_of, name: str, dim: str, is_minor: bool = False) -> float:
    """The mean of a dimension over twelve people."""
    made = [synthesise(tokens_of(i), 100, is_minor, np.random.default_rng(i)) for i in range(12)]
    return float(np.mean([column(streams, name, dim) for streams in made]))


def test_loud_music_moves_people_more_than_soft_music():
    soft, loud = ([Event(0, NUM_STEPS, level)] for level in (0, 7))
    drums = [Event(12 * beat, 12 * beat + 12, 1, 3) for beat in range(NUM_STEPS // 12)]
    means = []
    for dynamics in (soft, loud):
        tokens = events_to_tokens({"drums": drums, "dynamics": dynamics}, NUM_STEPS)
        means.append(mean_of(lambda _, tokens=tokens: tokens, "pose", "energy"))
    assert means[1] > means[0] + 0.3


def test_the_face_is_brighter_in_major_than_in_minor():
    assert mean_of(music, "face", "valence") > mean_of(music, "face", "valence", is_minor=True) + 0.2


def test_values_have_the_shape_and_limits_of_real_conditioning(people):
    for _, streams in people:
        assert list(streams) == [spec.name for spec in EMBEDDED_STREAMS]
        for spec in EMBEDDED_STREAMS:
            stream = streams[spec.name]
            assert stream.values.shape == (NUM_STEPS, len(spec.dims)) and stream.values.dtype == np.float32
            assert stream.mask.shape == (NUM_STEPS,) and stream.mask.dtype == bool
            assert np.isfinite(stream.values).all()
            for dim, values in zip(spec.dims, stream.values.T, strict=True):
                bounds = (0, ACTIVITY_LIMIT) if (spec.name, dim) in ACTIVITY_FLOORS else (-2, 2)
                low, high = standardise(spec.name, dim, np.array(bounds))
                assert low - 1e-5 <= values.min() and values.max() <= high + 1e-5, (spec.name, dim)


def test_people_are_mostly_seen_sometimes_with_gaps_sometimes_never(people):
    masks = [streams[name].mask for _, streams in people for name in ("pose", "face", "flow")]
    whole, never = (np.mean([decide(mask) for mask in masks]) for decide in (np.all, lambda mask: not mask.any()))
    assert whole > 0.5 and 0.03 < never < 0.25 and 1 - whole - never > 0.05
    assert all(streams[FORM].mask.all() for _, streams in people)


def test_the_same_generator_makes_the_same_person_and_another_makes_another():
    tokens = music(0)
    first, again, other = (synthesise(tokens, 100, False, np.random.default_rng(seed)) for seed in (3, 3, 4))
    for name in first:
        assert np.array_equal(first[name].values, again[name].values)
        assert np.array_equal(first[name].mask, again[name].mask)
    assert not np.array_equal(first["pose"].values, other["pose"].values)


def test_the_form_given_is_passed_on_and_otherwise_that_of_a_whole_cue():
    tokens, form = music(0), form_stream(NUM_STEPS, 300)
    assert synthesise(tokens, 100, False, np.random.default_rng(0), form)[FORM] is form
    found = synthesise(tokens, 100, False, np.random.default_rng(0))[FORM]
    assert np.array_equal(found.values, form_stream(NUM_STEPS).values)


def test_silence_moves_nobody_much_and_breaks_nothing():
    tokens = events_to_tokens({}, 100)
    assert not hit_strength(tokens).any() and not accent_curve(hit_strength(tokens)).any()
    streams = synthesise(tokens, 100, True, np.random.default_rng(0))
    lively = synthesise(music(0)[:, :100], 100, True, np.random.default_rng(0))
    assert np.isfinite(streams["pose"].values).all()
    assert column(streams, "pose", "energy").mean() < column(lively, "pose", "energy").mean()


def test_hits_weigh_voices_velocities_and_dynamics():
    def strength(voice: str, value: int, velocity: int, level: int) -> float:
        events = {voice: [Event(6, 12, value, velocity)], "dynamics": [Event(0, 48, level)]}
        return hit_strength(events_to_tokens(events, 48))[6]

    assert strength("drums", 1, 3, 5) > strength("drums", 1, 0, 5) > 0
    assert strength("drums", 1, 3, 7) > strength("drums", 1, 3, 0) > 0
    assert strength("drums", 19, 3, 5) > strength("drums", 1, 3, 5) > strength("percussion", 1, 3, 5)


def test_the_dynamics_hold_until_the_next_level():
    tokens = events_to_tokens({"dynamics": [Event(4, 8, 7), Event(8, 12, 0)]}, 12)
    curve = dynamics_curve(tokens)
    assert curve[4:8].tolist() == [1.0] * 4 and curve[8:].tolist() == [0.0] * 4
    assert tokens[VOICE_INDEX["dynamics"], 0] == 0 and 0 < curve[0] < 1


def test_accents_are_the_hits_that_stand_out():
    hits = np.tile([0.5, 0, 0], 100)
    hits[120] = 3.0
    assert np.flatnonzero(accent_curve(hits)).tolist() == [120]


def test_smoothing_keeps_length_level_and_sum():
    assert smooth(np.full(50, 2.0), 4) == pytest.approx(np.full(50, 2.0))
    spike = np.zeros(101)
    spike[50] = 1.0
    smoothed = smooth(spike, 3)
    assert len(smoothed) == 101 and smoothed.sum() == pytest.approx(1) and smoothed.argmax() == 50
    assert np.sqrt((smoothed * (np.arange(101) - 50) ** 2).sum()) == pytest.approx(3, rel=0.05)
    assert len(smooth(np.ones(3), 10)) == 3
