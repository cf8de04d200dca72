"""A check as a page with both sounds, spectrograms and loudness; a folder that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expotion_cli.errors import writing
from expotion_cli.media.flac import write_flac
from expotion_cli.page import render
from expotion_cli.regression import plots, report
from expotion_cli.regression.checking import CheckResult, ClipCheck
from expotion_cli.regression.measures import Sound
from expotion_cli.storage import write_bytes

INDEX = "index.html"


def write_page(folder: str | Path, result: CheckResult, index: str = INDEX) -> Path:
    """Write the page and the files it needs; returns the page's path.

    Args:
        folder: made if missing; files of an earlier page are replaced.
        result: of a check.
        index: name of the page.

    Raises:
        OutputError: it can't be written.
    """
    folder = Path(folder)
    with writing(folder, "the page"):
        cards = [_card(folder, number, clip, result) for number, clip in enumerate(result.clips, 1)]
        values = {
            "title": f"Regression renders: {result.folder.name or result.folder}",
            "summary": report.summary(result),
            "said": [*report.machine_lines(result), *result.notes],
            "cards": cards,
        }
        return render.write_page(folder / index, "regression.html", values)


def _card(folder: Path, number: int, clip: ClipCheck, result: CheckResult) -> dict[str, Any]:
    card: dict[str, Any] = {"name": clip.name, "status": clip.status, "said": report.causes(clip), "sounds": []}
    if clip.reference is not None and clip.new is not None:
        card |= {
            "sounds": _sounds(folder, number, clip.reference, clip.new),
            "measures": _measures(clip, result),
            "pictures": _pictures(folder, number, clip.reference, clip.new),
            "loudness": plots.loudness(clip.reference, clip.new),
        }
    return card


def _sounds(folder: Path, number: int, reference: Sound, new: Sound) -> list[tuple[str, str]]:
    """(what it is, file) of both sounds, which are written."""
    found = []
    for sound, kind in ((reference, "reference"), (new, "new")):
        file = f"clip-{number}-{kind}.flac"
        write_flac(folder / file, sound.samples, sound.sample_rate)
        found.append((kind, file))
    return found


def _measures(clip: ClipCheck, result: CheckResult) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "value": report.value_text(result.tolerances[name], value),
            "is_beyond": name in clip.beyond,
            "limit": f"{result.tolerances[name].limit:g} {result.tolerances[name].unit}",
            "of": result.tolerances[name].title,
        }
        for name, value in clip.distances.items()
    ]


def _pictures(folder: Path, number: int, reference: Sound, new: Sound) -> list[tuple[str, str]]:
    """(caption, file) of the pictures, which are written."""
    found = []
    for kind, words, content in (
        ("reference", "reference: mel spectrogram, 40 Hz to 16 kHz", plots.spectrogram(reference)),
        ("new", "new", plots.spectrogram(new)),
        ("difference", "difference: red is louder now, blue quieter", plots.difference(reference, new)),
    ):
        file = f"clip-{number}-{kind}.png"
        write_bytes(folder / file, content)
        found.append((words, file))
    return found
