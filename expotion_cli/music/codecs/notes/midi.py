"""Writes an arrangement as a standard MIDI file, to open in a DAW."""

from __future__ import annotations

import numpy as np
import symusic

from expotion_cli.music.codecs.notes.arrange import Arrangement
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.tokens import VOICE_INDEX, VOICES
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT, Timeline

TICKS_PER_BEAT = 480
TICKS_PER_STEP = TICKS_PER_BEAT // STEPS_PER_BEAT
_MAJOR_SHARPS = (0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5)  # by pitch class of the tonic
_SWELL_STEPS = 3


def to_midi(arrangement: Arrangement, timeline: Timeline, settings: SoundSettings) -> bytes:
    """A standard MIDI file of the cue.

    Tick 0 is step 0, the beginning of a bar, so bar lines and beats are aligned. Markers "picture starts" and "picture
    ends" stand at the clip's first frame and at its end; nothing sounds before the first. Notes are exactly on the
    grid, without the humanising of the rendered sound.

    Args:
        arrangement: the notes; each voice becomes a track.
        timeline: gives tempo and start.
        settings: gives programs, panning and levels.

    Returns:
        The file's bytes.
    """
    score = symusic.Score(TICKS_PER_BEAT)
    for tick, factor in _tempo_changes(timeline):
        score.tempos.append(symusic.Tempo(tick, qpm=factor * float(timeline.rate_hz) * 60 / STEPS_PER_BEAT))
    score.time_signatures.append(symusic.TimeSignature(0, BEATS_PER_BAR, 4))
    relative_major = (settings.tonic + 3 * arrangement.minor) % 12
    score.key_signatures.append(symusic.KeySignature(0, _MAJOR_SHARPS[relative_major], int(arrangement.minor)))
    first, last = (round(timeline.step_at(time) * TICKS_PER_STEP) for time in (0.0, float(timeline.duration)))
    score.markers.append(symusic.TextMeta(first, "picture starts"))
    score.markers.append(symusic.TextMeta(last, "picture ends"))
    for name, notes in arrangement.notes.items():
        sound = settings.sounds[name]
        drums = VOICES[VOICE_INDEX[name]].kind == "drums"
        track = symusic.Track(name, program=sound.program, is_drum=drums)
        for note in notes:
            start = round(note.start * TICKS_PER_STEP)
            end = min(round(note.end * TICKS_PER_STEP), max(last, start + 1))
            track.notes.append(symusic.Note(start, max(1, end - start), note.pitch, note.velocity))
        level = int(np.clip(round(100 * 10 ** (sound.gain_db / 40)), 0, 127))
        # Drums and percussion share a channel: its settings come from the drums where both play.
        if name != "percussion" or "drums" not in arrangement.notes:
            for number, value in ((7, level), (10, round(63.5 + 63.5 * sound.pan)), (91, round(127 * sound.reverb))):
                track.controls.append(symusic.ControlChange(0, number, int(value)))
            for time, value in _swells(arrangement.control):
                track.controls.append(symusic.ControlChange(time, 11, value))
        score.tracks.append(track)
    return score.dumps_midi()


def _tempo_changes(timeline: Timeline) -> list[tuple[int, float]]:
    """(tick, factor on the tempo): one, or with a tempo map the mean of each beat."""
    if not timeline.bends:
        return [(0, 1.0)]
    beats = np.arange(0, timeline.num_steps + STEPS_PER_BEAT, STEPS_PER_BEAT)
    lengths_s = np.diff(timeline.time_of(beats))
    factors = STEPS_PER_BEAT / float(timeline.rate_hz) / lengths_s
    return [(int(step) * TICKS_PER_STEP, float(factor)) for step, factor in zip(beats, factors, strict=False)]


def _swells(control: np.ndarray) -> list[tuple[int, int]]:
    """(tick, value) of controller 11, sampled four times a beat, wherever it changes."""
    found: list[tuple[int, int]] = []
    for step in range(0, len(control), _SWELL_STEPS):
        value = int(np.clip(round(control[step]), 1, 127))
        if not found or found[-1][1] != value:
            found.append((step * TICKS_PER_STEP, value))
    return found
