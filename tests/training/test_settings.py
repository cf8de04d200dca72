"""Training recipes: what ships, layers of settings, errors that name the nearest key."""

from __future__ import annotations

import dataclasses

import pytest

from expotion_cli.errors import RecipeError, UnknownNameError
from expotion_cli.training.settings import TrainRecipe, load_train_recipe, train_recipe_names

HELP = {
    f"{part.name}.{field.name}": field.metadata["doc"]
    for part in dataclasses.fields(TrainRecipe)
    if dataclasses.is_dataclass(part.default)
    for field in dataclasses.fields(part.default)
}


@pytest.mark.parametrize("name", train_recipe_names())
def test_every_shipped_recipe_loads_and_describes_itself(name):
    recipe = load_train_recipe(name)
    assert recipe.name == name and recipe.title and recipe.description and recipe.adapter.rank > 0


def test_the_default_comes_first_and_the_embedded_models_recipe_is_none_of_these():
    assert train_recipe_names() == ["adapter", "authors", "synthetic"]
    assert load_train_recipe() == load_train_recipe("adapter")
    with pytest.raises(UnknownNameError, match="mini"):
        load_train_recipe("mini")


def test_the_authors_recipe_states_what_they_published():
    recipe = load_train_recipe("authors")
    train = recipe.train
    assert (train.optimizer, train.learning_rate, train.weight_decay, train.clip_norm) == ("adamw", 1e-2, 0.02, 0.1)
    assert (train.epochs, train.warmup_epochs, train.batch, train.schedule) == (20, 2, 40, "cosine")
    assert train.learning_rate * train.last_rate == pytest.approx(1e-4)
    assert (recipe.adapter.gate_start, recipe.adapter.warm_up_steps, recipe.adapter.window_steps) == (0, 0, 500)
    assert (recipe.data.crops, recipe.data.synthetic, recipe.data.drop_text, recipe.data.drop_each) == (
        "start",
        0,
        0,
        0,
    )


def test_single_settings_lie_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\n[train]\nsteps = 70\nbatch = 8\n[adapter]\nstreams = ["flow"]\n')
    recipe = load_train_recipe(path, ["train.steps=90", "train.optimizer=muon", 'adapter.streams=["pose", "face"]'])
    assert (recipe.name, recipe.train.steps, recipe.train.batch, recipe.train.micro_batch) == ("mine", 90, 8, 4)
    assert recipe.train.optimizer == "muon" and recipe.adapter.streams == ("pose", "face")
    plain = load_train_recipe(path)
    assert recipe.digest != plain.digest
    path.write_text(path.read_text().replace('"mine"', '"another title"'))
    assert load_train_recipe(path).digest == plain.digest, "words for people decide nothing"


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("train.stepz=3", "train.steps"),
        ("tran.steps=3", "'train'"),
        ("train.steps=-1", "train.steps"),
        ("train.steps=many", "train.steps"),
        ("train.optimizer=adam", "adamw"),
        ("train.precision=fp16", "bf16"),
        ("data.drop_text=1.5", "data.drop_text"),
        ("train.checkpointing=1", "must be true or false"),
        ("lora.targets=['q_prok']", "did you mean 'q_proj'"),
        ("lora.targets=q_proj", "must be a list"),
        ("train.steps", "KEY=VALUE"),
        ("adapter.rank=0", "nothing is trained"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_is_right(setting, wanted):
    with pytest.raises(RecipeError, match=wanted):
        load_train_recipe("adapter", [setting])


def test_files_that_are_no_recipes_are_named(tmp_path):
    path = tmp_path / "mine.toml"
    for text, wanted in (
        ("steps = [", "not valid TOML"),
        ("[trian]\n", "did you mean 'train'"),
        ("train = 3\n", "train"),
    ):
        path.write_text(text)
        with pytest.raises(RecipeError, match=wanted) as caught:
            load_train_recipe(path)
        assert str(path) in str(caught.value)
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_train_recipe(tmp_path / "other.toml")
    with pytest.raises(UnknownNameError, match="did you mean 'authors'"):
        load_train_recipe("author")


def test_the_page_on_training_states_every_key_with_its_default_and_what_recipes_make_of_it(repository):
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (repository / "docs" / "training.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    stated = {row[0].strip("`"): row[1:] for row in rows if len(row) == 6}
    default, shipped = TrainRecipe("default").fields(), [load_train_recipe(n).fields() for n in train_recipe_names()]
    keys = {f"{table}.{key}" for table, entries in default.items() for key in entries}
    assert stated.keys() == keys
    for name, (usual, *cells, words) in stated.items():
        table, key = name.split(".")
        assert usual == shown(default[table][key]), name
        for cell, fields in zip(cells, shipped, strict=True):
            assert (cell or usual) == shown(fields[table][key]), name
        assert words == HELP[name]


def shown(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or "all"
    return f"{value:g}" if isinstance(value, float) else str(value)
