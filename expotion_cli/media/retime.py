"""The picture alone, with right time stamps, where a file can't be copied as it stands.

AVI files store only the order of decoding, sometimes with two pictures in one packet; recordings of broadcasts may
begin with pictures that can't be shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from expotion_cli.errors import DecodeError
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.ffmpeg import file_url
from expotion_cli.media.probe import has_no_display_times, open_container, picture_of

RETIMED_DEMUXER = "nut"
UNPACK = {"mpeg4": "mpeg4_unpack_bframes"}
"""Filters that part packets into pictures; they leave others alone."""


def needs_retiming(clip: ClipInfo) -> bool:
    """Whether ffmpeg can't copy the picture right out of the clip's own file."""
    return clip.demuxer == "avi" or clip.begins_late


def write_retimed(clip: ClipInfo, destination: Path) -> Fraction:
    """Copy the picture into a NUT file with a display time for each packet.

    Where nothing is reordered a packet is shown when it is decoded, be it broken or not. Else a decoder gives frames in
    display order, so the n-th frame shown gets the n-th decoding time. Packets are numbered through their time stamps,
    which the decoder hands on to their frames.

    Args:
        clip: one that `needs_retiming`.
        destination: the file to write.

    Returns:
        When the first picture comes in that file, in seconds.

    Raises:
        DecodeError: frames and packets don't match one to one.
    """
    with open_container(clip.path) as source:
        display = _display_times(clip) if has_no_display_times(source) else None
    delay = 0 if display is None else max(0, *(decoding - shown for decoding, shown in display.items()))
    origin, first, base = None, None, Fraction(1)
    with open_container(clip.path) as source, av.open(file_url(destination), "w", format=RETIMED_DEMUXER) as target:
        stream = picture_of(source, clip)
        packets = list_packets(source, stream, clip)
        copy = target.add_stream_from_template(stream)
        for packet in packets:
            if packet.dts is None or (display is not None and packet.dts not in display):
                continue
            shown = packet.pts if display is None else display[packet.dts]
            if shown is None:
                continue
            if origin is None:  # the muxer leaves times alone that are not negative
                origin, first = packet.dts - delay, shown if display is None else min(display.values())
                base = packet.time_base
            packet.pts, packet.dts = shown - origin, packet.dts - delay - origin
            packet.stream = copy
            target.mux(packet)
    if origin is None or first is None:
        raise DecodeError("none of its frames can be copied.", path=clip.path, remedy="Convert or repair it first.")
    return (first - origin) * base


def list_packets(
    container: av.container.InputContainer, stream: av.VideoStream, clip: ClipInfo
) -> Iterator[av.Packet[av.VideoStream]]:
    """The packets that make up what is shown, one picture each."""
    unpack = None
    if has_no_display_times(container) and stream.codec_context.name in UNPACK:
        unpack = av.BitStreamFilterContext(UNPACK[stream.codec_context.name], stream)
    begun = not clip.begins_late
    for packet in container.demux(stream):
        for part in [packet] if unpack is None else unpack.filter(packet if packet.size else None):
            if not part.size:
                continue
            if clip.begins_late:
                time = None if part.pts is None else part.pts * part.time_base
                begun = begun or time == clip.start
                if time is None or time < clip.start:
                    continue  # it needs pictures that are not in the file
            if begun:
                yield part


def _display_times(clip: ClipInfo) -> dict[int, int]:
    """Display time of each packet, by its decoding time, in the stream's time base."""
    shown: list[int] = []
    with open_container(clip.path) as source:
        stream = picture_of(source, clip)
        if not stream.codec_context.has_b_frames:
            times = [packet.dts for packet in list_packets(source, stream, clip)]
            return {time: time for time in times if time is not None}
        stream.thread_type = "AUTO"
        for packet in [*list_packets(source, stream, clip), None]:
            if packet is not None:
                packet.pts = packet.dts
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                continue
            shown += [frame.pts for frame in frames if frame.pts is not None]
    if len(shown) != clip.num_frames or len(set(shown)) != len(shown):
        reason = f"the order of its frames can't be told: {len(shown)} frames in {clip.num_frames} packets."
        raise DecodeError(reason, path=clip.path, remedy="Encode it again (H.264 in MP4) and score the copy.")
    return dict(zip(shown, sorted(shown), strict=True))
