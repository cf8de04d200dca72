"""Words that change in the course of a cue reach sketch, decoder and players at the nearest bar line."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fake_composer import FakeComposer, FakeNoteComposer

from expotion_cli.errors import PlanError, UsageError
from expotion_cli.music.codecs.notes.arrange import arrange
from expotion_cli.music.codecs.notes.form import plan_form
from expotion_cli.music.codecs.notes.midi import to_midi
from expotion_cli.music.codecs.notes.tokens import HOLD, REST, VOICE_INDEX, Event, chord_value
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch, ladder, passages
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.playing import sound_settings
from expotion_cli.spotting.plan import make_plan
from expotion_cli.spotting.plan_file import as_record, from_record, plan_digest
from expotion_cli.spotting.sections import Section

DURATION = Fraction(16)
TIMED = "0-7.4: solo piano, A minor; 7.4-: full orchestra with drums"
FLAGS = {"streams.use": (), "tempo.min": 120.0, "tempo.max": 120.0}


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("cinematic", FLAGS)


@pytest.fixture(scope="module")
def cue_plan():
    return make_plan({}, DURATION, (120.0, 120.0))


def request(recipe, cue_plan, prompt=TIMED, model=None, **options):
    return ladder.compose_request(
        model or FakeNoteComposer(), ladder.Seen(), cue_plan, DURATION, recipe, prompt=prompt, seed=3, **options
    )


def test_words_change_at_the_bar_line_nearest_to_their_moment(recipe, cue_plan):
    asked = request(recipe, cue_plan)
    assert asked.prompt == "solo piano, A minor" and asked.later_prompts == ((4 * 48, "full orchestra with drums"),)
    resting = asked.constraints.given[VOICE_INDEX["drums"]]
    assert resting[0] == REST and (resting[1 : 4 * 48] == HOLD).all() and (resting[4 * 48 :] > 1).any()


def test_a_section_begins_where_words_change_but_not_with_redone_bars(recipe, cue_plan):
    timeline = cue_plan.tempo.timeline(DURATION)
    rows = [{"bars": [[6, 6]], "prompt": "choir"}]
    way = passages.course(recipe, 3, cue_plan, TIMED, timeline, rows)
    assert [(each.first_bar, each.starts_section) for each in way.passages] == [
        (0, False), (4, True), (5, False), (6, False)
    ]  # fmt: skip
    form = plan_form(cue_plan, timeline, changes=[4])
    assert [bar.starts_section for bar in form] == [True, *[False] * 3, True, *[False] * 3] and form[3].ends_section


def test_a_prompt_without_times_asks_for_the_same_cue_as_before(recipe, cue_plan):
    plain, open_end = request(recipe, cue_plan, "solo piano"), request(recipe, cue_plan, "0-: solo piano")
    assert plain.later_prompts == open_end.later_prompts == ()
    assert plain.prompt == open_end.prompt and plain.digest == open_end.digest


def test_models_of_sound_change_at_the_nearest_step(recipe, cue_plan):
    asked = request(recipe, cue_plan, model=FakeComposer())
    assert asked.later_prompts == ((74, "full orchestra with drums"),) and asked.prompt_at(73) == "solo piano, A minor"


def test_who_plays_changes_and_what_is_held_keeps_its_instrument(recipe, cue_plan):
    timeline = cue_plan.tempo.timeline(DURATION)
    way = passages.course(recipe, 3, cue_plan, TIMED, timeline)
    settings = replace(sound_settings(recipe, 3, cue_plan, TIMED), ring=False, landing=False)
    assert {each.settings.tonic for each in way.passages} == {9 - 12}
    events = {
        "harmony": [Event(0, 5 * 48, chord_value(0, "min"), 0), Event(5 * 48, 384, chord_value(0, "min"), 0)],
        "drums": [Event(step, step + 1, 1, 1) for step in range(0, 384, 12)],
    }
    made = arrange(events, timeline, settings, way.passages)
    piano, orchestra = (part for part in made.parts if part.voice == "harmony")
    assert piano.sound.program == 0 and piano.notes[0].end > 4 * 48
    assert orchestra.sound.program != 0 and orchestra.first == 5 * 48
    (drums,) = (part for part in made.parts if part.voice == "drums")
    assert drums.first == 4 * 48
    assert b", then " in to_midi(made, timeline, settings)


def test_prompts_of_a_plans_sections_stand_above_the_cues(recipe, cue_plan):
    record = as_record(cue_plan) | {
        "sections": [
            {"start_s": 0, "end_s": 6, "intensity": 0.5},
            {"start_s": 6, "end_s": 16, "intensity": 0.5, "prompt": "choir"},
        ]
    }
    given = from_record(record, DURATION)
    assert from_record(as_record(given), DURATION) == given
    assert plan_digest(given) != plan_digest(from_record(as_record(cue_plan), DURATION))
    asked = request(recipe, given, prompt="calm strings")
    assert asked.prompt.startswith("calm strings") and asked.later_prompts[0][1].startswith("choir")


@pytest.mark.parametrize(
    ("sections", "wanted"),
    [
        ([(0, 6, "a"), (7, 16, "")], r"sections\[1\] leaves a hole from 6 to 7 s"),
        ([(0, 6, "a")], "run from 0 to 6 s of a clip of 16.000 s"),
        ([(0, 6, "a"), (5, 16, "b")], "follow each other"),
        ([(0, 16, "  ")], r"sections\[0\].prompt is '  '"),
        ([(0, 16, 5)], r"sections\[0\].prompt is 5"),
        ([(0, 16, "x" * 2001)], "has 2001 characters"),
        ([(0, 20, "a")], "must lie from 0 to"),
    ],
)
def test_sections_that_can_not_be_obeyed_are_refused(cue_plan, sections, wanted):
    rows = [{"start_s": a, "end_s": b, **({"prompt": text} if text != "" else {})} for a, b, text in sections]
    with pytest.raises(PlanError, match=wanted):
        from_record(as_record(cue_plan) | {"sections": rows}, DURATION)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "a.mp4", duration_s=8.0, sound=False, size="32x32")


def test_a_batch_tells_of_a_prompt_that_does_not_fit_its_clip_and_sidecars_list_passages(clip, tmp_path):
    recipe = load_recipe("cinematic", {**FLAGS, "prompt": "0-4: piano; 4-: choir"})
    settings = Settings(out=tmp_path, prompts={})
    (result,) = batch.run(plan([clip], recipe, settings), FakeNoteComposer).results
    assert result.status == "scored", result.error
    assert json.loads((tmp_path / "a.score.json").read_text())["prompt"] == "0-4: piano; 4-: choir"
    long = load_recipe("cinematic", {**FLAGS, "prompt": "0-4: piano; 4-12: choir"})
    (problem,) = plan([clip], long, settings).problems
    assert "a.mp4: the prompt goes on to 12 s, the clip lasts 8.000 s" in str(problem.error)
    with pytest.raises(UsageError, match="says nothing for 4-5"):
        plan([clip], load_recipe("cinematic", {**FLAGS, "prompt": "0-4: piano; 5-: choir"}), settings)


def test_with_text_guidance_1_a_negative_prompt_is_said_to_do_nothing(clip, tmp_path):
    flags = {**FLAGS, "generate.negative_prompt": "choir", "generate.guidance": 1.0}
    assert any(
        "steers nothing" in note for note in plan([clip], load_recipe("cinematic", flags), Settings(out=tmp_path)).notes
    )
    flags["generate.guidance"] = 3.0
    notes = plan([clip], load_recipe("cinematic", flags), Settings(out=tmp_path)).notes
    assert not any("steers nothing" in note for note in notes)


def test_a_negative_prompt_is_part_of_the_digest_and_of_old_digests_nothing_changes(recipe, cue_plan):
    other = recipe.override({"generate.negative_prompt": "choir"})
    assert "negative_prompt" not in recipe.hashed_fields()["generate"] and other.digest != recipe.digest
    assert request(other, cue_plan).negative_prompt == "choir"
    assert request(other, cue_plan).digest != request(recipe, cue_plan).digest
    assert np.array_equal(request(recipe, cue_plan).layout or [], [])


def with_sections(cue_plan, *intensities: float, prompts=()):
    """The plan with sections of equal lengths."""
    length = float(DURATION) / len(intensities)
    rows = enumerate(zip(intensities, [*prompts, *[""] * len(intensities)], strict=False))
    return replace(
        cue_plan, sections=tuple(Section(i * length, (i + 1) * length, level, "", text) for i, (level, text) in rows)
    )


class Windowed(FakeComposer):
    """A model of sound that generates 8 s at a time."""

    window_steps = 80


def told(recipe, cue_plan, prompt="strings", model=None) -> list[tuple[int, str]]:
    asked = request(recipe, cue_plan, prompt, model or Windowed())
    return [(0, asked.prompt), *asked.later_prompts]


def test_models_of_sound_are_told_what_the_sections_of_a_long_cue_are_like(recipe, cue_plan):
    arc = with_sections(cue_plan, 0.2, 0.5, 0.8, 0.5)
    assert told(recipe, arc) == [
        (0, "strings, calm, sparse"), (40, "strings, building"), (80, "strings, energetic, full"), (120, "strings")
    ]  # fmt: skip
    alike = with_sections(cue_plan, 0.1, 0.35, 0.9, 0.7)
    assert told(recipe, alike) == [(0, "strings, calm, sparse"), (80, "strings, energetic, full")]
    in_key = replace(arc, key="A", is_minor=True, is_given=True)
    assert told(recipe, in_key)[1] == (40, "strings, building, in A minor")


@pytest.mark.parametrize(
    ("levels", "prompts", "prompt", "wanted"),
    [
        ((0.2, 0.8), (), "0-: strings", [(0, "strings")]),
        ((0.2, 0.8), (), "0-4: strings; 4-: choir", [(0, "strings"), (40, "choir")]),
        ((0.2, 0.8), ("", "choir"), "strings", [(0, "strings"), (80, "choir")]),
        ((0.2, 0.8), (), "", [(0, "")]),
        ((0.1, 0.3), (), "strings", [(0, "strings")]),
        ((0.9,), (), "strings", [(0, "strings")]),
        ((), (), "strings", [(0, "strings")]),
    ],
)
def test_users_words_for_parts_and_plans_without_contrast_get_no_characters(
    recipe, cue_plan, levels, prompts, prompt, wanted
):
    plan = with_sections(cue_plan, *levels, prompts=prompts) if levels else replace(cue_plan, sections=())
    assert told(recipe, plan, prompt) == wanted


def test_characters_are_for_long_cues_of_models_of_sound_and_can_be_left_out(recipe, cue_plan):
    arc = with_sections(cue_plan, 0.2, 0.8)
    whole = Windowed()
    whole.window_steps = 160
    silent = recipe.override({"compose.section_words": False})
    assert told(recipe, arc, model=whole) == told(recipe, arc, model=FakeComposer()) == [(0, "strings")]
    assert told(silent, arc) == [(0, "strings")] and told(recipe, arc, model=FakeNoteComposer()) == [(0, "strings")]


def test_section_words_count_for_the_cues_of_models_of_sound_alone(recipe, clip, tmp_path):
    silent = recipe.override({"compose.section_words": False})
    assert "section_words" not in str(recipe.hashed_fields()) and recipe.digest != silent.digest
    sound, notes = (ModelIdentity.of(model()) for model in (FakeComposer, FakeNoteComposer))
    assert passages.hashed_fields(recipe, sound) and not passages.hashed_fields(silent, sound)
    assert not passages.hashed_fields(recipe, notes)


def test_the_sidecar_of_a_model_of_sound_lists_what_it_was_told_and_when(clip, tmp_path):
    recipe = load_recipe("cinematic", {**FLAGS, "prompt": "0-4: piano; 4-: choir"})
    (result,) = batch.run(plan([clip], recipe, Settings(out=tmp_path)), FakeComposer).results
    assert result.status == "scored", result.error
    said = json.loads((tmp_path / "a.score.json").read_text())["passages"]
    assert said == [{"start_s": 0.0, "prompt": "piano"}, {"start_s": 4.0, "prompt": "choir"}]
