"""Lists clips to train on: folders of videos and music, and the list format of EXPOTION's authors.

In a folder, files with the same stem belong together: `take.mp4` and `take.wav` are one performance with its music. A
video alone brings its own sound track; a sound file alone is music without a picture. Captions are in `take.txt`, in
`take.json` ({"caption": ..., "track": ..., "person": ...}), or in a `captions.json` of the same folder or one above
({stem: caption, or such a table}). What is not stated follows these rules:

- The *track* is what the sound is: clips that share a recording are found by `fingerprint`.
- The *person* is the top-level folder, if there are at least two of them; else unknown.

A list has one clip a line, `features|tokens|{'audio_id': ..., 'caption': ...}`; `audio_id` is the track.
"""

from __future__ import annotations

import ast
import os
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from expotion_cli.errors import ClipError, ExpotionError, UsageError, reading
from expotion_cli.media.sound import SOUND_SUFFIXES, lacks_sound
from expotion_cli.scoring.discover import looks_like_video
from expotion_cli.scoring.naming import VIDEO_SUFFIXES
from expotion_cli.storage import read_json, read_text

LARGEST_TABLE_BYTES = 64 << 20
LARGEST_CAPTION_BYTES = 1 << 20

CAPTIONS_FILE = "captions.json"
LIST_SUFFIXES = (".txt", ".lst", ".list", ".csv")
TEMPLATE_FIELDS = ("stem", "folder")
_LONGEST_LINE = 1 << 16
_PERSON_KEYS = ("person", "person_id", "performer")


@dataclass(frozen=True)
class ClipSource:
    """One clip to prepare.

    Attributes:
        name: unique in its data folder: the path below the folder given, without suffix.
        music: file with its sound; None where tokens are given.
        video: file with its picture, or None.
        tokens: file with its tokens [K, S], or None.
        features: file with its embedding [T, D], or None.
        caption: may be empty.
        track: stated name of the music, or "".
        person: stated name of the person in the picture, or "".
    """

    name: str
    music: Path | None = None
    video: Path | None = None
    tokens: Path | None = None
    features: Path | None = None
    caption: str = ""
    track: str = ""
    person: str = ""

    @property
    def path(self) -> Path:
        """The file that messages name."""
        found = self.video or self.music or self.tokens
        assert found is not None
        return found


@dataclass(frozen=True)
class Listing:
    """The clips that were found.

    Attributes:
        clips: sorted by name.
        problems: files that can't be used, and why.
    """

    clips: tuple[ClipSource, ...]
    problems: tuple[ExpotionError, ...]


def find_clips(path: str | Path, *, caption: str = "", root: Path | None = None, out: Path | None = None) -> Listing:
    """List the clips of a folder or of a list file.

    Args:
        path: a folder, or a list file.
        caption: template for clips without a caption; may hold {stem} and {folder}.
        root: where a list's relative paths begin; the list's own folder by default.
        out: a folder that is not searched.

    Raises:
        UsageError: the path does not exist, holds no clips, or the template has an unknown field.
    """
    path = Path(path)
    _check_template(caption)
    if path.is_dir():
        found = _find_in_folder(path, caption, out)
    elif path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        found = _read_list(path, caption, root or path.parent)
    elif path.is_file():
        raise UsageError("it is neither a folder nor a list.", path=path, remedy="Give a folder, or a .txt list.")
    else:
        raise UsageError("there is no such folder or list.", path=path, remedy="Check the path.")
    if not found.clips and not found.problems:
        raise UsageError("it holds no clips.", path=path, remedy="Give a folder with videos or sound files.")
    return found


def _check_template(template: str) -> None:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UsageError(f"--caption {template!r} can't be read ({error}).", remedy="Write {{ for a brace.") from error
    if unknown := [name for name in fields if name not in TEMPLATE_FIELDS]:
        raise UsageError(
            f"--caption has the unknown field {{{unknown[0]}}}.", remedy="Known fields: {stem} and {folder}."
        )


def _find_in_folder(folder: Path, template: str, out: Path | None) -> Listing:
    by_stem: dict[Path, dict[str, list[Path]]] = {}
    for path in _walk(folder, out.resolve() if out is not None else None):
        kind = _kind(path)
        if kind:
            by_stem.setdefault(path.relative_to(folder).with_suffix(""), {}).setdefault(kind, []).append(path)
    folders = {name.parts[0] for name in by_stem if len(name.parts) > 1}
    captions = _SidecarFiles(folder)
    clips: list[ClipSource] = []
    problems: list[ExpotionError] = []
    for name, files in sorted(by_stem.items()):
        sounds, videos = files.get("sound", []), files.get("video", [])
        try:
            if max(len(sounds), len(videos)) > 1:
                twins = " and ".join(path.name for path in (videos if len(videos) > 1 else sounds)[:2])
                raise ClipError(
                    f"{twins} have the same name.", path=(videos or sounds)[0], remedy="Rename one of them."
                )
            video = videos[0] if videos else None
            if video is not None and not sounds and lacks_sound(video):
                raise ClipError(
                    "the video has no music.",
                    path=video,
                    remedy=f"Put its music beside it, as {video.stem}.wav for instance.",
                )
            person = name.parts[0] if len(name.parts) > 1 and len(folders) > 1 else ""
            clip = ClipSource(name.as_posix(), sounds[0] if sounds else video, video, person=person)
            clips.append(captions.annotate(clip, name, template))
        except ClipError as error:
            problems.append(error)
    return Listing(tuple(clips), tuple(problems))


def _walk(folder: Path, out: Path | None) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (here / name).resolve() != out)
        yield from (here / name for name in sorted(files) if not name.startswith(".") and (here / name).is_file())


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in SOUND_SUFFIXES:
        return "video" if suffix == ".ogg" and looks_like_video(path) else "sound"
    return "video" if suffix in VIDEO_SUFFIXES or looks_like_video(path) else None


class _SidecarFiles:
    """Captions, tracks and persons from files beside the clips."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.tables: dict[Path, dict[str, Any]] = {}

    def annotate(self, clip: ClipSource, name: Path, template: str) -> ClipSource:
        """The clip with its caption, track and person; the nearest file decides."""
        own = self.folder / name
        said: dict[str, Any] = {}
        for above in reversed([name.parent, *name.parent.parents]):
            table = self._table(self.folder / above / CAPTIONS_FILE)
            for key in (name.name, name.relative_to(above).as_posix(), clip.path.name):
                said |= _as_table(table.get(key), self.folder / above / CAPTIONS_FILE)
        beside = own.with_name(own.name + ".json")
        if beside.is_file():
            said |= _as_table(_read_json(beside), beside)
        text = own.with_name(own.name + ".txt")
        if text.is_file():
            with reading(text, "its caption", also=(ValueError,)):
                said["caption"] = read_text(text, LARGEST_CAPTION_BYTES)
        folder = name.parent.name or self.folder.resolve().name
        words = " ".join(str(said.get("caption") or "").split()) or template.format(stem=name.name, folder=folder)
        return replace(
            clip, caption=words, track=str(said.get("track") or ""), person=str(said.get("person") or clip.person)
        )

    def _table(self, path: Path) -> dict[str, Any]:
        if path not in self.tables:
            self.tables[path] = _read_json(path) if path.is_file() else {}
        return self.tables[path]


def _read_json(path: Path) -> dict[str, Any]:
    values = read_json(path, remedy="Correct or remove it.", most_bytes=LARGEST_TABLE_BYTES)
    if not isinstance(values, dict):
        raise UsageError("it does not hold a JSON object.", path=path, remedy='Write {"clip": "caption"}.')
    return values


def _as_table(value: Any, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {"caption": value}
    if isinstance(value, dict):
        return {key: value[key] for key in ("caption", "track", "person") if value.get(key) is not None}
    raise UsageError(f"{value!r} is not a caption.", path=path, remedy='Write "text", or {"caption": "text"}.')


def _read_list(path: Path, template: str, root: Path) -> Listing:
    with reading(path, "the list", error=UsageError, also=(ValueError,)):
        lines = read_text(path, LARGEST_TABLE_BYTES).splitlines()
    clips: list[ClipSource] = []
    problems: list[ExpotionError] = []
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                clip = _read_line(line, root, template)
                if clip.name in names:  # the same tokens with other features, or a repeated line
                    clip = replace(clip, name=f"{clip.name}#{number}")
                names.add(clip.name)
                clips.append(clip)
            except ValueError as error:
                remedy = "Write features|tokens|{'audio_id': ..., 'caption': ...}."
                problems.append(ClipError(f"line {number}: {error}.", path=path, remedy=remedy))
    return Listing(tuple(clips), tuple(problems))


def _read_line(line: str, root: Path, template: str) -> ClipSource:
    """Read one line of a list; the dict is parsed as a literal, nothing in it is executed."""
    if len(line) > _LONGEST_LINE:
        raise ValueError("it is too long")
    parts = line.strip().split("|", 2)
    if len(parts) != 3 or not parts[1].strip():
        raise ValueError("it does not have three fields separated by |")
    try:
        about = ast.literal_eval(parts[2].strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("its last field is not a dict of plain values") from error
    if not isinstance(about, dict):
        raise ValueError("its last field is not a dict")
    features, tokens = (_resolve(part.strip(), root) for part in parts[:2])
    assert tokens is not None
    caption = " ".join(str(about.get("caption") or "").split())
    return ClipSource(
        name=tokens.stem,
        tokens=tokens,
        features=features,
        caption=caption or template.format(stem=tokens.stem, folder=tokens.parent.name),
        track=str(about.get("audio_id") or ""),
        person=str(next((about[key] for key in _PERSON_KEYS if about.get(key)), "")),
    )


def _resolve(text: str, root: Path) -> Path | None:
    if not text or text.lower() == "none":
        return None
    path = Path(text)
    return path if path.is_absolute() else root / path
