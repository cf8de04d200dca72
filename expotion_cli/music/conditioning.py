"""Turns embedding streams into what the adapter receives: named dimensions, normalised, on the decoder's step grid.

Encoders give physical units (torso lengths a second, radians a second). People and cameras differ, so motion is
scaled to about 0..1: an activity is divided by the clip's own 95th percentile plus a floor. The floor, about a small
but deliberate movement, keeps a still clip near 0 instead of amplifying its noise. Then every dimension is
standardised with fixed numbers, because a projection without bias learns slowly from inputs that hardly vary around
a large mean. Putting streams on the step grid is EXPOTION's temporal smoothing (arXiv 2507.04955, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.errors import EmptyStreamError, UnknownNameError
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.spotting.activity import ACTIVITY_FLOORS, SeenStream, normalise
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT, Timeline, resample_rows

FORM = "form"
"""A stream made here, not by an encoder: nearness of the cue's opening and of its ending."""
DRIVE = "drive"
"""Another stream made here: how much moves by all encoders together, from the clip's calmest to its liveliest."""
DRIVE_LAGS = (-3, -1, 0, 1, 2, 3, 4, 5, 6, 7, 9, 11)
"""Steps back at which each row also holds the curve: at one position, voice k is k steps behind (delay pattern)."""
DRIVE_DIMS = tuple(f"back_{lag}" for lag in DRIVE_LAGS)
DRIVE_STANDARD = (0.42, 0.35)
DRIVE_WEIGHTS = {("flow", "energy"): 0.6, ("pose", "energy"): 0.3, ("face", "head_speed"): 0.1}
DRIVE_RANGE, DRIVE_FLOOR, DRIVE_LIMIT = (15, 92), 0.1, 1.3
PULSE_PLACES, PULSE_WEIGHTS = (0, 2, 3, 5, 6, 7, 9, 11, 12), (1.0, 0.2, 0.1, 0.3, 0.45, 0.3, 0.1, 0.5, 1.0)
MADE_HERE = (FORM, DRIVE)
"""Streams that are made here and come from no encoder."""
FORM_DIMS = ("opening", "ending")
FORM_DECAY_STEPS = 2 * BEATS_PER_BAR * STEPS_PER_BEAT

ACTIVITY_STANDARD = (0.28, 0.2)
LEVEL_STANDARDS: dict[str, tuple[float, float]] = {
    "hands_height": (0.5, 0.35),
    "openness": (0.85, 0.25),
    "arousal": (0.35, 0.25),
    "valence": (0.0, 0.25),
}
"""(mean, deviation) of dimensions over people who move; other dimensions stay as they are."""

EMBEDDED_STREAMS = (
    StreamSpec("pose", ("energy", "energy_left", "energy_right", "energy_head", "accent", "hands_height", "openness")),
    StreamSpec("face", ("arousal", "valence", "expression_speed", "head_speed", "head_accent")),
    StreamSpec("flow", ("energy", "accent", "energy_left", "energy_right")),
    StreamSpec(FORM, FORM_DIMS),
    StreamSpec(DRIVE, DRIVE_DIMS),
)
"""The streams that the embedded model's adapter reads."""


@dataclass(frozen=True)
class StepStream:
    """A stream on the step grid.

    Attributes:
        values: [S, D_s] float32.
        mask: [S] bool, False where the encoder saw nothing.
    """

    values: np.ndarray
    mask: np.ndarray

    def at(self, steps: np.ndarray) -> StepStream:
        """Its rows at these steps, [n] integers."""
        return StepStream(self.values[steps], self.mask[steps])


def standardise(stream: str, dim: str, values: np.ndarray) -> np.ndarray:
    """Standardise a normalised dimension to about mean 0 and deviation 1 over people who move.

    Args:
        stream: name of the stream.
        dim: name of the dimension.
        values: [T], from `spotting.activity.normalise`.

    Returns:
        [T] float32.
    """
    is_activity = (stream, dim) in ACTIVITY_FLOORS
    mean, deviation = ACTIVITY_STANDARD if is_activity else LEVEL_STANDARDS.get(dim, (0.0, 1.0))
    return ((values - mean) / deviation).astype(np.float32)


def form_stream(num_steps: int, ending_step: float | None = None) -> StepStream:
    """The form stream of a cue: nearness of its opening and of its ending, each 1 there and decaying over two bars.

    Args:
        num_steps: steps S of the cue.
        ending_step: where the music ends, S by default; from there on the ending's nearness stays 1.
    """
    steps = np.arange(num_steps)
    to_end = np.maximum((num_steps if ending_step is None else ending_step) - steps, 0)
    values = np.stack([np.exp(-steps / FORM_DECAY_STEPS), np.exp(-to_end / FORM_DECAY_STEPS)], axis=1)
    return StepStream(values.astype(np.float32), np.ones(num_steps, dtype=bool))


def condition(
    streams: Mapping[str, SeenStream], timeline: Timeline, specs: Sequence[StreamSpec], *, pulse: float = 0.0
) -> dict[str, StepStream]:
    """Put the streams an adapter reads on a cue's step grid (temporal smoothing, EXPOTION section 3).

    Streams that the adapter does not read are ignored. Those that it reads but are not given are left out; the
    adapter then uses its learned row for a missing stream.

    Args:
        streams: by name, of one clip.
        timeline: the cue's grid.
        specs: the adapter's streams.
        pulse: 0..1, how strongly beats are mixed into the drive; 0 leaves it to the motion alone.

    Returns:
        Stream by name.

    Raises:
        UnknownNameError: a stream lacks a dimension that the adapter reads.
        EmptyStreamError: a stream has no rows.
    """
    times = timeline.step_times()
    result: dict[str, StepStream] = {}
    for spec in specs:
        if spec.name == FORM:
            result[FORM] = form_stream(timeline.num_steps, _ending_step(timeline))
        elif spec.name == DRIVE:
            curve, seen = drive_curve(streams, times)
            if seen.any():
                result[DRIVE] = drive_stream(with_pulse(curve, pulse), seen)
        elif spec.name in streams:
            result[spec.name] = _on_grid(spec, streams[spec.name], times)
    return result


def _on_grid(spec: StreamSpec, stream: SeenStream, times: np.ndarray) -> StepStream:
    if not len(stream.values):
        raise EmptyStreamError(f"The {spec.name} stream has no rows.")
    chosen = _embedding(spec, stream) if spec.is_numbered else _named_dims(spec, stream)
    values = resample_rows(chosen, stream.rate_hz, times)
    nearest = np.clip(np.rint(times * stream.rate_hz).astype(int), 0, len(stream.mask) - 1)
    return StepStream(values, np.asarray(stream.mask, dtype=bool)[nearest])


def _embedding(spec: StreamSpec, stream: SeenStream) -> np.ndarray:
    """All of a network's embedding, unscaled: adapters on such streams were trained on the raw numbers. [T_e, D]."""
    if stream.values.shape[1] != len(spec.dims):
        raise UnknownNameError(
            f"The adapter reads {len(spec.dims)} numbers of {spec.name}, this stream has {stream.values.shape[1]}.",
            remedy="Use the encoder that the adapter was trained with.",
        )
    return np.asarray(stream.values, dtype=np.float32)


def _named_dims(spec: StreamSpec, stream: SeenStream) -> np.ndarray:
    """The dimensions an adapter names, each standardised. [T_e, D_s]."""
    absent = [dim for dim in spec.dims if dim not in stream.dims]
    if absent:
        raise UnknownNameError(
            f"The adapter reads {spec.name}.{absent[0]}, which this {spec.name} stream does not have.",
            remedy=f"It has: {', '.join(stream.dims[:12])} ...",
        )
    columns = [
        standardise(spec.name, dim, normalise(spec.name, dim, stream.values[:, stream.dims.index(dim)], stream.mask))
        for dim in spec.dims
    ]
    return np.stack(columns, axis=1)


def drive_curve(streams: Mapping[str, SeenStream], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much moves at each moment: 0 where the clip is at its calmest, about 1 at its liveliest.

    People and shots differ in how much they move at rest, so each activity is scaled between its own low and high
    percentile; the floor keeps a clip without contrast near 0. The result is the weighted mean of the activities that
    were seen at that moment.

    Args:
        streams: by name, of one clip.
        times: [T] seconds.

    Returns:
        (curve [T] float32, mask [T] bool: any of the encoders saw something).
    """
    total, weights = np.zeros(len(times)), np.zeros(len(times))
    for (name, dim), weight in DRIVE_WEIGHTS.items():
        stream = streams.get(name)
        if stream is None or dim not in stream.dims or not np.any(stream.mask):
            continue
        seen = np.asarray(stream.mask, dtype=bool)
        values = normalise(name, dim, stream.values[:, stream.dims.index(dim)], seen)
        low, high = np.percentile(values[seen], DRIVE_RANGE)
        scaled = (values - low) / (high - low + DRIVE_FLOOR)
        nearest = np.clip(np.rint(times * stream.rate_hz).astype(int), 0, len(seen) - 1)
        share = weight * seen[nearest]
        total += share * resample_rows(scaled[:, None], stream.rate_hz, times)[:, 0]
        weights += share
    curve = np.clip(total / np.maximum(weights, 1e-6), 0, DRIVE_LIMIT)
    return curve.astype(np.float32), weights > 0


def with_pulse(curve: np.ndarray, pulse: float) -> np.ndarray:
    """Mix beats into a drive curve: stronger on them, weaker between, and a little even in stillness.

    Free gestures fall between the beats as often as on them. Where a tempo was asked for, it should be audible.

    Args:
        curve: [S], from `drive_curve`; step 0 is a beat.
        pulse: 0..1; 0 leaves the curve as it is.
    """
    places = np.arange(len(curve)) % STEPS_PER_BEAT
    weight = np.interp(places, PULSE_PLACES, PULSE_WEIGHTS)
    beaten = curve * (0.3 + 0.75 * weight) + 0.35 * weight
    return np.clip((1 - pulse) * curve + pulse * beaten, 0, DRIVE_LIMIT).astype(np.float32)


def drive_stream(curve: np.ndarray, seen: np.ndarray) -> StepStream:
    """The drive stream of a curve on the step grid.

    Args:
        curve: [S], from `drive_curve`.
        seen: mask [S] bool.
    """
    steps = np.arange(len(curve))
    columns = [curve[np.clip(steps - lag, 0, len(curve) - 1)] for lag in DRIVE_LAGS]
    mean, deviation = DRIVE_STANDARD
    return StepStream(((np.stack(columns, axis=1) - mean) / deviation).astype(np.float32), seen)


def _ending_step(timeline: Timeline) -> float:
    """End of the last bar that begins at least a second before the picture ends, in steps."""
    bar = STEPS_PER_BEAT * BEATS_PER_BAR
    last_landing = timeline.step_at(float(timeline.duration) - 1.0)
    return (max(0, int(last_landing // bar)) + 1) * bar
