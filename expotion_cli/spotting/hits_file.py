"""A user's own hit points, from a CSV or JSON file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import ExpotionError, PlanError, UsageError, reading
from expotion_cli.spotting.hits import USER, HitPoint
from expotion_cli.spotting.plan_file import MAX_HITS, as_number, refuse_crowding
from expotion_cli.storage import read_json, read_text

MAX_BYTES = 4 << 20
COLUMNS = ("time_s", "frame", "weight", "clip")
_NAMES = {"time": "time_s", "seconds": "time_s", "t": "time_s", "start": "time_s", "frames": "frame", "file": "clip",
          "name": "clip"}  # fmt: skip
_OF_PLANS = ("cause", "source")
"""What else the hit points of a plan have."""
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_COMMA = re.compile(r"-?\d+,\d+")
_EXAMPLE = "Write a table with a column time_s (seconds), or a JSON list of seconds."


@dataclass(frozen=True)
class Moment:
    """A row of a hits file: a time in seconds, or a frame number."""

    value: float
    is_frame: bool
    weight: float
    row: str


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

    def of(self, names: Sequence[str], duration_s: float, fps: float) -> tuple[HitPoint, ...]:
        """The hit points of a clip.

        Args:
            names: by which the file may call it.
            duration_s: of the clip.
            fps: its frames a second, for frame numbers.

        Raises:
            PlanError: a time lies outside the clip, or two are closer than 50 ms.
        """
        own = [moment for name in dict.fromkeys(names) for moment in self.by_clip.get(name, ())]
        hits = []
        for moment in (*self.everywhere, *own):
            time_s = moment.value / fps if moment.is_frame else moment.value
            if not 0 <= time_s <= duration_s:
                raise PlanError(
                    f"{moment.row}: {moment.value:g} {'frames' if moment.is_frame else 's'} lies outside the clip, "
                    f"which lasts {duration_s:.3f} s.",
                    path=self.path,
                    remedy=_other_unit(moment, duration_s, fps),
                )
            hits.append(HitPoint(round(time_s, 4), moment.weight, USER, f"{self.path.name}, {moment.row}"))
        hits.sort(key=lambda hit: hit.time_s)
        refuse_crowding(hits, self.path)
        return tuple(hits)

    def unused(self, names: Iterable[str]) -> list[str]:
        """A note about rows that belong to none of these clips, if there are any."""
        unknown = sorted(set(self.by_clip) - set(names))
        return [f"hit points for no clip at hand: {', '.join(unknown)}"] if unknown else []


def _other_unit(moment: Moment, duration_s: float, fps: float) -> str:
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

    Args:
        path: ends in .csv, .txt or .json.

    Raises:
        UsageError: the file can't be read, or holds no numbers.
    """
    try:
        rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
        return _collected(path, rows)
    except ExpotionError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(error.reason, path=path, remedy=error.remedy) from None


def _collected(path: Path, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> UserHits:
    if not rows:
        raise UsageError("it has no hit points.", path=path, remedy=_EXAMPLE)
    if len(rows) > MAX_HITS:
        raise UsageError(f"it has {len(rows)} rows; at most {MAX_HITS} can be read.", path=path)
    everywhere: list[Moment] = []
    by_clip: dict[str, list[Moment]] = {}
    for name, row in rows:
        for key in row:
            if key not in COLUMNS:
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
