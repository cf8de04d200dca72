"""Sound files: WAV as 32-bit floats, which hold any peak, and FLAC as 24-bit integers, which stop at full scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from expotion_cli.media import ffmpeg as tool

WAV, FLAC = SOUND_FORMATS = ("wav", "flac")
_ENCODERS: dict[str, dict[str, Any]] = {
    WAV: {"acodec": "pcm_f32le", "rf64": "auto"},
    FLAC: {"acodec": "flac", "sample_fmt": "s32", "bits_per_raw_sample": 24},
}


def write_sound(path: Path, sound: np.ndarray, sample_rate: int, form: str) -> None:
    """Write a sound file; the same sound gives the same bytes.

    Args:
        path: the file to write.
        sound: [2, n] float32; beyond ±1 FLAC clips.
        sample_rate: in Hz.
        form: of `SOUND_FORMATS`.

    Raises:
        OutputError: it can't be written.
    """
    settings = {"f": form, "fflags": "+bitexact", "flags:a": "+bitexact", **_ENCODERS[form]}
    output = ffmpeg.output(tool.pcm_input(sample_rate).audio, tool.file_url(path), **settings)
    tool.run(output, samples=sound, path=path, reason="it could not be written.")
