"""What a folder of results holds: finished ones, and all that is not as it should be, each with its remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from expotion_cli.errors import UsageError, reading, reason_of
from expotion_cli.hints import FileHints
from expotion_cli.report.facts import Facts
from expotion_cli.scoring.ledger import LEDGER, read_ledger
from expotion_cli.scoring.naming import VIDEO_SUFFIXES
from expotion_cli.scoring.sidecar import FORMAT, SIDECAR_SUFFIX, matches, upgraded
from expotion_cli.scoring.takes.layout import Take, takes_in
from expotion_cli.scoring.urls import is_url, local
from expotion_cli.storage import expanded, parse_json, read_text
from expotion_cli.version import __version__

SCORED, CHANGED, MISSING, DAMAGED, FOREIGN = "scored", "changed", "missing", "damaged", "foreign"
UNFINISHED, FAILED, REFUSED = "unfinished", "failed", "refused"
STATUSES = {
    FAILED: "failed",
    REFUSED: "refused",
    DAMAGED: "sidecar damaged",
    UNFINISHED: "unfinished",
    MISSING: "video missing",
    CHANGED: "changed since",
    FOREIGN: "not by expotion",
    SCORED: "scored",
}
"""Every status with its words, what needs attention first."""
_AGAIN = "Run the same expotion-score command again."
_NOT_A_RESULT = (".takes", ".stems")  # folders beside a result that hold parts of it


@dataclass(frozen=True)
class Result:
    """One result, or what became of it.

    Attributes:
        name: of the video inside the folder, with forward slashes; of a clip that failed, the clip's.
        status: of `STATUSES`.
        video: the file, or None where there is none to play.
        sidecar: what stands beside it; None where there is none that can be read.
        reason: what is wrong; empty if nothing is.
        remedy: what to do about it.
        at: when it was made, or went wrong, as the ledger says it; empty where it does not.
        notes: remarks.
    """

    name: str
    status: str
    video: Path | None = None
    sidecar: Mapping[str, Any] | None = field(default=None, repr=False)
    reason: str = ""
    remedy: str = ""
    at: str = ""
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> Facts:
        """What the sidecar says."""
        return Facts(self.sidecar)

    @property
    def at_utc(self) -> str:
        """`at` to the second, as people write it."""
        return f"{self.at[:10]} {self.at[11:19]} UTC" if self.at else ""

    @property
    def is_wrong(self) -> bool:
        """Whether somebody should look after it."""
        return self.status != SCORED


@dataclass(frozen=True)
class Collection:
    """All results of a folder.

    Attributes:
        folder: where they lie.
        results: by name, digits in names by their value.
        notes: remarks on the folder.
    """

    folder: Path
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()


def local_folder(text: str) -> Path:
    """A folder that can be listed.

    Raises:
        UsageError: it is no folder here, or can't be read.
    """
    if is_url(text):
        raise UsageError("results on remote storage can't be read.", path=text, remedy="Copy the folder here first.")
    folder = expanded(local(text))
    if not folder.is_dir():
        what = "it is a file." if folder.exists() else "there is no such folder."
        raise UsageError(what, path=folder, remedy="Name the folder that expotion-score wrote into.")
    with reading(folder, "the folder", error=UsageError, remedy="Check its permissions."):
        os.listdir(folder)
    return folder


def collect(folder: Path, *, hints: FileHints | None = None) -> Collection:
    """Find the results of a folder and of its subfolders.

    Args:
        folder: that `expotion-score` wrote into.
        hints: spares reading unchanged videos again; without them every byte is read.
    """
    sidecars, videos = _files(folder)
    ledger, notes = _ledger(folder)
    by_stem = {video.with_suffix(""): video for video in reversed(videos)}
    events = {str(entry["output"]): entry for entry in ledger if "output" in entry}
    found = [_dated(_of_sidecar(path, folder, by_stem, hints), events) for path in sidecars]
    claimed = {result.video for result in found}
    found += [
        _without_sidecar(video, folder, events.get(os.path.relpath(video, folder)))
        for video in videos
        if video not in claimed
    ]
    clips = {result.facts.table("clip").text("file") for result in found}
    found += _from_ledger(ledger, clips | {result.name for result in found})
    return Collection(folder, tuple(sorted(found, key=lambda result: natural(result.name))), notes)


def _dated(result: Result, events: Mapping[str, Mapping[str, Any]]) -> Result:
    """With the time at which the ledger says that this very result was made."""
    event = Facts(events.get(result.name))
    is_its = event.text("event") == SCORED and event.text("artefact") == result.facts.text("artefact")
    return replace(result, at=event.text("at")) if is_its else result


def takes_of(result: Result) -> list[Take]:
    """The takes of a result; none where it has no video."""
    return [] if result.video is None else takes_in(result.video, result.sidecar)


def natural(name: str) -> list[tuple[int, str]]:
    """A key for sorting: digits count by their value, capitals don't."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(int(part[:18]), "") if part.isdecimal() and part.isascii() else (-1, part) for part in parts]


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """(sidecars, videos) below a folder; links to folders are not followed."""
    sidecars, videos = [], []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not f.endswith(_NOT_A_RESULT))
        for name in sorted(files):
            path = Path(root, name)
            if name.startswith(".") or not path.is_file():
                continue
            if name.endswith(SIDECAR_SUFFIX) and name != SIDECAR_SUFFIX:
                sidecars.append(path)
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                videos.append(path)
    return sidecars, videos


def _of_sidecar(path: Path, folder: Path, by_stem: Mapping[Path, Path], hints: FileHints | None) -> Result:
    video = by_stem.get(path.with_name(path.name.removesuffix(SIDECAR_SUFFIX)))
    named = path.with_name(video.name if video else path.name)
    name = named.relative_to(folder).as_posix()
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        why = f"its sidecar {path.name} can't be read ({reason_of(error)})."
        return Result(name, DAMAGED, video, reason=why, remedy="Score the clip again with --overwrite.")
    if not isinstance(content, dict) or not isinstance(content.get("artefact"), str):
        why = f"{path.name} was not written by expotion."
        return Result(name, FOREIGN, video, reason=why, remedy="Move it out of this folder, or leave it.")
    said = upgraded(content)
    file = Facts(said.get("output")).text("file")
    if file and Path(file).name == file and file not in (".", ".."):
        if (exact := path.with_name(file)).is_file():
            video = exact
        name = (path.relative_to(folder).parent / file).as_posix()
    result = Result(name, SCORED, video, said, notes=tuple(_remarks(said)))
    if video is None:
        remedy = f"Move it back beside {path.name}, or make it anew: {_AGAIN[0].lower()}{_AGAIN[1:]}"
        return replace(result, status=MISSING, reason="the video is not there.", remedy=remedy)
    if not matches(video, said.get("output"), hints):
        return replace(
            result,
            status=CHANGED,
            reason="the video was changed since it was made; what the sidecar says may not hold.",
            remedy="Keep it if you changed it yourself; else score the clip again with --overwrite.",
        )
    return result


def _remarks(said: dict[str, Any]) -> Iterator[str]:
    facts = Facts(said)
    form, version = facts.number("format"), facts.table("versions").text("expotion")
    if form is not None and form > FORMAT:
        yield f"made by a newer version of expotion ({version or 'unknown'}); {__version__} may not show all of it"
    elif form != FORMAT or version != __version__:
        yield f"made by another version of expotion ({version or 'unknown'})"


def _without_sidecar(video: Path, folder: Path, event: Mapping[str, Any] | None) -> Result:
    name = video.relative_to(folder).as_posix()
    if event is None:
        why = "there is no sidecar beside it, and the ledger does not name it."
        return Result(name, FOREIGN, video, reason=why, remedy="Move it out of this folder, or leave it.")
    if event.get("event") == "begin":
        why = "the run that wrote it was stopped before its sidecar was there."
        return Result(name, UNFINISHED, video, reason=why, remedy=_AGAIN, at=Facts(event).text("at"))
    return Result(name, DAMAGED, video, reason="its sidecar is gone.", remedy=_AGAIN)


def _ledger(folder: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    try:
        entries = read_ledger(folder / LEDGER)
    except OSError as error:
        return [], (f"{LEDGER} can't be read ({reason_of(error)}): clips that failed are not shown.",)
    if entries and entries[-1].get("event") == "interrupted":
        left = Facts(entries[-1]).number("left")
        rest = f", {left:.0f} clips left" if left is not None and left > 1 else ""
        return entries, (f"The last run was interrupted{rest}. {_AGAIN}",)
    return entries, ()


def _from_ledger(entries: list[dict[str, Any]], shown: set[str]) -> Iterator[Result]:
    """What became of clips whose last word was not a result."""
    last = {str(entry["clip"]): Facts(entry) for entry in entries if "clip" in entry and "event" in entry}
    for clip, entry in last.items():
        event, at = entry.text("event"), entry.text("at")
        if event in (FAILED, REFUSED):
            remedy, reason = entry.text("remedy"), entry.text("reason")
            reason = reason.removesuffix(remedy).rpartition(f"{clip}: ")[2].strip()
            yield Result(clip, event, reason=reason or "the ledger gives no reason.", remedy=remedy, at=at)
        elif event in ("begin", "stage") and not {clip, entry.text("output")} & shown:
            why = "scoring it began and did not end."
            yield Result(clip, UNFINISHED, reason=why, remedy=f"{_AGAIN} If one is at work, wait for it.", at=at)
