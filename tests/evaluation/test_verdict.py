"""The verdict in words."""

from __future__ import annotations

from expotion_cli.evaluation.results import Evaluation, Figure, Row
from expotion_cli.evaluation.verdict import verdict


def above(low: float, high: float, value: float = 0.5) -> Figure:
    return Figure(value, (0, 1), chance=value - (low + high) / 2, lift=(low + high) / 2, lift_interval=(low, high))


def said(**figures) -> list[str]:
    row = Row("ours", "outputs", ("a", "b", "c"), 3, figures)
    other = Row("metronome", "yardstick", ("a", "b", "c"), 3, figures)
    return verdict(Evaluation((row, other), {}, {}))


def test_what_lies_above_and_below_chance_is_named():
    assert said(correlation=above(0.1, 0.2), hits=above(-0.1, 0.1), f1=above(-0.3, -0.1)) == [
        "ours follows the picture better than chance (motion-onset r), and worse by beat F1."
    ]
    assert said(hits=above(-0.1, 0.1)) == ["ours follows the picture no better than chance."]
    many = {key: above(0.1, 0.2) for key in ("correlation", "ranking", "hits", "hit", "f1")}
    assert said(**many) == [
        "ours follows the picture better than chance (motion-onset r, own ranks higher, hits and 2 more)."
    ]


def test_marks_of_human_composed_music_are_met_or_missed():
    assert said(spread=Figure(4.0), hole=Figure(0.01), pulse=Figure(0.85)) == [
        "ours meets the marks of human-composed music by spread, holes and pulse."
    ]
    (line,) = said(spread=Figure(9.0), hole=Figure(2.34), pulse=Figure(0.85), hits=above(0.1, 0.2))
    assert line == (
        "ours follows the picture better than chance (hits). It meets the marks of human-composed music by pulse, "
        "but not by spread (9.0 dB, mark 1.5 to 7.5) and holes (2.3 %, mark 0)."
    )


def test_too_few_clips_give_no_verdict_on_chance():
    assert said(hits=Figure(0.5, None, 0.4, 0.1)) == [
        "ours: too few clips to tell its following from chance; give at least three."
    ]
    assert said() == said(hits=Figure(missing="no motion")) == []
