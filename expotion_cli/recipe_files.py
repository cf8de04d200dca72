"""Where recipes lie, by name or path, and what they are built on: the files of one recipe, base first.

A recipe that says `extends = "cinematic"` is laid over that one. Recipes of one's own lie in the folder `recipes` of
the configuration folder and are called by their names, as the shipped ones are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expotion_cli.assets import shipped_folder
from expotion_cli.declare import nearest_hint
from expotion_cli.errors import RecipeError, UnknownNameError
from expotion_cli.storage import config_root, expanded, read_toml

DEFAULT_RECIPE = "cinematic"
"""The shipped recipe that commands use where none is named."""
EXTENDS = "extends"
SUFFIX = ".toml"
MOST_LAYERS = 8
"""Files that one recipe may be built of."""


@dataclass(frozen=True)
class RecipeFile:
    """One file of a recipe.

    Attributes:
        path: where it is.
        tables: what it says, without what it extends.
        extends: what it extends, as it says; None where it stands alone.
    """

    path: Path
    tables: Mapping[str, Any]
    extends: str | None


def shipped_recipes() -> dict[str, Path]:
    """The shipped recipes by name, the default one first."""
    found = {path.stem: path for path in (shipped_folder("recipes") / "score").glob(f"*{SUFFIX}")}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != DEFAULT_RECIPE, name))}


def own_folder() -> Path:
    """Where the user's own recipes lie; it need not be there."""
    return config_root() / "recipes"


def own_recipes() -> dict[str, Path]:
    """The user's own recipes by name, those with the name of a shipped one included; none where they can't be read."""
    try:
        return {path.stem: path for path in sorted(own_folder().glob(f"*{SUFFIX}"))}
    except OSError:
        return {}


def is_path(text: str) -> bool:
    """Whether this is a recipe's path, and no name."""
    return text.endswith(SUFFIX) or "/" in text or "\\" in text


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe.

    Raises:
        UnknownNameError: no recipe has that name; the nearest is named.
        RecipeError: there is no such file, or two recipes have that name.
    """
    text = str(name_or_path)
    if is_path(text):
        path = expanded(text)
        if not path.is_file():
            raise RecipeError("there is no such recipe file.", path=path, remedy="Check the path.")
        return path
    shipped, own = shipped_recipes(), own_recipes()
    if text in shipped and text in own:
        raise RecipeError(
            f"this recipe has the name of a shipped one, {text}.",
            path=own[text],
            remedy="Rename the file, or give its path.",
        )
    if (found := shipped.get(text) or own.get(text)) is not None:
        return found
    mine = f"; your own: {', '.join(own)}" if own else ""
    raise UnknownNameError(
        f"No recipe is called {text!r}{nearest_hint(text, (*shipped, *own))}.",
        remedy=f"Shipped recipes: {', '.join(shipped)}{mine}; any other file is given by its path, ending in {SUFFIX}.",
    )


def read_layers(path: Path) -> tuple[RecipeFile, ...]:
    """A recipe's file and those it extends, the base first.

    Raises:
        RecipeError: one can't be read, extends itself or what does not exist, or there are too many.
    """
    layers = [_read(path)]
    trail = [path.resolve()]
    while (base := layers[0].extends) is not None:
        above = layers[0].path
        found = _base(base, above)
        if found.resolve() in trail:
            names = " → ".join(each.stem for each in (*trail[trail.index(found.resolve()) :], found))
            reason = "it extends itself." if len(trail) == 1 else f"recipes extend each other in a circle: {names}."
            raise RecipeError(reason, path=above, remedy=f'Remove or change extends = "{base}".')
        if len(layers) == MOST_LAYERS:
            raise RecipeError(
                f"more than {MOST_LAYERS} recipes extend one another.", path=path, remedy="Join some of them."
            )
        trail.append(found.resolve())
        layers.insert(0, _read(found))
    return tuple(layers)


def _read(path: Path) -> RecipeFile:
    tables = read_toml(path, "the recipe", error=RecipeError)
    tables.pop("name", None)  # the file's name is the recipe's name; saying it again inside is allowed
    base = tables.pop(EXTENDS, None)
    if base is not None and not (isinstance(base, str) and base.strip()):
        raise RecipeError(
            f"{EXTENDS} = {base!r} must name one recipe.", path=path, remedy=f'Write {EXTENDS} = "{DEFAULT_RECIPE}".'
        )
    return RecipeFile(path, tables, base)


def _base(text: str, above: Path) -> Path:
    """The file that another one extends: paths start from that file's folder."""
    if is_path(text):
        path = above.parent / expanded(text)
        if not path.is_file():
            raise RecipeError(f"it extends {text}, which is not there.", path=above, remedy="Check that path.")
        return path
    try:
        return find_recipe(text)
    except (UnknownNameError, RecipeError) as error:
        told = f"{error.path}: {error.reason}" if error.path else error.reason
        raise RecipeError(f"{EXTENDS} = {text!r}: {told}", path=above, remedy=error.remedy) from None
