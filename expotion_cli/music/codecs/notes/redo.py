"""Bars of a finished cue composed anew: everything else is given, and notes that sound across a join stay whole.

The decoder composes from left to right, so it hears what comes before the bars, but not what comes after. What comes
after is respected by what is settled: key, form, groove and answers stay those of the sketch, and each voice arrives at
the second join in the state that the kept notes go on from (sounding the note that is held there, or silent).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET, HOLD, REST, VOICE_INDEX, VOICES
from expotion_cli.music.generate.constraints import DRAWN, NO_SOURCE, Constraints

_HELD = tuple(VOICE_INDEX[voice.name] for voice in VOICES if voice.kind in ("pitched", "chord"))
_DYNAMICS = VOICE_INDEX["dynamics"]


def on_decoder(tokens: np.ndarray, layout: np.ndarray | None) -> np.ndarray:
    """Tokens of a finished cue on the decoder's steps: the inverse of `CueRequest.on_timeline`.

    Args:
        tokens: [K, S] on the timeline's steps.
        layout: see `CueRequest.layout`.
    """
    if layout is None:
        return tokens
    found: np.ndarray = tokens[:, layout]
    found[:, np.diff(layout, prepend=-1) == 0] = HOLD
    return found


def redone(sketched: Constraints, tokens: np.ndarray, spans: Sequence[tuple[int, int]], bar_steps: int) -> Constraints:
    """The constraints under which some bars are composed anew and all other tokens stay.

    Inside the bars the sketch holds, but what returned there from bars outside is composed anew. A note that was struck
    before the bars ends when it did, or after a bar. A note that is held beyond them is struck where it was, or a bar
    before their end if that is later. Levels stay.

    Args:
        sketched: of the cue, on the decoder's steps.
        tokens: [K, D] what was composed before, on the decoder's steps.
        spans: (first step, last step) of the bars to compose, in order, the last step excluded.
        bar_steps: length of a bar.
    """
    given, source = np.array(tokens, dtype=np.int64), np.full(tokens.shape, NO_SOURCE)
    for first, last in spans:
        inside = slice(first, last)
        given[:, inside] = sketched.given[:, inside]
        given[_DYNAMICS, inside] = tokens[_DYNAMICS, inside]
        returns = sketched.source[:, inside]
        source[:, inside] = np.where(returns >= first, returns, NO_SOURCE)
        for voice in _HELD:
            latest = min(last, first + bar_steps)
            end = _end_what_sounds(given[voice], source[voice], tokens[voice], first, latest)
            may_hold = end is not None and sketched.masks[sketched.mask_of[voice, end], HOLD]
            if end is not None and (given[voice, end] == HOLD or (given[voice, end] == DRAWN and may_hold)):
                given[voice, end], source[voice, end] = REST, NO_SOURCE
            if last < tokens.shape[1] and tokens[voice, last] == HOLD:
                _arrive(given[voice], source[voice], tokens[voice], max(first, last - bar_steps), last)
    return Constraints(given, source, sketched.masks, sketched.mask_of)


def _struck(row: np.ndarray, step: int) -> int | None:
    """The step of the onset that sounds just before `step`; None where the voice is silent."""
    places = np.flatnonzero(row[:step] != HOLD)
    return int(places[-1]) if len(places) and row[places[-1]] >= FIRST_ONSET else None


def _end_what_sounds(given: np.ndarray, source: np.ndarray, row: np.ndarray, first: int, last: int) -> int | None:
    """What sounds before the first join goes on until it ended, at most to `last`; returns where it must end."""
    if _struck(row, first) is None:
        return None
    ends = np.flatnonzero(row[first:last] != HOLD)
    end = first + int(ends[0]) if len(ends) else last
    given[first:end], source[first:end] = HOLD, NO_SOURCE
    return end if end < last else None


def _arrive(given: np.ndarray, source: np.ndarray, row: np.ndarray, earliest: int, last: int) -> None:
    """At `last`, whose token is a hold, the voice sounds the note that is held there, or is silent."""
    struck = _struck(row, last)
    if struck is None:
        given[last - 1], source[last - 1] = REST, NO_SOURCE
        return
    place = max(struck, earliest)
    sounds_already = struck < earliest and (given[earliest:last] == HOLD).all() and _struck(given, last) == struck
    if not sounds_already:
        given[place], source[place] = row[struck], NO_SOURCE
    given[place + (not sounds_already) : last], source[place:last] = HOLD, NO_SOURCE
