"""The commands `expotion` and `expotion-score`. This floor parses, prints and sets exit codes; nothing else does."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expotion_cli.errors import ExpotionError


def main() -> None:
    """Entry point of `expotion`."""
    with _stoppable():
        from expotion_cli.cli.console import run_guarded

    def command() -> None:
        if sys.argv[1:2] == ["doctor"]:  # it must run where the other commands' libraries are missing
            from expotion_cli.cli.doctor import doctor_app

            del sys.argv[1]
            doctor_app(prog_name="expotion doctor")
        from expotion_cli.cli.app import app

        app(prog_name="expotion")

    run_guarded(command, _say)


def score_main() -> None:
    """Entry point of `expotion-score`, which is `expotion score` without loading the other commands."""
    with _stoppable():
        from expotion_cli.cli.console import run_guarded

    def command() -> None:
        import typer

        from expotion_cli.cli.say import TYPER_OPTIONS
        from expotion_cli.cli.score import score

        app = typer.Typer(**TYPER_OPTIONS)
        app.command()(score)
        app(prog_name="expotion-score")

    run_guarded(command, _say)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """From the first line on, SIGTERM (from a closing terminal or a scheduler) ends the program like Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:  # `run_guarded`, which would see to it, is still being imported
        print("interrupted: stopped. Run the same command again to go on.", file=sys.stderr)
        sys.exit(130)


def _say(error: ExpotionError) -> None:
    from expotion_cli.cli.say import say_error
    from expotion_cli.errors import Interrupted

    say_error(error, "interrupted" if isinstance(error, Interrupted) else "error")
