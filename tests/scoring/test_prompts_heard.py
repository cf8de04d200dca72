"""What a prompt asks for, from the model's notes to the MIDI file."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pretty_midi
import pytest
from asked_prompts import ASKED, Asked

from expotion_cli import load_model
from expotion_cli.compose import MUTES
from expotion_cli.errors import UsageError
from expotion_cli.keys import parse_key
from expotion_cli.music.codecs.notes.orchestrate import BEATING
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import ladder, playing
from expotion_cli.scoring.ladder import Seen
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.sections import Intensity

DURATION = Fraction(8)
CALM = Intensity(10.0, tuple(np.linspace(0.0, 0.5, 80).tolist()), (), "made up")
FEW = ("solo piano", "no drums, string quartet", "in A minor")


@pytest.fixture(scope="module")
def model():
    return load_model("expotion-mini", device="cpu")


def composed(model, asked: Asked) -> tuple[set[int | str], ladder.Score]:
    """(programs that sound, with the names of voices that beat time; the score)."""
    recipe = load_recipe(asked.recipe, {"generate.takes": 1, "generate.seed": 7})
    plan = ladder.spot(Seen(), DURATION, recipe, prompt=asked.prompt)
    request = ladder.compose_request(model, Seen(), plan, DURATION, recipe, prompt=asked.prompt, seed=7)
    ((_, tokens),) = model.generate([request])
    score = ladder.render(model, tokens, request.timeline, recipe, seed=7, plan=plan, prompt=asked.prompt)
    parts = pretty_midi.PrettyMIDI(io.BytesIO(score.midi)).instruments
    names = {part.name.partition(":")[0]: part.program for part in parts if part.notes}
    return {name if name in BEATING else program for name, program in names.items()}, score


def check(model, asked: Asked) -> None:
    heard, score = composed(model, asked)
    assert heard, "something sounds"
    assert not asked.alone or heard <= set(asked.sounds), "nobody else"
    assert not heard & set(asked.rests)
    said = score.orchestration
    if asked.key:
        tonic = parse_key(asked.key).tonic
        assert said["key"]["asked"]["tonic"] == asked.key.split()[0]
        assert parse_key(said["key"]["taken"]["tonic"]).tonic == tonic
        file = pretty_midi.PrettyMIDI(io.BytesIO(score.midi))
        assert file.key_signature_changes[0].key_number % 12 == tonic
    assert {row["program"] for name, row in said["instruments"].items() if name not in BEATING} >= {
        program for program in heard if program not in BEATING
    }


@pytest.mark.long
@pytest.mark.parametrize("asked", [asked for asked in ASKED if asked.prompt in FEW], ids=lambda asked: asked.prompt)
def test_who_is_asked_for_plays_and_nobody_else(model, asked) -> None:
    check(model, asked)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [asked for asked in ASKED if asked.prompt not in FEW], ids=lambda asked: asked.prompt)
def test_who_is_asked_for_plays_and_nobody_else_in_all_other_prompts(model, asked) -> None:
    check(model, asked)


@pytest.mark.parametrize(
    ("prompt", "mute"), [("music", MUTES), ("solo drums", ("drums",)), ("solo flute", ("melody",))]
)
def test_nobody_left_to_play_is_refused_instead_of_composing_silence(model, prompt, mute):
    recipe = load_recipe("cinematic", {"compose.mute": mute})
    plan = ladder.spot(Seen(), DURATION, recipe, prompt=prompt)
    with pytest.raises(UsageError, match="Nobody is left to play"):
        ladder.compose_request(model, Seen(), plan, DURATION, recipe, prompt=prompt, seed=7)


def test_a_recipe_that_leaves_nobody_to_play_is_refused_before_anything_is_seen(model):
    with pytest.raises(UsageError, match="Nobody is left to play"):
        playing.check_instruments(model, load_recipe("cinematic", {"compose.mute": MUTES}))


@pytest.mark.long
@pytest.mark.parametrize("metre", ["3/4", "6/8"])
def test_tokens_lie_on_the_cues_own_grid_in_every_metre(model, metre):
    recipe = load_recipe("cinematic", {"generate.takes": 2, "compose.metre": metre})
    hits = tuple(HitPoint(time_s, 1.0, "gesture", "") for time_s in (1.5, 3.5, 5.0))
    plan = replace(ladder.spot(Seen(), DURATION, recipe), intensity=CALM, hits=hits)
    request = ladder.compose_request(model, Seen(), plan, DURATION, recipe, prompt=recipe.prompt, seed=7)
    ((_, tokens),) = model.generate([request])
    assert tokens.shape[1] == request.timeline.num_steps < request.num_steps
    assert "stuck in a loop" not in model.codec.rate(tokens, np.zeros((2, 1)), request.timeline).faults


@pytest.mark.long
def test_whoever_is_asked_for_plays_even_in_a_calm_cue(model):
    """The counter-melody enters where the cue is busy, or else in its busiest bars."""
    for prompt in ("flute, oboe, clarinet and bassoon", "string quartet"):
        asked = next(asked for asked in ASKED if prompt in asked.prompt)
        recipe = load_recipe(asked.recipe, {"generate.takes": 1})
        plan = replace(ladder.spot(Seen(), DURATION, recipe, prompt=asked.prompt), intensity=CALM)
        request = ladder.compose_request(model, Seen(), plan, DURATION, recipe, prompt=asked.prompt, seed=7)
        ((_, tokens),) = model.generate([request])
        score = ladder.render(model, tokens, request.timeline, recipe, seed=7, plan=plan, prompt=asked.prompt)
        parts = pretty_midi.PrettyMIDI(io.BytesIO(score.midi)).instruments
        assert {part.program for part in parts if part.notes} == set(asked.sounds)
