"""`expotion regress`: compare renders with recorded ones, locally and in CI."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from expotion_cli.cli import flags
from expotion_cli.cli.say import error_record, handle_errors, say_aside, say_error, say_json
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError, writing
from expotion_cli.recipe import DEFAULT_RECIPE

regress_app = typer.Typer(
    no_args_is_help=True, help="Compare renders with recorded ones: tokens and sound, locally and in CI."
)

_DEVICE = typer.Option(help="auto, cpu, cuda or cuda:N.")
_DTYPE = typer.Option(help="auto, fp32, bf16 or fp16.")


@regress_app.command("record")
@handle_errors
def record(
    clips: Annotated[
        list[str], typer.Argument(help="Video files, folders or glob patterns.", metavar="CLIPS", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Folder for the reference.")],
    recipe: Annotated[
        str, typer.Option(help="A name from `expotion recipes`, or the path of a .toml file.")
    ] = DEFAULT_RECIPE,
    prompt: Annotated[str | None, typer.Option(help="Replaces the recipe's prompt.")] = None,
    seed: Annotated[
        str | None, typer.Option(help="One number for all clips, 'per-clip' or 'per-clip:N'; default: the recipe's.")
    ] = None,
    streams: Annotated[
        str | None,
        typer.Option(
            help="What the music follows: encoders, NAME=FOLDER\\[@RATE] for features computed elsewhere, or none."
        ),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(help="'layer' follows the picture by level and accents; 'none' leaves the music as composed."),
    ] = None,
    model: Annotated[str, typer.Option(help="A name from `expotion models`, or a folder.")] = "expotion-mini",
    adapter: Annotated[
        list[str] | None, typer.Option(help="Adapter: a folder, a .pth file or none. Repeat it to add LoRA folders.")
    ] = None,
    soundfont: Annotated[Path | None, typer.Option(help="A General-MIDI .sf2 or .sf3 file.")] = None,
    device: Annotated[str, _DEVICE] = "auto",
    dtype: Annotated[str, _DTYPE] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a reference of other clips or settings.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> int:
    """Render clips and keep their tokens and sound as a reference for later checks. Commit the folder with the clips.

    Recording again without changes writes the same bytes. A reference of other clips or settings stays, unless
    --overwrite is given.

    Example: expotion regress record clips --recipe cinematic --to renders
    """
    _prepare()
    from expotion_cli.recipe import UNSET
    from expotion_cli.regression import recording

    watched, features = flags.streams_and_features(streams)
    given = {
        "prompt": flags.given(prompt),
        "generate.seed": flags.seed(seed),
        "streams.use": watched,
        "follow.mode": flags.given(follow),
    }
    overlaid = {key: value for key, value in given.items() if value is not UNSET}
    options = {"name": model, "adapter": adapter, "soundfont": soundfont, "device": device, "dtype": dtype}
    wanted = recording.RecordingOptions(recipe, overlaid, options, features)
    found, problems = recording.find_clips(clips, to)
    for problem in problems:
        say_error(problem, "failed")
    if problems:  # a clip missing from the reference would never be checked
        code = 1 if found else 3
        if as_json:
            say_json({"exit_code": code, "failed": [error_record(problem) for problem in problems]})
        return code
    made = recording.record(
        found,
        to,
        wanted,
        lambda: _load(**options),
        overwrite=overwrite,
        on_stage=_teller(quiet),
        on_note=None if quiet else say_aside,
    )
    files = [each for clip in made.clips for each in (clip.tokens, clip.sound)]
    num_bytes = sum((to / record.file).stat().st_size for record in files)
    if as_json:
        rows = [{"clip": clip.name, "seed": clip.seed, **clip.measured} for clip in made.clips]
        say_json({"exit_code": 0, "reference": str(to), "bytes": num_bytes, "clips": rows})
    elif not quiet:
        for clip in made.clips:
            tempo = f"{clip.tempo['bpm']:.0f} bpm, " if clip.tempo else ""
            lufs = clip.measured["integrated_lufs"]
            level = "silent" if lufs is None else f"{lufs:.1f} LUFS"
            print(f"recorded {clip.name} · {clip.duration_s:.1f} s, {tempo}{level}, seed {clip.seed}")
        print(f"{len(made.clips)} recorded, {num_bytes / 1e6:.1f} MB → {to}")
    return 0


@regress_app.command("check")
@handle_errors
def check(
    folder: Annotated[Path, typer.Argument(help="The reference folder.", metavar="DIR", show_default=False)],
    clips: Annotated[
        list[str] | None,
        typer.Argument(help="Where the clips are now, if they were moved.", metavar="CLIPS", show_default=False),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--perceptual",
            help="Exact: tokens must be equal. Perceptual: the sound decides. Default: exact on the same machine.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(help="MEASURE=LIMIT, e.g. loudness=0.2; repeat it for several.", show_default=False),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Make the new renders the reference.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Write a web page with both sounds and their spectrograms: as index.html into this folder, or to this "
            ".html file, with the sounds beside it.",
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(min=0, help="Limit for the whole check, in seconds; clips not checked by then count as errors."),
    ] = None,
    device: Annotated[str | None, _DEVICE] = None,
    dtype: Annotated[str | None, _DTYPE] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only drifts and errors.")] = False,
) -> int:
    """Render a reference's clips again and compare. Exit code 0: no drift; 1: drift, or a clip could not be checked.

    Nothing is taken from caches or downloaded. Example: expotion regress check renders --html page
    """
    _prepare()
    from expotion_cli.regression import checking, report
    from expotion_cli.regression.reference import read_reference

    limits = _limits(tolerance or [])
    mode = {None: checking.AUTO, True: checking.EXACT, False: checking.PERCEPTUAL}[exact]
    result = checking.check(
        read_reference(folder),
        _load,
        where=clips or (),
        mode=mode,
        tolerances=limits,
        options={"device": device, "dtype": dtype},
        limit_s=time_limit,
        update=update,
        on_stage=_teller(quiet),
    )
    for note in (*report.machine_lines(result), *result.notes):
        if not quiet:
            say_aside(note)
    if junit is not None:
        with writing(junit, "the report"):
            report.write_junit(junit, result)
    if html is not None:
        from expotion_cli.regression.page import write_page

        place = flags.page_path(html)
        page = write_page(place.parent, result, place.name)
        if not quiet and not as_json:
            say_aside(f"page: {page}")
    if as_json:
        say_json(report.as_record(result))
    elif not quiet or result.count("same") < len(result.clips):
        print(report.table(result))
        print(f"\n{report.summary(result)}")
    return result.exit_code


def _prepare() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # only `expotion fetch` uses the network
    set_waiting()


def _load(**options: Any) -> Any:
    from expotion_cli.music.load import load_model
    from expotion_cli.weights.manifest import licence_notice

    name = options.pop("name")
    model = load_model(name, **options)
    if notice := licence_notice(name):
        say_aside(notice, "licence")
    return model


def _teller(quiet: bool) -> Callable[[str, str], None] | None:
    """Prints what is being done, on terminals only."""
    if quiet or not sys.stderr.isatty():
        return None

    def tell(name: str, stage: str) -> None:
        print(f"\r\x1b[K{stage:<8} {name}", end="" if stage != "render" else "\r\x1b[K", file=sys.stderr, flush=True)

    return tell


def _limits(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise UsageError(
                f"--tolerance {text!r} is not MEASURE=NUMBER.", remedy="Write for example loudness=0.2."
            ) from None
    return found
