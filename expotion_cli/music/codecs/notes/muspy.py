"""MusPy's measures of symbolic music (Dong et al., "MusPy: A Toolkit for Symbolic Music Generation", ISMIR 2020).

They are told of counts, onsets and spans on any step grid, so that note tokens (`metrics`) and MIDI files
(`evaluation.symbolic`) are measured by the same code. Drums count where MusPy counts them: in the groove and in whether
a beat is empty, not in what has to do with pitch.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

MEASURES = ("pitch_class_entropy", "scale_consistency", "groove_consistency", "polyphony", "empty_beat_rate")

_MAJOR = np.zeros(12, bool)
_MAJOR[[0, 2, 4, 5, 7, 9, 11]] = True
# The natural minor scale on A has the tones of the major scale on C, so twelve scales stand for all 24 keys.
_SCALES = np.stack([np.roll(_MAJOR, tonic) for tonic in range(12)])


def entropy_bits(counts: np.ndarray) -> float:
    """Entropy of a histogram in bits; 0 for an empty one. Of pitch classes: MusPy's pitch-class entropy."""
    total = counts.sum()
    if not total:
        return 0.0
    share = counts[counts > 0] / total
    return float(-(share * np.log2(share)).sum())


def scale_consistency(pitch_classes: np.ndarray) -> float:
    """Largest share of notes within one of the 24 natural major and minor scales (Mogren 2016, "C-RNN-GAN").

    Args:
        pitch_classes: [12] counts.

    Returns:
        0..1; NaN without notes.
    """
    total = pitch_classes.sum()
    return float((_SCALES @ pitch_classes).max() / total) if total else math.nan


def groove_consistency(onset_steps: np.ndarray, bar_lines: np.ndarray) -> float:
    """1 less the share of steps at which a bar differs from the next in whether anything begins.

    After Wu and Yang, "The Jazz Transformer on the Front Line", ISMIR 2020. Bars of another length than the one before,
    as where the metre changes, are not compared with it.

    Args:
        onset_steps: [n] int, steps at which a note begins, in any order; those outside the bars are left out.
        bar_lines: [m + 1] int, rising: where each bar begins, and where the last one ends.

    Returns:
        0..1; NaN without two bars that can be compared.
    """
    begins = np.zeros(max(0, int(bar_lines[-1]) - int(bar_lines[0])), bool)
    inside = onset_steps - bar_lines[0]
    begins[inside[(inside >= 0) & (inside < len(begins))]] = True
    bars = np.split(begins, bar_lines[1:-1] - bar_lines[0])
    differing = [one != other for one, other in itertools.pairwise(bars) if len(one) == len(other)]
    return float(1 - np.concatenate(differing).mean()) if differing else math.nan


def polyphony(sounding: np.ndarray) -> float:
    """Mean number of pitches at the steps at which any sounds.

    Args:
        sounding: [S] number of pitches at each step.

    Returns:
        At least 1; NaN where nothing sounds at all.
    """
    return float(sounding[sounding > 0].mean()) if (sounding > 0).any() else math.nan


def empty_beat_rate(starts: np.ndarray, ends: np.ndarray, num_beats: int, beat_steps: int) -> float:
    """Share of beats during which no note sounds (Dong et al. 2018, "MuseGAN": empty bars).

    Args:
        starts: [n] int, first step of each note.
        ends: [n] int, step after its last.
        num_beats: beats of the piece.
        beat_steps: steps in a beat.

    Returns:
        0..1.
    """
    filled = np.zeros(num_beats, bool)
    for start, end in zip(starts, ends, strict=True):
        filled[start // beat_steps : (end - 1) // beat_steps + 1] = True
    return float((~filled).mean())
