"""The account of a run: which clips are done, what became of the others, and who is told."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Event
from typing import Any, NamedTuple

from expotion_cli.errors import ExpotionError, UsageError, reason_of, writing
from expotion_cli.hints import FileHints
from expotion_cli.music.codecs.notes.groove_file import groove_digest
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.scoring import marking, mixing, passages, sidecar
from expotion_cli.scoring.cue_store import CueStore
from expotion_cli.scoring.estimate import PHASE_OF
from expotion_cli.scoring.files import HERE
from expotion_cli.scoring.follow import ACCENTS_VERSION, FOLLOW_VERSION, align
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.ledger import LEDGER, Ledger, failed_clips, read_ledger
from expotion_cli.scoring.plan import Job, Plan, Result, check_writable
from expotion_cli.scoring.redo import Course, course, record, said
from expotion_cli.scoring.standing import ALREADY, REPLACE, Standing, standing
from expotion_cli.scoring.streams import missing_streams
from expotion_cli.scoring.takes.record import playing_take
from expotion_cli.scoring.takes.score import deciding
from expotion_cli.spotting.plan import SPOTTING_VERSION
from expotion_cli.storage import cache_root, is_temporary

logger = logging.getLogger(__name__)
BRINGERS = 4


@dataclass(frozen=True)
class Summary:
    """How a run went.

    Attributes:
        results: of all clips, problems of planning first, then in the plan's order.
        duration_s: how long it took.
        unscorable: planning found no clip that can be scored.
    """

    results: tuple[Result, ...]
    duration_s: float = 0.0
    unscorable: bool = False

    def count(self, status: str) -> int:
        """How many clips ended so."""
        return sum(result.status == status for result in self.results)

    @property
    def exit_code(self) -> int:
        """0: all scored or already there; 1: some failed; 2: some refused; 3: nothing could be scored."""
        if not self.results or self.unscorable:
            return 3
        return 1 if self.count("failed") else 2 if self.count("refused") else 0


def summed(summaries: Sequence[Summary]) -> Summary:
    """How a run of several plans went."""
    results = tuple(result for summary in summaries for result in summary.results)
    duration_s = round(sum(summary.duration_s for summary in summaries), 3)
    return Summary(results, duration_s, all(summary.unscorable for summary in summaries))


class Listener:
    """Receives the progress of a batch. The methods do nothing unless overridden; several threads may call them."""

    def note(self, text: str) -> None:
        """Something worth saying once."""

    def stage(self, job: Job, stage: str, share: float) -> None:
        """A stage (one of `ladder.STAGES`) of a job stands at this share, 0..1."""

    def result(self, result: Result) -> None:
        """A clip is scored, was scored already, or failed."""


class Digests(NamedTuple):
    """What an artefact is found by.

    Attributes:
        cues: of the tokens of each take.
        result: of the finished result.
    """

    cues: tuple[str, ...]
    result: str


def artefact_digests(jobs: Iterable[Job], plan: Plan, identity: ModelIdentity) -> dict[str, Digests]:
    """All that decides a cue and a finished result, names and places aside.

    Args:
        jobs: of the plan.
        plan: gives the recipe and the streams.
        identity: of the model.

    Returns:
        By job name.
    """
    finishing = plan.recipe.hashed_fields()
    composing = {key: finishing.pop(key) for key in plan.recipe.cue_fields() if key in finishing}
    digests = {}
    groove = {"groove": groove_digest(plan.recipe.compose.groove)} if plan.recipe.compose.groove else {}
    for job in jobs:
        cue = {
            "clip": job.content,
            **({"picture": job.clip.picture} if job.clip.picture else {}),
            "seen": job.streams,  # "streams" are the recipe's names
            "watched": list(plan.streams.names),
            "model": identity.digest,
            "adapter": identity.adapter_name,
            "prompt": job.prompt,
            "spotting": SPOTTING_VERSION,
            "seed": job.seed,
            **job.given.hashed_fields(),
            **groove,
            **passages.hashed_fields(plan.recipe, identity),
            **(plan.melody.hashed_fields(plan.recipe, job.seed) if plan.melody is not None else {}),
            **composing,
        }
        cues = tuple(sidecar.cue_digest(one_take(cue, number)) for number in range(plan.recipe.generate.takes))
        follow = {"version": FOLLOW_VERSION, "accents": ACCENTS_VERSION}
        follow |= align.hashed_fields(plan.recipe.follow, has_tempo=identity.has_tempo)
        result: dict[str, Any] = {"tokens": cues[0], "codec": identity.codec_digest}
        result |= {"recipe": finishing, "follow": follow, **mixing.hashed_fields(plan.recipe)}
        if job.clip.chosen.audio:
            result["sound"] = list(job.clip.chosen.audio)
        if len(cues) > 1:
            result["takes"] = deciding(plan.recipe)
        digests[job.name] = Digests(cues, sidecar.result_digest(result))
    return digests


def one_take(cue: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What decides the tokens of one take.

    Args:
        cue: what decides those of all, under the names that are hashed.
        number: of the take, from 0; the first has the digest of a cue with one take, however many there are.
    """
    generate = {**cue["generate"], "drafts": 1}
    return {**cue, "generate": generate, **({"take": number} if number else {})}


class _Guarded(Listener):
    """A listener whose own trouble is nobody's failure: after the first, it is told nothing more.

    Args:
        listener: the one to tell.

    Attributes:
        stages: the stage of each job that has begun, and when it began (`time.monotonic`).
        spans: when each of its phases began, and when it was last heard of.
    """

    def __init__(self, listener: Listener):
        self._listener: Listener | None = listener
        self.stages: dict[str, tuple[str, float]] = {}
        self.spans: dict[str, dict[str, tuple[float, float]]] = {}

    def note(self, text: str) -> None:
        """See `Listener`."""
        self._tell("note", text)

    def stage(self, job: Job, stage: str, share: float) -> None:
        """See `Listener`."""
        _, began = self.stages.get(job.name, (stage, time.monotonic()))
        self.stages[job.name] = (stage, began)
        spans, now = self.spans.setdefault(job.name, {}), time.monotonic()
        spans[PHASE_OF[stage]] = (spans.get(PHASE_OF[stage], (now, now))[0], now)
        self._tell("stage", job, stage, share)

    def result(self, result: Result) -> None:
        """See `Listener`."""
        self._tell("result", result)

    def _tell(self, what: str, *about: Any) -> None:
        try:
            if self._listener is not None:
                getattr(self._listener, what)(*about)
        except Exception:
            self._listener = None
            logger.warning("progress is no longer shown", exc_info=True)


class Account:
    """What is done and what is not: results so far, the ledger, and each result's digests."""

    def __init__(self, plan: Plan, listener: Listener):
        self.plan, self.listener = plan, _Guarded(listener)
        self.hints = FileHints(trusted=not plan.settings.verify)
        self.results: dict[str, Result] = {}
        self.digests: dict[str, Digests] = {}
        self.courses: dict[str, Course] = {}
        self.notes: tuple[str, ...] = ()
        self.identity: ModelIdentity | None = None
        self._tells_of_versions = self._tells_of_cache = False
        self.ledger: Ledger | None = None
        self.stop = Event()
        self.on_settled: Callable[[Job], object] | None = None
        self._left_s = sum(float(job.clip.duration) for job in plan.jobs)

    def open(self) -> Ledger:
        """The ledger; opening it is the first moment at which the output folder is touched."""
        if self.ledger is None:
            out = self.plan.settings.out
            check_writable(out)
            path = out / LEDGER
            with writing(path, "the ledger", error=UsageError, remedy="Check permissions, or choose another --out."):
                ledger = Ledger(path)
                ledger.check()
            self.ledger = ledger
            for problem in self.plan.problems:
                ledger.write("failed", clip=problem.name, outcome="failed", **_why(problem.error))
        return self.ledger

    def standings(self, identity: ModelIdentity) -> dict[str, Standing]:
        """What a run would do with each job, by its name. Writes nothing."""
        digests = artefact_digests(self.plan.jobs, self.plan, identity)
        ledger = Ledger(self.plan.settings.out / LEDGER)
        return {job.name: self._standing(job, digests[job.name], identity, ledger) for job in self.plan.jobs}

    def _standing(self, job: Job, digests: Digests, identity: ModelIdentity, ledger: Ledger) -> Standing:
        known = None if self.plan.settings.overwrite else self.plan.files.sidecar(job.destination)
        is_same = (
            known is not None and isinstance(clip := known.get("clip"), dict) and clip.get("sha256") == job.content
        )
        take = playing_take(known, len(digests.cues)) if is_same else 1
        own = digests.cues[take - 1], digests.result
        way = course(own, known if is_same else None, self.plan.settings.redo, job.seed, take)
        self.courses[job.name] = way
        found = standing(job, way, self.plan, identity, ledger, self.hints)
        return found if found.step is None else replace(found, said=self._said(job, way))

    def _said(self, job: Job, way: Course) -> str:
        """Which bars a run would compose anew, if the cue before is kept; else what was asked."""
        before = CueStore(cache_root() / "cues").get(way.cues[-2])
        if before is None or before.notes.get("tempo") is None:
            return ", ".join(f"{first:g}-{last:g} s" for first, last in way.steps[-1].spans)
        grid = sidecar.tempo_of(before.notes["tempo"]).timeline(job.clip.duration)
        return said(record(way.steps[-1], grid))

    def course(self, job: Job) -> Course:
        """What leads to a job's result: its digests, and the bars to compose anew."""
        if job.name in self.courses:
            return self.courses[job.name]
        digests = self.digests[job.name]
        return course((digests.cues[0], digests.result), None, None, job.seed)

    def settle_done(self, identity: ModelIdentity) -> bool:
        """Settle all jobs whose results are there already, made by this model; returns whether none is left."""
        self.digests = artefact_digests(self.plan.jobs, self.plan, identity)
        self.identity = identity
        self.open()
        missing = missing_streams(identity, self.plan.streams, self.plan.recipe)
        for note in missing:
            if note not in self.notes:
                self.listener.note(note)
        given = self.plan.melody.notes if self.plan.melody is not None else ()
        self.notes = (*self.plan.streams.remarks, *missing, *given)
        for job in self.plan.jobs:
            if job.name not in self.results:
                self.settle_if_done(job)
        return len(self.results) == len(self.plan.jobs)

    def tell_of_cache(self, trouble: OSError | None) -> None:
        """The cache can't be written: said once, and no reason to stop."""
        if trouble is not None and not self._tells_of_cache:
            self._tells_of_cache = True
            why = f"{cache_root()}: the cache can't be written ({reason_of(trouble)})"
            self.listener.note(f"{why}; the run goes on without it. Set EXPOTION_CACHE to another folder.")

    def note(self, notes: Iterable[str]) -> None:
        """What holds for all results that are still to be made."""
        for note in notes:
            self.listener.note(note)
        self.notes = (*self.notes, *notes)

    def settle_if_done(self, job: Job) -> bool:
        """Settle a job whose result is there already, or can't be written; returns whether it is settled."""
        if self.plan.settings.overwrite or self.identity is None or job.name in self.results:
            return job.name in self.results
        ledger, found = self.open(), None
        with guard(job.destination, partial(self.fail, job)):
            found = self._standing(job, self.digests[job.name], self.identity, ledger)
        if found is None:
            return True
        digest = self.course(job).result
        if found.verdict == ALREADY:
            if not ledger.knows(digest):
                ledger.write("already", clip=job.name, artefact=digest, outcome="already")
            self._settle_there(job, found)
        elif found.error is not None:
            ledger.write("refused", clip=job.name, outcome="refused", **_why(found.error))
            self.settle(job, Result(job.name, "refused", error=found.error))
        elif found.verdict == REPLACE and not self._tells_of_versions:
            self._tells_of_versions = True
            self.listener.note("results of another version of expotion or of an encoder are made anew")
        return job.name in self.results

    def _settle_there(self, job: Job, found: Standing) -> None:
        """Settle a job whose result is there already; marker files that it lacks are added."""
        known = found.sidecar
        with guard(job.destination, partial(self.fail, job)):
            if found.lacking and known is not None:
                known = marking.add_markers(
                    job.clip, job.destination, known, self.plan.settings.markers, found.lacking, self.plan.files
                )
                known["notes"] = [*known.get("notes", ()), f"markers written: {', '.join(found.lacking)}"]
            self.settle(job, Result(job.name, "already", job.destination, sidecar=known))

    def relative(self, job: Job) -> str:
        """A result's path inside the output folder, as the ledger calls it."""
        return str(job.destination.relative_to(self.plan.settings.out))

    def surely_missing(self) -> list[Job]:
        """Jobs that will have to be done whatever the model turns out to be."""
        left = self.pending()
        if self.digests:
            return left
        return [job for job in left if self.plan.settings.overwrite or not self.plan.files.exists(job.destination)]

    def pending(self) -> list[Job]:
        """Jobs not settled yet; those that failed in an earlier run come last: good clips first."""
        left = [job for job in self.plan.jobs if job.name not in self.results]
        return sorted(left, key=lambda job: job.name in self._failed_before)

    @cached_property
    def _failed_before(self) -> frozenset[str]:
        with contextlib.suppress(OSError):
            return failed_clips(read_ledger(self.plan.settings.out / LEDGER))
        return frozenset()

    def bring(self, jobs: Sequence[Job]) -> list[Job]:
        """Make sure that the clips of these jobs are at hand; returns those that are, the others failed."""
        if self.plan.files is not HERE:
            with ThreadPoolExecutor(BRINGERS) as pool:
                list(pool.map(self._bring, jobs))
        return [job for job in jobs if job.name not in self.results]

    def _bring(self, job: Job) -> None:
        with guard(job.clip.path, partial(self.fail, job)):
            self.plan.files.bring(job.clip.path)

    def fail(self, job: Job, error: ExpotionError) -> None:
        """A job failed."""
        if is_temporary(error.path):
            error = error.at(job.destination)
        error = self.plan.files.renamed(error)
        details = {"details": error.details} if error.details else {}
        with contextlib.suppress(OSError, ExpotionError):  # a full disk must not hide the reason
            self.open().write(
                "failed", **self.so_far(job), outcome="failed", **_why(error), **self.outlook(job), **details
            )
        self.settle(job, Result(job.name, "failed", error=error))

    def so_far(self, job: Job) -> dict[str, Any]:
        """How far a job is, for the ledger: its stage, and seconds since its first."""
        stage, began = self.listener.stages.get(job.name, (None, time.monotonic()))
        return {"clip": job.name, "stage": stage, "duration_s": round(time.monotonic() - began, 3)}

    def passed(self, job: Job, stages_s: Mapping[str, float]) -> None:
        """A job is through these stages; how long each took, in seconds."""
        for stage, duration_s in stages_s.items():
            self.open().write("stage", clip=job.name, stage=stage, duration_s=duration_s, outcome="done")

    def outlook(self, job: Job) -> dict[str, Any]:
        """What the ledger says of a job that is about to be settled, so that the time left can be told from it.

        The clip's length; when its phases began and ended, in seconds before now; clips left besides it, and their
        length.
        """
        length_s, now = float(job.clip.duration), time.monotonic()
        spans = self.listener.spans.get(job.name, {})
        return {
            "length_s": round(length_s, 3),
            "spans": {phase: [round(each - now, 3) for each in span] for phase, span in spans.items()},
            "left": len(self.plan.jobs) - len(self.results) - (job.name not in self.results),
            "left_s": round(max(0.0, self._left_s - (length_s if job.name not in self.results else 0.0)), 3),
        }

    def settle(self, job: Job, result: Result) -> None:
        """A job is through."""
        if result.name not in self.results:
            self._left_s -= float(job.clip.duration)
        self.results[result.name] = result
        self.listener.spans.pop(result.name, None)
        if self.on_settled is not None:
            self.on_settled(job)
        self.listener.result(result)

    def summary(self, started: float) -> Summary:
        """How it went since then (`time.monotonic`)."""
        results = (*self.plan.problems, *(self.results[job.name] for job in self.plan.jobs))
        return Summary(results, round(time.monotonic() - started, 3))


def _why(error: ExpotionError | None) -> dict[str, str]:
    """What went wrong, for the ledger, and what to do about it."""
    remedy = error.remedy if error is not None else None
    return {"reason": str(error), **({"remedy": remedy} if remedy else {})}
