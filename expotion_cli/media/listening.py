"""Small sound files to listen to and compare: AAC in MP4, which every browser and player opens."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from expotion_cli.audio.loudness import integrated_lufs
from expotion_cli.media import ffmpeg as tool
from expotion_cli.media.level import MOST_LIMITING_DB

BITRATE = "160k"


def to_m4a(sound: np.ndarray, sample_rate: int, *, target_lufs: float, peak_dbtp: float) -> bytes:
    """Sound as the content of an .m4a file, at a loudness: of two sounds, the louder one always seems the better.

    Peaks are limited by as much as those of finished videos may be; sound that needs more stays quieter.

    Args:
        sound: [2, n] float32, n >= 1.
        sample_rate: in Hz.
        target_lufs: integrated loudness.
        peak_dbtp: highest sample.

    Raises:
        OutputError: ffmpeg can't write it.
    """
    loudness, peak = integrated_lufs(sound, sample_rate), float(np.abs(sound).max())
    gain_db = 0.0
    if math.isfinite(loudness) and peak > 0:
        gain_db = min(target_lufs - loudness, peak_dbtp + MOST_LIMITING_DB - 20 * math.log10(peak))
    graph = tool.pcm_input(sample_rate).audio.filter("volume", f"{gain_db:.3f}dB", precision="float")
    graph = graph.filter("alimiter", limit=10 ** (peak_dbtp / 20), attack=5, release=60, level="false", latency="true")
    settings: dict[str, Any] = {"f": "ipod", "acodec": "aac", "audio_bitrate": BITRATE, "movflags": "+faststart"}
    settings |= {"fflags": "+bitexact", "flags:a": "+bitexact", "map_metadata": -1}
    with tempfile.TemporaryDirectory(prefix="expotion-listening-") as scratch:
        path = Path(scratch) / "sound.m4a"
        output = ffmpeg.output(graph, tool.file_url(path), **settings)
        tool.run(output, samples=sound, path=path, arguments=["-loglevel", "error"])
        return path.read_bytes()
