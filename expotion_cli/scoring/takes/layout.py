"""Where kept takes lie, and what a sidecar says of them: the reader that commands and pages share.

    clip.mp4
    clip.score.json         "takes": {"chosen": 2, "chosen_by": "score", "each": [...]}
    clip.takes/take-1.m4a   to listen to: the music alone, at the result's loudness
    clip.takes/take-1.safetensors
                            its tokens and all that playing them takes
    clip.takes/take-2...

The sidecar is the only index: what it doesn't name is no take. Takes are numbered from 1; the first has the cue's own
seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from expotion_cli.scoring.sidecar import read_sidecar

FOLDER_SUFFIX = ".takes"
SOUND_SUFFIX, CUE_SUFFIX = ".m4a", ".safetensors"
BY_SCORE, BY_USER = "score", "user"
SOUND, CUE = "sound", "cue"
"""The two files of a kept take, as the sidecar calls them."""


@dataclass(frozen=True)
class Take:
    """One candidate of a cue, as the sidecar tells of it.

    Attributes:
        number: from 1.
        score: of its terms, 0..1, higher is better; None where none could be measured.
        terms: what was measured of its music, by name; None where there is nothing to measure.
        missed: the marks that it misses and the faults it has, in words; empty for a take inside the marks.
        chosen: whether the result plays it.
        by_user: whether it was chosen by hand.
        sound: the file to listen to, or None where the takes were not kept or the file is gone.
    """

    number: int
    score: float | None
    terms: Mapping[str, float | None] = field(default_factory=dict)
    missed: tuple[str, ...] = ()
    chosen: bool = False
    by_user: bool = False
    sound: Path | None = None


def find_takes(video: Path) -> list[Take]:
    """The takes of a result, by number.

    Args:
        video: the result.

    Returns:
        None of them where there is no sidecar, the cue had one take only, or an older version made the result.
    """
    return takes_in(video, read_sidecar(video))


def takes_in(video: Path, sidecar: Mapping[str, Any] | None) -> list[Take]:
    """Like `find_takes`, of a sidecar that was read already.

    Args:
        video: the result.
        sidecar: what stands beside it.
    """
    record = takes_record(sidecar)
    found = []
    for row in record.get("each", ()):
        terms, score, missed = row.get("terms"), row.get("score"), row.get("missed")
        sound = kept_file(video, row, SOUND)
        found.append(
            Take(
                number=row["take"],
                score=float(score) if isinstance(score, float) or score in (0, 1) else None,
                terms=dict(terms) if isinstance(terms, Mapping) else {},
                missed=tuple(map(str, missed)) if isinstance(missed, list) else (),
                chosen=row["take"] == record["chosen"],
                by_user=row["take"] == record["chosen"] and record.get("chosen_by") == BY_USER,
                sound=sound if sound is not None and sound.is_file() else None,
            )
        )
    return sorted(found, key=lambda take: take.number)


def takes_record(sidecar: Mapping[str, Any] | None) -> dict[str, Any]:
    """A sidecar's `takes`, with whole rows only; empty where there is none that makes sense."""
    record = (sidecar or {}).get("takes")
    if not isinstance(record, Mapping) or not isinstance(record.get("each"), list):
        return {}
    rows = [row for row in record["each"] if isinstance(row, Mapping) and isinstance(row.get("take"), int)]
    return {**record, "each": rows} if rows and isinstance(record.get("chosen"), int) else {}


def takes_folder(video: Path) -> Path:
    """`NAME.takes` beside `NAME.mp4`."""
    return video.with_name(video.stem + FOLDER_SUFFIX)


def kept_name(number: int, kind: str) -> str:
    """The name of a take's file in the folder of takes.

    Args:
        number: of the take, from 1.
        kind: `SOUND` or `CUE`.
    """
    return f"take-{number}{SOUND_SUFFIX if kind == SOUND else CUE_SUFFIX}"


def kept_names(number: int) -> list[str]:
    """Names of the kept files of so many takes."""
    return [kept_name(take, kind) for take in range(1, number + 1) for kind in (SOUND, CUE)]


def kept_file(video: Path, row: Mapping[str, Any], kind: str) -> Path | None:
    """A kept file of a take; None where it was not kept.

    Args:
        video: the result.
        row: of the take, in the sidecar.
        kind: `SOUND` or `CUE`.
    """
    record = row.get(kind)
    name = record.get("file") if isinstance(record, Mapping) else None
    # A sidecar may come from anywhere: what it names must lie in the folder of takes.
    return takes_folder(video) / name if isinstance(name, str) and PurePath(name).name == name else None


def kept_files(video: Path, sidecar: Mapping[str, Any] | None) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """All kept files of a result, each with its record (`sidecar.file_record`).

    Args:
        video: the result.
        sidecar: what stands beside it.
    """
    for row in takes_record(sidecar).get("each", ()):
        for kind in (SOUND, CUE):
            path = kept_file(video, row, kind)
            if path is not None:
                yield path, row[kind]


def take_seed(seed: int, number: int) -> int:
    """The seed of a cue's take; number 0 has the cue's own."""
    if number == 0:
        return seed
    # "draft" is an older word for a take; it stays in the hash so that seeds keep their takes.
    return int.from_bytes(hashlib.sha256(f"{seed} draft {number}".encode()).digest()[:4], "little") >> 1
