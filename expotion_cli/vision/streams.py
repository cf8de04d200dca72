"""One decoding pass for all encoders: a clip in, its embedding streams out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import MissingLibraryError
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.probe import ClipInfo, probe
from expotion_cli.vision.cache import EmbeddingCache
from expotion_cli.vision.encoder import (
    REGISTRY,
    EmbeddingStream,
    Encoder,
    Picture,
    encoder_class,
)
from expotion_cli.vision.flow import thumbnail

MAX_SIDE = 640
"""Pictures are made this small before encoders see them."""

MIN_SPACING_S = 1 / 31
"""Of clips with more than 30 pictures a second only so many are looked at."""

MAX_STILL_S = 0.2
"""A repeated picture is a picture shown longer; after this time it is taken for stillness."""

DEFAULT_STREAMS = ("face", "pose", "flow")


def available_encoders() -> dict[str, str | None]:
    """For each encoder None if it can run on this machine, else why not and what to install."""
    return {name: encoder_class(name).unavailable() for name in REGISTRY}


def stream_digests(
    clip: str | Path, names: Iterable[str] = DEFAULT_STREAMS, *, cache: EmbeddingCache | None = None
) -> dict[str, str]:
    """The digests `encode_clip` will give the streams of this clip, without decoding it."""
    clip_hash = _clip_hash(Path(clip), cache)
    return {name: _digest(clip_hash, encoder_class(name)()) for name in names}


def encode_clip(
    clip: str | Path | ClipInfo,
    names: Iterable[str] = DEFAULT_STREAMS,
    *,
    cache: EmbeddingCache | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, EmbeddingStream]:
    """The embedding streams of a clip.

    Streams in the cache are read from it; one decoding pass makes the others and puts them there.

    Args:
        clip: the file, or what `media.probe` said of it.
        names: which streams, from `encoder.REGISTRY`.
        cache: where to look and keep; None computes all.
        on_progress: called with 0..1 while pictures are read.

    Returns:
        Name -> stream, in the order of `names`. Where nobody is found the stream's mask is all False.

    Raises:
        UnknownNameError: no encoder of that name.
        MissingLibraryError: an encoder can't run here (`available_encoders` tells it beforehand).
        ProbeError, DecodeError: the clip can't be read.
    """
    names = tuple(dict.fromkeys(names))
    path = clip.path if isinstance(clip, ClipInfo) else Path(clip)
    encoders: dict[str, Encoder] = {name: encoder_class(name)() for name in names}
    if not encoders:
        return {}
    info = clip if isinstance(clip, ClipInfo) else probe(path)
    clip_hash = _clip_hash(path, cache)
    digests = {name: _digest(clip_hash, encoder) for name, encoder in encoders.items()}
    kept = {name: cache.get(digests[name]) for name in names} if cache is not None else {}
    missing = {name: encoder for name, encoder in encoders.items() if kept.get(name) is None}
    made = _encode(info, missing, on_progress) if missing else {}
    result = {}
    for name in names:
        if name in made:
            encoder = encoders[name]
            values, mask = made[name]
            result[name] = EmbeddingStream(
                name=name, values=values, mask=mask, rate_hz=encoder.rate_hz, dims=encoder.dims,
                encoder=encoder.name, version=encoder.version, digest=digests[name],
            )  # fmt: skip
            if cache is not None:
                cache.put(result[name])
        else:
            result[name] = kept[name]
    if on_progress is not None:
        on_progress(1.0)
    return result


def _digest(clip_hash: str, encoder: Encoder) -> str:
    pictures = {"max_side": MAX_SIDE, "min_spacing_s": MIN_SPACING_S, "max_still_s": MAX_STILL_S}
    return storage.digest_of({"clip": clip_hash, "encoder": encoder.identity(), "pictures": pictures})


def _clip_hash(path: Path, cache: EmbeddingCache | None) -> str:
    return cache.content_hash(path) if cache is not None else storage.digest_file(path)


def _encode(
    info: ClipInfo, encoders: dict[str, Encoder], on_progress: Callable[[float], None] | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    for name, encoder in encoders.items():
        if reason := type(encoder).unavailable():
            raise MissingLibraryError(f"The {name} encoder can't run here.", remedy=reason)
    try:
        for encoder in encoders.values():
            encoder.begin()
        for picture in _pictures(info):
            for encoder in encoders.values():
                encoder.feed(picture)
            if on_progress is not None:
                on_progress(min(1.0, picture.time_s / float(info.duration)))
        return {name: encoder.finish(info.duration) for name, encoder in encoders.items()}
    finally:
        for encoder in encoders.values():
            encoder.close()


def _pictures(info: ClipInfo) -> Iterator[Picture]:
    """The pictures worth looking at: not more than 30 a second, and repeats only once."""
    last: Picture | None = None
    for frame in iter_frames(info, max_side=MAX_SIDE):
        spacing = frame.time_s - last.time_s if last is not None else MAX_STILL_S
        if spacing < MIN_SPACING_S:
            continue
        small = thumbnail(frame.rgb)
        if last is not None and spacing < MAX_STILL_S and np.array_equal(small, last.thumbnail):
            continue
        last = Picture(frame.time_s, frame.rgb, small)
        yield last
