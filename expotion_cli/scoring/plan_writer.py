"""Cue plans for many clips, written as JSON files that people can edit. Nothing is composed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from expotion_cli.errors import EnvironmentProblem, ExpotionError
from expotion_cli.media.clip import AUTO_TRACKS, Tracks
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.clips import in_order, probe_sources
from expotion_cli.scoring.discover import discover
from expotion_cli.scoring.executors import Executor, InlineExecutor
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.markers import (
    NO_MARKERS,
    MarkerChoice,
    facts_of,
    footage_of,
    marker_contents,
    marker_path,
    rate_notes,
)
from expotion_cli.scoring.naming import inside, refuse_collisions
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.hits_file import UserHits
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.plan_file import SUFFIX, read_plan, write_plan
from expotion_cli.storage import write_bytes

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.vision.encoder import StreamSource

WRITTEN, KEPT, FAILED = STATUSES = ("written", "kept", "failed")


@dataclass(frozen=True)
class PlanJob:
    """One clip whose plan will be written.

    Attributes:
        name: path inside the input, with forward slashes.
        clip: what probing found.
        destination: where the plan goes.
        user_hits: hit points of the user's own.
    """

    name: str
    clip: ClipInfo
    destination: Path
    user_hits: tuple[HitPoint, ...] = ()


@dataclass(frozen=True)
class PlanResult:
    """What became of one clip's plan.

    Attributes:
        name: path inside the input, or the argument that has no clip.
        status: "written", "kept" (a plan is there already) or "failed".
        file: the plan, unless it failed.
        plan: what it holds, if it was written.
        notes: in words, what is out of the ordinary.
        error: why it failed.
        markers: marker files that were written.
    """

    name: str
    status: str
    file: Path | None = None
    plan: CuePlan | None = None
    notes: tuple[str, ...] = ()
    error: ExpotionError | None = None
    markers: tuple[Path, ...] = ()


def find_jobs(
    inputs: Sequence[str | Path],
    to: Path,
    *,
    recursive: bool = True,
    hits: UserHits | None = None,
    tracks: Tracks = AUTO_TRACKS,
    executor: Executor | None = None,
    markers: MarkerChoice = NO_MARKERS,
) -> tuple[list[PlanJob], list[PlanResult], list[str]]:
    """Find the clips and probe them. Writes nothing.

    Args:
        inputs: files, folders or glob patterns.
        to: folder for the plans; it mirrors the input.
        recursive: look into subfolders.
        hits: a user's own hit points.
        tracks: which picture to take of clips that hold several.
        executor: probes them; None for this thread.
        markers: which marker files will be written.

    Returns:
        What can be planned, what can't, and notes.

    Raises:
        UsageError: plans would collide or leave the folder.
    """
    found = discover(inputs, out=to, recursive=recursive)
    problems = [PlanResult(str(error.path), FAILED, error=error) for error in found.problems]
    jobs = []
    for source, clip in probe_sources(found.sources, tracks, executor or InlineExecutor()):
        name, failures = source.relative.as_posix(), list[ExpotionError]()
        with guard(source.path, failures.append):
            if isinstance(clip, ExpotionError):
                raise clip
            own = () if hits is None else hits.of(source.names, float(clip.duration), clip.fps, clip.timecode)
            footage_of(clip, source.path, markers)  # refuses a timecode that this rate doesn't have
            jobs.append(PlanJob(name, clip, inside(to, source.renamed(SUFFIX)), own))
        problems += [PlanResult(name, FAILED, error=error) for error in failures]
    refuse_collisions((job.clip.path, job.destination) for job in jobs)
    notes = [] if hits is None else hits.unused(name for source in found.sources for name in source.names)
    return jobs, problems, [*notes, *(rate_notes(job.clip for job in jobs) if markers.formats else ())]


def write_plans(
    jobs: Sequence[PlanJob],
    sources: Sequence[str | StreamSource],
    recipe: Recipe,
    *,
    overwrite: bool = False,
    markers: MarkerChoice = NO_MARKERS,
    on_progress: Callable[[PlanJob, float], None] | None = None,
    executor: Executor | None = None,
    together: int = 1,
) -> Iterator[PlanResult]:
    """Spot clips and write their plans; what goes wrong with one is its own failure.

    A plan that is there already is kept: somebody may have edited it.

    Args:
        jobs: from `find_jobs`.
        sources: streams that can be encoded here (`streams.streams_for`).
        recipe: gives the range of the tempo, and the prompt.
        overwrite: replace plans and marker files that are there already.
        markers: which marker files to write beside each plan; of a plan that is kept, those that lack.
        on_progress: told the share of a clip that is seen.
        executor: where clips are seen; None for this thread.
        together: clips handed to it at a time.

    Yields:
        A result for each job, in their order.

    Raises:
        EnvironmentProblem: no stream can be encoded on this machine.
    """
    executor = executor or InlineExecutor()
    calls = [(job.clip, (job, sources, recipe, overwrite, markers), partial(on_progress, job) if on_progress else None)
             for job in jobs]  # fmt: skip
    for job, outcome in zip(jobs, in_order(executor, "see", _write_plan, calls, together), strict=True):
        failures: list[ExpotionError] = []
        with guard(job.clip.path, failures.append, fatal=(EnvironmentProblem,)):
            yield outcome.result()
        if failures:
            yield PlanResult(job.name, FAILED, error=failures[0])


def _write_plan(
    job: PlanJob,
    sources: Sequence[str | StreamSource],
    recipe: Recipe,
    overwrite: bool,
    markers: MarkerChoice,
    on_progress: Callable[[float], None] | None = None,
) -> PlanResult:
    from expotion_cli.vision.cache import EmbeddingCache

    if _is_kept(job, overwrite):
        return _kept(job, markers)
    seen = ladder.see(job.clip, sources, cache=EmbeddingCache(), on_progress=on_progress)
    plan = ladder.spot(seen, job.clip.duration, recipe, user_hits=job.user_hits)
    if _is_kept(job, overwrite):  # somebody wrote one in the meantime
        return _kept(job, markers)
    write_plan(job.destination, plan, job.name)
    written, notes = _write_markers(job, plan, markers, overwrite)
    return PlanResult(job.name, WRITTEN, job.destination, plan, (*seen.notes, *notes), markers=written)


def _is_kept(job: PlanJob, overwrite: bool) -> bool:
    return not overwrite and job.destination.exists()


def _kept(job: PlanJob, markers: MarkerChoice) -> PlanResult:
    if not markers.formats:
        return PlanResult(job.name, KEPT, job.destination)
    plan = read_plan(job.destination, job.clip.duration)
    written, notes = _write_markers(job, plan, markers, overwrite=False)
    return PlanResult(job.name, KEPT, job.destination, notes=notes, markers=written)


def _write_markers(
    job: PlanJob, plan: CuePlan, choice: MarkerChoice, overwrite: bool
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Write marker files beside a plan: what was written, and notes about what was there already and differs."""
    place = job.destination.with_name(job.destination.name.removesuffix(SUFFIX) + ".plan")
    footage = footage_of(job.clip, job.clip.path, choice, has_sound=job.clip.audio is not None)
    written, notes = [], []
    for kind, content in marker_contents(facts_of(plan), footage, choice, choice.formats).items():
        path = marker_path(place, kind)
        if path.exists() and not overwrite:
            if path.read_bytes() != content:
                notes.append(f"kept {path.name}: it was already there; remove it to have it written anew")
            continue
        write_bytes(path, content)
        written.append(path)
    return tuple(written), tuple(notes)
