"""The commands `expotion` and `expotion-score`. This floor parses, prints and sets exit codes; nothing else does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expotion_cli.errors import ExpotionError


def main() -> None:
    """Entry point of `expotion`."""
    from expotion_cli.cli.console import run_guarded

    def command() -> None:
        from expotion_cli.cli.app import app

        app(prog_name="expotion")

    run_guarded(command, _say)


def score_main() -> None:
    """Entry point of `expotion-score`, which is `expotion score` without loading the other commands."""
    from expotion_cli.cli.console import run_guarded

    def command() -> None:
        import typer

        from expotion_cli.cli.say import TYPER_OPTIONS
        from expotion_cli.cli.score import score

        app = typer.Typer(**TYPER_OPTIONS)
        app.command()(score)
        app(prog_name="expotion-score")

    run_guarded(command, _say)


def _say(error: ExpotionError) -> None:
    from expotion_cli.cli.say import say_error
    from expotion_cli.errors import Interrupted

    say_error(error, "interrupted" if isinstance(error, Interrupted) else "error")
