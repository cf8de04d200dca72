"""One decoding pass for all encoders: a clip in, its embedding streams out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import MissingLibraryError
from expotion_cli.media.decode import Damage, Frame, iter_views
from expotion_cli.media.probe import ClipInfo, probe
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
    clip: str | Path, sources: Iterable[str | StreamSource] = DEFAULT_STREAMS, *, cache: EmbeddingCache | None = None
) -> dict[str, str]:
    """The digests `encode_clip` will give the streams of this clip, without decoding it."""
    clip_hash = _clip_hash(Path(clip), cache)
    encoders = [make_encoder(source) for source in sources]
    return {encoder.name: _digest(clip_hash, encoder) for encoder in encoders}


def encode_clip(
    clip: str | Path | ClipInfo,
    sources: Iterable[str | StreamSource] = DEFAULT_STREAMS,
    *,
    cache: EmbeddingCache | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, EmbeddingStream]:
    """The embedding streams of a clip.

    Streams in the cache are read from it; one decoding pass makes the others and puts them there.

    Args:
        clip: the file, or what `media.probe` said of it.
        sources: which streams: names from `encoder.REGISTRY`, or names with settings.
        cache: where to look and keep; None computes all.
        on_progress: called with 0..1 while pictures are read.

    Returns:
        Name -> stream, in the order of `sources`. Where nobody is found the stream's mask is all False.

    Raises:
        UnknownNameError: no encoder of that name.
        MissingLibraryError, WeightsError: an encoder can't run here (`available_encoders` tells it beforehand).
        ProbeError, DecodeError: the clip can't be read.
    """
    path = clip.path if isinstance(clip, ClipInfo) else Path(clip)
    encoders = {encoder.name: encoder for encoder in map(make_encoder, sources)}
    if not encoders:
        return {}
    info = clip if isinstance(clip, ClipInfo) else probe(path)
    clip_hash = _clip_hash(path, cache)
    digests = {name: _digest(clip_hash, encoder) for name, encoder in encoders.items()}
    kept = {name: cache.get(digests[name]) for name in encoders} if cache is not None else {}
    missing = {name: encoder for name, encoder in encoders.items() if kept.get(name) is None}
    damage = Damage()
    made = _encode(info, missing, damage, on_progress) if missing else {}
    result = {}
    for name, encoder in encoders.items():
        if name in made:
            values, mask = made[name]
            result[name] = EmbeddingStream(
                name=name, values=values, mask=mask, rate_hz=encoder.rate_hz, dims=encoder.dims,
                encoder=encoder.name, version=encoder.version, digest=digests[name], skipped=damage.skipped,
            )  # fmt: skip
            if cache is not None:
                cache.put(result[name])
        else:
            result[name] = kept[name]
    if on_progress is not None:
        on_progress(1.0)
    return result


def _digest(clip_hash: str, encoder: Encoder) -> str:
    pictures = {"version": PICTURES_VERSION, "max_still_s": MAX_STILL_S}
    return storage.digest_of({"clip": clip_hash, "encoder": encoder.identity(), "pictures": pictures})


def _clip_hash(path: Path, cache: EmbeddingCache | None) -> str:
    return cache.content_hash(path) if cache is not None else storage.digest_file(path)


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
            if on_progress is not None:
                on_progress(min(1.0, frame.time_s / float(info.duration)))
        return {name: encoder.finish(info.duration) for name, encoder in encoders.items()}
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
