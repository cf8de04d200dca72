"""Names of results: each clip's own, distinct from all others, never outside the output folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from expotion_cli.errors import ExpotionError, OutputError, UsageError
from expotion_cli.storage import digest_bytes, encoded

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .m2ts .wmv .flv .ogv .3gp .3g2 .mxf .vob .divx".split()
)
AMBIGUOUS_SUFFIXES = frozenset({".ts", ".mts", ".ogg", ".qt", ".f4v"})
"""Suffixes that videos share with other files; such a file counts by its content alone."""


def destination(out: str | Path, relative: PurePath, suffix: str) -> Path:
    """Where the result of a source goes: the clip's own name, with the suffix its container asks for.

    Raises:
        UsageError: the path would leave the output folder (a link inside it points elsewhere).
    """
    return inside(out, renamed(relative, suffix))


def inside(out: str | Path, place: PurePath) -> Path:
    """A place below the output folder.

    Raises:
        UsageError: it would leave the output folder (a link inside it points elsewhere).
    """
    path = Path(out) / place
    folder, parent = os.path.realpath(out), os.path.realpath(path.parent)
    if parent != folder and not parent.startswith(os.path.join(folder, "")):
        raise UsageError(
            "the result would land outside the output folder.", path=path, remedy="Remove the link inside --out."
        )
    return path


def renamed(relative: PurePath, suffix: str, *, label: str = "", whole: bool = False) -> PurePath:
    """The clip's own name with another suffix: `sub/two.mp4` → `sub/two.plan.json`.

    Args:
        relative: the clip's path inside its input.
        suffix: of the new name.
        label: stands before the suffix: "jazz" makes `two.jazz.mp4`.
        whole: the clip's suffix becomes part of the name, because another clip differs in it alone:
            `two.mov` → `two.mov.mp4`.
    """
    own = relative.suffix.lower()
    # Only a suffix that means a container is replaced: "take.2" is a name, and becomes "take.2.mp4".
    is_container = own in VIDEO_SUFFIXES or own in AMBIGUOUS_SUFFIXES
    if not label and not whole and own == suffix.lower():
        return relative
    stem = relative.stem if is_container and not whole else relative.name
    return relative.parent / (f"{stem}.{label}{suffix}" if label else stem + suffix)


NAMED_BY = ("recipe", "seed", "prompt", "model")
"""What results can be named by."""


def label_of(by: Iterable[str], *, recipe: str, seed: int, prompt: str, model: str) -> str:
    """What a result is made by, for its name: `jazz.seed7`.

    Args:
        by: some of `NAMED_BY`, in the order wanted.
        recipe: its name.
        seed: of the cue.
        prompt: of the cue; its digest stands for it.
        model: a name or a path.
    """
    words = {
        "recipe": _safe(recipe),
        "seed": f"seed{seed}",
        "prompt": f"prompt-{digest_bytes(encoded(prompt))[:8]}",
        "model": _safe(PurePath(model).name),
    }
    return ".".join(words[each] for each in by)


def _safe(name: str) -> str:
    """A name without what could lead into another folder or end a file's stem."""
    return re.sub(r"[^\w+-]+", "-", name).strip("-") or "unnamed"


def collisions(pairs: Iterable[tuple[Path, Path]]) -> list[ExpotionError | None]:
    """Notice results that would overwrite each other, or an input; the first of several keeps its name.

    Two results collide when their names differ in the suffix or in capitals alone: they would share a sidecar, or a
    file where the file system does not tell capitals apart.

    Args:
        pairs: (input, result) of every clip.

    Returns:
        For each pair what is wrong with it, or None.
    """
    pairs = list(pairs)
    inputs = {os.path.realpath(source) for source, _ in pairs}
    taken: dict[str, Path] = {}
    found: list[ExpotionError | None] = []
    for source, result in pairs:
        first = taken.setdefault(spelling(result.with_suffix("")), source)
        if os.path.realpath(result) in inputs:
            reason = "the result would overwrite a clip."
            found.append(UsageError(reason, path=result, remedy="Choose another --out folder."))
        elif first is not source:
            found.append(
                UsageError(
                    f"{first} and {source} would both become {result.with_suffix('')}.*.",
                    remedy="Rename one, or score them into different --out folders.",
                )
            )
        else:
            found.append(None)
    return found


def refuse_collisions(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Like `collisions`, where nothing may be left out.

    Raises:
        UsageError: naming the inputs that collide.
    """
    for problem in collisions(pairs):
        if problem is not None:
            raise problem


def too_long(out: str | Path, names: Iterable[str]) -> ExpotionError | None:
    """What is wrong where a file's name has more bytes than the output's file system takes, else None.

    Args:
        out: the output folder, which need not be there yet.
        names: of the files that will be made for one clip.
    """
    longest = max(names, key=lambda name: len(os.fsencode(name)))
    over = len(os.fsencode(longest)) - _name_bytes(Path(out))
    if over <= 0:
        return None
    return OutputError(
        f"the name is {over} bytes too long for this file system.",
        path=Path(out) / longest,
        remedy=f"Shorten the clip's name by {over} bytes.",
    )


def _name_bytes(folder: Path) -> int:
    """How many bytes a file's name may have below this folder."""
    for place in (folder, *folder.absolute().parents):
        try:
            return os.pathconf(place, "PC_NAME_MAX")
        except (OSError, ValueError):
            continue
    return 255


def spelling(path: PurePath) -> str:
    """A path as a file system sees it that does not tell capitals apart."""
    return str(path).casefold()
