"""How loud a voice is, and what brings instruments of different loudness into balance."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.filters import apply_sections
from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.tokens import VOICE_INDEX, VOICES

TARGET_LUFS = {"harmony": -26.5, "drums": -23.0, "percussion": -27.5, "bass": -24.0, "figure": -25.5,
               "melody": -21.5, "counter": -25.0}  # fmt: skip
"""Momentary loudness of each voice alone at a firm velocity: the melody leads, the pad carries, drums drive."""
_DRUM_KEY_LU = {36: 0.0, 38: 0.0, 45: -1.5, 48: -1.5, 49: 0.0, 42: 0.0, 46: 1.0, 51: 0.5, 54: -1.0, 39: 1.0}
"""Wanted loudness of each drum against its voice's target."""
_TEST_VELOCITY = 92
_TEST_PITCHES = {"bass": (31, 36, 43), "figure": (55, 62, 69), "melody": (62, 69, 76), "counter": (53, 60, 67)}
_TEST_CHORD = (55, 60, 64, 67)
_LARGEST_CORRECTION_DB = 18.0
_BLOCK_S, _HOP_S = 0.4, 0.1
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU = -70.0, 10.0
_GAIN_HOP = 64  # samples between two values of a peak gain
_LOOK_S = 0.0045  # it begins to fall so long before a peak and rises no sooner after it
_RATIO, _KNEE_DB, _RELEASE_DB_S = 4.0, 6.0, 150.0


def k_weighted(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sound weighted as ITU-R BS.1770 weights it, for any sample rate.

    Args:
        audio: [channels, n] float32.
    """
    # The recommendation's two filters, from the analogue prototypes that its 48 kHz coefficients come from.
    shelf_gain = 10 ** (3.999843853973347 / 20)
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    vb = shelf_gain**0.4996667741545416
    norm = 1 + k / q + k * k
    middle = 2 * (k * k - 1) / norm
    shelf = (
        (shelf_gain + vb * k / q + k * k) / norm,
        2 * (k * k - shelf_gain) / norm,
        (shelf_gain - vb * k / q + k * k) / norm,
        *(1.0, middle, (1 - k / q + k * k) / norm),
    )
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    # Its numerator is 1, -2, 1 in the recommendation, not divided by `norm` as a high-pass filter's would be.
    low_cut = (1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm)
    return apply_sections(audio, [shelf, low_cut], ring=sample_rate // 5)


def momentary_lufs(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Loudness of 0.4 s blocks every 0.1 s (at least one block), in LUFS; silence is -inf.

    Args:
        audio: [channels, n] float32.
    """
    power = (k_weighted(audio, sample_rate).astype(np.float64) ** 2).sum(axis=0)
    block, hop = round(_BLOCK_S * sample_rate), round(_HOP_S * sample_rate)
    power = np.pad(power, (0, max(0, block - len(power))))
    total = np.concatenate([[0.0], np.cumsum(power)])
    starts = np.arange(0, len(power) - block + 1, hop)
    mean = np.maximum(total[starts + block] - total[starts], 0) / block
    with np.errstate(divide="ignore"):
        return -0.691 + 10 * np.log10(mean)


def integrated_lufs(audio: np.ndarray, sample_rate: int) -> float:
    """Loudness of the whole with BS.1770's two gates, in LUFS; silence is -inf.

    Args:
        audio: [channels, n] float32.
    """
    blocks = momentary_lufs(audio, sample_rate)
    power = 10 ** (blocks[blocks > _ABSOLUTE_GATE_LUFS] / 10)
    if not len(power):
        return -math.inf
    loud = power[power > power.mean() * 10 ** (-_RELATIVE_GATE_LU / 10)]
    return float(10 * np.log10(loud.mean()))


def peak_gain(audio: np.ndarray, sample_rate: int, threshold_dbfs: float) -> np.ndarray:
    """Gain that holds peaks near a threshold: of what a peak exceeds it by, a quarter stays (soft knee).

    The gain sees peaks coming, so no attack slips through; it is 1 wherever nothing near exceeds the threshold.

    Args:
        audio: [channels, n] float32; all channels get the same gain.
        sample_rate: in Hz.
        threshold_dbfs: highest peak that is left nearly alone.

    Returns:
        [n] float32, 0..1.
    """
    num_samples = audio.shape[1]
    hops = -(-num_samples // _GAIN_HOP)
    peaks = np.zeros(hops * _GAIN_HOP, np.float32)
    peaks[:num_samples] = np.abs(audio).max(axis=0)
    level_db = 20 * np.log10(np.maximum(peaks.reshape(hops, _GAIN_HOP).max(axis=1), 1e-6))
    look = max(1, round(_LOOK_S * sample_rate / _GAIN_HOP))
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(level_db, 2 * look, mode="edge"), 4 * look + 1)
    # A fall by so many decibels a second is a running maximum once the fall has been added.
    fall_db = _RELEASE_DB_S * _GAIN_HOP / sample_rate * np.arange(hops)
    held_db = np.maximum.accumulate(nearby.max(axis=1) + fall_db) - fall_db
    over_db = held_db - threshold_dbfs
    bend_db = np.clip(over_db + _KNEE_DB / 2, 0, _KNEE_DB) ** 2 / (2 * _KNEE_DB) + np.maximum(over_db - _KNEE_DB / 2, 0)
    # Smoothed over less than what `nearby` looks at, so that the full reduction still stands at the peak itself.
    window = np.hanning(2 * look + 3)[1:-1]
    smooth_db = np.convolve(np.pad(bend_db, look, mode="edge"), window / window.sum(), mode="valid")
    centres = (np.arange(hops) + 0.5) * _GAIN_HOP
    gain_db = np.interp(np.arange(num_samples), centres, (1 / _RATIO - 1) * smooth_db)
    return (10 ** (gain_db / 20)).astype(np.float32)


class Balance:
    """Gains that bring every instrument of a soundfont to its voice's level, measured on test notes as needed."""

    def __init__(self, synth: Synth):
        self._synth = synth
        self._gains: dict[tuple[str, int, int], float] = {}

    def gain(self, voice: str, program: int, drum_key: int = 0) -> float:
        """Linear gain of a voice played by this program; for drums, of one key of this kit."""
        key = (voice, program, drum_key)
        if key not in self._gains:
            wanted = TARGET_LUFS[voice] + _DRUM_KEY_LU.get(drum_key, 0.0)
            correction_db = wanted - self._loudness(voice, program, drum_key)
            if not math.isfinite(correction_db):  # the soundfont has no such sound
                correction_db = 0.0
            limited_db = max(-_LARGEST_CORRECTION_DB, min(_LARGEST_CORRECTION_DB, correction_db))
            self._gains[key] = 10 ** (limited_db / 20)
        return self._gains[key]

    def _loudness(self, voice: str, program: int, drum_key: int) -> float:
        rate, kind = self._synth.sample_rate, VOICES[VOICE_INDEX[voice]].kind
        if kind == "drums":
            notes = [PlayedNote(k * 0.2, 0.1, drum_key, _TEST_VELOCITY) for k in range(2)]
            return float(momentary_lufs(self._synth.play(notes, program, round(0.4 * rate), True), rate).max())
        if kind == "chord":
            notes = [PlayedNote(0.0, 1.2, pitch, _TEST_VELOCITY) for pitch in _TEST_CHORD]
            return float(momentary_lufs(self._synth.play(notes, program, round(1.2 * rate)), rate).max())
        levels = [
            momentary_lufs(self._synth.play([PlayedNote(0.0, 0.8, p, _TEST_VELOCITY)], program, rate), rate).max()
            for p in _TEST_PITCHES[voice]
        ]
        return float(np.median(levels))
