"""Dissolves and fades: changes of shot that take their time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from expotion_cli.vision.likeness import UNLIKE, unlike

_GAP_LOOK_S = 1.5  # what is seen best within this time before and after plain frames is compared
_MIX_STEP_S = 0.039  # between two pictures that are kept
_MIX_SPANS = (4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80)  # in those steps
_MIX_MISFIT = 0.06  # a place is mixed if it is off by at most this share of its squared change ...
_MIX_FIT = 0.65  # ... and so much of the change must be
_MIX_CHANGE = 20.0  # levels, between the two ends
_MIX_UNLIKE = 0.6
_MIX_LEAD = 3  # pictures before a dissolve that look like its beginning
_ZOOMS = (1.12, 1.25, 1.4, 1.6)


@dataclass(frozen=True)
class Change:
    """One change of shot.

    Attributes:
        time_s: of the first frame of the new shot; of a dissolve or fade, its middle.
        is_hard: from one frame to the next.
        strength: share of the picture that is new, 0..1.
    """

    time_s: float
    is_hard: bool
    strength: float


@dataclass(eq=False)
class Picture:
    """A frame that differs from the one before, and is not plain.

    Attributes:
        time_s: its time.
        planes: [3, h, w].
        contrast: how much its brightness varies, in levels.
        change: from the picture before, in levels.
        before_gap: the clearest picture before the plain frames that precede this one, if some do.
    """

    time_s: float
    planes: np.ndarray
    contrast: float
    change: float
    before_gap: Picture | None


class Fades:
    """Finds fades: other pictures after plain frames than before them."""

    def __init__(self) -> None:
        self.in_gap = False
        self._found: list[tuple[float, float, float]] = []  # start of the gap, end, strength
        self._recent: deque[Picture] = deque()
        self._gap: tuple[float, float] | None = None  # the last plain frames' (first, last) time
        self._old: Picture | None = None
        self._new: Picture | None = None

    def plain(self, time_s: float) -> None:
        """Take a plain frame."""
        if not self.in_gap:
            self._close()
            self.in_gap = True
            self._gap = (time_s, time_s)
            self._old = max(self._recent, key=lambda picture: picture.contrast, default=None)
            self._recent.clear()
        assert self._gap is not None
        self._gap = (self._gap[0], time_s)

    def before_gap(self) -> Picture | None:
        """Within a gap, the clearest picture before it."""
        return self._old if self.in_gap else None

    def add(self, picture: Picture) -> None:
        """Take a picture."""
        if self.in_gap and self._gap is not None:
            self._gap = (self._gap[0], picture.time_s)
        self.in_gap = False
        if self._old is not None:
            assert self._gap is not None
            if self._new is None or picture.contrast > self._new.contrast:
                self._new = picture
            if picture.time_s - self._gap[1] > _GAP_LOOK_S:
                self._close()
        self._recent.append(picture)
        while picture.time_s - self._recent[0].time_s > _GAP_LOOK_S:
            self._recent.popleft()

    def finish(self, hard_s: list[float]) -> list[Change]:
        """All that were found, other than where a gap ends with a hard cut."""
        self._close()
        return [
            Change((start + end) / 2, False, strength)
            for start, end, strength in self._found
            if not any(start <= time_s <= end for time_s in hard_s)
        ]

    def _close(self) -> None:
        if self._old is not None and self._new is not None:
            assert self._gap is not None
            strength = unlike(self._old.planes, self._new.planes)
            if strength >= UNLIKE:
                self._found.append((*self._gap, strength))
        self._old = self._new = None


class Mixtures:
    """Finds dissolves: moments between which all pictures are mixtures of the first and the last."""

    def __init__(self) -> None:
        size = max(_MIX_SPANS) + 1 + _MIX_LEAD
        self._times: deque[float] = deque(maxlen=size)
        self._planes: deque[np.ndarray] = deque(maxlen=size)
        self._tiny: deque[np.ndarray] = deque(maxlen=size)
        self._added = 0
        self._best: tuple[float, float, float, float, np.ndarray, np.ndarray] | None = None
        self._found: list[tuple[float, float, float, float]] = []  # start, middle, end, strength

    def clear(self) -> None:
        """Forget what was seen: a plain frame came."""
        for part in (self._times, self._planes, self._tiny):
            part.clear()

    def add(self, time_s: float, planes: np.ndarray) -> None:
        """Take a frame that is not plain."""
        if self._times and time_s - self._times[-1] < _MIX_STEP_S:
            return
        self._times.append(time_s)
        self._planes.append(planes)
        self._tiny.append(_shrink(planes))
        self._added += 1
        new, count = self._tiny[-1], len(self._tiny)
        # long spans are looked at now and then
        spans = np.array([s for s in _MIX_SPANS if s < count and self._added % max(1, s // 8) == 0], dtype=int)
        if not len(spans):
            return
        tiny = np.stack([self._tiny[count - 1 - span] for span in spans.tolist()])
        way = new - tiny
        size = np.einsum("nd,nd->n", way, way)
        spans, tiny, way, size = (part[size > _MIX_CHANGE**2 * len(new)] for part in (spans, tiny, way, size))
        for place, lowest, highest in ((0.5, 0.05, 0.95), (0.1, -0.15, 0.15), (0.9, 0.85, 1.15)):
            if not len(spans):
                return
            part = np.stack([self._tiny[count - 1 - span + round(place * span)] for span in spans.tolist()]) - tiny
            share = np.einsum("nd,nd->n", part, way) / size
            off = part - share[:, None] * way
            misfit = np.einsum("nd,nd->n", off, off) / size
            likely = (share > lowest) & (share < highest) & (misfit < 0.25)
            spans, tiny, way, size = (part[likely] for part in (spans, tiny, way, size))
        for span in spans.tolist():
            self._look(span)

    def _look(self, span: int) -> None:
        count = len(self._tiny)
        some = np.stack([self._tiny[i] for i in range(count - 1 - span, count)]).reshape(span + 1, 3, -1)
        times = [self._times[i] for i in range(count - 1 - span, count)]
        way, part = some[-1] - some[0], some - some[0]
        size = np.einsum("cd,cd->d", way, way)
        shares = np.einsum("ncd,cd->nd", part, way) / np.maximum(size, 1e-6)
        share = _weighted_medians(shares, size)
        inner = (share > 0.12) & (share < 0.88)
        if inner.sum() < 2:
            return
        if count - 1 - span >= _MIX_LEAD:
            lead = self._tiny[count - 1 - span - _MIX_LEAD].reshape(3, -1) - some[0]
            if float(np.square(lead).sum()) > 0.3 * float(size.sum()):
                return  # a flash that dies away
        steps = np.diff(share)
        edge = max(1, round(span * 0.1))
        if steps.max() > 0.45 or steps.min() < -0.08:
            return
        if max(abs(share[: edge + 1])) > 0.07 or max(abs(share[-edge - 1 :] - 1)) > 0.07:
            return  # it goes on before or after
        off = part[inner] - share[inner, None, None] * way
        fits = np.einsum("ncd,ncd->nd", off, off) < _MIX_MISFIT * size + 16
        fit = float((fits @ size).mean() / size.sum())
        if fit < _MIX_FIT:
            return
        middle = float(np.interp(0.5, np.maximum.accumulate(share), times))
        change = float(size.sum()) * fit
        best = self._best
        if best is not None and times[0] >= best[2]:
            self._keep_best()
        if self._best is None or change > self._best[3]:
            self._best = (times[0], middle, times[-1], change, self._planes[count - 1 - span], self._planes[-1])

    def finish(self, hard_s: list[float]) -> list[Change]:
        """All that were found, other than around hard cuts."""
        self._keep_best()
        return [
            Change(middle, False, strength)
            for start, middle, end, strength in self._found
            if not any(start < time_s <= end for time_s in hard_s)
        ]

    def _keep_best(self) -> None:
        """Of the moments that overlap, the two that differ most are those of the dissolve, if it is one."""
        if self._best is None:
            return
        start, middle, end, _, before, after = self._best
        self._best = None
        strength = unlike(before, after)
        if strength < _MIX_UNLIKE:
            return
        # a slow zoom of soft pictures looks like a mixture, too
        for one, other in ((before, after), (after, before)):
            if any(unlike(_grown(one, growth), other) < 0.6 * strength for growth in _ZOOMS):
                return
        self._found.append((start, middle, end, strength))


def _weighted_medians(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[n] of each row of values [n, d] with weights [d]."""
    order = np.argsort(values, axis=1)
    sums = np.cumsum(weight[order], axis=1)
    place = (sums < sums[:, -1:] / 2).sum(axis=1)
    return np.take_along_axis(values, np.take_along_axis(order, place[:, None], axis=1), axis=1)[:, 0]


def _grown(planes: np.ndarray, growth: float) -> np.ndarray:
    """The middle of the picture, so much larger."""
    rows, columns = (
        np.rint((np.arange(size) - (size - 1) / 2) / growth + (size - 1) / 2).astype(int) for size in planes.shape[1:]
    )
    return planes[:, rows[:, None], columns]


def _shrink(planes: np.ndarray, side: int = 4) -> np.ndarray:
    """[D] means over squares of all planes."""
    rows, columns = planes.shape[1] // side, planes.shape[2] // side
    part = planes[:, : rows * side, : columns * side].reshape(3, rows, side, columns, side)
    return part.mean(axis=(2, 4)).ravel()
