"""`expotion evaluate`: how closely music follows its clips, how it sounds, and what each part adds to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from expotion_cli.cli.flags import page_path
from expotion_cli.cli.say import TYPER_OPTIONS, error_record, handle_errors, say_aside, say_error, say_json
from expotion_cli.cli.threads import set_waiting
from expotion_cli.errors import UsageError
from expotion_cli.recipe import DEFAULT_RECIPE
from expotion_cli.storage import expanded

if TYPE_CHECKING:
    from expotion_cli.evaluation.results import Evaluation

_CLIPS = typer.Argument(help="Video files, folders or glob patterns.", metavar="CLIPS", show_default=False)
_ONLY = typer.Option(
    help="Measures to compute, separated by commas: sync, music, quality, notes, text.", show_default="all of them"
)
_WEIGHTS = typer.Option(help="Folder with the weights of CLAP, AST and Synchformer; default: those already fetched.")
_DOWNLOAD = typer.Option("--download", help="Download missing weights of CLAP and AST (0.6 and 0.3 GB) from the hub.")
_SEED = typer.Option(help="Seed for the intervals and for random orders.")
_HTML = typer.Option(
    metavar="PATH", help="Also write the tables as a web page: to this .html file, or as index.html into this folder."
)
_JSON = typer.Option("--json", help="Print all figures as JSON.")
_QUIET = typer.Option("--quiet", "-q", help="Print only the tables and errors.")
_YARDSTICKS = typer.Option(
    "--yardsticks/--no-yardsticks",
    help="Also measure what needs no model: a bare rule over the baseline's music, a drum rule, a metronome.",
)
_PROMPTS = typer.Option(help='JSON file with the prompts, {"clip": "prompt"}; default: the sidecars, or captions.json.')


class EvaluateCommand(TyperCommand):
    """`evaluate CLIPS`, or its subcommand `evaluate ablate CLIPS`."""

    @property
    def commands(self) -> dict[str, Any]:
        """Its subcommands by name."""
        return {"ablate": _ablate_command()}

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the subcommand if its name comes first, else of `evaluate` itself."""
        if args and args[0] == "ablate":
            return self.commands["ablate"].make_context(f"{info_name} ablate", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command of the context."""
        return super().invoke(ctx) if isinstance(ctx.command, EvaluateCommand) else ctx.command.invoke(ctx)


@handle_errors
def evaluate(
    clips: Annotated[list[str], _CLIPS],
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--outputs",
            help="NAME=FOLDER with scored videos or sound files named like the clips; repeat it for each set. "
            "Default: the clips' own sound.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Name of the set to compare the others with, clip by clip.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Reference for the quality measures: a set's name or a folder of sound; the measures by musicnn "
            "have one that ships."
        ),
    ] = None,
    prompts: Annotated[Path | None, _PROMPTS] = None,
    only: Annotated[str, _ONLY] = "sync,music,quality,notes,text",
    motion: Annotated[
        str,
        typer.Option(
            help="Motion to compare with: flow, pose (the body alone), or plain (flow including the camera's)."
        ),
    ] = "flow",
    sound_starts: Annotated[
        str,
        typer.Option(help="Where sound files start: with the clip's file, or with its picture, which may start later."),
    ] = "file",
    common: Annotated[bool, typer.Option("--common", help="Use only the clips that every set has.")] = False,
    yardsticks: Annotated[bool, _YARDSTICKS] = True,
    weights: Annotated[Path | None, _WEIGHTS] = None,
    download: Annotated[bool, _DOWNLOAD] = False,
    seed: Annotated[int, _SEED] = 0,
    html: Annotated[Path | None, _HTML] = None,
    as_json: Annotated[bool, _JSON] = False,
    quiet: Annotated[bool, _QUIET] = False,
) -> int:
    """Measure how closely music follows its clips, its dynamics, sound quality and notes, and if it fits its prompts.

    Every figure comes with a 95 % interval and with the value chance would give. `expotion evaluate ablate CLIPS`
    scores the clips with parts of the conditioning left out and measures that.

    Example: expotion evaluate clips --outputs ours=scored --outputs theirs=rival --html page.html
    """
    _prepare(download)
    from expotion_cli.evaluation import running
    from expotion_cli.evaluation.measuring import MOTION
    from expotion_cli.evaluation.outputs import FILE, PICTURE
    from expotion_cli.vision.cache import EmbeddingCache

    _one_of("--motion", motion, MOTION)
    _one_of("--sound-starts", sound_starts, (FILE, PICTURE))
    sources = running.Sources(
        clips=clips,
        outputs=[_named(text) for text in outputs or ()],
        reference=reference,
        prompts=prompts,
        zero=sound_starts,
        motion=motion,
        common=common,
    )
    measures = _measure_options(only, seed, weights, download, baseline, yardsticks)
    result = running.evaluate_files(sources, measures, cache=EmbeddingCache(), on_status=_teller(quiet or as_json))
    return _say(result, html, as_json, quiet, "Evaluation")


@handle_errors
def ablate(
    clips: Annotated[list[str], _CLIPS],
    recipe: Annotated[
        str, typer.Option(help="A name from `expotion recipes`, or the path of a .toml file.")
    ] = DEFAULT_RECIPE,
    conditions: Annotated[
        str,
        typer.Option(
            help="Conditions, separated by commas: text, beats, face, motion, both, shuffled.",
            show_default="all of them",
        ),
    ] = "text,beats,face,motion,both,shuffled",
    visual_guidance: Annotated[
        str | None,
        typer.Option(
            help="One or more weights of the picture, separated by commas; default: the recipe's, or 1.5 for 0.",
            show_default=False,
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="One or more weights of the prompt, separated by commas; default: the recipe's.", show_default=False
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Takes per clip and condition.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed for the first take and for the intervals.")] = 0,
    prompt: Annotated[str | None, typer.Option(help="Replaces the recipe's prompt.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help='JSON file with prompts for single clips, {"clip": "prompt"}.')
    ] = None,
    model: Annotated[str, typer.Option(help="A name from `expotion models`, or a folder.")] = "expotion-mini",
    adapter: Annotated[
        list[str] | None, typer.Option(help="Adapter: a folder, a .pth file or none. Repeat it to add LoRA folders.")
    ] = None,
    soundfont: Annotated[Path | None, typer.Option(help="A General-MIDI .sf2 or .sf3 file.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of sound files as the reference for quality; default: the text-only takes."),
    ] = None,
    only: Annotated[str, _ONLY] = "sync,music,quality,notes,text",
    yardsticks: Annotated[bool, _YARDSTICKS] = True,
    weights: Annotated[Path | None, _WEIGHTS] = None,
    download: Annotated[bool, _DOWNLOAD] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the music (FLAC, MIDI) in this folder, one subfolder per condition.")
    ] = None,
    html: Annotated[Path | None, _HTML] = None,
    as_json: Annotated[bool, _JSON] = False,
    quiet: Annotated[bool, _QUIET] = False,
) -> int:
    """Score clips with parts of the conditioning left out or taken from another clip, and measure what each part adds.

    text: the prompt alone. beats: the clip's own beats, without streams. face, motion (pose and flow), both: with these
    streams. shuffled: the clip's own beats with another clip's streams. All are compared with text.
    """
    _prepare(download)
    from expotion_cli.evaluation import ablation
    from expotion_cli.vision.cache import EmbeddingCache

    plan = ablation.Plan(
        clips=clips,
        recipe=recipe,
        conditions=tuple(name.strip() for name in conditions.split(",") if name.strip()),
        visual_guidances=_numbers("--visual-guidance", visual_guidance),
        guidances=_numbers("--guidance", guidance),
        seeds=seeds,
        first_seed=seed,
        prompt=prompt,
        prompts=prompts,
        reference=reference,
        keep=keep,
    )
    options = {"adapter": adapter, "soundfont": soundfont, "device": device, "dtype": dtype}
    measures = _measure_options(only, seed, weights, download, None, yardsticks)
    result = ablation.ablate(
        plan, measures, lambda: _load(model, **options), cache=EmbeddingCache(), on_status=_teller(quiet or as_json)
    )
    return _say(result, html, as_json, quiet, "Ablation")


def _ablate_command() -> Any:
    app = typer.Typer(**TYPER_OPTIONS)
    app.command("ablate")(ablate)
    return typer.main.get_command(app)


def _prepare(download: bool) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is asked of the hub unless the user says so
    set_waiting()


def _measure_options(
    only: str, seed: int, weights: Path | None, download: bool, baseline: str | None, yardsticks: bool
) -> Any:
    from expotion_cli.evaluation.measuring import MeasureOptions
    from expotion_cli.evaluation.pretrained import WeightsSource

    groups = tuple(name.strip() for name in only.split(",") if name.strip())
    if not groups:
        raise UsageError("--only is empty.", remedy="Measures: sync, music, quality, notes, text.")
    if seed < 0:
        raise UsageError("--seed must not be negative.", remedy="Give 0 or more.")
    return MeasureOptions(groups, seed, WeightsSource(weights, download), baseline, yardsticks)


def _load(name: str, **options: Any) -> Any:
    from expotion_cli.music.load import load_model
    from expotion_cli.weights.manifest import licence_notice

    model = load_model(name, **options)
    if notice := licence_notice(name):
        say_aside(notice, "licence")
    return model


def _say(result: Evaluation, html: Path | None, as_json: bool, quiet: bool, title: str) -> int:
    from expotion_cli.evaluation import report
    from expotion_cli.evaluation.page import write_page
    from expotion_cli.evaluation.verdict import verdict

    if sys.stderr.isatty() and not quiet:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    for failure in result.failures:
        say_error(failure, "failed" if result.rows else "error")
    if not quiet:
        for note in result.notes:
            say_aside(note)
    if html is not None and result.rows:
        page = write_page(page_path(html), result, title)
        if not quiet and not as_json:
            say_aside(f"page: {page}")
    if as_json:
        record = report.as_record(result)
        say_json(record | {"failed": [error_record(failure) for failure in result.failures]})
    elif result.rows:
        print(report.text(result))
        print("\n".join(["", *verdict(result)]))
    return result.exit_code


def _named(text: str) -> tuple[str, Path]:
    name, mark, folder = text.partition("=")
    if not mark or Path(text).is_dir():  # a folder may have = in its name
        return Path(text).resolve().name, Path(text)
    if not name.strip() or not folder.strip():
        raise UsageError(f"--outputs {text!r} lacks a name or a folder.", remedy="Write NAME=FOLDER.")
    return name.strip(), expanded(folder.strip())


def _numbers(flag: str, text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{flag} {text!r} is not a list of numbers.", remedy="Write for example 1,2.5,4.") from None


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> None:
    from expotion_cli.declare import nearest_hint

    if value not in known:
        raise UsageError(
            f"{flag} {value!r}{nearest_hint(value, known)} is unknown.", remedy=f"One of: {', '.join(known)}."
        )


def _teller(quiet: bool) -> Callable[[str], None] | None:
    """Prints what is being done, on terminals only."""
    if quiet or not sys.stderr.isatty():
        return None
    return lambda text: print(f"\r\x1b[K{text[:70]}", end="", file=sys.stderr, flush=True)
