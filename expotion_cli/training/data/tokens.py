"""Turns sound into a model's tokens with the encoder of its own codec, and describes such tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from expotion_cli import storage
from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.music.checkpoints.huggingface import load_audio_model, open_checkpoint
from expotion_cli.music.checkpoints.state_dict import Source
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.weights.manifest import find_manifest, read_manifests

if TYPE_CHECKING:
    from transformers import EncodecModel

PIECE_S = 30
"""Longer music is encoded in pieces of this length, that of MusicGen's own training data."""
CONTEXT_S = 1
"""Sound on either side of a piece that is encoded with it and then cut off, so that pieces join."""


@dataclass(frozen=True)
class TokenFormat:
    """What the tokens of a data folder mean.

    Attributes:
        codec_digest: sha256 over the codec's weights; empty where tokens came without their codec.
        rate: steps a second, written as a fraction ("50", "75/2").
        num_codebooks: K.
        vocab_size: entries V a codebook.
        channels: 2 where codebooks of left and right alternate.
    """

    codec_digest: str
    rate: str
    num_codebooks: int
    vocab_size: int
    channels: int = 1

    @property
    def rate_hz(self) -> Fraction:
        """Steps a second."""
        return Fraction(self.rate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `num_codebooks` is stored under its earlier name, `num_streams`."""
        values = asdict(self)
        return {_STORED_NAMES.get(key, key): value for key, value in values.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TokenFormat:
        """The inverse of `to_dict`."""
        names = {stored: name for name, stored in _STORED_NAMES.items()}
        return TokenFormat(**{names.get(key, key): value for key, value in values.items()})

    def require_match(self, source: Source, config: DecoderConfig, model: str, path: Path) -> None:
        """Check that data of this format hold the tokens of a model.

        Args:
            source: the model's checkpoint, whose codec is compared.
            config: of its decoder.
            model: its name, for messages.
            path: the data folder, for messages.

        Raises:
            UsageError: they hold those of another model.
        """
        remedy = f"Prepare the data again with --model {model}."
        own = (config.num_codebooks, config.vocab_size, config.channels)
        if (self.num_codebooks, self.vocab_size, self.channels) != own:
            raise UsageError(
                f"the data hold {self.num_codebooks} codebooks of {self.vocab_size} tokens ({self.channels} channels), "
                f"{model} has {own[0]} of {own[1]} ({own[2]}).",
                path=path,
                remedy=remedy,
            )
        if self.codec_digest and codec_digest(load_audio_model(source, torch.device("cpu"))) != self.codec_digest:
            raise UsageError(f"the data were encoded by another codec than that of {model}.", path=path, remedy=remedy)


MUSICGEN_FORMAT = TokenFormat(codec_digest="", rate="50", num_codebooks=4, vocab_size=2048)
"""The format that lists of ready tokens are taken to hold."""
_STORED_NAMES = {"num_codebooks": "num_streams"}


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files are.

    Attributes:
        name: as the user gave it.
        path: folder or file of its checkpoint.
        licence: of its weights.
        checked: sha256 of files that were just verified.
    """

    name: str
    path: Path
    licence: str
    checked: dict[Path, str]


def find_model(name: str) -> ModelFiles:
    """Find a model by its manifest's name or by path, as `music.load.load_model` does.

    Raises:
        UnknownNameError: no such model.
        WeightsError: its files are missing or damaged.
    """
    if name in read_manifests() or not Path(name).exists():
        manifest = find_manifest(name, "music")
        checked = manifest.require()
        assert manifest.folder is not None
        return ModelFiles(name, manifest.folder, manifest.licence, checked)
    return ModelFiles(name, Path(name), "as its source states", {})


def require_audio_codec(config: dict[str, Any], name: str) -> None:
    """Refuse models whose tokens are notes: recordings can't be turned into them.

    Args:
        config: of the model's checkpoint.
        name: of the model, for the message.

    Raises:
        UsageError: it is such a model.
    """
    if config.get("codec") == "notes":
        raise UsageError(
            f"{name} composes notes, and recordings can't be turned into notes.",
            remedy="Choose a MusicGen model; `expotion train mini` makes the embedded model and its adapter.",
        )


class AudioTokenizer:
    """The encoder of an EnCodec model.

    Args:
        model: transformers' `EncodecModel`, loaded.
        num_codebooks: of the decoder.
        channels: of the decoder.

    Raises:
        WeightsError: the codec is not of MusicGen's kind.
    """

    def __init__(self, model: EncodecModel, num_codebooks: int, channels: int):
        config = model.config
        if config.normalize or config.chunk_length_s is not None:
            raise WeightsError("This codec normalises its input or overlaps its chunks, which MusicGen's does not.")
        if config.audio_channels != 1 or num_codebooks % channels:
            raise WeightsError(f"{num_codebooks} codebooks over {channels} channels do not fit this codec.")
        self.model, self.sample_rate = model, config.sampling_rate
        self.hop = int(np.prod(config.upsampling_ratios))
        self.codebooks_per_channel = num_codebooks // channels
        rate = Fraction(self.sample_rate, self.hop)
        self.format = TokenFormat(codec_digest(model), str(rate), num_codebooks, config.codebook_size, channels)

    @staticmethod
    def load(files: ModelFiles, device: torch.device) -> AudioTokenizer:
        """Load a model's codec, without its decoder.

        Args:
            files: of the model.
            device: where the codec runs.

        Raises:
            UsageError: the model composes notes.
            WeightsError: it names no codec, or a file is damaged.
        """
        source = open_checkpoint(files.path)
        require_audio_codec(source.config, files.name)
        decoder = source.config["decoder"]
        return AudioTokenizer(
            load_audio_model(source, device), decoder["num_codebooks"], decoder.get("audio_channels", 1)
        )

    @torch.inference_mode()
    def encode(self, sound: np.ndarray) -> np.ndarray:
        """Encode sound as tokens.

        Args:
            sound: [channels, n] float32 at `sample_rate`.

        Returns:
            [K, S] int16, S = n / hop rounded up; codebooks of left and right alternate.
        """
        sides = [self._encode_channel(channel) for channel in sound]
        return np.stack(sides, axis=1).reshape(-1, sides[0].shape[1])

    def _encode_channel(self, channel: np.ndarray) -> np.ndarray:
        steps = -(-len(channel) // self.hop)
        size, context = (int(s * self.format.rate_hz) for s in (PIECE_S, CONTEXT_S))
        parts = []
        for first in range(0, steps, size):
            last = min(first + size, steps)
            begin = max(0, first - context)
            piece = torch.from_numpy(channel[begin * self.hop : (last + context) * self.hop])
            states = self.model.encoder(piece.to(self.model.device)[None, None])
            codes = self.model.quantizer.encode(states, None)[: self.codebooks_per_channel, 0]
            parts.append(codes[:, first - begin : last - begin].cpu().numpy().astype(np.int16))
        return np.concatenate(parts, axis=1)


def codec_digest(model: EncodecModel) -> str:
    """sha256 (hex) over a codec's weights, whatever file they came from."""
    parts = []
    for name, tensor in sorted(model.state_dict().items()):
        parts += [name.encode(), tensor.detach().cpu().contiguous().numpy().tobytes()]
    return storage.digest_bytes(*parts)
