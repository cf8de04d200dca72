"""`expotion watch`: score what arrives in a folder."""

from __future__ import annotations

import inspect
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.cli.carry_out import Run, known_model, told
from expotion_cli.cli.progress import Lines, Reporter
from expotion_cli.cli.say import handle_errors, say, say_aside, say_json
from expotion_cli.cli.score import score
from expotion_cli.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from expotion_cli.cli.places import Place
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.plan import Plan, Result, Settings
    from expotion_cli.scoring.watching import Watching

_NOT_HERE = {"clips", "input_list", "overwrite", "dry_run", "redo", "redo_seed", "redo_prompt", "version"}
_STATUSES = ("scored", "already", "refused", "failed")


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder in which clips arrive.", metavar="IN", show_default=False)],
    settle: Annotated[
        float, typer.Option(help="A clip has arrived when its file has not changed for so many seconds.", min=0)
    ] = 5.0,
    poll: Annotated[
        float | None,
        typer.Option(
            help="Look every so many seconds; for network folders, which tell of no changes.",
            min=0.1,
            show_default="on change, and every 60",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Score what is there, then end.")] = False,
    **flags: Any,
) -> int:
    """Score each clip that arrives in a folder, until Ctrl-C; takes the flags of expotion-score.

    What arrived while nobody watched is scored, too. A clip that fails is left alone until its file changes.
    """
    from expotion_cli.scoring.watching import Watching

    watching = Watching(folder, settle, poll, once)
    code: int = score.__wrapped__(clips=[str(folder)], carry=partial(watch_folder, watching), **flags)  # type: ignore[attr-defined]
    return code


def _with_flags_of_score(command: Any) -> Any:
    """The command with all flags of `expotion-score` that make sense where clips arrive."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    others = inspect.signature(score, eval_str=True).parameters.values()
    shared = [parameter for parameter in others if parameter.name not in _NOT_HERE]
    command.__signature__ = inspect.Signature([*own, *shared])
    return command


watch_command = _with_flags_of_score(handle_errors(watch))


class _WatchLines(Lines):
    """A line for each clip that is scored or fails; those that are there already are only counted."""

    counts: Counter[str]

    def result(self, result: Result) -> None:
        """See `Listener`."""
        self.counts[result.status] += 1
        if result.status != "already":
            super().result(result)


class _WatchQuietly(Reporter):
    """Prints notes and failures only."""

    counts: Counter[str]

    def result(self, result: Result) -> None:
        """See `Listener`."""
        self.counts[result.status] += 1
        super().result(result)


def watch_folder(
    watching: Watching,
    inputs: Sequence[str],
    out: str,
    recipe: Recipe,
    settings: Settings,
    composer: Mapping[str, Any],
    where: Place,
    *,
    as_json: bool,
    quiet: bool,
    dry_run: bool,
) -> int:
    """Score what arrives, in place of `carry_out`; returns the exit code of `--once`.

    Args:
        watching: the folder.
        inputs: that folder.
        out: the output folder.
        recipe: with all flags laid over it.
        settings: how the batches are run.
        composer: arguments of `music.load.load_model`.
        where: where it runs.
        as_json: print JSON in the end, and nothing else on standard output.
        quiet: print only errors.
        dry_run: never asked for here.

    Raises:
        Interrupted: stopped by the user.
        UsageError: the folders don't go together.
    """
    import sys

    from expotion_cli.scoring.plan import plan
    from expotion_cli.scoring.urls import is_url
    from expotion_cli.scoring.watching import Arrivals, check_places

    if is_url(out) or is_url(str(watching.folder)):
        raise UsageError("only folders of this machine can be watched and written to.", remedy="Give such folders.")
    check_places(watching.folder, settings.out)
    identity, needs = known_model(composer, settings)
    counts: Counter[str] = Counter()

    def listen(planned: Plan) -> Reporter:
        made = _WatchQuietly(planned) if quiet else _WatchLines(planned, sys.stderr if as_json else sys.stdout)
        made.counts = counts
        return made

    def note(text: str) -> None:
        if not quiet:
            say_aside(text)

    run = Run(composer, where, identity, as_json=as_json, quiet=quiet, listen=listen)
    arrivals = Arrivals(watching, settings.out, settings.recursive, recipe.digest, note)
    if not quiet and not as_json and not watching.once:
        say(f"watching {watching.folder} → {settings.out}/ (Ctrl-C ends it)")
    said: set[str] = set()
    try:
        for found in arrivals.batches():
            planned = plan((), recipe, settings, needs=needs, executor=where.executor, found=found)
            for _ in told([planned], said):
                counts["failed"] += len(planned.problems)
                arrivals.settle(run.carry_out(planned).results)
    except (KeyboardInterrupt, Interrupted):
        reason = f"stopped watching {watching.folder}; {_said(counts)}."
        raise Interrupted(reason, remedy="The same command goes on where it stopped.") from None
    finally:
        run.close()
    code = _exit_code(counts)
    if as_json:
        rows = {status: counts[status] for status in _STATUSES}
        say_json({"exit_code": code, "folder": str(watching.folder), "out": str(settings.out), "counts": rows})
    elif not quiet:
        say(f"{_said(counts)} → {settings.out}/")
    return code


def _said(counts: Counter[str]) -> str:
    words = {"already": "already there"}
    parts = [f"{counts[status]} {words.get(status, status)}" for status in _STATUSES if counts[status]]
    return ", ".join(parts) or "nothing to score"


def _exit_code(counts: Counter[str]) -> int:
    """0 also where nothing had arrived: that is nobody's failure."""
    if counts["failed"] and not (counts["scored"] or counts["already"] or counts["refused"]):
        return 3
    return 1 if counts["failed"] else 2 if counts["refused"] else 0
