"""`expotion train`: make weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expotion_cli.cli.say import honest

train_app = typer.Typer(no_args_is_help=True, help="Make weights: the embedded model, from scratch.")


@train_app.callback()
def train() -> None:
    """Make weights: the embedded model, from scratch."""


@train_app.command()
@honest
def mini(
    out: Annotated[Path, typer.Option(help="Folder for the finished model.")] = Path("expotion-mini"),
    work: Annotated[Path, typer.Option(help="Folder for corpus, checkpoints and logs.")] = Path("expotion-mini-work"),
    recipe: Annotated[
        Path | None, typer.Option(help="A training recipe (.toml); the shipped one by default.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Remake the embedded model: corpus, tokenizer, decoder, adapter. Stop it at any time; run it again to go on."""
    from expotion_cli.training.mini import MiniSettings, MiniTrainer

    MiniTrainer(work, MiniSettings.load(recipe), device).run(out)
    print(f"{out} · score with it: expotion-score clips --model {out} --adapter {out / 'adapter'}")
