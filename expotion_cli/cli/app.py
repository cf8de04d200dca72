"""The commands of `expotion`."""

from __future__ import annotations

from typing import Annotated

import typer

from expotion_cli.cli.cache import cache_app
from expotion_cli.cli.demo import demo
from expotion_cli.cli.doctor import doctor
from expotion_cli.cli.evaluate import EvaluateCommand, evaluate
from expotion_cli.cli.fetch import fetch
from expotion_cli.cli.inspect import inspect
from expotion_cli.cli.library import models
from expotion_cli.cli.markers import markers
from expotion_cli.cli.plan import plan
from expotion_cli.cli.recipes import recipes_app
from expotion_cli.cli.regress import regress_app
from expotion_cli.cli.report import cuesheet, report
from expotion_cli.cli.say import TYPER_OPTIONS, VERSION
from expotion_cli.cli.score import score
from expotion_cli.cli.status import status
from expotion_cli.cli.takes import takes
from expotion_cli.cli.train import train_app
from expotion_cli.cli.watch import watch_command

app = typer.Typer(no_args_is_help=True, **TYPER_OPTIONS)
app.command()(score)
app.command()(status)
app.command("watch")(watch_command)
app.command()(demo)
app.command()(inspect)
app.command()(plan)
app.command()(report)
app.command()(cuesheet)
app.command()(markers)
app.command(cls=EvaluateCommand)(evaluate)
app.command()(doctor)
app.command()(takes)
app.command()(models)
app.command()(fetch)
app.add_typer(recipes_app, name="recipes")
app.add_typer(cache_app, name="cache")
app.add_typer(regress_app, name="regress")
app.add_typer(train_app, name="train")


@app.callback()
def about(
    version: Annotated[bool, VERSION] = False,
) -> None:
    """Scores video with music that follows the person in the picture."""
