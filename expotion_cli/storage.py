"""Files that are whole or absent: atomic writes, content digests, canonical JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from expotion_cli.errors import ExpotionError, UsageError, reading

CHUNK_BYTES = 1 << 20


def digest_bytes(*parts: bytes | memoryview) -> str:
    """sha256 (hex) of the parts, each preceded by its length so that borders count."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()


def digest_of(value: Any) -> str:
    """sha256 (hex) of a JSON-like value, independent of key order."""
    return digest_bytes(canonical_json(value).encode())


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
    lead = f".{final.stem.removeprefix('.')}"[:41]  # of a temporary path's own temporary path, too
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=f"{lead}.", suffix=f".partial{final.suffix}")
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
        temporary.write_bytes(canonical_json(value).encode())


def write_json(final: str | Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_bytes(final, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(
    path: str | Path, what: str = "it", *, error: type[ExpotionError] = UsageError, remedy: str | None = None
) -> Any:
    """Read a JSON file; a byte order mark is allowed.

    Args:
        path: the file.
        what: the subject of the message where it can't be read.
        error: class of the error to raise.
        remedy: what to do about it.

    Raises:
        ExpotionError: of class `error`: the file can't be read or is not JSON.
    """
    with reading(path, what, error=error, remedy=remedy, also=(RecursionError, ValueError)):
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))


def read_toml(path: str | Path, what: str = "it", *, error: type[ExpotionError] = UsageError) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        what: the subject of the message where it can't be read.
        error: class of the error to raise.

    Raises:
        ExpotionError: of class `error`: the file can't be read or is not TOML.
    """
    path = Path(path)
    with reading(path, what, error=error):
        text = path.read_text(encoding="utf-8")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise error(f"{what} is not valid TOML: {problem}.", path=path) from problem


def append_line(path: str | Path, line: str) -> None:
    """Append one line with a single write, so that lines of two processes never mix."""
    assert "\n" not in line
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (line + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_root() -> Path:
    """Where caches live: `EXPOTION_CACHE`, else the user's cache folder."""
    if configured := os.environ.get("EXPOTION_CACHE"):
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "expotion"


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
