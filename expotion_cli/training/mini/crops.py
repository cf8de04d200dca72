"""Crops of corpus pieces: drawn on bar lines, collated into batches, and the losses taken on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.codecs.notes.tokens import HOLD, NUM_VOICES, REST, VOCAB_SIZE
from expotion_cli.music.conditioning import FORM_DECAY_STEPS, StepStream
from expotion_cli.music.plan_stream import StepPlan
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT
from expotion_cli.training.loss import IGNORE_INDEX, next_token_pairs, token_loss
from expotion_cli.training.mini.corpus.build import Corpus
from expotion_cli.training.mini.corpus.midi_pieces import MIDI
from expotion_cli.training.mini.plan_from_music import plan_of

FROM_EACH = 4
"""Crops of a held-out piece by people, of which there are few."""
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
    def plan(self) -> StepPlan:
        """What a cue plan would have said of it."""


@dataclass(frozen=True)
class CorpusPiece:
    """A piece of a corpus.

    Attributes:
        tokens: [K, S] uint8.
        attributes: what its captions are written from.
    """

    tokens: np.ndarray
    attributes: dict[str, Any]

    @cached_property
    def plan(self) -> StepPlan:
        """What a cue plan would have said of it."""
        return plan_of(self.tokens, self.attributes["tempo_bpm"])


def corpus_pieces(corpus: Corpus, numbers: Sequence[int]) -> list[CorpusPiece]:
    """The pieces of a corpus with these numbers."""
    return [CorpusPiece(corpus.piece(n), corpus.attributes[n]) for n in numbers]


@dataclass(frozen=True)
class Crop:
    """A stretch of a piece.

    Attributes:
        tokens: [K, S] int64, rests after the piece's end.
        valid_steps: steps of the piece and of one bar of silence after it; losses are taken on these.
        form: how near opening and ending are, as in `music.conditioning.form_stream`.
        attributes: of the piece, for captions.
        plan: of the piece, seen from the crop's first step.
    """

    tokens: np.ndarray
    valid_steps: int
    form: StepStream
    attributes: Mapping
    plan: StepPlan


def crop(piece: PieceLike, start: int, num_steps: int) -> Crop:
    """Cut a crop of `num_steps` steps from step `start` on."""
    length = piece.tokens.shape[1]
    tokens = np.full((NUM_VOICES, num_steps), HOLD, dtype=np.int64)
    part = piece.tokens[:, start : start + num_steps]
    tokens[:, : part.shape[1]] = part
    if part.shape[1] < num_steps:
        tokens[:, part.shape[1]] = REST
    steps = start + np.arange(num_steps)
    form = np.stack([np.exp(-steps / FORM_DECAY_STEPS), np.exp(-np.maximum(length - steps, 0) / FORM_DECAY_STEPS)], 1)
    valid = min(num_steps, part.shape[1] + BAR_STEPS)
    stream = StepStream(form.astype(np.float32), np.ones(num_steps, dtype=bool))
    return Crop(tokens, valid, stream, piece.attributes, piece.plan.shifted(start))


def draw_crop(pieces: Sequence[PieceLike], weights: np.ndarray, num_steps: int, rng: np.random.Generator) -> Crop:
    """Draw a crop from a random piece; openings and endings are drawn more often than middles.

    Args:
        pieces: to draw from.
        weights: cumulative probabilities, from `piece_weights`.
        num_steps: of the crop.
        rng: source of randomness.
    """
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


def fixed_crops(pieces: Sequence[PieceLike], window: int, limit: int = 48) -> list[Crop]:
    """Crops for evaluation, always the same: openings, middles and endings of pieces in turn.

    Args:
        pieces: held out.
        window: steps of a crop.
        limit: crops at most, one a piece.
    """
    crops = []
    for index, piece in enumerate(pieces[:: max(1, len(pieces) // limit)][:limit]):
        last_bar = max(0, piece.tokens.shape[1] - window) // BAR_STEPS
        crops.append(crop(piece, (0, last_bar // 2, last_bar)[index % 3] * BAR_STEPS, window))
    return crops


def held_out_crops(pieces: Sequence[PieceLike], window: int) -> dict[str, list[Crop]]:
    """Crops for evaluation, always the same, by group.

    Args:
        pieces: held out.
        window: steps of a crop.

    Returns:
        "composed" as `fixed_crops` makes them; of "midi" and "score" `FROM_EACH` a piece, evenly spread.
    """
    groups = {name: [piece for piece in pieces if group_of(piece) == name] for name in ("composed", "midi", "score")}
    result = {"composed": fixed_crops(groups.pop("composed"), window)}
    for name, members in groups.items():
        result[name] = [
            crop(
                piece,
                round(max(0, piece.tokens.shape[1] - window) * part / (FROM_EACH - 1) / BAR_STEPS) * BAR_STEPS,
                window,
            )
            for piece in members
            for part in range(FROM_EACH if piece.tokens.shape[1] > window else 1)
        ]
    return {name: crops for name, crops in result.items() if crops}


def piece_weights(pieces: Sequence[PieceLike], shares: Mapping[str, float]) -> np.ndarray:
    """Cumulative probabilities for `draw_crop`: each group gets its share, each piece in proportion to its length.

    Args:
        pieces: `attributes["source"]` is "composed", or names a score or a MIDI file.
        shares: probabilities of the groups "composed", "score" and "midi"; groups without pieces are skipped.
    """
    lengths = np.array([piece.tokens.shape[1] for piece in pieces], dtype=float)
    groups = np.array([group_of(piece) for piece in pieces])
    weights = np.zeros(len(pieces))
    for group, share in shares.items():
        inside = groups == group
        if inside.any():
            weights[inside] = share * lengths[inside] / lengths[inside].sum()
    return np.cumsum(weights / weights.sum())


def group_of(piece: PieceLike) -> str:
    """The group of a piece: "composed", "midi" or "score"."""
    source = piece.attributes["source"]
    return "composed" if source == "composed" else "midi" if source.startswith(MIDI) else "score"


def collate(crops: Sequence[Crop], device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack crops: inputs and targets, both [B, K, P] int64 in the delay pattern, with losses on valid steps only."""
    tokens = torch.from_numpy(np.stack([c.tokens for c in crops])).to(device)
    valid = torch.arange(tokens.shape[2], device=device)[None] < torch.tensor(
        [[c.valid_steps] for c in crops], device=device
    )
    return next_token_pairs(tokens, torch.where(valid[:, None], tokens, IGNORE_INDEX), VOCAB_SIZE)


@torch.no_grad()
def loss_parts(logits: Tensor, targets: Tensor) -> dict[str, tuple[float, int]]:
    """Token losses by kind of target; most targets are holds and rests, which would hide the onsets.

    Args:
        logits: [B, K, P, V].
        targets: [B, K, P] int64.

    Returns:
        "all" and "onset": (summed loss in nats, number of tokens).
    """
    losses = token_loss(logits, targets, reduction="none")
    flat = targets.flatten()
    parts = {"all": flat >= 0, "onset": flat > HOLD}
    return {name: (losses[chosen].sum().item(), int(chosen.sum())) for name, chosen in parts.items()}


def unigram_baseline(train: Sequence[PieceLike], held_out: Sequence[Crop]) -> dict[str, float]:
    """Held-out losses of a unigram model: the frequencies of each voice's tokens in the training pieces.

    Args:
        train: pieces to count tokens in.
        held_out: crops to evaluate on.

    Returns:
        "all" and "onset": nats a token.
    """
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
