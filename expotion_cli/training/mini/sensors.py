"""Synthetic sensors: conditioning streams that pose, face and flow would give for a motion curve.

A motion curve is made up from a piece's plan (`motion.motion_of`). Each sensor observes it with its own gain, delay,
noise and gaps, more or less accurately and split between left and right; the result is standardised as
`music.conditioning` does with real streams. The plan itself is given as it is, so the music learns to follow that.

Facial expression is a designed prior: valence rises with a major mode, arousal with high and dense music.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET, NUM_VOICES, VELOCITIES, VOICE_INDEX, VOICES
from expotion_cli.music.conditioning import (
    EMBEDDED_STREAMS,
    FORM,
    StepStream,
    plan_stream,
    standardise,
)
from expotion_cli.music.plan_stream import PLAN, StepPlan
from expotion_cli.spotting.activity import ACTIVITY_LIMIT
from expotion_cli.timing import STEPS_PER_BEAT
from expotion_cli.training.mini.motion import motion_of, smooth, smooth_noise

_MIDDLE_PITCH, _PITCH_SPREAD, _MIDDLE_DENSITY, _DENSITY_SPREAD = 66.0, 6.0, 4.0, 2.0
_POSE_TRUTH, _FACE_TRUTH, _FLOW_TRUTH = (0.45, 0.9), (0.15, 0.7), (0.75, 1.0)


def liveliness(tokens: np.ndarray) -> float:
    """How high and dense the music is, -1..1; the face's arousal rises with it. [K, S] → scalar."""
    row = tokens[VOICE_INDEX["melody"]], tokens[VOICE_INDEX["figure"]]
    bases = VOICES[VOICE_INDEX["melody"]].base, VOICES[VOICE_INDEX["figure"]].base
    pitches = [
        (r[r >= FIRST_ONSET] - FIRST_ONSET) // len(VELOCITIES) + base for r, base in zip(row, bases, strict=True)
    ]
    found = np.concatenate(pitches)
    height = (found.mean() - _MIDDLE_PITCH) / _PITCH_SPREAD if len(found) else 0.0
    density = (tokens[1:] >= FIRST_ONSET).sum() / (tokens.shape[1] / STEPS_PER_BEAT)
    return float(np.clip(0.5 * height + 0.5 * (density - _MIDDLE_DENSITY) / _DENSITY_SPREAD, -1, 1))


def sensor_streams(
    plan: StepPlan,
    tokens: np.ndarray,
    attributes: Mapping,
    rng: np.random.Generator,
    form: StepStream,
) -> dict[str, StepStream]:
    """Streams of a person whose motion would have led to a plan, and of the plan itself.

    Args:
        plan: of the music, on the step grid.
        tokens: [K, S] the music; affects the face only.
        attributes: the piece's tempo and mode.
        rng: source of all randomness.
        form: the form stream of this stretch.

    Returns:
        Every stream in `EMBEDDED_STREAMS`, S rows each.
    """
    assert tokens.shape[0] == NUM_VOICES, tokens.shape
    num_steps = tokens.shape[1]
    motion = motion_of(plan, num_steps, attributes["tempo_bpm"], rng)
    step_hz = attributes["tempo_bpm"] * STEPS_PER_BEAT / 60
    person = _Person(motion, step_hz, rng)
    mood = (-0.2 if attributes["mode"] == "minor" else 0.25) * rng.uniform(0.4, 1.2) + rng.normal(0, 0.08)
    alive = 0.35 + 0.3 * liveliness(tokens) + rng.normal(0, 0.08)
    result = {FORM: form}
    for name, truth in (("pose", _POSE_TRUTH), ("face", _FACE_TRUTH), ("flow", _FLOW_TRUTH)):
        person.next_sensor(rng.uniform(*truth))
        makers = {
            "energy": person.activity,
            "energy_left": lambda: person.activity(side=0),
            "energy_right": lambda: person.activity(side=1),
            "energy_head": person.activity,
            "head_speed": person.activity,
            "expression_speed": person.activity,
            "accent": person.accents,
            "head_accent": person.accents,
            "hands_height": lambda: person.posture(0.45, 0.35),
            "openness": lambda: person.posture(0.85, 0.25),
            "arousal": lambda: np.clip(alive + person.drift(0.05), 0, 1.5),
            "valence": lambda: mood + person.drift(0.08),
        }
        spec = next(spec for spec in EMBEDDED_STREAMS if spec.name == name)
        values = np.stack([standardise(name, dim, makers[dim]()) for dim in spec.dims], axis=1)
        result[name] = StepStream(values, person.visibility())
    result[PLAN] = plan_stream(plan, num_steps)
    return result


class _Person:
    """A synthetic person, and the sensor that currently observes them."""

    def __init__(self, motion: np.ndarray, step_hz: float, rng: np.random.Generator):
        self.motion, self.step_hz, self.rng = motion, step_hz, rng
        self.balance = 0.5 + 0.4 * np.tanh(smooth_noise(rng, len(motion), 1.5 * step_hz))
        self.next_sensor(1.0)

    def next_sensor(self, truth: float) -> None:
        """Draw the next sensor's gain, delay and noise; `truth` (0..1) is its accuracy."""
        rng = self.rng
        own = np.abs(smooth_noise(rng, len(self.motion), rng.uniform(0.1, 0.3) * self.step_hz)) * 0.6
        late = round(rng.uniform(-0.04, 0.05) * self.step_hz)
        self.observed = np.roll(truth * self.motion + (1 - truth) * own, late)
        self.low, self.gain = rng.uniform(0.0, 0.25), rng.uniform(0.2, 0.65)
        self.noise = rng.uniform(0.01, 0.1)

    def drift(self, amount: float) -> np.ndarray:
        """Slow noise of standard deviation `amount`. [S]."""
        return amount * smooth_noise(self.rng, len(self.motion), 1.5 * self.step_hz)

    def activity(self, side: int | None = None) -> np.ndarray:
        values = self.low + self.gain * self.observed
        if side is not None:
            values = 1.6 * values * (self.balance if side == 0 else 1 - self.balance)
        noisy = values + self.noise * smooth_noise(self.rng, len(values), 0.06 * self.step_hz)
        return np.clip(noisy, 0, ACTIVITY_LIMIT)

    def accents(self) -> np.ndarray:
        """Peaks of the motion, and where it falls fast. [S]."""
        falling = np.maximum(0, -np.gradient(self.observed)) * self.step_hz / 6
        peaks = np.maximum(0, self.observed - smooth(self.observed, 0.25 * self.step_hz))
        noisy = self.gain * (0.8 * falling + 1.2 * peaks) + self.noise * self.rng.random(len(self.observed))
        return np.clip(noisy, 0, ACTIVITY_LIMIT)

    def posture(self, centre: float, swing: float) -> np.ndarray:
        slow = smooth(self.motion, 0.5 * self.step_hz)
        return np.clip(centre + swing * (slow - 0.4) * self.rng.uniform(0, 1) + self.drift(0.5 * swing), -2, 2)

    def visibility(self) -> np.ndarray:
        """[S] bool: mostly visible, with gaps; sometimes never."""
        mask = np.ones(len(self.motion), dtype=bool)
        if self.rng.random() < 0.2:
            for _ in range(self.rng.integers(1, 4)):
                start = self.rng.integers(len(mask))
                mask[start : start + int(self.rng.uniform(0.2, 3.0) * self.step_hz)] = False
        return mask & (self.rng.random() > 0.1)
