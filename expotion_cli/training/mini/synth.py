"""Learning without video: a motion curve as several sensors would see it.

Pieces that follow are written on a motion curve (`corpus.motion`). Here body, face and picture become witnesses of that
curve, normalised and standardised as `music.conditioning` does it with real ones: each with its own gain, delay, noise
and gaps, more or less truthful, split between left and right. The drive, which at scoring time is made from the
sensors that are there, stays close to the curve: whatever the sensors say, the music follows what they agree on.

What a face looks like is a designed prior: it brightens with the mode, and its liveliness goes with how high and how
densely the music lies.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET, NUM_VOICES, VELOCITIES, VOICE_INDEX, VOICES
from expotion_cli.music.conditioning import (
    DRIVE,
    DRIVE_LIMIT,
    EMBEDDED_STREAMS,
    FORM,
    StepStream,
    drive_stream,
    standardise,
)
from expotion_cli.spotting.activity import ACTIVITY_LIMIT
from expotion_cli.timing import STEPS_PER_BEAT
from expotion_cli.training.mini.corpus.motion import coloured, smooth

_MIDDLE_PITCH, _PITCH_SPREAD, _MIDDLE_DENSITY, _DENSITY_SPREAD = 66.0, 6.0, 4.0, 2.0
_BODY_TRUTH, _FACE_TRUTH, _PICTURE_TRUTH = (0.45, 0.9), (0.15, 0.7), (0.75, 1.0)


def liveliness(tokens: np.ndarray) -> float:
    """How high and how densely music lies, about -1..1: what a lively face goes with. [K, S] → scalar."""
    row = tokens[VOICE_INDEX["melody"]], tokens[VOICE_INDEX["figure"]]
    bases = VOICES[VOICE_INDEX["melody"]].base, VOICES[VOICE_INDEX["figure"]].base
    pitches = [
        (r[r >= FIRST_ONSET] - FIRST_ONSET) // len(VELOCITIES) + base for r, base in zip(row, bases, strict=True)
    ]
    found = np.concatenate(pitches)
    height = (found.mean() - _MIDDLE_PITCH) / _PITCH_SPREAD if len(found) else 0.0
    density = (tokens[1:] >= FIRST_ONSET).sum() / (tokens.shape[1] / STEPS_PER_BEAT)
    return float(np.clip(0.5 * height + 0.5 * (density - _MIDDLE_DENSITY) / _DENSITY_SPREAD, -1, 1))


def unseen(num_steps: int, form: StepStream) -> dict[str, StepStream]:
    """Streams of a cue without a picture: only its form is known."""
    result = {FORM: form}
    for spec in EMBEDDED_STREAMS:
        if spec.name != FORM:
            values = np.zeros((num_steps, len(spec.dims)), np.float32)
            result[spec.name] = StepStream(values, np.zeros(num_steps, dtype=bool))
    return result


def synthesise(
    motion: np.ndarray,
    tokens: np.ndarray,
    attributes: Mapping,
    rng: np.random.Generator,
    form: StepStream,
) -> dict[str, StepStream]:
    """What sensors see of somebody who moves like this.

    Args:
        motion: [S] the curve, 0 .. about 1.
        tokens: [K, S] the music written on it; only for the face's liveliness.
        attributes: the piece's tempo and mode.
        rng: all randomness.
        form: the form stream of this stretch.

    Returns:
        Values and masks of every stream in `EMBEDDED_STREAMS`.
    """
    assert tokens.shape == (NUM_VOICES, len(motion)), tokens.shape
    step_hz = attributes["tempo_bpm"] * STEPS_PER_BEAT / 60
    person = _Person(np.asarray(motion, dtype=np.float64), step_hz, rng)
    mood = (-0.2 if attributes["mode"] == "minor" else 0.25) * rng.uniform(0.4, 1.2) + rng.normal(0, 0.08)
    alive = 0.35 + 0.3 * liveliness(tokens) + rng.normal(0, 0.08)
    result = {FORM: form}
    for name, truth in (("pose", _BODY_TRUTH), ("face", _FACE_TRUTH), ("flow", _PICTURE_TRUTH)):
        person.meet_sensor(rng.uniform(*truth))
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
    result[DRIVE] = drive_stream(person.drive(), np.ones(len(motion), dtype=bool))
    return result


class _Person:
    """One made-up mover, and the sensor that looks at present."""

    def __init__(self, motion: np.ndarray, step_hz: float, rng: np.random.Generator):
        self.motion, self.step_hz, self.rng = motion, step_hz, rng
        self.balance = 0.5 + 0.4 * np.tanh(coloured(rng, len(motion), 1.5 * step_hz))
        self.meet_sensor(1.0)

    def meet_sensor(self, truth: float) -> None:
        """Another sensor: how true it is (0..1), how it scales, how late it is."""
        rng = self.rng
        own = np.abs(coloured(rng, len(self.motion), rng.uniform(0.1, 0.3) * self.step_hz)) * 0.6
        late = round(rng.uniform(-0.04, 0.05) * self.step_hz)
        self.heard = np.roll(truth * self.motion + (1 - truth) * own, late)
        self.low, self.gain = rng.uniform(0.0, 0.25), rng.uniform(0.2, 0.65)
        self.noise = rng.uniform(0.01, 0.1)

    def drift(self, amount: float) -> np.ndarray:
        """Slow noise of this deviation. [S]."""
        return amount * coloured(self.rng, len(self.motion), 1.5 * self.step_hz)

    def activity(self, side: int | None = None) -> np.ndarray:
        values = self.low + self.gain * self.heard
        if side is not None:
            values = 1.6 * values * (self.balance if side == 0 else 1 - self.balance)
        noisy = values + self.noise * coloured(self.rng, len(values), 0.06 * self.step_hz)
        return np.clip(noisy, 0, ACTIVITY_LIMIT)

    def accents(self) -> np.ndarray:
        """Peaks of the motion, and where it falls fast. [S]."""
        falling = np.maximum(0, -np.gradient(self.heard)) * self.step_hz / 6
        peaks = np.maximum(0, self.heard - smooth(self.heard, 0.25 * self.step_hz))
        noisy = self.gain * (0.8 * falling + 1.2 * peaks) + self.noise * self.rng.random(len(self.heard))
        return np.clip(noisy, 0, ACTIVITY_LIMIT)

    def posture(self, centre: float, swing: float) -> np.ndarray:
        slow = smooth(self.motion, 0.5 * self.step_hz)
        return np.clip(centre + swing * (slow - 0.4) * self.rng.uniform(0, 1) + self.drift(0.5 * swing), -2, 2)

    def drive(self) -> np.ndarray:
        """What the sensors agree on: the curve, nearly. [S]."""
        noise = self.rng.uniform(0.0, 0.05) * coloured(self.rng, len(self.motion), 0.06 * self.step_hz)
        return np.clip(self.rng.uniform(0.95, 1.05) * self.motion + noise, 0, DRIVE_LIMIT).astype(np.float32)

    def visibility(self) -> np.ndarray:
        """[S] bool: mostly seen, with gaps; now and then never."""
        mask = np.ones(len(self.motion), dtype=bool)
        if self.rng.random() < 0.2:
            for _ in range(self.rng.integers(1, 4)):
                start = self.rng.integers(len(mask))
                mask[start : start + int(self.rng.uniform(0.2, 3.0) * self.step_hz)] = False
        return mask & (self.rng.random() > 0.1)
