"""The finished video: the picture copied bit for bit, the new sound at or near its loudness, encoded and measured."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from expotion_cli import recipe
from expotion_cli.errors import ClipError, OutputError, UsageError, writing
from expotion_cli.media import ffmpeg as tool
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.loudness import BLOCK_S, RESOLUTION_DB, Loudness, measure
from expotion_cli.media.mix import fit_length
from expotion_cli.media.probe import probe
from expotion_cli.media.retime import RETIMED_DEMUXER, write_retimed
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.storage import atomic_path
from expotion_cli.timing import num_samples

TOLERANCE_LU = 0.5
MET_LU = TOLERANCE_LU - RESOLUTION_DB / 2  # of the measured loudness: what rounding may hide doesn't count
AIM_LU, FINE_ATTEMPTS = 0.3, 3
MAX_ATTEMPTS = 8
LOWEST_LUFS = recipe.bounds("loudness.lufs")[0]
MOST_LIMITING_DB = 6.0  # more would flatten attacks: from there on the result stays below its loudness
SYNC_SLACK_S = Fraction(2, 1000)
OVERSAMPLED_HZ = 192_000  # peaks between samples become samples here, where the limiter sees them
SHORT_SOUND_S = 3.0  # what is too short to measure is measured repeated to this length
CODEC_OVERSHOOT_DB = {"aac": 0.2, "opus": 0.4, "flac": 0.0}  # first guess; what is measured corrects it
ENCODERS: dict[str, dict[str, Any]] = {
    "aac": {"acodec": "aac", "audio_bitrate": "256k"},
    "opus": {"acodec": "libopus", "audio_bitrate": "192k"},
    "flac": {"acodec": "flac", "sample_fmt": "s32", "bits_per_raw_sample": 24},
}
MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
CODECS = {"mp4": ("aac",), "mov": ("aac",), "matroska": ("aac", "flac", "opus"), "webm": ("opus",)}
SUBTITLES = {"mp4": {"mov_text"}, "mov": {"mov_text"}, "webm": {"webvtt"}}
NOT_FOR_MATROSKA = {"mov_text", "eia_608", "unknown"}
# players read the classic tags; the newer kind is written only where the clip already uses it
APPLE_TAG_PREFIX = "com."


@dataclass(frozen=True)
class RemuxReport:
    """What was written.

    Attributes:
        loudness: of the encoded sound in the finished file.
        gain_db: linear gain on the music.
        limited_db: by how much the true-peak limiter lowers the highest peak, 0 to 6; 0 where it wasn't needed.
        audio_codec: "aac", "opus" or "flac".
        sample_rate: of the encoded sound, in Hz.
        attempts: how many times it was encoded until it measured right.
        is_quieter: whether the peaks kept it below the loudness asked for.
        notes: what a user should know (loudness not met, silence, too short to measure, tracks left out).
    """

    loudness: Loudness
    gain_db: float
    limited_db: float
    audio_codec: str
    sample_rate: int
    attempts: int
    is_quieter: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Level:
    """The gain and limiter setting of one attempt.

    Attributes:
        before_dbtp: highest peak before the gain.
        wanted_db: gain that the loudness asks for.
        ceiling_dbtp: of the limiter.
        limited: whether there is a limiter.
    """

    before_dbtp: float
    wanted_db: float
    ceiling_dbtp: float
    limited: bool

    @property
    def _most_db(self) -> float:
        return self.ceiling_dbtp + MOST_LIMITING_DB - self.before_dbtp

    @property
    def gain_db(self) -> float:
        """The gain wanted, or the highest that needs no more limiting than `MOST_LIMITING_DB`."""
        return min(self.wanted_db, self._most_db)

    @property
    def is_held(self) -> bool:
        """Whether the limiter's bound holds the gain back."""
        return self.wanted_db > self._most_db

    @property
    def excess_db(self) -> float:
        """By how much the highest peak passes the ceiling after the gain; negative below it."""
        return self.before_dbtp + self.gain_db - self.ceiling_dbtp

    @property
    def limited_db(self) -> float:
        """What the limiter takes off the highest peak."""
        return max(0.0, self.excess_db) if self.limited else 0.0


@dataclass(frozen=True)
class _Attempt:
    """A level and how it measured once encoded: the error of the loudness in LU, the excess over the peak in dB."""

    level: _Level
    loudness: Loudness
    error_lu: float
    excess_db: float

    @property
    def distance(self) -> tuple[float, float]:
        """How far it is from right: the peak counts first."""
        return max(0.0, self.excess_db), abs(self.error_lu)

    def is_right(self, allowed_lu: float) -> bool:
        """Whether nothing better is to be had under the peak."""
        return self.excess_db <= 0 and (abs(self.error_lu) <= allowed_lu or (self.level.is_held and self.error_lu > 0))


def remux(
    clip: ClipInfo,
    music: np.ndarray,
    sample_rate: int,
    destination: str | Path,
    *,
    target_lufs: float,
    peak_dbtp: float,
    audio_codec: str,
    metadata: Mapping[str, str] | None = None,
) -> RemuxReport:
    """Write the clip with this sound in place of its own.

    The sound gets a linear gain and, if its peaks then pass the ceiling, a true-peak limiter on the oversampled signal;
    the *encoded* file is measured, and encoded again with corrected settings until it is right. Where the loudness
    would need more than 6 dB of limiting the result is quieter, and a note names the loudness that works. The file
    appears whole or not at all.

    Args:
        clip: what `probe` found out.
        music: [2, n] float32, cut or padded to the picture's length.
        sample_rate: in Hz.
        destination: the file to write; its suffix chooses the container (see `clip.output_suffix`).
        target_lufs: integrated loudness, met within 0.5 LU where the peak allows.
        peak_dbtp: highest true peak.
        audio_codec: "aac", "opus" or "flac"; "auto": AAC, in WebM Opus.
        metadata: tags to add to the clip's own.

    Raises:
        RecipeError: loudness, peak or codec is out of the recipe's range.
        UsageError: the container or the codec doesn't fit.
        OutputError: the file can't be written.
    """
    settings = {"loudness.lufs": target_lufs, "loudness.peak_dbtp": peak_dbtp, "mix.audio_codec": audio_codec}
    for key, value in settings.items():
        recipe.check(key, value)
    destination = Path(destination)
    muxer = MUXERS.get(destination.suffix.lower())
    if muxer is None:
        raise UsageError("no such container.", path=destination, remedy=f"Use one of: {', '.join(MUXERS)}.")
    codec = CODECS[muxer][0] if audio_codec == recipe.AUTO_CODEC else audio_codec
    if codec not in CODECS[muxer]:
        remedy = f"Use one of: {', '.join(CODECS[muxer])}."
        raise UsageError(f"{codec} sound doesn't go into {destination.suffix}.", path=destination, remedy=remedy)
    music = fit_length(music, num_samples(clip.duration, sample_rate))
    job = _Job(clip, music, sample_rate, muxer, codec, dict(metadata or {}))
    with (
        writing(destination, remedy="Check the folder, its permissions and its space."),
        atomic_path(destination) as temporary,
        tempfile.TemporaryDirectory(".partial", f".{destination.stem[:60]}.", destination.parent) as scratch,
    ):
        if clip.demuxer == "avi":
            job.retimed = Path(scratch) / "picture.nut"
            write_retimed(clip, job.retimed)
            job.start_s = probe(job.retimed).start  # the muxer may have moved it
        return _settle(job, temporary, destination, target_lufs, peak_dbtp)


class _Job:
    """All that stays the same between attempts."""

    def __init__(
        self, clip: ClipInfo, music: np.ndarray, sample_rate: int, muxer: str, codec: str, metadata: dict[str, str]
    ):
        self.clip, self.music, self.sample_rate = clip, music, sample_rate
        self.muxer, self.codec, self.metadata = muxer, codec, metadata
        self.start_s = clip.start
        self.retimed: Path | None = None
        self.output_rate = 48_000 if codec == "opus" else sample_rate
        self.subtitles = [i for i, name in enumerate(clip.subtitle_codecs) if self._takes_subtitle(name)]
        # ffmpeg would make a second frame track of a cover copied into Matroska
        self.covers = list(clip.cover_indices) if muxer in ("mp4", "mov") else []

    def _takes_subtitle(self, name: str) -> bool:
        return name in SUBTITLES[self.muxer] if self.muxer in SUBTITLES else name not in NOT_FOR_MATROSKA

    def write(self, temporary: Path, destination: Path, level: _Level) -> None:
        """Encode the sound, copy the rest."""
        # The picture's first time stamp becomes 0, where the music begins. A microsecond too late never rounds to a
        # tick of the clock; one too early would put the first frame before the start.
        offset = math.ceil(-self.start_s * 1_000_000) + 1 if self.start_s else 0
        if self.retimed is not None:
            source = tool.clip_input(self.retimed, RETIMED_DEMUXER, itsoffset=f"{offset}us")
            streams = [source["v:0"], self._sound(level)]
        else:
            source = tool.clip_input(self.clip.path, self.clip.demuxer, itsoffset=f"{offset}us")
            streams = [source[str(self.clip.video_index)], self._sound(level)]
            streams += [source[f"s:{i}"] for i in self.subtitles] + [source[str(i)] for i in self.covers]
        if self.muxer == "matroska":
            streams.append(source["t?"])
        # bitexact: the same input gives the same file, without random identifiers
        settings: dict[str, Any] = {"f": self.muxer, "vcodec": "copy", "scodec": "copy", "fflags": "+bitexact"}
        settings |= ENCODERS[self.codec] | {
            "ar": self.output_rate,
            "flags:a": "+bitexact",
            "disposition:a:0": "default",
        }
        settings |= {"map_metadata": 0, "map_chapters": 0, "max_muxing_queue_size": 4096}
        if self.muxer in ("mp4", "mov"):
            apple = any(key.startswith(APPLE_TAG_PREFIX) for key in self.clip.tags)
            settings["movflags"] = "+faststart" + ("+use_metadata_tags" if apple else "")
        for number, (key, value) in enumerate(self.metadata.items()):
            settings[f"metadata:g:{number}"] = f"{key}={value}"
        output = ffmpeg.output(*streams, tool.file_url(temporary), **settings)
        # copyts: otherwise ffmpeg moves the clock's start by rules that depend on the container and the tracks taken
        tool.run(output, samples=self.music, path=destination, arguments=["-copyts", "-loglevel", "error"])

    def _sound(self, level: _Level) -> Any:
        sound = tool.pcm_input(self.sample_rate).audio.filter("volume", f"{level.gain_db:.3f}dB", precision="float")
        if level.limited:
            sound = sound.filter("aresample", OVERSAMPLED_HZ)
            sound = sound.filter(
                "alimiter", limit=10 ** (level.ceiling_dbtp / 20), attack=5, release=60, level="false", latency="true"
            )
        sound = sound.filter("aresample", self.output_rate)
        length = num_samples(self.clip.duration, self.output_rate)
        return sound.filter("apad", whole_len=length).filter("atrim", end_sample=length)

    @property
    def too_short(self) -> bool:
        return self.clip.duration <= BLOCK_S

    def loudness_before(self) -> Loudness:
        return measure(_repeated(self.music, self.sample_rate) if self.too_short else self.music, self.sample_rate)

    def loudness_after(self, temporary: Path) -> Loudness:
        if not self.too_short:
            return measure(temporary)
        return measure(_repeated(read_clip_sound(temporary, self.output_rate), self.output_rate), self.output_rate)

    def notes(self, silent: bool) -> list[str]:
        left_out = len(self.clip.subtitle_codecs) - len(self.subtitles)
        candidates = (
            (silent, "the sound is silent or too quiet to measure: its level was left alone"),
            (self.too_short and not silent, f"not longer than {BLOCK_S} s: the loudness is that of the sound repeated"),
            (
                len(self.clip.cover_indices) > len(self.covers),
                f"the cover image that {self.muxer} can't take was left out",
            ),
            (left_out, f"{left_out} subtitle track(s) that {self.muxer} can't hold were left out"),
        )
        return [text for applies, text in candidates if applies]


def _repeated(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    return np.tile(sound, (1, max(1, math.ceil(SHORT_SOUND_S * sample_rate / sound.shape[1]))))


def _settle(job: _Job, temporary: Path, destination: Path, target_lufs: float, peak_dbtp: float) -> RemuxReport:
    """Write, measure and correct until the loudness and the peak are right, or as near as can be."""
    before = job.loudness_before()
    silent = not math.isfinite(before.integrated_lufs)
    # the report is rounded, so aim below the peak by what rounding may hide
    highest = peak_dbtp - RESOLUTION_DB / 2
    wanted_db = 0.0 if silent else target_lufs - before.integrated_lufs
    level = _Level(before.true_peak_dbtp, wanted_db, highest - CODEC_OVERSHOOT_DB[job.codec], False)
    level = replace(level, limited=level.excess_db > 0)
    tried: list[_Attempt] = []
    while len(tried) < MAX_ATTEMPTS:
        job.write(temporary, destination, level)
        after = job.loudness_after(temporary)
        error_lu = 0.0 if silent else target_lufs - after.integrated_lufs
        tried.append(_Attempt(level, after, error_lu, after.true_peak_dbtp - highest))
        # at first try for better than what is asked
        if tried[-1].is_right(AIM_LU if len(tried) <= FINE_ATTEMPTS else MET_LU) or not math.isfinite(error_lu):
            break
        level = _corrected(tried)
    nearest = tried[-1]
    if len(tried) == MAX_ATTEMPTS:
        nearest = min(tried, key=lambda attempt: attempt.distance)
        if nearest is not tried[-1]:
            job.write(temporary, destination, nearest.level)
    _check(job.clip, temporary, destination)
    notes = [*_unmet(nearest, target_lufs, peak_dbtp), *job.notes(silent)]
    level = nearest.level
    return RemuxReport(
        loudness=nearest.loudness,
        gain_db=level.gain_db,
        limited_db=level.limited_db,
        audio_codec=job.codec,
        sample_rate=job.output_rate,
        attempts=len(tried),
        is_quieter=MET_LU < nearest.error_lu < math.inf,
        notes=tuple(notes),
    )


def _corrected(tried: Sequence[_Attempt]) -> _Level:
    """The level to try next."""
    last, slope = tried[-1], 1.0
    for one, other in itertools.pairwise(tried):
        change_db = other.level.gain_db - one.level.gain_db
        if abs(change_db) > 0.2:
            # the limiter takes back part of a gain: learn how much is left of it
            slope = float(np.clip((one.error_lu - other.error_lu) / change_db, 0.1, 1.0))
    lower_db = last.excess_db + RESOLUTION_DB if last.excess_db > 0 else 0.0
    gain_db = last.level.gain_db + last.error_lu / slope
    level = replace(last.level, wanted_db=gain_db, ceiling_dbtp=last.level.ceiling_dbtp - lower_db)
    return replace(level, limited=level.limited or level.excess_db > 0 or lower_db > 0)


def _unmet(attempt: _Attempt, target_lufs: float, peak_dbtp: float) -> Iterator[str]:
    """A note where loudness or peak isn't what was asked for, with the loudness that works."""
    found = attempt.loudness
    if not math.isfinite(attempt.error_lu):
        yield "encoding leaves nothing of the sound that can be measured"
    elif attempt.excess_db > 0:
        yield f"peaks reach {found.true_peak_dbtp:.1f} dBTP instead of {peak_dbtp:g}"
    elif abs(attempt.error_lu) > MET_LU:
        text = f"{target_lufs:g} LUFS can't be met with peaks below {peak_dbtp:g} dBTP: it is {{:.1f}} LUFS"
        works = math.floor(found.integrated_lufs + AIM_LU + RESOLUTION_DB / 2)
        yield text.format(found.integrated_lufs) + (f"; --lufs {works} works" if works >= LOWEST_LUFS else "")


def _check(clip: ClipInfo, temporary: Path, destination: Path) -> None:
    """A full disc or a lenient muxer may lose frames without a word."""
    remedy = "Convert the clip to MP4 or MKV first."
    try:
        written = probe(temporary)
    except ClipError as error:
        raise OutputError(f"what was written can't be read back: {error.reason}", path=destination) from error
    if written.num_frames != clip.num_frames:
        text = f"{written.num_frames} of {clip.num_frames} frames were copied."
        raise OutputError(text, path=destination, remedy=remedy)
    if written.audio is None or abs(written.audio.start) > SYNC_SLACK_S:
        raise OutputError("sound and picture don't begin together.", path=destination, remedy=remedy)
