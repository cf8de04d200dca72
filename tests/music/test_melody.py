"""A tune becomes pitch classes for each window of a cue, as audiocraft parts it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from tiny_melody import tune

from expotion_cli.audio.pitch_classes import SAMPLE_RATE, pitch_classes
from expotion_cli.music.melody import SPAN_S, Melody, needed_s


def test_a_cue_within_one_window_gets_the_tune_from_its_beginning_over_and_over():
    sound = tune(4.0)
    once = pitch_classes(sound)
    assert len(once) == 32
    assert Melody(sound, 235).pitches(Fraction(0)).tolist() == (once.tolist() * 8)[:235]


def test_a_longer_tune_is_cut_where_the_model_hears_no_further():
    notes = tuple(range(60, 72))
    for melody in (Melody(tune(50.0, notes), 235), Melody(tune(50.0, notes), 235, is_long=True)):
        assert np.array_equal(melody.pitches(Fraction(0)), Melody(tune(SPAN_S, notes), 235).pitches(Fraction(0)))
    assert needed_s(12.5) == 42.5


def test_windows_begin_where_the_tune_has_got_to_and_the_tune_repeats():
    sound = tune(7.0, (60, 65, 62))
    melody, endless = Melody(sound, 235, is_long=True), np.tile(sound, 12)
    found = []
    for start in (Fraction(0), Fraction(15), Fraction(41, 2), Fraction(45)):
        first = int(start * SAMPLE_RATE)
        found.append(melody.pitches(start))
        assert np.array_equal(found[-1], pitch_classes(endless[first : first + SPAN_S * SAMPLE_RATE]))
    assert not np.array_equal(found[0], found[1])


def test_a_window_that_another_prompt_begins_in_a_short_cue_hears_the_tune_from_there():
    notes = tuple(range(60, 72))
    later = Melody(tune(30.0, notes), 235).pitches(Fraction(5))
    assert np.array_equal(later, Melody(tune(30.0, notes), 235, is_long=True).pitches(Fraction(5)))


def test_another_tune_is_another_digest():
    digests = {Melody(tune(4.0, notes), 235).digest for notes in ((60, 64), (60, 63), (64, 60))}
    assert len(digests) == 3
    assert Melody(tune(4.0), 235).digest == Melody(tune(4.0), 235).digest != Melody(tune(4.0), 11).digest
