"""Beat grids of MIDI files: their own, or one fitted to the onsets where a file's ticks tell no beats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from expotion_cli.timing import STEPS_PER_BEAT

ON_GRID = 0.6
"""Share of onsets that must lie near sixteenths or triplets for a file's own grid to count."""
_NEAR_STEPS = 0.5
_FITTED = 0.8
_SLOWEST_BPM, _FASTEST_BPM = 72, 150


@dataclass(frozen=True)
class Grid:
    """Where steps lie on a file's ticks.

    Attributes:
        ticks_per_step: ticks.
        first_tick: of step 0, the first of a bar.
        is_fitted: whether it was fitted to the onsets.
    """

    ticks_per_step: float
    first_tick: float = 0.0
    is_fitted: bool = False

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        """[n] whole steps of these ticks."""
        return np.rint((ticks - self.first_tick) / self.ticks_per_step).astype(np.int64)


def share_on_grid(ticks: np.ndarray, grid: Grid) -> float:
    """Share of onsets that lie within half a step of sixteenths or triplets."""
    steps = (ticks - grid.first_tick) / grid.ticks_per_step
    nearest = np.minimum(*(np.abs(steps / size - np.rint(steps / size)) * size for size in (3, 4)))
    return float((nearest < _NEAR_STEPS).mean())


def find_grid(ticks: np.ndarray, ticks_per_beat: int, ticks_per_s: float, strong: np.ndarray) -> Grid | None:
    """A file's own grid, or one fitted to its onsets; None if neither fits.

    Args:
        ticks: [n] of all onsets.
        ticks_per_beat: of the file.
        ticks_per_s: of the file, at its first tempo.
        strong: [m] ticks of onsets that bars tend to begin with.
    """
    own = Grid(ticks_per_beat / STEPS_PER_BEAT)
    if share_on_grid(ticks, own) >= ON_GRID:
        return own
    return _fit(np.sort(ticks.astype(float)), ticks_per_s, np.sort(strong.astype(float)))


def _fit(ticks: np.ndarray, ticks_per_s: float, strong: np.ndarray) -> Grid | None:
    """The longest even grid on which nearly all onsets lie, its beat between 72 and 150 bpm."""
    early = ticks[ticks < ticks[0] + 30 * ticks_per_s]
    periods = ticks_per_s * np.exp(np.arange(np.log(0.07), np.log(0.85), 3e-4))
    fits = _fits(early, periods)
    good = np.flatnonzero((fits > 0.9 * fits.max()) & (fits > 0.7))
    if not len(good):
        return None
    period = periods[good[-1]]
    for reach in (1.5e-3, 2e-4, 3e-5):
        near = period * (1 + np.linspace(-reach, reach, 101))
        period = near[int(_fits(ticks, near).argmax())]
    if _fits(ticks, np.array([period]))[0] < _FITTED - 0.15:
        return None
    first = float(np.angle(np.exp(2j * np.pi * ticks / period).mean()) / 2 / np.pi * period)
    beat = period
    while 60 * ticks_per_s / beat > _FASTEST_BPM:
        beat *= 2
    while 60 * ticks_per_s / beat < _SLOWEST_BPM:
        beat /= 2
    # The bar begins where most kicks, crashes and bass notes fall.
    counts = [np.sum(_near(strong, first + k * period, 4 * beat, period / 4)) for k in range(round(4 * beat / period))]
    first += int(np.argmax(counts)) * period
    first -= np.ceil((first - ticks[0]) / (4 * beat)) * 4 * beat
    grid = Grid(beat / STEPS_PER_BEAT, float(first), True)
    return grid if share_on_grid(ticks, grid) >= ON_GRID else None


def _fits(ticks: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """[P] how well the onsets agree on a phase, 0..1, for each period."""
    return np.concatenate(
        [np.abs(np.exp(2j * np.pi * ticks[None] / part[:, None]).mean(axis=1)) for part in np.array_split(periods, 64)]
    )


def _near(ticks: np.ndarray, place: float, every: float, reach: float) -> np.ndarray:
    away = (ticks - place) / every
    return np.asarray(np.abs(away - np.rint(away)) * every < reach)
