"""The `flow` encoder: motion of whoever or whatever is in the picture, from dense optical flow.

Frames are scaled to about 160 by 120 and grey. Flow is OpenCV's DIS; where OpenCV can't be loaded (its wheel needs
system libraries) a coarser Lucas-Kanade flow in numpy takes its place, under another identity. From each pair of frames
three things are removed that are not motion in the scene: changes of brightness, the camera's own motion (`camera`),
and flow that explains the new frame hardly better than no motion would, which is noise. Each shot is
measured by itself (`cuts`).
`left` and `right` are the picture's. Something is always seen: the mask is all True.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from expotion_cli.media.frames import Frame
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import signals
from expotion_cli.vision.encoder import RATE_HZ, THUMBNAIL, Dim, Encoder
from expotion_cli.vision.motion import FlowFunction, Motion, find_motion, flow_method, make_flow_function
from expotion_cli.vision.row_buffer import RowBuffer

GRID_ROWS, GRID_COLUMNS = 3, 4
_FINE = 2  # accents are taken on a grid this many times finer
NOISE = 0.01
"""Picture heights a second: what compression noise looks like; it is taken off every speed."""
NOTHING = 2e-4
"""Picture heights a second, mean over the picture: what a coarsely coded still image may seem to move."""

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
    Dim("camera_zoom", "1/s", "removed camera motion: things grow where positive"),
    Dim("camera_roll", "rad/s", "removed camera motion: the picture turns counter-clockwise where positive"),
    Dim("energy", "picture heights/s", "mean speed over the picture"),
    Dim("accent", "picture heights/s, >= 0", "peaks where motion stops or turns sharply, mean over the picture"),
    Dim("energy_left", "picture heights/s", "mean speed in the picture's left half"),
    Dim("energy_right", "picture heights/s", "mean speed in the picture's right half"),
    Dim("presence", "1", "always 1: there is always something to see"),
)  # fmt: skip


class FlowEncoder(Encoder):
    """Encodes a clip's visible motion; see `DIMS`."""

    name = "flow"
    version = "4"
    rate_hz = RATE_HZ
    view = THUMBNAIL
    dims = tuple(dim.name for dim in DIMS)

    def __init__(self) -> None:
        self._function: FlowFunction | None = None
        self._last: Frame | None = None
        self._pairs: list[tuple[float, float]] = []
        self._cuts: list[float] = []
        self._fields: RowBuffer | None = None

    def identity(self) -> dict:
        """See `encoder.Encoder`."""
        return {**super().identity(), "method": flow_method()}

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        self.close()
        self._function = make_flow_function()
        self._fields = RowBuffer(FIELD)

    def feed(self, frame: Frame) -> None:
        """See `encoder.Encoder`."""
        assert self._function is not None and self._fields is not None
        if self._last is not None and self._last.pixels.shape != frame.pixels.shape:
            self.begin_shot(frame.time_s)  # pictures of two sizes can't be compared
        if self._last is not None:
            start, end = self._last.time_s, frame.time_s
            motion = find_motion(self._last.pixels, frame.pixels, self._function)
            self._fields.add(summarise_motion(motion, len(frame.pixels), end - start))
            self._pairs.append((start, end))
        self._last = frame

    def begin_shot(self, time_s: float) -> None:
        """See `encoder.Encoder`."""
        self._cuts.append(time_s)
        if self._last is not None and time_s > self._last.time_s:
            self._last = None

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`."""
        assert self._fields is not None
        rows = num_rows(duration, exact(self.rate_hz))
        values = flow_features(self._pairs, self._fields.read, rows, self._cuts)
        self.close()
        return values, np.ones(rows, dtype=bool)

    def close(self) -> None:
        """See `encoder.Encoder`."""
        self._function = self._last = None
        self._pairs, self._cuts = [], []
        if self._fields is not None:
            self._fields.close()
            self._fields = None


_TOTALS = (
    "motion_x", "motion_y", "expansion", "peak", "area", "camera_x", "camera_y", "camera_zoom", "camera_roll", "energy",
    "left", "right",
)  # fmt: skip
_CELLS, _FINE_CELLS = GRID_ROWS * GRID_COLUMNS, GRID_ROWS * _FINE * GRID_COLUMNS * _FINE
FIELD = _CELLS + len(_TOTALS) + 2 * _FINE_CELLS
"""Numbers of one pair of frames: cells of the grid, totals, vectors of the finer grid."""
_BLOCK_ROWS = 2048


def summarise_motion(motion: Motion, height: int, seconds: float) -> np.ndarray:
    """One pair of frames: float32 [FIELD], by heights a second.

    Args:
        motion: what moved.
        height: of the picture, in pixels.
        seconds: between the two frames.
    """
    per_pixel = 1 / (height * seconds)
    velocity = signals.without_noise(motion.pixels * (per_pixel * np.array([1.0, -1.0])), NOISE)
    camera = motion.camera
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    if speed.mean() < NOTHING:
        velocity, speed = np.zeros_like(velocity), np.zeros_like(speed)
    blocks_wide = speed.shape[1]
    side = motion.block / height
    growth = sum(
        np.gradient(velocity[..., i], axis=1 - i).mean() * (1, -1)[i] for i in (0, 1) if speed.shape[1 - i] > 1
    )
    half = max(1, blocks_wide // 2)
    totals = [
        velocity[..., 0].mean(),
        velocity[..., 1].mean(),
        growth / side,
        np.partition(speed.ravel(), int(0.95 * speed.size))[int(0.95 * speed.size)],
        (speed > 0).mean(),
        camera.right * per_pixel,
        -camera.down * per_pixel,
        camera.zoom / seconds,
        -camera.roll / seconds,
        speed.mean(),
        speed[:, :half].mean(),
        speed[:, blocks_wide - half :].mean(),
    ]
    cells = _cell_means(speed[..., None], GRID_ROWS, GRID_COLUMNS).ravel()
    vectors = _cell_means(velocity, GRID_ROWS * _FINE, GRID_COLUMNS * _FINE).ravel()
    return np.concatenate([cells, totals, vectors]).astype(np.float32)


def flow_features(
    pairs: list[tuple[float, float]],
    read: Callable[[int, int], np.ndarray],
    rows: int,
    cuts_s: Sequence[float] = (),
) -> np.ndarray:
    """Features of a clip.

    Args:
        pairs: N times of the two frames of each field.
        read: (start, stop) → [stop - start, FIELD], results of `summarise_motion`.
        rows: T.
        cuts_s: when new shots begin; pairs across them don't count.

    Returns:
        float32 [T, D]; each shot's rows come from its own pairs, as if it were a clip.
    """
    values = np.zeros((rows, len(DIMS)), dtype=np.float32)
    values[:, -1] = 1
    at = np.arange(rows) / RATE_HZ
    times = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    for shot in signals.shots(cuts_s, times[:, 0], rows, RATE_HZ):
        (start, stop), (first_row, stop_row) = shot.frames, shot.rows
        while stop > start and any(times[stop - 1, 0] < cut - 1e-6 <= times[stop - 1, 1] for cut in cuts_s):
            stop -= 1  # the pair across a dissolve's middle
        if start == stop:
            continue
        middles = times[start:stop].mean(axis=1)
        for low in range(first_row, stop_row, _BLOCK_ROWS):
            high = min(low + _BLOCK_ROWS, stop_row)
            # smoothing and accents each look at one row to either side
            wide = slice(max(first_row, low - 2), min(stop_row, high + 2))
            near = np.searchsorted(middles, at[[wide.start, wide.stop - 1]])
            some = slice(max(0, int(near[0]) - 1), int(near[1]) + 2)
            fields = read(start + some.start, start + min(some.stop, len(middles)))
            part = _scene_rows(at[wide], middles[some], fields)
            values[low:high, :-1] = part[low - wide.start : high - wide.start]
    return values


def _scene_rows(at: np.ndarray, middles: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """[n, D - 1] of rows at these times, from one scene's fields with these times; never further than two rows off."""
    table = np.stack([np.interp(at, middles, column) for column in fields.T], axis=1)
    table = signals.smooth(table)
    vectors = table[:, _CELLS + len(_TOTALS) :].reshape(-1, _FINE_CELLS, 2)
    total = {name: table[:, _CELLS + i] for i, name in enumerate(_TOTALS)}
    accent = signals.accents(vectors, [(0, len(vectors))]).mean(axis=1)
    summary = [total["energy"], accent, total["left"], total["right"]]
    return np.concatenate([table[:, : _CELLS + 9], np.stack(summary, axis=1)], axis=1)


def _cell_means(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """[h, w, C] -> [rows, columns, C]; cells share blocks where there are fewer blocks than cells."""
    height, width = values.shape[:2]
    edges_y, edges_x = (np.arange(count + 1) * size // count for count, size in ((rows, height), (columns, width)))
    upper = np.add.reduceat(values, edges_y[:-1], axis=0)
    sums = np.add.reduceat(upper, edges_x[:-1], axis=1)
    tall, wide = (np.maximum(1, np.diff(edges)) for edges in (edges_y, edges_x))
    return sums / (tall[:, None] * wide[None, :])[..., None]
