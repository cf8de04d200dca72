"""Prompts with times: how they are read, and which are refused."""

from __future__ import annotations

import pytest

from expotion_cli import brief
from expotion_cli.errors import ClipError, UsageError
from expotion_cli.recipe import Recipe
from expotion_cli.timed_prompts import check_timed, is_timed, read_timed, texts_of, whole


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("0-8: calm piano; 8-15: full orchestra", [(0, 8, "calm piano"), (8, 15, "full orchestra")]),
        ("0 – 8 s : calm  piano;8-:drums", [(0, 8, "calm piano"), (8, None, "drums")]),
        ("0:00-1:02.5: a, b; 1:02.5-2:00: 120 bpm: fast", [(0, 62.5, "a, b"), (62.5, 120, "120 bpm: fast")]),
        ("0-: one", [(0, None, "one")]),
        ("0-8:12 bpm", [(0, 8, "12 bpm")]),
    ],
)
def test_parts_are_read(prompt, wanted):
    assert [(part.start_s, part.end_s, part.text) for part in read_timed(prompt)] == wanted


@pytest.mark.parametrize(
    "prompt",
    ["calm piano", "80-100 bpm, calm; sad", "8-bit: retro", "4/4: a waltz", "", "1980s: synths", "piano 0-8: x"],
)
def test_ordinary_prompts_hold_from_beginning_to_end(prompt):
    assert (
        not is_timed(prompt) and read_timed(prompt) == () and texts_of(prompt) == (prompt,) and whole(prompt) == prompt
    )


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("0-8: piano; 7-15: drums", "two parts of the prompt hold from 7 to 8 s"),
        ("0-8: piano; 9-15: drums", "says nothing for 8-9"),
        ("2-8: piano", "says nothing for 0-2"),
        ("0-8: ; 8-15: drums", "says nothing for 0-8"),
        ("0-8: piano; drums", "the part 'drums' of the prompt has no times"),
        ("0-8: piano;", "the part '' of the prompt has no times"),
        ("8-0: piano", "ends before it has begun"),
        ("0-: piano; 8-: drums", "only the last part"),
    ],
)
def test_what_leaves_doubts_is_refused(prompt, wanted):
    with pytest.raises(UsageError, match=wanted) as found:
        read_timed(prompt)
    assert found.value.remedy


def test_a_prompt_must_fill_its_clip():
    for fits in ("0-8: a; 8-15: b", "0-8: a; 8-: b", "0-8: a; 8-14.6: b", "0-8: a; 8-15.4: b", "calm"):
        check_timed(fits, 15.0)
    for wrong, said in [("0-8: a; 8-14: b", "ends at 14 s, the clip lasts 15.000 s"),
                        ("0-8: a; 8-20: b", "goes on to 20 s"), ("0-16: a; 16-: b", "goes on to 16 s")]:  # fmt: skip
        with pytest.raises(ClipError, match=said):
            check_timed(wrong, 15.0)


def test_key_metre_and_tempo_are_read_from_all_parts():
    found = brief.read("0-8: calm piano, A minor; 8-: fast drums, 3/4, 132 bpm, D major", Recipe())
    assert str(found.key) == "A minor" and found.metre == "3/4" and found.tempo == (132.0, 132.0)
    assert set(found.instruments) == {"piano", "drums"}


def test_instruments_of_the_negative_prompt_are_excluded():
    recipe = Recipe().override({"generate.negative_prompt": "choir, harsh drums"})
    found = brief.read("strings and drums, epic", recipe)
    assert set(found.excluded) == {"choir", "drums"} and found.instruments == ("strings",)
