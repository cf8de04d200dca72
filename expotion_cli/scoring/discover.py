"""Finds the clips a command line means: files, folders, globs and lists.

A file inside a folder counts as a clip by its content (the first bytes of a video container), or by a video suffix;
a text file named `.mp4` is therefore found, and told apart when it is probed. A file named on the command line always
counts. Nothing that looks like a clip goes missing without a word: what is no regular file or can't be read is a
problem, and what is passed over (a camera's proxy, a second link to the same file) stands in a note.
"""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from expotion_cli.errors import ClipError, ExpotionError, ProbeError, UsageError, reading, reason_of
from expotion_cli.scoring.naming import VIDEO_SUFFIXES, renamed, spelling
from expotion_cli.storage import read_text

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo

PROXY_SUFFIXES = frozenset({".lrv", ".lrf"})
"""Low-resolution copies that cameras write beside the film."""
LARGEST_LIST_BYTES = 64 << 20
_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NAMED = 5
"""Notes name so many files, and count the others."""
_SOUND_OR_PICTURE_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"mif1", b"avif", b"avis", b"crx ")
_SNIFF_BYTES = 4 * 188 + 8


@dataclass(frozen=True)
class Source:
    """One input file.

    Attributes:
        path: where it lies.
        relative: where its result belongs below the output folder, before the container decides the suffix.
        shares_stem: another clip of the batch has the same path but for the suffix, so results keep the whole name.
        known: what an earlier run found in it, and the sha256 of its content; the file need not be there then.
    """

    path: Path
    relative: PurePath
    shares_stem: bool = False
    known: tuple[ClipInfo, str] | None = None

    @property
    def names(self) -> tuple[str, str, str]:
        """What a user's file may call it: path inside the input folder, file name, stem."""
        return self.relative.as_posix(), self.relative.name, self.relative.stem

    def renamed(self, suffix: str, label: str = "") -> PurePath:
        """The path inside the output folder of a file that is made for this clip (`renamed`)."""
        return renamed(self.relative, suffix, label=label, whole=self.shares_stem)


@dataclass(frozen=True)
class Found:
    """What discovery found.

    Attributes:
        sources: the clips, each once, in the order given; inside a folder sorted by path.
        problems: arguments without a clip, and what looks like a clip but can't be read as a file.
        notes: what was passed over, and why.
        batch: all clips of the batch, where `sources` are only some of them.
    """

    sources: tuple[Source, ...]
    problems: tuple[ExpotionError, ...]
    notes: tuple[str, ...] = ()
    batch: tuple[Source, ...] = ()


def discover(inputs: Sequence[str | Path], *, out: str | Path, recursive: bool = True) -> Found:
    """Turn the arguments into clips.

    Results mirror the input: a file lands in `out` under its own name, a folder's files under their path inside it.
    The output folder is never searched, nor are hidden files and folders, nor linked folders.

    Args:
        inputs: files, folders or glob patterns.
        out: the output folder, which may lie inside an input folder.
        recursive: look into subfolders.

    Raises:
        UsageError: the output folder is itself an input.
    """
    search = _Search(os.path.realpath(out), recursive)
    for argument in inputs:
        paths = _expand(str(argument))
        if not paths:
            search.problems.append(_missing(str(argument)))
        for path in paths:
            search.add(path)
    return Found(told_apart(search.sources.values()), tuple(search.problems), tuple(search.notes()))


def told_apart(sources: Collection[Source]) -> tuple[Source, ...]:
    """The clips of a batch, each knowing whether it shares its path but for the suffix with another."""
    names = {spelling(source.relative): spelling(replace(source, shares_stem=False).renamed("")) for source in sources}
    stems = Counter(names.values())
    return tuple(replace(each, shares_stem=stems[names[spelling(each.relative)]] > 1) for each in sources)


@dataclass
class _Search:
    """A search under way.

    Attributes:
        out: the output folder, without links.
        recursive: look into subfolders.
        sources: by their path without links.
        problems: see `Found`.
        again, proxies, folders: other paths of known clips, proxies of films, linked folders; all passed over.
    """

    out: str
    recursive: bool
    sources: dict[str, Source] = field(default_factory=dict)
    problems: list[ExpotionError] = field(default_factory=list)
    again: list[tuple[Path, Path]] = field(default_factory=list)
    proxies: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """One argument: a file, or all clips of a folder."""
        if not path.is_dir():
            self._take(Source(path, PurePath(path.name)))
            return
        if os.path.realpath(path) == self.out:
            raise UsageError(
                "the output folder is also an input.", path=path, remedy="Choose another folder with --out."
            )
        before = len(self.sources) + len(self.problems) + len(self.again)
        self._walk(path)
        if len(self.sources) + len(self.problems) + len(self.again) == before:
            remedy = "Give a folder with clips." if self.recursive else "Leave out --no-recursive?"
            self.problems.append(ClipError("the folder holds no video.", path=path, remedy=remedy))

    def notes(self) -> list[str]:
        """What was passed over, one sentence each."""
        twice = [f"{path} (as {first})" for path, first in self.again]
        return [
            *([f"the same files again, scored once: {listed(twice)}"] if twice else []),
            *([f"proxies of films beside them, passed over: {listed(self.proxies)}"] if self.proxies else []),
            *([f"links to folders are not followed: {listed(self.folders)}"] if self.folders else []),
        ]

    def _take(self, source: Source) -> None:
        if (problem := _refusal(source.path)) is not None:
            self.problems.append(problem)
            return
        real = os.path.realpath(source.path)
        first = self.sources.setdefault(real, source)
        if os.path.abspath(first.path) == os.path.abspath(source.path):
            return
        if first.path.is_symlink() and not source.path.is_symlink():
            self.sources[real], first, source = source, source, first
        self.again.append((source.path, first.path))

    def _walk(self, top: Path) -> None:
        for root, folders, files in os.walk(top, onerror=self._unread):
            here = Path(root)
            linked = [here / name for name in folders if not name.startswith(".") and (here / name).is_symlink()]
            self.folders += linked if self.recursive else []
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and os.path.realpath(here / name) != self.out
            )
            films = {name.casefold() for name in files if PurePath(name).suffix.lower() in VIDEO_SUFFIXES}
            for name in sorted(files):
                path = here / name
                if name.startswith(".") or not _may_be_video(path):
                    continue
                if _is_proxy(name, films):
                    self.proxies.append(path)
                else:
                    self._take(Source(path, path.relative_to(top)))
            if not self.recursive:
                return

    def _unread(self, error: OSError) -> None:
        reason = f"the folder can't be read ({reason_of(error)})."
        self.problems.append(ClipError(reason, path=error.filename, remedy="Check its permissions."))


def read_input_list(path: str | Path) -> list[str]:
    """Paths from a list, one a line; empty lines and lines that begin with # are skipped.

    Args:
        path: a text file, or `-` for standard input. Relative paths count from the current folder.

    Raises:
        UsageError: the list can't be read.
    """
    with reading(path, "the input list", error=UsageError, remedy="Give a text file, one path a line, or -."):
        text = sys.stdin.read() if str(path) == "-" else read_text(path, LARGEST_LIST_BYTES)
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def listed(names: Sequence[object]) -> str:
    """Names for a note: the first few, and how many more."""
    more = len(names) - _NAMED
    return ", ".join(map(str, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")


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


def _may_be_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES or (os.path.isfile(path) and looks_like_video(path))


def _is_proxy(name: str, films: set[str]) -> bool:
    """Whether a camera wrote this file beside a film, as a copy of low resolution.

    Args:
        name: of the file.
        films: names, in small letters, of the films in its folder.
    """
    path = PurePath(name.casefold())
    if path.suffix not in PROXY_SUFFIXES:
        return False
    stems = {path.stem}
    if path.stem.startswith("gl"):  # GoPro: GL010001.LRV belongs to GX010001.MP4 or GH010001.MP4
        stems |= {"gx" + path.stem[2:], "gh" + path.stem[2:]}
    return any(PurePath(film).stem in stems for film in films)


def _refusal(path: Path) -> ExpotionError | None:
    """Why a path can't be a clip, before it is opened: opening a FIFO would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if path.is_symlink():
            return ProbeError("the link leads nowhere.", path=path, remedy="Remove it, or restore its target.")
        return ProbeError(f"it can't be read ({reason_of(error)}).", path=path, remedy="Check its permissions.")
    if stat.S_ISREG(mode):
        return None
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
    return ProbeError(f"it is {kind}, not a regular file.", path=path, remedy="Give a video file.")


def _expand(argument: str) -> list[Path]:
    """The path itself where it exists (whatever characters it holds), else what the pattern matches, sorted."""
    for path in (argument, os.path.expanduser(argument)):
        if os.path.lexists(path):
            return [Path(path)]
    if glob.has_magic(argument):
        return [Path(match) for match in sorted(glob.glob(path, recursive=True)) if os.path.lexists(match)]
    return []


def _missing(argument: str) -> ExpotionError:
    if glob.has_magic(argument):
        return ClipError("nothing matches this pattern.", path=argument, remedy="Check the pattern.")
    return ProbeError("there is no such file or folder.", path=argument, remedy="Check the path.")
