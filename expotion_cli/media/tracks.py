"""Which of several pictures and sound tracks is the clip: chosen as players choose, unless the user did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from expotion_cli.errors import ProbeError
from expotion_cli.media.clip import Track, Tracks
from expotion_cli.media.walk import Span

LISTENED_S = 600  # a track that is silent for so long is a silent one
AUDIBLE = 1e-3  # -60 dBFS
TOGETHER_S = 0.1  # mono tracks of one recording begin and end together
DESCRIBED = {"qad", "qaa"}  # languages by which broadcasters mark a description for the blind, and an original sound
_SHOWN_LETTERS = 40

Disposition = av.stream.Disposition
ASIDE = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.dependent
    | Disposition.karaoke
    | Disposition.clean_effects
)
ADD_CHOICE = "Choose another number, or leave the flag out."


@dataclass(frozen=True)
class Chosen:
    """What the choice came to.

    Attributes:
        index: the picture's stream index.
        sounds: stream indices of the clip's own sound, one or several that are mixed.
        notes: on the picture.
        sound_notes: on the clip's own sound.
    """

    index: int
    sounds: tuple[int, ...]
    notes: tuple[str, ...] = ()
    sound_notes: tuple[str, ...] = ()


def describe(stream: av.stream.Stream, span: Span | None, tag: str) -> Track:
    """What is known of a stream.

    Args:
        stream: of an open file.
        span: from `walk.walk`, None if the stream has no packets.
        tag: of `clip.Track`.
    """
    names = {key.lower(): value for key, value in stream.metadata.items()}
    handler = names.get("handler_name", "")
    # "VideoHandler", "SoundHandle", "Core Media Audio": what programs write where nobody gave a name
    plain = "handle" in handler.lower() or handler.startswith(("Core Media", "Apple", "GPAC", "Mainconcept"))
    title = names.get("title") or ("" if plain else handler)
    language = names.get("language", "")
    frame = span.frame if span is not None else None
    context = stream.codec_context if isinstance(stream, av.VideoStream) else None
    is_cover = isinstance(stream, av.VideoStream) and bool(stream.disposition & Disposition.attached_pic)
    return Track(
        index=stream.index,
        kind=stream.type or "data",
        codec=codec_name(stream),
        tag=tag or (printable(context.codec_tag) if context is not None else ""),
        language="" if language == "und" else printable(language),
        title=printable(title),
        is_cover=is_cover,
        is_decodable=frame is not None,
        size=(0, 0) if context is None else (context.width, context.height),
    )


def codec_name(stream: av.stream.Stream) -> str:
    """The codec's own name, whichever decoder serves it; "unknown" where none does."""
    if stream.codec_context is not None:
        return stream.codec_context.codec.canonical_name
    return getattr(stream, "name", None) or "unknown"


def printable(text: str) -> str:
    """A name out of a file, short and without control characters."""
    return "".join(letter for letter in text if letter.isprintable())[:_SHOWN_LETTERS].strip()


def choose(
    container: av.container.InputContainer,
    tracks: Sequence[Track],
    spans: dict[int, Span],
    wanted: Tracks,
    path: Path,
) -> Chosen:
    """Choose the picture and the clip's own sound.

    Of pictures that can be decoded those that move come first, then those that the file marks as default, then the
    largest. Of sound tracks those that can be heard come first, then the default, then those that are no commentary;
    mono tracks of one recording are taken together.

    Args:
        container: the open file; read again where several sound tracks have to be heard.
        tracks: from `describe`, in the file's order.
        spans: from `walk.walk`.
        wanted: what the user chose.
        path: the file, for messages.

    Raises:
        ProbeError: there is no picture, none that can be decoded, or not the track that the user chose.
    """
    pictures = [track for track in tracks if track.kind == "video" and not track.is_cover]
    sounds = [track for track in tracks if track.kind == "audio"]
    picture = _picture(container, pictures, spans, wanted.video, path)
    chosen, sound_notes = _sound(container, sounds, spans, wanted.audio, path)
    notes = []
    if len(pictures) > 1:
        place = pictures.index(picture) + 1
        width, height = picture.size
        notes.append(f"picture: track {place} of {len(pictures)} ({picture.codec}, {width}x{height}) is scored")
    return Chosen(picture.index, tuple(track.index for track in chosen), tuple(notes), tuple(sound_notes))


def refuse_without_picture(tracks: Sequence[Track], path: Path, *, remedy: str) -> None:
    """Say why there is no picture to choose.

    Args:
        tracks: of the file.
        path: the file.
        remedy: what to do about it.

    Raises:
        ProbeError: there is none.
    """
    if any(track.kind == "video" and not track.is_cover for track in tracks):
        return
    sound = "sound but " if any(track.kind == "audio" for track in tracks) else ""
    raise ProbeError(f"it holds {sound}no picture.", path=path, remedy=remedy)


def _picture(
    container: av.container.InputContainer,
    pictures: Sequence[Track],
    spans: dict[int, Span],
    wanted: int | None,
    path: Path,
) -> Track:
    if wanted is not None:
        pictures = [_numbered(pictures, wanted, "video", path)]
    decodable = [track for track in pictures if track.is_decodable and spans[track.index].count]
    if not decodable:
        reason = f"its picture ({pictures[0].codec}) can't be decoded."
        raise ProbeError(reason, path=path, remedy="Convert or repair it first.")

    def rank(track: Track) -> tuple[bool, bool, int, int]:
        is_default = bool(container.streams[track.index].disposition & Disposition.default)
        return spans[track.index].count < 2, not is_default, -track.size[0] * track.size[1], track.index

    return min(decodable, key=rank)


def _sound(
    container: av.container.InputContainer,
    sounds: Sequence[Track],
    spans: dict[int, Span],
    wanted: Sequence[int],
    path: Path,
) -> tuple[list[Track], list[str]]:
    """The tracks of the clip's own sound, and what to say of them."""
    decodable = [track for track in sounds if track.is_decodable]
    lost = [track for track in sounds if not track.is_decodable and spans[track.index].count]
    notes = [f"its sound track {_named(track)} can't be decoded and is not in the result" for track in lost]
    if wanted:
        chosen = [_numbered(sounds, number, "sound", path) for number in wanted]
        for track in chosen:
            if not track.is_decodable:
                raise ProbeError(f"its sound track {_named(track)} can't be decoded.", path=path, remedy=ADD_CHOICE)
    elif len(decodable) < 2:
        return decodable, notes
    else:
        chosen = _best_sound(container, decodable, spans)
    if not wanted and len(chosen) > 1:
        notes.insert(0, f"own sound: {len(chosen)} mono tracks of one recording are mixed")
    elif len(sounds) > 1:
        numbers = " and ".join(f"{sounds.index(track) + 1} {_named(track)}" for track in chosen)
        rest = [track for track in sounds if track not in chosen and track not in lost]
        text = f"own sound: track {numbers} of {len(sounds)}"
        if rest:
            text += "; without " + ", ".join(f"{sounds.index(track) + 1} {_named(track)}" for track in rest)
        notes.insert(0, text)
    return chosen, notes


def _best_sound(
    container: av.container.InputContainer, decodable: Sequence[Track], spans: dict[int, Span]
) -> list[Track]:
    if _is_one_recording(container, decodable, spans):
        return list(decodable)
    heard = _audible(container, [track.index for track in decodable])

    def rank(track: Track) -> tuple[bool, bool, bool, int]:
        disposition = container.streams[track.index].disposition
        aside = bool(disposition & ASIDE) or track.language in DESCRIBED
        return track.index not in heard, not disposition & Disposition.default, aside, track.index

    return [min(decodable, key=rank)]


def _is_one_recording(
    container: av.container.InputContainer, decodable: Sequence[Track], spans: dict[int, Span]
) -> bool:
    """Whether these are mono tracks side by side, as professional cameras record their microphones."""
    kinds = set()
    for track in decodable:
        stream, span = container.streams[track.index], spans[track.index]
        assert isinstance(stream, av.AudioStream)
        kinds.add((track.codec, stream.codec_context.sample_rate, stream.codec_context.channels, track.language))
        first = spans[decodable[0].index]
        if max(abs(span.start - first.start), abs(span.end - first.end)) > TOGETHER_S:
            return False
        if stream.disposition & ASIDE:
            return False
    return len(kinds) == 1 and next(iter(kinds))[2] == 1


def _audible(container: av.container.InputContainer, indices: Sequence[int]) -> set[int]:
    """Which of these tracks are more than silence, judged by their first `LISTENED_S` seconds."""
    waiting, heard = set(indices), set()
    resamplers = {index: av.AudioResampler(format="fltp") for index in indices}
    try:
        container.seek(0)
        for packet in container.demux([container.streams[index] for index in indices]):
            index = packet.stream_index
            if index not in waiting:
                if not waiting:
                    break
                continue
            try:
                for frame in packet.decode():
                    assert isinstance(frame, av.AudioFrame)
                    pieces = [made.to_ndarray() for made in resamplers[index].resample(frame)]
                    if any(np.abs(piece).max(initial=0.0) > AUDIBLE for piece in pieces):
                        heard.add(index)
                        waiting.discard(index)
                        break
                    if frame.time is not None and frame.time > LISTENED_S:
                        waiting.discard(index)
            except (av.error.FFmpegError, ValueError):
                resamplers[index] = av.AudioResampler(format="fltp")
    except av.error.FFmpegError:
        pass  # a damaged end: judged by what came before
    return heard


def _numbered(tracks: Sequence[Track], number: int, kind: str, path: Path) -> Track:
    if not 1 <= number <= len(tracks):
        there = f"{len(tracks)} {kind} track{'s' if len(tracks) != 1 else ''}" if tracks else f"no {kind} track"
        raise ProbeError(f"it has {there}, and no number {number}.", path=path, remedy=ADD_CHOICE)
    return tracks[number - 1]


def _named(track: Track) -> str:
    """What tells a track from others: its name, language and codec."""
    kind = track.tag if track.codec == "unknown" and track.tag else track.codec
    return f"({', '.join(text for text in (track.title, track.language, kind) if text)})"
