"""Finds the result that a user means: by the video, its sidecar, or the clip that it was made from."""

from __future__ import annotations

import contextlib
import glob
from pathlib import Path
from typing import Any

from expotion_cli.errors import ClipError, OutputError, UsageError, reading
from expotion_cli.hints import FileHints
from expotion_cli.scoring.sidecar import SIDECAR_SUFFIX, sidecar_path, upgraded
from expotion_cli.scoring.urls import is_url
from expotion_cli.storage import parse_json, read_text


def find_result(text: str, out: Path) -> tuple[Path, dict[str, Any], Path | None]:
    """The result that a user means.

    Args:
        text: a scored video, its sidecar, or a clip.
        out: where results of clips are looked for.

    Returns:
        (the video, its sidecar, the clip if the user named that).

    Raises:
        UsageError: there is no such result, or more than one.
        OutputError: its sidecar can't be read.
    """
    if is_url(text):
        raise UsageError(f"{text}: takes are chosen on this machine.", remedy="Copy the result and its takes here.")
    path = Path(text)
    if path.name.endswith(SIDECAR_SUFFIX):
        return _by_sidecar(path)
    if sidecar_path(path).is_file():
        result = _by_sidecar(sidecar_path(path))
        if result[0].name == path.name:
            return result
    if not path.is_file():
        raise UsageError("there is no such file.", path=path, remedy="Name a scored video, its sidecar, or a clip.")
    found = list(_of_clip(path, out))
    if not found:
        where = f"no result in {out} was made from it, and it is none itself"
        raise UsageError(f"{where}.", path=path, remedy="Name the folder of the results with --out.")
    if len(found) > 1:
        names = ", ".join(str(video) for video, _ in found)
        raise UsageError(f"several results were made from it: {names}.", path=path, remedy="Name one of them.")
    return *found[0], path


def _by_sidecar(place: Path) -> tuple[Path, dict[str, Any], None]:
    with reading(place, "the sidecar", error=OutputError, also=(ValueError,)):
        content = parse_json(read_text(place))
    if not isinstance(content, dict) or not (name := _output(content)):
        raise OutputError("this is no sidecar of a result.", path=place, remedy="Name the scored video.")
    return place.with_name(name), upgraded(content), None


def _of_clip(clip: Path, out: Path) -> list[tuple[Path, dict[str, Any]]]:
    """All results in a folder that were made from this very clip."""
    with reading(clip, error=ClipError):
        content = FileHints().sha256(clip)
    found = []
    for place in sorted(out.rglob(f"{glob.escape(clip.stem)}*{SIDECAR_SUFFIX}")):
        sidecar: Any = None
        with contextlib.suppress(OSError, ValueError):
            sidecar = parse_json(read_text(place))
        if not isinstance(sidecar, dict) or not (name := _output(sidecar)):
            continue
        made_from = sidecar.get("clip")
        if isinstance(made_from, dict) and made_from.get("sha256") == content:
            found.append((place.with_name(name), upgraded(sidecar)))
    return found


def _output(sidecar: Any) -> str:
    """The name of the video that a sidecar belongs to; empty where it names none."""
    output = sidecar.get("output") if isinstance(sidecar, dict) else None
    name = output.get("file") if isinstance(output, dict) else None
    return name if isinstance(name, str) and Path(name).name == name else ""
