"""Conditioning streams of corpus pieces: synthetic sensors, dropout, and the conditions of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.conditioning import FORM, MADE_HERE, StepStream
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.training.mini.crops import Crop
from expotion_cli.training.mini.sensors import sensor_streams

MATCHED, MISMATCHED, MASKED, OFF = "", "shuffled_", "unseen_", "off_"
"""Conditions of an evaluation, by the prefix of their columns in `held_out.csv`."""
MASK_ALL = {"all": 1.0, "sensors": 0.0, "plan": 0.0, "each": 0.0}


def crop_streams(crop: Crop, rng: np.random.Generator) -> dict[str, StepStream]:
    """Streams of a crop: its plan, and a motion that would have led to it as sensors would see it."""
    return sensor_streams(crop.plan, crop.tokens, crop.attributes, rng, crop.form)


def drop_streams(
    streams: Mapping[str, StepStream], chances: Mapping[str, float], rng: np.random.Generator
) -> dict[str, StepStream]:
    """Mask the whole picture with its plan (for guidance), all sensors, the plan, or single sensors; the form stays.

    Args:
        streams: by name; not changed.
        chances: probability of masking "all", "sensors", "plan", and "each" single sensor.
        rng: source of randomness.
    """
    drops = {name: rng.random() < chances[name] for name in ("all", "sensors", "plan")}
    result = {}
    for name, stream in streams.items():
        alone = drops["plan"] if name in MADE_HERE else drops["sensors"] or rng.random() < chances["each"]
        dropped = name != FORM and (drops["all"] or alone)
        result[name] = StepStream(stream.values, stream.mask & (not dropped))
    return result


def evaluation_streams(crops: Sequence[Crop], condition: str) -> list[dict[str, StepStream]]:
    """Streams of crops for an evaluation; the form is always each crop's own.

    Args:
        crops: evaluated together.
        condition: MATCHED gives each crop its own picture and plan, MISMATCHED the next crop's, MASKED none.
    """
    own = [crop_streams(crop, np.random.default_rng(index)) for index, crop in enumerate(crops)]
    given = own[1:] + own[:1] if condition == MISMATCHED else own
    streams = [{**other, FORM: mine[FORM]} for other, mine in zip(given, own, strict=True)]
    if condition == MASKED:
        return [drop_streams(s, MASK_ALL, np.random.default_rng(0)) for s in streams]
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
