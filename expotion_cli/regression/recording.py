"""Records a reference folder: renders of some clips as they are now, for later checks to compare with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import ClipError, ExpotionError, RefusedError, UnknownNameError, UsageError
from expotion_cli.recipe import Recipe, load_recipe
from expotion_cli.regression.measures import tolerances
from expotion_cli.regression.reference import (
    MANIFEST,
    RecordedClip,
    Reference,
    flat,
    read_reference,
    relative_to,
    write_clip,
    write_manifest,
)
from expotion_cli.regression.rendering import (
    Clip,
    Rendered,
    TimeLimit,
    inspect,
    machine_facts,
    refuse_equal_names,
    render,
    run_notes,
    settings_of,
)
from expotion_cli.scoring import playing
from expotion_cli.scoring.discover import Source, discover, listed
from expotion_cli.scoring.plan import check_writable
from expotion_cli.scoring.recorded import recipe_from
from expotion_cli.storage import expanded

if TYPE_CHECKING:
    from expotion_cli.music.model import Model
    from expotion_cli.vision.encoder import StreamSource

MODEL_OPTIONS = ("name", "adapter", "soundfont", "device", "dtype")


@dataclass(frozen=True)
class RecordingOptions:
    """How to render what is recorded; written into the manifest so that a check can do the same.

    Attributes:
        recipe: a shipped recipe's name or a path, as `recipe.load_recipe` takes it.
        flags: dotted recipe keys that override it.
        model: the arguments of `music.loading.load_model`, by name.
        features: folders of rows computed elsewhere, in place of the encoders of these names.
    """

    recipe: str
    flags: Mapping[str, Any]
    model: Mapping[str, Any]
    features: Sequence[StreamSource] = ()


def find_clips(inputs: Sequence[str | Path], folder: str | Path) -> tuple[list[Clip], list[ExpotionError]]:
    """Find and probe clips.

    Args:
        inputs: files, folders or glob patterns.
        folder: the reference folder, which is never searched.

    Returns:
        Clips sorted by name, and an error for each input that matched nothing or can't be read.

    Raises:
        UsageError: the reference folder is itself an input.
    """
    found = discover(inputs, out=folder)
    clips, problems = [], list(found.problems)
    for source in found.sources:
        try:
            clips.append(inspect(source))
        except ExpotionError as error:
            problems.append(error)
    return sorted(clips, key=lambda clip: clip.name), problems


def record(
    clips: Sequence[Clip],
    folder: str | Path,
    options: RecordingOptions,
    load: Callable[[], Model],
    *,
    overwrite: bool = False,
    on_stage: Callable[[str, str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Reference:
    """Render clips and write them as the reference of later checks.

    All or nothing: the manifest is written last, and only if every clip was rendered. Recording the same again writes
    the same bytes. A reference of other clips or settings is replaced only if that was asked for. Tolerances that stand
    in the old manifest stay.

    Args:
        clips: from `find_clips`.
        folder: the reference folder.
        options: recipe, flags and model.
        load: returns the model that `options` names; called once.
        overwrite: a reference of other clips or settings is replaced.
        on_stage: called with (clip name, stage) as each begins.
        on_note: called with each remark on the whole recording.

    Raises:
        ClipError: a clip can't be rendered.
        RefusedError: a reference of other clips or settings is there.
        UsageError: a setting is wrong, names collide, or the folder can't be written.
        EnvironmentProblem: the weights are missing or damaged.
    """
    folder = Path(folder)
    recipe = load_recipe(options.recipe).override(options.flags)
    playing.check_sound(recipe)
    refuse_equal_names(clips)
    old = _there(folder, overwrite)
    kept = None if overwrite else old
    if kept is not None:
        _refuse([*_other_clips(kept, clips), *_other_settings(kept, recipe, options)], kept)
    model = load()
    if kept is not None and (model.digest, model.codec.digest) != (kept.model["digest"], kept.model["codec"]):
        _refuse(["other weights or another soundfont"], kept)
    if on_note is not None:
        for note in run_notes(model, recipe, options.features):
            on_note(note)
    check_writable(folder)
    made: list[Rendered] = []
    rendering = render(clips, recipe, model, features=options.features, limit=TimeLimit(None), on_stage=on_stage)
    for _, outcome in rendering:
        if isinstance(outcome, ExpotionError):
            raise outcome
        made.append(outcome)
    return write(folder, recipe, options, model, made, old)


def write(
    folder: Path,
    recipe: Recipe,
    options: RecordingOptions,
    model: Model,
    made: Sequence[Rendered],
    old: Reference | None,
) -> Reference:
    """Write renders as the reference.

    Args:
        folder: the reference folder.
        recipe: they were made with.
        options: how that came about.
        model: that composed them.
        made: all clips of the reference.
        old: the reference that is replaced: its tolerances stay, files of clips that are gone are removed.

    Raises:
        OutputError: it can't be written.
    """
    clips = []
    for each in sorted(made, key=lambda rendered: rendered.clip.name):
        tokens, sound = write_clip(folder, each.clip.name, each.tokens, each.sound)
        clips.append(
            RecordedClip(
                name=each.clip.name,
                path=relative_to(folder, each.clip.info.path),
                sha256=each.clip.sha256,
                duration_s=round(float(each.clip.info.duration), 6),
                prompt=each.prompt,
                seed=each.seed,
                tempo=each.tempo,
                streams=each.streams,
                conditioning=each.conditioning,
                tokens=tokens,
                sound=sound,
                measured=each.measured,
            )
        )
    reference = Reference(
        folder=folder,
        recipe={
            "source": _source(options, folder),
            "flags": dict(options.flags),
            "fields": settings_of(recipe),
            **(
                {"features": [_place_of_features(each, folder) for each in options.features]}
                if options.features
                else {}
            ),
        },
        model={
            **_places(options, folder),
            "digest": model.digest,
            "codec": model.codec.digest,
            "licence": model.licence,
        },
        machine=machine_facts(model),
        clips=tuple(clips),
        tolerances=dict(old.tolerances) if old is not None else {},
    )
    write_manifest(reference, replaces=old.clips if old is not None else ())
    return reference


def _there(folder: Path, overwrite: bool) -> Reference | None:
    """The reference in a folder; a damaged one counts as none where it may be replaced."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return read_reference(folder)
    except UsageError as error:
        if overwrite:
            return None
        raise UsageError(error.reason, path=error.path, remedy="Restore it, or pass --overwrite.") from error


def _refuse(found: Sequence[str], old: Reference) -> None:
    if found:
        reason = f"a reference is there already, of {', '.join(found)}."
        raise RefusedError(reason, path=old.folder, remedy="Pass --overwrite to replace it, or another --to.")


def _other_clips(old: Reference, clips: Sequence[Clip]) -> Iterator[str]:
    before, now = ({clip.name: clip.sha256 for clip in those} for those in (old.clips, clips))
    if gone := before.keys() - now.keys():
        yield f"more clips ({listed(sorted(gone))})"
    if new := now.keys() - before.keys():
        yield f"fewer clips (not {listed(sorted(new))})"
    if changed := [name for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]:
        yield f"other versions of clips ({listed(changed)})"


def _other_settings(old: Reference, recipe: Recipe, options: RecordingOptions) -> Iterator[str]:
    before, now = old.recipe["source"], _source(options, old.folder)
    if before != now:
        yield f"another recipe ({_shown(before)}, now {_shown(now)})"
    was, is_now = flat(old.recipe["fields"]), flat(settings_of(recipe))
    apart = [key for key in dict.fromkeys([*was, *is_now]) if was.get(key) != is_now.get(key)]
    if told := [f"{key} {was.get(key)!r}, now {is_now.get(key)!r}" for key in apart]:
        yield f"other settings ({listed(told)})"
    places = _places(options, old.folder)
    for key in ("name", "adapter", "soundfont"):
        if (recorded := old.model.get(key)) != places[key]:
            yield f"another {'model' if key == 'name' else key} ({_shown(recorded)}, now {_shown(places[key])})"
    features = [_place_of_features(each, old.folder) for each in options.features]
    if old.recipe.get("features", []) != features:
        yield "other features"


def _shown(place: Any) -> str:
    if isinstance(place, list):
        return " and ".join(map(_shown, place))
    return "none" if place is None else str(next(iter(place.values())))


def recorded_model(reference: Reference) -> dict[str, Any]:
    """The arguments of `music.loading.load_model` that the reference was recorded with."""
    found = {key: _resolved(reference.model.get(key), reference.folder) for key in MODEL_OPTIONS}
    if found["soundfont"] is not None:
        found["soundfont"] = Path(found["soundfont"])
    return found


def recorded_features(reference: Reference) -> tuple[StreamSource, ...]:
    """The folders of features that the reference was recorded with."""
    from expotion_cli.vision.encoder import StreamSource

    return tuple(
        StreamSource(each["name"], folder=Path(_resolved(each["folder"], reference.folder)), rate_hz=each["rate_hz"])
        for each in reference.recipe.get("features", ())
    )


def recorded_recipe(reference: Reference) -> tuple[str, Recipe, tuple[str, ...]]:
    """The recipe a reference was recorded with, as it reads today.

    Returns:
        Its name or path, the recipe with the recorded flags laid over it, and notes. Where the file is gone the
        recorded settings take its place.

    Raises:
        RecipeError: the file is there, but wrong.
    """
    source = _resolved(reference.recipe["source"], reference.folder)
    try:
        if not _is_own(source) or Path(source).is_file():
            return source, load_recipe(source).override(reference.recipe["flags"]), ()
    except UnknownNameError:
        pass  # it was shipped once
    recipe = recipe_from(reference.recipe["fields"], Path(source).stem)
    return source, recipe, (f"the recipe {source} is gone: its recorded settings are used",)


def recorded_tolerances(reference: Reference, overrides: Mapping[str, float]) -> dict[str, Any]:
    """The table of tolerances with the manifest's limits and then these laid over it.

    Raises:
        UsageError: an unknown measure or a wrong limit, in the manifest or in `overrides`.
    """
    try:
        tolerances(reference.tolerances)
    except UsageError as error:
        raise UsageError(error.reason, path=reference.folder / MANIFEST, remedy=error.remedy) from None
    return tolerances(reference.tolerances, overrides)


def locate(
    reference: Reference, where: Sequence[str | Path]
) -> tuple[dict[str, Clip], dict[str, ClipError], list[str]]:
    """Find the recorded clips by their content, at their recorded paths and among other files.

    Args:
        reference: names the clips.
        where: files, folders or patterns in which to look first.

    Returns:
        The clips by recorded name, what went wrong by recorded name, and files that belong to no recorded clip.
    """
    given, unfound = find_clips(where, reference.folder) if where else ([], [])
    by_content = {clip.sha256: clip for clip in given}
    clips: dict[str, Clip] = {}
    problems: dict[str, ClipError] = {}
    for recorded in reference.clips:
        own = Path(os.path.normpath(reference.folder / recorded.path))
        if recorded.sha256 in by_content:
            found = by_content[recorded.sha256]
        elif own.is_file():
            try:
                found = inspect(Source(own, Path(recorded.name)))
            except ClipError as error:
                problems[recorded.name] = error
                continue
        else:
            problems[recorded.name] = ClipError(
                "the clip is not where it was recorded from.",
                path=own,
                remedy=f"Put it back; if it moved, name its new place: expotion regress check {reference.folder} CLIPS",
            )
            continue
        if found.sha256 != recorded.sha256:
            problems[recorded.name] = ClipError(
                f"the clip has changed since it was recorded (sha256 {recorded.sha256[:12]} → {found.sha256[:12]}).",
                path=own,
                remedy="Restore it, or record again: expotion regress record.",
            )
            continue
        clips[recorded.name] = Clip(recorded.name, found.info, found.sha256)
    known = {recorded.sha256 for recorded in reference.clips}
    unknown = [str(clip.info.path) for clip in given if clip.sha256 not in known]
    return clips, problems, [*map(str, unfound), *(f"{path}: no clip of the reference" for path in unknown)]


def _is_own(recipe: str) -> bool:
    return recipe.endswith(".toml") or "/" in recipe or "\\" in recipe


def _source(options: RecordingOptions, folder: Path) -> dict[str, str]:
    return _place(options.recipe, folder, is_path=_is_own(options.recipe))


def _places(options: RecordingOptions, folder: Path) -> dict[str, Any]:
    return {key: _place_of_option(key, options.model.get(key), folder) for key in MODEL_OPTIONS}


def _place_of_features(source: StreamSource, folder: Path) -> dict[str, Any]:
    return {
        "name": source.name,
        "folder": _place(str(source.folder), folder, is_path=True),
        "rate_hz": source.rate_hz,
    }


def _place_of_option(key: str, value: Any, folder: Path) -> Any:
    if value is None or key in ("device", "dtype"):
        return value
    if isinstance(value, list):
        return [_place_of_option(key, each, folder) for each in value]
    from expotion_cli.weights.manifest import read_manifests

    text = str(value)
    is_name = key == "name" and text in read_manifests()
    return _place(text, folder, is_path=not is_name and expanded(text).exists())


def _place(text: str, folder: Path, *, is_path: bool) -> dict[str, str]:
    """A name, or a path that holds wherever the reference folder and what it names are moved together."""
    return {"path": relative_to(folder, expanded(text))} if is_path else {"name": text}


def _resolved(place: Any, folder: Path) -> Any:
    if isinstance(place, list):
        return [_resolved(each, folder) for each in place]
    if not isinstance(place, Mapping):
        return place
    return str(folder / place["path"]) if "path" in place else place["name"]
