"""Of several takes the best is kept: what best means, and that the choice belongs to the cue alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from options import make_request

from expotion_cli.music.codecs.notes.judge import NoteJudge, longest_pause, onset_strength, plan_correlation
from expotion_cli.music.codecs.notes.metrics import five_measures, is_stuck
from expotion_cli.music.codecs.notes.muspy import MEASURES
from expotion_cli.music.codecs.notes.tokens import Event, chord_value, events_to_tokens
from expotion_cli.music.conditioning import condition, plan_stream
from expotion_cli.music.generate.rerank import keep_best, take_seed, takes_of
from expotion_cli.music.load import load_model
from expotion_cli.music.plan_stream import PLAN, StepPlan
from expotion_cli.music.request import CueRequest
from expotion_cli.timing import Tempo, Timeline

STEPS = 192
GRID = Timeline(Fraction(8), Fraction(24))
SCALE = (60, 62, 64, 65, 67, 69, 71, 72)


def request(hits: Sequence[int] | None = None, takes: int = 1, seed: int = 7) -> CueRequest:
    seen = {}
    if hits is not None:
        plan = StepPlan(np.full(STEPS // 48, 0.5), tuple((step, 1.0) for step in hits))
        seen = {PLAN: plan_stream(plan, STEPS)}
    return make_request("calm strings", GRID, seen, seed, takes=takes)


def tune(starts, pitches=SCALE, velocity: int = 2) -> np.ndarray:
    starts = list(starts)
    ends = [*starts[1:], STEPS]
    notes = [
        Event(start, end, pitches[i % len(pitches)], velocity)
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    return events_to_tokens({"melody": notes}, STEPS)


def test_each_take_has_a_seed_of_its_own_and_the_first_has_the_cues():
    takes = takes_of(request(takes=5, seed=42))
    seeds = [take.seed for take in takes]
    assert seeds[0] == 42 and len(set(seeds)) == 5 and all(0 <= seed < 2**31 for seed in seeds)
    assert [take.takes for take in takes] == [1] * 5 and takes[0] == request(seed=42)
    assert take_seed(42, 3) == seeds[3] and take_seed(43, 3) != seeds[3]


def test_the_best_is_kept_as_soon_as_the_last_take_is_there_whatever_their_order():
    cues = [request(takes=3), request(takes=1), request(takes=2)]
    owners = [0, 0, 0, 1, 2, 2]
    tokens = [np.array([[value]]) for value in (5, 9, 9, 1, 4, 2)]

    def worth(found: np.ndarray, cue: CueRequest) -> tuple[float, ...]:
        return (float(found[0, 0]),)

    order = [2, 3, 0, 5, 1, 4]
    kept = list(keep_best(((i, tokens[i]) for i in order), owners, cues, worth))
    assert [cue for cue, _ in kept] == [1, 0, 2]
    by_cue = dict(kept)
    assert by_cue[0] is tokens[1] and by_cue[2] is tokens[4]  # of equals the first take


def test_strikes_on_the_hit_points_follow_better_than_strikes_beside_them():
    places = [10, 34, 70, 100, 121, 160]
    on, beside = tune(places), tune([place + 8 for place in places])
    asked = request(places)
    assert plan_correlation(on, asked) > 0.8 and plan_correlation(beside, asked) < 0.1
    assert plan_correlation(on, request()) == 0
    judge = NoteJudge()
    assert judge(on, asked) > judge(beside, asked)


@pytest.mark.parametrize("steps", [1, 3, 8, 9, 10])
def test_a_cue_of_a_few_steps_is_judged_too(steps):
    asked = request([3, 50])
    plan = asked.conditioning[PLAN]
    short = replace(plan, values=plan.values[:steps], mask=plan.mask[:steps])
    assert -1 <= plan_correlation(tune(range(0, STEPS, 24))[:, :steps], replace(asked, conditioning={PLAN: short})) <= 1


def test_harder_and_fuller_strikes_count_more():
    soft, hard = (onset_strength(tune([24], velocity=v))[24] for v in (0, 3))
    assert 0 < soft < hard
    kit = {"drums": [Event(24, 25, value) for value in (1,)]}
    full = {"drums": [Event(24, 25, 0b10011)]}
    one, three = (onset_strength(events_to_tokens(hits, STEPS)) for hits in (kit, full))
    assert np.flatnonzero(one).tolist() == [24] and three[24] == pytest.approx(one[24] * np.sqrt(3))


def test_loops_are_faults():
    bar = [0, 6, 12, 24, 30, 36]
    loop = tune([48 * n + step for n in range(4) for step in bar], pitches=(60, 64, 67, 60, 62, 64))
    assert is_stuck(loop) and NoteJudge().num_faults(loop, request()) == 1
    lively = tune([48 * n + step + 3 * n for n in range(4) for step in bar])
    assert not is_stuck(lively) and NoteJudge().num_faults(lively, request()) == 0
    same_note = tune(range(0, STEPS, 7), pitches=(60,))
    assert is_stuck(same_note)
    empty = events_to_tokens({}, STEPS)
    assert not is_stuck(empty)


def test_a_long_pause_is_a_fault_and_a_held_chord_is_none():
    hits = {"drums": [Event(0, 1, 1), Event(150, 151, 1)]}
    assert longest_pause(events_to_tokens(hits, STEPS), 48) == 150 - 12
    assert NoteJudge().num_faults(events_to_tokens(hits, STEPS), request()) == 1
    held = hits | {"harmony": [Event(0, STEPS, chord_value(0, "maj"), 1)]}
    assert longest_pause(events_to_tokens(held, STEPS), 48) == 0
    assert longest_pause(events_to_tokens({}, STEPS), 48) == STEPS


def test_more_measures_in_range_win_over_closer_following_and_faults_over_both():
    asked = request(range(0, STEPS, 24))
    inside, outside = tune(range(3, STEPS, 9)), tune(range(0, STEPS, 24), pitches=tuple(range(60, 72)))
    around = {key: (value - 0.05, value + 0.05) for key, value in five_measures(inside).items()}
    judge = NoteJudge({STEPS: around})
    assert judge.num_in_range(inside, 48) == len(MEASURES) > judge.num_in_range(outside, 48)
    assert plan_correlation(outside, asked) > plan_correlation(inside, asked)
    assert judge(inside, asked) > judge(outside, asked)
    stuck = tune(range(0, STEPS, 6), pitches=(60,))
    assert judge(outside, asked) > judge(stuck, asked)


def test_a_cue_is_held_to_the_range_of_its_own_length():
    short, long = {"polyphony": (0.0, 0.5)}, {"polyphony": (0.5, 1.5)}
    judge = NoteJudge({96: short, 192: long})
    assert judge.num_in_range(tune(range(0, STEPS, 12)), 48) == 1
    assert judge.num_in_range(tune(range(0, STEPS, 12))[:, :96], 48) == 0


def test_a_model_without_ranges_is_judged_by_faults_and_following_alone(tmp_path):
    assert NoteJudge.of_model(tmp_path) == NoteJudge()
    row = {key: {"p10": 0.1, "p90": 0.9} for key in MEASURES}
    (tmp_path / "training.json").write_text(json.dumps({"statistics_by_steps": {"96": row}}))
    judge = NoteJudge.of_model(tmp_path)
    assert judge.ranges == {96: dict.fromkeys(MEASURES, (0.1, 0.9))} and judge.digest != NoteJudge().digest


@pytest.mark.long
def test_the_shipped_model_keeps_the_best_of_its_takes_and_one_take_is_what_it_was():
    model = load_model("expotion-mini", device="cpu")
    assert set(model.codec.judge.ranges) and model.codec.judge.digest
    tempo = Tempo(Fraction(120), Fraction(0), 0.0)
    timeline = model.codec.timeline(Fraction(3), tempo)
    cue = make_request("slow sad piano", timeline, condition({}, timeline, model.adapter.config.streams), 3, takes=3)
    singles = dict(model.generate(takes_of(cue)))
    best = max(range(3), key=lambda number: (model.codec.judge(singles[number], cue), -number))
    other = replace(cue, seed=4, takes=1)
    kept = dict(model.generate([cue, other]))
    assert np.array_equal(kept[0], singles[best])
    ((_, alone),) = model.generate([other])
    assert np.array_equal(kept[1], alone)
    assert len({tokens.tobytes() for tokens in singles.values()}) == 3
