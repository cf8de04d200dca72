"""Clips opened by commands that score nothing: probed and looked at by an executor, so that a crash costs one clip."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from expotion_cli.errors import ExpotionError, ProbeError, reading
from expotion_cli.hints import FileHints
from expotion_cli.media.clip import ClipInfo, Tracks
from expotion_cli.scoring.discover import Source
from expotion_cli.scoring.executors import Executor, Progress
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.plan import Settings, probe_elsewhere, probe_with

T = TypeVar("T")
Call = tuple[ClipInfo, tuple[Any, ...], Progress | None]
"""A clip, a rung's arguments, and who is told how far it is."""


def probe_sources(
    sources: Iterable[Source], tracks: Tracks, executor: Executor
) -> Iterator[tuple[Source, ClipInfo | ExpotionError]]:
    """Probe clips; an unchanged file is not opened again.

    Args:
        sources: from `discover`.
        tracks: which picture and sound to take, where a clip holds several.
        executor: probes them.

    Yields:
        Each source with what probing found, or why it failed.
    """
    hints = FileHints()
    probing = partial(probe_elsewhere, executor, Settings().limit_s(0))
    for source in sources:
        outcome: list[ClipInfo | ExpotionError] = []
        with guard(source.path, outcome.append):
            with reading(source.path, error=ProbeError, remedy="Check its permissions."):
                clip, _ = probe_with(hints, source.path, probing, tracks=tracks)
            outcome.append(clip)
        yield source, outcome[0]


def in_order(
    executor: Executor, stage: str, rung: Callable[..., T], calls: Sequence[Call], together: int
) -> Iterator[Future[T]]:
    """Have a rung run for many clips, some at a time.

    Args:
        executor: where.
        stage: its name there.
        rung: a function of a module.
        calls: what it is called with.
        together: clips handed over at a time.

    Yields:
        The outcomes in the order of the calls, each as soon as those before it were taken.
    """
    running: deque[Future[T]] = deque()
    limit_s = Settings().limit_s
    for clip, arguments, told in calls:
        limit = limit_s(clip.duration)
        running.append(executor.submit(stage, rung, *arguments, path=clip.path, limit_s=limit, on_progress=told))
        if len(running) >= together:
            yield running.popleft()
    yield from running
