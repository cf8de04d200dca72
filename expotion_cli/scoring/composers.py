"""Who composes and plays: a model in this process, or one in a process or on a machine of its own.

A batch hands cues to composers and takes tokens and music from them. `LocalComposer` has the model at hand.
`HostedComposer` has it loaded wherever an executor runs things, so a batch can keep several GPUs busy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from expotion_cli.errors import ExpotionError, Interrupted
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import group, playing, sidecar
from expotion_cli.scoring.cue_store import StoredCue
from expotion_cli.scoring.executors import Executor
from expotion_cli.scoring.group import ComposedCue, Order
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.melodies import check_model
from expotion_cli.scoring.redo import Redone
from expotion_cli.scoring.redo_notes import redo_notes
from expotion_cli.scoring.takes.playing import Played, play
from expotion_cli.spotting.plan_file import as_record, from_record

if TYPE_CHECKING:
    from expotion_cli.music.model import Model

T = TypeVar("T")
_Model = tuple[tuple[tuple[str, Any], ...], int | None]
"""Arguments of `load_model`, and threads: what tells one hosted model from another."""
FOUND = "found"
"""Note of a cue: names of the streams that found somebody. It is not kept."""

Failed = Callable[[Order, ExpotionError], object]
Told = Callable[[Sequence[Order], float], None]


@dataclass(frozen=True)
class Playing:
    """What playing a cue takes, its tokens aside.

    Attributes:
        duration: of the picture, in seconds.
        recipe: with all flags laid over it.
        seed: of the cue.
        prompt: of the cue.
        stems: whether each voice is wanted by itself as well.
    """

    duration: Fraction
    recipe: Recipe
    seed: int
    prompt: str
    stems: bool = False


class Composer(Protocol):
    """Composes and plays cues."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model it is."""
        ...

    def check(self, recipe: Recipe, prompts: Sequence[str]) -> tuple[str, ...]:
        """See `playing.check_instruments`."""
        ...

    def compose(
        self, orders: Sequence[Order], *, batch_size: int | str, failed: Failed, on_progress: Told
    ) -> Iterator[tuple[Order, tuple[StoredCue, ...]]]:
        """See, spot and compose: see `group.compose`. Of each cue all takes that were ordered arrive together.

        Args:
            orders: what is wanted, at least one.
            batch_size: cues generated at a time, or "auto".
            failed: told what went wrong with an order; the others go on.
            on_progress: told the orders not yet done and the share of the work that is.
        """
        ...

    def play(self, cue: StoredCue, playing: Playing) -> Played:
        """Render a cue and let it follow its plan."""
        ...

    def close(self) -> None:
        """Nothing more will be asked."""
        ...


class LocalComposer:
    """A model in this process."""

    def __init__(self, model: Model):
        self._model = model
        self.identity = ModelIdentity.of(model)

    def check(self, recipe: Recipe, prompts: Sequence[str]) -> tuple[str, ...]:
        """See `Composer`."""
        check_model(self._model, recipe)
        return playing.check_instruments(self._model, recipe, prompts)

    def compose(
        self, orders: Sequence[Order], *, batch_size: int | str, failed: Failed, on_progress: Told
    ) -> Iterator[tuple[Order, tuple[StoredCue, ...]]]:
        """See `Composer`."""
        cues = group.compose(self._model, orders, failed=failed, batch_size=batch_size, on_progress=on_progress)
        for cue in cues:
            yield cue.order, _stored(cue)

    def play(self, cue: StoredCue, playing: Playing) -> Played:
        """See `Composer`."""
        plan = from_record(cue.notes["plan"], playing.duration, is_given=False)
        timeline = sidecar.cue_timeline(self._model, playing.duration, cue.notes["tempo"])
        return play(
            self._model,
            cue.tokens,
            timeline,
            plan,
            playing.recipe,
            seed=playing.seed,
            prompt=playing.prompt,
            redone=Redone.of(cue.notes),
            stems=playing.stems,
        )

    def close(self) -> None:
        """See `Composer`; the model stays the caller's."""


class HostedComposer:
    """A model that an executor's process or machine has loaded.

    Args:
        executor: runs stage "compose", each time at the same place or at one that loads the same model.
        arguments: of `music.load.load_model`.
        threads: processor threads that the model may use there; None for as many as the machine has cores.
    """

    def __init__(self, executor: Executor, arguments: Mapping[str, Any], *, threads: int | None = None):
        self._executor, self._threads = executor, threads
        self._arguments = tuple(sorted((key, tuple(v) if isinstance(v, list) else v) for key, v in arguments.items()))

    @functools.cached_property
    def identity(self) -> ModelIdentity:
        """See `Composer`; this loads the model."""
        return self._there(_identity)

    def check(self, recipe: Recipe, prompts: Sequence[str]) -> tuple[str, ...]:
        """See `Composer`."""
        return self._there(_check, recipe, tuple(prompts))

    def compose(
        self, orders: Sequence[Order], *, batch_size: int | str, failed: Failed, on_progress: Told
    ) -> Iterator[tuple[Order, tuple[StoredCue, ...]]]:
        """See `Composer`; cues arrive together, when all are there."""
        ready: list[tuple[Order, Order]] = []
        for order in orders:
            with guard(order.clip.path, functools.partial(failed, order)):
                seen = order.see()
                ready.append((order, replace(order, see=functools.partial(_same, seen), key=None)))
        if not ready:
            return
        left = [order for order, _ in ready]
        on_progress(left, 0.0)
        try:
            outcomes = self._there(_compose, [sent for _, sent in ready], batch_size)
        except Interrupted:
            raise
        except ExpotionError as error:
            for order in left:
                failed(order, error)
            return
        for (order, _), outcome in zip(ready, outcomes, strict=True):
            if isinstance(outcome, ExpotionError):
                failed(order, outcome)
            else:
                yield order, outcome

    def play(self, cue: StoredCue, playing: Playing) -> Played:
        """See `Composer`."""
        return self._there(_play, cue, playing)

    def close(self) -> None:
        """End the process or give the machine back."""
        self._executor.close()

    def _there(self, rung: Callable[..., T], *arguments: Any) -> T:
        return self._executor.submit("compose", rung, (self._arguments, self._threads), *arguments).result()


def _same(value: Any) -> Any:
    return value


@functools.lru_cache(maxsize=1)
def _hosted(model: _Model) -> LocalComposer:
    """The model of this process, loaded once."""
    arguments, threads = model
    from expotion_cli.music.load import load_model

    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return LocalComposer(load_model(**dict(arguments)))


def _identity(model: _Model) -> ModelIdentity:
    return _hosted(model).identity


def _check(model: _Model, recipe: Recipe, prompts: Sequence[str]) -> tuple[str, ...]:
    return _hosted(model).check(recipe, prompts)


def _compose(
    model: _Model, orders: Sequence[Order], batch_size: int | str
) -> list[tuple[StoredCue, ...] | ExpotionError]:
    """For each order the takes of its cue, or why there are none."""
    numbered = [replace(order, key=number) for number, order in enumerate(orders)]
    outcomes: dict[int, tuple[StoredCue, ...] | ExpotionError] = {}
    cues = _hosted(model).compose(
        numbered,
        batch_size=batch_size,
        failed=lambda order, error: outcomes.__setitem__(order.key, error),
        on_progress=lambda orders, share: None,
    )
    outcomes |= {order.key: cue for order, cue in cues}
    return [outcomes[number] for number in range(len(orders))]


def _play(model: _Model, cue: StoredCue, playing: Playing) -> Played:
    return _hosted(model).play(cue, playing)


def _stored(cue: ComposedCue) -> tuple[StoredCue, ...]:
    notes = {
        "tempo": sidecar.tempo_record(cue.tempo),
        "plan": as_record(cue.plan),
        "streams": list(cue.seen.reports),
        FOUND: sorted(cue.seen.streams),
        "notes": list(cue.seen.notes),
        "stages_s": {"see": cue.seen.took_s, "compose": cue.took_s},
        "composed_together": cue.together,
    }
    if cue.order.base is not None:
        notes |= redo_notes(cue, cue.order.base)
    return tuple(StoredCue(tokens, notes) for tokens in cue.takes)
