"""One finished file: the picture copied, the sound encoded at a level, all else taken over that the container holds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from expotion_cli.errors import OutputError
from expotion_cli.media import ffmpeg as tool
from expotion_cli.media.boxes import BoxError, Boxes, Changes, Edit, read_boxes, rewrite
from expotion_cli.media.clip import ClipInfo, Track
from expotion_cli.media.kept import IMAGE_TYPES, MP4_MUXERS, Kept, keep
from expotion_cli.media.level import Level
from expotion_cli.media.probe import open_container
from expotion_cli.media.retime import RETIMED_DEMUXER, needs_retiming, write_retimed
from expotion_cli.timing import num_samples

OVERSAMPLED_HZ = 192_000  # peaks between samples become samples here, where the limiter sees them
ENCODERS: dict[str, dict[str, Any]] = {
    "aac": {"acodec": "aac", "audio_bitrate": "256k"},
    "opus": {"acodec": "libopus", "audio_bitrate": "192k"},
    "flac": {"acodec": "flac", "sample_fmt": "s32", "bits_per_raw_sample": 24},
}
# players read the classic tags; the newer kind is written only where the clip already uses it
APPLE_TAG_PREFIX = "com."
OF_THE_CONTAINER = ("major_brand", "minor_version", "compatible_brands")
LONGEST_TAG = 1000
TIMED = ("audio", "video", "subtitle")
DROP_EARLY = "noise=drop=lt(pts\\,0)"  # leaves all packets as they are but those before the picture
UNTIMED = {"mpeg", "mpegts"}  # not every packet of these has a time stamp


@dataclass(frozen=True)
class SoundTracks:
    """What a result's sound tracks are.

    Attributes:
        own_sound: whether the mix holds the clip's own sound.
        keep_original: whether that is also kept by itself.
        original_first: whether players begin with it.
    """

    own_sound: bool
    keep_original: bool
    original_first: bool


class Job:
    """All that stays the same between attempts.

    Args:
        clip: what is copied.
        music: [2, n] float32, the sound, as long as the picture.
        sample_rate: of the sound, in Hz.
        muxer: ffmpeg's name for the container.
        codec: "aac", "opus" or "flac".
        metadata: tags to add to the clip's own.
        tracks: what its sound tracks are.
        scratch: a folder for files that are needed on the way.
    """

    def __init__(
        self,
        clip: ClipInfo,
        music: np.ndarray,
        sample_rate: int,
        muxer: str,
        codec: str,
        metadata: Mapping[str, str],
        tracks: SoundTracks,
        scratch: Path,
    ):
        self.clip, self.music, self.sample_rate = clip, music, sample_rate
        self.muxer, self.codec, self.metadata = muxer, codec, metadata
        self.kept: Kept = keep(clip, muxer, own_sound=tracks.own_sound, keep_original=tracks.keep_original)
        self.output_rate = 48_000 if codec == "opus" else sample_rate
        self._tracks = tracks
        self._spoken = tracks.own_sound and clip.audio is not None
        self._start_s = clip.start
        self._retimed: Path | None = None
        if needs_retiming(clip):
            self._retimed = scratch / "picture.nut"
            self._start_s = write_retimed(clip, self._retimed)
        self._cover: Path | None = None
        for track in self.kept.attached:
            self._cover = _written_cover(clip, track, scratch)

    def write(self, temporary: Path, destination: Path, level: Level) -> None:
        """Encode the sound, copy the rest.

        Args:
            temporary: the file to write.
            destination: its name in messages.
            level: of the sound.

        Raises:
            OutputError: ffmpeg can't write it.
        """
        picture, rest = self._sources()
        sound = self._sound(level)
        streams = [picture, sound, *(rest[str(track.index)] for track in self.kept.copied)]
        # bitexact: the same input gives the same file, without random identifiers
        settings: dict[str, Any] = {"f": self.muxer, "c": "copy", "fflags": "+bitexact", "strict": "unofficial"}
        settings |= {key.replace("acodec", "c:a:0"): value for key, value in ENCODERS[self.codec].items()}
        settings |= {"ar": self.output_rate, "flags:a": "+bitexact", "disposition:v:0": "default"}
        settings |= self._dispositions()
        settings |= {"map_metadata": 0, "map_chapters": 0, "max_muxing_queue_size": 4096}
        settings |= self._names()
        if self.muxer in MP4_MUXERS:
            if any(key.startswith(APPLE_TAG_PREFIX) for key in self.clip.tags):
                settings["movflags"] = "+use_metadata_tags"
            if self.clip.video_codec == "hevc" and self.clip.container not in MP4_MUXERS:
                settings["tag:v:0"] = "hvc1"  # Apple's players refuse hev1
        else:  # nothing may come before 0 there, or all else would be moved
            settings |= {f"bsf:{n}": DROP_EARLY for n, track in enumerate(self.kept.copied, 2) if track.kind in TIMED}
        if self._cover is not None:
            settings["attach"] = str(self._cover)
        if self.muxer == "matroska" and self.clip.video_codec == "rawvideo":
            settings |= {"allow_raw_vfw": 1, "tag:v:0": clip_tag(self.clip)}
        output = ffmpeg.output(*streams, tool.file_url(temporary), **settings)
        # copyts: otherwise ffmpeg moves the clock's start by rules that depend on the container and the tracks taken
        arguments = ["-copyts", "-loglevel", "error"]
        reason = f"its picture ({self.clip.video_codec}) could not be copied into {destination.suffix}."
        tool.run(output, samples=self.music, path=destination, arguments=arguments, reason=reason)

    def finish(self, temporary: Path) -> None:
        """Put what ffmpeg doesn't copy into a file that is otherwise done, and its index to the front.

        Raises:
            OutputError: it can't be written.
        """
        if self.muxer not in MP4_MUXERS:
            return
        boxes = Boxes(())
        if self.clip.demuxer == "mov":
            with contextlib.suppress(BoxError, OSError):  # libavformat made sense of it all the same
                boxes = read_boxes(self.clip.path)
        picture = boxes.tracks[self.clip.video_index].kept if self.clip.video_index < len(boxes.tracks) else ()
        parts = self.clip.edits.get(self.clip.video_index, ())
        changes = Changes(
            user=boxes.user,
            film=boxes.film,
            file=boxes.file,
            picture=picture,
            edits=[Edit(to - start, start, Fraction(1)) for _, start, to in parts],
            duration=self.clip.duration if parts else None,
        )
        try:
            rewrite(temporary, changes)
        except BoxError as error:
            raise OutputError(f"its index could not be written ({error}).", path=temporary) from error

    def _sources(self) -> tuple[Any, Any]:
        """The picture, and the clip that all else comes from; the picture's first time stamp becomes 0 in both."""
        clip = self.clip
        options = {"fflags": "+genpts"} if clip.demuxer in UNTIMED else {}
        rest = tool.clip_input(clip.path, clip.demuxer, itsoffset=_offset(clip.start), **options)
        if self._retimed is not None:
            return tool.clip_input(self._retimed, RETIMED_DEMUXER, itsoffset=_offset(self._start_s))["v:0"], rest
        if clip.edits:
            whole = tool.clip_input(clip.path, clip.demuxer, ignore_editlist=1)
            return whole[str(clip.video_index)], rest
        return rest[str(clip.video_index)], rest

    def _sound(self, level: Level) -> Any:
        sound = tool.pcm_input(self.sample_rate).audio.filter("volume", f"{level.gain_db:.3f}dB", precision="float")
        if level.limited:
            sound = sound.filter("aresample", OVERSAMPLED_HZ)
            sound = sound.filter(
                "alimiter", limit=10 ** (level.ceiling_dbtp / 20), attack=5, release=60, level="false", latency="true"
            )
        sound = sound.filter("aresample", self.output_rate)
        length = num_samples(self.clip.duration, self.output_rate)
        return sound.filter("apad", whole_len=length).filter("atrim", end_sample=length)

    @property
    def _title_key(self) -> str:
        """How the container calls a track's name."""
        return "handler_name" if self.muxer in MP4_MUXERS else "title"

    def _dispositions(self) -> dict[str, str]:
        """Which sound track players begin with."""
        originals = len(self.kept.originals)
        first = 1 if originals and self._tracks.original_first else 0
        return {f"disposition:a:{n}": "default" if n == first else "0" for n in range(1 + originals)}

    def _names(self) -> dict[str, Any]:
        """Tags of the file, the sound and the covers."""
        tags = {key: value for key, value in self.clip.tags.items() if ";" not in key and len(value) < LONGEST_TAG}
        tags |= dict.fromkeys((key for key in tags if key in OF_THE_CONTAINER), "")
        tags = {key: value for key, value in tags.items() if key.lower() != "encoder"} | dict(self.metadata)
        named: dict[str, Any] = {f"metadata:g:{n}": f"{key}={value}" for n, (key, value) in enumerate(tags.items())}
        if self._spoken and self.clip.audio is not None:
            audio = self.clip.audio
            # ffmpeg-python takes each option once; both of these mean the sound, the file's second stream
            if audio.language:
                named["metadata:s:a:0"] = f"language={audio.language}"
            if audio.title and not self.kept.originals:
                named["metadata:s:1"] = f"{self._title_key}={audio.title}"
        if self.kept.originals:
            named["metadata:s:1"] = f"{self._title_key}={'Music and original sound' if self._spoken else 'Music'}"
        for number, track in enumerate(self.kept.originals):
            title = track.title or "Original sound"
            named[f"metadata:s:{2 + number}"] = f"{self._title_key}={title}"
        if self._cover is not None:
            number = sum(track.kind == "attachment" for track in self.kept.copied)
            named[f"metadata:s:t:{number}"] = f"mimetype={IMAGE_TYPES[self.kept.attached[0].codec][0]}"
            named[f"metadata:s:{2 + len(self.kept.copied)}"] = f"filename={self._cover.name}"
        return named


def clip_tag(clip: ClipInfo) -> str:
    """Four letters by which the container knows what kind of picture this is."""
    return next(track.tag for track in clip.tracks if track.index == clip.video_index)


def _offset(start: Fraction) -> str:
    """By how much ffmpeg is to move a file's clock so that `start` becomes 0.

    A microsecond too late never rounds to a tick of the clock; one too early would put the first frame before it.
    """
    return f"{math.ceil(-start * 1_000_000) + 1 if start else 0}us"


def _written_cover(clip: ClipInfo, cover: Track, scratch: Path) -> Path:
    """A cover image as a file, named as players look for it."""
    path = scratch / f"cover.{IMAGE_TYPES[cover.codec][1]}"
    with open_container(clip.path) as container:
        for packet in container.demux(container.streams[cover.index]):
            if packet.size:
                path.write_bytes(bytes(packet))
                break
    return path
