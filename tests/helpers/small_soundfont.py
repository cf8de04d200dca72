"""Writes small SoundFont files: a few recordings, and presets made of zones over them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

INSTRUMENT, SAMPLE = 41, 53


@dataclass(frozen=True)
class Sound:
    """A recording: [n] int16, or bytes of Ogg Vorbis; its loop is counted from its beginning."""

    data: np.ndarray | bytes
    loop: tuple[int, int] = (0, 0)
    sample_rate: int = 44100
    key: int = 60
    name: str = "sound"


@dataclass(frozen=True)
class Zone:
    """Generators and modulators (source, destination, amount) of one zone that plays the recording `sound`."""

    sound: int = 0
    generators: Mapping[int, int] = field(default_factory=dict)
    modulators: Sequence[tuple[int, int, int]] = ()


def sine(seconds: float, hertz: float = 261.6256, level: float = 0.5, sample_rate: int = 44100) -> np.ndarray:
    """A sine tone: [n] int16."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.rint(32767 * level * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def write_soundfont(
    path: Path, presets: Mapping[tuple[int, int], Sequence[Zone]], sounds: Sequence[Sound], *, pads: bool = True
) -> Path:
    """Write a soundfont.

    Args:
        path: the file.
        presets: (bank, program) → zones of the instrument it plays.
        sounds: the recordings.
        pads: odd chunks are followed by a byte of padding, as they should.
    """
    compressed = any(isinstance(sound.data, bytes) for sound in sounds)
    body, headers = b"", b""
    for sound in sounds:
        data = sound.data if isinstance(sound.data, bytes) else sound.data.astype("<i2").tobytes()
        unit = 1 if compressed else 2
        begin, end = len(body) // unit, (len(body) + len(data)) // unit
        first, last = (place if compressed else place + begin for place in sound.loop)
        body += data if compressed else data + bytes(92)
        headers += struct.pack(
            "<20sIIIIIBbHH", sound.name.encode(), begin, end, first, last, sound.sample_rate, sound.key, 0, 0,
            17 if compressed else 1,
        )  # fmt: skip
    headers += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    tables: dict[str, bytes] = dict.fromkeys(("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen"), b"")
    zones = generators = modulators = 0
    for number, ((bank, program), rows) in enumerate(presets.items()):
        tables["phdr"] += struct.pack("<20sHHHIII", f"preset {number}".encode(), program, bank, number, 0, 0, 0)
        tables["pbag"] += struct.pack("<HH", number, 0)
        tables["pgen"] += struct.pack("<HH", INSTRUMENT, number)
        tables["inst"] += struct.pack("<20sH", f"instrument {number}".encode(), zones)
        for zone in rows:
            tables["ibag"] += struct.pack("<HH", generators, modulators)
            for source, destination, amount in zone.modulators:
                tables["imod"] += struct.pack("<HHhHH", source, destination, amount, 0, 0)
            for oper, amount in (*zone.generators.items(), (SAMPLE, zone.sound)):
                tables["igen"] += struct.pack("<HH", oper, amount & 0xFFFF)
            generators += len(zone.generators) + 1
            modulators += len(zone.modulators)
        zones += len(rows)
    tables["phdr"] += struct.pack("<20sHHHIII", b"EOP", 0, 0, len(presets), 0, 0, 0)
    tables["pbag"] += struct.pack("<HH", len(presets), 0)
    tables["pmod"] += bytes(10)
    tables["pgen"] += bytes(4)
    tables["inst"] += struct.pack("<20sH", b"EOI", zones)
    tables["ibag"] += struct.pack("<HH", generators, modulators)
    tables["imod"] += bytes(10)
    tables["igen"] += bytes(4)
    tables["shdr"] = headers

    def chunk(name: str, data: bytes) -> bytes:
        return name.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2 if pads else 0)

    lists = chunk("LIST", b"INFO" + chunk("ifil", struct.pack("<HH", 3 if compressed else 2, 1)))
    lists += chunk("LIST", b"sdta" + chunk("smpl", body))
    lists += chunk("LIST", b"pdta" + b"".join(chunk(name, data) for name, data in tables.items()))
    path.write_bytes(b"RIFF" + struct.pack("<I", len(lists) + 4) + b"sfbk" + lists)
    return path
