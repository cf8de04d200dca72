"""`expotion models` and `expotion recipes`: list and show what is available."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.assets import shipped_folder
from expotion_cli.cli.say import handle_errors, say_json
from expotion_cli.errors import UnknownNameError
from expotion_cli.weights.manifest import size_text

if TYPE_CHECKING:
    from expotion_cli.weights.manifest import Manifest

BUILT_IN = "built in"
"""State of encoders that need no files."""


@handle_errors
def models(
    name: Annotated[str | None, typer.Argument(help="Show this one: files and model card.", show_default=False)] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every file's sha256.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List music models, encoders and the tagger: size, licence, whether their files are here."""
    from expotion_cli.weights.manifest import read_manifests

    found = read_manifests()
    if name is not None:
        if name not in found:
            from expotion_cli.declare import nearest_hint

            raise UnknownNameError(
                f"no model is called {name!r}{nearest_hint(name, found)}.", remedy=f"Models: {', '.join(found)}."
            )
        found = {name: found[name]}
    rows = [_model_row(manifest, verify) for manifest in found.values()]
    if as_json:
        say_json(rows)
    elif name is not None:
        _show_model(rows[0])
    else:
        _table(
            ("name", "kind", "files", "size", "licence", "feeds", "what it is"),  # the first five fit into 80 columns
            [
                (
                    row["name"],
                    row["kind"],
                    row["state"],
                    size_text(row["bytes"]) if row["files"] else "-",
                    _short(row["licence"]),
                    " + ".join(row["streams"]),
                    row["title"],
                )
                for row in rows
            ],
        )
    bad = {row["state"] for row in rows} - {"here", BUILT_IN}
    if not (verify and name):
        bad.discard("not fetched")  # models need not be fetched, unless this one was asked for by name
    return 4 if bad and (verify or name) else 0


@handle_errors
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show this one, with all its settings.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the shipped recipes, or print one as a template for your own."""
    from expotion_cli.recipe import load_recipe, recipe_names

    if name is not None:
        recipe = load_recipe(name)
        if as_json:
            say_json(
                {
                    "name": recipe.name,
                    "digest": recipe.digest,
                    "prompt": recipe.prompt,
                    "tags": recipe.tags,
                    **recipe.fields(),
                }
            )
        elif recipe.path is not None:
            print(recipe.path.read_text(encoding="utf-8"), end="")
        return
    all_recipes = [load_recipe(each) for each in recipe_names()]
    if as_json:
        say_json(
            [{"name": r.name, "title": r.title, "description": r.description, "prompt": r.prompt} for r in all_recipes]
        )
    else:
        _table(("name", "what it is for"), [(recipe.name, recipe.description) for recipe in all_recipes])


def _model_row(manifest: Manifest, verify: bool) -> dict[str, Any]:
    files = [
        {
            "path": file.name,
            "bytes": file.num_bytes,
            "sha256": file.sha256,
            "state": file.state(thorough=verify),
        }
        for file in manifest.files
    ]
    states = {file["state"] for file in files}
    state = next((state for state in ("damaged", "missing", "unchecked") if state in states), "here")
    if not files:
        state = BUILT_IN
    return {
        "name": manifest.name,
        "kind": manifest.kind,
        "streams": list(manifest.streams),
        "title": manifest.title,
        "licence": manifest.licence,
        "source": manifest.source,
        "bytes": manifest.about_bytes,
        "state": "not fetched" if state == "missing" and not manifest.ships else state,
        "folder": str(manifest.folder) if manifest.folder else None,
        "repo": manifest.repo or None,
        "revision": manifest.revision or None,
        "ships": manifest.ships,
        "files": files,
    }


def _show_model(row: dict[str, Any]) -> None:
    size = f", {size_text(row['bytes'])}" if row["files"] else f", {row['state']}"
    print(f"{row['name']}: {row['title']}\nkind {row['kind']}, licence {row['licence']}{size}")
    if row["streams"]:
        print(f"feeds the stream {' and '.join(row['streams'])}")
    if row["source"]:
        print(f"source: {row['source']}")
    if row["repo"]:
        print(f"revision: {row['revision']}")
    if not row["ships"]:
        print(f"folder: {row['folder']}")
    for record in row["files"]:
        size = size_text(record["bytes"]) if record["bytes"] else ""
        print(f"  {record['state']:<9} {record['path']}  {size}".rstrip())
    if row["state"] == "not fetched":
        print(f"To fetch it, run: expotion fetch {row['name']}")
    card = shipped_folder("models") / f"{row['name']}.md"
    if card.is_file():
        print("\n" + card.read_text(encoding="utf-8"), end="")


def _short(licence: str) -> str:
    """The licence's name without its explanation, which `expotion models NAME` prints."""
    return licence.partition(" (")[0].partition(";")[0]


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns, cut to the terminal's width; in a pipe nothing is cut."""
    import shutil
    import sys

    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in (titles, *rows):
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        print(line if width is None or len(line) <= width else line[: width - 1] + "…")
