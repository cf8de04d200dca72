"""Clips that are left to a run, leased to this process group by group, so that several processes share a folder."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from expotion_cli.errors import OutputError
from expotion_cli.scoring.leases import Leases

if TYPE_CHECKING:
    from expotion_cli.scoring.account import Account
    from expotion_cli.scoring.plan import Job

LOOK_AGAIN_S = 1.0


class Queue:
    """Hands out clips that nobody else works on.

    Args:
        account: knows what is done; told to give a lease back when a clip is through.
    """

    def __init__(self, account: Account):
        self._account = account
        self._leases = Leases(account.plan.settings.out)
        self._taken: set[str] = set()
        self._elsewhere: set[str] = set()
        self._told = False
        self._lock = threading.Lock()
        account.on_settled = self._release

    def take(self, jobs: Iterable[Job], size: int) -> list[Job]:
        """Lease up to so many clips that were not handed out before; those that others work on are passed over.

        Args:
            jobs: what is left, in order. What was handed out before is passed over, too.
            size: most clips to take.
        """
        return self._take([job for job in jobs if job.name not in self._elsewhere], size)

    def wait(self, jobs: Iterable[Job], size: int) -> list[Job]:
        """Wait for clips that other processes work on: they are settled when they are done, or else handed out here.

        Args:
            jobs: what is left. What was handed out here is passed over.
            size: most clips to take.

        Returns:
            At least one clip, or none if none of them is left.
        """
        left = [job for job in jobs if job.name in self._elsewhere]
        if not left:
            return []
        who = self._leases.holder(self._account.relative(left[0]))
        count = "1 clip is" if len(left) == 1 else f"{len(left)} clips are"
        with self._lock:
            told, self._told = self._told, True
        if not told:
            self._account.listener.note(f"{count} being scored by {who}; waiting for it")
        while left:
            if taken := self._take(left, size):
                return taken
            left = [job for job in left if job.name in self._elsewhere and job.name not in self._account.results]
            if left and self._account.stop.wait(LOOK_AGAIN_S):
                break
        return []

    def check(self, job: Job) -> None:
        """Make sure that a clip is still ours.

        Raises:
            OutputError: this process was stopped for so long that another one took the clip over.
        """
        if not self._leases.holds(self._account.relative(job)):
            raise OutputError(
                "another process took this clip over while this one was stopped.",
                path=job.clip.path,
                remedy="Run the same command again to see what became of it.",
            )

    def close(self) -> None:
        """Give everything back."""
        self._leases.close()

    def _take(self, jobs: Iterable[Job], size: int) -> list[Job]:
        taken: list[Job] = []
        with self._lock:
            for job in jobs:
                if len(taken) == size:
                    break
                if job.name in self._taken:
                    continue
                if not self._leases.take(self._account.relative(job)):
                    self._elsewhere.add(job.name)
                    continue
                self._taken.add(job.name)
                self._elsewhere.discard(job.name)
                if not self._account.settle_if_done(job):  # another process may have finished it since the last look
                    taken.append(job)
        return taken

    def _release(self, job: Job) -> None:
        self._leases.release(self._account.relative(job))
