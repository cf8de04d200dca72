"""Plays notes with a soundfont: resampling, loops, envelopes, filter, velocity; stereo, deterministic.

symusic's own synthesizer ignores velocities and controllers and cuts off the tail after the last note (0.5.9), so
dynamics, accents and natural decays need this one.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.filters import apply_sections
from expotion_cli.music.codecs.notes.regions import Region
from expotion_cli.music.codecs.notes.soundfont import SoundFont

_SILENCE_DB = 90.0
_MAX_RELEASE_S, _CUT_FADE_S = 4.0, 1.5
_VELOCITY_STEP = 16  # velocity is quantised for the filter, so that filtered notes can be cached
_SHORTEST_WAVE_S = 0.5
_SHORTEST_RELEASE_S = 0.016  # shorter ones click
_CHOKE_S = 0.1
_SWEEP_CENTS = 1200  # a filter that moves is a blend of filters that stand still, so far apart
_MOST_CENTS = 9600
_FADE_S = 0.001
_CACHE_BYTES = 96 << 20


@dataclass(frozen=True)
class PlayedNote:
    """A note to play.

    Attributes:
        time_s: onset, in seconds from the first sample.
        duration_s: how long it is held (its release comes on top).
        pitch: MIDI key.
        velocity: 1..127.
        gain: linear factor on top of the velocity's.
    """

    time_s: float
    duration_s: float
    pitch: int
    velocity: int
    gain: float = 1.0


class Synth:
    """Renders notes with one soundfont.

    Args:
        soundfont: the recorded instruments.
        sample_rate: of the sound made.
    """

    def __init__(self, soundfont: SoundFont, sample_rate: int = 44100):
        self.soundfont = soundfont
        self.sample_rate = sample_rate
        self._waves: OrderedDict[tuple[Region, int, int, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()  # cues may be rendered by several threads

    def play(self, notes: Iterable[PlayedNote], program: int, num_samples: int, drums: bool = False) -> np.ndarray:
        """Play notes with one instrument.

        Args:
            notes: in any order; those past the end are ignored.
            program: General-MIDI program 0..127, or the drum kit's.
            num_samples: length n.
            drums: use the drum bank.

        Returns:
            [2, n] float32.
        """
        out = np.zeros((2, num_samples), dtype=np.float32)
        regions = self.soundfont.regions(program, drums)
        notes = sorted(notes, key=lambda note: (note.time_s, note.pitch))
        chokes = _choke_times(notes, regions)
        for index, note in enumerate(notes):
            first = round(note.time_s * self.sample_rate)
            if first >= num_samples or first < 0:
                continue
            for region in regions:
                if _covers(region, note):
                    self._add(out, first, note, region, chokes.get((index, region.exclusive)))
        return out

    def _add(self, out: np.ndarray, first: int, note: PlayedNote, region: Region, choke_s: float | None) -> None:
        held = max(1, round(note.duration_s * self.sample_rate))
        release_s = region.envelope_s[4]
        if choke_s is not None:
            held, release_s = max(1, round((choke_s - note.time_s) * self.sample_rate)), _CHOKE_S
        length = min(
            out.shape[1] - first,
            held + round(max(min(release_s, _MAX_RELEASE_S), _SHORTEST_RELEASE_S) * self.sample_rate) + 1,
        )
        envelope = self._envelope(region, note.pitch, held, release_s, length)
        wave = self._wave(region, note.pitch, note.velocity // _VELOCITY_STEP, len(envelope))
        length = min(len(envelope), len(wave))
        gain = note.gain * (note.velocity / 127) ** region.velocity_exponent * 10 ** (-region.attenuation_db / 20)
        wave = wave[:length] * envelope[:length] * np.float32(gain)
        angle = (region.pan + 1) * math.pi / 4
        out[0, first : first + length] += wave * np.float32(math.cos(angle))
        out[1, first : first + length] += wave * np.float32(math.sin(angle))

    def _wave(self, region: Region, pitch: int, force: int, length: int) -> np.ndarray:
        """The recording at this pitch and force, before its envelope: `length` samples, fewer where it ends.

        Cached, since the same keys are struck again and again.
        """
        # Cached at a few fixed lengths, so that a note's samples do not depend on what was played before, to the bit.
        whole = round(_SHORTEST_WAVE_S * self.sample_rate)
        while whole < length:
            whole = whole * 3 // 2
        key = (region, pitch, force, whole)
        with self._lock:
            wave = self._waves.get(key)
            if wave is None:
                wave = self._filtered(self._resample(region, pitch, whole), region, (force + 0.5) * _VELOCITY_STEP)
                self._waves[key] = wave
                self._bytes += wave.nbytes
                while self._bytes > _CACHE_BYTES and len(self._waves) > 1:
                    self._bytes -= self._waves.popitem(last=False)[1].nbytes
            self._waves.move_to_end(key)
        return wave[:length]

    def _resample(self, region: Region, pitch: int, length: int) -> np.ndarray:
        """Read the recording at the pitch's speed with four-point cubic (Catmull-Rom) interpolation, loop repeated."""
        recorded = self.soundfont.samples(region)
        position = self._positions(region, pitch, length)
        begin, end = region.loop_start - region.start, region.loop_end - region.start
        fades = False
        if region.loops and 0 <= begin < end <= len(recorded):
            source = np.concatenate([recorded[:end], np.resize(recorded[begin:end], 4)])
            # One sample late, so that what stands before the loop's first sample is the loop's last one.
            late = position >= end + 1
            position[late] = begin + 1 + (position[late] - (begin + 1)) % (end - begin)
        else:
            position = position[position < len(recorded) - 3]
            fades, source = len(position) < length, recorded
        if not len(position):
            return np.zeros(0, np.float32)
        source = np.concatenate([np.zeros(1, np.float32), source])
        # The cubic's four coefficients between each sample and the next, so that every output reads one row.
        a, b, c, d = source[:-3], source[1:-2], source[2:-1], source[3:]
        cubic = np.empty((len(b), 4), np.float32)
        cubic[:, 0] = b
        cubic[:, 1] = (c - a) * np.float32(0.5)
        cubic[:, 3] = (b - c) * np.float32(1.5) + (d - a) * np.float32(0.5)
        cubic[:, 2] = c - b - cubic[:, 1] - cubic[:, 3]
        whole = position.astype(np.int32)
        t = (position - whole).astype(np.float32)
        row = cubic.take(whole, axis=0, mode="clip")
        wave = row[:, 0] + t * (row[:, 1] + t * (row[:, 2] + t * row[:, 3]))
        if fades:
            tail = min(len(wave), round(_FADE_S * self.sample_rate))
            wave[len(wave) - tail :] *= np.linspace(1, 0, tail, dtype=np.float32)
        return wave

    def _positions(self, region: Region, pitch: int, length: int) -> np.ndarray:
        """Where in the recording each sample is read, from its beginning: [length] float64."""
        sounding = region.fixed_key if region.fixed_key >= 0 else pitch
        # Keys tune around the root by `scale_cents` each, so that unpitched sounds (scale 0) stay as recorded.
        cents = (sounding - region.root_cents / 100) * region.scale_cents
        ratio = 2 ** (max(-_MOST_CENTS, min(_MOST_CENTS, cents)) / 1200) * region.sample_rate / self.sample_rate
        vibrato, delay_s, rate_hz = region.vibrato
        sway, _, sway_delay_s, sway_hz = region.tremolo
        if not (vibrato or sway or region.modulation_to_pitch):
            return np.arange(length, dtype=np.float64) * ratio
        bend = vibrato * self._triangle(length, delay_s, rate_hz) + sway * self._triangle(length, sway_delay_s, sway_hz)
        if region.modulation_to_pitch:
            bend += region.modulation_to_pitch * self._modulation(region, length)
        speed = ratio * 2 ** (np.clip(bend, -_MOST_CENTS, _MOST_CENTS) / 1200)
        return np.cumsum(speed) - speed[0]

    def _triangle(self, length: int, delay_s: float, rate_hz: float) -> np.ndarray:
        """An oscillator, -1..1, that begins at 0 after its delay."""
        turns = np.maximum(np.arange(length) / self.sample_rate - delay_s, 0) * rate_hz
        return 4 * np.abs((turns + 0.75) % 1 - 0.5) - 1

    def _modulation(self, region: Region, length: int) -> np.ndarray:
        """Height of the region's second envelope, 0..1."""
        delay, attack, hold, decay, kept = region.modulation
        points = np.cumsum([delay, attack + 1e-4, hold + 1e-4, decay * (1 - kept) + 1e-4])
        height = np.interp(np.arange(length) / self.sample_rate, points, [0.0, 1.0, 1.0, kept])
        rising = slice(0, round(points[1] * self.sample_rate))  # steeply at first: its attack is convex
        height[rising] = np.maximum(0, 1 + 400 / 960 * np.log10(np.maximum(height[rising], 1e-6)))
        return height

    def _envelope(self, region: Region, pitch: int, held: int, release_s: float, length: int) -> np.ndarray:
        """Volume envelope [<= length] float32, cut where it has become inaudible."""
        rate = self.sample_rate
        delay, attack, hold, decay, _ = region.envelope_s
        hold *= 2 ** (region.key_to_hold * (60 - pitch) / 1200)
        decay *= 2 ** (region.key_to_decay * (60 - pitch) / 1200)
        # The specification's decay and release times are those of a fall by 100 dB.
        full_s = delay + attack + 0.0005
        fall_s = max(decay * region.sustain_db / 100, 0.001)
        time = np.arange(length, dtype=np.float32) / np.float32(rate)
        level_db = (time - np.float32(full_s + hold)) * np.float32(-region.sustain_db / fall_s)
        np.clip(level_db, -region.sustain_db, 0.0, out=level_db)
        if held < length:  # the release takes the place of the decay
            fall = np.float32(100 / (max(release_s, _SHORTEST_RELEASE_S) * rate))
            level_db[held:] = level_db[held] - fall * np.arange(length - held, dtype=np.float32)
        if held < full_s * rate:  # let go during the attack: fall from the height that was reached
            time = np.minimum(time, np.float32(held / rate))
        rise = np.clip((time - np.float32(delay)) * np.float32(1 / (full_s - delay)), 0, 1)
        if release_s > _MAX_RELEASE_S:
            cut = np.arange(length, dtype=np.float32) - np.float32(held + (_MAX_RELEASE_S - _CUT_FADE_S) * rate)
            level_db -= np.maximum(cut, 0) * np.float32(_SILENCE_DB / (_CUT_FADE_S * rate))
        audible = np.flatnonzero(level_db > -_SILENCE_DB)
        stop = int(audible[-1]) + 1 if len(audible) else 0
        envelope = rise[:stop] * np.exp(level_db[:stop] * np.float32(math.log(10) / 20))
        tail = min(stop, round(0.002 * rate))
        if stop < length:
            envelope[stop - tail :] *= np.linspace(1, 0, tail, dtype=np.float32)
        return envelope

    def _filtered(self, wave: np.ndarray, region: Region, velocity: float) -> np.ndarray:
        """The recording through its low-pass filter, darker where the note is soft, and with its tremolo."""
        rest = region.cutoff_cents + region.velocity_cutoff_cents * (1 - velocity / 127)
        _, attack, hold, decay, kept = region.modulation
        sweep, depth_db = region.modulation_to_cutoff, region.tremolo[1]
        if not sweep or (kept == 0 and attack + hold + decay < 0.005):
            wave = self._low_pass(wave, rest, region.resonance_db)
        else:
            count = math.ceil(abs(sweep) / _SWEEP_CENTS)
            place = self._modulation(region, len(wave)).astype(np.float32) * np.float32(count)
            still = [self._low_pass(wave, rest + sweep * k / count, region.resonance_db) for k in range(count + 1)]
            wave = np.zeros_like(wave)
            for k, each in enumerate(still):
                wave += np.maximum(1 - np.abs(place - np.float32(k)), 0) * each
        if depth_db:
            _, _, delay_s, rate_hz = region.tremolo
            wave = wave * (10 ** (depth_db / 20 * self._triangle(len(wave), delay_s, rate_hz))).astype(np.float32)
        return wave

    def _low_pass(self, wave: np.ndarray, cutoff_cents: float, resonance_db: float) -> np.ndarray:
        """Two-pole low-pass filter, in the bilinear form of the Audio EQ cookbook."""
        cutoff_hz = 8.176 * 2 ** (max(cutoff_cents, 1500) / 1200)
        if cutoff_hz >= min(17000, 0.45 * self.sample_rate) or not len(wave):
            return wave
        omega = 2 * math.pi * cutoff_hz / self.sample_rate
        alpha = math.sin(omega) / (2 * 10 ** ((resonance_db - 3.01) / 20))
        low, scale = (1 - math.cos(omega)) / 2, 1 / (1 + alpha)
        # Half the resonance is taken off the level, as the specification says.
        height = 10 ** (-resonance_db / 40)
        b, a1, a2 = low * scale * height, -2 * math.cos(omega) * scale, (1 - alpha) * scale
        # The poles' radius is the root of a2: samples until the filter has rung out to -90 dB.
        ring = math.ceil(-20.7 / math.log(max(a2, 1e-6)))
        return apply_sections(wave, [(b, 2 * b, b, 1.0, a1, a2)], ring)


def _covers(region: Region, note: PlayedNote) -> bool:
    return (
        region.keys[0] <= note.pitch <= region.keys[1] and region.velocities[0] <= note.velocity <= region.velocities[1]
    )


def _choke_times(notes: list[PlayedNote], regions: tuple[Region, ...]) -> dict[tuple[int, int], float]:
    """For (note index, exclusive class): when a later note of the class silences it."""
    classes = {region.exclusive for region in regions if region.exclusive}
    chokes: dict[tuple[int, int], float] = {}
    for kind in classes:
        last: int | None = None
        for index, note in enumerate(notes):
            if any(region.exclusive == kind and _covers(region, note) for region in regions):
                if last is not None and note.time_s > notes[last].time_s:
                    chokes[last, kind] = note.time_s
                last = index
    return chokes
