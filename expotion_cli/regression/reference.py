"""The reference folder: one manifest, and each clip's tokens and sound beside it.

It is meant to be committed: paths are relative to the folder, nothing in it depends on time or place beyond what the
music itself depends on, and recording the same again writes the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import ClipError, UsageError, reading, writing
from expotion_cli.media.flac import read_flac, write_flac
from expotion_cli.recipe import renamed
from expotion_cli.regression.measures import Sound
from expotion_cli.storage import digest_file, write_bytes, write_json

MANIFEST = "regress.json"
FORMAT = 1
LARGEST_MANIFEST_BYTES = 64 << 20
TOKENS_SUFFIX, SOUND_SUFFIX = ".tokens.safetensors", ".flac"


@dataclass(frozen=True)
class RecordedFile:
    """A file of the reference folder.

    Attributes:
        file: its path inside the folder, with forward slashes.
        sha256: of its content.
    """

    file: str
    sha256: str


@dataclass(frozen=True)
class RecordedClip:
    """What was recorded of one clip.

    Attributes:
        name: path inside the input it was recorded from, with forward slashes.
        path: where the clip lies, relative to the reference folder.
        sha256: of the clip's bytes; this is what identifies it.
        duration_s: of its picture.
        prompt, seed: of its cue.
        tempo: `scoring.tempo_record`, or None.
        streams: name, digest and coverage of each embedding stream.
        conditioning: digest of what the decoder received.
        tokens, sound: their files.
        measured: loudness, true peak and the number of onsets, for information.
    """

    name: str
    path: str
    sha256: str
    duration_s: float
    prompt: str
    seed: int
    tempo: dict[str, Any] | None
    streams: list[dict[str, Any]]
    conditioning: str
    tokens: RecordedFile
    sound: RecordedFile
    measured: dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """A recorded set of renders.

    Attributes:
        folder: where it lies.
        recipe: its name or path, the flags laid over it, and all its settings as they were.
        model: name or path, adapter, soundfont, device and dtype as asked for, and digests.
        machine: what exact equality of tokens depends on (`rendering.machine_facts`).
        tolerances: limits other than the built-in ones, by measure.
        clips: sorted by name.
    """

    folder: Path
    recipe: dict[str, Any]
    model: dict[str, Any]
    machine: dict[str, str]
    clips: tuple[RecordedClip, ...]
    tolerances: dict[str, float] = field(default_factory=dict)

    def tokens(self, clip: RecordedClip) -> np.ndarray:
        """[K, S] int64.

        Raises:
            ClipError: the file is missing or not what was recorded.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self._whole(clip.tokens)
        with reading(path, "the recorded tokens", remedy="Record again.", also=(SafetensorError, KeyError)):
            return load_file(path)["tokens"].astype(np.int64)

    def sound(self, clip: RecordedClip) -> Sound:
        """The recorded sound.

        Raises:
            ClipError: the file is missing or not what was recorded.
        """
        return Sound(*read_flac(self._whole(clip.sound)))

    def _whole(self, record: RecordedFile) -> Path:
        path = inside(self.folder, record.file)
        if not path.is_file():
            raise ClipError("this file of the reference is missing.", path=path, remedy="Restore it, or record again.")
        if digest_file(path) != record.sha256:
            is_pointer = path.stat().st_size < 1024 and path.read_bytes().startswith(b"version https://git-lfs")
            remedy = "Fetch it: git lfs pull." if is_pointer else "Restore it, or record again."
            raise ClipError("this file of the reference is not the one that was recorded.", path=path, remedy=remedy)
        return path


def inside(folder: Path, relative: str) -> Path:
    """A path inside a folder.

    Raises:
        UsageError: it would lead out of it.
    """
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError("the manifest names a file outside its folder.", path=path, remedy="Record again.")
    return path


def relative_to(folder: Path, path: str | Path) -> str:
    """A path as it is written in the manifest: from the reference folder, with forward slashes."""
    try:
        return Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive: no relative path leads there
        return Path(path).resolve().as_posix()


def read_reference(folder: str | Path) -> Reference:
    """Read a reference folder's manifest.

    Raises:
        UsageError: there is none, or it can't be read.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        what = "the folder holds no recorded reference" if folder.is_dir() else "there is no such reference folder"
        raise UsageError(f"{what}.", path=folder, remedy=f"Record one: expotion regress record CLIPS --to {folder}")
    try:
        values = storage.parse_json(storage.read_text(path, LARGEST_MANIFEST_BYTES))
        if values["format"] != FORMAT:
            raise UsageError(
                f"its format is {values['format']!r}, this version of expotion reads {FORMAT}.",
                path=path,
                remedy="Use the version that recorded it, or record again.",
            )
        clips = tuple(
            RecordedClip(
                **{
                    **entry,
                    "tokens": RecordedFile(**entry["tokens"]),
                    "sound": RecordedFile(**entry["sound"]),
                }
            )
            for entry in values["clips"]
        )
        parts = {key: dict(values[key]) for key in ("recipe", "model", "machine", "tolerances")}
        for part, keys in (("recipe", ("source", "flags", "fields")), ("model", ("digest", "codec"))):
            if missing := [key for key in keys if key not in parts[part]]:
                raise KeyError(f"{part}.{missing[0]}")
        parts["recipe"] |= {key: renamed(parts["recipe"][key]) for key in ("flags", "fields")}
        return Reference(folder=folder, clips=clips, **parts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"the manifest can't be read ({type(error).__name__}: {error}).", path=path, remedy="Record again."
        ) from error


def write_clip(folder: Path, name: str, tokens: np.ndarray, sound: Sound) -> tuple[RecordedFile, RecordedFile]:
    """Write a clip's tokens and sound; returns their records.

    Raises:
        OutputError: they can't be written.
    """
    from safetensors.numpy import save

    stem = str(PurePosixPath(name).with_suffix(""))
    with writing(folder, "the reference"):
        paths = [inside(folder, stem + suffix) for suffix in (TOKENS_SUFFIX, SOUND_SUFFIX)]
        write_bytes(paths[0], save({"tokens": np.ascontiguousarray(tokens, dtype=np.int32)}))
        write_flac(paths[1], sound.samples, sound.sample_rate)
        records = [RecordedFile(path.relative_to(folder).as_posix(), digest_file(path)) for path in paths]
    return records[0], records[1]


def write_manifest(reference: Reference, *, replaces: Iterable[RecordedClip] = ()) -> None:
    """Write the manifest, the last step of a recording, and remove files that only the one before named.

    Args:
        reference: what was recorded.
        replaces: the clips of the manifest that is replaced.

    Raises:
        OutputError: it can't be written.
    """
    content: dict[str, Any] = {
        "format": FORMAT,
        "recipe": reference.recipe,
        "model": reference.model,
        "machine": reference.machine,
        "tolerances": reference.tolerances,
        "clips": [asdict(clip) for clip in reference.clips],
    }
    kept = _files(reference.clips)
    with writing(reference.folder, "the reference"):
        write_json(reference.folder / MANIFEST, content)
        for file in _files(replaces) - kept:
            inside(reference.folder, file).unlink(missing_ok=True)


def _files(clips: Iterable[RecordedClip]) -> set[str]:
    return {record.file for clip in clips for record in (clip.tokens, clip.sound)}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
