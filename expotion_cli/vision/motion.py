"""Motion between two small grey frames, without that of the camera and without changes of light or noise.

Dense flow is OpenCV's DIS (Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search", arXiv:1603.03590).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from expotion_cli.errors import MissingLibraryError
from expotion_cli.vision.camera import STILL, Camera, find_camera, is_confirmed
from expotion_cli.vision.libraries import missing_libraries
from expotion_cli.vision.lucas_kanade import box, lucas_kanade, warp

FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(before, after) uint8 [h, w] -> float [h, w, 2]: by how many pixels each point moved right and down."""

_BLOCK = 4
_MIN_BLOCKS = 16
_PLAIN = 4.0
"""Grey levels squared: differences of this size are what coding and sensors leave of a still image."""
_EXPLAINED = (0.2, 0.45)
"""Share of the difference between two frames that motion must explain: up to the first it counts as none, from the
second on in full."""
_TRUSTED_SLOPE = 30.0
_SMALLEST = 32
"""Pixels of the shorter side: for smaller frames DIS has no pyramid."""


@dataclass(frozen=True)
class Motion:
    """What moved from one frame to the next, on blocks of the picture.

    Attributes:
        pixels: [h, w, 2] right and down, the camera's part taken off; zero where nothing shows that anything moved.
        camera: what was taken off.
        block: side of a block in pixels.
    """

    pixels: np.ndarray
    camera: Camera
    block: int


def find_motion(before: np.ndarray, after: np.ndarray, function: FlowFunction) -> Motion:
    """What moved between two frames [h, w] uint8 of one size and one shot."""
    if np.array_equal(before, after):
        block = _block_of(before.shape)
        return Motion(np.zeros((before.shape[0] // block, before.shape[1] // block, 2)), STILL, block)
    block = _block_of(before.shape)
    after = match_brightness(before, after, block)
    flow = function(before, after)
    first, second = before.astype(np.float32), after.astype(np.float32)
    unexplained = _high_pass(_warp(second, flow) - first)
    flow_blocks = block_means(flow, block)
    height, width = flow_blocks.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32) * block
    x, y = x - x[0, -1] / 2, y - y[-1, 0] / 2
    left, gone = (_soften(block_means(part * part, block)) for part in (unexplained, _high_pass(second - first)))
    camera = find_camera(flow_blocks, _texture(first, block), x, y)
    if camera is not STILL:
        rows, columns = (np.arange(size, dtype=np.float32) - (size - 1) / 2 for size in before.shape)
        steadied = _high_pass(_warp(second, camera.flow_at(*np.meshgrid(columns, rows))) - first)
        steadied = _soften(block_means(steadied * steadied, block))
        if is_confirmed(gone, steadied, x, y):
            gone = steadied
        else:
            camera = STILL
    # what the camera alone explains as well as the flow does has not moved by itself
    low, high = _EXPLAINED
    noise = _PLAIN + 2 * float(np.percentile(left, 20))
    sure = np.clip(((gone - left) / (gone + noise) - low) / (high - low), 0, 1)
    return Motion((flow_blocks - camera.flow_at(x, y)) * sure[..., None], camera, block)


def match_brightness(before: np.ndarray, after: np.ndarray, block: int) -> np.ndarray:
    """`after` as bright as `before`: a lamp, a fade or a change of exposure is not motion.

    One gain and one offset for the whole frame, such as fit most of it: a dark coat coming in changes nothing.
    """
    old, new = (block_means(frame.astype(np.float32), block).ravel() for frame in (before, after))
    gain, offset = 1.0, float(np.median(old - new))
    if float(np.median(np.abs(old - new))) < 0.5:
        return after
    for _ in range(4):
        off = np.abs(gain * new + offset - old)
        share = 1 / (1 + (off / max(1.0, 1.5 * float(np.median(off)))) ** 2)
        total = share.sum()
        mean_new, mean_old = (share * new).sum() / total, (share * old).sum() / total
        spread = (share * (new - mean_new) ** 2).sum() + total
        gain = float(np.clip(((share * (new - mean_new) * (old - mean_old)).sum() + total) / spread, 0.5, 2.0))
        offset = float(mean_old - gain * mean_new)
    return np.clip(np.rint(gain * after.astype(np.float32) + offset), 0, 255).astype(np.uint8)


def block_means(values: np.ndarray, block: int) -> np.ndarray:
    """[h, w, ...] -> [h // block, w // block, ...]."""
    rows, columns = values.shape[0] // block, values.shape[1] // block
    values = values[: rows * block, : columns * block]
    # adding slices is several times faster than a mean over short axes
    values = functools.reduce(np.add, (values[i::block] for i in range(block)))
    return functools.reduce(np.add, (values[:, i::block] for i in range(block))) / np.float32(block * block)


def _block_of(shape: tuple[int, ...]) -> int:
    block = _BLOCK
    while block > 1 and min(shape) // block < _MIN_BLOCKS:
        block //= 2
    return block


def _soften(values: np.ndarray) -> np.ndarray:
    """(1 2 1) / 4 along both axes."""
    for axis in (0, 1):
        padded = np.concatenate([values.take([0], axis), values, values.take([-1], axis)], axis=axis)
        size = values.shape[axis]
        parts = [padded.take(range(start, start + size), axis) for start in (0, 1, 2)]
        values = (parts[0] + 2 * parts[1] + parts[2]) / 4
    return values


def _texture(grey: np.ndarray, block: int) -> np.ndarray:
    """[h, w, 3] of blocks, see `find_camera`: squared slopes, which tell along which direction motion shows."""
    slope_y, slope_x = np.gradient(grey)
    parts = np.stack([slope_x * slope_x, slope_y * slope_y, slope_x * slope_y], axis=-1)
    tensor = _soften(block_means(parts, block))
    return tensor / (tensor[..., :1] + tensor[..., 1:2] + _TRUSTED_SLOPE)


def _high_pass(values: np.ndarray) -> np.ndarray:
    """Less the mean of the surroundings: what is left when light comes and goes in one place."""
    cv2 = _opencv()
    if cv2 is not None:
        return values - cv2.blur(values, (15, 15), borderType=cv2.BORDER_REPLICATE)

    return values - box(values, reach=7)


def _warp(grey: np.ndarray, flow: np.ndarray) -> np.ndarray:
    cv2 = _opencv()
    if cv2 is None:
        return warp(grey, flow).astype(np.float32)
    here_x, here_y = _grid(grey.shape)
    flow = np.asarray(flow, dtype=np.float32)
    return cv2.remap(
        grey, here_x + flow[..., 0], here_y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


@functools.lru_cache(maxsize=4)
def _grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return x, y


def _opencv():
    if flow_method() != "dis":
        return None
    import cv2

    return cv2


@functools.cache
def flow_method() -> str:
    """`dis` with OpenCV, `lucas-kanade` where OpenCV can't be loaded.

    Planning asks this for every clip, so OpenCV is imported only where a system library of its wheel is missing, to see
    whether this build needs it.
    """
    if importlib.util.find_spec("cv2") is None:
        return "lucas-kanade"
    if not missing_libraries():
        return "dis"
    try:
        import cv2  # noqa: F401
    except ImportError:
        return "lucas-kanade"
    return "dis"


def make_flow_function() -> FlowFunction:
    """A fresh flow function of this machine's method.

    Raises:
        MissingLibraryError: OpenCV is installed, but damaged.
    """
    if flow_method() == "dis":
        try:
            import cv2
        except ImportError as error:
            raise MissingLibraryError(
                f"OpenCV is installed but can't be loaded ({error}).",
                remedy="Reinstall opencv-contrib-python, or uninstall it to do without.",
            ) from error

        # Any, because OpenCV's stubs want an array to write to.
        flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

        def dis(before: np.ndarray, after: np.ndarray) -> np.ndarray:
            if min(before.shape) < _SMALLEST:
                return lucas_kanade(before, after)
            return flow.calc(before, after, None)

        return dis
    return lucas_kanade
