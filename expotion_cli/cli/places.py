"""Where a batch runs: this process, worker processes, several devices, or a Ray cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expotion_cli.errors import UsageError

if TYPE_CHECKING:
    from expotion_cli.scoring.composers import HostedComposer
    from expotion_cli.scoring.executors import Executor

LOCAL, RAY = EXECUTORS = ("local", "ray")
MOST_WORKERS = 64
PROBE_LANES = 4  # threads, with --workers 0
Workers = Annotated[
    int | None,
    typer.Option(
        help="Videos looked at in parallel, each in a process of its own; 0: in this process.",
        envvar="EXPOTION_WORKERS",
        min=0,
        max=MOST_WORKERS,
        show_default="half of the cores",
    ),
]
"""`--workers` of the commands that score nothing."""


def _none() -> Sequence[HostedComposer]:
    return ()


@dataclass(frozen=True)
class Place:
    """Where a batch runs.

    Attributes:
        executor: probes, sees and finishes clips.
        composers: gives those that compose elsewhere than in this process; none if the model is loaded here.
    """

    executor: Executor
    composers: Callable[[], Sequence[HostedComposer]] = _none

    def close(self) -> None:
        """End what runs there."""
        self.executor.close()


def choose_place(
    executor: str, composer: Mapping[str, Any], *, workers: int | None, devices: str | None, ray_address: str | None
) -> Place:
    """Where the flags want a batch to run. Nothing is started yet.

    Args:
        executor: "local" or "ray".
        composer: arguments of `music.load.load_model`.
        workers: clips seen at a time; 0 for threads of this process, None for half of the cores.
        devices: "all", or names of devices; None for the one of `composer`.
        ray_address: of the cluster.

    Raises:
        UsageError: the flags don't go together.
        MissingLibraryError: Ray is not installed.
    """
    if executor not in EXECUTORS:
        raise UsageError(f"--executor {executor!r} is unknown.", remedy=f"Use {' or '.join(EXECUTORS)}.")
    if ray_address is not None and executor != RAY:
        raise UsageError("--ray-address needs --executor ray.", remedy="Add --executor ray, or leave it out.")
    if (devices is not None or executor == RAY) and "backbone" in composer:
        raise UsageError(
            "audiocraft composes on one device of this machine.", remedy="Leave --devices and --executor out."
        )
    if executor == RAY:
        if devices is not None or workers is not None:
            raise UsageError(
                "--devices and --workers are for one machine; a Ray cluster knows what it has.",
                remedy="Leave them out.",
            )
        from expotion_cli.scoring.ray_cluster import RayCluster

        cluster = RayCluster(ray_address)
        return Place(cluster, lambda: cluster.composers(composer))
    here, _ = _on_this_machine(workers)
    if devices is None:
        return Place(here)
    names = _devices(devices, composer["device"])
    return Place(here, lambda: _hosted(names, composer))


@contextlib.contextmanager
def on_this_machine(workers: int | None) -> Iterator[tuple[Executor, int]]:
    """Where clips are opened on this machine, and how many are seen at a time; it is closed in the end.

    Args:
        workers: see `choose_place`.
    """
    executor, together = _on_this_machine(workers)
    try:
        yield executor, together
    finally:
        executor.close()


def _on_this_machine(workers: int | None) -> tuple[Executor, int]:
    if workers == 0:
        from expotion_cli.scoring.executors import ThreadExecutor

        return ThreadExecutor({"probe": PROBE_LANES}), 1
    from expotion_cli.scoring.workers import clip_workers

    together = workers or max(1, (os.cpu_count() or 2) // 2)
    return clip_workers(together), together


def _devices(text: str, device: str) -> list[str]:
    if device != "auto":
        raise UsageError("--device and --devices exclude each other.", remedy="Leave one of them out.")
    if text != "all":
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise UsageError("--devices names none.", remedy="Give all, or names like cuda:0,cuda:1.")
        return names
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def _hosted(devices: Sequence[str], composer: Mapping[str, Any]) -> Sequence[HostedComposer]:
    from expotion_cli.scoring.composers import HostedComposer
    from expotion_cli.scoring.workers import ProcessExecutor

    # Those that compose on the processor share its cores.
    threads = max(1, (os.cpu_count() or 1) // len(devices)) if set(devices) == {"cpu"} else None
    return [
        HostedComposer(ProcessExecutor({"compose": 1}, 1), {**composer, "device": device}, threads=threads)
        for device in devices
    ]
