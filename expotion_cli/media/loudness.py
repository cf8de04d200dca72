"""Loudness by EBU R128 (ITU-R BS.1770), measured by ffmpeg."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.errors import DecodeError
from expotion_cli.media import ffmpeg as tool
from expotion_cli.media.probe import demuxer_of, open_container

BLOCK_S = 0.4  # R128 measures in blocks of this length; shorter sound has no integrated loudness
ABSOLUTE_GATE_LUFS = -70.0
METER_FLOOR_LUFS = -120.0
RESOLUTION_DB = 0.1  # ffmpeg's report is rounded to this


@dataclass(frozen=True)
class Loudness:
    """How loud a sound is.

    Attributes:
        integrated_lufs: gated loudness of the whole; -inf for silence and for less than 0.4 s of sound.
        true_peak_dbtp: highest peak between or on samples; -inf for silence.
        range_lu: loudness range; 0 for 3 s or less.
    """

    integrated_lufs: float
    true_peak_dbtp: float
    range_lu: float


def measure(sound: np.ndarray | str | Path, sample_rate: int | None = None) -> Loudness:
    """Measure samples, or the first sound track of a video file as it would be played.

    Args:
        sound: [2, n] float32, or a file.
        sample_rate: of the samples, in Hz; needed for an array.

    Raises:
        ProbeError: the file can't be opened.
        DecodeError: it has no sound, or ffmpeg can't read it.
    """
    if isinstance(sound, np.ndarray):
        assert sample_rate is not None, "an array needs its sample rate"
        if not np.any(sound):
            return Loudness(-math.inf, -math.inf, 0.0)
        return _parse(_run(tool.pcm_input(sample_rate, len(sound)), samples=sound), None)
    with open_container(sound) as container:
        if not container.streams.audio:
            raise DecodeError("it has no sound to measure.", path=sound)
        demuxer = demuxer_of(container)
    return _parse(_run(tool.clip_input(sound, demuxer)["a:0"], path=sound), sound)


def measure_over_time(sound: np.ndarray, sample_rate: int) -> tuple[Loudness, np.ndarray]:
    """Measure samples as a whole and moment by moment, in one run.

    Args:
        sound: [2, n] float32.
        sample_rate: in Hz.

    Returns:
        What `measure` gives, and the momentary loudness: [T] float64 LUFS, row i for the 0.4 s from i / 10 s on; -inf
        for silence; empty for less than 0.4 s.
    """
    log = _run(tool.pcm_input(sample_rate, len(sound)), framelog="info", samples=sound)
    values = np.array([float(text) for text in re.findall(r"^\[.*\] t:.* M: *(\S+) S:", log, re.MULTILINE)])
    values = values[3:]  # until a window is full the meter has nothing to say
    curve = np.where(values > METER_FLOOR_LUFS, values, -math.inf)
    return (_parse(log, None) if np.any(sound) else Loudness(-math.inf, -math.inf, 0.0)), curve


def _run(stream: Any, framelog: str = "quiet", **options: Any) -> str:
    meter = stream.filter("ebur128", peak="true", framelog=framelog)
    return tool.run(meter.output("pipe:1", f="null"), error=DecodeError, **options).log


def _parse(log: str, path: str | Path | None) -> Loudness:
    summary = log[log.rfind("Summary:") :]
    values = dict(re.findall(r"^\s+(I|LRA|LRA low|Threshold|Peak):\s+(\S+) (?:LUFS|LU|dBFS)$", summary, re.MULTILINE))
    if values.keys() != {"I", "LRA", "LRA low", "Threshold", "Peak"}:
        raise DecodeError(f"its loudness can't be measured: {tool.readable_tail(log)}", path=path)
    integrated = float(values["I"])
    # Of one measurement alone (3 s) ffmpeg reports the gate as the range's lower end. The last threshold is that gate.
    single = values["LRA low"] == values["Threshold"]
    return Loudness(
        integrated_lufs=integrated if integrated > ABSOLUTE_GATE_LUFS else -math.inf,
        true_peak_dbtp=float(values["Peak"]),
        range_lu=0.0 if single else float(values["LRA"]),
    )
