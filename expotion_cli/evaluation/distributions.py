"""Distances between sets of sounds: Fréchet distance, KL divergence, Inception Score; spectrum, chroma, rhythm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.onsets import mel_bands, onset_strength, onset_times
from expotion_cli.audio.spectrum import power_spectrogram
from expotion_cli.audio.tonality import chroma, find_key

_WINDOW = 8192
_FLOOR_DB = 60.0
NUM_SPLITS = 20


@dataclass(frozen=True)
class Descriptor:
    """Summary of a whole sound.

    Attributes:
        mel_db: [bands] mean level of each mel band, its own mean taken off.
        chroma: [12] share of each pitch class.
        tonic: pitch class of the likeliest key, 0 for C.
        minor: whether that key is minor.
        gaps_s: [n] seconds between onsets.
    """

    mel_db: np.ndarray
    chroma: np.ndarray
    tonic: int
    minor: bool
    gaps_s: np.ndarray


def describe(audio: np.ndarray, sample_rate: int) -> Descriptor:
    """Describe a sound, [n] or [channels, n]; its level plays no part."""
    mono = np.atleast_2d(np.asarray(audio, np.float32)).mean(axis=0)
    padded = np.pad(mono, (0, max(0, _WINDOW - len(mono))))
    power = power_spectrogram(padded, _WINDOW, np.arange(0, len(padded) - _WINDOW + 1, _WINDOW // 2))
    mel = (power @ mel_bands(_WINDOW, sample_rate).T).mean(axis=0).astype(np.float64)
    mel_db = 10 * np.log10(np.maximum(mel, max(mel.max(), 1e-12) * 10 ** (-_FLOOR_DB / 10)))
    shares = chroma(power, sample_rate)
    tonic, minor = find_key(shares)
    gaps = np.diff(onset_times(onset_strength(audio, sample_rate)))
    return Descriptor(mel_db - mel_db.mean(), shares, tonic, minor, gaps)


def spectrum_distance(one: Sequence[Descriptor], two: Sequence[Descriptor]) -> float:
    """Root mean square difference in dB of two sets' mean mel spectra, level aside."""
    apart = np.mean([d.mel_db for d in one], axis=0) - np.mean([d.mel_db for d in two], axis=0)
    return float(np.sqrt((apart**2).mean()))


def chroma_distance(one: Sequence[Descriptor], two: Sequence[Descriptor]) -> float:
    """Jensen-Shannon divergence in bits (0..1) of two sets' mean chroma, each cue turned to a tonic of C."""
    p, q = (np.mean([np.roll(d.chroma, -d.tonic) for d in group], axis=0) for group in (one, two))
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def rhythm_distance(one: Sequence[Descriptor], two: Sequence[Descriptor]) -> float:
    """Wasserstein-1 distance in ms of two sets' times between onsets; NaN where a set has none."""
    gaps = [np.sort(np.concatenate([d.gaps_s for d in group])) for group in (one, two)]
    if not all(len(g) for g in gaps):
        return math.nan
    points = np.sort(np.concatenate(gaps))
    shares = [np.searchsorted(g, points[:-1], side="right") / len(g) for g in gaps]
    return float(1000 * (np.abs(shares[0] - shares[1]) * np.diff(points)).sum())


def _entropy(share: np.ndarray) -> float:
    kept = share[share > 0]
    return float(-(kept * np.log2(kept)).sum())


@dataclass(frozen=True)
class GaussianFit:
    """A Gaussian fitted to rows.

    Attributes:
        mean: [D].
        spread: [at most D, D], a matrix A with AᵀA the covariance.
    """

    mean: np.ndarray
    spread: np.ndarray


def fit_gaussian(rows: np.ndarray) -> GaussianFit:
    """Fit a Gaussian to [n, D], n >= 2."""
    return GaussianFit(rows.mean(axis=0, dtype=np.float64), _spread(rows.astype(np.float64)))


def frechet(one: np.ndarray, two: np.ndarray) -> float:
    """Fréchet distance of Gaussians fitted to two sets of embeddings (Kilgour et al. 2019, FAD, section 3).

    Args:
        one: [n, D], n >= 2.
        two: [m, D], m >= 2.
    """
    return frechet_of_fits(fit_gaussian(one), fit_gaussian(two))


def frechet_of_fits(one: GaussianFit, two: GaussianFit) -> float:
    """Fréchet distance of two Gaussians."""
    means = one.mean - two.mean
    # The trace of the root of the covariances' product, exact also where there are fewer rows than dimensions.
    shared = np.linalg.svd(one.spread @ two.spread.T, compute_uv=False).sum()
    return max(0.0, float(means @ means + (one.spread**2).sum() + (two.spread**2).sum() - 2 * shared))


def _spread(rows: np.ndarray) -> np.ndarray:
    """The spread of `GaussianFit`, with not more rows than needed."""
    centred = (rows - rows.mean(axis=0)) / math.sqrt(max(1, len(rows) - 1))
    if len(rows) <= rows.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def kl_divergence(true: np.ndarray, made: np.ndarray) -> float:
    """KL(true ‖ made) in nats of two label distributions [C]."""
    true, made = np.maximum(true, 1e-12), np.maximum(made, 1e-12)
    return float((true * np.log(true / made)).sum())


def inception_score(labels: np.ndarray) -> float:
    """Inception score (Salimans et al. 2016, section 4): exp of the mean KL of each row from the mean row.

    Args:
        labels: [n, C], a distribution a row.

    Returns:
        1..C; 1 where all rows are alike.
    """
    middle = labels.mean(axis=0)
    return float(math.exp(np.mean([kl_divergence(row, middle) for row in labels])))


def to_itself(
    items: Sequence[object], distance: Callable[[Sequence, Sequence], float], seed: int, *, count: int | None = None
) -> float | None:
    """Mean distance of two parts of a set: the floor for distances to it. None for fewer than 4 items.

    Args:
        items: the set.
        distance: between two lists of items.
        seed: of the splits.
        count: how many items are compared with all others, at most half of them; None for half.
    """
    if len(items) < 4:
        return None
    half = len(items) // 2
    size = half if count is None else max(1, min(count, half))
    rng, found = np.random.default_rng(seed), []
    for _ in range(NUM_SPLITS):
        order = rng.permutation(len(items))
        found.append(distance([items[i] for i in order[:size]], [items[i] for i in order[size:]]))
    found = [value for value in found if math.isfinite(value)]
    return float(np.mean(found)) if found else None
