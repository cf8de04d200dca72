"""Tempo and key as prompts state them."""

from __future__ import annotations

import math

import pytest

from expotion_cli.evaluation.prompts import meets_tempo
from expotion_cli.prompts import stated_key, stated_tempo


@pytest.mark.parametrize(
    ("prompt", "bpm"),
    [
        ("techno, 128 bpm", 128),
        ("A waltz at 92.5BPM", 92.5),
        ("90 beats per minute, strings", 90),
        ("tempo of 110, piano", 110),
        ("fast and loud", None),
        ("with 808 drums from 1980", None),
        ("5 bpm", None),
    ],
)
def test_tempos_are_read_where_they_are_stated(prompt, bpm):
    assert stated_tempo(prompt) == bpm


@pytest.mark.parametrize(
    ("prompt", "key"),
    [
        ("in C major", (0, False)),
        ("a song in F# minor", (6, True)),
        ("E-flat major, slow", (3, False)),
        ("Bb minor", (10, True)),
        ("Piano in Am", None),
        ("plays a minor role", None),
        ("major chords", None),
    ],
)
def test_keys_are_read_where_they_are_stated(prompt, key):
    assert stated_key(prompt) == key


def test_octaves_of_a_tempo_are_that_tempo_and_thirds_are_not():
    assert meets_tempo(60, 120) == meets_tempo(240, 120) == meets_tempo(131, 120) == 1.0
    assert meets_tempo(80, 120) == meets_tempo(135, 120) == meets_tempo(math.nan, 120) == 0.0
