"""Clips of a batch being seen, each once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from expotion_cli.errors import Interrupted
from expotion_cli.scoring import ladder
from expotion_cli.scoring.account import Account
from expotion_cli.scoring.executors import Executor
from expotion_cli.scoring.plan import Job, Plan

if TYPE_CHECKING:
    from expotion_cli.vision.cache import EmbeddingCache


class Seeing:
    """Clips being seen, each once."""

    def __init__(self, plan: Plan, executor: Executor, account: Account, cache: EmbeddingCache | None):
        if cache is None and plan.streams.names:
            from expotion_cli.vision.cache import EmbeddingCache

            cache = EmbeddingCache()
        self._plan, self._executor, self._account, self._cache = plan, executor, account, cache
        self._seen: dict[str, Future[ladder.Seen]] = {}

    def begin(self, jobs: Sequence[Job]) -> None:
        """Have these clips seen, in this order, unless that has begun already."""
        for job in jobs:
            if job.name not in self._seen:
                self._seen[job.name] = self._executor.submit(
                    "see",
                    partial(ladder.see, cache=self._cache),
                    job.clip,
                    self._plan.streams.sources,
                    path=job.clip.path,
                    limit_s=self._plan.settings.limit_s(job.clip.duration),
                    on_progress=partial(self._told, job),
                )

    def result(self, job: Job) -> ladder.Seen:
        """What was seen of a clip, as soon as it is there. It is handed over: a long batch can't keep it all."""
        return self._seen.pop(job.name).result()

    def cancel(self, job: Job) -> None:
        """Nobody needs to see this clip."""
        if job.name in self._seen:
            self._seen[job.name].cancel()

    def _told(self, job: Job, share: float) -> None:
        if self._account.stop.is_set():
            raise Interrupted("stopped")
        self._account.listener.stage(job, "see", share)
