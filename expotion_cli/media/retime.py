"""Display times for the frames of AVI files, which store only the order of decoding."""

from __future__ import annotations

from pathlib import Path

import av

from expotion_cli.errors import DecodeError
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.ffmpeg import file_url
from expotion_cli.media.probe import open_container, video_stream

RETIMED_DEMUXER = "nut"


def write_retimed(clip: ClipInfo, destination: Path) -> None:
    """Copy the picture into a NUT file with a display time for each packet.

    Where nothing is reordered a packet is shown when it is decoded, be it broken or not. Else a decoder gives frames in
    display order, so the n-th frame shown gets the n-th decoding time. Packets are numbered through their time stamps,
    which the decoder hands on to their frames.

    Args:
        clip: an AVI file.
        destination: the file to write.

    Raises:
        DecodeError: frames and packets don't match one to one.
    """
    display = _display_times(clip)
    delay = max(decoding - shown for decoding, shown in display.items())
    with open_container(clip.path) as source, av.open(file_url(destination), "w", format=RETIMED_DEMUXER) as target:
        stream = video_stream(source, clip.path)
        copy = target.add_stream_from_template(stream)
        target.metadata.update(clip.tags)
        for packet in source.demux(stream):
            if packet.dts not in display or not packet.size:
                continue
            packet.pts, packet.dts = display[packet.dts], packet.dts - delay
            packet.stream = copy
            target.mux(packet)


def _display_times(clip: ClipInfo) -> dict[int, int]:
    """Display time of each packet, by its decoding time, in the stream's time base."""
    shown: list[int] = []
    with open_container(clip.path) as source:
        stream = video_stream(source, clip.path)
        if not stream.codec_context.has_b_frames:
            times = [packet.dts for packet in source.demux(stream) if packet.size]
            return {time: time for time in times if time is not None}
        stream.thread_type = "AUTO"
        for packet in source.demux(stream):
            packet.pts = packet.dts if packet.size else None
            try:
                shown += [frame.pts for frame in packet.decode() if frame.pts is not None]
            except av.error.FFmpegError:
                continue
    if len(shown) != clip.num_frames or len(set(shown)) != len(shown):
        reason = f"the order of its frames can't be told: {len(shown)} frames in {clip.num_frames} packets."
        raise DecodeError(reason, path=clip.path, remedy="Convert it to MP4 or MKV first.")
    return dict(zip(shown, sorted(shown), strict=True))
