"""Input of an evaluation: clips, sets of music made for them, and which output belongs to which clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from expotion_cli.errors import ClipError, DecodeError, ExpotionError, UsageError
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import SOUND_SUFFIXES, read_clip_sound, read_sound
from expotion_cli.prompts import read_prompts
from expotion_cli.recipe import load_recipe
from expotion_cli.recipe_files import shipped_recipes
from expotion_cli.scoring.discover import Source, discover
from expotion_cli.scoring.naming import VIDEO_SUFFIXES
from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.scoring.takes.layout import FOLDER_SUFFIX
from expotion_cli.tags import TAGS, tags_in

SAMPLE_RATE = 48_000
FILE, PICTURE = "file", "picture"
OTHER_LENGTH_S = 0.25


@dataclass(frozen=True)
class Output:
    """One file of a set.

    Attributes:
        clip: name of the clip it was made for.
        path: the file.
    """

    clip: str
    path: Path


@dataclass(frozen=True)
class Outputs:
    """A set of outputs, as found.

    Attributes:
        name: of the set.
        files: by clip name.
        notes: what was left out, as text.
    """

    name: str
    files: dict[str, Output]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cue:
    """The music of one clip, on the picture's clock.

    Attributes:
        clip: the clip's name.
        audio: [2, n] float32 at `SAMPLE_RATE`; sample 0 sounds with the first picture.
        seed: distinguishes takes of one clip.
        midi: its notes, if there is a MIDI file.
        prompt: that it was made from, if known.
        tags: of the style it should have, of `tags.TAGS`.
    """

    clip: str
    audio: np.ndarray
    seed: int = 0
    midi: bytes | None = None
    prompt: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.audio.shape[1] / SAMPLE_RATE

    @property
    def is_silent(self) -> bool:
        """Nothing above -60 dBFS."""
        return not self.audio.size or float(np.abs(self.audio).max()) < 1e-3


@dataclass(frozen=True)
class MusicSet:
    """Music made in one way for several clips.

    Attributes:
        name: of the set.
        cues: at least one.
        notes: remarks for the user.
    """

    name: str
    cues: tuple[Cue, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def clips(self) -> tuple[str, ...]:
        """Names of its clips, each once."""
        return tuple(dict.fromkeys(cue.clip for cue in self.cues))


def find_clips(inputs: Sequence[str | Path]) -> tuple[dict[str, Source], list[ExpotionError]]:
    """Clips by name, and an error for each input without clips.

    A clip's name is its path inside the folder given, without the suffix unless another clip differs in it alone: as
    results are named (`naming.renamed`).

    Raises:
        UsageError: two clips have the same name.
    """
    # Discovery skips its output folder; an evaluation writes none, so the name is one that nobody has.
    found = discover(inputs, out=Path(".expotion-writes-nothing"))
    clips: dict[str, Source] = {}
    for source in found.sources:
        name = source.relative.as_posix() if source.shares_stem else _name(source.relative)
        if name in clips:
            raise UsageError(
                f"{clips[name].path} and {source.path} are both the clip {name!r}.", remedy="Give one folder of clips."
            )
        clips[name] = source
    return clips, list(found.problems)


def find_outputs(name: str, folder: str | Path, clips: Iterable[str]) -> Outputs:
    """Match a folder's files to clips: by their path inside it, else by their stem where that is unambiguous.

    Args:
        name: of the set.
        folder: scored videos or sound files, also in subfolders.
        clips: names.

    Raises:
        UsageError: it is not a folder, or two files belong to one clip.
    """
    folder, names = Path(folder), tuple(clips)
    if not folder.is_dir():
        raise UsageError("there is no such folder of outputs.", path=folder, remedy="Give --outputs NAME=FOLDER.")
    by_stem: dict[str, list[str]] = {}
    for clip in names:
        by_stem.setdefault(PurePath(clip).name, []).append(clip)
    files: dict[str, Output] = {}
    unmatched: list[str] = []
    for path in _media_files(folder):
        own = _name(path.relative_to(folder))
        stems = by_stem.get(PurePath(own).name, [])
        match = own if own in names else stems[0] if len(stems) == 1 else None
        if match is None:
            unmatched.append(path.name)
        elif match in files:
            raise UsageError(
                f"{files[match].path.name} and {path.name} are both outputs of {match}.",
                path=folder,
                remedy="Keep one of them in the folder.",
            )
        else:
            files[match] = Output(match, path)
    notes = []
    if unmatched:
        notes.append(f"{name}: no clip for {_list(unmatched)}: left out")
    lacking = [clip for clip in names if clip not in files]
    if lacking and files:
        notes.append(f"{name}: no output for {_list(lacking)}: measured on the other {len(files)}")
    return Outputs(name, files, tuple(notes))


def sound_files(folder: Path, clips: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """The files of a folder of sound, each with the name of its clip, or with its own."""
    names = set(clips)
    stems = {PurePath(name).name: name for name in names}
    for path in _media_files(folder):
        own = _name(path.relative_to(folder))
        yield path, own if own in names else stems.get(PurePath(own).name, own)


def read_reference(
    folder: Path, clips: Mapping[str, ClipInfo], failures: list[ExpotionError], *, zero: str | None = None
) -> MusicSet:
    """Read a folder of sound as the set that others are held to.

    Args:
        folder: sound files or videos, also in subfolders; they need not belong to the clips.
        clips: by name.
        failures: gets an error for each file that can't be read.
        zero: files that belong to a clip are laid on its clock, see `read_cue`; None reads all from their beginning.

    Raises:
        ClipError: nothing in it could be read.
    """
    cues = []
    for path, name in sound_files(folder, clips):
        try:
            if zero is not None and name in clips:
                cues.append(read_cue(Output(name, path), clips[name], zero=zero)[0])
            else:
                cues.append(Cue(name, read_sound(path, SAMPLE_RATE)))
        except ExpotionError as error:
            failures.append(error)
    if not cues:
        raise ClipError("the reference holds no sound that can be read.", path=folder, remedy="Check --reference.")
    return MusicSet(folder.name or str(folder), tuple(cues))


def own_sound(name: str, clips: Mapping[str, ClipInfo]) -> Outputs:
    """The clips' own sound tracks as a set, to measure scored videos alone."""
    files = {clip: Output(clip, info.path) for clip, info in clips.items() if info.audio is not None}
    silent = [clip for clip in clips if clip not in files]
    notes = (f"{name}: no sound in {_list(silent)}: left out",) if silent and files else ()
    return Outputs(name, files, notes)


def read_cue(
    output: Output, clip: ClipInfo, *, zero: str = FILE, prompt: str | None = None
) -> tuple[Cue, tuple[str, ...]]:
    """Read an output's sound onto its clip's clock.

    Args:
        output: the file.
        clip: what it belongs to.
        zero: what a sound file's first sample belongs to: the clip file's time 0 (`FILE`, as if both were played from
            the start; some clips' pictures begin later than that), or the first frame (`PICTURE`). A video's sound is
            aligned by its own time stamps.
        prompt: that it was made from, where its sidecar does not say.

    Returns:
        The cue, and remarks for the user.

    Raises:
        ClipError: it can't be read.
    """
    notes = []
    if output.path.suffix.lower() in SOUND_SUFFIXES:
        skip_s = float(clip.start) if zero == FILE else 0.0
        audio = read_sound(output.path, SAMPLE_RATE, max_s=float(clip.duration) + max(skip_s, 0.0) + 2)
        first = round(skip_s * SAMPLE_RATE)
        audio = audio[:, first:] if first >= 0 else np.pad(audio, ((0, 0), (-first, 0)))
    else:
        info = clip if output.path == clip.path else probe(output.path)
        if info.audio is None:
            raise DecodeError("it has no sound.", path=output.path, remedy="Score it again.")
        audio = read_clip_sound(info, SAMPLE_RATE)
    apart = audio.shape[1] / SAMPLE_RATE - float(clip.duration)
    if abs(apart) > OTHER_LENGTH_S:
        longer = "2 s or more longer" if apart > 1.9 else f"{abs(apart):.1f} s {'longer' if apart > 0 else 'shorter'}"
        notes.append(f"{output.path.name} is {longer} than its clip: only the part they have in common is compared")
    audio = audio[:, : round(float(clip.duration) * SAMPLE_RATE)]
    if not audio.shape[1]:
        raise DecodeError("its sound ends before the picture begins.", path=output.path, remedy="See --sound-starts.")
    midi, sidecar = output.path.with_suffix(".mid"), read_sidecar(output.path) or {}
    prompt = _sidecar_prompt(sidecar) or prompt
    cue = Cue(
        output.clip,
        audio,
        midi=midi.read_bytes() if midi.is_file() else None,
        prompt=prompt,
        tags=_recipe_tags(sidecar) or tags_in(prompt or ""),
    )
    if cue.is_silent:
        notes.append(f"{output.path.name} is silent: it counts as music that follows nothing")
    return cue, tuple(notes)


def clip_prompts(path: str | Path) -> dict[str, str]:
    """Prompts by clip name from a JSON file; its clip names may have a suffix.

    Raises:
        UsageError: the file can't be read, or is not a table of texts.
    """
    found = read_prompts(path)
    return {_name(PurePath(name)): text for name, text in found.items()} | found


def known_prompts(given: str | Path | None, folders: Iterable[Path]) -> dict[str, str]:
    """Prompts from a file, or from the first folder that holds a `captions.json`."""
    if given is not None:
        return clip_prompts(given)
    for folder in folders:
        if (folder / "captions.json").is_file():
            return clip_prompts(folder / "captions.json")
    return {}


def _sidecar_prompt(sidecar: Mapping[str, Any]) -> str | None:
    prompt = sidecar.get("prompt")
    return prompt if isinstance(prompt, str) and prompt.strip() else None


def _recipe_tags(sidecar: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags of the recipe that a sidecar tells of: those it states, or those of the shipped recipe it names."""
    recipe = sidecar.get("recipe")
    if not isinstance(recipe, Mapping):
        return ()
    stated, name = recipe.get("tags"), recipe.get("name")
    if stated is None and (path := shipped_recipes().get(str(name))) is not None:
        return load_recipe(path).tags
    return tuple(tag for tag in stated if tag in TAGS) if isinstance(stated, list) else ()


def _media_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        # Takes that were kept beside a result are no results.
        hidden = any(part.startswith(".") or part.endswith(FOLDER_SUFFIX) for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in SOUND_SUFFIXES | VIDEO_SUFFIXES and path.is_file():
            yield path


def _name(relative: PurePath) -> str:
    is_media = relative.suffix.lower() in SOUND_SUFFIXES | VIDEO_SUFFIXES
    return (relative.with_suffix("") if is_media else relative).as_posix()


def _list(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def no_matching_file(path: str | Path) -> ClipError:
    """The error for a set in which no file belongs to a clip."""
    return ClipError(
        "no file in it belongs to one of the clips.", path=path, remedy="Name outputs like their clips: a.mp4, a.m4a."
    )
