"""Made shots and what can happen in and between them, as lists of small frames with known cuts."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

HEIGHT, WIDTH = 240, 320
Frames = list[np.ndarray]
"""uint8 [240, 320, 3] each."""


@functools.cache
def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A coloured scene of its own for each seed: patches of several sizes, and lights of its own colour."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for size, depth in ((64, 1.0), (24, 0.8), (8, 0.4)):
        coarse = rng.normal(0, 1, (height // size + 3, width // size + 3, 3)) * 0.4
        coarse += rng.normal(0, 1, (height // size + 3, width // size + 3, 1))
        total += depth * _smooth_up(coarse, size, height, width)
    total = (total - total.mean()) / total.std()
    return np.clip(rng.uniform(90, 150) + rng.uniform(-30, 30, 3) + rng.uniform(30, 50) * total, 0, 255).astype(
        np.uint8
    )


def _smooth_up(coarse: np.ndarray, size: int, height: int, width: int) -> np.ndarray:
    for axis, length in ((0, height), (1, width)):
        at = np.arange(length) / size
        low = at.astype(int)
        part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        coarse = np.take(coarse, low, axis) * (1 - part) + np.take(coarse, low + 1, axis) * part
    return coarse


@functools.cache
def portrait(variant: str, count: int = 50) -> tuple[np.ndarray, ...]:
    """The demo's swaying person, as they are or `mirrored`, `near` (larger) or `blue`."""
    import dataclasses

    from expotion_cli.demo import DEMO_CLIPS, render_frames

    clip = dataclasses.replace(DEMO_CLIPS[0], duration_s=count / DEMO_CLIPS[0].fps)
    frames = []
    for whole in render_frames(clip):
        frame = whole[::2, ::2]
        if variant == "mirrored":
            frame = frame[:, ::-1]
        elif variant == "near":
            frame = whole[40:280, 160:480]
        elif variant == "blue":
            frame = frame[..., ::-1]
        frames.append(np.ascontiguousarray(frame))
    return tuple(frames)


def person(variant: str, count: int) -> Frames:
    """So many frames of `portrait`."""
    return list(portrait(variant)[:count])


def still(seed: int, count: int) -> Frames:
    """A steady shot, with a little noise as of a sensor."""
    return noisy([picture(seed)] * count, 2, seed)


def noisy(frames: Frames, levels: float, seed: int = 0) -> Frames:
    """The frames with noise of this standard deviation."""
    rng = np.random.default_rng(seed)
    return [_clipped(frame + rng.normal(0, levels, frame.shape)) for frame in frames]


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def pan(seed: int, speeds: list[float]) -> Frames:
    """A camera that pans by these numbers of pixels a frame, blurred as by a shutter open for half the time."""
    wall = picture(seed, HEIGHT, 4000)
    frames, at = [], 0.0
    for speed in speeds:
        places = at + np.linspace(0, speed / 2, max(1, min(8, round(abs(speed) / 4))))
        frames.append(_clipped(np.mean([_window(wall, place) for place in places], axis=0)))
        at += speed
    return frames


def _window(wall: np.ndarray, left: float) -> np.ndarray:
    start = int(left) % (wall.shape[1] - WIDTH)
    return wall[:, start : start + WIDTH].astype(np.float32)


def zoom(seed: int, count: int, growth: float) -> Frames:
    """A camera that zooms in, by this factor over the whole time."""
    wide = picture(seed, 3 * HEIGHT, 3 * WIDTH)
    frames = []
    for i in range(count):
        scale = 2.5 / growth ** (i / max(1, count - 1))
        rows = ((np.arange(HEIGHT) - HEIGHT / 2) * scale + 1.5 * HEIGHT).astype(int)
        columns = ((np.arange(WIDTH) - WIDTH / 2) * scale + 1.5 * WIDTH).astype(int)
        frames.append(wide[rows][:, columns])
    return frames


def passer_by(seed: int, count: int, crossing: int, width: int = 200) -> Frames:
    """Somebody dark and as wide as this passes close to the camera within so many frames."""
    coat = picture(seed + 1000, HEIGHT, width) // 3
    frames = still(seed, count)
    first = (count - crossing) // 2
    for i in range(crossing):
        left = round(-width + (i + 1) / (crossing + 1) * (WIDTH + width))
        low, high = max(0, left), min(WIDTH, left + width)
        if high > low:
            frames[first + i] = frames[first + i].copy()
            frames[first + i][:, low:high] = coat[:, low - left : high - left]
    return frames


def flash(frames: Frames, at: int, length: int, gain: float = 3.0, offset: float = 80.0) -> Frames:
    """The frames with a flash of this length."""
    result = list(frames)
    for i in range(at, at + length):
        result[i] = _clipped(gain * frames[i].astype(float) + offset)
    return result


def light(frames: Frames, gain: Callable[[int], float]) -> Frames:
    """The frames, each as bright as this function of its number says."""
    return [_clipped(frame * gain(i)) for i, frame in enumerate(frames)]


def black(count: int) -> Frames:
    """Black frames."""
    return [np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)] * count


def dissolve(before: Frames, after: Frames, length: int) -> Frames:
    """The two shots, the last frames of one laid over the first ones of the other."""
    mixed = []
    for i in range(length):
        share = (i + 1) / (length + 1)
        mixed.append(_clipped((1 - share) * before[len(before) - length + i] + share * after[i].astype(float)))
    return before[: len(before) - length] + mixed + after[length:]


def small(frame: np.ndarray) -> np.ndarray:
    """A frame as the cut finder gets it: [48, 64, 3]."""
    height, width = frame.shape[0] // 5 * 5, frame.shape[1] // 5 * 5
    parts = frame[:height, :width].reshape(height // 5, 5, width // 5, 5, 3)
    return np.rint(parts.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)
