"""Sound out of files: any sound file from its beginning, a clip's own track on the picture's clock; resampling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from expotion_cli.errors import DecodeError, reading
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.ffmpeg import DEMUXERS, PROTOCOLS, file_url
from expotion_cli.media.probe import open_container, probe
from expotion_cli.media.tracks import AUDIBLE
from expotion_cli.timing import num_samples

STEREO = 2
SOUND_SUFFIXES = frozenset(".wav .flac .mp3 .ogg .oga .opus .m4a .aac .aif .aiff .wma .w64 .caf .mka".split())
SOUND_DEMUXERS = ("wav", "w64", "flac", "mp3", "aac", "aiff", "caf", *DEMUXERS)
"""As `media.ffmpeg.DEMUXERS`: none of them follows references to other files."""
LONGEST_S = 4 * 3600
MIX_HZ = 48_000  # of a mix with own sound that reaches higher than the music
GAP_SLACK_S = 0.02  # time stamps wander by less than this without a gap in the sound
_DAMAGED_SHARE = 1 / 20
_SILENCE = 1e-4


def read_sound(path: str | Path, sample_rate: int, channels: int = STEREO, *, max_s: float | None = None) -> np.ndarray:
    """Read the first sound track of a file, from the track's beginning.

    Args:
        path: a sound file, or a video with a sound track.
        sample_rate: of the result, in Hz.
        channels: 1 or 2; more channels are folded down, mono is doubled.
        max_s: read no further than this; None reads all.

    Returns:
        [channels, n] float32.

    Raises:
        DecodeError: the file holds no sound, can't be read, lasts longer than `LONGEST_S`, or holds NaN.
    """
    path = Path(path)
    remedy = "Give a WAV, FLAC, MP3, OGG, Opus or M4A file."
    unreadable = (av.error.FFmpegError, UnicodeError)
    with reading(path, "its sound", error=DecodeError, remedy=remedy, also=unreadable), _open(path) as container:
        if not container.streams.audio:
            raise DecodeError("it holds no sound.", path=path, remedy="Give a sound file, or a video with sound.")
        sound = _decode(container, path, sample_rate, channels, max_s)
    if not np.isfinite(sound).all():
        raise DecodeError("its sound holds NaN or infinity.", path=path, remedy="Export it again.")
    return np.repeat(sound, STEREO, axis=0) if len(sound) < channels else sound


def read_clip_sound(clip: str | Path | ClipInfo, sample_rate: int) -> np.ndarray:
    """Read a clip's own sound, from the first picture's appearance to the picture's end.

    Time stamps and edit lists are honoured: sound that begins late or pauses is preceded by silence, and sound before
    the picture is dropped. The mono tracks of one recording are mixed in equal shares, silent ones apart.

    Args:
        clip: a file, or what `probe` found out about it.
        sample_rate: of the result, in Hz.

    Returns:
        [2, timing.num_samples(duration, sample_rate)] float32; mono is doubled, more channels are folded down, NaN is
        silence. Silence if the clip has no sound.

    Raises:
        ProbeError: the clip can't be opened.
        DecodeError: there is a sound track, but none of it can be decoded.
    """
    info = clip if isinstance(clip, ClipInfo) else probe(clip)
    sound = np.zeros((STEREO, num_samples(info.duration, sample_rate)), dtype=np.float32)
    if info.audio is None:
        return sound
    peaks = [_add_track(info, index, sound, sample_rate) for index in info.audio.indices]
    if all(peak is None for peak in peaks):
        reason = f"its sound ({info.audio.codec}) can't be decoded."
        raise DecodeError(reason, path=info.path, remedy="Convert it first.")
    if (heard := sum(peak is not None and peak > AUDIBLE for peak in peaks)) > 1:
        sound /= heard
    return np.nan_to_num(sound, copy=False, posinf=0.0, neginf=0.0)


def _add_track(info: ClipInfo, index: int, sound: np.ndarray, sample_rate: int) -> float | None:
    """Add a track to [2, n] on the picture's clock; returns its peak, None if nothing of it could be decoded."""
    peak: float | None = None
    windows = [_Window(0, 0, sound.shape[1])]
    if index in info.edits:
        zero = Fraction(0)
        windows = [
            _Window(*(round(time * sample_rate) for time in (at - start, max(at, zero), at + to - start)))
            for at, start, to in info.edits[index]
        ]
    with open_container(info.path, without_edits=bool(info.edits)) as container:
        stream = container.streams[index] if index < len(container.streams) else None
        if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
            return None
        resampler = _Resampler(stream, sample_rate, STEREO)
        position: int | None = None
        for frame in _frames(container, stream):
            if frame is None:
                continue  # a damaged packet leaves a gap, which the time stamps keep in place
            if frame.pts is not None and frame.time_base:
                expected = round((frame.pts * frame.time_base - info.start) * sample_rate)
                if position is None or abs(expected - position) > GAP_SLACK_S * sample_rate:
                    if position is not None:
                        position = _place(sound, windows, position, resampler.finish())
                    position = expected
            pieces = resampler.add(frame)
            peak = max(peak or 0.0, *(float(np.abs(piece).max(initial=0.0)) for piece in pieces), 0.0)
            position = _place(sound, windows, position or 0, pieces)
        _place(sound, windows, position or 0, resampler.finish())
    return peak


def lacks_sound(path: str | Path) -> bool:
    """Whether a file can be read but holds no sound track at all."""
    try:
        with _open(Path(path)) as container:
            return not container.streams.audio
    except (av.error.FFmpegError, OSError, UnicodeError):
        return False


def stated_s(path: str | Path) -> float:
    """How many seconds a file says its first sound track lasts; 0 where it doesn't say, or can't be opened."""
    try:
        with _open(Path(path)) as container:
            track = next(iter(container.streams.audio), None)
            return float((track.duration or 0) * (track.time_base or 0)) if track is not None else 0.0
    except (av.error.FFmpegError, OSError, UnicodeError):
        return 0.0


def resample(sound: np.ndarray, sample_rate: int, wanted_rate: int) -> np.ndarray:
    """Bring samples to another rate.

    Args:
        sound: [1 or 2, n] float32.
        sample_rate: of `sound`, in Hz.
        wanted_rate: of the result, in Hz.

    Returns:
        [1 or 2, about n * wanted_rate / sample_rate] float32.
    """
    sound = np.ascontiguousarray(sound, dtype=np.float32)
    if sample_rate == wanted_rate or not sound.shape[1]:
        return sound
    layout = "mono" if len(sound) == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=layout)
    frame.sample_rate, frame.time_base = sample_rate, Fraction(1, sample_rate)
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=wanted_rate)
    return np.concatenate([made.to_ndarray() for part in (frame, None) for made in resampler.resample(part)], axis=1)


def refuse_silence(sound: np.ndarray, path: str | Path, *, remedy: str) -> None:
    """Refuse sound that nothing can be learnt from.

    Args:
        sound: [channels, n].
        path: the file it came from.
        remedy: what to do about it.

    Raises:
        DecodeError: no sample exceeds -80 dBFS.
    """
    if np.abs(sound).max(initial=0.0) < _SILENCE:
        raise DecodeError("its sound is silence.", path=path, remedy=remedy)


def to_mono(sound: np.ndarray) -> np.ndarray:
    """[n] or [channels, n] → [1, n], the mean of all channels."""
    return np.atleast_2d(sound).mean(axis=0, keepdims=True)


def duration_of(sound: np.ndarray, sample_rate: int) -> Fraction:
    """Exact length of [channels, n] in seconds."""
    return Fraction(sound.shape[1], sample_rate)


class _Resampler:
    """Turns the frames of a track into float32 samples of one rate.

    Args:
        stream: the track.
        sample_rate: of the samples, in Hz.
        channels: at most so many; a mono track stays mono, more channels are folded down.
    """

    def __init__(self, stream: av.audio.stream.AudioStream, sample_rate: int, channels: int):
        self._layout = "mono" if 1 in (channels, stream.codec_context.channels) else "stereo"
        self._rate = sample_rate
        self._resampler = self._fresh()

    def add(self, frame: av.AudioFrame) -> list[np.ndarray]:
        """What is ready after this frame: arrays [1 or 2, n]."""
        frame.pts = None  # else the resampler would fill gaps by itself
        try:
            return [made.to_ndarray() for made in self._resampler.resample(frame)]
        except (av.error.FFmpegError, ValueError):  # it has other channels or another rate than those before
            rest = self.finish()
        try:
            return [*rest, *(made.to_ndarray() for made in self._resampler.resample(frame))]
        except (av.error.FFmpegError, ValueError):
            self._resampler = self._fresh()
            return rest  # it has no layout at all

    def finish(self) -> list[np.ndarray]:
        """What the filter still holds; the next frame begins anew."""
        try:
            rest = [made.to_ndarray() for made in self._resampler.resample(None)]
        except (av.error.FFmpegError, ValueError):
            rest = []  # it has not been given anything
        self._resampler = self._fresh()
        return rest

    def _fresh(self) -> av.AudioResampler:
        return av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)


def _open(path: Path) -> av.container.InputContainer:
    options = {"format_whitelist": ",".join(SOUND_DEMUXERS), "protocol_whitelist": ",".join(PROTOCOLS)}
    return av.open(file_url(path), options=options, metadata_errors="replace")


def _frames(
    container: av.container.InputContainer, stream: av.audio.stream.AudioStream
) -> Iterator[av.AudioFrame | None]:
    """Decoded frames in order; None for each packet that is damaged."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except (av.error.FFmpegError, ValueError):
                yield None
    except av.error.FFmpegError:
        yield None  # the file can't be read any further


def _decode(
    container: av.container.InputContainer, path: Path, sample_rate: int, channels: int, max_s: float | None
) -> np.ndarray:
    """[1 or `channels`, n]: all of a file's first track, or its first `max_s` seconds."""
    stream = container.streams.audio[0]
    resampler = _Resampler(stream, sample_rate, channels)
    pieces: list[np.ndarray] = []
    total, damaged = 0, 0
    for frame in _frames(container, stream):
        if frame is None:
            damaged += 1
            continue
        made = resampler.add(frame)
        pieces += made
        total += sum(piece.shape[1] for piece in made)
        if max_s is not None and total >= max_s * sample_rate:
            break
        if total > LONGEST_S * sample_rate:
            raise DecodeError(f"it is longer than {LONGEST_S // 3600} hours.", path=path, remedy="Cut it into parts.")
    pieces = [piece for piece in (*pieces, *resampler.finish()) if piece.size]
    if not pieces or damaged > len(pieces) * _DAMAGED_SHARE:
        raise DecodeError("its sound is damaged.", path=path, remedy="Copy or export it again.")
    sound = np.concatenate(pieces, axis=1).astype(np.float32, copy=False)
    return sound if max_s is None else sound[:, : round(max_s * sample_rate)]


@dataclass(frozen=True)
class _Window:
    """Where samples of a track go: by so much later, and only from `low` to `high`."""

    shift: int
    low: int
    high: int


def _place(sound: np.ndarray, windows: list[_Window], position: int, pieces: list[np.ndarray]) -> int:
    """Add pieces [1 or 2, n] at `position`, which may lie outside; returns where the next one goes."""
    for piece in pieces:
        for window in windows:
            begin = position + window.shift
            low, high = max(0, begin, window.low), min(sound.shape[1], begin + piece.shape[1], window.high)
            if high > low:
                sound[:, low:high] += piece[:, low - begin : high - begin]
        position += piece.shape[1]
    return position
