"""Conditioning streams of corpus pieces: synthetic sensors, dropout, and the conditions of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.conditioning import FORM, MADE_HERE, StepStream
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.training.mini.crops import Crop
from expotion_cli.training.mini.sensors import masked_streams, sensor_streams

MATCHED, MISMATCHED, MASKED, OFF = "", "shuffled_", "unseen_", "off_"
"""Conditions of an evaluation, by the prefix of their columns in `held_out.csv`."""


def crop_streams(crop: Crop, rng: np.random.Generator) -> dict[str, StepStream]:
    """Streams of a crop: its motion as sensors would see it; masked for a piece that follows no motion."""
    if crop.motion is None:
        return masked_streams(crop.tokens.shape[1], crop.form)
    return sensor_streams(crop.motion, crop.tokens, crop.attributes, rng, crop.form)


def drop_streams(
    streams: Mapping[str, StepStream], drop_all: float, drop_each: float, rng: np.random.Generator
) -> dict[str, StepStream]:
    """Mask the whole picture (for guidance) or single sensors; the form always stays.

    The drive is made from all sensors, so it goes only with the whole picture.

    Args:
        streams: by name; not changed.
        drop_all: probability of masking the whole picture.
        drop_each: probability of masking each single sensor.
        rng: source of randomness.
    """
    drops_all = rng.random() < drop_all
    result = {}
    for name, stream in streams.items():
        dropped = (name != FORM and drops_all) or (name not in MADE_HERE and rng.random() < drop_each)
        result[name] = StepStream(stream.values, stream.mask & (not dropped))
    return result


def evaluation_streams(crops: Sequence[Crop], condition: str) -> list[dict[str, StepStream]]:
    """Streams of crops for an evaluation; the form is always each crop's own.

    Args:
        crops: evaluated together.
        condition: MATCHED gives each crop its own picture, MISMATCHED the next crop's, MASKED none.
    """
    own = [crop_streams(crop, np.random.default_rng(index)) for index, crop in enumerate(crops)]
    given = own[1:] + own[:1] if condition == MISMATCHED else own
    streams = [{**other, FORM: mine[FORM]} for other, mine in zip(given, own, strict=True)]
    if condition == MASKED:
        return [drop_streams(s, 1.0, 0.0, np.random.default_rng(0)) for s in streams]
    return streams


def condition_batch(
    adapter: JointEmbeddingAdapter, streams: Sequence[Mapping[str, StepStream]], device: torch.device
) -> Tensor:
    """Join the streams of a batch for an adapter.

    Args:
        adapter: that reads them.
        streams: of each of B crops, S rows.
        device: of the result.

    Returns:
        [B, S + 1, D]; the last row is repeated for the position that the start token adds.
    """
    values, masks = {}, {}
    for name in streams[0]:
        values[name] = torch.from_numpy(np.stack([_repeat_last(s[name].values) for s in streams])).to(device)
        masks[name] = torch.from_numpy(np.stack([_repeat_last(s[name].mask) for s in streams])).to(device)
    return adapter.join_streams(values, masks)


def _repeat_last(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, rows[-1:]], axis=0)
