"""One decoding pass for all encoders: a clip in, its embedding streams out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import DecodeError, MissingLibraryError, ProbeError, reading
from expotion_cli.hints import content_hash
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.frames import Frame
from expotion_cli.vision import memory, precomputed
from expotion_cli.vision.cache import EmbeddingCache
from expotion_cli.vision.cuts import CUTS, CutEncoder
from expotion_cli.vision.encoder import (
    REGISTRY,
    THUMBNAIL,
    EmbeddingStream,
    Encoder,
    StreamSource,
    encoder_class,
    make_encoder,
)

FRAMES_VERSION = 2
"""Raised when decoding the same clip begins to give other frames; part of every digest."""

MAX_STILL_S = 0.2
"""A frame equal to the one before is skipped as a repeat for so long; from then on it counts as stillness."""

DEFAULT_STREAMS = ("face", "pose", "flow")


def available_encoders() -> dict[str, str | None]:
    """For each encoder None if it can run on this machine, else why not and what to install or fetch."""
    return {name: encoder_class(name)().unavailable() for name in REGISTRY}


def stream_digests(
    clip: str | Path | ClipInfo,
    sources: Iterable[str | StreamSource] = DEFAULT_STREAMS,
    *,
    cache: EmbeddingCache | None = None,
    content: str | None = None,
) -> dict[str, str]:
    """The digests `encode_clip` will give the streams of this clip, without decoding it.

    Streams that were computed elsewhere are read and checked for it.

    Args:
        clip: the file, or what is known of it.
        sources: names of encoders; or names with settings or a folder of rows computed elsewhere.
        cache: knows the content of unchanged clips.
        content: sha256 of the clip's bytes, where the caller knows it.

    Raises:
        UnknownNameError: no encoder of that name.
        ClipError: there are no features for this clip, or wrong ones.
        ProbeError: the clip can't be read.
    """
    source_clip = _Clip(clip, cache, content)
    return {
        source.name: _digest(source_clip.content, _make(source))
        if source.folder is None
        else source_clip.read(source).digest
        for source in map(_source, sources)
    }


def encode_clip(
    clip: str | Path | ClipInfo,
    sources: Iterable[str | StreamSource] = DEFAULT_STREAMS,
    *,
    cache: EmbeddingCache | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, EmbeddingStream]:
    """The embedding streams of a clip.

    Streams in the cache are read from it; one decoding pass makes the others and puts them there. Where all are in the
    cache the clip itself is not opened, if the cache knows its content.

    Args:
        clip: the file, or what `media.probe` said of it.
        sources: which streams: names from `encoder.REGISTRY`, names with settings, folders of rows computed
            elsewhere, or `cuts.CUTS`.
        cache: where to look and keep; None computes all.
        on_progress: called with 0..1 while frames are read.

    Returns:
        Name -> stream, in the order of `sources`. Where nobody is found the stream's mask is all False.

    Raises:
        UnknownNameError: no encoder of that name.
        MissingLibraryError, WeightsError: an encoder can't run here (`available_encoders` tells it beforehand).
        ProbeError, DecodeError: the clip can't be read, or changed meanwhile.
        ClipError: there are no features for this clip, or wrong ones.
    """
    wanted = {source.name: source for source in map(_source, sources)}
    if not wanted:
        return {}
    source_clip = _Clip(clip, cache)
    encoders = {name: _make(source) for name, source in wanted.items() if source.folder is None}
    digests = {name: _digest(source_clip.content, encoder) for name, encoder in encoders.items()}
    found = {name: source_clip.read(source) for name, source in wanted.items() if source.folder is not None}
    if cache is not None:
        for name in encoders:
            if (kept := cache.get(digests[name])) is not None:
                found[name] = kept
    missing = {name: encoder for name, encoder in encoders.items() if name not in found}
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    skipped = 0
    if missing:
        # the others begin anew at cuts, so these are always found; keeping them costs nothing
        missing.setdefault(CUTS, CutEncoder())
        encoders.setdefault(CUTS, missing[CUTS])
        digests.setdefault(CUTS, _digest(source_clip.content, missing[CUTS]))
        made, skipped = _encode(source_clip.info, missing, on_progress)
        source_clip.refuse_change()
    for name, (values, mask) in made.items():
        encoder = encoders[name]
        found[name] = EmbeddingStream(
            name=name, values=values, mask=mask, rate_hz=encoder.rate_hz, dims=encoder.dims,
            encoder=encoder.name, version=encoder.version, digest=digests[name], skipped=skipped,
        )  # fmt: skip
        if cache is not None:
            cache.put(found[name])
    if on_progress is not None:
        on_progress(1.0)
    return {name: found[name] for name in wanted}


class _Clip:
    """A clip whose properties and content hash are found out when first needed, because both read the whole file."""

    def __init__(self, clip: str | Path | ClipInfo, cache: EmbeddingCache | None, content: str | None = None):
        self._info = clip if isinstance(clip, ClipInfo) else None
        self.path = clip.path if isinstance(clip, ClipInfo) else Path(clip)
        self._cache = cache
        self._content = content
        self._state: tuple[int, int] | None = None

    @property
    def info(self) -> ClipInfo:
        """What `media.probe` says."""
        if self._info is None:
            from expotion_cli.media.probe import probe

            self._info = probe(self.path)
        return self._info

    @property
    def content(self) -> str:
        """sha256 of its bytes, and of what of them is shown where that isn't the first picture from its beginning."""
        if self._content is None:
            with reading(self.path, error=ProbeError):
                self._state = self._now()
                self._content = content_hash(self.path) if self._cache is None else self._cache.content_hash(self.path)
        picture = self._info.picture if self._info is not None else {}
        return storage.digest_of({"file": self._content, "picture": picture}) if picture else self._content

    def read(self, source: StreamSource) -> EmbeddingStream:
        """Its rows in a folder of features."""
        return precomputed.read_stream(source, self.info)

    def refuse_change(self) -> None:
        """Check that the frames came from the content that was hashed.

        Raises:
            DecodeError: the file has changed since.
        """
        try:
            same = self._state == self._now()
        except OSError:
            same = False
        if not same:
            raise DecodeError(
                "the file changed while it was being read.",
                path=self.path,
                remedy="Score it again when it is complete.",
            )

    def _now(self) -> tuple[int, int]:
        status = os.stat(self.path)
        return status.st_size, status.st_mtime_ns


def _source(source: str | StreamSource) -> StreamSource:
    return StreamSource(source) if isinstance(source, str) else source


def _make(source: StreamSource) -> Encoder:
    return CutEncoder() if source.name == CUTS else make_encoder(source)


def _digest(clip_hash: str, encoder: Encoder) -> str:
    frames = {"version": FRAMES_VERSION, "max_still_s": MAX_STILL_S, "cuts": CutEncoder.version}
    return storage.digest_of({"clip": clip_hash, "encoder": encoder.identity(), "pictures": frames})


def _encode(
    info: ClipInfo, encoders: dict[str, Encoder], on_progress: Callable[[float], None] | None
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], int]:
    """Feed all encoders in one decoding pass.

    Args:
        info: the clip.
        encoders: by name, the `CutEncoder` among them: the others get their frames once it has judged them.
        on_progress: see `encode_clip`.

    Returns:
        (values and mask of each encoder, number of frames that could not be decoded).
    """
    from expotion_cli.media.decode import Damage, iter_views

    others = {name: encoder for name, encoder in encoders.items() if name != CUTS}
    for name, encoder in others.items():
        if reason := encoder.unavailable():
            raise MissingLibraryError(f"The {name} encoder can't run here.", remedy=reason)
    cuts = encoders[CUTS]
    assert isinstance(cuts, CutEncoder)
    # The thumbnail comes first: it tells whether a frame is new.
    views = list(dict.fromkeys([THUMBNAIL, cuts.view, *(encoder.view for encoder in others.values())]))
    waiting = _WaitingFrames([[encoder for encoder in others.values() if encoder.view == view] for view in views])
    damage = Damage()
    repeats = _RepeatDetector()
    released_s = 0.0
    try:
        for encoder in encoders.values():
            encoder.begin()
        for number, frame in iter_views(info, views, damage=damage):
            if number == 0:
                repeats.add(frame)
            if views[number] == cuts.view:
                cuts.feed(frame)
                waiting.release(cuts)
                continue
            if views[number].rate_hz is None and repeats.is_repeat:
                continue
            waiting.add(number, frame)
            if frame.time_s - released_s >= memory.RELEASE_EVERY_S:
                released_s = frame.time_s
                memory.release_free()
            if on_progress is not None:
                on_progress(min(1.0, frame.time_s / float(info.duration)))
        changes = cuts.changes()
        waiting.release(cuts)
        for change in changes:
            for encoder in () if change.is_hard else others.values():
                encoder.begin_shot(change.time_s)
        made = {}
        # Networks, which stand last in the registry, need most memory while they work: they come before there are rows.
        for name in sorted(others, key=list(REGISTRY).index, reverse=True):
            memory.release_free()
            made[name] = encoders[name].finish(info.duration)
        return {**made, CUTS: cuts.finish(info.duration)}, damage.skipped
    finally:
        for encoder in encoders.values():
            encoder.close()


class _WaitingFrames:
    """Frames that wait until it is known whether a shot begins with them.

    Args:
        takers: for each view the encoders that want its frames.
    """

    def __init__(self, takers: list[list[Encoder]]):
        self._takers = takers
        self._frames: deque[tuple[int, Frame]] = deque()
        self._cuts: deque[float] = deque()

    def add(self, number: int, frame: Frame) -> None:
        """Take a frame of that view."""
        if self._takers[number]:
            self._frames.append((number, frame))

    def release(self, cuts: CutEncoder) -> None:
        """Feed all that is judged by now."""
        self._cuts += [change.time_s for change in cuts.new_hard_cuts()]
        while self._frames and self._frames[0][1].time_s < cuts.settled_s:
            number, frame = self._frames.popleft()
            while self._cuts and self._cuts[0] <= frame.time_s + 1e-9:
                time_s = self._cuts.popleft()
                for encoder in (encoder for takers in self._takers for encoder in takers):
                    encoder.begin_shot(time_s)
            for encoder in self._takers[number]:
                encoder.feed(frame)


class _RepeatDetector:
    """Tells whether a frame only repeats the one before, from its thumbnail."""

    def __init__(self) -> None:
        self.is_repeat = False
        self._last: Frame | None = None

    def add(self, thumbnail: Frame) -> None:
        """Compare with the last frame that was new."""
        last = self._last
        self.is_repeat = (
            last is not None
            and thumbnail.time_s - last.time_s < MAX_STILL_S
            and np.array_equal(thumbnail.pixels, last.pixels)
        )
        if not self.is_repeat:
            self._last = thumbnail
