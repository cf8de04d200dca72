"""How much of a melody is copied: its longest exact run of notes, in any key, that stands in other pieces."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes

SEPARATOR = -1
"""Stands between two joined melodies; no run reaches across."""


def melody_codes(tokens: np.ndarray, voice: str = "melody") -> np.ndarray:
    """Each note of a melody, the first and last left out, as one number that does not change with the key.

    Args:
        tokens: [K, S] integers.
        voice: a pitched voice.

    Returns:
        [n] int32: the interval from the note before and the steps until the next.
    """
    row = np.asarray(tokens)[notes.VOICE_INDEX[voice]]
    starts = np.flatnonzero(row >= notes.FIRST_ONSET)
    pitches = (row[starts].astype(int) - notes.FIRST_ONSET) // len(notes.VELOCITIES)
    intervals, spacings = np.diff(pitches)[: max(0, len(starts) - 2)], np.diff(starts)[1:]
    return (intervals + 128 << 16 | np.minimum(spacings, 65_535)).astype(np.int32)


def join_melodies(pieces: Iterable[np.ndarray], voice: str = "melody") -> np.ndarray:
    """The melodies of some pieces one after another, for `longest_shared_run`.

    Args:
        pieces: [K, S] tokens each.
        voice: a pitched voice.

    Returns:
        [N] int32, `SEPARATOR` after each piece.
    """
    parts = [np.zeros(0, np.int32)]
    for piece in pieces:
        parts += [melody_codes(piece, voice), np.array([SEPARATOR], np.int32)]
    return np.concatenate(parts)


def longest_shared_run(tokens: np.ndarray, melodies: np.ndarray, voice: str = "melody") -> int:
    """Length in notes of the longest exact run (intervals and spacing) that a piece shares with other melodies.

    Args:
        tokens: [K, S] integers.
        melodies: from `join_melodies`.
        voice: a pitched voice.
    """
    runs, best = np.zeros(len(melodies) + 1, np.int32), 0
    for code in melody_codes(tokens, voice):
        runs[1:] = np.where(melodies == code, runs[:-1] + 1, 0)
        best = max(best, int(runs.max(initial=0)))
    return best
