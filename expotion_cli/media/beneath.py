"""How loud the music is beside the clip's own sound, moment by moment: laid under it, or lowered where somebody speaks.

Levels are loudness in LUFS (ITU-R BS.1770), in blocks of 0.4 s. What is found is a gain over time, which holds for the
music as a whole and for each of its stems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from expotion_cli.audio.filters import apply_sections, high_pass, low_pass
from expotion_cli.audio.loudness import ABSOLUTE_GATE_LUFS, BLOCK_S, HOP_S, RELATIVE_GATE_LU, momentary_lufs

VERSION = 1
"""Raised when the same sounds come to be mixed otherwise."""
ROWS_HZ = 100.0
SLOW_S, STEADY_LU, MOST_LIFT_LU = 3.0, 1.0, 12.0
"""Under other sound, the loudness of so many seconds of music keeps so near to the level asked for: louder passages
would cover that sound, softer ones be lost."""
SWELL_LU = 3.0
"""By so much a moment may be louder."""
SPEECH_BAND_HZ = (300, 3400)
QUIET_LUFS = -30.0
"""Own sound without speech that is quieter than this is no measure for the music: it is room tone, or hiss."""

SOUNDING_DB, WINDOW_S = 18.0, 0.1
"""So far below the level of its loud parts, the clip's own sound is a pause."""
BEFORE_S, AFTER_S, SMOOTH_S = 0.2, 0.6, 0.4
PAUSE_LIFT_LU = 5.0
"""In its pauses the music under it rises by this."""
SILENT_DBFS = -60.0
BANG_DB, BANG_S, BANG_SHARE = 15.0, 0.3, 0.05
"""Shorter, and by more above its surroundings, is a clap, which no level is taken from, unless claps fill so much of
what can be heard."""
MEDIAN_HOPS = 10_000
"""Looked at together, so that long sounds need little memory."""

BRIDGE_S = 1.5
"""The music stays down in shorter pauses: it would come up just to go down again."""
LEAD_S, DOWN_S = 0.06, 0.3
"""It has gone down so long before the first syllable, and takes so long for it."""
HOLD_S, UP_S = 0.1, 0.7
"""It begins to rise so long after the last one, and takes so long for it: within a second it is back."""


def under_db(music: np.ndarray, own: np.ndarray, sample_rate: int, under_lu: float) -> np.ndarray | None:
    """Gain for music that lies under the clip's own sound, whatever that is, and rises a little in its pauses.

    Args:
        music: [2, n] float32.
        own: [2, n] float32, the clip's own sound.
        sample_rate: of both, in Hz.
        under_lu: how far the music lies below the own sound while that sounds.

    Returns:
        [T] dB at `ROWS_HZ`; None where one of the sounds is silent.
    """
    hop = max(1, round(sample_rate / ROWS_HZ))
    heard = _without_bangs(own, hop)
    ours, theirs = momentary_lufs(heard, sample_rate), momentary_lufs(music, sample_rate)
    level = _gated(ours)
    if not (math.isfinite(level) and math.isfinite(_gated(theirs))):
        return None
    own_db = _level_db(heard, hop, WINDOW_S)
    loud_db = _loud_db(own_db)
    before, after = round(BEFORE_S * ROWS_HZ), round(AFTER_S * ROWS_HZ)
    sounding = _spread(own_db > max(loud_db - SOUNDING_DB, SILENT_DBFS), before, after)
    rows = math.ceil(music.shape[1] / sample_rate * ROWS_HZ)
    sounding = sounding[:rows] if len(sounding) >= rows else np.pad(sounding, (0, rows - len(sounding)), mode="edge")
    middles = np.minimum((np.arange(len(theirs)) * HOP_S + BLOCK_S / 2) * ROWS_HZ, rows - 1).astype(int)
    evened = theirs + _evening_lu(theirs, sounding[middles])
    mean = _while_sounding(evened, sounding[middles], _gated(evened))
    even_db = _over_rows(_evening_lu(theirs, sounding[middles]), rows)
    return _smoothed(level - under_lu - mean + np.where(sounding, even_db, PAUSE_LIFT_LU), SMOOTH_S * ROWS_HZ)


def duck_db(
    music: np.ndarray, own: np.ndarray, sample_rate: int, speech: Sequence[tuple[float, float]], under_lu: float
) -> np.ndarray | None:
    """Gain for music that is lowered where somebody speaks.

    Elsewhere it is as loud as the voice. Without speech it is as loud as the clip's own sound, and not lowered.

    Args:
        music: [2, n] float32.
        own: [2, n] float32, the clip's own sound.
        sample_rate: of both, in Hz.
        speech: spans in which somebody speaks, in seconds, in order.
        under_lu: how far below the voice the music lies meanwhile, by loudness and in the band of speech.

    Returns:
        [T] dB at `ROWS_HZ`; None where one of the sounds is silent.
    """
    theirs, ours = momentary_lufs(music, sample_rate), momentary_lufs(own, sample_rate)
    whole = _gated(theirs)
    spoken = _blocks_in(speech, len(ours))
    voice = _gated(ours[spoken]) if spoken.any() else -math.inf
    rows = math.ceil(music.shape[1] / sample_rate * ROWS_HZ)
    if not math.isfinite(voice):
        level = _gated(ours)
        heard = math.isfinite(level) and math.isfinite(whole)
        return np.full(rows, max(level, QUIET_LUFS) - whole) if heard else None
    if not math.isfinite(whole):
        return None
    rest_db = voice - whole
    down_db = voice - under_lu - _while_sounding(theirs, spoken, whole)
    band_music, band_own = (momentary_lufs(_speech_band(sound, sample_rate), sample_rate) for sound in (music, own))
    below = _gated(band_own[spoken]) - _while_sounding(band_music, spoken, _gated(band_music))
    if math.isfinite(below):
        down_db = min(down_db, below - under_lu)
    down_db = min(down_db, rest_db)
    even_db = _over_rows(_evening_lu(theirs, spoken), rows)
    return rest_db + ducked_share(speech, rows) * (
        down_db + _smoothed(np.minimum(even_db, 0), SMOOTH_S * ROWS_HZ) - rest_db
    )


def ducked_share(speech: Sequence[tuple[float, float]], rows: int) -> np.ndarray:
    """How far the music has gone down, 0 to 1: all the way before somebody speaks, back soon after.

    Args:
        speech: spans in seconds, in order.
        rows: T.

    Returns:
        [T] at `ROWS_HZ`.
    """
    at = np.arange(rows) / ROWS_HZ
    share = np.zeros(rows)
    bridged: list[list[float]] = []
    for start, end in speech:
        if not bridged and start < LEAD_S + DOWN_S:
            start = 0.0  # no time to be heard before it goes down
        if bridged and start - bridged[-1][1] < BRIDGE_S:
            bridged[-1][1] = end
        else:
            bridged.append([start, end])
    for start, end in bridged:
        down, up = start - LEAD_S, end + HOLD_S
        if start == 0:
            down = -DOWN_S
        here = slice(*np.searchsorted(at, (down - DOWN_S, up + UP_S)))
        way = np.interp(at[here], [down - DOWN_S, down, up, up + UP_S], [0.0, 1.0, 1.0, 0.0])
        share[here] = np.maximum(share[here], (1 - np.cos(np.pi * way)) / 2)
    return share


def as_gain(gain_db: np.ndarray, num_samples: int, sample_rate: int) -> np.ndarray:
    """[num_samples] float32: a gain over time, from sample to sample.

    Args:
        gain_db: [T] at `ROWS_HZ`.
        num_samples: of the sound.
        sample_rate: in Hz.
    """
    gain = np.empty(num_samples, np.float32)
    block = 30 * sample_rate
    for first in range(0, num_samples, block):  # in blocks, so that hours need little memory
        places = np.arange(first, min(first + block, num_samples)) / sample_rate * ROWS_HZ
        gain[first : first + block] = 10 ** (np.interp(places, np.arange(len(gain_db)), gain_db) / 20)
    return gain


def _blocks_in(spans: Sequence[tuple[float, float]], count: int) -> np.ndarray:
    """[count] bool: which blocks of 0.4 s have their middle in a span."""
    middles = np.arange(count) * HOP_S + BLOCK_S / 2
    inside = np.zeros(count, dtype=bool)
    for start, end in spans:
        inside[slice(*np.searchsorted(middles, (start, end)))] = True
    return inside


def _gated(blocks: np.ndarray) -> float:
    """Loudness of blocks with both gates of BS.1770; -inf if nothing passes them."""
    power = 10 ** (blocks[blocks > ABSOLUTE_GATE_LUFS] / 10)
    if not len(power):
        return -math.inf
    return float(10 * np.log10(power[power > power.mean() * 10 ** (-RELATIVE_GATE_LU / 10)].mean()))


def _while_sounding(blocks: np.ndarray, chosen: np.ndarray, otherwise: float) -> float:
    """Loudness of the chosen blocks, or of the whole where these are silent."""
    found = _gated(blocks[chosen])
    return found if math.isfinite(found) else otherwise


def _evening_lu(blocks: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[T] gain that keeps music near the mean of the chosen blocks: slowly what changes slowly, swells at once.

    A level taken from the whole alone would be that of the loudest passage, and all others would be lost.
    """
    mean = _while_sounding(blocks, chosen, _gated(blocks))
    slow = 10 * np.log10(np.maximum(_smoothed(10 ** (blocks / 10), SLOW_S / HOP_S), 1e-12)) - mean
    even = np.minimum(np.clip(slow, -STEADY_LU, STEADY_LU) - slow, MOST_LIFT_LU)
    return even - np.maximum(0, blocks + even - mean - SWELL_LU)


def _over_rows(blocks: np.ndarray, rows: int) -> np.ndarray:
    """Values of blocks as [rows] at `ROWS_HZ`."""
    return np.interp(np.arange(rows) / ROWS_HZ, np.arange(len(blocks)) * HOP_S + BLOCK_S / 2, blocks)


def _speech_band(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """The part of a sound [2, n] in which speech is understood."""
    low, high = SPEECH_BAND_HZ
    sections = [high_pass(low, sample_rate)]
    if sample_rate > 2.2 * high:
        sections.append(low_pass(high, sample_rate))
    return apply_sections(sound, sections, ring=sample_rate // 10)


def _without_bangs(own: np.ndarray, hop: int) -> np.ndarray:
    """The sound [2, n] with its claps and faults turned down, to take levels from."""
    own_db = _level_db(own, hop, 1 / ROWS_HZ)
    half = round(BANG_S * ROWS_HZ)  # of a window in which something shorter is the smaller part
    padded = np.pad(own_db, half, mode="edge")
    around_db = np.empty_like(own_db)
    for start in range(0, len(own_db), MEDIAN_HOPS):
        windows = np.lib.stride_tricks.sliding_window_view(padded[start : start + MEDIAN_HOPS + 2 * half], 2 * half + 1)
        around_db[start : start + MEDIAN_HOPS] = np.median(windows, axis=1)[:MEDIAN_HOPS]
    down_db = np.maximum(around_db, SILENT_DBFS) - own_db
    down_db[down_db > -BANG_DB] = 0
    if not 0 < np.count_nonzero(down_db) < BANG_SHARE * np.count_nonzero(own_db > SILENT_DBFS):
        return own  # there are none, or so many that they are what the clip sounds like
    gain = np.repeat((10 ** (down_db / 20)).astype(np.float32), hop)[: own.shape[1]]
    return own * gain


def _loud_db(own_db: np.ndarray) -> float:
    """Level of the loud parts of a sound, in dBFS, from its level in each hop."""
    sounding = own_db[own_db > SILENT_DBFS]
    if not len(sounding):
        return SILENT_DBFS
    mean_db = 10 * math.log10(float(np.mean(10 ** (sounding / 10))))
    return float(np.percentile(sounding[sounding > mean_db - RELATIVE_GATE_LU], 90))


def _level_db(sound: np.ndarray, hop: int, window_s: float) -> np.ndarray:
    """[hops] mean power in dBFS over a window centred on each hop."""
    hops = -(-sound.shape[1] // hop)
    power = np.pad(sound, ((0, 0), (0, hops * hop - sound.shape[1]))).reshape(2, hops, hop)
    power = np.einsum("chn,chn->h", power, power, dtype=np.float64) / (2 * hop)
    width = max(1, round(window_s * ROWS_HZ))
    smooth = np.convolve(
        np.pad(power, (width // 2, width - 1 - width // 2), mode="edge"), np.full(width, 1 / width), mode="valid"
    )
    return 10 * np.log10(np.maximum(smooth, 1e-12))


def _spread(active: np.ndarray, before: int, after: int) -> np.ndarray:
    """True where `active` is true within `after` hops back or `before` hops ahead."""
    reach = np.convolve(active.astype(int), np.ones(before + after + 1, dtype=int))
    return reach[before : before + len(active)] > 0


def _smoothed(values: np.ndarray, width: float) -> np.ndarray:
    """Values smoothed over so many of them (Hann); ends are held."""
    count = max(1, round(width))
    window = np.hanning(count + 2)[1:-1]
    padded = np.pad(values, (count // 2, count - 1 - count // 2), mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid")
