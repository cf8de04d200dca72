"""How closely music follows motion: onset strength, motion energy, their correlation, accents met, all against chance.

Curves are [T] arrays on one clock, row i at i / rate_hz seconds. Every measure comes with what unrelated music would
reach, because a maximum over lags and a dense piece both look well by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.evaluation import mel
from expotion_cli.timing import resample_rows

if TYPE_CHECKING:
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream

RATE_HZ = 50.0
MAX_LAG_S = 0.2
TOLERANCE_S = 0.05
"""An onset this near to an accent is seen as one with it."""
NUM_SHIFTS = 200

_NUM_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 48, 40.0, 16_000.0
_LOUDNESS_SLOPE = 1000.0  # bands 60 dB below the loudest moment still count, fainter ones fade out
_WINDOW_ROWS, _LEAD_ROWS = 3, 0.25
_LOOK_BACK_ROWS = 5  # beating and vibrato come back to where they were, an attack rises above it
_BLOCK_ROWS = 1024
_MIN_GAP_S = 0.06


def onset_strength(audio: np.ndarray, sample_rate: int, rate_hz: float = RATE_HZ) -> np.ndarray:
    """Spectral flux: by how much the loudness of mel bands rises above all it was in the last five rows.

    Windows of three rows, centred a quarter of a row before their row's time, because a sharp attack shows as soon as
    a window reaches it; clicks are found some 10 ms early, slow attacks some 20 ms late. Before the first row there is
    silence, so music that begins at 0 has an onset there. The measure does not change with the level of the whole.

    Args:
        audio: [n] or [channels, n]; channels are averaged.
        sample_rate: in Hz.
        rate_hz: rows a second.

    Returns:
        [T] float32 >= 0, mean over the bands of the rises of log loudness; T covers all samples.
    """
    mono = np.atleast_2d(np.asarray(audio, dtype=np.float32)).mean(axis=0)
    num_rows = max(1, math.ceil(len(mono) * rate_hz / sample_rate))
    size = max(16, round(_WINDOW_ROWS * sample_rate / rate_hz))
    spectrum_size = 1 << (size - 1).bit_length()
    bands = mel_bands(spectrum_size, sample_rate)
    shape = np.hanning(size + 2)[1:-1].astype(np.float32)
    centres = np.rint(np.arange(num_rows) * sample_rate / rate_hz).astype(int)
    padded = np.pad(mono, (size // 2 + round(_LEAD_ROWS * sample_rate / rate_hz), size))
    levels = np.empty((num_rows, len(bands)), np.float32)
    for first in range(0, num_rows, _BLOCK_ROWS):
        places = centres[first : first + _BLOCK_ROWS, None] + np.arange(size)
        magnitudes = np.abs(np.fft.rfft(padded[places] * shape, spectrum_size))
        levels[first : first + len(places)] = magnitudes.astype(np.float32) @ bands.T
    loudest = levels.max()
    if loudest <= 0:
        return np.zeros(num_rows, np.float32)
    loudness = np.log1p(_LOUDNESS_SLOPE * levels / loudest)
    before = np.pad(loudness, ((_LOOK_BACK_ROWS, 0), (0, 0)))
    highest = np.lib.stride_tricks.sliding_window_view(before, _LOOK_BACK_ROWS, axis=0).max(axis=-1)[:num_rows]
    return np.maximum(loudness - highest, 0).mean(axis=1)


def mel_bands(spectrum_size: int, sample_rate: int) -> np.ndarray:
    """[bands, bins] float32 triangles, evenly spaced on the mel scale, each of sum 1; empty ones are left out."""
    top = min(_HIGHEST_HZ, sample_rate / 2)
    bands = mel.triangles(np.fft.rfftfreq(spectrum_size, 1 / sample_rate), _LOWEST_HZ, top, _NUM_BANDS)
    sums = bands.sum(axis=1, keepdims=True)
    kept = sums[:, 0] > 0
    return (bands[kept] / sums[kept]).astype(np.float32)


def onset_times(strength: np.ndarray, rate_hz: float = RATE_HZ, threshold: float = 1.5) -> np.ndarray:
    """Moments where a curve peaks clearly: local maxima well above the curve's mean.

    Args:
        strength: [T], from `onset_strength`, or a curve of accents.
        rate_hz: rows a second.
        threshold: how many times the curve's mean a peak must pass.

    Returns:
        [n] seconds, rising, at least 0.06 s apart, refined between rows.
    """
    strength = np.asarray(strength, dtype=np.float64)
    if len(strength) == 0 or strength.max() <= 0:
        return np.zeros(0)
    reach = max(1, math.ceil(_MIN_GAP_S * rate_hz) - 1)
    padded = np.pad(strength, reach, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    # The first of equal neighbours is the peak, so no plateau counts twice.
    highest = (strength >= around.max(axis=1)) & (strength > around[:, :reach].max(axis=1))
    rows = np.flatnonzero(highest & (strength > threshold * strength.mean()))
    before, after = (np.pad(strength, 1)[rows + d] for d in (0, 2))
    bend = before - 2 * strength[rows] + after
    offset = np.where(bend < 0, (before - after) / (2 * np.minimum(bend, -1e-12)), 0.0)
    offset[rows == 0] = 0.0  # nothing is known of what would stand before
    return (rows + np.clip(offset, -0.5, 0.5)) / rate_hz


def motion_energy(
    source: str | Path | EmbeddingStream, rate_hz: float = RATE_HZ, *, cache: EmbeddingCache | None = None
) -> np.ndarray:
    """How much moves in the picture, camera motion taken off.

    Args:
        source: a clip, or its `flow` stream.
        rate_hz: rows a second.
        cache: of embedding streams, for clips.

    Returns:
        [T] float32, picture heights a second.

    Raises:
        ProbeError, DecodeError: the clip can't be read.
    """
    if isinstance(source, str | Path):
        from expotion_cli.vision.streams import encode_clip

        source = encode_clip(source, ("flow",), cache=cache)["flow"]
    times = np.arange(math.ceil(len(source.values) / source.rate_hz * rate_hz)) / rate_hz
    return resample_rows(source.dim("energy")[:, None], source.rate_hz, times)[:, 0]


@dataclass(frozen=True)
class Correlation:
    """A correlation at its best lag.

    Attributes:
        value: Pearson's, -1..1; 0 where one of the curves is flat.
        lag_s: by how much the music follows the motion (negative: it comes first).
    """

    value: float
    lag_s: float


def motion_onset_correlation(
    motion: np.ndarray, onsets: np.ndarray, rate_hz: float = RATE_HZ, max_lag_s: float = MAX_LAG_S
) -> Correlation:
    """Largest Pearson correlation of motion energy and onset strength over small lags.

    Args:
        motion: [T].
        onsets: [T'], on the same clock; what is longer is cut.
        rate_hz: rows a second of both.
        max_lag_s: lags from minus this to plus this are tried.
    """
    length = min(len(motion), len(onsets))
    motion, onsets = np.asarray(motion[:length], np.float64), np.asarray(onsets[:length], np.float64)
    reach = min(round(max_lag_s * rate_hz), length - 2)
    best = Correlation(0.0, 0.0)
    found = False
    for lag in range(-reach, reach + 1):
        value = _pearson(motion[max(0, -lag) : length - max(0, lag)], onsets[max(0, lag) : length - max(0, -lag)])
        if value is not None and (not found or value > best.value):
            best, found = Correlation(value, lag / rate_hz), True
    return best


def _pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    """None where a curve is flat."""
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 1e-12 else None


def loudness_curve(audio: np.ndarray, sample_rate: int, rate_hz: float = RATE_HZ) -> np.ndarray:
    """[T] float32: level of each row's stretch of sound in dB below full scale, never under -60."""
    audio = np.atleast_2d(np.asarray(audio, dtype=np.float32))
    num_rows = math.ceil(audio.shape[1] * rate_hz / sample_rate)
    edges = np.rint(np.arange(num_rows + 1) * sample_rate / rate_hz).astype(int)
    edges = np.minimum(edges, audio.shape[1])
    power = np.concatenate([[0.0], np.cumsum((audio.astype(np.float64) ** 2).mean(axis=0))])
    means = np.diff(power[edges]) / np.maximum(np.diff(edges), 1)
    return (10 * np.log10(np.maximum(means, 1e-6))).astype(np.float32)


def swell_correlation(
    motion: np.ndarray, loudness_db: np.ndarray, rate_hz: float = RATE_HZ, span_s: float = 2.0
) -> float:
    """Pearson correlation of motion and loudness, both averaged over `span_s` seconds: does more motion sound louder?

    Args:
        motion: [T].
        loudness_db: [T'], from `loudness_curve`; what is longer is cut.
        rate_hz: rows a second of both.
        span_s: length of the running mean.

    Returns:
        -1..1; 0 where a curve is flat or shorter than the span.
    """
    length, span = min(len(motion), len(loudness_db)), max(1, round(span_s * rate_hz))
    if length < 2 * span:
        return 0.0
    slow = [
        np.convolve(np.asarray(c[:length], np.float64), np.ones(span) / span, "valid") for c in (motion, loudness_db)
    ]
    return _pearson(*slow) or 0.0


@dataclass(frozen=True)
class Ranking:
    """How much better music fits its own clip than others.

    Attributes:
        own: mean score of music with its own clip.
        other: mean score of music with other clips (shuffled).
        lift: own - other.
        probability: that music and clip that belong together score higher than a pair that shares only the music or
            only the clip (ties count half); 0.5 is chance.
        lift_interval, probability_interval: 95 % bootstrap intervals over clips.
    """

    own: float
    other: float
    lift: float
    probability: float
    lift_interval: tuple[float, float]
    probability_interval: tuple[float, float]


def own_against_other(matrix: np.ndarray, *, seed: int = 0, draws: int = 2000) -> Ranking:
    """Compare the diagonal of a matrix of scores with what is off it.

    Args:
        matrix: [..., N, N], row i music of clip i, column j motion of clip j, N >= 2; leading axes are repetitions
            (other seeds).
        seed: of the bootstrap.
        draws: of the bootstrap.
    """
    matrix = np.asarray(matrix, dtype=np.float64).reshape(-1, *np.shape(matrix)[-2:])
    size = matrix.shape[-1]
    own = np.einsum("rii->ri", matrix)
    wins = (_beats(own[:, :, None], matrix) + _beats(own[:, None, :], matrix)).mean(axis=0) / 2
    scores, diagonal = matrix.mean(axis=0), own.mean(axis=0)
    drawn = np.random.default_rng(seed).integers(0, size, (draws, size))
    counts = np.stack([(drawn == clip).sum(axis=1) for clip in range(size)], axis=1)
    weights = np.concatenate([np.ones((1, size)), counts[(counts > 0).sum(axis=1) > 1]])
    apart = 1 - np.eye(size)
    pairs = np.einsum("bi,bj,ij->b", weights, weights, apart)
    others = np.einsum("bi,bj,ij->b", weights, weights, scores * apart) / pairs
    probabilities = np.einsum("bi,bj,ij->b", weights, weights, wins * apart) / pairs
    owns = weights @ diagonal / size
    lifts = owns - others
    return Ranking(
        float(owns[0]),
        float(others[0]),
        float(lifts[0]),
        float(probabilities[0]),
        _middle(lifts[1:]),
        _middle(probabilities[1:]),
    )


def _beats(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (mine > theirs) + 0.5 * (mine == theirs)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (math.nan, math.nan)
    return float(low), float(high)


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of some values."""
    values = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    return _middle(values[drawn].mean(axis=1))


@dataclass(frozen=True)
class AgainstChance:
    """A measure at the accents, and at the same accents moved elsewhere.

    Attributes:
        value: at the true accents.
        chance: mean over all circular shifts of the accents.
        p_value: share of the shifts (the true place among them) that do at least as well. With evenly spaced accents
            it can't fall below about 2 * tolerance / spacing: a shift by a whole spacing meets the same beats.
        shifted: [NUM_SHIFTS] the measure at each shift, the first one being none.
    """

    value: float
    chance: float
    p_value: float
    shifted: np.ndarray = field(repr=False)

    @property
    def lift(self) -> float:
        """Value above chance."""
        return self.value - self.chance


def accent_hits(
    onset_times_s: np.ndarray, accent_times_s: Sequence[float], duration_s: float, tolerance_s: float = TOLERANCE_S
) -> AgainstChance:
    """Share of accents that meet an onset.

    Args:
        onset_times_s: of the music, from `onset_times` or from its notes.
        accent_times_s: of the motion; at least one.
        duration_s: of the clip.
        tolerance_s: farthest distance that counts as met.
    """
    onsets = np.sort(np.asarray(onset_times_s, dtype=np.float64))
    places = _shifted(accent_times_s, duration_s)
    if not len(onsets):
        return _against(np.zeros(len(places)))
    after = np.searchsorted(onsets, places).clip(1, max(1, len(onsets) - 1))
    nearest = np.abs(places - onsets[after - 1])
    if len(onsets) > 1:
        nearest = np.minimum(nearest, np.abs(places - onsets[after]))
    return _against((nearest <= tolerance_s + 1e-9).mean(axis=1))


def accent_strength(
    strength: np.ndarray,
    rate_hz: float,
    accent_times_s: Sequence[float],
    duration_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> AgainstChance:
    """Mean onset strength near the accents, in units of its mean over all places: above 1 the music stresses them.

    Unlike `accent_hits` it tells stressed from plain onsets, so a busy texture does not reach it by being everywhere.

    Args:
        strength: [T], from `onset_strength`.
        rate_hz: rows a second.
        accent_times_s: of the motion; at least one.
        duration_s: of the clip.
        tolerance_s: the strongest row within this distance counts.
    """
    reach = round(tolerance_s * rate_hz)
    padded = np.pad(np.asarray(strength, dtype=np.float64), reach)
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    rows = np.clip(np.rint(_shifted(accent_times_s, duration_s) * rate_hz).astype(int), 0, len(near) - 1)
    found = near[rows].mean(axis=1)
    return _against(found / found.mean() if found.mean() > 0 else found)


def _shifted(times_s: Sequence[float], duration_s: float) -> np.ndarray:
    """[NUM_SHIFTS, n]: the times moved round a circle, first not at all.

    The circle is as long as n mean spacings, not as the clip: else evenly spaced accents would fall out of step with
    themselves at its seam, no shift could do as well as the true place, and luck with the phase would look like skill.
    """
    times = np.sort(np.asarray(times_s, dtype=np.float64))
    assert len(times) and duration_s > 0, "accents are needed"
    span = times[-1] - times[0]
    circle = min(duration_s, span * len(times) / (len(times) - 1)) if len(times) > 1 and span > 0 else duration_s
    first = np.clip(times[0] - (circle - span) / 2, 0, duration_s - circle)
    return first + (times - first + circle * np.arange(NUM_SHIFTS)[:, None] / NUM_SHIFTS) % circle


def _against(shifted: np.ndarray) -> AgainstChance:
    return AgainstChance(
        float(shifted[0]), float(shifted.mean()), float((shifted >= shifted[0] - 1e-12).mean()), shifted
    )


def pool(
    results: Sequence[AgainstChance], clips: Sequence[Hashable], *, seed: int = 0, draws: int = 10_000
) -> AgainstChance:
    """Several cues together: mean value, mean chance, and how often random shifts do as well.

    Cues of one clip are shifted together, because they share the clip's accents and beats; clips independently.

    Args:
        results: at least one.
        clips: the clip each belongs to.
        seed: of the drawn shifts.
        draws: how many.
    """
    names = list(dict.fromkeys(clips))
    curves = np.stack(
        [np.mean([r.shifted for r, c in zip(results, clips, strict=True) if c == name], axis=0) for name in names]
    )
    picked = np.random.default_rng(seed).integers(0, NUM_SHIFTS, (len(names), draws))
    means = np.concatenate([[curves[:, 0].mean()], np.take_along_axis(curves, picked, axis=1).mean(axis=0)])
    return AgainstChance(float(means[0]), float(curves.mean()), float((means >= means[0] - 1e-12).mean()), means)


def record(value: Any) -> dict[str, Any]:
    """A result as plain JSON values, rounded; the shifts are left out."""
    plain = {k: v for k, v in vars(value).items() if k != "shifted"}
    return {k: [round(x, 4) for x in v] if isinstance(v, tuple) else round(v, 4) for k, v in plain.items()}
