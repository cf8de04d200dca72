"""`expotion report` and `expotion cuesheet`: what a folder of results holds, to listen to and to hand on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expotion_cli.cli.places import MOST_WORKERS, choose_place
from expotion_cli.cli.say import handle_errors, say_aside
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from expotion_cli.report.results import Collection

NOTHING_THERE = 3
_FOLDER = typer.Argument(help="Folder that expotion-score wrote into.", metavar="DIR", show_default=False)
_QUIET = typer.Option("--quiet", "-q", help="Print only errors.")


@handle_errors
def report(
    folder: Annotated[Path, _FOLDER],
    to: Annotated[
        Path | None, typer.Option(help="The page's file; default: report.html in the folder.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Videos looked at at a time, each in a process of its own; 0: in this process.",
            envvar="EXPOTION_WORKERS",
            min=0,
            max=MOST_WORKERS,
            show_default="half of the cores",
        ),
    ] = None,
    quiet: Annotated[bool, _QUIET] = False,
) -> int:
    """Write one page with all results of a folder: play them, see what answers the picture, compare takes.

    The page opens from disk, without server or network; it links the videos and holds all else. Exit code 0: it is
    written; 3: the folder holds no results.
    """
    set_waiting()
    from expotion_cli.hints import FileHints
    from expotion_cli.report.looking import look
    from expotion_cli.report.page import NAME, write_report
    from expotion_cli.report.results import collect

    path = _file(to or folder / NAME, folder)
    found = collect(folder, hints=FileHints())
    if not found.results:
        return _nothing(folder)
    place = choose_place("local", {}, workers=workers, devices=None, ray_address=None)
    try:
        looks = look(found.results, place.executor, _tell if sys.stderr.isatty() and not quiet else None)
    finally:
        place.close()
    write_report(path, found, looks)
    if not quiet:
        _say_problems(found)
        print(f"{_count(found)} → {path}")
    return 0


def _file(path: Path, folder: Path) -> Path:
    if path.is_dir():
        raise UsageError("--to is a folder.", path=path, remedy=f"Name a file, for example {path / 'report.html'}.")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError("--to is no HTML file.", path=path, remedy="Give it the suffix .html.")
    return path


def _nothing(folder: Path) -> int:
    say_aside(f"{folder}: there are no results. Score clips first: expotion-score CLIPS --out {folder}", "error")
    return NOTHING_THERE


def _count(found: Collection) -> str:
    scored = sum(not result.is_wrong for result in found.results)
    wrong = len(found.results) - scored
    return f"{scored} {'result' if scored == 1 else 'results'}{f', {wrong} to look after' if wrong else ''}"


def _say_problems(found: Collection) -> None:
    for note in found.notes:
        say_aside(note)
    for result in found.results:
        if result.is_wrong:
            say_aside(f"{result.name}: {result.reason} {result.remedy}".strip(), result.status)


def _tell(done: int, total: int) -> None:
    end = "\r\x1b[K" if done == total else ""
    print(f"\r\x1b[Klooking at videos {done}/{total}{end}", end="", file=sys.stderr, flush=True)
