"""`expotion plan`: write cue plans that can be edited and handed to `expotion-score --plans`."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli.flags import VideoTrack, given, recipe_with, streams_and_features
from expotion_cli.cli.flags import tempo as read_tempo
from expotion_cli.cli.flags import tracks as read_tracks
from expotion_cli.cli.markers import MARKER_KINDS, MARKER_START, MARKERS
from expotion_cli.cli.places import Workers, on_this_machine
from expotion_cli.cli.say import error_record, handle_errors, say_aside, say_error, say_json
from expotion_cli.cli.threads import set_waiting
from expotion_cli.recipe import DEFAULT_RECIPE

if TYPE_CHECKING:
    from expotion_cli.scoring.plan_writer import PlanJob, PlanResult


@handle_errors
def plan(
    clips: Annotated[
        list[str], typer.Argument(help="Video files, folders or glob patterns.", metavar="CLIPS", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Folder for the plans, one NAME.plan.json per clip; subfolders are kept.")],
    recipe: Annotated[
        str,
        typer.Option(help="Recipe that gives tempo range, prompt and streams: a shipped one's name, or a .toml file."),
    ] = DEFAULT_RECIPE,
    prompt: Annotated[
        str | None, typer.Option(help="Replaces the recipe's prompt; a tempo that it states is obeyed.")
    ] = None,
    tempo: Annotated[
        str | None, typer.Option(help="Beats per minute: 96, or a range like 80-120; default: the recipe's.")
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option(help="Encoders, separated by commas, or NAME=FOLDER, or none; default: the recipe's."),
    ] = None,
    hits: Annotated[
        Path | None, typer.Option(help="Your own hit points: a CSV or JSON file, or markers (.edl, .fcpxml, .otio).")
    ] = None,
    markers: MARKERS = None,
    marker_kinds: MARKER_KINDS = None,
    marker_start: MARKER_START = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Look into subfolders.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace plans that are already there, edited or not.")
    ] = False,
    video_track: VideoTrack = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> int:
    """Write each clip's cue plan: hit points, cuts, tempo, sections and intensity, as JSON that you can edit.

    `expotion-score --plans DIR` obeys the plans. A plan that is already there is kept, so that no edits are lost.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it like Ctrl-C
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    set_waiting()
    from expotion_cli.scoring.markers import choose_markers
    from expotion_cli.scoring.plan import check_writable
    from expotion_cli.scoring.plan_writer import STATUSES, find_jobs, write_plans
    from expotion_cli.scoring.streams import streams_for
    from expotion_cli.spotting.hits_file import read_hits

    names, features = streams_and_features(streams)
    flags = {
        "--streams": {"streams.use": names},
        "--prompt": {"prompt": given(prompt)},
        "--tempo": read_tempo(tempo),
    }
    chosen = recipe_with(recipe, flags)
    choice = streams_for(chosen, features=features)
    user_hits = read_hits(hits) if hits is not None else None
    tracks = read_tracks(video_track, None)
    choice_of_markers = choose_markers(markers, marker_kinds, marker_start)
    with on_this_machine(workers) as (executor, together):
        found: dict[str, Any] = {"recursive": recursive, "hits": user_hits, "tracks": tracks, "executor": executor}
        found["markers"] = choice_of_markers
        jobs, problems, notes = find_jobs(clips, to, **found)
        for problem in problems:
            if problem.error is not None:
                say_error(problem.error, "failed")
        notes = [*choice.notes, *notes]
        for note in notes if jobs and not quiet else ():
            say_aside(note)
        results = list(problems)
        if jobs:
            check_writable(to)
            progress = _Progress(quiet=quiet, as_json=as_json)
            how: dict[str, Any] = {"on_progress": progress.share, "executor": executor, "together": together}
            how["markers"] = choice_of_markers
            for result in write_plans(jobs, choice.sources, chosen, overwrite=overwrite, **how):
                results.append(result)
                progress.result(result)
            progress.close_with(results, to)
    code = 3 if not jobs else 1 if any(result.error for result in results) else 0
    if as_json:
        counts = {status: sum(result.status == status for result in results) for status in STATUSES}
        rows = [_row(result) for result in results]
        say_json({"exit_code": code, "out": str(to), "counts": counts, "notes": notes, "clips": rows})
    return code


class _Progress:
    """One line for each clip; on a terminal also what is being looked at."""

    def __init__(self, *, quiet: bool, as_json: bool):
        self._stream = None if quiet else sys.stderr if as_json else sys.stdout
        self._shows_share = not quiet and sys.stderr.isatty()

    def share(self, job: PlanJob, share: float) -> None:
        if self._shows_share:
            print(f"\r\x1b[K{share:4.0%} {job.name}", end="", file=sys.stderr, flush=True)

    def result(self, result: PlanResult) -> None:
        self._clear()
        if result.error is not None:
            say_error(result.error, "failed")
        elif self._stream is not None:
            print(_line(result), file=self._stream, flush=True)

    def close_with(self, results: list[PlanResult], to: Path) -> None:
        if self._stream is not None:
            counts = Counter(result.status for result in results)
            said = ", ".join(f"{number} {status}" for status, number in sorted(counts.items(), reverse=True))
            print(f"{said} → {to}/", file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._shows_share:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _line(result: PlanResult) -> str:
    if result.plan is None:
        return " · ".join([f"kept {result.file}: it was already there; --overwrite replaces it", *_marked(result)])
    plan = result.plan
    sure = f"confidence {plan.tempo.confidence:.2f}" if plan.tempo.confidence else "no clear pulse"
    facts = [_count(plan.hits, "hit point"), _count(plan.cuts, "cut"), f"{float(plan.tempo.bpm):.0f} bpm ({sure})"]
    return " · ".join([f"{result.name} → {result.file}", *facts, _count(plan.sections, "section"), *_marked(result)])


def _marked(result: PlanResult) -> list[str]:
    written = [f"markers: {', '.join(path.name for path in result.markers)}"] if result.markers else []
    return [*written, *result.notes]


def _count(rows: tuple[Any, ...], word: str) -> str:
    return f"{len(rows)} {word}" if len(rows) == 1 else f"{len(rows)} {word}s"


def _row(result: PlanResult) -> dict[str, Any]:
    row: dict[str, Any] = {"clip": result.name, "status": result.status}
    if result.error is not None:
        return {**row, "error": error_record(result.error)}
    row |= {"file": str(result.file), "markers": [str(path) for path in result.markers]}
    if (plan := result.plan) is not None:
        row |= {
            "duration_s": round(plan.duration_s, 6),
            "hits": len(plan.hits),
            "cuts": len(plan.cuts),
            "sections": len(plan.sections),
            "tempo": {"bpm": round(float(plan.tempo.bpm), 3), "confidence": round(plan.tempo.confidence, 3)},
            "notes": list(result.notes),
        }
    return row
