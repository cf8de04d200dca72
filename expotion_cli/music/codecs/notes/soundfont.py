"""Reads SoundFont 2 files: which sample plays for a program, a key and a velocity, and how.

Only what shapes a note is read: key and velocity ranges, tuning, loops, volume and filter settings, pan. The sample
data stays memory-mapped, so loading costs milliseconds.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from expotion_cli.errors import UsageError, WeightsError

DRUM_BANK = 128
# Generator numbers of the SoundFont 2.04 specification, section 8.1.2.
_START, _END, _LOOP_START, _LOOP_END, _START_COARSE = 0, 1, 2, 3, 4
_FILTER_FC, _FILTER_Q, _MOD_TO_FC, _END_COARSE, _PAN = 8, 9, 11, 12, 17
_MOD_ATTACK, _MOD_HOLD, _MOD_DECAY, _MOD_SUSTAIN = 26, 27, 28, 29
_VIB_TO_PITCH, _VIB_DELAY, _VIB_FREQ = 6, 23, 24
_DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE, _KEY_TO_HOLD, _KEY_TO_DECAY = 33, 34, 35, 36, 37, 38, 39, 40
_INSTRUMENT, _KEY_RANGE, _VEL_RANGE, _LOOP_START_COARSE, _KEY, _VELOCITY = 41, 43, 44, 45, 46, 47
_ATTENUATION, _LOOP_END_COARSE, _COARSE_TUNE, _FINE_TUNE, _SAMPLE, _MODES = 48, 50, 51, 52, 53, 54
_SCALE_TUNE, _EXCLUSIVE, _ROOT_KEY = 56, 57, 58
_DEFAULTS = {_FILTER_FC: 13500, _SCALE_TUNE: 100, _ROOT_KEY: -1, _VIB_DELAY: -12000} | dict.fromkeys(
    (_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE, _MOD_ATTACK, _MOD_HOLD, _MOD_DECAY), -12000
)
# A preset's settings add to its instrument's; these belong to the instrument alone (section 8.5).
_INSTRUMENT_ONLY = {_START, _END, _LOOP_START, _LOOP_END, _START_COARSE, _END_COARSE, _LOOP_START_COARSE,
                    _LOOP_END_COARSE, _KEY, _VELOCITY, _MODES, _EXCLUSIVE, _ROOT_KEY, _SAMPLE}  # fmt: skip


@dataclass(frozen=True)
class Region:
    """One recorded sample and how it is played over a range of keys and velocities.

    Attributes:
        keys, velocities: inclusive (low, high).
        start, end, loop_start, loop_end: positions in the file's sample data.
        loops: the loop is repeated while the note lasts.
        sample_rate: of the recording.
        root_cents: pitch of the recording, in cents (6000 = middle C), tuning included.
        scale_cents: cents a key (100; 0 where every key sounds the same).
        attenuation_db: how much quieter than the recording.
        pan: -1 (left) .. 1 (right).
        envelope_s: delay, attack, hold, decay, release in seconds, at key 60.
        sustain_db: attenuation while the note is held after the decay.
        key_to_hold, key_to_decay: cents of time a key below 60.
        cutoff_cents, cutoff_peak_cents, resonance_db: low-pass filter at rest and at the height of its own envelope
            (6900 cents = 440 Hz).
        cutoff_envelope: attack, hold, decay in seconds and the height (0..1) it keeps, of the filter's envelope.
        vibrato: depth in cents, delay in seconds, rate in Hz.
        exclusive: notes of the same non-zero class cut each other off (hi-hats).
        fixed_key: key that is always played, or -1.
    """

    keys: tuple[int, int]
    velocities: tuple[int, int]
    start: int
    end: int
    loop_start: int
    loop_end: int
    loops: bool
    sample_rate: int
    root_cents: float
    scale_cents: float
    attenuation_db: float
    pan: float
    envelope_s: tuple[float, float, float, float, float]
    sustain_db: float
    key_to_hold: float
    key_to_decay: float
    cutoff_cents: float
    cutoff_peak_cents: float
    cutoff_envelope: tuple[float, float, float, float]
    resonance_db: float
    vibrato: tuple[float, float, float]
    exclusive: int
    fixed_key: int


def default_soundfont() -> Path:
    """The General-MIDI soundfont inside the installed pretty_midi package (which is not imported).

    Raises:
        WeightsError: the package or its soundfont is missing.
    """
    spec = find_spec("pretty_midi")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.sf2")):
            return path
    raise WeightsError(
        "No soundfont found: the package pretty_midi, which carries one, is missing.",
        remedy="Install the package again, or name a .sf2 file with --soundfont.",
    )


class SoundFont:
    """A loaded soundfont.

    Args:
        path: an .sf2 file.

    Raises:
        UsageError: there is no such file.
        WeightsError: it is damaged, truncated, or compressed (.sf3).
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError("No such soundfont file.", path=path, remedy="Name an existing .sf2 file.")
        try:
            chunks = _chunks(self.path)
            offset, size = chunks["smpl"]
            self.samples = np.memmap(self.path, np.int16, "r", offset, (size // 2,))
            self._presets = _read_presets(self.path.read_bytes(), chunks)
        except (KeyError, IndexError, struct.error, ValueError, OSError) as error:
            raise WeightsError(
                f"Not a complete SoundFont 2 file ({error}).", path=path, remedy="Use an intact .sf2 file."
            ) from error

    @property
    def programs(self) -> list[tuple[int, int]]:
        """(bank, program) pairs it has; drum kits are in bank 128."""
        return sorted(self._presets)

    def regions(self, program: int, drums: bool = False) -> tuple[Region, ...]:
        """All regions of a General-MIDI program or drum kit.

        A missing kit falls back to the standard one, a missing program to the first one of the same family of eight,
        then to the piano.
        """
        bank = DRUM_BANK if drums else 0
        family = range(program // 8 * 8, program // 8 * 8 + 8)
        for number in (program, *((0,) if drums else (*family, 0))):
            if (bank, number) in self._presets:
                return self._presets[bank, number]
        return next(iter(self._presets.values()))


@lru_cache(maxsize=4)
def _load(path: Path, size: int, mtime_ns: int) -> SoundFont:
    return SoundFont(path)


def load_soundfont(path: Path | None = None) -> SoundFont:
    """The soundfont at `path` (None: the default one), loaded once per process while the file stays the same.

    Raises:
        UsageError, WeightsError: see `SoundFont`.
    """
    path = Path(path) if path is not None else default_soundfont()
    if not path.is_file():
        return SoundFont(path)
    stat = path.stat()
    return _load(path.resolve(), stat.st_size, stat.st_mtime_ns)


def _chunks(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of each chunk inside the file's lists."""
    found: dict[str, tuple[int, int]] = {}
    length = path.stat().st_size
    with path.open("rb") as file:
        kind, size, form = struct.unpack("<4sI4s", file.read(12))
        if kind != b"RIFF" or form != b"sfbk":
            raise ValueError("it does not begin as one")
        if size + 8 > length:
            raise ValueError(f"{size + 8 - length} bytes are missing at its end")
        while file.tell() + 12 <= length:
            _, size, _ = struct.unpack("<4sI4s", file.read(12))
            stop = file.tell() + size - 4
            while file.tell() + 8 <= stop:
                name, inner = struct.unpack("<4sI", file.read(8))
                found[name.decode("ascii", "replace")] = (file.tell(), inner)
                file.seek(inner + inner % 2, 1)
            file.seek(stop + stop % 2)
    return found


def _records(data: bytes, chunk: tuple[int, int], layout: str) -> list[tuple]:
    offset, size = chunk
    return list(struct.iter_unpack(layout, data[offset : offset + size]))


def _zones(bags: list[tuple], gens: list[tuple], first: int, last: int, target: int) -> list[dict[int, int]]:
    """The zones of one preset or instrument, its global zone merged in. Ranges stay packed (low | high << 8)."""
    zones: list[dict[int, int]] = []
    shared: dict[int, int] = {}
    for bag in range(first, last):
        zone: dict[int, int] = {}
        for oper, amount in gens[bags[bag][0] : bags[bag + 1][0]]:
            packed = oper in (_KEY_RANGE, _VEL_RANGE, target)
            zone[oper] = amount if packed or amount < 0x8000 else amount - 0x10000
        if target in zone:
            zones.append(shared | zone)
        elif bag == first:
            shared = zone
    return zones


def _read_presets(data: bytes, chunks: dict[str, tuple[int, int]]) -> dict[tuple[int, int], tuple[Region, ...]]:
    presets = _records(data, chunks["phdr"], "<20sHHHIII")
    instruments = _records(data, chunks["inst"], "<20sH")
    headers = _records(data, chunks["shdr"], "<20sIIIIIBbHH")
    preset_bags, preset_gens = _records(data, chunks["pbag"], "<HH"), _records(data, chunks["pgen"], "<HH")
    inst_bags, inst_gens = _records(data, chunks["ibag"], "<HH"), _records(data, chunks["igen"], "<HH")
    total = chunks["smpl"][1] // 2
    if any(header[9] & 0x10 for header in headers):
        raise ValueError("its samples are compressed, as in .sf3 files")
    inner = [
        _zones(inst_bags, inst_gens, here[1], there[1], _SAMPLE) for here, there in itertools.pairwise(instruments)
    ]
    found: dict[tuple[int, int], tuple[Region, ...]] = {}
    for here, there in itertools.pairwise(presets):
        regions = []
        for outer in _zones(preset_bags, preset_gens, here[3], there[3], _INSTRUMENT):
            for zone in inner[outer[_INSTRUMENT]]:
                region = _region(outer, zone, headers[zone[_SAMPLE]], total)
                if region is not None:
                    regions.append(region)
        if regions:
            found[here[2], here[1]] = tuple(regions)
    if not found:
        raise ValueError("it has no instruments")
    return found


def _overlap(outer: dict[int, int], zone: dict[int, int], oper: int) -> tuple[int, int]:
    low, high = 0, 127
    for packed in (outer.get(oper), zone.get(oper)):
        if packed is not None:
            low, high = max(low, packed & 0xFF), min(high, packed >> 8)
    return low, high


def _region(outer: dict[int, int], zone: dict[int, int], header: tuple, total: int) -> Region | None:
    """Merge a preset's zone, an instrument's zone and a sample header; None where their ranges do not meet."""
    keys, velocities = _overlap(outer, zone, _KEY_RANGE), _overlap(outer, zone, _VEL_RANGE)
    _, start, end, loop_start, loop_end, sample_rate, original, correction, _, _ = header
    if keys[0] > keys[1] or velocities[0] > velocities[1] or end <= start or not sample_rate:
        return None

    def value(oper: int) -> int:
        own = zone.get(oper, _DEFAULTS.get(oper, 0))
        return own if oper in _INSTRUMENT_ONLY else own + outer.get(oper, 0)

    def seconds(oper: int) -> float:
        cents = value(oper)
        return 0.0 if cents <= -12000 else 2.0 ** (min(cents, 8000) / 1200)

    start += value(_START) + 32768 * value(_START_COARSE)
    end = min(end + value(_END) + 32768 * value(_END_COARSE), total)
    loop_start += value(_LOOP_START) + 32768 * value(_LOOP_START_COARSE)
    loop_end += value(_LOOP_END) + 32768 * value(_LOOP_END_COARSE)
    if value(_ROOT_KEY) >= 0:
        original = value(_ROOT_KEY)
    elif original > 127:
        original = 60
    return Region(
        keys=keys,
        velocities=velocities,
        start=start,
        end=end,
        loop_start=loop_start,
        loop_end=loop_end,
        loops=bool(value(_MODES) & 1) and start <= loop_start < loop_end <= end,
        sample_rate=sample_rate,
        root_cents=original * 100 - correction - value(_COARSE_TUNE) * 100 - value(_FINE_TUNE),
        scale_cents=value(_SCALE_TUNE),
        # Soundfonts are made for players that, like the first hardware, apply 0.4 of the attenuation written.
        attenuation_db=0.4 * max(0, value(_ATTENUATION)) / 10,
        pan=float(np.clip(value(_PAN) / 500, -1, 1)),
        envelope_s=(seconds(_DELAY), seconds(_ATTACK), seconds(_HOLD), seconds(_DECAY), seconds(_RELEASE)),
        sustain_db=float(np.clip(value(_SUSTAIN) / 10, 0, 144)),
        key_to_hold=value(_KEY_TO_HOLD),
        key_to_decay=value(_KEY_TO_DECAY),
        cutoff_cents=value(_FILTER_FC),
        cutoff_peak_cents=value(_FILTER_FC) + value(_MOD_TO_FC),
        cutoff_envelope=(
            seconds(_MOD_ATTACK),
            seconds(_MOD_HOLD),
            seconds(_MOD_DECAY),
            float(np.clip(1 - value(_MOD_SUSTAIN) / 1000, 0, 1)),
        ),
        resonance_db=float(np.clip(value(_FILTER_Q) / 10, 0, 24)),
        vibrato=(value(_VIB_TO_PITCH), seconds(_VIB_DELAY), 8.176 * 2.0 ** (value(_VIB_FREQ) / 1200)),
        exclusive=value(_EXCLUSIVE),
        fixed_key=value(_KEY) if zone.get(_KEY) is not None else -1,
    )
