"""Looks at a clip as scoring does, and keeps all of it: streams, accents, stillness, the tempo a cue would take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.errors import EnvironmentProblem
from expotion_cli.vision.signals import runs

if TYPE_CHECKING:
    from expotion_cli.media.probe import ClipInfo
    from expotion_cli.music.pulse import Tempo
    from expotion_cli.recipe import Recipe
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream, StreamSource

ACCENT_DIMS = {"pose": "accent", "face": "head_accent", "flow": "accent"}
ENERGY_DIMS = {"pose": "energy", "flow": "energy", "face": "head_speed"}
"""Who tells how much moves, the surest first."""
CLEAR_ACCENT = 0.3
"""Weaker accents, in shares of the clip's own 95th percentile plus a floor, are mostly trembling."""
STILL_SHARE, STILL_S, STILL_BLUR_S = 0.5, 0.5, 0.2
"""Still: less than this share of a small but deliberate movement, for at least so long, averaged over so long."""
WITNESS_COVERAGE = 0.5


@dataclass(frozen=True)
class Accent:
    """A moment where motion stops or turns sharply.

    Attributes:
        time_s: on the picture's clock.
        strength: 0..1.5, in shares of the clip's own 95th percentile plus a floor (`conditioning.normalise`).
        source: the stream that saw it.
    """

    time_s: float
    strength: float
    source: str


@dataclass(frozen=True)
class Stillness:
    """When nobody moves.

    Attributes:
        source: the stream that was asked; None where none saw enough to tell.
        threshold: of its energy, in that stream's unit.
        spans_s: (start, end) of each stretch.
    """

    source: str | None
    threshold: float
    spans_s: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Observation:
    """What was seen in one clip.

    Attributes:
        name: what to call the clip: its path inside the input, in characters that any file can hold.
        clip: what probing found.
        content: sha256 of the clip's bytes.
        streams: all encoded streams, those that saw nobody among them.
        accents: of all streams, by time.
        stillness: when nobody moves.
        tempo: what a cue would take; None where no stream saw motion for half of the clip.
        recipe: gave the range of the tempo.
        notes: in words, what is out of the ordinary.
    """

    name: str
    clip: ClipInfo
    content: str
    streams: dict[str, EmbeddingStream]
    accents: tuple[Accent, ...]
    stillness: Stillness
    tempo: Tempo | None
    recipe: Recipe
    notes: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Length of the picture in seconds."""
        return float(self.clip.duration)


class Observer:
    """Looks at clips, one after the other.

    Args:
        sources: streams that can be had here (`watching.streams_for`).
        recipe: gives the range of the tempo.
        cache: keeps embedding streams.

    Attributes:
        left_out: streams that turned out not to run here, with the reason.
    """

    def __init__(self, sources: Iterable[str | StreamSource], recipe: Recipe, cache: EmbeddingCache | None = None):
        self._sources, self._recipe, self._cache = tuple(sources), recipe, cache
        self.left_out: dict[str, str] = {}

    def observe(self, clip: ClipInfo, name: str, *, on_progress: Callable[[float], None] | None = None) -> Observation:
        """Look at a clip.

        Raises:
            DecodeError: the picture can't be read.
            EnvironmentProblem: no stream at all can be encoded here.
        """
        from expotion_cli import storage

        content = self._cache.content_hash(clip.path) if self._cache is not None else storage.digest_file(clip.path)
        streams = self._encode(clip, on_progress)
        blind = [name for name, stream in streams.items() if not stream.mask.any()]
        skipped = max((stream.skipped for stream in streams.values()), default=0)
        notes = [f"nobody found by {' and '.join(blind)}"] if blind else []
        notes += [f"{skipped} broken picture{'s' if skipped > 1 else ''} skipped"] if skipped else []
        notes += [f"{stream} left out: {reason}" for stream, reason in self.left_out.items()]
        return Observation(
            name=name,
            clip=clip,
            content=content,
            streams=streams,
            accents=find_accents(streams),
            stillness=find_stillness(streams),
            tempo=choose_tempo(clip, streams, self._recipe),
            recipe=self._recipe,
            notes=tuple(notes),
        )

    def _encode(self, clip: ClipInfo, on_progress: Callable[[float], None] | None) -> dict[str, EmbeddingStream]:
        """All streams in one pass; where that fails for what this machine lacks, one by one without the culprit."""
        from expotion_cli.vision.streams import encode_clip

        wanted = [source for source in self._sources if _name(source) not in self.left_out]
        try:
            return encode_clip(clip, wanted, cache=self._cache, on_progress=on_progress)
        except EnvironmentProblem as problem:
            if len(wanted) < 2:
                raise
            found: dict[str, EmbeddingStream] = {}
            for source in wanted:
                try:
                    found |= encode_clip(clip, (source,), cache=self._cache, on_progress=on_progress)
                except EnvironmentProblem as error:
                    self.left_out[_name(source)] = str(error)
            if not found:
                raise problem from None
            return found


def _name(source: str | StreamSource) -> str:
    return source if isinstance(source, str) else source.name


def find_accents(streams: dict[str, EmbeddingStream]) -> tuple[Accent, ...]:
    """Clear accents of all streams that tell them, by time."""
    from expotion_cli.evaluation.sync import onset_times
    from expotion_cli.music.conditioning import normalise

    found = []
    for name, dim in ACCENT_DIMS.items():
        stream = streams.get(name)
        if stream is None or dim not in stream.dims or not stream.mask.any():
            continue
        curve = np.nan_to_num(normalise(name, dim, stream.dim(dim), stream.mask)) * stream.mask
        for time_s in onset_times(curve, stream.rate_hz):
            strength = float(curve[min(len(curve) - 1, round(time_s * stream.rate_hz))])
            if strength >= CLEAR_ACCENT:
                found.append(Accent(round(float(time_s), 3), round(strength, 3), name))
    return tuple(sorted(found, key=lambda accent: (accent.time_s, accent.source)))


def find_stillness(streams: dict[str, EmbeddingStream]) -> Stillness:
    """When the surest witness that saw somebody half of the time sees hardly any motion."""
    from expotion_cli.music.conditioning import ACTIVITY_FLOORS

    for name, dim in ENERGY_DIMS.items():
        stream = streams.get(name)
        if stream is None or dim not in stream.dims or stream.coverage < WITNESS_COVERAGE:
            continue
        threshold = STILL_SHARE * ACTIVITY_FLOORS[name, dim]
        reach = max(1, round(STILL_BLUR_S * stream.rate_hz))
        energy = np.convolve(np.pad(stream.dim(dim), (reach // 2, reach - 1 - reach // 2), mode="edge"),
                             np.full(reach, 1 / reach), mode="valid")  # fmt: skip
        spans = [
            (start / stream.rate_hz, stop / stream.rate_hz)
            for start, stop in runs((energy < threshold) & stream.mask)
            if stop - start >= STILL_S * stream.rate_hz
        ]
        return Stillness(name, threshold, tuple(spans))
    return Stillness(None, 0.0, ())


def choose_tempo(clip: ClipInfo, streams: dict[str, EmbeddingStream], recipe: Recipe) -> Tempo | None:
    """The tempo and beats that scoring with the embedded model would take, as `Model.tempo` finds them."""
    from expotion_cli.music.conditioning import motion_signal
    from expotion_cli.music.pulse import choose_tempo as choose

    if not any(streams[name].coverage >= WITNESS_COVERAGE for name in ACCENT_DIMS if name in streams):
        return None
    energy, accents, rate_hz = motion_signal(streams, float(clip.duration))
    bpm_range = (recipe.tempo.min, recipe.tempo.max)
    return choose(energy, accents, rate_hz, clip.duration, bpm_range, recipe.tempo.fixed_bpm, always_fit=True)
