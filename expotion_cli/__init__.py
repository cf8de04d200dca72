"""expotion: scores video with music that follows the person in the picture.

    import expotion_cli as expotion

    model, recipe = expotion.load_model(), expotion.load_recipe("cinematic")
    expotion.score_clip("clip.mp4", "scored.mp4", model=model, recipe=recipe)
    expotion.score_folder("clips", "scored", model=model, recipe=recipe)

What is exported here is the public API; everything is imported when it is first used, so that importing the package
costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expotion_cli.version import __version__

if TYPE_CHECKING:
    from expotion_cli.errors import ExpotionError
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.media.probe import probe
    from expotion_cli.music.load import load_model
    from expotion_cli.music.model import Model
    from expotion_cli.recipe import Recipe, load_recipe, recipe_names
    from expotion_cli.scoring.account import Listener, Summary
    from expotion_cli.scoring.api import ScoredClip, score_clip, score_folder
    from expotion_cli.scoring.ladder import Score, Seen, finish, render, see, spot
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.vision.cache import EmbeddingCache

_EXPORTS = {
    "ExpotionError": "errors",
    "ClipInfo": "media.clip",
    "probe": "media.probe",
    "load_model": "music.load",
    "Model": "music.model",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "recipe_names": "recipe",
    "ScoredClip": "scoring.api",
    "score_clip": "scoring.api",
    "score_folder": "scoring.api",
    "Listener": "scoring.account",
    "Summary": "scoring.account",
    "Score": "scoring.ladder",
    "Seen": "scoring.ladder",
    "see": "scoring.ladder",
    "spot": "scoring.ladder",
    "render": "scoring.ladder",
    "finish": "scoring.ladder",
    "CuePlan": "spotting.plan",
    "EmbeddingCache": "vision.cache",
}
__all__ = [
    "ClipInfo",
    "CuePlan",
    "EmbeddingCache",
    "ExpotionError",
    "Listener",
    "Model",
    "Recipe",
    "Score",
    "ScoredClip",
    "Seen",
    "Summary",
    "__version__",
    "finish",
    "load_model",
    "load_recipe",
    "probe",
    "recipe_names",
    "render",
    "score_clip",
    "score_folder",
    "see",
    "spot",
]


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first asked for."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
