"""Marker files of results that are there: which are lacking, which are not ours, and how they are added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import ClipError, ExpotionError, RefusedError, UsageError
from expotion_cli.hints import FileHints
from expotion_cli.scoring.files import HERE, Files
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.markers import (
    KINDS_ASKED,
    MarkerChoice,
    file_record,
    footage_of,
    has_facts,
    marker_contents,
    marker_path,
    marker_records,
    write_markers,
)
from expotion_cli.scoring.plan import probe_with
from expotion_cli.scoring.sidecar import SIDECAR_SUFFIX, read_sidecar, sidecar_path
from expotion_cli.timeline.files import WRITERS

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo


def mark_anew(
    clip: ClipInfo, video: Path, facts: Mapping[str, Any], choice: MarkerChoice, files: Files
) -> dict[str, Any]:
    """Write the marker files of a result that is about to take its place; those of the one before go.

    Args:
        clip: that was scored.
        video: where the result goes.
        facts: what its sidecar will say.
        choice: which markers.
        files: how results are got at.

    Returns:
        What the sidecar says of them.

    Raises:
        OutputError: a file can't be written.
    """
    for path in outdated(video, read_sidecar(video), choice.formats, HERE):
        path.unlink(missing_ok=True)
    return write_markers(
        video, facts, footage_of(clip, video, choice, is_here=files.keeps_here), choice, choice.formats
    )


def as_before(video: Path, choice: MarkerChoice) -> MarkerChoice:
    """A choice with the marker files that a result has already, where none are asked for."""
    records = marker_records(read_sidecar(video))
    if choice.formats or not records:
        return choice
    kinds, start = next(iter(records.values())).get("kinds"), next(iter(records.values())).get("start")
    known = tuple(kind for kind in KINDS_ASKED if isinstance(kinds, list) and kind in kinds)
    formats = tuple(kind for kind in WRITERS if kind in records)
    return MarkerChoice(formats, known, start if isinstance(start, str) else None)


def add_markers(
    clip: ClipInfo,
    video: Path,
    sidecar: Mapping[str, Any],
    choice: MarkerChoice,
    formats: Iterable[str],
    files: Files,
) -> dict[str, Any]:
    """Write marker files beside a finished result, and say so in its sidecar, whose new content is returned.

    Args:
        clip: that was scored.
        video: its result.
        sidecar: of the result; `has_facts` holds.
        choice: which markers.
        formats: which files.
        files: how results are got at.

    Raises:
        OutputError: a file can't be written.
    """
    footage = footage_of(clip, video, choice, is_here=files.keeps_here)
    written = write_markers(video, sidecar, footage, choice, formats)
    said = {**sidecar, "markers": {**marker_records(sidecar), **written}}
    files.note_markers(video, said)
    return said


def lacking(
    video: Path, sidecar: Mapping[str, Any] | None, choice: MarkerChoice, files: Files, hints: FileHints | None
) -> tuple[str, ...]:
    """Formats asked for that a finished result doesn't have, or of other kinds.

    Args:
        video: the result.
        sidecar: of it.
        choice: what is asked for.
        files: how results are got at.
        hints: spares reading unchanged files again.
    """
    known = marker_records(sidecar)
    return tuple(
        kind
        for kind in choice.formats
        if any(known.get(kind, {}).get(key) != value for key, value in choice.meaning.items())
        or not files.matches(marker_path(video, kind), known[kind], hints)
    )


def strangers(
    clip: ClipInfo,
    video: Path,
    sidecar: Mapping[str, Any],
    choice: MarkerChoice,
    files: Files,
    hints: FileHints | None,
) -> list[Path]:
    """Files in the place of marker files that this program didn't make, or that were changed since.

    Args:
        clip: that was scored.
        video: the result.
        sidecar: of it.
        choice: what is asked for.
        files: how results are got at.
        hints: spares reading unchanged files again.
    """
    known = marker_records(sidecar)
    places = {kind: marker_path(video, kind) for kind in choice.formats}
    found = {
        kind: path
        for kind, path in places.items()
        if files.exists(path) and not files.matches(path, known.get(kind), hints)
    }
    if found and has_facts(sidecar):  # what a run wrote that was killed before it said so
        footage = footage_of(clip, video, choice, is_here=files.keeps_here)
        made = marker_contents(sidecar, footage, choice, found)
        found = {kind: path for kind, path in found.items() if not files.matches(path, file_record(path, made[kind]))}
    return list(found.values())


def outdated(video: Path, sidecar: Mapping[str, Any] | None, kept: Iterable[str], files: Files) -> list[Path]:
    """Our marker files of a result that is about to be replaced, but for those that are written anew."""
    known = marker_records(sidecar)
    places = {kind: marker_path(video, kind) for kind in known if kind not in set(kept) and kind in WRITERS}
    return [path for kind, path in places.items() if files.matches(path, known[kind])]


@dataclass(frozen=True)
class Marked:
    """What became of the marker files of one result.

    Attributes:
        video: the result.
        files: those that were written now.
        kept: those that were there already.
        error: why none was written.
    """

    video: Path
    files: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()
    error: ExpotionError | None = None


def mark_results(places: Iterable[Path], choice: MarkerChoice, *, overwrite: bool = False) -> Iterator[Marked]:
    """Write marker files beside results that are there, from their sidecars. Nothing is seen or composed again.

    Args:
        places: folders with results, or results.
        choice: which markers.
        overwrite: replace files that this program did not make, or that were changed.

    Raises:
        UsageError: there is no such folder or file, or it holds no results.
    """
    hints = FileHints()
    for place in places:
        if not place.exists():
            raise UsageError("there is no such file or folder.", path=place, remedy="Give a folder with results.")
        sidecars = sorted(place.rglob(f"*{SIDECAR_SUFFIX}")) if place.is_dir() else [sidecar_path(place)]
        if not any(map(Path.is_file, sidecars)):
            raise UsageError("it holds no results.", path=place, remedy="Score clips first: expotion-score.")
        for path in sidecars:
            video = path.with_name(f"{path.name.removesuffix(SIDECAR_SUFFIX)}.mp4")  # the sidecar knows its suffix
            failures: list[ExpotionError] = []
            with guard(path, failures.append):
                yield _mark_result(video, choice, hints, overwrite)
            if failures:
                yield Marked(video, error=failures[0])


def _mark_result(video: Path, choice: MarkerChoice, hints: FileHints, overwrite: bool) -> Marked:
    files = HERE
    sidecar = files.sidecar(video)
    if sidecar is None or not isinstance(output := sidecar.get("output"), Mapping):
        raise ClipError("it is no sidecar of a result.", path=video, remedy="Score the clip again.")
    video = video.with_name(Path(str(output.get("file"))).name)
    if not has_facts(sidecar):
        remedy = f"Score it again with --markers {','.join(choice.formats)}."
        raise ClipError("an earlier version made this result, and noted too little of it.", path=video, remedy=remedy)
    if not files.matches(video, output, hints):
        remedy = "Score the clip again."
        raise ClipError("this result is gone, or was changed since it was made.", path=video, remedy=remedy)
    clip, _ = probe_with(hints, video)
    if not overwrite:
        for path in strangers(clip, video, sidecar, choice, files, hints):
            reason = "this file was not made by expotion, or was changed."
            raise RefusedError(reason, path=path, remedy="Move it, or pass --overwrite.")
    formats = choice.formats if overwrite else lacking(video, sidecar, choice, files, hints)
    if formats:
        add_markers(clip, video, sidecar, choice, formats, files)
    written = tuple(marker_path(video, kind) for kind in formats)
    return Marked(video, written, tuple(marker_path(video, kind) for kind in choice.formats if kind not in formats))
