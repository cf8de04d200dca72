"""Files that are whole or absent: atomic writes, content digests, canonical JSON; and others' files, read in bounds.

Names of files need not be UTF-8. Python keeps their odd bytes as lone surrogates; in JSON these stand as escapes, so
that every file written here is UTF-8 and gives the same name back.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from expotion_cli.errors import ExpotionError, UsageError, reading

CHUNK_BYTES = 1 << 20
LONGEST_STEM = 40
"""Characters of a file's stem in the names of its temporaries."""
STALE_S = 24 * 3600.0
"""What somebody began to write so long ago will never be finished."""
_RANDOM = "[a-z0-9_]{8}"  # what `tempfile` puts between prefix and suffix
_TEMPORARY_STEM = re.compile(rf"(\..+)\.{_RANDOM}\.partial", re.DOTALL)
LARGEST_JSON_BYTES = 8 << 20
"""Of a JSON file by others: parsing may take fifty times as much memory."""
LARGEST_TOML_BYTES = 1 << 20

_TOO_DEEP = "nested too deeply"
_DOTTED_KEY = re.compile(r"""(?:(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|(?<![\w-])[\w-]++)[ \t]*+\.[ \t]*+){64}""")
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # nor is a FIFO waited for


def digest_bytes(*parts: bytes | memoryview) -> str:
    """sha256 (hex) of the parts, each preceded by its length so that borders count."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()


def digest_of(value: Any) -> str:
    """sha256 (hex) of a JSON-like value, independent of key order."""
    return digest_bytes(encoded(canonical_json(value)))


def digest_file(path: str | Path) -> str:
    """sha256 (hex) of a file's content, read once."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; raises TypeError on what JSON can't hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encoded(text: str) -> bytes:
    """JSON text as UTF-8; what UTF-8 can't hold becomes an escape that JSON knows."""
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def atomic_path(final: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `final` that replaces it when the block ends well.

    The temporary file is fsynced before the rename and removed if the block raises. It keeps the final suffix,
    because muxers choose the container by it, and starts with a dot so that nobody takes it for a result.

    Args:
        final: the name it will have.
        durable: whether it must outlast a power failure; what may be lost without harm is written faster.
    """
    final = Path(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = temporary_name(final)
    handle, name = tempfile.mkstemp(suffix, prefix, final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            put_in_place(temporary, final)
        else:
            os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(final: Path) -> tuple[str, str]:
    """(prefix, suffix) for `tempfile`: the names of a file's temporaries, its temporaries' own included.

    No other file's temporaries have such names, so what a killed process left can be told from what others write.
    """
    if found := _TEMPORARY_STEM.fullmatch(final.stem):
        return f"{found[1]}.", f".partial{final.suffix}"
    stem = final.stem
    if len(stem) > LONGEST_STEM:
        stem = f"{stem[: LONGEST_STEM - 9]}~{digest_bytes(encoded(stem))[:8]}"
    return f".{stem}.", f".partial{final.suffix}"


def is_temporary(path: Path | str | None) -> bool:
    """Whether this is a name that `atomic_path` gives: one that means nothing to a user."""
    return isinstance(path, Path) and _TEMPORARY_STEM.fullmatch(path.stem) is not None


def remove_temporaries(*finals: Path) -> None:
    """Remove what killed processes left of writing these files, all of one folder; nobody may be writing them now."""
    patterns = []
    for final in finals:
        prefix, suffix = temporary_name(final)
        patterns.append(f"{re.escape(prefix)}{_RANDOM}{re.escape(suffix)}")
    wanted, folder = re.compile("|".join(patterns)), finals[0].parent
    for path in folder.iterdir() if folder.is_dir() else ():
        if wanted.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Remove the temporaries of a folder that nobody has written to for `STALE_S`."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and ".partial" in entry.name:
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > STALE_S:
                        os.unlink(entry)


def put_in_place(temporary: Path, final: Path) -> None:
    """Give a finished file of the same folder its final name, so that it is there whole or not at all."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, final)
    _sync_folder(final.parent)


def write_bytes(final: str | Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(content)


def write_hint(final: str | Path, value: Any) -> None:
    """Write compact JSON atomically, but not durably: for what may be lost without harm."""
    with atomic_path(final, durable=False) as temporary:
        temporary.write_bytes(encoded(canonical_json(value)))


def write_json(final: str | Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_bytes(final, encoded(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"))


def read_bytes(path: str | Path, most_bytes: int) -> bytes:
    """A regular file's content, if it is no larger than this.

    Raises:
        OSError: it can't be read.
        ValueError: it is larger, or no regular file.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):  # a FIFO would be waited for
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"larger than {_in_words(most_bytes)}")
    return content


def read_text(path: str | Path, most_bytes: int = LARGEST_JSON_BYTES) -> str:
    """A regular file's text, UTF-8 with or without a byte order mark, if it is no larger than this.

    Raises:
        OSError: it can't be read.
        ValueError: it is larger, no regular file, or not UTF-8.
    """
    return read_bytes(path, most_bytes).decode("utf-8-sig")


def parse_json(content: str | bytes) -> Any:
    """What JSON text says.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_json(
    path: str | Path,
    what: str = "it",
    *,
    error: type[ExpotionError] = UsageError,
    remedy: str | None = None,
    most_bytes: int = LARGEST_JSON_BYTES,
) -> Any:
    """Read a JSON file; a byte order mark is allowed.

    Args:
        path: the file.
        what: the subject of the message where it can't be read.
        error: class of the error to raise.
        remedy: what to do about it.
        most_bytes: a larger file is not read.

    Raises:
        ExpotionError: of class `error`: the file can't be read, is too large, not JSON or nested too deeply.
    """
    with reading(path, what, error=error, remedy=remedy, also=(ValueError,)):
        return parse_json(read_text(path, most_bytes))


def parse_toml(text: str) -> dict[str, Any]:
    """What TOML text says.

    Raises:
        ValueError: it is not TOML, or nested too deeply.
    """
    # The parser's work grows with the square of a dotted key's parts.
    if _DOTTED_KEY.search(text):
        raise ValueError(_TOO_DEEP)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_toml(path: str | Path, what: str = "it", *, error: type[ExpotionError] = UsageError) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        what: the subject of the message where it can't be read.
        error: class of the error to raise.

    Raises:
        ExpotionError: of class `error`: the file can't be read, is too large, not TOML or nested too deeply.
    """
    with reading(path, what, error=error, also=(ValueError,)):
        text = read_text(path, LARGEST_TOML_BYTES)
    try:
        return parse_toml(text)
    except ValueError as problem:
        raise error(f"{what} is not valid TOML: {problem}.", path=path) from problem


def append_line(path: str | Path, line: str) -> None:
    """Append one line with a single write, so that lines of two processes never mix. A link is not followed."""
    assert "\n" not in line
    handle = open_to_append(path)
    try:
        os.write(handle, encoded(line + "\n"))
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_trouble() -> OSError | None:
    """Why nothing can be kept in the cache, or None where something can."""
    try:
        cache_root().mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache_root(), prefix=".write-test.", suffix=".partial")
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        return error
    return None


def open_to_append(path: str | Path) -> int:
    """A handle at a file's end, where a link is not followed.

    Raises:
        OSError: it can't be written.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_LINKS, 0o644)


def expanded(path: str | Path) -> Path:
    """A path whose leading ~ stands for the home folder; a name like ~x, which is no user's, stays as it is."""
    return Path(os.path.expanduser(path))


def cache_root() -> Path:
    """Where caches live: `EXPOTION_CACHE`, else the user's cache folder."""
    if configured := os.environ.get("EXPOTION_CACHE"):
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "expotion"


def config_root() -> Path:
    """Where the user's own recipes live: `EXPOTION_CONFIG`, else the platform's folder for settings."""
    if configured := os.environ.get("EXPOTION_CONFIG"):
        return Path(configured)
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "expotion"


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _in_words(num_bytes: int) -> str:
    return f"{num_bytes >> 20} MB" if num_bytes >= 1 << 20 else f"{num_bytes >> 10} kB"
