"""Made-up sensors are witnesses of a motion curve, each in its own way; the plan stands beside them as it is."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.tokens import Event, events_to_tokens
from expotion_cli.music.conditioning import EMBEDDED_STREAMS, FORM, form_stream, plan_stream, standardise
from expotion_cli.music.plan_stream import PLAN, StepPlan
from expotion_cli.spotting.activity import ACTIVITY_FLOORS, ACTIVITY_LIMIT
from expotion_cli.training.mini.motion import LIMIT, motion_of
from expotion_cli.training.mini.sensors import liveliness, sensor_streams

NUM_STEPS = 768
QUIET = events_to_tokens({"melody": [Event(0, 48, 55)]}, NUM_STEPS)
FACTS = {"tempo_bpm": 100, "mode": "major"}


def draw_plan(seed: int) -> StepPlan:
    rng = np.random.default_rng((seed, 1))
    hits = np.sort(rng.choice(np.arange(6, NUM_STEPS, 12), 14, replace=False))
    weights = rng.uniform(0.3, 1.0, len(hits))
    return StepPlan(rng.uniform(0, 1, NUM_STEPS // 48), tuple(zip(hits.tolist(), weights.tolist(), strict=True)))


def see(seed: int, attributes: dict = FACTS, tokens: np.ndarray = QUIET):
    plan = draw_plan(seed)
    motion = motion_of(plan, NUM_STEPS, 100, np.random.default_rng(seed))
    return motion, sensor_streams(plan, tokens, attributes, np.random.default_rng(seed), form_stream(NUM_STEPS))


def column(streams, name: str, dim: str) -> np.ndarray:
    spec = next(spec for spec in EMBEDDED_STREAMS if spec.name == name)
    return streams[name].values[:, spec.dims.index(dim)]


@pytest.fixture(scope="module")
def people():
    """(motion, streams) of forty people."""
    return [see(seed) for seed in range(40)]


def correlation(curve: np.ndarray, motion: np.ndarray) -> float:
    """The best within a tenth of a second either way: sensors lead and lag."""
    return max(np.corrcoef(np.roll(curve, shift), motion)[0, 1] for shift in range(-2, 3))


@pytest.mark.parametrize(
    ("name", "dim", "least"),
    [("flow", "energy", 0.8), ("pose", "energy", 0.6), ("flow", "accent", 0.3), ("face", "head_speed", 0.25)],
)
def test_every_sensor_sees_the_motion_far_more_than_another_persons(people, name, dim, least):
    motions, curves = [m for m, _ in people], [column(streams, name, dim) for _, streams in people]
    own = np.mean([correlation(curve, motion) for curve, motion in zip(curves, motions, strict=True)])
    others = np.mean([correlation(c, m) for c, m in zip(curves, motions[1:] + motions[:1], strict=True)])
    assert own > least and own > others + 0.8 * least


def test_people_move_where_it_is_intense_and_at_hit_points():
    level, hits = [], []
    for seed in range(40):
        plan = draw_plan(seed)
        motion = motion_of(plan, NUM_STEPS, 100, np.random.default_rng(seed))
        assert motion.shape == (NUM_STEPS,) and motion.min() >= 0 and motion.max() <= LIMIT
        level.append(np.corrcoef(motion.reshape(-1, 48).mean(axis=1), plan.intensity)[0, 1])
        near = [motion[max(0, step - 3) : step + 4].max() for step, weight in plan.hits if weight > 0.6]
        hits.append(np.mean(near) - motion.mean())
    assert np.mean(level) > 0.6 and np.mean(hits) > 0.25


def test_the_plan_is_given_as_it_is(people):
    for seed, (_, streams) in enumerate(people):
        assert np.array_equal(streams[PLAN].values, plan_stream(draw_plan(seed), NUM_STEPS).values)


def test_values_stay_in_the_range_of_real_ones(people):
    for _, streams in people:
        assert set(streams) == {spec.name for spec in EMBEDDED_STREAMS}
        for spec in EMBEDDED_STREAMS:
            values = streams[spec.name].values
            assert values.shape == (NUM_STEPS, len(spec.dims)) and values.dtype == np.float32
            for index, dim in enumerate(spec.dims):
                if (spec.name, dim) in ACTIVITY_FLOORS:
                    low, high = standardise(spec.name, dim, np.array([0.0, ACTIVITY_LIMIT]))
                    assert low <= values[:, index].min() and values[:, index].max() <= high


def test_a_face_is_brighter_in_major_and_livelier_where_music_is_high_and_dense():
    busy = [Event(s, s + 3, 84, 2) for s in range(0, NUM_STEPS, 3)]
    lively = events_to_tokens(
        {"melody": busy, "counter": [Event(s, s + 3, 72, 2) for s in range(0, NUM_STEPS, 6)]}, NUM_STEPS
    )
    assert liveliness(QUIET) < -0.5 and liveliness(lively) > 0.5
    faces = {}
    for mode, tokens in (("major", QUIET), ("minor", QUIET), ("minor", lively)):
        seen = [see(seed, {"tempo_bpm": 100, "mode": mode}, tokens)[1] for seed in range(30)]
        faces[mode, tokens is lively] = {
            dim: np.mean([column(streams, "face", dim).mean() for streams in seen]) for dim in ("valence", "arousal")
        }
    assert faces["major", False]["valence"] > faces["minor", False]["valence"] + 0.5
    assert faces["minor", True]["arousal"] > faces["minor", False]["arousal"] + 0.5


def test_sensors_are_mostly_there_have_gaps_and_are_sometimes_missing(people):
    shares = np.array([[streams[name].mask.mean() for name in ("pose", "face", "flow")] for _, streams in people])
    assert 0.7 < shares.mean() < 0.99
    assert (shares == 0).any() and ((shares > 0) & (shares < 1)).any()
    assert all(streams[FORM].mask.all() and streams[PLAN].mask.all() for _, streams in people)


def test_the_same_person_moves_the_same_way_again():
    first, second = see(5)[1], see(5)[1]
    assert all(np.array_equal(first[name].values, second[name].values) for name in first)
