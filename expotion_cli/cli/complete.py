"""What a shell completes: names of recipes, models and streams. Nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

NO_STREAMS = ("none", "no stream: the music won't follow the picture")


def recipes(ctx: Any, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """Shipped recipes and the user's own, with what they are for."""
    from expotion_cli.errors import ExpotionError
    from expotion_cli.recipe import load_recipe, recipe_names

    found = []
    for name in recipe_names():
        if name.startswith(incomplete):
            try:
                found.append((name, load_recipe(name).description))
            except ExpotionError:  # one's own recipe that can't be read is a name all the same
                found.append((name, ""))
    return found


def models(ctx: Any, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """Models that compose; where any model will do (`expotion models`, `expotion fetch`), encoders, too."""
    composes_only = ctx.info_name not in ("models", "fetch")
    manifests = [each for each in _manifests() if each.kind == "music" or not composes_only]
    return [(each.name, each.title) for each in manifests if each.name.startswith(incomplete)]


def streams(ctx: Any, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """Streams, one after the other, separated by commas."""
    before, comma, begun = incomplete.rpartition(",")
    given = before.split(",") if comma else []
    known: dict[str, str] = {}
    for manifest in _manifests():
        for name in manifest.streams:
            known.setdefault(name, manifest.title)
    rows = [*known.items(), *([] if given else [NO_STREAMS])]
    return [(f"{before}{comma}{name}", about) for name, about in rows if name.startswith(begun) and name not in given]


def _manifests() -> Iterable[Any]:
    from expotion_cli.errors import ExpotionError
    from expotion_cli.weights.manifest import read_manifests

    try:
        return read_manifests().values()
    except ExpotionError:
        return ()
