"""The `flow` encoder: what moves in the picture, whoever or whatever it is, from dense optical flow.

Pictures are made about 160 by 120 and grey. Flow is OpenCV's DIS; where OpenCV can't be loaded (its wheel needs
system libraries) a coarser Lucas-Kanade flow in numpy takes its place, under another identity. The camera's own
motion, taken as the median flow along the picture's upper, left and right border, is removed.
`left` and `right` are the picture's. Something is always seen: the mask is all True.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import signals
from expotion_cli.vision.encoder import RATE_HZ, THUMBNAIL, Dim, Encoder, Picture

GRID_ROWS, GRID_COLUMNS = 3, 4
_FINE = 2  # accents are taken on a grid this many times finer
NOISE = 0.01
"""Picture heights a second: what compression noise looks like; it is taken off every speed."""

DIMS: tuple[Dim, ...] = (
    *(Dim(f"cell_{row}_{column}", "picture heights/s",
          f"mean speed in row {row} from the top, column {column} from the left")
      for row in range(GRID_ROWS) for column in range(GRID_COLUMNS)),
    Dim("motion_x", "picture heights/s", "mean motion to the right"),
    Dim("motion_y", "picture heights/s", "mean motion up"),
    Dim("expansion", "1/s", "mean divergence: things grow or come nearer where positive"),
    Dim("peak", "picture heights/s", "speed that 5 % of the picture exceed"),
    Dim("area", "0..1", "share of the picture that moves"),
    Dim("camera_x", "picture heights/s", "removed camera motion, to the right"),
    Dim("camera_y", "picture heights/s", "removed camera motion, up"),
    Dim("energy", "picture heights/s", "mean speed over the picture"),
    Dim("accent", "picture heights/s, >= 0", "peaks where motion stops or turns sharply, mean over the picture"),
    Dim("energy_left", "picture heights/s", "mean speed in the picture's left half"),
    Dim("energy_right", "picture heights/s", "mean speed in the picture's right half"),
    Dim("presence", "1", "always 1: there is always something to see"),
)  # fmt: skip

FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(before, after) uint8 [h, w] -> float [h, w, 2]: by how many pixels each point moved right and down."""


class FlowEncoder(Encoder):
    """Encodes a clip's visible motion; see `DIMS`."""

    name = "flow"
    version = "2"
    rate_hz = RATE_HZ
    view = THUMBNAIL
    dims = tuple(dim.name for dim in DIMS)

    def __init__(self) -> None:
        self._function: FlowFunction | None = None
        self._last: Picture | None = None
        self._times: list[float] = []
        self._fields: list[np.ndarray] = []

    def identity(self) -> dict:
        """See `encoder.Encoder`."""
        return {**super().identity(), "method": flow_method()}

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        self._function = make_flow_function()
        self._last, self._times, self._fields = None, [], []

    def feed(self, picture: Picture) -> None:
        """See `encoder.Encoder`."""
        if self._last is not None and self._last.pixels.shape == picture.pixels.shape:
            seconds = picture.time_s - self._last.time_s
            flow = self._function(self._last.pixels, picture.pixels)
            self._fields.append(summarise_flow(flow, seconds))
            self._times.append((picture.time_s + self._last.time_s) / 2)
        self._last = picture

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`."""
        rows = num_rows(duration, exact(self.rate_hz))
        values = flow_features(np.array(self._times), self._fields, rows)
        self.close()
        return values, np.ones(rows, dtype=bool)

    def close(self) -> None:
        """See `encoder.Encoder`."""
        self._function = self._last = None
        self._times, self._fields = [], []


_TOTALS = ("motion_x", "motion_y", "expansion", "peak", "area", "camera_x", "camera_y", "energy", "left", "right")
_FINE_CELLS = GRID_ROWS * _FINE * GRID_COLUMNS * _FINE


def summarise_flow(flow: np.ndarray, seconds: float) -> np.ndarray:
    """One pair of pictures: [cells of the grid, totals, vectors of the finer grid], in picture heights a second.

    Args:
        flow: [h, w, 2] pixels right and down.
        seconds: between the two pictures.
    """
    height, width = flow.shape[:2]
    velocity = flow * (np.array([1.0, -1.0]) / (height * seconds))
    band_y, band_x = max(1, height // 10), max(1, width // 10)
    border = np.concatenate(
        [velocity[:band_y].reshape(-1, 2), velocity[:, :band_x].reshape(-1, 2), velocity[:, -band_x:].reshape(-1, 2)]
    )
    camera = np.median(border, axis=0)
    velocity = velocity - camera
    velocity = signals.without_noise(velocity, NOISE)
    speed = np.linalg.norm(velocity, axis=-1)
    expansion = np.gradient(velocity[..., 0], axis=1).mean() - np.gradient(velocity[..., 1], axis=0).mean()
    half = width // 2
    totals = [
        velocity[..., 0].mean(),
        velocity[..., 1].mean(),
        expansion * height,
        np.partition(speed.ravel(), int(0.95 * speed.size))[int(0.95 * speed.size)],
        (speed > 0).mean(),
        *camera,
        speed.mean(),
        speed[:, :half].mean(),
        speed[:, width - half :].mean(),
    ]
    cells = _cell_means(speed[..., None], GRID_ROWS, GRID_COLUMNS).ravel()
    vectors = _cell_means(velocity, GRID_ROWS * _FINE, GRID_COLUMNS * _FINE).ravel()
    return np.concatenate([cells, totals, vectors])


def flow_features(times_s: np.ndarray, fields: list[np.ndarray], rows: int) -> np.ndarray:
    """Features of a clip.

    Args:
        times_s: [N] the middle between the two pictures of each field.
        fields: N results of `summarise_flow`.
        rows: T.

    Returns:
        float32 [T, D].
    """
    cells = GRID_ROWS * GRID_COLUMNS
    if not fields:
        values = np.zeros((rows, len(DIMS)), dtype=np.float32)
        values[:, -1] = 1
        return values
    at = np.arange(rows) / RATE_HZ
    table = signals.smooth(np.stack([np.interp(at, times_s, column) for column in np.stack(fields).T], axis=1))
    vectors = table[:, cells + len(_TOTALS) :].reshape(rows, _FINE_CELLS, 2)
    accent = signals.accents(vectors, [(0, rows)]).mean(axis=1)
    total = {name: table[:, cells + i] for i, name in enumerate(_TOTALS)}
    shape = [total[name] for name in _TOTALS[:7]]
    summary = [total["energy"], accent, total["left"], total["right"], np.ones(rows)]
    return np.concatenate([table[:, :cells], np.stack(shape + summary, axis=1)], axis=1).astype(np.float32)


def _cell_means(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """[h, w, C] -> [rows, columns, C]."""
    height, width = values.shape[:2]
    upper = np.add.reduceat(values, np.arange(rows) * height // rows, axis=0)
    sums = np.add.reduceat(upper, np.arange(columns) * width // columns, axis=1)
    tall = np.diff(np.append(np.arange(rows) * height // rows, height))
    wide = np.diff(np.append(np.arange(columns) * width // columns, width))
    return sums / (tall[:, None] * wide[None, :])[..., None]


@functools.cache
def flow_method() -> str:
    """`dis` with OpenCV, `lucas-kanade` where OpenCV can't be loaded."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return "lucas-kanade"
    return "dis"


def make_flow_function() -> FlowFunction:
    """A fresh flow function of this machine's method."""
    if flow_method() == "dis":
        import cv2

        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        return lambda before, after: flow.calc(before, after, None)
    return lucas_kanade


def lucas_kanade(before: np.ndarray, after: np.ndarray, levels: int = 3, rounds: int = 3) -> np.ndarray:
    """Dense coarse-to-fine Lucas-Kanade flow (least squares on 9 x 9 windows) in plain numpy."""
    pyramid = [(before.astype(np.float32), after.astype(np.float32))]
    while len(pyramid) < levels and min(pyramid[-1][0].shape) >= 32:
        pyramid.append((_halve(pyramid[-1][0]), _halve(pyramid[-1][1])))
    flow = np.zeros((*pyramid[-1][0].shape, 2), dtype=np.float32)
    for first, second in reversed(pyramid):
        if flow.shape[:2] != first.shape:
            flow = 2 * np.repeat(np.repeat(flow, 2, axis=0), 2, axis=1)
            missing = [(0, first.shape[0] - flow.shape[0]), (0, first.shape[1] - flow.shape[1]), (0, 0)]
            flow = np.pad(flow, missing, mode="edge")
        slope_y, slope_x = np.gradient(first)
        xx, yy, xy = (_box(part) for part in (slope_x * slope_x, slope_y * slope_y, slope_x * slope_y))
        damping = 9.0  # grey levels squared: keeps plain walls still
        determinant = (xx + damping) * (yy + damping) - xy * xy
        for _ in range(rounds):
            change = _warp(second, flow) - first
            tx, ty = _box(slope_x * change), _box(slope_y * change)
            step = np.stack([xy * ty - (yy + damping) * tx, xy * tx - (xx + damping) * ty], axis=-1)
            flow = flow + np.clip(step / determinant[..., None], -2, 2)
        flow = np.stack([_box(flow[..., 0]), _box(flow[..., 1])], axis=-1)
    return flow


def _halve(grey: np.ndarray) -> np.ndarray:
    rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
    return grey[: rows * 2, : columns * 2].reshape(rows, 2, columns, 2).mean(axis=(1, 3))


def _box(values: np.ndarray, reach: int = 4) -> np.ndarray:
    """Mean over a square window, by running sums."""
    size = 2 * reach + 1
    for axis in (0, 1):
        margin = [(reach + 1, reach) if i == axis else (0, 0) for i in (0, 1)]
        sums = np.cumsum(np.pad(values, margin, mode="edge"), axis=axis, dtype=np.float64)
        values = (sums[size:] - sums[:-size] if axis == 0 else sums[:, size:] - sums[:, :-size]) / size
    return values.astype(np.float32)


def _warp(grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Read `grey` where the flow points, bilinearly."""
    height, width = grey.shape
    y = np.clip(np.arange(height)[:, None] + flow[..., 1], 0, height - 1.001)
    x = np.clip(np.arange(width)[None, :] + flow[..., 0], 0, width - 1.001)
    row, column = y.astype(int), x.astype(int)
    down, right = y - row, x - column
    at = row * width + column
    flat = grey.ravel()
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width] * (1 - right) + flat[at + width + 1] * right
    return upper * (1 - down) + lower * down
