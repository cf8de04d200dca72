"""A user's own hit points: from a table, a JSON file, or markers of an editing program (`expotion_cli.timeline`)."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import ExpotionError, PlanError, UsageError, reading
from expotion_cli.spotting.hits import USER, HitPoint
from expotion_cli.spotting.plan_file import MAX_HITS, as_number, refuse_crowding
from expotion_cli.storage import read_json, read_text
from expotion_cli.timeline.files import READERS, read_markers
from expotion_cli.timeline.marker import HIT, FoundMarker
from expotion_cli.timeline.timecode import DROPPING, Timebase, is_dropping, shown_rate, timebase_of

MAX_BYTES = 4 << 20
COLUMNS = ("time_s", "frame", "weight", "clip")
_NAMES = {"time": "time_s", "seconds": "time_s", "t": "time_s", "start": "time_s", "frames": "frame", "file": "clip",
          "name": "clip"}  # fmt: skip
_OF_PLANS = ("cause", "source")
"""What else the hit points of a plan have."""
_OF_MARKERS = ("timecode", "kind", "marker", "colour", "note")
"""What else a table of markers has (`timeline.table`); rows of other kinds than hit points are passed over."""
_UNREAD = {
    ".xml": "Premiere's XML",
    ".aaf": "AAF",
    ".drp": "a Resolve project",
    ".prproj": "a Premiere project",
}
_ZERO, _HOUR = "00:00:00:00", "01:00:00:00"
_SAME_RATE = Fraction(1, 2000)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_COMMA = re.compile(r"-?\d+,\d+")
_EXAMPLE = "Write a table with a column time_s (seconds), or a JSON list of seconds."
_OTHER_RATE = "Export the markers from a timeline of the clip's own rate."


@dataclass(frozen=True)
class Moment:
    """A row of a hits file: a time in seconds, a frame number, or a timecode.

    Attributes:
        value: seconds or frames.
        is_frame: whether they are frames.
        weight: 0..1.
        row: where it stands, for messages.
        timecode: stands for `value` where it isn't empty.
        rate: frames a second that the file counts; None where it doesn't say.
    """

    value: float | Fraction
    is_frame: bool
    weight: float
    row: str
    timecode: str = ""
    rate: Fraction | None = None


@dataclass(frozen=True)
class UserHits:
    """A user's hit points.

    Attributes:
        path: the file.
        everywhere: those for every clip.
        by_clip: those for one clip, by its path, file name or stem.
    """

    path: Path
    everywhere: tuple[Moment, ...] = ()
    by_clip: Mapping[str, tuple[Moment, ...]] = field(default_factory=dict)

    def of(self, names: Sequence[str], duration_s: float, fps: Fraction, timecode: str = "") -> tuple[HitPoint, ...]:
        """The hit points of a clip.

        Args:
            names: by which the file may call it.
            duration_s: of the clip.
            fps: its frames a second, for frame numbers.
            timecode: of its first frame; "" for none.

        Raises:
            PlanError: a time lies outside the clip, two are closer than 50 ms, or the file counts another rate.
        """
        own = [moment for name in dict.fromkeys(names) for moment in self.by_clip.get(name, ())]
        moments = [*self.everywhere, *own]
        base = timebase_of(fps, timecode)
        self._refuse_other_rate(moments, base.rate)
        codes = [moment.timecode for moment in moments if moment.timecode]
        starts = self._starts(codes, duration_s, base, timecode) if codes else {}
        hits = []
        for moment in moments:
            if moment.timecode:
                time = base.time_of(starts[moment.timecode])
            else:
                time = Fraction(moment.value) / fps if moment.is_frame else Fraction(moment.value)
            if not 0 <= time <= duration_s:
                what = moment.timecode or f"{float(moment.value):g} {'frames' if moment.is_frame else 's'}"
                raise PlanError(
                    f"{moment.row}: {what} lies outside the clip, which lasts {duration_s:.3f} s.",
                    path=self.path,
                    remedy=_remedy(moment, duration_s, float(fps), base),
                )
            hits.append(HitPoint(round(float(time), 4), moment.weight, USER, f"{self.path.name}, {moment.row}"))
        hits.sort(key=lambda hit: hit.time_s)
        refuse_crowding(hits, self.path)
        return tuple(hits)

    def _refuse_other_rate(self, moments: Iterable[Moment], rate: Fraction) -> None:
        other = next((m.rate for m in moments if m.rate is not None and abs(m.rate / rate - 1) > _SAME_RATE), None)
        if other is not None:
            reason = f"its markers count {shown_rate(other)} frames a second, but the clip has {shown_rate(rate)}."
            raise PlanError(reason, path=self.path, remedy=_OTHER_RATE)

    def _starts(self, codes: Sequence[str], duration_s: float, base: Timebase, timecode: str) -> dict[str, int]:
        """The frame of each timecode, counted from the clip's first.

        Timelines begin at the clip's own timecode, at Resolve's 01:00:00:00, or at 0: the first of these counts at
        which all timecodes lie inside the clip.
        """
        if any(map(is_dropping, codes)) != base.is_drop:
            if base.rate in DROPPING:  # a timeline may drop numbers where the clip doesn't, and the other way round
                base = Timebase(base.rate, not base.is_drop)
                with contextlib.suppress(ValueError):
                    base = replace(base, start=base.number_of(timecode or _ZERO))
            else:
                reason = f"its timecode is drop-frame (29.97 or 59.94), but the clip has {shown_rate(base.rate)} fps."
                raise PlanError(reason, path=self.path, remedy=_OTHER_RATE)
        try:
            numbers = {code: base.number_of(code) for code in codes}
            hour = base.number_of(_HOUR)
        except ValueError as error:
            reason = f"{error}: the markers count another rate than the clip ({shown_rate(base.rate)})."
            raise PlanError(reason, path=self.path, remedy=_OTHER_RATE) from None
        last = int(duration_s * base.rate) + 1
        for start in (base.start, hour, 0):
            if all(0 <= number - start <= last for number in numbers.values()):
                break
        else:
            start = base.start
        return {code: number - start for code, number in numbers.items()}

    def unused(self, names: Iterable[str]) -> list[str]:
        """A note about rows that belong to none of these clips, if there are any."""
        unknown = sorted(set(self.by_clip) - set(names))
        return [f"hit points for no clip at hand: {', '.join(unknown)}"] if unknown else []


def _remedy(moment: Moment, duration_s: float, fps: float, base: Timebase) -> str:
    if moment.timecode or moment.rate is not None:
        return f"The clip runs from {base.timecode(0)} to {base.timecode(round(duration_s * fps))}."
    if not moment.is_frame and 0 <= moment.value / fps <= duration_s and moment.value == int(moment.value):
        return "If these are frame numbers, call the column frame."
    if not moment.is_frame and 0 <= moment.value / 1000 <= duration_s:
        return "If these are milliseconds, divide them by 1000."
    return "Times count from the first frame; give each clip its own rows with a column clip."


def read_hits(path: Path) -> UserHits:
    """Read a hits file.

    CSV: a header of `time_s` (or `frame`), and if wanted `weight` (0..1) and `clip`; without a header, the first column
    is seconds. JSON: a list of seconds or of objects with these keys, or an object of such lists by clip. Times may
    also be written h:mm:ss.

    Markers of an editing program: EDL, FCPXML or OpenTimelineIO. What this program's own marker files say of cuts,
    sections and beats is no hit point, and passed over.

    Args:
        path: ends in .csv, .txt, .json, .edl, .fcpxml or .otio.

    Raises:
        UsageError: the file can't be read, or holds no numbers.
    """
    suffix = path.suffix.lower()
    if suffix in _UNREAD:
        remedy = f"Export markers as {', '.join(READERS)} or .csv."
        raise UsageError(f"{_UNREAD[suffix]} can't be read.", path=path, remedy=remedy)
    if suffix in READERS:
        return _marked(path, read_markers(path))
    try:
        rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
        return _collected(path, rows)
    except ExpotionError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(error.reason, path=path, remedy=error.remedy) from None


def _marked(path: Path, markers: Sequence[FoundMarker]) -> UserHits:
    """Hit points from an editing program's markers."""
    hits = [marker for marker in markers if marker.is_hit]
    if not hits:
        reason = "its markers are cuts, sections or beats that expotion wrote, and no hit points."
        raise UsageError(reason, path=path, remedy="Add markers of your own.")
    if len(hits) > MAX_HITS:
        raise UsageError(f"it has {len(hits)} markers; at most {MAX_HITS} can be read.", path=path)
    everywhere: list[Moment] = []
    by_clip: dict[str, list[Moment]] = {}
    for hit in hits:
        moment = Moment(hit.time or Fraction(0), False, hit.weight, hit.row, hit.timecode or "", hit.rate)
        (everywhere if hit.clip is None else by_clip.setdefault(hit.clip, [])).append(moment)
    return UserHits(path, tuple(everywhere), {clip: tuple(found) for clip, found in by_clip.items()})


def _collected(path: Path, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> UserHits:
    if not rows:
        raise UsageError("it has no hit points.", path=path, remedy=_EXAMPLE)
    if len(rows) > MAX_HITS:
        raise UsageError(f"it has {len(rows)} rows; at most {MAX_HITS} can be read.", path=path)
    everywhere: list[Moment] = []
    by_clip: dict[str, list[Moment]] = {}
    for name, row in rows:
        if row.get("kind") not in (None, "") and HIT not in str(row["kind"]).split("+"):
            continue
        for key in row:
            if key not in COLUMNS + _OF_MARKERS:
                raise UsageError(
                    f"{name}: unknown column {key!r}{nearest_hint(str(key), COLUMNS)}.",
                    path=path,
                    remedy=f"Known: {', '.join(COLUMNS)}.",
                )
        is_frame = row.get("time_s") in (None, "")
        value = _number(path, name, row.get("frame") if is_frame else row["time_s"])
        weight = row.get("weight")
        weight = 1.0 if weight in (None, "") else _number(path, name, weight)
        if not 0 <= weight <= 1:
            raise UsageError(f"{name}: weight is {weight:g}.", path=path, remedy="Weights lie from 0 to 1.")
        moment = Moment(value, is_frame, weight, name)
        clip = row.get("clip")
        (by_clip.setdefault(str(clip).strip(), []) if clip not in (None, "") else everywhere).append(moment)
    if not everywhere and not by_clip:
        raise UsageError("its rows are cuts, sections or beats, and no hit points.", path=path, remedy=_EXAMPLE)
    return UserHits(path, tuple(everywhere), {clip: tuple(found) for clip, found in by_clip.items()})


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, str):
        clock = _CLOCK.fullmatch(value.strip())
        if clock:
            hours, minutes, seconds = (float(part or 0) for part in clock.groups())
            return 3600 * hours + 60 * minutes + seconds
        try:
            value = float(value.strip().replace(",", ".") if _COMMA.fullmatch(value.strip()) else value)
        except ValueError:
            value = None
    number = as_number(value)
    if number is None:
        raise UsageError(f"{name} holds no number.", path=path, remedy=_EXAMPLE)
    return number


def _csv_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    with reading(path, "the hits file", error=UsageError, remedy=_EXAMPLE, also=(ValueError,)):
        text = read_text(path, MAX_BYTES)
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    dialect = next((mark for mark in ";\t" if mark in first), ",")
    try:
        lines = [
            (number, [cell.strip() for cell in cells])
            for number, cells in enumerate(csv.reader(io.StringIO(text), delimiter=dialect), 1)
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#")
        ]
    except csv.Error as error:
        raise UsageError(f"it is not a table ({error}).", path=path, remedy=_EXAMPLE) from None
    if not lines:
        return []
    head = [cell.lower().replace(" ", "_") for cell in lines[0][1]]
    head = [_NAMES.get(cell, cell) for cell in head]
    if "time_s" in head or "frame" in head:
        lines = lines[1:]
    elif re.search("[a-z]", head[0]):
        raise UsageError(f"line {lines[0][0]}: no column is called time_s or frame.", path=path, remedy=_EXAMPLE)
    else:
        head = ["time_s", "weight", "clip"][: len(head)]
    rows = [(number, dict(zip(head, cells, strict=False))) for number, cells in lines]
    return [(f"line {number}", {key: cell for key, cell in row.items() if key}) for number, row in rows]


def _json_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    content = read_json(path, "the hits file", remedy=_EXAMPLE, most_bytes=MAX_BYTES)
    if isinstance(content, Mapping) and isinstance(content.get("hits"), list):
        content = content["hits"]
    lists = content if isinstance(content, Mapping) else {None: content}
    rows = []
    for clip, values in lists.items():
        if not isinstance(values, list):
            raise UsageError("it must be a list, or an object of lists by clip.", path=path, remedy=_EXAMPLE)
        for number, value in enumerate(values, 1):
            row = {"time_s": value}
            if isinstance(value, Mapping):
                row = {_NAMES.get(str(key), str(key)): each for key, each in value.items() if key not in _OF_PLANS}
            name = f"entry {number}" if clip is None else f"{clip}, entry {number}"
            rows.append((name, row if clip is None else {**row, "clip": clip}))
    return rows
