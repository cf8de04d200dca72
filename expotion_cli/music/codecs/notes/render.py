"""Renders an arrangement to stereo sound: one stem a voice, balanced, placed, sent into a room, summed."""

from __future__ import annotations

import math

import numpy as np

from expotion_cli.audio.filters import apply_sections, high_pass, high_shelf
from expotion_cli.audio.loudness import integrated_lufs
from expotion_cli.music.codecs.codec import Rendering
from expotion_cli.music.codecs.notes.arrange import Arrangement
from expotion_cli.music.codecs.notes.balance import Balance, peak_gain
from expotion_cli.music.codecs.notes.instruments import Voicing
from expotion_cli.music.codecs.notes.reverb import reverberate, tail_samples
from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.soundfont import SoundFont
from expotion_cli.music.codecs.notes.tokens import VOICE_INDEX, VOICES
from expotion_cli.timing import Timeline

SAMPLE_RATE = 44100
PEAK = 0.98
_BLOCK_S = 30
_RING_S = 1.0
_RUMBLE_HZ = 24.0  # some recordings stand off zero
_AIR_HZ, _AIR_DB = 3200.0, 3.5  # small soundfonts are dull
_TONE_RING_S = 0.15
_STRUCK_PEAKS_DB = 10.0
"""How far peaks of drums and percussion may freely stand above the cue's loudness (dBFS against LUFS). A hit lasts some
0.05 s: balanced by loudness alone it towers above a quiet cue, and all music would have to be held down under it."""


class Renderer:
    """Plays arrangements with one soundfont; keeps what it has measured and resampled for the next cue.

    Args:
        soundfont: the recorded instruments.
        sample_rate: of the sound made.
    """

    def __init__(self, soundfont: SoundFont, sample_rate: int = SAMPLE_RATE):
        self.sample_rate = sample_rate
        self._synth = Synth(soundfont, sample_rate)
        self._balance = Balance(self._synth)

    def render(
        self, arrangement: Arrangement, timeline: Timeline, voicing: Voicing, keep_stems: bool = False
    ) -> Rendering:
        """Make the sound of a cue.

        Args:
            arrangement: the notes.
            timeline: places the notes' steps on the picture's clock.
            voicing: instruments, gains, places, room.
            keep_stems: also return every voice by itself.

        Returns:
            Exactly `timeline.samples(sample_rate)` samples. Quiet cues stay quiet; one that would pass the full scale
            is turned down as a whole.
        """
        num_samples = timeline.samples(self.sample_rate)
        mix, send = np.zeros((2, num_samples), np.float32), np.zeros((2, num_samples), np.float32)
        swell = self._swell(arrangement.control, timeline, num_samples)
        stems: dict[str, np.ndarray] = {}

        def add(name: str, stem: np.ndarray) -> None:
            nonlocal mix, send
            mix += stem
            if voicing.sounds[name].reverb:
                send += stem * np.float32(voicing.sounds[name].reverb)
            if keep_stems:
                stems[name] = self._tone(stem)

        struck: dict[str, np.ndarray] = {}
        for name in arrangement.notes:
            stem = self._voice(name, arrangement, timeline, voicing)
            stem *= swell
            stem = place(stem, voicing.sounds[name].pan)
            if VOICES[VOICE_INDEX[name]].kind == "drums":
                struck[name] = stem
            else:
                add(name, stem)
        self._hold_peaks(struck, mix)
        for name, stem in struck.items():
            add(name, stem)
        self._add_room(mix, send, voicing.reverb_s)
        mix = self._tone(mix)
        peak = float(np.abs(mix).max(initial=0.0))
        if peak > PEAK:
            turned_down = np.float32(PEAK / peak)
            mix *= turned_down
            stems = {name: stem * turned_down for name, stem in stems.items()}
        return Rendering(mix, self.sample_rate, stems=stems)

    def _voice(self, name: str, arrangement: Arrangement, timeline: Timeline, voicing: Voicing) -> np.ndarray:
        drums = VOICES[VOICE_INDEX[name]].kind == "drums"
        program, level = voicing.sounds[name].program, 10 ** (voicing.sounds[name].gain_db / 20)
        start, rate, duration = float(timeline.start), float(timeline.rate_hz), float(timeline.duration)
        played = []
        for note in arrangement.notes[name]:
            time_s = max(0.0, start + note.start / rate + note.shift_s)
            end_s = start + note.end / rate
            if end_s >= duration - 1 / rate:
                end_s += _RING_S  # what is held when the picture ends is not let go before it
            gain = level * self._balance.gain(name, program, note.pitch if drums else 0)
            played.append(PlayedNote(time_s, max(0.02, end_s - time_s), note.pitch, note.velocity, gain))
        return self._synth.play(played, program, timeline.samples(self.sample_rate), drums)

    def _hold_peaks(self, struck: dict[str, np.ndarray], others: np.ndarray) -> None:
        """Hold the peaks of drums and percussion together, in place, against the loudness of the whole cue."""
        if not struck:
            return
        together = np.sum(list(struck.values()), axis=0)
        loudness = integrated_lufs(others + together, self.sample_rate)
        if math.isfinite(loudness):
            gain = peak_gain(together, self.sample_rate, loudness + _STRUCK_PEAKS_DB)
            for stem in struck.values():
                stem *= gain

    def _tone(self, audio: np.ndarray) -> np.ndarray:
        """The bus's equaliser; linear, so it may as well be put on each voice."""
        rate = self.sample_rate
        sections = [high_pass(_RUMBLE_HZ, rate), high_shelf(_AIR_HZ, _AIR_DB, rate)]
        return apply_sections(audio, sections, ring=round(_TONE_RING_S * rate))

    def _swell(self, control: np.ndarray, timeline: Timeline, num_samples: int) -> np.ndarray:
        """[n] float32 gain that controller 11 stands for (a MIDI controller's square law)."""
        rate = self.sample_rate / float(timeline.rate_hz)
        places = float(timeline.start) * self.sample_rate + np.arange(len(control)) * rate
        gain = np.interp(np.arange(num_samples), places, (control / 127) ** 2)
        return gain.astype(np.float32)

    def _add_room(self, mix: np.ndarray, send: np.ndarray, reverb_s: float) -> None:
        """Add the reverberation block by block, so that long cues need little memory."""
        tail, block = tail_samples(reverb_s, self.sample_rate), _BLOCK_S * self.sample_rate
        for first in range(0, mix.shape[1], block):
            dry = send[:, first : first + block]
            length = min(dry.shape[1] + tail, mix.shape[1] - first)
            padded = np.zeros((2, length), np.float32)
            padded[:, : dry.shape[1]] = dry
            mix[:, first : first + length] += reverberate(padded, reverb_s, self.sample_rate)


def place(stem: np.ndarray, pan: float) -> np.ndarray:
    """Move a stereo sound to the left (-1) or the right (1) at equal power; nothing of either channel is lost.

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
