"""Which encoders look at the clips, and how much of that reaches the music."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expotion_cli.errors import UnknownNameError
from expotion_cli.recipe import Recipe, nearest_hint

if TYPE_CHECKING:
    from expotion_cli.music.model import Model

FALLBACK_STREAM = "flow"
"""Needs nobody in the picture, and no system library."""


@dataclass(frozen=True)
class StreamChoice:
    """Which encoders will look at the clips.

    Attributes:
        names: streams to encode.
        notes: said once: what is missing and how to get it.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def choose_streams(names: Iterable[str]) -> StreamChoice:
    """Which of the wanted encoders work on this machine; `flow` stands in when none of them does.

    Raises:
        UnknownNameError: no encoder of that name.
    """
    names = tuple(names)
    if not names:
        return StreamChoice(())
    from expotion_cli.vision.streams import available_encoders

    available = available_encoders()
    for name in names:
        if name not in available:
            known = ", ".join(available)
            raise UnknownNameError(
                f"No embedding stream is called {name!r}{nearest_hint(name, available)}.", remedy=f"Streams: {known}."
            )
    chosen = tuple(name for name in names if available[name] is None)
    # Several encoders often miss the same library: say each reason once.
    reasons: dict[str, list[str]] = {}
    for name in names:
        if available[name] is not None:
            reasons.setdefault(str(available[name]), []).append(name)
    notes = [f"{' and '.join(missing)} left out: {reason}" for reason, missing in reasons.items()]
    if not chosen:
        chosen = (FALLBACK_STREAM,)
    return StreamChoice(chosen, tuple(notes))


def unheard_streams(model: Model, choice: StreamChoice, recipe: Recipe) -> tuple[str, ...]:
    """What to say once a run if the picture, or a part of it that the adapter reads, cannot reach the music.

    An adapter goes on without a stream (it has a learned row in its place), so nobody would notice.

    Returns:
        Notes; none where the adapter gets all it reads, or where the recipe wants nobody to look.
    """
    from expotion_cli.vision.encoder import REGISTRY

    if not recipe.streams.use:
        return ()
    if not model.streams:
        return (f"{model.name} has no adapter that sees: {_without_eyes(model)}",)
    is_blind = not set(model.streams) & set(choice.names)
    reasons: dict[str, list[str]] = {}
    for name in (name for name in model.streams if name not in choice.names):
        if name not in REGISTRY:
            reasons.setdefault("no such encoder here yet", []).append(name)
        elif name not in recipe.streams.use:
            reasons.setdefault("left out by the recipe", []).append(name)
        elif is_blind:  # else the choice's own note says enough
            reasons.setdefault("can't run here", []).append(name)
    missing = " and ".join(f"{' and '.join(names)} ({reason})" for reason, names in reasons.items())
    if is_blind:
        return (f"the adapter reads {missing} and gets nothing of it: {_without_eyes(model)}",)
    return (f"the adapter reads {missing}, but does not get it",) if missing else ()


def unseen_in_clip(model: Model, choice: StreamChoice, seen: Iterable[str]) -> tuple[str, ...]:
    """What to say of a clip where all that the adapter reads was looked for in vain.

    Args:
        model: what composes.
        choice: which encoders looked.
        seen: names of the streams that saw something, those that stood in among them.
    """
    if not set(model.streams) & set(choice.names) or set(model.streams) & set(seen):
        return ()
    return (f"nothing that the adapter reads was seen: {_without_eyes(model)}",)


def _without_eyes(model: Model) -> str:
    return "only the tempo follows the picture" if model.codec.follows_tempo else "the picture plays no part"
