"""A check as text, as JSON values and as JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from expotion_cli.regression.checking import CheckResult, ClipCheck
from expotion_cli.regression.measures import Tolerance
from expotion_cli.storage import write_bytes

BEYOND = "!"
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def value_text(tolerance: Tolerance, value: float | None) -> str:
    """A distance with its unit."""
    if value is None:
        return "-"
    return f"{value:.2f} {tolerance.unit}".rstrip()


def table(result: CheckResult) -> str:
    """The result for a terminal: a row a clip, what is beyond its tolerance marked; then what changed."""
    names = list(result.tolerances)
    rows = [["clip", *names, "result"]]
    limits = [f"{tolerance.limit:g} {tolerance.unit}".rstrip() for tolerance in result.tolerances.values()]
    rows.append(["tolerance", *limits, ""])
    for clip in result.clips:
        cells = []
        for name in names:
            text = value_text(result.tolerances[name], clip.distances.get(name)) if clip.distances else ""
            cells.append(f"{BEYOND} {text}" if name in clip.beyond else text)
        rows.append([clip.name, *cells, clip.status])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = "  ".join(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append(f"{row[0].ljust(widths[0])}  {middle}  {row[-1]}".rstrip())
    for clip in result.clips:
        said = explain(clip, result.tolerances)
        if said:
            lines += ["", f"{clip.name}: {clip.status}", *(f"  {line}" for line in said)]
    return "\n".join(lines)


def explain(clip: ClipCheck, tolerances: Mapping[str, Tolerance]) -> list[str]:
    """What changed in a clip and what is beyond its tolerance, a line each; nothing if it is the same."""
    lines = [str(difference) for difference in clip.differences]
    for name in clip.beyond:
        tolerance = tolerances[name]
        value = value_text(tolerance, clip.distances[name])
        lines.append(f"{name}: {value}, tolerance {tolerance.limit:g} ({tolerance.title})")
    return [*lines, *_aside(clip)] if lines or clip.status != "same" else []


def causes(clip: ClipCheck) -> list[str]:
    """What changed in a clip, without the measures, and remarks on it."""
    return [*(str(difference) for difference in clip.differences), *_aside(clip)]


def _aside(clip: ClipCheck) -> list[str]:
    return [*([str(clip.error)] if clip.error is not None else []), *clip.notes]


def summary(result: CheckResult) -> str:
    """One line on how it went."""
    counts = [f"{result.count(status)} {status}" for status in ("same", "drift", "error") if result.count(status)]
    how = "tokens and sound compared" if result.mode == "exact" else "compared by sound"
    updated = " · the new renders are the reference now" if result.updated else ""
    return f"{', '.join(counts)} · {how} · {result.duration_s:.0f} s{updated}"


def machine_lines(result: CheckResult) -> list[str]:
    """What differs from the machine of the recording, in one or no sentence."""
    if not result.machine:
        return []
    changed = ", ".join(f"{key} {was} → {now}" for key, (was, now) in result.machine.items())
    return [f"not the machine of the recording: {changed}"]


def as_record(result: CheckResult) -> dict[str, Any]:
    """Plain JSON values."""
    return {
        "exit_code": result.exit_code,
        "reference": str(result.folder),
        "mode": result.mode,
        "updated": result.updated,
        "duration_s": result.duration_s,
        "counts": {status: result.count(status) for status in ("same", "drift", "error")},
        "machine": {key: {"was": was, "now": now} for key, (was, now) in result.machine.items()},
        "tolerances": {
            tolerance.name: {"limit": tolerance.limit, "unit": tolerance.unit, "of": tolerance.title}
            for tolerance in result.tolerances.values()
        },
        "notes": list(result.notes),
        "clips": [_clip_record(clip) for clip in result.clips],
    }


def _clip_record(clip: ClipCheck) -> dict[str, Any]:
    error = clip.error
    return {
        "clip": clip.name,
        "status": clip.status,
        "changed": [
            {"what": each.what, "was": each.was or None, "now": each.now, "counts": each.counts}
            for each in clip.differences
        ],
        "distances": {name: value and round(value, 4) for name, value in clip.distances.items()},
        "beyond": list(clip.beyond),
        "notes": list(clip.notes),
        "duration_s": clip.duration_s,
        "error": error
        and {"reason": error.reason, "path": str(error.path) if error.path else None, "remedy": error.remedy},
    }


def write_junit(path: str | Path, result: CheckResult) -> None:
    """Write JUnit XML: a test case a clip, drift as failure, what could not be checked as error.

    Raises:
        OSError: it can't be written.
    """
    counts = {
        "tests": str(len(result.clips)),
        "failures": "0" if result.updated else str(result.count("drift")),
        "errors": str(result.count("error")),
        "time": f"{result.duration_s:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": "expotion regress", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(str(result.folder)), "skipped": "0", **counts})
    facts = {"mode": result.mode} | {f"machine.{key}": f"{was} → {now}" for key, (was, now) in result.machine.items()}
    facts |= {f"tolerance.{t.name}": f"{t.limit:g} {t.unit}".rstrip() for t in result.tolerances.values()}
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _xml(value)})
    for clip in result.clips:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": "expotion.regress", "name": _xml(clip.name), "time": f"{clip.duration_s:.3f}"},
        )
        said = explain(clip, result.tolerances)
        if clip.status != "same" and not (clip.status == "drift" and result.updated):
            kind = "failure" if clip.status == "drift" else "error"
            message = _xml(said[0] if said else clip.status)
            ElementTree.SubElement(case, kind, {"message": message, "type": clip.status}).text = _xml("\n".join(said))
        values = [f"{name} {value_text(result.tolerances[name], value)}" for name, value in clip.distances.items()]
        if values:
            ElementTree.SubElement(case, "system-out").text = _xml("\n".join([*values, *clip.notes]))
    ElementTree.indent(suites)
    write_bytes(path, ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n")


def _xml(text: str) -> str:
    """Without the characters that XML can't hold, and surrogates of names that are not text."""
    return _NOT_IN_XML.sub("?", text)
