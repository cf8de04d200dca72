"""Pretrained networks, through transformers: CLAP for embeddings and words, AST for sound events.

Their weights are not part of this package. They come from a folder of the user's or from the hub's cache on this
machine; the network is asked only where the user says so. Nothing in their files is executed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation.outputs import SAMPLE_RATE
from expotion_cli.media.sound import resample, to_mono
from expotion_cli.storage import digest_file, parse_json, read_text

CLAP, AST = "laion/clap-htsat-unfused", "MIT/ast-finetuned-audioset-10-10-0.4593"
CLAP_WINDOW_S, CLAP_HOP_S = 5.0, 2.5
AST_WINDOW_S, AST_HOP_S = 10.0, 5.0
_BATCH = 8


@dataclass(frozen=True)
class WeightsSource:
    """Where weights are looked for.

    Attributes:
        folder: holds a model's files, or one folder a model; None for the hub's cache alone.
        download: fetch from the hub what is not here.
    """

    folder: Path | None = None
    download: bool = False


class Clap:
    """Embeds sound and text in one space.

    Args:
        where: the weights.

    Raises:
        WeightsError: they are not here, or damaged.
    """

    def __init__(self, where: WeightsSource):
        place = _place(CLAP, "clap", where)
        from transformers import ClapModel, ClapProcessor

        self.model, self._processor, self.identity = _load(CLAP, place, ClapModel, ClapProcessor, where)
        self._rate = int(self._processor.feature_extractor.sampling_rate)

    def windows(self, audio: np.ndarray) -> np.ndarray:
        """[windows, D] float64 of unit length: 5 s of sound each, every 2.5 s."""
        import torch

        parts = _windows(_mono(audio, self._rate), self._rate, CLAP_WINDOW_S, CLAP_HOP_S)
        rows = []
        for first in range(0, len(parts), _BATCH):
            batch = self._processor.feature_extractor(
                parts[first : first + _BATCH], sampling_rate=self._rate, return_tensors="pt"
            )
            with torch.inference_mode():
                rows.append(_features(self.model.get_audio_features(**batch)))
        return _unit(np.concatenate(rows))

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, D] float64 of unit length."""
        import torch

        batch = self._processor.tokenizer(
            list(texts), padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        with torch.inference_mode():
            return _unit(_features(self.model.get_text_features(**batch)))


class Ast:
    """Classifies sound (AudioSet's classes).

    Args:
        where: the weights.

    Raises:
        WeightsError: they are not here, or damaged.
    """

    def __init__(self, where: WeightsSource):
        place = _place(AST, "audio-spectrogram-transformer", where)
        from transformers import ASTFeatureExtractor, ASTForAudioClassification

        loaded = _load(AST, place, ASTForAudioClassification, ASTFeatureExtractor, where)
        self.model, self._extractor, self.identity = loaded
        self._rate = int(self._extractor.sampling_rate)

    def labels(self, audio: np.ndarray) -> np.ndarray:
        """[C] float64, a distribution: the softmax over the classes, mean over windows of 10 s, every 5 s."""
        import torch

        parts = _windows(_mono(audio, self._rate), self._rate, AST_WINDOW_S, AST_HOP_S)
        rows = []
        for first in range(0, len(parts), _BATCH):
            batch = self._extractor(parts[first : first + _BATCH], sampling_rate=self._rate, return_tensors="pt")
            with torch.inference_mode():
                rows.append(torch.softmax(self.model(**batch).logits.double(), dim=-1).numpy())
        return np.concatenate(rows).mean(axis=0)


def _load(repo: str, place: str, model_class: Any, tools_class: Any, where: WeightsSource) -> tuple[Any, Any, str]:
    from transformers.utils import logging

    options = {"local_files_only": place != repo or not where.download, "trust_remote_code": False}
    # The libraries' own warnings and bars would stand in the middle of a table.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tools = tools_class.from_pretrained(place, **options)
        model, told = model_class.from_pretrained(place, **options, weights_only=True, output_loading_info=True)
    except Exception as error:
        if place == repo and isinstance(error, OSError):
            raise _absent(repo, where.download) from error
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"the weights of {repo} can't be read ({first[:160]}).", path=place) from error
    if told.get("missing_keys"):
        raise WeightsError(f"the weights of {repo} are not whole: {min(told['missing_keys'])} is missing.")
    return model.eval(), tools, _identity(repo, place, model)


def _place(repo: str, kind: str, where: WeightsSource) -> str:
    """The folder with a model's files, or its name on the hub.

    Raises:
        WeightsError: it is neither in the folder nor in the hub's cache, and must not be fetched.
    """
    folder = where.folder
    for candidate in () if folder is None else (folder / repo, folder / repo.partition("/")[2], folder):
        try:
            config = parse_json(read_text(candidate / "config.json"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict) and config.get("model_type") == kind:
            return str(candidate)
    from huggingface_hub import try_to_load_from_cache

    # Asked first, because importing the networks takes long.
    if not where.download and not isinstance(try_to_load_from_cache(repo, "config.json"), str):
        raise _absent(repo, where.download)
    return repo


def _absent(repo: str, download: bool) -> WeightsError:
    if download:
        is_offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")
        reason = "HF_HUB_OFFLINE forbids to ask the hub for it" if is_offline else "the hub did not give it"
        return WeightsError(f"needs {repo}, and {reason}", remedy="(give --weights FOLDER)")
    return WeightsError(f"needs {repo}", remedy=f"(run: hf download {repo}; or give --weights FOLDER, or --download)")


def _identity(repo: str, place: str, model: Any) -> str:
    """Which weights these are: the commit the cache knows, or the digest of a folder's file."""
    if commit := getattr(model.config, "_commit_hash", None):
        return f"{repo}@{commit}"
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (Path(place) / name).is_file():
            return f"{repo}, sha256 {digest_file(Path(place) / name)}"
    return repo


def _features(output: Any) -> np.ndarray:
    pooled = output if hasattr(output, "numpy") else output.pooler_output
    return pooled.double().numpy()


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _mono(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    return resample(to_mono(audio), SAMPLE_RATE, sample_rate)[0]


def _windows(mono: np.ndarray, sample_rate: int, window_s: float, hop_s: float) -> list[np.ndarray]:
    """Windows that lie wholly inside; shorter sound is one window."""
    size, hop = round(window_s * sample_rate), round(hop_s * sample_rate)
    starts = range(0, max(1, len(mono) - size + 1), hop)
    return [mono[start : start + size] for start in starts]
