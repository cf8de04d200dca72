"""Where rungs of the ladder run: at once, in threads beside the caller, in processes; machines can come in here.

A batch only knows `Executor`. It hands over whole rungs (a function of a module and plain arguments) and waits for
futures, so an executor may send them to other processes, devices or machines.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Progress = Callable[[float], None]
"""Called with the share that is done, 0..1."""


@dataclass(frozen=True, eq=False)
class Task:
    """A rung with all that whoever runs it needs to know.

    Attributes:
        stage: the rung's name ("probe", "see", "compose", "render", "finish").
        call: the rung and its arguments.
        path: the clip at work, which failures of the executor's own name; or None.
        limit_s: seconds it may take where it can be stopped; None for any time.
        on_progress: the rung is given one like it, and what it tells arrives here; or None.
        outcome: settled in the end.
    """

    stage: str
    call: tuple[Callable[..., Any], tuple[Any, ...]]
    path: Path | None
    limit_s: float | None
    on_progress: Progress | None
    outcome: Future[Any] = field(default_factory=Future)

    def run_here(self) -> None:
        """Run the rung in this thread, and settle its outcome."""
        if not self.outcome.set_running_or_notify_cancel():
            return
        rung, arguments = self.call
        try:
            told = {} if self.on_progress is None else {"on_progress": self.on_progress}
            self.outcome.set_result(rung(*arguments, **told))
        except BaseException as error:
            self.outcome.set_exception(error)
            if not isinstance(error, Exception):
                raise


class Executor(ABC):
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
            stage: see `Task`; rungs of one stage begin in the order in which they were submitted.
            rung: what to call.
            arguments: for it.
            path: see `Task`.
            limit_s: see `Task`.
            on_progress: see `Task`.

        Returns:
            Its outcome, which may be waited for or, until it begins, cancelled; it is, once the executor is closed.
        """
        task = Task(stage, (rung, arguments), path, limit_s, on_progress)
        self.start(task)
        return task.outcome

    @abstractmethod
    def start(self, task: Task) -> None:
        """Have a task run, or cancel its outcome if the executor is closed."""

    @abstractmethod
    def close(self) -> None:
        """Cancel what has not begun; wait for what has, or end it."""


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


class ThreadExecutor(Executor):
    """Threads of this process: a stage has lanes of its own, so that seeing never waits for finishing.

    Nothing here survives a crash of a library or can be stopped in the middle (`workers.ProcessExecutor` can).

    Args:
        lanes: stage → how many of its rungs run at a time; stages not named here have one lane.
    """

    def __init__(self, lanes: Mapping[str, int] | None = None):
        self._lanes = dict(lanes or {})
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._lock = threading.Lock()
        self._closed = False

    def start(self, task: Task) -> None:
        """See `Executor`."""
        with self._lock:
            if self._closed:
                task.outcome.cancel()
                return
            if task.stage not in self._pools:
                lanes = self._lanes.get(task.stage, 1)
                self._pools[task.stage] = ThreadPoolExecutor(lanes, thread_name_prefix=task.stage)
            running = self._pools[task.stage].submit(task.run_here)
        running.add_done_callback(lambda ended: task.outcome.cancel() if ended.cancelled() else None)

    def close(self) -> None:
        """See `Executor`."""
        with self._lock:
            self._closed = True
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)


class InlineExecutor(Executor):
    """Runs each rung at once, in the caller's own thread: for single clips, tests and debuggers."""

    def start(self, task: Task) -> None:
        """See `Executor`."""
        task.run_here()

    def close(self) -> None:
        """See `Executor`."""
