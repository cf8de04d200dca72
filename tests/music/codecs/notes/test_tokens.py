"""The token language: every token has one meaning, and notes survive being written."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.tokens import (
    DYNAMIC_LEVELS,
    FIRST_ONSET,
    HOLD,
    NUM_VOICES,
    QUALITIES,
    REST,
    VOCAB_SIZE,
    VOICE_INDEX,
    VOICES,
    Event,
    chord_pitches,
    chord_value,
    events_to_tokens,
    onset_token,
    read_token,
    tokens_to_events,
    valid_tokens,
)

BY_NAME = {voice.name: voice for voice in VOICES}


def test_every_used_token_reads_back_as_itself_and_no_other():
    used = valid_tokens()
    assert used.shape == (NUM_VOICES, VOCAB_SIZE)
    for voice, row in zip(VOICES, used, strict=True):
        meanings = {token: read_token(voice, token) for token in range(FIRST_ONSET, VOCAB_SIZE) if row[token]}
        assert len(set(meanings.values())) == len(meanings) > 4
        assert all(onset_token(voice, *meaning) == token for token, meaning in meanings.items())
        assert read_token(voice, REST) is None and read_token(voice, HOLD) is None


def test_each_kind_of_voice_has_the_tokens_its_values_need():
    counts = dict(zip(BY_NAME, valid_tokens().sum(axis=1) - 2, strict=True))
    assert counts["dynamics"] == DYNAMIC_LEVELS
    assert counts["harmony"] == 12 * len(QUALITIES) * 2
    assert counts["drums"] == counts["percussion"] == 31 * 4
    assert counts["melody"] == counts["bass"] == 48 * 4 == VOCAB_SIZE - 2


@pytest.mark.parametrize(
    ("voice", "value", "velocity"),
    [
        ("melody", 47, 0),
        ("melody", 96, 0),
        ("melody", 60, 4),
        ("melody", 60, -1),
        ("drums", 0, 0),
        ("drums", 32, 0),
        ("harmony", 96, 0),
        ("harmony", 0, 2),
        ("dynamics", 8, 0),
        ("dynamics", 0, 1),
        ("bass", 23, 0),
    ],
)
def test_what_a_voice_cannot_say_is_refused_by_name(voice, value, velocity):
    with pytest.raises(ValueError, match=voice):
        onset_token(BY_NAME[voice], value, velocity)


def test_random_notes_survive_being_written_and_read():
    rng = np.random.default_rng(0)
    for _ in range(20):
        events: dict[str, list[Event]] = {}
        for voice in VOICES:
            values = [read_token(voice, t) for t in range(FIRST_ONSET, VOCAB_SIZE) if read_token(voice, t)]
            cuts = np.sort(rng.choice(200, size=12, replace=False))
            sustained = voice.kind in ("pitched", "chord")
            events[voice.name] = []
            for a, b in zip(cuts, [*cuts[1:], 200], strict=True):
                end = rng.integers(a + 1, b + 1) if sustained else b
                events[voice.name].append(Event(int(a), int(end), *values[rng.integers(len(values))]))
        assert tokens_to_events(events_to_tokens(events, 200)) == events


def test_silence_is_a_rest_at_the_start_and_no_event():
    tokens = events_to_tokens({}, 10)
    assert (tokens[:, 0] == REST).all() and (tokens[:, 1:] == HOLD).all()
    assert all(found == [] for found in tokens_to_events(tokens).values())


def test_a_later_note_cuts_an_earlier_one_short():
    events = {"melody": [Event(0, 20, 60, 1), Event(8, 30, 62, 1)]}
    assert tokens_to_events(events_to_tokens(events, 48))["melody"] == [Event(0, 8, 60, 1), Event(8, 30, 62, 1)]


def test_notes_outside_the_cue_are_left_out_and_long_ones_end_with_it():
    events = {"melody": [Event(-3, 4, 60, 1), Event(40, 99, 62, 1), Event(48, 50, 64, 1)]}
    assert tokens_to_events(events_to_tokens(events, 48))["melody"] == [Event(40, 48, 62, 1)]


def test_tokens_a_voice_does_not_use_count_as_holds():
    tokens = events_to_tokens({"drums": [Event(0, 48, 3, 1)]}, 48)
    tokens[VOICE_INDEX["drums"], 12] = VOCAB_SIZE - 1
    assert read_token(BY_NAME["drums"], VOCAB_SIZE - 1) is None
    assert tokens_to_events(tokens)["drums"] == [Event(0, 48, 3, 1)]


def test_chords_have_their_root_and_their_tones():
    values = {chord_value(root, quality) for root in range(12) for quality in QUALITIES}
    assert values == set(range(12 * len(QUALITIES)))
    for quality, intervals in QUALITIES.items():
        assert chord_pitches(chord_value(7, quality)) == (7, intervals)
    assert chord_value(14, "min") == chord_value(2, "min")
