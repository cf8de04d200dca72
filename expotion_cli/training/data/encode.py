"""Encodes one clip for training: music into tokens and curves, the picture into embedding streams."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import ClipError
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import duration_of, read_clip_sound, read_sound, refuse_silence, to_mono
from expotion_cli.music.checkpoints.adapter_files import KNOWN_WIDTHS
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.training.data import curves, fingerprint
from expotion_cli.training.data.arrays import read_features, read_tokens
from expotion_cli.training.data.data_folder import PreparedClip, StoredStream
from expotion_cli.training.data.listing import ClipSource
from expotion_cli.training.data.tokens import AudioTokenizer, TokenFormat
from expotion_cli.vision.cache import EmbeddingCache

ITEM_VERSION = 1
"""Raised when the same clip comes to be encoded differently."""
SHORTEST_S = 1.0
MISMATCH_S, MISMATCH_SHARE = 1.0, 0.05
"""Music and picture (or tokens and features) may differ by the larger of these; what is longer is cut."""
_ANALYSIS_RATE = 32_000
_SAMPLED_FEATURES = 25


@dataclass(frozen=True)
class ClipEncoder:
    """Encodes clips as one model and one choice of streams require.

    Attributes:
        tokenizer: the model's codec; None if all clips bring their tokens.
        format: of the tokens.
        cache: of embedding streams.
        streams: names of the encoders for videos; empty leaves pictures out.
        features: streams that ready features hold, side by side; empty recognises them by their width.
        features_hz: rows a second of ready features.
    """

    tokenizer: AudioTokenizer | None
    format: TokenFormat
    cache: EmbeddingCache
    streams: tuple[str, ...]
    features: tuple[StreamSpec, ...]
    features_hz: float

    def digest(self, clip: ClipSource) -> str:
        """Hash of all that determines how a clip is encoded.

        Raises:
            ClipError: a file of the clip is missing.
        """
        from expotion_cli.vision.streams import stream_digests

        parts = {"item": ITEM_VERSION, "tokens": self.format.to_dict()}
        for kind in ("music", "tokens", "features"):
            path = getattr(clip, kind)
            if path is not None and not path.is_file():
                raise ClipError("there is no such file.", path=path, remedy="Check the list, or give --root.")
            parts[f"{kind} file"] = self.cache.content_hash(path) if path is not None else None
        picture = stream_digests(clip.video, self.streams, cache=self.cache) if clip.video is not None else None
        parts["picture"] = picture
        if clip.features is not None:
            parts["features"] = [str(self.features_hz), [[spec.name, len(spec.dims)] for spec in self.features]]
        parts["versions"] = [curves.VERSION, fingerprint.VERSION]
        return storage.digest_of(parts)

    def encode(self, clip: ClipSource) -> PreparedClip:
        """Encode a clip, or check and take over what is encoded already.

        Raises:
            ClipError: it can't be used, and why: damaged, silent, too short, or music and picture do not match.
        """
        return self._read_encoded(clip) if clip.tokens is not None else self._encode_media(clip)

    def _encode_media(self, clip: ClipSource) -> PreparedClip:
        assert self.tokenizer is not None and clip.music is not None
        rate, channels = self.tokenizer.sample_rate, self.format.channels
        info = probe(clip.video) if clip.video is not None else None
        sound = _read_music(clip, info, rate, channels)
        duration = duration_of(sound, rate)
        if info is not None and clip.music != clip.video:
            said = "the music is {:.2f} s long, its picture {:.2f} s"
            _require_match(clip, float(duration), float(info.duration), said)
            duration = min(duration, info.duration)
            sound = sound[:, : int(duration * rate)]
        if duration < SHORTEST_S:
            raise ClipError(f"it is only {float(duration):.2f} s long.", path=clip.path)
        # Curves and fingerprints need the range up to 8 kHz.
        has_range = rate >= _ANALYSIS_RATE // 2
        analysed = sound if has_range else _read_music(clip, info, _ANALYSIS_RATE, 1)
        analysis_rate = rate if has_range else _ANALYSIS_RATE
        streams = {}
        if info is not None and self.streams:
            from expotion_cli.vision.streams import encode_clip

            for name, stream in encode_clip(info, self.streams, cache=self.cache).items():
                streams[name] = StoredStream(stream.values, stream.mask, float(stream.rate_hz), tuple(stream.dims))
        return PreparedClip(
            tokens=self.tokenizer.encode(sound),
            streams=streams,
            curves=curves.measure_curves(analysed, analysis_rate),
            fingerprint=fingerprint.fingerprint_sound(analysed, analysis_rate),
            duration_s=float(duration),
        )

    def _read_encoded(self, clip: ClipSource) -> PreparedClip:
        assert clip.tokens is not None
        tokens = read_tokens(clip.tokens, self.format.vocab_size)
        if len(tokens) != self.format.num_codebooks:
            raise ClipError(
                f"it holds {len(tokens)} codebooks, the model has {self.format.num_codebooks}.", path=clip.tokens
            )
        duration_s = float(tokens.shape[1] / self.format.rate_hz)
        if duration_s < SHORTEST_S:
            raise ClipError(f"it is only {duration_s:.2f} s long.", path=clip.tokens)
        streams = {}
        if clip.features is not None:
            values = read_features(clip.features)
            features_s = len(values) / self.features_hz
            _require_match(clip, duration_s, features_s, "the tokens are {:.2f} s long, the features {:.2f} s")
            first = 0
            for spec in self._feature_specs(values.shape[1], clip):
                part = np.ascontiguousarray(values[:, first : first + len(spec.dims)])
                streams[spec.name] = StoredStream(part, np.ones(len(part), dtype=bool), self.features_hz, spec.dims)
                first += len(spec.dims)
        return PreparedClip(tokens, streams, None, fingerprint.fingerprint_tokens(tokens), duration_s)

    def _feature_specs(self, width: int, clip: ClipSource) -> tuple[StreamSpec, ...]:
        specs = self.features or KNOWN_WIDTHS.get(width, ())
        if not specs:
            known = ", ".join(f"{w} ({' + '.join(s.name for s in specs)})" for w, specs in KNOWN_WIDTHS.items())
            raise ClipError(
                f"its features are {width} wide, which is not the width of a known stream; known widths are {known}.",
                path=clip.features,
                remedy=f"Name them: --features NAME={width}.",
            )
        if (expected := sum(len(spec.dims) for spec in specs)) != width:
            names = " + ".join(spec.name for spec in specs)
            raise ClipError(
                f"its features are {width} wide, {names} is {expected}.",
                path=clip.features,
                remedy="Extract them like the others, or prepare them as a data set of their own.",
            )
        return specs


def usual_features(clips: Sequence[ClipSource]) -> tuple[StreamSpec, ...]:
    """The streams that most of a list's features hold, by their width, so that one odd file does not decide for all."""
    widths: Counter[int] = Counter()
    for clip in clips:
        if clip.features is not None and widths.total() < _SAMPLED_FEATURES:
            with contextlib.suppress(ClipError):
                widths[read_features(clip.features).shape[1]] += 1
    return KNOWN_WIDTHS.get(widths.most_common(1)[0][0], ()) if widths else ()


def _read_music(clip: ClipSource, info: ClipInfo | None, rate: int, channels: int) -> np.ndarray:
    """[channels, n] float32 of a clip's sound file, or of its video's track on the picture's clock."""
    assert clip.music is not None
    if info is None or clip.music != clip.video:
        sound = read_sound(clip.music, rate, channels)
    else:
        sound = read_clip_sound(info, rate)
        sound = to_mono(sound) if channels == 1 else sound
    refuse_silence(sound, clip.music, remedy="Leave the clip out, or put its music beside it as a sound file.")
    return sound


def _require_match(clip: ClipSource, one_s: float, other_s: float, message: str) -> None:
    if abs(one_s - other_s) > max(MISMATCH_S, MISMATCH_SHARE * max(one_s, other_s)):
        raise ClipError(f"{message.format(one_s, other_s)}.", path=clip.path, remedy="Cut them to the same stretch.")
