"""Where rungs of the ladder run: at once, in threads beside the caller, in processes; machines can come in here.

A batch only knows the protocol. It hands over whole rungs (a function of a module and plain arguments) and waits for
futures, so an executor may send them to other processes, devices or machines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Progress = Callable[[float], None]
"""Called with the share that is done, 0..1."""


class Executor(Protocol):
    """Runs rungs of many clips."""

    def submit(
        self,
        stage: str,
        rung: Callable[..., T],
        *arguments: Any,
        path: Path | None = None,
        limit_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> Future[T]:
        """Have a rung run with these arguments.

        Args:
            stage: the rung's name ("probe", "see", "finish"); rungs of one stage begin in the order in which they were
                submitted.
            rung: what to call.
            arguments: for it.
            path: the clip at work, which failures of the executor's own name.
            limit_s: seconds it may take where it can be stopped; None for any time.
            on_progress: the rung is given one like it, and what it tells arrives here.

        Returns:
            Its outcome, which may be waited for or, until it begins, cancelled; it is, once the executor is closed.
        """
        ...

    def close(self) -> None:
        """Cancel what has not begun; wait for what has, or end it."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """A rung that waits or runs somewhere else.

    Attributes:
        stage: the rung's name.
        call: the rung and its arguments.
        path: the clip at work.
        limit_s: seconds it may take, or None.
        on_progress: told how far it is, or None.
        outcome: settled in the end.
    """

    stage: str
    call: tuple[Callable[..., Any], tuple[Any, ...]]
    path: Path | None
    limit_s: float | None
    on_progress: Progress | None
    outcome: Future[Any] = field(default_factory=Future)


def settle(outcome: Future[Any], is_done: bool, value: Any) -> None:
    """Settle an outcome, unless it was cancelled.

    Args:
        outcome: of a rung.
        is_done: whether the rung came to its end.
        value: its result, or else the exception.
    """
    if not outcome.set_running_or_notify_cancel():
        return
    if is_done:
        outcome.set_result(value)
    else:
        outcome.set_exception(value)


class ThreadExecutor:
    """Threads of this process: a stage has lanes of its own, so that seeing never waits for finishing.

    Nothing here survives a crash of a library or can be stopped in the middle (`processes.ProcessExecutor` can).

    Args:
        lanes: stage → how many of its rungs run at a time; stages not named here have one lane.
    """

    def __init__(self, lanes: Mapping[str, int] | None = None):
        self._lanes = dict(lanes or {})
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()
        self._closed = False

    def submit(
        self,
        stage: str,
        rung: Callable[..., T],
        *arguments: Any,
        path: Path | None = None,
        limit_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> Future[T]:
        """See `Executor`."""
        with self._lock:
            if self._closed:
                return _cancelled()
            if stage not in self._pools:
                self._pools[stage] = ThreadPoolExecutor(self._lanes.get(stage, 1), thread_name_prefix=stage)
            return self._pools[stage].submit(rung, *arguments, **_told(on_progress))

    def close(self) -> None:
        """See `Executor`."""
        with self._lock:
            self._closed = True
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


class InlineExecutor:
    """Runs each rung at once, in the caller's own thread: for single clips, tests and debuggers."""

    def submit(
        self,
        stage: str,
        rung: Callable[..., T],
        *arguments: Any,
        path: Path | None = None,
        limit_s: float | None = None,
        on_progress: Progress | None = None,
    ) -> Future[T]:
        """See `Executor`."""
        outcome: Future[T] = Future()
        try:
            outcome.set_result(rung(*arguments, **_told(on_progress)))
        except Exception as error:
            outcome.set_exception(error)
        return outcome

    def close(self) -> None:
        """See `Executor`."""


def _told(on_progress: Progress | None) -> dict[str, Progress]:
    return {} if on_progress is None else {"on_progress": on_progress}


def _cancelled() -> Future[Any]:
    outcome: Future[Any] = Future()
    outcome.cancel()
    return outcome
