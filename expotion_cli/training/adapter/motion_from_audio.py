"""Synthetic motion: streams that the encoders would give for a person who moves to a piece of music.

A synthetic body makes strokes with its arms and head. Most of them land on hits and beats of the music
(`data.curves`), a little early or late; some hits are missed, some strokes are added, and the body sways and trembles
all the while. Its speeds are expressed in the encoders' units, so `music.conditioning` treats synthetic and real motion
alike.

Size, sharpness and attention are drawn for each body. Their ranges were set so that the values spread like those of
real people; `benchmarks/synthetic_motion.py` measures how closely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ as HEARING_HZ
from expotion_cli.audio.onsets import onset_times
from expotion_cli.errors import UsageError
from expotion_cli.music.conditioning import EMBEDDED_STREAMS
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.training.data.curves import MusicCurves

VERSION = "1"
RATE_HZ = 25.0
"""Rows a second, as of the built-in encoders."""
MARGIN_S = 1.0
"""Music on either side of a stretch that affects its motion."""

DIMS: dict[str, tuple[str, ...]] = {
    "pose": ("energy", "energy_left", "energy_right", "energy_head", "accent", "hands_height", "openness"),
    "face": ("arousal", "valence", "expression_speed", "head_speed", "head_accent"),
    "flow": ("energy", "accent", "energy_left", "energy_right"),
}
"""Streams that can be synthesised, with their dimensions; embeddings of networks can't."""
DERIVED_STREAMS = frozenset(spec.name for spec in EMBEDDED_STREAMS) - DIMS.keys()
"""Streams that `music.conditioning` derives from others."""


@dataclass(frozen=True)
class SyntheticStream:
    """A synthetic embedding stream; satisfies `music.conditioning.SeenStream`.

    Attributes:
        values: [T_e, D] float32, in the encoder's units.
        mask: [T_e] bool.
        dims: D names.
        rate_hz: rows a second.
    """

    values: np.ndarray
    mask: np.ndarray
    dims: tuple[str, ...]
    rate_hz: float = RATE_HZ


def require_synthesizable(specs: Sequence[StreamSpec]) -> None:
    """Check that streams can be synthesised.

    Raises:
        UsageError: one of them, or one of its dimensions, can't.
    """
    for spec in specs:
        known = DIMS.get(spec.name, ())
        absent = [dim for dim in spec.dims if dim not in known]
        if absent and spec.name not in DERIVED_STREAMS:
            what = f"{spec.name}.{absent[0]}" if known else f"the stream {spec.name!r}"
            raise UsageError(
                f"{what} can't be synthesised from music.",
                remedy=f"Train it on video, or use {', '.join(DIMS)} with their usual dimensions.",
            )


def synthetic_motion(music: MusicCurves, rng: np.random.Generator) -> dict[str, SyntheticStream]:
    """Streams of a person moving to music.

    Args:
        music: curves of a stretch, with `MARGIN_S` seconds of context at both ends.
        rng: source of all randomness; every state gives another person.

    Returns:
        Every stream in `DIMS` by name, without the context.
    """
    body = _Body(music, rng)
    made = {"pose": body.pose(), "face": body.face(), "flow": body.flow()}
    first = round(MARGIN_S * RATE_HZ)
    last = max(first + 1, round((music.duration_s - MARGIN_S) * RATE_HZ))
    streams = {}
    for name, columns in made.items():
        values = np.stack([columns[dim] for dim in DIMS[name]], axis=1)[first:last]
        streams[name] = SyntheticStream(values.astype(np.float32), body.visibility(name, len(values)), DIMS[name])
    return streams


def drop_streams(streams: Mapping[str, SyntheticStream], names: Sequence[str]) -> dict[str, SyntheticStream]:
    """The streams, with those named masked throughout."""
    return {
        name: SyntheticStream(s.values, np.zeros_like(s.mask), s.dims, s.rate_hz) if name in names else s
        for name, s in streams.items()
    }


class _Body:
    """A synthetic person: how strongly, how late and how sharply they follow the music."""

    def __init__(self, music: MusicCurves, rng: np.random.Generator):
        self.music, self.rng = music, rng
        self.rows = max(4, round(music.duration_s * RATE_HZ))
        at = np.arange(self.rows) / RATE_HZ * HEARING_HZ
        self.level = _smooth(np.interp(at, np.arange(len(music.level)), music.level), 6.0)
        self.size = np.exp(rng.normal(np.log(0.75), 0.75))  # torso lengths a second
        self.delay_s, self.jitter_s = rng.uniform(-0.05, 0.05), rng.uniform(0.005, 0.03)
        self.stroke_s = rng.uniform(0.13, 0.36)
        self.landing = rng.uniform(0.45, 0.75)  # share of a stroke before the hit it lands on
        self.attention = rng.uniform(0.75, 1.0)
        self.swell = rng.uniform(0.5, 2.5)
        self.times, self.weights = self._targets()
        self.together = self._strokes(1.0)
        left, right = rng.dirichlet((2.0, 2.0)) * 2
        left, right = max(left, 0.05), max(right, 0.05)
        arms = 0.3 + 0.7 * rng.random()
        self.arms = [side * self._joint(self.together, arms) for side in (left, right)]
        self.head = rng.uniform(0.3, 1.1) * self._joint(self._strokes(0.7), 0.8)

    def _targets(self) -> tuple[np.ndarray, np.ndarray]:
        """(seconds, weights) of the hits and beats that strokes may land on."""
        hits = onset_times(self.music.hits, HEARING_HZ)
        beats = onset_times(self.music.pulse, HEARING_HZ, threshold=1.0)
        preference = self.rng.uniform(0.2, 0.8)  # for beats over hits
        at = np.arange(len(self.music.hits)) / HEARING_HZ
        strong = np.interp(hits, at, self.music.hits) if len(hits) else np.zeros(0)
        steady = np.interp(beats, at, self.music.pulse) if len(beats) else np.zeros(0)
        times = np.concatenate([hits, beats])
        weights = np.concatenate([(1 - preference) * np.clip(strong, 0, 1.5) ** 0.7, preference * steady])
        order = np.argsort(times)
        return _merge_near(times[order], weights[order], 0.09)

    def _strokes(self, coupling: float) -> np.ndarray:
        """[rows, 2] velocity of strokes that land on hits and beats, and of some that land on nothing."""
        rng = self.rng
        steps = self.times * RATE_HZ
        chance = np.clip(self.weights / max(1e-6, np.percentile(self.weights, 90) if len(steps) else 1.0), 0, 1)
        taken = rng.random(len(steps)) < coupling * self.attention * (0.1 + 0.9 * np.minimum(1, 1.5 * chance))
        times = self.times[taken] + self.delay_s + rng.normal(0, self.jitter_s, int(taken.sum()))
        sizes = 0.2 + 0.8 * chance[taken]
        own = rng.poisson((1.1 - self.attention * coupling) * 1.0 * self.rows / RATE_HZ)
        times = np.concatenate([times, rng.uniform(0, self.rows / RATE_HZ, own)])
        sizes = np.concatenate([sizes, rng.uniform(0.1, 0.6, own)])
        velocity = np.zeros((self.rows, 2))
        way = rng.uniform(0, 2 * np.pi)
        for time_s, size in sorted(zip(times, sizes, strict=True)):
            way += np.pi + rng.normal(0, 0.5)  # to and fro
            length_s = self.stroke_s * np.exp(rng.normal(0, 0.25))
            first_s = time_s - self.landing * length_s
            rows = np.arange(max(0, int(first_s * RATE_HZ)), min(self.rows, int((first_s + length_s) * RATE_HZ) + 2))
            place = np.clip((rows / RATE_HZ - first_s) / length_s, 0, 1)
            # Slow rise, quick end: a stroke is fastest shortly before it lands.
            shape = place**1.6 * (1 - place) ** 0.8 * 3.0
            amount = size * np.exp(rng.normal(0, 0.25))
            velocity[rows] += amount * shape[:, None] * np.array([np.cos(way), np.sin(way)])
        return velocity

    def _joint(self, strokes: np.ndarray, coupling: float) -> np.ndarray:
        """[rows, 2] velocity of a joint: its share of the common strokes, strokes of its own, sway and tremble."""
        rng = self.rng
        sway = np.stack([_noise(rng, self.rows, rng.uniform(2.0, 6.0)) for _ in range(2)], axis=1)
        quick = np.stack([_noise(rng, self.rows, 1.1) for _ in range(2)], axis=1)
        calm = np.exp(0.5 * _noise(rng, self.rows, 20.0))[:, None]
        own = 0.5 * self._strokes(0.5) if coupling < 1 else 0
        moved = coupling * strokes + (1 - coupling) * own + calm * (rng.uniform(0.05, 0.2) * sway + 0.06 * quick)
        return self.size * np.exp(self.swell * (self.level - 0.85))[:, None] * _smooth(moved, 0.7)

    def pose(self) -> dict[str, np.ndarray]:
        """Dimensions of the pose stream, as `vision.pose` defines them; speeds in torso lengths a second."""
        rng = self.rng
        noise = 0.06  # the encoder subtracts this for jitter of the landmarks
        shown = [_shorten(v, noise) for v in (*self.arms, self.head)]
        left, right, head = (np.linalg.norm(v, axis=1) for v in shown)
        sharp = [_sharpness(v) for v in shown]
        share = rng.uniform(0.6, 1.0)
        base = np.clip(rng.normal(0.72, 0.22), 0.1, 1.3) if rng.random() < 0.85 else 0.0
        reach = rng.uniform(0.01, 0.2) * self.size**0.5
        lift = self.level - self.level.mean()
        height = base + (base > 0) * (reach * _noise(rng, self.rows, 8.0) + rng.uniform(0, 0.5) * lift)
        if base > 0 and rng.random() < 0.3:  # the hands leave the frame now and then
            height = np.where(_noise(rng, self.rows, 12.0) > rng.uniform(0.2, 1.2), 0.0, height)
        wide = np.exp(rng.normal(np.log(0.72), 0.2))
        openness = wide * np.exp(1.2 * reach * _noise(rng, self.rows, 9.0) + rng.uniform(0, 0.3) * lift)
        return {
            "energy": share * (3 * left + 3 * right + head) / 7,
            "energy_left": left * rng.uniform(0.7, 1.0),
            "energy_right": right * rng.uniform(0.7, 1.0),
            "energy_head": head,
            "accent": share * (sharp[0] + sharp[1] + 0.4 * sharp[2]) / 1.6,
            "hands_height": height,
            "openness": openness,
        }

    def face(self) -> dict[str, np.ndarray]:
        """Dimensions of the face stream, as `vision.face` defines them; its view of the head is closer than pose's."""
        rng = self.rng
        # Turning the head changes the face but hardly moves the head across the frame.
        turn = np.stack([_noise(rng, self.rows, rng.uniform(1.5, 3.5)) for _ in range(2)], axis=1)
        calm = np.exp(0.6 * _noise(rng, self.rows, 15.0))[:, None]
        shown = rng.uniform(2.2, 4.0) * self.head / max(self.size, 0.3) + rng.uniform(0.25, 0.7) * calm * turn
        speed = np.linalg.norm(shown, axis=1) * rng.uniform(0.6, 1.1) + 0.05 * np.abs(rng.normal(size=self.rows))
        trembling = 0.06 * np.abs(_noise(rng, self.rows, 0.8))
        mean, deviation = rng.uniform(0.0, 0.05), np.exp(rng.normal(np.log(0.03), 0.8))
        lift = self.level - self.level.mean()
        arousal = mean + np.abs(deviation * _noise(rng, self.rows, 7.0)) + rng.uniform(0, 0.1) * np.maximum(0, lift)
        smiling = rng.random() < 0.35
        mood = rng.uniform(0.05, 0.5) if smiling else rng.normal(-0.015, 0.015)
        valence = mood + (0.18 if smiling else 0.05 * rng.random() ** 2) * _noise(rng, self.rows, 10.0)
        talk = np.exp(0.55 * _noise(rng, self.rows, 1.3) + 0.35 * _noise(rng, self.rows, 12.0))
        following = np.linalg.norm(self.head, axis=1) / max(self.size, 1e-3)
        return {
            "arousal": np.clip(arousal, 0, 1),
            "valence": np.clip(valence, -1, 1),
            "expression_speed": rng.uniform(0.06, 0.16) * (talk + rng.uniform(0.0, 0.8) * following),
            "head_speed": speed,
            "head_accent": rng.uniform(0.55, 0.9) * _sharpness(shown) + trembling,
        }

    def flow(self) -> dict[str, np.ndarray]:
        """Dimensions of the flow stream, as `vision.flow` defines them; mean speeds in frame heights a second."""
        rng = self.rng
        near = rng.uniform(0.05, 0.18)  # mean flow for a speed of one torso length a second
        parts = [_smooth(np.linalg.norm(v, axis=1), 0.7) for v in (*self.arms, self.head)]
        trunk = self.size * np.abs(_noise(rng, self.rows, 3.5)) * rng.uniform(0.02, 0.2)
        noise = rng.uniform(0.002, 0.012)  # the encoder subtracts its own noise
        across = rng.uniform(0.6, 1.0)  # the person's left is mostly on the right of the frame
        halves = [
            near * ((across * parts[far] + (1 - across) * parts[1 - far]) + 0.4 * parts[2] + trunk) / 1.6
            for far in (1, 0)
        ]
        halves = [half * np.exp(0.3 * _noise(rng, self.rows, 1.5)) * rng.uniform(0.6, 1.3) for half in halves]
        halves = [np.maximum(0, half - noise) for half in halves]
        sharp = [_sharpness(v) for v in (*self.arms, self.head)]
        accent = near * (sharp[0] + sharp[1] + 0.5 * sharp[2]) * rng.uniform(0.2, 0.7)
        sharp_enough = _smooth(accent, 0.5) * np.exp(0.4 * _noise(rng, self.rows, 1.5))
        return {
            "energy": (halves[0] + halves[1]) / 2,
            "accent": np.maximum(0, sharp_enough - 0.6 * noise) + 0.002 * np.abs(_noise(rng, self.rows, 0.8)),
            "energy_left": halves[0],
            "energy_right": halves[1],
        }

    def visibility(self, name: str, rows: int) -> np.ndarray:
        """[rows] bool: mostly visible, sometimes with gaps; flow is never masked."""
        mask = np.ones(rows, dtype=bool)
        if name != "flow" and self.rng.random() < 0.25:
            for _ in range(self.rng.integers(1, 4)):
                start = self.rng.integers(rows)
                mask[start : start + int(self.rng.uniform(0.2, 3.0) * RATE_HZ)] = False
        return mask


def _merge_near(times: np.ndarray, weights: np.ndarray, gap_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Merge ascending times that are closer than `gap_s`; their weights are added, the heaviest keeps its time."""
    merged: list[list[float]] = []
    for time_s, weight in zip(times, weights, strict=True):
        if merged and time_s - merged[-1][0] < gap_s:
            if weight > merged[-1][2]:
                merged[-1][0], merged[-1][2] = time_s, weight
            merged[-1][1] += weight
        else:
            merged.append([time_s, weight, weight])
    table = np.array(merged, dtype=float).reshape(-1, 3)
    return table[:, 0], table[:, 1]


def _noise(rng: np.random.Generator, rows: int, sigma_rows: float) -> np.ndarray:
    """[rows] Gaussian noise of standard deviation 1 that varies over about `sigma_rows` rows."""
    radius = max(1, int(3 * sigma_rows))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_rows) ** 2)
    white = rng.normal(size=rows + 2 * radius)
    return np.convolve(white, kernel / np.sqrt((kernel**2).sum()), mode="valid")


def _smooth(values: np.ndarray, sigma_rows: float) -> np.ndarray:
    """Gaussian smoothing along time; the length stays."""
    radius = max(1, int(np.ceil(3 * sigma_rows)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_rows) ** 2)
    kernel /= kernel.sum()
    columns = values.reshape(len(values), -1).T
    smoothed = [np.convolve(np.pad(c, radius, mode="edge"), kernel, mode="valid") for c in columns]
    return np.stack(smoothed, axis=1).reshape(values.shape)


def _shorten(velocity: np.ndarray, noise: float) -> np.ndarray:
    """Shorten each vector of [T, 2] by `noise`, at most to zero, as an encoder does against jitter."""
    length = np.linalg.norm(velocity, axis=1, keepdims=True)
    return velocity * np.maximum(0, 1 - noise / np.maximum(length, 1e-9))


def _sharpness(velocity: np.ndarray) -> np.ndarray:
    """[T] how sharply a motion stops or turns, as the encoders measure it: change of velocity less gain in speed."""
    padded = np.concatenate([velocity[:1], velocity, velocity[-1:]])
    before, after = padded[:-2], padded[2:]
    gain = np.linalg.norm(after, axis=1) - np.linalg.norm(before, axis=1)
    return np.maximum(0, np.linalg.norm(after - before, axis=1) - np.maximum(0, gain))
