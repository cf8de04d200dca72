"""How fast clips are looked at, and in how much memory: shares of the clip's length, against the way of tutorials.

- Each row looks at whole clips without a cache, decoding included, in a process that has looked at a clip before. Rows
  take turns, clip by clip and round by round, so that whatever else the machine does falls on all of them. Of each clip
  the fastest round counts, and of the clips the median; the slowest clip and the median of all rounds are told, too.
- FaceNet gets random weights where its own are not on this machine: they cost the same.
- The tutorial's way: every model by itself, picture by picture at full size, one after the other, each with a decoder
  of its own (OpenCV's `VideoCapture`, Farneback's flow, MediaPipe on single images, MTCNN and FaceNet with their
  defaults at the same 5 pictures a second). Models are loaded before the clock starts; the fastest round counts.
- Beside the time that passes, the processor time that all processes and threads took is told: it says what the work
  costs where others are at work too, whose share no clock can take off.
- A cache hit is timed until all streams are in memory, in a process that has the libraries loaded.
- Memory is the sum over the process and its workers of the most that each ever held (pages that processes share are
  counted in each), looking at a clip of 10 s and at one of 20 min, each in fresh processes.

    python benchmarks/vision.py --clips FOLDER
    python benchmarks/vision.py --clips FOLDER --only times --no-tutorial
    python benchmarks/vision.py --clips FOLDER --only memory --long-s 120

What is left out stays in the results as it was measured before; each part tells the machine's load while it ran.
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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import RESULTS, machine, print_table, tree_cpu_s, tree_memory_mb, use_cores, write_results

if TYPE_CHECKING:
    from expotion_cli.vision.encoder import StreamSource

CLIP_S, LONG_S = 10, 20 * 60
FACENET_HZ = 5
WORK = {
    "flow": (("flow",), 0.15),
    "face + pose + flow": (("face", "pose", "flow"), 0.50),
    "face + pose + flow + facenet": (("face", "pose", "flow", "facenet"), 0.80),
}
MEMORY = ("flow", "face + pose + flow + facenet")
HIT_MS, GROWTH_MB = 10.0, 100.0
HITS = 20
CLOSED_PORT = "http://127.0.0.1:9"
VIDEOS = (".mp4", ".mov", ".mkv", ".webm")


def make_clips(folder: Path, work: Path, limit: int, seconds: int) -> list[Path]:
    """Each video 640 by 480, `seconds` long; shorter ones go round."""
    from expotion_cli.media.ffmpeg import ffmpeg_exe

    made = []
    for source in sorted(path for path in folder.iterdir() if path.suffix in VIDEOS)[:limit]:
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


def facenet_weights(work: Path) -> Path | None:
    """None where FaceNet's published weights are here; else a file of random ones in their layout."""
    from expotion_cli.weights.manifest import find_manifest

    if find_manifest("facenet", "encoder").missing_reason() is None:
        return None
    import torch
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    path = work / "random-facenet.pt"
    torch.save(InceptionResnetV1(pretrained=None, classify=True, num_classes=8631).state_dict(), path)
    return path


def sources(names: tuple[str, ...], weights: Path | None) -> list[StreamSource]:
    """The streams of a row, FaceNet's with the weights at hand."""
    from expotion_cli.vision.encoder import StreamSource

    own = {"weights": str(weights)} if weights is not None else {}
    return [StreamSource(name, own if name == "facenet" else {}) for name in names]


Shares = tuple[float, float]
"""Time that passed, and processor time, as shares of the clip's length."""


def look_times(clips: list[Path], weights: Path | None, rounds: int) -> dict[str, list[list[Shares]]]:
    """Row -> clip -> what looking at it took, one a round."""
    from expotion_cli.media.probe import probe
    from expotion_cli.vision.streams import encode_clip

    wanted = {title: sources(names, weights) for title, (names, _) in WORK.items()}
    lengths = [float(probe(clip).duration) for clip in clips]
    for streams in wanted.values():
        encode_clip(clips[0], streams)
    taken: dict[str, list[list[Shares]]] = {title: [[] for _ in clips] for title in wanted}
    for _ in range(rounds):
        for number, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            for title, streams in wanted.items():
                started, used = time.perf_counter(), tree_cpu_s(os.getpid())
                encode_clip(clip, streams)
                passed, used = time.perf_counter() - started, tree_cpu_s(os.getpid()) - used
                taken[title][number].append((passed / length, used / length))
    return taken


def summary(taken: list[list[Shares]]) -> dict[str, float]:
    """Of one row's shares: the fastest round of each clip, and the median of all."""
    fastest = [min(share for share, _ in rounds) for rounds in taken]
    every = [share for rounds in taken for share, _ in rounds]
    return {
        "share": round(statistics.median(fastest), 4),
        "processor": round(statistics.median(min(used for _, used in rounds) for rounds in taken), 4),
        "slowest_clip": round(max(fastest), 4),
        "median_of_all_rounds": round(statistics.median(every), 4),
    }


def hit_times(clips: list[Path], streams: list[StreamSource], cache_folder: Path) -> list[float]:
    """Seconds until the streams of a clip that was looked at before are in memory."""
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.streams import encode_clip

    cache = EmbeddingCache(cache_folder)
    for clip in clips:
        os.utime(clip, (time.time() - 60,) * 2)  # only files that have settled are recognised without reading
        encode_clip(clip, streams, cache=cache)
    taken = []
    for _ in range(HITS):
        for clip in clips:
            started = time.perf_counter()
            encode_clip(clip, streams, cache=cache)
            taken.append(time.perf_counter() - started)
    return taken


def tutorial_times(clip: Path) -> dict[str, Shares]:
    """What the tutorial's way takes, by model."""
    import cv2
    import mediapipe as mp
    import numpy as np
    import torch
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

    def landmarks(landmarker: Any) -> None:
        for bgr in pictures():
            rgb = np.ascontiguousarray(bgr[..., ::-1])
            landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb))

    def facenet(mtcnn: Any, network: Any) -> None:
        step = cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS) / FACENET_HZ
        wanted = 0.0
        for number, bgr in enumerate(pictures()):
            if number >= wanted:
                wanted += step
                face = mtcnn(Image.fromarray(bgr[..., ::-1]))
                if face is not None:
                    with torch.no_grad():
                        network(face[None])

    face, pose = (BaseOptions(model_asset_path=str(task_file(kind))) for kind in ("face", "pose"))
    options = vision.FaceLandmarkerOptions(base_options=face, output_face_blendshapes=True)
    with contextlib.ExitStack() as stack:
        faces = stack.enter_context(vision.FaceLandmarker.create_from_options(options))
        bodies = stack.enter_context(
            vision.PoseLandmarker.create_from_options(vision.PoseLandmarkerOptions(base_options=pose))
        )
        mtcnn, network = MTCNN(), InceptionResnetV1(pretrained=None).eval()
        work: dict[str, Callable[[], None]] = {
            "flow": flow,
            "face": lambda: landmarks(faces),
            "pose": lambda: landmarks(bodies),
            "facenet": lambda: facenet(mtcnn, network),
        }
        taken = {}
        for name, job in work.items():
            started, used = time.perf_counter(), time.process_time()
            job()
            taken[name] = (time.perf_counter() - started) / CLIP_S, (time.process_time() - used) / CLIP_S
        return taken


def _child(*arguments: object) -> Any:
    """What another process of this script prints; one that MediaPipe can't call home from."""
    environment = dict(os.environ)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        environment[name] = environment[name.upper()] = CLOSED_PORT
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def memory_growth(clip: Path, long: Path, names: tuple[str, ...], weights: Path | None) -> dict[str, int]:
    """MB that fresh processes held at most while they looked at each of two clips."""
    given = ["--weights", weights] if weights is not None else []
    short_mb, long_mb = (_child("--look-at", each, "--streams", ",".join(names), *given) for each in (clip, long))
    return {"short_mb": round(short_mb), "long_mb": round(long_mb), "growth_mb": round(long_mb - short_mb)}


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    clips = make_clips(options.clips, work, options.limit, CLIP_S)
    weights = facenet_weights(work)
    found: dict[str, Any] = {"facenet_weights": "vggface2" if weights is None else "random"}
    if options.only != "memory":
        found |= measure_times(options, clips, weights, work)
    if options.only != "times":
        (long,) = make_clips(options.clips, work, 1, options.long_s)
        found["memory"] = {"long_s": options.long_s}
        for title in MEMORY:
            found["memory"][title] = memory_growth(clips[0], long, WORK[title][0], weights)
    return found


def measure_times(options: argparse.Namespace, clips: list[Path], weights: Path | None, work: Path) -> dict[str, Any]:
    before = _load()
    found: dict[str, Any] = {"clips": len(clips), "clip_s": CLIP_S, "rounds": options.rounds}
    tutorial: dict[str, list[float]] = {}
    if not options.no_tutorial:
        each = [_child("--tutorial", clip, "--rounds", options.rounds) for clip in clips[: options.tutorial_clips]]
        tutorial = {name: [statistics.median(one[name][i] for one in each) for i in (0, 1)] for name in each[0]}
        found["tutorial"] = {name: [round(value, 4) for value in values] for name, values in tutorial.items()}
    found["looking"] = {}
    for title, taken in look_times(clips, weights, options.rounds).items():
        names, limit = WORK[title]
        row: dict[str, Any] = {**summary(taken), "limit": limit}
        if tutorial:
            row["tutorial"], row["tutorial_processor"] = (round(sum(tutorial[n][i] for n in names), 4) for i in (0, 1))
            row["times_faster"] = round(row["tutorial"] / row["share"], 2)
            row["times_less_processor"] = round(row["tutorial_processor"] / row["processor"], 2)
        found["looking"][title] = row
    names = WORK["face + pose + flow + facenet"][0]
    hits = hit_times(clips, sources(names, weights), work / "hits")
    found["hit_ms"] = {"median": round(1e3 * statistics.median(hits), 3), "max": round(1e3 * max(hits), 3)}
    found["load"] = {"before": before, "after": _load()}
    return found


def _load() -> float | None:
    """How many processes ran or waited in the last minute; this benchmark's own are among them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def show(found: dict[str, Any]) -> None:
    memory = dict(found.get("memory", {}))
    length = memory.pop("long_s", 0)
    rows = []
    for title, one in memory.items():
        words = f"memory from {CLIP_S} s to {length} s, {title}, MB more"
        rows.append((words, f"<= {GROWTH_MB:g}", one["growth_mb"], one["growth_mb"] <= GROWTH_MB))
    if "hit_ms" in found:
        hit = found["hit_ms"]["median"]
        rows.insert(0, ("cache hit, all streams in memory, ms", f"<= {HIT_MS:g}", hit, hit <= HIT_MS))
    print_table("Cache and memory", ("", "aim", "measured", "met"), rows)
    if "looking" not in found:
        return
    rows = [
        (
            title,
            f"<= {one['limit']}",
            one["share"],
            one["share"] <= one["limit"],
            one["slowest_clip"],
            one["processor"],
            one.get("tutorial"),
            one.get("tutorial_processor"),
        )
        for title, one in found["looking"].items()
    ]
    head = (
        "looking at a clip",
        "aim",
        "share of its length",
        "met",
        "slowest clip",
        "processor",
        "tutorial",
        "processor",
    )
    print_table(f"{found['clips']} clips of {found['clip_s']} s, 640 by 480, best of {found['rounds']}", head, rows)
    print(f"FaceNet's weights: {found['facenet_weights']}")


def look_once(clip: Path, names: str, weights: Path | None) -> None:
    """Look at a clip and print the MB that this process and its workers held at most."""
    from expotion_cli.vision.streams import encode_clip

    encode_clip(clip, sources(tuple(names.split(",")), weights))
    print(json.dumps(tree_memory_mb(os.getpid(), peak=True)))  # workers wait for another clip, so they are there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="a folder of videos with people; the demo clips by default")
    parser.add_argument("--limit", type=int, default=8, help="take so many of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tutorial-clips", type=int, default=2)
    parser.add_argument("--no-tutorial", action="store_true")
    parser.add_argument("--only", choices=("times", "memory"), help="measure this part alone")
    parser.add_argument("--long-s", type=int, default=LONG_S, help="length of the long clip")
    parser.add_argument("--cores", type=int, default=2, help="use only so many processors; 0 for all")
    parser.add_argument("--look-at", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--streams", default="flow", help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tutorial", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_cores(options.cores)
    if options.look_at:
        look_once(options.look_at, options.streams, options.weights)
        return
    if options.tutorial:
        rounds = [tutorial_times(options.tutorial) for _ in range(options.rounds)]
        print(json.dumps({name: [min(one[name][i] for one in rounds) for i in (0, 1)] for name in rounds[0]}))
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
    if options.only and (RESULTS / "vision.json").is_file():
        found = {**json.loads((RESULTS / "vision.json").read_text(encoding="utf-8")), **found}
    write_results("vision", {"machine": facts, **found})


if __name__ == "__main__":
    main()
