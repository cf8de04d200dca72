"""Optical flow in plain numpy, for machines where OpenCV can't be loaded: coarser and slower than DIS."""

from __future__ import annotations

import numpy as np


def lucas_kanade(before: np.ndarray, after: np.ndarray, levels: int = 3, rounds: int = 3) -> np.ndarray:
    """Dense coarse-to-fine flow by least squares on 9 x 9 windows (Lucas and Kanade 1981; pyramids as in Bouguet 2001).

    Args:
        before: uint8 [h, w].
        after: uint8 [h, w].
        levels: how many sizes of the frames, each half the one before.
        rounds: iterations on each size.

    Returns:
        float32 [h, w, 2], pixels right and down.
    """
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
        xx, yy, xy = (box(np.asarray(part)) for part in (slope_x * slope_x, slope_y * slope_y, slope_x * slope_y))
        damping = 9.0  # grey levels squared: keeps plain walls still
        determinant = (xx + damping) * (yy + damping) - xy * xy
        for _ in range(rounds):
            change = warp(second, flow) - first
            tx, ty = box(slope_x * change), box(slope_y * change)
            step = np.stack([xy * ty - (yy + damping) * tx, xy * tx - (xx + damping) * ty], axis=-1)
            flow = flow + np.clip(step / determinant[..., None], -2, 2)
        flow = np.stack([box(flow[..., 0]), box(flow[..., 1])], axis=-1)
    return flow


def warp(grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Read `grey` [h, w] where the flow [h, w, 2] points, bilinearly."""
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


def _halve(grey: np.ndarray) -> np.ndarray:
    rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
    return grey[: rows * 2, : columns * 2].reshape(rows, 2, columns, 2).mean(axis=(1, 3))


def box(values: np.ndarray, reach: int = 4) -> np.ndarray:
    """Mean over a square window, by running sums."""
    size = 2 * reach + 1
    for axis in (0, 1):
        margin = [(reach + 1, reach) if i == axis else (0, 0) for i in (0, 1)]
        sums = np.cumsum(np.pad(values, margin, mode="edge"), axis=axis, dtype=np.float64)
        values = (sums[size:] - sums[:-size] if axis == 0 else sums[:, size:] - sums[:, :-size]) / size
    return values.astype(np.float32)
