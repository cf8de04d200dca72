"""Remakes the embedded model from scratch: corpora, tokenizer, decoder, then decoder and adapter together, export.

First the decoder learns music from captioned pieces. Then it learns to follow: decoder, text encoder and adapter are
trained together on pieces written on motion curves, seen through made-up sensors (`synth`), and on some that go their
own way with nobody seen.

Every stage writes into its own folder and is skipped or resumed when run again. Settings come from
`recipes/train/mini.toml`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import init

from expotion_cli import assets, storage
from expotion_cli.errors import RecipeError
from expotion_cli.music.codecs.notes.tokens import NUM_VOICES, VOCAB_SIZE
from expotion_cli.music.conditioning import EMBEDDED_STREAMS, FORM, MADE_HERE, StepStream
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.text import TextEncoder, load_tokenizer, train_tokenizer
from expotion_cli.recipe import nearest_hint
from expotion_cli.training import run_folder as runs
from expotion_cli.training.adapter.warmup import look_at_the_moment
from expotion_cli.training.loop import LoopSettings, fit, matrix_optimizers, step_generator
from expotion_cli.training.losses import token_loss
from expotion_cli.training.mini.corpus.build import SOURCES_FILE, Corpus, build_corpus, load_corpus
from expotion_cli.training.mini.corpus.captions import caption
from expotion_cli.training.mini.crops import (
    Crop,
    crop,
    delay_batch,
    draw_crop,
    loss_parts,
    piece_weights,
    unigram_baseline,
)
from expotion_cli.training.mini.synth import synthesise, unseen


@dataclass(frozen=True)
class MiniSettings:
    """Everything that decides the embedded model (`recipes/train/mini.toml`)."""

    corpus: dict
    decoder: dict
    text: dict
    adapter: dict
    pretrain: dict
    follow: dict

    @staticmethod
    def load(path: Path | None = None) -> MiniSettings:
        """Read a training recipe; the shipped one by default.

        Raises:
            RecipeError: it can't be read, or a key is missing or unknown.
        """
        shipped = assets.shipped_folder("recipes") / "train" / "mini.toml"
        path = path or shipped
        tables = storage.read_toml(path, "the training recipe", error=RecipeError)
        _require_same_keys(tables, storage.read_toml(shipped), "", path)
        return MiniSettings(**tables)


class MiniTrainer:
    """The stages, sharing one work folder.

    Args:
        work: gets the corpus, checkpoints and logs.
        settings: sizes and lengths.
        device: where to train.
    """

    def __init__(self, work: Path, settings: MiniSettings, device: str = "cpu"):
        self.work, self.settings, self.device = work, settings, torch.device(device)
        self.window = settings.adapter["window_steps"]

    def run(self, destination: Path) -> None:
        """All stages, then the export of the model folder.

        Raises:
            UsageError: the work folder was begun with another recipe.
            ExpotionError: a loss is no number, or something can't be written; the last checkpoint is whole.
        """
        from expotion_cli.training.mini.export import export_mini

        runs.claim(self.work, {"recipe": dataclasses.asdict(self.settings)}, is_writer=True)
        corpus, following = self.corpus(), self.corpus("following")
        decoder, text = self.pretrain(corpus)
        adapter = self.follow(following, decoder, text)
        export_mini(destination, self.work, self.text_settings, corpus, following, decoder, text, adapter)

    def corpus(self, name: str = "corpus") -> Corpus:
        """The pieces of the first stage ("corpus") or the second ("following"): built, or loaded if they are there."""
        folder = self.work / name
        if not (folder / SOURCES_FILE).is_file():
            build_corpus(folder, **self.settings.corpus["build" if name == "corpus" else name])
        return load_corpus(folder)

    def build_decoder(self) -> MusicDecoder:
        """A fresh decoder with seeded weights."""
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
                init.normal_(parameter, std=0.02)
                if name.endswith(("out_proj.weight", "fc2.weight")):
                    parameter.data /= (3 * config.num_layers) ** 0.5
        return decoder.to(self.device)

    @property
    def text_settings(self) -> dict:
        """The text encoder's config: the recipe's sizes, and the tokenizer's special tokens."""
        return {**self.settings.text, "dropout_rate": 0.0, "pad_token_id": 0, "eos_token_id": 1}

    def build_text_encoder(self, corpus: Corpus) -> TextEncoder:
        """A small T5 encoder with a tokenizer made from captions of the training pieces."""
        from transformers import T5Config, T5EncoderModel

        from expotion_cli.music.transformer.t5 import T5Encoder, T5Settings

        folder = self.work / "tokenizer"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "tokenizer.json").is_file():
            rng = np.random.default_rng(0)
            captions = [caption(piece.attributes, rng) for piece in pieces(corpus, corpus.train) for _ in range(2)]
            train_tokenizer(captions, folder / "tokenizer.json", self.settings.text["vocab_size"])
        model = T5Encoder(T5Settings.from_config(self.text_settings))
        # transformers knows how T5 is initialised
        model.load_state_dict(T5EncoderModel(T5Config(**self.text_settings)).state_dict())
        return TextEncoder(model, load_tokenizer(folder)).to(self.device)

    def pretrain(self, corpus: Corpus) -> tuple[MusicDecoder, TextEncoder]:
        """Train decoder and text encoder on captioned music."""
        decoder, text = self.build_decoder(), self.build_text_encoder(corpus)
        setting = self.settings.pretrain
        train = pieces(corpus, corpus.train)
        weights = piece_weights(train, self.settings.corpus["shares"])
        held_out = held_out_crops(corpus, setting["window_steps"])
        _note_baseline(self.work / "pretrain", unigram_baseline(train, held_out))

        def loss_of(rng: np.random.Generator) -> Tensor:
            crops = [draw_crop(train, weights, setting["window_steps"], rng) for _ in range(setting["batch"])]
            return token_loss(*self._predict(decoder, text, crops, rng, setting["text_dropout"]))

        def evaluate() -> dict[str, float]:
            return self._held_out(
                held_out, lambda part: self._predict(decoder, text, part, np.random.default_rng(0), 0.0)
            )

        optimizers = matrix_optimizers([decoder, text], **setting["optimizer"])
        fit(
            {"decoder": decoder, "text": text},
            optimizers,
            loss_of,
            evaluate,
            self.work / "pretrain",
            LoopSettings(**setting["loop"]),
        )
        return decoder, text

    def follow(self, corpus: Corpus, decoder: MusicDecoder, text: TextEncoder) -> JointEmbeddingAdapter:
        """Train the adapter together with decoder and text encoder on pieces written on motion curves."""
        setting = self.settings.follow
        torch.manual_seed(setting["loop"]["seed"])
        adapter = JointEmbeddingAdapter(
            AdapterConfig(dim=decoder.config.dim, streams=EMBEDDED_STREAMS, **self.settings.adapter)
        )
        adapter.to(self.device)
        train = pieces(corpus, corpus.train)
        weights = piece_weights(train, {"composed": 1.0})
        moved = [piece for piece in pieces(corpus, corpus.held_out) if piece.motion is not None]
        held_out = fixed_crops(moved, self.window)

        def condition_of(step: int) -> Tensor:
            rng = step_generator(setting["loop"]["seed"] + 1, step)
            return self.condition_batch(adapter, [_streams_of(draw_crop(train, weights, self.window, rng), rng)])

        if not (self.work / "follow" / "checkpoint.pt").is_file():
            decoder.requires_grad_(False)
            look_at_the_moment(adapter, decoder, condition_of, steps=setting["warm_up_steps"])
        decoder.train().requires_grad_(True)
        text.train().requires_grad_(True)

        def loss_of(rng: np.random.Generator) -> Tensor:
            crops = [draw_crop(train, weights, self.window, rng) for _ in range(setting["batch"])]
            if rng.random() < setting["decoder_alone"]:  # it should also stand without an adapter
                return token_loss(*self._predict(decoder, text, crops, rng, setting["text_dropout"]))
            streams = [drop_streams(_streams_of(c, rng), setting["drop_all"], setting["drop_each"], rng) for c in crops]
            return token_loss(*self._predict(decoder, text, crops, rng, setting["text_dropout"], adapter, streams))

        def evaluate() -> dict[str, float]:
            figures: dict[str, float] = {}
            for name, kind in (("", "own"), ("shuffled_", "shuffled"), ("unseen_", "unseen"), ("off_", "off")):

                def predict(part: Sequence[Crop], kind: str = kind) -> tuple[Tensor, Tensor]:
                    rng = np.random.default_rng(0)
                    streams = None if kind == "off" else _evaluation_streams(part, kind)
                    return self._predict(decoder, text, part, rng, 0.0, None if kind == "off" else adapter, streams)

                figures |= {name + key: value for key, value in self._held_out(held_out, predict).items()}
            return figures | {"gate": adapter.gates.abs().mean().item()}

        optimizers = [
            *matrix_optimizers([decoder, text], **setting["optimizer"]),
            *matrix_optimizers([adapter], **setting["adapter_optimizer"]),
        ]
        modules = {"decoder": decoder, "text": text, "adapter": adapter}
        fit(modules, optimizers, loss_of, evaluate, self.work / "follow", LoopSettings(**setting["loop"]))
        for module in modules.values():
            module.eval().requires_grad_(False)
        return adapter

    def _predict(self, decoder, text, crops, rng, text_dropout, adapter=None, streams=None) -> tuple[Tensor, Tensor]:
        batch = delay_batch(crops, self.device)
        sequences = [text.tokenize(caption(c.attributes, rng)) for c in crops]
        kept = torch.from_numpy(rng.random(len(crops)) >= text_dropout).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            ids, mask = text.pad(sequences, max(len(s) for s in sequences))
            encoded, side = decoder.encode_text(text(ids, mask), mask & kept[:, None]), None
            if adapter is not None:
                side = adapter.side_stream(decoder, self.condition_batch(adapter, streams))
            logits = decoder(batch.inputs, LockstepContext(encoded, side_stream=side))
        return logits, batch.targets

    def condition_batch(self, adapter: JointEmbeddingAdapter, streams: Sequence[dict[str, StepStream]]) -> Tensor:
        """[B, S + 1, D]: streams of a batch, the last row held for the start token's extra position."""
        values, masks = {}, {}
        for name in streams[0]:
            values[name] = torch.from_numpy(np.stack([_hold_last(s[name].values) for s in streams])).to(self.device)
            masks[name] = torch.from_numpy(np.stack([_hold_last(s[name].mask) for s in streams])).to(self.device)
        return adapter.join_streams(values, masks)

    @torch.no_grad()
    def _held_out(self, crops: list[Crop], predict) -> dict[str, float]:
        totals = {"all": [0.0, 0], "onset": [0.0, 0]}
        for start in range(0, len(crops), 16):
            for name, (loss, count) in loss_parts(*predict(crops[start : start + 16])).items():
                totals[name][0] += loss
                totals[name][1] += count
        return {name: loss / max(1, count) for name, (loss, count) in totals.items()}


def _require_same_keys(given: Any, shipped: Any, where: str, path: Path) -> None:
    """A recipe has the shipped one's keys; what goes to functions with defaults may have fewer, or more of theirs."""
    if not isinstance(shipped, dict) or where == "corpus.shares":
        return
    if not isinstance(given, dict):
        raise RecipeError(f"{where} must be a table.", path=path)
    name = where.rpartition(".")[2]
    function = {"loop": LoopSettings, "build": build_corpus, "following": build_corpus}.get(name)
    function = matrix_optimizers if name.endswith("optimizer") else function
    parameters = inspect.signature(function).parameters if function is not None else {}
    own = {
        key: p.default is inspect.Parameter.empty for key, p in parameters.items() if key not in ("folder", "modules")
    }
    needed = dict.fromkeys(shipped, True) if function is None else own
    for key in given:
        if key not in needed:
            raise RecipeError(f"unknown key {f'{where}.{key}'.lstrip('.')!r}{nearest_hint(key, needed)}.", path=path)
        _require_same_keys(given[key], shipped.get(key), f"{where}.{key}".lstrip("."), path)
    for key, is_needed in needed.items():
        if is_needed and key not in given:
            raise RecipeError(f"the key {f'{where}.{key}'.lstrip('.')!r} is missing.", path=path)


@dataclass(frozen=True)
class PieceView:
    """One piece of a corpus: tokens [K, S], attributes and the motion curve [S] it was written on."""

    tokens: np.ndarray
    attributes: dict
    motion: np.ndarray | None = None


def pieces(corpus: Corpus, numbers: Sequence[int]) -> list[PieceView]:
    """The pieces of these numbers."""
    return [PieceView(corpus.piece(n), corpus.attributes[n], corpus.motion(n)) for n in numbers]


def held_out_crops(corpus: Corpus, window: int, limit: int = 48) -> list[Crop]:
    """Fixed crops of whole held-out pieces."""
    return fixed_crops(pieces(corpus, corpus.held_out), window, limit)


def fixed_crops(held_out: Sequence[PieceView], window: int, limit: int = 48) -> list[Crop]:
    """The same crops every time: openings, middles and endings of pieces in turn."""
    crops = []
    for index, piece in enumerate(held_out[:: max(1, len(held_out) // limit)][:limit]):
        room = max(0, piece.tokens.shape[1] - window) // 48
        crops.append(crop(piece, (0, room // 2, room)[index % 3] * 48, window))
    return crops


def drop_streams(
    streams: dict[str, StepStream], drop_all: float, drop_each: float, rng: np.random.Generator
) -> dict[str, StepStream]:
    """Conditioning dropout: all that is seen at once (for guidance) or each sensor alone; the form always stays.

    The drive goes only with all the rest: as long as any sensor sees somebody, there is one.
    """
    everything = rng.random() < drop_all
    result = {}
    for name, stream in streams.items():
        dropped = (name != FORM and everything) or (name not in MADE_HERE and rng.random() < drop_each)
        result[name] = StepStream(stream.values, stream.mask & (not dropped))
    return result


def _streams_of(part: Crop, rng: np.random.Generator) -> dict[str, StepStream]:
    """What sensors see of a crop's motion; a piece that goes its own way was written with nobody seen."""
    if part.motion is None:
        return unseen(part.tokens.shape[1], part.form)
    return synthesise(part.motion, part.tokens, part.attributes, rng, part.form)


def _evaluation_streams(part: Sequence[Crop], kind: str) -> list[dict[str, StepStream]]:
    """Each crop's own streams, its neighbour's ("shuffled"), or none seen ("unseen"); the form is always its own."""
    own = [_streams_of(c, np.random.default_rng(index)) for index, c in enumerate(part)]
    giver = own if kind == "own" else own[1:] + own[:1]
    streams = [{**given, FORM: mine[FORM]} for given, mine in zip(giver, own, strict=True)]
    if kind == "unseen":
        return [drop_streams(s, 1.0, 0.0, np.random.default_rng(0)) for s in streams]
    return streams


def _hold_last(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, rows[-1:]], axis=0)


def _note_baseline(folder: Path, baseline: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_json(folder / "unigram.json", baseline)
