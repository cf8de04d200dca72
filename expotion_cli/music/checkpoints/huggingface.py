"""Reads MusicGen and MusicGen Melody: folders in the transformers format, and audiocraft's files (`audiocraft.py`).

A transformers folder holds `config.json` and `model.safetensors` (or its shards with an index). Tensors are matched by
name, all of them or none: one that is missing, unknown or of the wrong shape is an error. Nothing is executed.

The embedded model uses the same format; instead of an `audio_encoder` its config says `"codec": "notes"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from expotion_cli import storage
from expotion_cli.audio.pitch_classes import NUM_CLASSES
from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.audiocraft import is_audiocraft, open_audiocraft
from expotion_cli.music.checkpoints.state_dict import (
    Part,
    Source,
    empty_modules,
    fill,
    read_json,
    read_tensors,
    weight_files,
    without_prefix,
)
from expotion_cli.music.transformer.config import LARGEST_DEPTH, LARGEST_SIZE, DecoderConfig
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.t5 import T5Encoder, T5Settings
from expotion_cli.music.transformer.text import TextEncoder, load_tokenizer

if TYPE_CHECKING:
    from transformers import EncodecModel

CONFIG_FILE = "config.json"
TEXT, AUDIO = "text_encoder.", "audio_encoder."
_PREFIXES = {
    "decoder.model.decoder.": "",
    "decoder.lm_heads.": "lm_heads.",
    "enc_to_dec_proj.": "enc_to_dec_proj.",
    "audio_enc_to_dec_proj.": "audio_enc_to_dec_proj.",
}
MELODY = "musicgen_melody"
"""`model_type` of MusicGen Melody."""
MELODY_FRAMES = 235
"""What a config that leaves the number out means: half a minute."""
_RECOMPUTED = ("embed_positions.weights",)
_TIED = ("encoder.embed_tokens.weight", "shared.weight")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        config: its `config.json`, or the same made from audiocraft's settings.
        decoder: in evaluation mode, frozen.
        text: likewise.
        audio: the EnCodec model, or None for other codecs.
        digest: sha256 over all files that were read (`Source.files`).
    """

    config: dict[str, Any]
    decoder: MusicDecoder
    text: TextEncoder
    audio: EncodecModel | None
    digest: str


def open_checkpoint(path: str | Path) -> Source:
    """Open a checkpoint: read and check its settings, map its tensors without reading them.

    Args:
        path: a folder in the transformers format, or audiocraft's folder or `state_dict.bin`.

    Raises:
        WeightsError: a file is missing or damaged, or its settings ask for what this decoder cannot do.
    """
    path = Path(path)
    return open_audiocraft(path) if is_audiocraft(path) else _open_transformers(path)


def load_checkpoint(
    path: str | Path | Source, *, device: torch.device, dtype: torch.dtype, known: Mapping[Path, str] | None = None
) -> Checkpoint:
    """Load MusicGen from its files.

    The decoder takes `dtype`; text and audio models stay in float32.

    Args:
        path: as in `open_checkpoint`, or what that returned.
        device: of all parts.
        dtype: of the decoder.
        known: sha256 (hex) of files that were just checked, to spare reading them again.

    Raises:
        WeightsError: a file or a tensor is missing, damaged, unknown or of the wrong shape.
    """
    source = path if isinstance(path, Source) else open_checkpoint(path)
    config = source.config
    sizes = decoder_config(config, source.path)
    _check_family(sizes, source)
    with empty_modules():
        decoder = MusicDecoder(sizes)
        # transformers leaves the projection of the text out where nothing has to change its width; audiocraft has it.
        if "enc_to_dec_proj.weight" in source.decoder.tensors:
            decoder.enc_to_dec_proj = nn.Linear(decoder.config.text_dim, decoder.config.dim)
    fill(decoder, source.decoder, device=device, dtype=dtype)
    text = TextEncoder(_load_text(config, source, device), load_tokenizer(source.tokenizer))
    audio = _load_audio(config, source.audio, device) if source.audio is not None else None
    for module in (decoder, text, audio):
        if module is not None:
            module.eval().requires_grad_(False)
    known = known or {}
    digest = storage.digest_of([known.get(file) or storage.digest_file(file) for file in source.files])
    return Checkpoint(config, decoder, text, audio, digest)


def load_audio_model(source: Source, device: torch.device) -> EncodecModel:
    """Load only the EnCodec model of a checkpoint, frozen, in float32.

    Raises:
        WeightsError: the checkpoint has none, or a tensor is missing, damaged, unknown or of the wrong shape.
    """
    if source.audio is None:
        raise WeightsError("The config names no audio_encoder.", path=source.path)
    return _load_audio(source.config, source.audio, device).eval().requires_grad_(False)


def decoder_config(config: Mapping[str, Any], path: Path) -> DecoderConfig:
    """The decoder's sizes from a transformers config.

    Raises:
        WeightsError: a size is missing, or the config asks for what this decoder cannot do.
    """
    try:
        part, text = config["decoder"], config["text_encoder"]
        if part.get("scale_embedding") or part.get("activation_function", "gelu") != "gelu":
            raise WeightsError("Scaled embeddings and activations other than gelu are not MusicGen's.", path=path)
        sizes = {
            "dim": part["hidden_size"],
            "num_layers": part["num_hidden_layers"],
            "num_heads": part["num_attention_heads"],
            "ffn_dim": part["ffn_dim"],
            "num_codebooks": part["num_codebooks"],
            "vocab_size": part["vocab_size"],
            "text_dim": text["d_model"],
            "channels": part.get("audio_channels", 1),
        }
        if config.get("model_type") == MELODY:
            sizes["num_chroma"] = config.get("num_chroma", NUM_CLASSES)
            sizes["melody_frames"] = config.get("chroma_length", MELODY_FRAMES)
        audio_size = config["audio_encoder"]["codebook_size"] if "audio_encoder" in config else None
    except KeyError as error:
        raise WeightsError(f"The config lacks {error}.", path=path) from error
    except (TypeError, AttributeError) as error:
        raise WeightsError(f"The config is of another form ({error}).", path=path) from error
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise WeightsError(f"The config gives {size!r} as {name}, expected a whole number.", path=path)
        if size > (LARGEST_DEPTH if name in ("num_layers", "num_codebooks", "num_heads") else LARGEST_SIZE):
            raise WeightsError(f"The config gives {size} as {name}, more than any model has.", path=path)
    if sizes["dim"] % sizes["num_heads"] or sizes["dim"] % 2:
        raise WeightsError(f"{sizes['num_heads']} heads don't share a width of {sizes['dim']} evenly.", path=path)
    if sizes["channels"] > 2 or sizes["num_codebooks"] % sizes["channels"]:
        raise WeightsError(
            f"{sizes['num_codebooks']} codebooks for {sizes['channels']} channels are not MusicGen's.", path=path
        )
    if sizes.get("num_chroma", NUM_CLASSES) != NUM_CLASSES:
        raise WeightsError(
            f"The config gives {sizes['num_chroma']} pitch classes, MusicGen Melody has {NUM_CLASSES}.", path=path
        )
    if audio_size is not None and audio_size != sizes["vocab_size"]:
        raise WeightsError(
            f"The decoder speaks {sizes['vocab_size']} tokens a codebook, its EnCodec has {audio_size}.", path=path
        )
    return DecoderConfig(**sizes)


def _check_family(sizes: DecoderConfig, source: Source) -> None:
    """Refuse weights of MusicGen under a config of MusicGen Melody, and the reverse."""
    attends = any(".encoder_attn." in name for name in source.decoder.tensors)
    projects = any(name.startswith("audio_enc_to_dec_proj.") for name in source.decoder.tensors)
    remedy = "Take config and weights of the same model."
    if sizes.takes_melody and attends:
        reason = "The config is MusicGen Melody's, but these weights attend to the text as plain MusicGen's do."
        raise WeightsError(reason, path=source.decoder.path, remedy=remedy)
    if projects and not sizes.takes_melody:
        reason = "These weights are MusicGen Melody's, but the config is plain MusicGen's."
        raise WeightsError(reason, path=source.decoder.path, remedy=remedy)


def transformers_name(name: str) -> str:
    """A decoder parameter's name in the transformers format; the inverse of how checkpoints are read."""
    for prefix, own in sorted(_PREFIXES.items(), key=lambda item: -len(item[1])):
        if name.startswith(own):
            return prefix + name.removeprefix(own)
    raise AssertionError(name)  # the empty prefix fits every name


def _open_transformers(folder: Path) -> Source:
    if folder.is_dir() and not (folder / CONFIG_FILE).exists():
        raise WeightsError(
            f"{str(folder)!r} is not a model folder (no {CONFIG_FILE}).",
            remedy="Give a name from expotion models, or a folder in the transformers format.",
        )
    config = read_json(folder / CONFIG_FILE)
    files = weight_files(folder)
    tensors = read_tensors(files)
    if foreign := [name for name in tensors if not name.startswith((*_PREFIXES, TEXT, AUDIO))]:
        raise WeightsError(f"The tensor {foreign[0]!r} belongs to no part of MusicGen.", path=files[0])
    decoder: dict[str, Tensor] = {}
    for prefix, own in _PREFIXES.items():
        for name, tensor in without_prefix(tensors, prefix).items():
            if not name.endswith(_RECOMPUTED):
                decoder[own + name] = tensor
    audio = without_prefix(tensors, AUDIO)
    if audio and "audio_encoder" not in config:
        raise WeightsError(
            f"The tensor {AUDIO + next(iter(audio))!r} has no audio_encoder in the config.", path=files[0]
        )
    tokenizer = [folder / "tokenizer.json"] if (folder / "tokenizer.json").is_file() else []
    return Source(
        config=config,
        path=folder / CONFIG_FILE,
        decoder=Part(decoder, files[0], transformers_name),
        text=Part(without_prefix(tensors, TEXT), files[0], TEXT.__add__),
        audio=Part(audio, files[0], AUDIO.__add__) if "audio_encoder" in config else None,
        tokenizer=folder,
        files=(folder / CONFIG_FILE, *files, *tokenizer),
    )


def _load_text(config: Mapping[str, Any], source: Source, device: torch.device) -> T5Encoder:
    try:
        settings = T5Settings.from_config(config["text_encoder"])
    except ValueError as error:
        raise WeightsError(f"The settings of the text encoder can't be used: {error}.", path=source.path) from error
    with empty_modules():
        model = T5Encoder(settings)
    part, own = source.text, model.state_dict()
    tensors = dict(part.tensors)
    table = next((tensors[name] for name in _TIED if name in tensors), None)
    if table is not None:
        tensors |= dict.fromkeys(_TIED, table)
    kept = {name: tensor for name, tensor in tensors.items() if name in own or name not in _TIED}
    fill(model, Part(kept, part.path, part.written), device=device)
    model.tie_weights()
    return model


def _load_audio(config: Mapping[str, Any], part: Part, device: torch.device) -> EncodecModel:
    from transformers import EncodecConfig, EncodecModel
    from transformers.initialization import no_init_weights

    for name, value in config["audio_encoder"].items():
        if _largest(value) > (LARGEST_DEPTH if "layers" in name else LARGEST_SIZE):
            raise WeightsError(f"The config of EnCodec gives {name} a size that no model has.", path=part.path)
    try:
        settings = EncodecConfig.from_dict(dict(config["audio_encoder"]))
    except Exception as error:  # transformers' configs raise whatever their validation library raises
        reason = str(error).splitlines()[0]
        raise WeightsError(f"The settings of EnCodec can't be used ({reason}).", path=part.path) from error
    with no_init_weights():
        model = EncodecModel(settings)  # not on `meta`: it computes with numbers that no file holds
    own = model.state_dict()
    renamed, written = {}, {}
    for name, tensor in part.tensors.items():
        # Weight norm has two spellings, of before and after torch 2.0.
        modern = name.replace(".weight_g", ".parametrizations.weight.original0").replace(
            ".weight_v", ".parametrizations.weight.original1"
        )
        kept = modern if modern in own else name
        renamed[kept], written[kept] = tensor, name
    fill(model, Part(renamed, part.path, lambda name: part.written(written.get(name, name))), device=device)
    return model.to(device)


def _largest(value: Any) -> float:
    """The largest number of a setting, or of how many it has."""
    if isinstance(value, list):
        return max([len(value), *map(_largest, value)])
    return value if isinstance(value, int | float) else 0
