"""How much of one small picture is new against another, whatever light and camera did between them."""

from __future__ import annotations

import numpy as np

UNLIKE = 0.35
"""Pictures of which a larger share is new show different things."""

_BLOCK, _REACH = 8, 3
_FLOOR = 40.0  # squared levels that two pictures of one thing may differ by
_SHARE = 0.5  # ... and more by this share of their own contrast
_MIN_OVERLAP = 0.35

_TO_PLANES = np.array(
    [[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], dtype=np.float32
)  # ITU-R BT.601


def to_planes(rgb: np.ndarray) -> np.ndarray:
    """float32 [3, h, w] of a frame [h, w, 3]: brightness and two colour differences, in levels of 0..255."""
    height, width = rgb.shape[:2]
    return (_TO_PLANES @ rgb.reshape(-1, 3).T.astype(np.float32)).reshape(3, height, width)


def unlike(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the picture that nothing near it in the other explains, 0..1, whatever light and camera did.

    Both are brought to the same brightness and contrast. Blocks may have moved a little, and everything together by as
    much as leaves a good part of the picture in sight (found by phase correlation).

    Args:
        before: [3, h, w] from `to_planes`.
        after: [3, h, w].
    """
    before, after = _same_light(before, after)
    found = _unexplained(before, after)
    down, right = _shift(before[0], after[0])
    height, width = before.shape[1:]
    if max(abs(down), abs(right)) >= _REACH and found > 0:
        tall, wide = height - abs(down), width - abs(right)
        if tall * wide >= _MIN_OVERLAP * height * width and min(tall, wide) >= _BLOCK:
            here = before[:, max(0, -down) :, max(0, -right) :][:, :tall, :wide]
            there = after[:, max(0, down) :, max(0, right) :][:, :tall, :wide]
            found = min(found, _unexplained(here, there))
    return found


def _same_light(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, the one of more contrast brought to the brightness and contrast of the other."""
    levels, others = (np.percentile(planes[0], (10, 30, 50, 70, 90)) for planes in (one, other))
    gain = (others[-1] - others[0] + 4) / (levels[-1] - levels[0] + 4)
    if gain > 1:
        other, one = _same_light(other, one)
        return one, other
    matched = one * np.float32(gain)
    matched[0] += np.float32(others.mean() - gain * levels.mean())
    return matched, other


def _unexplained(before: np.ndarray, after: np.ndarray) -> float:
    height, width = before.shape[1:]
    padded = np.pad(after, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)), mode="edge")
    best = np.full((height // _BLOCK, width // _BLOCK), np.inf, dtype=np.float32)
    for y in range(2 * _REACH + 1):
        for x in range(2 * _REACH + 1):
            off = padded[:, y : y + height, x : x + width] - before
            np.minimum(best, _block_means(np.einsum("chw,chw->hw", off, off)), out=best)
    contrast = (_block_variance(before) + _block_variance(after)) / 2
    return float(np.clip(best / (_FLOOR + _SHARE * contrast) - 0.5, 0, 1).mean())


def _shift(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Pixels by which the whole moved down and right (phase correlation, Kuglin and Hines 1975)."""
    height, width = before.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    one, other = (np.fft.rfft2((part - part.mean()) * window) for part in (before, after))
    cross = one.conj() * other
    size = abs(cross)
    peak = int(np.fft.irfft2(cross / (size + 1e-3 * size.max() + 1e-9), s=(height, width)).argmax())
    down, right = divmod(peak, width)
    return down - height * (down > height // 2), right - width * (right > width // 2)


def change_between(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference in levels, less what the whole picture has in common."""
    off = after - before
    off[0] -= off[0].mean()
    return 3 * float(np.abs(off, out=off).mean())


def contrast_of(planes: np.ndarray) -> float:
    """How much the brightness varies, in levels."""
    return float(planes[0].std())


def _block_means(values: np.ndarray) -> np.ndarray:
    rows, columns = values.shape[0] // _BLOCK, values.shape[1] // _BLOCK
    values = values[: rows * _BLOCK, : columns * _BLOCK]
    return values.reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))


def _block_variance(planes: np.ndarray) -> np.ndarray:
    return sum(_block_means(plane * plane) - _block_means(plane) ** 2 for plane in planes)
