"""Many clips: plan → run → ledger.

Planning probes everything and loads nothing. Running looks at clips in one thread while cues are generated many at a
time and finished clips are encoded in another. Whatever is done stays done: a rerun takes up where a kill left off.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import ExpotionError, Interrupted, OutputError
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring import sidecar as artefact
from expotion_cli.scoring.cue_store import CueStore, StoredCue
from expotion_cli.scoring.ledger import Ledger
from expotion_cli.scoring.plan import Job, Plan, Result, check_writable
from expotion_cli.scoring.streams import unheard_streams, unseen_in_clip
from expotion_cli.storage import cache_root, write_bytes

if TYPE_CHECKING:
    from expotion_cli.music.model import Model

GROUP, GPU_GROUP = 16, 64
"""Clips looked at before their cues are generated together; the engine makes its own batches of them."""
STAGES = ("look", "compose", "render", "encode")


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
        """0: all scored or already there; 1: some failed; 3: there was nothing that could be scored."""
        if not self.results or self.unscorable:
            return 3
        return 1 if self.count("failed") else 0


class Listener:
    """Hears how a batch goes; the methods do nothing unless overridden. They may be called from several threads."""

    def note(self, text: str) -> None:
        """Something worth saying once."""

    def stage(self, job: Job, stage: str, share: float) -> None:
        """A stage of a job stands at this share, 0..1."""

    def result(self, result: Result) -> None:
        """A clip is through."""


def run(plan: Plan, load: Callable[[], Model], *, listener: Listener | None = None, cache: Any = None) -> Summary:
    """Carry a plan out. The plan's problems are counted and noted in the ledger, but not told to the listener again.

    Args:
        plan: from `plan`.
        load: gives the model; called once.
        listener: hears how it goes.
        cache: an `EmbeddingCache`; by default the one in the user's cache folder.

    Raises:
        EnvironmentProblem: the weights are missing or damaged.
        Interrupted: stopped by the user; finished clips stay.
    """
    if not plan.jobs:
        return Summary(plan.problems, unscorable=True)
    return _Run(plan, listener or Listener(), cache).carry_out(load)


def artefact_digests(job: Job, plan: Plan, model: Model) -> tuple[str, str]:
    """(digest of the cue's tokens, digest of the finished result): all that decides each, names and places aside."""
    recipe = plan.recipe.hashed_fields()
    cue = {
        "clip": job.content,
        "seen": job.streams,  # "streams" are the recipe's names
        "watched": list(plan.streams.names),
        "model": model.digest,
        "adapter": model.adapter_name,
        "prompt": job.prompt,
        "seed": job.seed,
        **{key: recipe.pop(key) for key in plan.recipe.cue_fields()},
    }
    tokens = artefact.artefact_digest({"cue": cue})
    return tokens, artefact.artefact_digest({"tokens": tokens, "codec": model.codec.digest, "recipe": recipe})


class _Run:
    """One run of a plan; holds what its threads share."""

    model: Model
    ledger: Ledger
    digests: dict[str, tuple[str, str]]
    notes: tuple[str, ...]

    def __init__(self, plan: Plan, listener: Listener, cache: Any):
        self.plan, self.listener, self.cache = plan, listener, cache
        self.store = CueStore(cache_root() / "cues")
        self.results: dict[str, Result] = {}
        self.stop = threading.Event()
        if cache is None and plan.streams.names:
            from expotion_cli.vision.cache import EmbeddingCache

            self.cache = EmbeddingCache()

    def carry_out(self, load: Callable[[], Model]) -> Summary:
        started = time.monotonic()
        looking = ThreadPoolExecutor(1, thread_name_prefix="look")
        finishing = ThreadPoolExecutor(1, thread_name_prefix="finish")
        try:
            # Looking takes as long as loading the model does, so it begins at once where a result is surely missing.
            fresh = [job for job in self.plan.jobs if self.plan.settings.overwrite or not job.destination.exists()]
            looks = {job.name: looking.submit(self._look, job) for job in fresh}
            self._take_up(load())
            pending = [job for job in self.plan.jobs if not self._already(job)]
            looks |= {job.name: looking.submit(self._look, job) for job in pending if job.name not in looks}
            finished: list[Future] = []
            for group in _groups(pending, self.plan.settings.batch_size, self.model):
                for job, cue in self._compose(group, looks):
                    finished.append(finishing.submit(self._finish, job, cue))
            for future in finished:
                future.result()
        except KeyboardInterrupt:
            self.stop.set()
            if hasattr(self, "ledger"):
                self.ledger.write("interrupted", left=len(self.plan.jobs) - len(self.results))
            raise Interrupted(
                f"stopped; {len(self.results)} of {len(self.plan.jobs)} clips are done.",
                remedy="Run the same command again to go on where it stopped.",
            ) from None
        finally:
            self.stop.set()
            looking.shutdown(wait=True, cancel_futures=True)
            finishing.shutdown(wait=True, cancel_futures=True)
        results = (*self.plan.problems, *(self.results[job.name] for job in self.plan.jobs))
        return Summary(results, round(time.monotonic() - started, 3))

    def _take_up(self, model: Model) -> None:
        """The first moment the output folder is touched: now it is known that everything needed is here."""
        check_writable(self.plan.settings.out)
        self.model = model
        unheard = unheard_streams(model, self.plan.streams, self.plan.recipe)
        for note in unheard:
            self.listener.note(note)
        self.notes = (*self.plan.streams.remarks, *unheard)
        self.ledger = Ledger(self.plan.settings.out / "ledger.jsonl")
        self.digests = {job.name: artefact_digests(job, self.plan, model) for job in self.plan.jobs}
        for problem in self.plan.problems:
            self.ledger.write("failed", clip=problem.name, reason=str(problem.error))

    def _already(self, job: Job) -> bool:
        digest = self.digests[job.name][1]
        if self.plan.settings.overwrite:
            return False
        if artefact.is_done(job.destination, digest, midi=self.plan.settings.midi):
            if not self.ledger.knows(digest):
                self.ledger.write("already", clip=job.name, artefact=digest)
            sidecar = artefact.read_sidecar(job.destination)
            self._settle(Result(job.name, "already", job.destination, sidecar=sidecar))
            return True
        foreign = (
            job.destination.exists()
            and artefact.read_sidecar(job.destination) is None
            and not self.ledger.began(str(job.destination.relative_to(self.plan.settings.out)))
        )
        if foreign:
            self._fail(
                job,
                OutputError(
                    "this file was not made by expotion.", path=job.destination, remedy="Move it, or pass --overwrite."
                ),
            )
        return foreign

    def _look(self, job: Job) -> ladder.Seen:
        """What the encoders see in a clip. Runs in the looking thread."""

        def progress(share: float) -> None:
            if self.stop.is_set():
                raise Interrupted("stopped")
            self.listener.stage(job, "look", share)

        progress(0.0)
        seen = ladder.see(job.clip, self.plan.streams.sources, cache=self.cache, on_progress=progress)
        self.listener.stage(job, "look", 1.0)
        return seen

    def _compose(self, group: Sequence[Job], looks: Mapping[str, Future]) -> Iterator[tuple[Job, StoredCue]]:
        """Cues of a group as they get ready: stored ones first, then those generated together."""
        waiting: list[tuple[Job, Any, dict[str, Any]]] = []
        for job in group:
            stored = None if self.plan.settings.overwrite else self.store.get(self.digests[job.name][0])
            if stored is not None:
                looks[job.name].cancel()
                yield job, stored
                continue
            with self._guard(job):
                seen = looks[job.name].result()
                request, tempo = ladder.compose_request(
                    self.model, seen, job.clip.duration, self.plan.recipe, prompt=job.prompt, seed=job.seed
                )
                notes = {
                    "tempo": ladder.tempo_record(tempo),
                    "streams": list(seen.reports),
                    "left_out": list(self.plan.streams.notes),
                    "notes": [*seen.notes, *unseen_in_clip(self.model, self.plan.streams, seen.streams)],
                    "stages_s": {"look": seen.duration_s},
                }
                waiting.append((job, request, notes))
        if not waiting:
            return
        watch = time.monotonic()
        jobs = [job for job, _, _ in waiting]
        try:
            generated = self.model.generate(
                [request for _, request, _ in waiting],
                batch_size=self.plan.settings.batch_size,
                on_progress=lambda done, total: [self.listener.stage(job, "compose", done / total) for job in jobs],
            )
            for index, tokens in generated:
                job, _, notes = waiting[index]
                notes["stages_s"]["compose"] = round(time.monotonic() - watch, 3)
                notes["composed_together"] = len(waiting)
                cue = StoredCue(tokens, notes)
                self.store.put(self.digests[job.name][0], cue)
                jobs.remove(job)
                yield job, cue
        except Exception as error:  # what breaks the generation of a group must not end the batch
            for job in list(jobs):
                with self._guard(job):
                    raise error

    def _finish(self, job: Job, cue: StoredCue) -> None:
        """Tokens → music → scored video → sidecar. Runs in the finishing thread."""
        if self.stop.is_set():
            return
        with self._guard(job):
            settings, recipe = self.plan.settings, self.plan.recipe
            digest = self.digests[job.name][1]
            watch = ladder.Stopwatch()
            self.listener.stage(job, "render", 0.0)
            timeline = ladder.cue_timeline(self.model, job.clip.duration, cue.notes["tempo"])
            score = ladder.render(self.model, cue.tokens, timeline, recipe, seed=job.seed)
            watch.lap("render")
            self.listener.stage(job, "encode", 0.0)
            relative = str(job.destination.relative_to(settings.out))
            self.ledger.write("begin", clip=job.name, output=relative, artefact=digest)
            artefact.remove_leftovers(job.destination)
            midi = artefact.midi_path(job.destination)
            if settings.midi and score.midi is not None:
                write_bytes(midi, score.midi)
            elif (artefact.read_sidecar(job.destination) or {}).get("midi"):
                midi.unlink(missing_ok=True)  # it belongs to a result that is about to be replaced
            report = ladder.finish(job.clip, score, recipe, job.destination, tags=_tags(job, recipe, self.model))
            watch.lap("encode")
            sidecar = ladder.describe(
                self.model,
                recipe,
                job.clip,
                cue.notes,
                report,
                prompt=job.prompt,
                seed=job.seed,
                stages_s=watch.stages,
                run_notes=self.notes,
            )
            sidecar |= {
                "artefact": digest,
                "clip": {"file": job.name, "sha256": job.content, **sidecar["clip"]},
                "output": {**artefact.file_record(job.destination), **sidecar["output"]},
                "midi": artefact.file_record(midi) if settings.midi and score.midi is not None else None,
                "has_midi": score.midi is not None,
            }
            artefact.write_sidecar(job.destination, sidecar)
            self.ledger.write("scored", clip=job.name, output=relative, artefact=digest, seed=job.seed)
            self._settle(Result(job.name, "scored", job.destination, sidecar=sidecar))

    @contextlib.contextmanager
    def _guard(self, job: Job) -> Iterator[None]:
        """One bad clip never hurts the others: whatever goes wrong inside is this clip's failure."""
        try:
            yield
        except Interrupted:
            pass
        except ExpotionError as error:
            self._fail(job, error)
        except OSError as error:
            self._fail(job, OutputError(f"{error.strerror or error}.", path=error.filename or job.clip.path))
        except Exception as error:
            reason = f"unexpected {type(error).__name__}: {error}. The ledger holds the details."
            self._fail(job, ExpotionError(reason, path=job.clip.path), details=traceback.format_exc())

    def _fail(self, job: Job, error: ExpotionError, details: str | None = None) -> None:
        extra = {"details": details} if details else {}
        with contextlib.suppress(OSError):  # a full disk must not hide the reason
            self.ledger.write("failed", clip=job.name, reason=str(error), **extra)
        self._settle(Result(job.name, "failed", error=error))

    def _settle(self, result: Result) -> None:
        self.results[result.name] = result
        self.listener.result(result)


def _tags(job: Job, recipe: Recipe, model: Model) -> dict[str, str]:
    if "comment" in {key.lower() for key in job.clip.tags}:
        return {}  # the clip's own comment stays
    return {"comment": f"Music: expotion, recipe {recipe.name}, model {model.name}, seed {job.seed}"}


def _groups(jobs: Sequence[Job], batch_size: int | str, model: Model) -> Iterable[Sequence[Job]]:
    size = GPU_GROUP if str(model.device).startswith("cuda") else GROUP
    if batch_size != "auto":
        size = max(size, int(batch_size))
    return (jobs[start : start + size] for start in range(0, len(jobs), size))
