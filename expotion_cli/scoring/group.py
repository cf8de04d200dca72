"""The group step: cues of several clips, spotted one by one and composed together.

All who climb the ladder for more than one clip (batches, regression renders, ablations) do it here, so a failure of one
clip stays with that clip everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from expotion_cli.errors import ExpotionError, Interrupted
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.guard import as_failure, guard
from expotion_cli.scoring.ladder import Seen
from expotion_cli.scoring.melodies import with_melodies
from expotion_cli.scoring.playing import tempo_of
from expotion_cli.scoring.redo import Base
from expotion_cli.scoring.takes.layout import take_seed
from expotion_cli.spotting import loop
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import CuePlan, add_user_hits
from expotion_cli.timing import Tempo

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.music.model import Model
    from expotion_cli.music.request import CueRequest

T = TypeVar("T")
GROUP, GPU_GROUP = 16, 64
"""Clips whose cues are composed together; the engine makes its own batches of them. It never changes a token."""


@dataclass(frozen=True, eq=False)
class Order:
    """A cue to be composed.

    Attributes:
        clip: whose music it will be.
        recipe: with all flags laid over it.
        prompt: of the cue.
        seed: of the cue.
        see: gives what was seen of the clip, now or as soon as it is there.
        plan: obeyed instead of what `ladder.spot` would find, if given.
        user_hits: hit points of the user's own, on top of those of the plan or of `ladder.spot`.
        base: a finished cue of which some bars are composed anew; None to compose a new one.
        take_numbers: of the candidates to compose, from 0; None for as many as the recipe says.
        key: whatever the caller knows the order by.
    """

    clip: ClipInfo
    recipe: Recipe
    prompt: str
    seed: int
    see: Callable[[], Seen] = field(repr=False)
    plan: CuePlan | None = None
    user_hits: tuple[HitPoint, ...] = ()
    base: Base | None = None
    take_numbers: tuple[int, ...] | None = None
    key: Any = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the takes to compose."""
        return tuple(range(self.recipe.generate.takes)) if self.take_numbers is None else self.take_numbers


@dataclass(frozen=True, eq=False)
class ComposedCue:
    """A composed cue.

    Attributes:
        order: what was asked for.
        seen: what the encoders saw.
        plan: what the music should do.
        tempo: of the music; None for codecs without a beat grid.
        request: what the model was asked for; its takes differ in their noise alone (`take_seed`).
        takes: [K, S] int64 each, in the order's order.
        took_s: seconds from the start of composing until it was there.
        together: number of cues that were composed together.
    """

    order: Order
    seen: Seen
    plan: CuePlan
    tempo: Tempo | None
    request: CueRequest
    takes: tuple[np.ndarray, ...]
    took_s: float
    together: int


def compose(
    model: Model,
    orders: Sequence[Order],
    *,
    failed: Callable[[Order, ExpotionError], object],
    fatal: tuple[type[BaseException], ...] = (),
    batch_size: int | str = "auto",
    on_begin: Callable[[Sequence[Order]], None] | None = None,
    on_progress: Callable[[Sequence[Order], float], None] | None = None,
) -> Iterator[ComposedCue]:
    """See, spot and compose: the cues of a group, in the order in which the last of their takes gets ready.

    Args:
        model: from `music.load.load_model`.
        orders: what is wanted, at least one.
        failed: told what went wrong with an order; the others go on.
        fatal: kinds of errors that end everything.
        batch_size: cues generated at a time, or "auto".
        on_begin: told which orders will now be composed together.
        on_progress: told the orders not yet done and the share of the group's work that is, 0..1.

    Yields:
        Each cue once; orders that failed are left out.
    """
    spotted: list[tuple[Order, Seen, CuePlan]] = []
    for order in orders:
        with guard(order.clip.path, partial(failed, order), fatal=fatal):
            seen = order.see()
            if order.plan is not None:
                plan = add_user_hits(order.plan, order.user_hits)
                if order.recipe.compose.loop:
                    plan = loop.close(plan, order.clip.duration, ladder.tempo_range(order.recipe, order.prompt))
            else:
                plan = ladder.spot(
                    seen, order.clip.duration, order.recipe, prompt=order.prompt, user_hits=order.user_hits
                )
            spotted.append((order, seen, plan))
    waiting: list[tuple[Order, Seen, CuePlan, CueRequest]] = []
    given = with_melodies(model, spotted, failed=failed, fatal=fatal, batch_size=batch_size)
    for order, seen, plan, melody in given:
        with guard(order.clip.path, partial(failed, order), fatal=fatal):
            request = ladder.compose_request(
                model,
                seen,
                plan,
                order.clip.duration,
                order.recipe,
                prompt=order.prompt,
                seed=order.seed,
                base=order.base,
                melody=melody,
            )
            waiting.append((order, seen, plan, request))
    if not waiting:
        return
    missing = [order for order, *_ in waiting]
    if on_begin is not None:
        on_begin(list(missing))

    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(list(missing), done / total)

    ends: tuple[type[BaseException], ...] = (Interrupted, *fatal)
    started = time.monotonic()
    # Takes of one cue stand together, so that they share a batch.
    asked = [(index, number) for index, row in enumerate(waiting) for number in row[0].numbers]
    requests = [replace(waiting[index][3], seed=take_seed(waiting[index][3].seed, number)) for index, number in asked]
    generated = model.generate(requests, batch_size=batch_size, on_progress=progress)
    found: dict[int, dict[int, np.ndarray]] = {}
    while True:
        try:
            place, tokens = next(generated)
        except StopIteration:
            return
        except ends:
            raise
        except Exception as error:  # it is the failure of each cue that is not there yet, not of the batch
            for order in missing:
                failed(order, as_failure(error, order.clip.path))
            return
        index, number = asked[place]
        order, seen, plan, request = waiting[index]
        found.setdefault(index, {})[number] = tokens
        if len(found[index]) < len(order.numbers):
            continue
        by_number = found.pop(index)
        takes = tuple(by_number[each] for each in order.numbers)
        missing.remove(order)
        tempo = tempo_of(model, plan, order.recipe)
        took_s = round(time.monotonic() - started, 3)
        yield ComposedCue(order, seen, plan, tempo, request, takes, took_s, len(waiting))


def groups(items: Sequence[T], device: Any, batch_size: int | str = "auto") -> Iterator[Sequence[T]]:
    """Items in groups as large as they are composed together.

    Args:
        items: to be parted, in order.
        device: where the model runs; a GPU takes more at a time.
        batch_size: at least so many, unless "auto".
    """
    size = size_of(device, batch_size)
    for start in range(0, len(items), size):
        yield items[start : start + size]


def size_of(device: Any, batch_size: int | str = "auto") -> int:
    """How many cues are composed together: more on a GPU, and at least `batch_size`, unless that is "auto"."""
    size = GPU_GROUP if str(device).startswith("cuda") else GROUP
    return size if batch_size == "auto" else max(size, int(batch_size))
