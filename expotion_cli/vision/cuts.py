"""Where one shot ends and the next begins: hard cuts, dissolves and fades, from small colour frames.

The idea is that of PySceneDetect's adaptive detector (scenedetect.com/docs, "Detection Algorithms"): a cut is a change
of content that stands out from the changes around it, so that fast motion is none. Three things are done differently,
in numpy alone. Frames are compared after undoing changes of light and motion (`unlike`), so that pans, zooms and lamps
count for little. A change after which an earlier picture comes back is a flash. Dissolves are found where the pictures
between two moments are mixtures of the two, and fades by comparing what was seen before and after plain frames.

Plain frames (black, white) belong to no shot; a clip that only begins or ends with them has no cut there.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from fractions import Fraction

import numpy as np

from expotion_cli.media.frames import Frame, View
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision.dissolves import Change, Fades, Mixtures, Picture
from expotion_cli.vision.encoder import RATE_HZ, Dim, Encoder
from expotion_cli.vision.likeness import UNLIKE, change_between, contrast_of, to_planes, unlike

CUTS = "cuts"
"""The stream's name. It is encoded with all others and can't be asked for by users."""

LATENCY_S = 0.25
"""Hard cuts are found once so much more of the clip was seen. What is gone again by then was a flash."""
MIN_SHOT_S = 0.15
"""What is shorter at the clip's beginning or end is no shot of its own."""

_VIEW = View(max_side=64, min_side=16)  # all frames, so that cuts are right to the frame at any rate

_AROUND = 4  # changes on either side of a cut that it has to stand out from
_CLOSEST_S = 0.1  # of two cuts nearer to each other, the first counts
_SAME = 0.5  # mean absolute levels: a frame that differs less from the last one is no new picture
_PLAIN = 4.0  # levels of contrast
_NOTABLE, _OUTSTANDING = 6.0, 1.3  # mean absolute levels; times what changes around
_UNSTEADY = 0.4  # share of the change at a cut that the pictures around it may change by
_DIM = 0.6  # after a gap, a picture of less contrast (as a share) may be fading in


DIMS: tuple[Dim, ...] = (
    Dim("hard", "0..1", "a shot begins at once within this row: share of the picture that is new"),
    Dim("dissolve", "0..1", "the middle of a dissolve or fade lies within this row: share of the picture that is new"),
    Dim("offset", "s", "how long after the row's own time that is"),
)


class CutEncoder(Encoder):
    """Finds a clip's cuts; see `DIMS`. The mask is all True.

    Attributes:
        settled_s: no hard cut will be found before this time any more.
    """

    name = CUTS
    version = "1"
    rate_hz = RATE_HZ
    view = _VIEW
    dims = tuple(dim.name for dim in DIMS)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        self.settled_s = -math.inf
        self._hard: list[Change] = []
        self._told = 0
        self._pictures: deque[Picture] = deque()
        self._shape: tuple[int, ...] | None = None
        self._open = 0  # pictures at the end of the queue that were not judged yet
        self._first_s = self._last_s = 0.0
        self._fades = Fades()
        self._mixtures = Mixtures()

    def feed(self, frame: Frame) -> None:
        """See `encoder.Encoder`."""
        planes = to_planes(frame.pixels)
        last = self._pictures[-1] if self._pictures else None
        if last is None and not self._fades.in_gap:
            self._first_s = frame.time_s
        self._last_s = frame.time_s
        self._shape = self._shape or planes.shape[1:]
        if planes.shape[1:] != self._shape:  # a file may change its frames' size
            rows, columns = (np.arange(n) * m // n for n, m in zip(self._shape, planes.shape[1:], strict=True))
            planes = planes[:, rows[:, None], columns]
        contrast = contrast_of(planes)
        if contrast < _PLAIN:
            self._fades.plain(frame.time_s)
            self._mixtures.clear()
        else:
            change = change_between(last.planes, planes) if last is not None else 0.0
            self._mixtures.add(frame.time_s, planes)
            if last is None or change > _SAME or self._fades.in_gap:
                picture = Picture(frame.time_s, planes, contrast, change, self._fades.before_gap())
                self._fades.add(picture)
                self._pictures.append(picture)
                self._open += 1
        self._judge(frame.time_s)

    def new_hard_cuts(self) -> list[Change]:
        """Hard cuts found since the last call."""
        found = self._hard[self._told :]
        self._told = len(self._hard)
        return found

    def changes(self) -> tuple[Change, ...]:
        """All changes of shot, once the last frame is fed."""
        self._judge(math.inf)
        hard = self._hard
        hard_s = [change.time_s for change in hard]
        soft = [*self._fades.finish(hard_s), *self._mixtures.finish(hard_s)]
        kept: list[Change] = list(hard)
        for change in soft:
            if all(abs(change.time_s - other.time_s) > 2 * MIN_SHOT_S for other in kept):
                kept.append(change)
        return tuple(sorted(kept, key=lambda change: change.time_s))

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`."""
        rows = num_rows(duration, exact(self.rate_hz))
        values = to_rows(self.changes(), rows, self.rate_hz)
        self.begin()
        return values, np.ones(rows, dtype=bool)

    def _judge(self, now_s: float) -> None:
        """Decide about all pictures that enough is known of."""
        while self._open:
            number = len(self._pictures) - self._open
            picture = self._pictures[number]
            if now_s - picture.time_s < LATENCY_S:
                self.settled_s = picture.time_s
                return
            if (strength := self._cut_at(number)) is not None:
                self._hard.append(Change(picture.time_s, True, strength))
            self._open -= 1
            while number > _AROUND and picture.time_s - self._pictures[0].time_s > LATENCY_S:
                self._pictures.popleft()
                number -= 1
        self.settled_s = now_s

    def _cut_at(self, number: int) -> float | None:
        """How much is new with a picture of the queue, if a shot begins there."""
        pictures = list(self._pictures)
        new = pictures[number]
        if not number or new.change < _NOTABLE:
            return None
        if new.time_s - self._first_s < MIN_SHOT_S or self._last_s - new.time_s < MIN_SHOT_S / 2:
            return None
        if self._hard and new.time_s - self._hard[-1].time_s < _CLOSEST_S:
            return None
        before = pictures[max(0, number - _AROUND) : number]
        after = pictures[number : number + _AROUND + 1]
        sides = [[p.change for p in part[1:]] for part in (before, after)]
        if any(side and new.change < _OUTSTANDING * float(np.median(side)) for side in sides):
            return None
        old = new.before_gap or before[-1]
        if new.before_gap is not None and new.contrast < _DIM * old.contrast:
            return None  # it may be fading in
        strength = unlike(old.planes, new.planes)
        if strength < UNLIKE or self._comes_back(pictures, number, old):
            return None
        # what changes as much all the time is motion or noise
        for part, side in zip((before, after), sides, strict=True):
            if side and float(np.median(side)) > _NOTABLE:
                steps = [unlike(a.planes, b.planes) for a, b in itertools.pairwise(part) if b.before_gap is None]
                if steps and float(np.median(steps)) > _UNSTEADY * strength:
                    return None
        return strength

    @staticmethod
    def _comes_back(pictures: list[Picture], number: int, old: Picture) -> bool:
        """Whether something like a picture from just before is seen soon after: it was a flash, or a passer-by."""
        new = pictures[number]
        before = [p for p in pictures[:number] if new.time_s - p.time_s < LATENCY_S and p.time_s <= old.time_s]
        after = [p for p in pictures[number:] if p.time_s - new.time_s < LATENCY_S]
        pairs = {(old, p) for p in (*after[1:4], after[-1])} | {(p, new) for p in (*before[-4:-1], *before[:1])}
        if before:
            pairs |= {
                (before[0], after[-1]),
                (before[0], after[len(after) // 2]),
                (before[len(before) // 2], after[-1]),
            }
        return any(unlike(a.planes, b.planes) < UNLIKE for a, b in pairs - {(old, new)})


def find_changes(frames: list[Frame]) -> tuple[Change, ...]:
    """The changes of shot in a clip's frames, which are at most 64 pixels large."""
    encoder = CutEncoder()
    for frame in frames:
        encoder.feed(frame)
    return encoder.changes()


def to_rows(changes: tuple[Change, ...], rows: int, rate_hz: float) -> np.ndarray:
    """float32 [rows, len(DIMS)]: each change in the row within which it lies, the stronger one where two do."""
    values = np.zeros((rows, len(DIMS)), dtype=np.float32)
    for change in changes:
        row = min(rows - 1, math.floor(change.time_s * rate_hz + 1e-6))
        if row >= 0 and change.strength > values[row, :2].max():
            values[row] = 0
            values[row, 0 if change.is_hard else 1] = change.strength
            values[row, 2] = change.time_s - row / rate_hz
    return values


def from_rows(values: np.ndarray, rate_hz: float) -> tuple[Change, ...]:
    """What `to_rows` was given."""
    return tuple(
        Change(round(row / rate_hz + float(values[row, 2]), 6), bool(values[row, 0] > 0), float(values[row, :2].max()))
        for row in np.flatnonzero(values[:, :2].max(axis=1) > 0).tolist()
    )
