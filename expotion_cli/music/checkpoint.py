"""Reads and writes model folders in the transformers format, and adapters in PEFT's layout.

A folder holds `config.json` and `model.safetensors` (or its shards with an index). Tensors are matched by name, all
of them or none: a missing, foreign or wrongly shaped one is an error that names it. Nothing is executed.

The embedded model uses the same format; instead of an `audio_encoder` its config says `"codec": "notes"`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from expotion_cli import storage
from expotion_cli.errors import WeightsError
from expotion_cli.music.adapter import AdapterConfig, JointEmbeddingAdapter
from expotion_cli.music.decoder import DecoderConfig, MusicDecoder
from expotion_cli.music.text import TextEncoder, load_tokenizer

if TYPE_CHECKING:
    from transformers import EncodecModel

CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
ADAPTER_TYPE = "EXPOTION_JOINT_EMBEDDING"
_PREFIXES = {"decoder.model.decoder.": "", "decoder.lm_heads.": "lm_heads.", "enc_to_dec_proj.": "enc_to_dec_proj."}
_RECOMPUTED = ("embed_positions.weights",)
_TIED = ("encoder.embed_tokens.weight", "shared.weight")


@dataclass(frozen=True)
class Checkpoint:
    """A model folder in memory.

    Attributes:
        config: the folder's `config.json`.
        decoder: in evaluation mode, frozen.
        text: likewise.
        audio: the EnCodec model, or None where the codec is another.
        digest: sha256 over all files that were read.
    """

    config: dict[str, Any]
    decoder: MusicDecoder
    text: TextEncoder
    audio: EncodecModel | None
    digest: str


def load_checkpoint(folder: str | Path, *, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """Load a MusicGen folder in the transformers format.

    The decoder takes `dtype`; text and audio models stay in float32.

    Raises:
        WeightsError: a file or a tensor is missing, damaged, foreign or of another shape.
    """
    folder = Path(folder)
    config = _read_json(folder / CONFIG_FILE)
    files = weight_files(folder)
    tensors = read_tensors(files)
    decoder = MusicDecoder(decoder_config(config, folder)).to(dtype)
    fill(decoder, _decoder_tensors(tensors), files[0])
    text = _load_text(folder, config, tensors, files[0])
    audio = _load_audio(config, tensors, files[0]) if "audio_encoder" in config else None
    known = (*_PREFIXES, "text_encoder.", "audio_encoder.")
    if foreign := [name for name in tensors if not name.startswith(known)]:
        raise WeightsError(f"The tensor {foreign[0]!r} belongs to no part of MusicGen.", path=files[0])
    for module in (decoder, text, audio):
        if module is not None:
            module.to(device).eval().requires_grad_(False)
    tokenizer = [folder / "tokenizer.json"] if (folder / "tokenizer.json").is_file() else []
    digest = storage.digest_of([storage.digest_file(f) for f in (folder / CONFIG_FILE, *files, *tokenizer)])
    return Checkpoint(config, decoder, text, audio, digest)


def decoder_config(config: Mapping[str, Any], folder: Path) -> DecoderConfig:
    """The decoder's sizes from a transformers config.

    Raises:
        WeightsError: a size is missing, or the config asks for something this decoder does not do.
    """
    try:
        part, text = config["decoder"], config["text_encoder"]
        if part.get("scale_embedding") or part.get("activation_function", "gelu") != "gelu":
            raise WeightsError("Scaled embeddings and activations other than gelu are not MusicGen's.", path=folder)
        return DecoderConfig(
            dim=part["hidden_size"],
            num_layers=part["num_hidden_layers"],
            num_heads=part["num_attention_heads"],
            ffn_dim=part["ffn_dim"],
            num_codebooks=part["num_codebooks"],
            vocab_size=part["vocab_size"],
            text_dim=text["d_model"],
        )
    except KeyError as error:
        raise WeightsError(f"The config lacks {error}.", path=folder / CONFIG_FILE) from error


def load_adapter(folder: str | Path, decoder: MusicDecoder) -> tuple[JointEmbeddingAdapter, str]:
    """Load a joint-embedding adapter in PEFT's layout.

    Returns:
        The adapter, frozen, where and as the decoder is; and the sha256 over its files.

    Raises:
        WeightsError: it is no such adapter, or was made for a decoder of another size.
    """
    folder = Path(folder)
    values = _read_json(folder / ADAPTER_CONFIG_FILE)
    if values.get("peft_type") != ADAPTER_TYPE:
        raise WeightsError(
            f"This adapter is of type {values.get('peft_type')!r}, not {ADAPTER_TYPE}.",
            path=folder / ADAPTER_CONFIG_FILE,
        )
    try:
        config = AdapterConfig.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"The adapter's config lacks {error}.", path=folder / ADAPTER_CONFIG_FILE) from error
    if config.dim != decoder.config.dim or config.num_layers > decoder.config.num_layers:
        raise WeightsError(
            f"This adapter is for a decoder of width {config.dim} with at least {config.num_layers} layers, the model "
            f"has {decoder.config.dim} and {decoder.config.num_layers}.",
            path=folder,
            remedy="Choose the adapter that was trained on this model.",
        )
    path = folder / ADAPTER_WEIGHTS_FILE
    adapter = JointEmbeddingAdapter(config)
    fill(adapter, read_tensors([path]), path)
    adapter.to(decoder.device, decoder.dtype).eval().requires_grad_(False)
    digest = storage.digest_of([storage.digest_file(folder / n) for n in (ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE)])
    return adapter, digest


def save_adapter(folder: str | Path, adapter: JointEmbeddingAdapter, base_model: str, dtype: torch.dtype) -> None:
    """Write an adapter in PEFT's layout."""
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in adapter.state_dict().items()}
    storage.write_bytes(folder / ADAPTER_WEIGHTS_FILE, save(tensors, {"format": "pt"}))
    values = {"peft_type": ADAPTER_TYPE, "base_model_name_or_path": base_model, **adapter.config.to_dict()}
    storage.write_json(folder / ADAPTER_CONFIG_FILE, values)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or the shards its index names.

    Raises:
        WeightsError: there are none.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        names = sorted(set(_read_json(folder / INDEX_FILE).get("weight_map", {}).values()))
        if any(Path(name).name != name for name in names):
            raise WeightsError("The index names files outside its folder.", path=folder / INDEX_FILE)
        if names:
            return [folder / name for name in names]
    raise WeightsError(
        f"The folder has no {WEIGHTS_FILE}.", path=folder, remedy="Give a model folder in the transformers format."
    )


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors of safetensors files.

    Raises:
        WeightsError: a file is missing, truncated or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise WeightsError(
                f"The weights can't be read ({error}).", path=path, remedy="Fetch the file again."
            ) from error
    return tensors


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a module, all of them or none.

    Raises:
        WeightsError: a tensor is missing, foreign, of another shape, or holds NaN.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            raise WeightsError(f"The tensor {name!r} is missing.", path=path)
        if tensors[name].shape != tensor.shape:
            raise WeightsError(
                f"The tensor {name!r} has shape {list(tensors[name].shape)}, expected {list(tensor.shape)}.", path=path
            )
        if tensors[name].isnan().any():
            raise WeightsError(f"The tensor {name!r} holds NaN.", path=path, remedy="Fetch the file again.")
    if foreign := [name for name in tensors if name not in own]:
        raise WeightsError(f"The tensor {foreign[0]!r} is not part of this model.", path=path)
    module.load_state_dict(dict(tensors))


def transformers_name(name: str) -> str:
    """A decoder parameter's name in the transformers format; the inverse of how checkpoints are read."""
    for prefix, own in sorted(_PREFIXES.items(), key=lambda item: -len(item[1])):
        if name.startswith(own):
            return prefix + name.removeprefix(own)
    raise AssertionError(name)  # the empty prefix fits every name


def _decoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for prefix, own in _PREFIXES.items():
            if name.startswith(prefix) and not name.endswith(_RECOMPUTED):
                renamed[own + name.removeprefix(prefix)] = tensor
    return renamed


def _load_text(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> TextEncoder:
    from transformers import T5Config, T5EncoderModel

    model = T5EncoderModel(T5Config.from_dict(dict(config["text_encoder"])))
    part = _without_prefix(tensors, "text_encoder.")
    table = next((part[name] for name in _TIED if name in part), None)
    if table is not None:
        part |= dict.fromkeys(_TIED, table)
    own = model.state_dict()
    fill(model, {name: part[name] for name in part if name in own or name not in _TIED}, path)
    return TextEncoder(model, load_tokenizer(folder))


def _load_audio(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> EncodecModel:
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig.from_dict(dict(config["audio_encoder"])))
    part = _without_prefix(tensors, "audio_encoder.")
    own = model.state_dict()
    renamed = {}
    for name, tensor in part.items():
        # Weight norm has two spellings, of before and after torch 2.0.
        modern = name.replace(".weight_g", ".parametrizations.weight.original0").replace(
            ".weight_v", ".parametrizations.weight.original1"
        )
        renamed[modern if modern in own else name] = tensor
    fill(model, renamed, path)
    return model


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"The file can't be read ({error}).", path=path) from error
    if not isinstance(values, dict):
        raise WeightsError("The file holds no settings.", path=path)
    return values
