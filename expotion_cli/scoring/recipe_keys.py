"""All keys of a recipe with default, range and meaning, as they are declared: for people, for editors, in templates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from expotion_cli.declare import nearest_hint, settings_of
from expotion_cli.errors import RecipeError
from expotion_cli.music.codecs.notes.groove_file import load_groove
from expotion_cli.music.codecs.notes.instruments import SOUNDING_VOICES, SoundSettings, VoiceSound
from expotion_cli.recipe import RENAMED, Recipe
from expotion_cli.recipe_files import EXTENDS
from expotion_cli.scoring.playing import check_sound
from expotion_cli.scoring.streams import encoder_settings
from expotion_cli.vision.encoder import REGISTRY

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VOICE = "NAME"
"""Stands for a voice's name where all voices have the same keys."""
TABLES = ("generate", "tempo", "compose", "streams", "follow", "mix", "loudness")
_EXTENDS_DOC = "recipe that this one is built on: a name, or a path from this file's folder"
_SETTING = f"^({'|'.join(REGISTRY)})_[a-z_]+$"
_SETTING_DOC = "setting of an encoder, e.g. pose_model"
_PLAIN = {"type": ["string", "number", "boolean", "array"]}


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes:
        table: that it stands in, e.g. `loudness` or `voices.NAME`; empty for keys above all tables.
        name: without its table.
        default: its value where nobody sets it; None where that depends.
        schema: JSON Schema of its values.
        doc: its meaning, in one phrase.
    """

    table: str
    name: str
    default: Any
    schema: Mapping[str, Any]
    doc: str

    @property
    def dotted(self) -> str:
        """Table and name."""
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def values(self) -> str:
        """The values it takes, in words."""
        return _in_words(self.schema)


def all_keys() -> tuple[Key, ...]:
    """Every key in the order in which recipes are written."""
    recipe = Recipe()
    keys = [Key("", EXTENDS, None, {"type": "string"}, _EXTENDS_DOC)]
    keys += _keys("", recipe)
    for table in TABLES:
        keys += _keys(table, getattr(recipe, table))
        if table == "streams":
            keys.append(Key(table, "ENCODER_SETTING", None, _PLAIN, _SETTING_DOC))
    keys += [key for key in _keys("sound", SoundSettings()) if key.dotted not in RENAMED]
    # Each voice has instrument, place and reverb of its own.
    varying = {"program", "pan", "reverb"}
    for key in _keys(f"voices.{VOICE}", VoiceSound()):
        keys.append(Key(key.table, key.name, None if key.name in varying else key.default, key.schema, key.doc))
    return tuple(keys)


def _keys(table: str, owner: Any) -> list[Key]:
    return [
        Key(table, name, getattr(owner, name), declared["schema"], declared["doc"])
        for name, declared in settings_of(owner).items()
    ]


def schema() -> dict[str, Any]:
    """JSON Schema (Draft 2020-12) of a recipe file."""
    tables: dict[str, dict[str, Any]] = {}
    for key in all_keys():
        described = {**key.schema, "description": key.doc}
        if key.default is not None:
            described["default"] = list(key.default) if isinstance(key.default, tuple) else key.default
        tables.setdefault(key.table, {})[key.name] = described
    top = tables.pop("")
    top["name"] = {"type": "string", "description": "the file's name counts; saying it again inside is allowed"}
    voice = _closed(tables.pop(f"voices.{VOICE}"))
    del tables["streams"]["ENCODER_SETTING"]
    properties = {**top, **{name: _closed(keys) for name, keys in tables.items()}}
    properties["streams"]["patternProperties"] = {_SETTING: {**_PLAIN, "description": _SETTING_DOC}}
    properties["voices"] = _closed({name: {"$ref": "#/$defs/voice"} for name in SOUNDING_VOICES})
    return {"$schema": DIALECT, "title": "Recipe of expotion", **_closed(properties), "$defs": {"voice": voice}}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def markdown() -> str:
    """The keys as a table for the documentation."""
    lines = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for key in all_keys():
        default = "" if key.default is None else f"`{toml(key.default)}`"
        lines.append(f"| `{key.dotted}` | {default} | {key.values} | {key.doc} |")
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """A plain value as TOML."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def template(base: Recipe, extends: str, title: str) -> str:
    """A recipe file that changes nothing yet: every key with the value that it has in the recipe it extends.

    Args:
        base: the recipe that it extends.
        extends: how the file names that recipe.
        title: of the new recipe.
    """
    lines = [f"{EXTENDS} = {toml(extends)}", f"title = {toml(title)}", 'description = ""']
    lines += [f"# prompt = {toml(base.prompt)}", f"# tags = {toml(base.tags)}"]
    keys = all_keys()
    for table in (*TABLES, "sound"):
        lines += ["", f"[{table}]"]
        values = getattr(base, table)
        for key in keys:
            if key.table == table and key.name != "ENCODER_SETTING":
                value = values.get(key.name, key.default) if table == "sound" else getattr(values, key.name)
                lines.append(f"# {key.name} = {toml(value)}   # {key.doc}")
    for voice, values in base.voices.items():
        lines += ["", f"[voices.{voice}]", *(f"# {name} = {toml(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def resolved(recipe: Recipe) -> str:
    """A recipe as one file that extends nothing: each key with its value."""
    lines = [f"{name} = {toml(getattr(recipe, name))}" for name in ("title", "description", "prompt", "tags")]
    for table in (*TABLES, "sound"):
        values = getattr(recipe, table)
        if table == "streams":
            rows: dict[str, Any] = {"use": values.use, **values.settings} if values.is_chosen else dict(values.settings)
        elif table == "sound":
            rows = dict(values)
        else:
            rows = {name: getattr(values, name) for name in settings_of(values)}
        lines += ["", f"[{table}]", *_rows(rows.items())]
    for voice, values in recipe.voices.items():
        lines += ["", f"[voices.{voice}]", *_rows(values.items())]
    return "\n".join(lines) + "\n"


def _rows(values: Iterable[tuple[str, Any]]) -> list[str]:
    return [f"{name} = {toml(value)}" for name, value in values]


def check_recipe(recipe: Recipe) -> tuple[str, ...]:
    """Check what loading leaves to the parts of the program that take it: sound, grooves, settings of encoders.

    Returns:
        Notes on what may be meant, and may be a mistake.

    Raises:
        RecipeError: a name or a value is wrong.
    """
    check_sound(recipe)
    if recipe.compose.groove:
        try:
            load_groove(recipe.compose.groove)
        except RecipeError as error:
            reason = f"compose.groove: {error.reason}"
            raise RecipeError(reason, path=error.path or recipe.path, remedy=error.remedy) from None
    encoder_settings(recipe)
    unknown = [name for name in recipe.streams.use if name not in REGISTRY]
    return tuple(
        f"streams.use: no encoder is called {name!r}{nearest_hint(name, REGISTRY)}; it needs --streams {name}=FOLDER"
        for name in unknown
    )


def _in_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_in_words(each) for each in schema["anyOf"]))
    if "const" in schema:
        return toml(schema["const"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "pattern" in schema:
        return "per-clip, per-clip:N"
    kind = schema.get("type")
    if kind == "array":
        listed = _in_words(schema["items"])
        return "list of names" if listed == "text" else f"list of {listed}"
    if kind in ("number", "integer") and "minimum" in schema:
        return f"{schema['minimum']:g} to {schema['maximum']:.10g}"
    return {"boolean": "true, false", "string": "text", "integer": "whole number"}.get(str(kind), "text, number, list")
