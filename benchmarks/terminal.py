"""Draws the live table of `expotion-score` in the middle of a made-up batch, as docs/terminal.svg shows it.

    python benchmarks/terminal.py docs/terminal.svg [--width 80]

Nothing is scored: the table is told of the same events that a batch tells it of.
"""

from __future__ import annotations

import argparse
import io
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from expotion_cli.cli import live_table
from expotion_cli.errors import ProbeError
from expotion_cli.scoring.files import HERE
from expotion_cli.scoring.plan import Result

CLIPS = {
    "beach/GX010234.MP4": 42.5,
    "beach/GX010235.MP4": 31.2,
    "dance-rehearsal.mov": 125.0,
    "interview.mp4": 58.0,
    "old-tape.avi": 17.0,
    "walk.mp4": 24.0,
}


class Clock:
    """A clock that goes as fast as it is told."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def scored(name: str, bpm: float, lufs: float, peak: float) -> Result:
    loudness = {"integrated_lufs": lufs, "true_peak_dbtp": peak}
    return Result(name, "scored", Path(name), sidecar={"tempo": {"bpm": bpm}, "loudness": loudness, "notes": []})


def draw(width: int) -> Console:
    clock: Any = Clock()
    live_table.time = clock
    jobs = {name: SimpleNamespace(name=name, clip=SimpleNamespace(duration=Fraction(s))) for name, s in CLIPS.items()}
    plan: Any = SimpleNamespace(jobs=tuple(jobs.values()), files=HERE, settings=SimpleNamespace(out=Path("scored")))
    table = live_table.LiveTable(plan, io.StringIO())
    table.console = console = Console(
        record=True, width=width, height=30, file=io.StringIO(), highlight=False, force_terminal=True
    )
    for name, result in (
        ("beach/GX010234.MP4", scored("beach/GX010234.MP4", 112, -14.0, -1.3)),
        ("beach/GX010235.MP4", scored("beach/GX010235.MP4", 96, -14.1, -1.1)),
    ):
        for stage, pace in (("see", 0.5), ("compose", 0.3), ("finish", 0.1)):
            table.stage(jobs[name], stage, 0.0)
            clock.now += pace * CLIPS[name]
        table.result(result)
    error = ProbeError(
        "its end is missing.", path="clips/old-tape.avi", remedy="Copy it again from where it was whole."
    )
    table.result(Result("old-tape.avi", "failed", error=error))
    table.stage(jobs["interview.mp4"], "see", 0.0)
    clock.now += 29
    table.stage(jobs["interview.mp4"], "compose", 0.0)
    table.stage(jobs["dance-rehearsal.mov"], "see", 0.0)
    clock.now += 14
    table.stage(jobs["interview.mp4"], "compose", 0.62)
    table.stage(jobs["dance-rehearsal.mov"], "see", 0.31)
    console.print(table.draw())
    return console


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("svg", type=Path, help="the picture to write")
    parser.add_argument("--width", type=int, default=80, help="columns of the terminal")
    options = parser.parse_args()
    drawn = draw(options.width).export_svg(title="expotion-score clips", unique_id="terminal")
    # The picture loads nothing from elsewhere: readers' own monospaced fonts will do.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    options.svg.write_text(drawn + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
