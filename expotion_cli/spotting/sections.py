"""Intensity and sections: how strong the music should be, moment by moment and bar by bar, and where that changes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.spotting.activity import SeenStream, activity_curve
from expotion_cli.timing import Timeline

INTENSITY_RATE_HZ = 10.0
FLAT = 0.5
"""The intensity where nothing is seen."""
_SMOOTH_S = 0.12
_RANGE, _FLOOR, _NEARBY_S = (10, 95), 0.12, 40.0
_SHORTEST_S, _CHANGE, _CUT_REACH_S = 8.0, 0.18, 1.5


@dataclass(frozen=True)
class Intensity:
    """How strong the music should be.

    Attributes:
        rate_hz: values a second.
        values: 0..1, value i at i / rate_hz seconds.
        bars: 0..1, the mean of each bar, the first being the one in which the picture begins.
        source: where it comes from, in words.
    """

    rate_hz: float
    values: tuple[float, ...]
    bars: tuple[float, ...]
    source: str

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """[T] interpolated at these times."""
        return np.asarray(np.interp(times_s, np.arange(len(self.values)) / self.rate_hz, self.values))


@dataclass(frozen=True)
class Section:
    """A stretch of one character.

    Attributes:
        start_s, end_s: on the picture's clock.
        intensity: its mean, 0..1.
        source: why it begins, in words.
        prompt: what the music should be, if a user says so.
    """

    start_s: float
    end_s: float
    intensity: float
    source: str
    prompt: str = ""


def find_intensity(streams: Mapping[str, SeenStream], duration_s: float) -> tuple[np.ndarray, str]:
    """[T] intensity at `INTENSITY_RATE_HZ`, and its source: how much moves, between the calm and the lively nearby.

    Scaled between the 10th and the 95th percentile of 40 s around; a floor keeps a clip without contrast near 0.5.

    Args:
        streams: embedding streams by name.
        duration_s: of the clip.
    """
    from scipy.ndimage import gaussian_filter1d, percentile_filter

    energy, _, names = activity_curve(streams, duration_s, INTENSITY_RATE_HZ)
    if not names:
        return np.full(len(energy), FLAT), "nothing was seen"
    smooth = gaussian_filter1d(energy, _SMOOTH_S * INTENSITY_RATE_HZ, mode="nearest")
    size = min(len(smooth), round(_NEARBY_S * INTENSITY_RATE_HZ)) | 1
    low, high = (percentile_filter(smooth, share, size=size, mode="nearest") for share in _RANGE)
    contrast = np.clip((high - low) / _FLOOR, 0, 1)
    scaled = np.clip((smooth - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.clip(FLAT + contrast * (scaled - FLAT), 0, 1), f"activity of {' + '.join(names)}"


def by_bars(values: np.ndarray, timeline: Timeline) -> tuple[float, ...]:
    """Mean intensity of each bar of a beat grid.

    Args:
        values: [T] at `INTENSITY_RATE_HZ`.
        timeline: the grid; it begins with a bar.
    """
    bar = timeline.bar_steps
    edges = timeline.time_of(np.arange(0, timeline.num_steps + bar, bar))
    times = np.arange(len(values)) / INTENSITY_RATE_HZ
    means = [values[(times >= a) & (times < b)] for a, b in itertools.pairwise(edges)]
    return tuple(round(float(part.mean()), 3) for part in means if len(part))


def find_sections(values: np.ndarray, duration_s: float, cuts_s: Sequence[float] = ()) -> tuple[Section, ...]:
    """Part a clip where its mean intensity changes lastingly, at a cut if one is near.

    Stretches are halved where their two parts differ most, as long as both last 8 s and differ by 0.18.

    Args:
        values: [T] intensity at `INTENSITY_RATE_HZ`.
        duration_s: of the clip.
        cuts_s: seconds of scene cuts.

    Returns:
        At least one; they fill the clip.
    """
    least = round(_SHORTEST_S * INTENSITY_RATE_HZ)
    borders: dict[int, str] = {}

    def part(start: int, stop: int) -> None:
        if stop - start < 2 * least:
            return
        sums = np.concatenate([[0.0], np.cumsum(values[start:stop])])
        count = np.arange(least, stop - start - least + 1)
        before, after = sums[count] / count, (sums[-1] - sums[count]) / (stop - start - count)
        change = np.abs(after - before) * np.sqrt(count * (stop - start - count)) / (stop - start) * 2
        best = int(change.argmax())
        if abs(after[best] - before[best]) < _CHANGE:
            return
        middle = start + int(count[best])
        word = "livelier" if after[best] > before[best] else "calmer"
        borders[middle] = f"the motion becomes {word} (mean {before[best]:.2f}, then {after[best]:.2f})"
        part(start, middle)
        part(middle, stop)

    part(0, len(values))
    edges: dict[float, str] = {0.0: "the clip begins"}
    for row, source in sorted(borders.items()):
        time_s = row / INTENSITY_RATE_HZ
        near = [cut for cut in cuts_s if abs(cut - time_s) <= _CUT_REACH_S]
        at = min(near, key=lambda cut: abs(cut - time_s)) if near else time_s
        edges[round(at, 3)] = f"{source}, at a cut" if near else source
    starts = sorted(edges)
    times = np.arange(len(values)) / INTENSITY_RATE_HZ
    found = []
    for start, end in zip(starts, [*starts[1:], duration_s], strict=True):
        inside = values[(times >= start) & (times < end)]
        mean = float(inside.mean()) if len(inside) else float(values[-1])
        found.append(Section(start, round(end, 3), round(mean, 3), edges[start]))
    return tuple(found)
