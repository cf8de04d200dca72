"""Text states: transformers' T5 encoder and its tokenizer, behind one call.

States are padded to a length that depends on the prompt alone, never on its neighbours in a batch, so that a cue's
numbers do not change with its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from expotion_cli.errors import WeightsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, T5EncoderModel

LENGTH_BUCKETS = (16, 32, 64, 128, 256, 512)
"""Prompts are padded up to the next of these and cut at the last."""


class TextEncoder(nn.Module):
    """A T5 encoder with its tokenizer.

    Args:
        model: transformers' `T5EncoderModel`.
        tokenizer: the tokenizer it was trained with.
    """

    def __init__(self, model: T5EncoderModel, tokenizer: PreTrainedTokenizerFast):
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    @property
    def dim(self) -> int:
        """Width of the states."""
        return self.model.config.d_model

    def tokenize(self, prompt: str) -> list[int]:
        """Token ids, cut at the longest bucket. An empty prompt still has its end mark."""
        return self.tokenizer(prompt, truncation=True, max_length=LENGTH_BUCKETS[-1])["input_ids"]

    def bucket(self, prompt: str) -> int:
        """Length the prompt's states are padded to."""
        count = len(self.tokenize(prompt))
        return next(bucket for bucket in LENGTH_BUCKETS if count <= bucket)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States of padded ids. [R, M] int64, [R, M] bool → [R, M, text_dim]."""
        return self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state

    def pad(self, sequences: Sequence[list[int]], length: int) -> tuple[Tensor, Tensor]:
        """(ids [R, length] int64, mask [R, length] bool) on the model's device."""
        ids = torch.full((len(sequences), length), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(sequences), length, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = True
        device = self.model.device
        return ids.to(device), mask.to(device)

    @torch.no_grad()
    def encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """One prompt's (states [M, text_dim], mask [M] bool), M its bucket; encoded alone on purpose."""
        sequence = self.tokenize(prompt)
        ids, mask = self.pad([sequence], self.bucket(prompt))
        return self(ids, mask)[0], mask[0]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder: its `tokenizer.json`, else whatever transformers finds there.

    Raises:
        WeightsError: the folder holds no tokenizer.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise WeightsError(
            "The model folder has no tokenizer.",
            path=folder,
            remedy="Fetch tokenizer.json from where the model is from.",
        ) from error


def train_tokenizer(captions: Sequence[str], path: Path, vocab_size: int = 1024) -> None:
    """Train a small lower-case byte-level BPE on captions and write it as `tokenizer.json`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(path))
