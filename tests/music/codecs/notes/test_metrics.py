"""Measures of note tokens on cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.metrics import excerpt, statistics
from expotion_cli.music.codecs.notes.tokens import Event, chord_value, events_to_tokens


def melody(pitches: list[int], length: int = 12) -> np.ndarray:
    events = [Event(i * length, (i + 1) * length, p, 1) for i, p in enumerate(pitches)]
    return events_to_tokens({"melody": events}, length * len(pitches))


def test_a_major_scale_is_wholly_consistent_and_a_chromatic_one_is_not():
    scale = statistics(melody([60, 62, 64, 65, 67, 69, 71]))
    assert scale["scale_consistency"] == 1.0
    assert scale["pitch_class_entropy"] == pytest.approx(np.log2(7))
    chromatic = statistics(melody(list(range(60, 72))))
    assert chromatic["scale_consistency"] == pytest.approx(7 / 12)
    assert chromatic["pitch_class_entropy"] == pytest.approx(np.log2(12))


def test_density_counts_onsets_a_beat_by_voice_and_leaves_dynamics_out():
    tokens = events_to_tokens(
        {
            "melody": [Event(0, 6, 60), Event(6, 12, 62)],
            "drums": [Event(0, 1, 1), Event(24, 25, 2)],
            "dynamics": [Event(0, 48, 3)],
        },
        48,
    )
    found = statistics(tokens)
    assert found["density"] == 1.0
    assert found["voice_density"]["melody"] == 0.5
    assert found["voice_density"]["dynamics"] == 0.25
    assert found["empty_beat_rate"] == 0.5
    assert found["silence_rate"] == 0.75


def test_polyphony_counts_chord_tones_and_single_voices_where_something_sounds():
    tokens = events_to_tokens({"harmony": [Event(0, 24, chord_value(0, "maj7"))], "melody": [Event(0, 12, 64)]}, 48)
    found = statistics(tokens)
    assert found["polyphony"] == pytest.approx((5 + 4) / 2)
    assert found["pitch_class_entropy"] == pytest.approx(-(0.4 * np.log2(0.4) + 0.6 * np.log2(0.2)))


def test_onsets_are_sorted_into_beats_eighths_sixteenths_and_triplets():
    starts = [0, 6, 9, 12, 16, 20, 25, 36]
    tokens = events_to_tokens({"melody": [Event(s, s + 1, 60) for s in starts]}, 48)
    grid = statistics(tokens)["grid"]
    assert grid == pytest.approx({"beat": 3 / 8, "eighth": 1 / 8, "sixteenth": 1 / 8, "triplet": 2 / 8, "other": 1 / 8})


def test_silence_has_statistics_too():
    found = statistics(events_to_tokens({}, 24))
    assert np.isnan(found["scale_consistency"])
    assert found["density"] == 0 and found["polyphony"] == 0
    assert found["empty_beat_rate"] == 1 and found["silence_rate"] == 1


def test_an_excerpt_strikes_what_sounds_where_it_begins_and_nothing_that_has_ended():
    tokens = events_to_tokens(
        {
            "harmony": [Event(0, 96, chord_value(0, "maj"))],
            "melody": [Event(0, 12, 60), Event(36, 72, 64)],
            "bass": [Event(0, 40, 36)],
            "drums": [Event(40, 41, 1), Event(50, 51, 2)],
        },
        96,
    )
    found = excerpt(tokens, 48, 24)
    own = events_to_tokens(
        {
            "harmony": [Event(0, 24, chord_value(0, "maj"))],
            "melody": [Event(0, 24, 64)],
            "drums": [Event(2, 3, 2)],
        },
        24,
    )
    assert found.shape == (8, 24)
    measured, wanted = statistics(found), statistics(own)
    assert measured == wanted and measured["polyphony"] == 4 and measured["silence_rate"] == 0
    assert np.array_equal(excerpt(tokens, 0, 96), tokens) and excerpt(tokens, 84, 48).shape == (8, 12)
    assert tokens[1, 48] == 1, "the piece itself is left alone"
