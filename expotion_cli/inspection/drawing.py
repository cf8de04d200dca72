"""Draws lanes: ground, hatching, beats, marks and the words beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.inspection.curves import Columns
from expotion_cli.inspection.fonts import text_width
from expotion_cli.inspection.marks import Band, Borders, Curve, Lane, Mark, Pins, Shades, Steps, Stretches, Ticks
from expotion_cli.inspection.scene import Area, Box, Hatch, Line, Points, Scene, Shape, Text
from expotion_cli.vision.signals import runs

INK, DIM, FAINT, GROUND, RULE = "#1d1d22", "#5d5f69", "#8b8d97", "#f6f6f8", "#dedfe4"
_HEAD = 4.2


@dataclass(frozen=True)
class Plot:
    """Where the clip's time lies on the page.

    Attributes:
        left: pixels before the clip's beginning, for the lanes' names.
        width: pixels from the clip's beginning to its end.
        right: pixels after its end, for facts.
        duration_s: of the clip.
    """

    left: float
    width: float
    right: float
    duration_s: float

    @property
    def end(self) -> float:
        """Where the clip ends."""
        return self.left + self.width

    def x(self, time_s: float) -> float:
        """Where a time stands."""
        return self.left + self.width * time_s / self.duration_s


def draw_lane(scene: Scene, plot: Plot, lane: Lane, top: float, beats: Sequence[tuple[float, bool]]) -> None:
    """Draw a lane with its upper edge at `top`.

    Args:
        scene: to add to.
        plot: where time lies.
        lane: what to draw.
        top: pixels from the page's upper edge.
        beats: (seconds, whether a bar begins), for lanes that show them.
    """
    _LaneDrawing(scene, plot, lane, top).draw(beats)


def pin_head(x: float, y: float, shape: str, colour: str, size: float = _HEAD) -> Shape:
    """The head of a hit point's stroke: a diamond, a square or a circle about this point."""
    if shape == "square":
        return Box(x - size, y - size, 2 * size, 2 * size, colour)
    corners = 4 if shape == "diamond" else 16
    radius = size * (1.3 if shape == "diamond" else 1.05)
    angles = np.arange(corners) * 2 * np.pi / corners
    return Area(tuple((x + radius * float(np.sin(a)), y - radius * float(np.cos(a))) for a in angles), colour)


def draw_keys(scene: Scene, plot: Plot, keys: Sequence[tuple[str, str]], y: float) -> None:
    """Names beside small squares, one below the other, left of the plot."""
    for number, (name, colour) in enumerate(keys):
        line = y + 17 * number
        scene.add(Text(plot.left - 34, line, name, 12.5, DIM, "end"), Box(plot.left - 27, line - 10, 12, 11, colour))


class _LaneDrawing:
    """Draws one lane with its upper edge at `top`."""

    def __init__(self, scene: Scene, plot: Plot, lane: Lane, top: float):
        self._scene, self._plot, self._lane, self._top = scene, plot, lane, top

    def draw(self, beats: Sequence[tuple[float, bool]]) -> None:
        """Ground, hatching, lines across, marks and words."""
        lane, scene, plot, top = self._lane, self._scene, self._plot, self._top
        scene.add(Box(plot.left, top, plot.width, lane.height, GROUND))
        if lane.unseen is not None:
            column = plot.width / len(lane.unseen)
            for start, stop in runs(lane.unseen):
                scene.add(Hatch(plot.left + start * column, top, (stop - start) * column, lane.height))
        for value, label in lane.levels:
            scene.add(Line(((plot.left, self._y(value)), (plot.end, self._y(value))), RULE, 1))
            if label:
                y = min(max(self._y(value) + 4, top + 9), top + lane.height)
                scene.add(Text(plot.end + 6, y, label, 11, FAINT))
        if lane.has_beats:
            for time, strong in beats:
                x = self._plot.x(time)
                scene.add(Line(((x, top), (x, top + lane.height)), INK, 1.6 if strong else 1, 0.3 if strong else 0.13))
        for mark in lane.marks:
            self._draw_mark(mark)
        self._write()

    def _draw_mark(self, mark: Mark) -> None:
        match mark:
            case Curve():
                self._draw_curve(mark)
            case Band():
                self._draw_band(mark)
            case Ticks():
                self._draw_ticks(mark)
            case Pins():
                self._draw_pins(mark)
            case Steps():
                self._draw_steps(mark)
            case Shades():
                self._draw_shades(mark)
            case Borders():
                for time in mark.times_s:
                    self._scene.add(Line(self._upright(time), mark.colour, 1.6))
            case Stretches():
                for begin, end in mark.spans_s:
                    x = self._plot.x(begin)
                    length = max(1.0, self._plot.x(end) - x)
                    self._scene.add(Box(x, self._top, length, self._lane.height, mark.colour, 0.75))

    def _upright(self, time_s: float) -> Points:
        x = self._plot.x(time_s)
        return (x, self._top), (x, self._top + self._lane.height)

    def _draw_pins(self, pins: Pins) -> None:
        for time, height, head in pins.marks:
            x, y = self._plot.x(time), self._y(height)
            self._scene.add(Line(((x, self._y(0)), (x, y)), pins.colour, 2))
            if head:
                self._scene.add(pin_head(x, y, head, pins.colour))

    def _draw_steps(self, steps: Steps) -> None:
        if not steps.values:
            return
        outline = []
        for value, start, end in zip(steps.values, steps.edges_s, steps.edges_s[1:], strict=False):
            outline += [(self._plot.x(start), self._y(value)), (self._plot.x(end), self._y(value))]
        bottom = self._y(0)
        self._scene.add(Area((*outline, (outline[-1][0], bottom), (outline[0][0], bottom)), steps.colour, 0.2))

    def _draw_shades(self, shades: Shades) -> None:
        for (start, end, share), words in zip(shades.spans, shades.words, strict=True):
            x = self._plot.x(start)
            length = self._plot.x(end) - x
            gap = 1.0 if length > 4 else 0.0
            self._scene.add(Box(x, self._top, length - gap, self._lane.height, shades.colour, round(share, 3)))
            if text_width(words, 12.5) + 8 < length:
                colour = "#ffffff" if share > 0.5 else INK
                self._scene.add(Text(x + length / 2, self._top + 14.5, words, 12.5, colour, "middle"))

    def _write(self) -> None:
        lane, scene, plot, top = self._lane, self._scene, self._plot, self._top
        middle = top + lane.height / 2
        thin = lane.height < 30
        lines = [line for line in (lane.unit,) if line]
        rows = 1 + len(lines) + len(lane.keys)
        y = middle + 5 if thin else middle + 5 - 8.5 * (rows - 1)
        scene.add(Text(plot.left - 14, y, lane.title, 15, INK, "end"))
        for number, line in enumerate(lines):
            scene.add(Text(plot.left - 14, y + 17 * (number + 1), line, 12.5, DIM, "end"))
        draw_keys(scene, self._plot, lane.keys, y + 17 * (len(lines) + 1))
        y = middle + 4.5 - 8.5 * (len(lane.facts) - 1)
        for number, fact in enumerate(lane.facts):
            scene.add(Text(plot.end + plot.right - 14, y + 17 * number, fact, 12.5, DIM, "end"))
        if lane.said:
            width = text_width(lane.said, 14) + 22
            scene.add(Box(plot.left + plot.width / 2 - width / 2, middle - 9, width, 18, "#ffffff", 0.9))
            scene.add(Text(plot.left + plot.width / 2, middle + 5, lane.said, 14, DIM, "middle"))

    def _y(self, value: float) -> float:
        lane = self._lane
        share = (min(max(value, lane.low), lane.high) - lane.low) / (lane.high - lane.low)
        return self._top + lane.height * (1 - share)

    def _points(self, times_s: np.ndarray, values: np.ndarray) -> list[tuple[float, float]]:
        return [(self._plot.x(float(t)), self._y(float(v))) for t, v in zip(times_s, values, strict=True)]

    def _draw_curve(self, curve: Curve) -> None:
        columns = curve.columns
        wide = len(columns.mean) >= self._plot.width
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
            x = self._plot.x(time)
            self._scene.add(Line(((x, self._y(ticks.base)), (x, self._y(height))), ticks.colour, ticks.width))

    def _reaching(self, columns: Columns, start: int, stop: int) -> np.ndarray:
        """Middles of columns, and the outer edges of the first and the last: a stretch fills its time."""
        half = self._plot.duration_s / len(columns.mean) / 2
        times = columns.time_s[start:stop]
        return np.concatenate([[times[0] - half], times, [times[-1] + half]])


def _held(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[:1], values, values[-1:]])
