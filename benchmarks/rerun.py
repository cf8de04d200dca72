"""What a rerun over finished clips costs: the whole command line, in fresh processes.

A clip is scored once; copies of it and of its result stand for a folder of many (results are known by content, so each
copy counts as finished). Then the same command is run again:

- first rerun: nothing is remembered of the files yet, so each clip is probed, and each clip and result is hashed;
- later rerun: size, times and inode say that nothing has changed;
- verified rerun (`--verify`): every byte is read again, and the model is loaded to see whether it is the same.

With `--against CHECKOUT` another checkout of this program (an older one, say) reruns the same clips in the same run,
and ratios are given. The profile says where a later rerun's time goes.

    python benchmarks/rerun.py
    python benchmarks/rerun.py --clips 200 --against ../older
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import machine, print_table, spread, use_cores, write_results

MANY = 1000
AIMS = {"one": 0.8, "many": 2.5}
REPEATS = 5
_SCORE = "from expotion_cli.cli import score_main; score_main()"
_HEAVY = ("torch", "transformers", "mediapipe", "cv2", "av")
_PROFILED = """
import cProfile, io, json, pstats, sys
profile = cProfile.Profile()
try:
    profile.runcall(__import__("expotion_cli.cli", fromlist=["score_main"]).score_main)
except SystemExit:
    pass
rows = []
for (file, line, name), (_, calls, own, total, _) in pstats.Stats(profile, stream=io.StringIO()).stats.items():
    where = file.rpartition("expotion_cli/")[2] if "expotion_cli/" in file else "library"
    rows.append((total, own, calls, name, where))
heavy = sorted(set(sys.modules) & set(HEAVY))
print(json.dumps({"heavy": heavy, "rows": sorted(rows, reverse=True)[:400]}), file=sys.stderr)
"""
_STEPS = {
    "imports": ("library", "_find_and_load"),
    "plan: discover, probe, hash": ("scoring/plan.py", "plan"),
    "identity of the model": ("music/identity.py", "recall"),
    "sidecars and results": ("scoring/batch.py", "settle_done"),
}


def command(clips: Path, out: Path, *flags: str) -> list[str]:
    """The arguments of a run."""
    return [str(clips), "--recipe", "cinematic", "--out", str(out), *flags]


def run(arguments: list[str], cache: Path, checkout: Path | None = None, code: str = _SCORE) -> tuple[float, str]:
    """(wall time in s, what it said) of a fresh process.

    Args:
        arguments: of `expotion-score`.
        cache: the cache folder.
        checkout: whose program to run, if not this one's.
        code: what the process does.
    """
    environment = {**os.environ, "EXPOTION_CACHE": str(cache)}
    environment["PYTHONPATH"] = str(checkout or Path(__file__).resolve().parents[1])
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise SystemExit(f"expotion-score failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return time.monotonic() - started, done.stdout + done.stderr


def multiply(clip: Path, out: Path, count: int, root: Path) -> tuple[Path, Path]:
    """(folder of clips, folder of results): `count` copies of a clip and of its result."""
    clips, results = root / f"clips-{count}", root / f"out-{count}"
    clips.mkdir()
    results.mkdir()
    for number in range(count):
        shutil.copy(clip, clips / f"{number:04}{clip.suffix}")
        shutil.copy(out / clip.name, results / f"{number:04}{clip.suffix}")
        shutil.copy(out / f"{clip.stem}.score.json", results / f"{number:04}.score.json")
    shutil.copy(out / "ledger.jsonl", results)
    return clips, results


def measure(clips: Path, out: Path, root: Path, checkout: Path | None, repeats: int) -> dict[str, Any]:
    """Times of a first, of later and of a verified rerun."""
    cache = root / f"cache-{clips.name}-{'other' if checkout else 'this'}"
    first, said = run(command(clips, out), cache, checkout)
    count = len(list(clips.iterdir()))
    assert f"{count} already there" in said, said[-500:]
    run(command(clips, out), cache, checkout)
    later = [run(command(clips, out), cache, checkout)[0] for _ in range(repeats)]
    found = {"first_s": round(first, 2), "later_s": spread(later)}
    if checkout is None:
        found["verified_s"] = round(run(command(clips, out, "--verify"), cache)[0], 2)
    return found


def profile(clips: Path, out: Path, root: Path) -> dict[str, Any]:
    """Where a later rerun's time goes (with the profiler's own cost), and which heavy libraries were imported."""
    code = f"HEAVY = {_HEAVY!r}{_PROFILED}"
    _, said = run(command(clips, out), root / f"cache-{clips.name}-this", code=code)
    found = json.loads(said.splitlines()[-1])
    steps = {}
    for title, (file, name) in _STEPS.items():
        steps[title] = round(max((row[0] for row in found["rows"] if (row[4], row[3]) == (file, name)), default=0.0), 3)
    return {"steps_s": steps, "heavy_imports": found["heavy"]}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=MANY, help="how many finished clips")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        from expotion_cli.demo import write_demo_clips

        written = write_demo_clips(root / "demo")
        clip = min((each.path for each in written if each.path), key=lambda path: path.stat().st_size)
        result: dict[str, Any] = {"clips": options.clips, "clip_bytes": clip.stat().st_size}
        rows = []
        checkouts = {"this": None, **({"other": options.against.resolve()} if options.against else {})}
        for label, checkout in checkouts.items():
            scored = root / f"scored-{label}"
            run(command(clip, scored), root / f"cache-{label}", checkout)
            result[label] = {}
            for title, count in (("one", 1), ("many", options.clips)):
                folder = root / f"{label}-{title}"
                folder.mkdir()
                clips, out = multiply(clip, scored, count, folder)
                time.sleep(2.5)  # a file that was written just now is not remembered
                found = measure(clips, out, folder, checkout, options.repeats if label == "this" else 2)
                if label == "this":
                    found["profile"] = profile(clips, out, folder)
                result[label][title] = found
                median = found["later_s"]["p50"]
                rows.append((label, count, found["first_s"], median, found.get("verified_s", ""), AIMS[title]))
        if options.against:
            result["ratio"] = {
                title: round(result["other"][title]["later_s"]["p50"] / result["this"][title]["later_s"]["p50"], 1)
                for title in AIMS
            }
        print_table("Seconds", ("program", "clips", "first rerun", "later", "verified", "aim (later)"), rows)
        for title in AIMS:
            found = result["this"][title]["profile"]
            rows = list(found["steps_s"].items())
            print_table(f"Profile, {title}: heavy imports {found['heavy_imports'] or 'none'}", ("step", "s"), rows)
        write_results("rerun", {"machine": facts, "aims_s": AIMS, **result})


if __name__ == "__main__":
    main()
