"""What the benchmarks share: facts about the machine, one table, results as JSON."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli import storage
from expotion_cli.version import __version__

RESULTS = Path(__file__).resolve().parent / "results"


def use_cores(count: int) -> None:
    """Keep this process and its children on the first `count` processors it may use (where the system can)."""
    if count and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if count:
            os.environ.setdefault(name, str(count))


class Stopwatch:
    """Collects how long stages took, in seconds."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._started = time.monotonic()

    def lap(self, stage: str) -> None:
        """The time since the last lap (or the start) belongs to this stage."""
        now = time.monotonic()
        self.stages[stage] = round(self.stages.get(stage, 0.0) + now - self._started, 3)
        self._started = now


def machine() -> dict[str, Any]:
    """Processor, cores in use, memory and versions; nothing that names the machine itself."""
    model, memory = platform.machine(), 0
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
        memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        pass  # another system than Linux
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "processor": model,
        "processors": os.cpu_count(),
        "processors_used": cores,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "load_before": load,  # above 0 others were at work, and times are too long
        "memory_mb": memory,
        "system": platform.system(),
        "python": platform.python_version(),
        "expotion": __version__,
    }


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A plain table on standard output."""
    cells = [[_cell(value) for value in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print(f"\n{title}")
    for number, row in enumerate(cells):
        first, *others = zip(row, widths, strict=True)
        parts = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        print("  " + "  ".join(parts).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        if abs(value) < 1:
            return f"{value:.3g}"
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")
    return "-" if value is None else str(value)


def write_results(name: str, results: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `NAME.json`; returns where."""
    path = folder / f"{name}.json"
    storage.write_json(path, results)
    print(f"\nwritten: {os.path.relpath(path)}")
    return path


def put_into(page: Path, made: dict[str, str]) -> None:
    """Replace what stands on a page between `<!-- NAME -->` and `<!-- /NAME -->`."""
    text = page.read_text(encoding="utf-8")
    for name, table in made.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
        assert count == 1, f"{page} has no place for {name}"
    storage.write_bytes(page, text.encode())


def process_tree(root: int) -> list[int]:
    """A process and all below it; only the root where the system does not tell."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue  # the thread has ended
    return found


def tree_memory_mb(root: int, *, peak: bool = False) -> float:
    """Resident memory of a process and all below it, now or the most that each ever held.

    Pages that they share are counted in each.
    """
    return sum(_memory_kb(pid, "VmHWM:" if peak else "VmRSS:") for pid in process_tree(root)) / 1024


def tree_cpu_s(root: int) -> float:
    """Processor time that a process and all below it have used so far; 0 where the system does not tell."""
    return sum(_cpu_ticks(pid) for pid in process_tree(root)) / os.sysconf("SC_CLK_TCK")


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])  # in user and in system mode


def _memory_kb(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0  # it has ended, or the system does not tell
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def spread(values: Sequence[float]) -> dict[str, float]:
    """5th, 50th and 95th percentile and the largest of some values, rounded; zeros without any."""
    points = [*np.percentile(values, (5, 50, 95)), max(values)] if len(values) else [0.0] * 4
    return {name: round(float(value), 4) for name, value in zip(("p5", "p50", "p95", "max"), points, strict=True)}
