"""Marker EDLs, as DaVinci Resolve imports and exports them ("Timeline Markers from EDL").

Each marker is an event of one frame, followed by a line with note, colour, name and length:

    001  001      V     C        01:00:02:00 01:00:02:01 01:00:02:00 01:00:02:01
    weight 0.8 |C:ResolveColorBlue |M:hit: gesture 0.8 |D:1
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from expotion_cli.timeline.marker import Footage, FoundMarker, Marker, plain
from expotion_cli.timeline.timecode import TIMECODE

_EVENT = re.compile(r"(\d+)\s+\S+\s+\S+\s+\S+(?:\s+\d+)?((?:\s+\S*:\S*){4})\s*(?:\|.*)?")
_ABOUT = re.compile(r"(?P<note>[^|]*)\|C:(?P<colour>\w+)\s*\|M:(?P<name>[^|]*?)\s*(?:\|D:(?P<length>\d+))?\s*")
_LOCATOR = re.compile(r"\*\s*LOC:\s*(?P<at>\S+)\s+(?P<colour>\w+)\s*(?P<name>.*)")


def write_edl(footage: Footage, markers: Sequence[Marker]) -> str:
    """Markers as an EDL; source columns count as the video does, record columns as the timeline does."""
    source, record = footage.timebase, footage.record
    lines = [f"TITLE: {_safe(footage.name)}", f"FCM: {'' if record.is_drop else 'NON-'}DROP FRAME", ""]
    for number, marker in enumerate(markers, start=1):
        times = [base.timecode(frame) for base in (source, record) for frame in (marker.frame, marker.frame + 1)]
        lines.append(f"{number:03}  001      V     C        {' '.join(times)}  ")
        lines.append(f"{_safe(marker.note)} |C:ResolveColor{marker.colour} |M:{_safe(marker.name)} |D:1")
        lines.append("")
    return "\n".join(lines)


def _safe(text: str) -> str:
    """Text that ends no field."""
    return plain(text).replace("|", "/")


def read_edl(text: str) -> list[FoundMarker]:
    """Markers of an EDL: Resolve's, or locators (`* LOC:`).

    Raises:
        ValueError: it is no EDL, or damaged; the message says where.
    """
    found: list[FoundMarker] = []
    event: tuple[int, str] | None = None
    num_events, drops = 0, False
    for number, line in enumerate(text.splitlines(), start=1):
        row, line = f"line {number}", line.strip()
        if line.startswith("FCM:"):
            drops = "NON" not in line.upper()
        if not line or line.startswith(("TITLE:", "FCM:", ">>>", "M2 ")):
            continue
        if (about := _ABOUT.fullmatch(line)) is not None:
            if event is None:
                raise ValueError(f"{row}: a marker without the event that says when")
            note, name = about["note"].strip(), about["name"].strip()
            found.append(FoundMarker(row, name, note, timecode=event[1]))
        elif (locator := _LOCATOR.fullmatch(line)) is not None:
            if TIMECODE.fullmatch(locator["at"]) is None:
                raise ValueError(f"{row}: {locator['at']!r} is no timecode")
            found.append(FoundMarker(row, locator["name"].strip(), timecode=locator["at"]))
        elif (columns := _EVENT.fullmatch(line)) is not None:
            times = columns[2].split()
            for each in times:
                if TIMECODE.fullmatch(each) is None:
                    raise ValueError(f"{row}: {each!r} is no timecode")
            code = TIMECODE.sub(r"\1:\2:\3;\5", times[2]) if drops else times[2]  # some write : in spite of FCM
            event, num_events = (number, code), num_events + 1
        elif re.match(r"\d{3,}(?:\s|$)", line):
            raise ValueError(f"{row}: the event is cut off or damaged")
    if not num_events and not found:
        raise ValueError("it holds no events")
    if not found:
        raise ValueError("it holds cuts, but no markers")
    return found
