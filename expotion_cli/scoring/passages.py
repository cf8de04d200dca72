"""Which words hold when: timed prompts, prompts of a plan's sections, prompts of bars that were redone.

Models of sound compose half a minute at a time and know nothing of a longer cue's form. So they are told what each of
the plan's sections is like, in a word or two behind the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from expotion_cli import brief
from expotion_cli.recipe import Recipe
from expotion_cli.scoring.playing import sound_settings, tempo_words
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.sections import Section
from expotion_cli.timed_prompts import is_timed, read_timed, whole
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from expotion_cli.music.codecs.notes.passage import Passage
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.music.model import Model

SECTION_WORDS_VERSION = 1
"""Raised whenever the same plan would be told to models of sound in other words."""
CALM, BUILDING, FULL = "calm, sparse", "building", "energetic, full"
_CALM_BELOW, _FULL_FROM = 0.4, 0.6


@dataclass(frozen=True)
class Words:
    """Words that hold from a moment on.

    Attributes:
        start_s: the moment.
        text: the words.
    """

    start_s: float
    text: str


def words_of(prompt: str, plan: CuePlan | None) -> tuple[Words, ...]:
    """The words of a cue in order of time, the first from its beginning on.

    Args:
        prompt: of the cue, timed or not.
        plan: the prompts of its sections stand above the cue's.
    """
    sections = plan.sections if plan is not None else ()
    if any(section.prompt for section in sections):
        return tuple(Words(section.start_s, section.prompt or whole(prompt)) for section in sections)
    return tuple(Words(part.start_s, part.text) for part in read_timed(prompt)) or (Words(0.0, prompt),)


def character(section: Section, following: Section | None) -> str:
    """What a section is like, in words; "" where its intensity is medium and doesn't rise towards the next one's.

    Args:
        section: of a plan.
        following: the next one, if there is one.
    """
    if section.intensity < _CALM_BELOW:
        return CALM
    if section.intensity >= _FULL_FROM:
        return FULL
    return BUILDING if following is not None and following.intensity > section.intensity else ""


def with_characters(prompt: str, plan: CuePlan) -> tuple[Words, ...]:
    """The words of a cue with each section's character behind its prompt.

    A prompt with times, sections with prompts and an empty prompt stay as they are, and so does a plan whose sections
    are all of one character.

    Args:
        prompt: of the cue.
        plan: of the cue.
    """
    sections = plan.sections
    if not prompt or is_timed(prompt) or any(section.prompt for section in sections):
        return words_of(prompt, plan)
    found: list[Words] = []
    for section, following in zip(sections, (*sections[1:], None), strict=False):
        text = ", ".join(part for part in (prompt, character(section, following)) if part)
        if not found or text != found[-1].text:
            found.append(Words(section.start_s if found else 0.0, text))
    return tuple(found) if len(found) > 1 else words_of(prompt, plan)


def told(model: Model, recipe: Recipe, plan: CuePlan, prompt: str, timeline: Timeline) -> list[tuple[int, str]]:
    """(first step, words) that a model of sound is told of a cue, in order; windows begin where words change.

    Args:
        model: one without a beat grid.
        recipe: with all flags laid over it.
        plan: of the cue.
        prompt: of the cue.
        timeline: its step grid.
    """
    window = getattr(model, "window_steps", None)
    is_long = window is not None and timeline.num_steps > window
    words = with_characters(prompt, plan) if is_long and recipe.compose.section_words else words_of(prompt, plan)
    return [(round(timeline.step_at(each.start_s)), with_facts(model, recipe, each.text, plan)) for each in words]


def hashed_fields(recipe: Recipe, identity: ModelIdentity) -> dict[str, Any]:
    """What of the way in which sections are told decides a cue's tokens.

    Args:
        recipe: with all flags laid over it.
        identity: of the model.
    """
    tells = recipe.compose.section_words and not identity.follows_tempo
    return {"section_words": SECTION_WORDS_VERSION} if tells else {}


def with_facts(model: Model, recipe: Recipe, text: str, plan: CuePlan) -> str:
    """Words of a prompt with what a given plan and the tempo of a composed melody add to them."""
    return ", ".join(part for part in (text, plan.words, tempo_words(model, recipe, text, plan)) if part)


def told_record(changes: Sequence[tuple[int, str]], timeline: Timeline) -> dict[str, Any]:
    """What the sidecar says of the words that a model of sound was told; nothing where they don't change.

    Args:
        changes: from `told`.
        timeline: the cue's step grid.
    """
    rows = [{"start_s": round(float(timeline.time_of(step)), 3), "prompt": text} for step, text in changes]
    return {"passages": rows} if len(rows) > 1 else {}


def words_by_bar(
    prompt: str, plan: CuePlan | None, timeline: Timeline, redone: Iterable[Mapping[str, Any]] = ()
) -> list[tuple[int, str]]:
    """(first bar from 0 on, words) of a cue on a beat grid: words change at the bar line nearest to their moment.

    Args:
        prompt: of the cue.
        plan: of the cue.
        timeline: its beat grid.
        redone: records of the bars that were composed anew (`redo.record`), in order.
    """
    size = timeline.bar_steps
    count = -(-timeline.num_steps // size)
    texts: list[str] = []
    for words in words_of(prompt, plan):
        first = 0 if not texts else min(max(0, round(timeline.step_at(words.start_s) / size)), count)
        texts[first:] = [words.text] * (count - first)
    for row in redone:
        for first, last in row["bars"] if row["prompt"] is not None else ():
            texts[first - 1 : last] = [row["prompt"]] * (last - first + 1)
    return [(bar, text) for bar, text in enumerate(texts) if not bar or text != texts[bar - 1]]


@dataclass(frozen=True)
class Course:
    """How a cue's words and players change.

    Attributes:
        changes: (first bar from 0 on, words), at least one.
        passages: how each is played; empty where nothing changes.
    """

    changes: tuple[tuple[int, str], ...]
    passages: tuple[Passage, ...] = ()

    def described(self, timeline: Timeline) -> dict[str, Any]:
        """What the sidecar says of it; nothing where nothing changes.

        Args:
            timeline: the cue's beat grid.
        """
        if not self.passages:
            return {}
        from expotion_cli.music.codecs.notes.orchestrate import sounding

        rows = []
        for (bar, text), passage in zip(self.changes, self.passages, strict=True):
            start_s = max(0.0, float(timeline.time_of(bar * timeline.bar_steps)))
            programs = sounding(passage.settings)
            rows.append({"start_s": round(start_s, 3), "bar": bar + 1, "prompt": text, "programs": programs})
        return {"passages": rows}


def course(
    recipe: Recipe,
    seed: int,
    plan: CuePlan | None,
    prompt: str,
    timeline: Timeline,
    redone: Iterable[Mapping[str, Any]] = (),
) -> Course:
    """How the words of a cue on a beat grid change, and who plays; key and metre are the cue's throughout.

    Args:
        recipe: with all flags laid over it.
        seed: of the cue.
        plan: of the cue.
        prompt: of the cue.
        timeline: its beat grid.
        redone: records of the bars that were composed anew (`redo.record`), in order.
    """
    changes = tuple(words_by_bar(prompt, plan, timeline, redone))
    if len(changes) == 1 and changes[0][1] == prompt:
        return Course(changes)
    from expotion_cli.music.codecs.notes.passage import Passage

    key = sound_settings(recipe, seed, plan, prompt).key
    sections = {bar for bar, _ in words_by_bar(prompt, plan, timeline) if bar}
    found = []
    for bar, text in changes:
        settings = replace(sound_settings(recipe, seed, plan, text), key=key)
        found.append(Passage(bar, settings, brief.read(text, recipe).density, bar in sections))
    return Course(changes, tuple(found))
