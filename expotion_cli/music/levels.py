"""How loud a voice is, and what brings instruments of different loudness into balance."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.music.filters import apply_sections
from expotion_cli.music.notes import VOICE_INDEX, VOICES
from expotion_cli.music.synth import PlayedNote, Synth

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
