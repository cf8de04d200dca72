"""What prompts ask for."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from asked_prompts import ASKED, Asked

from expotion_cli import brief, vocabulary
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.orchestrate import (
    BEATING,
    PITCHED,
    TYPICAL_RANGE,
    apply,
    range_of,
    sounding,
)
from expotion_cli.recipe import Recipe, load_recipe, recipe_names
from expotion_cli.training.mini.corpus import captions
from expotion_cli.training.mini.corpus.describe import _MOODS, _STYLE_MOODS
from expotion_cli.training.mini.corpus.styles import STYLES


def settings_for(prompt: str, recipe: Recipe) -> SoundSettings:
    return apply(
        SoundSettings.from_table({"sound": recipe.sound, "voices": recipe.voices}, 1), brief.read(prompt, recipe)
    )


def heard(settings: SoundSettings) -> set[int | str]:
    """Programs of pitched voices that sound, and the names of those that beat time."""
    return {name if name in BEATING else program for name, program in sounding(settings).items()}


def test_there_are_sixty_prompts():
    assert len({asked.prompt for asked in ASKED}) == 60


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.prompt)
def test_a_prompt_gets_the_instruments_key_metre_and_tempo_that_it_asks_for(asked: Asked):
    recipe = load_recipe(asked.recipe)
    wanted, settings = brief.read(asked.prompt, recipe), settings_for(asked.prompt, recipe)
    sounds = heard(settings)
    assert set(asked.sounds) <= sounds, "asked for"
    assert not asked.alone or sounds == set(asked.sounds), "nothing else"
    for name in asked.rests:
        assert name not in sounding(settings)
        assert not sounds & set(vocabulary.FAMILIES.get(name, ())), name
    assert str(wanted.key or "") == asked.key
    assert wanted.key is None or settings.tonic % 12 == wanted.tonic
    assert {None: "", True: "minor", False: "major"}[wanted.is_minor] == asked.mode
    assert wanted.metre == asked.metre
    assert wanted.tempo == (asked.bpm or (recipe.tempo.min, recipe.tempo.max))


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.prompt)
def test_named_instruments_play_in_their_own_range(asked: Asked):
    recipe = load_recipe(asked.recipe)
    settings, own = settings_for(asked.prompt, recipe), dict(SoundSettings.from_table({"voices": recipe.voices}).voices)
    for name, sound in settings.sounds.items():
        if name in PITCHED and not sound.mute and own[name].program != sound.program:
            low, high = range_of(sound.program)
            first, last = (pitch + 12 * sound.octave for pitch in TYPICAL_RANGE[name])
            assert (sound.lowest, sound.highest) == (low, high)
            assert min(last, high) - max(first, low) >= min(12, last - first - 6), f"{name}: program {sound.program}"


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_with_its_own_prompt_stays_as_it_is(name):
    recipe = load_recipe(name)
    plain = SoundSettings.from_table({"sound": recipe.sound, "voices": recipe.voices}, 1)
    assert settings_for(recipe.prompt, recipe) == plain
    assert brief.read(recipe.prompt, recipe).unknown == () == brief.read(recipe.prompt, recipe).notes


@pytest.mark.parametrize(
    ("mute", "rest"),
    [
        (("drums",), {"drums", "percussion"}),
        (("percussion", "melody"), {"percussion", "melody"}),
        (("strings",), {"harmony", "bass", "figure", "melody"}),
        (("brass",), {"counter"}),
    ],
)
def test_what_is_muted_rests_whatever_the_prompt_says(mute, rest):
    recipe = load_recipe("cinematic", {"compose.mute": mute})
    own = settings_for(recipe.prompt, recipe)
    assert {name for name, sound in own.sounds.items() if sound.mute} == rest
    asked = settings_for("orchestra with drums, percussion, strings and brass", recipe)
    assert not rest & {"drums", "percussion"} & set(sounding(asked))


def test_the_recipes_compose_table_stands_above_the_prompt():
    recipe = load_recipe("cinematic", {"compose.key": "D", "compose.metre": "6/8"})
    wanted = brief.read("a waltz in A minor, 5/4", recipe)
    assert (wanted.tonic, wanted.is_minor, wanted.mode_source) == (2, True, "prompt")
    assert (wanted.metre, wanted.metre_source, wanted.notes) == ("6/8", "recipe", ())
    minor = brief.read("happy, in C major", load_recipe("cinematic", {"compose.key": "F# minor"}))
    assert (str(minor.key), minor.mode_source) == ("F# minor", "recipe")
    assert brief.read("happy", Recipe()).mode_source == "mood"


def test_words_nobody_understands_are_named_once_and_counted_beyond_ten():
    wanted = brief.read("whales, whales and frobnicating zorblax with piano", Recipe())
    assert wanted.unknown == ("whales", "frobnicating", "zorblax") and wanted.instruments == ("piano",)
    assert brief.not_understood(wanted.unknown) == "not understood: whales, frobnicating, zorblax"
    many = [f"wxq{n}" for n in range(14)]
    assert brief.not_understood(many) == f"not understood: {', '.join(many[:10])} and 4 more"
    assert brief.not_understood(()) == ""


def test_ordinary_words_are_no_news():
    for text in ("music for a scene in a film", "a nice track with a good beat for this video", "", "!!! 120 ???"):
        assert brief.read(text, Recipe()).unknown == ()


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("piano and strings, no piano", "asks for and excludes piano: left out"),
        ("solo piano, no piano", "kept, because nothing else is asked for"),
        ("7/8, drums", "metre 7/8 is taken as 4/4: the model has learned 4/4, 3/4 and 6/8"),
        ("9/8", "metre 9/8 is taken as 3/4"),
        ("phrygian", "phrygian is taken as minor"),
        ("female vocals", "nobody sings"),
    ],
)
def test_what_cannot_be_done_as_asked_is_said(prompt, said):
    (note,) = brief.read(prompt, Recipe()).notes
    assert said in note


@pytest.mark.parametrize(
    ("prompt", "excluded"),
    [
        ("no drums, bass", ("drums",)),
        ("no drums, bass, or guitar", ("drums", "bass", "guitar")),
        ("no drums and bass", ("drums", "bass")),
        ("without any loud drums, piano", ("drums",)),
        ("not only drums but brass", ()),
        ("no drums but brass", ("drums",)),
        ("drum-free", ("drums",)),
        ("free of drums", ("drums",)),
        ("drumless", ("drums",)),
        ("free jazz with drums", ()),
        ("no horns", ("brass",)),
        ("instead of piano use a harp", ("piano",)),
        ("no matter what, use drums", ()),
    ],
)
def test_a_negation_reaches_as_far_as_its_list(prompt, excluded):
    assert brief.read(prompt, Recipe()).excluded == excluded


@pytest.mark.parametrize(
    ("word", "name"),
    [("violn", "violin"), ("trupmet", "trumpet"), ("clarinett", "clarinet"), ("tumpet", "trumpet"), ("strong", ""),
     ("organic", ""), ("hornets", ""), ("brash", ""), ("horses", "")],
)  # fmt: skip
def test_one_slip_of_the_pen_is_forgiven_in_longer_names(word, name):
    assert brief.read(word, Recipe()).instruments == ((name,) if name else ())


def test_all_words_of_the_training_captions_are_understood():
    tables = (captions._TEMPO_WORDS, captions._DENSITY_WORDS, captions._ENERGY_WORDS, captions._ARC_WORDS,
              captions._ARC_CLAUSES, captions._USES, captions._FEEL_WORDS, captions.STYLE_NAMES, _MOODS,
              *_STYLE_MOODS.values())  # fmt: skip
    words = {word for table in tables for row in table.values() for word in row}
    words |= {instrument for style in STYLES.values() for players in style.sets for instrument in players.values()}
    unknown = {word: found for word in sorted(words) if (found := brief.read(word, Recipe()).unknown)}
    assert not unknown


def test_captions_are_understood_whole():
    style = STYLES["jazz"]
    for seed, players in itertools.product(range(20), style.sets):
        attributes = {
            "style": "jazz", "mode": "minor", "feel": "swing8", "tempo_bpm": 120, "tempo": "moderate",
            "density": "dense", "energy": {"word": "high", "arc": "rising"}, "voices": list(players),
            "instruments": players, "moods": ["smooth", "dark", "lively"],
        }  # fmt: skip
        text = captions.caption(attributes, np.random.default_rng(seed))
        assert brief.read(text, Recipe()).unknown == (), text


@pytest.mark.parametrize(
    "text",
    ["piano ", "no ", "a", ",", "no drums, ", "in a ", "A minor ", "3/4 ", "tempo ", "-", "a-", " ", "wxq ",
     "no drums or ", "100 bpm ", "\n", "鼓", "not only just ", "in A "],
)  # fmt: skip
def test_a_prompt_of_ten_thousand_characters_takes_no_longer_than_its_length(text):
    prompt = (text * 10_000)[:10_000]
    began = time.perf_counter()
    brief.read(prompt, Recipe())
    assert time.perf_counter() - began < 2.0


def test_every_instrument_and_ensemble_is_found_by_all_its_names_and_can_play():
    for instrument in vocabulary.INSTRUMENTS:
        for word in instrument.words:
            (name,) = brief.read(word, Recipe()).instruments
            assert sounding(settings_for(word, Recipe())), f"{word} → {name}"
    for name in vocabulary.ENSEMBLES:
        assert brief.read(name, Recipe()).instruments == (name,)
        assert len(sounding(settings_for(name, Recipe()))) >= 3, name
