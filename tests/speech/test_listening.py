"""Silero VAD: the port against the published network, and the spans of speech that come of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_sounds import TALK_S, band, talk

from expotion_cli.errors import WeightsError
from expotion_cli.speech import listening
from expotion_cli.speech.listening import FRAME_S, find_speech, joined, spans_of, speech_probability

RATE = 16_000
PUBLISHED = Path(__file__).with_name("published_silero.npz")
"""What benchmarks/published_silero.py found the published network to say of `made_sounds.talk`."""


def test_the_port_says_what_the_published_network_says():
    published = np.load(PUBLISHED)["probability"]
    ours = speech_probability(talk(), RATE)
    assert ours.shape == published.shape and published.max() > 0.99 > 0.05 > published.min()
    assert np.abs(ours - published).max() < 1e-4


def test_long_sound_is_heard_in_blocks_that_remember_each_other(monkeypatch):
    whole = speech_probability(talk(), RATE)
    monkeypatch.setattr(listening, "_BLOCK", 50)
    assert np.abs(speech_probability(talk(), RATE) - whole).max() < 1e-5


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 2)])
def test_speech_is_found_where_somebody_speaks_at_any_rate(rate, channels):
    spans = find_speech(np.tile(talk(rate), (channels, 1)), rate)
    assert len(spans) == len(TALK_S)
    for (start, end), (began, ended) in zip(spans, TALK_S, strict=True):
        assert start == pytest.approx(began, abs=0.2) and end == pytest.approx(ended, abs=0.25)


def test_music_noise_and_silence_are_no_speech():
    rng = np.random.default_rng(0)
    for sound in (band(), 0.1 * rng.standard_normal(4 * RATE).astype(np.float32), np.zeros(RATE, np.float32)):
        assert find_speech(sound[None], RATE) == ()


def test_a_sound_shorter_than_a_frame_can_be_asked_for():
    assert find_speech(np.zeros((2, 7), np.float32), RATE) == ()
    assert speech_probability(np.zeros((1, 513), np.float32), RATE).shape == (2,)


def test_bursts_are_dropped_pauses_part_and_gaps_in_a_word_do_not():
    probability = np.zeros(200, np.float32)
    probability[20:24] = 0.9  # 0.13 s: a click
    probability[60:70], probability[70:74], probability[74:90] = 0.9, 0.4, 0.8  # unsure within a word
    probability[94:110] = 0.9  # 0.13 s later: the next word
    probability[150:170] = 0.9  # 1.3 s later
    spans = spans_of(probability, 200 * FRAME_S)
    assert [tuple(round(edge / FRAME_S) for edge in span) for span in spans] == [(58, 112), (148, 172)]
    assert spans_of(np.ones(100, np.float32), 3.0) == ((0.0, 3.0),)


def test_spans_are_joined_over_gaps_up_to_a_length():
    assert joined([(0.0, 1.0), (2.0, 3.0), (5.0, 6.0)], 1.0) == [(0.0, 3.0), (5.0, 6.0)]
    assert joined([], 1.0) == []


def test_damaged_weights_are_named(monkeypatch):
    def damaged():
        raise WeightsError("This file of silero-vad is damaged.")

    monkeypatch.setattr(listening, "manifest", damaged)
    listening._network.cache_clear()
    with pytest.raises(WeightsError, match="silero-vad"):
        find_speech(talk()[None], RATE)
    listening._network.cache_clear()
