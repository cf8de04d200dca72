"""Learning without video: conditioning synthesised from the music itself.

For a stretch of note tokens this makes streams such as a person moving to that music would give, normalised and
standardised as `music.conditioning` does it with real ones: motion energy peaks where hits are, accents where the
hardest are, the face brightens with the mode and wakes with the dynamics; all of it smoothed, delayed, split between
left and right, made noisy and dropped out at random, so that the adapter learns to follow real bodies, which are no
metronomes.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.music.conditioning import (
    ACTIVITY_LIMIT,
    EMBEDDED_STREAMS,
    FORM,
    StepStream,
    form_stream,
    standardise,
)
from expotion_cli.music.notes import DYNAMIC_LEVELS, VOICES, read_token
from expotion_cli.timing import STEPS_PER_BEAT

VOICE_WEIGHTS = {
    "harmony": 0.6,
    "drums": 1.0,
    "percussion": 0.35,
    "bass": 0.6,
    "figure": 0.35,
    "melody": 0.5,
    "counter": 0.35,
}
"""How much a voice's onsets count as something to move to."""


def _onset_tables() -> np.ndarray:
    """[K, V] float: the strength of each onset token, 0 for others; the dynamics voice has none."""
    table = np.zeros((len(VOICES), 200))
    for index, voice in enumerate(VOICES):
        for token in range(table.shape[1]):
            onset = read_token(voice, token)
            if onset is None or voice.name not in VOICE_WEIGHTS:
                continue
            value, velocity = onset
            loud = 0.3 + 0.7 * velocity / (1 if voice.kind == "chord" else 3)
            lanes = min(bin(value).count("1"), 3) ** 0.5 if voice.kind == "drums" else 1.0
            table[index, token] = VOICE_WEIGHTS[voice.name] * loud * lanes
    return table


_ONSETS = _onset_tables()


def hit_strength(tokens: np.ndarray) -> np.ndarray:
    """How hard the music hits at each step. [K, S] → [S] float, about 0..3."""
    strength = np.take_along_axis(_ONSETS, tokens, axis=1).sum(axis=0)
    return strength * (0.35 + 0.65 * dynamics_curve(tokens))


def dynamics_curve(tokens: np.ndarray) -> np.ndarray:
    """The dynamics voice as a level 0..1 that holds until the next one; a middle level before the first. [S]."""
    level, levels = 0.5, []
    for token in tokens[0]:
        onset = read_token(VOICES[0], int(token))
        if onset is not None:
            level = onset[0] / (DYNAMIC_LEVELS - 1)
        levels.append(level)
    return np.array(levels)


def smooth(values: np.ndarray, sigma_steps: float) -> np.ndarray:
    """Gaussian smoothing that keeps the length. [S] → [S]."""
    radius = max(1, int(3 * sigma_steps))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma_steps, 1e-3)) ** 2)
    padded = np.pad(values, radius, mode="reflect" if len(values) > radius else "edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def shift(values: np.ndarray, steps: int) -> np.ndarray:
    """Move a curve later (or, with negative steps, earlier); what comes in at the edge is 0. [S] → [S]."""
    moved = np.zeros_like(values)
    size = len(values)
    moved[max(0, steps) : size + min(0, steps)] = values[max(0, -steps) : size - max(0, steps)]
    return moved


def accent_curve(hits: np.ndarray) -> np.ndarray:
    """The hardest hits alone: what stands out of the beats around it. [S] → [S]."""
    around = smooth(hits, 1.5 * STEPS_PER_BEAT)
    peak = np.array([hits[max(0, i - 3) : i + 4].max() for i in range(len(hits))])
    return np.where((hits >= peak) & (hits > 1.4 * around + 0.3), hits, 0.0)


def synthesise(
    tokens: np.ndarray, tempo_bpm: float, is_minor: bool, rng: np.random.Generator, form: StepStream | None = None
) -> dict[str, StepStream]:
    """Streams of somebody moving to this music.

    Args:
        tokens: [K, S] integers.
        tempo_bpm: sets the time scales.
        is_minor: the mode's colour, for the face.
        rng: all randomness.
        form: the form stream of this stretch; that of a whole cue by default.

    Returns:
        Values and masks of every stream in `EMBEDDED_STREAMS`.
    """
    num_steps = tokens.shape[1]
    step_hz = tempo_bpm * STEPS_PER_BEAT / 60
    hits = hit_strength(tokens)
    level = dynamics_curve(tokens)
    loudness = np.clip(1.5 * (0.5 * level.mean() + 0.5 * min(1.0, hits.mean() / 0.45)), 0.02, 1.0)
    person = _Person(rng, step_hz, num_steps, hits, accent_curve(hits), level, loudness)
    mood = (-0.25 if is_minor else 0.3) * rng.uniform(0.3, 1.2) + rng.normal(0, 0.12)
    makers = {
        "energy": lambda: person.activity(),
        "energy_left": lambda: person.activity(side=0),
        "energy_right": lambda: person.activity(side=1),
        "energy_head": lambda: person.activity(coupling=0.6),
        "head_speed": lambda: person.activity(coupling=0.6),
        "expression_speed": lambda: person.activity(coupling=0.25),
        "accent": lambda: person.accents(),
        "head_accent": lambda: person.accents(coupling=0.6),
        "hands_height": lambda: person.posture(0.4, 1.0),
        "openness": lambda: person.posture(0.9, 0.8),
        "arousal": lambda: np.clip(person.posture(0.35, 0.6), 0, 1.5),
        "valence": lambda: mood + person.drift(0.12),
    }
    result = {}
    for spec in EMBEDDED_STREAMS:
        if spec.name == FORM:
            result[FORM] = form or form_stream(num_steps)
        else:
            person.meet_stream()
            values = np.stack([standardise(spec.name, dim, makers[dim]()) for dim in spec.dims], axis=1)
            result[spec.name] = StepStream(values, person.visibility())
    return result


class _Person:
    """One made-up mover: how strongly, how late and how noisily this person follows the music."""

    def __init__(self, rng, step_hz, num_steps, hits, accents, level, loudness):
        self.rng, self.step_hz, self.num_steps, self.level, self.loudness = rng, step_hz, num_steps, level, loudness
        delay = int(round(rng.uniform(-0.05, 0.06) * step_hz))
        self.hits, self.accent_hits = shift(hits, delay), shift(accents, delay)
        self.sharpness = rng.uniform(0.03, 0.09) * step_hz
        self.attention = rng.uniform(0.7, 1.0)  # share of the energy that is short-term following
        self.balance = 0.5 + 0.45 * np.tanh(self.drift(1.0))
        self.noise = 0.1

    def meet_stream(self) -> None:
        """Another sensor looks at the same person: its own noise."""
        self.noise = self.rng.uniform(0.03, 0.15)

    def drift(self, amount: float, seconds: float = 1.5) -> np.ndarray:
        """Slow coloured noise of this standard deviation. [S]."""
        noise = smooth(self.rng.normal(size=self.num_steps), seconds * self.step_hz)
        return amount * noise / (noise.std() + 1e-6)

    def activity(self, coupling: float = 1.0, side: int | None = None) -> np.ndarray:
        short = smooth(self.hits, self.sharpness * self.rng.uniform(0.8, 1.25))
        long = smooth(self.hits, self.rng.uniform(0.4, 1.0) * self.step_hz)
        shape = self.attention * short / (np.percentile(short, 95) + 1e-3) + (1 - self.attention) * long / (
            long.max() + 1e-3
        )
        own = np.abs(self.drift(0.35, 0.15))
        mixed = coupling * shape + (1 - coupling) * own
        if side is not None:
            mixed = 1.7 * mixed * (self.balance if side == 0 else 1 - self.balance)
        noisy = mixed * (1 + self.noise * self.rng.normal(size=self.num_steps)) + np.abs(
            self.drift(0.4 * self.noise, 0.1)
        )
        return np.clip(self.loudness * noisy, 0, ACTIVITY_LIMIT)

    def accents(self, coupling: float = 1.0) -> np.ndarray:
        kept = self.accent_hits * (self.rng.random(self.num_steps) < 0.55 + 0.45 * coupling)
        curve = smooth(kept, self.rng.uniform(0.03, 0.06) * self.step_hz)
        false = smooth((self.rng.random(self.num_steps) < 0.01) * self.rng.uniform(0, 1), 0.05 * self.step_hz)
        top = np.percentile(curve[curve > 1e-3], 90) if (curve > 1e-3).any() else 1.0
        return np.clip(self.loudness * (curve / top + 4 * self.noise * false), 0, ACTIVITY_LIMIT)

    def posture(self, centre: float, swing: float) -> np.ndarray:
        slow = smooth(self.level, 0.5 * self.step_hz)
        return np.clip(centre + swing * (slow - 0.5) * self.rng.uniform(0.2, 1.0) + self.drift(0.25 * swing), -2, 2)

    def visibility(self) -> np.ndarray:
        """[S] bool: mostly seen, with gaps; now and then never."""
        mask = np.ones(self.num_steps, dtype=bool)
        if self.rng.random() < 0.25:
            for _ in range(self.rng.integers(1, 4)):
                start = self.rng.integers(self.num_steps)
                mask[start : start + int(self.rng.uniform(0.2, 3.0) * self.step_hz)] = False
        return mask & (self.rng.random() > 0.1)
