"""The melodies that a model of sound plays: a user's own tune, or what the embedded model composes from the plan.

A tune is known by the content of its file. A composed melody is the cue that the embedded model would give the same
clip, with the same recipe, prompt and seed, but without drums and bass: the published melody models were trained on
melodies without both. It goes at the plan's tempo, so the beats of the music are known beforehand, and hit points are
answered on them (`ladder.follow`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from expotion_cli.audio.pitch_classes import SAMPLE_RATE, clearness
from expotion_cli.errors import DecodeError, ExpotionError, Interrupted, UsageError
from expotion_cli.music.identity import MELODIST, MINI
from expotion_cli.music.melody import SPAN_S, VERSION, Melody, needed_s, takes_no_melody
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.guard import as_failure, guard
from expotion_cli.storage import expanded

if TYPE_CHECKING:
    from expotion_cli.hints import FileHints
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.music.model import Model
    from expotion_cli.scoring.ladder import Seen
    from expotion_cli.scoring.streams import Needs
    from expotion_cli.spotting.plan import CuePlan

LEFT_OUT = ("drums", "percussion", "bass")
"""Voices that a composed melody does without."""
LEAST_CLEAR = 0.3
"""Below this share of the strongest pitch class, nobody would call it a tune."""
LONG_S = 600
"""Whoever gives a longer file may expect more of it to be heard than is."""
_CUT_OFF = 0.9
"""A file that holds a smaller share of what it says it lasts is cut off."""


class _Asked(Protocol):
    """What is wanted of an order (`group.Order`)."""

    @property
    def clip(self) -> ClipInfo: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def prompt(self) -> str: ...
    @property
    def seed(self) -> int: ...


Order = TypeVar("Order", bound=_Asked)


@dataclass(frozen=True)
class GivenMelody:
    """The melody of a run.

    Attributes:
        path: the tune's file; None for melodies that the embedded model composes.
        sha256: of the file's content.
        notes: what is worth saying about it.
    """

    path: Path | None = None
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def hashed_fields(self, recipe: Recipe, seed: int) -> dict[str, Any]:
        """What of it decides a cue's takes; of composed melodies also how they sound, and their one seed.

        Args:
            recipe: with all flags laid over it.
            seed: of the cue.
        """
        if self.path is not None:
            return {"melody": [VERSION, self.sha256]}
        fields = recipe.fields()
        return {"melody": [VERSION, MINI, fields["sound"], fields["voices"], seed]}

    def record(self) -> dict[str, str]:
        """What the sidecar says of it."""
        return {"file": self.path.name, "sha256": self.sha256} if self.path is not None else {"model": MELODIST}


def find_melody(recipe: Recipe, needs: Needs | None, name: str, hints: FileHints | None = None) -> GivenMelody | None:
    """The melody that a recipe names, checked before any work is done; None where it names none.

    Args:
        recipe: with all flags laid over it.
        needs: what the model takes, if that is known.
        name: of the model.
        hints: spares hashing an unchanged file again.

    Raises:
        UsageError: the model takes no melody, or the file can't be read or is silent.
    """
    if not recipe.melody:
        return None
    if needs is not None and needs.takes_melody is False:
        raise takes_no_melody(name or "This model")
    if recipe.melody == MINI:
        return GivenMelody()
    from expotion_cli.hints import content_hash
    from expotion_cli.music.melody_file import read_tune

    path = expanded(recipe.melody)
    if not path.is_file():
        reason = "this is a folder, not a melody file." if path.is_dir() else "there is no such melody file."
        raise UsageError(reason, path=path, remedy="Check the path after --melody.")
    try:
        sound = read_tune(path, SPAN_S)
    except DecodeError as error:
        raise UsageError(f"the melody can't be used: {error.reason}", path=path, remedy=error.remedy) from error
    notes = _length_notes(path, len(sound) / SAMPLE_RATE)
    if clearness(sound) < LEAST_CLEAR:
        said = "no clear tune is heard in the first half minute (speech, drums, noise?)"
        notes.append(f"{path.name}: {said}; the music may not follow it")
    return GivenMelody(path, content_hash(path) if hints is None else hints.sha256(path), tuple(notes))


def _length_notes(path: Path, read_s: float) -> list[str]:
    """What is worth saying of a tune's length.

    Args:
        path: its file.
        read_s: seconds that were there within the first `SPAN_S`.
    """
    from expotion_cli.media.sound import stated_s

    stated = stated_s(path)
    if read_s < _CUT_OFF * min(stated, SPAN_S):
        return [f"{path.name} is cut off: {read_s:.1f} s of {stated:.0f} s are there, and are repeated"]
    if stated > LONG_S:
        return [f"{path.name} lasts {stated / 60:.0f} minutes; no more than its beginning, as long as a cue, is played"]
    return []


def check_model(model: Model, recipe: Recipe) -> None:
    """Check, once the model is loaded, that it can play what the recipe gives it.

    Raises:
        UsageError: it takes no melody, or has nobody to compose one.
    """
    if not recipe.melody:
        return
    if not getattr(model, "takes_melody", False):
        raise takes_no_melody(model.name)
    if recipe.melody == MINI and model.melodist is None:
        raise UsageError(
            f"{model.name} was loaded without a model that composes melodies.",
            remedy=f'Load it with load_model({model.name!r}, melody="{MINI}").',
        )


def _melodist(model: Model, recipe: Recipe) -> Model:
    check_model(model, recipe)
    assert model.melodist is not None
    return model.melodist


def with_melodies(
    model: Model,
    spotted: Sequence[tuple[Order, Seen, CuePlan]],
    *,
    failed: Callable[[Order, ExpotionError], object],
    fatal: tuple[type[BaseException], ...],
    batch_size: int | str,
) -> Iterator[tuple[Order, Seen, CuePlan, Melody | None]]:
    """The same orders with the melody that each one's recipe gives it; orders that failed are left out.

    Args:
        model: plays them.
        spotted: orders, with what was seen and planned.
        failed: told what went wrong with an order.
        fatal: kinds of errors that end everything.
        batch_size: cues generated at a time, or "auto".
    """
    composed = _composed(model, spotted, failed=failed, fatal=fatal, batch_size=batch_size)
    tunes: dict[str, np.ndarray] = {}
    for number, (order, seen, plan) in enumerate(spotted):
        if order.recipe.melody == MINI:
            if number in composed:
                yield order, seen, plan, composed[number]
            continue
        if not (name := order.recipe.melody):
            yield order, seen, plan, None
            continue
        melody = None
        with guard(order.clip.path, partial(failed, order), fatal=fatal):
            check_model(model, order.recipe)
            if name not in tunes:
                longest = max(other.clip.duration for other, *_ in spotted if other.recipe.melody == name)
                tunes[name] = _read(name, needed_s(float(longest)))
            melody = _melody(model, order, tunes[name])
        if melody is not None:
            yield order, seen, plan, melody


def _melody(model: Model, order: _Asked, sound: np.ndarray) -> Melody:
    sound = sound[: round(needed_s(float(order.clip.duration)) * SAMPLE_RATE)]
    return model.melody(sound, model.codec.timeline(order.clip.duration, None))


def _read(name: str, max_s: float) -> np.ndarray:
    from expotion_cli.music.melody_file import read_tune

    return read_tune(expanded(name), max_s)


def _composed(
    model: Model,
    spotted: Sequence[tuple[Order, Seen, CuePlan]],
    *,
    failed: Callable[[Order, ExpotionError], object],
    fatal: tuple[type[BaseException], ...],
    batch_size: int | str,
) -> dict[int, Melody]:
    """Number of an order → the melody that the embedded model composes for it, all of them together."""
    requests: dict[int, Any] = {}
    for number, (order, seen, plan) in enumerate(spotted):
        if order.recipe.melody == MINI:
            with guard(order.clip.path, partial(failed, order), fatal=fatal):
                requests[number] = ladder.compose_request(
                    _melodist(model, order.recipe),
                    seen,
                    plan,
                    order.clip.duration,
                    order.recipe,
                    prompt=order.prompt,
                    seed=order.seed,
                )
    if not requests:
        return {}
    numbers, melodist = list(requests), _melodist(model, spotted[next(iter(requests))][0].recipe)
    ends: tuple[type[BaseException], ...] = (Interrupted, *fatal)
    try:
        tokens = dict(melodist.generate([requests[number] for number in numbers], batch_size=batch_size))
    except ends:
        raise
    except Exception as error:
        for number in numbers:
            failed(spotted[number][0], as_failure(error, spotted[number][0].clip.path))
        return {}
    melodies: dict[int, Melody] = {}
    for place, number in enumerate(numbers):
        order, _, plan = spotted[number]
        with guard(order.clip.path, partial(failed, order), fatal=fatal):
            sound = _played(melodist, tokens[place], requests[number].timeline, order, plan)
            melodies[number] = _melody(model, order, sound)
    return melodies


def _played(melodist: Model, tokens: np.ndarray, timeline: Any, order: _Asked, plan: CuePlan) -> np.ndarray:
    """The melody and harmony of a composed cue as sound. [n] at the melody's rate."""
    from expotion_cli.media.sound import resample, to_mono

    muted = dict.fromkeys((*order.recipe.compose.mute, *LEFT_OUT))
    recipe = order.recipe.override({"compose.mute": tuple(muted)}, source="--melody")
    score = ladder.render(melodist, tokens, timeline, recipe, seed=order.seed, plan=plan, prompt=order.prompt)
    sound: np.ndarray = resample(to_mono(score.audio), score.sample_rate, SAMPLE_RATE)[0]
    if not np.any(sound):
        raise UsageError(
            "Nobody is left to play a melody: every voice but drums and bass is muted.",
            remedy="Unmute some, or leave --melody out.",
        )
    return sound
