"""`expotion recipes`: the shipped recipes and one's own, listed, shown, begun and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from expotion_cli.cli import complete
from expotion_cli.cli.library import table
from expotion_cli.cli.say import error_record, handle_errors, say, say_aside, say_error, say_json
from expotion_cli.errors import ExpotionError, RefusedError, UsageError, writing
from expotion_cli.recipe import DEFAULT_RECIPE

SHIPPED, OWN = "shipped", "own"


class RecipesGroup(TyperGroup):
    """`recipes list`, `recipes show NAME` ...; `recipes NAME` shows that recipe, as it always has."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is named first, else `show`."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            return "show", self.commands["show"], args
        return super().resolve_command(ctx, args)


recipes_app = typer.Typer(cls=RecipesGroup, invoke_without_command=True)
_JSON = typer.Option("--json", help="Print JSON.")
_NAME = typer.Argument(
    help="A name from `expotion recipes`, or the path of a .toml file.",
    metavar="NAME",
    show_default=False,
    autocompletion=complete.recipes,
)


@recipes_app.callback()
def recipes(context: typer.Context, as_json: Annotated[bool, _JSON] = False) -> None:
    """List, show, begin and check recipes. Without a command they are listed; NAME alone shows one.

    Examples: expotion recipes show jazz; expotion recipes new wedding --extends ambient.
    """
    if context.invoked_subcommand is None:
        list_recipes(as_json=as_json)


@recipes_app.command("list")
@handle_errors
def list_recipes(as_json: Annotated[bool, _JSON] = False) -> int:
    """List the shipped recipes and your own, and say where each is from."""
    from expotion_cli.recipe import load_recipe
    from expotion_cli.recipe_files import own_folder, own_recipes, shipped_recipes

    shipped, own = shipped_recipes(), own_recipes()
    rows: list[dict[str, Any]] = []
    problems: list[ExpotionError] = []
    for source, files in ((SHIPPED, shipped), (OWN, own)):
        for name, path in files.items():
            try:
                recipe = load_recipe(name if source == OWN else path)
            except ExpotionError as error:
                problems.append(error)
                continue
            about = {"title": recipe.title, "description": recipe.description, "prompt": recipe.prompt}
            rows.append({"name": name, **about, "from": source, "path": str(path)})
    if as_json:
        say_json(rows)
    else:
        titles = ("name", "from", "what it is for") if own else ("name", "what it is for")
        cells = [(row["name"], *((row["from"],) if own else ()), row["description"] or row["title"]) for row in rows]
        table(titles, cells)
        print(f"\nYour own recipes: {own_folder()} (begin one with: expotion recipes new NAME)")
    for problem in problems:
        say_error(problem)
    return 2 if problems else 0


@recipes_app.command("show")
@handle_errors
def show(
    name: Annotated[str, _NAME],
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print every setting, with what it extends and the defaults filled in.")
    ] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Print a recipe as its file has it."""
    from expotion_cli.recipe import load_recipe

    recipe = load_recipe(name)
    assert recipe.path is not None
    if as_json:
        about = {"name": recipe.name, "digest": recipe.digest, "prompt": recipe.prompt, "tags": recipe.tags}
        say_json({**about, **recipe.fields()})
    elif resolved:
        from expotion_cli.scoring.recipe_keys import resolved as as_one_file

        print(as_one_file(recipe), end="")
    else:
        print(recipe.path.read_text(encoding="utf-8-sig"), end="")


@recipes_app.command("new")
@handle_errors
def new(
    name: Annotated[
        str,
        typer.Argument(help="Its name, or the path of a .toml file to write.", metavar="NAME", show_default=False),
    ],
    extends: Annotated[
        str, typer.Option(help="The recipe to build on.", metavar="RECIPE", autocompletion=complete.recipes)
    ] = DEFAULT_RECIPE,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Begin a recipe of your own: a file that extends another one, with every key and its value as a comment.

    A name alone puts it into your recipe folder (EXPOTION_CONFIG moves it), where --recipe NAME finds it.
    Example: expotion recipes new wedding --extends ambient
    """
    from expotion_cli.recipe import load_recipe
    from expotion_cli.recipe_files import SUFFIX, is_path, own_folder, shipped_recipes
    from expotion_cli.scoring.recipe_keys import template
    from expotion_cli.storage import expanded, write_bytes

    by_path = is_path(name)
    path = expanded(name) if by_path else own_folder() / f"{name}{SUFFIX}"
    if path.suffix != SUFFIX:
        raise UsageError(f"{name!r} is not the name of a recipe file.", remedy=f"End the path in {SUFFIX}.")
    if not by_path and not re.fullmatch(r"[\w-]+", name):
        raise UsageError(f"{name!r} can't be a recipe's name.", remedy="Use letters, digits, - and _.")
    if not by_path and name in shipped_recipes():
        raise UsageError(f"a shipped recipe is called {name}.", remedy="Choose another name.")
    base = load_recipe(extends)
    if not overwrite and path.exists():
        raise RefusedError("this file is there already.", path=path, remedy="Choose another name, or pass --overwrite.")
    if base.path is not None and path.exists() and path.samefile(base.path):
        raise UsageError("a recipe can't extend itself.", path=path, remedy="Choose another name.")
    if is_path(extends):
        extends = str(expanded(extends).resolve())
    with writing(path, "the recipe"):
        write_bytes(path, template(base, extends, path.stem.replace("-", " ").capitalize()).encode())
    print(f"{path} · score with it: expotion-score clips --recipe {path if by_path else name}")


@recipes_app.command("check")
@handle_errors
def check(
    files: Annotated[
        list[str],
        typer.Argument(help="Paths of .toml files, or names.", metavar="FILE...", show_default=False,
                       autocompletion=complete.recipes),
    ],
    as_json: Annotated[bool, _JSON] = False,
) -> int:  # fmt: skip
    """Check recipes without scoring anything: keys, ranges, what they extend, sounds, grooves, encoders' settings.

    Exit code 0: all are fine; 2: one is wrong.
    """
    from expotion_cli.recipe import load_recipe
    from expotion_cli.recipe_files import find_recipe, read_layers
    from expotion_cli.scoring.recipe_keys import check_recipe

    rows: list[dict[str, Any]] = []
    for each in files:
        try:
            path = find_recipe(each)
            recipe, base = load_recipe(path), [layer.path.stem for layer in read_layers(path)][-2::-1]
            notes = check_recipe(recipe)
        except ExpotionError as problem:
            rows.append({"file": each, "error": error_record(problem)})
            say_error(problem)
            continue
        rows.append({"file": str(path), "extends": base, "digest": recipe.digest, "notes": list(notes)})
        if not as_json:
            say(f"{path}: fine" + (f"; extends {' → '.join(base)}" if base else ""))
        for note in notes:
            say_aside(f"{path}: {note}")
    code = 2 if any("error" in row for row in rows) else 0
    if as_json:
        say_json({"exit_code": code, "recipes": rows})
    return code


@recipes_app.command("keys")
@handle_errors
def keys(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/recipes.md.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """List every key that a recipe may have: its default, its values, its meaning."""
    from expotion_cli.scoring import recipe_keys

    if markdown:
        print(recipe_keys.markdown(), end="")
        return
    found = recipe_keys.all_keys()
    if as_json:
        say_json([{"key": key.dotted, "default": key.default, "schema": key.schema, "meaning": key.doc}
                  for key in found])  # fmt: skip
        return
    for key in found:
        default = "" if key.default is None else f" (default {recipe_keys.toml(key.default)})"
        print(f"{key.dotted} = {key.values}{default}\n    {key.doc}")


@recipes_app.command("schema")
@handle_errors
def schema(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write it to this file instead of printing it.")
    ] = None,
) -> None:
    """Print the JSON Schema of recipes, by which editors complete and check them.

    Example: expotion recipes schema --out recipe.schema.json; then write "#:schema recipe.schema.json" as the first
    line of a recipe.
    """
    from expotion_cli.scoring.recipe_keys import schema as made
    from expotion_cli.storage import write_json

    if out is None:
        say_json(made())
        return
    with writing(out, "the schema"):
        write_json(out, made())
    print(out)
