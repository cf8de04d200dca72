"""Balances instruments of different loudness, and limits the peaks of drums."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.loudness import momentary_lufs
from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.tokens import VOICE_INDEX, VOICES

TARGET_LUFS = {"harmony": -26.5, "drums": -23.0, "percussion": -26.0, "bass": -24.5, "figure": -24.0,
               "melody": -21.5, "counter": -25.0}  # fmt: skip
"""Target momentary loudness of each voice by itself, at velocity 92."""
_DRUM_KEY_LU = {36: 0.0, 38: 0.0, 45: -1.5, 48: -1.5, 49: 0.0, 42: 0.0, 46: 1.0, 51: 0.5, 54: -1.0, 39: 1.0}
"""Target loudness of each drum key, relative to its voice's."""
_TEST_VELOCITY = 92
_TEST_PITCHES = {"bass": (31, 36, 43), "figure": (55, 62, 69), "melody": (62, 69, 76), "counter": (53, 60, 67)}
_TEST_CHORD = (55, 60, 64, 67)
_LARGEST_CORRECTION_DB = 18.0
_GAIN_HOP = 64  # samples between two values of a peak gain
_LOOKAHEAD_S = 0.0045  # the gain falls this long before a peak, and does not rise sooner after it
_BLOCK = 1 << 20
_RATIO, _KNEE_DB, _RELEASE_DB_S = 4.0, 6.0, 150.0


def peak_gain(audio: np.ndarray, sample_rate: int, threshold_dbfs: float) -> np.ndarray:
    """Gain curve of a look-ahead limiter with ratio 4:1 and a soft knee.

    It is 1 wherever nothing nearby exceeds the threshold.

    Args:
        audio: [channels, n] float32; all channels get the same gain.
        sample_rate: in Hz.
        threshold_dbfs: peak level at which limiting begins (the middle of the knee).

    Returns:
        [n] float32, 0..1.
    """
    num_samples = audio.shape[1]
    hops = -(-num_samples // _GAIN_HOP)
    peaks = np.zeros(hops * _GAIN_HOP, np.float32)
    peaks[:num_samples] = np.maximum(audio.max(axis=0), -audio.min(axis=0))
    level_db = 20 * np.log10(np.maximum(peaks.reshape(hops, _GAIN_HOP).max(axis=1), 1e-6))
    lookahead = max(1, round(_LOOKAHEAD_S * sample_rate / _GAIN_HOP))
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(level_db, 2 * lookahead, mode="edge"), 4 * lookahead + 1)
    # A fall by so many decibels a second is a running maximum once the fall has been added.
    fall_db = _RELEASE_DB_S * _GAIN_HOP / sample_rate * np.arange(hops)
    held_db = np.maximum.accumulate(nearby.max(axis=1) + fall_db) - fall_db
    over_db = held_db - threshold_dbfs
    reduction_db = np.clip(over_db + _KNEE_DB / 2, 0, _KNEE_DB) ** 2 / (2 * _KNEE_DB) + np.maximum(
        over_db - _KNEE_DB / 2, 0
    )
    # Smoothed over less than what `nearby` looks at, so that the full reduction still stands at the peak itself.
    window = np.hanning(2 * lookahead + 3)[1:-1]
    smooth_db = np.convolve(np.pad(reduction_db, lookahead, mode="edge"), window / window.sum(), mode="valid")
    centres = (np.arange(hops) + 0.5) * _GAIN_HOP
    gain = np.empty(num_samples, np.float32)
    for first in range(0, num_samples, _BLOCK):  # in blocks, so that long sound needs little memory
        here = np.arange(first, min(first + _BLOCK, num_samples))
        gain[first : here[-1] + 1] = 10 ** (np.interp(here, centres, (1 / _RATIO - 1) * smooth_db) / 20)
    return gain


class Balance:
    """Gains that bring each instrument of a soundfont to its voice's target, measured on test notes."""

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
