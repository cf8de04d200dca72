"""How fast clips are looked at, and in how much memory: shares of the clip's length, against the way of tutorials.

- Each row looks at whole clips without a cache, decoding included, in a process that has looked at a clip before; the
  median of several rounds over the clips counts. FaceNet gets random weights where its own are not on this machine:
  they cost the same.
- The tutorial's way runs in the same session: every model by itself, picture by picture at full size, one after the
  other, each with a decoder of its own (OpenCV's `VideoCapture`, Farneback's flow, MediaPipe on single images, MTCNN
  and FaceNet with their defaults at the same 5 pictures a second).
- A cache hit is timed with the streams in memory at the end.
- Memory is the largest sum over the process tree (pages that processes share are counted in each), looking at a clip
  of 10 s and at one of 20 min.

    python benchmarks/vision.py --clips FOLDER
    python benchmarks/vision.py --clips FOLDER --long-s 120 --no-tutorial
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import machine, print_table, tree_memory_mb, use_cores, write_results

CLIP_S, LONG_S = 10, 20 * 60
FACENET_HZ = 5
WORK = {
    "flow": (("flow",), 0.15),
    "face + pose + flow": (("face", "pose", "flow"), 0.50),
    "face + pose + flow + facenet": (("face", "pose", "flow", "facenet"), 0.80),
}
HIT_MS, GROWTH_MB = 10.0, 100.0
CLOSED_PORT = "http://127.0.0.1:9"


def make_clips(folder: Path, work: Path, limit: int, seconds: int) -> list[Path]:
    """Each video 640 by 480, `seconds` long; shorter ones go round."""
    from expotion_cli.media.ffmpeg import ffmpeg_exe

    made = []
    for source in sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".mov", ".mkv", ".webm"))[:limit]:
        path = work / f"{source.stem}-{seconds}.mp4"
        fit = "scale=640:480:force_original_aspect_ratio=decrease,pad=640:480:-1:-1"
        coded = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-an"]
        once = work / f"{source.stem}-once.mp4"
        quiet = [ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
        if not once.exists():
            subprocess.run([*quiet, "-i", source, "-t", str(CLIP_S), "-vf", fit, *coded, once], check=True)
        subprocess.run([*quiet, "-stream_loop", "-1", "-i", once, "-t", str(seconds), "-c", "copy", path], check=True)
        made.append(path)
    if not made:
        raise SystemExit(f"no videos in {folder}")
    return made


def facenet_weights() -> str:
    """Make sure that FaceNet has weights in the cache; says which."""
    from expotion_cli.weights import find_manifest

    manifest = find_manifest("facenet", "encoder")
    if all(file.state() == "here" for file in manifest.files):
        return "vggface2"
    import torch
    from facenet_pytorch import InceptionResnetV1

    from expotion_cli.weights import weights_folder

    torch.manual_seed(0)
    folder = weights_folder() / manifest.name
    folder.mkdir(parents=True, exist_ok=True)
    network = InceptionResnetV1(pretrained=None, classify=True, num_classes=8631)
    torch.save(network.state_dict(), folder / manifest.files[0].name)
    os.environ["EXPOTION_UNPINNED"] = "1"
    return "random"


def look_times(clips: list[Path], names: tuple[str, ...], rounds: int) -> list[float]:
    """Seconds that looking at each clip takes, by rounds; one clip is looked at before."""
    from expotion_cli.vision.streams import encode_clip

    encode_clip(clips[0], names)
    taken = []
    for _ in range(rounds):
        for clip in clips:
            started = time.perf_counter()
            encode_clip(clip, names)
            taken.append(time.perf_counter() - started)
    return taken


def hit_times(clips: list[Path], names: tuple[str, ...], cache_folder: Path) -> list[float]:
    """Seconds until the streams of a clip that was looked at before are in memory."""
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.streams import encode_clip

    cache = EmbeddingCache(cache_folder)
    for clip in clips:
        os.utime(clip, (time.time() - 60,) * 2)  # only files that have settled are recognised without reading
        encode_clip(clip, names, cache=cache)
    taken = []
    for _ in range(20):
        for clip in clips:
            started = time.perf_counter()
            encode_clip(clip, names, cache=cache)
            taken.append(time.perf_counter() - started)
    return taken


def tutorial_times(clip: Path) -> dict[str, float]:
    """Seconds the tutorial's way takes, by model."""
    import cv2
    import mediapipe as mp
    import numpy as np
    from facenet_pytorch import MTCNN, InceptionResnetV1
    from mediapipe.tasks.python import BaseOptions, vision
    from PIL import Image

    from expotion_cli.vision.landmarks import task_file

    def pictures() -> Iterator[np.ndarray]:
        source = cv2.VideoCapture(str(clip))
        while True:
            there, bgr = source.read()
            if not there:
                return
            yield bgr

    def flow() -> None:
        before = None
        for bgr in pictures():
            grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
            if before is not None:
                cv2.calcOpticalFlowFarneback(before, grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
            before = grey

    def landmarks(kind: str) -> None:
        base = BaseOptions(model_asset_path=str(task_file(kind)[0]))
        if kind == "face":
            options = vision.FaceLandmarkerOptions(base_options=base, output_face_blendshapes=True)
            landmarker = vision.FaceLandmarker.create_from_options(options)
        else:
            landmarker = vision.PoseLandmarker.create_from_options(vision.PoseLandmarkerOptions(base_options=base))
        with contextlib.closing(landmarker):
            for bgr in pictures():
                rgb = np.ascontiguousarray(bgr[..., ::-1])
                landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb))

    def facenet() -> None:
        mtcnn, network = MTCNN(), InceptionResnetV1(pretrained=None).eval()
        import torch

        source = cv2.VideoCapture(str(clip))
        step = source.get(cv2.CAP_PROP_FPS) / FACENET_HZ
        wanted = 0.0
        for number, bgr in enumerate(pictures()):
            if number >= wanted:
                wanted += step
                face = mtcnn(Image.fromarray(bgr[..., ::-1]))
                if face is not None:
                    with torch.no_grad():
                        network(face[None])

    work: dict[str, Callable[[], None]] = {
        "flow": flow,
        "face": lambda: landmarks("face"),
        "pose": lambda: landmarks("pose"),
        "facenet": facenet,
    }
    taken = {}
    for name, job in work.items():
        started = time.perf_counter()
        job()
        taken[name] = time.perf_counter() - started
    return taken


def peak_memory(clip: Path, names: tuple[str, ...]) -> float:
    """Largest memory of a fresh process (and its workers) that looks at a clip, in MB."""
    process = subprocess.Popen([sys.executable, __file__, "--look-at", str(clip), "--streams", ",".join(names)])
    peak = [0.0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], tree_memory_mb(process.pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        raise SystemExit(f"looking at {clip.name} failed ({code})")
    return peak[0]


def _child(*arguments: str) -> str:
    """Run this script again in a process that MediaPipe can't call home from."""
    environment = dict(os.environ)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        environment[name] = environment[name.upper()] = CLOSED_PORT
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.splitlines()[-1]


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    clips = make_clips(options.clips, work, options.limit, CLIP_S)
    found: dict[str, Any] = {"facenet_weights": facenet_weights(), "clips": len(clips), "clip_s": CLIP_S}
    tutorial: dict[str, float] = {}
    if not options.no_tutorial:
        each = [json.loads(_child("--tutorial", str(clip))) for clip in clips[: options.tutorial_clips]]
        tutorial = {name: statistics.median(one[name] for one in each) / CLIP_S for name in each[0]}
        found["tutorial"] = {name: round(value, 4) for name, value in tutorial.items()}
    rows = {}
    for title, (names, limit) in WORK.items():
        share = statistics.median(look_times(clips, names, options.rounds)) / CLIP_S
        other = sum(tutorial[name] for name in names) if tutorial else None
        rows[title] = {"share": round(share, 4), "limit": limit, "tutorial": other and round(other, 4)}
        rows[title]["times_faster"] = other and round(other / share, 2)
    found["looking"] = rows
    names = WORK["face + pose + flow + facenet"][0]
    hits = hit_times(clips, names, work / "hits")
    found["hit_ms"] = {"median": round(1e3 * statistics.median(hits), 3), "max": round(1e3 * max(hits), 3)}
    if options.long_s:
        (long,) = make_clips(options.clips, work, 1, options.long_s)
        memory = {}
        for title, watched in (("flow", ("flow",)), ("all", names)):
            short_mb, long_mb = (peak_memory(clip, watched) for clip in (clips[0], long))
            memory[title] = {
                "short_mb": round(short_mb),
                "long_mb": round(long_mb),
                "growth_mb": round(long_mb - short_mb),
            }
        found["memory"] = {"long_s": options.long_s, **memory}
    return found


def show(found: dict[str, Any]) -> None:
    rows = [
        (title, one["share"], f"<= {one['limit']}", one["share"] <= one["limit"], one["tutorial"], one["times_faster"])
        for title, one in found["looking"].items()
    ]
    head = ("looking at a clip", "share of its length", "aim", "met", "the tutorial's way", "times faster")
    print_table(f"{found['clips']} clips of {found['clip_s']} s, 640 by 480", head, rows)
    hit = found["hit_ms"]
    rows = [("cache hit, all streams in memory, ms", f"<= {HIT_MS:g}", hit["median"], hit["median"] <= HIT_MS)]
    if "memory" in found:
        length = found["memory"]["long_s"]
        for title in ("flow", "all"):
            one = found["memory"][title]
            words = f"memory from {CLIP_S} s to {length} s, {title}, MB more"
            rows.append((words, f"<= {GROWTH_MB:g}", one["growth_mb"], one["growth_mb"] <= GROWTH_MB))
    print_table("Cache and memory", ("", "aim", "measured", "met"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="a folder of videos with people; the demo clips by default")
    parser.add_argument("--limit", type=int, default=8, help="take so many of them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tutorial-clips", type=int, default=2)
    parser.add_argument("--no-tutorial", action="store_true")
    parser.add_argument("--long-s", type=int, default=LONG_S, help="length of the long clip; 0 leaves it out")
    parser.add_argument("--cores", type=int, default=2, help="use only so many processors; 0 for all")
    parser.add_argument("--look-at", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--streams", default="flow", help=argparse.SUPPRESS)
    parser.add_argument("--tutorial", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_cores(options.cores)
    if options.look_at:
        from expotion_cli.vision.streams import encode_clip

        encode_clip(options.look_at, options.streams.split(","))
        return
    if options.tutorial:
        print(json.dumps(tutorial_times(options.tutorial)))
        return
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="expotion-bench-") as name:
        work = Path(name)
        os.environ["EXPOTION_CACHE"] = str(work / "cache")
        if options.clips is None:
            from expotion_cli.demo import write_demo_clips

            options.clips = work / "demo"
            write_demo_clips(options.clips)
        found = measure(options, work)
    show(found)
    write_results("vision", {"machine": facts, **found})


if __name__ == "__main__":
    main()
