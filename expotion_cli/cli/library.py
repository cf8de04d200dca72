"""`expotion models`: what composes, sees, listens and plays, and whether its files are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.assets import shipped_folder
from expotion_cli.cli import complete
from expotion_cli.cli.say import handle_errors, say_json
from expotion_cli.errors import UnknownNameError
from expotion_cli.weights.manifest import size_text

if TYPE_CHECKING:
    from expotion_cli.weights.manifest import Manifest, WeightFile

BUILT_IN = "built in"
"""State of encoders that need no files."""
VERIFIED = "verified"
"""State of files that `--verify` has read and found whole."""


@handle_errors
def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this one: files and model card. A stream's name shows the encoders that feed it.",
            show_default=False,
            autocompletion=complete.models,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file, and say of each whether its sha256 is right.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List music models, encoders and the tagger: size, licence, whether their files are here."""
    from expotion_cli.weights.manifest import read_manifests

    found = read_manifests()
    if name is not None:
        # Streams are called by other names than the encoders that feed them.
        asked = {
            key: each for key, each in found.items() if name == key or (name not in found and name in each.streams)
        }
        if not asked:
            from expotion_cli.declare import nearest_hint

            known = (*found, *(stream for each in found.values() for stream in each.streams))
            raise UnknownNameError(
                f"No model or stream is called {name!r}{nearest_hint(name, known)}.",
                remedy=f"Models: {', '.join(found)}.",
            )
        found = asked
    rows = [_model_row(manifest, verify) for manifest in found.values()]
    if as_json:
        say_json(rows)
    elif name is not None:
        for number, row in enumerate(rows):
            print("\n" * bool(number), end="")
            _show_model(row)
    else:
        table(
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
        if verify:
            _say_files(rows)
    bad = {row["state"] for row in rows} - {"here", VERIFIED, BUILT_IN}
    if not (verify and name):
        bad.discard("not fetched")  # models need not be fetched, unless this one was asked for by name
    return 4 if bad and (verify or name) else 0


def _model_row(manifest: Manifest, verify: bool) -> dict[str, Any]:
    files = [
        {
            "path": file.name,
            "bytes": file.num_bytes,
            "sha256": file.sha256,
            "state": _file_state(file, verify),
        }
        for file in manifest.files
    ]
    states = {file["state"] for file in files}
    state = next(
        (state for state in ("damaged", "missing", "unchecked") if state in states), VERIFIED if verify else "here"
    )
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


def _file_state(file: WeightFile, verify: bool) -> str:
    state = file.state(thorough=verify)
    return VERIFIED if verify and state == "here" else state


def _say_files(rows: list[dict[str, Any]]) -> None:
    """What `--verify` read, file by file, and how it went."""
    files = [(row["name"], file) for row in rows if row["state"] != "not fetched" for file in row["files"]]
    print()
    for name, file in files:
        print(f"{file['state']:<9} {name}: {file['path']}")
    whole = sum(file["state"] == VERIFIED for _, file in files)
    print(f"{whole} of {len(files)} files are verified: their sha256 is the one in the manifest.")
    for name in dict.fromkeys(name for name, file in files if file["state"] in ("damaged", "missing")):
        ships = next(row["ships"] for row in rows if row["name"] == name)
        print(f"{name}: " + ("install the package again." if ships else f"run: expotion fetch {name}"))


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


def table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns, cut to the terminal's width; in a pipe nothing is cut."""
    import shutil
    import sys

    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in (titles, *rows):
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        print(line if width is None or len(line) <= width else line[: width - 1] + "…")
