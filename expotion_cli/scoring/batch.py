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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from expotion_cli import brief
from expotion_cli.errors import Interrupted
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.scoring import group, redo
from expotion_cli.scoring.account import Account, Listener, Summary
from expotion_cli.scoring.composers import FOUND, Composer, LocalComposer
from expotion_cli.scoring.cue_store import CueStore, StoredCue
from expotion_cli.scoring.executors import Executor, ThreadExecutor
from expotion_cli.scoring.group import Order
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.ladder import Seen
from expotion_cli.scoring.plan import Job, Plan, all_prompts
from expotion_cli.scoring.queue import Queue
from expotion_cli.scoring.redo import Base
from expotion_cli.scoring.results import ResultWriter
from expotion_cli.scoring.seeing import Seeing
from expotion_cli.scoring.streams import missing_in_clip
from expotion_cli.storage import cache_root, cache_trouble

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

    @property
    def _writer(self) -> ResultWriter:
        return ResultWriter(self.plan, self.composer, self.account, self.queue, self.executor)

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
        missing: dict[str, tuple[StoredCue | None, ...]] = {}
        for job in jobs:
            # Takes are stored one by one: whoever asks for more of them composes only those that are not there yet.
            stored = tuple(None if self.plan.settings.overwrite else store.get(digest) for digest in self._wanted(job))
            if None in stored:
                missing[job.name] = stored
            else:
                self.seeing.cancel(job)
                finishing.append(self.executor.submit("render", self._writer.write, job, stored))
        left = [job for job in jobs if job.name in missing]
        self.seeing.begin(left)  # again, if a stored cue turned out to be damaged
        for job, cues in self._compose(left, missing, store):
            finishing.append(self.executor.submit("render", self._writer.write, job, cues))

    def _wanted(self, job: Job) -> tuple[str, ...]:
        """Digests of the cues that a result is made of: all takes, or the one some bars of which were redone."""
        way = self.account.course(job)
        return way.cues[-1:] if way.steps else self.account.digests[job.name].cues

    def _has_cue(self, store: CueStore, job: Job) -> bool:
        return not self.plan.settings.overwrite and all(map(store.has, self._wanted(job)))

    def _compose(
        self, jobs: Sequence[Job], stored: Mapping[str, Sequence[StoredCue | None]], store: CueStore
    ) -> Iterator[tuple[Job, tuple[StoredCue, ...]]]:
        """Cues of a group as they get ready: all takes of each, or the one that is redone.

        What is redone builds on the cue before, which may have to be made too.

        Args:
            jobs: whose cues are not all stored yet.
            stored: by job, each cue that is wanted, or None where it is to be composed.
            store: where they are kept.
        """
        see = {job.name: functools.cache(partial(self.seeing.result, job)) for job in jobs}
        left: list[tuple[Job, tuple[int, ...], Base | None]] = []
        for job in jobs:
            way = self.account.course(job)
            absent = tuple(number for number, cue in enumerate(stored[job.name]) if cue is None)
            base = redo.kept_base(way, store.get)
            left.append((job, (way.take - 1,) if way.steps else absent, base))
        while left:
            following: list[tuple[Job, tuple[int, ...], Base | None]] = []
            for job, numbers, cues in self._compose_step(left, see, store):
                way = self.account.course(job)
                done = len(redo.steps_of(cues[0].notes))
                if not way.steps:
                    fresh = dict(zip(numbers, cues, strict=True))
                    yield job, tuple(cue or fresh[number] for number, cue in enumerate(stored[job.name]))
                    continue
                if done == len(way.steps):
                    yield job, cues
                    continue
                with guard(job.clip.path, partial(self.account.fail, job)):
                    if done == way.num_made:
                        way.check(cues[0].tokens, job.clip.path)
                    following.append((job, numbers, Base(cues[0].tokens, cues[0].notes, way.steps[done])))
            left = following

    def _compose_step(
        self,
        jobs: Sequence[tuple[Job, tuple[int, ...], Base | None]],
        see: Mapping[str, Callable[[], Seen]],
        store: CueStore,
    ) -> Iterator[tuple[Job, tuple[int, ...], tuple[StoredCue, ...]]]:
        """Compose and store takes of cues, by their numbers from 0, or a redo of each."""
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
                take_numbers=numbers if base is None else (0,),  # a redo has a seed of its own
                key=(job, numbers),
            )
            for job, numbers, base in jobs
        ]
        composed = self.composer.compose(
            orders,
            failed=lambda order, error: self.account.fail(order.key[0], error),
            batch_size=self.plan.settings.batch_size,
            on_progress=self._composing,
        )
        for order, cues in composed:
            job, numbers = order.key
            notes = dict(cues[0].notes)
            missing = missing_in_clip(self.identity, self.plan.streams, notes.pop(FOUND), self.plan.recipe)
            notes |= {
                "left_out": list(self.plan.streams.notes),
                "notes": [*notes["notes"], *missing, *self._said(job)],
            }
            with guard(job.clip.path, partial(self.account.fail, job)):
                kept = tuple(StoredCue(cue.tokens, notes) for cue in cues)
                way, done = self.account.course(job), len(redo.steps_of(notes))
                places = [way.cues[done]] if done else [self.account.digests[job.name].cues[n] for n in numbers]
                for place, cue in zip(places, kept, strict=True):
                    store.put(place, cue)
                self.account.tell_of_cache(store.trouble)
                self.account.passed(job, notes["stages_s"])
                yield job, numbers, kept

    def _said(self, job: Job) -> tuple[str, ...]:
        return brief.read(job.prompt, self.plan.recipe).notes if self.identity.follows_tempo else ()

    def _composing(self, orders: Sequence[Order], share: float) -> None:
        for order in orders:
            self.account.listener.stage(order.key[0], "compose", share)
