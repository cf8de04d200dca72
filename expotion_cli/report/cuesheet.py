"""The cue sheet: what music stands in which clip, made with what and under which licences, for whoever has to ask."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from expotion_cli.errors import writing
from expotion_cli.page import render
from expotion_cli.report.facts import Facts
from expotion_cli.report.licences import Part, parts
from expotion_cli.report.results import CHANGED, DAMAGED, MISSING, SCORED, UNFINISHED, Collection, Result
from expotion_cli.storage import write_bytes
from expotion_cli.timeline.timecode import shown_rate, timebase_of
from expotion_cli.timing import exact
from expotion_cli.version import __version__
from expotion_cli.weights.manifest import Manifest, read_manifests

COMPOSED = "composed by software (expotion)"
COMMERCIAL = {
    "no": "no, a licence forbids it",
    "check": "unclear, a licence is not stated",
    "": "no stated licence forbids it",
}
"""What a cue sheet says of commercial use; what forbids it comes first."""
_FORMULA = tuple(
    "=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)


@dataclass(frozen=True)
class Cue:
    """A line of the cue sheet.

    Attributes:
        result: what it tells of.
        parts: what the music was made with.
        duration_s: of the picture.
        in_s: when the music begins.
        out_s: when it has ended.
        fps: of the picture, for its timecode.
    """

    result: Result
    parts: tuple[Part, ...]
    duration_s: float
    in_s: float
    out_s: float
    fps: float

    @property
    def verdict(self) -> str:
        """The strictest of its parts': "no", "check" or ""."""
        verdicts = {part.verdict for part in self.parts}
        return next(verdict for verdict in COMMERCIAL if verdict in verdicts)

    def row(self) -> dict[str, str]:
        """Its columns."""
        facts, (model, adapter, soundfont) = self.result.facts, self.parts
        base = timebase_of(exact(self.fps))
        return {
            "clip": self.result.name,
            "title": PurePosixPath(self.result.name).stem,
            "commercial_use": COMMERCIAL[self.verdict],
            "duration_s": f"{self.duration_s:.3f}",
            "in": base.timecode(base.frame_at(self.in_s)),
            "out": base.timecode(base.frame_at(self.out_s)),
            "timecode_fps": shown_rate(base.rate),
            "composer": COMPOSED,
            "model": model.name,
            "model_licence": model.licence,
            "adapter": adapter.name,
            "adapter_licence": adapter.licence,
            "soundfont": soundfont.name,
            "soundfont_licence": soundfont.licence,
            "recipe": facts.table("recipe").text("name"),
            "prompt": facts.text("prompt"),
            "seed": facts.text("seed"),
            "made_with": f"expotion {facts.table('versions').text('expotion')}".strip(),
            "made_on": self.result.at_utc,
            "sha256": facts.table("output").text("sha256"),
            "note": " ".join(_note(self.result)),
        }


def cues(found: Collection, manifests: Mapping[str, Manifest] | None = None) -> list[Cue]:
    """The cues of a folder, those first whose licences forbid commercial use.

    Args:
        found: its results; those without a whole sidecar, or without their video, are left out.
        manifests: what is known of models and soundfonts; by default those that ship.
    """
    known = read_manifests() if manifests is None else manifests
    order = list(COMMERCIAL)
    made = [_cue(result, known) for result in found.results if result.status in (SCORED, CHANGED)]
    return sorted(made, key=lambda cue: order.index(cue.verdict))


def left_out(found: Collection) -> list[Result]:
    """What a cue sheet can't tell of, though there is or was music."""
    return [result for result in found.results if result.status in (DAMAGED, UNFINISHED, MISSING)]


def as_csv(made: Iterable[Cue]) -> bytes:
    """The cue sheet as CSV for spreadsheets: UTF-8 with a byte order mark, no cell a formula."""
    rows = [cue.row() for cue in made]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(rows[0] if rows else ())
    writer.writerows([harmless(cell) for cell in row.values()] for row in rows)
    return text.getvalue().encode("utf-8-sig", "replace")


def write_csv(path: str | Path, made: Sequence[Cue]) -> None:
    """Write it as CSV (`as_csv`).

    Raises:
        OutputError: it can't be written.
    """
    with writing(path, "the cue sheet"):
        write_bytes(path, as_csv(made))


def write_html(path: str | Path, found: Collection, made: Sequence[Cue]) -> None:
    """Write it as a page to print.

    Args:
        path: of the file.
        found: the results.
        made: their cues.

    Raises:
        OutputError: it can't be written.
    """
    render.write_page(path, "cuesheet.html", values(found, made))


def values(found: Collection, made: Sequence[Cue]) -> dict[str, Any]:
    """What the page's template shows.

    Args:
        found: the results.
        made: their cues.
    """
    name = found.folder.resolve().name or str(found.folder)
    return {
        "title": f"{name}: cue sheet",
        "folder": name,
        "composed": COMPOSED,
        "cues": [{"verdict": cue.verdict, "parts": cue.parts, **cue.row()} for cue in made],
        "left_out": left_out(found),
        "forbidden": sum(cue.verdict == "no" for cue in made),
        "unclear": sum(cue.verdict == "check" for cue in made),
        "version": __version__,
    }


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe stands before what could begin one."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) else cell


def _cue(result: Result, manifests: Mapping[str, Manifest]) -> Cue:
    facts: Facts = result.facts
    clip, plan = facts.table("clip"), facts.table("plan")
    duration_s = _between(clip.number("duration_s"), 0.0, 1e6, 0.0)
    return Cue(
        result,
        parts(facts, manifests),
        duration_s,
        _between(plan.number("start_s"), 0.0, duration_s, 0.0),
        _between(plan.number("end_s"), 0.0, duration_s, duration_s),
        _between(clip.number("fps"), 1.0, 1000.0, 25.0),
    )


def _between(value: float | None, low: float, high: float, otherwise: float) -> float:
    return value if value is not None and low <= value <= high else otherwise


def _note(result: Result) -> Iterable[str]:
    if result.status == CHANGED:
        yield "The video was changed since it was made: its sha256 is another now."
    if result.facts.table("clip").number("fps") is None:
        yield "The sidecar names no frame rate: timecode at 25."
