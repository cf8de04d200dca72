"""How a cue plan is drawn: hit points, cuts, sections, intensity and beats, each at its own time."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from expotion_cli.inspection import chart, scene
from expotion_cli.inspection.drawing import Plot, draw_lane
from expotion_cli.inspection.marks import Borders, Lane, Pins, Shades, Steps
from expotion_cli.inspection.plan_lanes import BEAT_LIMIT, CAUSE_COLOURS, beat_times, drawn_hits, is_dense, plan_lanes
from expotion_cli.spotting.cuts import Cut
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.sections import Intensity, Section
from expotion_cli.timing import Tempo

DURATION = Fraction(20)
PLOT = Plot(100, 1000, 100, 20.0)


@pytest.fixture
def plan() -> CuePlan:
    """20 s at 120 bpm with a bar at -1 s: hit points of each cause, a cut and a dissolve, two sections."""
    hits = (HitPoint(2.0, 0.5, "gesture", ""), HitPoint(8.0, 0.7, "cut", ""), HitPoint(15.0, 1.0, "user", ""))
    cuts = (Cut(8.0, "hard", 0.9), Cut(12.0, "dissolve", 0.8))
    sections = (Section(0.0, 8.0, 0.2, ""), Section(8.0, 20.0, 0.8, ""))
    bars = tuple(round(0.1 * (i % 10), 1) for i in range(11))
    intensity = Intensity(10.0, (0.2,) * 80 + (0.8,) * 120, bars, "")
    return CuePlan(20.0, Tempo(Fraction(120), Fraction(-1), 1.0), intensity, hits, cuts, sections)


def lanes(plan: CuePlan) -> dict[str, Lane]:
    return {lane.title: lane for lane in plan_lanes(plan, DURATION, 1000)}


def drawn(lane: Lane) -> list[scene.Shape]:
    drawing = scene.Scene(1200, 200, "one lane")
    draw_lane(drawing, PLOT, lane, 10, [])
    return drawing.shapes


def test_hit_points_stand_at_their_times_as_high_as_they_weigh_in_their_causes_colour(plan):
    lane = lanes(plan)["Hit points"]
    assert lane.facts == ("gesture 1", "cut 1", "user 1") and lane.keys == tuple(CAUSE_COLOURS.items())
    strokes = {
        shape.colour: shape.points
        for shape in drawn(lane)
        if isinstance(shape, scene.Line) and shape.colour in CAUSE_COLOURS.values()
    }
    for hit in plan.hits:
        (x, bottom), (also_x, top) = strokes[CAUSE_COLOURS[hit.cause]]
        assert x == also_x == pytest.approx(100 + 50 * hit.time_s)
        assert bottom - top == pytest.approx(lane.height * hit.weight / lane.high)
    assert {mark.marks[0][2] for mark in lane.marks if isinstance(mark, Pins)} == {"diamond", "square", "circle"}


def test_beats_are_left_out_where_they_cannot_be_told_apart(plan):
    def beats_of(seconds: int) -> list[tuple[float, bool]]:
        return beat_times(dataclasses.replace(plan, duration_s=float(seconds)), Fraction(seconds))

    assert [time for time, _ in beats_of(20)] == pytest.approx([0.5 * i for i in range(40)])
    assert [time for time, strong in beats_of(20) if strong] == pytest.approx([*range(1, 20, 2)])
    assert all(strong for _, strong in beats_of(600)) and 0 < len(beats_of(600)) <= BEAT_LIMIT
    assert beats_of(7200) == []


def test_beats_are_those_of_the_bent_grid():
    # 120 bpm, 3 % faster throughout: each beat comes after 0.5 / 1.03 s
    tempo = Tempo(Fraction(120), Fraction(0), 1.0, ((0.0, 1.03),))
    plan = CuePlan(4.0, tempo, Intensity(10.0, (0.5,) * 40, (0.5, 0.5, 0.5), "given"))
    beats = beat_times(plan, Fraction(4))
    assert [time for time, _ in beats] == pytest.approx([i * 0.5 / 1.03 for i in range(9)], abs=1e-6)
    assert [i for i, (_, strong) in enumerate(beats) if strong] == [0, 4, 8]


def test_bars_of_intensity_begin_where_bars_do_and_sections_part_them(plan):
    lane = lanes(plan)["Intensity"]
    steps = next(mark for mark in lane.marks if isinstance(mark, Steps))
    borders = next(mark for mark in lane.marks if isinstance(mark, Borders))
    assert steps.edges_s == pytest.approx([0, *range(1, 21, 2), 20]) and steps.values == plan.intensity.bars
    assert borders.times_s == (8.0,)
    outline = next(shape for shape in drawn(lane) if isinstance(shape, scene.Area))
    assert outline.points[2][0] == pytest.approx(150), "the second bar begins after a second"


def test_sections_fill_the_clip_and_say_how_intense_they_are(plan):
    lane = lanes(plan)["Sections"]
    shades = next(mark for mark in lane.marks if isinstance(mark, Shades))
    assert [span[:2] for span in shades.spans] == [(0.0, 8.0), (8.0, 20.0)] and lane.facts == ("2 sections",)
    assert shades.spans[0][2] < shades.spans[1][2], "the livelier one is darker"
    words = [shape.words for shape in drawn(lane) if isinstance(shape, scene.Text) and shape.anchor == "middle"]
    assert words == ["0.20", "0.80"]


def test_cuts_and_hit_points_cross_the_pictures(plan):
    drawing = scene.Scene(1200, 400, "pictures")
    chart.draw_cuts(drawing, PLOT, plan, 20, 300)
    hard, dissolve = drawing.shapes
    assert hard.points == ((500, 20), (500, 300)) and dissolve.points[0][0] == 700 and dissolve.width > hard.width
    drawing.shapes.clear()
    chart.draw_hits(drawing, PLOT, plan, 120, 50)
    strokes = [s for s in drawing.shapes if isinstance(s, scene.Line) and s.colour in CAUSE_COLOURS.values()]
    assert [stroke.points for stroke in strokes] == [
        ((100 + 50 * hit.time_s, 120), (100 + 50 * hit.time_s, pytest.approx(120 - 50 * hit.weight)))
        for hit in plan.hits
    ]


def test_of_crowded_hit_points_the_heaviest_are_drawn_and_without_heads(plan):
    hits = tuple(HitPoint(i * 0.02, 0.5 + 0.4 * (i % 3 == 1), "gesture", "") for i in range(1000))
    crowded = dataclasses.replace(plan, hits=hits)
    assert is_dense(crowded, 1000) and not is_dense(plan, 1000)
    shown = drawn_hits(crowded, 1000)
    assert len(shown) <= 334 and sum(hit.weight > 0.8 for hit in shown) > 300
    (pins,) = lanes(crowded)["Hit points"].marks
    assert {head for _, _, head in pins.marks} == {""}


def test_a_plan_without_hit_points_says_so(plan):
    assert lanes(dataclasses.replace(plan, hits=()))["Hit points"].said == "no hit points"
