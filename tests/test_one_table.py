"""A setting has its default and its range in `recipe.py` alone; what takes it as a parameter requires it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from options import make_sampling, mix, remux

from expotion_cli import recipe
from expotion_cli.errors import RecipeError
from expotion_cli.recipe import Generate, LoudnessTarget, Mix, Recipe

PACKAGE = Path(recipe.__file__).parent
ROOMS = ("audio", "media", "music", "spotting", "scoring")
KEYS = {item.name for table in (Generate, Mix, LoudnessTarget) for item in fields(table)} - {"seed"}
NAMES = KEYS | {"target_lufs", "bpm_range", "fixed_bpm", "sampling", "tempo_range"}
"""A seed is no setting below the recipe: there it is a cue's own number, drawn by the recipe's policy."""


def defaults(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of every parameter and dataclass field that has a default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            places = [*node.args.posonlyargs, *node.args.args]
            given = places[len(places) - len(node.args.defaults) :]
            given += [a for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
            yield from ((argument.arg, argument.lineno) for argument in given)
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and item.value is not None and isinstance(item.target, ast.Name):
                    yield item.target.id, item.lineno


@pytest.mark.parametrize("room", ROOMS)
def test_no_parameter_named_like_a_recipe_key_has_a_default(room):
    found = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        found += [f"{path.name}:{line} {name}" for name, line in defaults(ast.parse(path.read_text())) if name in NAMES]
    assert not found, f"these have their default in recipe.py: {', '.join(found)}"


def test_the_search_for_defaults_finds_them():
    text = "def f(a, top_k=5, *, mode='under', lufs): ...\nclass C:\n    takes: int = 4\n    top_p: float\n"
    assert sorted(name for name, _ in defaults(ast.parse(text))) == ["mode", "takes", "top_k"]


def music() -> np.ndarray:
    return np.zeros((2, 100), np.float32)


def into_mix(name, value):
    mix(music(), 8000, num_samples=100, **{name: value})


def into_remux(name, value):
    remux(None, music(), 8000, "out.mp4", **{{"lufs": "target_lufs"}.get(name, name): value})


@pytest.mark.parametrize(
    ("key", "value", "take"),
    [
        ("generate.guidance", 21, lambda name, value: make_sampling(**{name: value})),
        ("generate.top_p", 0, lambda name, value: make_sampling(**{name: value})),
        ("mix.mode", "beside", into_mix),
        ("mix.fade_in_s", 31, into_mix),
        ("mix.fade_out_s", -1, into_mix),
        ("mix.under_lu", "12", into_mix),
        ("mix.audio_codec", "mp3", into_remux),
        ("loudness.lufs", -4, into_remux),
        ("loudness.peak_dbtp", 0.1, into_remux),
    ],
)
def test_a_value_out_of_range_is_refused_in_the_same_words_wherever_it_comes_in(key, value, take):
    with pytest.raises(RecipeError) as below:
        take(key.partition(".")[2], value)
    with pytest.raises(RecipeError) as above:
        Recipe().override({key: value}, source="recipe")
    assert f"recipe: {below.value}" == str(above.value)


def test_every_number_of_the_table_lies_within_its_own_range():
    for table in ("generate", "tempo", "compose", "follow", "mix", "loudness"):
        for item in fields(getattr(Recipe(), table)):
            assert recipe.check(f"{table}.{item.name}", item.default) == item.default
            if isinstance(item.default, (int, float, Fraction)) and not isinstance(item.default, bool):
                low, high = recipe.bounds(f"{table}.{item.name}")
                assert low <= item.default <= high
