"""What a result keeps of the clip beside its picture and sound, and what is named because it can't be kept."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av

from expotion_cli.errors import UsageError
from expotion_cli.media.clip import MUXERS, ClipInfo, Track, output_suffix

MP4_MUXERS = ("mp4", "mov")
SUBTITLES = {"mp4": {"mov_text"}, "mov": {"mov_text"}, "webm": {"webvtt"}}
WEBM_SOUNDS = {"opus", "vorbis"}
NOT_FOR_MATROSKA = {"mov_text", "eia_608", "unknown"}
TELEMETRY_TAG, TIMECODE_TAG, CHAPTER_TAG = "gpmd", "tmcd", "text"
IMAGE_TYPES = {"mjpeg": ("image/jpeg", "jpg"), "png": ("image/png", "png")}
SPAN_SLACK_S = Fraction(1, 10)  # encoders' own padding is no loss that a note is worth


@dataclass(frozen=True)
class Kept:
    """What goes into the result as it is.

    Attributes:
        copied: tracks that are copied: those of the clip's own sound first, then in the file's order.
        attached: the cover image that becomes an attachment, if there is one.
        notes: what is left out, and what became of the clip's own sound.
        originals: those of `copied` that are the clip's own sound.
    """

    copied: tuple[Track, ...]
    attached: tuple[Track, ...]
    notes: tuple[str, ...]
    originals: tuple[Track, ...] = ()


@functools.cache
def _codecs(muxer: str) -> frozenset[str]:
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        return frozenset(container.supported_codecs)


def keep(clip: ClipInfo, muxer: str, *, own_sound: bool, keep_original: bool) -> Kept:
    """Decide what a container takes over from a clip.

    Args:
        clip: what `probe` found out.
        muxer: "mp4", "mov", "matroska" or "webm".
        own_sound: whether the music lies beside the clip's own sound; if not, that gives way to the music.
        keep_original: whether the clip's own sound is also kept by itself.
    """
    mixed = clip.audio.indices if clip.audio is not None else ()
    sounds = [track for track in clip.tracks if track.kind == "audio"]
    copied: list[Track] = []
    attached: list[Track] = []
    left_out: list[Track] = []
    originals = _originals(clip, muxer) if keep_original else ()
    for track in clip.tracks:
        if track.index == clip.video_index or track.index in mixed or track.tag == TIMECODE_TAG:
            continue
        if track.kind == "audio" and (not own_sound or not track.is_decodable):
            continue  # it is replaced, or was named when the sound was chosen
        if track.tag == CHAPTER_TAG and clip.num_chapters:
            continue  # the chapters' names, written anew
        if track.is_cover and muxer == "matroska" and track.codec in IMAGE_TYPES and not attached:
            attached.append(track)
        elif _takes(muxer, track) and (clip.demuxer != "avi" or track.kind == "audio"):
            copied.append(track)
        else:
            left_out.append(track)
    notes = [*clip.notes]
    if own_sound:
        notes += clip.sound_notes
        notes += _of_sound(clip)
        notes += [f"sound track {sounds.index(t) + 1} is kept beside the mix" for t in copied if t.kind == "audio"]
    elif len(sounds) > 1:
        count = f"all {len(sounds)} sound tracks" if not originals else "the sound tracks beside the original sound"
        notes.append(f"the music replaces {count}")
    notes += [f"left out: {_named(track)}, which {_NAMES[muxer]} can't hold" for track in left_out]
    return Kept((*originals, *copied), tuple(attached), tuple(notes), originals)


def check_original(clip: ClipInfo) -> None:
    """Refuse to keep the clip's own sound where the result can't hold it, before anything is composed.

    Args:
        clip: what `probe` found out; one without sound passes.

    Raises:
        UsageError: the result's container can't hold it.
    """
    suffix = output_suffix(clip)
    if clip.audio is not None and len(_originals(clip, MUXERS[suffix])) < len(clip.audio.indices):
        reason = f"--keep-original can't copy its sound ({clip.audio.codec}) into {suffix}."
        raise UsageError(reason, path=clip.path, remedy="Convert the clip to MKV first, or leave --keep-original out.")


def _originals(clip: ClipInfo, muxer: str) -> tuple[Track, ...]:
    """The tracks of the clip's own sound that a container can hold."""
    indices = clip.audio.indices if clip.audio is not None else ()
    return tuple(
        track
        for track in clip.tracks
        if track.index in indices
        and (_takes(muxer, track) or (muxer == "webm" and track.is_decodable and track.codec in WEBM_SOUNDS))
    )


_NAMES = {"mp4": "MP4", "mov": "MOV", "matroska": "MKV", "webm": "WebM"}
_KINDS = {"video": "picture", "audio": "sound track", "subtitle": "subtitle track", "data": "data track"}


def _takes(muxer: str, track: Track) -> bool:
    if track.kind == "subtitle":
        return track.codec in SUBTITLES[muxer] if muxer in SUBTITLES else track.codec not in NOT_FOR_MATROSKA
    if track.kind == "data":
        return muxer in MP4_MUXERS and track.tag == TELEMETRY_TAG
    if track.kind == "attachment":
        return muxer == "matroska"
    if track.is_cover:
        return muxer in MP4_MUXERS  # ffmpeg would make a second picture of it elsewhere
    return track.is_decodable and muxer != "webm" and track.codec in _codecs(muxer)


def _named(track: Track) -> str:
    kind = "cover image" if track.is_cover else _KINDS.get(track.kind, track.kind)
    codec = track.tag if track.codec in ("unknown", "bin_data") and track.tag else track.codec
    return f"a {kind} ({', '.join(text for text in (track.title, track.language, codec) if text)})"


def _of_sound(clip: ClipInfo) -> Iterator[str]:
    """What becomes of the clip's own sound on its way into the mix."""
    sound = clip.audio
    if sound is None:
        return
    if sound.channels > 2:
        yield f"its own sound of {sound.channels} channels is mixed down to stereo"
    before, after = -sound.start, sound.start + sound.duration - clip.duration
    if before > SPAN_SLACK_S:
        yield f"the {float(before):.2f} s of its own sound before the picture are left out"
    if after > SPAN_SLACK_S:
        yield f"the {float(after):.2f} s of its own sound after the picture are left out"
