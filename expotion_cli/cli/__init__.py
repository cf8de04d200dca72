"""The commands `expotion` and `expotion-score`. This floor parses, prints and sets exit codes; nothing else does."""

from __future__ import annotations


def main() -> None:
    """Entry point of `expotion`."""
    from expotion_cli.cli.app import app

    app(prog_name="expotion")


def score_main() -> None:
    """Entry point of `expotion-score`, which is `expotion score` without loading the other commands."""
    import typer

    from expotion_cli.cli.say import TYPER_OPTIONS
    from expotion_cli.cli.score import score

    app = typer.Typer(**TYPER_OPTIONS)
    app.command()(score)
    app(prog_name="expotion-score")
