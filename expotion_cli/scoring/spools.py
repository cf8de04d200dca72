"""The spool in the cache folder: copies of remote clips, and results on their way to remote storage."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expotion_cli.scoring.ledger import LEDGER
from expotion_cli.storage import cache_root

IN_USE_S = 3600.0
"""What was written so lately may belong to a run that goes on."""


@dataclass(frozen=True)
class SpoolInfo:
    """What the spool holds.

    Attributes:
        folder: where it is.
        files: number of copies and of results that were not uploaded yet; ledgers don't count.
        num_bytes: their size.
    """

    folder: Path
    files: int
    num_bytes: int


def spool_folder() -> Path:
    """Where the spool is; it need not be there."""
    return cache_root() / "spool"


def spool_info() -> SpoolInfo:
    """What the spool holds."""
    sizes = [status.st_size for _, status in _files()]
    return SpoolInfo(spool_folder(), len(sizes), sum(sizes))


def prune_spool() -> tuple[int, list[Path]]:
    """Remove what no run has touched for `IN_USE_S`; a run that needs it copies it again.

    Returns:
        Number of files that were there, and those removed.
    """
    found, removed = list(_files()), []
    for path, status in found:
        if time.time() - status.st_mtime > IN_USE_S:
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path)
                for folder in path.relative_to(spool_folder()).parents[:-1]:
                    (spool_folder() / folder).rmdir()  # ends at the first that is not empty
    return len(found), removed


def _files() -> Iterator[tuple[Path, os.stat_result]]:
    for path in sorted(spool_folder().rglob("*")):
        with contextlib.suppress(OSError):
            if path.name != LEDGER and path.is_file():
                yield path, path.stat()
