"""Hints at the nearest known name: for slips of the pen, not for other words."""

from __future__ import annotations

import pytest

from expotion_cli.declare import nearest_hint

VOICE = "program gain_db pan reverb octave mute lowest highest".split()
SOUND = "key reverb_s kit air_db lowpass_hz humanise spread ring landing".split()


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("progam", VOICE, "program"),
        ("flwo", ["face", "pose", "flow"], "flow"),
        ("cine", ["cinematic", "comedy"], "cinematic"),
        ("Face", ["face", "pose"], "face"),
        ("tempo.mni", ["tempo.min", "tempo.max"], "tempo.min"),
        ("streams.pose_modle", ["streams.use", "streams.pose_model"], "streams.pose_model"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(name, known, near):
    assert nearest_hint(name, known) == f" (did you mean {near!r}?)"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("progam", SOUND),
        ("nonsense", ["face", "pose", "flow"]),
        ("noise", ["face", "pose", "flow"]),
        ("streams.nonsense", ["streams.use", "streams.pose_model"]),
        ("volume", ["tempo", "mix", "voices"]),
    ],
)
def test_another_word_is_answered_with_nothing(name, known):
    assert nearest_hint(name, known) == ""
