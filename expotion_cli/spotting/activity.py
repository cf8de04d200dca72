"""How much moves: the encoders' activities in shares of the clip's own range, and curves of motion made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ
from expotion_cli.timing import resample_rows

if TYPE_CHECKING:
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream


ACTIVITY_LIMIT = 1.5
ACTIVITY_FLOORS: dict[tuple[str, str], float] = {
    ("pose", "energy"): 0.25,
    ("pose", "energy_left"): 0.25,
    ("pose", "energy_right"): 0.25,
    ("pose", "energy_head"): 0.15,
    ("pose", "accent"): 0.50,
    ("face", "expression_speed"): 0.15,
    ("face", "head_speed"): 0.30,
    ("face", "head_accent"): 0.50,
    ("flow", "energy"): 0.03,
    ("flow", "accent"): 0.05,
    ("flow", "energy_left"): 0.03,
    ("flow", "energy_right"): 0.03,
}
"""Dimensions that are activities, with their floor in the encoder's own unit."""
LEVEL_SCALES: dict[tuple[str, str], float] = {("face", "arousal"): 5.0}
"""Other dimensions are levels: times this factor (1 by default), clipped to [-2, 2]."""
MOTION_RATE_HZ = 25.0
_MOTION_DIMS = {
    "pose": ("energy", "accent"),
    "face": ("head_speed", "head_accent"),
    "flow": ("energy", "accent"),
}


class SeenStream(Protocol):
    """What is needed of an embedding stream (`vision.EmbeddingStream` is one)."""

    @property
    def values(self) -> np.ndarray:
        """[T_e, D]."""

    @property
    def mask(self) -> np.ndarray:
        """[T_e] bool: rows in which something was seen."""

    @property
    def rate_hz(self) -> float:
        """Rows a second."""

    @property
    def dims(self) -> tuple[str, ...]:
        """[D] names."""


def normalise(stream: str, dim: str, values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Bring one dimension to about 0..1 (activities) or clip it to [-2, 2] (levels).

    Args:
        stream: name of the stream.
        dim: name of the dimension.
        values: [T_e].
        seen: [T_e] bool; only these rows count for the percentile.

    Returns:
        [T_e] float32.
    """
    floor = ACTIVITY_FLOORS.get((stream, dim))
    if floor is None:
        return np.clip(values * LEVEL_SCALES.get((stream, dim), 1.0), -2, 2).astype(np.float32)
    top = np.percentile(values[seen], 95) if seen.any() else 0.0
    return np.clip(values / (top + floor), 0, ACTIVITY_LIMIT).astype(np.float32)


def motion_signal(streams: Mapping[str, SeenStream], duration_s: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Make one curve of motion energy and one of accents: the mean over pose, face and flow, whose errors differ.

    A stream counts if it saw somebody at least half of the time. Without any, both curves are 0.

    Args:
        streams: embedding streams by name; others are ignored.
        duration_s: length of the curves in seconds.

    Returns:
        ([T] energy, [T] accents, rows a second), normalised.
    """
    times = np.arange(max(1, int(duration_s * MOTION_RATE_HZ))) / MOTION_RATE_HZ
    found = []
    for name, dims in _MOTION_DIMS.items():
        stream = streams.get(name)
        if stream is None or not len(stream.mask) or stream.mask.mean() < 0.5:
            continue
        if all(dim in stream.dims for dim in dims):
            columns = [normalise(name, dim, stream.values[:, stream.dims.index(dim)], stream.mask) for dim in dims]
            seen = np.stack(columns, axis=1) * stream.mask[:, None]
            found.append(resample_rows(seen, stream.rate_hz, times))
    energy, accents = np.mean(found, axis=0).T if found else np.zeros((2, len(times)))
    return energy, accents, MOTION_RATE_HZ


ACTIVITY_WEIGHTS = {"flow": 0.85, "pose": 0.13, "face": 0.02}


def activity_curve(
    streams: Mapping[str, SeenStream], duration_s: float, rate_hz: float
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """How much moves by all encoders together, and where motion stops or turns sharply.

    The weighted mean of flow, pose and face at each moment, over those that saw somebody there: flow knows what a
    viewer sees move, pose and face know the person.

    Args:
        streams: embedding streams by name; others are ignored.
        duration_s: length of the curves in seconds.
        rate_hz: rows a second.

    Returns:
        ([T] energy, [T] stops, names of the streams), in shares of the clip's own activity (`normalise`).
    """
    times = np.arange(max(1, math.ceil(duration_s * rate_hz))) / rate_hz
    total, weights, names = np.zeros((len(times), 2)), np.zeros(len(times)), []
    for name, weight in ACTIVITY_WEIGHTS.items():
        stream, dims = streams.get(name), _MOTION_DIMS[name]
        if stream is None or not np.any(stream.mask) or not all(dim in stream.dims for dim in dims):
            continue
        names.append(name)
        columns = [normalise(name, dim, stream.values[:, stream.dims.index(dim)], stream.mask) for dim in dims]
        seen = np.asarray(stream.mask, np.float32)[:, None]
        rows = resample_rows(np.concatenate([np.stack(columns, axis=1) * seen, seen], axis=1), stream.rate_hz, times)
        total += weight * rows[:, :2]
        weights += weight * rows[:, 2]
    mean = total / np.maximum(weights, 1e-6)[:, None]
    return mean[:, 0], mean[:, 1], tuple(names)


def motion_energy(
    source: str | Path | EmbeddingStream, rate_hz: float = RATE_HZ, *, cache: EmbeddingCache | None = None
) -> np.ndarray:
    """How much moves in the picture, camera motion taken off.

    Args:
        source: a clip, or its `flow` stream.
        rate_hz: rows a second.
        cache: of embedding streams, for clips.

    Returns:
        [T] float32, picture heights a second.

    Raises:
        ProbeError, DecodeError: the clip can't be read.
    """
    if isinstance(source, str | Path):
        from expotion_cli.vision.streams import encode_clip

        source = encode_clip(source, ("flow",), cache=cache)["flow"]
    times = np.arange(math.ceil(len(source.values) / source.rate_hz * rate_hz)) / rate_hz
    return resample_rows(source.dim("energy")[:, None], source.rate_hz, times)[:, 0]
