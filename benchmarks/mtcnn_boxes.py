"""How far the boxes of the `facenet` encoder differ from those that MTCNN gives the usual way, and what each costs.

The usual way: facenet-pytorch's MTCNN with its defaults over each whole picture; of its faces the one that overlaps
ours most is compared, for it does not know who is the main person. Both get the same pictures, 5 a second, and one
thread.

    python benchmarks/mtcnn_boxes.py --clips FOLDER
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench import machine, print_table, use_cores, write_results

RATE_HZ, AIM = 5, 0.9


def measure(clip: Path) -> dict[str, Any]:
    """One clip: boxes of both ways on each picture, and seconds."""
    from fractions import Fraction

    import torch
    from facenet_pytorch import MTCNN
    from PIL import Image

    from expotion_cli.media.decode import iter_views
    from expotion_cli.media.frames import View
    from expotion_cli.vision import facenet, mtcnn
    from expotion_cli.vision.tracking import overlap

    torch.set_num_threads(1)
    view = View(rate_hz=Fraction(RATE_HZ), max_side=facenet.MAX_SIDE)
    pictures = [frame.pixels for _, frame in iter_views(clip, (view,))]
    started = time.perf_counter()
    finder = mtcnn.FaceFinder()
    boxes = [finder.find(number / RATE_HZ, pixels)[0] for number, pixels in enumerate(pictures)]
    height, width = pictures[0].shape[:2]
    chosen = finder.tracker.main_person((width, height))
    ours_s = time.perf_counter() - started
    usual_net = MTCNN(keep_all=True)
    started = time.perf_counter()
    usual = [usual_net.detect(Image.fromarray(pixels))[0] for pixels in pictures]
    usual_s = time.perf_counter() - started
    overlaps, only_usual = [], 0
    for own, index, other in zip(boxes, chosen, usual, strict=True):
        if index >= 0 and other is not None:
            overlaps.append(max(overlap(own[index], np.asarray(box, dtype=float)) for box in other))
        elif other is not None:
            only_usual += 1
    return {
        "clip": clip.stem,
        "pictures": len(pictures),
        "found": round(float((chosen >= 0).mean()), 4),
        "found_usual": round(sum(one is not None for one in usual) / len(usual), 4),
        "mean_iou": round(float(np.mean(overlaps)), 4) if overlaps else None,
        "compared": len(overlaps),
        "only_usual": only_usual,
        "seconds": round(ours_s, 3),
        "seconds_usual": round(usual_s, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="a folder of videos with people; the demo clips by default")
    parser.add_argument("--cores", type=int, default=2, help="use only so many processors; 0 for all")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    folder = options.clips
    if folder is None:
        import tempfile

        from expotion_cli.demo import write_demo_clips

        folder = Path(tempfile.mkdtemp(prefix="expotion-bench-"))
        write_demo_clips(folder)
    clips = [measure(path) for path in sorted(folder.iterdir()) if path.suffix in (".mp4", ".mov", ".mkv", ".webm")]
    if not clips:
        raise SystemExit(f"no videos in {folder}")
    compared = sum(one["compared"] for one in clips)
    mean = sum(one["mean_iou"] * one["compared"] for one in clips if one["compared"]) / max(1, compared)
    faster = sum(one["seconds_usual"] for one in clips) / sum(one["seconds"] for one in clips)
    keys = ("clip", "pictures", "found", "found_usual", "compared", "mean_iou", "seconds", "seconds_usual")
    head = ("clip", "pictures", "face found", "the usual way", "compared", "mean IoU", "s", "s, the usual way")
    print_table("Main face, 5 pictures a second", head, [[one[key] for key in keys] for one in clips])
    rows = [
        ("mean IoU of the main face", f">= {AIM}", round(mean, 4), mean >= AIM),
        ("times faster", "-", faster, None),
    ]
    print_table("All clips", ("", "aim", "measured", "met"), rows)
    summary = {"mean_iou": round(mean, 4), "compared": compared, "times_faster": round(faster, 2)}
    write_results("mtcnn_boxes", {"machine": facts, "aim": AIM, "all": summary, "clips": clips})


if __name__ == "__main__":
    main()
