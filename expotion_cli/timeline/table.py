"""Markers as a table (CSV), for spreadsheets; `--hits` reads it back."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from expotion_cli.timeline.marker import Footage, Marker, plain

COLUMNS = ("time_s", "frame", "timecode", "kind", "marker", "weight", "colour", "note")


def write_table(footage: Footage, markers: Sequence[Marker]) -> str:
    """Markers, one a row: seconds and frame from the first frame, timecode of the timeline."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for marker in markers:
        time_s = f"{float(footage.timebase.time_of(marker.frame)):.6f}"
        weight = "" if marker.weight is None else f"{marker.weight:g}"
        kinds, at = "+".join(marker.kinds), footage.record.timecode(marker.frame)
        table.writerow([time_s, marker.frame, at, kinds, plain(marker.name), weight, marker.colour, plain(marker.note)])
    return text.getvalue()
