"""Reads a user's own tune: a sound file, or a MIDI file, whose notes are sounded here.

Only as much is read as a cue needs. Of a MIDI file drums don't sound, and basses only where nothing else does: the
published melody models were trained on melodies without both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from expotion_cli.audio.pitch_classes import SAMPLE_RATE
from expotion_cli.errors import DecodeError, reading

LARGEST_MIDI_BYTES = 8 << 20
_BASSES = range(32, 40)
_OCTAVES = (1.0, 0.5, 0.25)
"""Strength of a note's octaves: they have its pitch class and no other."""
_LEVEL = 0.1
SHORTEST_S = 0.5
"""A shorter sound holds no tune: one spectrum of its pitch classes spans as much."""


def is_midi(path: Path) -> bool:
    """Whether a file is a MIDI file, by what it begins with."""
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start[:4] == b"MThd" or (start[:4] == b"RIFF" and start[8:] == b"RMID")


def read_tune(path: Path, max_s: float) -> np.ndarray:
    """The beginning of a tune.

    Args:
        path: a sound file, a video with sound, or a MIDI file.
        max_s: read no further than this, in seconds.

    Returns:
        [n] float32, mono, at `pitch_classes.SAMPLE_RATE`.

    Raises:
        DecodeError: the file is missing, can't be read, is shorter than `SHORTEST_S`, or is silent as far as it
            is read.
    """
    if is_midi(path):
        return _sounded(path, max_s)
    from expotion_cli.media.sound import read_sound, refuse_silence

    sound = read_sound(path, SAMPLE_RATE, 1, max_s=max_s)
    remedy = "Give a file in which a tune can be heard from its beginning on."
    if sound.shape[1] < SHORTEST_S * SAMPLE_RATE:
        reason = f"no more than {sound.shape[1] / SAMPLE_RATE:.2f} s of sound are there, too little for a tune."
        raise DecodeError(reason, path=path, remedy=remedy)
    refuse_silence(sound, path, remedy=remedy)
    return sound[0]


def _sounded(path: Path, max_s: float) -> np.ndarray:
    starts, ends, pitches, levels = _notes(path, max_s)
    sound = np.zeros(max(1, round(min(max_s, ends.max()) * SAMPLE_RATE)), np.float32)
    first, last = (np.clip(np.rint(times * SAMPLE_RATE), 0, len(sound)).astype(int) for times in (starts, ends))
    for pitch in np.unique(pitches):
        own = pitches == pitch
        steps = np.zeros(len(sound) + 1)
        np.add.at(steps, first[own], levels[own])
        np.add.at(steps, last[own], -levels[own])
        envelope = np.cumsum(steps)[:-1]
        turns = np.arange(len(sound)) * (440 * 2 ** ((float(pitch) - 69) / 12) / SAMPLE_RATE)
        for octave, strength in enumerate(_OCTAVES):
            sound += (strength * envelope * np.sin(2 * np.pi * 2**octave * turns)).astype(np.float32)
    return sound


def _notes(path: Path, max_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Starts and ends in seconds, pitches and levels of the notes that sound within the first `max_s` seconds.

    Raises:
        DecodeError: the file can't be read, or no notes sound.
    """
    import symusic

    remedy = "Give a standard MIDI file with a tune in it, or a sound file."
    with reading(path, "the MIDI file", error=DecodeError, remedy=remedy):
        if (size := path.stat().st_size) > LARGEST_MIDI_BYTES:
            raise DecodeError(f"it has {size} bytes, more than any MIDI file needs.", path=path, remedy=remedy)
        content = path.read_bytes()
    try:
        score = symusic.Score.from_midi(content).to("second")
    except (RuntimeError, ValueError) as error:
        raise DecodeError("it begins like a MIDI file, but is damaged.", path=path, remedy=remedy) from error
    tracks = [track for track in score.tracks if not track.is_drum and len(track.notes)]
    tracks = [track for track in tracks if track.program not in _BASSES] or tracks
    rows = [track.notes.numpy() for track in tracks]
    if rows:
        starts, lengths, pitches, loudnesses = (
            np.concatenate([row[name] for row in rows]) for name in ("time", "duration", "pitch", "velocity")
        )
        kept = (starts >= 0) & (starts < max_s) & (lengths > 0) & (loudnesses > 0)
        if kept.any():
            levels = _LEVEL * loudnesses[kept] / 127
            return starts[kept], (starts + lengths)[kept], pitches[kept], levels
    raise DecodeError("no notes but drums sound in it.", path=path, remedy=remedy)
