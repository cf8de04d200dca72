"""The commands of `expotion`."""

from __future__ import annotations

from typing import Annotated

import typer

from expotion_cli.cli.cache import cache_app
from expotion_cli.cli.demo import demo
from expotion_cli.cli.evaluate import EvaluateCommand, evaluate
from expotion_cli.cli.fetch import fetch
from expotion_cli.cli.inspect import inspect
from expotion_cli.cli.library import models, recipes
from expotion_cli.cli.plan import plan
from expotion_cli.cli.regress import regress_app
from expotion_cli.cli.report import cuesheet, report
from expotion_cli.cli.say import TYPER_OPTIONS
from expotion_cli.cli.score import score
from expotion_cli.cli.train import train_app
from expotion_cli.version import __version__

app = typer.Typer(no_args_is_help=True, **TYPER_OPTIONS)
app.command()(score)
app.command()(demo)
app.command()(inspect)
app.command()(plan)
app.command()(report)
app.command()(cuesheet)
app.command(cls=EvaluateCommand)(evaluate)
app.command()(models)
app.command()(fetch)
app.command()(recipes)
app.add_typer(cache_app, name="cache")
app.add_typer(regress_app, name="regress")
app.add_typer(train_app, name="train")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"expotion {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Scores video with music that follows the person in the picture."""
