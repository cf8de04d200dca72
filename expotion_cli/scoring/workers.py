"""Worker processes: files of strangers are opened there, so a crash or a runaway costs one clip and not the batch.

A worker keeps its libraries and encoders from clip to clip. A rung that ends its worker (a crash of a decoder, a limit
of memory or time) is tried once more in a fresh one; then it has failed. Rungs that finish a clip go before those that
begin one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from expotion_cli.errors import ClipError, ExpotionError
from expotion_cli.processes import beyond_interrupts, die_with_parent, ignore_interrupts, limit_memory, physical_memory
from expotion_cli.scoring.executors import Executor, Task, ThreadExecutor, settle
from expotion_cli.scoring.guard import as_failure

DOING = {
    "finish": "finishing it",
    "probe": "reading it",
    "see": "looking at its picture",
    "compose": "composing its music",
}
"""Stages that may run in workers, the most urgent first, as messages call them."""
LIMITED = ("probe", "see")
"""Stages whose memory is limited: finishing holds the whole cue, and composing the model."""
TRIES = 2
MEMORY_BYTES = 8 << 30
"""Most that a worker may hold, on machines with twice as much."""
POLL_S = 0.1  # between two looks at how far a rung is, and whether it is still wanted
JOIN_S = 5.0
GIB = 1 << 30


def clip_workers(seeing: int = 1, *, memory_bytes: int | None = None) -> ProcessExecutor:
    """Worker processes for all that opens a clip.

    Args:
        seeing: clips seen at a time; one process more finishes clips meanwhile.
        memory_bytes: most that one worker may hold.
    """
    lanes = {"finish": max(1, seeing // 2), "probe": seeing + 1, "see": seeing}
    return ProcessExecutor(lanes, seeing + 1, memory_bytes=memory_bytes)


class ProcessExecutor(Executor):
    """Runs some stages in worker processes, others in threads.

    Args:
        lanes: stage → how many of its rungs run in workers at a time; the other stages run in threads here.
        size: number of workers; they are started when there is something to do.
        memory_bytes: most that one worker may hold (`LIMITED`); by default `MEMORY_BYTES` or half of the machine's
            memory.
    """

    def __init__(self, lanes: Mapping[str, int], size: int, *, memory_bytes: int | None = None):
        assert lanes.keys() <= DOING.keys(), lanes
        self._memory_bytes = memory_bytes
        self._lanes = {stage: lanes[stage] for stage in DOING if stage in lanes}
        self._size = size
        self._threads = ThreadExecutor({"render": size})
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Task]] = {stage: deque() for stage in self._lanes}
        self._running: Counter[str] = Counter()
        self._closed = False
        self._workers: list[_Worker] = []

    def start(self, task: Task) -> None:
        """See `executors.Executor`; here what is running can be cancelled, too."""
        if task.stage not in self._lanes:
            self._threads.start(task)
            return
        with self._changed:
            if self._memory_bytes is None:
                self._memory_bytes = min(MEMORY_BYTES, physical_memory() // 2)
            if self._closed:
                task.outcome.cancel()
                return
            self._waiting[task.stage].append(task)
            wanted = self._running.total() + sum(map(len, self._waiting.values()))
            if len(self._workers) < min(self._size, wanted):
                self._workers.append(_Worker(self._memory_bytes))
                threading.Thread(target=self._serve, args=(self._workers[-1],), daemon=True).start()
            self._changed.notify_all()

    def close(self) -> None:
        """See `executors.Executor`; what runs in workers is ended."""
        with self._changed:
            self._closed = True
            left = [task for tasks in self._waiting.values() for task in tasks]
            for tasks in self._waiting.values():
                tasks.clear()
            self._changed.notify_all()
        for task in left:
            task.outcome.cancel()
        for worker in self._workers:
            worker.end()
        self._threads.close()

    def _serve(self, worker: _Worker) -> None:
        while (task := self._next()) is not None:
            try:
                worker.run(task)
            finally:
                with self._changed:
                    self._running[task.stage] -= 1
                    self._changed.notify_all()
        worker.end()

    def _next(self) -> Task | None:
        """The most urgent task whose lane is free, as soon as there is one; None once all is over."""
        with self._changed:
            while not self._closed:
                for stage in self._lanes:
                    if self._waiting[stage] and self._running[stage] < self._lanes[stage]:
                        self._running[stage] += 1
                        return self._waiting[stage].popleft()
                self._changed.wait()
        return None


class _Worker:
    """One worker process, started when there is something to do and again if it has ended.

    Args:
        memory_bytes: most that it may hold.
    """

    def __init__(self, memory_bytes: int):
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._process: Any = None
        self._ended = False

    def run(self, task: Task) -> None:
        """Have a rung run, and settle its outcome."""
        error: ExpotionError | None = None
        for _ in range(TRIES):
            if task.outcome.cancelled() or self._ended:
                task.outcome.cancel()
                return
            try:
                is_done, value = self._attempt(task)
            except (EOFError, OSError) as problem:
                error = self._why_it_ended(task, problem)
                continue
            except (pickle.PicklingError, AttributeError, TypeError) as problem:  # it can't be sent at all
                is_done, value = False, as_failure(problem, task.path)
            settle(task.outcome, is_done, value)
            return
        settle(task.outcome, False, error)

    def end(self) -> None:
        """End the process, whatever it does, and all that it started."""
        self._ended = True
        self._kill()

    def _attempt(self, task: Task) -> tuple[bool, Any]:
        self._timed_out = False
        pipe, share = self._begin()
        timer = None
        if task.limit_s is not None:
            timer = threading.Timer(task.limit_s, self._time_out)
            timer.daemon = True
            timer.start()
        try:
            limit = self._memory_bytes if task.stage in LIMITED else None
            share.value = last = 0.0
            pipe.send((task.on_progress is not None, limit, task.path, *task.call))
            while not pipe.poll(POLL_S):
                if task.outcome.cancelled():
                    self._kill()
                if task.on_progress is not None and share.value != last:
                    last = share.value
                    with contextlib.suppress(Exception):  # whoever listens must not harm the rung
                        task.on_progress(last)
            return pipe.recv()  # type: ignore[no-any-return]
        finally:
            if timer is not None:
                timer.cancel()

    def _begin(self) -> tuple[Any, Any]:
        with self._lock:
            if self._ended:
                raise EOFError
            if self._process is None or not self._process.is_alive():
                context = multiprocessing.get_context("spawn")
                self._pipe, theirs = context.Pipe()
                self._share = context.RawValue("d", 0.0)
                self._process = context.Process(
                    target=_serve_rungs, args=(theirs, self._share, os.getpid()), daemon=True
                )
                with beyond_interrupts():
                    self._process.start()
                theirs.close()  # so that our end tells when the process is gone
            return self._pipe, self._share

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        with self._lock:
            process = self._process
            if process is None or process.pid is None or not process.is_alive():
                return
            if hasattr(os, "killpg"):
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own (`_serve_rungs`)
            process.kill()

    def _why_it_ended(self, task: Task, problem: Exception) -> ExpotionError:
        process = self._process
        if process is not None:
            process.join(JOIN_S)
        doing = DOING[task.stage]
        if self._timed_out:
            return ClipError(
                f"{doing} took longer than {task.limit_s:.0f} s, twice.",
                path=task.path,
                remedy="Raise --clip-timeout if the machine is slow; otherwise convert or repair the clip.",
            )
        return ClipError(
            f"{doing} ended its process ({_exit_reason(process and process.exitcode)}), twice.",
            path=task.path,
            remedy="Convert or repair the clip; the rest of the batch is not affected.",
        )


def _exit_reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _serve_rungs(pipe: Any, share: Any, parent: int) -> None:
    """What a worker process does: run one rung after the other until its parent is gone."""
    ignore_interrupts()
    if os.getppid() != parent:
        return
    die_with_parent()
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C goes to the batch alone, which decides; and one signal ends all that a rung started
    while True:
        try:
            told, memory_bytes, path, rung, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(run_rung(share if told else None, memory_bytes, path, rung, arguments))


def run_rung(
    share: Any, memory_bytes: int | None, path: Path | None, rung: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[bool, Any]:
    """Run a rung for somebody elsewhere: whatever goes wrong is a value, too.

    Args:
        share: where the rung tells how far it is (`value`), or None.
        memory_bytes: most that this process may hold meanwhile, or None.
        path: the clip at work.
        rung: what to call.
        arguments: for it.

    Returns:
        (True, the rung's result) or (False, its failure, an `ExpotionError`).
    """

    def tell(done: float) -> None:
        share.value = done

    limit_memory(memory_bytes)
    try:
        return True, rung(*arguments, **({} if share is None else {"on_progress": tell}))
    except MemoryError:
        most = "" if memory_bytes is None else f" than the {memory_bytes / GIB:.3g} GiB that one clip may take"
        return False, ClipError(f"it needs more memory{most}.", path=path, remedy="Convert or repair it first.")
    except Exception as error:
        return False, as_failure(error, path)
