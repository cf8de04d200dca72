"""What is to be measured: clips, the sets of music made for them, and which output belongs to which clip."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.errors import ClipError, DecodeError, ExpotionError, UsageError
from expotion_cli.scoring.discover import VIDEO_SUFFIXES, Source, discover

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo

SAMPLE_RATE = 48_000
SOUND_SUFFIXES = frozenset(".wav .flac .m4a .mp3 .ogg .opus .aac".split())
SOUND_DEMUXERS = ("wav", "flac", "mov", "mp3", "ogg", "aac", "matroska")
"""None of them follows references to other files."""
FILE, PICTURE = "file", "picture"
OTHER_LENGTH_S = 0.25
_MAX_SOUND_S = 3600.0


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
        notes: what was left out, in words.
    """

    name: str
    files: dict[str, Output]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """The music of one clip, on the picture's clock.

    Attributes:
        clip: the clip's name.
        audio: [2, n] float32 at `SAMPLE_RATE`; sample 0 sounds with the first picture.
        seed: tells takes of one clip apart.
        midi: its notes, if there is a MIDI file.
        prompt: the words it was made from, if they are known.
    """

    clip: str
    audio: np.ndarray
    seed: int = 0
    midi: bytes | None = None
    prompt: str | None = None

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
    """Pieces made in one way for several clips.

    Attributes:
        name: of the set.
        pieces: at least one.
        notes: what is to be said about it.
    """

    name: str
    pieces: tuple[Piece, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def clips(self) -> tuple[str, ...]:
        """Names of its clips, each once."""
        return tuple(dict.fromkeys(piece.clip for piece in self.pieces))


def find_clips(inputs: Sequence[str | Path]) -> tuple[dict[str, Source], list[ExpotionError]]:
    """The clips by name (their path inside the folder given, without suffix), and the arguments that led nowhere.

    Raises:
        UsageError: two clips have the same name.
    """
    # Nothing is written: the output folder that discovery keeps clear of is one that nobody has.
    found = discover(inputs, out=Path(".expotion-writes-nothing"))
    clips: dict[str, Source] = {}
    for source in found.sources:
        name = _name(source.relative)
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
        UsageError: it is no folder, or two files belong to one clip.
    """
    folder, names = Path(folder), tuple(clips)
    if not folder.is_dir():
        raise UsageError("there is no such folder of outputs.", path=folder, remedy="Give --outputs NAME=FOLDER.")
    by_stem: dict[str, list[str]] = {}
    for clip in names:
        by_stem.setdefault(PurePath(clip).name, []).append(clip)
    files: dict[str, Output] = {}
    strangers = []
    for path in _media_files(folder):
        own = _name(path.relative_to(folder))
        stems = by_stem.get(PurePath(own).name, [])
        clip = own if own in names else stems[0] if len(stems) == 1 else None
        if clip is None:
            strangers.append(path.name)
        elif clip in files:
            raise UsageError(
                f"{files[clip].path.name} and {path.name} are both outputs of {clip}.",
                path=folder,
                remedy="Keep one of them in the folder.",
            )
        else:
            files[clip] = Output(clip, path)
    notes = []
    if strangers:
        notes.append(f"{name}: no clip for {_list(strangers)}: left out")
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


def own_sound(name: str, clips: Mapping[str, ClipInfo]) -> Outputs:
    """The clips' own sound as a set: scored videos measured by themselves."""
    files = {clip: Output(clip, info.path) for clip, info in clips.items() if info.audio is not None}
    silent = [clip for clip in clips if clip not in files]
    notes = (f"{name}: no sound in {_list(silent)}: left out",) if silent and files else ()
    return Outputs(name, files, notes)


def read_piece(
    output: Output, clip: ClipInfo, *, zero: str = FILE, prompt: str | None = None
) -> tuple[Piece, tuple[str, ...]]:
    """Read an output's sound onto its clip's clock.

    Args:
        output: the file.
        clip: what it belongs to.
        zero: what a sound file's first sample belongs to: the clip file's time 0 (`FILE`, as if both were played from
            the start; some clips' pictures begin later than that), or the first picture (`PICTURE`). A video's sound
            stands where its own picture says.
        prompt: the words it was made from, where its sidecar does not say.

    Returns:
        The piece, and what there is to say about it.

    Raises:
        ClipError: it can't be read.
    """
    notes = []
    if output.path.suffix.lower() in SOUND_SUFFIXES:
        skip_s = float(clip.start) if zero == FILE else 0.0
        audio = read_sound(output.path, float(clip.duration) + max(skip_s, 0.0) + 2)
        first = round(skip_s * SAMPLE_RATE)
        audio = audio[:, first:] if first >= 0 else np.pad(audio, ((0, 0), (-first, 0)))
    else:
        from expotion_cli.media.decode import read_audio
        from expotion_cli.media.probe import probe

        info = clip if output.path == clip.path else probe(output.path)
        if info.audio is None:
            raise DecodeError("it has no sound.", path=output.path, remedy="Score it again.")
        audio = read_audio(info, SAMPLE_RATE)
    apart = audio.shape[1] / SAMPLE_RATE - float(clip.duration)
    if abs(apart) > OTHER_LENGTH_S:
        longer = "2 s or more longer" if apart > 1.9 else f"{abs(apart):.1f} s {'longer' if apart > 0 else 'shorter'}"
        notes.append(f"{output.path.name} is {longer} than its clip: only what both have in common is compared")
    audio = audio[:, : round(float(clip.duration) * SAMPLE_RATE)]
    if not audio.shape[1]:
        raise DecodeError("its sound ends before the picture begins.", path=output.path, remedy="See --sound-starts.")
    midi = output.path.with_suffix(".mid")
    piece = Piece(
        output.clip,
        audio,
        midi=midi.read_bytes() if midi.is_file() else None,
        prompt=_sidecar_prompt(output.path) or prompt,
    )
    if piece.is_silent:
        notes.append(f"{output.path.name} is silent: it counts as music that follows nothing")
    return piece, tuple(notes)


def read_sound(path: str | Path, max_s: float = _MAX_SOUND_S) -> np.ndarray:
    """A sound file's first track, [2, n] float32 at `SAMPLE_RATE`, mono doubled; not more than `max_s` seconds.

    Raises:
        DecodeError: it can't be read, or holds no sound.
    """
    import av

    from expotion_cli.media.ffmpeg import PROTOCOLS, file_url

    path = Path(path)
    options = {"format_whitelist": ",".join(SOUND_DEMUXERS), "protocol_whitelist": ",".join(PROTOCOLS)}
    pieces: list[np.ndarray] = []
    try:
        with av.open(file_url(path), options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise DecodeError("it holds no sound.", path=path, remedy="Give sound or scored video.")
            stream = container.streams.audio[0]
            layout = "mono" if stream.codec_context.channels == 1 else "stereo"
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE)
            wanted, have = round(max_s * SAMPLE_RATE), 0
            for frame in container.decode(stream):
                frame.pts = None
                for made in resampler.resample(frame):
                    pieces.append(made.to_ndarray())
                    have += pieces[-1].shape[1]
                if have >= wanted:
                    break
            pieces += [made.to_ndarray() for made in resampler.resample(None)]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DecodeError(
            f"its sound can't be read ({reason}).", path=path, remedy="Convert or copy it again."
        ) from error
    pieces = [piece for piece in pieces if piece.size]
    if not pieces:
        raise DecodeError("none of its sound can be decoded.", path=path, remedy="Convert or copy it again.")
    audio = np.concatenate(pieces, axis=1)[:, : round(max_s * SAMPLE_RATE)]
    return np.repeat(audio, 2, axis=0) if len(audio) == 1 else np.ascontiguousarray(audio[:2])


def resample(audio: np.ndarray, sample_rate: int, wanted_rate: int) -> np.ndarray:
    """Sound at another rate, [1 or 2, n] float32."""
    audio = np.ascontiguousarray(audio, dtype=np.float32)
    if sample_rate == wanted_rate or not audio.shape[1]:
        return audio
    import av

    layout = "mono" if len(audio) == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout=layout)
    frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=wanted_rate)
    return np.concatenate([piece.to_ndarray() for part in (frame, None) for piece in resampler.resample(part)], axis=1)


def read_prompts(path: str | Path) -> dict[str, str]:
    """`{"clip name": "words"}` from a JSON file; clip names with or without suffix.

    Raises:
        UsageError: it can't be read, or is no such table.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise UsageError(f"the prompts can't be read ({reason}).", path=path) from error
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise UsageError("the prompts are no table of texts.", path=path, remedy='Write {"clip": "words", ...}.')
    return {_name(PurePath(name)): text for name, text in values.items()}


def known_prompts(given: str | Path | None, folders: Iterable[Path]) -> dict[str, str]:
    """Prompts from a file, or from the first folder that holds a `captions.json`."""
    if given is not None:
        return read_prompts(given)
    for folder in folders:
        if (folder / "captions.json").is_file():
            return read_prompts(folder / "captions.json")
    return {}


def _sidecar_prompt(path: Path) -> str | None:
    try:
        said = json.loads(path.with_name(f"{path.stem}.score.json").read_text(encoding="utf-8"))
        prompt = said.get("prompt")
    except (OSError, ValueError, AttributeError):
        return None
    return prompt if isinstance(prompt, str) and prompt.strip() else None


def _media_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in SOUND_SUFFIXES | VIDEO_SUFFIXES and path.is_file():
            yield path


def _name(relative: PurePath) -> str:
    is_media = relative.suffix.lower() in SOUND_SUFFIXES | VIDEO_SUFFIXES
    return (relative.with_suffix("") if is_media else relative).as_posix()


def _list(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def nothing_to_measure(path: str | Path) -> ClipError:
    """The error for a set in which no file belongs to a clip."""
    return ClipError(
        "no file in it belongs to one of the clips.", path=path, remedy="Name outputs like their clips: a.mp4, a.m4a."
    )
