"""The recipe of the embedded model: `recipes/train/mini.toml`, held to the arguments of what it configures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expotion_cli import assets, storage
from expotion_cli.declare import unknown_key
from expotion_cli.errors import RecipeError
from expotion_cli.training.loop import LoopSettings
from expotion_cli.training.mini.corpus.build import build_corpus
from expotion_cli.training.optimizers import muon_and_adamw

_CONFIGURED: Mapping[str, Callable[..., Any]] = {
    "loop": LoopSettings,
    "build": build_corpus,
    "grooves": build_corpus,
    "optimizer": muon_and_adamw,
    "adapter_optimizer": muon_and_adamw,
}
"""Tables whose keys are the arguments of a function; those with a default may be left out."""
_NOT_IN_RECIPES = ("folder", "pieces", "modules", "minutes")
_FREE_TABLES = ("corpus.shares", "follow.shares")


@dataclass(frozen=True)
class MiniSettings:
    """All settings that determine the embedded model, as the recipe's tables.

    Attributes:
        corpus: shares of the sources, and `corpus.build.build_corpus`'s arguments for both stages.
        decoder: sizes of the decoder.
        text: sizes of the T5 text encoder.
        adapter: sizes of the adapter.
        pretrain: first stage: decoder and text encoder on captioned music.
        follow: second stage: all three on grooves and on people's pieces, with their plans.
    """

    corpus: dict[str, Any]
    decoder: dict[str, Any]
    text: dict[str, Any]
    adapter: dict[str, Any]
    pretrain: dict[str, Any]
    follow: dict[str, Any]

    @staticmethod
    def load(path: Path | None = None) -> MiniSettings:
        """Read a recipe; the shipped one by default.

        Raises:
            RecipeError: it can't be read, or a key is missing or unknown.
        """
        shipped = assets.shipped_folder("recipes") / "train" / "mini.toml"
        path = path or shipped
        tables = storage.read_toml(path, "the training recipe", error=RecipeError)
        _require_known_keys(tables, storage.read_toml(shipped), "", path)
        return MiniSettings(**tables)


def _require_known_keys(given: Any, shipped: Any, table: str, path: Path) -> None:
    """Check a table against the shipped recipe's, or against the arguments of the function it configures."""
    if not isinstance(shipped, dict) or table in _FREE_TABLES:
        return
    if not isinstance(given, dict):
        raise RecipeError(f"{table} must be a table.", path=path)
    configured = _CONFIGURED.get(table.rpartition(".")[2])
    if configured is None:
        required = dict.fromkeys(shipped, True)
    else:
        parameters = inspect.signature(configured).parameters
        required = {
            key: parameter.default is inspect.Parameter.empty
            for key, parameter in parameters.items()
            if key not in _NOT_IN_RECIPES
        }
    for key, value in given.items():
        dotted = f"{table}.{key}".lstrip(".")
        if key not in required:
            known = [f"{table}.{name}".lstrip(".") for name in required]
            raise unknown_key(dotted, known, where="recipe", path=path)
        _require_known_keys(value, shipped.get(key), dotted, path)
    for key, is_required in required.items():
        if is_required and key not in given:
            raise RecipeError(f"the key {f'{table}.{key}'.lstrip('.')!r} is missing.", path=path)
