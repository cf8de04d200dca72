"""The sound track of the finished video: music cut to length, with fades, alone or under the clip's own sound."""

from __future__ import annotations

import math
import warnings

import numpy as np

from expotion_cli import recipe
from expotion_cli.errors import UsageError
from expotion_cli.media.loudness import measure

with warnings.catch_warnings():
    # pydub looks for ffmpeg and ffprobe on the PATH and warns; only its arithmetic is used here
    warnings.simplefilter("ignore")
    from pydub import AudioSegment

FULL_SCALE = float(2**31 - 1)
LONGEST_FADE = 1 / 3  # of the music, so that short clips keep a part without fades
SHORTEST_FADE_S = 0.01  # shorter fades click

# "under": where the clip's own sound counts as sounding, and how the music is ducked there
HOP_S = 0.01
WINDOW_S = 0.1
SOUNDING_DB = 18.0  # below the level of its loud parts, the clip's own sound is a pause
SILENT_DBFS = -60.0
LEAD_S, HOLD_S, SMOOTH_S = 0.2, 0.6, 0.4
PAUSE_LIFT_LU = 5.0  # in pauses of the clip's own sound the music rises by this
BANG_DB, BANG_S = 15.0, 0.3  # shorter and by more above its surroundings is a clap, which no level is taken from,
BANG_SHARE = 0.05  # unless claps fill this much of what can be heard
RELATIVE_GATE_DB = 10.0  # as in EBU R128: what lies so far below the mean is no measure of how loud a sound is
OVERSHOOT = 2.0  # times full scale: decoders pass it by a few decibels, no sound does by more
SWELL_WINDOW_S = 0.4
MEDIAN_HOPS = 10_000  # looked at together, so that long sounds need little memory
SWELL_DB = 3.0  # while the clip's own sound sounds, swells of the music above its mean are limited to this


def mix(
    music: np.ndarray,
    sample_rate: int,
    *,
    num_samples: int,
    mode: str,
    fade_in_s: float,
    fade_out_s: float,
    under_lu: float,
    original: np.ndarray | None = None,
    is_loop: bool = False,
) -> np.ndarray:
    """Make the sound track of the finished video. Its loudness is left to `remux`.

    Ranges and defaults of the settings are those of the recipe's table `[mix]`.

    Args:
        music: [2, n] float32.
        sample_rate: of both sounds, in Hz.
        num_samples: length of the result; longer music is cut, shorter music is followed by silence.
        mode: "replace" drops the clip's own sound, "under" lays the music beneath it.
        fade_in_s: length of the fade at the beginning; shortened to a third of the music.
        fade_out_s: likewise at the end of the music.
        under_lu: how far the music lies below the loudness of the clip's own sound while that sounds.
        original: [2, m] float32, the clip's own sound; needed for "under".
        is_loop: the music's end is followed by its beginning: nothing is faded.

    Returns:
        [2, num_samples] float32; may exceed ±1.

    Raises:
        RecipeError: a setting is out of range.
        UsageError: "under" without the clip's own sound.
    """
    settings = {"mode": mode, "fade_in_s": fade_in_s, "fade_out_s": fade_out_s, "under_lu": under_lu}
    for key, value in settings.items():
        recipe.check(f"mix.{key}", value)
    if mode == recipe.UNDER and original is None:
        raise UsageError("the mix mode 'under' needs the clip's own sound.", remedy="Use 'replace' for silent clips.")
    assert num_samples > 0 and music.ndim == 2 and len(music) == 2, music.shape
    music = np.array(music[:, :num_samples], dtype=np.float32)
    music = music if is_loop else _fade(music, sample_rate, fade_in_s, fade_out_s)
    music = fit_length(music, num_samples)
    if mode == recipe.REPLACE:
        return music
    own = _own_sound(original, num_samples)
    return own + _beneath(music, own, sample_rate, under_lu)


def own_is_highest(mixed: np.ndarray, original: np.ndarray) -> bool:
    """Whether the highest peak of what `mix` laid under the clip's own sound is that sound's, not the music's.

    Args:
        mixed: [2, n], from `mix`.
        original: [2, m], the clip's own sound.
    """
    own = _own_sound(original, mixed.shape[1])
    return float(np.abs(own).max()) > float(np.abs(mixed - own).max())


def _own_sound(original: np.ndarray | None, num_samples: int) -> np.ndarray:
    return fit_length(np.clip(np.asarray(original, dtype=np.float32), -OVERSHOOT, OVERSHOOT), num_samples)


def fit_length(sound: np.ndarray, num_samples: int) -> np.ndarray:
    """Cut or pad [channels, n] with silence at its end to [channels, num_samples]."""
    missing = num_samples - sound.shape[1]
    return sound[:, :num_samples] if missing <= 0 else np.pad(sound, ((0, 0), (0, missing)))


def _fade(music: np.ndarray, sample_rate: int, fade_in_s: float, fade_out_s: float) -> np.ndarray:
    """Fade both ends in place; only they pass through pydub, so long music costs no copies."""
    length = music.shape[1]
    # pydub counts in milliseconds: lengths of whole ones that are also whole samples keep it exact
    quantum = sample_rate // math.gcd(sample_rate, 1000)
    for seconds, at_start in ((fade_in_s, True), (fade_out_s, False)):
        wanted = min(max(seconds, SHORTEST_FADE_S) * sample_rate, length * LONGEST_FADE)
        count = int(wanted / quantum) * quantum
        if count == 0:
            continue  # music of a few milliseconds has no room for a fade
        part = slice(0, count) if at_start else slice(length - count, length)
        music[:, part] = _faded(music[:, part], sample_rate, at_start)
    return music


def _faded(samples: np.ndarray, sample_rate: int, fade_in: bool) -> np.ndarray:
    peak = float(np.abs(samples).max())
    if peak == 0:
        return samples
    scale = FULL_SCALE / peak / 2  # integers clip at full scale, so headroom is made
    ramp = np.round(samples.T.astype(np.float64) * scale).astype("<i4")
    segment = AudioSegment(data=ramp.tobytes(), sample_width=4, frame_rate=sample_rate, channels=2)
    duration_ms = 1000 * samples.shape[1] // sample_rate
    segment = segment.fade_in(duration_ms) if fade_in else segment.fade_out(duration_ms)
    faded = np.frombuffer(segment.raw_data, dtype="<i4").reshape(-1, 2).T / scale
    assert faded.shape == samples.shape, (faded.shape, samples.shape)
    return faded.astype(np.float32)


def _beneath(music: np.ndarray, own: np.ndarray, sample_rate: int, under_lu: float) -> np.ndarray:
    """Bring the music to its level under the clip's own sound, ducked where that sounds. Both are [2, n]."""
    hop = max(1, round(HOP_S * sample_rate))
    heard = _without_bangs(own, hop)
    own_db, music_db = (_level_db(sound, hop, window) for sound, window in ((heard, WINDOW_S), (music, SWELL_WINDOW_S)))
    loud_db = _loud_db(own_db)
    own_lufs = measure(heard, sample_rate).integrated_lufs
    music_lufs = measure(music, sample_rate).integrated_lufs
    if not (math.isfinite(own_lufs) and math.isfinite(music_lufs)):
        return music  # one of them is silent or too short to have a loudness: nothing to duck for
    sounding = _spread(own_db > max(loud_db - SOUNDING_DB, SILENT_DBFS), round(LEAD_S / HOP_S), round(HOLD_S / HOP_S))
    mean_db = 10 * math.log10(float(np.mean(10 ** (music_db / 10))))
    swell_db = np.maximum(0, music_db - mean_db - SWELL_DB)
    gain_db = own_lufs - under_lu - music_lufs + np.where(sounding, -swell_db, PAUSE_LIFT_LU)
    width = max(1, round(SMOOTH_S / HOP_S))
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(gain_db, (width // 2, width - 1 - width // 2), mode="edge")
    gain_db = np.convolve(padded, window / window.sum(), mode="valid")
    centres = (np.arange(len(gain_db)) + 0.5) * hop
    gain = 10 ** (np.interp(np.arange(music.shape[1]), centres, gain_db) / 20)
    return music * gain.astype(np.float32)


def _without_bangs(own: np.ndarray, hop: int) -> np.ndarray:
    """The sound [2, n] with its claps and faults turned down, to take levels from."""
    own_db = _level_db(own, hop, HOP_S)
    half = round(BANG_S / HOP_S)  # of a window in which something shorter is the smaller part
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
    return float(np.percentile(sounding[sounding > mean_db - RELATIVE_GATE_DB], 90))


def _level_db(sound: np.ndarray, hop: int, window_s: float) -> np.ndarray:
    """[hops] mean power in dBFS over a window centred on each hop."""
    hops = -(-sound.shape[1] // hop)
    power = fit_length(sound, hops * hop).reshape(2, hops, hop)
    power = np.einsum("chn,chn->h", power, power, dtype=np.float64) / (2 * hop)
    width = max(1, round(window_s / HOP_S))
    smooth = np.convolve(
        np.pad(power, (width // 2, width - 1 - width // 2), mode="edge"), np.full(width, 1 / width), mode="valid"
    )
    return 10 * np.log10(np.maximum(smooth, 1e-12))


def _spread(active: np.ndarray, before: int, after: int) -> np.ndarray:
    """True where `active` is true within `after` hops back or `before` hops ahead."""
    reach = np.convolve(active.astype(int), np.ones(before + after + 1, dtype=int))
    return reach[before : before + len(active)] > 0
