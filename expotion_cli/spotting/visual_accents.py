"""The accents that a viewer sees in a clip, by its motion energy alone: what music is measured against.

`spotting/hits.py` chooses the hit points that music is written for, from all encoders. These are kept apart from them,
so that the measure doesn't repeat the choice that it judges.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.audio.onsets import RATE_HZ

SMOOTH_S, MIN_PROMINENCE, MIN_GAP_S, PER_SECOND = 0.04, 0.15, 0.3, 1.0


def visual_accents(motion: np.ndarray, rate_hz: float = RATE_HZ) -> np.ndarray:
    """Salient accents of the picture: clear maxima of motion energy, at most one a second on average.

    Maxima of the energy (smoothed by a Gaussian of 40 ms) whose prominence is at least 15 % of its range, at least
    0.3 s apart; of more than one a second the strongest are kept.

    Args:
        motion: [T] >= 0, e.g. from `spotting.activity.motion_energy`.
        rate_hz: rows a second.

    Returns:
        [n] seconds, rising.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    motion = np.asarray(motion, dtype=np.float64)
    if len(motion) < 3 or np.ptp(motion) <= 0:
        return np.zeros(0)
    smooth = gaussian_filter1d(motion, SMOOTH_S * rate_hz, mode="nearest")
    rows, _ = find_peaks(smooth, prominence=MIN_PROMINENCE * np.ptp(smooth), distance=MIN_GAP_S * rate_hz)
    most = max(1, round(PER_SECOND * len(motion) / rate_hz))
    strongest = rows[np.argsort(-smooth[rows], kind="stable")[:most]]
    return np.sort(strongest) / rate_hz
