"""Sets of tokens among which a voice's next one may be drawn: by mode, loudness and register."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.music.codecs.notes.tokens import HOLD, REST, VOCAB_SIZE, VOICE_INDEX, VOICES

PITCHED = ("harmony", "bass", "figure", "melody", "counter")
_FIGURE_LOW, _BAND, _BAND_STEP = 48, 8, 4
"""Lowest pitch of the figure's lowest register, semitones in a register, and between two."""
_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10, 11)
_CHORDS = {
    False: {0: ("maj", "maj7", "sus4"), 2: ("min", "min7"), 4: ("min", "min7"), 5: ("maj", "maj7"),
            7: ("maj", "dom7", "sus4"), 9: ("min", "min7"), 11: ("dim", "hdim7")},
    True: {0: ("min", "min7"), 2: ("dim", "hdim7"), 3: ("maj", "maj7"), 5: ("min", "min7"),
           7: ("min", "min7", "maj", "dom7"), 8: ("maj", "maj7"), 10: ("maj", "dom7"), 11: ("dim",)},
}  # fmt: skip
"""Chords of the major and of the minor mode: semitones from the tonic to the root → qualities."""
_TONIC = {None: ("maj", "min", "maj7", "min7"), False: ("maj", "maj7"), True: ("min", "min7")}

_TRIADS = {None: (0, 7), False: (0, 4, 7), True: (0, 3, 7)}


def token_sets(is_minor: bool | None, background: Sequence[str]) -> tuple[np.ndarray, dict[tuple[str, str], int]]:
    """([M, V] bool sets of tokens, (voice, kind) → its row).

    Kinds: "soft" (hold, rest or an onset of a softer class), "onset" (such an onset), "loud" (an onset
    of the loudest class), "tonic" (an onset of the tonic chord, for the bass of the tonic itself, for the others of a
    note of that chord), for the figure "register 0" to "register 4" (an onset in a register).
    """
    rows = [np.ones(VOCAB_SIZE, dtype=bool)]
    numbers: dict[tuple[str, str], int] = {}
    for name in PITCHED:
        voice = VOICES[VOICE_INDEX[name]]
        loudest = (len(notes.CHORD_VELOCITIES) if voice.kind == "chord" else len(notes.VELOCITIES)) - 1
        softer = loudest - 1 - (name in background)
        soft, loud, tonic = (np.zeros(VOCAB_SIZE, dtype=bool) for _ in range(3))
        for token in range(notes.FIRST_ONSET, VOCAB_SIZE):
            onset = notes.read_token(voice, token)
            if onset is None or not _in_mode(voice, onset[0], is_minor):
                continue
            if onset[1] == loudest:
                loud[token] = True
            elif onset[1] <= softer:
                soft[token] = True
            tonic[token] = onset[1] <= softer and _is_tonic(voice, onset[0], is_minor)
        still = soft.copy()
        still[[HOLD, REST]] = True
        kinds = {"soft": still, "onset": soft, "loud": loud, "tonic": tonic}
        if name == "figure":
            pitches = np.array([(notes.read_token(voice, token) or (0, 0))[0] for token in range(VOCAB_SIZE)])
            for register in range(5):
                low = _FIGURE_LOW + _BAND_STEP * register
                kinds[f"register {register}"] = soft & (pitches >= low) & (pitches < low + _BAND)
        for kind, mask in kinds.items():
            numbers[name, kind] = len(rows)
            rows.append(mask)
    return np.array(rows), numbers


def _in_mode(voice: notes.Voice, value: int, is_minor: bool | None) -> bool:
    if is_minor is None:
        return True
    if voice.kind == "chord":
        return _is_chord(value, _CHORDS[is_minor])
    return value % 12 in (_MINOR if is_minor else _MAJOR)


def _is_tonic(voice: notes.Voice, value: int, is_minor: bool | None) -> bool:
    if voice.kind == "chord":
        return _is_chord(value, {0: _TONIC[is_minor]})
    return value % 12 in ((0,) if voice.name == "bass" else _TRIADS[is_minor])


def _is_chord(value: int, chords: dict[int, tuple[str, ...]]) -> bool:
    root, quality = divmod(value, len(notes.QUALITIES))
    return notes.QUALITY_NAMES[quality] in chords.get(root, ())
