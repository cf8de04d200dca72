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
from expotion_cli.music.codecs.notes.soundfont import Region, SoundFont

_SILENCE_DB = 90.0
_MAX_RELEASE_S = 4.0
_VELOCITY_CUTOFF_CENTS = -2400.0  # a note of velocity 0 is filtered two octaves lower: soft notes are darker
_VELOCITY_STEP = 16  # velocity is quantised for the filter, so that filtered notes can be cached
_SHORTEST_WAVE_S = 0.5
_CHOKE_S = 0.03
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
        length = min(out.shape[1] - first, held + round(min(release_s, _MAX_RELEASE_S) * self.sample_rate) + 1)
        envelope = self._envelope(region, note.pitch, held, release_s, length)
        wave = self._wave(region, note.pitch, note.velocity // _VELOCITY_STEP, len(envelope))
        length = min(len(envelope), len(wave))
        gain = note.gain * (note.velocity / 127) ** 2 * 10 ** (-region.attenuation_db / 20)
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
        """Read the recording at the pitch's speed with four-point cubic (Catmull-Rom) interpolation, loop unrolled."""
        sounding = region.fixed_key if region.fixed_key >= 0 else pitch
        # Keys tune around the root by `scale_cents` each, so that unpitched sounds (scale 0) stay as recorded.
        root_key = region.root_cents / 100
        cents = (sounding - root_key) * region.scale_cents
        ratio = 2 ** (cents / 1200) * region.sample_rate / self.sample_rate
        position = np.arange(length, dtype=np.float64) * ratio
        depth, delay_s, rate_hz = region.vibrato
        if depth:
            time = np.maximum(np.arange(length) / self.sample_rate - delay_s, 0)
            sway = depth / 1200 * math.log(2) / (2 * math.pi * rate_hz) * self.sample_rate * ratio
            position += sway * (1 - np.cos(2 * math.pi * rate_hz * time))
        needed = int(position[-1]) + 4
        recorded = self.soundfont.samples[region.start : region.end]
        if region.loops and needed > region.loop_end - region.start:
            head = recorded[: region.loop_end - region.start]
            loop = recorded[region.loop_start - region.start : region.loop_end - region.start]
            source = np.concatenate([head, np.resize(loop, needed - len(head))])
        else:
            position = position[position < len(recorded) - 3]
            source = recorded
        source = np.concatenate([np.zeros(1, np.float32), source[:needed].astype(np.float32) / np.float32(32768)])
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
        return row[:, 0] + t * (row[:, 1] + t * (row[:, 2] + t * row[:, 3]))

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
        level_db[held:] -= np.arange(max(0, length - held), dtype=np.float32) * np.float32(
            100 / (max(release_s, 0.004) * rate)
        )
        if held < full_s * rate:  # let go during the attack: fall from the height that was reached
            time = np.minimum(time, np.float32(held / rate))
        rise = np.clip((time - np.float32(delay)) * np.float32(1 / (full_s - delay)), 0, 1)
        audible = np.flatnonzero(level_db > -_SILENCE_DB)
        stop = int(audible[-1]) + 1 if len(audible) else 0
        envelope = rise[:stop] * np.exp(level_db[:stop] * np.float32(math.log(10) / 20))
        tail = min(stop, round(0.002 * rate))
        if stop < length:
            envelope[stop - tail :] *= np.linspace(1, 0, tail, dtype=np.float32)
        return envelope

    def _filtered(self, wave: np.ndarray, region: Region, velocity: float) -> np.ndarray:
        darker = _VELOCITY_CUTOFF_CENTS * (1 - velocity / 127)
        rest = self._low_pass(wave, region.cutoff_cents + darker, region.resonance_db)
        attack, hold, decay, kept = region.cutoff_envelope
        if region.cutoff_peak_cents == region.cutoff_cents or (kept == 0 and attack + hold + decay < 0.005):
            return rest
        peak = self._low_pass(wave, region.cutoff_peak_cents + darker, region.resonance_db)
        time = np.arange(len(wave), dtype=np.float32) / np.float32(self.sample_rate)
        points = np.cumsum([0, attack + 1e-4, hold + 1e-4, decay * (1 - kept) + 1e-4])
        height = np.interp(time, points, [0.0, 1.0, 1.0, kept]).astype(np.float32)
        return rest + height * (peak - rest)

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
