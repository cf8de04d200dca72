"""Renders an arrangement to stereo: one stem for each voice, balanced, panned, with reverb, summed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from expotion_cli.audio.filters import apply_sections, folded, high_pass, high_shelf, low_pass
from expotion_cli.audio.loudness import integrated_lufs
from expotion_cli.music.codecs.codec import Rendering
from expotion_cli.music.codecs.notes.arrange import Arrangement, ScoreNote
from expotion_cli.music.codecs.notes.balance import Balance, peak_gain
from expotion_cli.music.codecs.notes.instruments import SoundSettings, VoiceSound
from expotion_cli.music.codecs.notes.reverb import reverberate, tail_samples
from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.soundfont import SoundFont
from expotion_cli.music.codecs.notes.tokens import VOICE_INDEX, VOICES
from expotion_cli.timing import Timeline

SAMPLE_RATE = 44100
PEAK = 0.98
_BLOCK_S = 30
_RING_S = 1.0
_LOOP_RING_S = 3.0
"""So long may notes and their reverb sound beyond the end of a loop."""
_RUMBLE_HZ = 24.0  # some recordings have a DC offset
_AIR_HZ = 3200.0
_EQ_RING_S = 0.15
_DRUM_PEAKS_DB = 10.0
"""How far drum peaks (dBFS) may exceed the cue's loudness (LUFS) before they are limited. A hit lasts about 0.05 s:
balanced by loudness alone, its peak would be so high that the whole cue had to be turned down."""


class Renderer:
    """Plays arrangements with one soundfont. Caches measured levels and resampled notes between cues.

    Args:
        soundfont: the recorded instruments.
        sample_rate: of the sound made.
    """

    def __init__(self, soundfont: SoundFont, sample_rate: int = SAMPLE_RATE):
        self.sample_rate = sample_rate
        self._synth = Synth(soundfont, sample_rate)
        self._balance = Balance(self._synth)

    def render(
        self, arrangement: Arrangement, timeline: Timeline, settings: SoundSettings, keep_stems: bool = False
    ) -> Rendering:
        """Make the sound of a cue.

        Args:
            arrangement: the notes.
            timeline: places the notes' steps on the picture's clock.
            settings: instruments, gains, panning, reverb.
            keep_stems: also return each voice by itself, with its share of the reverb.

        Returns:
            Exactly `timeline.samples(sample_rate)` samples. Quiet cues stay quiet; one that would exceed full scale is
            turned down as a whole. What rings beyond the end of a loop sounds at its beginning.
        """
        length = num_samples = timeline.samples(self.sample_rate)
        if settings.is_loop:
            num_samples += tail_samples(settings.reverb_s, self.sample_rate) + round(_LOOP_RING_S * self.sample_rate)
        mix, send = np.zeros((2, num_samples), np.float32), np.zeros((2, num_samples), np.float32)
        swell = self._swell(arrangement.control, timeline, num_samples)
        stems: dict[str, np.ndarray] = {}

        def add(name: str, sound: VoiceSound, stem: np.ndarray) -> None:
            nonlocal mix, send
            mix += stem
            dry = stem.copy() if keep_stems else None
            stem *= np.float32(sound.reverb)
            if sound.reverb:
                send += stem
            if dry is not None:
                self._add_reverb(dry, stem, settings.reverb_s)
                made = self._equalise(dry, settings)
                stems[name] = stems[name] + made if name in stems else made

        drums: dict[tuple[str, VoiceSound], np.ndarray] = {}
        for (name, sound), notes in _by_sound(arrangement).items():
            stem = self._voice(name, sound, notes, timeline, num_samples, rings=not settings.is_loop)
            stem *= swell
            stem = pan_stereo(stem, sound.pan)
            if VOICES[VOICE_INDEX[name]].kind == "drums":
                drums[name, sound] = stem
            else:
                add(name, sound, stem)
            del stem
        del swell
        self._limit_drums(drums, mix)
        for name, sound in tuple(drums):
            add(name, sound, drums.pop((name, sound)))
        self._add_reverb(mix, send, settings.reverb_s)
        del send
        mix = folded(self._equalise(mix, settings), length)
        stems = {name: folded(stem, length) for name, stem in stems.items()}
        peak = float(np.abs(mix).max(initial=0.0))
        if peak > PEAK:
            turned_down = np.float32(PEAK / peak)
            mix *= turned_down
            stems = {name: stem * turned_down for name, stem in stems.items()}
        return Rendering(mix, self.sample_rate, stems=stems)

    def _voice(
        self,
        name: str,
        sound: VoiceSound,
        notes: Sequence[ScoreNote],
        timeline: Timeline,
        num_samples: int,
        *,
        rings: bool,
    ) -> np.ndarray:
        drums = VOICES[VOICE_INDEX[name]].kind == "drums"
        program, level = sound.program, 10 ** (sound.gain_db / 20)
        assert program is not None  # `SoundSettings.sounds` fills in the kit
        starts_s = timeline.time_of(np.array([note.start for note in notes]))
        ends_s = timeline.time_of(np.array([note.end for note in notes]))
        last_s = float(timeline.duration) - 1 / float(timeline.rate_hz)
        played = []
        for note, start_s, end_s in zip(notes, starts_s.tolist(), ends_s.tolist(), strict=True):
            time_s = max(0.0, start_s + note.shift_s)
            if rings and end_s >= last_s:
                end_s += _RING_S  # notes held at the end are not released before it
            gain = level * self._balance.gain(name, program, note.pitch if drums else 0)
            played.append(PlayedNote(time_s, max(0.02, end_s - time_s), note.pitch, note.velocity, gain))
        return self._synth.play(played, program, num_samples, drums)

    def _limit_drums(self, drums: Mapping[tuple[str, VoiceSound], np.ndarray], others: np.ndarray) -> None:
        """Limit the joint peaks of drums and percussion, in place, relative to the loudness of the whole cue."""
        if not drums:
            return
        together = reduce(np.add, drums.values())
        loudness = integrated_lufs(others + together, self.sample_rate)
        if math.isfinite(loudness):
            gain = peak_gain(together, self.sample_rate, loudness + _DRUM_PEAKS_DB)
            for stem in drums.values():
                stem *= gain

    def _equalise(self, audio: np.ndarray, settings: SoundSettings) -> np.ndarray:
        """The mix bus's equaliser. It is linear, so stems can be equalised one by one."""
        rate = self.sample_rate
        sections = [high_pass(_RUMBLE_HZ, rate)]
        if settings.air_db:
            sections.append(high_shelf(_AIR_HZ, settings.air_db, rate))
        if settings.lowpass_hz:
            sections.append(low_pass(settings.lowpass_hz, rate))
        return apply_sections(audio, sections, ring=round(_EQ_RING_S * rate))

    def _swell(self, control: np.ndarray, timeline: Timeline, num_samples: int) -> np.ndarray:
        """Gain of controller 11 (expression) by its square law: [n] float32."""
        places = timeline.time_of(np.arange(len(control))) * self.sample_rate
        gain, block = np.empty(num_samples, np.float32), _BLOCK_S * self.sample_rate
        for first in range(0, num_samples, block):
            here = np.arange(first, min(first + block, num_samples))
            gain[here[0] : here[-1] + 1] = np.interp(here, places, (control / 127) ** 2)
        return gain

    def _add_reverb(self, mix: np.ndarray, send: np.ndarray, reverb_s: float) -> None:
        """Add reverb block by block, so that long cues need little memory."""
        tail, block = tail_samples(reverb_s, self.sample_rate), _BLOCK_S * self.sample_rate
        for first in range(0, mix.shape[1], block):
            dry = send[:, first : first + block]
            length = min(dry.shape[1] + tail, mix.shape[1] - first)
            padded = np.zeros((2, length), np.float32)
            padded[:, : dry.shape[1]] = dry
            mix[:, first : first + length] += reverberate(padded, reverb_s, self.sample_rate)


def _by_sound(arrangement: Arrangement) -> dict[tuple[str, VoiceSound], list[ScoreNote]]:
    """(voice, sound) → its notes: what sounds alike is played together."""
    found: dict[tuple[str, VoiceSound], list[ScoreNote]] = {}
    for part in arrangement.parts:
        found.setdefault((part.voice, part.sound), []).extend(part.notes)
    return found


def pan_stereo(stem: np.ndarray, pan: float) -> np.ndarray:
    """Pan a stereo sound left (-1) or right (1) at equal power, without losing either channel.

    Args:
        stem: [2, n] float32.
        pan: 0 leaves it as it is.
    """
    if not pan:
        return stem
    angle = abs(pan) * math.pi / 2
    here, there = (1, 0) if pan > 0 else (0, 1)
    placed = np.empty_like(stem)
    scale = 1 / math.sqrt(1 + math.sin(angle))
    placed[there] = stem[there] * np.float32(math.cos(angle) * scale)
    placed[here] = (stem[here] + stem[there] * np.float32(math.sin(angle))) * np.float32(scale)
    return placed
