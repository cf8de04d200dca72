"""Which embedding streams are encoded for a model and a recipe, and what the music goes without."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import ExpotionError, RecipeError, UnknownNameError, UsageError, WeightsError
from expotion_cli.recipe import NO_FOLLOW, Recipe
from expotion_cli.storage import parse_json, read_text

if TYPE_CHECKING:
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.music.model import Model
    from expotion_cli.vision.encoder import StreamSource

_SHOWN = {"pose": "body", "flow": "motion"}
"""What users call what a stream tells of."""
_NO_ENCODER = "no encoder here gives {}"
_LEFT_OUT = "--streams or the recipe leaves {} out"
_CANNOT = "this machine can't see {}, and expotion doctor says why"
FALLBACK_STREAM = "flow"
"""Needs nobody in the picture, and no system library."""


@dataclass(frozen=True)
class Needs:
    """What a model takes from the picture.

    Attributes:
        streams: name → dimensions of each embedding stream that its adapter reads; empty without an adapter.
        follows_tempo: it also takes its tempo from the motion.
        takes_melody: it plays a tune that it is given; None where that is not known.
        has_melodist: another model composes its tunes, at the tempo of the motion.
    """

    streams: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    follows_tempo: bool = False
    takes_melody: bool | None = field(default=None, compare=False)
    has_melodist: bool = False

    @property
    def has_tempo(self) -> bool:
        """Whether its music takes a tempo from the motion: its own, or its melodist's."""
        return self.follows_tempo or self.has_melodist

    @property
    def anything(self) -> bool:
        """Whether anything of the picture can reach the music."""
        return bool(self.streams) or self.has_tempo


@dataclass(frozen=True)
class StreamChoice:
    """Which streams of the clips will be encoded.

    Attributes:
        sources: names, or names with settings or a folder of rows computed elsewhere.
        notes: what is missing and how to get it; printed once a run.
        remarks: why it is these streams; printed once a run.
        missing: names of streams that were asked for and can't be encoded here.
    """

    sources: tuple[str | StreamSource, ...]
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the streams."""
        return tuple(source if isinstance(source, str) else source.name for source in self.sources)


def needs_of(model: Model | ModelIdentity) -> Needs:
    """What a model takes from the picture: a loaded one, or one that is known without being loaded."""
    from expotion_cli.music.identity import ModelIdentity, stream_dims

    if isinstance(model, ModelIdentity):
        return Needs(model.stream_dims, model.follows_tempo, model.takes_melody, model.melodist is not None)
    has_melodist = getattr(model, "melodist", None) is not None
    return Needs(stream_dims(model), model.codec.follows_tempo, getattr(model, "takes_melody", False), has_melodist)


def needs_ahead(
    name: str, adapter: str | Path | Sequence[str | Path] | None = None, melody: str | None = None
) -> Needs | None:
    """What a model will take from the picture, by its small files alone, so that seeing can begin while it is loaded.

    Args:
        name: of the model, or its path, as `music.load.load_model` takes it.
        adapter: likewise.
        melody: likewise.

    Returns:
        None where the files don't tell; loading them will say why.
    """
    from expotion_cli.weights.manifest import find_manifest, read_manifests

    given = [adapter] if isinstance(adapter, str | Path) else adapter or []
    from expotion_cli.music.identity import MELODIST

    try:
        folder, own = Path(name), None
        if name in read_manifests() or not folder.exists():
            manifest = find_manifest(name, "music")
            folder, own = manifest.folder or folder, manifest.adapter
        if not folder.exists():
            return None
        settings = folder / "config.json"  # audiocraft's files have none
        config = parse_json(read_text(settings)) if settings.is_file() else {}
        read = [found for path in given if (found := _reads(Path(path))) is not None]
        streams = read[0] if read else (_reads(own) if own is not None else None)
        takes_melody = config.get("model_type") == "musicgen_melody" if config else None
        own_needs = Needs(streams or {}, config.get("codec") == "notes", takes_melody)
        if melody is None or (theirs := needs_ahead(MELODIST)) is None:
            return own_needs
        return replace(own_needs, streams={**theirs.streams, **own_needs.streams}, has_melodist=True)
    except (ExpotionError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _reads(adapter: Path) -> dict[str, tuple[str, ...]] | None:
    """The streams an adapter reads; None for LoRAs."""
    if str(adapter) == "none":
        return {}
    if adapter.is_file():
        from expotion_cli.music.checkpoints.adapter_files import released_streams

        return {spec.name: spec.dims for spec in released_streams(adapter)}
    from expotion_cli.music.identity import LARGEST_WIDTH

    values = parse_json(read_text(adapter / "adapter_config.json"))
    if "streams" not in values:
        return None
    return {
        str(stream["name"]): tuple(
            stream["dims"] if "dims" in stream else map(str, range(min(stream["width"], LARGEST_WIDTH)))
        )
        for stream in values["streams"]
    }


def streams_for(recipe: Recipe, needs: Needs | None = None, features: Iterable[StreamSource] = ()) -> StreamChoice:
    """Which streams to encode for a recipe and a model.

    What a recipe or a flag lists is encoded. Where nothing is listed, it is what the adapter reads, with the recipe's
    default streams where the tempo or the follow layer follows the picture. Where nothing of the picture can reach the
    music, none is.

    Args:
        recipe: with all flags laid over it.
        needs: what the model takes from the picture, if that is known.
        features: folders of rows computed elsewhere, in place of the encoders of these names.

    Raises:
        RecipeError: a setting of an encoder is wrong.
        UnknownNameError: no encoder of that name.
        UsageError: a folder of features is missing or empty.
        WeightsError: an encoder that was asked for is not fetched.
    """
    from expotion_cli.vision.encoder import REGISTRY, StreamSource

    settings = encoder_settings(recipe)
    folders = {source.name: source for source in features}
    names = tuple(dict.fromkeys((*recipe.streams.use, *folders)))
    remarks: list[str] = []
    follows = recipe.follow.mode != NO_FOLLOW
    if needs is not None and not (needs.anything or follows):
        return StreamChoice(())
    if needs is not None and not recipe.streams.is_chosen:
        steered = recipe.generate.visual_guidance > 0
        reads = [name for name in needs.streams if steered and (name in REGISTRY or name in folders)]
        own = tuple(dict.fromkeys((*(names if needs.has_tempo or follows else ()), *reads)))
        if own and set(own) != set(names):
            rule = "as nothing else is listed by --streams or by [streams] use in the recipe"
            remarks.append(f"the streams are those that the adapter reads ({', '.join(own)}), {rule}")
        names = own
    read = needs.streams if needs is not None else {}
    unread = [name for name in folders if read and name not in read]
    remarks += [f"the adapter does not read {name}; it reads {' and '.join(_encoded(read))}" for name in unread]
    sources = [
        replace(folders[name], dims=read.get(name) or None)
        if name in folders
        else StreamSource(name, settings[name])
        if name in settings
        else name
        for name in names
    ]
    choice = choose_streams(sources)
    if recipe.streams.is_chosen:
        _require_fetched(choice, names)
    return replace(choice, remarks=tuple(remarks))


def _require_fetched(choice: StreamChoice, names: Iterable[str]) -> None:
    """Refuse to go on without an encoder that was asked for by name and is only not fetched.

    Raises:
        WeightsError: its files are not here, though `expotion fetch` gets them.
    """
    from expotion_cli.weights.manifest import read_manifests

    for name in (name for name in names if name in choice.missing):
        manifest = read_manifests().get(name)
        if manifest is not None and any(not file.path.is_file() for file in manifest.files):
            raise WeightsError(
                f"the encoder {name} is not fetched.",
                remedy=f"Run: expotion fetch {name}, or leave {name} out of --streams.",
            )


def encoder_settings(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The keys of a recipe's `[streams]` that are settings of encoders (`pose_model`), by encoder.

    Raises:
        RecipeError: no encoder has such a setting, or not such a value.
    """
    if not recipe.streams.settings:
        return {}
    from expotion_cli.vision.encoder import REGISTRY, StreamSource, encoder_class, make_encoder

    known = {
        f"{name}_{setting}": (name, setting)
        for name in REGISTRY
        for setting, parameter in inspect.signature(encoder_class(name)).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    found: dict[str, dict[str, Any]] = {}
    for key, value in recipe.streams.settings.items():
        if key not in known:
            keys = ["streams.use", *(f"streams.{each}" for each in known)]
            raise RecipeError(
                f"recipe: unknown key 'streams.{key}'{nearest_hint(f'streams.{key}', keys)}.",
                path=recipe.path,
                remedy=f"Known keys: {', '.join(keys)}.",
            )
        name, setting = known[key]
        try:
            make_encoder(StreamSource(name, {setting: value}))
        except (TypeError, ValueError, UsageError) as error:
            reason = error.reason if isinstance(error, UsageError) else str(error)
            raise RecipeError(f"recipe: streams.{key} = {value!r}: {reason.rstrip('.')}.", path=recipe.path) from None
        found.setdefault(name, {})[setting] = value
    return found


def choose_streams(sources: Iterable[str | StreamSource]) -> StreamChoice:
    """Which of the wanted streams can be had on this machine; `flow` stands in when none of them can.

    Raises:
        UnknownNameError: no encoder of that name.
        UsageError: a folder of features is missing or empty.
    """
    sources = tuple(sources)
    if not sources:
        return StreamChoice(())
    from expotion_cli.vision import precomputed
    from expotion_cli.vision.encoder import REGISTRY

    chosen = []
    # Several encoders often miss the same library: say each reason once.
    reasons: dict[str, list[str]] = {}
    for source in sources:
        name = source if isinstance(source, str) else source.name
        if not isinstance(source, str) and source.folder is not None:
            precomputed.check_folder(source)
        elif name not in REGISTRY:
            raise UnknownNameError(
                f"No embedding stream is called {name!r}{nearest_hint(name, REGISTRY)}.",
                remedy=f"Streams: {', '.join(REGISTRY)}; features computed elsewhere: --streams {name}=FOLDER.",
            )
        elif (reason := _unavailable(source)) is not None:
            reasons.setdefault(reason, []).append(name)
            continue
        chosen.append(source)
    notes = [f"{' and '.join(missing)} left out: {reason}" for reason, missing in reasons.items()]
    missing = tuple(name for names in reasons.values() for name in names)
    return StreamChoice(tuple(chosen) or (FALLBACK_STREAM,), tuple(notes), missing=missing)


def _encoded(streams: Iterable[str]) -> list[str]:
    from expotion_cli.music.conditioning import MADE_HERE

    return [name for name in streams if name not in MADE_HERE]


def _unavailable(source: str | StreamSource) -> str | None:
    from expotion_cli.vision.encoder import make_encoder

    return make_encoder(source).unavailable()


def missing_streams(identity: ModelIdentity, choice: StreamChoice, recipe: Recipe) -> tuple[str, ...]:
    """What to say once a run if the picture, or a part of it that the adapter reads, cannot reach the music.

    An adapter goes on without a stream (it has a learned row in its place), so nobody would notice.

    Returns:
        Notes; none where the adapter gets all it reads, or where the recipe asks for no streams or no visual guidance.
    """
    from expotion_cli.vision.encoder import REGISTRY

    if not recipe.streams.use or recipe.generate.visual_guidance == 0:
        return ()
    if not identity.streams:
        return (f"{identity.name} has no adapter for the picture. {_what_follows(identity, recipe)}",)
    gets_nothing = not set(identity.streams) & set(choice.names)
    reasons: dict[str, list[str]] = {}
    for name in (name for name in identity.streams if name not in choice.names):
        if name not in REGISTRY:
            reasons.setdefault(_NO_ENCODER, []).append(name)
        elif name not in choice.missing:
            reasons.setdefault(_LEFT_OUT, []).append(name)
        elif gets_nothing:  # else the choice's own note says enough
            reasons.setdefault(_CANNOT, []).append(name)
    if not reasons:
        return ()
    missing = "; nor ".join(
        f"{_listed([_SHOWN.get(name, name) for name in names])}: {reason.format('them' if len(names) > 1 else 'it')}"
        for reason, names in reasons.items()
    )
    rest = f" {_what_follows(identity, recipe)}" if gets_nothing else ""
    return (f"The music won't follow {missing}.{rest}",)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def missing_in_clip(
    identity: ModelIdentity, choice: StreamChoice, seen: Iterable[str], recipe: Recipe
) -> tuple[str, ...]:
    """What to say of a clip where all that the adapter reads found nobody.

    Args:
        identity: of the model that composes.
        choice: which streams were encoded.
        seen: names of the streams that found somebody, stand-ins among them.
        recipe: with all flags laid over it.
    """
    reads = set(identity.streams)
    if recipe.generate.visual_guidance == 0 or not reads & set(choice.names) or reads & set(seen):
        return ()
    return (f"Nobody was found in the picture. {_what_follows(identity, recipe)}",)


def _what_follows(identity: ModelIdentity, recipe: Recipe) -> str:
    following = ("the tempo",) if identity.has_tempo else ()
    if recipe.follow.mode != NO_FOLLOW:
        following = (*following, "the follow layer")
    if not following:
        return "The picture plays no part."
    return f"Only {' and '.join(following)} {'follow' if len(following) > 1 else 'follows'} the picture."
