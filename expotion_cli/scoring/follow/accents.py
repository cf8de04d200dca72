"""The sounds that answer hit points: drums, cymbals, bells and rises, made from oscillators and noise.

They need no model, so they sound the same on any music. Each is a function of sample rate, tonic and random generator;
pitched ones are tuned to the cue's key. Strings and brass are played by the soundfont that ships with this
package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from expotion_cli.audio.filters import apply_sections, high_pass, low_pass
from expotion_cli.scoring.follow import ACCENTS_VERSION

A4_HZ, A4_CLASS = 440.0, 9
_STEREO_S = 0.00035
_DRIVE = 2.5
"""Saturation, as on a drum bus: it rounds peaks that would make the whole cue quieter."""


@dataclass(frozen=True, eq=False)
class AccentSound:
    """An accent, ready to be laid over music.

    Attributes:
        audio: [2, n] float32, its highest peak 1.
        lead_s: seconds from its first sample to the hit point.
        body_s: length of the part that should be heard over the music.
    """

    audio: np.ndarray
    lead_s: float = 0.0
    body_s: float = 0.25


def tonic_hz(tonic: int, octave: int) -> float:
    """Frequency of a pitch class (0 is C) in a MIDI octave (4 holds A 440)."""
    return A4_HZ * 2 ** ((tonic - A4_CLASS) / 12 + octave - 4)


def _noise(generator: np.random.Generator, count: int) -> np.ndarray:
    return generator.standard_normal(count)


def _fall(time_s: np.ndarray, half_life_s: float) -> np.ndarray:
    return np.asarray(0.5 ** (np.maximum(time_s, 0) / half_life_s))


def _attack(time_s: np.ndarray, rise_s: float) -> np.ndarray:
    return np.clip(time_s / rise_s, 0, 1)


def _band(signal: np.ndarray, rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Band-passed noise: what lies between two edges, each of second order."""
    sections = [high_pass(low_hz, rate), low_pass(min(high_hz, 0.45 * rate), rate)]
    return apply_sections(signal.astype(np.float32), sections, ring=rate // 10).astype(np.float64)


def _modes(
    time_s: np.ndarray, base_hz: float, rows: Sequence[tuple[float, float, float]], glide: float = 0.0
) -> np.ndarray:
    """Damped partials of a struck body: (ratio to the base, level, half-life in seconds) each.

    `glide` raises all pitches at the start by this share; it is gone after about 40 ms.
    """
    bend = 1 + glide * np.exp(-time_s / 0.04)
    turns = np.cumsum(bend) * (time_s[1] - time_s[0])
    parts = [level * np.sin(2 * np.pi * base_hz * ratio * turns) * _fall(time_s, half) for ratio, level, half in rows]
    return np.asarray(np.sum(parts, axis=0))


def _wide(mono: np.ndarray, rate: int, generator: np.random.Generator, width: float) -> np.ndarray:
    """Two channels that differ by a short delay and a little noise-like phase: wide, but mono-compatible."""
    late = round(_STEREO_S * width * rate)
    side = generator.choice((0, 1))
    left = np.pad(mono, (late, 0))[: len(mono)]
    pair = (left, mono) if side else (mono, left)
    return np.stack(pair)


def _finish(audio: np.ndarray, lead_s: float = 0.0, body_s: float = 0.25) -> AccentSound:
    fade = min(len(audio[0]), 256)
    audio = audio.copy()
    audio[:, -fade:] *= np.linspace(1, 0, fade)
    driven = np.tanh(_DRIVE * audio / max(float(np.abs(audio).max()), 1e-9)) / math.tanh(_DRIVE)
    return AccentSound(driven.astype(np.float32), lead_s, body_s)


def _time(rate: int, seconds: float) -> np.ndarray:
    return np.arange(round(seconds * rate)) / rate


def low_drum(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A large drum, felt more than heard: one falling low partial and a soft beater."""
    t = _time(rate, 0.9)
    body = _modes(t, 62.0, ((1.0, 1.0, 0.12), (1.6, 0.35, 0.06), (2.3, 0.15, 0.035)), glide=0.6)
    beater = _band(_noise(generator, len(t)), rate, 350, 6000) * _fall(t, 0.012)
    return _finish(_wide(body * _attack(t, 0.002) + 0.55 * beater, rate, generator, 0.5))


def taiko(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A taiko: a skin with its partials, a loud stick and the room around it."""
    t = _time(rate, 1.4)
    rows = ((1.0, 1.0, 0.16), (1.59, 0.55, 0.1), (2.14, 0.35, 0.07), (2.65, 0.25, 0.05), (3.6, 0.15, 0.03))
    skin = _modes(t, 78.0 * generator.uniform(0.97, 1.03), rows, glide=0.35)
    stick = _band(_noise(generator, len(t)), rate, 900, 11_000) * _fall(t, 0.009)
    room = _band(_noise(generator, len(t)), rate, 180, 3500) * _fall(t, 0.09) * _attack(t, 0.004)
    return _finish(_wide(skin * _attack(t, 0.001) + 0.9 * stick + 0.35 * room, rate, generator, 1.0), body_s=0.3)


def timpani(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A kettledrum on the tonic, struck with a hard felt."""
    t = _time(rate, 1.8)
    rows = ((1.0, 1.0, 0.35), (1.5, 0.7, 0.28), (1.98, 0.45, 0.2), (2.44, 0.3, 0.15), (2.94, 0.2, 0.1))
    base = tonic_hz(tonic, 2)
    kettle = _modes(t, base if base < 100 else base / 2 if base > 130 else base, rows)
    felt = _band(_noise(generator, len(t)), rate, 250, 7000) * _fall(t, 0.014)
    return _finish(_wide(kettle * _attack(t, 0.003) + 0.7 * felt, rate, generator, 0.7), body_s=0.4)


def clap(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """Several hands at nearly the same time."""
    t = _time(rate, 0.5)
    audio = np.zeros((2, len(t)))
    for number, delay_s in enumerate((0.0, 0.009, 0.019, 0.028)):
        for channel in (0, 1):
            late = delay_s + generator.uniform(0, 0.002)
            half = 0.045 if number == 3 else 0.006
            audio[channel] += _noise(generator, len(t)) * np.where(t >= late, _fall(t - late, half), 0)
    return _finish(np.stack([_band(side, rate, 700, 9000) for side in audio]), body_s=0.12)


def snap(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A rim and a finger snap: short and dry, for quiet grooves."""
    t = _time(rate, 0.25)
    wood = _modes(t, 420.0, ((1.0, 0.6, 0.012), (2.7, 0.5, 0.008), (4.1, 0.3, 0.006)))
    air = _band(_noise(generator, len(t)), rate, 1200, 12_000) * _fall(t, 0.011)
    thump = _modes(t, 95.0, ((1.0, 0.8, 0.03),), glide=0.5)
    return _finish(_wide(wood + 0.9 * air + thump, rate, generator, 0.7), body_s=0.1)


def crash(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A crash cymbal: bright noise that darkens as it dies away, with inharmonic partials."""
    t = _time(rate, 2.2)
    audio = np.zeros((2, len(t)))
    for side in audio:
        bright = _band(_noise(generator, len(t)), rate, 4000, 15_000) * _fall(t, 0.16)
        wash = _band(_noise(generator, len(t)), rate, 900, 6000) * _fall(t, 0.38)
        ratios = generator.uniform(2.0, 14.0, 12)
        metal = _modes(t, 310.0, [(ratio, 0.07, 0.3) for ratio in ratios])
        side += (bright + 0.55 * wash + metal) * _attack(t, 0.0015)
    return _finish(audio, body_s=0.35)


def swell(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A cymbal that swells up to the hit point and stops there."""
    lead_s = 0.9
    t = _time(rate, lead_s + 0.25)
    rise = np.where(t < lead_s, (t / lead_s) ** 2.6, _fall(t - lead_s, 0.05))
    audio = np.stack([
        _band(_noise(generator, len(t)), rate, 1500, 14_000) * rise
        + 0.5 * _band(_noise(generator, len(t)), rate, 400, 2500) * rise
        for _ in (0, 1)
    ])  # fmt: skip
    return _finish(audio, lead_s=lead_s, body_s=0.1)


def whoosh(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A short rush of air that ends on the hit point, as of an arm that swings."""
    lead_s = 0.3
    t = _time(rate, lead_s + 0.06)
    rise_db = np.where(t < lead_s, -34 * (1 - t / lead_s), 0.0)
    rise = 10 ** (rise_db / 20) * np.where(t < lead_s, 1.0, _fall(t - lead_s, 0.012))
    audio = np.stack([
        _band(_noise(generator, len(t)), rate, 250, 14_000) * rise * (0.3 + 0.7 * _attack(t, lead_s))
        for _ in (0, 1)
    ])  # fmt: skip
    return _finish(audio, lead_s=lead_s, body_s=0.08)


def riser(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A tone on the tonic and a band of noise that climb an octave to the hit point."""
    lead_s = 1.1
    t = _time(rate, lead_s + 0.04)
    way = np.clip(t / lead_s, 0, 1)
    turns = np.cumsum(tonic_hz(tonic, 3) * 2**way) / rate
    tone = sum(np.sin(2 * np.pi * k * turns) / k for k in (1, 2, 3, 4))
    air = np.stack([_band(_noise(generator, len(t)), rate, 600, 10_000) for _ in (0, 1)])
    loudness = way**2.2 * np.where(t < lead_s, 1.0, 0.0)
    return _finish((0.35 * np.asarray(tone)[None] + 0.5 * air) * loudness, lead_s=lead_s, body_s=0.1)


def sub_drop(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A sine two octaves down that falls a fifth to the tonic, with a click to place it."""
    t = _time(rate, 1.2)
    base = tonic_hz(tonic, 1)
    base = base * 2 if base < 36 else base
    turns = np.cumsum(base * (1 + 0.5 * np.exp(-t / 0.07))) / rate
    drop = np.sin(2 * np.pi * turns) * _fall(t, 0.22) * _attack(t, 0.004)
    click = _band(_noise(generator, len(t)), rate, 500, 9000) * _fall(t, 0.008)
    return _finish(_wide(drop + 0.3 * click, rate, generator, 0.0))


def bell(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A struck bar on the tonic's fifth and octave, with a soft mallet."""
    t = _time(rate, 2.0)
    base = tonic_hz(tonic, 5)
    rows = ((1.0, 1.0, 0.45), (1.5, 0.5, 0.4), (2.0, 0.45, 0.3), (3.93, 0.35, 0.12), (6.8, 0.25, 0.06))
    bar = _modes(t, base, rows)
    low = _modes(t, base / 4, ((1.0, 0.5, 0.25), (2.0, 0.3, 0.2)))
    mallet = _band(_noise(generator, len(t)), rate, 400, 12_000) * _fall(t, 0.01)
    return _finish(_wide((bar + low) * _attack(t, 0.001) + 0.6 * mallet, rate, generator, 1.0), body_s=0.3)


def pluck(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """Plucked strings on the tonic, its fifth and octaves, spread as a harp's (Karplus and Strong 1983)."""
    t = _time(rate, 1.8)
    audio = np.zeros((2, len(t)))
    base = tonic_hz(tonic, 2)
    for number, ratio in enumerate((1.0, 1.5, 2.0, 3.0, 4.0, 6.0)):
        late = round(0.011 * number * rate)
        voice = _string(base * ratio, len(t) - late, rate, generator)
        pan = (number / 5 - 0.5) * 0.8
        audio[0, late:] += voice * math.sqrt((1 - pan) / 2)
        audio[1, late:] += voice * math.sqrt((1 + pan) / 2)
    return _finish(audio, body_s=0.3)


def _string(pitch_hz: float, count: int, rate: int, generator: np.random.Generator) -> np.ndarray:
    """A plucked string: a burst of noise in a delay line whose end is averaged with its neighbour on every turn."""
    period = max(2, round(rate / pitch_hz))
    line = _noise(generator, period)
    line = 0.5 * (line + np.roll(line, 1))
    turns = []
    for _ in range(-(-count // period)):
        turns.append(line)
        line = 0.996 * 0.5 * (line + np.roll(line, 1))
    return np.concatenate(turns)[:count]


def strings(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A chord of bowed and plucked strings, open fifths on the tonic, so that it suits major and minor."""
    return _played(rate, tonic, ((48, 1.0), (45, 0.8)), (36, 43, 48, 55, 60), 0.55)


def brass(rate: int, tonic: int, generator: np.random.Generator) -> AccentSound:
    """A chord of brass with a timpani under it, likewise."""
    return _played(rate, tonic, ((61, 1.0), (47, 0.9)), (36, 43, 48, 55), 0.5)


def _played(
    rate: int, tonic: int, programs: Sequence[tuple[int, float]], pitches: Sequence[int], held_s: float
) -> AccentSound:
    """A chord of instruments of the shipped General-MIDI soundfont, each (program, level) playing all of it."""
    from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
    from expotion_cli.music.codecs.notes.soundfont import load_soundfont

    synth, length = Synth(load_soundfont(None), rate), round((held_s + 1.0) * rate)
    shift = (tonic + 5) % 12 - 5
    audio = np.zeros((2, length), np.float64)
    for program, level in programs:
        part = synth.play([PlayedNote(0.0, held_s, pitch + shift, 120) for pitch in pitches], program, length)
        audio += level * part / max(float(np.abs(part).max()), 1e-9)
    return _finish(audio, body_s=0.4)


SOUNDS: dict[str, Callable[[int, int, np.random.Generator], AccentSound]] = {
    "low-drum": low_drum,
    "taiko": taiko,
    "timpani": timpani,
    "clap": clap,
    "snap": snap,
    "crash": crash,
    "swell": swell,
    "whoosh": whoosh,
    "riser": riser,
    "sub-drop": sub_drop,
    "bell": bell,
    "pluck": pluck,
    "strings": strings,
    "brass": brass,
}


@lru_cache(maxsize=64)
def accent_sound(name: str, rate: int, tonic: int, variant: int) -> AccentSound:
    """An accent by name; `variant` makes it differ a little, as two strokes do. Always the same for the same values."""
    generator = np.random.Generator(np.random.Philox(key=[ACCENTS_VERSION, variant * 101 + list(SOUNDS).index(name)]))
    return SOUNDS[name](rate, tonic, generator)
