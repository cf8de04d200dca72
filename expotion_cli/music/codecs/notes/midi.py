"""Writes an arrangement as a standard MIDI file, to open in a DAW beside the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from expotion_cli.music.codecs.notes import smf
from expotion_cli.music.codecs.notes.arrange import Arrangement, ScoreNote
from expotion_cli.music.codecs.notes.general_midi import instrument_name
from expotion_cli.music.codecs.notes.instruments import SoundSettings, VoiceSound
from expotion_cli.music.codecs.notes.smf import TICKS_PER_BEAT
from expotion_cli.music.codecs.notes.tokens import VOICE_INDEX, VOICES
from expotion_cli.timing import STEPS_PER_BEAT, Timeline

Marks = Sequence[tuple[float, str]]
"""(seconds on the picture's clock, words)."""
_MAJOR_SHARPS = (0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5)  # by pitch class of the tonic
_SWELL_STEPS = 3
_DRUM_CHANNEL = 9
_PICKUP_PARTS = 64
"""The bar that the picture cuts into is written in notes of this length."""


def to_midi(arrangement: Arrangement, timeline: Timeline, settings: SoundSettings, marks: Marks = ()) -> bytes:
    """A standard MIDI file of the cue.

    Tick 0 is the picture's first frame. Notes begin when they sound, humanising included. If the picture begins within
    a bar, the rest of that bar is a bar of its own, with its own time signature and a tempo that brings the next bar
    line to its time.

    Args:
        arrangement: the notes; each voice becomes a track.
        timeline: gives tempo, tempo map, metre and start.
        settings: gives programs, panning and levels.
        marks: become markers, e.g. hit points.

    Returns:
        The file's bytes.
    """
    clock = _Clock(timeline)
    end_s = float(timeline.duration)
    sharps = _MAJOR_SHARPS[(settings.tonic + 3 * arrangement.minor) % 12]
    common = [
        *clock.signatures(),
        *clock.tempos(),
        smf.text(0, "track", "tempo, metre, marks"),
        smf.key_signature(0, sharps, is_minor=bool(arrangement.minor)),
        smf.text(0, "marker", "picture starts"),
        smf.text(clock.tick(end_s), "marker", "picture ends"),
        *(smf.text(clock.tick(time_s), "marker", words) for time_s, words in marks if 0 <= time_s <= end_s),
    ]
    channels = (channel for channel in range(16) if channel != _DRUM_CHANNEL)
    tracks = [common]
    for name, notes in arrangement.notes.items():
        is_kit = VOICES[VOICE_INDEX[name]].kind == "drums"
        channel = _DRUM_CHANNEL if is_kit else next(channels)
        parts = [part for part in arrangement.parts if part.voice == name]
        players = dict.fromkeys(instrument_name(part.sound.program or 0, is_kit=is_kit) for part in parts)
        played_by = ", then ".join(players)
        track = [smf.text(0, "track", f"{name}: {played_by}"), smf.text(0, "instrument", played_by)]
        # Drums and percussion share a channel: its settings come from the drums where both play.
        if name != "percussion" or "drums" not in arrangement.notes:
            for part in parts:
                tick = 0 if part is parts[0] else clock.tick(max(0.0, float(timeline.time_of(part.first))))
                track += _set_up(tick, channel, part.sound)
            for time_s, value in _swells(arrangement.control, timeline):
                track.append(smf.control(clock.tick(time_s), channel, 11, value))
        for start, end, note in _placed(notes, timeline, clock, end_s):
            track += smf.note(start, end, channel, note.pitch, note.velocity)
        tracks.append(track)
    return smf.write(tracks)


def _set_up(tick: int, channel: int, sound: VoiceSound) -> Iterator[smf.Event]:
    """A channel's program, level, panning and reverb."""
    level = int(np.clip(round(100 * 10 ** (sound.gain_db / 40)), 0, 127))
    yield from smf.program(tick, channel, sound.program or 0)
    for number, value in ((7, level), (10, round(63.5 + 63.5 * sound.pan)), (91, round(127 * sound.reverb))):
        yield smf.control(tick, channel, number, int(value))


class _Clock:
    """Where the picture's seconds lie on the file's ticks."""

    def __init__(self, timeline: Timeline):
        upper, lower = (int(text) for text in timeline.metre.split("/"))
        self.metre = upper, lower
        bar_steps, zero = timeline.bar_steps, timeline.step_at(0.0)
        bar_line = math.ceil(zero / bar_steps - 1e-9) * bar_steps
        ticks_of_part = TICKS_PER_BEAT * 4 // _PICKUP_PARTS
        parts = round((bar_line - zero) / STEPS_PER_BEAT * TICKS_PER_BEAT / ticks_of_part)
        self.pickup_parts = parts
        first = parts * ticks_of_part
        steps = np.arange(bar_line, timeline.num_steps + 2 * STEPS_PER_BEAT, STEPS_PER_BEAT, dtype=float)
        if len(steps) < 2:  # the picture ends within its first bar
            steps = bar_line + np.array([0.0, STEPS_PER_BEAT])
        times = timeline.time_of(steps)
        ticks = first + TICKS_PER_BEAT * np.arange(len(steps), dtype=float)
        if first:
            times, ticks = np.concatenate([[0.0], times]), np.concatenate([[0.0], ticks])
        else:  # what is left of the bar is shorter than any note: the first beat takes it in
            times[0] = 0.0
        self._times, self._ticks = times, ticks

    def tick(self, time_s: float) -> int:
        """The tick at a time on the picture's clock."""
        last = len(self._times) - 1
        if time_s > self._times[last]:
            slope = (self._ticks[last] - self._ticks[last - 1]) / (self._times[last] - self._times[last - 1])
            return round(float(self._ticks[last] + (time_s - self._times[last]) * slope))
        return round(float(np.interp(time_s, self._times, self._ticks)))

    def signatures(self) -> Iterator[smf.Event]:
        """The metre, and before it the bar that the picture cuts into."""
        if parts := self.pickup_parts:
            shared = math.gcd(parts, _PICKUP_PARTS // 4)  # no longer notes than quarters
            yield smf.time_signature(0, parts // shared, _PICKUP_PARTS // shared)
        yield smf.time_signature(parts * TICKS_PER_BEAT * 4 // _PICKUP_PARTS, *self.metre)

    def tempos(self) -> Iterator[smf.Event]:
        """The tempo wherever it changes."""
        beats_s = np.diff(self._times) / np.diff(self._ticks) * TICKS_PER_BEAT
        before = 0.0
        for tick, beat_s in zip(self._ticks, beats_s, strict=False):
            if abs(beat_s - before) > 1e-6:
                yield smf.tempo(int(tick), float(beat_s))
                before = float(beat_s)


def _placed(
    notes: Sequence[ScoreNote], timeline: Timeline, clock: _Clock, end_s: float
) -> Iterator[tuple[int, int, ScoreNote]]:
    """(first tick, last tick, note), as they sound; a note ends before its key is struck again."""
    starts_s = timeline.time_of(np.array([note.start for note in notes])) + [note.shift_s for note in notes]
    starts_s = np.clip(starts_s, 0.0, max(0.0, end_s - 1e-3))
    ends_s = np.minimum(timeline.time_of(np.array([note.end for note in notes])), end_s)
    struck_again: dict[int, int] = {}
    placed = []
    for index in np.argsort(-starts_s, kind="stable").tolist():
        note, start = notes[index], clock.tick(float(starts_s[index]))
        end = min(max(clock.tick(float(ends_s[index])), start + 1), struck_again.get(note.pitch, 1 << 40))
        if end > start:
            placed.append((start, end, note))
            struck_again[note.pitch] = start
    return iter(reversed(placed))


def _swells(control: np.ndarray, timeline: Timeline) -> Iterator[tuple[float, int]]:
    """(seconds, value) of controller 11, sampled four times a beat, wherever it changes."""
    before = -1
    first = max(0, math.floor(timeline.step_at(0.0)))
    for step in range(first, len(control), _SWELL_STEPS):
        value = int(np.clip(round(control[step]), 1, 127))
        if value != before:
            yield max(0.0, float(timeline.time_of(step))), value
            before = value
