"""Random motion curves like those of people in videos, which following pieces are written on.

On camera, a person's motion comes in swings of a third of a second to two seconds, more or less regular and of very
unequal size, with stillness in between and slow changes overall. The curve stands for what
`music.conditioning.drive_curve` makes of real streams: 0 where a clip is calmest, about 1 where it is liveliest.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.timing import STEPS_PER_BEAT

LIMIT = 1.3
_CALM, _LIVELY = 15, 92
_BEAT_PARTS = (0.5, 1.0, 1.0, 2.0, 2.0, 4.0)


def draw_motion(rng: np.random.Generator, num_steps: int, tempo_bpm: float) -> np.ndarray:
    """Draw a motion curve on the step grid.

    Args:
        rng: source of randomness.
        num_steps: S.
        tempo_bpm: tempo of the piece, in beats a minute.

    Returns:
        [S] float, 0..`LIMIT`.
    """
    step_hz = tempo_bpm * STEPS_PER_BEAT / 60
    still = rng.random() < 0.06
    swings = _swings(rng, num_steps, step_hz)
    rough = np.abs(smooth_noise(rng, num_steps, rng.uniform(0.08, 0.2) * step_hz))
    share = rng.uniform(0.15, 0.6)
    curve = (1 - share) * swings + share * rough * rng.uniform(0.3, 0.7)
    tide = np.exp(rng.uniform(0.1, 0.7) * smooth_noise(rng, num_steps, rng.uniform(1.0, 4.0) * step_hz))
    curve = curve * tide * _arc(rng, num_steps)
    curve *= _stillness(rng, num_steps, step_hz)
    curve = smooth(curve, rng.uniform(0.025, 0.06) * step_hz)
    low, high = np.percentile(curve, (_CALM, _LIVELY))
    curve = np.clip((curve - low) / (high - low + 1e-6), 0, LIMIT)
    return curve * rng.uniform(0.0, 0.35) if still else curve * rng.uniform(0.75, 1.05)


def smooth_noise(rng: np.random.Generator, size: int, sigma: float) -> np.ndarray:
    """Gaussian noise smoothed over `sigma` steps, of mean 0 and deviation 1. [size]."""
    noise = smooth(rng.normal(size=size), sigma)
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing that keeps the length. [S] → [S]."""
    radius = max(1, int(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)
    padded = np.pad(values, radius, mode="reflect" if len(values) > radius else "edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _swings(rng: np.random.Generator, num_steps: int, step_hz: float) -> np.ndarray:
    """Gestures one after another: bumps of random size and width, regularly spaced or not."""
    even = rng.random()
    # Half of the curves move on the beat, as if the tempo were fitted to them; the others move freely.
    if rng.random() < 0.5:
        period = STEPS_PER_BEAT * _BEAT_PARTS[rng.integers(len(_BEAT_PARTS))]
        while period / step_hz < 0.3:
            period *= 2
        jitter = rng.choice((0.02, 0.06, 0.15))
    else:
        period, jitter = np.exp(rng.uniform(np.log(0.33), np.log(2.0))) * step_hz, rng.uniform(0.05, 0.5)
    spread = rng.uniform(0.1, 0.9)
    curve, steps = np.zeros(num_steps), np.arange(num_steps)
    place = rng.uniform(0, period) if even < 0.6 else 0.0
    while place < num_steps + period:
        size = np.exp(spread * rng.normal())
        reach = rng.uniform(0.2, 0.5) * period
        first, last = max(0, int(place - 3 * reach)), min(num_steps, int(place + 3 * reach) + 1)
        if first < last:
            bump = size * np.exp(-0.5 * ((steps[first:last] - place) / max(reach * 0.6, 0.8)) ** 2)
            curve[first:last] = np.maximum(curve[first:last], bump)
        place += max(2.0, period * (1 + jitter * rng.normal()))
        if rng.random() < 0.05:
            place += period * rng.integers(1, 4)
    return curve


def _arc(rng: np.random.Generator, num_steps: int) -> np.ndarray:
    along = np.linspace(0, 1, num_steps)
    arcs = (0 * along + 1, 0 * along + 1, 0.25 + along, 1.25 - along, 0.4 + np.sin(np.pi * along))
    return arcs[rng.integers(len(arcs))]


def _stillness(rng: np.random.Generator, num_steps: int, step_hz: float) -> np.ndarray:
    """[S] gate: 1, and near 0 where the person is still."""
    gate = np.ones(num_steps)
    if rng.random() < 0.55:
        for _ in range(max(1, int(rng.poisson(num_steps / step_hz / rng.uniform(6, 20))))):
            first = int(rng.integers(num_steps))
            gate[first : first + int(rng.uniform(0.4, 3.5) * step_hz)] = rng.uniform(0, 0.15)
    return smooth(gate, 0.06 * step_hz)
