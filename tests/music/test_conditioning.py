"""From what an encoder saw to what the adapter receives."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.errors import EmptyStreamError, UnknownNameError
from expotion_cli.music.conditioning import (
    EMBEDDED_STREAMS,
    FORM,
    FORM_DIMS,
    condition,
    form_stream,
)
from expotion_cli.music.load import load_model
from expotion_cli.music.plan_stream import PLAN, PLAN_DIMS
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.spotting.activity import ACTIVITY_FLOORS, ACTIVITY_LIMIT, motion_signal, normalise
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import make_plan
from expotion_cli.timing import Timeline, beat_rate_hz


@dataclass(frozen=True)
class Seen:
    values: np.ndarray
    mask: np.ndarray
    rate_hz: float
    dims: tuple[str, ...]


def stream(*columns: np.ndarray, dims: tuple[str, ...] = ("x", "y"), mask=None, rate_hz: float = 25.0) -> Seen:
    values = np.stack([np.asarray(c, dtype=np.float32) for c in columns], axis=1)
    return Seen(values, np.ones(len(values), bool) if mask is None else np.asarray(mask), rate_hz, dims[: len(columns)])


ALL = np.ones(500, dtype=bool)
GRID = Timeline(Fraction(20), Fraction(25))


def test_a_still_clip_stays_near_zero_and_a_lively_one_fills_the_range_whatever_its_size():
    rng = np.random.default_rng(0)
    motion = np.abs(np.sin(np.arange(500) / 9)) + 0.05 * rng.random(500)
    for (name, dim), floor in ACTIVITY_FLOORS.items():
        assert normalise(name, dim, 0.05 * floor * motion, ALL).max() < 0.06
        for size in (20, 200):
            lively = normalise(name, dim, size * floor * motion, ALL)
            assert 0.85 < np.percentile(lively, 95) < 1.0


def test_more_motion_is_never_less_activity():
    motion = np.abs(np.sin(np.arange(500) / 9))
    tops = [normalise("pose", "energy", size * motion, ALL).max() for size in (0.01, 0.1, 0.3, 1, 3)]
    assert tops == sorted(tops) and tops[0] < 0.1 < 0.7 < tops[-1]


def test_one_wild_moment_neither_hides_the_rest_nor_leaves_the_range():
    motion = np.full(500, 1.0)
    motion[100:103] = 1000.0
    calm = normalise("pose", "energy", np.full(500, 1.0), ALL)
    wild = normalise("pose", "energy", motion, ALL)
    assert wild.max() == ACTIVITY_LIMIT
    assert np.allclose(np.delete(wild, [100, 101, 102]), calm[0])


def test_only_rows_where_somebody_is_seen_set_the_scale():
    motion, seen = np.full(500, 1.0), ALL.copy()
    motion[:200], seen[:200] = 50.0, False
    calm = normalise("pose", "energy", np.full(500, 1.0), ALL)
    assert np.allclose(normalise("pose", "energy", motion, seen)[200:], calm[0])
    assert np.isfinite(normalise("pose", "energy", motion, np.zeros(500, bool))).all()


def test_levels_keep_their_sign_and_are_clipped():
    values = normalise("pose", "hands_height", np.array([-9.0, -0.5, 0.0, 0.5, 9.0]), ALL[:5])
    assert values.tolist() == [-2.0, -0.5, 0.0, 0.5, 2.0]


def test_a_stream_lands_on_a_beat_grid_that_begins_before_the_picture():
    ramp = np.arange(100) / 100
    timeline = Timeline(Fraction(4), beat_rate_hz(100), Fraction(-1, 2))
    found = condition({"gaze": stream(ramp, -ramp)}, timeline, [StreamSpec("gaze", ("y", "x"))])["gaze"]
    assert found.values.shape == (timeline.num_steps, 2) and found.values.dtype == np.float32
    times = -0.5 + np.arange(timeline.num_steps) / 20
    expected = np.clip(times * 25, 0, 99) / 100
    assert np.allclose(found.values[:, 1], expected, atol=1e-6)
    assert np.allclose(found.values[:, 0], -expected, atol=1e-6)
    assert (found.values[:10, 1] == 0).all() and found.values[11, 1] > 0


def test_the_mask_follows_the_nearest_row():
    mask = np.ones(100, dtype=bool)
    mask[50:60] = False
    given = {"gaze": stream(np.zeros(100), mask=mask)}
    found = condition(given, Timeline(Fraction(4), Fraction(50)), [StreamSpec("gaze", ("x",))])
    times = np.arange(200) / 50
    hidden = times[~found["gaze"].mask]
    assert found["gaze"].mask.dtype == bool
    assert 1.97 < hidden.min() <= 2.0 and 2.36 <= hidden.max() < 2.39
    assert len(hidden) in (19, 20, 21)


def test_streams_the_adapter_does_not_read_are_left_out_and_those_it_lacks_are_absent():
    given = {"gaze": stream(np.zeros(10)), "aura": stream(np.zeros(10))}
    specs = [StreamSpec("gaze", ("x",)), StreamSpec("pose", ("energy",)), StreamSpec(FORM, FORM_DIMS)]
    found = condition(given, GRID, specs)
    assert set(found) == {"gaze", FORM}


def test_a_dimension_the_stream_lacks_is_named():
    with pytest.raises(UnknownNameError, match=r"gaze\.blink") as caught:
        condition({"gaze": stream(np.zeros(10))}, GRID, [StreamSpec("gaze", ("x", "blink"))])
    assert "It has: x" in str(caught.value)


def test_a_stream_without_rows_is_an_error_that_names_it():
    empty = Seen(np.zeros((0, 1), np.float32), np.zeros(0, bool), 25.0, ("x",))
    with pytest.raises(EmptyStreamError, match="gaze"):
        condition({"gaze": empty}, GRID, [StreamSpec("gaze", ("x",))])


def test_the_form_stream_is_one_at_its_ends_and_falls_off_between():
    form = form_stream(800)
    opening, ending = form.values.T
    assert opening[0] == 1 and (np.diff(opening) < 0).all() and opening[-1] < 0.01
    assert (np.diff(ending) > 0).all() and ending[0] < 0.01 and ending[-1] == pytest.approx(1, abs=0.02)
    early = form_stream(800, 700).values[:, 1]
    assert early[700] == 1 and (early[700:] == 1).all() and early[699] < 1


def test_the_form_of_a_cue_ends_at_a_bar_line_near_the_pictures_end():
    for duration, start in (("10", "0"), ("31/3", "-7/5"), ("1/2", "0")):
        timeline = Timeline(Fraction(duration), beat_rate_hz(120), Fraction(start))
        ending = condition({}, timeline, [StreamSpec(FORM, FORM_DIMS)])[FORM].values[:, 1]
        assert len(ending) == timeline.num_steps
        steps_left = -np.log(ending[0]) * 96
        assert steps_left == pytest.approx(48 * round(steps_left / 48), abs=0.01)
        end_s = float(timeline.start) + steps_left / 24
        assert abs(end_s - float(timeline.duration)) <= 2.0  # a bar lasts two seconds


MOTION = {
    "pose": stream(np.linspace(0, 9, 100), np.zeros(100), dims=("energy", "accent")),
    "face": stream(np.linspace(9, 0, 100), np.zeros(100), dims=("head_speed", "head_accent"), rate_hz=10.0),
    "flow": stream(np.full(100, 9.0), np.zeros(100), dims=("energy", "accent"), rate_hz=5.0),
}


def test_witnesses_are_averaged_on_one_clock():
    energy, accents, rate_hz = motion_signal(MOTION, 4.0)
    alone = [motion_signal({name: stream}, 4.0) for name, stream in MOTION.items()]
    assert rate_hz == 25 and len(energy) == len(accents) == 100
    assert np.allclose(energy, np.mean([curves[0] for curves in alone], axis=0), atol=1e-6)
    assert not np.allclose(energy, alone[0][0]), "the others have a say"
    assert alone[0][0][-1] > alone[0][0][0] and alone[1][0][0] > alone[1][0][-1]


def test_a_witness_that_saw_nobody_half_of_the_time_is_not_heard():
    mask = np.arange(100) < 49
    others = {name: stream for name, stream in MOTION.items() if name != "pose"}
    absent = {**MOTION, "pose": Seen(MOTION["pose"].values, mask, 25.0, ("energy", "accent"))}
    assert np.array_equal(motion_signal(absent, 4.0)[0], motion_signal(others, 4.0)[0])
    energy = motion_signal({"pose": Seen(MOTION["pose"].values, ~mask, 25.0, ("energy", "accent"))}, 4.0)[0]
    assert (energy[:49] == 0).all() and energy[60] > 0


def test_a_witness_without_the_right_dimensions_is_not_heard_and_with_none_all_is_flat():
    others = {name: stream for name, stream in MOTION.items() if name != "pose"}
    odd = {**MOTION, "pose": stream(np.ones(100), dims=("x",))}
    assert np.array_equal(motion_signal(odd, 4.0)[0], motion_signal(others, 4.0)[0])
    energy, accents, rate_hz = motion_signal({}, 4.0)
    assert len(energy) == len(accents) == 4 * rate_hz
    assert not energy.any() and not accents.any()


def test_the_embedded_streams_name_every_dimension_once():
    for spec in EMBEDDED_STREAMS:
        assert len(set(spec.dims)) == len(spec.dims) > 0
    read = {(spec.name, dim) for spec in EMBEDDED_STREAMS for dim in spec.dims}
    assert set(ACTIVITY_FLOORS) <= read


def test_the_plan_is_a_stream_beside_the_encoders_and_is_left_out_without_one():
    timeline = Timeline(Fraction(4), beat_rate_hz(120))
    plan = make_plan({}, Fraction(4), (120, 120), user_hits=[HitPoint(1.0, 1.0, "user", "")])
    found = condition({}, timeline, EMBEDDED_STREAMS, plan=plan)[PLAN]
    assert found.values.shape == (96, len(PLAN_DIMS)) and found.mask.all()
    assert found.values[:, PLAN_DIMS.index("hit_back_0")].argmax() == 24
    assert PLAN not in condition({}, timeline, EMBEDDED_STREAMS)
    assert PLAN not in condition({}, timeline, [spec for spec in EMBEDDED_STREAMS if spec.name != PLAN], plan=plan)


def test_the_plan_steers_the_model_where_the_picture_may():
    model = load_model("expotion-mini", device="cpu")
    swing = 0.2 + 0.1 * np.abs(np.sin(np.arange(100) / 8))
    dims = ("energy", "accent", "energy_left", "energy_right")
    seen = ladder.Seen({"flow": stream(swing, swing, swing, swing, dims=dims)})
    for guidance, steers in ((3.0, True), (0.0, False)):
        recipe = load_recipe("cinematic", {"generate.visual_guidance": guidance})
        plan = ladder.spot(seen, Fraction(4), recipe, prompt="strings, 77 bpm")
        asked = ladder.compose_request(model, seen, plan, Fraction(4), recipe, prompt="strings, 77 bpm", seed=0)
        assert float(plan.tempo.bpm) == 77 and asked.timeline.rate_hz == beat_rate_hz(77)
        assert (PLAN in asked.conditioning) == steers
