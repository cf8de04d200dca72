"""A Ray cluster as an executor: clips are probed, seen and finished on its CPUs, cues composed on its GPUs.

Ray starts, feeds and restarts the processes; this module only bounds what is under way, so that memory stays bounded
too, and tells failures as the worker processes of one machine do. Input and output folders must be reachable under the
same path on all machines. (https://docs.ray.io, "Tasks" and "Actors")
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from expotion_cli.errors import ClipError, EnvironmentProblem, ExpotionError, MissingLibraryError, reason_of
from expotion_cli.scoring.composers import HostedComposer
from expotion_cli.scoring.executors import Executor, Task, ThreadExecutor, settle
from expotion_cli.scoring.workers import DOING, TRIES, run_rung

STAGES = ("finish", "probe", "see")
"""Stages that run on the cluster's CPUs, the most urgent first."""
AHEAD = 2
"""Rungs under way for each CPU: one runs, the next is being sent."""
KNOCK_S = 10.0
LOST = 4
"""How often a rung is tried again because its machine was lost."""


class RayCluster(Executor):
    """An executor on a Ray cluster.

    Args:
        address: of the cluster; None for one that Ray starts on this machine.

    Raises:
        MissingLibraryError: Ray is not installed.
    """

    def __init__(self, address: str | None = None):
        try:
            import ray
        except ImportError as error:
            raise MissingLibraryError("Ray is not installed.", remedy="Run: pip install 'expotion[ray]'") from error
        self._ray: Any = ray
        self._address = address
        self._threads = ThreadExecutor({"render": 4})
        self._lock = threading.RLock()
        self._waiting: dict[str, deque[Task]] = {stage: deque() for stage in STAGES}
        self._under_way = 0
        self._most = 0
        self._closed = False
        self._started_here = False

    def start(self, task: Task) -> None:
        """See `executors.Executor`. Progress is told at the end only."""
        if task.stage not in STAGES:
            self._threads.start(task)
            return
        self._connect()
        with self._lock:
            if self._closed:
                task.outcome.cancel()
                return
            self._waiting[task.stage].append(task)
        self._send()

    def close(self) -> None:
        """See `executors.Executor`; a cluster that was started for this run ends."""
        with self._lock:
            self._closed = True
            left = [task for tasks in self._waiting.values() for task in tasks]
            for tasks in self._waiting.values():
                tasks.clear()
        for task in left:
            task.outcome.cancel()
        self._threads.close()
        if self._started_here:
            self._ray.shutdown()

    def composers(self, arguments: Mapping[str, Any]) -> Sequence[HostedComposer]:
        """One composer for each GPU of the cluster; without GPUs, one for each machine.

        Args:
            arguments: of `music.load.load_model`.
        """
        self._connect()
        gpus = int(self._ray.cluster_resources().get("GPU", 0))
        count = gpus or sum(bool(node["Alive"]) for node in self._ray.nodes())
        return [HostedComposer(_Host(self._ray, 1 if gpus else 0), arguments) for _ in range(max(1, count))]

    def _connect(self) -> None:
        with self._lock:
            if self._most:
                return
            if not self._ray.is_initialized():
                try:
                    _look_for(self._address)
                    self._ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
                except (OSError, ValueError, RuntimeError) as error:
                    raise EnvironmentProblem(
                        f"the Ray cluster can't be reached ({reason_of(error)}).",
                        remedy="Check --ray-address, or start one: ray start --head",
                    ) from error
                self._started_here = True
            self._most = AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
            # What a crash or a lost machine ends is tried again by Ray; what a rung raises is a value (`run_rung`).
            self._run = self._ray.remote(num_cpus=1, max_retries=LOST)(run_rung)

    def _send(self) -> None:
        while True:
            with self._lock:
                waiting = next((tasks for tasks in self._waiting.values() if tasks), None)
                if self._closed or waiting is None or self._under_way >= self._most:
                    return
                task = waiting.popleft()
                if task.outcome.cancelled():
                    continue
                self._under_way += 1
            self._attempt(task, 1)

    def _attempt(self, task: Task, number: int) -> None:
        reference = self._run.remote(None, None, task.path, *task.call)
        timer = None
        if task.limit_s is not None:
            timer = threading.Timer(task.limit_s, partial(self._ray.cancel, reference, force=True))
            timer.daemon = True
            timer.start()
        reference.future().add_done_callback(partial(self._ended, task, number, timer))

    def _ended(self, task: Task, number: int, timer: threading.Timer | None, answer: Future[Any]) -> None:
        if timer is not None:
            timer.cancel()
        error = answer.exception()
        if error is not None and number < TRIES and not self._closed:
            self._attempt(task, number + 1)
            return
        with self._lock:
            self._under_way -= 1
        if error is not None:
            settle(task.outcome, False, why_it_ended(error, task.stage, task.path))
        else:
            is_done, value = answer.result()
            if is_done and task.on_progress is not None:
                task.on_progress(1.0)
            settle(task.outcome, is_done, value)
        self._send()


def _look_for(address: str | None) -> None:
    """Knock at a cluster's door, since Ray itself would wait minutes for nobody."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S):
            pass


class _Host(Executor):
    """A process of the cluster that keeps a model; Ray starts it anew, elsewhere if need be, when it is lost."""

    def __init__(self, ray: Any, num_gpus: int):
        # No processor is kept for it: on machines with a single one nothing would be left for the clips.
        keeper = ray.remote(num_cpus=0, num_gpus=num_gpus, max_restarts=-1, scheduling_strategy="SPREAD")
        self._ray = ray
        self._closed = False
        self._actor = keeper(_Keeper).remote()

    def start(self, task: Task) -> None:
        """See `executors.Executor`."""
        self._attempt(task, 1)

    def _attempt(self, task: Task, number: int) -> None:
        def ended(answer: Future[Any]) -> None:
            error = answer.exception()
            if error is None:
                settle(task.outcome, *answer.result())
            elif number <= LOST and not self._closed:
                # It is being started elsewhere, which takes a while.
                again = threading.Timer(2.0**number, self._attempt, (task, number + 1))
                again.daemon = True
                again.start()
            else:
                settle(task.outcome, False, why_it_ended(error, task.stage, task.path))

        self._actor.run.remote(*task.call).future().add_done_callback(ended)

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._ray.kill(self._actor)


class _Keeper:
    """What runs on the cluster: rungs, one after the other, in a process that keeps its model."""

    def run(self, rung: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """See `workers.run_rung`."""
        return run_rung(None, None, None, rung, arguments)


def why_it_ended(error: BaseException, stage: str, path: Path | None) -> ExpotionError:
    """What to tell of a rung that the cluster could not carry out.

    Args:
        error: what Ray raised.
        stage: of the rung.
        path: of the clip.
    """
    return ClipError(
        f"{DOING[stage]} failed on the cluster ({type(error).__name__}: {reason_of(error)}).",
        path=path,
        remedy="Run the same command again; if it is always this clip, convert or repair it.",
    )
