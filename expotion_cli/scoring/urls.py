"""Clips on remote storage: what a URL means, listed through fsspec. Nothing is copied here."""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import ClipError, ExpotionError, MissingLibraryError, ProbeError, UsageError, reason_of
from expotion_cli.scoring.discover import Source
from expotion_cli.scoring.naming import AMBIGUOUS_SUFFIXES, VIDEO_SUFFIXES
from expotion_cli.storage import cache_root, digest_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from expotion_cli.hints import State

LONGEST_NAME, LONGEST_PATH = 255, 1024
"""Bytes of a file's name, and of its path below its folder."""
RETRY = "Check the connection and your rights there, then run the same command again."
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_MARKS = """etag md5hash crc32c generation version_id content-md5 checksum
    mtime lastmodified last_modified modified updated created""".split()
"""What file systems tell of a file, in small letters, that is another when its content is another."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PASSWORD = re.compile(r"(://[^/:@]*):[^/@]*@")


def is_url(text: str) -> bool:
    """Whether an input or an output folder lies elsewhere; `file://` doesn't."""
    return "://" in text and not text.startswith(("file://", "local://"))


def local(text: str) -> str:
    """A path of this machine without `file://`."""
    return re.sub("^(file|local)://", "", text)


def shown(url: str) -> str:
    """A URL for messages: without a password."""
    return _PASSWORD.sub(r"\1:***@", url)


def mirror(out: str) -> Path:
    """The folder in which results are made: the output folder itself, or one that mirrors it if that is remote."""
    return spool(out) / "out" if is_url(out) else Path(local(out))


def spool(out: str) -> Path:
    """Runs that share an output folder share copies, too, and each clip is settled before its copy is removed."""
    name = shown(out).rstrip("/") if is_url(out) else str(Path(local(out)).absolute())
    return cache_root() / "spool" / digest_of(name)[:16]


@dataclass(frozen=True)
class Original:
    """A clip as it lies on remote storage.

    Attributes:
        fs, path: where.
        url: what the user calls it.
        num_bytes: its size; None where the file system does not tell.
        state: changes with its content; None where the file system tells nothing of the kind.
        source: its copy.
    """

    fs: AbstractFileSystem
    path: str
    url: str
    num_bytes: int | None
    state: State | None
    source: Source


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the path there.

    Raises:
        MissingLibraryError: its package is not installed.
        UsageError: there is no such file system, or it can't be opened.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        fs, path = url_to_fs(url)
        return fs, path.rstrip("/")
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        hint = str(known_implementations.get(protocol, {}).get("err", error))
        remedy = f"Run: pip install 'expotion[{extra}]'" if extra else f"{hint.rstrip('.')}."
        raise MissingLibraryError(f"{protocol}:// needs a package that is not installed.", remedy=remedy) from error
    except Exception as error:
        reason = f"it can't be opened ({reason_of(error)})."
        raise UsageError(reason, path=shown(url), remedy="Check the URL.") from error


@dataclass
class Listing:
    """Clips that URLs mean.

    Attributes:
        folder: where copies will lie.
        recursive: look into subfolders.
        out: the output folder, which is never searched, if it is remote.
        originals: by the path of the copy.
        problems: URLs without a clip, and names that can't be.
        again: URLs that were given twice.
    """

    folder: Path
    recursive: bool = True
    out: tuple[AbstractFileSystem, str] | None = None
    originals: dict[str, Original] = field(default_factory=dict)
    problems: list[ExpotionError] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def add(self, url: str) -> None:
        """List all clips that a URL means.

        Raises:
            MissingLibraryError, UsageError: see `open_url`; or the output folder is itself an input.
        """
        fs, path = open_url(url)
        out = self.out[1] if self.out is not None and self.out[0] == fs else None
        given, before = shown(url), len(self.originals) + len(self.problems) + len(self.again)
        if out is not None and out == path:
            raise UsageError("the output folder is also an input.", path=given, remedy="Choose another with --out.")
        try:
            for name, relative, info in _files(fs, path, self.recursive):
                if out is None or not name.startswith(f"{out}/"):
                    root = given.rstrip("/") if path else given
                    self._take(fs, name, relative, f"{root[: len(root) - len(path)]}{name}", info)
        except FileNotFoundError:
            is_pattern = glob.has_magic(path)
            reason = "nothing matches this pattern." if is_pattern else "there is no such file or folder."
            remedy = "Check the pattern." if is_pattern else "Check the URL."
            self.problems.append(ProbeError(reason, path=given, remedy=remedy))
        except Exception as error:
            reason = f"it can't be listed ({reason_of(error)})."
            self.problems.append(ClipError(reason, path=given, remedy=RETRY))
        if len(self.originals) + len(self.problems) + len(self.again) == before:
            self.problems.append(ClipError("no video is there.", path=given, remedy="Name a folder with clips."))

    def _take(self, fs: AbstractFileSystem, name: str, relative: str, url: str, info: Mapping[str, Any]) -> None:
        if (reason := _wrong_name(relative)) is not None:
            self.problems.append(ClipError(reason, path=url, remedy="Rename it."))
            return
        told = {key.lower(): str(value) for key, value in info.items()}
        marks = {key: told[key] for key in _MARKS if key in told}
        size = info["size"] if isinstance(info.get("size"), int) else None
        key = digest_of([url, size, marks])
        # Features of a clip may stand in a folder that is called like the clip's own.
        parent = [part for part in PurePosixPath(name).parts[-2:-1] if part != "/" and _wrong_name(part) is None]
        copy = self.folder.joinpath(key[:32], *parent, PurePosixPath(relative).name)
        if str(copy) in self.originals:
            self.again.append(url)
            return
        state = (size or 0, int(key[:15], 16)) if marks else None
        self.originals[str(copy)] = Original(fs, name, url, size, state, Source(copy, PurePosixPath(relative)))


def _files(fs: AbstractFileSystem, path: str, recursive: bool) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Files that a path means (name, path inside the folder that was given, what the file system tells), sorted.

    Raises:
        FileNotFoundError: there are none.
    """
    info = None
    with contextlib.suppress(FileNotFoundError):
        info = fs.info(path)
    if info is not None and info["type"] != "directory":
        yield path, PurePosixPath(path).name, info
    elif info is not None:
        yield from _folder(fs, path, recursive)
    elif found := fs.glob(path, detail=True) if glob.has_magic(path) else {}:
        for name, info in sorted(found.items()):
            if info["type"] == "directory":
                yield from _folder(fs, name.rstrip("/"), recursive)
            elif PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES | AMBIGUOUS_SUFFIXES:
                yield name, PurePosixPath(name).name, info
    else:
        raise FileNotFoundError(path)


def _folder(fs: AbstractFileSystem, top: str, recursive: bool) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, info in sorted(fs.find(top, maxdepth=None if recursive else 1, detail=True).items()):
        relative = name[len(top) :].removeprefix("/") if name.startswith(f"{top}/") else f"../{name}"
        is_hidden = any(part.startswith(".") and part not in (".", "..") for part in relative.split("/"))
        if not is_hidden and PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES:
            yield name, relative, info


def _wrong_name(relative: str) -> str | None:
    """Why a path below a remote folder can't be one below a folder of this machine."""
    parts = relative.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "its path leads out of the folder, or nowhere."
    if _CONTROL.search(relative):
        return "its name holds control characters."
    if max(len(part.encode()) for part in parts) > LONGEST_NAME or len(relative.encode()) > LONGEST_PATH:
        return f"its name is too long (more than {LONGEST_NAME} bytes, or {LONGEST_PATH} with its folders)."
    return None
