"""An observation as lanes over time, not yet drawn: what the encoders saw, below the cue plan made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.inspection.curves import Columns, row_changes, to_columns
from expotion_cli.inspection.geometry import face_boxes
from expotion_cli.inspection.marks import (
    BLUE,
    DARK,
    LOW,
    ORANGE,
    PINK,
    RED,
    SKY,
    STREAM_COLOURS,
    TALL,
    THIN,
    Band,
    Curve,
    Lane,
    Stretches,
    Ticks,
)
from expotion_cli.inspection.observe import Observation
from expotion_cli.inspection.plan_lanes import plan_lanes
from expotion_cli.spotting.accents import ACCENT_DIMS, Accent

if TYPE_CHECKING:
    from expotion_cli.vision.encoder import EmbeddingStream

NOBODY = "nobody found"


def lanes_of(seen: Observation, max_columns: int) -> list[Lane]:
    """All lanes of an observation, top to bottom; streams that were not encoded have none."""
    view = _View(seen, max_columns)
    makers: tuple[Callable[[], Iterator[Lane]], ...] = (
        view.presence, view.face_track, view.energies, view.sides, view.accents, view.expression, view.stillness,
        view.camera, view.others,
    )  # fmt: skip
    plan = plan_lanes(seen.plan, seen.clip.duration, max_columns)
    return [*plan, *(lane for make in makers for lane in make())]


class _View:
    """Makes the lanes of one observation."""

    def __init__(self, seen: Observation, max_columns: int):
        self.seen, self.max_columns = seen, max_columns

    def presence(self) -> Iterator[Lane]:
        for name, title in (("face", "Face"), ("pose", "Body")):
            if (stream := self.seen.streams.get(name)) is not None:
                share = self._columns(stream, stream.mask.astype(np.float32), np.ones_like(stream.mask))
                share.mean[share.mean == 0] = np.nan
                yield Lane(
                    f"{title} found", "", THIN, 0, 1, (Curve(share, STREAM_COLOURS[name], filled=True),),
                    facts=(f"{stream.coverage:.0%} of the time",) if stream.mask.any() else (),
                    unseen=self._unseen(stream), said=None if stream.mask.any() else NOBODY,
                )  # fmt: skip

    def face_track(self) -> Iterator[Lane]:
        stream = self.seen.streams.get("face")
        boxes = face_boxes(stream, self.seen.clip.width / self.seen.clip.height) if stream is not None else None
        if stream is None or boxes is None or not stream.mask.any():
            return
        whole = np.ones_like(stream.mask)
        left, top, right, bottom = (self._columns(stream, column, whole) for column in np.clip(boxes, 0, 1).T)
        for title, low, high, flip, ends in (
            ("Face across", left, right, False, ("left", "right")),
            ("Face up, down", bottom, top, True, ("low", "high")),
        ):
            if flip:
                low, high = _flipped(low), _flipped(high)
            yield Lane(
                title, "its box in the picture", LOW, 0, 1, (Band(low, high, PINK),),
                levels=((0, ends[0]), (1, ends[1])), unseen=self._unseen(stream),
            )  # fmt: skip

    def energies(self) -> Iterator[Lane]:
        for name, dim, title, unit, floor in (
            ("pose", "energy", "Body motion", "torso lengths/s", 0.5),
            ("face", "head_speed", "Head motion", "rad/s + faces/s", 0.6),
            ("flow", "energy", "Picture motion", "picture heights/s", 0.06),
        ):
            stream = self.seen.streams.get(name)
            if stream is None or dim not in stream.dims or (name == "face" and "pose" in self.seen.streams):
                continue
            columns = self._columns(stream, stream.dim(dim), stream.mask)
            top = _nice(max(floor, _highest(columns.high)))
            yield Lane(
                title, unit, TALL, 0, top, (Curve(columns, STREAM_COLOURS[name], filled=True),),
                facts=_facts(stream.dim(dim), stream.mask), levels=_levels(0, top), unseen=self._unseen(stream),
                said=None if stream.mask.any() else NOBODY, has_beats=True,
            )  # fmt: skip

    def sides(self) -> Iterator[Lane]:
        for name, unit, about, floor in (
            ("pose", "torso lengths/s", ("left arm, up", "right arm, down"), 0.5),
            ("flow", "picture heights/s", ("left half, up", "right half, down"), 0.06),
        ):
            stream = self.seen.streams.get(name)
            if stream is None or "energy_left" not in stream.dims or not stream.mask.any():
                continue
            left, right = (
                self._columns(stream, stream.dim(f"energy_{side}"), stream.mask) for side in ("left", "right")
            )
            top = _nice(max(floor, _highest(left.high), _highest(right.high)))
            downward = Columns(right.time_s, -right.high, -right.mean, -right.low, right.seen)
            mean = [float(np.mean(stream.dim(f"energy_{side}")[stream.mask])) for side in ("left", "right")]
            yield Lane(
                "Left and right", unit, TALL, -top, top,
                (Curve(left, SKY, filled=True), Curve(downward, RED, filled=True)),
                keys=((about[0], SKY), (about[1], RED)), facts=(f"left {_short(mean[0])}", f"right {_short(mean[1])}"),
                levels=((-top, _short(top)), (0, "0"), (top, _short(top))), unseen=self._unseen(stream),
            )  # fmt: skip
            return

    def accents(self) -> Iterator[Lane]:
        sources = [name for name in ACCENT_DIMS if name in self.seen.streams]
        if not sources:
            return
        marks, facts = [], []
        for place, name in enumerate(reversed(sources)):
            own = [accent for accent in self.seen.accents if accent.source == name]
            heights = tuple(
                (accent.time_s, place + 0.06 + 0.88 * min(1.0, accent.strength)) for accent in _thinned(own, self)
            )
            marks.append(Ticks(heights, STREAM_COLOURS[name], base=place + 0.04, width=2.2))
            facts.append(f"{name} {len(own)}" if self.seen.streams[name].mask.any() else f"{name}: {NOBODY}")
        yield Lane(
            "Accents", "height: strength", max(LOW, 26 * len(sources)), 0, len(sources), tuple(marks),
            keys=tuple((name, STREAM_COLOURS[name]) for name in sources), facts=tuple(reversed(facts)),
            levels=tuple((place, "") for place in range(1, len(sources))), has_beats=True,
        )  # fmt: skip

    def expression(self) -> Iterator[Lane]:
        stream = self.seen.streams.get("face")
        if stream is None or not {"valence", "arousal"} <= set(stream.dims):
            return
        valence, arousal = (self._columns(stream, stream.dim(dim), stream.mask) for dim in ("valence", "arousal"))
        top = min(1.0, _nice(max(0.25, _highest(valence.high), _highest(arousal.high))))
        low = -min(1.0, _nice(max(0.25, -_lowest(valence.low))))
        facts: tuple[str, ...] = ()
        if stream.mask.any():
            facts = tuple(
                f"{dim} {_short(float(stream.dim(dim)[stream.mask].mean()))}" for dim in ("valence", "arousal")
            )
        yield Lane(
            "Expression", "", TALL, low, top, (Curve(valence, PINK), Curve(arousal, ORANGE)),
            keys=(("valence (-1 to 1)", PINK), ("arousal (0 to 1)", ORANGE)), facts=facts,
            levels=((low, _short(low)), (0, "0"), (top, _short(top))), unseen=self._unseen(stream),
            said=None if stream.mask.any() else NOBODY,
        )  # fmt: skip

    def stillness(self) -> Iterator[Lane]:
        still = self.seen.stillness
        if still.source is None:
            return
        total = sum(end - start for start, end in still.spans_s)
        unseen = self._unseen(self.seen.streams[still.source])
        facts = (f"{total / self.seen.duration_s:.0%} of the time",)
        yield Lane("Stillness", "", THIN, 0, 1, (Stretches(still.spans_s, DARK),), facts=facts, unseen=unseen)

    def camera(self) -> Iterator[Lane]:
        stream = self.seen.streams.get("flow")
        if stream is None or not {"camera_x", "camera_y"} <= set(stream.dims):
            return
        across, up = (self._columns(stream, stream.dim(dim), stream.mask) for dim in ("camera_x", "camera_y"))
        top = _nice(max(0.1, *(_highest(np.abs(each)) for c in (across, up) for each in (c.low, c.high))))
        yield Lane(
            "Camera", "picture heights/s", TALL, -top, top, (Curve(across, ORANGE), Curve(up, BLUE)),
            keys=(("to the right", ORANGE), ("up", BLUE)),
            facts=(f"mean speed {_short(float(np.hypot(stream.dim('camera_x'), stream.dim('camera_y')).mean()))}",),
            levels=((-top, _short(-top)), (0, "0"), (top, _short(top))), unseen=self._unseen(stream),
        )  # fmt: skip

    def others(self) -> Iterator[Lane]:
        """Streams whose dimensions this lane maker doesn't know: how much the embedding changes."""
        for name, stream in self.seen.streams.items():
            if name in STREAM_COLOURS:
                continue
            change = row_changes(stream.values, stream.rate_hz)
            columns = self._columns(stream, change, stream.mask)
            top = _nice(_highest(columns.high) or 1.0)
            yield Lane(
                name, f"change/s of {len(stream.dims)} numbers", LOW + 14, 0, top, (Curve(columns, DARK, filled=True),),
                facts=(f"{stream.coverage:.0%} of the time", *_facts(change, stream.mask)[:1]), levels=_levels(0, top),
                unseen=self._unseen(stream), said=None if stream.mask.any() else "nothing found",
            )  # fmt: skip

    def _columns(self, stream: EmbeddingStream, values: np.ndarray, mask: np.ndarray) -> Columns:
        return to_columns(values, mask, stream.rate_hz, self.seen.duration_s, self.max_columns)

    def _unseen(self, stream: EmbeddingStream) -> np.ndarray | None:
        seen = self._columns(stream, np.ones(len(stream.mask)), stream.mask).seen
        return seen == 0 if (seen == 0).any() else None


def _thinned(accents: list[Accent], view: _View) -> list[Accent]:
    """The strongest accent of each column."""
    strongest: dict[int, Accent] = {}
    for accent in accents:
        column = int(accent.time_s / view.seen.duration_s * view.max_columns)
        if column not in strongest or accent.strength > strongest[column].strength:
            strongest[column] = accent
    return list(strongest.values())


def _flipped(columns: Columns) -> Columns:
    return Columns(columns.time_s, 1 - columns.high, 1 - columns.mean, 1 - columns.low, columns.seen)


def _highest(values: np.ndarray) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else 0.0


def _lowest(values: np.ndarray) -> float:
    return float(np.nanmin(values)) if np.isfinite(values).any() else 0.0


def _nice(value: float) -> float:
    """The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value)) if value > 0 else 1.0
    steps = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return float(next(step for step in steps if step * power >= value * 0.9999) * power)


def _levels(low: float, high: float) -> tuple[tuple[float, str], ...]:
    middle = (low + high) / 2
    return ((low, _short(low)), (middle, _short(middle)), (high, _short(high)))


def _short(value: float) -> str:
    if abs(value) < 0.001:
        return "0"
    return f"{value:.2g}" if abs(value) < 99.5 else f"{value:.0f}"


def _facts(values: np.ndarray, mask: np.ndarray) -> tuple[str, ...]:
    if not mask.any():
        return ()
    seen = values[mask]
    return (f"mean {_short(float(seen.mean()))}", f"p95 {_short(float(np.percentile(seen, 95)))}")
