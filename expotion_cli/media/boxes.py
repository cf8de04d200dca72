"""The boxes of MP4 and MOV files (ISO/IEC 14496-12): what ffmpeg drops on copying is read here, and put back.

Sizes in a file are claims: nothing is read beyond the file's end, and no index larger than `MOST_INDEX_BYTES`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

MOST_INDEX_BYTES = 1 << 28
MOST_KEPT_BYTES = 1 << 24  # of boxes that are copied as they are
CHUNK_BYTES = 1 << 20
CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf"}
REWRITTEN = {b"meta", b"chpl", b"free", b"skip"}  # ffmpeg writes the first two anew
SELF_CONTAINED = 1


class BoxError(ValueError):
    """The boxes contradict each other, or there are none."""


@dataclass
class Box:
    """A box in memory: one of `CONTAINERS` has children, all others have content."""

    kind: bytes
    content: bytes = b""
    children: list[Box] | None = None

    def __bytes__(self) -> bytes:
        content = self.content if self.children is None else b"".join(map(bytes, self.children))
        return struct.pack(">I4s", 8 + len(content), self.kind) + content

    def all(self, *path: bytes) -> list[Box]:
        """The boxes at a path below this one."""
        found = [self]
        for kind in path:
            found = [child for box in found for child in box.children or () if child.kind == kind]
        return found

    def one(self, *path: bytes) -> Box:
        """The first box at a path below this one.

        Raises:
            BoxError: there is none.
        """
        found = self.all(*path)
        if not found:
            raise BoxError(f"no {path[-1]!r}")
        return found[0]


@dataclass(frozen=True)
class Edit:
    """An entry of an edit list: for so long the track is shown from this place on.

    Attributes:
        duration: in seconds; 0 in the last entry of a file that is written in fragments.
        media_start: in seconds of the track's own time; None shows nothing.
        rate: 1 for plain playing.
    """

    duration: Fraction
    media_start: Fraction | None
    rate: Fraction


@dataclass(frozen=True)
class BoxTrack:
    """What the index says of one track.

    Attributes:
        tag: four letters of its first sample entry.
        edits: its edit list.
        is_elsewhere: whether its samples lie in another file.
        kept: boxes beside its samples that ffmpeg doesn't copy.
    """

    tag: str
    edits: tuple[Edit, ...]
    is_elsewhere: bool
    kept: tuple[Box, ...]


@dataclass(frozen=True)
class Boxes:
    """What the boxes of a file say that libavformat doesn't.

    Attributes:
        tracks: in the file's order, which is that of the streams.
        user: boxes of the film's user data (`moov/udta`).
        film: further boxes of the film (`moov/uuid`).
        file: further boxes of the file (`uuid`), XMP among them.
        is_fragmented: whether the pictures are listed in fragments.
    """

    tracks: tuple[BoxTrack, ...]
    user: tuple[Box, ...] = ()
    film: tuple[Box, ...] = ()
    file: tuple[Box, ...] = ()
    is_fragmented: bool = False


@dataclass
class Changes:
    """What `rewrite` changes in a finished file.

    Attributes:
        user, film, file: boxes to add; see `Boxes`.
        picture: boxes to add to the first track.
        edits: the first track's edit list, in place of the one there.
        duration: of the whole, in seconds; tracks and film claim no more.
    """

    user: Sequence[Box] = ()
    film: Sequence[Box] = ()
    file: Sequence[Box] = ()
    picture: Sequence[Box] = ()
    edits: Sequence[Edit] = ()
    duration: Fraction | None = None


def read_boxes(path: str | Path) -> Boxes:
    """Read a file's index.

    Args:
        path: an MP4 or MOV file.

    Raises:
        BoxError: there is no index, or it can't be made sense of.
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        tops = list(_tops(file))
        moov = _read_moov(file, tops)
        kept = [top for top in tops if top.kind == b"uuid"]
        whole = sum(top.size for top in kept) <= MOST_KEPT_BYTES
        extra = tuple(Box(b"uuid", _content(file, top)) for top in kept) if whole else ()
    scale = _scale(moov.one(b"mvhd"))
    tracks = tuple(_track(trak, scale) for trak in moov.all(b"trak"))
    user = tuple(box for box in moov.all(b"udta") for box in box.children or () if box.kind not in REWRITTEN)
    return Boxes(tracks, user, tuple(moov.all(b"uuid")), extra, bool(moov.all(b"mvex")))


def rewrite(path: str | Path, changes: Changes) -> None:
    """Put the index of a finished file before its samples, with these changes.

    Args:
        path: an MP4 or MOV file by ffmpeg, the index at its end.
        changes: to its boxes.

    Raises:
        BoxError: the file is not laid out like that.
        OSError: it can't be written.
    """
    with open(path, "r+b") as file:
        tops = list(_tops(file))
        if len(tops) < 3 or tops[0].kind != b"ftyp" or tops[-1].kind != b"moov":
            raise BoxError("the index is not at the end")
        moov = _read_moov(file, tops)
        _change(moov, changes)
        first, last = tops[0].start + tops[0].size, tops[-1].start
        size = _move_chunks(moov, last)
        _shift(file, first, last, size)
        file.seek(first)
        file.write(bytes(moov))
        file.seek(last + size)
        file.writelines(bytes(box) for box in changes.file)
        file.truncate()


@dataclass(frozen=True)
class _Top:
    kind: bytes
    start: int
    header: int
    size: int


def _tops(file: BinaryIO) -> Iterator[_Top]:
    """The outermost boxes, without their content."""
    end = os.fstat(file.fileno()).st_size
    start = 0
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        size, kind = struct.unpack(">I4s", head[:8])
        header = 8
        if size == 1 and len(head) == 16:
            size, header = struct.unpack(">Q", head[8:])[0], 16
        elif size == 0:
            size = end - start
        if size < header or start + size > end:
            if kind == b"moov":
                raise BoxError("the index is cut off")
            return  # cut off, or something after the last box
        yield _Top(kind, start, header, size)
        start += size


def _content(file: BinaryIO, top: _Top) -> bytes:
    file.seek(top.start + top.header)
    return file.read(top.size - top.header)


def _read_moov(file: BinaryIO, tops: Sequence[_Top]) -> Box:
    for top in tops:
        if top.kind == b"moov" and top.size <= MOST_INDEX_BYTES:
            return Box(b"moov", children=parse(_content(file, top)))
    raise BoxError("no index")


def parse(data: bytes, depth: int = 0) -> list[Box]:
    """The boxes in a piece of a file.

    Raises:
        BoxError: one claims more than is there.
    """
    boxes, start = [], 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 0 and depth and not kind.strip(b"\0"):
            break  # QuickTime ends user data with four zero bytes
        if size == 1 and start + 16 <= len(data):
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        elif size == 0:
            size = len(data) - start
        if size < header or start + size > len(data):
            raise BoxError(f"{kind!r} claims {size} bytes")
        content = data[start + header : start + size]
        if kind in CONTAINERS and depth < 8:
            boxes.append(Box(kind, children=parse(content, depth + 1)))
        else:
            boxes.append(Box(kind, content))
        start += size
    return boxes


def _unpacked(box: Box, form: str, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, box.content, offset)
    except struct.error as error:
        raise BoxError(f"{box.kind!r} is too short") from error


def _scale(box: Box) -> int:
    """Ticks a second, of a `mvhd` or `mdhd`."""
    scale = _unpacked(box, ">I", 20 if box.content[:1] == b"\1" else 12)[0]
    if not scale:
        raise BoxError("a clock without ticks")
    return scale


def _track(trak: Box, film_scale: int) -> BoxTrack:
    stsd = trak.one(b"mdia", b"minf", b"stbl", b"stsd")
    scale = _scale(trak.one(b"mdia", b"mdhd"))
    beside = [*trak.all(b"uuid"), *trak.all(b"meta")]
    user = [box for udta in trak.all(b"udta") for box in udta.children or () if box.kind not in REWRITTEN]
    return BoxTrack(
        tag=stsd.content[12:16].decode("latin-1"),
        edits=tuple(_edits(trak, film_scale, scale)),
        is_elsewhere=_is_elsewhere(trak),
        kept=(*beside, *([Box(b"udta", children=user)] if user else [])),
    )


def _edits(trak: Box, film_scale: int, scale: int) -> Iterator[Edit]:
    for box in trak.all(b"edts", b"elst")[:1]:
        form, step = (">Qqi", 20) if box.content[:1] == b"\1" else (">Iii", 12)
        count = min(_unpacked(box, ">I", 4)[0], (len(box.content) - 8) // step)
        for number in range(count):
            duration, start, rate = _unpacked(box, form, 8 + number * step)
            media = None if start < 0 else Fraction(start, scale)
            yield Edit(Fraction(duration, film_scale), media, Fraction(rate, 1 << 16))


def _is_elsewhere(trak: Box) -> bool:
    for box in trak.all(b"mdia", b"minf", b"dinf", b"dref"):
        start = 8
        while start + 12 <= len(box.content):
            size, _, flags = _unpacked(box, ">I4sI", start)
            if not flags & SELF_CONTAINED:
                return True
            start += max(size, 12)
    return False


def _change(moov: Box, changes: Changes) -> None:
    assert moov.children is not None
    traks = moov.all(b"trak")
    if not traks:
        raise BoxError("no track")
    film_scale = _scale(moov.one(b"mvhd"))
    if changes.user:
        _add(_user_data(moov), changes.user)
    _add(moov, changes.film)
    for box in changes.picture:
        if box.kind == b"udta":
            _add(_user_data(traks[0]), box.children or ())
        else:
            _add(traks[0], [box])
    if changes.edits:
        _set_edits(traks[0], changes.edits, film_scale)
    if changes.duration is not None:
        ticks = round(changes.duration * film_scale)
        for trak in traks:
            if changes.edits or trak is not traks[0]:
                _limit_edits(trak, ticks)
            _limit(trak.one(b"tkhd"), ticks, (28, ">Q") if trak.one(b"tkhd").content[:1] == b"\1" else (20, ">I"))
        _limit(moov.one(b"mvhd"), ticks, (24, ">Q") if moov.one(b"mvhd").content[:1] == b"\1" else (16, ">I"))


def _user_data(parent: Box) -> Box:
    assert parent.children is not None
    for box in parent.all(b"udta"):
        return box
    parent.children.append(Box(b"udta", children=[]))
    return parent.children[-1]


def _add(parent: Box, boxes: Sequence[Box]) -> None:
    """Add boxes of kinds that are not there yet."""
    assert parent.children is not None
    there = {box.kind for box in parent.children}
    parent.children += [box for box in boxes if box.kind == b"uuid" or box.kind not in there]


def _set_edits(trak: Box, edits: Sequence[Edit], film_scale: int) -> None:
    assert trak.children is not None
    scale = _scale(trak.one(b"mdia", b"mdhd"))
    rows = b""
    for edit in edits:
        start = -1 if edit.media_start is None else round(edit.media_start * scale)
        rows += struct.pack(">Qqi", round(edit.duration * film_scale), start, round(edit.rate * (1 << 16)))
    elst = Box(b"elst", struct.pack(">II", 1 << 24, len(edits)) + rows)
    trak.children = [box for box in trak.children if box.kind != b"edts"]
    trak.children.insert(1, Box(b"edts", children=[elst]))


def _limit_edits(trak: Box, ticks: int) -> None:
    """Shorten the last entry of an edit list so that all together last no longer than this."""
    for box in trak.all(b"edts", b"elst")[:1]:
        form, step = (">Q", 20) if box.content[:1] == b"\1" else (">I", 12)
        count = _unpacked(box, ">I", 4)[0]
        content, left = bytearray(box.content), ticks
        for number in range(count):
            duration = _unpacked(box, form, 8 + number * step)[0]
            struct.pack_into(form, content, 8 + number * step, min(duration, left))
            left -= min(duration, left)
        box.content = bytes(content)


def _limit(box: Box, ticks: int, place: tuple[int, str]) -> None:
    content = bytearray(box.content)
    struct.pack_into(place[1], content, place[0], min(ticks, _unpacked(box, place[1], place[0])[0]))
    box.content = bytes(content)


def _move_chunks(moov: Box, last: int) -> int:
    """Add the size of the index to all places of samples; returns that size."""
    tables = [stbl for trak in moov.all(b"trak") for stbl in trak.all(b"mdia", b"minf", b"stbl")]
    for table in tables:
        for box in table.all(b"stco"):
            if last + 2 * len(bytes(moov)) > 0xFFFFFFFF:  # the places need eight bytes each, which may double the index
                count = _unpacked(box, ">I", 4)[0]
                places = struct.unpack_from(f">{count}I", box.content, 8)
                box.kind, box.content = b"co64", box.content[:8] + struct.pack(f">{count}Q", *places)
    size = len(bytes(moov))
    for table in tables:
        for kind, letter in ((b"stco", "I"), (b"co64", "Q")):
            for box in table.all(kind):
                count = _unpacked(box, ">I", 4)[0]
                places = struct.unpack_from(f">{count}{letter}", box.content, 8)
                box.content = box.content[:8] + struct.pack(f">{count}{letter}", *(place + size for place in places))
    return size


def _shift(file: BinaryIO, start: int, end: int, by: int) -> None:
    """Move the bytes from `start` to `end` towards the end of the file."""
    while end > start:
        count = min(CHUNK_BYTES, end - start)
        end -= count
        file.seek(end)
        piece = file.read(count)
        file.seek(end + by)
        file.write(piece)
