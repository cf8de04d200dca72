"""Who else is in the picture: painted out, so that a landmarker for one person keeps to the main one.

MediaPipe smooths landmarks over time only where it follows a single person, and it then follows whoever it found last.
So a second look, at all people and only now and then, tells who is who (`tracking`), and in between the others are
covered with grey where they are expected. Somebody who passes before the main person covers them for a moment, which
is a gap; they can't take the landmarker along.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from expotion_cli.vision.tracking import Track, Tracker, overlap, prominence

GREY = 127
_MARGIN = 0.15  # of a box's sides, painted out around it
_MIN_SIGHTINGS = 2  # who was seen only once may have been seen by chance
_SAME = 0.5

FindPeople = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, 3] → [n, 4] boxes of all people, x0, y0, x1, y1 in pixels."""


class MainPerson:
    """Paints out all but the main person of a clip.

    The main person is who is largest, nearest the centre and longest in sight so far; whoever they are, nobody takes
    their place until they have been gone for `tracking.MAX_LOST_S`.

    Args:
        find_people: looks at one frame.
        period_s: time between two looks.
    """

    def __init__(self, find_people: FindPeople, period_s: float):
        self._find_people, self._period_s = find_people, period_s
        self._tracker = Tracker()
        self._main: Track | None = None
        self._looked_s = -np.inf

    def mask_others(self, rgb: np.ndarray, time_s: float) -> np.ndarray:
        """The next frame without the others; the very array if there are none."""
        height, width = rgb.shape[:2]
        if time_s - self._looked_s >= self._period_s:
            self._looked_s = time_s
            self._tracker.add(time_s, self._find_people(rgb))
            self._choose((width, height))
        others = [t for t in self._tracker.live if t is not self._main and len(t.frames) >= _MIN_SIGHTINGS]
        if self._main is None or not others:
            return rgb
        main = self._main.expected(time_s)
        painted = rgb.copy()
        for other in others:
            box = other.expected(time_s)
            if overlap(box, main) <= _SAME:  # else there is no telling them apart
                _fill(painted, _larger(box, _MARGIN))
        rows, columns = _part(main, rgb.shape)
        if all(overlap(other.expected(time_s), main) == 0 for other in others):
            painted[rows, columns] = rgb[rows, columns]
        return painted

    def _choose(self, size: tuple[int, int]) -> None:
        live = self._tracker.live
        if self._main not in live and live:
            self._main = None
        if live:
            best = max(live, key=lambda track: prominence(track, size).sum())
            mine = prominence(self._main, size).sum() if self._main in live else 0.0
            if self._main is None or prominence(best, size).sum() > 2 * mine:
                self._main = best


def _larger(box: np.ndarray, margin: float) -> np.ndarray:
    reach = margin * (box[2:] - box[:2])
    return np.concatenate([box[:2] - reach, box[2:] + reach])


def _part(box: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    left, top, right, bottom = np.clip(np.rint(box), 0, np.tile(shape[1::-1], 2)).astype(int)
    return slice(top, bottom), slice(left, right)


def _fill(frame: np.ndarray, box: np.ndarray) -> None:
    frame[_part(box, frame.shape)] = GREY
