"""Time grids: seconds, frames, steps and samples, joined by exact rates.

Lengths are derived here and never stored a second time. Rates and durations are `Fraction`s, so that 30000/1001 fps
or 12 steps a beat at 97 bpm never drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

STEPS_PER_BEAT = 12
BEATS_PER_BAR = 4
METRES = {"4/4": 4, "3/4": 3, "6/8": 3}
"""Metres that music is written in, and their length in quarter notes. A beat is a quarter note in all of them."""
COMMON_METRE = "4/4"
MOST_BEND = 0.03
"""A tempo map keeps within this share of its tempo."""
_WARP_RATE_HZ = 200.0


def exact(value: float | int | str | Fraction) -> Fraction:
    """A `Fraction` for a rate or a duration; floats are read to the microsecond."""
    if isinstance(value, Fraction):
        return value
    if isinstance(value, float):
        return Fraction(round(value * 1_000_000), 1_000_000)
    return Fraction(value)


def num_samples(duration: Fraction, sample_rate: int) -> int:
    """Samples in `duration` seconds, rounded half up."""
    return int(duration * sample_rate + Fraction(1, 2))


def num_rows(duration: Fraction, rate_hz: Fraction) -> int:
    """Rows of a stream whose row i stands at i / rate_hz, for all i with a time below `duration`; at least one."""
    return max(1, -int(-duration * rate_hz // 1))


@dataclass(frozen=True)
class Timeline:
    """A cue's step grid laid over the picture's clock.

    Attributes:
        duration: length of the picture in seconds.
        rate_hz: steps a second.
        start: time of step 0 on the picture's clock, at most 0 (a beat grid may begin before the picture does).
        bends: (seconds, factor on the rate) of a tempo map, in order of time, interpolated linearly between and held
            beyond; none for an even grid.
        metre: of a beat grid, one of `METRES`; step 0 begins a bar.
    """

    duration: Fraction
    rate_hz: Fraction
    start: Fraction = Fraction(0)
    bends: tuple[tuple[float, float], ...] = ()
    metre: str = COMMON_METRE

    def __post_init__(self) -> None:
        assert self.duration > 0 and self.rate_hz > 0 and self.start <= 0, self

    @property
    def num_steps(self) -> int:
        """Steps from `start` until the picture ends (the last one may be cut)."""
        if self.bends:
            return max(1, math.ceil(self.step_at(float(self.duration)) - 1e-6))
        return max(1, -int(-(self.duration - self.start) * self.rate_hz // 1))

    @property
    def bar_steps(self) -> int:
        """Steps in a bar of a beat grid."""
        return STEPS_PER_BEAT * METRES[self.metre]

    def step_times(self) -> np.ndarray:
        """[num_steps] float64, seconds on the picture's clock."""
        return self.time_of(np.arange(self.num_steps))

    def time_of(self, steps: np.ndarray | float) -> np.ndarray:
        """Seconds on the picture's clock of these steps, fractions of steps included."""
        even = float(self.start) + np.asarray(steps, dtype=np.float64) / float(self.rate_hz)
        if not self.bends:
            return even
        times, warped = self._warp
        return _through(even, warped, times)

    def step_at(self, time_s: float) -> float:
        """The step, and fraction of a step, that sounds at this time on the picture's clock."""
        if not self.bends:
            return float((exact(time_s) - self.start) * self.rate_hz)
        times, warped = self._warp
        return float((_through(np.asarray(time_s), times, warped) - float(self.start)) * float(self.rate_hz))

    @cached_property
    def _warp(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds on the picture's clock, and on that of the even grid; both begin at 0."""
        times = np.arange(math.ceil(float(self.duration) * _WARP_RATE_HZ) + 2) / _WARP_RATE_HZ
        at, factors = np.array(self.bends).T
        rate = np.interp(times, at, factors)
        steps = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 / _WARP_RATE_HZ)])
        return times, steps

    def samples(self, sample_rate: int) -> int:
        """Samples of music that fill the picture exactly."""
        return num_samples(self.duration, sample_rate)


@dataclass(frozen=True)
class Tempo:
    """A cue's tempo.

    Attributes:
        bpm: beats a minute.
        start: time of step 0, the first beat of a bar, on the picture's clock: in (-one bar, 0].
        confidence: 0 (no pulse was found) .. 1 (as regular as a pendulum).
        bends: a tempo map: (seconds on the picture's clock, factor on the bpm), see `Timeline.bends`.
        metre: one of `METRES`.
    """

    bpm: Fraction
    start: Fraction
    confidence: float
    bends: tuple[tuple[float, float], ...] = ()
    metre: str = COMMON_METRE

    @property
    def beats_per_bar(self) -> int:
        """Quarter notes in a bar."""
        return METRES[self.metre]

    def in_metre(self, metre: str) -> Tempo:
        """The same beats in bars of another metre."""
        bar = METRES[metre] * 60 / self.bpm
        return replace(self, metre=metre, start=-(-self.start % bar))

    def timeline(self, duration: Fraction) -> Timeline:
        """The beat grid of a cue of this length."""
        return Timeline(duration, beat_rate_hz(self.bpm), self.start, self.bends, self.metre)


def _through(values: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Piecewise linear map from one rising clock to another, continued beyond the ends at their slopes."""
    mapped = np.interp(values, here, there)
    for end, inner in ((0, 1), (-1, -2)):
        slope = (there[end] - there[inner]) / (here[end] - here[inner])
        outside = values < here[end] if end == 0 else values > here[end]
        mapped = np.where(outside, there[end] + (values - here[end]) * slope, mapped)
    return np.asarray(mapped)


def beat_rate_hz(tempo_bpm: float | Fraction) -> Fraction:
    """Steps a second of the beat grid at this tempo."""
    return exact(tempo_bpm) * STEPS_PER_BEAT / 60


def resample_rows(values: np.ndarray, rate_hz: float, times_s: np.ndarray) -> np.ndarray:
    """Read a stream at other times, linearly interpolated and held at its ends (the paper's temporal smoothing).

    Args:
        values: [T_e, D] float, row i stands at i / rate_hz seconds.
        rate_hz: rows a second.
        times_s: [T] seconds.

    Returns:
        [T, D] float32.
    """
    position = np.clip(np.asarray(times_s) * rate_hz, 0, len(values) - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(values) - 1)
    weight = (position - low)[:, None].astype(np.float32)
    between: np.ndarray = values[low] * (1 - weight) + values[high] * weight
    return between.astype(np.float32)


def in_words(seconds: float | Fraction) -> str:
    """A length as people say it: "1.5 hours"."""
    size, unit = next(
        (size, unit) for size, unit in ((3600, "hours"), (60, "minutes"), (0, "seconds")) if seconds >= size
    )
    return f"{float(seconds) / (size or 1):.3g} {unit}"
