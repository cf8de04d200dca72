"""Where rungs of the ladder run: at once, or in threads beside the caller; other machines can come in here.

A batch only knows the protocol. It hands over whole rungs (a function and its arguments) and waits for futures, so an
executor may as well send them to other processes, devices or machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Executor(Protocol):
    """Runs rungs of many clips."""

    def submit(self, stage: str, rung: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have a rung run with these arguments.

        Args:
            stage: the rung's name ("see", "finish"); rungs of one stage begin in the order they were submitted.
            rung: what to call.
            arguments: for it.

        Returns:
            Its outcome, which may be waited for or, until it begins, cancelled.
        """
        ...

    def close(self) -> None:
        """Cancel what has not begun and wait for what has."""
        ...


class ThreadExecutor:
    """Threads of this process: a stage has lanes of its own, so that seeing never waits for finishing.

    Args:
        lanes: stage → how many of its rungs run at a time; stages not named here have one lane.
    """

    def __init__(self, lanes: Mapping[str, int] | None = None):
        self._lanes = dict(lanes or {})
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def submit(self, stage: str, rung: Callable[..., T], *arguments: Any) -> Future[T]:
        """See `Executor`."""
        if stage not in self._pools:
            self._pools[stage] = ThreadPoolExecutor(self._lanes.get(stage, 1), thread_name_prefix=stage)
        return self._pools[stage].submit(rung, *arguments)

    def close(self) -> None:
        """See `Executor`."""
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


class InlineExecutor:
    """Runs each rung at once, in the caller's own thread: for single clips, tests and debuggers."""

    def submit(self, stage: str, rung: Callable[..., T], *arguments: Any) -> Future[T]:
        """See `Executor`."""
        outcome: Future[T] = Future()
        try:
            outcome.set_result(rung(*arguments))
        except Exception as error:
            outcome.set_exception(error)
        return outcome

    def close(self) -> None:
        """See `Executor`."""
