"""The ladder of one clip: picture → embedding streams → cue → tokens → music → scored video.

Every rung is a function of its own; `score_clip` climbs them all. `batch` climbs them for many clips at a time.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli import __version__
from expotion_cli.errors import RecipeError, UsageError
from expotion_cli.recipe import Recipe
from expotion_cli.scoring.streams import FALLBACK_STREAM, needs_of, streams_for, unheard_streams, unseen_in_clip
from expotion_cli.timing import Timeline, num_samples

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.media.remux import RemuxReport
    from expotion_cli.music.model import Model
    from expotion_cli.music.request import CueRequest
    from expotion_cli.timing import Tempo
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream, StreamSource

Progress = Callable[[float], None]
"""Called with the share that is done, 0..1."""


ASKED_PULSE = 1.0
"""How clearly beats are heard where a tempo was asked for (`conditioning.with_pulse`)."""


@dataclass(frozen=True)
class Seen:
    """What the encoders saw in one clip.

    Attributes:
        streams: those that saw something, by name.
        reports: a plain record for each stream: name, encoder, version, digest, found (share of rows), and the file
            it was read from where that is no encoder's work.
        notes: in words, what is out of the ordinary.
        duration_s: how long it took.
    """

    streams: dict[str, EmbeddingStream] = field(default_factory=dict)
    reports: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    duration_s: float = 0.0


@dataclass(frozen=True)
class Score:
    """The music of a clip, before it meets its sound.

    Attributes:
        audio: [2, n] float32.
        sample_rate: in Hz.
        midi: a standard MIDI file, where the codec writes notes.
    """

    audio: np.ndarray
    sample_rate: int
    midi: bytes | None


@dataclass(frozen=True)
class ScoredClip:
    """A finished clip.

    Attributes:
        output: the video.
        seen, tempo, score, report: what the rungs returned; `tempo` is None for codecs without a beat.
    """

    output: Path
    seen: Seen
    tempo: Any
    score: Score
    report: RemuxReport


def see(
    clip: ClipInfo,
    names: Iterable[str | StreamSource],
    *,
    cache: EmbeddingCache | None = None,
    on_progress: Progress | None = None,
) -> Seen:
    """Look at a clip: encode its streams in one decoding pass.

    A stream that found nobody is set aside; when nothing else is left, `flow` is encoded instead.

    Args:
        clip: from `media.probe`.
        names: of encoders; or names with settings or a folder of rows computed elsewhere.
        cache: keeps streams.
        on_progress: told the share that is done.

    Raises:
        DecodeError: the picture can't be read.
        ClipError: there are no features for this clip, or wrong ones.
    """
    sources = tuple(names)
    if not sources:
        return Seen(notes=("the picture was not looked at",))
    from expotion_cli.vision.streams import encode_clip

    started = time.monotonic()
    encoded = dict(encode_clip(clip, sources, cache=cache, on_progress=on_progress))
    notes = []
    blind = [name for name, stream in encoded.items() if not stream.mask.any()]
    if blind:
        notes.append(f"nobody found by {' and '.join(blind)}")
    if len(blind) == len(encoded) and FALLBACK_STREAM not in encoded:
        encoded |= encode_clip(clip, (FALLBACK_STREAM,), cache=cache, on_progress=on_progress)
        notes[-1] += f", followed {FALLBACK_STREAM} instead"
    if skipped := max(stream.skipped for stream in encoded.values()):
        those = "picture could not be decoded and was" if skipped == 1 else "pictures could not be decoded and were"
        notes.append(f"{skipped} {those} skipped")
    folders = {source.name: source for source in sources if not isinstance(source, str) and source.folder is not None}
    reports = tuple(_report(clip, stream, folders.get(stream.name)) for stream in encoded.values())
    streams = {name: stream for name, stream in encoded.items() if name not in blind}
    return Seen(streams, reports, tuple(notes), round(time.monotonic() - started, 3))


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


def compose_request(
    model: Model,
    seen: Seen,
    duration: Fraction,
    recipe: Recipe,
    *,
    prompt: str,
    seed: int,
    tempo: Tempo | None = None,
) -> tuple[CueRequest, Tempo | None]:
    """Make the cue's request: tempo, step grid and conditioning.

    Args:
        model: composes the cue.
        seen: the clip's embedding streams.
        duration: of the clip, in seconds.
        recipe: gives the tempo range and the sampling.
        prompt: what the music should be; a tempo that it states narrows the recipe's range.
        seed: of the cue.
        tempo: tempo and place of the beats; None: find both in the motion.

    Returns:
        The request, and the tempo (None for codecs without a beat).
    """
    from expotion_cli.music.generate.sampling import Sampling
    from expotion_cli.music.request import CueRequest
    from expotion_cli.prompts import tempo_range

    low, high = tempo_range(prompt, (recipe.tempo.min, recipe.tempo.max))
    if tempo is None:
        tempo = model.tempo(seen.streams, duration, (low, high), low if low == high else None)
    timeline = model.codec.timeline(duration, tempo)
    drawn = dataclasses.asdict(recipe.generate)
    del drawn["seed"]
    takes = drawn.pop("takes")
    request = CueRequest(
        prompt=prompt,
        timeline=timeline,
        conditioning=model.condition(seen.streams, timeline, pulse=ASKED_PULSE if low == high else 0.0),
        seed=seed,
        sampling=Sampling(**drawn),
        takes=takes,
    )
    return request, tempo


def check_sound(recipe: Recipe) -> None:
    """Check the tables `[sound]` and `[voices]` before any work is done.

    Raises:
        RecipeError: an unknown key or a value out of range.
    """
    _voicing(recipe, 0)


def render(model: Model, tokens: np.ndarray, timeline: Timeline, recipe: Recipe, *, seed: int) -> Score:
    """Turn tokens [K, S] into music exactly as long as the timeline."""
    rendering = model.codec.decode(tokens, timeline, _voicing(recipe, seed), seed=seed)
    audio = np.atleast_2d(np.asarray(rendering.audio, dtype=np.float32))
    if len(audio) == 1:
        audio = np.repeat(audio, 2, axis=0)
    return Score(audio, rendering.sample_rate, rendering.midi)


def finish(
    clip: ClipInfo, score: Score, recipe: Recipe, destination: Path, *, tags: Mapping[str, str] | None = None
) -> RemuxReport:
    """Mix the music with the clip's own sound, bring it to its loudness and put it under the untouched picture.

    Raises:
        OutputError: the result can't be written, or the loudness can't be met.
        DecodeError: the clip's own sound can't be read.
    """
    from expotion_cli.media.mix import mix
    from expotion_cli.media.remux import remux
    from expotion_cli.media.sound import read_clip_sound

    settings = recipe.mix
    original = None
    if settings.mode == "under" and clip.audio is not None:
        original = read_clip_sound(clip.path, score.sample_rate)
    mixed = mix(
        score.audio,
        score.sample_rate,
        original=original,
        mode="replace" if original is None else settings.mode,
        num_samples=num_samples(clip.duration, score.sample_rate),
        fade_in_s=settings.fade_in_s,
        fade_out_s=settings.fade_out_s,
        under_lu=settings.under_lu,
    )
    return remux(
        clip,
        mixed,
        score.sample_rate,
        destination,
        target_lufs=recipe.loudness.lufs,
        peak_dbtp=recipe.loudness.peak_dbtp,
        audio_codec=None if recipe.mix.audio_codec == "auto" else recipe.mix.audio_codec,
        metadata=dict(tags or {}),
    )


def score_clip(
    path: str | Path,
    destination: str | Path,
    *,
    model: Model,
    recipe: Recipe,
    prompt: str | None = None,
    seed: int = 0,
    features: Iterable[StreamSource] = (),
    cache: EmbeddingCache | None = None,
) -> ScoredClip:
    """Score one clip, all rungs.

    Args:
        path: the clip.
        destination: the video to write; its suffix should be `media.clip.output_suffix`'s.
        model: from `music.loading.load_model`.
        recipe: from `recipe.load_recipe`.
        prompt: instead of the recipe's.
        seed: of this take.
        features: folders of rows computed elsewhere, in place of the encoders of these names.
        cache: keeps embedding streams.

    Raises:
        ClipError: the clip can't be scored.
        OutputError: the result can't be written.
    """
    from expotion_cli.media.probe import probe

    clip = probe(path)
    choice = streams_for(recipe, needs_of(model), features)
    seen = see(clip, choice.sources, cache=cache)
    unheard = (*unheard_streams(model, choice, recipe), *unseen_in_clip(model, choice, seen.streams))
    remarks = (*choice.remarks, *unheard)
    seen = dataclasses.replace(seen, notes=(*seen.notes, *choice.notes, *remarks))
    words = recipe.prompt if prompt is None else prompt
    request, tempo = compose_request(model, seen, clip.duration, recipe, prompt=words, seed=seed)
    ((_, tokens),) = model.generate([request])
    score = render(model, tokens, request.timeline, recipe, seed=seed)
    report = finish(clip, score, recipe, Path(destination))
    return ScoredClip(Path(destination), seen, tempo, score, report)


class Stopwatch:
    """Collects how long stages took, in seconds."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._started = time.monotonic()

    def lap(self, stage: str) -> None:
        """The time since the last lap (or the start) belongs to this stage."""
        now = time.monotonic()
        self.stages[stage] = round(self.stages.get(stage, 0.0) + now - self._started, 3)
        self._started = now


def tempo_record(tempo: Any) -> dict[str, Any] | None:
    """A tempo as plain values, exact enough to make the same grid again."""
    if tempo is None:
        return None
    return {
        "bpm": round(float(tempo.bpm), 3),
        "start_s": round(float(tempo.start), 6),
        "confidence": round(float(tempo.confidence), 3),
        "exact": [str(Fraction(tempo.bpm)), str(Fraction(tempo.start))],
    }


def cue_timeline(model: Model, duration: Fraction, record: Mapping[str, Any] | None) -> Timeline:
    """The step grid of a cue from its duration and the record of its tempo."""
    if record is None:
        return model.codec.timeline(duration, None)
    from expotion_cli.timing import Tempo

    bpm, start = (Fraction(text) for text in record["exact"])
    return model.codec.timeline(duration, Tempo(bpm=bpm, start=start, confidence=record["confidence"]))


def describe(
    model: Model,
    recipe: Recipe,
    clip: ClipInfo,
    cue_notes: Mapping[str, Any],
    report: RemuxReport,
    *,
    prompt: str,
    seed: int,
    stages_s: Mapping[str, float],
    run_notes: Iterable[str] = (),
) -> dict[str, Any]:
    """What the sidecar says about a result, in plain JSON values; a silent result's loudness is null.

    Args:
        model, recipe, clip: what came together.
        cue_notes: what was noted when the cue was composed.
        report: of the finished video.
        prompt, seed: of the cue.
        stages_s: how long the stages took.
        run_notes: what holds for all results of the run.
    """
    tempo = cue_notes["tempo"]
    return {
        "format": 1,
        "clip": {
            "duration_s": round(float(clip.duration), 6),
            "fps": round(float(clip.fps), 6),
            "width": clip.width,
            "height": clip.height,
            "has_sound": clip.audio is not None,
        },
        "output": {"audio_codec": report.audio_codec, "sample_rate": report.sample_rate},
        "recipe": {"name": recipe.name, "digest": recipe.digest, **recipe.fields()},
        "prompt": prompt,
        "seed": seed,
        "model": {"name": model.name, "digest": model.digest, "licence": model.licence, "backbone": model.backbone},
        "adapter": model.adapter_name,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "streams": cue_notes["streams"],
        "left_out": cue_notes["left_out"],
        "tempo": tempo and {key: tempo[key] for key in ("bpm", "start_s", "confidence")},
        "loudness": {
            "integrated_lufs": _finite(report.loudness.integrated_lufs),
            "true_peak_dbtp": _finite(report.loudness.true_peak_dbtp),
            "range_lu": _finite(report.loudness.range_lu),
            "gain_db": _finite(report.gain_db),
            "limited_db": _finite(report.limited_db),
        },
        "notes": [*run_notes, *cue_notes["notes"], *report.notes],
        "stages_s": {**cue_notes["stages_s"], **stages_s},
        "composed_together": cue_notes["composed_together"],
        "versions": versions(),
    }


def _finite(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python, of this program and of the libraries that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in ("expotion", "torch", "transformers", "audiocraft", "mediapipe", "av", "symusic", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "expotion": __version__}


def _voicing(recipe: Recipe, seed: int) -> Any:
    from expotion_cli.music.codecs.notes.instruments import Voicing

    try:
        return Voicing.from_table({"sound": recipe.sound, "voices": recipe.voices}, seed)
    except UsageError as error:
        raise RecipeError(error.reason, path=recipe.path, remedy=error.remedy) from None
