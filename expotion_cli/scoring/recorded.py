"""Recipes as records keep them: sidecars, references of regression renders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from expotion_cli.recipe import Recipe


def recipe_from(settings: Mapping[str, Any], name: str) -> Recipe:
    """The recipe that these settings were of.

    Args:
        settings: `Recipe.fields` with "prompt" and "seed", and "tags" if it has any.
        name: of the recipe.

    Raises:
        RecipeError: a setting is unknown or out of range.
    """
    tables = dict(settings)
    values = {"prompt": tables.pop("prompt"), "generate.seed": tables.pop("seed")}
    if (streams := tuple(tables.pop("streams"))) != Recipe().streams.use:  # else nobody may have chosen them
        values["streams.use"] = streams
    values |= {f"streams.{key}": value for key, value in tables.pop("stream_settings", {}).items()}
    values |= {key: tables.pop(key) for key in ("sound", "voices")}
    values |= {"tags": tuple(tables.pop("tags", ()))}
    values |= {f"{table}.{key}": value for table, entries in tables.items() for key, value in entries.items()}
    return dataclasses.replace(Recipe(), name=name).override(values, source="recorded settings")


def recipe_of(sidecar: Mapping[str, Any]) -> Recipe:
    """The recipe that a result was made with, its prompt and seed those of the cue.

    Args:
        sidecar: of the result, in today's form.

    Raises:
        KeyError, TypeError, AttributeError: this is no sidecar of a result.
        RecipeError: a setting is unknown or out of range.
    """
    settings = dict(sidecar["recipe"])
    name = str(settings.pop("name"))
    settings.pop("digest", None)
    return recipe_from({**settings, "prompt": sidecar["prompt"], "seed": sidecar["seed"]}, name)
