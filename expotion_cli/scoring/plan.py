"""What a batch will do: clips found and probed, results, seeds and prompts fixed. Loads no model, writes nothing."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli import brief
from expotion_cli.errors import ExpotionError, ProbeError, UsageError, reading, writing
from expotion_cli.hints import FileHints
from expotion_cli.media.clip import (
    AUTO_TRACKS,
    LONGEST_S,
    ClipInfo,
    Tracks,
    check_codec,
    clip_from,
    clip_record,
    output_suffix,
)
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import mixing, playing
from expotion_cli.scoring.discover import Found, Source, discover
from expotion_cli.scoring.extras import NO_EXTRAS, Extras, check_length, clashes
from expotion_cli.scoring.files import HERE, Files
from expotion_cli.scoring.given import Given, GivenFiles, find_given
from expotion_cli.scoring.guard import as_failure, guard
from expotion_cli.scoring.markers import NO_MARKERS, MarkerChoice, footage_of, rate_notes
from expotion_cli.scoring.melodies import GivenMelody, find_melody
from expotion_cli.scoring.naming import collisions, inside, label_of, too_long
from expotion_cli.scoring.redo import Redo
from expotion_cli.scoring.sidecar import midi_path, sidecar_path
from expotion_cli.scoring.streams import FALLBACK_STREAM, Needs, StreamChoice, streams_for
from expotion_cli.spotting.hits_file import UserHits
from expotion_cli.timed_prompts import check_timed, read_timed
from expotion_cli.timing import in_words
from expotion_cli.vision.cuts import CUTS

if TYPE_CHECKING:
    from expotion_cli.scoring.executors import Executor
    from expotion_cli.vision.encoder import StreamSource

PROBE_THREADS = 4
CLIP_TIMEOUT_S, CLIP_TIMEOUT_PER_S = 300.0, 30.0
"""By default a stage of a clip may take so many seconds, and so many more for each second of the clip."""


@dataclass(frozen=True)
class Settings:
    """How a batch is run; what the result sounds like stands in the recipe.

    Attributes:
        out: output folder.
        recursive: look into subfolders.
        overwrite: make results anew that are already there, and replace files this program did not make.
        name_by: what results are named by, of `naming.NAMED_BY`, so that others stay beside them.
        model: the model's name, for `name_by`.
        midi: also write each cue as a MIDI file.
        markers: which marker files are written beside each result.
        extras: also write these sound files.
        keep_takes: also keep all takes of each cue beside the result, to listen to and to choose from.
        batch_size: cues generated at a time, or "auto".
        prompts: a prompt of its own for some clips, by file name, stem or path inside the input folder.
        features: folders of rows computed elsewhere, in place of the encoders of these names.
        verify: read every byte again instead of trusting that an unchanged file holds what it held.
        plans: folder of cue plans, obeyed instead of what spotting would find.
        hits: hit points of the user's own.
        clip_timeout_s: how long reading, seeing or finishing one clip may take where it can be stopped; 0 for any
            time, None for what its length suggests.
        tracks: which picture and sound to take of clips that hold several.
        max_duration_s: clips that last longer are refused.
        redo: bars of finished results that are composed anew.
    """

    out: Path = Path("scored")
    recursive: bool = True
    overwrite: bool = False
    name_by: tuple[str, ...] = ()
    model: str = ""
    midi: bool = False
    markers: MarkerChoice = NO_MARKERS
    extras: Extras = NO_EXTRAS
    keep_takes: bool = False
    batch_size: int | str = "auto"
    prompts: Mapping[str, str] = field(default_factory=dict)
    features: tuple[StreamSource, ...] = ()
    verify: bool = False
    plans: Path | None = None
    hits: UserHits | None = None
    clip_timeout_s: float | None = None
    tracks: Tracks = AUTO_TRACKS
    max_duration_s: float = LONGEST_S
    redo: Redo | None = None

    def limit_s(self, duration: Fraction | float) -> float | None:
        """Seconds that one stage of a clip of this duration may take; None for any time."""
        if self.clip_timeout_s is None:
            return CLIP_TIMEOUT_S + CLIP_TIMEOUT_PER_S * float(duration)
        return self.clip_timeout_s or None


@dataclass(frozen=True)
class Job:
    """One clip that will be scored.

    Attributes:
        name: path inside the input, with forward slashes.
        clip: what probing found.
        destination: the result's final path.
        content: sha256 of the clip's bytes.
        streams: digest of each embedding stream that may be seen in it; `flow`, the stand-in, and `cuts` are always
            among them.
        prompt, seed: of its cue.
        given: the user's plan and hit points, if there are any.
    """

    name: str
    clip: ClipInfo
    destination: Path
    content: str
    streams: dict[str, str]
    prompt: str
    seed: int
    given: Given = Given()


@dataclass(frozen=True)
class Plan:
    """What will be done, before any model is loaded.

    Attributes:
        jobs: clips that can be scored.
        problems: what can't, as failed results.
        streams: what will be encoded.
        notes: what is worth saying before the start.
        files: how clips and results are got at.
        melody: what the music plays, if the recipe says so.
    """

    jobs: tuple[Job, ...]
    problems: tuple[Result, ...]
    recipe: Recipe
    settings: Settings
    streams: StreamChoice
    notes: tuple[str, ...] = ()
    files: Files = HERE
    melody: GivenMelody | None = None


@dataclass(frozen=True)
class Result:
    """What became of one clip.

    Attributes:
        name: path inside the input, or the argument that has no clip.
        status: "scored", "already" (a rerun found it done), "refused" (it would replace a file) or "failed".
        output: the video, unless it failed.
        error: why it failed.
        sidecar: what stands in the sidecar.
    """

    name: str
    status: str
    output: Path | None = None
    error: ExpotionError | None = None
    sidecar: dict[str, Any] | None = None


def plan(
    inputs: Sequence[str | Path],
    recipe: Recipe,
    settings: Settings,
    *,
    needs: Needs | None = None,
    executor: Executor | None = None,
    found: Found | None = None,
) -> Plan:
    """Find the clips, probe them all and fix where results go. Writes nothing.

    Args:
        inputs: files, folders or glob patterns.
        recipe: with all flags laid over it.
        settings: how the batch is run.
        needs: what the model takes from the picture (`streams.needs_ahead`), if that is known.
        executor: where unknown clips are probed; by default threads of this process.
        found: what discovery found, where that is known; `inputs` don't matter then.

    Raises:
        UsageError: a setting, a timed prompt or the melody is wrong, or there is no folder of plans.
        WeightsError: the weights that hear speech are missing or damaged, and the mix needs them.
    """
    playing.check_sound(recipe)
    mixing.check_ahead(recipe)
    for prompt in (recipe.prompt, *settings.prompts.values()):
        read_timed(prompt)
    streams = streams_for(recipe, needs, settings.features)
    found = found or discover(inputs, out=settings.out, recursive=settings.recursive)
    given_files = find_given(found.batch or found.sources, settings.plans, settings.hits)
    problems = [Result(str(error.path), "failed", error=error) for error in found.problems]
    jobs = []
    encoded = streams.sources
    if encoded:
        more = (FALLBACK_STREAM, CUTS) if FALLBACK_STREAM not in streams.names else (CUTS,)
        encoded = (*encoded, *more)
    hints = FileHints(trusted=not settings.verify)
    melody = find_melody(recipe, needs, settings.model, hints)
    with ThreadPoolExecutor(PROBE_THREADS) as pool:
        probing = partial(probe_elsewhere, executor, settings.limit_s(0)) if executor is not None else None
        inspected = pool.map(
            lambda source: _inspect(source, encoded, hints, given_files, probing, recipe, settings), found.sources
        )
        for source, outcome in zip(found.sources, inspected, strict=True):
            if isinstance(outcome, ExpotionError):
                problems.append(Result(source.relative.as_posix(), "failed", error=outcome))
                continue
            clip, content, stream_digests, given = outcome
            prompt = next((settings.prompts[key] for key in source.names if key in settings.prompts), recipe.prompt)
            seed = recipe.seed_for(content)
            try:
                check_timed(prompt, float(clip.duration))
                label = label_of(settings.name_by, recipe=recipe.name, seed=seed, prompt=prompt, model=settings.model)
                destination = _destination(source, clip, settings, label)
            except ExpotionError as error:
                problems.append(Result(source.relative.as_posix(), "failed", error=as_failure(error, source.path)))
                continue
            jobs.append(
                Job(
                    name=source.relative.as_posix(),
                    clip=clip,
                    destination=destination,
                    content=content,
                    streams=stream_digests,
                    prompt=prompt,
                    seed=seed,
                    given=given,
                )
            )
    colliding = collisions((job.clip.path, job.destination) for job in jobs)
    problems += [Result(job.name, "failed", error=error) for job, error in zip(jobs, colliding, strict=True) if error]
    jobs = [job for job, error in zip(jobs, colliding, strict=True) if error is None]
    taken = [path for job in jobs for path in (job.clip.path, job.destination, *_beside(job.destination))]
    clashing = clashes(taken, {job.name: job.destination for job in jobs}, settings.extras)
    problems += [Result(name, "failed", error=error) for name, error in clashing.items()]
    jobs = [job for job in jobs if job.name not in clashing]
    unused = _unused_prompts(found.batch or found.sources, settings.prompts)
    # Models of sound take whatever a prompt says.
    says_notes = needs is not None and needs.follows_tempo
    said = prompt_notes(all_prompts(jobs, settings), recipe) if says_notes else ()
    said += (*negative_notes(recipe, notes=says_notes), *mixing.settings_without_effect(recipe))
    odd = rate_notes(job.clip for job in jobs) if settings.markers.formats else ()
    said += melody.notes if melody is not None else ()
    notes = (*streams.notes, *streams.remarks, *found.notes, *unused, *given_files.notes, *said, *odd)
    return Plan(tuple(jobs), tuple(problems), recipe, settings, streams, notes, melody=melody)


def all_prompts(jobs: Sequence[Job], settings: Settings) -> list[str]:
    """The prompts of these clips, of sections of their plans, and of bars to be composed anew.

    Args:
        jobs: the clips.
        settings: how the batch is run.
    """
    redo = settings.redo.prompt if settings.redo is not None else None
    sections = [each.prompt for job in jobs if job.given.plan for each in job.given.plan.sections if each.prompt]
    return [*(job.prompt for job in jobs), *sections, *([redo] if redo is not None else [])]


def prompt_notes(prompts: Sequence[str], recipe: Recipe) -> tuple[str, ...]:
    """What is worth saying of the clips' prompts, once a run: what was not understood, and what can't be done as asked.

    Args:
        prompts: one for each clip.
        recipe: with all flags laid over it.
    """
    briefs = {prompt: brief.read(prompt, recipe) for prompt in dict.fromkeys(prompts)}
    notes = list(dict.fromkeys(note for found in briefs.values() for note in found.notes))
    if words := [word for found in briefs.values() for word in found.unknown]:
        count = sum(bool(briefs[prompt].unknown) for prompt in prompts)
        where = f" (in the prompts of {count} clips)" if count > 1 else ""
        notes.append(f"{brief.not_understood(words)}{where}")
    return tuple(notes)


def negative_notes(recipe: Recipe, *, notes: bool) -> tuple[str, ...]:
    """What is worth saying of a negative prompt.

    Args:
        recipe: with all flags laid over it.
        notes: whether the model writes notes.
    """
    if not recipe.generate.negative_prompt or recipe.generate.guidance != 1:
        return ()
    rest = "; instruments that it names rest all the same" if notes else ""
    return (f"with text guidance 1 the negative prompt steers nothing{rest}: raise --guidance, for example to 3",)


def check_writable(out: Path) -> None:
    """Make the output folder and try to write there.

    Raises:
        UsageError: it can't be written.
    """
    with writing(out, "the output folder", error=UsageError, remedy="Choose another with --out."):
        out.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(dir=out, prefix=".expotion-write-test.", suffix=".partial")
        os.close(handle)
        os.unlink(probe)


def _destination(source: Source, clip: ClipInfo, settings: Settings, label: str) -> Path:
    """Where a clip's result goes.

    Raises:
        UsageError: outside the output folder.
        OutputError: a name has too many bytes for the file system.
    """
    video = inside(settings.out, source.renamed(output_suffix(clip), label))
    # Files that are not asked for count, too, so that a later run has room for them; none has a longer name.
    if (problem := too_long(video.parent, [video.name, *(path.name for path in _beside(video))])) is not None:
        raise problem
    return video


def _beside(video: Path) -> tuple[Path, Path]:
    return sidecar_path(video), midi_path(video)


def _inspect(
    source: Source,
    encoded: tuple[str | StreamSource, ...],
    hints: FileHints,
    given_files: GivenFiles,
    probing: Callable[[Path, Tracks], ClipInfo] | None,
    recipe: Recipe,
    settings: Settings,
) -> tuple[ClipInfo, str, dict[str, str], Given] | ExpotionError:
    from expotion_cli.vision.streams import stream_digests

    failures: list[ExpotionError] = []
    with guard(source.path, failures.append):
        with reading(source.path, error=ProbeError, remedy="Check its permissions."):
            clip, content = source.known or probe_with(hints, source.path, probing, tracks=settings.tracks)
        if clip.duration > settings.max_duration_s:
            reason = f"it lasts {in_words(clip.duration)}, longer than {in_words(settings.max_duration_s)}."
            remedy = f"Pass --max-duration {math.ceil(clip.duration)}, or cut it into parts."
            raise ProbeError(reason, path=source.path, remedy=remedy)
        check_codec(clip, recipe.mix.audio_codec)
        footage_of(clip, source.path, settings.markers)  # refuses a timecode that this rate doesn't have
        mixing.check_original(clip, recipe)
        check_length(clip, settings.extras)
        return clip, content, stream_digests(clip, encoded, content=content), given_files.of(source, clip)
    return failures[0]


def probe_elsewhere(executor: Executor, limit_s: float | None, path: Path, tracks: Tracks) -> ClipInfo:
    """Probe a clip where a crash does no harm.

    Args:
        executor: runs it.
        limit_s: seconds it may take.
        path: the clip.
        tracks: which picture and sound to take, where it holds several.

    Raises:
        ClipError: it can't be scored.
    """
    return executor.submit("probe", _probe, path, tracks, path=path, limit_s=limit_s).result()


def probe_with(
    hints: FileHints,
    path: Path,
    probing: Callable[[Path, Tracks], ClipInfo] | None = None,
    *,
    tracks: Tracks = AUTO_TRACKS,
) -> tuple[ClipInfo, str]:
    """What is known of a clip, and the sha256 of its content; a file that is unchanged is not opened.

    Args:
        hints: remembers both.
        path: the clip.
        probing: probes it; by default `media.probe` does, here.
        tracks: which picture and sound to take, where it holds several.

    Raises:
        ProbeError: it can't be scored.
        OSError: it can't be read.
    """
    remembered = hints.known(path) or {}
    known = clip_from(remembered["clip"], path) if "clip" in remembered else None
    if known is not None and known.chosen == tracks:
        return known, remembered["sha256"]
    clip = (probing or _probe)(path, tracks)
    content = hints.sha256(path)
    hints.remember(path, clip=clip_record(clip))
    return clip, content


def _probe(path: Path, tracks: Tracks) -> ClipInfo:
    from expotion_cli.media.probe import probe  # whoever hands this on need not load libav

    return probe(path, tracks)


def _unused_prompts(sources: Sequence[Source], prompts: Mapping[str, str]) -> list[str]:
    if not prompts:
        return []
    used = {key for source in sources for key in source.names}
    unused = sorted(set(prompts) - used)
    return [f"prompts for no clip at hand: {', '.join(unused)}"] if unused else []
