"""One decoding pass for all encoders: a clip in, its embedding streams out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import DecodeError, MissingLibraryError, ProbeError, reading
from expotion_cli.hints import content_hash
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.decode import Damage, Frame, iter_views
from expotion_cli.media.probe import probe
from expotion_cli.vision import heap, precomputed
from expotion_cli.vision.cache import EmbeddingCache
from expotion_cli.vision.encoder import (
    REGISTRY,
    THUMBNAIL,
    EmbeddingStream,
    Encoder,
    Picture,
    StreamSource,
    encoder_class,
    make_encoder,
)

PICTURES_VERSION = 2
"""Raised when the same clip comes to give other pictures."""

MAX_STILL_S = 0.2
"""A repeated picture is a picture shown longer; after this time it is taken for stillness."""

DEFAULT_STREAMS = ("face", "pose", "flow")


def available_encoders() -> dict[str, str | None]:
    """For each encoder None if it can run on this machine, else why not and what to install or fetch."""
    return {name: encoder_class(name)().unavailable() for name in REGISTRY}


def stream_digests(
    clip: str | Path | ClipInfo,
    sources: Iterable[str | StreamSource] = DEFAULT_STREAMS,
    *,
    cache: EmbeddingCache | None = None,
) -> dict[str, str]:
    """The digests `encode_clip` will give the streams of this clip, without decoding it.

    Streams that were computed elsewhere are read and checked for it.

    Raises:
        UnknownNameError: no encoder of that name.
        ClipError: there are no features for this clip, or wrong ones.
        ProbeError: the clip can't be read.
    """
    watch = _Clip(clip, cache)
    return {
        source.name: _digest(watch.content, make_encoder(source))
        if source.folder is None
        else watch.read(source).digest
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
        sources: which streams: names from `encoder.REGISTRY`, names with settings, or folders of rows computed
            elsewhere.
        cache: where to look and keep; None computes all.
        on_progress: called with 0..1 while pictures are read.

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
    watch = _Clip(clip, cache)
    encoders = {name: make_encoder(source) for name, source in wanted.items() if source.folder is None}
    digests = {name: _digest(watch.content, encoder) for name, encoder in encoders.items()}
    found = {name: watch.read(source) for name, source in wanted.items() if source.folder is not None}
    if cache is not None:
        for name in encoders:
            if (kept := cache.get(digests[name])) is not None:
                found[name] = kept
    missing = {name: encoder for name, encoder in encoders.items() if name not in found}
    damage = Damage()
    made = _encode(watch.info, missing, damage, on_progress) if missing else {}
    if made:
        watch.refuse_change()
    for name, (values, mask) in made.items():
        encoder = encoders[name]
        found[name] = EmbeddingStream(
            name=name, values=values, mask=mask, rate_hz=encoder.rate_hz, dims=encoder.dims,
            encoder=encoder.name, version=encoder.version, digest=digests[name], skipped=damage.skipped,
        )  # fmt: skip
        if cache is not None:
            cache.put(found[name])
    if on_progress is not None:
        on_progress(1.0)
    return {name: found[name] for name in wanted}


class _Clip:
    """What is known of a clip; nothing of it is found out before somebody asks, because probing reads all packets."""

    def __init__(self, clip: str | Path | ClipInfo, cache: EmbeddingCache | None):
        self._info = clip if isinstance(clip, ClipInfo) else None
        self.path = clip.path if isinstance(clip, ClipInfo) else Path(clip)
        self._cache = cache
        self._content: str | None = None
        self._state: tuple[int, int] | None = None

    @property
    def info(self) -> ClipInfo:
        """What `media.probe` says."""
        if self._info is None:
            self._info = probe(self.path)
        return self._info

    @property
    def content(self) -> str:
        """sha256 of its bytes."""
        if self._content is None:
            with reading(self.path, error=ProbeError):
                self._state = self._now()
                self._content = content_hash(self.path) if self._cache is None else self._cache.content_hash(self.path)
        return self._content

    def read(self, source: StreamSource) -> EmbeddingStream:
        """Its rows in a folder of features."""
        return precomputed.read_stream(source, self.info)

    def refuse_change(self) -> None:
        """Make sure that the pictures were those of the content that was hashed.

        Raises:
            DecodeError: the file is another one by now.
        """
        try:
            same = self._state == self._now()
        except OSError:
            same = False
        if not same:
            raise DecodeError(
                "the file changed while it was looked at.", path=self.path, remedy="Score it again when it is complete."
            )

    def _now(self) -> tuple[int, int]:
        status = os.stat(self.path)
        return status.st_size, status.st_mtime_ns


def _source(source: str | StreamSource) -> StreamSource:
    return StreamSource(source) if isinstance(source, str) else source


def _digest(clip_hash: str, encoder: Encoder) -> str:
    pictures = {"version": PICTURES_VERSION, "max_still_s": MAX_STILL_S}
    return storage.digest_of({"clip": clip_hash, "encoder": encoder.identity(), "pictures": pictures})


def _encode(
    info: ClipInfo, encoders: dict[str, Encoder], damage: Damage, on_progress: Callable[[float], None] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    for name, encoder in encoders.items():
        if reason := encoder.unavailable():
            raise MissingLibraryError(f"The {name} encoder can't run here.", remedy=reason)
    # The thumbnail comes first: it tells whether a picture is new.
    views = list(dict.fromkeys([THUMBNAIL, *(encoder.view for encoder in encoders.values())]))
    watching = [[encoder for encoder in encoders.values() if encoder.view == view] for view in views]
    repeats = _Repeats()
    tidied_s = 0.0
    try:
        for encoder in encoders.values():
            encoder.begin()
        for number, frame in iter_views(info, views, damage=damage):
            if number == 0:
                repeats.see(frame)
            if views[number].rate_hz is None and repeats.again:
                continue
            for encoder in watching[number]:
                encoder.feed(Picture(frame.time_s, frame.rgb))
            if frame.time_s - tidied_s >= heap.EVERY_S:
                tidied_s = frame.time_s
                heap.give_back()
            if on_progress is not None:
                on_progress(min(1.0, frame.time_s / float(info.duration)))
        made = {}
        # Networks, which stand last in the registry, need most memory while they work: they come before there are rows.
        for name in sorted(encoders, key=list(REGISTRY).index, reverse=True):
            heap.give_back()
            made[name] = encoders[name].finish(info.duration)
        return made
    finally:
        for encoder in encoders.values():
            encoder.close()


class _Repeats:
    """Tells whether the picture at hand only repeats the one before."""

    def __init__(self) -> None:
        self.again = False
        self._last: Frame | None = None

    def see(self, thumbnail: Frame) -> None:
        """Compare with the last new picture."""
        last = self._last
        self.again = (
            last is not None
            and thumbnail.time_s - last.time_s < MAX_STILL_S
            and np.array_equal(thumbnail.rgb, last.rgb)
        )
        if not self.again:
            self._last = thumbnail
