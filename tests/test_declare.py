"""Hints at the nearest known name: for slips of the pen, not for other words."""

from __future__ import annotations

import pytest

from expotion_cli.declare import checked, nearest_hint
from expotion_cli.errors import RecipeError
from expotion_cli.recipe import LoudnessTarget

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


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("--peak", "--peak 3 must be a number from -20 to 0."),
        ("--set", "--set: loudness.peak_dbtp = 3 must be a number from -20 to 0."),
        ("recipe", "recipe: loudness.peak_dbtp = 3 must be a number from -20 to 0."),
    ],
)
def test_a_value_out_of_range_is_named_as_the_user_wrote_it(where, said):
    with pytest.raises(RecipeError) as caught:
        checked(LoudnessTarget, "peak_dbtp", 3, shown="loudness.peak_dbtp", where=where)
    assert caught.value.reason == said and caught.value.remedy
