"""Edit lists of MP4 and MOV files that trim or join: what of a track is shown, and when.

libavformat leaves out what is not shown, to the nearest picture, and copying loses the list. For files whose list does
more than set where a track begins it is therefore told to pass the list over, and the list is obeyed here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from expotion_cli.errors import ProbeError
from expotion_cli.media.boxes import Boxes, Edit
from expotion_cli.media.walk import Span

T = TypeVar("T")
Part = tuple[Fraction, Fraction, Fraction]
"""(when it comes, in seconds after the picture's beginning; from; to, in seconds of the track's own time)."""

EXPORT = "Export it anew in the program that cut it."


def parts_of(
    boxes: Boxes, picture: int, sounds: Iterable[int], spans: dict[int, Span], path: Path
) -> dict[int, tuple[Part, ...]]:
    """What is shown of the picture and heard of the sound, by stream index.

    Args:
        boxes: of the file.
        picture: its stream index.
        sounds: stream indices of the clip's own sound.
        spans: from `walk.walk`, under libavformat's own reading of the list.
        path: the file, for messages.

    Returns:
        Nothing if the list only sets where the tracks begin, which libavformat and ffmpeg carry over.

    Raises:
        ProbeError: the list shows parts again, in another order, at another speed, or with pauses.
    """
    if boxes.is_fragmented or picture >= len(boxes.tracks):
        return {}
    late, entries = _without_beginning(boxes.tracks[picture].edits)
    if len(entries) < 2 and not spans[picture].left_out:
        return {}
    ends = [Fraction(0)]
    for entry in entries:
        if entry.media_start is None or entry.rate != 1 or entry.duration <= 0 or entry.media_start < ends[-1]:
            reason = "its edit list shows parts of it again, in another order, at another speed or with pauses."
            raise ProbeError(reason, path=path, remedy=EXPORT)
        ends.append(entry.media_start + entry.duration)
    found = {picture: tuple(_parts(entries, Fraction(0)))}
    length = sum((to - start for _, start, to in found[picture]), Fraction(0))
    for index in sounds:
        delay, heard = _without_beginning(boxes.tracks[index].edits)
        whole = [Edit(length + late, Fraction(0), Fraction(1))]
        heard = [entry for entry in heard if entry.media_start is not None] or whole
        found[index] = tuple(_parts(heard, delay - late))
    return found


def _without_beginning(edits: Sequence[Edit]) -> tuple[Fraction, list[Edit]]:
    """How late a track begins, and its edit list without the entries that say so."""
    rest = list(itertools.dropwhile(lambda edit: edit.media_start is None, edits))
    return sum((edit.duration for edit in edits[: len(edits) - len(rest)]), Fraction(0)), rest


def _parts(entries: Sequence[Edit], at: Fraction) -> Iterator[Part]:
    for entry in entries:
        assert entry.media_start is not None
        yield at, entry.media_start, entry.media_start + entry.duration
        at += entry.duration


def length_of(parts: Sequence[Part]) -> Fraction:
    """Seconds that all parts last together."""
    return sum((to - start for _, start, to in parts), Fraction(0))


def shown(timed: Iterable[tuple[Fraction, T]], parts: Sequence[Part]) -> Iterator[tuple[Fraction, T]]:
    """Things that each stay until the next comes, as an edit list shows them.

    Args:
        timed: (time, thing) on the track's own clock, times rising.
        parts: from `parts_of`.

    Yields:
        (seconds after the picture's beginning, thing): a thing that is on when a part begins comes at its beginning.
    """
    left = list(parts)
    for (time, thing), until in _with_ends(timed):
        while left:
            at, start, to = left[0]
            if until is not None and until <= start:
                break
            if time < to:
                yield at + max(time, start) - start, thing
                if until is not None and until <= to:
                    break
            left.pop(0)
        if not left:
            return


def _with_ends(timed: Iterable[tuple[Fraction, T]]) -> Iterator[tuple[tuple[Fraction, T], Fraction | None]]:
    """Each with the time of the next."""
    held = None
    for item in timed:
        if held is not None:
            yield held, item[0]
        held = item
    if held is not None:
        yield held, None
