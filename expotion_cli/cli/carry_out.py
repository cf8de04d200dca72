"""What `expotion-score` does once its flags are read: plan, score and report, in one go or group by group."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from expotion_cli.cli.records import plan_record, summary_record
from expotion_cli.cli.say import say, say_aside, say_error, say_json
from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expotion_cli.cli.places import Place
    from expotion_cli.cli.progress import Reporter
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.music.model import Model
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.account import Summary
    from expotion_cli.scoring.ahead import Ahead
    from expotion_cli.scoring.composers import Composer
    from expotion_cli.scoring.plan import Plan, Settings
    from expotion_cli.scoring.standing import Standing
    from expotion_cli.scoring.streams import Needs

OWN_BACKBONE, AUDIOCRAFT = "expotion", "audiocraft"


def carry_out(
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
    """Score clips, or say what would be done; returns the exit code.

    Args:
        inputs: files, folders, glob patterns or URLs.
        out: the output folder, or its URL.
        recipe: with all flags laid over it.
        settings: how the batch is run.
        composer: arguments of `music.load.load_model`.
        where: where it runs.
        as_json: print JSON in the end, and nothing else on standard output.
        quiet: print only errors.
        dry_run: say what would be done, and stop.
    """
    from expotion_cli.scoring.account import summed
    from expotion_cli.scoring.remote import plans_for

    identity, needs = known_model(composer, settings)
    makes_sound = "backbone" in composer or (needs is not None and not needs.follows_tempo)
    if settings.redo is not None and makes_sound:
        reason = f"--redo needs a model that writes notes, and {composer['name']} makes sound."
        raise UsageError(reason, remedy="Use expotion-mini, or score the whole clip with another --seed.")
    if recipe.compose.loop and makes_sound:
        from expotion_cli.scoring.cue_request import NO_LOOP

        reason = f"--loop needs a model that writes notes: {composer['name']} keeps no bar lines."
        raise UsageError(reason, remedy=NO_LOOP)
    planning = plans_for(inputs, out, recipe, settings, needs=needs, executor=where.executor, is_dry=dry_run)
    plans = told(planning, set())
    if dry_run:
        return _look_ahead(plans, identity, as_json=as_json, quiet=quiet)
    run = Run(composer, where, identity, as_json=as_json, quiet=quiet)
    try:
        done = [(planned, run.carry_out(planned)) for planned in plans]
    finally:
        run.close()
    planned, summary = _joined([planned for planned, _ in done]), summed([summary for _, summary in done])
    if as_json:
        say_json(summary_record(summary, planned))
    elif run.listener is not None:
        run.listener.close_with(summary)
    return summary.exit_code


def known_model(composer: Mapping[str, Any], settings: Settings) -> tuple[ModelIdentity | None, Needs | None]:
    """The model's identity, where an earlier run remembered it, and what it takes from the picture, if that is known.

    Args:
        composer: arguments of `music.load.load_model`.
        settings: of the run; `verify` trusts no memory.
    """
    from expotion_cli.music.identity import recall
    from expotion_cli.scoring.streams import needs_ahead, needs_of

    identity = None if settings.verify else recall(composer)
    if "backbone" in composer:
        return identity, None
    if identity is not None:
        return identity, needs_of(identity)
    return None, needs_ahead(composer["name"], composer.get("adapter"), composer.get("melody"))


def told(plans: Iterable[Plan], said: set[str]) -> Iterator[Plan]:
    """Plans whose problems and notes are printed, a note once.

    Args:
        plans: as they are made.
        said: notes that were printed before; more are added.
    """
    for planned in plans:
        for problem in planned.problems:
            if problem.error is not None:
                say_error(problem.error, "failed")
        for note in planned.notes:
            if note not in said:
                say_aside(note)
        said.update(planned.notes)
        yield planned


def _look_ahead(plans: Iterator[Plan], identity: ModelIdentity | None, *, as_json: bool, quiet: bool) -> int:
    from expotion_cli.cli.dry_run import details, estimated, look_ahead
    from expotion_cli.cli.progress import show_plan

    found: dict[str, Standing] = {}
    ahead: dict[str, Ahead] = {}
    done: list[Plan] = []
    for planned in plans:
        standings, known = look_ahead(planned, identity)
        found, ahead = found | standings, ahead | known
        if not as_json and not quiet:
            show_plan(planned, found, details(planned, known, standings), is_first=not done)
        done.append(planned)
    planned = _joined(done)
    if as_json:
        say_json(plan_record(planned, found, ahead))
    elif not quiet and ahead:
        say(estimated(ahead.values()))
    refused = any(each.error is not None for each in found.values())
    return 3 if not planned.jobs else 1 if planned.problems else 2 if refused else 0


class Run:
    """Carries plans out, one after the other; the model is loaded once, when the first one needs it.

    Args:
        composer: arguments of `music.load.load_model`.
        where: where it runs.
        identity: the model's, where it is known.
        as_json: standard output is taken.
        quiet: print only errors.
        listen: makes who is told of a plan's progress; by default a live table, or lines.
    """

    def __init__(
        self,
        composer: Mapping[str, Any],
        where: Place,
        identity: ModelIdentity | None,
        *,
        as_json: bool,
        quiet: bool,
        listen: Callable[[Plan], Reporter] | None = None,
    ):
        self._listen = listen
        self.listener: Reporter | None = None
        self._composer, self._where, self._identity = composer, where, identity
        self._as_json, self._quiet = as_json, quiet
        self._model: Model | Sequence[Composer] | None = None
        self._is_licence_said = False

    def carry_out(self, planned: Plan) -> Summary:
        """Score what is planned."""
        from expotion_cli.scoring.batch import run
        from expotion_cli.scoring.speeds import Speeds

        listen = self._listen or partial(choose_listener, quiet=self._quiet, as_json=self._as_json)
        with listen(planned) as self.listener:
            if self._identity is not None:
                self._say_licence()
            summary = run(
                planned,
                self._load,
                identity=self._identity,
                listener=self.listener,
                executor=self._where.executor,
                keep_open=True,
            )
        Speeds().add(result.sidecar for result in summary.results if result.status == "scored" and result.sidecar)
        return summary

    def close(self) -> None:
        """End what the model runs on."""
        for composer in self._model if isinstance(self._model, list | tuple) else ():
            composer.close()

    def _load(self) -> Model | Sequence[Composer]:
        from expotion_cli.music.identity import ModelIdentity, remember

        if self._model is not None:
            return self._model
        assert self.listener is not None
        self.listener.waiting_for = f"loading {self._composer['name']}"
        if composers := self._where.composers():
            self._model, self._identity = composers, composers[0].identity
        else:
            model = _load(**self._composer)
            self._model, self._identity = model, ModelIdentity.of(model)
        remember(self._composer, self._identity)
        self._say_licence()
        self.listener.waiting_for = ""
        return self._model

    def _say_licence(self) -> None:
        from expotion_cli.weights.manifest import licence_notice

        if not self._is_licence_said and (notice := licence_notice(self._composer["name"])):
            say_aside(notice, "licence")
        self._is_licence_said = True


def choose_listener(plan: Plan, *, quiet: bool, as_json: bool) -> Reporter:
    """A live table on a terminal, else lines; on standard error where standard output is taken by `--json`."""
    from expotion_cli.cli.progress import Lines, Reporter

    if quiet:
        return Reporter(plan)
    stream = sys.stderr if as_json else sys.stdout
    if not stream.isatty():
        return Lines(plan, stream)
    from expotion_cli.cli.live_table import LiveTable

    return LiveTable(plan, stream)


def _joined(plans: Sequence[Plan]) -> Plan:
    """All plans of a run as one."""
    if len(plans) == 1:
        return plans[0]
    jobs = tuple(job for planned in plans for job in planned.jobs)
    return replace(plans[0], jobs=jobs, problems=tuple(each for planned in plans for each in planned.problems))


def _load(name: str, *, backbone: str = OWN_BACKBONE, **options: Any) -> Model:
    if backbone == AUDIOCRAFT:
        from expotion_cli.music.audiocraft_backbone import load_audiocraft

        return cast("Model", load_audiocraft(name, **options))  # it has all that the ladder needs of a model
    from expotion_cli.music.load import load_model

    return load_model(name, **options)
