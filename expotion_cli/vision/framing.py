"""Chooses the part of a wide or tall frame that the face landmarker gets.

MediaPipe's face detector scales the whole frame to a small square, so in a wide frame it misses faces below about a
seventh of the frame's height. Where no face is found in the whole frame, overlapping squares of it are searched; if one
holds a face, the landmarker gets the square around that face until it is lost.
"""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.vision.tracking import FindPeople

LOST_S = 0.4
"""A face not found in its square for longer is searched for in the whole frame again."""

_OBLONG = 1.15  # squares of rounder frames would show no more than the whole ...
_THIN = 4.0  # ... and thinner ones would have too many
_OVERLAP = 0.5  # of neighbouring squares, at least
_EDGE = 0.2  # a face nearer to the square's edge (as a share of its side) moves the square
_HALF_FIELD = math.tan(math.radians(63 / 2))  # of MediaPipe's virtual camera: half the height at a distance of 1


class Framing:
    """Chooses the part of each frame, and brings what was found there to the whole frame.

    Args:
        find_people: [H, W, 3] → [n, 4] boxes, x0, y0, x1, y1 in pixels.
    """

    def __init__(self, find_people: FindPeople):
        self._find_people = find_people
        self._corner: tuple[int, int] | None = None  # (left, top) of the square in use
        self._box: np.ndarray | None = None  # of the largest face, if only squares showed any
        self._seen_s = -math.inf

    def find(self, rgb: np.ndarray) -> np.ndarray:
        """All people in a frame: those in the whole of it, or if there are none those in its squares."""
        self._box = None
        boxes = self._find_people(rgb)
        side = min(rgb.shape[:2])
        if len(boxes) or not _OBLONG <= max(rgb.shape[:2]) / side <= _THIN:
            return boxes
        found: list[np.ndarray] = []
        for left, top in corners(rgb.shape):
            part = np.ascontiguousarray(rgb[top : top + side, left : left + side])
            for box in self._find_people(part) + np.array([left, top, left, top]):
                if all(_apart(box, other) for other in found):
                    found.append(box)
        if not found:
            return boxes
        self._box = max(found, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        return np.array(found)

    def part(self, rgb: np.ndarray, time_s: float) -> np.ndarray:
        """The part of the next frame that the landmarker gets: all of it, or a square."""
        if self._corner is not None and time_s - self._seen_s > LOST_S:
            self._corner = None
        if self._corner is None and self._box is not None and time_s - self._seen_s > LOST_S:
            self._corner = _around((self._box[:2] + self._box[2:]) / 2, rgb.shape)
            self._seen_s = time_s
        self._box = None  # people move, so it holds for this frame only
        if self._corner is None:
            return rgb
        (left, top), side = self._corner, min(rgb.shape[:2])
        return np.ascontiguousarray(rgb[top : top + side, left : left + side])

    def report(self, time_s: float, centre: tuple[float, float] | None, shape: tuple[int, ...]) -> None:
        """Report where in that part the face was found (as shares of its sides), or None."""
        if centre is None:
            return
        self._seen_s = time_s
        if self._corner is not None and not all(_EDGE <= place <= 1 - _EDGE for place in centre):
            place = np.array(self._corner) + np.array(centre) * min(shape[:2])
            self._corner = _around(place, shape)

    def in_whole(self, matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The head's matrix [4, 4] as seen in a whole frame of this shape, from that in the part last asked for.

        Its place is converted exactly; its angles stay, which is right within about 3 degrees.
        """
        if self._corner is None:
            return matrix
        height, width = shape[:2]
        side = min(height, width)
        off = np.array(self._corner) + side / 2 - np.array([width, height]) / 2  # right and down of the middle
        across = 2 * _HALF_FIELD * -matrix[2, 3] / side  # cm for a pixel of the square, at the head's distance
        result = matrix.copy()
        result[:2, 3] += off * (across, -across)
        result[2, 3] *= height / side
        return result


def corners(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(left, top) of overlapping squares that together cover a frame [H, W, ...], each as large as it allows."""
    height, width = shape[:2]
    side = min(height, width)
    count = 1 + math.ceil((max(height, width) / side - 1) / (1 - _OVERLAP) - 1e-9)
    starts = [round(place) for place in np.linspace(0, max(height, width) - side, count)]
    return [(start, 0) if width >= height else (0, start) for start in starts]


def _around(centre: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int]:
    side = min(shape[:2])
    left, top = np.clip(np.rint(centre - side / 2), 0, (shape[1] - side, shape[0] - side)).astype(int).tolist()
    return left, top


def _apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether neither box has the other's middle in it."""
    middles = ((box[:2] + box[2:]) / 2 for box in (one, other))
    return not any(
        (box[:2] <= middle).all() and (middle <= box[2:]).all()
        for box, middle in zip((other, one), middles, strict=True)
    )
