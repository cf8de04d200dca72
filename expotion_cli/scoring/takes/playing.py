"""Takes as music: each is rendered, follows its plan and is judged; the best is kept, or the one that was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expotion_cli.scoring import ladder
from expotion_cli.scoring.redo import NOT_REDONE, Redone
from expotion_cli.scoring.takes.score import Judged, best, judge

if TYPE_CHECKING:
    import numpy as np

    from expotion_cli.music.codecs.codec import Rating
    from expotion_cli.music.model import Model
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.group import ComposedCue
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Timeline


@dataclass(frozen=True)
class Played:
    """A take as music.

    Attributes:
        score: the music.
        stages_s: how long rendering and following took.
        rating: the codec's, of the take.
    """

    score: ladder.Score
    stages_s: Mapping[str, float]
    rating: Rating


@dataclass(frozen=True)
class Chosen:
    """The take that was chosen.

    Attributes:
        number: of the take, from 1.
        played: the take as music.
        judged: all takes, by number; empty where there is only one, which nothing is compared with.
        judging_s: how long playing the others and judging all took.
        by_user: the user chose it.
    """

    number: int
    played: Played
    judged: tuple[Judged, ...] = ()
    judging_s: float = 0.0
    by_user: bool = False

    @property
    def stages_s(self) -> dict[str, float]:
        """How long each stage took, in seconds."""
        return {**self.played.stages_s, **({"judge": self.judging_s} if self.judged else {})}


def play(
    model: Model,
    tokens: np.ndarray,
    timeline: Timeline,
    plan: CuePlan,
    recipe: Recipe,
    *,
    seed: int,
    prompt: str,
    redone: Redone = NOT_REDONE,
    stems: bool = False,
) -> Played:
    """Render a take and let it follow its plan.

    Args:
        model: that composed it.
        tokens: [K, S] int64.
        timeline: the cue's step grid.
        plan: what the music should do.
        recipe: with all flags laid over it.
        seed: of the cue.
        prompt: of the cue.
        redone: what its redos say.
        stems: also give each voice by itself.
    """
    started = time.monotonic()
    score = ladder.render(
        model, tokens, timeline, recipe, seed=seed, plan=plan, prompt=prompt, redone=redone, stems=stems
    )
    rendered = time.monotonic()
    rating = model.codec.rate(tokens, score.audio, timeline)
    score = ladder.follow(model, score, timeline, plan, recipe, seed=seed, prompt=prompt, redone=redone)
    stages_s = {"render": round(rendered - started, 3), "follow": round(time.monotonic() - rendered, 3)}
    return Played(score, stages_s, rating)


def play_best(
    play: Callable[[int], Played],
    count: int,
    plan: CuePlan,
    recipe: Recipe,
    *,
    wanted: int | None = None,
    on_take: Callable[[int, Played], object] | None = None,
) -> Chosen:
    """Play all takes of a cue, one after the other, and keep the best; only two are held in memory at a time.

    Args:
        play: plays the take of a number from 1.
        count: of takes.
        plan: what the music should do.
        recipe: with all flags laid over it.
        wanted: number of the take to keep, whatever the others are worth; None for the best.
        on_take: given each take's number and music.
    """
    started = time.monotonic()
    kept: tuple[int, Played] | None = None
    judged: list[Judged] = []
    for number in range(1, count + 1):
        played = play(number)
        if on_take is not None:
            on_take(number, played)
        if count > 1:
            judged.append(judge(number, played.score, played.rating, plan, recipe))
        chosen = wanted or (best(judged).number if judged else number)
        if chosen == number:
            kept = number, played
    assert kept is not None, "the take that is wanted is one of them"
    judging_s = time.monotonic() - started - sum(kept[1].stages_s.values())
    return Chosen(*kept, tuple(judged), round(max(0.0, judging_s), 3), wanted is not None)


def play_composed(model: Model, cue: ComposedCue) -> Chosen:
    """Play a cue that was just composed (`group.compose`): the best of its takes."""
    order, request = cue.order, cue.request
    return play_best(
        lambda number: play(
            model,
            cue.takes[number - 1],
            request.timeline,
            cue.plan,
            order.recipe,
            seed=order.seed,
            prompt=order.prompt,
        ),
        len(cue.takes),
        cue.plan,
        order.recipe,
    )
