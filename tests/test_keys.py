"""Keys as users write them."""

from __future__ import annotations

import pytest

from expotion_cli.errors import RecipeError
from expotion_cli.keys import Key, parse_key
from expotion_cli.recipe import Recipe, load_recipe, renamed


@pytest.mark.parametrize(
    ("text", "key", "shown"),
    [
        ("D", Key(2), "D"),
        ("A minor", Key(9, True), "A minor"),
        ("f# major", Key(6, False), "F# major"),
        ("Bbm", Key(10, True), "Bb minor"),
        ("E flat major", Key(3, False), "Eb major"),
        ("G♯ minor", Key(8, True), "G# minor"),
        ("C-sharp minor", Key(1, True), "C# minor"),
        (3, Key(3), "Eb"),
    ],
)
def test_a_key_is_a_tonic_with_or_without_its_mode(text, key, shown):
    assert parse_key(text) == key and str(key) == shown and parse_key(shown) == key


def test_auto_is_no_key():
    assert parse_key("auto") is None and Recipe().override({"compose.key": "Auto"}).compose.key == "auto"


@pytest.mark.parametrize("value", ["H", "A locrian", "", "minor", None, True, 2.5, "C##"])
def test_a_key_that_does_not_exist_is_refused_with_the_known_ones(value):
    with pytest.raises(RecipeError, match=r'compose\.key = .* must be "auto", or one of C, C#, Db, .* major or minor'):
        Recipe().override({"compose.key": value})


def test_a_metre_that_was_not_learned_is_refused_with_those_that_were():
    with pytest.raises(RecipeError, match="a metre that the model has learned: 4/4, 3/4, 6/8"):
        Recipe().override({"compose.metre": "5/4"}, source="--metre")


def test_nothing_unknown_is_muted():
    with pytest.raises(RecipeError, match="unknown name .did you mean 'drums'"):
        Recipe().override({"compose.mute": ["drum"]})
    assert Recipe().override({"compose.mute": ["drums", "strings"]}).compose.mute == ("drums", "strings")


def test_what_is_composed_decides_tokens():
    recipe = load_recipe("cinematic", {"compose.metre": "3/4", "compose.mute": ["bass"]})
    wanted = {"key": "auto", "metre": "3/4", "mute": ["bass"], "groove": "cinematic", "answers": 1}
    assert recipe.hashed_fields()["compose"] == wanted, "digests of before there were loops stay"
    assert recipe.cue_fields()["compose"] == {**wanted, "loop": False, "section_words": True}
    looped = recipe.override({"compose.loop": True})
    assert looped.hashed_fields()["compose"] == {**wanted, "loop": True}


def test_a_key_recorded_with_the_sound_is_read_as_one_of_the_composition():
    assert renamed({"sound.key": "D"}) == {"compose.key": "D"}
    recorded = {"sound": {"key": "D", "kit": 8}, "compose": {"metre": "3/4"}}
    assert renamed(recorded) == {"sound": {"kit": 8}, "compose": {"key": "D", "metre": "3/4"}}
    with pytest.raises(RecipeError, match=r"sound\.key is called compose\.key now"):
        Recipe().override({"sound.key": "D"})
