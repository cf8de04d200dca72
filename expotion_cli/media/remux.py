"""The finished video: the picture copied bit for bit, the new sound at or near its loudness, encoded and measured."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from expotion_cli import recipe
from expotion_cli.errors import ClipError, OutputError, UsageError, writing
from expotion_cli.media.clip import AUDIO_CODECS as CODECS
from expotion_cli.media.clip import MUXERS, ClipInfo, Tracks
from expotion_cli.media.ffmpeg import AGAIN
from expotion_cli.media.level import AIM_LU, MET_LU, Attempt, Level, corrected, unmet
from expotion_cli.media.loudness import BLOCK_S, RESOLUTION_DB, Loudness, measure
from expotion_cli.media.mix import fit_length
from expotion_cli.media.muxing import Job, SoundTracks
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.storage import atomic_path, temporary_name
from expotion_cli.timing import num_samples

SHORT_SOUND_S = 3.0  # what is too short to measure is measured repeated to this length
WRITTEN = Tracks(video=1, audio=(1,))
"""Where a result's picture and mix are, whatever else it holds."""
FINE_ATTEMPTS, MAX_ATTEMPTS = 3, 8
SYNC_SLACK_S = Fraction(2, 1000)
CODEC_OVERSHOOT_DB = {"aac": 0.2, "opus": 0.4, "flac": 0.0}  # first guess; what is measured corrects it


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
        speech: spans in seconds in which somebody speaks in the clip's own sound; None where nobody listened for it.
    """

    loudness: Loudness
    gain_db: float
    limited_db: float
    audio_codec: str
    sample_rate: int
    attempts: int
    is_quieter: bool
    notes: tuple[str, ...]
    speech: tuple[tuple[float, float], ...] | None = None


def remux(
    clip: ClipInfo,
    music: np.ndarray,
    sample_rate: int,
    destination: str | Path,
    *,
    target_lufs: float,
    peak_dbtp: float,
    audio_codec: str,
    keep_original: bool,
    default_track: str,
    metadata: Mapping[str, str] | None = None,
    own_sound: bool = False,
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
        keep_original: whether the clip's own sound is copied as a track beside this one.
        default_track: which of the two players begin with, "mix" or "original".
        metadata: tags to add to the clip's own.
        own_sound: whether `music` holds the clip's own sound, whose other tracks and language then stay.

    Raises:
        RecipeError: loudness, peak or codec is out of the recipe's range.
        UsageError: the container or the codec doesn't fit.
        OutputError: the file can't be written.
    """
    settings = {"loudness.lufs": target_lufs, "loudness.peak_dbtp": peak_dbtp, "mix.audio_codec": audio_codec}
    settings |= {"mix.keep_original": keep_original, "mix.default_track": default_track}
    for key, value in settings.items():
        recipe.check(key, value)
    destination = Path(destination)
    muxer, codec = muxer_and_codec(destination, audio_codec)
    music = fit_length(music, num_samples(clip.duration, sample_rate))
    prefix, suffix = temporary_name(destination)
    with (
        writing(destination, remedy="Check the folder, its permissions and its space."),
        atomic_path(destination) as temporary,
        tempfile.TemporaryDirectory(suffix, prefix, destination.parent) as scratch,
    ):
        tracks = SoundTracks(own_sound, keep_original, default_track == recipe.ORIGINAL_TRACK)
        job = Job(clip, music, sample_rate, muxer, codec, dict(metadata or {}), tracks, Path(scratch))
        try:
            return _settle(job, temporary, destination, target_lufs, peak_dbtp)
        except ClipError as error:  # it is about what was written, and a temporary file's name helps nobody
            if error.path == clip.path:
                raise
            reason = f"what was written can't be read back: {error.reason}"
            raise OutputError(reason, path=destination, remedy=AGAIN) from error


def muxer_and_codec(destination: Path, audio_codec: str) -> tuple[str, str]:
    """ffmpeg's muxer for a result, and the codec of its sound.

    Args:
        destination: its suffix chooses the container.
        audio_codec: of the recipe.

    Raises:
        UsageError: there is no such container, or it can't hold the codec.
    """
    muxer = MUXERS.get(destination.suffix.lower())
    if muxer is None:
        raise UsageError("no such container.", path=destination, remedy=f"Use one of: {', '.join(MUXERS)}.")
    codec = CODECS[muxer][0] if audio_codec == recipe.AUTO_CODEC else audio_codec
    if codec not in CODECS[muxer]:
        remedy = f"Use --audio-codec {' or '.join(CODECS[muxer])}, or auto."
        raise UsageError(f"{codec} sound doesn't go into {destination.suffix}.", path=destination, remedy=remedy)
    return muxer, codec


def _too_short(job: Job) -> bool:
    return job.clip.duration <= BLOCK_S


def _loudness_before(job: Job) -> Loudness:
    return measure(_repeated(job.music, job.sample_rate) if _too_short(job) else job.music, job.sample_rate)


def _loudness_after(job: Job, temporary: Path) -> Loudness:
    if not _too_short(job):
        return measure(temporary)
    sound = read_clip_sound(probe(temporary, WRITTEN), job.output_rate)
    return measure(_repeated(sound, job.output_rate), job.output_rate)


def _said_of_short(job: Job, silent: bool) -> Iterator[str]:
    if silent:
        yield "the sound is silent or too quiet to measure: its level was left alone"
    elif _too_short(job):
        yield f"not longer than {BLOCK_S} s: the loudness is that of the sound repeated"


def _repeated(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    return np.tile(sound, (1, max(1, math.ceil(SHORT_SOUND_S * sample_rate / sound.shape[1]))))


def _settle(job: Job, temporary: Path, destination: Path, target_lufs: float, peak_dbtp: float) -> RemuxReport:
    """Write, measure and correct until the loudness and the peak are right, or as near as can be."""
    before = _loudness_before(job)
    silent = not math.isfinite(before.integrated_lufs)
    # the report is rounded, so aim below the peak by what rounding may hide
    highest = peak_dbtp - RESOLUTION_DB / 2
    wanted_db = 0.0 if silent else target_lufs - before.integrated_lufs
    level = Level(before.true_peak_dbtp, wanted_db, highest - CODEC_OVERSHOOT_DB[job.codec], False)
    level = replace(level, limited=level.excess_db > 0)
    tried: list[Attempt] = []
    while len(tried) < MAX_ATTEMPTS:
        job.write(temporary, destination, level)
        after = _loudness_after(job, temporary)
        error_lu = 0.0 if silent else target_lufs - after.integrated_lufs
        tried.append(Attempt(level, after, error_lu, after.true_peak_dbtp - highest))
        # at first try for better than what is asked
        if tried[-1].is_right(AIM_LU if len(tried) <= FINE_ATTEMPTS else MET_LU) or not math.isfinite(error_lu):
            break
        level = corrected(tried)
    nearest = tried[-1]
    if len(tried) == MAX_ATTEMPTS:
        nearest = min(tried, key=lambda attempt: attempt.distance)
        if nearest is not tried[-1]:
            job.write(temporary, destination, nearest.level)
    job.finish(temporary)
    _check(job.clip, temporary, destination)
    notes = [*unmet(nearest, target_lufs, peak_dbtp), *_said_of_short(job, silent), *job.kept.notes]
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


def _check(clip: ClipInfo, temporary: Path, destination: Path) -> None:
    """A full disc or a lenient muxer may lose frames without a word."""
    written = probe(temporary, WRITTEN)
    if written.num_frames != clip.num_frames:
        text = f"{written.num_frames} of {clip.num_frames} frames were copied."
        raise OutputError(text, path=destination, remedy=AGAIN)
    if written.audio is None or abs(written.audio.start) > SYNC_SLACK_S:
        raise OutputError("sound and picture don't begin together.", path=destination, remedy=AGAIN)
