"""`expotion recipes`: list, show, new, check, keys, schema; and what a shell completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

import jsonschema
import pytest

from expotion_cli.declare import settings_of
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.recipe import Generate, load_recipe, recipe_names
from expotion_cli.recipe_files import shipped_recipes
from expotion_cli.scoring import recipe_keys


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    """No test reads the user's own recipes."""
    monkeypatch.setenv("EXPOTION_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def test_recipes_are_listed_and_shown_with_and_without_the_word(expotion):
    for arguments in (["recipes"], ["recipes", "list"]):
        listed = expotion(*arguments).stdout
        assert all(name in listed and load_recipe(name).description in listed for name in recipe_names())
    for arguments in (["recipes", "lofi"], ["recipes", "show", "lofi"]):
        assert expotion(*arguments).stdout == load_recipe("lofi").path.read_text()
    assert json.loads(expotion("recipes", "lofi", "--json").stdout)["digest"] == load_recipe("lofi").digest
    assert {row["from"] for row in json.loads(expotion("recipes", "list", "--json").stdout)} == {"shipped"}


def test_a_recipe_of_ones_own_begins_as_the_one_it_extends(expotion, config):
    done = expotion("recipes", "new", "wedding", "--extends", "ambient")
    path = config / "recipes" / "wedding.toml"
    assert done.exit_code == 0 and str(path) in done.stdout and "--recipe wedding" in done.stdout
    assert load_recipe("wedding").digest == load_recipe("ambient").digest
    uncommented = "".join(line.removeprefix("# ") for line in path.read_text().splitlines(keepends=True))
    path.write_text(uncommented)  # every key that stands there as a comment is one, with the value that it has
    made, base = load_recipe("wedding"), load_recipe("ambient")
    assert made.fields() | {"sound": None} == base.fields() | {"sound": None} and made.prompt == base.prompt
    played = [SoundSettings.from_table({"sound": each.sound, "voices": each.voices}) for each in (made, base)]
    assert played[0] == played[1], "defaults of [sound] are written out"
    assert tomllib.loads(uncommented)["generate"].keys() == settings_of(Generate).keys()
    rows = {row["name"]: row["from"] for row in json.loads(expotion("recipes", "list", "--json").stdout)}
    assert rows["wedding"] == "own" and rows["ambient"] == "shipped"
    again = expotion("recipes", "new", "wedding")
    assert again.exit_code == 2 and "there already" in again.stderr and path.read_text() == uncommented


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", "jazz"], "a shipped recipe is called jazz"),
        (["new", "a b"], "can't be a recipe's name"),
        (["new", "mine", "--extends", "cinematc"], "did you mean 'cinematic'"),
        (["new", "folder/mine"], "End the path in .toml"),
        (["show", "cinematc"], "did you mean 'cinematic'"),
        (["cinematc"], "did you mean 'cinematic'"),
    ],
)
def test_what_cannot_be_done_is_said(expotion, arguments, said):
    done = expotion("recipes", *arguments)
    assert done.exit_code == 2 and said in done.stderr


def test_a_shadowed_name_is_no_secret(expotion, config):
    (config / "recipes").mkdir(parents=True)
    (config / "recipes" / "jazz.toml").write_text("")
    done = expotion("recipes")
    assert done.exit_code == 2 and "the name of a shipped one, jazz" in done.stderr and "cinematic" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("promt = 'x'\n", "did you mean 'prompt'"),
        ("[voices.melody]\nprogam = 1\n", "did you mean 'voices.melody.program'"),
        ("[sound]\nkit = 200\n", "sound.kit = 200 must be a whole number from 0 to 127"),
        ("[compose]\ngroove = 'walz'\n", "did you mean 'waltz'"),
        ("[streams]\npose_modle = 'full'\n", "did you mean 'streams.pose_model'"),
        ("extends = 'mine.toml'\n", "it extends itself"),
    ],
)
def test_a_recipe_is_checked_to_its_last_key(expotion, tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    done = expotion("recipes", "check", "cinematic", path)
    assert done.exit_code == 2 and said in done.stderr and str(path) in done.stderr
    assert "cinematic.toml: fine" in done.stdout and "mine" not in done.stdout
    record = json.loads(expotion("recipes", "check", path, "--json").stdout)
    assert record["exit_code"] == 2 and record["recipes"][0]["error"]["reason"]


def test_every_shipped_recipe_is_fine(expotion):
    done = expotion("recipes", "check", *recipe_names())
    assert done.exit_code == 0 and done.stdout.count(": fine") == len(recipe_names())


def test_a_resolved_recipe_needs_no_other(expotion, tmp_path):
    expotion("recipes", "new", "mine", "--extends", "comedy")
    path = tmp_path / "alone.toml"
    path.write_text(expotion("recipes", "show", "mine", "--resolved").stdout)
    assert "extends" not in tomllib.loads(path.read_text())
    assert load_recipe(path).digest == load_recipe("comedy").digest


def test_the_schema_takes_all_shipped_recipes(expotion, tmp_path):
    schema = json.loads(expotion("recipes", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in shipped_recipes().values():
        validator.validate(tomllib.loads(path.read_text()))
    validator.validate(
        tomllib.loads('extends = "jazz"\n[streams]\npose_model = "full"\n[generate]\nseed = "per-clip:2"\n')
    )
    assert expotion("recipes", "schema", "--out", tmp_path / "s.json").exit_code == 0
    assert json.loads((tmp_path / "s.json").read_text()) == schema


@pytest.mark.parametrize(
    "text",
    [
        "promt = 'x'\n",
        "tags = ['clasical']\n",
        "[loudness]\nlufs = 'loud'\n",
        "[loudness]\npeak_dbtp = 3\n",
        "[generate]\ntop_k = 2.5\n",
        "[generate]\nseed = 'sometimes'\n",
        "[mix]\nmode = 'replase'\n",
        "[streams]\nuse = 'pose'\n",
        "[streams]\nusee = ['pose']\n",
        "[voices]\nbass = 3\n",
        "[voices.bas]\nprogram = 3\n",
        "[voices.bass]\nprogam = 3\n",
        "[sound]\nlowpass_hz = 90\n",
        "[sound]\nkey = 'D'\n",
        "extends = 3\n",
    ],
)
def test_the_schema_refuses_what_the_program_refuses(tmp_path, text):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(Exception, match=r"wrong\.toml"):
        recipe_keys.check_recipe(load_recipe(tmp_path / "wrong.toml"))
    assert list(jsonschema.Draft202012Validator(recipe_keys.schema()).iter_errors(tomllib.loads(text)))


def test_the_page_lists_the_keys_as_the_program_declares_them(expotion, repository):
    page = (repository / "docs" / "recipes.md").read_text(encoding="utf-8")
    table = expotion("recipes", "keys", "--markdown").stdout
    assert table in page, "put what `expotion recipes keys --markdown` prints into docs/recipes.md"
    said = expotion("recipes", "keys").stdout
    assert all(key.dotted in said and key.doc in said for key in recipe_keys.all_keys())
    assert len(recipe_keys.all_keys()) > 45


@pytest.mark.parametrize(
    ("command", "words", "expected", "never"),
    [
        ("score_main", "expotion-score --recipe c", ["cinematic", "comedy"], "jazz"),
        ("score_main", "expotion-score --streams face,", ["face,pose", "face,flow"], "face,face"),
        ("score_main", "expotion-score --model mus", ["musicgen-small"], "musicnn"),
        ("main", "expotion models mediapipe-f", ["mediapipe-face"], "mediapipe-pose"),
        ("main", "expotion recipes show j", ["jazz"], "cinematic"),
    ],
)
def test_shells_complete_names_without_loading_anything_heavy(command, words, expected, never, repository):
    heavy = "{'torch', 'scipy', 'av', 'mediapipe', 'transformers', 'symusic'}"
    code = (
        f"import atexit, sys\natexit.register(lambda: print(sorted({heavy} & set(sys.modules)), file=sys.stderr))\n"
        f"from expotion_cli.cli import {command}\n{command}()"
    )
    variable = f"_{words.split()[0].upper().replace('-', '_')}_COMPLETE"
    environment = {**os.environ, variable: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=repository, capture_output=True, text=True)
    found = done.stdout.split()
    assert set(expected) <= set(found) and never not in found, done.stderr
    assert done.stderr.strip() == "[]"
