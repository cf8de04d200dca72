"""What a prompt asks for, from the model's notes to the MIDI file."""

from __future__ import annotations

import io
from fractions import Fraction

import pretty_midi
import pytest
from asked_prompts import ASKED, Asked

from expotion_cli import load_model
from expotion_cli.keys import parse_key
from expotion_cli.music.codecs.notes.orchestrate import BEATING
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.ladder import Seen

DURATION = Fraction(8)
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


@pytest.mark.parametrize("asked", [asked for asked in ASKED if asked.prompt in FEW], ids=lambda asked: asked.prompt)
def test_who_is_asked_for_plays_and_nobody_else(model, asked) -> None:
    check(model, asked)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [asked for asked in ASKED if asked.prompt not in FEW], ids=lambda asked: asked.prompt)
def test_who_is_asked_for_plays_and_nobody_else_in_all_other_prompts(model, asked) -> None:
    check(model, asked)
