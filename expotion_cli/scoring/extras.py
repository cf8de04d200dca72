"""Sound files beside a result: the music by itself, and a stem for each voice.

`NAME.music.wav` and `NAME.stems/VOICE.wav` lie beside `NAME.mp4`. They obey the rules of results: they are recorded in
the sidecar, count towards "done", and replace nothing that this program did not make.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from expotion_cli.errors import ExpotionError, ProbeError, UsageError
from expotion_cli.music.codecs.notes.tokens import VOICES
from expotion_cli.scoring.follow.layer import ACCENTS
from expotion_cli.scoring.naming import spelling
from expotion_cli.storage import digest_file, put_in_place, temporary_name

if TYPE_CHECKING:
    import numpy as np

    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.scoring.mixing import MixDown

SOUND_FORMATS = ("wav", "flac")
STEM_NAMES = (*(voice.name for voice in VOICES), ACCENTS)
"""Of all stems that there may be: the voices, and the accents of the follow layer."""
LONGEST_STEMS_S = 900.0
"""Clips that last longer get no stems: all voices are held in memory at once."""


@dataclass(frozen=True)
class Extras:
    """Which sound files are asked for.

    Attributes:
        music: format of the music by itself, of `SOUND_FORMATS`, or "".
        stems: format of the stems, or "".
    """

    music: str = ""
    stems: str = ""

    def __bool__(self) -> bool:
        return bool(self.music or self.stems)

    def names(self) -> list[str]:
        """All files that may come of it, by what follows a result's stem."""
        music = [f".music.{self.music}"] if self.music else []
        return music + [f".stems/{name}.{self.stems}" for name in STEM_NAMES if self.stems]

    def and_those(self, names: Iterable[str]) -> Extras:
        """Also what these files are (`names`), in their formats: a result that is redone keeps what lies beside it."""
        found = tuple(names)
        music = next((name.rpartition(".")[2] for name in found if name.startswith(".music.")), "")
        stems = next((name.rpartition(".")[2] for name in found if name.startswith(".stems/")), "")
        return Extras(self.music or music, self.stems or stems)

    def shown(self, video: Path) -> list[str]:
        """What a user is told will lie beside a result."""
        music = [f"{video.stem}.music.{self.music}"] if self.music else []
        return music + ([f"{video.stem}.stems/*.{self.stems}"] if self.stems else [])


NO_EXTRAS = Extras()


@dataclass(frozen=True)
class Written:
    """Sound files that were written.

    Attributes:
        names: what follows the result's stem, as `Extras.names` has it.
        has_stems: whether the music has voices.
        turned_down_db: by how much all of them lie below the result, so that FLAC holds their peaks.
    """

    names: tuple[str, ...] = ()
    has_stems: bool = True
    turned_down_db: float = 0.0


class Music(Protocol):
    """What is written: `ladder.Score` is one."""

    @property
    def audio(self) -> np.ndarray:
        """[2, n] float32."""
        ...

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        ...

    @property
    def stems(self) -> Mapping[str, np.ndarray]:
        """Its parts by name."""
        ...


def check(extras: Extras) -> None:
    """Hold what is asked for to what there is.

    Raises:
        UsageError: no such format.
    """
    for flag, form in (("--music-only", extras.music), ("--stems", extras.stems)):
        if form and form not in SOUND_FORMATS:
            raise UsageError(f"{flag} {form!r} is unknown.", remedy=f"Use {' or '.join(SOUND_FORMATS)}.")


def check_length(clip: ClipInfo, extras: Extras) -> None:
    """Refuse stems of long clips before anything is composed.

    Raises:
        ProbeError: the clip is too long for them.
    """
    if extras.stems and clip.duration > LONGEST_STEMS_S:
        reason = f"it lasts {float(clip.duration) / 60:.0f} minutes; --stems takes {LONGEST_STEMS_S / 60:.0f} at most."
        raise ProbeError(reason, path=clip.path, remedy="Leave --stems out, or cut the clip into parts.")


def path_of(video: Path, name: str) -> Path:
    """Where a file lies whose name follows the result's stem (`Extras.names`)."""
    return video.parent / f"{video.stem}{name}"


def write(folder: Path, music: Music, made: MixDown, gain_db: float, extras: Extras) -> Written:
    """Write the music as it sounds in the result before its limiter, with all gains, as long as the picture.

    Args:
        folder: where to write; the files get the names of `Extras.names` there.
        music: before it was mixed, with its stems if these are asked for.
        made: how it was mixed.
        gain_db: that brought the mix to its loudness.
        extras: what is asked for.

    Raises:
        OutputError: a file can't be written.
    """
    from expotion_cli.media.sound import resample
    from expotion_cli.media.sound_file import FLAC, write_sound

    rate = made.mixed.sample_rate
    wanted = {f".music.{extras.music}": (music.audio, extras.music)} if extras.music else {}
    if extras.stems:
        wanted |= {f".stems/{name}.{extras.stems}": (stem, extras.stems) for name, stem in music.stems.items()}

    def part(sound: np.ndarray) -> np.ndarray:
        return made.mixed.part(resample(sound, music.sample_rate, rate))

    turned_down_db = 0.0
    if any(form == FLAC for _, form in wanted.values()):
        peak = max(float(abs(part(sound)).max(initial=0.0)) for sound, _ in wanted.values()) * 10 ** (gain_db / 20)
        turned_down_db = _rounded_up(peak)
    gain = 10 ** ((gain_db - turned_down_db) / 20)
    for name, (sound, form) in wanted.items():
        path = folder / name.removeprefix(".")
        path.parent.mkdir(exist_ok=True)
        samples = part(sound)
        samples *= gain
        write_sound(path, samples, rate, form)
    return Written(tuple(wanted), bool(music.stems) or not extras.stems, turned_down_db)


def notes_of(written: Written) -> Iterator[str]:
    """What a user should know of the files."""
    if written.turned_down_db:
        yield f"the sound files lie {written.turned_down_db:.1f} dB below the result, so that FLAC holds their peaks"


@contextlib.contextmanager
def workspace(video: Path, extras: Extras) -> Iterator[Path | None]:
    """A folder beside a result for files that have no names of their own yet; None if none are asked for."""
    if not extras:
        yield None
        return
    prefix, suffix = temporary_name(path_of(video, ".stems"))
    folder = Path(tempfile.mkdtemp(suffix, prefix, video.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path | None, video: Path, written: Written, leftover: Iterable[str]) -> dict[str, Any]:
    """Give the files their names, each whole or not at all, and remove those of the result that is replaced.

    Args:
        folder: of `workspace`.
        video: the result.
        written: the files in it.
        leftover: names of files that belong to the result that is replaced.

    Returns:
        What the sidecar says of them: "music", "stems" and "has_stems".
    """
    for name in leftover:
        if name not in written.names:
            path_of(video, name).unlink(missing_ok=True)
    found: list[dict[str, Any]] = []
    for name in written.names:
        assert folder is not None, "nothing was asked for"
        final, temporary = path_of(video, name), folder / name.removeprefix(".")
        final.parent.mkdir(exist_ok=True)
        put_in_place(temporary, final)
        found.append({"file": f"{video.stem}{name}", "bytes": final.stat().st_size, "sha256": digest_file(final)})
    with contextlib.suppress(OSError):  # it holds other files, or there is none
        path_of(video, ".stems").rmdir()
    music = next((each for each in found if "/" not in each["file"]), None)
    return {"music": music, "stems": [each for each in found if each is not music], "has_stems": written.has_stems}


def records(sidecar: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """The sound files that a sidecar records, by what follows the result's stem; names of others' making are left out.

    Args:
        sidecar: of a result, or None.
    """
    known = {} if sidecar is None else sidecar
    listed = [known.get("music"), *(known["stems"] if isinstance(known.get("stems"), list) else ())]
    possible = {name for form in SOUND_FORMATS for name in Extras(form, form).names()}
    found: dict[str, Mapping[str, Any]] = {}
    for record in listed:
        if isinstance(record, Mapping) and isinstance(record.get("file"), str):
            name = next((each for each in possible if record["file"].endswith(each)), None)
            if name is not None:
                found[name] = record
    return found


def is_whole(video: Path, sidecar: Mapping[str, Any], extras: Extras, is_same: Callable[[Path, Any], bool]) -> bool:
    """Whether all sound files of a result are there, and those that are asked for among them.

    Args:
        video: the result.
        sidecar: its content.
        extras: what is asked for.
        is_same: tells whether a file is the one of a record.
    """
    known = records(sidecar)
    if extras.music and f".music.{extras.music}" not in known:
        return False
    there = any(name.startswith(".stems/") and name.endswith(f".{extras.stems}") for name in known)
    if extras.stems and sidecar.get("has_stems", True) and not there:
        return False
    return all(is_same(path_of(video, name), record) for name, record in known.items())


def clashes(taken: Iterable[Path], results: Mapping[str, Path], extras: Extras) -> dict[str, ExpotionError]:
    """Sound files that would have the name of another clip's result, or of a clip.

    Args:
        taken: all clips, results and what else lies beside results.
        results: job name → video.
        extras: what is asked for.

    Returns:
        Job name → what is wrong.
    """
    known = {spelling(path.absolute()): path for path in taken} if extras else {}
    found: dict[str, ExpotionError] = {}
    for job, video in results.items():
        for name in extras.names():
            path = path_of(video, name)
            if (other := known.setdefault(spelling(path.absolute()), path)) is not path:
                reason = f"this sound file of {job} would have the name of {other}."
                found[job] = UsageError(reason, path=path, remedy="Rename the clip, or choose another --out folder.")
    return found


def _rounded_up(peak: float) -> float:
    """By how many decibels a peak passes full scale, in tenths; 0 if it doesn't."""
    return max(0.0, math.ceil(200 * math.log10(peak)) / 10) if peak > 0 else 0.0
