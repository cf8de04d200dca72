"""Sound kept as 16-bit FLAC: small, exact, and every browser plays it."""

from __future__ import annotations

from pathlib import Path

import av
import ffmpeg
import numpy as np

from expotion_cli.errors import DecodeError, reading
from expotion_cli.media import ffmpeg as tool
from expotion_cli.storage import atomic_path

FULL_SCALE = 1 << 15


def to_16_bit(sound: np.ndarray) -> np.ndarray:
    """Samples as FLAC keeps them: [2, n] float32, full scale 1 → [2, n] int16; what is louder is clipped."""
    scaled = np.rint(np.asarray(sound, dtype=np.float64) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def write_flac(path: str | Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write stereo sound; the same samples give the same bytes.

    Args:
        path: the file, written whole or not at all.
        samples: [2, n] int16.
        sample_rate: in Hz.

    Raises:
        OutputError: it can't be written.
    """
    assert samples.dtype == np.int16 and samples.shape[0] == 2, (samples.dtype, samples.shape)
    settings = {"f": "flac", "acodec": "flac", "sample_fmt": "s16", "compression_level": 8, "map_metadata": -1}
    settings |= {"fflags": "+bitexact", "flags:a": "+bitexact"}
    with atomic_path(path) as temporary:
        output = ffmpeg.output(tool.pcm_input(sample_rate), tool.file_url(temporary), **settings)
        exact = samples.astype(np.float32) / FULL_SCALE
        tool.run(output, samples=exact, path=path, arguments=["-loglevel", "error"])


def read_flac(path: str | Path) -> tuple[np.ndarray, int]:
    """Read what `write_flac` wrote.

    Returns:
        ([2, n] int16, sample rate in Hz).

    Raises:
        DecodeError: it can't be read, or is of another kind.
    """
    pieces: list[np.ndarray] = []
    with reading(path, "the sound", error=DecodeError, also=(av.error.FFmpegError, IndexError)):
        options = {"protocol_whitelist": ",".join(tool.PROTOCOLS)}
        with av.open(tool.file_url(path), format="flac", options=options) as container:
            stream = container.streams.audio[0]
            sample_rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
            pieces += (frame.to_ndarray().reshape(-1, channels).T for frame in container.decode(stream))
    if not pieces or channels != 2 or pieces[0].dtype != np.int16:
        raise DecodeError("this is not 16-bit stereo FLAC.", path=path)
    return np.ascontiguousarray(np.concatenate(pieces, axis=1)), sample_rate
