"""A marker, and what it lies on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from expotion_cli.timeline.timecode import Timebase

HIT, SECTION, CUT, BEAT = KINDS = ("hit", "section", "cut", "beat")
"""Kinds of markers; where several fall on one frame, the first gives the colour."""
JOINED = " + "
"""Between the names of markers that fall on one frame."""
OWN_NAMES = {
    HIT: re.compile(r"hit: \w+(?: ([\d.]+))?"),
    SECTION: re.compile(r"section \d+: intensity [\d.]+"),
    CUT: re.compile(r"cut: \w+"),
    BEAT: re.compile(r"(?:bar|beat) [\d.]+"),
}
"""How the names begin that this program gives to its markers."""
_WEIGHT = re.compile(r"\bweight (\d(?:\.\d+)?)\b")
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Marker:
    """A marker on a frame.

    Attributes:
        frame: counted from the first frame of the picture.
        kinds: of `KINDS`; several where several fall on this frame.
        name: what the program shows.
        colour: a colour that Resolve and OpenTimelineIO both have, e.g. "Blue".
        note: in words, where it comes from.
        weight: 0..1, of a hit point; None for others.
    """

    frame: int
    kinds: tuple[str, ...]
    name: str
    colour: str
    note: str = ""
    weight: float | None = None


@dataclass(frozen=True)
class Footage:
    """The video that markers lie on.

    Attributes:
        url: where it lies, as a URL or a relative one.
        name: its file name.
        timebase: how its timeline counts.
        num_frames: of the timeline.
        width, height: of the picture in pixels.
        has_sound: whether it has a sound track.
        begins: timecode of the timeline's first frame, if it isn't the video's own.
    """

    url: str
    name: str
    timebase: Timebase
    num_frames: int
    width: int
    height: int
    has_sound: bool
    begins: str | None = None

    @property
    def record(self) -> Timebase:
        """How the timeline counts, where it has a timecode of its own."""
        base = self.timebase
        return base if self.begins is None else Timebase(base.rate, base.is_drop, base.number_of(self.begins))


@dataclass(frozen=True)
class FoundMarker:
    """A marker in a file that somebody gives.

    Attributes:
        row: where it stands in the file, for messages.
        name, note: as the file has them.
        clip: name of the video that it lies on; None where the file doesn't say or has one only.
        time: seconds from the video's first frame; None where only a timecode is known.
        timecode: of its frame; None where the time is known.
        rate: frames a second of the file's timeline; None where it doesn't say.
    """

    row: str
    name: str
    note: str = ""
    clip: str | None = None
    time: Fraction | None = None
    timecode: str | None = None
    rate: Fraction | None = None

    @property
    def is_hit(self) -> bool:
        """Whether it is a hit point: whatever isn't one of this program's own cuts, sections and beats."""
        is_own = any(OWN_NAMES[kind].match(self.name) for kind in (SECTION, CUT, BEAT))
        return not is_own

    @property
    def weight(self) -> float:
        """What name or note say it weighs, else 1."""
        found = _WEIGHT.search(self.note) or OWN_NAMES[HIT].match(self.name)
        try:
            return min(1.0, float(found[1])) if found is not None and found[1] else 1.0
        except ValueError:
            return 1.0


def plain(text: str) -> str:
    """Text without characters that XML, or a line of a file, can't hold."""
    return " ".join(_NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", text).split())


def url_of(path: Path) -> str:
    """The URL of a file, as editing programs want it."""
    return path.absolute().as_uri()
