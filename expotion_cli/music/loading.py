"""Loads what composes: a model by its name or from its files, with what it sees with."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.music.checkpoint import CONFIG_FILE, Checkpoint, load_adapter, load_checkpoint
from expotion_cli.music.codec import Codec
from expotion_cli.music.model import Model
from expotion_cli.weights import find_manifest, read_manifests

NO_ADAPTER = "none"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALL_MODEL_PARAMETERS = 50_000_000


def load_model(
    name: str = "expotion-mini",
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | Path | None = None,
    soundfont: Path | None = None,
) -> Model:
    """Load a model by its manifest's name or from a folder in the transformers format.

    Args:
        name: a manifest in `models/`, or a folder.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1" ...
        dtype: "auto", "fp32", "bf16" or "fp16".
        adapter: an adapter's folder; None for the model's own, "none" for none.
        soundfont: for models that compose notes.

    Raises:
        UnknownNameError: no such model.
        UsageError: no such device or number type.
        WeightsError: weights are missing, damaged or do not fit.
    """
    place = choose_device(device)
    folder, licence, default_adapter = Path(name), "as its source states", None
    if name in read_manifests() or not folder.is_dir():  # a folder that happens to lie here hides no shipped model
        manifest = find_manifest(name, "music")
        manifest.require()
        assert manifest.folder is not None
        folder, licence, default_adapter = manifest.folder, manifest.licence, manifest.adapter
    checkpoint = load_checkpoint(folder, device=place, dtype=_dtype(dtype, place, folder))
    codec = _codec(checkpoint, soundfont, folder)
    if adapter is None:
        chosen, adapter_name = default_adapter, f"{name} (its own)" if default_adapter else None
    elif str(adapter) == NO_ADAPTER:
        chosen, adapter_name = None, None
    else:
        chosen, adapter_name = Path(adapter), str(adapter)
    if chosen is None:
        return Model(name, licence, checkpoint, codec, None, None)
    loaded, digest = load_adapter(chosen, checkpoint.decoder)
    return Model(name, licence, checkpoint, codec, loaded, adapter_name, digest)


def _codec(checkpoint: Checkpoint, soundfont: Path | None, folder: Path) -> Codec:
    if checkpoint.audio is not None:
        from expotion_cli.music.encodec_codec import EncodecCodec

        if soundfont is not None:
            raise UsageError(
                "A soundfont is of use only to models that compose notes.", remedy="Leave --soundfont out."
            )
        return EncodecCodec(checkpoint.audio, checkpoint.decoder.config.num_codebooks, checkpoint.digest)
    if checkpoint.config.get("codec") == "notes":
        from expotion_cli.music.note_codec import NoteCodec

        return NoteCodec(soundfont)
    raise WeightsError("The config names no codec: it has neither an audio_encoder nor codec = notes.", path=folder)


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where there is one.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The device {name!r} can't be used here.", remedy="Use auto or cpu.") from error
    return device


def _dtype(name: str, device: torch.device, folder: Path) -> torch.dtype:
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise UsageError(f"There is no number type {name!r}.", remedy=f"Use auto, {', '.join(DTYPES)}.")
    if device.type == "cpu" and (_num_parameters(folder) < SMALL_MODEL_PARAMETERS or not _has_bf16()):
        return torch.float32
    return torch.bfloat16


def _num_parameters(folder: Path) -> int:
    """The decoder's size, near enough, from its config."""
    try:
        part = json.loads((folder / CONFIG_FILE).read_text())["decoder"]
        return part["num_hidden_layers"] * part["hidden_size"] * (8 * part["hidden_size"] + 2 * part["ffn_dim"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # loading will say what is wrong


def _has_bf16() -> bool:
    # Emulated bf16 is far slower than fp32; torch tells of the real thing only through this private name.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
