"""Many clips: finds them, inspects each, writes its chart and its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import (
    EnvironmentProblem,
    ExpotionError,
    OutputError,
    ProbeError,
    UsageError,
    reading,
    reason_of,
)
from expotion_cli.recipe import Recipe
from expotion_cli.scoring.discover import discover
from expotion_cli.scoring.naming import inside, refuse_collisions
from expotion_cli.storage import write_bytes, write_json

if TYPE_CHECKING:
    from expotion_cli.inspection.observe import Observation, Observer
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


def plan(inputs: Sequence[str | Path], out: Path, *, recursive: bool = True) -> tuple[list[Job], list[Result]]:
    """Find the clips and probe them. Writes nothing.

    Returns:
        What can be inspected, and what can't.

    Raises:
        UsageError: results would collide or leave the folder.
    """
    from expotion_cli.media.probe import probe

    found = discover(inputs, out=out, recursive=recursive)
    problems = [Result(str(error.path), error=error) for error in found.problems]
    jobs = []
    for source in found.sources:
        name = source.relative.as_posix()
        try:
            with reading(source.path, error=ProbeError, remedy="Check its permissions."):
                clip = probe(source.path)
        except ExpotionError as error:
            problems.append(Result(name, error=error))
            continue
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
    jobs: Iterable[Job],
    sources: Iterable[str | StreamSource],
    recipe: Recipe,
    formats: Sequence[str],
    progress: InspectionProgress,
) -> Iterator[Result]:
    """Inspect clips, one after the other; what goes wrong with one is its own failure.

    Args:
        jobs: from `plan`.
        sources: streams that can be encoded here (`scoring.streams.streams_for`).
        recipe: sets the range of the tempo.
        formats: of the pictures.
        progress: is called as clips are inspected.

    Raises:
        EnvironmentProblem: no stream can be encoded on this machine.
    """
    from expotion_cli.inspection.observe import Observer
    from expotion_cli.vision.cache import EmbeddingCache

    observer = Observer(sources, recipe, EmbeddingCache())
    for job in jobs:
        result = _inspect(job, observer, formats, progress)
        progress.result(result)
        yield result


def _inspect(job: Job, observer: Observer, formats: Sequence[str], progress: InspectionProgress) -> Result:
    from expotion_cli.inspection.fonts import printable

    try:
        progress.share(job, 0.0)
        seen = observer.observe(job.clip, printable(job.name), on_progress=lambda share: progress.share(job, share))
        return Result(job.name, *write(job, seen, formats))
    except EnvironmentProblem:
        raise  # the next clip would lack the same
    except ExpotionError as error:
        return Result(job.name, error=error)
    except OSError as error:
        place = error.filename or job.clip.path
        return Result(job.name, error=OutputError(f"{reason_of(error)}.", path=place))
    except Exception as error:  # one bad clip never hurts the others
        reason = f"unexpected {type(error).__name__}: {error}."
        return Result(job.name, error=ExpotionError(reason, path=job.clip.path))


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
