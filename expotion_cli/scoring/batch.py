"""Many clips: plan → run → ledger.

Planning probes everything and loads nothing. A run first settles what is there already; only if something is left is
the model loaded, while the first clips are already being seen. Cues are composed many at a time, and finished clips are
mixed and remuxed beside that. Whatever is done stays done: a rerun takes up where a kill left off.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli import brief
from expotion_cli.errors import Interrupted
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import extras, group, marking, redo, sidecar
from expotion_cli.scoring.account import Account, Listener, Summary
from expotion_cli.scoring.composers import FOUND, Composer, LocalComposer, Playing
from expotion_cli.scoring.cue_store import CueStore, StoredCue
from expotion_cli.scoring.executors import Executor, ThreadExecutor
from expotion_cli.scoring.finishing import finish_clip
from expotion_cli.scoring.group import Order
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.ladder import Seen
from expotion_cli.scoring.plan import Job, Plan, Result, all_prompts
from expotion_cli.scoring.queue import Queue
from expotion_cli.scoring.redo import Base
from expotion_cli.scoring.seeing import Seeing
from expotion_cli.scoring.streams import missing_in_clip
from expotion_cli.spotting.plan_file import from_record
from expotion_cli.storage import atomic_path, cache_root, cache_trouble, write_bytes

if TYPE_CHECKING:
    from expotion_cli.music.model import Model
    from expotion_cli.vision.cache import EmbeddingCache


def run(
    plan: Plan,
    load: Callable[[], Model | Sequence[Composer]],
    *,
    identity: ModelIdentity | None = None,
    listener: Listener | None = None,
    cache: EmbeddingCache | None = None,
    executor: Executor | None = None,
    keep_open: bool = False,
) -> Summary:
    """Carry a plan out. The plan's problems are counted and noted in the ledger, but not told to the listener again.

    Args:
        plan: from `plan`.
        load: gives the model, or several composers that share the work; called once, and only if something is left.
        identity: the model's, where it is known without loading it.
        listener: told how it goes.
        cache: keeps embedding streams; by default the one in the user's cache folder.
        executor: where clips are seen and finished; by default threads of this process. It is closed in the end.
        keep_open: leave executor and composers open, for another plan, if the run isn't stopped.

    Raises:
        EnvironmentProblem: the weights are missing or damaged.
        Interrupted: stopped by the user; finished clips stay.
    """
    listener, executor = listener or Listener(), executor or ThreadExecutor()
    started = time.monotonic()
    account = Account(plan, listener)
    queue = Queue(account)
    composers: Sequence[Composer] = ()
    try:
        if not plan.jobs:
            return Summary(plan.problems, unscorable=True)
        with _interruptible(account):
            if identity is not None and account.settle_done(identity):
                return account.summary(started)
            account.tell_of_cache(cache_trouble())
            seeing = Seeing(plan, executor, account, cache)
            seeing.begin(account.bring(account.surely_missing())[: group.GROUP])
            loaded = load()
            composers = loaded if isinstance(loaded, Sequence) else (LocalComposer(loaded),)
            actual = composers[0].identity
            if actual != identity:
                account.settle_done(actual)
            account.bring(account.pending())
            if account.pending():
                if plan.settings.midi and not actual.follows_tempo:
                    account.note([f"no MIDI files: {actual.name} makes sound, not notes"])
                if plan.settings.extras.stems and not actual.follows_tempo:
                    account.note([f"no stems: {actual.name} makes sound, not notes"])
                account.note(composers[0].check(plan.recipe, all_prompts(account.pending(), plan.settings)))
            runs = [_Run(plan, composer, account, queue, seeing, executor, len(composers)) for composer in composers]
            _climb_all(runs)
            return account.summary(started)
    except BaseException:
        keep_open = False
        raise
    finally:
        account.stop.set()
        if not keep_open:
            for composer in composers:
                composer.close()
            executor.close()
        queue.close()
        account.hints.settle()


@contextlib.contextmanager
def _interruptible(account: Account) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        account.stop.set()
        done, total = len(account.results), len(account.plan.jobs)
        if account.ledger is not None:
            account.ledger.write("interrupted", left=total - done)
        raise Interrupted(
            f"stopped; {done} of {total} clips are done.",
            remedy="Run the same command again to go on where it stopped.",
        ) from None


def _climb_all(runs: Sequence[_Run]) -> None:
    """Have all composers work on what is left, until nothing is."""
    if len(runs) == 1:
        runs[0].climb()
        return
    with ThreadPoolExecutor(len(runs), thread_name_prefix="compose") as pool:
        climbing = [pool.submit(run.climb) for run in runs]
        try:
            for future in climbing:
                future.result()
        except BaseException:
            runs[0].account.stop.set()
            for run in runs:
                run.composer.close()  # nobody waits for what it is at
            raise


@dataclass(frozen=True)
class _Run:
    """A run with its composer at hand.

    Attributes:
        plan: what is carried out.
        composer: composes and plays.
        account: what is done and what is not.
        queue: clips that are left, leased to this process group by group.
        seeing: clips being seen.
        executor: where clips are seen and finished.
        sharers: number of composers that share the work.
    """

    plan: Plan
    composer: Composer
    account: Account
    queue: Queue
    seeing: Seeing
    executor: Executor
    sharers: int = 1

    @property
    def identity(self) -> ModelIdentity:
        """The model's."""
        return self.composer.identity

    def climb(self) -> None:
        """See, spot, compose, render and finish all clips that are left."""
        store = CueStore(cache_root() / "cues")
        finishing: list[Future[None]] = []
        jobs = self._take()
        while True:
            self.seeing.begin([job for job in jobs if not self._has_cue(store, job)])
            # The next group is seen while this one is composed.
            following = self._take()
            self.seeing.begin([job for job in following if not self._has_cue(store, job)])
            self._climb_together(jobs, store, finishing)
            jobs = following
            if not jobs:
                for future in finishing:
                    future.result()
                pending = self.account.pending()
                jobs = self.queue.wait(pending, self._group_size(len(pending)))
                if not jobs:
                    return

    def _take(self) -> list[Job]:
        pending = self.account.pending()
        return self.queue.take(pending, self._group_size(len(pending)))

    def _group_size(self, left: int) -> int:
        """Clips to take next: the fewer are left, the fewer, so that several composers end at about the same time."""
        size = group.size_of(self.identity.device, self.plan.settings.batch_size)
        return size if self.sharers == 1 else max(1, min(size, left // (2 * self.sharers)))

    def _climb_together(self, jobs: Sequence[Job], store: CueStore, finishing: list[Future[None]]) -> None:
        missing = []
        for job in jobs:
            cue = store.get(self.account.course(job).cues[-1]) if self._has_cue(store, job) else None
            if cue is None:
                missing.append(job)
            else:
                self.seeing.cancel(job)
                finishing.append(self.executor.submit("render", self._finish, job, cue))
        self.seeing.begin(missing)  # again, if a stored cue turned out to be damaged
        for job, cue in self._compose(missing, store):
            finishing.append(self.executor.submit("render", self._finish, job, cue))

    def _has_cue(self, store: CueStore, job: Job) -> bool:
        return not self.plan.settings.overwrite and store.has(self.account.course(job).cues[-1])

    def _compose(self, jobs: Sequence[Job], store: CueStore) -> Iterator[tuple[Job, StoredCue]]:
        """Cues of a group as they get ready. What is redone builds on the cue before, which may have to be made too."""
        see = {job.name: functools.cache(partial(self.seeing.result, job)) for job in jobs}
        left = [(job, redo.kept_base(self.account.course(job), store.get)) for job in jobs]
        while left:
            following: list[tuple[Job, Base | None]] = []
            for job, cue in self._compose_step(left, see, store):
                way = self.account.course(job)
                done = len(redo.steps_of(cue.notes))
                if done == len(way.steps):
                    yield job, cue
                    continue
                with guard(job.clip.path, partial(self.account.fail, job)):
                    if done == way.num_made:
                        way.check(cue.tokens, job.clip.path)
                    following.append((job, Base(cue.tokens, cue.notes, way.steps[done])))
            left = following

    def _compose_step(
        self, jobs: Sequence[tuple[Job, Base | None]], see: Mapping[str, Callable[[], Seen]], store: CueStore
    ) -> Iterator[tuple[Job, StoredCue]]:
        orders = [
            Order(
                job.clip,
                self.plan.recipe,
                job.prompt,
                job.seed,
                see=see[job.name],
                plan=job.given.plan,
                user_hits=job.given.hits,
                base=base,
                key=job,
            )
            for job, base in jobs
        ]
        cues = self.composer.compose(
            orders,
            failed=lambda order, error: self.account.fail(order.key, error),
            batch_size=self.plan.settings.batch_size,
            on_progress=self._composing,
        )
        for order, cue in cues:
            job: Job = order.key
            notes = dict(cue.notes)
            missing = missing_in_clip(self.identity, self.plan.streams, notes.pop(FOUND), self.plan.recipe)
            notes |= {
                "left_out": list(self.plan.streams.notes),
                "notes": [*notes["notes"], *missing, *self._said(job)],
            }
            with guard(job.clip.path, partial(self.account.fail, job)):
                kept = StoredCue(cue.tokens, notes)
                store.put(self.account.course(job).cues[len(redo.steps_of(notes))], kept)
                self.account.tell_of_cache(store.trouble)
                self.account.passed(job, notes["stages_s"])
                yield job, kept

    def _said(self, job: Job) -> tuple[str, ...]:
        return brief.read(job.prompt, self.plan.recipe).notes if self.identity.follows_tempo else ()

    def _composing(self, orders: Sequence[Order], share: float) -> None:
        for order in orders:
            self.account.listener.stage(order.key, "compose", share)

    def _finish(self, job: Job, cue: StoredCue) -> None:
        """Tokens → music → scored video → sidecar."""
        if self.account.stop.is_set():
            return
        with guard(job.clip.path, partial(self.account.fail, job)):
            settings, recipe = self.plan.settings, self.plan.recipe
            listener, ledger = self.account.listener, self.account.open()
            digest = self.account.course(job).result
            listener.stage(job, "render", 0.0)
            plan = from_record(cue.notes["plan"], job.clip.duration, is_given=False)
            leftover = sidecar.sound_files(job.destination)
            wanted = settings.extras if settings.redo is None else settings.extras.and_those(leftover)
            playing = Playing(job.clip.duration, recipe, job.seed, job.prompt, stems=bool(wanted.stems))
            played = self.composer.play(cue, playing)
            score, stages_s = played.score, dict(played.stages_s)
            self.account.passed(job, stages_s)
            listener.stage(job, "follow", 1.0)
            listener.stage(job, "finish", 0.0)
            relative = self.account.relative(job)
            ledger.write("begin", **self.account.so_far(job), output=relative, artefact=digest)
            midi = sidecar.midi_path(job.destination)
            with (
                _timed(stages_s, "finish"),
                _cleared(job.destination),
                atomic_path(job.destination) as video,
                extras.workspace(job.destination, wanted) as folder,
            ):
                finishing = self.executor.submit(
                    "finish",
                    finish_clip,
                    job.clip,
                    job.content,
                    replace(score, midi=None),
                    recipe,
                    video,
                    plan,
                    _tags(job, recipe, self.identity),
                    wanted,
                    folder,
                    path=job.clip.path,
                    limit_s=settings.limit_s(job.clip.duration),
                )
                try:
                    finished = finishing.result()
                except CancelledError:
                    raise Interrupted("stopped") from None
                self.queue.check(job)
                sound_files = extras.settle(folder, job.destination, finished.written, leftover)
                had_midi = sidecar.matches(midi, (sidecar.read_sidecar(job.destination) or {}).get("midi"))
                wants_midi = score.midi is not None and (settings.midi or (had_midi and settings.redo is not None))
                if score.midi is not None and wants_midi:
                    write_bytes(midi, score.midi)
                elif had_midi:
                    midi.unlink(missing_ok=True)  # it belongs to a result that is about to be replaced
                facts = sidecar.followed(
                    plan, job.given.plan_file, score.answers, has_beats=self.identity.follows_tempo
                )
                choice = settings.markers
                if settings.redo is not None:  # the plan stays, and so do its markers
                    choice = marking.as_before(job.destination, choice)
                marked = marking.mark_anew(job.clip, job.destination, facts, choice, self.plan.files)
            report = finished.report
            said = sidecar.describe(
                self.identity,
                recipe,
                job.clip,
                cue.notes,
                report,
                prompt=job.prompt,
                seed=job.seed,
                stages_s=stages_s,
                run_notes=self.account.notes,
            )
            output = {"file": job.destination.name, "bytes": finished.num_bytes, "sha256": finished.sha256}
            said |= {
                "measured": finished.measured,
                "artefact": digest,
                **score.orchestration,
                "clip": {"file": job.name, "sha256": job.content, **said["clip"]},
                "output": {**output, **said["output"]},
                **facts,
                **({"markers": marked} if marked else {}),
                "midi": sidecar.file_record(midi) if wants_midi else None,
                "has_midi": score.midi is not None,
                **redo.described(cue),
                **sound_files,
            }
            sidecar.write_sidecar(job.destination, said)
            self.account.hints.expect(job.destination, finished.sha256)
            self.account.hints.settle()
            self.plan.files.deliver(job.destination, said)
            self.account.passed(job, {"finish": stages_s["finish"]})
            ledger.write(
                "scored",
                **self.account.so_far(job),
                outcome="scored",
                output=relative,
                artefact=digest,
                seed=job.seed,
                output_bytes=finished.num_bytes,
                output_sha256=finished.sha256,
                **self.account.outlook(job),
            )
            self.account.settle(job, Result(job.name, "scored", job.destination, sidecar=said))


@contextlib.contextmanager
def _cleared(destination: Path) -> Iterator[None]:
    """Nothing of an earlier attempt lies beside this result, and nothing of this one's: a worker may have been lost."""
    sidecar.remove_leftovers(destination)
    try:
        yield
    finally:
        sidecar.remove_leftovers(destination)


@contextlib.contextmanager
def _timed(stages_s: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long the inside took, in seconds."""
    started = time.monotonic()
    yield
    stages_s[stage] = round(time.monotonic() - started, 3)


def _tags(job: Job, recipe: Recipe, identity: ModelIdentity) -> Mapping[str, Any]:
    if "comment" in {key.lower() for key in job.clip.tags}:
        return {}  # the clip's own comment stays
    return {"comment": f"Music: expotion, recipe {recipe.name}, model {identity.name}, seed {job.seed}"}
