"""The ffmpeg binary and the rules under which untrusted files reach it and its libraries.

A clip's name says nothing about its content: a playlist called `holiday.mp4` could make ffmpeg read other files or the
network. So every file is opened with a fixed list of demuxers (none of which follows references), with the protocols
`file` and `pipe` alone, and by a `file:` address, so that names that begin with `-` or hold a `:` stay names.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import re
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ffmpeg
import numpy as np

from expotion_cli.errors import ExpotionError, MissingLibraryError, OutputError

DEMUXERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "nut")
PROTOCOLS = ("file", "pipe")
PIPE_CHUNK_SAMPLES = 1 << 18
AGAIN = "Encode the clip again (H.264 in MP4) and score that."
STDERR_LINES = 6


@dataclass(frozen=True)
class Finished:
    """What one run of ffmpeg left behind.

    Attributes:
        stdout: what it wrote to its standard output.
        log: its messages.
    """

    stdout: bytes
    log: str


@functools.cache
def ffmpeg_exe() -> str:
    """Path of the ffmpeg binary that came with the package.

    Raises:
        MissingLibraryError: there is no ffmpeg for this platform.
    """
    import imageio_ffmpeg  # it looks for the binary when asked, and only then

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MissingLibraryError(
            "no ffmpeg was found.", remedy="Reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to an ffmpeg binary."
        ) from error


def file_url(path: str | Path) -> str:
    """The address by which ffmpeg and its libraries open exactly this file, whatever its name looks like."""
    return "file:" + os.path.abspath(path)


def open_options() -> dict[str, str]:
    """Options for `av.open` that keep a file from reaching anything but itself."""
    return {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": ",".join(PROTOCOLS)}


def clip_input(path: str | Path, demuxer: str, **options: Any) -> Any:
    """An ffmpeg-python input for a clip whose demuxer the probe has found.

    Args:
        path: the clip.
        demuxer: one of `DEMUXERS`.
        options: further input options.
    """
    assert demuxer in DEMUXERS, demuxer
    return ffmpeg.input(file_url(path), f=demuxer, protocol_whitelist=",".join(PROTOCOLS), **options)


def pcm_input(sample_rate: int, channels: int = 2, **options: Any) -> Any:
    """An ffmpeg-python input that reads interleaved float32 samples from the standard input."""
    return ffmpeg.input("pipe:0", f="f32le", ar=sample_rate, ac=channels, **options)


def run(
    output: Any,
    *,
    samples: np.ndarray | None = None,
    path: str | Path | None = None,
    error: type[ExpotionError] = OutputError,
    arguments: Sequence[str] = (),
    reason: str = "it can't be read to its end.",
) -> Finished:
    """Run a graph built with ffmpeg-python.

    Args:
        output: the node to run; existing files are overwritten.
        samples: [channels, n] float32 to feed to `pcm_input`, in small pieces.
        path: the file to name if it fails.
        error: what to raise then.
        arguments: further global arguments.
        reason: what to say if it fails and nothing better is known.

    Raises:
        ExpotionError: of the kind `error`, with the end of ffmpeg's messages in its `details`.
    """
    command = ffmpeg.compile(
        output.global_args("-hide_banner", "-nostats", *arguments), cmd=ffmpeg_exe(), overwrite_output=True
    )
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if samples is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Ctrl-C reaches us, and we decide what becomes of the child. In a worker process it reaches neither; there the
        # child stays in the worker's group, which is ended as one.
        start_new_session=multiprocessing.parent_process() is None,
    )
    try:
        feeder = None
        if samples is not None:
            pipe, process.stdin = process.stdin, None  # so that communicate() leaves it to the feeder
            feeder = threading.Thread(target=_feed, args=(pipe, samples), daemon=True)
            feeder.start()
        stdout, stderr = process.communicate()
        if feeder is not None:
            feeder.join()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    log = stderr.decode("utf-8", "replace")
    if process.returncode != 0:
        full = "No space left on device" in log
        failure = error(
            "there is no space left on the disk." if full else reason,
            path=path,
            remedy="Free some space, or choose another folder with --out." if full else AGAIN,
        )
        failure.details = f"ffmpeg stopped with code {process.returncode}: {readable_tail(log)}"
        raise failure
    return Finished(stdout, log)


def _feed(pipe: IO[bytes], samples: np.ndarray) -> None:
    try:
        for start in range(0, samples.shape[1], PIPE_CHUNK_SAMPLES):
            piece = samples[:, start : start + PIPE_CHUNK_SAMPLES]
            pipe.write(np.ascontiguousarray(piece.T, dtype="<f4").tobytes())
    except BrokenPipeError:
        pass  # ffmpeg has given up; its messages say why
    finally:
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


def readable_tail(log: str) -> str:
    """The last telling lines of ffmpeg's messages, without addresses in memory, joined into one line."""
    lines = [re.sub(r"\s*@ 0x[0-9a-f]+", "", line).strip() for line in re.split(r"[\r\n]+", log)]
    dull = ("Input #", "Output #", "Stream mapping", "Metadata")
    telling = [line for line in lines if line and not line.startswith(dull)]
    return " | ".join(dict.fromkeys(telling[-STDERR_LINES:])) or "it said nothing."
