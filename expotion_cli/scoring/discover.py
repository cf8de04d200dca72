"""Finds the clips a command line means: files, folders, globs and lists.

A file inside a folder counts as a clip by its content (the first bytes of a video container), or by a video suffix;
a text file named `.mp4` is therefore found, and told apart when it is probed. A file named on the command line always
counts.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from expotion_cli.errors import ClipError, ExpotionError, ProbeError, UsageError, reading

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .m2ts .wmv .flv .ogv .3gp .3g2 .mxf .vob .divx".split()
)
AMBIGUOUS_SUFFIXES = frozenset({".ts", ".mts", ".ogg", ".qt", ".f4v"})
"""Suffixes that videos share with other files; such a file counts by its content alone."""
_SOUND_OR_PICTURE_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"mif1", b"avif", b"avis", b"crx ")
_SNIFF_BYTES = 4 * 188 + 8


@dataclass(frozen=True)
class Source:
    """One input file.

    Attributes:
        path: where it lies.
        relative: where its result belongs below the output folder, before the container decides the suffix.
    """

    path: Path
    relative: PurePath

    @property
    def names(self) -> tuple[str, str, str]:
        """What a user's file may call it: path inside the input folder, file name, stem."""
        return self.relative.as_posix(), self.relative.name, self.relative.stem


@dataclass(frozen=True)
class Found:
    """What discovery found.

    Attributes:
        sources: the clips, each once, in the order given; inside a folder sorted by path.
        problems: arguments without a clip.
    """

    sources: tuple[Source, ...]
    problems: tuple[ExpotionError, ...]


def discover(inputs: Sequence[str | Path], *, out: str | Path, recursive: bool = True) -> Found:
    """Turn the arguments into clips.

    Results mirror the input: a file lands in `out` under its own name, a folder's files under their path inside it.
    The output folder is never searched, nor are hidden files and folders.

    Args:
        inputs: files, folders or glob patterns.
        out: the output folder, which may lie inside an input folder.
        recursive: look into subfolders.

    Raises:
        UsageError: the output folder is itself an input.
    """
    out_path = Path(out).resolve()
    sources: dict[Path, Source] = {}
    problems: list[ExpotionError] = []
    for argument in inputs:
        paths = _expand(str(argument))
        if not paths:
            problems.append(_missing(str(argument)))
        for path in paths:
            if path.is_dir():
                if path.resolve() == out_path:
                    raise UsageError(
                        "the output folder is also an input.", path=path, remedy="Choose another folder with --out."
                    )
                members = list(_walk(path, out_path, recursive))
                if not members:
                    problems.append(
                        ClipError(
                            "the folder holds no video.",
                            path=path,
                            remedy="Give a folder with clips." if recursive else "Leave out --no-recursive?",
                        )
                    )
                for member in members:
                    sources.setdefault(member.resolve(), Source(member, member.relative_to(path)))
            else:
                sources.setdefault(path.resolve(), Source(path, PurePath(path.name)))
    return Found(tuple(sources.values()), tuple(problems))


def read_input_list(path: str | Path) -> list[str]:
    """Paths from a list, one a line; empty lines and lines that begin with # are skipped.

    Args:
        path: a text file, or `-` for standard input. Relative paths count from the current folder.

    Raises:
        UsageError: the list can't be read.
    """
    with reading(path, "the input list", error=UsageError, remedy="Give a text file, one path a line, or -."):
        text = sys.stdin.read() if str(path) == "-" else Path(path).read_text(encoding="utf-8-sig")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def destination(out: str | Path, relative: PurePath, suffix: str) -> Path:
    """Where the result of a source goes: the clip's own name, with the suffix its container asks for.

    Raises:
        UsageError: the path would leave the output folder (a link inside it points elsewhere).
    """
    path = Path(out) / renamed(relative, suffix)
    if not path.parent.resolve().is_relative_to(Path(out).resolve()):
        raise UsageError(
            "the result would land outside the output folder.", path=path, remedy="Remove the link inside --out."
        )
    return path


def renamed(relative: PurePath, suffix: str) -> PurePath:
    """The clip's own name with another suffix: `sub/two.mp4` → `sub/two.plan.json`."""
    own = relative.suffix.lower()
    # Only a suffix that means a container is replaced: "take.2" is a name, and becomes "take.2.mp4".
    stem = relative.stem if own in VIDEO_SUFFIXES or own in AMBIGUOUS_SUFFIXES else relative.name
    return relative.parent / (relative.name if own == suffix.lower() else stem + suffix)


def refuse_collisions(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Notice results that would overwrite each other, or an input.

    Two results collide when their names differ in the suffix or in capitals alone: they would share a sidecar, or a
    file where the file system does not tell capitals apart.

    Args:
        pairs: (input, result) of every clip.

    Raises:
        UsageError: naming the inputs that collide.
    """
    pairs = list(pairs)
    inputs = {source.resolve() for source, _ in pairs}
    taken: dict[str, Path] = {}
    for source, result in pairs:
        if result.resolve() in inputs:
            raise UsageError("the result would overwrite a clip.", path=result, remedy="Choose another --out folder.")
        key = str(result.with_suffix("")).casefold()
        if key in taken:
            raise UsageError(
                f"{taken[key]} and {source} would both become {result.with_suffix('')}.*.",
                remedy="Give the folder that holds both, rename one, or score them into different --out folders.",
            )
        taken[key] = source


def looks_like_video(path: Path) -> bool:
    """Whether the first bytes are those of a container that can hold pictures."""
    try:
        with open(path, "rb") as file:
            head = file.read(_SNIFF_BYTES)
    except OSError:
        return False
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return head[8:12] not in _SOUND_OR_PICTURE_BRANDS
    transport = len(head) > 3 * 188 and all(head[offset] == 0x47 for offset in (0, 188, 376))
    blu_ray = len(head) > 2 * 192 + 4 and all(head[offset] == 0x47 for offset in (4, 196, 388))
    return (
        transport
        or blu_ray
        or head[:4] in (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"\x06\x0e\x2b\x34")
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or (head[:3] == b"FLV" and head[3:4] == b"\x01")
        or head[:8] == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
        or (head[:4] == b"OggS" and (b"theora" in head or b"Dirac" in head))
    )


def _expand(argument: str) -> list[Path]:
    """The path itself where it exists (whatever characters it holds), else what the pattern matches, sorted."""
    path = Path(argument).expanduser()
    if path.exists():
        return [path]
    if glob.has_magic(argument):
        return [Path(match) for match in sorted(glob.glob(str(path), recursive=True)) if os.path.exists(match)]
    return []


def _missing(argument: str) -> ExpotionError:
    if glob.has_magic(argument):
        return ClipError("nothing matches this pattern.", path=argument, remedy="Check the pattern.")
    return ProbeError("there is no such file or folder.", path=argument, remedy="Check the path.")


def _walk(folder: Path, out: Path, recursive: bool) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (here / name).resolve() != out)
        for name in sorted(files):
            path = here / name
            if name.startswith(".") or not path.is_file():
                continue
            if path.suffix.lower() in VIDEO_SUFFIXES or looks_like_video(path):
                yield path
        if not recursive:
            return
