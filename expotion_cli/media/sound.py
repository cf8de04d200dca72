"""Music out of files of any common kind: sound files, and the sound tracks of videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from expotion_cli.errors import DecodeError
from expotion_cli.media.ffmpeg import DEMUXERS, PROTOCOLS, file_url

SOUND_SUFFIXES = frozenset(".wav .flac .mp3 .ogg .oga .opus .m4a .aac .aif .aiff .wma .w64 .caf .mka".split())
SOUND_DEMUXERS = ("wav", "w64", "flac", "mp3", "aac", "aiff", "caf", *DEMUXERS)
"""As `media.ffmpeg.DEMUXERS`: none of them follows references to other files."""
LONGEST_S = 4 * 3600
_SILENCE = 1e-4


def read_sound(path: str | Path, sample_rate: int, channels: int = 1) -> np.ndarray:
    """The first sound of a file, from its beginning.

    Args:
        path: a sound file, or a video with a sound track.
        sample_rate: of the result, in Hz.
        channels: 1 or 2; more are folded down, one is doubled.

    Returns:
        [channels, n] float32.

    Raises:
        DecodeError: it holds no sound, can't be read, is silent, longer than `LONGEST_S` or holds NaN.
    """
    path = Path(path)
    options = {"format_whitelist": ",".join(SOUND_DEMUXERS), "protocol_whitelist": ",".join(PROTOCOLS)}
    try:
        with av.open(file_url(path), options=options, metadata_errors="replace") as container:
            sound = _decode(container, path, sample_rate, channels)
    except (av.error.FFmpegError, OSError, UnicodeError) as error:
        reason = f"its sound can't be read ({getattr(error, 'strerror', None) or error})."
        raise DecodeError(reason, path=path, remedy="Give a WAV, FLAC, MP3, OGG, Opus or M4A file.") from error
    if not np.isfinite(sound).all():
        raise DecodeError("its sound holds NaN or infinity.", path=path, remedy="Export it again.")
    if np.abs(sound).max() < _SILENCE:
        raise DecodeError("its sound is silence.", path=path, remedy="Leave it out, or put its music beside it.")
    return sound


def is_mute(path: str | Path) -> bool:
    """Whether a file can be read but holds no sound track at all."""
    options = {"format_whitelist": ",".join(SOUND_DEMUXERS), "protocol_whitelist": ",".join(PROTOCOLS)}
    try:
        with av.open(file_url(path), options=options, metadata_errors="replace") as container:
            return not container.streams.audio
    except (av.error.FFmpegError, OSError, UnicodeError):
        return False


def _decode(container: av.container.InputContainer, path: Path, sample_rate: int, channels: int) -> np.ndarray:
    if not container.streams.audio:
        raise DecodeError("it holds no sound.", path=path, remedy="Put its music beside it, under the same name.")
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="fltp", layout="mono" if channels == 1 else "stereo", rate=sample_rate)
    pieces, total, damaged = [], 0, 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            continue
        for frame in frames:
            frame.pts = None
            for piece in resampler.resample(frame):
                pieces.append(piece.to_ndarray())
                total += pieces[-1].shape[1]
        if total > LONGEST_S * sample_rate:
            raise DecodeError(f"it is longer than {LONGEST_S // 3600} hours.", path=path, remedy="Cut it into parts.")
    pieces += [piece.to_ndarray() for piece in resampler.resample(None)]
    if not pieces or damaged > len(pieces) // 20:
        raise DecodeError("its sound is damaged.", path=path, remedy="Copy or export it again.")
    return np.concatenate(pieces, axis=1).astype(np.float32, copy=False)


def fold(sound: np.ndarray, channels: int) -> np.ndarray:
    """[2, n] → [channels, n]."""
    return sound.mean(axis=0, keepdims=True) if channels == 1 else sound


def seconds(sound: np.ndarray, sample_rate: int) -> Fraction:
    """Length of [channels, n]."""
    return Fraction(sound.shape[1], sample_rate)
