"""`expotion report` and `expotion cuesheet`: what a folder of results holds, to listen to and to hand on."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expotion_cli.cli.places import Workers, on_this_machine
from expotion_cli.cli.say import handle_errors, say_aside
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from expotion_cli.report.results import Collection, Result

NOTHING_THERE = 3
PAGES, TABLES = (".html", ".htm"), (".csv",)
_FOLDER = typer.Argument(help="Folder that expotion-score wrote into.", metavar="DIR", show_default=False)
_QUIET = typer.Option("--quiet", "-q", help="Print only errors.")


@handle_errors
def report(
    folder: Annotated[str, _FOLDER],
    to: Annotated[
        Path | None, typer.Option(help="The page's file; default: report.html in the folder.", show_default=False)
    ] = None,
    workers: Workers = None,
    quiet: Annotated[bool, _QUIET] = False,
) -> int:
    """Write one page with all results of a folder: play them, see what answers the picture, compare takes.

    The page opens from disk, without server or network; it links the videos and holds all else. Exit code 0: it is
    written; 3: the folder holds no results.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it like Ctrl-C
    set_waiting()
    from expotion_cli.hints import FileHints
    from expotion_cli.report.looking import look
    from expotion_cli.report.page import NAME, write_report
    from expotion_cli.report.results import collect, local_folder

    where = local_folder(folder)
    path = _file(to or where / NAME, PAGES)
    found = collect(where, hints=FileHints())
    if not found.results:
        return _nothing(folder)
    with on_this_machine(workers) as (executor, _):
        looks = look(found.results, executor, _tell if sys.stderr.isatty() and not quiet else None)
    write_report(path, found, looks)
    if not quiet:
        _say_problems(found)
        print(f"{_count(found)} → {path}")
    return 0


@handle_errors
def cuesheet(
    folder: Annotated[str, _FOLDER],
    to: Annotated[
        list[Path] | None,
        typer.Option(
            help="A .csv or .html file; may be repeated. Default: cuesheet.csv and cuesheet.html in the folder.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, _QUIET] = False,
) -> int:
    """Write a cue sheet: which music stands in which clip, made with what and under which licences.

    It holds what a platform's dispute form asks for; results whose licences forbid commercial use come first. Exit code
    0: all results are on it; 1: some could not be read; 3: the folder holds no results.
    """
    from expotion_cli.hints import FileHints
    from expotion_cli.report import cuesheet
    from expotion_cli.report.results import collect, local_folder

    where = local_folder(folder)
    paths = [_file(path, (*PAGES, *TABLES)) for path in to or (where / "cuesheet.csv", where / "cuesheet.html")]
    found = collect(where, hints=FileHints())
    made, left_out = cuesheet.cues(found), cuesheet.left_out(found)
    if not quiet:
        _say_problems(found)
    else:
        for result in left_out:
            say_aside(_told(result), result.status)
    if not made:
        return _nothing(folder)
    for path in paths:
        if path.suffix.lower() in TABLES:
            cuesheet.write_csv(path, made)
        else:
            cuesheet.write_html(path, found, made)
    if not quiet:
        forbidden = sum(cue.verdict == "no" for cue in made)
        if forbidden:
            say_aside(f"{forbidden} of {len(made)} must not be used commercially; they stand first.", "licence")
        print(f"{len(made)} {'cue' if len(made) == 1 else 'cues'} → {', '.join(map(str, paths))}")
    return 1 if left_out else 0


def _file(path: Path, suffixes: tuple[str, ...]) -> Path:
    if path.is_dir():
        raise UsageError("--to is a folder.", path=path, remedy=f"Name a file in it, with the suffix {suffixes[0]}.")
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"--to has the suffix {path.suffix!r}.", path=path, remedy=f"Suffixes: {', '.join(suffixes)}.")
    return path


def _nothing(folder: str) -> int:
    say_aside(f"{folder}: there are no results. Score clips first: expotion-score CLIPS --out {folder}", "error")
    return NOTHING_THERE


def _count(found: Collection) -> str:
    from expotion_cli.report.results import FOREIGN, SCORED

    scored, foreign = (sum(result.status == status for result in found.results) for status in (SCORED, FOREIGN))
    wrong = len(found.results) - scored - foreign
    parts = [f"{scored} {'result' if scored == 1 else 'results'}"]
    parts += [f"{wrong} to look after"] if wrong else []
    return ", ".join([*parts, *([f"{foreign} not by expotion"] if foreign else [])])


def _say_problems(found: Collection) -> None:
    for note in found.notes:
        say_aside(note)
    for result in found.results:
        if result.is_wrong:
            say_aside(_told(result), result.status)


def _told(result: Result) -> str:
    return f"{result.name}: {result.reason} {result.remedy}".strip()


def _tell(done: int, total: int) -> None:
    end = "\r\x1b[K" if done == total else ""
    print(f"\r\x1b[Klooking at videos {done}/{total}{end}", end="", file=sys.stderr, flush=True)
