"""What the camera did between two frames: moved, turned or zoomed, estimated from the flow along the frame's border.

A person stands in the middle and comes in from below; the picture's upper, left and right border mostly show what
stands still. So the border's flow is asked first whether it stands still: then so does the camera, however much of the
rest moves. Only if it moves as one, on more than one side, is that taken for the camera: a translation, a turn and a
zoom, fitted robustly so that who moves against it does not pull at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BAND = 0.12
"""Depth of the border, as a share of the picture's height and width."""
_PRECISION = 0.12
"""Pixels by which the flow of what stands still may be off."""
_INNER = 0.1  # how much a block inside the border counts
_MIN_TEXTURE = 0.01
_MIN_EVIDENCE = 0.002
_AT_REST = 0.95
_MAJORITY = 2.0
_CAP = 300.0  # grey levels squared: one bright thing that passes is not the whole border
_SLACK = (16.0, 6.0, 3.0, 1.5, 1.0)


@dataclass(frozen=True)
class Camera:
    """How still things move in the picture because the camera moves.

    Attributes:
        right, down: of the picture's middle, in pixels.
        zoom: relative growth.
        roll: in radians, clockwise as seen in the picture.
    """

    right: float = 0.0
    down: float = 0.0
    zoom: float = 0.0
    roll: float = 0.0

    def flow_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[..., 2] pixels right and down of points that lie x right of and y below the picture's middle (pixels)."""
        flow = np.empty((*np.shape(x), 2), dtype=np.result_type(x, np.float32))
        flow[..., 0] = self.right + self.zoom * x - self.roll * y
        flow[..., 1] = self.down + self.roll * x + self.zoom * y
        return flow


STILL = Camera()


def find_camera(flow: np.ndarray, texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> Camera:
    """The camera's motion between two frames, `STILL` unless there is good evidence of another.

    Args:
        flow: [h, w, 2] pixels right and down, on blocks of the picture.
        texture: [h, w, 3], each block's structure tensor (xx, yy, xy) with a trace of 0..1: how far its flow can be
            trusted, and along which direction.
        x: [h, w] the blocks' places, in pixels right of the frame's centre.
        y: [h, w] the blocks' places, in pixels below the frame's centre.
    """
    sides = border_sides(x, y)
    is_border = sides.any(axis=0)
    trust = texture[..., 0] + texture[..., 1]
    if (trust * is_border).sum() < _MIN_TEXTURE * is_border.sum():
        return STILL
    at_rest = _agreement(flow, texture, np.zeros(2))
    if (trust * at_rest * is_border).sum() > _AT_REST * (trust * is_border).sum():
        return STILL
    start = Camera(*(_weighted_median(flow[is_border][:, axis], texture[is_border][:, axis]) for axis in (0, 1)))
    camera = _fit(flow, texture * np.where(is_border, 1.0, _INNER).astype(np.float32)[..., None], x, y, start)
    # Blocks that suit both equally well (plain walls, lines along the motion) tell nothing; the others vote.
    vote = trust * (_agreement(flow, texture, camera.flow_at(x, y)) - at_rest)
    votes = [(float(np.maximum(vote[side], 0).sum()), float(np.maximum(-vote[side], 0).sum())) for side in sides]
    moved, still = np.sum(votes, axis=0)
    if moved < _MAJORITY * still or moved < _MIN_EVIDENCE * is_border.sum():
        return STILL
    return camera if sum(side_moved > side_still for side_moved, side_still in votes) >= 2 else STILL


def is_confirmed(standing: np.ndarray, moved: np.ndarray, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the border's frames themselves speak for the camera's motion: flow runs over from who moves beside it.

    Args:
        standing: [h, w] squared difference between the two frames on blocks.
        moved: [h, w] the same after the camera's motion is undone.
        x: as in `find_camera`.
        y: as in `find_camera`.
    """
    border = border_sides(x, y).any(axis=0)
    change = np.minimum(standing[border], _CAP) - np.minimum(moved[border], _CAP)
    return float(np.maximum(change, 0).sum()) > 1.25 * float(np.maximum(-change, 0).sum())


def border_sides(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """bool [3, h, w]: the blocks of the upper, left and right border; the lower third belongs to whoever is filmed."""
    half_width, half_height = abs(x).max(), abs(y).max()
    above = y < half_height * (1 / 3)
    upper = y < -half_height * (1 - 2 * BAND)
    reach = half_width * (1 - 2 * BAND)
    return np.stack([upper, (x < -reach) & above & ~upper, (x > reach) & above & ~upper])


def _agreement(flow: np.ndarray, texture: np.ndarray, expected: np.ndarray, slack: float = 1.0) -> np.ndarray:
    """[h, w] in 0..1: 1 where the flow is as expected, one half where it is off by its precision times `slack`.

    Only what the block's texture can tell counts: along a line nothing can be off.
    """
    allowed = slack * _PRECISION + 0.04 * np.hypot(expected[..., 0], expected[..., 1])
    off = flow - expected
    dx, dy, xx, yy, xy = off[..., 0], off[..., 1], texture[..., 0], texture[..., 1], texture[..., 2]
    off = (xx * dx * dx + yy * dy * dy + 2 * xy * dx * dy) / np.maximum(xx + yy, 1e-6)
    return 1 / (1 + off / allowed**2)


def _fit(flow: np.ndarray, texture: np.ndarray, x: np.ndarray, y: np.ndarray, start: Camera) -> Camera:
    """Least squares, again and again with what disagrees weighing less and less."""
    size = max(float(abs(x).max()), float(abs(y).max()), 1.0)
    ones, zeros = np.ones(x.size), np.zeros(x.size)
    across, along = x.ravel() / size, y.ravel() / size
    # what a unit of translation right, down, zoom and roll does to each block
    right, down = np.stack([ones, zeros, across, -along]), np.stack([zeros, ones, along, across])
    xx, yy, xy = texture.reshape(-1, 3).T
    u, v = flow.reshape(-1, 2).T
    camera = start
    for slack in _SLACK:
        share = _agreement(flow, texture, camera.flow_at(x, y), slack).ravel()
        by_right, by_down = share * (xx * right + xy * down), share * (xy * right + yy * down)
        damping = np.diag([1e-6, 1e-6, 1e-2, 1e-2]) * (share * (xx + yy)).sum() + 1e-9 * np.eye(4)
        solved = np.linalg.solve(by_right @ right.T + by_down @ down.T + damping, by_right @ u + by_down @ v)
        camera = Camera(float(solved[0]), float(solved[1]), float(solved[2]) / size, float(solved[3]) / size)
    return camera


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(sums, sums[-1] / 2)]])
