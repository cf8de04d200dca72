"""Draws docs/timeline.svg: a clip's markers as an editing program shows them, read back from the file that we write.

The demo clip that sways is planned with `expotion plan --markers otio`; OpenTimelineIO reads it, and what it finds
is drawn: the clip's bar, a ruler of timecodes, and each marker in its colour with its name.

    python benchmarks/timeline_picture.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import opentimelineio as otio
from bench import RESULTS

from expotion_cli.demo import write_demo_clips

PICTURE = RESULTS.parent.parent / "docs" / "timeline.svg"
WIDTH, LEFT, BAR, ROW = 1180, 30, 46, 16
COLOURS = {"BLUE": "#3b82f6", "RED": "#ef4444", "GREEN": "#22c55e", "PURPLE": "#a855f7", "YELLOW": "#eab308"}
CALL = "from expotion_cli.cli import main; main()"


def read_markers(path: Path) -> tuple[str, float, list[tuple[float, str, str, str]]]:
    """What OpenTimelineIO reads: the clip's name, its length in seconds, and (seconds, timecode, name, colour) each."""
    timeline = otio.adapters.read_from_file(str(path))
    (clip,) = timeline.find_clips()
    start = clip.source_range.start_time
    rows = []
    for marker in clip.markers:
        at = marker.marked_range.start_time
        rows.append(((at - start).to_seconds(), otio.opentime.to_timecode(at), marker.name, COLOURS[marker.color]))
    return clip.name, clip.source_range.duration.to_seconds(), rows


def draw(name: str, length_s: float, markers: list[tuple[float, str, str, str]]) -> str:
    """The SVG."""
    height = BAR + 60 + ROW * (len(markers) + 1)
    scale = (WIDTH - 2 * LEFT) / length_s
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" ',
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#1b1d22"/>',
    ]
    for second in range(int(length_s) + 1):
        x = LEFT + second * scale
        parts.append(f'<path d="M{x:.1f} 14v8" stroke="#8a8f98"/>')
        parts.append(f'<text x="{x:.1f}" y="11" fill="#8a8f98" text-anchor="middle">00:00:{second:02d}:00</text>')
    parts.append(
        f'<rect x="{LEFT}" y="34" width="{length_s * scale:.1f}" height="{BAR}" rx="3" fill="#33507a"/>'
        f'<text x="{LEFT + 8}" y="50" fill="#dfe6f1">{escape(name)}</text>'
    )
    for row, (at_s, timecode, text, colour) in enumerate(markers):
        x, y = LEFT + at_s * scale, 34 + BAR + ROW * (row + 1)
        to_left = x > WIDTH * 0.72
        parts.append(f'<path d="M{x:.1f} 26V{y}" stroke="{colour}" stroke-opacity=".55"/>')
        parts.append(f'<path d="M{x - 5:.1f} 22h10v6l-5 6-5-6z" fill="{colour}"/>')
        place = f'x="{x - 6:.1f}" text-anchor="end"' if to_left else f'x="{x + 6:.1f}"'
        parts.append(
            f'<text {place} y="{y}" fill="#dfe6f1">{escape(text)} <tspan fill="#8a8f98">{timecode}</tspan></text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_demo_clips(root / "clips")
        flags = ["--to", str(root), "--markers", "otio", "--marker-kinds", "hits,cuts,sections"]
        subprocess.run([sys.executable, "-c", CALL, "plan", str(root / "clips" / "sway.mp4"), *flags], check=True)
        PICTURE.write_text(draw(*read_markers(root / "sway.otio")), encoding="utf-8")
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
