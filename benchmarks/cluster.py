"""A batch on a Ray cluster of three nodes: the same results as here, though a node is lost, and what Ray costs.

The nodes are processes of one machine (Ray's own cluster for tests), so this tells nothing of speed-up. All three runs
score the same short clips with the embedded model:

- here: worker processes of one command, as many as the nodes have processors in all;
- Ray: the same on three nodes; its time is counted from the moment the nodes are up, and compared with "here";
- Ray, a node lost: when half of the clips are done, one node is killed, with all that ran there.

Clips that are not scored exactly once, or whose bytes differ from "here", are counted.

    pip install "expotion[ray]"
    python benchmarks/cluster.py --clips 60
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import machine, print_table, write_results

from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch
from expotion_cli.scoring.account import Listener, Summary
from expotion_cli.scoring.composers import Composer, HostedComposer
from expotion_cli.scoring.executors import Executor
from expotion_cli.scoring.ledger import read_ledger
from expotion_cli.scoring.plan import Result, Settings, plan
from expotion_cli.scoring.ray_cluster import RayCluster
from expotion_cli.scoring.workers import ProcessExecutor, clip_workers
from expotion_cli.storage import digest_file

NODES = 3
MODEL = {"name": "expotion-mini", "device": "cpu", "dtype": "fp32", "adapter": None, "soundfont": None}
RECIPE = {"streams.use": ["flow"], "generate.takes": 1}
LENGTH_S = 1.5


class Watching(Listener):
    """Calls once, when so many clips are done."""

    def __init__(self, after: int = 0, then: Callable[[], object] | None = None):
        self._left, self._then = after, then
        self._lock = threading.Lock()

    def result(self, result: Result) -> None:
        """See `Listener`."""
        with self._lock:
            self._left -= 1
            due = self._left == 0 and self._then is not None
        if due:
            threading.Thread(target=self._then).start()


def make_clips(folder: Path, count: int) -> None:
    """Small clips, no two of which are alike."""
    import subprocess

    from expotion_cli.media.ffmpeg import ffmpeg_exe

    folder.mkdir(parents=True)
    for number in range(count):
        hue = 360 * number // count
        picture = f"testsrc=size=96x64:rate=25:duration={LENGTH_S + number % 7 / 10},hue=h={hue}"
        command = [ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", picture, "-c:v", "libx264"]
        command += ["-pix_fmt", "yuv420p", "-threads", "1", str(folder / f"{number:03}.mp4")]
        subprocess.run(command, check=True)


def score(
    clips: Path,
    root: Path,
    executor: Executor,
    composers: Callable[[], Sequence[Composer]],
    listener: Listener | None = None,
) -> tuple[Summary, float]:
    """Score all clips into `root/out` with a cache of their own: (how it went, seconds)."""
    os.environ["EXPOTION_CACHE"] = str(root / "cache")
    started = time.monotonic()
    planned = plan([clips], load_recipe("cinematic", RECIPE), Settings(out=root / "out"), executor=executor)
    summary = batch.run(planned, composers, listener=listener, executor=executor)
    return summary, time.monotonic() - started


def faults(clips: Path, out: Path, same_as: Path | None) -> dict[str, int]:
    """Clips that are missing, that were scored more than once, that differ, and files that should not be there."""
    names = sorted(path.name for path in clips.iterdir())
    scored = Counter(entry["clip"] for entry in read_ledger(out / "ledger.jsonl") if entry["event"] == "scored")
    there = {path.name for path in out.glob("*.mp4")}
    differ = [
        name
        for name in names
        if same_as is not None and name in there and digest_file(out / name) != digest_file(same_as / name)
    ]
    return {
        "missing": len(set(names) - there),
        "scored more than once": sum(count > 1 for count in scored.values()),
        "differ": len(differ),
        "left over": sum(path.name.startswith(".") for path in out.iterdir()),
    }


def run_on_ray(clips: Path, root: Path, *, lose_a_node: bool) -> tuple[Summary, float]:
    """Score on three nodes; the second is killed halfway, if wanted."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    others = [nodes.add_node(num_cpus=1) for _ in range(NODES - 1)]
    ray.init(address=nodes.address, log_to_driver=False)
    nodes.wait_for_nodes()
    cluster = RayCluster()

    def lose() -> None:
        nodes.remove_node(others[0], allow_graceful=False)

    half = len(list(clips.iterdir())) // 2
    listener = Watching(half, lose) if lose_a_node else None
    try:
        return score(clips, root, cluster, lambda: cluster.composers(MODEL), listener)
    finally:
        ray.shutdown()
        nodes.shutdown()


def main() -> int:
    """Score three times and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60, help="number of clips")
    arguments = parser.parse_args()
    rows: list[list[Any]] = []
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        clips = root / "clips"
        make_clips(clips, arguments.clips)

        def here() -> Sequence[Composer]:
            return [HostedComposer(ProcessExecutor({"compose": 1}, 1), MODEL, threads=1) for _ in range(NODES)]

        runs = {
            "here": lambda: score(clips, root / "here", clip_workers(NODES), here),
            "Ray": lambda: run_on_ray(clips, root / "ray", lose_a_node=False),
            "Ray, a node lost": lambda: run_on_ray(clips, root / "lost", lose_a_node=True),
        }
        folders = {"here": "here", "Ray": "ray", "Ray, a node lost": "lost"}
        for name, run in runs.items():
            summary, took_s = run()
            wrong = faults(clips, root / folders[name] / "out", None if name == "here" else root / "here" / "out")
            found[name] = {"s": round(took_s, 1), "scored": summary.count("scored"), **wrong}
            ratio = found[name]["s"] / found["here"]["s"]
            found[name]["over_here"] = round(ratio, 2)
            rows.append([name, found[name]["scored"], *wrong.values(), f"{took_s:.0f}", f"{ratio:.2f}x"])
            print(name, found[name], file=sys.stderr, flush=True)
    heads = ["run", "scored", "missing", "twice", "differ", "left over", "s", "over here"]
    print_table(f"{arguments.clips} clips on {NODES} nodes", heads, rows)
    write_results("cluster", {"machine": machine(), "clips": arguments.clips, "nodes": NODES, "runs": found})
    bad = any(sum(run[key] for key in ("missing", "scored more than once", "differ")) for run in found.values())
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
