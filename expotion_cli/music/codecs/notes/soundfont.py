"""Reads SoundFont files: which recordings play for a program or a drum kit, and their samples.

Recordings are 16-bit samples (`.sf2`) or Ogg Vorbis (`.sf3`). The file stays memory-mapped and compressed recordings
are decoded when a note first needs them, so loading costs milliseconds and little memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.hints import content_hash
from expotion_cli.music.codecs.notes.general_midi import STANDARD_KIT, kit_text, program_text
from expotion_cli.music.codecs.notes.regions import Recording, Region
from expotion_cli.music.codecs.notes.tables import Tables, damage_told, find_chunks
from expotion_cli.weights.manifest import find_manifest

DRUM_BANK = 128
DEFAULT_FONT = "fluidr3mono"
_AGAIN = "Install the package again, or name a .sf2 or .sf3 file with --soundfont."
_MOST_SAMPLES = 1 << 24
"""Longest compressed recording: 6 minutes at 44.1 kHz, 64 MB decoded."""
_DECODED_BYTES = 64 << 20


def default_soundfont() -> Path:
    """The General-MIDI soundfont that ships with the package.

    Raises:
        WeightsError: it is missing.
    """
    (file,) = find_manifest(DEFAULT_FONT, "soundfont").files
    if not file.path.is_file():
        raise WeightsError(
            "The soundfont that ships with this package is missing.",
            path=file.path,
            remedy=_AGAIN,
        )
    return file.path


class SoundFont:
    """A loaded soundfont.

    Args:
        path: an .sf2 or .sf3 file.

    Raises:
        UsageError: there is no such file.
        WeightsError: it is damaged or truncated.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError("No such soundfont file.", path=path, remedy="Name an existing .sf2 or .sf3 file.")
        with damage_told(self.path):
            chunks = find_chunks(self.path)
            offset, size = chunks["smpl"]
            self._data = np.memmap(self.path, np.uint8, "r", offset, (size,))
            self._tables = Tables.read(self.path, chunks)
        self._regions: dict[tuple[int, int], tuple[Region, ...]] = {}
        self._decoded: OrderedDict[Recording, np.ndarray] = OrderedDict()
        self._decoded_bytes = 0
        self._lock = threading.Lock()  # cues may be rendered by several threads

    @cached_property
    def sha256(self) -> str:
        """Of the file's content (hex)."""
        return content_hash(self.path)

    @property
    def programs(self) -> list[tuple[int, int]]:
        """(bank, program) pairs it has; drum kits are in bank 128."""
        return sorted(self._tables.presets)

    def numbers(self, bank: int) -> list[int]:
        """Programs that it has in a bank: instruments in bank 0, drum kits in `DRUM_BANK`."""
        return [program for found, program in self.programs if found == bank]

    def regions(self, program: int, drums: bool = False) -> tuple[Region, ...]:
        """All regions of a General-MIDI program or drum kit; for a missing kit, as in General MIDI, the Standard one.

        Raises:
            UsageError: it has no such program, or neither kit.
            WeightsError: its tables are damaged.
        """
        key = (DRUM_BANK if drums else 0, program)
        if drums and key not in self._tables.presets:
            key = (DRUM_BANK, STANDARD_KIT)
        if key not in self._tables.presets:
            what = f"drum kit {kit_text(program)}" if drums else f"program {program_text(program)}"
            raise UsageError(f"The soundfont has no {what}.", path=self.path, remedy="Use a General-MIDI soundfont.")
        if key not in self._regions:
            with damage_told(self.path):
                self._regions[key] = self._tables.regions(*key)
        return self._regions[key]

    def samples(self, region: Region) -> np.ndarray:
        """A region's recording, without what the region leaves out at both ends: [n] float32, full scale 1.

        Raises:
            WeightsError: a compressed recording is damaged.
        """
        recording = region.recording
        if recording.compressed:
            whole = self._decode(recording)
        else:
            pcm = self._data[2 * recording.start : 2 * recording.end]
            whole = pcm[: len(pcm) // 2 * 2].view("<i2").astype(np.float32) / np.float32(32768)
        return whole[region.start : max(0, len(whole) - region.cut)]

    def _decode(self, recording: Recording) -> np.ndarray:
        from expotion_cli.media.vorbis import decode_vorbis

        with self._lock:
            if recording not in self._decoded:
                try:
                    sound = decode_vorbis(self._data[recording.start : recording.end].tobytes(), _MOST_SAMPLES)
                except ValueError as error:
                    raise WeightsError(
                        f"The soundfont's recording {recording.name!r} can't be decoded: {error}.",
                        path=self.path,
                        remedy="Use an intact copy of the file, or another soundfont.",
                    ) from error
                self._decoded[recording] = sound
                self._decoded_bytes += sound.nbytes
                while self._decoded_bytes > _DECODED_BYTES and len(self._decoded) > 1:
                    self._decoded_bytes -= self._decoded.popitem(last=False)[1].nbytes
            self._decoded.move_to_end(recording)
            return self._decoded[recording]


@lru_cache(maxsize=4)
def _load(path: Path, size: int, mtime_ns: int) -> SoundFont:
    return SoundFont(path)


def load_soundfont(path: Path | None = None) -> SoundFont:
    """The soundfont at `path` (None: the default one), loaded once per process while the file stays the same.

    Raises:
        UsageError, WeightsError: see `SoundFont`.
    """
    given, path = path, Path(path) if path is not None else default_soundfont()
    if not path.is_file():
        return SoundFont(path)
    stat = path.stat()
    font = _load(path.resolve(), stat.st_size, stat.st_mtime_ns)
    if given is None and font.sha256 != find_manifest(DEFAULT_FONT, "soundfont").files[0].sha256:
        raise WeightsError("The soundfont that ships with this package is damaged.", path=path, remedy=_AGAIN)
    return font
