"""Which words hold when: timed prompts, prompts of a plan's sections, prompts of bars that were redone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from expotion_cli import brief
from expotion_cli.recipe import Recipe
from expotion_cli.scoring.playing import sound_settings
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timed_prompts import read_timed, whole
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from expotion_cli.music.codecs.notes.passage import Passage


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
