"""Exports a trained embedded model as a model folder: weights, adapter, tokenizer, training facts and manifest."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expotion_cli import storage
from expotion_cli.music.checkpoints.adapter_files import save_adapter
from expotion_cli.music.checkpoints.huggingface import CONFIG_FILE, transformers_name
from expotion_cli.music.checkpoints.state_dict import WEIGHTS_FILE
from expotion_cli.music.codecs.notes.metrics import excerpt, five_measures, statistics
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.text import TextEncoder
from expotion_cli.timing import BEATS_PER_BAR, STEPS_PER_BEAT
from expotion_cli.training.logs import read_log
from expotion_cli.training.mini.corpus.build import SOURCES_FILE, Corpus
from expotion_cli.weights.manifest import find_manifest

NAME = "expotion-mini"
STORED = torch.float16
"""Half the size of float32, and closer to the trained weights than bf16."""
TERMS_FILE = "LICENCE-training-music.txt"
PERCENTILES = {"p5": 5, "p10": 10, "p50": 50, "p90": 90, "p95": 95}
STATISTICS_PIECES, EXCERPTS_A_PIECE = 400, 4
EXCERPT_STEPS = (96, 192, 384)
"""Two, four and eight bars: about the length of cues of 5, 10 and 20 seconds."""


def export_mini(
    folder: Path,
    work: Path,
    text_settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    decoder: MusicDecoder,
    text: TextEncoder,
    adapter: JointEmbeddingAdapter,
    terms: Path | None = None,
) -> None:
    """Write the model folder and, beside it, its manifest.

    Args:
        folder: the model folder, e.g. `models/expotion-mini`; its files are replaced.
        work: the work folder, with logs and tokenizer.
        text_settings: the text encoder's T5 configuration.
        facts: about the training, from `training_facts` and `following_facts`.
        decoder: trained.
        text: trained text encoder.
        adapter: trained.
        terms: the licence of music it was trained on, which goes with it; None for own music.

    Raises:
        OSError: a file can't be written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    config = decoder.config
    storage.write_bytes(folder / WEIGHTS_FILE, save(model_tensors(decoder, text), {"format": "pt"}))
    storage.write_json(
        folder / CONFIG_FILE,
        {
            "model_type": "musicgen",
            "codec": "notes",
            "window_steps": adapter.config.window_steps,
            "text_encoder": {"model_type": "t5", **text_settings},
            "decoder": {
                "model_type": "musicgen_decoder",
                "hidden_size": config.dim,
                "num_hidden_layers": config.num_layers,
                "num_attention_heads": config.num_heads,
                "ffn_dim": config.ffn_dim,
                "num_codebooks": config.num_codebooks,
                "vocab_size": config.vocab_size,
                "activation_function": "gelu",
                "scale_embedding": False,
                "pad_token_id": config.start_token,
                "bos_token_id": config.start_token,
            },
        },
    )
    shutil.copyfile(work / "tokenizer" / "tokenizer.json", folder / "tokenizer.json")
    save_adapter(folder / "adapter", adapter, NAME, STORED)
    storage.write_json(folder / "training.json", dict(facts))
    if terms is not None:
        shutil.copyfile(terms, folder / TERMS_FILE)
    write_manifest(folder)


def model_tensors(decoder: MusicDecoder, text: TextEncoder) -> dict[str, Tensor]:
    """All weights by their names in the transformers format, in `STORED` precision."""
    tensors = {}
    for name, tensor in decoder.state_dict().items():
        tensors[transformers_name(name)] = tensor
    for name, tensor in text.model.state_dict().items():
        if name != "encoder.embed_tokens.weight":  # the same table as shared.weight
            tensors["text_encoder." + name] = tensor
    return {name: tensor.detach().to("cpu", STORED).contiguous() for name, tensor in tensors.items()}


def training_facts(work: Path, corpus: Corpus) -> dict[str, Any]:
    """Facts about the first stage, for the model card and the tests: corpus, licences, losses.

    Args:
        work: the work folder.
        corpus: of the first stage.
    """
    return {
        "corpus": {**_corpus_facts(corpus), "scores": _used(work / "corpus")},
        "unigram": storage.read_json(work / "pretrain" / "unigram.json"),
        "pretrain": read_log(work / "pretrain" / "held_out.csv"),
    }


def facts_of_model(name: str) -> dict[str, Any]:
    """Facts about the first stage of the model that a run started from."""
    folder = find_manifest(name, "music").folder
    assert folder is not None
    known = storage.read_json(folder / "training.json")
    earlier = [
        *known.get("earlier", []),
        {key: known[key] for key in ("following", "grooves", "follow") if key in known},
    ]
    return {**{key: known[key] for key in ("corpus", "unigram", "pretrain")}, "earlier": earlier}


def following_facts(work: Path, grooves: Corpus) -> dict[str, Any]:
    """Facts about the second stage: corpus, licences, losses, statistics of its music.

    Args:
        work: the work folder.
        grooves: corpus of the second stage.
    """
    facts = {**_corpus_facts(grooves), "files": _used(work / "grooves")}
    return {"grooves": facts, **music_statistics(grooves), "follow": read_log(work / "follow" / "held_out.csv")}


def _used(folder: Path) -> list[dict[str, Any]]:
    return [source for source in storage.read_json(folder / SOURCES_FILE) if source.get("used")]


def _corpus_facts(corpus: Corpus) -> dict:
    train = [corpus.attributes[n] for n in corpus.train]
    hours = sum(
        corpus.piece(n).shape[1] / STEPS_PER_BEAT / corpus.attributes[n]["tempo_bpm"] / 60 for n in corpus.train
    )
    return {
        "train_pieces": len(corpus.train),
        "held_out_pieces": len(corpus.held_out),
        "train_hours": round(hours, 1),
        "styles": dict(sorted(Counter(a["style"] for a in train).items())),
    }


def music_statistics(corpus: Corpus) -> dict[str, dict]:
    """Percentiles of the training music in all symbolic measures.

    Returns:
        "statistics": measure → percentiles over whole pieces; "statistics_by_steps": the same over excerpts that start
        on bar lines, by their length in steps, for comparison with cues of that length.
    """
    chosen = [corpus.piece(number) for number in corpus.train[:: max(1, len(corpus.train) // STATISTICS_PIECES)]]
    bar, rng = BEATS_PER_BAR * STEPS_PER_BEAT, np.random.default_rng(0)
    by_steps = {}
    for steps in EXCERPT_STEPS:
        excerpts = [
            excerpt(piece, bar * int(rng.integers((piece.shape[1] - steps) // bar + 1)), steps)
            for piece in chosen
            for _ in range(EXCERPTS_A_PIECE)
            if piece.shape[1] >= steps
        ]
        if excerpts:
            by_steps[str(steps)] = _percentiles(excerpts)
    return {"statistics": _percentiles(chosen), "statistics_by_steps": by_steps}


def _percentiles(pieces: Iterable[np.ndarray]) -> dict[str, dict[str, float]]:
    figures: dict[str, list[float]] = {}
    for piece in pieces:
        for key, value in {**statistics(piece), **five_measures(piece)}.items():
            if isinstance(value, int | float) and np.isfinite(value):
                figures.setdefault(key, []).append(value)
    return {
        key: dict(zip(PERCENTILES, np.percentile(values, tuple(PERCENTILES.values())).round(4).tolist(), strict=True))
        for key, values in figures.items()
    }


def write_manifest(folder: Path) -> None:
    """Write the manifest `NAME.toml` beside the folder, with the size and sha256 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    lines = [
        'kind = "music"',
        'title = "Composes notes for eight voices and follows a cue plan, face, pose and flow"',
        'version = "3"',
        'licence = "MIT (weights and music made with them; see the card for the training music)"',
        'source = "trained by this project: expotion train mini"',
        f'folder = "{folder.name}"',
        f'adapter = "{folder.name}/adapter"',
    ]
    for path in files:
        relative = path.relative_to(folder.parent).as_posix()
        lines += [
            "",
            "[[files]]",
            f'path = "{relative}"',
            f"bytes = {path.stat().st_size}",
            f'sha256 = "{storage.digest_file(path)}"',
        ]
    storage.write_bytes(folder.parent / f"{folder.name}.toml", ("\n".join(lines) + "\n").encode())
