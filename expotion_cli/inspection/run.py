"""Many clips: finds them, inspects each, writes its chart and its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import EnvironmentProblem, ExpotionError, UsageError
from expotion_cli.media.clip import AUTO_TRACKS, Tracks
from expotion_cli.recipe import Recipe
from expotion_cli.scoring.clips import in_order, probe_sources
from expotion_cli.scoring.discover import discover
from expotion_cli.scoring.executors import Executor, InlineExecutor
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.naming import inside, refuse_collisions
from expotion_cli.storage import write_bytes, write_json

if TYPE_CHECKING:
    from expotion_cli.inspection.observe import Observation
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.vision.encoder import StreamSource

FORMATS = ("png", "svg")
OUT = Path("inspected")
RECORD_SUFFIX = ".inspect.json"


@dataclass(frozen=True)
class Job:
    """One clip that will be inspected.

    Attributes:
        name: path inside the input, with forward slashes.
        clip: what probing found.
        record: where its record goes; pictures stand beside it.
    """

    name: str
    clip: ClipInfo
    record: Path

    def picture(self, kind: str) -> Path:
        """Where its picture of this format goes."""
        return self.record.with_suffix(f".{kind}")


@dataclass(frozen=True)
class Result:
    """Result of one clip.

    Attributes:
        name: path inside the input, or the argument that matched nothing.
        files: what was written, pictures first; empty if it failed.
        record: what the JSON holds.
        error: why it failed.
    """

    name: str
    files: tuple[Path, ...] = ()
    record: dict[str, Any] | None = None
    error: ExpotionError | None = None


def read_formats(text: str) -> tuple[str, ...]:
    """Picture formats from words with commas between them.

    Raises:
        UsageError: an unknown one, or none.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FORMATS:
            hint = nearest_hint(name, FORMATS)
            raise UsageError(f"--format {name!r} is unknown{hint}.", remedy=f"Formats: {', '.join(FORMATS)}.")
    if not names:
        raise UsageError("--format names nothing.", remedy=f"Formats: {', '.join(FORMATS)}.")
    return names


def plan(
    inputs: Sequence[str | Path],
    out: Path,
    *,
    recursive: bool = True,
    tracks: Tracks = AUTO_TRACKS,
    executor: Executor | None = None,
) -> tuple[list[Job], list[Result]]:
    """Find the clips and probe them. Writes nothing.

    Args:
        inputs: files, folders or glob patterns.
        out: folder for charts and records; it mirrors the input.
        recursive: look into subfolders.
        tracks: which picture to take of clips that hold several.
        executor: probes them; None for this thread.

    Returns:
        What can be inspected, and what can't.

    Raises:
        UsageError: results would collide or leave the folder.
    """
    found = discover(inputs, out=out, recursive=recursive)
    problems = [Result(str(error.path), error=error) for error in found.problems]
    jobs = []
    for source, clip in probe_sources(found.sources, tracks, executor or InlineExecutor()):
        name = source.relative.as_posix()
        if isinstance(clip, ExpotionError):
            problems.append(Result(name, error=clip))
        else:
            jobs.append(Job(name, clip, inside(out, source.renamed(RECORD_SUFFIX))))
    refuse_collisions((job.clip.path, path) for job in jobs for path in (job.record,))
    return jobs, problems


class InspectionProgress:
    """Is called as clips are inspected; the methods do nothing unless overridden."""

    def share(self, job: Job, share: float) -> None:
        """The share of a clip that is encoded, 0..1."""

    def result(self, result: Result) -> None:
        """A clip is finished."""


def run(
    jobs: Sequence[Job],
    sources: Sequence[str | StreamSource],
    recipe: Recipe,
    formats: Sequence[str],
    progress: InspectionProgress,
    *,
    executor: Executor | None = None,
    together: int = 1,
) -> Iterator[Result]:
    """Inspect clips; what goes wrong with one is its own failure.

    Args:
        jobs: from `plan`.
        sources: streams that can be encoded here (`scoring.streams.streams_for`).
        recipe: sets the range of the tempo.
        formats: of the pictures.
        progress: is called as clips are inspected.
        executor: where clips are looked at and drawn; None for this thread.
        together: clips handed to it at a time.

    Yields:
        A result for each job, in their order.

    Raises:
        EnvironmentProblem: no stream can be encoded on this machine.
    """
    executor = executor or InlineExecutor()
    calls = [(job.clip, (job, sources, recipe, formats), partial(progress.share, job)) for job in jobs]
    for job, outcome in zip(jobs, in_order(executor, "see", inspect_clip, calls, together), strict=True):
        results: list[Result] = []
        failed = partial(_failed, job, results)
        with guard(job.clip.path, failed, fatal=(EnvironmentProblem,)):  # the next clip would lack the same
            results.append(Result(job.name, *outcome.result()))
        progress.result(results[0])
        yield results[0]


def _failed(job: Job, results: list[Result], error: ExpotionError) -> None:
    results.append(Result(job.name, error=error))


def inspect_clip(
    job: Job,
    sources: Sequence[str | StreamSource],
    recipe: Recipe,
    formats: Sequence[str],
    on_progress: Callable[[float], None] | None = None,
) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Look at a clip, draw it, write what was found.

    Args:
        job: the clip.
        sources: see `run`.
        recipe: see `run`.
        formats: see `run`.
        on_progress: told the share that is encoded, 0..1.

    Returns:
        The files, and what the record holds.

    Raises:
        ExpotionError: the clip can't be looked at.
        OSError: the files can't be written.
    """
    from expotion_cli.inspection.fonts import printable
    from expotion_cli.inspection.observe import Observer
    from expotion_cli.vision.cache import EmbeddingCache

    observer = Observer(sources, recipe, EmbeddingCache())
    return write(job, observer.observe(job.clip, printable(job.name), on_progress=on_progress), formats)


def write(job: Job, seen: Observation, formats: Sequence[str]) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Draw and write the pictures, then the record.

    Returns:
        The files, and what the record holds.

    Raises:
        OSError: they can't be written.
    """
    from expotion_cli.inspection import chart
    from expotion_cli.inspection.raster import to_png
    from expotion_cli.inspection.record import record_of
    from expotion_cli.inspection.vector import to_svg

    # All is made before anything is written, so that a failure leaves no half of it.
    scene, record = chart.draw(seen, thumbnails(job.clip)), record_of(seen)
    contents = {
        job.picture(kind): to_png(scene) if kind == "png" else to_svg(scene).encode("utf-8") for kind in formats
    }
    for path, content in contents.items():
        write_bytes(path, content)
    write_json(job.record, record)
    return (*contents, job.record), record


def thumbnails(clip: ClipInfo) -> list[np.ndarray]:
    """Small pictures of a clip for the chart: uint8 [h, w, 3], of `chart.thumbnail_size` at `chart.thumbnail_times`."""
    from PIL import Image

    from expotion_cli.inspection import chart
    from expotion_cli.media.frames import View
    from expotion_cli.media.stills import stills

    size = chart.thumbnail_size(clip.width, clip.height)
    view = View(max_height=max(2, size[1]))
    pictures = stills(clip, chart.thumbnail_times(float(clip.duration), clip.width, clip.height), view)
    return [np.asarray(Image.fromarray(picture).resize(size)) for picture in pictures]
