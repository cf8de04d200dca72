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
from expotion_cli.music.plan_stream import PLAN, PLAN_DIMS, StepPlan, on_steps, plan_rows
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.spotting.activity import ACTIVITY_FLOORS, SeenStream, normalise
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT, Timeline, resample_rows

FORM = "form"
"""A stream made here, not by an encoder: nearness of the cue's opening and of its ending."""
MADE_HERE = (FORM, PLAN)
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
    StreamSpec(PLAN, PLAN_DIMS),
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


def plan_stream(plan: StepPlan, num_steps: int) -> StepStream:
    """The plan stream of a plan on the step grid, as `condition` and training make it."""
    return StepStream(plan_rows(plan, num_steps), np.ones(num_steps, dtype=bool))


def condition(
    streams: Mapping[str, SeenStream],
    timeline: Timeline,
    specs: Sequence[StreamSpec],
    *,
    plan: CuePlan | None = None,
) -> dict[str, StepStream]:
    """Put the streams an adapter reads on a cue's step grid (temporal smoothing, EXPOTION section 3).

    Streams that the adapter does not read are ignored. Those that it reads but are not given are left out; the
    adapter then uses its learned row for a missing stream.

    Args:
        streams: by name, of one clip.
        timeline: the cue's grid.
        specs: the adapter's streams.
        plan: what the picture asks of the music; None leaves the plan stream out.

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
        elif spec.name == PLAN:
            if plan is not None:
                result[PLAN] = plan_stream(on_steps(plan, timeline), timeline.num_steps)
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


def _ending_step(timeline: Timeline) -> float:
    """End of the last bar that begins at least a second before the picture ends, in steps."""
    bar = STEPS_PER_BEAT * BEATS_PER_BAR
    last_landing = timeline.step_at(float(timeline.duration) - 1.0)
    return (max(0, int(last_landing // bar)) + 1) * bar
