"""Motion curves of people whose cue plan is known: lively where it is intense, with a gesture at each hit point.

At inference a plan is found in a person's motion. In training it goes the other way: the plan is found in the music,
and a motion that would have led to it is made up. On camera, motion comes in swings of a third of a second to two
seconds of very unequal size, with slow changes overall.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.music.plan_stream import StepPlan
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT

LIMIT = 1.3
_BAR = STEPS_PER_BEAT * BEATS_PER_BAR


def motion_of(plan: StepPlan, num_steps: int, tempo_bpm: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a motion curve that a plan might have been found in.

    Args:
        plan: on the step grid.
        num_steps: S.
        tempo_bpm: in beats a minute.
        rng: source of randomness.

    Returns:
        [S] float, 0..`LIMIT`.
    """
    step_hz, steps = tempo_bpm * STEPS_PER_BEAT / 60, np.arange(num_steps)
    middles = (np.arange(len(plan.intensity)) + 0.5) * _BAR
    level = np.interp(steps, middles, plan.intensity)
    swings = np.abs(smooth_noise(rng, num_steps, rng.uniform(0.1, 0.3) * step_hz))
    tide = np.exp(rng.uniform(0.05, 0.4) * smooth_noise(rng, num_steps, rng.uniform(0.7, 2.0) * step_hz))
    rough = rng.uniform(0.2, 0.6)
    curve = (0.1 + 0.75 * level) * tide * ((1 - rough) + rough * swings)
    for step, weight in plan.hits:
        late, width = rng.normal(0, 0.03) * step_hz, rng.uniform(0.05, 0.13) * step_hz
        if -8 * width < step < num_steps + 8 * width:
            bump = (0.35 + 0.6 * weight) * np.exp(-0.5 * ((steps - step - late) / width) ** 2)
            curve = np.maximum(curve, bump) if rng.random() < 0.5 else curve + bump
    return np.clip(curve, 0, LIMIT)


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
