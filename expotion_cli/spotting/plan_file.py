"""The JSON form of a cue plan: written by `expotion plan`, edited by people, obeyed by `expotion-score --plans`.

`docs/cue-plan.schema.json` is its schema. Everything that follows from the rest (each bar's intensity) is written for
the reader's sake and made anew when a plan is read.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import PlanError, reading
from expotion_cli.recipe import bounds
from expotion_cli.spotting.cuts import Cut
from expotion_cli.spotting.hits import CAUSES, USER, HitPoint
from expotion_cli.spotting.plan import MIN_GAP_S, CuePlan
from expotion_cli.spotting.sections import INTENSITY_RATE_HZ, Intensity, Section, by_bars
from expotion_cli.storage import digest_of, read_json, write_bytes
from expotion_cli.timing import COMMON_METRE, METRES, MOST_BEND, Tempo, exact

FORMAT = 1
SUFFIX = ".plan.json"
MAX_BYTES = 8 << 20
MAX_HITS = 20_000
MAX_PROMPT = 2000
CUT_KINDS = ("hard", "dissolve")
MODES = ("major", "minor")
_FOR_PEOPLE = ("clip", "source", "bars")
_SLACK_S = 0.001
_MEET_S, _END_S = 0.05, 0.5
"""Sections with prompts meet each other, and end with the clip, by so much."""
_FILL = "Sections that carry prompts must fill the clip; one without takes the cue's prompt."
_KEY = re.compile(r"[A-G][#b]?")
_FIELDS = ("format", "clip", "duration_s", "tempo", "tempo_map", "key", "mode", "metre", "hits", "cuts", "sections",
           "intensity", "opening", "ending")  # fmt: skip


def as_record(plan: CuePlan, clip: str | None = None) -> dict[str, Any]:
    """A plan as plain JSON values.

    Args:
        plan: from spotting, or read.
        clip: name of the clip, for people.
    """
    tempo = plan.tempo
    bpm = float(tempo.bpm)
    sure = f"pulse of the motion, confidence {tempo.confidence:.2f}" if tempo.confidence else "no pulse in the motion"
    return {
        "format": FORMAT,
        "clip": clip,
        "duration_s": round(plan.duration_s, 6),
        "tempo": {
            "bpm": bpm,
            "bar_starts_s": round(float(tempo.start), 6),
            "confidence": round(tempo.confidence, 3),
            "source": f"{sure}; placed so that hit points fall on beats and their quarters",
        },
        "tempo_map": [{"time_s": time_s, "bpm": round(factor * bpm, 4)} for time_s, factor in tempo.bends],
        "key": plan.key,
        "mode": None if plan.is_minor is None else MODES[plan.is_minor],
        "metre": tempo.metre,
        "hits": [
            {"time_s": hit.time_s, "weight": hit.weight, "cause": hit.cause, "source": hit.source} for hit in plan.hits
        ],
        "cuts": [{"time_s": cut.time_s, "kind": cut.kind, "strength": cut.strength} for cut in plan.cuts],
        "sections": [
            {
                "start_s": each.start_s,
                "end_s": each.end_s,
                "intensity": each.intensity,
                **({"prompt": each.prompt} if each.prompt else {}),
                "source": each.source,
            }
            for each in plan.sections
        ],
        "intensity": {
            "rate_hz": plan.intensity.rate_hz,
            "values": list(plan.intensity.values),
            "bars": list(plan.intensity.bars),
            "source": plan.intensity.source,
        },
        "opening": {"start_s": plan.start_s},
        "ending": {"end_s": plan.duration_s if plan.end_s is None else plan.end_s},
    }


def write_plan(path: Path, plan: CuePlan, clip: str | None = None) -> None:
    """Write a plan atomically, laid out for people: one line for each hit point, cut, section and list of numbers.

    Args:
        path: of the JSON file.
        plan: from spotting, or read.
        clip: name of the clip, for people.
    """
    write_bytes(path, f"{_laid_out(as_record(plan, clip))}\n".encode())


def _laid_out(value: Any, depth: int = 0) -> str:
    inner = "\n" + "  " * (depth + 1)
    if isinstance(value, dict) and (depth == 0 or "values" in value):
        rows = [f"{json.dumps(key)}: {_laid_out(each, depth + 1)}" for key, each in value.items()]
        return "{" + inner + f",{inner}".join(rows) + "\n" + "  " * depth + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[" + inner + f",{inner}".join(_laid_out(each, depth + 1) for each in value) + "\n" + "  " * depth + "]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def plan_digest(plan: CuePlan) -> str:
    """sha256 (hex) of all that a plan asks for: the same however its file is laid out, and whoever gave the reasons."""
    return digest_of(_meaning(as_record(plan)))


def _meaning(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _meaning(each) for key, each in value.items() if key not in _FOR_PEOPLE}
    return [_meaning(each) for each in value] if isinstance(value, list) else value


def read_plan(path: Path, duration: Fraction) -> CuePlan:
    """Read a plan for a clip of this length.

    Args:
        path: of the JSON file.
        duration: of the picture, in seconds.

    Raises:
        PlanError: the file can't be read, or can't be obeyed.
    """
    with reading(path, "the plan", error=PlanError):
        size = path.stat().st_size
    if size > MAX_BYTES:
        raise PlanError(f"it is too large for a plan ({size >> 20} MB).", path=path, remedy=_ANEW)
    return from_record(read_json(path, "the plan", error=PlanError, remedy=_ANEW), duration, path=path)


def from_record(record: Any, duration: Fraction, *, path: Path | None = None, is_given: bool = True) -> CuePlan:
    """Make a plan of plain JSON values, and check all of them.

    Args:
        record: from `as_record`, or what somebody wrote. Only what differs need be there: the rest has defaults.
        duration: of the picture, in seconds.
        path: for messages.
        is_given: a person may have edited it.

    Raises:
        PlanError: it can't be obeyed.
    """
    reader = _Reader(path)
    record = reader.table(record, "the plan", _FIELDS)
    if record.get("format", FORMAT) != FORMAT:
        raise reader.error(f"its format is {record['format']!r}; this version reads {FORMAT}")
    duration_s = float(duration)
    said_s = reader.number(record, "duration_s", 0, math.inf, default=duration_s)
    if abs(said_s - duration_s) > 0.5:
        raise reader.error(f"it is for a clip of {said_s:g} s, but this one lasts {duration_s:.3f} s", _ANEW)
    metre = record.get("metre", COMMON_METRE)
    if not isinstance(metre, str) or metre not in METRES:
        raise reader.error(f"metre is {metre!r}; music is written in {', '.join(METRES)}", "Write one of them.")
    tempo = _tempo(reader, record, duration_s)
    intensity_values = _intensity(reader, record, duration_s)
    key, mode = record.get("key"), record.get("mode")
    if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
        raise reader.error(f"key is {key!r}", 'Write the tonic, for example "D", "Bb" or "F#", or null.')
    if mode is not None and mode not in MODES:
        raise reader.error(f"mode is {mode!r}", 'Write "major", "minor" or null.')
    opening = reader.table(record.get("opening", {}), "opening", ("start_s",))
    ending = reader.table(record.get("ending", {}), "ending", ("end_s",))
    start_s = reader.number(opening, "start_s", 0, duration_s, where="opening", default=0.0)
    end_s = reader.number(ending, "end_s", 0, duration_s + 0.5, where="ending", default=duration_s)
    if end_s - start_s < min(0.2, duration_s - _SLACK_S):
        raise reader.error(f"the music would begin at {start_s:g} s and end at {end_s:g} s", "Leave it 0.2 s at least.")
    source = record.get("intensity", {}).get("source", "given")
    return CuePlan(
        duration_s=duration_s,
        tempo=tempo,
        intensity=Intensity(
            INTENSITY_RATE_HZ,
            tuple(intensity_values.tolist()),
            by_bars(intensity_values, tempo.timeline(duration)),
            str(source),
        ),
        hits=_hits(reader, record.get("hits", []), duration_s),
        cuts=_cuts(reader, record.get("cuts", []), duration_s),
        sections=_sections(reader, record.get("sections", []), duration_s),
        key=key,
        is_minor=None if mode is None else mode == MODES[1],
        start_s=start_s,
        end_s=None if end_s >= duration_s - _SLACK_S else end_s,
        is_given=is_given,
    )


_ANEW = "Run `expotion plan` to write a new one."


class _Reader:
    """Reads values and complains in one voice."""

    def __init__(self, path: Path | None):
        self.path = path

    def error(self, reason: str, remedy: str = "") -> PlanError:
        return PlanError(f"{reason}.", path=self.path, remedy=remedy)

    def table(self, values: Any, name: str, known: Sequence[str]) -> dict[str, Any]:
        if not isinstance(values, Mapping):
            raise self.error(f"{name} must be an object with names, not {type(values).__name__}", _ANEW)
        for key in values:
            if key not in known:
                raise self.error(
                    f"{name} has an unknown key {key!r}{nearest_hint(str(key), known)}", f"Known: {', '.join(known)}."
                )
        return dict(values)

    def rows(self, values: Any, name: str, known: Sequence[str]) -> list[dict[str, Any]]:
        if not isinstance(values, list):
            raise self.error(f"{name} must be a list", _ANEW)
        if len(values) > MAX_HITS:
            raise self.error(f"{name} has {len(values)} entries; at most {MAX_HITS} can be obeyed")
        return [self.table(value, f"{name}[{number}]", known) for number, value in enumerate(values)]

    def number(
        self, table: Mapping[str, Any], key: str, low: float, high: float, *, where: str = "", default: Any = None
    ) -> float:
        name = f"{where}.{key}" if where else key
        value = table.get(key, default)
        if value is None:
            raise self.error(f"{name} is missing")
        number = as_number(value)
        if number is None:
            raise self.error(
                f"{name} is {value!r}, not a number" if len(repr(value)) < 80 else f"{name} is not a number"
            )
        if not low <= number <= high:
            hint = "Times are seconds on the picture's clock." if key.endswith("_s") else ""
            raise self.error(f"{name} is {number:g}; it must lie from {low:g} to {high:g}", hint)
        return number


def as_number(value: Any) -> float | None:
    """A JSON value as a finite number, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):  # JSON has integers of any length
        return float(value) if math.isfinite(value) else None
    return None


def _tempo(reader: _Reader, record: Mapping[str, Any], duration_s: float) -> Tempo:
    lowest, highest = bounds("tempo.min")[0], bounds("tempo.max")[1]
    table = reader.table(record.get("tempo", {}), "tempo", ("bpm", "bar_starts_s", "confidence", "source"))
    bpm = reader.number(table, "bpm", lowest, highest, where="tempo")
    metre = record.get("metre", COMMON_METRE)
    bar_s = METRES[metre] * 60 / bpm
    start_s = reader.number(table, "bar_starts_s", -1e6, 1e6, where="tempo", default=0.0)
    if not -bar_s < start_s <= 0:  # any bar line will do
        start_s = -(-start_s % bar_s)
    confidence = reader.number(table, "confidence", 0, 1, where="tempo", default=0.0)
    bends: list[tuple[float, float]] = []
    for number, row in enumerate(reader.rows(record.get("tempo_map", []), "tempo_map", ("time_s", "bpm"))):
        where = f"tempo_map[{number}]"
        time_s = reader.number(row, "time_s", 0, duration_s + 2 * bar_s, where=where)
        factor = round(reader.number(row, "bpm", lowest, highest, where=where) / bpm, 5)
        if abs(factor - 1) > MOST_BEND + 1e-4:
            low, high = bpm * (1 - MOST_BEND), bpm * (1 + MOST_BEND)
            raise reader.error(
                f"{where}.bpm is {row['bpm']:g}, but a tempo map may bend {bpm:g} bpm by {MOST_BEND:.0%} at most",
                f"Write {low:.1f} to {high:.1f}, change tempo.bpm, or delete the tempo_map.",
            )
        if bends and time_s - bends[-1][0] < MIN_GAP_S:
            raise reader.error(
                f"{where}.time_s is {time_s:g}, less than {MIN_GAP_S:g} s after the one before",
                "A tempo map is in order of time, and never jumps.",
            )
        bends.append((time_s, factor))
    return Tempo(Fraction(round(bpm * 1000), 1000), exact(start_s), confidence, tuple(bends), metre)


def _hits(reader: _Reader, values: Any, duration_s: float) -> tuple[HitPoint, ...]:
    hits = []
    for number, row in enumerate(reader.rows(values, "hits", ("time_s", "weight", "cause", "source"))):
        where = f"hits[{number}]"
        time_s = reader.number(row, "time_s", 0, duration_s, where=where)
        weight = reader.number(row, "weight", 0, 1, where=where, default=1.0)
        cause = row.get("cause", USER)
        if cause not in CAUSES:
            raise reader.error(
                f"{where}.cause is {cause!r}{nearest_hint(str(cause), CAUSES)}", f"One of: {', '.join(CAUSES)}."
            )
        hits.append(HitPoint(time_s, weight, cause, str(row.get("source", "given"))))
    hits.sort(key=lambda hit: hit.time_s)
    refuse_crowding(hits, reader.path)
    return tuple(hits)


def refuse_crowding(hits: Sequence[HitPoint], path: Path | None) -> None:
    """Check that hit points, in order of time, lie at least 50 ms apart.

    Raises:
        PlanError: two are closer; nobody hears them as two.
    """
    for before, after in itertools.pairwise(hits):
        if after.time_s - before.time_s < MIN_GAP_S - 1e-9:
            raise PlanError(
                f"hit points at {before.time_s:g} s and {after.time_s:g} s are closer than {MIN_GAP_S * 1000:g} ms.",
                path=path,
                remedy="Keep one of them.",
            )


def _cuts(reader: _Reader, values: Any, duration_s: float) -> tuple[Cut, ...]:
    cuts = []
    for number, row in enumerate(reader.rows(values, "cuts", ("time_s", "kind", "strength"))):
        where = f"cuts[{number}]"
        time_s = reader.number(row, "time_s", 0, duration_s, where=where)
        kind = row.get("kind", CUT_KINDS[0])
        if kind not in CUT_KINDS:
            raise reader.error(f"{where}.kind is {kind!r}", f"One of: {', '.join(CUT_KINDS)}.")
        cuts.append(Cut(time_s, kind, reader.number(row, "strength", 0, 1, where=where, default=1.0)))
    return tuple(sorted(cuts, key=lambda cut: cut.time_s))


def _sections(reader: _Reader, values: Any, duration_s: float) -> tuple[Section, ...]:
    known = ("start_s", "end_s", "intensity", "prompt", "source")
    sections: list[Section] = []
    for number, row in enumerate(reader.rows(values, "sections", known)):
        where = f"sections[{number}]"
        start_s = reader.number(row, "start_s", 0, duration_s, where=where)
        end_s = reader.number(row, "end_s", 0, duration_s + 0.5, where=where)
        if end_s <= start_s or (sections and start_s < sections[-1].end_s - _SLACK_S):
            raise reader.error(f"{where} runs from {start_s:g} to {end_s:g} s", "Sections follow each other in time.")
        level = reader.number(row, "intensity", 0, 1, where=where, default=0.5)
        prompt = _prompt(reader, row, where)
        if sections and start_s > sections[-1].end_s + _MEET_S and (prompt or sections[-1].prompt):
            raise reader.error(f"{where} leaves a hole from {sections[-1].end_s:g} to {start_s:g} s", _FILL)
        sections.append(Section(start_s, min(end_s, duration_s), level, str(row.get("source", "given")), prompt))
    if any(each.prompt for each in sections):
        first_s, last_s = sections[0].start_s, sections[-1].end_s
        if first_s > _MEET_S or last_s < duration_s - _END_S:
            reason = f"sections with prompts run from {first_s:g} to {last_s:g} s of a clip of {duration_s:.3f} s"
            raise reader.error(reason, _FILL)
    return tuple(sections) or (Section(0.0, round(duration_s, 3), 0.5, "the clip begins"),)


def _prompt(reader: _Reader, row: Mapping[str, Any], where: str) -> str:
    if row.get("prompt") is None:
        return ""
    text = row["prompt"]
    if not isinstance(text, str) or not text.strip():
        raise reader.error(f"{where}.prompt is {text!r}", "Describe the music in words, or leave it out.")
    if len(text) > MAX_PROMPT:
        raise reader.error(f"{where}.prompt has {len(text)} characters", f"At most {MAX_PROMPT} can be obeyed.")
    return " ".join(text.split())


def _intensity(reader: _Reader, record: Mapping[str, Any], duration_s: float) -> np.ndarray:
    table = reader.table(record.get("intensity", {}), "intensity", ("rate_hz", "values", "bars", "source"))
    rate_hz = reader.number(table, "rate_hz", 0.1, 100, where="intensity", default=INTENSITY_RATE_HZ)
    values = table.get("values", [0.5])
    if not isinstance(values, list) or not 0 < len(values) <= 100 * (duration_s + 2):
        raise reader.error("intensity.values must be a list of numbers from 0 to 1, about rate_hz of them a second")
    named = {f"intensity.values[{number}]": value for number, value in enumerate(values)}
    given = np.array([reader.number(named, name, 0, 1) for name in named])
    rows = max(1, math.ceil(duration_s * INTENSITY_RATE_HZ))
    found = np.interp(np.arange(rows) / INTENSITY_RATE_HZ, np.arange(len(given)) / rate_hz, given)
    return np.asarray(np.round(found, 3))
