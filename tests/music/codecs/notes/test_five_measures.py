"""Groove and empty beats against music whose values can be told by hand."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.metrics import empty_beat_rate, five_measures, groove_consistency, is_stuck
from expotion_cli.music.codecs.notes.muspy import MEASURES
from expotion_cli.music.codecs.notes.tokens import Event, events_to_tokens


def test_bars_that_repeat_are_wholly_consistent_and_one_moved_stroke_counts_twice():
    same = [Event(48 * bar + step, 48 * bar + step + 1, 1, 2) for bar in range(4) for step in (0, 12, 24)]
    assert groove_consistency(events_to_tokens({"drums": same}, 192)) == 1
    moved = [*same[:-1], Event(48 * 3 + 27, 48 * 3 + 28, 1, 2)]
    assert groove_consistency(events_to_tokens({"drums": moved}, 192)) == pytest.approx(1 - 2 / 48 / 3)
    assert np.isnan(groove_consistency(events_to_tokens({"drums": same[:3]}, 48)))


def test_bars_of_three_quarters_are_compared_with_each_other():
    waltz = [Event(36 * bar + step, 36 * bar + step + 1, 1, 2) for bar in range(4) for step in (0, 30)]
    tokens = events_to_tokens({"drums": waltz}, 144)
    assert groove_consistency(tokens, 36) == 1 == five_measures(tokens, 36)["groove_consistency"]
    assert groove_consistency(tokens) < 0.95
    assert is_stuck(tokens, 36) and not is_stuck(tokens)


def test_a_beat_is_empty_when_nothing_sounds_in_it():
    events = {"melody": [Event(0, 24, 60, 2)], "drums": [Event(40, 41, 1, 2)], "dynamics": [Event(60, 96, 3)]}
    assert empty_beat_rate(events_to_tokens(events, 96)) == 5 / 8


def test_all_five_are_told():
    found = five_measures(events_to_tokens({"melody": [Event(12 * i, 12 * i + 12, 60 + i, 2) for i in range(8)]}, 96))
    assert tuple(found) == MEASURES and all(np.isfinite(value) for value in found.values())
    assert found["polyphony"] == 1 and found["empty_beat_rate"] == 0 and found["pitch_class_entropy"] == 3
