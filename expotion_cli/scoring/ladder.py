"""The ladder of one clip: see → spot → compose → render → follow → finish. Every rung is a function of its own.

    see      picture → embedding streams                       vision
    spot     embedding streams → cue plan                      spotting
    compose  cue plan and prompt → tokens                      music, many cues at a time (`group.compose`)
    render   tokens → music                                    the model's codec
    follow   music and cue plan → music that follows it        `scoring.follow`
    finish   music and clip → scored video                     media

`api.score_clip` climbs them all for one clip, `batch` for many. Regression renders, ablations and evaluations climb
the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli import brief, prompts
from expotion_cli.recipe import REPLACE, Recipe
from expotion_cli.scoring import passages
from expotion_cli.scoring.cue_request import compose_request as compose_request
from expotion_cli.scoring.playing import beat_keeper, sound_settings
from expotion_cli.scoring.redo import NOT_REDONE, Redone, settled
from expotion_cli.scoring.streams import FALLBACK_STREAM
from expotion_cli.spotting import loop
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timed_prompts import whole
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.media.remux import RemuxReport
    from expotion_cli.music.model import Model
    from expotion_cli.scoring.follow.align import Alignment
    from expotion_cli.scoring.follow.layer import Answer
    from expotion_cli.scoring.mixing import MixDown
    from expotion_cli.spotting.cuts import Cut
    from expotion_cli.spotting.hits import HitPoint
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream, StreamSource

STAGES = ("see", "spot", "compose", "render", "follow", "finish")
"""The rungs' names, in progress, sidecars and code."""

Progress = Callable[[float], None]
"""Called with the share that is done, 0..1."""


@dataclass(frozen=True)
class Seen:
    """What the encoders saw in one clip.

    Attributes:
        streams: those that saw something, by name.
        reports: a plain record for each stream: name, encoder, version, digest, found (share of rows), and the file
            it was read from, for features computed elsewhere.
        notes: in words, what is out of the ordinary.
        took_s: how long it took, in seconds.
        cuts: where shots begin.
    """

    streams: dict[str, EmbeddingStream] = field(default_factory=dict)
    reports: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    took_s: float = 0.0
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Score:
    """The music of a clip, before it meets its sound.

    Attributes:
        audio: [2, n] float32.
        sample_rate: in Hz.
        midi: a standard MIDI file, where the codec writes notes.
        answers: the accents that answer hit points, of the notes and of the follow layer.
        orchestration: key, metre and who plays, as the sidecar says it; of music without notes only which words held
            when, where they change.
        stems: its parts by name, [2, n] each, which add up to `audio`; empty unless asked for.
        alignment: how it was shifted and bent to meet hit points; None where that is not done.
    """

    audio: np.ndarray
    sample_rate: int
    midi: bytes | None
    answers: tuple[Answer, ...] = ()
    orchestration: Mapping[str, Any] = field(default_factory=dict)
    stems: Mapping[str, np.ndarray] = field(default_factory=dict)
    alignment: Alignment | None = None

    def record(self) -> dict[str, Any]:
        """What the sidecar says of it."""
        alignment = self.alignment.record() if self.alignment is not None else None
        return {"alignment": alignment, **self.orchestration}


def see(
    clip: ClipInfo | str | Path,
    streams: Iterable[str | StreamSource] = ("face", "pose", "flow"),
    *,
    cache: EmbeddingCache | None = None,
    on_progress: Progress | None = None,
) -> Seen:
    """Turn a clip's picture into embedding streams, in one decoding pass.

    A stream that found nobody is set aside; when nothing else is left, `flow` is encoded instead.

    >>> import expotion_cli as expotion
    >>> seen = expotion.see("clip.mp4", ["flow"])
    >>> seen.streams["flow"].rate_hz
    25.0

    Args:
        clip: a video file, or what `media.probe` found out about it.
        streams: names of encoders; or names with settings or a folder of rows computed elsewhere.
        cache: keeps streams between runs.
        on_progress: told the share that is done.

    Raises:
        ProbeError: the file is not a video.
        DecodeError: the picture can't be read.
        ClipError: there are no features for this clip, or wrong ones.
    """
    sources = tuple(streams)
    if not sources:
        return Seen(notes=("no embedding streams were asked for",))
    from expotion_cli.spotting.cuts import find_cuts
    from expotion_cli.vision.cuts import CUTS
    from expotion_cli.vision.streams import encode_clip

    if isinstance(clip, str | Path):
        from expotion_cli.media.probe import probe

        clip = probe(clip)
    started = time.monotonic()
    if on_progress is not None:
        on_progress(0.0)
    encoded = dict(encode_clip(clip, (*sources, CUTS), cache=cache, on_progress=on_progress))
    cuts = find_cuts(encoded)
    encoded.pop(CUTS, None)
    notes = []
    empty = [name for name, stream in encoded.items() if not stream.mask.any()]
    if empty:
        notes.append(f"nobody found by {' and '.join(empty)}")
    if len(empty) == len(encoded) and FALLBACK_STREAM not in encoded:
        encoded |= encode_clip(clip, (FALLBACK_STREAM,), cache=cache, on_progress=on_progress)
        notes[-1] += f", followed {FALLBACK_STREAM} instead"
    if skipped := max(stream.skipped for stream in encoded.values()):
        those = "frame could not be decoded and was" if skipped == 1 else "frames could not be decoded and were"
        notes.append(f"{skipped} {those} skipped")
    folders = {source.name: source for source in sources if not isinstance(source, str) and source.folder is not None}
    reports = tuple(_report(clip, stream, folders.get(stream.name)) for stream in encoded.values())
    found = {name: stream for name, stream in encoded.items() if name not in empty}
    return Seen(found, reports, tuple(notes), round(time.monotonic() - started, 3), cuts)


def _report(clip: ClipInfo, stream: EmbeddingStream, features: StreamSource | None) -> dict[str, Any]:
    report = {
        "name": stream.name,
        "encoder": stream.encoder,
        "version": stream.version,
        "digest": stream.digest,
        "found": round(float(np.mean(stream.mask)), 4),
    }
    if features is None:
        return report
    from expotion_cli.vision.precomputed import feature_file

    return {**report, "file": str(feature_file(features, clip.path)), "rate_hz": stream.rate_hz}


def spot(
    seen: Seen,
    duration: Fraction,
    recipe: Recipe,
    *,
    prompt: str | None = None,
    user_hits: Sequence[HitPoint] = (),
) -> CuePlan:
    """Find what the picture asks of the music.

    >>> import expotion_cli as expotion
    >>> clip = expotion.probe("clip.mp4")
    >>> seen = expotion.see(clip, ["flow"])
    >>> plan = expotion.spot(seen, clip.duration, expotion.load_recipe("cinematic"), prompt="piano at 96 bpm")
    >>> float(plan.tempo.bpm)
    96.0

    Args:
        seen: from `see`.
        duration: of the picture, in seconds.
        recipe: gives the range of the tempo, and the prompt.
        prompt: instead of the recipe's; it may state a tempo and a metre.
        user_hits: hit points that stand whatever the picture shows.
    """
    from expotion_cli.spotting.plan import make_plan

    metre = brief.read(recipe.prompt if prompt is None else prompt, recipe).metre
    bpm_range = tempo_range(recipe, prompt)
    plan = make_plan(seen.streams, duration, bpm_range, cuts=seen.cuts, user_hits=user_hits, metre=metre)
    return loop.close(plan, duration, bpm_range) if recipe.compose.loop else plan


def tempo_range(recipe: Recipe, prompt: str | None = None) -> tuple[float, float]:
    """(lowest, highest) tempo in beats a minute that recipe and prompt leave; equal where one is fixed.

    Args:
        recipe: with all flags laid over it.
        prompt: instead of the recipe's.
    """
    words = whole(recipe.prompt if prompt is None else prompt)
    return prompts.tempo_range(words, (recipe.tempo.min, recipe.tempo.max))


def render(
    model: Model,
    tokens: np.ndarray,
    timeline: Timeline,
    recipe: Recipe,
    *,
    seed: int,
    plan: CuePlan | None = None,
    prompt: str | None = None,
    redone: Redone = NOT_REDONE,
    stems: bool = False,
) -> Score:
    """Turn tokens into music exactly as long as the timeline.

    Args:
        model: whose tokens these are.
        tokens: [K, S] int64.
        timeline: the cue's step grid.
        recipe: names the instruments.
        seed: of the cue.
        plan: its key counts if the recipe leaves the key open.
        prompt: of the cue, instead of the recipe's; the instruments that it names play.
        redone: bars that were composed anew.
        stems: also give each voice by itself, where the codec has voices.
    """
    settings = settled(sound_settings(recipe, seed, plan, prompt), redone)
    marks, way = plan.marks if plan is not None else (), _course(model, timeline, recipe, seed, plan, prompt, redone)
    more: dict[str, Any] = {"passages": way.passages} if way.passages else {}
    more |= {"keep_stems": True} if stems else {}
    rendering = model.codec.decode(tokens, timeline, settings, seed=seed, marks=marks, **more)
    audio = np.atleast_2d(np.asarray(rendering.audio, dtype=np.float32))
    if len(audio) == 1:
        audio = np.repeat(audio, 2, axis=0)
    parts = rendering.stems if stems else {}
    words = recipe.prompt if prompt is None else prompt
    if rendering.key is None:
        changes = passages.told(model, recipe, plan, words, timeline) if plan is not None else ()
        said = passages.told_record(changes, timeline)
        return Score(audio, rendering.sample_rate, rendering.midi, orchestration=said, stems=parts)
    from expotion_cli.music.codecs.notes.orchestrate import described

    wanted = brief.read(words, recipe)
    played = described(settings, wanted, is_minor=bool(rendering.key.is_minor)) | way.described(timeline)
    return Score(audio, rendering.sample_rate, rendering.midi, orchestration=played, stems=parts)


def _course(
    model: Model,
    timeline: Timeline,
    recipe: Recipe,
    seed: int,
    plan: CuePlan | None,
    prompt: str | None,
    redone: Redone,
) -> passages.Course:
    if not model.codec.follows_tempo:
        return passages.Course(())
    words = recipe.prompt if prompt is None else prompt
    return passages.course(recipe, seed, plan, words, timeline, redone.rows)


def follow(
    model: Model,
    score: Score,
    timeline: Timeline,
    plan: CuePlan,
    recipe: Recipe,
    *,
    seed: int,
    prompt: str | None = None,
    redone: Redone = NOT_REDONE,
) -> Score:
    """Make the music follow its cue plan: by level, by accents at hit points, and by where it begins and ends.

    Hit points that the notes answer get no other accent. Music that plays a composed melody is on the melody's beats.
    Music whose beats nobody knows beforehand is first aligned with the hit points (`scoring.follow.align`).

    Args:
        model: that composed it.
        score: from `render`.
        timeline: the cue's step grid.
        plan: from `spot`, or given.
        recipe: its table `[follow]` says how.
        seed: of the cue.
        prompt: of the cue, instead of the recipe's; it may state the key.
        redone: bars that were composed anew.
    """
    from expotion_cli.scoring.follow import layer
    from expotion_cli.scoring.follow.align import align, aligns

    composer = beat_keeper(model, recipe)
    settings = sound_settings(recipe, seed, plan, prompt) if composer is not None else None
    way = _course(model, timeline, recipe, seed, plan, prompt, redone)
    more = {"passages": way.passages} if way.passages else {}
    by_notes = model.codec.answered(plan, timeline, settings, recipe.compose, **more)
    audio, alignment = score.audio, None
    if aligns(recipe.follow, has_tempo=composer is not None):
        audio, alignment = align(audio, score.sample_rate, plan.heard_hits)
    followed = layer.follow(
        audio,
        score.sample_rate,
        plan,
        recipe.follow,
        grid=composer.codec.timeline(timeline.duration, plan.tempo) if composer is not None else None,
        tonic=settings.tonic if settings is not None else None,
        seed=seed,
        answered=by_notes.keys(),
        is_loop=recipe.compose.loop,
        stems=score.stems,
    )
    composed = [
        layer.Answer(round(max(0.0, by_notes[hit.time_s]), 4), hit.time_s, hit.weight, ("notes",))
        for hit in plan.hits
        if hit.time_s in by_notes
    ]
    answers = sorted([*followed.answers, *composed], key=lambda answer: answer.hit_s)
    return replace(score, audio=followed.audio, answers=tuple(answers), stems=followed.stems, alignment=alignment)


def finish(
    clip: ClipInfo,
    score: Score,
    recipe: Recipe,
    destination: Path,
    *,
    tags: Mapping[str, str] | None = None,
    beside: Callable[[MixDown, float], Sequence[str]] | None = None,
) -> RemuxReport:
    """Mix the music with the clip's own sound, bring it to its loudness and put it under the untouched picture.

    Args:
        clip: what is scored.
        score: from `render`.
        recipe: says how the two meet, and how loud.
        destination: the video to write.
        tags: metadata to add to the clip's own.
        beside: given the mix and the gain in dB that brought it to its loudness; what it returns is noted.

    Raises:
        OutputError: the result can't be written.
        DecodeError: the clip's own sound can't be read.
    """
    from expotion_cli.media.mix import own_is_highest
    from expotion_cli.media.remux import remux
    from expotion_cli.scoring.mixing import mix_down

    made = mix_down(clip, score.audio, score.sample_rate, recipe)
    report = remux(
        clip,
        made.mixed.sound,
        made.mixed.sample_rate,
        destination,
        target_lufs=recipe.loudness.lufs,
        peak_dbtp=recipe.loudness.peak_dbtp,
        audio_codec=recipe.mix.audio_codec,
        keep_original=recipe.mix.keep_original,
        default_track=recipe.mix.default_track,
        metadata=dict(tags or {}),
        own_sound=recipe.mix.mode != REPLACE,
    )
    notes = [*report.notes, *made.notes]
    if report.is_quieter and made.original is not None and own_is_highest(made.mixed.sound, made.original):
        notes.append("the highest peaks are those of the clip's own sound")
    if beside is not None:
        notes += beside(made, report.gain_db)
    return replace(report, notes=tuple(notes), speech=made.speech)
