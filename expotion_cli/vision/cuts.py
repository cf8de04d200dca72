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
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from expotion_cli.media.frames import Frame, View
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision.encoder import RATE_HZ, Dim, Encoder

CUTS = "cuts"
"""The stream's name. It is encoded with all others and can't be asked for by users."""

LATENCY_S = 0.25
"""Hard cuts are found once so much more of the clip was seen. What is gone again by then was a flash."""
MIN_SHOT_S = 0.15
"""What is shorter at the clip's beginning or end is no shot of its own."""

_VIEW = View(max_side=64, min_side=16)  # all frames, so that cuts are right to the frame at any rate
_BLOCK, _REACH = 8, 3
_FLOOR = 40.0  # squared levels that two pictures of one thing may differ by
_SHARE = 0.5  # ... and more by this share of their own contrast
_MIN_OVERLAP = 0.35

_AROUND = 4  # changes on either side of a cut that it has to stand out from
_CLOSEST_S = 0.1
_SAME = 0.5  # mean absolute levels: a frame that differs less from the last one is no new picture
_PLAIN = 4.0  # levels of contrast
_NOTABLE, _OUTSTANDING = 6.0, 1.3
_UNLIKE, _UNSTEADY = 0.35, 0.4

_GAP_LOOK_S = 1.5
_DIM = 0.6

_MIX_STEP_S = 0.039
_MIX_SPANS = (4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80)  # in those steps
_MIX_MISFIT = 0.06
_MIX_FIT = 0.65
_MIX_CHANGE = 20.0
_MIX_UNLIKE = 0.6
_MIX_LEAD = 3
_ZOOMS = (1.12, 1.25, 1.4, 1.6)

DIMS: tuple[Dim, ...] = (
    Dim("hard", "0..1", "a shot begins at once within this row: share of the picture that is new"),
    Dim("dissolve", "0..1", "the middle of a dissolve or fade lies within this row: share of the picture that is new"),
    Dim("offset", "s", "how long after the row's own time that is"),
)


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
        self._pictures: deque[_Picture] = deque()
        self._shape: tuple[int, ...] | None = None
        self._open = 0  # pictures at the end of the queue that were not judged yet
        self._first_s = self._last_s = 0.0
        self._fades = _Fades()
        self._mixtures = _Mixtures()

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
        contrast = _contrast(planes)
        if contrast < _PLAIN:
            self._fades.plain(frame.time_s)
            self._mixtures.clear()
        else:
            change = _change(last.planes, planes) if last is not None else 0.0
            self._mixtures.add(frame.time_s, planes)
            if last is None or change > _SAME or self._fades.in_gap:
                picture = _Picture(frame.time_s, planes, contrast, change, self._fades.before_gap())
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
        if strength < _UNLIKE or self._comes_back(pictures, number, old):
            return None
        # what changes as much all the time is motion or noise
        for part, side in zip((before, after), sides, strict=True):
            if side and float(np.median(side)) > _NOTABLE:
                steps = [unlike(a.planes, b.planes) for a, b in itertools.pairwise(part) if b.before_gap is None]
                if steps and float(np.median(steps)) > _UNSTEADY * strength:
                    return None
        return strength

    @staticmethod
    def _comes_back(pictures: list[_Picture], number: int, old: _Picture) -> bool:
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
        return any(unlike(a.planes, b.planes) < _UNLIKE for a, b in pairs - {(old, new)})


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


@dataclass(eq=False)
class _Picture:
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
    before_gap: _Picture | None


class _Fades:
    """Finds fades: other pictures after plain frames than before them."""

    def __init__(self) -> None:
        self.in_gap = False
        self._found: list[tuple[float, float, float]] = []  # start of the gap, end, strength
        self._recent: deque[_Picture] = deque()
        self._gap: tuple[float, float] | None = None  # the last plain frames' (first, last) time
        self._old: _Picture | None = None
        self._new: _Picture | None = None

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

    def before_gap(self) -> _Picture | None:
        """Within a gap, the clearest picture before it."""
        return self._old if self.in_gap else None

    def add(self, picture: _Picture) -> None:
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
            if strength >= _UNLIKE:
                self._found.append((*self._gap, strength))
        self._old = self._new = None


class _Mixtures:
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


def _grown(planes: np.ndarray, growth: float) -> np.ndarray:
    """The middle of the picture, so much larger."""
    rows, columns = (
        np.rint((np.arange(size) - (size - 1) / 2) / growth + (size - 1) / 2).astype(int) for size in planes.shape[1:]
    )
    return planes[:, rows[:, None], columns]


def _change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference in levels, less what the whole picture has in common."""
    off = after - before
    off[0] -= off[0].mean()
    return 3 * float(np.abs(off, out=off).mean())


def _contrast(planes: np.ndarray) -> float:
    return float(planes[0].std())


def _block_means(values: np.ndarray) -> np.ndarray:
    rows, columns = values.shape[0] // _BLOCK, values.shape[1] // _BLOCK
    values = values[: rows * _BLOCK, : columns * _BLOCK]
    return values.reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))


def _block_variance(planes: np.ndarray) -> np.ndarray:
    return sum(_block_means(plane * plane) - _block_means(plane) ** 2 for plane in planes)


def _shrink(planes: np.ndarray, side: int = 4) -> np.ndarray:
    """[D] means over squares of all planes."""
    rows, columns = planes.shape[1] // side, planes.shape[2] // side
    part = planes[:, : rows * side, : columns * side].reshape(3, rows, side, columns, side)
    return part.mean(axis=(2, 4)).ravel()
