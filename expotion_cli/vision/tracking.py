"""Tracks people from frame to frame and decides whom the clip is about.

`Tracker` takes each frame's boxes (faces, or whole bodies) and joins them to tracks, one a person; `main_person`
says afterwards which box of each frame is the main person's. `follow` does both at once:

    chosen = follow(times_s, boxes, scores, size=(640, 480))     # index into boxes[i], or -1

A box is x0, y0, x1, y1; any unit will do, so long as `size` is in it too. Distances are counted in box sizes (the
root of the area), so frames of every size and rate are treated alike. Nothing here knows where boxes come from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

FindPeople = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, 3] → [n, 4] boxes of all people, x0, y0, x1, y1 in pixels."""

MAX_LOST_S = 2.5
"""A track ends when its person was not detected for longer; if they come back, they get a new one."""

MIN_SIGHTINGS = 3
"""Tracks of fewer sightings are taken for false detections."""

MAX_BOXES = 8
"""In a crowd, only the largest boxes are tracked."""

SUCCESSOR_SHARE = 0.5
"""Once the main person is gone, only somebody at least this prominent (as a share) replaces them."""

_REACH = 0.6  # box sizes that somebody may be away from where they are expected, at once ...
_REACH_PER_S = 2.0  # ... and more for each second since they were seen ...
_MAX_REACH = 2.5  # ... up to this
_GROWTH = math.log(2.0)  # boxes of less than half or more than twice the size are of somebody else
_MEMORY_S = 0.3  # speeds are averaged over about this time
_COAST_S = 0.5  # who is not seen is expected to slow down over about this time
_APPEARANCE_WEIGHT = 1.5
_OVERLAP = 0.15  # of boxes that overlap more than this it is not sure whose they are


@dataclass(eq=False)
class Track:
    """One person as far as they could be followed.

    Attributes:
        frames: number of each frame they were seen on, rising.
        indices: which box of that frame they were.
        times_s, boxes, scores: of those sightings.
    """

    frames: list[int] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    appearance: np.ndarray | None = None
    _velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def expected(self, time_s: float) -> np.ndarray:
        """[4] the box at a time after the last sighting: moved on, slowing down, of the same size."""
        ahead = _COAST_S * (1 - math.exp(-(time_s - self.times_s[-1]) / _COAST_S))
        return self.boxes[-1] + np.tile(self._velocity * ahead, 2)

    def add(
        self,
        frame: int,
        index: int,
        time_s: float,
        box: np.ndarray,
        score: float,
        appearance: np.ndarray | None,
        sure: bool,
    ) -> None:
        """Add a sighting.

        Args:
            frame: its number.
            index: which of the frame's boxes it is.
            time_s: later than the last sighting.
            box: [4].
            score: the detector's.
            appearance: [L] of unit length, or None.
            sure: False leaves appearance and speed as they were, since the box may be somebody else's.
        """
        if self.boxes and sure:
            passed = time_s - self.times_s[-1]
            velocity = (_centre(box) - _centre(self.boxes[-1])) / passed
            known = math.exp(-passed / _MEMORY_S) if len(self.boxes) > 1 else 0.0
            self._velocity = known * self._velocity + (1 - known) * velocity
        if appearance is not None and (sure or self.appearance is None):
            self.appearance = appearance if self.appearance is None else _unit(0.8 * self.appearance + 0.2 * appearance)
        self.frames.append(frame)
        self.indices.append(index)
        self.times_s.append(time_s)
        self.boxes.append(box)
        self.scores.append(score)


class Tracker:
    """Joins the boxes of frames to tracks, frame by frame.

    Between two frames each track moves on as it did before; boxes go to tracks so that, all together, they lie
    nearest to where people are expected, have their size and (where that is known) look like them. A person who
    passes before another therefore takes neither the other's place nor their name.

    Attributes:
        tracks: all so far, in the order they began.
    """

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._live: list[Track] = []
        self._count = 0
        self._shots = [0]  # number of the first frame of each

    @property
    def live(self) -> list[Track]:
        """Tracks whose people are still waited for."""
        return list(self._live)

    def begin_shot(self) -> None:
        """End all tracks: the next frame is the first of another shot."""
        self._live = []
        self._shots.append(self._count)

    def add(
        self, time_s: float, boxes: np.ndarray, scores: np.ndarray | None = None, appearances: np.ndarray | None = None
    ) -> None:
        """Take the next frame's boxes.

        Args:
            time_s: later than the frame before.
            boxes: [n, 4], n >= 0.
            scores: [n] in 0..1, how sure it is that there is somebody; None for 1.
            appearances: [n, L] what is in the boxes, as vectors that are alike (by their cosine) for the same person.
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        scores = np.ones(len(boxes)) if scores is None else np.asarray(scores, dtype=np.float64)
        largest = sorted(np.argsort(-_sizes(boxes), kind="stable")[:MAX_BOXES].tolist())
        self._live = [track for track in self._live if time_s - track.times_s[-1] <= MAX_LOST_S]
        expected = [track.expected(time_s) for track in self._live]
        units = (
            None if appearances is None else [_unit(appearance) for appearance in np.asarray(appearances, dtype=float)]
        )
        fitness = np.zeros((len(self._live), len(largest)))
        for row, track in enumerate(self._live):
            for column, index in enumerate(largest):
                appearance = None if units is None else units[index]
                fitness[row, column] = _fitness(track, expected[row], time_s, boxes[index], appearance)
        owner = {column: row for row, column in enumerate(_assign(fitness)) if column >= 0}
        # a false detection makes nobody else's track uncertain
        settled = [(t, where) for t, where in zip(self._live, expected, strict=True) if len(t.frames) >= MIN_SIGHTINGS]
        for column, index in enumerate(largest):
            track = self._live[owner[column]] if column in owner else Track()
            near = [where for other, where in settled if other is not track]
            near += [boxes[other] for other in largest if other != index]
            sure = all(overlap(boxes[index], box) <= _OVERLAP for box in near)
            appearance = None if units is None else units[index]
            track.add(self._count, index, time_s, boxes[index], float(scores[index]), appearance, sure)
            if column not in owner:
                self.tracks.append(track)
                self._live.append(track)
        self._count += 1

    def main_person(self, size: tuple[float, float]) -> np.ndarray:
        """Which box is the main person's, of each frame added so far.

        The main person has the largest sum of largeness (root of the box's share of the picture) x nearness to the
        picture's centre (1 there, a half in the corners) x detector's score, summed up over the time they are seen.
        Where they are hidden for at most `MAX_LOST_S` nobody takes their place. Before they come and after they are
        gone the next by the same measure is followed, if at least `SUCCESSOR_SHARE` as prominent in that time as the
        main person was. Each shot has a main person of its own.

        Args:
            size: width and height of the frames, in the boxes' unit.

        Returns:
            int [N]; -1 where the main person is not seen.
        """
        chosen = np.full(self._count, -1)
        covered = np.zeros(self._count, dtype=bool)
        for start, stop in itertools.pairwise([*self._shots, self._count]):
            enough = min(MIN_SIGHTINGS, stop - start)
            tracks = [t for t in self.tracks if start <= t.frames[0] < stop and len(t.frames) >= enough]
            rest = [(track, prominence(track, size)) for track in tracks]
            least = 0.0
            while rest:
                # only what lies outside the times of those already chosen counts
                worth = [shares[~covered[track.frames]].sum() for track, shares in rest]
                track, shares = rest.pop(int(np.argmax(worth)))
                frames = np.array(track.frames)
                free = ~covered[frames]
                if free.sum() < enough or shares[free].mean() < least:
                    continue
                if not least:
                    least = SUCCESSOR_SHARE * shares[free].mean()
                chosen[frames[free]] = np.array(track.indices)[free]
                covered |= _spans(frames[free], covered)
        return chosen


def follow(
    times_s: Sequence[float],
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray] | None = None,
    *,
    size: tuple[float, float],
    appearances: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """The main person of a clip whose boxes are all known; see `Tracker.add` and `Tracker.main_person`.

    Args:
        times_s: N rising.
        boxes: N times [n_i, 4].
        scores: N times [n_i], or None.
        size: width and height of the frames.
        appearances: N times [n_i, L], or None.

    Returns:
        int [N], which of `boxes[i]` it is; -1 where the main person is not seen.
    """
    tracker = Tracker()
    for i, time_s in enumerate(times_s):
        tracker.add(
            time_s, boxes[i], None if scores is None else scores[i], None if appearances is None else appearances[i]
        )
    return tracker.main_person(size)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return float(common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common))


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[..., :2] + box[..., 2:]) / 2


def _sizes(boxes: np.ndarray) -> np.ndarray:
    """Roots of the areas of boxes [..., 4]; never zero."""
    return np.sqrt(np.maximum(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1), 1e-12))


def _unit(appearance: np.ndarray) -> np.ndarray:
    return appearance / max(float(np.linalg.norm(appearance)), 1e-12)


def _fitness(
    track: Track, expected: np.ndarray, time_s: float, box: np.ndarray, appearance: np.ndarray | None
) -> float:
    """How well a box fits what is expected of a track: 1 at best; at most 0 where it can't be theirs."""
    passed = time_s - track.times_s[-1]
    was, now = float(_sizes(expected)), float(_sizes(box))
    away = float(np.linalg.norm(_centre(box) - _centre(expected))) / math.sqrt(was * now)
    reach = min(_MAX_REACH, _REACH + _REACH_PER_S * passed)
    growth = abs(math.log(now / was)) / _GROWTH
    if away >= reach or growth >= 1:
        return 0.0
    unlike = 0.0
    if appearance is not None and track.appearance is not None:
        unlike = _APPEARANCE_WEIGHT * (1 - float(appearance @ track.appearance)) / 2
    # of two it might be, it is rather the one who was just seen
    stale = 1 - math.exp(-passed / _MEMORY_S)
    return 1 - (away / reach) / 2 - growth / 8 - unlike / 4 - stale / 5


def _assign(fitness: np.ndarray) -> list[int]:
    """Give each row at most one column of its own, so that the sum is greatest; only entries above 0 are given.

    Exact, by trying out which columns the rows so far have taken (at most 2^MAX_BOXES sets).

    Args:
        fitness: [rows, columns].

    Returns:
        The column of each row, or -1.
    """
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for row in fitness:
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for taken, (total, columns) in best.items():
            for column, gain in ((-1, 0.0), *((c, float(g)) for c, g in enumerate(row) if g > 0)):
                if column >= 0 and taken >> column & 1:
                    continue
                now = taken | (1 << column if column >= 0 else 0)
                if now not in reached or total + gain > reached[now][0]:
                    reached[now] = (total + gain, (*columns, column))
        best = reached
    return list(max(best.values(), key=lambda entry: entry[0])[1])


def prominence(track: Track, size: tuple[float, float]) -> np.ndarray:
    """[n] largeness x nearness to the centre x score of each sighting, in frames of this width and height."""
    boxes, whole = np.array(track.boxes), np.array(size, dtype=np.float64)
    away = np.linalg.norm((_centre(boxes) - whole / 2) / (whole / 2), axis=1) / math.sqrt(2)
    largeness = _sizes(boxes) / math.sqrt(whole[0] * whole[1])
    return largeness * (1 - np.minimum(away, 1) / 2) * np.array(track.scores)


def _spans(frames: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """bool [N]: from the first to the last of the frames, in each stretch that was not covered before."""
    spans = np.zeros_like(covered)
    stretch = np.cumsum(covered)  # the same number within a stretch that is free
    for number in np.unique(stretch[frames]):
        inside = frames[stretch[frames] == number]
        spans[inside[0] : inside[-1] + 1] = True
    return spans
