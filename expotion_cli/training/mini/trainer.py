"""Trains the embedded model from scratch: corpora, tokenizer, decoder, then decoder and adapter together, export.

In the first stage decoder and text encoder learn music from captioned pieces. In the second, both and the adapter learn
to follow: they are trained on pieces written on motion curves, which synthetic sensors observe (`sensors`), and on some
pieces that follow no motion, with the picture masked.

Every stage has its own folder, and is skipped or resumed when run again. The settings are `recipes/train/mini.toml`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import init

from expotion_cli import storage
from expotion_cli.music.codecs.notes.tokens import NUM_VOICES, VOCAB_SIZE
from expotion_cli.music.conditioning import EMBEDDED_STREAMS, StepStream
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.text import TextEncoder, load_tokenizer, train_tokenizer
from expotion_cli.training import run_folder
from expotion_cli.training.adapter.warmup import warm_up_adapter
from expotion_cli.training.checkpoints import CHECKPOINT
from expotion_cli.training.loop import LoopSettings, fit
from expotion_cli.training.loss import token_loss
from expotion_cli.training.mini.conditioning import (
    MASKED,
    MATCHED,
    MISMATCHED,
    OFF,
    condition_batch,
    crop_streams,
    drop_streams,
    evaluation_streams,
)
from expotion_cli.training.mini.corpus.build import SOURCES_FILE, Corpus, build_corpus, load_corpus
from expotion_cli.training.mini.corpus.captions import caption
from expotion_cli.training.mini.crops import (
    Crop,
    collate,
    corpus_pieces,
    draw_crop,
    fixed_crops,
    loss_parts,
    piece_weights,
    unigram_baseline,
)
from expotion_cli.training.mini.settings import MiniSettings
from expotion_cli.training.optimizers import muon_and_adamw
from expotion_cli.training.seeding import keyed_generator

CORPUS, FOLLOWING = "corpus", "following"
PRETRAIN, FOLLOW = "pretrain", "follow"
"""Folders of the corpora and stages below the work folder."""
_INIT_STD = 0.02
_EVALUATION_BATCH = 16

Predict = Callable[[Sequence[Crop]], tuple[Tensor, Tensor]]
"""Crops → (logits [B, K, P, V], targets [B, K, P])."""


class MiniTrainer:
    """The stages of one work folder.

    Args:
        work: gets the corpora, the tokenizer, checkpoints and logs.
        settings: the recipe.
        device: where to train.
    """

    def __init__(self, work: Path, settings: MiniSettings, device: str = "cpu"):
        self.work, self.settings, self.device = work, settings, torch.device(device)
        self.window = settings.adapter["window_steps"]

    def run(self, destination: Path) -> None:
        """Run all stages and export the model to the folder `destination`.

        Raises:
            UsageError: the work folder belongs to another recipe.
            ExpotionError: a loss is not finite; the last checkpoint stays.
            OutputError: something can't be written; the last checkpoint is whole.
        """
        from expotion_cli.training.mini.export import export_mini

        run_folder.claim(self.work, {"recipe": dataclasses.asdict(self.settings)}, is_writer=True)
        corpus, following = self.corpus(CORPUS), self.corpus(FOLLOWING)
        decoder, text = self.pretrain(corpus)
        adapter = self.follow(following, decoder, text)
        export_mini(destination, self.work, self.text_settings, corpus, following, decoder, text, adapter)

    def corpus(self, name: str = CORPUS) -> Corpus:
        """The corpus of the first stage (CORPUS) or the second (FOLLOWING), built if it is not there yet."""
        folder = self.work / name
        if not (folder / SOURCES_FILE).is_file():
            build_corpus(folder, **self.settings.corpus["build" if name == CORPUS else name])
        return load_corpus(folder)

    def build_decoder(self) -> MusicDecoder:
        """Make a decoder with seeded weights; residual outputs are scaled down with the number of layers."""
        torch.manual_seed(self.settings.pretrain["loop"]["seed"])
        config = DecoderConfig(
            **self.settings.decoder,
            num_codebooks=NUM_VOICES,
            vocab_size=VOCAB_SIZE,
            text_dim=self.settings.text["d_model"],
        )
        decoder = MusicDecoder(config)
        for name, parameter in decoder.named_parameters():
            if parameter.ndim == 2:
                init.normal_(parameter, std=_INIT_STD)
                if name.endswith(("out_proj.weight", "fc2.weight")):
                    parameter.data /= (3 * config.num_layers) ** 0.5
        return decoder.to(self.device)

    @property
    def text_settings(self) -> dict[str, Any]:
        """The text encoder's T5 configuration: the recipe's sizes, and the tokenizer's special tokens."""
        return {**self.settings.text, "dropout_rate": 0.0, "pad_token_id": 0, "eos_token_id": 1}

    def build_text_encoder(self, corpus: Corpus) -> TextEncoder:
        """Make a small T5 encoder, with a tokenizer trained on captions of the training pieces."""
        from transformers import T5Config, T5EncoderModel

        from expotion_cli.music.transformer.t5 import T5Encoder, T5Settings

        folder = self.work / "tokenizer"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "tokenizer.json").is_file():
            rng = np.random.default_rng(0)
            pieces = corpus_pieces(corpus, corpus.train)
            captions = [caption(piece.attributes, rng) for piece in pieces for _ in range(2)]
            train_tokenizer(captions, folder / "tokenizer.json", self.settings.text["vocab_size"])
        model = T5Encoder(T5Settings.from_config(self.text_settings))
        # transformers knows how T5 is initialised.
        model.load_state_dict(T5EncoderModel(T5Config(**self.text_settings)).state_dict())
        return TextEncoder(model, load_tokenizer(folder)).to(self.device)

    def pretrain(self, corpus: Corpus) -> tuple[MusicDecoder, TextEncoder]:
        """First stage: train decoder and text encoder on captioned music."""
        decoder, text = self.build_decoder(), self.build_text_encoder(corpus)
        settings = self.settings.pretrain
        window = settings["window_steps"]
        train = corpus_pieces(corpus, corpus.train)
        weights = piece_weights(train, self.settings.corpus["shares"])
        held_out = fixed_crops(corpus_pieces(corpus, corpus.held_out), window)
        _write_baseline(self.work / PRETRAIN, unigram_baseline(train, held_out))

        def loss_fn(rng: np.random.Generator) -> Tensor:
            crops = [draw_crop(train, weights, window, rng) for _ in range(settings["batch"])]
            return token_loss(*self._predict(decoder, text, crops, rng, text_dropout=settings["text_dropout"]))

        def evaluate() -> dict[str, float]:
            return _held_out_losses(
                held_out, lambda crops: self._predict(decoder, text, crops, np.random.default_rng(0))
            )

        modules = {"decoder": decoder, "text": text}
        optimizers = muon_and_adamw([decoder, text], **settings["optimizer"])
        fit(modules, optimizers, loss_fn, evaluate, self.work / PRETRAIN, LoopSettings(**settings["loop"]))
        return decoder, text

    def follow(self, corpus: Corpus, decoder: MusicDecoder, text: TextEncoder) -> JointEmbeddingAdapter:
        """Second stage: train the adapter together with decoder and text encoder.

        Args:
            corpus: pieces written on motion curves, and others.
            decoder: from `pretrain`; trained further in place.
            text: from `pretrain`; trained further in place.

        Returns:
            The adapter.
        """
        settings = self.settings.follow
        torch.manual_seed(settings["loop"]["seed"])
        adapter = JointEmbeddingAdapter(
            AdapterConfig(dim=decoder.config.dim, streams=EMBEDDED_STREAMS, **self.settings.adapter)
        )
        adapter.to(self.device)
        train = corpus_pieces(corpus, corpus.train)
        weights = piece_weights(train, {"composed": 1.0})
        moving = [piece for piece in corpus_pieces(corpus, corpus.held_out) if piece.motion is not None]
        held_out = fixed_crops(moving, self.window)

        def condition_fn(step: int) -> Tensor:
            rng = keyed_generator(settings["loop"]["seed"] + 1, step)
            crop = draw_crop(train, weights, self.window, rng)
            return condition_batch(adapter, [crop_streams(crop, rng)], self.device)

        if not (self.work / FOLLOW / CHECKPOINT).is_file():
            decoder.requires_grad_(False)
            warm_up_adapter(adapter, decoder, condition_fn, steps=settings["warm_up_steps"])
        decoder.train().requires_grad_(True)
        text.train().requires_grad_(True)

        def loss_fn(rng: np.random.Generator) -> Tensor:
            crops = [draw_crop(train, weights, self.window, rng) for _ in range(settings["batch"])]
            text_dropout = settings["text_dropout"]
            if rng.random() < settings["decoder_alone"]:  # the decoder must also work without an adapter
                return token_loss(*self._predict(decoder, text, crops, rng, text_dropout=text_dropout))
            drop_all, drop_each = settings["drop_all"], settings["drop_each"]
            streams = [drop_streams(crop_streams(crop, rng), drop_all, drop_each, rng) for crop in crops]
            return token_loss(*self._predict(decoder, text, crops, rng, adapter, streams, text_dropout=text_dropout))

        def evaluate() -> dict[str, float]:
            figures: dict[str, float] = {}
            for condition in (MATCHED, MISMATCHED, MASKED, OFF):

                def predict(crops: Sequence[Crop], condition: str = condition) -> tuple[Tensor, Tensor]:
                    rng = np.random.default_rng(0)
                    if condition == OFF:
                        return self._predict(decoder, text, crops, rng)
                    return self._predict(decoder, text, crops, rng, adapter, evaluation_streams(crops, condition))

                figures |= {condition + key: value for key, value in _held_out_losses(held_out, predict).items()}
            return figures | {"gate": adapter.gates.abs().mean().item()}

        optimizers = [
            *muon_and_adamw([decoder, text], **settings["optimizer"]),
            *muon_and_adamw([adapter], **settings["adapter_optimizer"]),
        ]
        modules = {"decoder": decoder, "text": text, "adapter": adapter}
        fit(modules, optimizers, loss_fn, evaluate, self.work / FOLLOW, LoopSettings(**settings["loop"]))
        for module in modules.values():
            module.eval().requires_grad_(False)
        return adapter

    def _predict(
        self,
        decoder: MusicDecoder,
        text: TextEncoder,
        crops: Sequence[Crop],
        rng: np.random.Generator,
        adapter: JointEmbeddingAdapter | None = None,
        streams: Sequence[dict[str, StepStream]] = (),
        *,
        text_dropout: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """(logits [B, K, P, V], targets [B, K, P]) of crops, with captions drawn from `rng`."""
        inputs, targets = collate(crops, self.device)
        sequences = [text.tokenize(caption(crop.attributes, rng)) for crop in crops]
        has_text = torch.from_numpy(rng.random(len(crops)) >= text_dropout).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            ids, mask = text.pad(sequences, max(len(sequence) for sequence in sequences))
            encoded, side = decoder.encode_text(text(ids, mask), mask & has_text[:, None]), None
            if adapter is not None:
                side = adapter.side_stream(decoder, condition_batch(adapter, streams, self.device))
            logits = decoder(inputs, LockstepContext(encoded, side_stream=side))
        return logits, targets


@torch.no_grad()
def _held_out_losses(crops: Sequence[Crop], predict: Predict) -> dict[str, float]:
    """Mean losses in nats over all tokens ("all") and over onsets alone ("onset")."""
    sums, counts = {"all": 0.0, "onset": 0.0}, {"all": 0, "onset": 0}
    for start in range(0, len(crops), _EVALUATION_BATCH):
        for name, (loss, count) in loss_parts(*predict(crops[start : start + _EVALUATION_BATCH])).items():
            sums[name] += loss
            counts[name] += count
    return {name: sums[name] / max(1, counts[name]) for name in sums}


def _write_baseline(folder: Path, baseline: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / "unigram.json", baseline)
