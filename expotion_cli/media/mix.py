"""The sound track of the finished video: music cut to length, with fades, alone or beside the clip's own sound."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli import recipe
from expotion_cli.errors import UsageError
from expotion_cli.media import beneath

with warnings.catch_warnings():
    # pydub looks for ffmpeg and ffprobe on the PATH and warns; only its arithmetic is used here
    warnings.simplefilter("ignore")
    from pydub import AudioSegment

FULL_SCALE = float(2**31 - 1)
LONGEST_FADE = 1 / 3  # of the music, so that short clips keep a part without fades
SHORTEST_FADE_S = 0.01  # shorter fades click
OVERSHOOT = 2.0  # times full scale: decoders pass it by a few decibels, no sound does by more


@dataclass(frozen=True)
class Mixed:
    """The sound track of the finished video, before its loudness is set, and what was done to its music.

    Attributes:
        sound: [2, n] float32; may exceed ±1.
        sample_rate: in Hz.
        fades_s: lengths of the fades at the beginning and the end of the music; None where nothing is faded.
        gain_db: [T] at `beneath.ROWS_HZ`, the music's level; None where it was left alone.
    """

    sound: np.ndarray
    sample_rate: int
    fades_s: tuple[float, float] | None
    gain_db: np.ndarray | None = None

    def part(self, stem: np.ndarray) -> np.ndarray:
        """A part of the music as it sounds in the mix: what is done to all parts adds up to what is done to the whole.

        Args:
            stem: [2, m] float32.
        """
        num_samples = self.sound.shape[1]
        faded = _placed(stem, self.sample_rate, num_samples, self.fades_s)
        if self.gain_db is not None:
            faded *= beneath.as_gain(self.gain_db, num_samples, self.sample_rate)
        return faded


def mix(
    music: np.ndarray,
    sample_rate: int,
    *,
    num_samples: int,
    mode: str,
    fade_in_s: float,
    fade_out_s: float,
    under_lu: float,
    music_gain_db: float,
    original: np.ndarray | None = None,
    speech: Sequence[tuple[float, float]] = (),
    is_loop: bool = False,
) -> Mixed:
    """Make the sound track of the finished video. Its loudness is left to `remux`.

    Ranges and defaults of the settings are those of the recipe's table `[mix]`.

    Args:
        music: [2, n] float32.
        sample_rate: of both sounds, in Hz.
        num_samples: length of the result; longer music is cut, shorter music is followed by silence.
        mode: "replace" drops the clip's own sound, "under" lays the music beneath it, "duck" lowers the music where
            somebody speaks.
        fade_in_s: length of the fade at the beginning; shortened to a third of the music.
        fade_out_s: likewise at the end of the music.
        under_lu: how far the music lies below the clip's own sound while that sounds, or below the voice.
        music_gain_db: more or less of the music throughout; beside nothing else it has no meaning.
        original: [2, m] float32, the clip's own sound; needed for "under" and "duck".
        speech: spans in seconds in which somebody speaks, in order, for "duck".
        is_loop: the music's end is followed by its beginning: nothing is faded.

    Raises:
        RecipeError: a setting is out of range.
        UsageError: "under" or "duck" without the clip's own sound.
    """
    settings = {"mode": mode, "fade_in_s": fade_in_s, "fade_out_s": fade_out_s, "under_lu": under_lu}
    for key, value in {**settings, "music_gain_db": music_gain_db}.items():
        recipe.check(f"mix.{key}", value)
    if mode != recipe.REPLACE and original is None:
        raise UsageError(f"the mix mode {mode!r} needs the clip's own sound.", remedy="Use 'replace' for silent clips.")
    assert num_samples > 0 and music.ndim == 2 and len(music) == 2, music.shape
    fades_s = None if is_loop else (fade_in_s, fade_out_s)
    faded = _placed(music, sample_rate, num_samples, fades_s)
    if mode == recipe.REPLACE:
        return Mixed(faded, sample_rate, fades_s)
    own = _own_sound(original, num_samples)
    if mode == recipe.DUCK:
        gain_db = beneath.duck_db(faded, own, sample_rate, speech, under_lu)
    else:
        gain_db = beneath.under_db(faded, own, sample_rate, under_lu)
    if gain_db is None:  # one of them is silent: there is nothing to balance
        gain_db = np.zeros(1)
    gain_db = gain_db + music_gain_db
    faded *= beneath.as_gain(gain_db, num_samples, sample_rate)
    faded += own
    return Mixed(faded, sample_rate, fades_s, gain_db)


def _placed(music: np.ndarray, sample_rate: int, num_samples: int, fades_s: tuple[float, float] | None) -> np.ndarray:
    """A new array: music cut to [2, num_samples] with its fades, or followed by silence."""
    made = np.array(music[:, :num_samples], dtype=np.float32)
    return fit_length(made if fades_s is None else _fade(made, sample_rate, *fades_s), num_samples)


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
