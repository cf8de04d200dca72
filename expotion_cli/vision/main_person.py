"""Keeps a landmarker for one person on the main person, by covering everybody else with grey.

MediaPipe smooths landmarks over time only when it follows a single person, and then follows whoever it detected last.
Therefore all people are detected now and then and told apart (`tracking`); in between, the others are covered where
they are expected. Somebody who passes in front of the main person covers them for a moment, which leaves a gap, but
the landmarker does not switch to them.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.vision.tracking import FindPeople, Track, Tracker, overlap, prominence

GREY = 127
_MARGIN = 0.15  # of a box's sides, covered around it
_MIN_SIGHTINGS = 2  # a single detection may be a false one
_SAME = 0.5


class MainPerson:
    """Covers everybody but the main person of a clip.

    The main person is who is largest, nearest the centre and longest in sight so far; whoever they are, nobody takes
    their place until they have been gone for `tracking.MAX_LOST_S`.

    Args:
        find_people: detects the people in one frame.
        period_s: seconds between two detections.
    """

    def __init__(self, find_people: FindPeople, period_s: float):
        self._find_people, self._period_s = find_people, period_s
        self._tracker = Tracker()
        self._main: Track | None = None
        self._detected_s = -np.inf

    def mask_others(self, rgb: np.ndarray, time_s: float) -> np.ndarray:
        """The next frame with the others covered; the same array if there are none."""
        height, width = rgb.shape[:2]
        if time_s - self._detected_s >= self._period_s:
            self._detected_s = time_s
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
