"""Does the music follow the picture by detectors that this project neither uses nor was tuned with? One table.

Motion: Farneback's dense flow at 320 by 240, the same less the camera's shift (the median flow), and plain differences
of pictures. Onsets: rises of mel bands' log power, of a spectrum's magnitudes, and of their logarithm, each from row to
row. All at 50 rows a second, lags within 0.2 s. Sound is that of finished results: mixed, limited, encoded.

    expotion-score clips --recipe cinematic --out scored
    python benchmarks/other_detectors.py clips --outputs cinematic=scored [--outputs NAME=DIR ...] [--name NAME]

Clips that a set lacks are left out of all.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from bench import RESULTS, machine, print_table, put_into, write_results

from expotion_cli.audio.onsets import RATE_HZ, mel_bands
from expotion_cli.evaluation import sync
from expotion_cli.evaluation.outputs import SAMPLE_RATE, find_clips, find_outputs, read_piece
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.probe import probe

PAGE = RESULTS.parent.parent / "docs" / "evaluation.md"
SIZE = (320, 240)
WINDOW = 2048
MOTIONS = ("Farneback", "less the camera", "differences")
ONSETS = ("log mel", "magnitudes", "log magnitudes")


def motions(clip: ClipInfo) -> dict[str, np.ndarray]:
    """How much moves, by each detector: [T] at 50 rows a second."""
    times, rows, before = [], [], None
    for frame in iter_frames(clip):
        picture = cv2.resize(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY), SIZE, interpolation=cv2.INTER_AREA)
        if before is not None and frame.time_s > before[0]:
            flow = cv2.calcOpticalFlowFarneback(before[1], picture, None, 0.5, 3, 15, 3, 5, 1.2, 0)
            own = flow - np.median(flow.reshape(-1, 2), axis=0)
            size = [np.linalg.norm(field, axis=2).mean() for field in (flow, own)]
            size.append(np.abs(picture.astype(np.float32) - before[1]).mean())
            rows.append(np.array(size) / (frame.time_s - before[0]))
            times.append(frame.time_s)
        before = frame.time_s, picture
    grid = np.arange(0, times[-1], 1 / RATE_HZ)
    return {name: np.interp(grid, times, column) for name, column in zip(MOTIONS, np.array(rows).T, strict=True)}


def onsets(audio: np.ndarray) -> dict[str, np.ndarray]:
    """Onset strength by each detector: [T] at 50 rows a second."""
    mono, hop = np.atleast_2d(audio).mean(axis=0), round(SAMPLE_RATE / RATE_HZ)
    padded = np.pad(mono, (WINDOW // 2, WINDOW))
    places = np.arange(0, len(mono), hop)[:, None] + np.arange(WINDOW)
    magnitudes = np.abs(np.fft.rfft(padded[places] * np.hanning(WINDOW).astype(np.float32)))
    mel = magnitudes**2 @ mel_bands(WINDOW, SAMPLE_RATE).T
    levels = np.log1p(1000 * mel / max(1e-9, float(mel.max()))), magnitudes, np.log1p(10 * magnitudes)
    rises = [np.maximum(np.diff(level, axis=0, prepend=level[:1]), 0).mean(axis=1) for level in levels]
    return dict(zip(ONSETS, rises, strict=True))


def compare(seen: Sequence[dict[str, np.ndarray]], heard: Sequence[dict[str, np.ndarray]]) -> list[dict]:
    """For each pair of detectors: own correlation, other clips', lift, ranking."""
    rows = []
    for motion, onset in itertools.product(MOTIONS, ONSETS):
        matrix = [[sync.motion_onset_correlation(s[motion], h[onset]).value for s in seen] for h in heard]
        rows.append({"motion": motion, "onsets": onset, **sync.record(sync.own_against_other(np.array(matrix)))})
    return rows


def markdown(results: dict[str, list[dict]]) -> str:
    """The lifts (and rankings) of all sets, for a page."""
    head = ["motion", "onsets", *results]
    lines = [head, ["---", "---", *["---:"] * len(results)]]
    for group in zip(*results.values(), strict=True):
        cells = [f"{row['lift']:.2f} ({row['probability']:.2f})" for row in group]
        lines.append([group[0]["motion"], group[0]["onsets"], *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Look, listen, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--outputs", action="append", required=True, help="NAME=DIR; once for each set")
    parser.add_argument("--name", default="other_detectors", help="of the results file, and of the page's table")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    facts = machine()
    clips = {name: probe(source.path) for name, source in find_clips([options.clips])[0].items()}
    sets = {}
    for wanted in options.outputs:
        name, _, folder = wanted.partition("=")
        sets[name] = find_outputs(name, folder, clips).files
    clips = {name: info for name, info in clips.items() if all(name in files for files in sets.values())}
    seen = [motions(clip) for clip in clips.values()]
    results = {}
    for name, files in sets.items():
        heard = [onsets(read_piece(files[clip], info)[0].audio) for clip, info in clips.items()]
        results[name] = compare(seen, heard)
        head = ("motion", "onsets", "own r", "other clips' r", "lift", "own ranks higher")
        keys = ("motion", "onsets", "own", "other", "lift", "probability")
        print_table(f"{name}, {len(clips)} clips", head, [[row[key] for key in keys] for row in results[name]])
    if not options.no_write:
        write_results(options.name, {"machine": facts, "clips": list(clips), "sets": results})
        put_into(PAGE, {options.name.replace("_", "-"): markdown(results)})


if __name__ == "__main__":
    main()
