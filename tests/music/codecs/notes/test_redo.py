"""Bars composed anew: what is outside stays token for token, and what sounds over a join stays whole."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.arrange import shaped, voiced
from expotion_cli.music.codecs.notes.ending import closing_of
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.redo import on_decoder, redone
from expotion_cli.music.codecs.notes.token_sets import token_sets
from expotion_cli.music.codecs.notes.tokens import (
    FIRST_ONSET,
    HOLD,
    NUM_VOICES,
    REST,
    VOICE_INDEX,
    Event,
    chord_value,
    tokens_to_events,
)
from expotion_cli.music.generate.constraints import DRAWN, NO_SOURCE, Constraints
from expotion_cli.timing import Tempo

BAR, STEPS = 48, 6 * 48
MELODY, HARMONY = VOICE_INDEX["melody"], VOICE_INDEX["harmony"]
SPAN = (2 * BAR, 4 * BAR)
NOTE = FIRST_ONSET + 50


def open_sketch(source: np.ndarray | None = None) -> Constraints:
    """Nothing is settled, but what returns."""
    masks, _ = token_sets(None, ())
    shape = (NUM_VOICES, STEPS)
    source = np.full(shape, NO_SOURCE) if source is None else source
    return Constraints(np.full(shape, DRAWN), source, masks, np.zeros(shape, dtype=np.int64))


def silence() -> np.ndarray:
    tokens = np.full((NUM_VOICES, STEPS), HOLD)
    tokens[:, 0] = REST
    return tokens


def filled(made: Constraints, seed: int = 0) -> np.ndarray:
    """What an unruly decoder makes of it: mostly onsets."""
    drawn = np.random.default_rng(seed).choice([REST, HOLD, NOTE, NOTE + 8], made.given.shape)
    return np.where(made.given == DRAWN, drawn, made.given)


def at(events, step):
    return next((event for event in events if event.start <= step < event.end), None)


@pytest.mark.parametrize("seed", range(5))
def test_outside_the_bars_all_tokens_stay_and_every_note_ends_where_it_did(seed):
    rng = np.random.default_rng(seed)
    tokens = np.where(rng.random((NUM_VOICES, STEPS)) < 0.04, rng.choice([REST, NOTE, NOTE + 4], silence().shape), HOLD)
    made = redone(open_sketch(), tokens, [SPAN], BAR)
    new = filled(made, seed)
    outside = np.r_[: SPAN[0], SPAN[1] : STEPS]
    assert np.array_equal(new[:, outside], tokens[:, outside])
    assert not np.array_equal(new[:, SPAN[0] : SPAN[1]], tokens[:, SPAN[0] : SPAN[1]])
    before, after = tokens_to_events(tokens), tokens_to_events(new)
    for name in ("harmony", "bass", "figure", "melody", "counter"):
        for step in outside:
            was, now = at(before[name], step), at(after[name], step)
            assert (was is None) == (now is None), (name, step)
            if was is None or now is None:
                continue
            assert now.value == was.value and now.velocity == was.velocity
            if step >= SPAN[1]:
                assert now.end == was.end
            elif was.end <= SPAN[0] + BAR:
                assert now.end == was.end, "a note that sounds into the bars ends where it did"


def test_a_note_held_beyond_the_bars_is_struck_where_it_was_or_a_bar_before_they_end():
    for struck, wanted in ((SPAN[1] - 10, SPAN[1] - 10), (SPAN[0] + 5, SPAN[1] - BAR)):
        tokens = silence()
        tokens[MELODY, struck], tokens[MELODY, SPAN[1] + 20] = NOTE, REST
        new = filled(redone(open_sketch(), tokens, [SPAN], BAR))
        held = at(tokens_to_events(new)["melody"], SPAN[1])
        assert (held.start, held.end) == (wanted, SPAN[1] + 20)


def test_a_note_held_over_all_of_a_short_span_is_neither_cut_nor_doubled():
    tokens = silence()
    tokens[HARMONY, BAR], tokens[HARMONY, 5 * BAR] = NOTE, REST
    new = filled(redone(open_sketch(), tokens, [(2 * BAR, 3 * BAR)], BAR))
    assert at(tokens_to_events(new)["harmony"], 2 * BAR).start == BAR
    assert at(tokens_to_events(new)["harmony"], 3 * BAR).end == 5 * BAR


def test_levels_stay_and_what_returned_from_outside_is_composed_anew():
    source = np.full((NUM_VOICES, STEPS), NO_SOURCE)
    source[MELODY, SPAN[0] : SPAN[1]] = np.arange(*SPAN) - BAR  # the first bar from outside, the second from the first
    tokens = silence()
    tokens[0, SPAN[0] + 7] = FIRST_ONSET + 3
    made = redone(open_sketch(source), tokens, [SPAN], BAR)
    assert np.array_equal(made.given[0], tokens[0])
    assert (made.source[MELODY, SPAN[0] : SPAN[0] + BAR] == NO_SOURCE).all()
    assert made.source[MELODY, SPAN[0] + BAR + 3] == SPAN[0] + 3
    assert (made.source[:, SPAN[1] :] == NO_SOURCE).all()


def test_tokens_of_a_cue_in_three_go_back_to_the_decoders_bars_of_four():
    layout = np.concatenate([np.minimum(np.arange(48), 35) + 36 * bar for bar in range(3)])
    tokens = np.arange(2, 2 + 108)[None].repeat(NUM_VOICES, axis=0)
    found = on_decoder(tokens, layout)
    kept = np.flatnonzero(np.diff(layout, prepend=-1) > 0)
    assert np.array_equal(found[:, kept], tokens)
    assert (np.delete(found, kept, axis=1) == HOLD).all()


def test_chords_and_ending_after_the_bars_sound_as_before_whatever_leads_to_them():
    timeline = Tempo(Fraction(120), Fraction(0), 0.0).timeline(Fraction(8))
    plain = SoundSettings(key=0, humanise=0.0, spread=0.0)

    def played(lead: int, settings: SoundSettings):
        """Two bars that are kept, after two that lead there by other chords and another tune."""
        chords = [Event(0, 48, chord_value(lead, "maj"), 0), Event(48, 96, chord_value(lead + 5, "min"), 0)]
        chords += [Event(96, 144, chord_value(5, "maj"), 0), Event(144, 192, chord_value(7, "maj"), 0)]
        tune = [Event(0, 90, 60 + 2 * lead, 1), Event(90, 170, 60 + 2 * lead, 1)]
        events, landing = shaped({"harmony": chords, "melody": tune}, timeline, settings, minor=False)
        return events, landing, voiced(events, timeline, settings)

    events, landing, chords = played(0, plain)
    other, _, led = played(8, plain)
    assert closing_of(other, landing) != closing_of(events, landing)
    assert [c for c in led if c[0] >= 96] != [c for c in chords if c[0] >= 96]
    first = next(chord for chord in chords if chord[0] >= 96)
    settled = replace(plain, voicings=(first,), closing=closing_of(events, landing))
    new, again, voicings = played(8, settled)
    assert again == landing and closing_of(new, landing) == closing_of(events, landing)
    assert [c for c in voicings if c[0] >= 96] == [c for c in chords if c[0] >= 96]
    assert new["melody"][0].value == 76, "what leads there is the new one"
