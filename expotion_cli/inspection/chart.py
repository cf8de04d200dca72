"""Lays an observation out: title, pictures along the time axis, lanes, legend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from expotion_cli.inspection.curves import Columns
from expotion_cli.inspection.fonts import shortened, text_width
from expotion_cli.inspection.geometry import LIMBS, face_boxes, joints
from expotion_cli.inspection.lanes import Band, Curve, Lane, Stretches, Ticks, beat_times, lanes_of
from expotion_cli.inspection.observe import Observation
from expotion_cli.inspection.scene import Area, Box, Hatch, Line, Photo, Scene, Text
from expotion_cli.vision.signals import runs

WIDTH, LEFT, RIGHT = 1600, 184, 140
PLOT = WIDTH - LEFT - RIGHT
"""Pixels from the clip's beginning to its end, one column each."""
THUMB_HEIGHT, THUMB_GAP = 108, 4
_GAP, _LOWEST_STRIP = 10, 56
_INK, _DIM, _FAINT, _GROUND, _RULE = "#1d1d22", "#5d5f69", "#8b8d97", "#f6f6f8", "#dedfe4"
_FACE, _BODY, _HALO = "#ff8fd0", "#7fd4ff", "#000000"
_STEPS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MAX_LABELS = 16


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the thumbnails of a clip, proportion kept: side by side they fill the time axis."""
    widest = min(PLOT / _num_thumbnails(width, height) - THUMB_GAP, 1.2 * THUMB_HEIGHT * width / height)
    return max(1, round(widest)), max(1, round(widest * height / width))


def thumbnail_times(duration_s: float, width: int, height: int) -> list[float]:
    """When the thumbnails are taken: in the middle of as many equal parts of the clip as fit side by side."""
    count = _num_thumbnails(width, height)
    return [(i + 0.5) * duration_s / count for i in range(count)]


def _num_thumbnails(width: int, height: int) -> int:
    return min(24, max(3, round((PLOT + THUMB_GAP) / (THUMB_HEIGHT * width / height + THUMB_GAP))))


def draw(seen: Observation, thumbnails: Sequence[np.ndarray]) -> Scene:
    """The picture of an observation.

    Args:
        seen: what to show.
        thumbnails: uint8 [h, w, 3] at `thumbnail_times`, of `thumbnail_size`.
    """
    lanes = lanes_of(seen, PLOT)
    strip = max(_LOWEST_STRIP, thumbnail_size(seen.clip.width, seen.clip.height)[1])
    notes = list(_wrapped(" · ".join(seen.notes), 13, WIDTH - 48)) if seen.notes else []
    top = 84 + 20 * len(notes)
    height = top + strip + _GAP + sum(lane.height + _GAP for lane in lanes) + 78
    scene = Scene(WIDTH, height, f"What expotion saw in {seen.name}")
    _draw_heading(scene, seen, notes)
    _draw_thumbnails(scene, seen, thumbnails, top)
    y = top + strip + _GAP
    end = y + sum(lane.height + _GAP for lane in lanes)
    beats = beat_times(seen)
    for lane in lanes:
        _LaneDrawing(scene, lane, y, seen.duration_s).draw(beats)
        y += lane.height + _GAP
    _draw_axis(scene, seen.duration_s, top + strip + _GAP, end)
    _draw_legend(scene, seen, lanes, height - 22)
    return scene


def time_to_x(time_s: float, duration_s: float) -> float:
    """Where a time stands."""
    return LEFT + PLOT * time_s / duration_s


def axis_times(duration_s: float) -> tuple[list[float], Callable[[float], str]]:
    """Times to label, and how to write them: seconds, or minutes and seconds of longer clips."""
    step = next((step for step in _STEPS_S if duration_s / step <= _MAX_LABELS), _STEPS_S[-1])
    times = [i * step for i in range(int(duration_s / step + 1e-6) + 1)]
    return times, (lambda time: f"{time:g} s") if duration_s < 120 else clock


def clock(time_s: float) -> str:
    """Hours, minutes, seconds."""
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


def length_words(duration_s: float) -> str:
    """A clip's length: seconds, of longer clips also as on a clock."""
    return f"{duration_s:.2f} s" if duration_s < 120 else f"{clock(duration_s)} ({duration_s:.1f} s)"


def _draw_heading(scene: Scene, seen: Observation, notes: list[str]) -> None:
    clip = seen.clip
    facts = [
        length_words(seen.duration_s),
        f"{float(clip.fps):.4g} fps",
        f"{clip.width}x{clip.height}",
        clip.video_codec,
    ]
    sure = "no clear pulse" if seen.tempo.confidence == 0 else f"confidence {seen.tempo.confidence:.2f}"
    facts.append(f"tempo for {seen.recipe.name}: {float(seen.tempo.bpm):.1f} bpm, {sure}")
    scene.add(Text(24, 42, shortened(seen.name, 27, WIDTH - 48), 27, _INK))
    scene.add(Text(24, 68, shortened("  ·  ".join(facts), 16, WIDTH - 48), 16, _DIM))
    for number, note in enumerate(notes):
        scene.add(Text(24, 90 + 20 * number, note, 13, "#a33c00"))


def _draw_thumbnails(scene: Scene, seen: Observation, thumbnails: Sequence[np.ndarray], top: float) -> None:
    times = thumbnail_times(seen.duration_s, seen.clip.width, seen.clip.height)
    aspect = seen.clip.width / seen.clip.height
    face, pose = seen.streams.get("face"), seen.streams.get("pose")
    boxes = face_boxes(face, aspect) if face is not None else None
    scene.add(Text(LEFT - 14, top + 16, "Picture", 15, _INK, "end"))
    keys = [("face", _FACE)] if face is not None and boxes is not None and face.mask.any() else []
    keys += [("arms, torso", _BODY)] if pose is not None and pose.mask.any() else []
    _draw_keys(scene, keys, top + 34)
    for time, pixels in zip(times, thumbnails, strict=False):
        height, width = pixels.shape[:2]
        x = round(time_to_x(time, seen.duration_s) - width / 2)
        scene.add(Photo(x, top, pixels))

        def place(point: tuple[float, float], x: float = x, size: tuple[int, int] = (width, height)) -> tuple:
            inside = np.clip(point, 0, 1)
            return x + float(inside[0]) * size[0], top + float(inside[1]) * size[1]

        if pose is not None:
            found = joints(pose, _row(pose, time), aspect)
            limbs = [(place(found[a]), place(found[b])) for a, b in LIMBS if a in found and b in found]
            scene.add(*(Line(limb, _HALO, 3.4, 0.55) for limb in limbs), *(Line(limb, _BODY, 1.8) for limb in limbs))
        if boxes is not None and np.isfinite(box := boxes[_row(face, time)]).all():
            left, upper, right, lower = box
            corners = [(left, upper), (right, upper), (right, lower), (left, lower), (left, upper)]
            frame = tuple(place(corner) for corner in corners)
            scene.add(Line(frame, _HALO, 3.4, 0.55), Line(frame, _FACE, 1.8))


def _row(stream, time_s: float) -> int:
    return min(len(stream.mask) - 1, round(time_s * stream.rate_hz))


def _draw_axis(scene: Scene, duration_s: float, top: float, bottom: float) -> None:
    times, words = axis_times(duration_s)
    rules = [Line(((x, top), (x, bottom)), _INK, 1, 0.09) for x in (time_to_x(time, duration_s) for time in times)]
    scene.add(*rules, Line(((LEFT, bottom), (LEFT + PLOT, bottom)), _FAINT, 1.2))
    scene.add(Text(LEFT - 34, bottom + 21, "Time", 15, _INK, "end"))
    for time in times:
        x = time_to_x(time, duration_s)
        scene.add(
            Line(((x, bottom), (x, bottom + 6)), _FAINT, 1.2), Text(x, bottom + 21, words(time), 13, _DIM, "middle")
        )


def _draw_legend(scene: Scene, seen: Observation, lanes: Sequence[Lane], y: float) -> None:
    x = float(LEFT)

    def word(text: str) -> None:
        nonlocal x
        scene.add(Text(x, y, text, 13, _DIM))
        x += text_width(text, 13) * 1.06 + 26

    if any(lane.unseen is not None for lane in lanes):
        scene.add(Hatch(x, y - 11, 30, 14))
        x += 38
        word("not seen")
    if any(isinstance(mark, Ticks) for lane in lanes for mark in lane.marks):
        scene.add(
            Line(((x + 2, y + 2), (x + 2, y - 11)), "#3a3a44", 2.4),
            Line(((x + 12, y + 2), (x + 12, y - 5)), "#3a3a44", 1.2),
        )
        x += 22
        word("bar and beat of the tempo")
    if any(len(stream.mask) > PLOT for stream in seen.streams.values()):
        scene.add(Box(x, y - 11, 24, 14, "#0072b2", 0.25), Line(((x, y - 4), (x + 24, y - 4)), "#0072b2", 1.6))
        x += 32
        word("lowest to highest, and mean, of each pixel's stretch of time")
    encoders = " · ".join(f"{stream.encoder} {stream.version}" for stream in seen.streams.values())
    scene.add(Text(WIDTH - 24, y, f"expotion inspect · encoders {encoders}", 13, _FAINT, "end"))


def _draw_keys(scene: Scene, keys: Sequence[tuple[str, str]], y: float) -> None:
    """Names beside small squares, one below the other, left of the plot."""
    for number, (name, colour) in enumerate(keys):
        line = y + 17 * number
        scene.add(Text(LEFT - 34, line, name, 12.5, _DIM, "end"), Box(LEFT - 27, line - 10, 12, 11, colour))


class _LaneDrawing:
    """Draws one lane with its upper edge at `top`."""

    def __init__(self, scene: Scene, lane: Lane, top: float, duration_s: float):
        self._scene, self._lane, self._top, self._duration_s = scene, lane, top, duration_s

    def draw(self, beats: Sequence[tuple[float, bool]]) -> None:
        """Ground, hatching, lines across, marks and words."""
        lane, scene, top = self._lane, self._scene, self._top
        scene.add(Box(LEFT, top, PLOT, lane.height, _GROUND))
        if lane.unseen is not None:
            column = PLOT / len(lane.unseen)
            for start, stop in runs(lane.unseen):
                scene.add(Hatch(LEFT + start * column, top, (stop - start) * column, lane.height))
        for value, label in lane.levels:
            scene.add(Line(((LEFT, self._y(value)), (LEFT + PLOT, self._y(value))), _RULE, 1))
            if label:
                y = min(max(self._y(value) + 4, top + 9), top + lane.height)
                scene.add(Text(LEFT + PLOT + 6, y, label, 11, _FAINT))
        if lane.has_beats:
            for time, strong in beats:
                x = time_to_x(time, self._duration_s)
                scene.add(Line(((x, top), (x, top + lane.height)), _INK, 1.6 if strong else 1, 0.3 if strong else 0.13))
        for mark in lane.marks:
            match mark:
                case Curve():
                    self._draw_curve(mark)
                case Band():
                    self._draw_band(mark)
                case Ticks():
                    self._draw_ticks(mark)
                case Stretches():
                    for begin, end in mark.spans_s:
                        x = time_to_x(begin, self._duration_s)
                        length = max(1.0, time_to_x(end, self._duration_s) - x)
                        scene.add(Box(x, top, length, lane.height, mark.colour, 0.75))
        self._write()

    def _write(self) -> None:
        lane, scene, top = self._lane, self._scene, self._top
        middle = top + lane.height / 2
        thin = lane.height < 30
        lines = [line for line in (lane.unit,) if line]
        rows = 1 + len(lines) + len(lane.keys)
        y = middle + 5 if thin else middle + 5 - 8.5 * (rows - 1)
        scene.add(Text(LEFT - 14, y, lane.title, 15, _INK, "end"))
        for number, line in enumerate(lines):
            scene.add(Text(LEFT - 14, y + 17 * (number + 1), line, 12.5, _DIM, "end"))
        _draw_keys(scene, lane.keys, y + 17 * (len(lines) + 1))
        y = middle + 4.5 - 8.5 * (len(lane.facts) - 1)
        for number, fact in enumerate(lane.facts):
            scene.add(Text(WIDTH - 14, y + 17 * number, fact, 12.5, _DIM, "end"))
        if lane.said:
            width = text_width(lane.said, 14) + 22
            scene.add(Box(LEFT + PLOT / 2 - width / 2, middle - 9, width, 18, "#ffffff", 0.9))
            scene.add(Text(LEFT + PLOT / 2, middle + 5, lane.said, 14, _DIM, "middle"))

    def _y(self, value: float) -> float:
        lane = self._lane
        share = (min(max(value, lane.low), lane.high) - lane.low) / (lane.high - lane.low)
        return self._top + lane.height * (1 - share)

    def _points(self, times_s: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
        return [
            (time_to_x(float(t), self._duration_s), self._y(float(v))) for t, v in zip(times_s, values, strict=True)
        ]

    def _draw_curve(self, curve: Curve) -> None:
        columns = curve.columns
        wide = len(columns.mean) >= PLOT
        for start, stop in runs(np.isfinite(columns.mean)):
            part = slice(start, stop)
            times = self._reaching(columns, start, stop)
            mean = self._points(times, _held(columns.mean[part]))
            if curve.filled:
                zero = self._y(0.0)
                ground = (*mean, (mean[-1][0], zero), (mean[0][0], zero))
                self._scene.add(Area(ground, curve.colour, 0.55 if wide else 0.28))
            if wide:
                high = self._points(times, _held(columns.high[part]))
                low = self._points(times, _held(columns.low[part]))
                self._scene.add(Area((*high, *reversed(low)), curve.colour, 0.25))
            self._scene.add(Line(tuple(mean), curve.colour, 1.2 if wide else 1.7))

    def _draw_band(self, band: Band) -> None:
        for start, stop in runs(np.isfinite(band.low.mean) & np.isfinite(band.high.mean)):
            times = self._reaching(band.low, start, stop)
            low = self._points(times, _held(band.low.mean[start:stop]))
            high = self._points(times, _held(band.high.mean[start:stop]))
            self._scene.add(Area((*high, *reversed(low)), band.colour, 0.3))
            self._scene.add(Line(tuple(high), band.colour, 1.5), Line(tuple(low), band.colour, 1.5))

    def _draw_ticks(self, ticks: Ticks) -> None:
        for time, height in ticks.marks:
            x = time_to_x(time, self._duration_s)
            self._scene.add(Line(((x, self._y(ticks.base)), (x, self._y(height))), ticks.colour, ticks.width))

    def _reaching(self, columns: Columns, start: int, stop: int) -> np.ndarray:
        """Middles of columns, and the outer edges of the first and the last: a stretch fills its time."""
        half = self._duration_s / len(columns.mean) / 2
        times = columns.time_s[start:stop]
        return np.concatenate([[times[0] - half], times, [times[-1] + half]])


def _held(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[:1], values, values[-1:]])


def _wrapped(text: str, size: float, width: float) -> Sequence[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shortened(line, size, width) for line in lines]
