"""Text states: a T5 encoder and its tokenizer, behind one call.

States are padded to a length that depends on the prompt alone, never on other prompts in a batch, so that a cue's
numbers do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from expotion_cli.errors import WeightsError
from expotion_cli.music.transformer.t5 import T5Encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LENGTH_BUCKETS = (16, 32, 64, 128, 256, 512)
"""Prompts are padded up to the next of these and cut at the last."""
PADDING = "<pad>"
LARGEST_TOKENIZER_BYTES = 64 << 20


class TextEncoder(nn.Module):
    """A T5 encoder with its tokenizer.

    Args:
        model: the encoder.
        tokenizer: the tokenizer it was trained with (`load_tokenizer`).
    """

    def __init__(self, model: T5Encoder, tokenizer: Tokenizer):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    @property
    def dim(self) -> int:
        """Width of the states."""
        return self.model.settings.d_model

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids, cut at the longest bucket. An empty prompt still has its end token."""
        return self.tokenizer.encode(prompt).ids

    def bucket(self, prompt: str) -> int:
        """Length the prompt's states are padded to."""
        count = len(self.tokenize(prompt))
        return next(bucket for bucket in LENGTH_BUCKETS if count <= bucket)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States of padded ids. [R, M] int64, [R, M] bool → [R, M, text_dim]."""
        return self.model(ids, mask)

    def pad(self, sequences: Sequence[list[int]], length: int) -> tuple[Tensor, Tensor]:
        """Pad token ids: (ids [R, length] int64, mask [R, length] bool) on the model's device."""
        ids = torch.full((len(sequences), length), self.tokenizer.token_to_id(PADDING) or 0)
        mask = torch.zeros(len(sequences), length, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = True
        device = self.model.device
        return ids.to(device), mask.to(device)

    @torch.no_grad()
    def encode(self, prompt: str, *, is_padded: bool = True) -> tuple[Tensor, Tensor]:
        """One prompt's states. Never batched: that could change bits.

        Args:
            prompt: the words.
            is_padded: pad them to the prompt's bucket.

        Returns:
            (states [M, text_dim], mask [M] bool), M the bucket, or the number of tokens.
        """
        sequence = self.tokenize(prompt)
        ids, mask = self.pad([sequence], self.bucket(prompt) if is_padded else len(sequence))
        return self(ids, mask)[0], mask[0]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder: its `tokenizer.json`, else what transformers makes of the files there.

    Raises:
        WeightsError: the folder holds no tokenizer.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        if path.is_file() and path.stat().st_size > LARGEST_TOKENIZER_BYTES:
            raise ValueError("the file is larger than any tokenizer")
        tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else _converted(folder)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers raises bare exceptions, and Rust's panics
        raise WeightsError(
            "The model folder has no tokenizer that can be read.",
            path=folder,
            remedy="Fetch tokenizer.json from where the model is from.",
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH_BUCKETS[-1])
    return tokenizer


def _converted(folder: Path) -> Tokenizer:
    """A tokenizer from SentencePiece's or other files, which transformers converts; importing it takes seconds."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False).backend_tokenizer


def train_tokenizer(captions: Sequence[str], path: Path, vocab_size: int = 1024) -> None:
    """Train a small lower-case byte-level BPE tokenizer.

    Args:
        captions: what it is trained on.
        path: the `tokenizer.json` to write.
        vocab_size: entries, special tokens and all bytes included.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PADDING, "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(path))
