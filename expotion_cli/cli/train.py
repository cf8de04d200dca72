"""`expotion train`: prepare data, train adapters, and make the embedded model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli.say import error_record, handle_errors, say_aside, say_error, say_json
from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from expotion_cli.training.adapter.results import TrainingResult
    from expotion_cli.training.data.prepare import PrepareResult

train_app = typer.Typer(no_args_is_help=True, help="Train adapters on your own data, or make the embedded model.")


@train_app.callback()
def train() -> None:
    """Train adapters on your own data, or make the embedded model."""


@train_app.command()
@handle_errors
def prepare(
    source: Annotated[
        Path, typer.Argument(help="A folder of videos and music, or a .txt list.", metavar="SOURCE", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the prepared data.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to adapt: a name from `expotion models`, or a folder. Lists of ready tokens don't need it."
        ),
    ] = None,
    streams: Annotated[
        str, typer.Option(help="Encoders for the videos, separated by commas; none ignores the pictures.")
    ] = "face,pose,flow",
    caption: Annotated[
        str,
        typer.Option(
            help="Caption for clips without one, e.g. 'music for {folder}'; it may contain {stem} and {folder}."
        ),
    ] = "",
    held_out: Annotated[
        Path | None, typer.Option(help="A folder or list to hold out as a whole; default: a share of the clips.")
    ] = None,
    held_out_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the music to hold out, whole tracks and persons at a time.")
    ] = 0.1,
    drop_leaks: Annotated[
        bool,
        typer.Option(
            "--drop-leaks",
            help="Set aside training clips that share a track, a recording or a person with held-out ones.",
        ),
    ] = False,
    features: Annotated[
        str | None, typer.Option(help="Streams in a list's features: NAME=WIDTH, separated by commas, e.g. raft=256.")
    ] = None,
    features_hz: Annotated[float, typer.Option(min=0.1, max=200, help="Rows per second of a list's features.")] = 5.0,
    root: Annotated[Path | None, typer.Option(help="Folder that a list's relative paths start from.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for choosing held-out clips.")] = 0,
    device: Annotated[str, typer.Option(help="Device for the model's codec: auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> int:
    """Encode videos, music and captions for training. It can be stopped at any time; run it again to resume.

    Example: expotion train prepare footage --model musicgen-small --out data

    Exit code 0: all clips are ready; 1: some were skipped.
    """
    _offline()
    from expotion_cli.cli.flags import streams as read_streams
    from expotion_cli.training.data.prepare import PrepareOptions
    from expotion_cli.training.data.prepare import prepare as prepare_data

    options = PrepareOptions(
        streams=tuple(read_streams(streams)),
        caption=caption,
        held_out=held_out,
        held_out_share=held_out_share,
        drop_leaks=drop_leaks,
        root=root,
        features=_features(features),
        features_hz=features_hz,
        seed=seed,
    )
    tokenizer = _tokenizer(model, device) if model is not None else None
    status = _StatusLine(quiet)
    made = prepare_data(source, out, tokenizer=tokenizer, options=options, on_clip=status.clip)
    status.close()
    for problem in made.problems:
        say_error(problem, "skipped")
    if as_json:
        say_json(_as_record(made, out))
    elif not quiet:
        _say_prepared(made, out)
    return 1 if made.problems else 0


@train_app.command()
@handle_errors
def adapter(
    data: Annotated[Path, typer.Option(help="Folder of prepared data, from `expotion train prepare`.")],
    model: Annotated[str, typer.Option(help="The model to adapt: a name from `expotion models`, or a folder.")],
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints, logs and the trained adapter; the same folder resumes.")
    ],
    recipe: Annotated[
        str, typer.Option(help="A training recipe: adapter, authors, synthetic, or a .toml file.")
    ] = "adapter",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a key of the recipe, e.g. train.steps=500; repeat it for several.",
            show_default=False,
        ),
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="An adapter to continue from: its folder, or a .pth file.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """Train an adapter for the picture, a LoRA, or both. It can be stopped at any time; run it again to resume.

    Example: expotion train adapter --data data --model musicgen-small --out run

    On several GPUs: accelerate launch -m expotion_cli.cli train adapter ...
    """
    _offline()
    from expotion_cli.training.settings import load_train_recipe

    made_recipe = load_train_recipe(recipe, settings or [])
    from expotion_cli.training.adapter.trainer import AdapterTrainer
    from expotion_cli.training.data.data_folder import DataFolder
    from expotion_cli.training.data.tokens import find_model
    from expotion_cli.training.distributed import DistributedContext
    from expotion_cli.weights.manifest import licence_notice

    folder = DataFolder.open(data)
    context = DistributedContext(device, made_recipe.train.precision)
    quiet = quiet or not context.is_main
    trainer = AdapterTrainer(
        folder, find_model(model), made_recipe, out, context, start_from, report=None if quiet else _say_progress
    )
    if not quiet:
        if notice := licence_notice(model):
            say_aside(notice, "licence")
        for note in trainer.notes:
            say_aside(note)
    trained = trainer.run()
    if as_json and context.is_main:
        say_json(_trained_record(trained))
    elif not quiet:
        _say_trained(trained, model)


@train_app.command()
@handle_errors
def mini(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the finished model; without it nothing begins.", show_default=False)
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for the corpus, checkpoints and logs.", show_default="the model's folder and -work"),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A training recipe (.toml); the shipped one by default.", show_default=False)
    ] = None,
    pieces: Annotated[
        Path | None,
        typer.Option(
            help="A folder of General-MIDI files to train on as well, with their LICENCE.txt.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
    minutes: Annotated[
        float,
        typer.Option(
            min=0.0, help="Train for so long, whatever the recipe's steps; 0 for its steps. Corpora take time besides."
        ),
    ] = 0.0,
    prepare_only: Annotated[
        bool,
        typer.Option("--prepare", help="Only make the corpora; the same command without it trains."),
    ] = False,
) -> None:
    r"""Make the embedded model from scratch: corpus, tokenizer, decoder, adapter.

    On CPU cores this takes hours: the weights that ship took more than two for training alone. Stop it at any time;
    the same command resumes. It needs pip install "expotion\[train]".

    Example: expotion train mini --out my-mini
    """
    if out is None:
        raise UsageError(
            "Remaking the model takes hours on CPU cores.",
            remedy="To begin, name a folder for it: expotion train mini --out my-mini.",
        )
    work = work if work is not None else out.with_name(f"{out.name}-work")
    from expotion_cli.music.load import choose_device
    from expotion_cli.training.mini.settings import MiniSettings
    from expotion_cli.training.mini.trainer import MiniTrainer

    place = "cpu" if prepare_only else str(choose_device(device))
    trainer = MiniTrainer(work, MiniSettings.load(recipe), place, pieces, minutes)
    if prepare_only:
        trainer.prepare()
        print(f"{work} · train with the same command without --prepare")
        return
    trainer.run(out)
    print(f"{out} · score with it: expotion-score clips --model {out} --adapter {out / 'adapter'}")


def _offline() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # only `expotion fetch` uses the network


def _tokenizer(model: str, device: str) -> Any:
    from expotion_cli.music.load import choose_device
    from expotion_cli.training.data.tokens import AudioTokenizer, find_model

    return AudioTokenizer.load(find_model(model), choose_device(device))


def _features(text: str | None) -> tuple[Any, ...]:
    from expotion_cli.music.transformer.adapter import StreamSpec

    specs = []
    for part in (text or "").split(","):
        if part.strip():
            name, _, width = part.strip().partition("=")
            if not name.isidentifier() or not width.isdecimal() or not 0 < int(width) <= 65_536:
                raise UsageError(
                    f"--features {part.strip()!r} can't be read.", remedy="Write NAME=WIDTH, e.g. raft=256."
                )
            specs.append(StreamSpec.numbered(name, int(width)))
    return tuple(specs)


class _StatusLine:
    """Shows on a terminal which clip is being encoded."""

    def __init__(self, quiet: bool):
        self.is_shown = not quiet and sys.stderr.isatty()

    def clip(self, number: int, total: int, name: str) -> None:
        if self.is_shown:
            print(f"\r\x1b[K{number + 1}/{total} {name}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _as_record(made: PrepareResult, out: Path) -> dict[str, Any]:
    return {
        "exit_code": 1 if made.problems else 0,
        "data": str(out),
        "clips": {split: sum(c.split == split for c in made.clips) for split in ("train", "held_out", "aside")},
        "encoded": made.encoded,
        "seconds": round(sum(clip.duration_s for clip in made.clips), 3),
        "leaks": made.leaks.to_dict(),
        "notes": list(made.notes),
        "skipped": [error_record(problem) for problem in made.problems],
    }


def _say_prepared(made: PrepareResult, out: Path) -> None:
    for note in made.notes:
        say_aside(note)
    for line in made.leaks.lines():
        say_aside(line, "split" if made.leaks.is_clean else "leak")
    counts = []
    for split, words in (("train", "to train on"), ("held_out", "held out"), ("aside", "set aside")):
        chosen = [clip for clip in made.clips if clip.split == split]
        if chosen:
            counts.append(f"{len(chosen)} {words} ({_length(sum(clip.duration_s for clip in chosen))})")
    skipped = f", {len(made.problems)} skipped" if made.problems else ""
    print(f"{', '.join(counts)}{skipped} → {out}")


def _length(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _say_progress(kind: str, row: dict[str, float]) -> None:
    if kind == "held_out":
        figures = ", ".join(f"{name} {value:.4f}" for name, value in row.items() if name != "step")
        say_aside(f"step {row['step']:.0f}: {figures}", "held out")


def _trained_record(trained: TrainingResult) -> dict[str, Any]:
    return {
        "exit_code": 0,
        "adapter": str(trained.adapter) if trained.adapter else None,
        "lora": str(trained.lora) if trained.lora else None,
        "steps": trained.progress.step,
        "best_step": trained.progress.best_step,
        "held_out": trained.best,
        "notes": list(trained.notes),
    }


def _say_trained(trained: TrainingResult, model: str) -> None:
    if trained.best:
        early = " (stopped early)" if trained.progress.step < trained.steps else ""
        kinds = {
            "shuffled": "with another clip's motion",
            "unseen": "with the picture masked",
            "off": "without training",
        }
        more = [f"{trained.best[kind]:.4f} {words}" for kind, words in kinds.items() if kind in trained.best]
        first = f"held-out loss {trained.best['loss']:.4f} at step {trained.progress.best_step}{early}"
        print(", ".join([first, *more]))
    given = " ".join(f"--adapter {path}" for path in (trained.adapter, trained.lora) if path is not None)
    print(f"{trained.out} · score with it: expotion-score clips --model {model} {given}")
