"""Sound into the tokens that a model speaks, by its own codec's encoder; and what such tokens mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from expotion_cli import storage
from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.music.checkpoints.huggingface import load_audio_model, open_checkpoint
from expotion_cli.weights.manifest import find_manifest, read_manifests

if TYPE_CHECKING:
    from transformers import EncodecModel

PIECE_S = 30
"""Longer music is encoded in pieces of this length; MusicGen's own training data were such pieces."""
CONTEXT_S = 1
"""Sound on either side of a piece that its encoder also hears."""


@dataclass(frozen=True)
class TokenFormat:
    """What the tokens of a data folder mean.

    Attributes:
        codec_digest: sha256 over the codec's weights; empty where tokens came without their codec.
        rate: steps a second, as a fraction in words ("50").
        num_streams: parallel streams K.
        vocab_size: entries V a stream.
        channels: 2 where streams of left and right alternate.
    """

    codec_digest: str
    rate: str
    num_streams: int
    vocab_size: int
    channels: int = 1

    @property
    def rate_hz(self) -> Fraction:
        """Steps a second."""
        return Fraction(self.rate)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


MUSICGEN_FORMAT = TokenFormat(codec_digest="", rate="50", num_streams=4, vocab_size=2048)
"""What lists of ready tokens are taken to hold."""


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies.

    Attributes:
        name: as the user called it.
        path: its folder or file.
        licence: of its weights.
        checked: sha256 of files that were just checked.
    """

    name: str
    path: Path
    licence: str
    checked: dict[Path, str]


def find_model(name: str) -> ModelFiles:
    """A model by its manifest's name or from its files, as `music.loading.load_model` finds it.

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


def refuse_notes(config: dict[str, Any], name: str) -> None:
    """Raise UsageError for models that compose notes."""
    if config.get("codec") == "notes":
        raise UsageError(
            f"{name} composes notes, and recordings can't be turned into notes here.",
            remedy="Choose a MusicGen model; the embedded model and its adapter are made by `expotion train mini`.",
        )


class SoundTokenizer:
    """A codec's encoder.

    Args:
        model: transformers' `EncodecModel`, loaded.
        num_streams: streams the decoder speaks.
        channels: of the decoder.
    """

    def __init__(self, model: EncodecModel, num_streams: int, channels: int):
        config = model.config
        if config.normalize or config.chunk_length_s is not None:
            raise WeightsError("This codec scales or overlaps its frames, which MusicGen's does not.")
        if config.audio_channels != 1 or num_streams % channels:
            raise WeightsError(f"{num_streams} streams over {channels} channels of this codec are not MusicGen's.")
        self.model, self.sample_rate = model, config.sampling_rate
        self.hop = int(np.prod(config.upsampling_ratios))
        self.streams_a_channel = num_streams // channels
        rate = Fraction(self.sample_rate, self.hop)
        self.format = TokenFormat(codec_digest(model), str(rate), num_streams, config.codebook_size, channels)

    @staticmethod
    def load(files: ModelFiles, device: torch.device) -> SoundTokenizer:
        """The codec of a model alone; its decoder is not read.

        Raises:
            UsageError: the model composes notes.
            WeightsError: it names no codec, or a file is damaged.
        """
        source = open_checkpoint(files.path)
        refuse_notes(source.config, files.name)
        decoder = source.config["decoder"]
        return SoundTokenizer(
            load_audio_model(source, device), decoder["num_codebooks"], decoder.get("audio_channels", 1)
        )

    @torch.inference_mode()
    def encode(self, sound: np.ndarray) -> np.ndarray:
        """Sound as tokens.

        Args:
            sound: [channels, n] float32 at `sample_rate`.

        Returns:
            [K, S] int16, S = n / hop rounded up; streams of left and right alternate.
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
            heard = torch.from_numpy(channel[begin * self.hop : (last + context) * self.hop])
            states = self.model.encoder(heard.to(self.model.device)[None, None])
            codes = self.model.quantizer.encode(states, None)[: self.streams_a_channel, 0]
            parts.append(codes[:, first - begin : last - begin].cpu().numpy().astype(np.int16))
        return np.concatenate(parts, axis=1)


def codec_digest(model: EncodecModel) -> str:
    """sha256 over a codec's weights, whatever file they came from."""
    parts = []
    for name, tensor in sorted(model.state_dict().items()):
        parts += [name.encode(), tensor.detach().cpu().contiguous().numpy().tobytes()]
    return storage.digest_bytes(*parts)
