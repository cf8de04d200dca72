"""Recipes: layers, errors that name the nearest key, digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from expotion_cli.errors import RecipeError, UnknownNameError
from expotion_cli.music.codecs.notes.groove import load_groove
from expotion_cli.recipe import MAX_SEED, UNSET, Recipe, check, load_recipe, recipe_names, renamed


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_describes_itself(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.title and recipe.description and len(recipe.prompt.split()) >= 5
    assert recipe.mix.mode == "replace"
    assert recipe.tags, "evaluation could not tell whether music keeps its style"


def test_cinematic_and_eleven_more_are_shipped_and_differ():
    names = recipe_names()
    others = "ambient classical comedy corporate documentary electronic jazz lofi suspense trailer upbeat"
    assert names == ["cinematic", *others.split()], "the usual one first"
    assert len({load_recipe(name).digest for name in names}) == len(names)


def test_every_shipped_recipe_has_a_groove_that_is_shipped():
    for name in recipe_names():
        assert load_groove(load_recipe(name).compose.groove).title


def test_layers_are_default_then_recipe_then_flag(tmp_path):
    path = write(tmp_path, "[loudness]\nlufs = -20\n[mix]\nfade_out_s = 3\n")
    recipe = load_recipe(path, {"loudness.lufs": -16, "mix.fade_out_s": UNSET})
    assert recipe.loudness.lufs == -16
    assert recipe.mix.fade_out_s == 3
    assert recipe.mix.fade_in_s == Recipe().mix.fade_in_s


def test_a_flag_given_as_zero_or_empty_is_not_unset(tmp_path):
    path = write(tmp_path, 'prompt = "loud"\n[mix]\nfade_in_s = 2\n[streams]\nuse = ["flow"]\n')
    recipe = load_recipe(path, {"prompt": "", "mix.fade_in_s": 0, "streams.use": ()})
    assert (recipe.prompt, recipe.mix.fade_in_s, recipe.streams.use) == ("", 0.0, ())


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("[loudnes]\nlufs = -14\n", "loudnes", "loudness"),
        ("[generate]\ntemprature = 1\n", "generate.temprature", "generate.temperature"),
        ("promt = 'x'\n", "promt", "prompt"),
        ("[mix]\nmode = 'replase'\n", "replase", "replace"),
        ("tags = ['strings', 'clasical']\n", "clasical", "classical"),
    ],
)
def test_an_unknown_key_names_the_file_and_the_nearest_key(tmp_path, text, wrong, nearest):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert str(path) in message and wrong in message and f"did you mean {nearest!r}" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        "[loudness]\nlufs = 'loud'\n",
        "[loudness]\npeak_dbtp = 3\n",
        "[generate]\ntop_k = 2.5\n",
        "[generate]\ntemperature = true\n",
        "[generate]\nseed = 'sometimes'\n",
        "[generate]\nseed = -1\n",
        "[tempo]\nmin = 120\nmax = 80\n",
        "[streams]\nuse = 'pose'\n",
        "loudness = -14\n",
        "[voices]\nbass = 3\n",
        "[loudness\n",
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_file(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.path == path


def test_a_misspelt_recipe_name_suggests_the_right_one():
    with pytest.raises(UnknownNameError, match="did you mean 'cinematic'"):
        load_recipe("cinematc")


def test_a_missing_recipe_file_is_an_error_with_its_path(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_recipe(tmp_path / "none.toml")


def test_the_digest_ignores_names_titles_and_how_numbers_are_written(tmp_path):
    one = write(tmp_path, "title = 'A'\n[loudness]\nlufs = -14\n[voices.bass]\nprogram = 32\n", "a.toml")
    two = write(tmp_path, "title = 'B'\n[voices.bass]\nprogram = 32.0\n[loudness]\nlufs = -14.0\n", "b.toml")
    assert load_recipe(one).digest == load_recipe(two).digest


@pytest.mark.parametrize(
    "flags",
    [
        {"prompt": "other"},
        {"generate.seed": 3},
        {"generate.temperature": 0.5},
        {"tempo.max": 130},
        {"streams.use": ["pose"]},
        {"mix.mode": "under"},
        {"loudness.lufs": -15},
        {"compose.key": "D"},
        {"voices": {"bass": {"program": 33}}},
    ],
)
def test_everything_that_shapes_the_result_changes_the_digest(flags):
    assert load_recipe("cinematic", flags).digest != load_recipe("cinematic").digest


def test_a_per_clip_seed_follows_the_content_and_the_base_alone():
    recipe = load_recipe("cinematic")
    other_take = recipe.override({"generate.seed": "per-clip:1"})
    assert recipe.seed_for("aa") == load_recipe("ambient").seed_for("aa")
    seeds = {recipe.seed_for("aa"), recipe.seed_for("bb"), other_take.seed_for("aa")}
    assert len(seeds) == 3 and all(0 <= seed <= MAX_SEED for seed in seeds)
    assert recipe.override({"generate.seed": 7}).seed_for("aa") == 7


def test_a_key_under_its_earlier_name_is_refused_with_the_new_one(tmp_path):
    path = write(tmp_path, "[generate]\ndrafts = 2\n")
    with pytest.raises(RecipeError, match="generate.drafts is called generate.takes now") as caught:
        load_recipe(path)
    assert caught.value.path == path
    with pytest.raises(RecipeError, match="--set: generate.drafts is called generate.takes now"):
        Recipe().override({"generate.drafts": 2}, source="--set")


def test_tags_are_for_measures_and_change_no_digest(tmp_path):
    one, two = (write(tmp_path, f"tags = {tags}\n", f"{n}.toml") for n, tags in enumerate(('["harp"]', '["techno"]')))
    assert load_recipe(one).tags == ("harp",) != load_recipe(two).tags
    assert load_recipe(one).digest == load_recipe(two).digest == Recipe().digest
    assert "tags" not in load_recipe(one).fields()


def test_renaming_a_key_changes_no_digest():
    # As versions before the renaming would compute it.
    assert Recipe().digest == "27e253c006a26ee43946cdc8f0cf8a80706adadfc974489725cf8dbabace7d67"
    assert Recipe().hashed_fields()["generate"]["drafts"] == Recipe().fields()["generate"]["takes"] == 4
    assert set(Recipe().hashed_fields()) == set(Recipe().fields()) - {"compose"}, "it asked for nothing then"


def test_recorded_settings_are_read_under_todays_names():
    assert renamed({"generate.drafts": 2, "prompt": "x"}) == {"generate.takes": 2, "prompt": "x"}
    recorded = {"generate": {"drafts": 2, "top_k": 7}, "tempo": {"min": 60.0}, "seed": 3}
    assert renamed(recorded) == {"generate": {"takes": 2, "top_k": 7}, "tempo": {"min": 60.0}, "seed": 3}


@pytest.mark.parametrize(
    ("key", "value"), [("generate.top_k", -1), ("mix.mode", "beside"), ("loudness.peak_dbtp", 1), ("tempo.min", True)]
)
def test_a_single_value_is_refused_in_the_words_of_a_recipe_file(key, value):
    with pytest.raises(RecipeError) as alone:
        check(key, value)
    with pytest.raises(RecipeError) as in_recipe:
        Recipe().override({key: value}, source="mine")
    assert str(in_recipe.value) == f"mine: {alone.value}"
