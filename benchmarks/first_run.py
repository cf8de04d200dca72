"""How long the first run of one clip takes, and how much memory: the whole command, in fresh processes.

- first run: `expotion-score` on one 10 s clip with an empty cache in a new process. Wall time and processor time (of
  the process and all below it), and a profile of its parts: Python's start, imports, planning, loading the model, see,
  compose, render, finish. Parts overlap, because the clip is seen while the model is loaded. The slowest clip counts.
- eight clips: the same clip under eight names, whose streams are cached already, against one of it: the sidecars'
  `compose`. What a cue follows does not change how long it takes.
- memory: the run is repeated while the resident memory of its whole process tree (the encoders run in processes of
  their own) is summed every 50 ms. Pages that processes share are counted in each, so this is an upper bound. Beside it
  stands the largest single process, as the kernel counts it (`getrusage`).

    python benchmarks/first_run.py
    python benchmarks/first_run.py --clips FOLDER --limit 8
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, print_table, tree_memory_mb, use_cores, write_results

CLIP_S = 10
AIMS = {"first_run_s": 10.0, "compose_and_render_s": 6.0, "eight_to_one": 3.0, "help_s": 0.35, "peak_mb": 2500.0}
MANY = 8
POLL_S = 0.05
_HERE = Path(__file__).resolve().parent
_SCORE = "from expotion_cli.cli import score_main; score_main()"


def ten_seconds(source: Path, destination: Path) -> Path:
    """The clip's first 10 s; a shorter one is repeated."""
    from expotion_cli.media.ffmpeg import ffmpeg_exe

    quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
    picture = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"]
    command = [ffmpeg_exe(), *quiet, "-stream_loop", "-1", "-i", source, "-t", CLIP_S, *picture, destination]
    command = [str(part) for part in command]
    subprocess.run(command, check=True)
    return destination


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        wall_s: from its start to its end.
        cpu_s: processor time of the process and all that it started.
        peak_mb: memory of the process tree; 0 unless watched.
        parts: what `stage_profile` noted; empty unless profiled.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    parts: list[dict[str, Any]]


def score(arguments: list[str], cache: Path, *, watch: bool = False, profile: Path | None = None) -> Run:
    """Run the command to its end in a fresh process.

    Args:
        arguments: of `expotion-score`.
        cache: the cache folder it uses.
        watch: sum up its memory while it runs.
        profile: a file to write; profiles the run.
    """
    environment = {**os.environ, "EXPOTION_CACHE": str(cache)}
    code = _SCORE
    if profile is not None:
        code = f"import sys; sys.path.insert(0, {str(_HERE)!r}); import stage_profile; "
        code += f"stage_profile.install({str(profile)!r}, {time.time()!r}); {_SCORE}"
    before = _children_cpu_s()
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)  # fmt: skip
    peak = [0.0]
    if watch:
        threading.Thread(target=_watch, args=(process, peak), daemon=True).start()
    output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"expotion-score failed ({process.returncode}):\n{output}")
    parts = json.loads(profile.read_text()) if profile is not None else []
    return Run(time.monotonic() - started, _children_cpu_s() - before, peak[0], parts)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(process: subprocess.Popen, peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], tree_memory_mb(process.pid))
        time.sleep(POLL_S)


def sidecars(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.score.json"))]


def help_time(repeats: int) -> float:
    """Median wall time in s of `expotion-score --help`, Python's own start included."""
    times = []
    for _ in range(repeats):
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", _SCORE, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.monotonic() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="a folder of videos; the demo clips by default")
    parser.add_argument("--limit", type=int, default=3, help="measure the first run of so many of them")
    parser.add_argument("--recipe", default="cinematic")
    parser.add_argument("--cores", type=int, default=2, help="use only so many processors; 0 for all")
    parser.add_argument("--repeats", type=int, default=10, help="of --help")
    parser.add_argument("--no-eight", action="store_true", help="leave the eight clips out")
    parser.add_argument("--no-memory", action="store_true", help="leave the watched repetition out")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    measured: dict[str, Any] = {"help_s": round(help_time(options.repeats), 3)}
    runs = []
    with tempfile.TemporaryDirectory(prefix="expotion-bench-") as name:
        work = Path(name)
        source = options.clips
        if source is None:
            from expotion_cli.demo import write_demo_clips

            source = work / "demo"
            write_demo_clips(source)
        (work / "clips").mkdir()
        found = sorted(path for path in source.iterdir() if path.suffix in (".mp4", ".mov", ".mkv", ".webm"))[
            : options.limit
        ]
        if not found:
            raise SystemExit(f"no videos in {source}")
        clips = [ten_seconds(path, work / "clips" / f"{path.stem}.mp4") for path in found]
        common = ["--recipe", options.recipe, "--quiet"]
        for clip in clips:
            out = work / "first" / clip.stem
            profile = work / f"{clip.stem}.json"
            run = score([str(clip), "--out", str(out), *common], work / "caches" / clip.stem, profile=profile)
            (sidecar,) = sidecars(out)
            runs.append(
                {
                    "clip": clip.stem,
                    "wall_s": round(run.wall_s, 2),
                    "cpu_s": round(run.cpu_s, 2),
                    "parts": run.parts,
                    "stages_s": sidecar["stages_s"],
                }
            )
        slowest = max(runs, key=lambda run: run["wall_s"])
        measured["first_run_s"], measured["first_run_cpu_s"] = slowest["wall_s"], slowest["cpu_s"]
        measured["compose_and_render_s"] = round(
            max(r["stages_s"]["compose"] + r["stages_s"]["render"] for r in runs), 2
        )
        cache = work / "caches" / clips[0].stem
        if not options.no_eight:
            folder = work / "eight"
            folder.mkdir()
            for number in range(MANY):
                shutil.copy(clips[0], folder / f"{number}.mp4")
            composed = {}
            for count, inputs in ((1, [str(clips[0])]), (MANY, [str(folder)])):
                out = work / f"of {count}"
                score([*inputs, "--out", str(out), "--seed", str(count), *common], cache)
                told = sidecars(out)
                assert len(told) == count and all(t["composed_together"] == count for t in told)
                composed[count] = max(t["stages_s"]["compose"] for t in told)
            measured["compose_s"] = composed
            measured["eight_to_one"] = round(composed[MANY] / composed[1], 2)
        if not options.no_memory:
            worst = next(clip for clip in clips if clip.stem == slowest["clip"])
            watched = score(
                [str(worst), "--out", str(work / "watched"), *common], work / "caches" / "watched", watch=True
            )
            measured["peak_mb"] = round(watched.peak_mb) or None
    measured["largest_process_mb"] = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
    words = {
        "first_run_s": f"first run of a {CLIP_S} s clip, all stages, s",
        "compose_and_render_s": "of which generation and rendering, s",
        "eight_to_one": "generation of eight clips over one's",
        "help_s": "expotion-score --help, s",
        "peak_mb": "peak memory of all processes, MB",
    }
    known = [(key, aim) for key, aim in AIMS.items() if measured.get(key) is not None]
    rows = [(words[key], f"<= {aim:g}", measured[key], measured[key] <= aim) for key, aim in known]
    print_table("First run", ("", "aim", "measured", "met"), rows)
    stages = sorted({stage for run in runs for stage in run["stages_s"]})
    rows = [
        (run["clip"], run["wall_s"], run["cpu_s"], *(run["stages_s"].get(stage) for stage in stages)) for run in runs
    ]
    print_table("Clips, s", ("clip", "wall", "processor", *stages), rows)
    rows = [(part["part"], part["at_s"], part["took_s"]) for part in sorted(slowest["parts"], key=lambda p: p["at_s"])]
    print_table(f"Parts of {slowest['clip']}, s", ("part", "begins", "takes"), rows)
    print(f"\nlargest single process: {measured['largest_process_mb']} MB")
    write_results("first_run", {"machine": facts, "aims": AIMS, "measured": measured, "runs": runs})


if __name__ == "__main__":
    main()
