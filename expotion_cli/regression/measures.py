"""How far apart two renderings sound: spectrum, loudness, timing, onsets, character, each with its tolerance.

Every measure is a distance: 0 for equal sound, larger for a larger difference. All are made of numpy and the ebur128
meter; nothing has to be downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ, mel_bands, onset_strength, onset_times
from expotion_cli.audio.spectrum import power_spectrogram
from expotion_cli.audio.tonality import chroma
from expotion_cli.declare import nearest_hint
from expotion_cli.errors import UsageError
from expotion_cli.media.flac import FULL_SCALE
from expotion_cli.media.loudness import ABSOLUTE_GATE_LUFS, Loudness, measure_over_time

MEL_RATE_HZ = 50
FLOOR_DB = 60.0
"""Cells of a spectrogram farther than this below its loudest one are inaudible next to it and not compared."""
CELL_LIMIT_DB = 24.0
"""Largest difference that a single cell counts for: sound against silence is no worse than against other sound."""
LAG_RATE_HZ = 200.0
MAX_LAG_S = 0.25
MIN_CORRELATION = 0.5
ONSET_SLACK_S = 0.03
QUIET_LUFS = -50.0
NUM_CEPSTRA = 20
_WINDOW_S = 0.046
_CHROMA_WINDOW_S = 0.19


@dataclass(frozen=True)
class Tolerance:
    """How much of a difference passes.

    Attributes:
        name: of the measure.
        unit: of its values.
        limit: the largest value that passes.
        title: what it measures, as text.
    """

    name: str
    unit: str
    limit: float
    title: str


# Measured by benchmarks/regress.py with the embedded model (docs/regression-renders.md has the whole table): the same
# render again gives 0 everywhere. Each limit stands clear of what another encoder alone does and well below what the
# smallest fault does that must be seen.
TOLERANCES: tuple[Tolerance, ...] = (
    Tolerance("spectrum", "dB", 1.5, "mean difference of the mel spectrograms, level aside"),
    Tolerance("loudness", "LU", 0.4, "difference of the integrated loudness"),
    Tolerance("swell", "LU", 1.0, "difference of the momentary loudness, level aside, for 95 % of the time"),
    Tolerance("lag", "ms", 10.0, "shift in time, by cross-correlation of the onset curves"),
    Tolerance("onsets", "", 0.25, "share of onsets without a partner within 30 ms (1 - F1)"),
    Tolerance("character", "", 0.25, "distance of the embeddings; unrelated takes lie about 1 apart"),
)


def tolerances(*overrides: Mapping[str, float]) -> dict[str, Tolerance]:
    """The table above by name, with some limits replaced; later ones win.

    Raises:
        UsageError: an unknown measure, or a limit that is not a number of at least 0.
    """
    found = {tolerance.name: tolerance for tolerance in TOLERANCES}
    for values in overrides:
        for name, limit in values.items():
            if name not in found:
                raise UsageError(
                    f"No measure is called {name!r}{nearest_hint(name, found)}.",
                    remedy=f"Measures: {', '.join(found)}.",
                )
            is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
            if not is_number or not 0 <= limit < math.inf:
                raise UsageError(f"{limit!r} is not a tolerance for {name}.", remedy="Give a number of at least 0.")
            old = found[name]
            found[name] = Tolerance(old.name, old.unit, float(limit), old.title)
    return found


class Sound:
    """A rendering and its measures, each computed once when first asked for.

    Args:
        samples: [2, n] int16.
        sample_rate: in Hz.
    """

    def __init__(self, samples: np.ndarray, sample_rate: int):
        self.samples, self.sample_rate = samples, sample_rate

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.samples.shape[1] / self.sample_rate

    @property
    def audio(self) -> np.ndarray:
        """[2, n] float32, full scale 1."""
        return self.samples.astype(np.float32) / FULL_SCALE

    @cached_property
    def mel_db(self) -> np.ndarray:
        """[T, bands] float32: mel spectrogram in dB at `MEL_RATE_HZ`, never more than `FLOOR_DB` below its loudest."""
        power = _spectrogram(self.audio.mean(axis=0), self.sample_rate, _WINDOW_S)
        size = 2 * (power.shape[1] - 1)
        # Bands are summed as power over the window's own gain, so that the sample rate does not matter.
        levels = power @ mel_bands(size, self.sample_rate).T
        top = float(levels.max(initial=0.0))
        return 10 * np.log10(np.maximum(levels, max(top, 1e-12) * 10 ** (-FLOOR_DB / 10))).astype(np.float32)

    @property
    def integrated_lufs(self) -> float:
        """EBU R128, at least -70."""
        return max(self._metered[0].integrated_lufs, ABSOLUTE_GATE_LUFS)

    @property
    def momentary_lufs(self) -> np.ndarray:
        """[T] float: loudness of 0.4 s, ten times a second, at least -70; empty for shorter sound."""
        return np.maximum(self._metered[1], ABSOLUTE_GATE_LUFS)

    @cached_property
    def _metered(self) -> tuple[Loudness, np.ndarray]:
        return measure_over_time(self.audio, self.sample_rate)

    @cached_property
    def onset_curve(self) -> np.ndarray:
        """[T] onset strength at `LAG_RATE_HZ`."""
        return onset_strength(self.audio, self.sample_rate, LAG_RATE_HZ)

    @cached_property
    def onset_times_s(self) -> np.ndarray:
        """[n] seconds: moments of clear onsets."""
        return onset_times(onset_strength(self.audio, self.sample_rate, RATE_HZ), RATE_HZ)

    @cached_property
    def embedding(self) -> np.ndarray:
        """[E] float: a summary of the sound, scaled so that unrelated takes lie about 1 apart.

        Mean and deviation over time of 19 mel cepstra (timbre; the level is left out), mean chroma in 12 pitch classes
        (harmony), mean and deviation of the onset strength and the number of onsets a second (rhythm).
        """
        heard = self.mel_db.max(axis=1) > self.mel_db.max() - FLOOR_DB / 2
        rows = self.mel_db[heard] if heard.any() else self.mel_db
        bands = np.arange(rows.shape[1])
        basis = np.cos(np.pi / len(bands) * (bands + 0.5)[:, None] * np.arange(1, NUM_CEPSTRA)) * np.sqrt(
            2 / len(bands)
        )
        cepstra = rows @ basis
        strength = onset_strength(self.audio, self.sample_rate, RATE_HZ)
        rhythm = np.array([strength.mean(), strength.std()])
        pitches = _spectrogram(self.audio.mean(axis=0), self.sample_rate, _CHROMA_WINDOW_S)
        shares = chroma(pitches, self.sample_rate, lowest_hz=60.0, even_octaves=False)
        density = np.array([len(self.onset_times_s) / max(self.duration_s, 1e-9)])
        parts = (
            cepstra.mean(axis=0),
            cepstra.std(axis=0),
            shares,
            rhythm,
            density,
        )
        # Each part weighs the same: it is divided by its root mean square distance between unrelated takes.
        return np.concatenate([p / (s * math.sqrt(len(parts))) for p, s in zip(parts, EMBEDDING_SCALES, strict=True)])


EMBEDDING_SCALES = (38.0, 13.0, 0.28, 0.12, 1.5)
"""Of timbre, its movement, harmony, onset strength, onset density; measured over shipped recipes, clips and seeds."""


def compare(reference: Sound, new: Sound) -> dict[str, float | None]:
    """All measures of one rendering against another; both begin at the same moment.

    Returns:
        Name → distance, as in `TOLERANCES`; None where it is undefined (the lag of unlike sounds).
    """
    if reference.sample_rate == new.sample_rate and np.array_equal(reference.samples, new.samples):
        return {tolerance.name: 0.0 for tolerance in TOLERANCES}  # as the measures would find, at some cost
    level = abs(new.integrated_lufs - reference.integrated_lufs)
    return {
        "spectrum": _spectral_distance(reference.mel_db, new.mel_db),
        "loudness": level,
        "swell": _swell_distance(reference.momentary_lufs, new.momentary_lufs),
        "lag": _lag_ms(reference.onset_curve, new.onset_curve),
        "onsets": 1 - onset_f1(reference.onset_times_s, new.onset_times_s),
        "character": float(np.linalg.norm(reference.embedding - new.embedding)),
    }


def _spectral_distance(one: np.ndarray, two: np.ndarray) -> float:
    rows = max(len(one), len(two))
    low = min(one.min(), two.min())
    one, two = (np.pad(m, ((0, rows - len(m)), (0, 0)), constant_values=low) for m in (one, two))
    audible = (one > one.max() - FLOOR_DB + 1) | (two > two.max() - FLOOR_DB + 1)
    if not audible.any():
        return 0.0
    apart = (two - one)[audible]
    return float(np.minimum(np.abs(apart - np.median(apart)), CELL_LIMIT_DB).mean())


def _swell_distance(one: np.ndarray, two: np.ndarray) -> float:
    length = min(len(one), len(two))
    one, two = one[:length], two[:length]
    heard = (one > QUIET_LUFS) | (two > QUIET_LUFS)
    if not heard.any():
        return 0.0
    apart = (np.maximum(two, QUIET_LUFS) - np.maximum(one, QUIET_LUFS))[heard]
    return float(np.percentile(np.abs(apart - np.median(apart)), 95))


def _lag_ms(one: np.ndarray, two: np.ndarray) -> float | None:
    """|lag| of the best correlation, None where even that is poor."""
    length = max(len(one), len(two))
    one, two = (np.pad(c, (0, length - len(c))).astype(np.float64) for c in (one, two))
    one, two = one - one.mean(), two - two.mean()
    size = math.sqrt(float(one @ one) * float(two @ two))
    if size < 1e-12:
        return 0.0 if np.allclose(one, two) else None
    reach = min(round(MAX_LAG_S * LAG_RATE_HZ), length - 1)
    padded = 1 << (2 * length - 1).bit_length()
    spectrum = np.conj(np.fft.rfft(one, padded)) * np.fft.rfft(two, padded)
    around = np.fft.irfft(spectrum, padded)
    values = np.concatenate([around[-reach:], around[: reach + 1]]) / size if reach else around[:1] / size
    best = int(values.argmax())
    if values[best] < MIN_CORRELATION:
        return None
    offset = 0.0
    if 0 < best < len(values) - 1 and not np.array_equal(one, two):
        before, at, after = values[best - 1 : best + 2]
        bend = before - 2 * at + after
        offset = (before - after) / (2 * bend) if bend < 0 else 0.0
    return float(abs(best - reach + offset) / LAG_RATE_HZ * 1000)


def onset_f1(one: np.ndarray, two: np.ndarray, slack_s: float = ONSET_SLACK_S) -> float:
    """F1 of pairing onsets that lie within `slack_s` of each other, each used once; 1 if there are none at all."""
    if not len(one) and not len(two):
        return 1.0
    i = j = pairs = 0
    while i < len(one) and j < len(two):
        if abs(one[i] - two[j]) <= slack_s:
            i, j, pairs = i + 1, j + 1, pairs + 1
        elif one[i] < two[j]:
            i += 1
        else:
            j += 1
    return 2 * pairs / (len(one) + len(two))


def _spectrogram(mono: np.ndarray, sample_rate: int, window_s: float) -> np.ndarray:
    """[T, bins] power at `MEL_RATE_HZ`, windows centred on their rows, full scale sine = 1."""
    size = 1 << round(math.log2(window_s * sample_rate))
    rows = max(1, math.ceil(len(mono) * MEL_RATE_HZ / sample_rate))
    padded = np.pad(mono, (size // 2, size))
    starts = np.rint(np.arange(rows) * sample_rate / MEL_RATE_HZ).astype(int)
    gain = np.hanning(size + 1)[:-1].astype(np.float32).sum()
    return power_spectrogram(padded, size, starts) * (2 / gain) ** 2
