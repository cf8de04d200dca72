"""Recipes: everything that shapes a result, in one frozen value.

A recipe is built in layers: the defaults below, then TOML files, base first, then the flags of one run. Each key, its
default, its range and its meaning are declared once, in the dataclasses here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expotion_cli import declare
from expotion_cli.compose import Compose
from expotion_cli.declare import UNSET as UNSET
from expotion_cli.errors import RecipeError
from expotion_cli.recipe_files import DEFAULT_RECIPE as DEFAULT_RECIPE
from expotion_cli.recipe_files import find_recipe, read_layers, shipped_recipes
from expotion_cli.storage import digest_of
from expotion_cli.tags import TAGS

DIGEST_FORMAT = 1
"""To be raised when the same recipe text comes to mean something else."""

PER_CLIP = "per-clip"
MIX_MODES = ("replace", "under", "duck")
REPLACE, UNDER, DUCK = MIX_MODES
FIRST_TRACKS = ("mix", "original")
MIX_TRACK, ORIGINAL_TRACK = FIRST_TRACKS
FOLLOW_MODES = ("layer", "none")
LAYER, NO_FOLLOW = FOLLOW_MODES
ACCENTS = ("low-drum", "taiko", "timpani", "clap", "snap", "crash", "swell", "whoosh", "riser", "sub-drop", "bell",
           "pluck", "strings", "brass")  # fmt: skip
"""Sounds that can answer hit points (`scoring.follow.accents`)."""
AUTO_CODEC = "auto"
AUDIO_CODECS = (AUTO_CODEC, "aac", "flac", "opus")
MAX_SEED = 2**31 - 1
RENAMED = {"generate.drafts": "generate.takes", "sound.key": "compose.key"}
"""Keys of earlier versions and what they are called now. A recipe that has one is refused with the new name; what was
recorded with one is still read (`renamed`), and what was hashed with one in its own table stays valid
(`Recipe.hashed_fields`)."""


ADDED = ("compose.section_words", "follow.align", "mix.music_gain_db", "mix.keep_original", "mix.default_track")
"""Keys that came later: at their defaults they change no result, and are not hashed."""


def _seed(default: int | str, doc: str) -> Any:
    def check(value: Any) -> int | str:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEED:
            return value
        if isinstance(value, str):
            policy, _, base = value.partition(":")
            if policy == PER_CLIP and (value == PER_CLIP or (base.isdecimal() and int(base) <= MAX_SEED)):
                return value
        raise ValueError(f'must be a whole number from 0 to {MAX_SEED}, "{PER_CLIP}" or "{PER_CLIP}:NUMBER"')

    number = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    schema = {"anyOf": [number, {"type": "string", "pattern": f"^{PER_CLIP}(:[0-9]+)?$"}]}
    return declare.custom(default, check, schema, doc)


@dataclass(frozen=True)
class Generate:
    """How tokens are drawn."""

    guidance: float = declare.number(3.0, 0.0, 20.0, "weight of the prompt; 1 switches this guidance off")
    visual_guidance: float = declare.number(
        1.5, 0.0, 20.0, "weight of the visual conditioning; 1 switches this guidance off"
    )
    temperature: float = declare.number(1.0, 0.0, 4.0, "0 takes the likeliest token, higher is more adventurous")
    top_k: int = declare.whole(50, 0, 4096, "draw among this many likeliest tokens; 0 means all")
    top_p: float = declare.number(1.0, 0.01, 1.0, "draw among the likeliest tokens that hold this share; 1 means all")
    takes: int = declare.whole(4, 1, 64, "compose this many of each cue and keep the best")
    negative_prompt: str = declare.text("", "what the music should not be, in words; text guidance leads away from it")
    seed: int | str = _seed(PER_CLIP, "one number for every clip, or per-clip[:NUMBER]: drawn from the clip's content")


@dataclass(frozen=True)
class TempoRange:
    """The tempos a cue may take; the pulse of the motion is folded into them. Equal ends fix the tempo."""

    min: float = declare.number(70.0, 20.0, 300.0, "slowest tempo in beats a minute")
    max: float = declare.number(140.0, 20.0, 300.0, "fastest tempo in beats a minute")


@dataclass(frozen=True)
class Streams:
    """What the music follows.

    Attributes:
        use: names of the embedding streams.
        settings: all other keys of the table: `pose_model` is the setting `model` of the encoder `pose`. The encoders
            check them.
        is_chosen: whether a recipe or a flag lists `use`; if not, what the adapter reads takes its place.
    """

    use: tuple[str, ...] = declare.names(
        ("face", "pose", "flow"), "embedding streams; an empty list ignores the picture"
    )
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_chosen: bool = False


@dataclass(frozen=True)
class Follow:
    """How the finished music follows the picture, whatever composed it."""

    mode: str = declare.choice(LAYER, FOLLOW_MODES, "layer: by level and accents; none: leave the music as it is")
    dynamics_db: float = declare.number(5.0, 0.0, 12.0, "how far the music is lowered where little moves")
    hits_per_s: float = declare.number(1.0, 0.0, 4.0, "at most this many hit points a second get an accent")
    accents: tuple[str, ...] = declare.names(
        ("low-drum",),
        "sounds that answer hit points: the first all, each further one only heavier ones",
        ACCENTS,
    )
    gain_db: float = declare.number(1.0, -12.0, 12.0, "level of the accents over the music around them")
    align: bool = declare.flag(
        True, "models of sound: shift and bend the music a little, so that its own accents meet hit points"
    )


@dataclass(frozen=True)
class Mix:
    """How the music is mixed with the clip's own sound."""

    mode: str = declare.choice(
        REPLACE, MIX_MODES, "replace the clip's sound; lay the music under it; or duck the music where somebody speaks"
    )
    under_lu: float = declare.number(
        12.0, 0.0, 40.0, "under: how far the music lies below the clip's sound, duck: below the voice, in LU"
    )
    music_gain_db: float = declare.number(0.0, -24.0, 24.0, "under, duck: more or less of the music throughout, in dB")
    keep_original: bool = declare.flag(False, "keep the clip's own sound as a second track")
    default_track: str = declare.choice(
        MIX_TRACK, FIRST_TRACKS, "which of two tracks players begin with: the mix, or the original sound"
    )
    fade_in_s: float = declare.number(0.05, 0.0, 30.0, "fade at the beginning, in seconds")
    fade_out_s: float = declare.number(1.0, 0.0, 30.0, "fade at the end, in seconds")
    audio_codec: str = declare.choice(AUTO_CODEC, AUDIO_CODECS, "auto: Opus in WebM, else AAC; MKV also takes flac")


@dataclass(frozen=True)
class LoudnessTarget:
    """Loudness of the finished video, measured after encoding (ITU-R BS.1770)."""

    lufs: float = declare.number(-14.0, -50.0, -5.0, "integrated loudness in LUFS")
    peak_dbtp: float = declare.number(-1.0, -20.0, 0.0, "highest true peak in dBTP")


@dataclass(frozen=True)
class Recipe:
    """All settings of a run that shape its results.

    Attributes:
        name, title, description: for people; they have no influence on the result.
        prompt, melody: a description of the music; a tune for it to play (a file's path, or "mini"), empty for none.
        generate, tempo, compose, streams, follow, mix, loudness: the tables of these names; see their classes.
        sound, voices: tables for the model's codec, e.g. instruments and balance. The codec checks them.
        path: the file it was read from; None for one made in code.
    """

    name: str = "default"
    title: str = declare.text("", "a short title")
    description: str = declare.text("", "one sentence on what it is for")
    prompt: str = declare.text("", "what the music should be, in words")
    melody: str = declare.text("", "a tune to play: a sound or MIDI file, or mini (MusicGen Melody)")
    tags: tuple[str, ...] = declare.names(
        (), "tags that tell its style, by which takes are judged and results evaluated", TAGS
    )
    generate: Generate = Generate()
    tempo: TempoRange = TempoRange()
    compose: Compose = Compose()
    streams: Streams = Streams()
    follow: Follow = Follow()
    mix: Mix = Mix()
    loudness: LoudnessTarget = LoudnessTarget()
    sound: Mapping[str, Any] = field(default_factory=dict)
    voices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    path: Path | None = None

    def cue_fields(self) -> dict[str, Any]:
        """What decides the tokens, apart from clip, model, prompt and seed, as plain JSON values."""
        drawn = dataclasses.asdict(self.generate)
        del drawn["seed"]  # the seed itself stands in the artefact's digest, not the policy it came from
        settings = {"stream_settings": _plain(self.streams.settings)} if self.streams.settings else {}
        tables = {"tempo": dataclasses.asdict(self.tempo), "compose": _plain(dataclasses.asdict(self.compose))}
        return {"generate": drawn, **tables, "streams": list(self.streams.use), **settings}

    def fields(self) -> dict[str, Any]:
        """All that shapes a result, as plain JSON values; titles, tags, names and paths stay out."""
        return {
            **self.cue_fields(),
            "follow": dataclasses.asdict(self.follow),
            "mix": dataclasses.asdict(self.mix),
            "loudness": dataclasses.asdict(self.loudness),
            "sound": _plain(self.sound),
            "voices": _plain(self.voices),
            **({"melody": self.melody} if self.melody else {}),
        }

    def hashed_fields(self) -> dict[str, Any]:
        """`fields` with each key under its first name in its table, and what asks for nothing left out.

        What is hashed keeps its bytes when a key is renamed or added: results and cues of earlier versions stay valid.
        """
        fields = self.fields()
        fields.pop("melody", None)  # it counts by its content (`scoring.melodies`)
        for old, new in RENAMED.items():
            (old_table, _, old_key), (table, _, key) = old.partition("."), new.partition(".")
            if old_table == table:
                fields[table][old_key] = fields[table].pop(key)
        for dotted, default in added().items():
            table, _, key = dotted.partition(".")
            if fields[table][key] == default:
                del fields[table][key]
        if self.compose == Compose():
            del fields["compose"]
        elif not self.compose.loop:
            del fields["compose"]["loop"]
        if not self.generate.negative_prompt:
            del fields["generate"]["negative_prompt"]
        return fields

    @property
    def digest(self) -> str:
        """sha256 (hex) over `hashed_fields`, the prompt and the seed policy."""
        policy = {"prompt": self.prompt, "seed": self.generate.seed, **({"melody": self.melody} if self.melody else {})}
        return digest_of({"format": DIGEST_FORMAT, **policy, **self.hashed_fields()})

    def seed_for(self, content_digest: str) -> int:
        """The seed of a clip with this content: the recipe's one seed, or one drawn from the content itself."""
        if isinstance(self.generate.seed, int):
            return self.generate.seed
        base = self.generate.seed.partition(":")[2] or "0"
        drawn = hashlib.sha256(f"{base}:{content_digest}".encode()).digest()
        return int.from_bytes(drawn[:4], "little") & MAX_SEED

    def override(self, values: Mapping[str, Any], *, source: str = "flag") -> Recipe:
        """A copy with some keys replaced.

        Args:
            values: dotted keys, e.g. `{"loudness.lufs": -16}`; `UNSET` leaves a key alone.
            source: what to call the origin in messages.

        Raises:
            RecipeError: an unknown key or a value out of range.
        """
        tables: dict[str, Any] = {}
        for dotted, value in values.items():
            if value is UNSET:
                continue
            table, _, key = dotted.rpartition(".")
            target = tables.setdefault(table, {}) if table else tables
            target[key] = value
        return _apply(self, tables, where=source, path=None)


_TABLES: dict[str, type] = {
    "generate": Generate,
    "tempo": TempoRange,
    "compose": Compose,
    "streams": Streams,
    "follow": Follow,
    "mix": Mix,
    "loudness": LoudnessTarget,
}
_TOP_KEYS = ("title", "description", "prompt", "melody", "tags")
_CODEC_TABLES = ("sound", "voices")


def load_recipe(name_or_path: str | Path, flags: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe by its name or path, with what it extends, and lay the flags over it.

    >>> import expotion_cli as expotion
    >>> expotion.load_recipe("cinematic", {"loudness.lufs": -16}).loudness.lufs
    -16.0

    Args:
        name_or_path: of a shipped recipe or one's own, e.g. `cinematic`, or a path that ends in `.toml`.
        flags: dotted keys, see `Recipe.override`.

    Raises:
        UnknownNameError: no recipe of that name.
        RecipeError: a file can't be read, has an unknown key or a value out of range, or extends itself.
    """
    path = find_recipe(name_or_path)
    recipe = Recipe(name=path.stem, path=path)
    for layer in read_layers(path):  # titles are of the file that has them, and not of what is built on it
        recipe = _apply(dataclasses.replace(recipe, title="", description=""), layer.tables, where="recipe",
                        path=layer.path)  # fmt: skip
    return recipe.override(flags or {})


def check(key: str, value: Any) -> Any:
    """Hold a value to its range, for functions that take single settings.

    Args:
        key: dotted, e.g. `mix.fade_in_s`.
        value: as it was given.

    Returns:
        The value as a recipe would hold it.

    Raises:
        RecipeError: it is out of range, in the words that a recipe file would be refused with.
    """
    table, _, name = key.partition(".")
    return declare.checked(_TABLES[table], name, value, shown=key)


def added() -> dict[str, Any]:
    """`ADDED` with their defaults: what a result that was recorded without them was made of."""
    places = {dotted: dotted.partition(".") for dotted in ADDED}
    return {dotted: declare.default(_TABLES[table], key) for dotted, (table, _, key) in places.items()}


def bounds(key: str) -> tuple[float, float]:
    """The lowest and the highest value that a numeric key may have, e.g. of `tempo.min`."""
    table, _, name = key.partition(".")
    found: tuple[float, float] = declare.declared(_TABLES[table], name)["bounds"]
    return found


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings under the names that their keys have now.

    Args:
        values: dotted keys as `Recipe.override` takes them, or tables as `Recipe.fields` gives them.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(value, Mapping) or key not in (*_TABLES, *_CODEC_TABLES):
            found[RENAMED.get(key, key)] = value
            continue
        found.setdefault(key, {})
        for inner, item in value.items():
            table, _, name = RENAMED.get(f"{key}.{inner}", f"{key}.{inner}").partition(".")
            found.setdefault(table, {})[name] = item
    return found


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted, the default one first."""
    return list(shipped_recipes())


def _apply(recipe: Recipe, tables: Mapping[str, Any], *, where: str, path: Path | None) -> Recipe:
    _refuse_earlier_names(tables, where, path)
    changes: dict[str, Any] = {}
    for key, value in tables.items():
        if key in _TOP_KEYS:
            changes[key] = declare.checked(Recipe, key, value, shown=key, where=where, path=path)
        elif key == "streams":
            changes[key] = _apply_streams(recipe.streams, value, where, path)
        elif key in _TABLES:
            changes[key] = declare.with_table(getattr(recipe, key), key, value, where=where, path=path)
        elif key in _CODEC_TABLES:
            changes[key] = _laid_over(getattr(recipe, key), _codec_table(key, value, where, path))
        else:
            raise declare.unknown_key(key, (*_TOP_KEYS, *_TABLES, *_CODEC_TABLES), where=where, path=path)
    recipe = dataclasses.replace(recipe, **changes)
    if recipe.tempo.min > recipe.tempo.max:
        raise RecipeError(
            f"{where}: tempo.min ({recipe.tempo.min:g}) is above tempo.max ({recipe.tempo.max:g}).", path=path
        )
    return recipe


def _refuse_earlier_names(tables: Mapping[str, Any], where: str, path: Path | None) -> None:
    for old, new in RENAMED.items():
        table, _, key = old.partition(".")
        if isinstance(tables.get(table), Mapping) and key in tables[table]:
            raise RecipeError(f"{where}: {old} is called {new} now.", path=path, remedy=f"Write {new} instead.")


def _apply_streams(current: Streams, values: Any, where: str, path: Path | None) -> Streams:
    settings = {key: value for key, value in values.items() if key != "use"} if isinstance(values, Mapping) else {}
    for key, value in settings.items():
        if not isinstance(value, str | bool | int | float | list):
            raise RecipeError(f"{where}: streams.{key} = {value!r} must be a plain value, and no table.", path=path)
    listed = {"use": values["use"]} if isinstance(values, Mapping) and "use" in values else {}
    table = listed if isinstance(values, Mapping) else values
    changed: Streams = declare.with_table(current, "streams", table, where=where, path=path)
    return dataclasses.replace(
        changed,
        settings={**current.settings, **settings},
        is_chosen=current.is_chosen or bool(listed),
    )


def _codec_table(key: str, value: Any, where: str, path: Path | None) -> Mapping[str, Any]:
    rows = value.values() if key == "voices" and isinstance(value, Mapping) else [value]
    if not isinstance(value, Mapping) or not all(isinstance(row, Mapping) for row in rows):
        example = "[voices.bass]" if key == "voices" else "[sound]"
        raise RecipeError(f"{where}: {key!r} must be a table, written as {example}.", path=path)
    return value


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one: what the upper one says counts, key by key."""
    inner = {key: _laid_over(below[key], value) for key, value in above.items()
             if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)}  # fmt: skip
    return {**below, **above, **inner}


def _plain(value: Any) -> Any:
    """JSON values in which 3.0 is written 3, so that a digest does not depend on how a number was written."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
