"""`expotion inspect`: charts and records of what the encoders see in clips."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli.flags import VideoTrack, given, recipe_with, streams_and_features
from expotion_cli.cli.flags import tempo as read_tempo
from expotion_cli.cli.flags import tracks as read_tracks
from expotion_cli.cli.places import Workers, on_this_machine
from expotion_cli.cli.say import error_record, handle_errors, say_aside, say_error, say_json
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError
from expotion_cli.recipe import DEFAULT_RECIPE

if TYPE_CHECKING:
    from expotion_cli.inspection.run import Result


@handle_errors
def inspect(
    clips: Annotated[
        list[str], typer.Argument(help="Video files, folders or glob patterns.", metavar="CLIPS", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for charts and records; subfolders are kept.")
    ] = Path("inspected"),
    streams: Annotated[
        str | None,
        typer.Option(
            help="Encoders, separated by commas, or NAME=FOLDER for features computed elsewhere; default: the recipe's."
        ),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="Format of the charts: png, svg or png,svg.")] = "png",
    recipe: Annotated[
        str,
        typer.Option(help="Recipe that gives tempo range, prompt and streams: a shipped one's name, or a .toml file."),
    ] = DEFAULT_RECIPE,
    prompt: Annotated[
        str | None, typer.Option(help="Replaces the recipe's prompt; the chart shows a tempo that it states.")
    ] = None,
    tempo: Annotated[
        str | None, typer.Option(help="Beats per minute: 96, or a range like 80-120; default: the recipe's.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Look into subfolders.")] = True,
    video_track: VideoTrack = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> int:
    """Show what the encoders see: a chart and a JSON file for each clip.

    The chart shows along the clip's time: frames with face and arms marked; the cue plan with its hit points, scene
    cuts, intensity, sections, bars and beats; when and where somebody was found, motion, left and right, accents,
    expression, stillness, camera motion. Nothing is composed.

    Example: expotion inspect clips --format svg
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it like Ctrl-C
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    set_waiting()
    from expotion_cli.cli.inspecting import choose_progress
    from expotion_cli.inspection import run
    from expotion_cli.scoring.plan import check_writable
    from expotion_cli.scoring.streams import streams_for

    kinds = run.read_formats(formats)
    names, features = streams_and_features(streams)
    flags = {
        "--streams": {"streams.use": names},
        "--prompt": {"prompt": given(prompt)},
        "--tempo": read_tempo(tempo),
    }
    chosen = recipe_with(recipe, flags)
    choice = streams_for(chosen, features=features)
    if not choice.sources:
        raise UsageError(
            "there is nothing to inspect: no encoders were chosen.",
            remedy="Name encoders, for example --streams face,pose,flow.",
        )
    tracks = read_tracks(video_track, None)
    with on_this_machine(workers) as (executor, together):
        jobs, problems = run.plan(clips, out, recursive=recursive, tracks=tracks, executor=executor)
        for problem in problems:
            if problem.error is not None:
                say_error(problem.error, "failed")
        for note in choice.notes if jobs and not quiet else ():
            say_aside(note)
        results: list[Result] = list(problems)
        if jobs:
            check_writable(out)
            with choose_progress(jobs, quiet=quiet, as_json=as_json) as progress:
                how: dict[str, Any] = {"executor": executor, "together": together}
                results += run.run(jobs, choice.sources, chosen, kinds, progress, **how)
                progress.close_with(results, out)
    code = 3 if not jobs else 1 if any(result.error for result in results) else 0
    if as_json:
        say_json({"exit_code": code, "out": str(out), "notes": list(choice.notes), "clips": [_row(r) for r in results]})
    return code


def _row(result: Result) -> dict[str, Any]:
    from expotion_cli.inspection.fonts import printable

    if result.error is not None:
        return {"clip": printable(result.name), "status": "failed", "error": error_record(result.error)}
    record = result.record
    assert record is not None
    plan = record["plan"]
    found = {stream["name"]: stream["coverage"] for stream in record["streams"]}
    return {
        "clip": record["clip"]["file"],
        "status": "inspected",
        "files": [printable(str(path)) for path in result.files],
        "duration_s": record["clip"]["duration_s"],
        "found": found,
        "accents": len(record["accents"]),
        "hits": len(plan["hits"]),
        "cuts": len(plan["cuts"]),
        "tempo": {**plan["tempo"], "recipe": record["recipe"]["name"]},
        "notes": record["notes"],
    }
