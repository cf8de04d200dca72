"""Trains the embedded model: corpora, tokenizer, decoder, then decoder and adapter together, export.

In the first stage decoder and text encoder learn music from captioned pieces. In the second, both and the adapter learn
to follow a plan: each piece comes with what a cue plan would have said of it (`plan_from_music`), and with the motion
of a person in whom that plan would have been found (`sensors`). The second stage can also start from a model.

Every stage has its own folder, and is skipped or resumed when run again. The settings are `recipes/train/mini.toml`.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import init

from expotion_cli import storage
from expotion_cli.music.checkpoints.adapter_files import load_adapter
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.codecs.notes.tokens import NUM_VOICES, VOCAB_SIZE
from expotion_cli.music.conditioning import EMBEDDED_STREAMS, StepStream
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.text import TextEncoder, load_tokenizer, train_tokenizer
from expotion_cli.training import run_folder
from expotion_cli.training.adapter.warmup import warm_up_adapter
from expotion_cli.training.ahead import Draw, useful_workers
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
from expotion_cli.training.mini.continuing import continue_adapter
from expotion_cli.training.mini.corpus.build import SOURCES_FILE, Corpus, build_corpus, load_corpus
from expotion_cli.training.mini.corpus.captions import caption
from expotion_cli.training.mini.corpus.midi_pieces import LICENCE_FILE
from expotion_cli.training.mini.crops import (
    Crop,
    collate,
    corpus_pieces,
    draw_crop,
    fixed_crops,
    held_out_crops,
    loss_parts,
    piece_weights,
    unigram_baseline,
)
from expotion_cli.training.mini.settings import MiniSettings
from expotion_cli.training.optimizers import muon_and_adamw
from expotion_cli.training.seeding import keyed_generator
from expotion_cli.weights.manifest import Manifest, find_manifest

CORPUS, GROOVES = "corpus", "grooves"
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
        pieces: a folder of MIDI files for the second stage.
        minutes: of training, both stages together, instead of the recipe's steps; 0 for its steps.
    """

    def __init__(
        self,
        work: Path,
        settings: MiniSettings,
        device: str = "cpu",
        pieces: Path | None = None,
        minutes: float = 0.0,
    ):
        self.work, self.settings, self.device, self.pieces = work, settings, torch.device(device), pieces
        self.window, self.minutes = settings.adapter["window_steps"], minutes

    def run(self, destination: Path) -> None:
        """Run all stages and export the model to the folder `destination`.

        Raises:
            UsageError: the work folder belongs to another recipe.
            ExpotionError: a loss is not finite; the last checkpoint stays.
            OutputError: something can't be written; the last checkpoint is whole.
        """
        from expotion_cli.training.mini.export import export_mini, facts_of_model, following_facts, training_facts

        self.claim()
        first, start = None, self.settings.follow["start"]
        if start:
            decoder, text = self.start_from(start)
        else:
            first = self.corpus(CORPUS)
            decoder, text = self.pretrain(first)
        grooves = self.corpus(GROOVES)
        adapter = self.follow(grooves, decoder, text)
        known = training_facts(self.work, first) if first is not None else facts_of_model(start)
        facts = known | following_facts(self.work, grooves)
        terms = self.pieces / LICENCE_FILE if self.pieces is not None else None
        terms = terms if terms is not None and terms.is_file() else None
        export_mini(destination, self.work, self.text_settings, facts, decoder, text, adapter, terms)

    def claim(self) -> None:
        """Take the work folder for this run.

        Raises:
            UsageError: it belongs to another one.
        """
        names = sorted(path.name for path in self.pieces.glob("*.mid")) if self.pieces is not None else []
        inputs: dict[str, Any] = {"recipe": dataclasses.asdict(self.settings), "pieces": names}
        inputs |= {"minutes": self.minutes} if self.minutes else {}
        run_folder.claim(self.work, inputs, is_writer=True)

    def prepare(self) -> None:
        """Make all that needs no training, which is processor work: corpora and tokenizer."""
        self.claim()
        if not self.settings.follow["start"]:
            self.build_text_encoder(self.corpus(CORPUS))
        self.corpus(GROOVES)

    def corpus(self, name: str = CORPUS) -> Corpus:
        """The corpus of the first stage (CORPUS) or the second (GROOVES), built if it is not there yet."""
        folder = self.work / name
        if not (folder / SOURCES_FILE).is_file():
            pieces = self.pieces if name == GROOVES else None
            build_corpus(folder, **self.settings.corpus["build" if name == CORPUS else name], pieces=pieces)
        return load_corpus(folder)

    def loop(self, stage: str) -> LoopSettings:
        """Length and schedule of a stage; of limited minutes each gets the share that its steps have in the recipe."""
        stages = {FOLLOW: self.settings.follow}
        if not self.settings.follow["start"]:
            stages[PRETRAIN] = self.settings.pretrain
        work = {name: each["loop"]["steps"] * each["batch"] for name, each in stages.items()}
        share = work.get(stage, 0) / sum(work.values())
        return LoopSettings(**getattr(self.settings, stage)["loop"], minutes=self.minutes * share)

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

    def start_from(self, name: str) -> tuple[MusicDecoder, TextEncoder]:
        """Decoder and text encoder of a model, with its tokenizer; they must have the recipe's sizes.

        Raises:
            WeightsError: its weights are missing or damaged.
        """
        model = _shipped(name)
        assert model.folder is not None
        checkpoint = load_checkpoint(model.folder, device=self.device, dtype=torch.float32)
        folder = self.work / "tokenizer"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.folder / "tokenizer.json", folder / "tokenizer.json")
        return checkpoint.decoder, checkpoint.text

    def pretrain(self, corpus: Corpus) -> tuple[MusicDecoder, TextEncoder]:
        """First stage: train decoder and text encoder on captioned music."""
        decoder, text = self.build_decoder(), self.build_text_encoder(corpus)
        settings = self.settings.pretrain
        window = settings["window_steps"]
        train = corpus_pieces(corpus, corpus.train)
        weights = piece_weights(train, self.settings.corpus["shares"])
        held_out = fixed_crops(corpus_pieces(corpus, corpus.held_out), window)
        _write_baseline(self.work / PRETRAIN, unigram_baseline(train, held_out))

        def draw(rng: np.random.Generator) -> list[Crop]:
            return [draw_crop(train, weights, window, rng) for _ in range(settings["batch"])]

        def loss_fn(crops: list[Crop], rng: np.random.Generator) -> Tensor:
            return token_loss(*self._predict(decoder, text, crops, rng, text_dropout=settings["text_dropout"]))

        def evaluate() -> dict[str, float]:
            return _held_out_losses(
                held_out, lambda crops: self._predict(decoder, text, crops, np.random.default_rng(0))
            )

        modules = {"decoder": decoder, "text": text}
        optimizers = muon_and_adamw([decoder, text], **settings["optimizer"])
        self.fit(PRETRAIN, modules, optimizers, loss_fn, evaluate, draw)
        return decoder, text

    def follow(self, corpus: Corpus, decoder: MusicDecoder, text: TextEncoder) -> JointEmbeddingAdapter:
        """Second stage: train the adapter together with decoder and text encoder.

        Args:
            corpus: grooves, and pieces by people.
            decoder: from `pretrain` or `start_from`; trained further in place.
            text: likewise.

        Returns:
            The adapter.
        """
        settings = self.settings.follow
        torch.manual_seed(settings["loop"]["seed"])
        adapter = JointEmbeddingAdapter(
            AdapterConfig(dim=decoder.config.dim, streams=EMBEDDED_STREAMS, **self.settings.adapter)
        )
        adapter.to(self.device)
        known = _shipped(settings["start"]).adapter if settings["start"] else None
        train = corpus_pieces(corpus, corpus.train)
        weights = piece_weights(train, settings["shares"])
        held_out = held_out_crops(corpus_pieces(corpus, corpus.held_out), self.window)

        def condition_fn(step: int) -> Tensor:
            rng = keyed_generator(settings["loop"]["seed"] + 1, step)
            crop = draw_crop(train, weights, self.window, rng)
            return condition_batch(adapter, [crop_streams(crop, rng)], self.device)

        if not (self.work / FOLLOW / CHECKPOINT).is_file():
            decoder.requires_grad_(False)
            if known is not None:
                continue_adapter(adapter, load_adapter(known, decoder)[0])
            else:
                warm_up_adapter(adapter, decoder, condition_fn, steps=settings["warm_up_steps"])
        decoder.train().requires_grad_(True)
        text.train().requires_grad_(True)

        def draw(rng: np.random.Generator) -> tuple[list[Crop], list[dict[str, StepStream]] | None]:
            crops = [draw_crop(train, weights, self.window, rng) for _ in range(settings["batch"])]
            if rng.random() < settings["decoder_alone"]:  # the decoder must also work without an adapter
                return crops, None
            return crops, [drop_streams(crop_streams(crop, rng), settings["drop"], rng) for crop in crops]

        def loss_fn(batch: tuple[list[Crop], list[dict[str, StepStream]] | None], rng: np.random.Generator) -> Tensor:
            (crops, streams), text_dropout = batch, settings["text_dropout"]
            if streams is None:
                return token_loss(*self._predict(decoder, text, crops, rng, text_dropout=text_dropout))
            return token_loss(*self._predict(decoder, text, crops, rng, adapter, streams, text_dropout=text_dropout))

        def evaluate() -> dict[str, float]:
            figures: dict[str, float] = {}
            for condition in (MATCHED, MISMATCHED, MASKED, OFF):

                def predict(crops: Sequence[Crop], condition: str = condition) -> tuple[Tensor, Tensor]:
                    rng = np.random.default_rng(0)
                    if condition == OFF:
                        return self._predict(decoder, text, crops, rng)
                    return self._predict(decoder, text, crops, rng, adapter, evaluation_streams(crops, condition))

                for group, crops in held_out.items():
                    losses = _held_out_losses(crops, predict)
                    figures |= {f"{condition}{group}_{key}": value for key, value in losses.items()}
            return figures | {"gate": adapter.gates.abs().mean().item()}

        optimizers = [
            *muon_and_adamw([decoder, text], **settings["optimizer"]),
            *muon_and_adamw([adapter], **settings["adapter_optimizer"]),
        ]
        modules = {"decoder": decoder, "text": text, "adapter": adapter}
        self.fit(FOLLOW, modules, optimizers, loss_fn, evaluate, draw)
        for module in modules.values():
            module.eval().requires_grad_(False)
        return adapter

    def fit(
        self,
        stage: str,
        modules: Mapping[str, nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        loss_fn: Callable[[Any, np.random.Generator], Tensor],
        evaluate: Callable[[], dict[str, float]],
        draw: Draw,
    ) -> None:
        """Train a stage in its folder, with batches drawn ahead where that helps (`loop.fit`)."""
        workers = useful_workers(self.device)
        folder = self.work / stage
        fit(modules, optimizers, loss_fn, evaluate, folder, self.loop(stage), draw=draw, workers=workers)

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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bf16(self.device)):
            ids, mask = text.pad(sequences, max(len(sequence) for sequence in sequences))
            encoded, side = decoder.encode_text(text(ids, mask), mask & has_text[:, None]), None
            if adapter is not None:
                side = adapter.side_stream(decoder, condition_batch(adapter, streams, self.device))
            logits = decoder(inputs, LockstepContext(encoded, side_stream=side))
        return logits, targets


def _shipped(name: str) -> Manifest:
    """The manifest of a model, its files checked."""
    found = find_manifest(name, "music")
    found.require()
    return found


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16; processors without it emulate it, at a twentieth of the speed."""
    if device.type != "cpu":
        return True
    # torch tells of the real thing only through this private name.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


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
