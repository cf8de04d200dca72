"""Decodes Ogg Vorbis sound that lies in memory, such as the recordings of a compressed soundfont."""

from __future__ import annotations

import io

import av
import numpy as np

_PAGE_HEADER_BYTES = 27
_SKIP_MANUAL = 1 << 29  # AV_CODEC_FLAG2_SKIP_MANUAL: FFmpeg trims a stream of a single page wrongly, so we trim


def decode_vorbis(data: bytes, most_samples: int) -> np.ndarray:
    """Decode one mono Ogg Vorbis stream.

    Nothing is allocated for more than `most_samples`, whatever the data pretend.

    Args:
        data: the whole stream.
        most_samples: longer streams are refused.

    Returns:
        [n] float32, full scale 1.

    Raises:
        ValueError: it is damaged, longer than allowed, or no mono Ogg Vorbis stream.
    """
    wanted = _stated_length(data)
    if not 0 < wanted <= most_samples:
        raise ValueError(f"it states a length of {wanted} samples; 1 to {most_samples} are allowed")
    pieces: list[np.ndarray] = []
    packets = length = 0
    try:
        with av.open(io.BytesIO(data), "r", format="ogg") as container:
            streams = container.streams.audio
            if len(streams) != 1 or streams[0].codec_context.name != "vorbis" or streams[0].channels != 1:
                raise ValueError("it is not one mono Vorbis stream")
            streams[0].codec_context.flags2 |= _SKIP_MANUAL
            for packet in container.demux(streams[0]):
                packets += packet.size > 0
                for frame in packet.decode():
                    pieces.append(np.frombuffer(memoryview(frame.planes[0]), np.float32)[: frame.samples].copy())
                    length += frame.samples
                if length > most_samples + (1 << 14):  # a block and its neighbour may lie past the end
                    raise ValueError("it is longer than it states")
    except av.error.FFmpegError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    # A block sounds only together with the one before it. Newer decoders also give half of the first block.
    sound = np.concatenate(pieces[len(pieces) == packets :] or [np.zeros(0, np.float32)])
    if len(sound) < wanted:
        raise ValueError(f"only {len(sound)} of its {wanted} samples can be decoded")
    if not np.isfinite(sound := sound[:wanted]).all():
        raise ValueError("it holds values that are no numbers")
    return sound


def _stated_length(data: bytes) -> int:
    """Samples of the stream, as its last page states."""
    place, length = 0, -1
    while place < len(data):
        segments = data[place + 26] if place + _PAGE_HEADER_BYTES <= len(data) else 0
        sizes = data[place + _PAGE_HEADER_BYTES : place + _PAGE_HEADER_BYTES + segments]
        following = place + _PAGE_HEADER_BYTES + segments + sum(sizes)
        if data[place : place + 4] != b"OggS" or following > len(data):
            raise ValueError("it is cut short or no Ogg stream")
        length, place = int.from_bytes(data[place + 6 : place + 14], "little", signed=True), following
    return length
