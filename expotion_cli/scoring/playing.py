"""Who plays a cue: recipe, plan and prompt as the note codec's settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from expotion_cli import brief
from expotion_cli.errors import RecipeError, UsageError
from expotion_cli.keys import parse_key
from expotion_cli.music.identity import MINI
from expotion_cli.prompts import stated_tempo
from expotion_cli.recipe import Recipe
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timed_prompts import texts_of

if TYPE_CHECKING:
    from expotion_cli.music.codecs.notes.instruments import SoundSettings
    from expotion_cli.music.model import Model
    from expotion_cli.timing import Tempo


def sound_settings(recipe: Recipe, seed: int, plan: CuePlan | None = None, prompt: str | None = None) -> SoundSettings:
    """How a cue is played: the recipe's `[sound]` and `[voices]`, as plan and prompt change them.

    Args:
        recipe: with all flags laid over it.
        seed: of the cue.
        plan: its key counts if the recipe leaves the key open.
        prompt: of the cue, instead of the recipe's.

    Raises:
        RecipeError: an unknown key or a value out of range.
    """
    from expotion_cli.music.codecs.notes import orchestrate
    from expotion_cli.music.codecs.notes.instruments import SoundSettings

    sound = dict(recipe.sound)
    if (key := parse_key(recipe.compose.key)) is not None:
        sound["key"] = key.tonic
    elif plan is not None and plan.key is not None:
        sound["key"] = plan.key
    try:
        settings = SoundSettings.from_table({"sound": sound, "voices": recipe.voices}, seed)
    except UsageError as error:
        raise RecipeError(error.reason, path=recipe.path, remedy=error.remedy) from None
    if recipe.compose.loop:
        settings = replace(settings, landing=False, is_loop=True)
    return orchestrate.apply(settings, brief.read(recipe.prompt if prompt is None else prompt, recipe))


def beat_keeper(model: Model, recipe: Recipe) -> Model | None:
    """Whose grid of beats a cue is on: the model's own, the one of its melody's composer, or nobody's."""
    if model.codec.follows_tempo:
        return model
    return getattr(model, "melodist", None) if recipe.melody == MINI else None


def tempo_of(model: Model, plan: CuePlan, recipe: Recipe) -> Tempo | None:
    """The tempo that a cue goes at; None for music whose beats nobody knows beforehand."""
    return plan.tempo if beat_keeper(model, recipe) is not None else None


def tempo_words(model: Model, recipe: Recipe, prompt: str, plan: CuePlan) -> str:
    """The plan's tempo in words, for a model that has no beats of its own but plays a melody on them; else ""."""
    if beat_keeper(model, recipe) in (None, model) or stated_tempo(prompt) is not None:
        return ""
    return f"{round(float(plan.tempo.bpm))} bpm"


def check_sound(recipe: Recipe) -> None:
    """Check the tables `[sound]` and `[voices]` before any work is done.

    Raises:
        RecipeError: an unknown key or a value out of range.
    """
    sound_settings(recipe, 0)


def check_instruments(model: Model, recipe: Recipe, prompts: Iterable[str] = ()) -> tuple[str, ...]:
    """Check, once the model is loaded and before anything is composed, that its soundfont has all instruments.

    Args:
        model: from `music.load.load_model`; one that needs no soundfont passes.
        recipe: names instruments.
        prompts: of the cues; those that they name are checked as well.

    Returns:
        What will be played otherwise than asked for, as notes.

    Raises:
        UsageError: an instrument is missing; the nearest that is there is named. Or the recipe leaves nobody to play.
    """
    if recipe.melody == MINI and (melodist := getattr(model, "melodist", None)) is not None:
        return check_instruments(melodist, recipe.override({"melody": ""}), prompts)
    check = getattr(model.codec, "check_sound", None)
    if check is None:
        return ()
    from expotion_cli.music.codecs.notes.casting import check_players

    check_players(sound_settings(recipe, 0))  # a prompt that leaves nobody is the failure of its own clip
    found = [
        note
        for prompt in {None, *(text for each in prompts for text in texts_of(each))}
        for note in check(sound_settings(recipe, 0, prompt=prompt))
    ]
    return tuple(sorted(set(found)))
