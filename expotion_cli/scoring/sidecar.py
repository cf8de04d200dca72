"""What a result is known by: its digest, its sidecar, and the tokens it was made from.

A result is done when the video is there, the sidecar beside it names the same digest, and the video's bytes are the
ones the sidecar recorded. Names and times decide nothing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from expotion_cli.storage import digest_file, digest_of, write_json

FORMAT = 1
"""Raised when the same settings come to give another result."""

SIDECAR_SUFFIX = ".score.json"


def artefact_digest(fields: dict[str, Any]) -> str:
    """sha256 (hex) of all that decides an artefact."""
    return digest_of({"format": FORMAT, **fields})


def sidecar_path(video: Path) -> Path:
    """`NAME.score.json` beside `NAME.mp4`."""
    return video.with_name(video.stem + SIDECAR_SUFFIX)


def midi_path(video: Path) -> Path:
    """`NAME.mid` beside `NAME.mp4`."""
    return video.with_name(video.stem + ".mid")


def file_record(path: Path) -> dict[str, Any]:
    """Name, size and sha256 of a finished file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest_file(path)}


def read_sidecar(video: Path) -> dict[str, Any] | None:
    """The sidecar of a result, or None where there is none that can be read."""
    try:
        content = json.loads(sidecar_path(video).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_sidecar(video: Path, content: dict[str, Any]) -> None:
    """Write the sidecar: the last step of a result, so that its presence means the rest is whole."""
    write_json(sidecar_path(video), content)


def is_done(video: Path, digest: str, *, midi: bool = False) -> bool:
    """Whether this very result is already there, whole and unaltered.

    Args:
        video: the result's final path.
        digest: what the sidecar must name.
        midi: whether a MIDI file belongs to it.
    """
    sidecar = read_sidecar(video)
    if sidecar is None or sidecar.get("artefact") != digest:
        return False
    if midi and sidecar.get("midi") is None and sidecar.get("has_midi", True):
        return False
    wanted = [(video, sidecar.get("output"))] + ([(midi_path(video), sidecar["midi"])] if sidecar.get("midi") else [])
    return all(_matches(path, record) for path, record in wanted)


def remove_leftovers(video: Path) -> None:
    """Remove temporary files and folders that a killed run left beside this result."""
    # Temporary names begin with the first letters of the final one (see `storage.atomic_path`).
    prefix = f".{video.stem}." if len(video.stem) < 40 else f".{video.stem[:40]}"
    for path in video.parent.iterdir() if video.parent.is_dir() else ():
        if path.name.startswith(prefix) and ".partial" in path.suffixes[-2:]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _matches(path: Path, record: Any) -> bool:
    try:
        return bool(path.stat().st_size == record["bytes"] and digest_file(path) == record["sha256"])
    except (OSError, TypeError, KeyError):
        return False
