"""The tables of a SoundFont file: presets, instruments and recordings, as the file lists them."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expotion_cli.errors import WeightsError
from expotion_cli.music.codecs.notes.regions import (
    INSTRUMENT,
    KEY_RANGE,
    MODULATORS,
    SAMPLE,
    VELOCITY_RANGE,
    Region,
    merge,
)

_LAYOUTS = {"phdr": "<20sHHHIII", "pbag": "<HH", "pmod": "<HHhHH", "pgen": "<HH", "inst": "<20sH", "ibag": "<HH",
            "imod": "<HHhHH", "igen": "<HH", "shdr": "<20sIIIIIBbHH"}  # fmt: skip
_MOST_REGIONS = 20_000
"""Every zone of a preset names every zone of an instrument, so a small hostile file can stand for billions."""
_Zone = dict[int, int]


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what goes wrong when a damaged soundfont is read into an error that names the file.

    Raises:
        WeightsError: the file is damaged.
    """
    try:
        yield
    except (KeyError, IndexError, struct.error, ValueError, OSError) as error:
        raise WeightsError(
            f"Not a complete SoundFont file ({error}).", path=path, remedy="Use an intact .sf2 or .sf3 file."
        ) from error


def find_chunks(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of each chunk inside the file's lists.

    Raises:
        ValueError, struct.error: it is no SoundFont file, or not whole.
    """
    found: dict[str, tuple[int, int]] = {}
    length = path.stat().st_size
    with path.open("rb") as file:
        kind, size, form = struct.unpack("<4sI4s", file.read(12))
        if kind != b"RIFF" or form != b"sfbk":
            raise ValueError("it does not begin as one")
        if size + 8 > length:
            raise ValueError(f"{size + 8 - length} bytes are missing at its end")
        while file.tell() + 12 <= length:
            begin = file.tell()
            name, size, _ = struct.unpack("<4sI4s", file.read(12))
            if begin % 2 and name != b"LIST":  # some writers of .sf3 leave the padding of odd chunks out
                begin += 1
                file.seek(begin)
                _, size, _ = struct.unpack("<4sI4s", file.read(12))
            stop = begin + 8 + size
            while file.tell() + 8 <= stop:
                name, inner = struct.unpack("<4sI", file.read(8))
                if file.tell() + inner > length:
                    raise ValueError(f"its part {name.decode('ascii', 'replace')} is longer than the file")
                found[name.decode("ascii", "replace")] = (file.tell(), inner)
                file.seek(inner + inner % 2, 1)
            file.seek(stop)
    return found


@dataclass(frozen=True)
class Tables:
    """What a soundfont lists. Each row ends where the next begins, so every list has one more at its end.

    Attributes:
        presets: (bank, program) → its first zone and the zone after its last.
        preset_zones, instrument_zones: as lists of rows, generators and modulators.
        instruments: first zone of each.
        recordings: header of each.
    """

    presets: dict[tuple[int, int], tuple[int, int]]
    preset_zones: _Zones
    instrument_zones: _Zones
    instruments: list[int]
    recordings: list[tuple]

    @classmethod
    def read(cls, path: Path, chunks: dict[str, tuple[int, int]]) -> Tables:
        """The tables of a file.

        Args:
            path: the file.
            chunks: from `find_chunks`.

        Raises:
            KeyError, ValueError, struct.error: one is missing or damaged.
        """
        rows: dict[str, list[tuple]] = {}
        with path.open("rb") as file:
            for name, layout in _LAYOUTS.items():
                offset, size = chunks[name]
                file.seek(offset)
                rows[name] = list(struct.iter_unpack(layout, file.read(size)))
        presets = {
            (here[2], here[1]): (here[3], there[3])
            for here, there in itertools.pairwise(rows["phdr"])
            if here[3] < there[3]
        }
        if not presets:
            raise ValueError("it has no instruments")
        instruments = [row[1] for row in rows["inst"]]
        _refuse_falling([row[3] for row in rows["phdr"]], len(rows["pbag"]))
        _refuse_falling(instruments, len(rows["ibag"]))
        return cls(
            presets,
            _Zones(rows["pbag"], rows["pgen"], rows["pmod"], INSTRUMENT),
            _Zones(rows["ibag"], rows["igen"], rows["imod"], SAMPLE),
            instruments,
            rows["shdr"],
        )

    def regions(self, bank: int, program: int) -> tuple[Region, ...]:
        """All regions of a preset.

        Raises:
            IndexError, ValueError: it is damaged.
        """
        found: list[Region] = []
        for outer in self.preset_zones.between(*self.presets[bank, program]):
            number = outer[INSTRUMENT]
            for zone in self.instrument_zones.between(self.instruments[number], self.instruments[number + 1]):
                region = merge(outer, zone, self.recordings[zone[SAMPLE]])
                if region is not None:
                    found.append(region)
                if len(found) > _MOST_REGIONS:
                    raise ValueError(f"its preset {bank}:{program} has more than {_MOST_REGIONS} regions")
        return tuple(found)


class _Zones:
    """Zones of presets or instruments.

    Args:
        rows: first generator and first modulator of each.
        generators: (number, amount) of all.
        modulators: source, destination, amount, source of the amount, transform of all.
        target: the generator without which a zone is a global one.
    """

    def __init__(self, rows: list[tuple], generators: list[tuple], modulators: list[tuple], target: int):
        self._rows, self._generators, self._modulators, self._target = rows, generators, modulators, target
        _refuse_falling([row[0] for row in rows], len(generators) + 1)
        _refuse_falling([row[1] for row in rows], len(modulators) + 1)

    def between(self, first: int, last: int) -> list[_Zone]:
        """Zones first to last - 1, their global zone merged in. Ranges stay packed (low | high << 8)."""
        zones: list[_Zone] = []
        shared: _Zone = {}
        for number in range(first, last):
            (begin, mods_begin), (end, mods_end) = self._rows[number], self._rows[number + 1]
            zone: _Zone = {}
            for source, destination, amount, _, _ in self._modulators[mods_begin:mods_end]:
                if (source, destination) in MODULATORS:
                    zone[MODULATORS[source, destination]] = amount
            for oper, amount in self._generators[begin:end]:
                packed = oper in (KEY_RANGE, VELOCITY_RANGE, self._target)
                zone[oper] = amount if packed or amount < 0x8000 else amount - 0x10000
            if self._target in zone:
                zones.append(shared | zone)
            elif number == first:
                shared = zone
        return zones


def _refuse_falling(numbers: list[int], limit: int) -> None:
    """Lists whose numbers fall back would let a small file name the same rows again and again."""
    if any(here > there for here, there in itertools.pairwise(numbers)) or (numbers and numbers[-1] >= limit):
        raise ValueError("its tables do not fit together")
