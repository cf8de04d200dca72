"""Batches for adapter training: cropped tokens in the delay pattern, with conditioning streams and captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.conditioning import FORM, StepStream
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.training.loss import IGNORE_INDEX, next_token_pairs


@dataclass(frozen=True)
class BatchShape:
    """Sizes that all batches of a run share.

    Attributes:
        window: steps W of a crop.
        delays: steps by which each of the decoder's K codebooks is delayed.
        start_token: of the decoder.
        rate_hz: steps a second.
        specs: streams that the adapter reads; empty without an adapter.
    """

    window: int
    delays: tuple[int, ...]
    start_token: int
    rate_hz: Fraction
    specs: tuple[StreamSpec, ...]

    @property
    def visual_names(self) -> tuple[str, ...]:
        """Names of the streams that come from the picture; the form stream comes from the clip's length."""
        return tuple(spec.name for spec in self.specs if spec.name != FORM)


@dataclass(frozen=True)
class Sample:
    """A crop's arrays.

    Attributes:
        tokens: [K, S] whole numbers, S <= W.
        streams: by name, W + 1 rows each (the start token takes one position).
        caption: None where the text is dropped.
    """

    tokens: np.ndarray
    streams: Mapping[str, StepStream]
    caption: str | None


@dataclass(frozen=True)
class Batch:
    """Samples as tensors.

    Attributes:
        inputs: [B, K, P] int64, delayed.
        targets: [B, K, P] int64, `IGNORE_INDEX` where no loss is taken.
        values: by stream, [B, W + 1, D] float32.
        masks: by stream, [B, W + 1] bool, True where something was seen.
        captions: B captions; None where the text is dropped.
    """

    inputs: Tensor
    targets: Tensor
    values: dict[str, Tensor]
    masks: dict[str, Tensor]
    captions: tuple[str | None, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        values = {name: tensor.to(device) for name, tensor in self.values.items()}
        masks = {name: tensor.to(device) for name, tensor in self.masks.items()}
        return Batch(self.inputs.to(device), self.targets.to(device), values, masks, self.captions)

    def with_streams_of(self, other: Batch) -> Batch:
        """The same music with another batch's picture; the form stream stays this batch's own."""
        values = {name: (self if name == FORM else other).values[name] for name in self.values}
        masks = {name: (self if name == FORM else other).masks[name] for name in self.masks}
        return replace(self, values=values, masks=masks)

    def without_picture(self) -> Batch:
        """The same music with every visual stream masked."""
        return replace(self, masks={name: mask & (name == FORM) for name, mask in self.masks.items()})


def collate(samples: Sequence[Sample], shape: BatchShape) -> Batch:
    """Stack samples into a batch; positions after a sample's last token count for nothing."""
    tokens = torch.full((len(samples), len(shape.delays), shape.window), shape.start_token, dtype=torch.int64)
    targets = torch.full_like(tokens, IGNORE_INDEX)
    for row, sample in enumerate(samples):
        num_steps = sample.tokens.shape[1]
        tokens[row, :, :num_steps] = torch.from_numpy(sample.tokens.astype(np.int64))
        targets[row, :, :num_steps] = tokens[row, :, :num_steps]
    values, masks = {}, {}
    for spec in shape.specs:
        values[spec.name] = torch.from_numpy(np.stack([sample.streams[spec.name].values for sample in samples]))
        masks[spec.name] = torch.from_numpy(np.stack([sample.streams[spec.name].mask for sample in samples]))
    captions = tuple(sample.caption for sample in samples)
    return Batch(*next_token_pairs(tokens, targets, shape.start_token, shape.delays), values, masks, captions)
