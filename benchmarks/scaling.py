"""What very many clips cost on 1, 8 and 64 GPUs: a simulation of the stages with measured times.

Each clip is seen on a CPU core, composed on a GPU together with others, and finished (render, follow, finish) on a
core. Times come from the sidecars of a scored folder (`stages_s`), sizes from the files in it and in its cache. If it
was scored while others were at work, its times are too long; `--core-s` takes what was measured otherwise.
How long a GPU takes for a step of a batch was measured by nobody yet: it is an assumption, `--gpu-step-ms`, and the
table says so.

    python benchmarks/scaling.py scored --cache ~/.cache/expotion
    python benchmarks/scaling.py scored --core-s 9.2,4 --gpus 4 --cores 24 --gpu-step-ms 2
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import RESULTS, machine, print_table, write_results

from expotion_cli.scoring.leases import LEASE_S

CLIPS = 1_000_000
SIMULATED = 50_000
GPUS = (1, 8, 64)
CORES_PER_GPU = 16
GPU_STEP_MS = 1.5
CUES_TOGETHER = 64
READS, WRITES, READS_OF_RESULT = 4, 1, 2
"""A clip is read for its digest, for seeing, for the check before finishing and for the remux; a result is written
once, and read for what is measured of it and for its digest."""
FINISHING = ("render", "follow", "finish")
HOUR = 3600.0
SEED = 13


@dataclass(frozen=True)
class ClipCost:
    """What one clip costs.

    Attributes:
        see_s: seconds of a core.
        finish_s: seconds of a core, after composing.
        gpu_steps: steps of the decoder.
    """

    see_s: float
    finish_s: float
    gpu_steps: float

    @property
    def core_s(self) -> float:
        """Seconds of a core in all."""
        return self.see_s + self.finish_s


@dataclass(frozen=True)
class Fleet:
    """The machines.

    Attributes:
        gpus: how many.
        cores: CPU cores of all machines together.
        step_s: seconds that a GPU takes for one step of a batch, however many cues are in it.
        together: most cues in a batch.
    """

    gpus: int
    cores: int
    step_s: float
    together: int = CUES_TOGETHER

    def batch_s(self, steps: Sequence[float]) -> float:
        """Seconds for a batch of cues: places that are free go to the next cue, so steps add up over them."""
        return max(max(steps), sum(steps) / self.together) * self.step_s


@dataclass(frozen=True)
class Outcome:
    """How it went: seconds from begin to end, shares of time in which GPUs and cores were at work."""

    took_s: float
    gpu_share: float
    core_share: float

    @property
    def bottleneck(self) -> str:
        """What is busier."""
        return "GPUs (compose)" if self.gpu_share >= self.core_share else "cores (see, finish)"


def simulate(clips: Sequence[ClipCost], fleet: Fleet) -> Outcome:
    """Send clips through see → compose → finish, event by event.

    Cores finish before they see. At most two batches for each GPU wait, beside what is being seen, so memory stays
    bounded. A GPU begins with a full batch, or with what is there once nothing more is being seen.

    Args:
        clips: in order.
        fleet: the machines.
    """
    ahead = 2 * fleet.gpus * fleet.together
    unseen, ready, composed = deque(clips), deque[ClipCost](), deque[ClipCost]()
    events: list[tuple[float, int, str, tuple[ClipCost, ...]]] = []
    cores, gpus, number, now = fleet.cores, fleet.gpus, 0, 0.0
    being_seen = 0
    core_s = gpu_s = 0.0

    def begin(kind: str, takes_s: float, batch: tuple[ClipCost, ...]) -> None:
        nonlocal number
        number += 1  # two events of the same moment come in the order in which they were begun
        heapq.heappush(events, (now + takes_s, number, kind, batch))

    while True:
        while gpus and ready and (len(ready) >= fleet.together or not (unseen or being_seen)):
            batch = tuple(ready.popleft() for _ in range(min(fleet.together, len(ready))))
            takes_s = fleet.batch_s([clip.gpu_steps for clip in batch])
            gpus, gpu_s = gpus - 1, gpu_s + takes_s
            begin("compose", takes_s, batch)
        while cores and composed:
            clip = composed.popleft()
            cores, core_s = cores - 1, core_s + clip.finish_s
            begin("finish", clip.finish_s, (clip,))
        while cores and unseen and len(ready) + being_seen < ahead + fleet.cores:
            clip = unseen.popleft()
            cores, core_s, being_seen = cores - 1, core_s + clip.see_s, being_seen + 1
            begin("see", clip.see_s, (clip,))
        if not events:
            break
        now, _, kind, batch = heapq.heappop(events)
        if kind == "compose":
            gpus += 1
            composed.extend(batch)
        else:
            cores += 1
        if kind == "see":
            being_seen -= 1
            ready.extend(batch)
    return Outcome(now, gpu_s / (now * fleet.gpus), core_s / (now * fleet.cores))


def cores_to_feed(clips: Sequence[ClipCost], fleet: Fleet) -> int:
    """How many cores keep the fleet's GPUs busy."""
    gpu_s = sum(clip.gpu_steps for clip in clips) * fleet.step_s / fleet.together
    return math.ceil(sum(clip.core_s for clip in clips) / gpu_s * fleet.gpus)


def read_folder(out: Path, cache: Path | None) -> dict[str, Any]:
    """What a scored folder says: `clips` (one dictionary each), and mean bytes for each clip.

    Args:
        out: the output folder.
        cache: the cache that was used, for the sizes of embeddings and cues.
    """
    clips, results, sidecars = [], 0, 0
    for path in sorted(out.rglob("[!.]*.score.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        clips.append({"duration_s": said["clip"]["duration_s"], **said["stages_s"]})
        results += said["output"]["bytes"]
        sidecars += path.stat().st_size
    if not clips:
        raise SystemExit(f"{out}: no sidecars. Score a folder first.")
    ledger = out / "ledger.jsonl"
    sizes = {"result": results, "sidecar": sidecars, "ledger": ledger.stat().st_size if ledger.is_file() else 0}
    for name in ("embeddings", "cues") if cache is not None else ():
        sizes[name] = sum(path.stat().st_size for path in (cache / name).rglob("*") if path.is_file())
    return {"clips": clips, "bytes": {name: size / len(clips) for name, size in sizes.items()}}


def costs(clips: Sequence[dict[str, float]], duration_s: float, steps_per_s: float, takes: int) -> list[ClipCost]:
    """Each measured clip as one of another length: times grow with it.

    Args:
        clips: from `read_folder`.
        duration_s: the length of the clips in question.
        steps_per_s: steps of the decoder in a second of music.
        takes: takes of each cue.
    """
    made = []
    for clip in clips:
        longer = duration_s / clip["duration_s"]
        finish_s = sum(clip[stage] for stage in FINISHING) * longer
        made.append(ClipCost(clip["see"] * longer, finish_s, steps_per_s * duration_s * takes))
    return made


def row(clips: Sequence[ClipCost], fleet: Fleet, count: int) -> dict[str, Any]:
    """What `count` clips like these cost on a fleet."""
    outcome = simulate(clips, fleet)
    hours = outcome.took_s * count / len(clips) / HOUR
    return {
        "gpus": fleet.gpus,
        "cores": fleet.cores,
        "hours": round(hours, 1),
        "gpu_hours": round(hours * fleet.gpus, 1),
        "core_hours": round(hours * fleet.cores, 1),
        "gpus_busy": round(outcome.gpu_share, 3),
        "cores_busy": round(outcome.core_share, 3),
        "bottleneck": outcome.bottleneck,
        "clips_per_s": round(count / hours / HOUR, 2),
        "cores_that_feed_them": cores_to_feed(clips, fleet),
        "hours_then": round(
            sum(clip.gpu_steps for clip in clips)
            / len(clips)
            * count
            * fleet.step_s
            / fleet.together
            / fleet.gpus
            / HOUR,
            2,
        ),
    }


def share_traffic(clips_per_s: float, clip_bytes: float, result_bytes: float) -> dict[str, float]:
    """MB a second that a network share has to carry, if nothing is cached: read and written."""
    read = clips_per_s * (READS * clip_bytes + READS_OF_RESULT * result_bytes)
    return {"read_mb_s": round(read / 1e6, 1), "write_mb_s": round(clips_per_s * WRITES * result_bytes / 1e6, 1)}


def main() -> None:
    """Read, simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scored", type=Path, help="an output folder of expotion-score")
    parser.add_argument("--cache", type=Path, help="the cache that was used, for its sizes")
    parser.add_argument("--clip-bytes", type=float, help="mean size of a clip; by default that of a result")
    parser.add_argument("--clips", type=int, default=CLIPS, help="how many clips it is about")
    parser.add_argument("--duration", type=float, default=10.0, help="their length, in seconds")
    parser.add_argument("--gpus", type=int, nargs="*", default=GPUS)
    parser.add_argument("--cores", type=int, help=f"in all; by default {CORES_PER_GPU} for each GPU")
    parser.add_argument("--core-s", help="SEE,FINISH: core seconds of such a clip, in place of the sidecars' times")
    parser.add_argument("--gpu-step-ms", type=float, default=GPU_STEP_MS, help="ASSUMED: time of a step of a batch")
    parser.add_argument("--together", type=int, default=CUES_TOGETHER, help="cues in a batch")
    parser.add_argument("--steps-per-s", type=float, default=24.0, help="notes: beats a second x 12; EnCodec: 50")
    parser.add_argument("--takes", type=int, default=2)
    parser.add_argument("--simulated", type=int, default=SIMULATED, help="clips that are simulated; the rest is scaled")
    parser.add_argument("--to", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    found = read_folder(options.scored, options.cache)
    kinds = costs(found["clips"], options.duration, options.steps_per_s, options.takes)
    if options.core_s is not None:
        see_s, finish_s = map(float, options.core_s.split(","))
        kinds = [ClipCost(see_s, finish_s, kinds[0].gpu_steps)]
    draw = random.Random(SEED)
    clips = [draw.choice(kinds) for _ in range(options.simulated)]
    see_s, finish_s = (sum(getattr(kind, name) for kind in kinds) / len(kinds) for name in ("see_s", "finish_s"))
    title = f"{options.clips:,} clips of {options.duration:g} s; measured: see {see_s:.2f} s, finish {finish_s:.2f} s"
    rows = []
    for gpus in options.gpus:
        cores = options.cores or CORES_PER_GPU * gpus
        rows.append(row(clips, Fleet(gpus, cores, options.gpu_step_ms / 1000, options.together), options.clips))
    assumed = f"ASSUMED: {options.gpu_step_ms:g} ms for a GPU's step of {options.together} cues"
    head = tuple(key.replace("_", " ") for key in rows[0] if key != "clips_per_s")
    table = [tuple(value for key, value in each.items() if key != "clips_per_s") for each in rows]
    print_table(f"{title}; {assumed}", head, table)
    clip_bytes = options.clip_bytes or found["bytes"]["result"]
    sizes = {"clip": clip_bytes, **found["bytes"]}
    total = options.clips / 1e9
    table = [(name, size / 1000, size * total) for name, size in sizes.items()]
    print_table("Storage", ("what", "kB a clip", "GB in all"), table)
    traffic = []
    for each in rows:
        load = share_traffic(each["clips_per_s"], clip_bytes, found["bytes"]["result"])
        held = 2 * options.together * each["gpus"]
        traffic.append({"gpus": each["gpus"], "cores": each["cores"], "clips_per_s": each["clips_per_s"], **load})
        traffic[-1] |= {"leases": held, "leases_freshened_per_s": round(held * 3 / LEASE_S, 1)}
    print_table("What the shared storage carries", tuple(traffic[0]), [tuple(each.values()) for each in traffic])
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    for private in ("scored", "cache", "to"):
        settings.pop(private)
    measured = {
        "clips": len(found["clips"]),
        "see_s": round(see_s, 3),
        "finish_s": round(finish_s, 3),
        "bytes": found["bytes"],
    }
    facts = {"machine": machine(), "settings": settings, "assumed": assumed, "measured": measured}
    write_results("scaling", {**facts, "costs": rows, "storage_bytes": sizes, "traffic": traffic}, options.to)


if __name__ == "__main__":
    main()
