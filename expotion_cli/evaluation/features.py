"""Features of a cue of music, each computed once when first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from expotion_cli.audio.beats import track_beats
from expotion_cli.audio.dynamics import Dynamics, measure_dynamics
from expotion_cli.audio.hits import musical_accents
from expotion_cli.audio.loudness import loudness_curve
from expotion_cli.audio.onsets import onset_strength, onset_times
from expotion_cli.audio.pulse import pulse_clarity
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue


class SoundFeatures:
    """Onsets, accents, beats, tempo, loudness and dynamics of a cue, on the picture's clock.

    Args:
        cue: the music.
    """

    def __init__(self, cue: Cue):
        self.cue = cue

    @cached_property
    def onsets(self) -> np.ndarray:
        """[T] onset strength."""
        return onset_strength(self.cue.audio, SAMPLE_RATE)

    @cached_property
    def onsets_s(self) -> np.ndarray:
        """[n] seconds of clear onsets."""
        return onset_times(self.onsets)

    @cached_property
    def accents_s(self) -> np.ndarray:
        """[n] seconds of musical accents."""
        return musical_accents(self.onsets)

    @cached_property
    def dynamics(self) -> Dynamics:
        """Spread and holes of the loudness."""
        return measure_dynamics(self.cue.audio, SAMPLE_RATE)

    @cached_property
    def pulse(self) -> float:
        """How regularly its onsets return."""
        return pulse_clarity(self.onsets)

    @cached_property
    def beats_and_tempo(self) -> tuple[np.ndarray, float]:
        """Beats in seconds, and the tempo."""
        return track_beats(self.cue.audio, SAMPLE_RATE)

    @cached_property
    def loudness(self) -> np.ndarray:
        """[T] level in dB."""
        return loudness_curve(self.cue.audio, SAMPLE_RATE)


def takes_of(heard: Sequence[SoundFeatures], names: Sequence[str]) -> list[list[SoundFeatures]]:
    """Pieces by take: the n-th cue of every clip, in the order of `names`; takes that lack a clip are left out."""
    by_clip = [[h for h in heard if h.cue.clip == name] for name in names]
    return [[cues[take] for cues in by_clip] for take in range(min(map(len, by_clip), default=0))]
