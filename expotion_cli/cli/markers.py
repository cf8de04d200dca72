"""`expotion markers`: marker files for editing programs, beside results that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli.say import error_record, handle_errors, say, say_error, say_json

if TYPE_CHECKING:
    from expotion_cli.scoring.marking import Marked

FORMATS_HELP = "Marker files to write beside each result: edl (Resolve), fcpxml, otio, csv, or several."
_KINDS_HELP = "What becomes a marker: hits, cuts, sections, beats. [default: hits,cuts,sections]"
_START_HELP = "Timecode of the timeline's first frame, such as 01:00:00:00. [default: the clip's own]"
MARKERS = Annotated[str | None, typer.Option(help=FORMATS_HELP, show_default=False, rich_help_panel="Output")]
MARKER_KINDS = Annotated[str | None, typer.Option(help=_KINDS_HELP, show_default=False, rich_help_panel="Output")]
MARKER_START = Annotated[str | None, typer.Option(help=_START_HELP, show_default=False, rich_help_panel="Output")]


@handle_errors
def markers(
    results: Annotated[
        list[Path], typer.Argument(help="Folders with results, or results.", metavar="RESULTS", show_default=False)
    ],
    formats: Annotated[str, typer.Option("--markers", help=FORMATS_HELP)] = "edl",
    marker_kinds: MARKER_KINDS = None,
    marker_start: MARKER_START = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that expotion did not make, or that were changed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> int:
    """Write markers for editing programs beside finished results: hit points, cuts, sections, beats.

    They come from the sidecars; nothing is scored again. `--hits` of `expotion-score` reads such files back.
    """
    from expotion_cli.scoring.markers import choose_markers
    from expotion_cli.scoring.marking import mark_results

    choice = choose_markers(formats, marker_kinds, marker_start)
    done = []
    for marked in mark_results(results, choice, overwrite=overwrite):
        done.append(marked)
        if marked.error is not None:
            say_error(marked.error, "refused" if marked.error.exit_code == 2 else "failed")
        elif not quiet and not as_json:
            say(_line(marked))
    errors = [marked.error for marked in done if marked.error is not None]
    code = 0 if not errors else 2 if all(error.exit_code == 2 for error in errors) else 1
    if as_json:
        say_json({"exit_code": code, "results": [_row(marked) for marked in done]})
    return code


def _line(marked: Marked) -> str:
    written, kept = (", ".join(path.name for path in paths) for paths in (marked.files, marked.kept))
    there = f"{kept} already there" if kept else ""
    return f"{marked.video.name} → {' · '.join(part for part in (written, there) if part)}"


def _row(marked: Marked) -> dict[str, Any]:
    row: dict[str, Any] = {"result": str(marked.video)}
    if marked.error is not None:
        return {**row, "error": error_record(marked.error)}
    return {**row, "written": [str(path) for path in marked.files], "kept": [str(path) for path in marked.kept]}
