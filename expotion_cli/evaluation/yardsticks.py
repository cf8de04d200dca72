"""The rows that other sets are read beside: the bare rule over a set's music, the drum rule, the metronome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ
from expotion_cli.evaluation import baselines
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue, MusicSet

OUTPUTS, YARDSTICK = "outputs", "yardstick"
BARE_RULE, DRUM_RULE, METRONOME = "bare rule over {}", "drum rule", "metronome"


class MovingClip(Protocol):
    """What is needed of a clip (`measuring.EvaluatedClip` is one)."""

    @property
    def name(self) -> str:
        """Of the clip."""

    @property
    def motion(self) -> np.ndarray:
        """[T] motion energy at `RATE_HZ`."""

    @property
    def duration_s(self) -> float:
        """Its length."""


def with_yardsticks(
    sets: Iterable[MusicSet], clips: Mapping[str, MovingClip], baseline: str | None
) -> Iterator[tuple[MusicSet, str]]:
    """The sets one by one (each may be large), each yardstick as soon as it can be made.

    Args:
        sets: what is measured.
        clips: by name.
        baseline: name of the set whose music the bare rule is laid over; None for the first set.

    Returns:
        Sets, each with `OUTPUTS` or `YARDSTICK`.
    """
    measured: dict[str, MovingClip] = {}
    for one in sets:
        measured |= {name: clips[name] for name in one.clips}
        yield one, OUTPUTS
        baseline = one.name if baseline is None else baseline
        if one.name == baseline:
            yield under_bare_rule(one, clips), YARDSTICK
    chosen = [clip for name, clip in clips.items() if name in measured]
    times = {
        DRUM_RULE: [baselines.rule_times(clip.motion, clip.duration_s) for clip in chosen],
        METRONOME: [baselines.metronome_times(clip.duration_s) for clip in chosen],
    }
    for name, struck in times.items() if chosen else ():
        sounds = [baselines.strike(t, clip.duration_s, SAMPLE_RATE) for t, clip in zip(struck, chosen, strict=True)]
        yield MusicSet(name, tuple(Cue(clip.name, a) for clip, a in zip(chosen, sounds, strict=True))), YARDSTICK


def under_bare_rule(one: MusicSet, clips: Mapping[str, MovingClip]) -> MusicSet:
    """A set's music made to follow its clips by the bare rule (`baselines.lay_bare_rule`)."""
    cues = [
        replace(cue, audio=baselines.lay_bare_rule(cue.audio, SAMPLE_RATE, clips[cue.clip].motion, RATE_HZ))
        for cue in one.cues
    ]
    return MusicSet(BARE_RULE.format(one.name), tuple(cues))
