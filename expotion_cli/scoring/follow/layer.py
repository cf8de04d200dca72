"""The follow rung: music in, the same music following a cue plan out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from expotion_cli.audio.beats import TRACK_RATE_HZ, beats_of
from expotion_cli.audio.filters import folded, quick_length
from expotion_cli.audio.loudness import integrated_lufs
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.audio.spectrum import power_spectrogram
from expotion_cli.audio.tonality import chroma, find_key
from expotion_cli.music.codecs.notes.balance import peak_gain
from expotion_cli.recipe import NO_FOLLOW, Follow
from expotion_cli.scoring.follow import level
from expotion_cli.scoring.follow.accents import AccentSound, accent_sound
from expotion_cli.spotting.grid import nearest_places
from expotion_cli.spotting.hits import USER, HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timing import STEPS_PER_BEAT, Timeline

ACCENTS = "accents"
"""The stem of all accents."""
_SNAP_S = 0.04
"""An accent moves to the music's grid by at most this much; farther off it stays with the picture."""
_BREATH_S, _RISE_S = 0.13, 0.012
_ANSWERED_BREATH = 0.4
_BREATH_DB = (2.5, 7.5)
_SPARE_HITS = 1
_PEAKS_LU = 12.0
"""Peaks (dBFS) this far above the loudness (LUFS) are softened: what the limiter would else do at the end."""
_HEAVY = 0.85
_LEAD_GAP_S = 1.3
_LONG, _LONG_GAP_S = ("crash", "riser", "swell"), 3.5
"""Sounds with a long tail or lead: more than one in a few seconds would be a wash."""
_VARIANTS = 2
_BANDS_HZ = ((40.0, 250.0), (250.0, 2500.0), (2500.0, 16_000.0))
_BAND_LIMIT_DB = 12.0
_NEAR_S = 0.5
_LOOP_RING_S, _LOOP_MARGIN_S = 8.0, 0.25
_TONE = 2.0
"""Highs fall by this many times as much as the level: what is played softly is darker."""


@dataclass(frozen=True)
class Answer:
    """An accent that answers a hit point.

    Attributes:
        time_s: when it sounds.
        hit_s: the hit point it answers.
        weight: the hit point's.
        sounds: names of its accents; "notes" for one that was composed.
    """

    time_s: float
    hit_s: float
    weight: float
    sounds: tuple[str, ...]


@dataclass(frozen=True)
class Followed:
    """Music that follows.

    Attributes:
        audio: [2, n] float32.
        answers: what was laid over it.
        stems: parts of the music, treated alike, and `ACCENTS`; they add up to `audio`.
    """

    audio: np.ndarray
    answers: tuple[Answer, ...]
    stems: Mapping[str, np.ndarray] = field(default_factory=dict)


def follow(
    audio: np.ndarray,
    sample_rate: int,
    plan: CuePlan,
    settings: Follow,
    *,
    grid: Timeline | None = None,
    tonic: int | None = None,
    seed: int = 0,
    answered: Collection[float] = (),
    is_loop: bool = False,
    stems: Mapping[str, np.ndarray] | None = None,
) -> Followed:
    """Make music follow a cue plan, whoever made it, and keep it between the plan's start and end.

    Quiet passages are evened out, the plan's intensity becomes gain, and its hit points are answered by accents on the
    music's grid, each after a short breath. A gentle compressor holds it together.

    Args:
        audio: [2, n] float32.
        sample_rate: in Hz.
        plan: from spotting, or the user's.
        settings: the recipe's table `[follow]`.
        grid: the beat grid that the music was written on; None finds the music's own.
        tonic: pitch class of its key; None finds it.
        seed: of the cue; makes strokes differ.
        answered: seconds of the hit points that the music answers itself: they get a shallower breath, and no accent.
        is_loop: its end is followed by its beginning.
        stems: parts that add up to `audio`, by name; each gets the gains of the whole.
    """
    followed = Followed(audio, (), stems or {})
    if settings.mode != NO_FOLLOW and np.any(audio):
        treated = (plan, settings, grid, tonic, seed, answered, is_loop, stems or {})
        followed = _layered(audio, sample_rate, *treated)

    def kept_within(sound: np.ndarray) -> np.ndarray:
        return level.within(sound, sample_rate, plan.start_s, plan.end_s)

    parts = {name: kept_within(stem) for name, stem in followed.stems.items()}
    return replace(followed, audio=kept_within(followed.audio), stems=parts)


def _layered(
    audio: np.ndarray,
    sample_rate: int,
    plan: CuePlan,
    settings: Follow,
    grid: Timeline | None,
    tonic: int | None,
    seed: int,
    answered: Collection[float],
    is_loop: bool,
    stems: Mapping[str, np.ndarray],
) -> Followed:
    ends = level.JOINED if is_loop else level.HELD
    even_db = level.levelling_db(audio, sample_rate, ends)
    rows = math.ceil(audio.shape[1] / sample_rate * level.RATE_HZ)
    at = np.arange(rows) / level.RATE_HZ
    chosen = choose_hits(plan.heard_hits, settings.hits_per_s)
    times_s = snapped(chosen, audio, sample_rate, grid)
    weights = np.array([hit.weight for hit in chosen])
    gain_db = -settings.dynamics_db * (1 - plan.intensity.at(at))
    gain_db -= gain_db.max(initial=-settings.dynamics_db)
    tone_db = _TONE * gain_db

    def evened(sound: np.ndarray) -> np.ndarray:
        return _brightened(level.apply_db(sound, even_db, sample_rate), sample_rate, tone_db, is_loop)

    levelled = evened(audio)
    low, high = _BREATH_DB
    depths = (low + (high - low) * weights) * np.array(
        [_ANSWERED_BREATH if hit.time_s in answered else 1.0 for hit in chosen]
    )
    gain_db = gain_db + level.breath_db(times_s, depths, rows, _BREATH_S, _RISE_S)
    if is_loop:  # the breath before a hit point at the beginning lies at the end
        gain_db += level.breath_db(times_s + audio.shape[1] / sample_rate, depths, rows, _BREATH_S, _RISE_S)
    music = level.apply_db(levelled, gain_db, sample_rate)
    parts = {name: level.apply_db(evened(stem), gain_db, sample_rate) for name, stem in stems.items()}
    answers: list[Answer] = []
    left = [place for place, hit in enumerate(chosen) if hit.time_s not in answered]
    if left:
        if tonic is None:
            tonic = _find_tonic(audio, sample_rate)
        chosen, times_s = tuple(chosen[place] for place in left), times_s[left]
        room = np.pad(levelled, ((0, 0), (0, round(_LOOP_RING_S * sample_rate)))) if is_loop else levelled
        accents, answers = _accents(room, sample_rate, chosen, times_s, settings, tonic, seed)
        accents = folded(accents, music.shape[1])
        music += accents
        if stems:
            parts[ACCENTS] = accents
        del accents, room
    del levelled
    held_db = level.compress_db(music, sample_rate, ratio=2.0, above_lu=3.0, ends=ends)
    music = level.apply_db(music, held_db, sample_rate)
    softened = _softening(music, sample_rate, is_loop)
    parts = {name: level.apply_db(part, held_db, sample_rate) * softened for name, part in parts.items()}
    return Followed(music * softened, tuple(answers), parts)


def _brightened(audio: np.ndarray, sample_rate: int, gain_db: np.ndarray, is_loop: bool) -> np.ndarray:
    """`level.brighten`; of a loop, with its other end beside each end."""
    if not is_loop:
        return level.brighten(audio, sample_rate, gain_db)
    rows = min(round(_LOOP_MARGIN_S * level.RATE_HZ), len(gain_db) - 1)
    wide, margin = _widened(audio, round(rows * sample_rate / level.RATE_HZ))
    made = level.brighten(wide, sample_rate, np.pad(gain_db, rows, mode="wrap"))
    return made[:, margin : margin + audio.shape[1]]


def _softening(audio: np.ndarray, sample_rate: int, is_loop: bool) -> np.ndarray:
    """[n] gain that takes the peaks off audio [2, n] that the limiter would else have to take."""
    loudness = integrated_lufs(audio, sample_rate)
    if not math.isfinite(loudness):
        return np.ones(audio.shape[1], np.float32)
    wide, margin = _widened(audio, round(_LOOP_MARGIN_S * sample_rate) if is_loop else 0)
    return peak_gain(wide, sample_rate, loudness + _PEAKS_LU)[margin : margin + audio.shape[1]]


def _widened(audio: np.ndarray, margin: int) -> tuple[np.ndarray, int]:
    """(a loop with the other end beside each end, by how much). [2, n] → [2, n + 2 * margin]."""
    margin = min(margin, audio.shape[1])
    before = audio[:, audio.shape[1] - margin :]
    return np.concatenate([before, audio, audio[:, :margin]], axis=1) if margin else audio, margin


def choose_hits(hits: Sequence[HitPoint], per_second: float) -> tuple[HitPoint, ...]:
    """The heaviest hit points, at most so many a second within any ten seconds.

    A user's own always stay.

    Args:
        hits: of a plan.
        per_second: upper limit; 0 keeps the user's own only.
    """
    kept = [hit for hit in hits if hit.cause == USER]
    if per_second == 0:
        return tuple(kept)
    span_s = max(10.0, 1 / per_second)
    most = per_second * span_s + _SPARE_HITS
    for hit in sorted((hit for hit in hits if hit.cause != USER), key=lambda hit: (-hit.weight, hit.time_s)):
        times = np.sort([other.time_s for other in (*kept, hit)])
        starts = times[(times > hit.time_s - span_s) & (times <= hit.time_s)]
        crowd = np.searchsorted(times, starts + span_s) - np.searchsorted(times, starts)
        if crowd.max(initial=0) <= most:
            kept.append(hit)
    return tuple(sorted(kept, key=lambda hit: hit.time_s))


def snapped(hits: Sequence[HitPoint], audio: np.ndarray, sample_rate: int, grid: Timeline | None) -> np.ndarray:
    """[n] seconds at which accents sound: on the music's grid where that is near, else at the hit points.

    Args:
        hits: to be answered.
        audio: [2, n] the music.
        sample_rate: in Hz.
        grid: the music's, if it is known.
    """
    times = np.array([hit.time_s for hit in hits])
    if not len(times):
        return times
    if grid is not None:
        steps = np.array([grid.step_at(t) for t in times])
        away, _ = nearest_places(steps / STEPS_PER_BEAT, 1.0)
        places = grid.time_of(steps + away * STEPS_PER_BEAT)
    else:
        places = _own_grid(times, audio, sample_rate)
    return np.asarray(times + np.clip(places - times, -_SNAP_S, _SNAP_S))


def _own_grid(times_s: np.ndarray, audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Nearest places of the grid that beat tracking finds in the music; the times themselves where there is none."""
    beats_s, bpm = beats_of(onset_strength(audio, sample_rate, TRACK_RATE_HZ).astype(np.float64), TRACK_RATE_HZ)
    if len(beats_s) < 4 or not math.isfinite(bpm):
        return times_s
    period = float(np.median(np.diff(beats_s)))
    first, last = beats_s[0], beats_s[-1]
    before = first - period * np.arange(math.ceil(first / period), 0, -1)
    beats = np.concatenate(
        [before, beats_s, last + period * np.arange(1, 1 + math.ceil(max(0, times_s[-1] - last) / period + 1))]
    )
    index = np.interp(times_s, beats, np.arange(len(beats)))
    away, _ = nearest_places(index * period, period)
    return np.asarray(np.interp(index + away / period, np.arange(len(beats)), beats))


def _find_tonic(audio: np.ndarray, sample_rate: int) -> int:
    mono = audio.mean(axis=0)
    size = 8192
    if len(mono) < size:
        return 0
    starts = np.arange(0, len(mono) - size + 1, size // 2)
    return find_key(chroma(power_spectrogram(mono, size, starts), sample_rate))[0]


def _accents(
    music: np.ndarray,
    sample_rate: int,
    hits: Sequence[HitPoint],
    times_s: np.ndarray,
    settings: Follow,
    tonic: int,
    seed: int,
) -> tuple[np.ndarray, list[Answer]]:
    """The sum of all accents [2, n], each as loud as the music around it asks."""
    total = np.zeros_like(music)
    answers = []
    last_s = last_long_s = -math.inf
    for number, (hit, time_s) in enumerate(zip(hits, times_s.tolist(), strict=True)):
        names = sounds_for(hit.weight, settings.accents)
        used = []
        for name in names:
            sound = accent_sound(name, sample_rate, tonic, (seed + number) % _VARIANTS)
            if sound.lead_s and time_s - last_s < max(_LEAD_GAP_S, sound.lead_s):
                continue
            if name in _LONG and time_s - last_long_s < _LONG_GAP_S:
                continue
            last_long_s = time_s if name in _LONG else last_long_s
            _lay(total, music, sound, time_s, sample_rate, settings.gain_db + 4 * (hit.weight - 0.5))
            used.append(name)
        answers.append(Answer(round(time_s, 4), hit.time_s, hit.weight, tuple(used)))
        last_s = time_s
    return total, answers


def sounds_for(weight: float, accents: Sequence[str]) -> tuple[str, ...]:
    """Which of a recipe's accents answer a hit point: the first one always, each further one only heavier ones."""
    if not accents:
        return ()
    steps = np.linspace(0.0, _HEAVY, len(accents), endpoint=False)
    return tuple(name for name, least in zip(accents, steps, strict=True) if weight >= least)


def _lay(
    total: np.ndarray, music: np.ndarray, sound: AccentSound, time_s: float, sample_rate: int, gain_db: float
) -> None:
    """Add an accent, its three bands each lifted or lowered towards `gain_db` above the music there."""
    first = round((time_s - sound.lead_s) * sample_rate)
    head = max(0, -first)
    first += head
    bands = _parted(sound, sample_rate)[:, :, head : head + max(0, total.shape[1] - first)]
    if not bands.shape[2]:
        return
    middle, reach = round(time_s * sample_rate), round(_NEAR_S * sample_rate)
    theirs = _band_levels(music[:, max(0, middle - reach) : middle + reach], sample_rate)
    length = max(256, round(sound.body_s * sample_rate))
    start = max(0, round(sound.lead_s * sample_rate) - head - length) if sound.lead_s else 0
    own = _band_levels(bands[:, :, start : start + length].sum(axis=0), sample_rate)
    wanted = theirs + gain_db - own
    middle_db = float(wanted[own.argmax()])
    gains = 10 ** (np.clip(wanted, middle_db - _BAND_LIMIT_DB, middle_db + _BAND_LIMIT_DB) / 20)
    for band, gain in zip(bands, gains, strict=True):
        total[:, first : first + band.shape[1]] += band * np.float32(gain)


def _band_levels(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """[3] mean power in dB of the bands `_BANDS_HZ`."""
    size = audio.shape[1]
    padded = quick_length(size)
    power = (np.abs(np.fft.rfft(audio, padded)) ** 2).sum(axis=0) / (size * padded)
    bins = np.fft.rfftfreq(padded, 1 / sample_rate)
    levels = [power[(bins >= low) & (bins < high)].sum() for low, high in _BANDS_HZ]
    return 10 * np.log10(np.maximum(levels, 1e-12))


@lru_cache(maxsize=64)
def _parted(sound: AccentSound, sample_rate: int) -> np.ndarray:
    """[3, 2, n] float32: an accent's bands, which overlap by about an octave and sum to it."""
    count = sound.audio.shape[1]
    size = quick_length(count + 2048)
    spectrum = np.fft.rfft(sound.audio, size)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1.0))
    centres = [math.log2(math.sqrt(low * high)) for low, high in _BANDS_HZ]
    shares = [np.interp(octaves, centres, row) for row in np.eye(len(_BANDS_HZ))]
    return np.stack([np.fft.irfft(spectrum * share, size)[:, :count].astype(np.float32) for share in shares])
