"""Encodes a clip as scoring does and keeps everything: streams, accents, stillness, the cue plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expotion_cli.errors import EnvironmentProblem
from expotion_cli.scoring import ladder
from expotion_cli.scoring.streams import FALLBACK_STREAM
from expotion_cli.spotting.accents import Accent, Stillness, find_accents, find_stillness
from expotion_cli.spotting.cuts import find_cuts
from expotion_cli.vision.cuts import CUTS

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.recipe import Recipe
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Tempo
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream, StreamSource


@dataclass(frozen=True)
class Observation:
    """Everything that was found in one clip.

    Attributes:
        name: what to call the clip: its path inside the input, in characters that any file can hold.
        clip: what probing found.
        content: sha256 of the clip's bytes.
        streams: all encoded streams, including those that found nobody.
        accents: of all streams, by time.
        stillness: when nobody moves.
        plan: what a cue of this clip follows.
        recipe: sets the tempo range and the prompt.
        notes: remarks for the user.
    """

    name: str
    clip: ClipInfo
    content: str
    streams: dict[str, EmbeddingStream]
    accents: tuple[Accent, ...]
    stillness: Stillness
    plan: CuePlan
    recipe: Recipe
    notes: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Length of the picture in seconds."""
        return float(self.clip.duration)

    @property
    def tempo(self) -> Tempo:
        """Of the clip's cue: the plan's."""
        return self.plan.tempo


class Observer:
    """Encodes clips, one after the other.

    Args:
        sources: streams that can be encoded here (`scoring.streams.streams_for`).
        recipe: sets the tempo range and the prompt.
        cache: keeps embedding streams.

    Attributes:
        left_out: streams that turned out not to run here, with the reason.
    """

    def __init__(self, sources: Iterable[str | StreamSource], recipe: Recipe, cache: EmbeddingCache | None = None):
        self._sources, self._recipe, self._cache = tuple(sources), recipe, cache
        self.left_out: dict[str, str] = {}

    def observe(self, clip: ClipInfo, name: str, *, on_progress: Callable[[float], None] | None = None) -> Observation:
        """Encode a clip and find accents, stillness and the cue plan.

        Args:
            clip: what probing found.
            name: what to call it.
            on_progress: called with the share that is done, 0..1.

        Raises:
            DecodeError: the picture can't be read.
            EnvironmentProblem: no stream at all can be encoded here.
        """
        from expotion_cli import storage
        from expotion_cli.vision.streams import encode_clip

        content = self._cache.content_hash(clip.path) if self._cache is not None else storage.digest_file(clip.path)
        streams = self._encode(clip, on_progress)
        cuts = find_cuts(streams)
        streams.pop(CUTS, None)
        empty = [name for name, stream in streams.items() if not stream.mask.any()]
        skipped = max((stream.skipped for stream in streams.values()), default=0)
        notes = [f"nobody found by {' and '.join(empty)}"] if empty else []
        if len(empty) == len(streams) and FALLBACK_STREAM not in streams:
            # as `ladder.see` does, so that the plan is the cue's
            streams |= encode_clip(clip, (FALLBACK_STREAM,), cache=self._cache, on_progress=on_progress)
            notes[-1] += f", followed {FALLBACK_STREAM} instead"
        found = {name: stream for name, stream in streams.items() if name not in empty}
        notes += [f"{skipped} broken frame{'s' if skipped > 1 else ''} skipped"] if skipped else []
        notes += [f"{stream} left out: {reason}" for stream, reason in self.left_out.items()]
        return Observation(
            name=name,
            clip=clip,
            content=content,
            streams=streams,
            accents=find_accents(streams),
            stillness=find_stillness(streams),
            plan=ladder.spot(ladder.Seen(found, cuts=cuts), clip.duration, self._recipe),
            recipe=self._recipe,
            notes=tuple(notes),
        )

    def _encode(self, clip: ClipInfo, on_progress: Callable[[float], None] | None) -> dict[str, EmbeddingStream]:
        """All streams in one pass; where that fails for what this machine lacks, one by one without the culprit."""
        from expotion_cli.vision.streams import encode_clip

        wanted = [source for source in self._sources if _name(source) not in self.left_out]
        try:
            return encode_clip(clip, (*wanted, CUTS), cache=self._cache, on_progress=on_progress)
        except EnvironmentProblem as problem:
            if len(wanted) < 2:
                raise
            found: dict[str, EmbeddingStream] = {}
            for source in wanted:
                try:
                    found |= encode_clip(clip, (source, CUTS), cache=self._cache, on_progress=on_progress)
                except EnvironmentProblem as error:
                    self.left_out[_name(source)] = str(error)
            if not found:
                raise problem from None
            return found


def _name(source: str | StreamSource) -> str:
    return source if isinstance(source, str) else source.name
