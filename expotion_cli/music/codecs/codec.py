"""The codec interface: a codec turns tokens into sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from expotion_cli.keys import Key
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from expotion_cli.compose import Compose
    from expotion_cli.music.codecs.notes.sketch import Sketch
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Tempo


@dataclass(frozen=True)
class Rendering:
    """A cue as sound.

    Attributes:
        audio: [2, n] float32, n exactly `timeline.samples(sample_rate)`.
        sample_rate: samples a second.
        midi: the cue as a standard MIDI file, if the codec has notes.
        key: in which it is, if the codec has notes.
        stems: each voice by itself, [2, n], if the codec has voices and they were asked for; they add up to `audio`.
    """

    audio: np.ndarray
    sample_rate: int
    midi: bytes | None = None
    stems: dict[str, np.ndarray] = field(default_factory=dict)
    key: Key | None = None


@dataclass(frozen=True)
class Rating:
    """What can be told of a take before it is compared with its picture.

    Attributes:
        faults: that no music should have, in words.
        usual: share of its measures of notes that lie within the training music's range, 0..1; None without notes.
    """

    faults: tuple[str, ...] = ()
    usual: float | None = None


class SoundCodec:
    """What all codecs of sound have in common: no beats, no notes, nothing settled beforehand.

    Attributes:
        sample_rate: of the audio.
        rate_hz: steps a second.
    """

    bar_steps = 1
    sketch_version = 0
    follows_tempo = False
    sample_rate: int
    rate_hz: Fraction

    def timeline(self, duration: Fraction, tempo: Tempo | None) -> Timeline:
        """A grid from 0 at the codec's own rate, whatever the tempo."""
        return Timeline(duration, self.rate_hz)

    def sketch(self, *_: Any, **__: Any) -> None:
        """Sound has no notes to settle beforehand."""
        return

    def answered(self, *_: Any, **__: Any) -> dict[float, float]:
        """Sound answers no hit point by itself."""
        return {}

    def rendering(self, audio: np.ndarray, timeline: Timeline) -> Rendering:
        """A network's output as a cue: mono goes to both channels, the length is the timeline's.

        Args:
            audio: [1 or 2, n].
            timeline: the cue's grid.
        """
        audio = np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio
        wanted = timeline.samples(self.sample_rate)
        audio = np.pad(audio, ((0, 0), (0, max(0, wanted - audio.shape[1]))))
        return Rendering(np.ascontiguousarray(audio[:, :wanted]), self.sample_rate)


@runtime_checkable
class Codec(Protocol):
    """Turns tokens into audio.

    Attributes:
        name: "encodec" or "notes".
        num_codebooks: parallel token rows K (EnCodec's codebooks, or the voices of a note codec).
        vocab_size: tokens V of a codebook.
        sample_rate: of the audio it makes.
        bar_steps: windows of a long cue begin at multiples of this many steps.
        sketch_version: raised whenever the same cue would be sketched otherwise.
        follows_tempo: its step grid follows beats, so a cue needs a tempo.
    """

    name: str
    num_codebooks: int
    vocab_size: int
    sample_rate: int
    bar_steps: int
    sketch_version: int
    follows_tempo: bool

    @property
    def digest(self) -> str:
        """Hash of all that decides the sound of given tokens: weights or soundfont, and the code's version."""
        ...

    def rate(self, tokens: np.ndarray, audio: np.ndarray, timeline: Timeline) -> Rating:
        """Rate a take.

        Args:
            tokens: [K, S], S = `timeline.num_steps`.
            audio: [channels, n], what `decode` made of them.
            timeline: the cue's grid.
        """
        ...

    def timeline(self, duration: Fraction, tempo: Tempo | None) -> Timeline:
        """The step grid of a cue of this length."""
        ...

    def sketch(
        self,
        plan: CuePlan,
        timeline: Timeline,
        settings: Any,
        compose: Compose,
        *,
        is_minor: bool | None,
        density: str,
        seed: int,
    ) -> Sketch | None:
        """What is settled about a cue's tokens before they are drawn; None where all is left to the decoder."""
        ...

    def answered(self, plan: CuePlan, timeline: Timeline, settings: Any, compose: Compose) -> dict[float, float]:
        """Seconds of the hit points that the music itself answers → seconds at which it does."""
        ...

    def decode(
        self,
        tokens: np.ndarray,
        timeline: Timeline,
        settings: Any = None,
        *,
        seed: int = 0,
        marks: Sequence[tuple[float, str]] = (),
        keep_stems: bool = False,
    ) -> Rendering:
        """Render a cue.

        Args:
            tokens: [K, S], S = `timeline.num_steps`.
            timeline: the cue's grid.
            settings: how notes are played, for codecs that have them.
            seed: the cue's seed.
            marks: (seconds, words) of the cue plan, for codecs that write MIDI files.
            keep_stems: also return each voice by itself, for codecs that have voices.
        """
        ...
