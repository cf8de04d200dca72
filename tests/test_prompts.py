"""Tempo and key as prompts state them."""

from __future__ import annotations

import math

import pytest

from expotion_cli.evaluation.beats import meets_tempo
from expotion_cli.prompts import stated_key, stated_tempo, tempo_range
from expotion_cli.recipe import bounds, load_recipe, recipe_names

FORMS = {
    "techno, 128 bpm": 128,
    "A waltz at 92.5BPM": 92.5,
    "90 beats per minute, strings": 90,
    "96 beats a minute": 96,
    "120-bpm house": 120,
    "lofi-96bpm": 96,
    "strings,120 b.p.m.": 120,
    "bpm: 96": 96,
    "BPM=96": 96,
    "piano, bpm 96, 40 strings": 96,
    "tempo of 110, piano": 110,
    "tempo of about 96": 96,
    "The tempo is around 104.": 104,
    "a waltz, tempo: 92.5": 92.5,
    "mid-tempo 96": 96,
    "tempo 96 and 40 strings": 96,
    "7 bpm, then 900 bpm, then 100 bpm": 100,
}
RANGES = {
    "80-100 bpm": (80, 100),
    "100 to 80 bpm": (80, 100),
    "80 – 100 bpm": (80, 100),
    "between 80 and 100 beats a minute": (80, 100),
    "tempo between 80 and 100": (80, 100),
    "tempo: 80-100": (80, 100),
}
NO_TEMPO = (
    "fast and loud",
    "with 808 drums from 1980",
    "5 bpm",
    "1996 bpm",
    "1990 bpmx",
    "tempo 1996",
    "-96 bpm",
    "strings, -96 bpm",
    "\N{MINUS SIGN}96 bpm",
    "tempo 20 % up",
    "tempo 110.5 %",
    "up-tempo 90s funk",
    "up-tempo 80's pop",
    "mid-tempo 64 bars",
    "tempo 12/8",
)


@pytest.mark.parametrize(("prompt", "bpm"), FORMS.items())
def test_a_tempo_is_read_in_every_usual_form_and_obeyed(prompt, bpm):
    assert stated_tempo(prompt) == (bpm, bpm) == tempo_range(prompt, (66, 132))


@pytest.mark.parametrize(("prompt", "stated"), RANGES.items())
def test_a_stated_range_of_tempos_takes_the_place_of_the_recipes(prompt, stated):
    assert stated_tempo(prompt) == stated == tempo_range(prompt, (110, 132))


@pytest.mark.parametrize("prompt", NO_TEMPO)
def test_other_numbers_are_not_taken_for_a_tempo(prompt):
    assert stated_tempo(prompt) is None


def test_a_prompt_states_only_tempos_that_a_recipe_accepts():
    low, high = bounds("tempo.min")[0], bounds("tempo.max")[1]
    for bpm, stated in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
        assert (stated_tempo(f"{bpm:g} bpm") is not None) == stated


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("slow sad cello", (66, 84)),
        ("fast-paced strings", (124, 132)),
        ("Up-tempo pop", (124, 132)),
        ("a medium tempo groove", (84, 124)),
        ("breakfast by slowdive", (66, 132)),
        ("epic strings", (66, 132)),
    ],
)
def test_a_tempo_asked_for_in_words_narrows_the_range(prompt, expected):
    assert tempo_range(prompt, (66, 132)) == expected


def test_words_replace_a_range_they_share_nothing_with_but_not_a_fixed_tempo():
    assert tempo_range("slow house", (112, 150)) == (50, 84)
    assert tempo_range("slow, 60 bpm", (100, 100)) == (100, 100)


def test_a_number_wins_over_a_word():
    assert tempo_range("slow, 140 bpm", (66, 132)) == (140, 140)


@pytest.mark.parametrize("name", recipe_names())
def test_the_prompts_of_shipped_recipes_leave_their_tempo_range_alone(name):
    recipe = load_recipe(name)
    assert tempo_range(recipe.prompt, (recipe.tempo.min, recipe.tempo.max)) == (recipe.tempo.min, recipe.tempo.max)


@pytest.mark.parametrize(
    ("prompt", "key"),
    [
        ("in C major", (0, False)),
        ("a song in F# minor", (6, True)),
        ("E-flat major, slow", (3, False)),
        ("Bb minor", (10, True)),
        ("Piano in Am", (9, True)),
        ("A minor role is played here", None),
        ("plays a minor role", None),
        ("major chords", None),
    ],
)
def test_keys_are_read_where_they_are_stated(prompt, key):
    assert stated_key(prompt) == key


def test_octaves_of_a_tempo_are_that_tempo_and_thirds_are_not():
    stated = (120, 120)
    assert meets_tempo(60, stated) == meets_tempo(240, stated) == meets_tempo(131, stated) == 1.0
    assert meets_tempo(80, stated) == meets_tempo(135, stated) == meets_tempo(math.nan, stated) == 0.0


def test_a_stated_range_is_met_anywhere_inside_it():
    assert [meets_tempo(bpm, (80, 100)) for bpm in (73, 90, 109, 180, 115)] == [1, 1, 1, 1, 0]
