"""Damaged and hostile media files by the thousand: each must be read, or refused with an error of this program.

Small files of all kinds are made with ffmpeg and changed by a seeded generator: bits, bytes, runs, absurd numbers,
missing and doubled parts. A child process with a memory limit probes each, decodes its picture as the encoders see it
and reads its sound; a file that ends the child, or takes too long, is counted and the next goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench import RESULTS, machine, print_table, write_results

from expotion_cli.media.ffmpeg import ffmpeg_exe
from expotion_cli.processes import die_with_parent, limit_memory

LIMIT_S = 30.0
MEMORY_BYTES = 2 << 30
SAMPLE_RATE = 16_000
ABSURD = (0, 1, 0x7F, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 0x7FFF, 0xFFFF, 0x01000000)
KINDS = ("read", "refused", "wrong error", "crash", "hang")
GOOD = KINDS[:2]

PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.6"]
SOUND = ["-f", "lavfi", "-i", "aevalsrc='0.3*sin(2*PI*440*t)':d=0.6:s=16000"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "32", "-threads", "1", "-pix_fmt", "yuv420p", "-bf", "2"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1"]
BASES = {
    "plain.mp4": [*X264, "-g", "10", "-c:a", "aac"],
    "fragments.mp4": [*X264, "-g", "5", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
    "front.mov": [*X264, "-g", "10", "-c:a", "pcm_s16le", "-movflags", "faststart", "-timecode", "10:00:00:00"],
    "plain.mkv": [*X264, "-g", "10", "-c:a", "flac"],
    "plain.webm": [*VP9, "-c:a", "libopus", "-ar", "48000"],
    "plain.avi": ["-c:v", "mpeg4", "-bf", "2", "-g", "10", "-c:a", "mp3"],
    "motion.avi": ["-c:v", "mjpeg", "-q:v", "20", "-c:a", "pcm_s16le"],
    "plain.ts": [*X264, "-g", "10", "-c:a", "mp2"],
    "plain.mpg": ["-c:v", "mpeg2video", "-bf", "2", "-q:v", "20", "-c:a", "mp2", "-ar", "32000"],
}


def make_bases(folder: Path) -> dict[str, bytes]:
    """An undamaged file of each kind, by name."""
    found = {}
    for name, options in BASES.items():
        command = [ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *PICTURE, *SOUND, *options, str(folder / name)]
        subprocess.run(command, check=True)
        found[name] = (folder / name).read_bytes()
    return found


def damaged(bases: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """The file of this number: (name of what it was made of, content). The same seed gives the same file."""
    rng = np.random.default_rng((seed, number))
    name = sorted(bases)[number % len(bases)]
    data = bytearray(bases[name])
    for _ in range(int(rng.integers(1, 5))):
        _damage(data, rng)
    return name, bytes(data)


def _damage(data: bytearray, rng: np.random.Generator) -> None:
    if len(data) < 64:
        return
    ends = rng.random() < 0.6  # headers and indices lie there
    span = min(len(data), 4096) if ends else len(data)
    place = int(rng.integers(0, span - 8))
    if ends and rng.random() < 0.5:
        place += len(data) - span
    length = int(rng.integers(1, 400))
    kind = rng.choice(
        ["bit", "byte", "number", "run", "drop", "double", "move", "cut"],
        p=[0.3, 0.2, 0.22, 0.08, 0.08, 0.05, 0.05, 0.02],
    )
    if kind == "bit":
        data[place] ^= 1 << int(rng.integers(0, 8))
    elif kind == "byte":
        data[place] = int(rng.integers(0, 256))
    elif kind == "number":
        order = "big" if rng.random() < 0.7 else "little"
        data[place : place + 4] = int(rng.choice(ABSURD)).to_bytes(4, order)
    elif kind == "run":
        data[place : place + length] = bytes([int(rng.choice([0, 0xFF, 0x47]))]) * len(data[place : place + length])
    elif kind == "drop":
        del data[place : place + length]
    elif kind == "double":
        data[place:place] = data[place : place + length]
    elif kind == "move":
        piece = data[place : place + length]
        del data[place : place + length]
        there = int(rng.integers(0, len(data)))
        data[there:there] = piece
    else:
        del data[max(64, place) :]


def _read_one(path: Path) -> tuple[str, str]:
    from expotion_cli.errors import ClipError
    from expotion_cli.media.clip import LONGEST_S
    from expotion_cli.media.decode import iter_frames
    from expotion_cli.media.probe import probe
    from expotion_cli.media.sound import read_clip_sound

    try:
        info = probe(path)
        if info.duration > LONGEST_S:
            return "refused", "longer than --max-duration"
        count = sum(1 for _ in iter_frames(info, rate_hz=25, max_side=32))
        return "read", f"{count} frames, {read_clip_sound(info, SAMPLE_RATE).shape[1]} samples"
    except ClipError as error:
        return "refused", error.reason
    except Exception as error:
        return "wrong error", f"{type(error).__name__}: {error}"


def read_them(paths: list[str]) -> None:
    """What the child does: read files one by one, a line before and after each."""
    die_with_parent()
    limit_memory(MEMORY_BYTES)
    for path in paths:
        print(json.dumps({"begin": path}), flush=True)
        outcome, text = _read_one(Path(path))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({"end": path, "outcome": outcome, "text": text[:300], "peak_mib": peak}), flush=True)


def outcomes(paths: list[Path]) -> Iterator[dict[str, object]]:
    """What became of each file, in order."""
    left = [str(path) for path in paths]
    while left:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as listing:
            json.dump(left, listing)
            listing.flush()
            command = [sys.executable, __file__, "--child", listing.name]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_feed, args=(child, lines), daemon=True).start()
            begun, started = False, time.monotonic()
            while left:
                try:
                    line = lines.get(timeout=LIMIT_S)
                except queue.Empty:
                    child.kill()
                    yield {"end": left.pop(0), "outcome": "hang", "text": f"more than {LIMIT_S:g} s", "took_s": LIMIT_S}
                    break
                if line is None:
                    assert begun, "the child does not start"
                    yield {"end": left.pop(0), "outcome": "crash", "text": f"ended with {child.wait()}", "took_s": 0.0}
                    break
                row = json.loads(line)
                if "begin" in row:
                    begun, started = True, time.monotonic()
                    continue
                left.pop(0)
                yield {**row, "took_s": round(time.monotonic() - started, 3)}
            child.kill()
            child.wait()


def _feed(child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def main() -> int:
    """Print a table; write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that were neither read nor refused")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures as JSON")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        read_them(json.loads(options.child.read_text()))
        return 0
    counts: Counter[tuple[str, str]] = Counter()
    bad, slowest, peak = [], 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        bases = make_bases(Path(folder))
        made = []
        for number in range(options.files):
            name, data = damaged(bases, options.seed, number)
            made.append(Path(folder) / f"{number:05}-{name}")
            made[-1].write_bytes(data)
        for path, row in zip(made, outcomes(made), strict=True):
            counts[path.name.split("-", 1)[1], str(row["outcome"])] += 1
            slowest, peak = max(slowest, float(str(row["took_s"]))), max(peak, int(str(row.get("peak_mib", 0))))
            if row["outcome"] not in GOOD:
                bad.append({"file": path.name, "outcome": row["outcome"], "text": row["text"]})
                print(bad[-1], flush=True)
                if options.keep is not None:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    os.replace(path, options.keep / path.name)
    rows = [[name, *(counts[name, kind] for kind in KINDS)] for name in sorted(bases)]
    totals = {kind: sum(counts[name, kind] for name in bases) for kind in KINDS}
    print_table(
        f"{options.files} damaged files, seed {options.seed}", ["made of", *KINDS], [*rows, ["all", *totals.values()]]
    )
    print(f"\nslowest file {slowest:.2f} s, peak memory of a child {peak} MiB")
    record = {"machine": machine(), "files": options.files, "seed": options.seed, **totals}
    write_results("fuzz_media", {**record, "slowest_s": slowest, "peak_mib": peak, "bad": bad}, options.results)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
