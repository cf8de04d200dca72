"""How takes of notes are rated: faults, and measures outside the training music's range."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.judge import NoteJudge, longest_pause, onset_strength
from expotion_cli.music.codecs.notes.metrics import five_measures, is_stuck
from expotion_cli.music.codecs.notes.muspy import MEASURES
from expotion_cli.music.codecs.notes.tokens import Event, chord_value, events_to_tokens
from expotion_cli.music.load import load_model
from expotion_cli.timing import Timeline

STEPS = 192
GRID = Timeline(Fraction(8), Fraction(24))
SCALE = (60, 62, 64, 65, 67, 69, 71, 72)


def tune(starts, pitches=SCALE, velocity: int = 2) -> np.ndarray:
    starts = list(starts)
    ends = [*starts[1:], STEPS]
    notes = [
        Event(start, end, pitches[i % len(pitches)], velocity)
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    return events_to_tokens({"melody": notes}, STEPS)


def faults(tokens: np.ndarray) -> tuple[str, ...]:
    return NoteJudge().rate(tokens, GRID).faults


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
    assert is_stuck(loop) and faults(loop) == ("stuck in a loop",)
    lively = tune([48 * n + step + 3 * n for n in range(4) for step in bar])
    assert not is_stuck(lively) and faults(lively) == ()
    same_note = tune(range(0, STEPS, 7), pitches=(60,))
    assert is_stuck(same_note)
    empty = events_to_tokens({}, STEPS)
    assert not is_stuck(empty)


def test_a_long_pause_is_a_fault_and_a_held_chord_is_none():
    hits = {"drums": [Event(0, 1, 1), Event(150, 151, 1)]}
    assert longest_pause(events_to_tokens(hits, STEPS), 48) == 150 - 12
    assert faults(events_to_tokens(hits, STEPS)) == ("a pause of 5.8 s",)
    held = hits | {"harmony": [Event(0, STEPS, chord_value(0, "maj"), 1)]}
    assert longest_pause(events_to_tokens(held, STEPS), 48) == 0
    assert longest_pause(events_to_tokens({}, STEPS), 48) == STEPS


def test_another_tonic_is_a_fault():
    assert faults(tune(range(0, STEPS, 9))) == ()
    assert "off its key" in faults(tune(range(0, STEPS, 9), pitches=(61, 63, 65, 66, 68, 70, 72, 73)))


def test_measures_are_held_to_the_range_of_the_takes_own_length():
    inside, outside = tune(range(3, STEPS, 9)), tune(range(0, STEPS, 24), pitches=tuple(range(60, 72)))
    around = {key: (value - 0.05, value + 0.05) for key, value in five_measures(inside).items()}
    judge = NoteJudge({STEPS: around})
    assert judge.num_in_range(inside, 48) == len(MEASURES) > judge.num_in_range(outside, 48)
    assert judge.rate(inside, GRID).usual == 1 > judge.rate(outside, GRID).usual
    judge = NoteJudge({96: {"polyphony": (0.0, 0.5)}, 192: {"polyphony": (0.5, 1.5)}})
    assert judge.num_in_range(tune(range(0, STEPS, 12)), 48) == 1
    assert judge.num_in_range(tune(range(0, STEPS, 12))[:, :96], 48) == 0


def test_a_model_without_ranges_is_judged_by_faults_alone(tmp_path):
    assert NoteJudge.of_model(tmp_path) == NoteJudge() and NoteJudge().rate(tune([0]), GRID).usual is None
    row = {key: {"p10": 0.1, "p90": 0.9} for key in MEASURES}
    (tmp_path / "training.json").write_text(json.dumps({"statistics_by_steps": {"96": row}}))
    judge = NoteJudge.of_model(tmp_path)
    assert judge.ranges == {96: dict.fromkeys(MEASURES, (0.1, 0.9))} and judge.digest != NoteJudge().digest


def test_the_shipped_model_knows_its_training_music():
    judge = load_model("expotion-mini", device="cpu").codec.judge
    assert set(judge.ranges) and judge.digest
