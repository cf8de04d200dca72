"""The tempo of a cue from the pulse of the motion, and the place of its beats and bars on the picture's clock."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from expotion_cli.timing import BEATS_PER_BAR, Tempo, exact

_RELATIONS = {Fraction(1): 1.0, Fraction(2): 0.96, Fraction(1, 2): 0.93, Fraction(4): 0.85, Fraction(1, 4): 0.75,
              Fraction(3): 0.65, Fraction(3, 2): 0.6, Fraction(2, 3): 0.6}  # fmt: skip
"""Pulses of the motion per beat of the music, with their weights: octaves are clearly preferred to triplets."""
_PULSE_BPM = (35.0, 300.0)
_NUM_LAGS = 4
_PREFERENCE_OCTAVES = 1.2
_NO_PULSE, _SURE_PULSE = 0.2, 0.7
_TREND_S, _SMOOTH_S = 1.0, 0.04
_OFFBEAT, _HALF_BAR = 0.3, 0.5
_FREE_REACH = 1.15


def choose_tempo(
    energy: np.ndarray,
    accents: np.ndarray,
    rate_hz: float,
    duration: Fraction | float,
    bpm_range: tuple[float, float],
) -> Tempo:
    """Find the pulse of the motion, fold it into a range of tempos, and place beats and bars on the accents.

    The autocorrelation of energy and accents tells how strongly every period returns; each tempo of the range is
    judged by the strongest pulse it could carry (as many pulses a beat as `_RELATIONS` has). Tempo and place of the
    beats are then refined together so that beats meet accents, or peaks of energy where there are no accents.

    Args:
        energy: [T] >= 0, how much moves.
        accents: [T] >= 0, peaks where motion stops or turns; T of both may differ by a few rows.
        rate_hz: rows a second; row 0 is at the first frame.
        duration: of the clip, in seconds; rows beyond it are ignored.
        bpm_range: lowest and highest tempo; equal ends fix the tempo, and only beats and bars are placed.

    Returns:
        The tempo. Motion without a pulse (most free gestures): of the tempos near the middle of the range the one
        whose beats meet the accents best. Without any motion: the middle of the range, with a bar that begins at 0.
        The confidence is 0 in both cases.

    Raises:
        ValueError: the range isn't positive, or its ends are swapped.
    """
    low, high = (float(bound) for bound in bpm_range)
    if not 0 < low <= high:
        raise ValueError(f"Not a tempo range: {bpm_range}.")
    rows = max(1, math.ceil(float(duration) * rate_hz))
    streams = [stream for stream in (_clean(energy, rows), _clean(accents, rows)) if stream is not None]
    steadied = [_steady(stream, rate_hz) for stream in streams]
    moving = [stream for stream in steadied if stream is not None]
    middle = low if low == high else math.sqrt(low * high)
    if not moving:
        return _tempo(middle, 0.0, 0.0)
    returns = _autocorrelation(moving)
    if low == high:
        tempos = np.array([middle])
        strength, _ = _carried(tempos, returns, rate_hz)
        confidence = _confidence(float(strength[0]))
    else:
        candidates = np.geomspace(low, high, max(2, math.ceil(math.log(high / low) / 0.0025) + 1))
        strength, relation = _carried(candidates, returns, rate_hz)
        liking = np.exp(-0.5 * (np.log2(candidates / middle) / _PREFERENCE_OCTAVES) ** 2)
        best = int(np.argmax(strength * liking))
        confidence = _confidence(float(strength[best]))
        if confidence == 0:
            reach = min(_FREE_REACH, high / middle)
            tempos = np.geomspace(middle / reach, middle * reach, 61)
            return _tempo(
                *_place_beats(_targets(energy, accents, rows, rate_hz), rate_hz, float(duration), tempos), 0.0
            )
        refined = _sharpen(float(candidates[best]) * relation[best], moving, rate_hz) / relation[best]
        spread = 0.15 * middle / (float(duration) * refined / 60 + 4)  # beyond it a beat would be lost over the clip
        tempos = np.clip(refined + np.linspace(-spread, spread, 15), low, high)
    bpm, start = _place_beats(_targets(energy, accents, rows, rate_hz), rate_hz, float(duration), tempos)
    return _tempo(bpm, start, confidence)


def _tempo(bpm: float, start_s: float, confidence: float) -> Tempo:
    tempo = Fraction(round(bpm * 1000), 1000)
    bar = BEATS_PER_BAR * 60 / tempo
    start = exact(-(-start_s % float(bar)))
    return Tempo(tempo, start if start > -bar else Fraction(0), confidence)


def _clean(stream: np.ndarray, rows: int) -> np.ndarray | None:
    """The first rows, with gaps set to 0; None for fewer than 8 rows."""
    stream = np.nan_to_num(np.asarray(stream, dtype=np.float64)[:rows], posinf=0.0, neginf=0.0)
    return stream if len(stream) >= 8 else None


def _blur(stream: np.ndarray, sigma_rows: float) -> np.ndarray:
    """Gaussian smoothing; the end values are held beyond the ends."""
    reach = max(1, math.ceil(3 * sigma_rows))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma_rows, 0.1)) ** 2)
    return np.convolve(np.pad(stream, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _steady(stream: np.ndarray, rate_hz: float) -> np.ndarray | None:
    """Remove the slow trend and even out the local size; None for a curve that hardly changes."""
    smooth = _blur(stream, _SMOOTH_S * rate_hz)
    trend = _blur(smooth, min(_TREND_S * rate_hz, len(stream) / 6))
    change: np.ndarray = smooth - trend
    size = change.std()
    if size <= 1e-6 + 1e-3 * np.abs(stream).mean():
        return None
    # A single large gesture should not drown the pulse of all the others.
    local = np.sqrt(_blur(change**2, min(2 * _TREND_S * rate_hz, len(stream) / 4)))
    even = np.divide(change, local + 0.3 * size)
    return np.asarray(even - even.mean())


def _autocorrelation(streams: list[np.ndarray]) -> np.ndarray:
    """Mean of the streams' autocorrelations, 1 at lag 0, as far as three quarters of their length."""
    length = min(len(stream) for stream in streams)
    total = np.zeros(max(2, length * 3 // 4))
    for stream in streams:
        spectrum = np.fft.rfft(stream[:length], 2 * length)
        returned = np.fft.irfft(np.abs(spectrum) ** 2)[: len(total)]
        total += returned / (returned[0] + 1e-12) * (length / (length - np.arange(len(total))))
    return total / len(streams)


def _carried(bpm: np.ndarray, returns: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """For each tempo the strength of the strongest pulse that fits it, and that pulse's rate per beat of the music."""
    strengths = []
    for relation, welcome in _RELATIONS.items():
        pulse = bpm * float(relation)
        inside = (pulse >= _PULSE_BPM[0]) & (pulse <= _PULSE_BPM[1])
        strengths.append(np.where(inside, welcome * _comb(60 * rate_hz / pulse, returns), -1.0))
    table = np.array(strengths)
    best = table.argmax(axis=0)
    return table.max(axis=0), np.array([float(relation) for relation in _RELATIONS])[best]


def _comb(period_rows: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """How much more the motion returns after whole periods than between them: 1 for a pendulum, 0 for noise.

    Between: at halves and thirds, so that neither the double nor the triple of a period passes for it.
    """
    lags = np.arange(len(returns))
    total, weights = np.zeros(len(period_rows)), np.zeros(len(period_rows))
    for k in range(1, _NUM_LAGS + 1):
        known = k * period_rows <= len(returns) - 1
        whole, half, third = (np.interp((k - part) * period_rows, lags, returns) for part in (0, 1 / 2, 1 / 3))
        total += np.where(known, (whole - 0.4 * half - 0.4 * third) / 1.6, 0.0)
        weights += known
    # A period that fits into the clip hardly more than once proves nothing.
    return np.where(weights >= 2, total / np.maximum(weights, 1), 0.0)


def _confidence(strength: float) -> float:
    return float(np.clip((strength - _NO_PULSE) / (_SURE_PULSE - _NO_PULSE), 0, 1))


def _sharpen(pulse_bpm: float, streams: list[np.ndarray], rate_hz: float) -> float:
    """The pulse's exact rate: the peak of the spectrum (and its octave) near the rate found from lags."""
    near = pulse_bpm * np.linspace(0.96, 1.04, 161)
    power = np.zeros(len(near))
    for stream in streams:
        seconds = np.arange(len(stream)) / rate_hz
        shaped = stream * np.hanning(len(stream) + 2)[1:-1]
        for harmonic in (1, 2):
            turns = np.exp(-2j * np.pi * harmonic / 60 * near[:, None] * seconds)
            power += np.abs(turns @ shaped) ** 2
    return float(near[power.argmax()])


def _targets(energy: np.ndarray, accents: np.ndarray, rows: int, rate_hz: float) -> np.ndarray:
    """[T] >= 0: how well a beat would fit at each row: at accents, and less so at peaks of energy."""
    total = np.zeros(rows)
    for given, weight in ((accents, 1.0), (energy, 0.25)):
        stream = _clean(given, rows)
        if stream is None:
            continue
        smooth = _blur(stream, _SMOOTH_S * rate_hz)
        peaks = np.maximum(smooth - _blur(smooth, min(_TREND_S * rate_hz, len(stream) / 6)), 0)
        size = np.sqrt((peaks**2).mean())
        if size > 1e-6 + 1e-3 * np.abs(stream).mean():
            total[: len(peaks)] += weight * np.sqrt(peaks / size)  # the root keeps one large accent from ruling alone
    return total


def _place_beats(targets: np.ndarray, rate_hz: float, duration_s: float, tempos: np.ndarray) -> tuple[float, float]:
    """The tempo and the phase whose beats, and then whose bars, meet the targets best.

    Returns:
        (tempo in beats a minute, time in seconds at which a bar begins).
    """
    rows = np.arange(len(targets))

    def read(times_s: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.interp(times_s * rate_hz, rows, targets, left=0.0, right=0.0)
        return found

    best, bpm, first = -1.0, float(tempos[len(tempos) // 2]), 0.0
    for tempo in tempos:
        beat_s = 60 / tempo
        phases = np.arange(96) / 96 * beat_s
        beats = phases[:, None] + beat_s * np.arange(max(1, math.ceil(duration_s / beat_s)))
        inside = (beats < duration_s).sum(axis=1)
        met = (read(beats).sum(axis=1) + _OFFBEAT * read(beats + beat_s / 2).sum(axis=1)) / np.maximum(inside, 1)
        if met.max() > best:
            best, bpm, first = float(met.max()), float(tempo), float(phases[met.argmax()])
    beat_s = 60 / bpm
    beats = first + beat_s * np.arange(max(1, math.ceil((duration_s - first) / beat_s)))
    met = read(beats)
    bars = []
    for strong in range(BEATS_PER_BAR):
        third = (strong + BEATS_PER_BAR // 2) % BEATS_PER_BAR
        here, there = met[strong::BEATS_PER_BAR], met[third::BEATS_PER_BAR]
        bars.append((here.mean() if len(here) else 0.0) + _HALF_BAR * (there.mean() if len(there) else 0.0))
    return bpm, first + beat_s * int(np.argmax(bars))
