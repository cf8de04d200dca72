"""Recipes built on others, and the user's own."""

from __future__ import annotations

import pytest

from expotion_cli import storage
from expotion_cli.errors import RecipeError, UnknownNameError
from expotion_cli.recipe import load_recipe
from expotion_cli.recipe_files import MOST_LAYERS, own_recipes


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes recipes into the user's folder."""
    monkeypatch.setenv("EXPOTION_CONFIG", str(tmp_path / "config"))
    folder = tmp_path / "config" / "recipes"
    folder.mkdir(parents=True)

    def write(name: str, text: str):
        path = folder / f"{name}.toml"
        path.write_text(text)
        return path

    return write


def test_a_recipe_takes_from_what_it_extends_all_that_it_does_not_say(own):
    own("calm", 'extends = "cinematic"\n[loudness]\nlufs = -18\n[voices.bass]\ngain_db = 4\n')
    own("calmer", 'extends = "calm"\nprompt = "a harp"\n[tempo]\nmin = 60\n')
    base, made = load_recipe("cinematic"), load_recipe("calmer")
    assert made.loudness.lufs == -18 and made.tempo.min == 60 and made.prompt == "a harp"
    assert made.loudness.peak_dbtp == base.loudness.peak_dbtp and made.tempo.max == base.tempo.max
    assert made.voices["bass"] == {**base.voices["bass"], "gain_db": 4}, "a table of a voice is extended, not replaced"
    assert made.voices["melody"] == base.voices["melody"] and made.tags == base.tags
    assert (made.name, made.title, made.description) == ("calmer", "", ""), "titles are of the file that has them"


def test_the_digest_depends_on_values_and_not_on_how_they_came_about(own):
    base = load_recipe("cinematic")
    own("same", 'extends = "cinematic"\n')
    assert load_recipe("same").digest == base.digest
    own("other", 'extends = "cinematic"\n[loudness]\nlufs = -18\n')
    assert load_recipe("other").digest == base.override({"loudness.lufs": -18}).digest != base.digest
    changed = own("base", "[loudness]\nlufs = -20\n")
    own("built", 'extends = "base"\n')
    before = load_recipe("built").digest
    changed.write_text("[loudness]\nlufs = -21\n")
    assert load_recipe("built").digest != before


def test_paths_start_from_the_file_that_extends(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "base.toml").write_text("[loudness]\nlufs = -20\n")
    (tmp_path / "top.toml").write_text('extends = "a/base.toml"\n')
    assert load_recipe(tmp_path / "top.toml").loudness.lufs == -20


def test_circles_are_named(own):
    own("one", 'extends = "two"\n')
    own("two", 'extends = "three"\n')
    path = own("three", 'extends = "one"\n')
    with pytest.raises(RecipeError, match="in a circle: one → two → three → one") as caught:
        load_recipe("one")
    assert caught.value.path == path and caught.value.exit_code == 2
    own("self", 'extends = "self"\n')
    with pytest.raises(RecipeError, match=r"self\.toml: it extends itself\. Remove or change extends"):
        load_recipe("self")


def test_there_is_an_end_to_building_on_one_another(own):
    own("r0", "")
    for number in range(1, MOST_LAYERS + 1):
        own(f"r{number}", f'extends = "r{number - 1}"\n')
    assert load_recipe(f"r{MOST_LAYERS - 1}").name == f"r{MOST_LAYERS - 1}"
    with pytest.raises(RecipeError, match=f"more than {MOST_LAYERS} recipes"):
        load_recipe(f"r{MOST_LAYERS}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends = 3\n", "must name one recipe"),
        ('extends = ["cinematic"]\n', "must name one recipe"),
        ('extends = "cinematc"\n', "No recipe is called 'cinematc' .did you mean 'cinematic'"),
        ('extends = "none.toml"\n', "it extends none.toml, which is not there"),
        ('extends = "bad"\n', r"bad.toml: recipe: unknown key 'promt'"),
    ],
)
def test_what_is_wrong_with_a_base_is_said_with_the_file(own, text, said):
    own("bad", "promt = 'x'\n")
    own("top", text)
    with pytest.raises(RecipeError, match=said) as caught:
        load_recipe("top")
    assert caught.value.path is not None


def test_ones_own_recipes_are_called_by_name_and_never_stand_in_for_a_shipped_one(own):
    own("wedding", "[loudness]\nlufs = -20\n")
    assert load_recipe("wedding").loudness.lufs == -20
    with pytest.raises(UnknownNameError, match="did you mean 'wedding'.*your own: wedding"):
        load_recipe("weding")
    path = own("jazz", "")
    assert list(own_recipes()) == ["jazz", "wedding"]
    with pytest.raises(RecipeError, match="the name of a shipped one, jazz. Rename the file") as caught:
        load_recipe("jazz")
    assert caught.value.path == path
    assert load_recipe(path).path == path


def test_the_folder_for_settings_is_the_platforms_own(monkeypatch, tmp_path):
    monkeypatch.delenv("EXPOTION_CONFIG", raising=False)
    monkeypatch.setattr(storage.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert storage.config_root() == tmp_path / "expotion"
    monkeypatch.setattr(storage.sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", str(tmp_path / "roaming"))
    assert storage.config_root() == tmp_path / "roaming" / "expotion"
    monkeypatch.setattr(storage.sys, "platform", "darwin")
    assert storage.config_root().parts[-3:] == ("Library", "Application Support", "expotion")
