"""The last rung with all that needs no model: it may run in another process or on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import ClipError, reading
from expotion_cli.hints import FileHints, state_of
from expotion_cli.scoring import ladder
from expotion_cli.scoring.extras import Extras, Written, notes_of, write
from expotion_cli.scoring.measured import measure_result
from expotion_cli.storage import digest_file

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.media.remux import RemuxReport
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.mixing import MixDown
    from expotion_cli.spotting.plan import CuePlan


@dataclass(frozen=True)
class Finished:
    """A finished video.

    Attributes:
        report: how it came out.
        measured: what was measured of its sound.
        num_bytes: its size.
        sha256: of its content.
        written: sound files beside it.
    """

    report: RemuxReport
    measured: dict[str, Any]
    num_bytes: int
    sha256: str
    written: Written = Written()


def finish_clip(
    clip: ClipInfo,
    content: str,
    score: ladder.Score,
    recipe: Recipe,
    video: Path,
    plan: CuePlan,
    tags: Mapping[str, str],
    extras: Extras,
    folder: Path | None,
) -> Finished:
    """Mix, remux and measure, and make sure that the clip is still the one that was seen.

    Args:
        clip: what is scored.
        content: sha256 of the clip's bytes, as it was seen.
        score: its music.
        recipe: says how the two meet, and how loud.
        video: where to write; nobody takes this name for a result yet.
        plan: whose hit points are measured.
        tags: metadata to add to the clip's own.
        extras: sound files to write as well.
        folder: where to write these.

    Raises:
        ClipError: the clip changed or vanished, or its sound can't be read.
        OutputError: the result can't be written.
    """
    with reading(clip.path):
        before = state_of(clip.path)
        is_same = FileHints().sha256(clip.path) == content
    written = Written()

    def beside(made: MixDown, gain_db: float) -> list[str]:
        nonlocal written
        if folder is not None:
            written = write(folder, score, made, gain_db, extras)
        return list(notes_of(written))

    report = ladder.finish(clip, score, recipe, video, tags=tags, beside=beside)
    with reading(clip.path):
        is_same = is_same and state_of(clip.path) == before
    if not is_same:
        raise ClipError(
            "the file changed while it was being scored.", path=clip.path, remedy="Score it again when it is complete."
        )
    measured = measure_result(video, report.sample_rate, plan)
    return Finished(report, measured, video.stat().st_size, digest_file(video), written)
