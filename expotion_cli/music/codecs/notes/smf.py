"""Writes standard MIDI files: events of tracks, in order of time."""

from __future__ import annotations

import struct
from collections.abc import Iterable

TICKS_PER_BEAT = 480
Event = tuple[int, int, bytes]
"""(tick, order among events of one tick, message)."""
_META, _OFF, _SETTING, _ON = 0, 1, 2, 3


def text(tick: int, kind: str, words: str) -> Event:
    """A track's name, an instrument's name or a marker.

    Args:
        tick: when.
        kind: "track", "instrument" or "marker".
        words: what it says.
    """
    said = words.encode("utf-8")
    return tick, _META, bytes([0xFF, {"track": 3, "instrument": 4, "marker": 6}[kind]]) + _length(len(said)) + said


def tempo(tick: int, beat_s: float) -> Event:
    """A tempo, by the length of a quarter note in seconds."""
    microseconds = min(max(1, round(beat_s * 1e6)), 0xFFFFFF)
    return tick, _META, b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def time_signature(tick: int, upper: int, lower: int) -> Event:
    """A time signature; `lower` is a power of two."""
    clocks = 36 if lower == 8 and upper % 3 == 0 else 96 // lower or 1
    return tick, _META, bytes([0xFF, 0x58, 4, upper, lower.bit_length() - 1, clocks, 8])


def key_signature(tick: int, sharps: int, *, is_minor: bool) -> Event:
    """A key signature.

    Args:
        tick: when.
        sharps: their number; flats are negative.
        is_minor: the mode.
    """
    return tick, _META, b"\xff\x59\x02" + struct.pack(">bB", sharps, is_minor)


def control(tick: int, channel: int, number: int, value: int) -> Event:
    """A controller's value.

    Args:
        tick: when.
        channel: 0..15; 9 plays drums.
        number: of the controller.
        value: 0..127.
    """
    return tick, _SETTING, bytes([0xB0 | channel, number, value])


def program(tick: int, channel: int, number: int) -> list[Event]:
    """General MIDI's bank and a program of it.

    Args:
        tick: when.
        channel: 0..15; on 9 the program is a kit.
        number: 0..127.
    """
    banks = [control(tick, channel, 0, 0), control(tick, channel, 32, 0)]
    return [*banks, (tick, _SETTING, bytes([0xC0 | channel, number]))]


def note(start: int, end: int, channel: int, pitch: int, velocity: int) -> list[Event]:
    """A note.

    Args:
        start: tick.
        end: tick.
        channel: 0..15; 9 plays drums.
        pitch: 0..127.
        velocity: 1..127.
    """
    on, off = bytes([0x90 | channel, pitch, velocity]), bytes([0x80 | channel, pitch, 64])
    return [(start, _ON, on), (max(end, start + 1), _OFF, off)]


def write(tracks: Iterable[Iterable[Event]]) -> bytes:
    """A file of several tracks that sound together; the first holds what concerns all."""
    chunks = [_chunk(events) for events in tracks]
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), TICKS_PER_BEAT) + b"".join(chunks)


def _chunk(events: Iterable[Event]) -> bytes:
    body, now = bytearray(), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        body += _length(tick - now) + message
        now = tick
    body += b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(body)) + bytes(body)


def _length(value: int) -> bytes:
    """A number in groups of seven bits, the highest first."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
