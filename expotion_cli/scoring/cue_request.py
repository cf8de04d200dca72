"""The compose rung's request: what was seen, on the cue's step grid, with the sketch of the cue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from expotion_cli import brief
from expotion_cli.errors import UsageError
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import passages
from expotion_cli.scoring.playing import sound_settings
from expotion_cli.scoring.redo import KEY, Base, bars_of, record
from expotion_cli.spotting.plan import CuePlan

AUDIOCRAFT = "audiocraft"
NO_LOOP = "Use expotion-mini, or leave --loop out and let your editor crossfade the ends."

if TYPE_CHECKING:
    from expotion_cli.music.melody import Melody
    from expotion_cli.music.model import Model
    from expotion_cli.music.request import CueRequest


class Streams(Protocol):
    """What was seen of a clip (`ladder.Seen`)."""

    @property
    def streams(self) -> Mapping[str, Any]:
        """Embedding streams by name."""
        ...


def compose_request(
    model: Model,
    seen: Streams,
    plan: CuePlan,
    duration: Fraction,
    recipe: Recipe,
    *,
    prompt: str,
    seed: int,
    base: Base | None = None,
    melody: Melody | None = None,
) -> CueRequest:
    """Put what was seen on the cue's step grid and ask for a cue: the compose rung's request.

    Args:
        model: what will compose.
        seen: from `see`.
        plan: from `spot`.
        duration: of the picture, in seconds.
        recipe: with all flags laid over it.
        prompt: the cue's words.
        seed: of the cue.
        base: a finished cue of which some bars are composed anew.
        melody: what the music should play (`melodies.with_melodies`).
    """
    from expotion_cli.music.conditioning import FORM, form_stream
    from expotion_cli.music.generate.sampling import Sampling
    from expotion_cli.music.request import CueRequest, Facts

    if recipe.compose.loop and not model.codec.follows_tempo:
        raise UsageError(f"--loop needs a model that writes notes: {model.name} keeps no bar lines.", remedy=NO_LOOP)
    timeline = model.codec.timeline(duration, plan.tempo if model.codec.follows_tempo else None)
    # Without visual guidance the picture steers no token: the music stays steady, and the follow layer answers.
    steers = recipe.generate.visual_guidance > 0
    conditioning = model.condition(seen.streams if steers else {}, timeline, plan=plan if steers else None)
    if recipe.compose.loop and conditioning is not None and FORM in conditioning:
        conditioning[FORM] = form_stream(timeline.num_steps, math.inf)  # a loop has no ending
    wanted = brief.read(prompt, recipe)
    is_minor = wanted.is_minor if plan.is_minor is None or wanted.mode_source == "recipe" else plan.is_minor
    if base is not None and is_minor is None:
        is_minor = _mode_of(base)
    way = passages.Course(())
    if model.codec.follows_tempo:
        redone = [] if base is None else [*base.notes.get(KEY, ()), record(base.step, timeline)]
        way = passages.course(recipe, seed, plan, prompt, timeline, redone)
    sketch = model.codec.sketch(
        plan,
        timeline,
        sound_settings(recipe, seed, plan, prompt),
        recipe.compose,
        is_minor=is_minor,
        density=wanted.density,
        seed=seed,
        **({"passages": way.passages} if way.passages else {}),
    )
    layout = None if sketch is None else sketch.layout
    if layout is not None and conditioning is not None:
        conditioning = {name: stream.at(layout) for name, stream in conditioning.items()}
    if model.codec.follows_tempo:
        texts = [
            (bar * model.codec.bar_steps, passages.with_facts(model, recipe, text, plan)) for bar, text in way.changes
        ]
    else:
        texts = passages.told(model, recipe, plan, prompt, timeline)
    if len(texts) > 1 and model.backbone == AUDIOCRAFT:
        raise UsageError("audiocraft takes one prompt for all of a clip.", remedy="Leave the times or --backbone out.")
    if len(texts) > 1 and model.takes_facts:
        raise UsageError(f"{model.name} takes one prompt for all of a clip.", remedy="Leave the times out.")
    if recipe.generate.negative_prompt and model.takes_facts:
        raise UsageError(f"{model.name} takes no negative prompt.", remedy="Leave --negative-prompt out.")
    request = CueRequest(
        prompt=texts[0][1],
        timeline=timeline,
        conditioning=conditioning,
        seed=seed,
        sampling=Sampling.of(recipe.generate),
        constraints=None if sketch is None else sketch.constraints,
        layout=layout,
        later_prompts=tuple(texts[1:]),
        negative_prompt=recipe.generate.negative_prompt,
        melody=melody,
        facts=Facts(round(plan.tempo.bpm), wanted.metre, str(wanted.key or "")) if model.takes_facts else None,
    )
    return request if base is None else _redo_request(request, base, model.codec.bar_steps)


def _redo_request(request: CueRequest, base: Base, bar_steps: int) -> CueRequest:
    """The request for a cue of which only some bars are left to the decoder."""
    from expotion_cli.music.codecs.notes.redo import on_decoder, redone

    assert request.constraints is not None
    tokens = on_decoder(base.tokens, request.layout)
    last = tokens.shape[1]
    bars = bars_of(base.step.spans, request.timeline)
    spans = [((first - 1) * bar_steps, min(stop * bar_steps, last)) for first, stop in bars]
    constraints = redone(request.constraints, tokens, spans, bar_steps)
    return replace(request, seed=base.step.seed, constraints=constraints)


def _mode_of(base: Base) -> bool:
    """The mode that a cue has come to have."""
    from expotion_cli.music.codecs.notes.ending import is_minor
    from expotion_cli.music.codecs.notes.tokens import tokens_to_events

    return is_minor(tokens_to_events(base.tokens))
