"""Batches for training on note tokens: crops that start on a bar line, with captions and where the piece ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.codecs.notes.tokens import HOLD, NUM_VOICES, REST, VOCAB_SIZE
from expotion_cli.music.conditioning import FORM_DECAY_STEPS, StepStream
from expotion_cli.music.transformer.delay import apply_delay
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT
from expotion_cli.training.losses import IGNORED, token_loss

BAR_STEPS = BEATS_PER_BAR * STEPS_PER_BEAT


class PieceLike(Protocol):
    """What is needed of a corpus piece."""

    @property
    def tokens(self) -> np.ndarray:
        """[K, S] int64."""

    @property
    def attributes(self) -> dict[str, Any]:
        """What its captions are written from."""

    @property
    def motion(self) -> np.ndarray | None:
        """The motion it was composed for, if any."""


@dataclass(frozen=True)
class Crop:
    """A stretch of a piece.

    Attributes:
        tokens: [K, S] int64, rests behind the piece's end.
        valid_steps: steps that belong to the piece or to the bar of silence behind it.
        form: nearness of opening and ending, as `music.conditioning.form_stream`.
        attributes: the piece's, for captions.
        motion: [S] the motion curve that it was written on, 0 behind the piece's end; None where there was none.
    """

    tokens: np.ndarray
    valid_steps: int
    form: StepStream
    attributes: Mapping
    motion: np.ndarray | None = None


def crop(piece: PieceLike, start: int, num_steps: int) -> Crop:
    """The stretch of `num_steps` steps from step `start` on."""
    length = piece.tokens.shape[1]
    tokens = np.full((NUM_VOICES, num_steps), HOLD, dtype=np.int64)
    part = piece.tokens[:, start : start + num_steps]
    tokens[:, : part.shape[1]] = part
    if part.shape[1] < num_steps:
        tokens[:, part.shape[1]] = REST
    steps = start + np.arange(num_steps)
    form = np.stack([np.exp(-steps / FORM_DECAY_STEPS), np.exp(-np.maximum(length - steps, 0) / FORM_DECAY_STEPS)], 1)
    valid = min(num_steps, part.shape[1] + BAR_STEPS)
    motion = None
    if piece.motion is not None:
        motion = np.zeros(num_steps, np.float32)
        motion[: part.shape[1]] = piece.motion[start : start + num_steps]
    stream = StepStream(form.astype(np.float32), np.ones(num_steps, dtype=bool))
    return Crop(tokens, valid, stream, piece.attributes, motion)


def draw_crop(pieces: Sequence[PieceLike], weights: np.ndarray, num_steps: int, rng: np.random.Generator) -> Crop:
    """A random stretch of a random piece: openings and endings come up more often than a middle would."""
    piece = pieces[int(np.searchsorted(weights, rng.random()))]
    last_bar = max(0, (piece.tokens.shape[1] - num_steps) // BAR_STEPS)
    place = rng.random()
    if place < 0.3:
        bar = 0
    elif place < 0.5:
        bar = last_bar + int(rng.integers(0, num_steps // BAR_STEPS // 2 + 1))
    else:
        bar = int(rng.integers(0, last_bar + 1))
    return crop(piece, min(bar, max(0, piece.tokens.shape[1] // BAR_STEPS - 1)) * BAR_STEPS, num_steps)


def piece_weights(pieces: Sequence[PieceLike], shares: Mapping[str, float]) -> np.ndarray:
    """Cumulative drawing probabilities: each group of pieces gets its share, a piece in proportion to its length.

    Args:
        pieces: composed ones have `attributes["source"]` "composed", all others are scores.
        shares: probability of "composed" and "score"; groups without pieces are skipped.
    """
    lengths = np.array([piece.tokens.shape[1] for piece in pieces], dtype=float)
    groups = np.array(["composed" if p.attributes["source"] == "composed" else "score" for p in pieces])
    weights = np.zeros(len(pieces))
    for group, share in shares.items():
        inside = groups == group
        if inside.any():
            weights[inside] = share * lengths[inside] / lengths[inside].sum()
    return np.cumsum(weights / weights.sum())


@dataclass(frozen=True)
class TokenBatch:
    """Delayed inputs and targets.

    Attributes:
        inputs: [B, K, P] int64.
        targets: [B, K, P] int64, `IGNORED` where no loss is taken.
    """

    inputs: Tensor
    targets: Tensor


def delay_batch(crops: Sequence[Crop], device: torch.device) -> TokenBatch:
    """Delay-pattern inputs and their targets, losses only on valid steps."""
    tokens = torch.from_numpy(np.stack([c.tokens for c in crops])).to(device)
    valid = torch.arange(tokens.shape[2], device=device)[None] < torch.tensor(
        [[c.valid_steps] for c in crops], device=device
    )
    delayed = apply_delay(tokens, VOCAB_SIZE)
    wanted = apply_delay(torch.where(valid[:, None], tokens, IGNORED), IGNORED)
    return TokenBatch(delayed[..., :-1], wanted[..., 1:])


@torch.no_grad()
def loss_parts(logits: Tensor, targets: Tensor) -> dict[str, tuple[float, int]]:
    """Summed loss and count over all tokens and over onsets alone (holds and rests would drown them)."""
    losses = token_loss(logits, targets, "none")
    flat = targets.flatten()
    parts = {"all": flat >= 0, "onset": flat > HOLD}
    return {name: (losses[chosen].sum().item(), int(chosen.sum())) for name, chosen in parts.items()}


def unigram_baseline(train: Sequence[PieceLike], held_out: Sequence[Crop]) -> dict[str, float]:
    """Held-out loss of predicting each voice's training frequencies: what a model that learned nothing reaches."""
    counts = np.ones((NUM_VOICES, VOCAB_SIZE))
    for piece in train:
        for k in range(NUM_VOICES):
            counts[k] += np.bincount(piece.tokens[k], minlength=VOCAB_SIZE)
    logs = -np.log(counts / counts.sum(axis=1, keepdims=True))
    every, onsets = [], []
    for held in held_out:
        tokens = held.tokens[:, : held.valid_steps]
        losses = np.take_along_axis(logs, tokens, axis=1)
        every.append(losses.ravel())
        onsets.append(losses[tokens > HOLD])
    return {"all": float(np.concatenate(every).mean()), "onset": float(np.concatenate(onsets).mean())}
