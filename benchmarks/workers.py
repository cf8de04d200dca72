"""What worker processes cost and bring: the same clips scored with `--workers 0` (threads of one process), 1, 2 ...

Each run is the whole command in a fresh process with an empty cache, rounds alternate, and the medians are compared
with those of `--workers 0` of the same rounds. Peak memory is that of the whole process tree, pages that processes
share counted in each.

    python benchmarks/workers.py --clips FOLDER --workers 0,1,2 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench import machine, print_table, tree_memory_mb, use_cores, write_results

from expotion_cli.demo import write_demo_clips

POLL_S = 0.1
_SCORE = "from expotion_cli.cli import score_main; score_main()"


def run(clips: list[Path], workers: int) -> tuple[float, float]:
    """Score clips once: (seconds, peak MB)."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "EXPOTION_CACHE": str(Path(folder) / "cache")}
        arguments = [*map(str, clips), "--out", str(Path(folder) / "out"), "--workers", str(workers), "--quiet"]
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-c", _SCORE, *arguments], env=environment)
        peak = [0.0]

        def watch() -> None:
            while process.poll() is None:
                peak[0] = max(peak[0], tree_memory_mb(process.pid))
                time.sleep(POLL_S)

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert process.wait() == 0
        took_s = time.monotonic() - started
        watcher.join()
    return took_s, peak[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="a folder of clips; by default the demo clips")
    parser.add_argument("--workers", default="0,1,2", help="numbers to compare, 0 first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors")
    options = parser.parse_args()
    use_cores(options.cores)
    numbers = [int(number) for number in options.workers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        if options.clips is None:
            write_demo_clips(Path(folder))
        clips = sorted((options.clips or Path(folder)).glob("*.mp4"))
        sets = {"one clip": clips[:1], f"{len(clips)} clips": clips}
        found: dict[str, dict[int, list[tuple[float, float]]]] = {
            name: {number: [] for number in numbers} for name in sets
        }
        for _ in range(options.rounds):
            for name, chosen in sets.items():
                for number in numbers:
                    found[name][number].append(run(chosen, number))
                    print(name, number, found[name][number][-1], file=sys.stderr, flush=True)
    rows: list[list[Any]] = []
    results: dict[str, Any] = {}
    for name, by_number in found.items():
        first = statistics.median(took_s for took_s, _ in by_number[numbers[0]])
        for number, runs in by_number.items():
            took_s, peak = statistics.median(took for took, _ in runs), max(peak for _, peak in runs)
            results[f"{name}, --workers {number}"] = {"s": took_s, "ratio": took_s / first, "peak_mb": peak}
            rows.append([name, number, f"{took_s:.1f}", f"{took_s / first:.2f}x", f"{peak:.0f}"])
    print_table("scored, fresh cache", ["clips", "--workers", "s", f"over {numbers[0]}", "peak MB"], rows)
    write_results("workers", {"machine": machine(), "rounds": options.rounds, "runs": results})


if __name__ == "__main__":
    main()
