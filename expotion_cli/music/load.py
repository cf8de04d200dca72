"""Loads a model by its name or from its files, with its adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch

from expotion_cli import storage
from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.music.acestep_backbone import is_acestep, load_acestep
from expotion_cli.music.checkpoints.adapter_files import ADAPTER_TYPE, adapter_type, load_adapter
from expotion_cli.music.checkpoints.huggingface import Checkpoint, decoder_config, load_checkpoint, open_checkpoint
from expotion_cli.music.checkpoints.lora import LORA_TYPE, merge_lora
from expotion_cli.music.checkpoints.state_dict import Source
from expotion_cli.music.codecs.codec import Codec
from expotion_cli.music.identity import MELODIST, MINI
from expotion_cli.music.melody import takes_no_melody
from expotion_cli.music.model import Model
from expotion_cli.weights.manifest import find_manifest, read_manifests

NO_ADAPTER = "none"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALL_MODEL_PARAMETERS = 50_000_000


def load_model(
    name: str = "expotion-mini",
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | Path | Sequence[str | Path] | None = None,
    soundfont: Path | None = None,
    melody: str | None = None,
) -> Model:
    """Load a model by its manifest's name or from its files.

    >>> import expotion_cli as expotion
    >>> model = expotion.load_model("expotion-mini", device="cpu")
    >>> sorted(model.streams)
    ['face', 'flow', 'pose']

    Args:
        name: a manifest in `models/`, a hub id that one names, a folder in the transformers format, audiocraft's
            folder or `state_dict.bin`, or a folder of ACE-Step in diffusers' format.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1" ...
        dtype: "auto", "fp32", "bf16" or "fp16".
        adapter: one or more of: a joint-embedding adapter's folder or `.pth` file (at most one; it takes the place of
            the model's own), LoRA folders (merged into the weights), "none" for no joint-embedding adapter.
        soundfont: an .sf2 or .sf3 file, for models that compose notes; None for the one that ships with the package.
        melody: "mini" to have the embedded model compose the melodies that this model plays (`Model.melodist`).

    Raises:
        UnknownNameError: there is no such model.
        UsageError: there is no such device or dtype, the adapters exclude each other, or the model takes no melody.
        WeightsError: weights are missing or damaged, or do not fit together.
    """
    place = choose_device(device)
    path, licence, default_adapter = Path(name), "as its source states", None
    checked: dict[Path, str] = {}
    if name in read_manifests() or not path.exists():  # a path of the same name does not hide a shipped model
        manifest = find_manifest(name, "music")
        checked = manifest.require()
        assert manifest.folder is not None
        path, licence, default_adapter = manifest.folder, manifest.licence, manifest.adapter
    joint, loras = _sort_adapters([adapter] if isinstance(adapter, str | Path) else adapter or [], default_adapter)
    if is_acestep(path):
        if joint is not None or loras:
            raise UsageError("ACE-Step takes no adapter.", remedy="Leave --adapter out.")
        _require_notes(soundfont)
        kind = _dtype(dtype, place, is_small=lambda: False)
        made = load_acestep(path, name=name, licence=licence, device=place, dtype=kind, known=checked)
        return cast("Model", made)  # it has all that the ladder needs of a model
    source = open_checkpoint(path)
    kind = _dtype(dtype, place, is_small=lambda: _is_small(source))
    checkpoint = load_checkpoint(source, device=place, dtype=kind, known=checked)
    codec = _codec(checkpoint, soundfont, path)
    # LoRAs are merged first: side streams and packed matrices are made from the merged weights.
    digests, names = [merge_lora(lora, checkpoint.decoder) for lora in loras], [str(lora) for lora in loras]
    loaded = None
    if joint is not None:
        loaded, digest = load_adapter(joint, checkpoint.decoder)
        digests.insert(0, digest)
        names.insert(0, f"{name} (its own)" if joint is default_adapter else str(joint))
    digest = digests[0] if len(digests) == 1 else storage.digest_of(digests) if digests else ""
    melodist = None
    if melody is not None:
        if melody != MINI:
            raise UsageError(f"No model called {melody!r} composes melodies.", remedy=f"Use {MINI}.")
        if not checkpoint.decoder.config.takes_melody:
            raise takes_no_melody(name)
        melodist = load_model(MELODIST, device=device)
    return Model(name, licence, checkpoint, codec, loaded, " + ".join(names) or None, digest, melodist)


def _sort_adapters(given: Sequence[str | Path], own: Path | None) -> tuple[Path | None, list[Path]]:
    """(the joint-embedding adapter, if any; the LoRAs)."""
    joint: list[Path | None] = []
    loras: list[Path] = []
    for path in map(Path, given):
        kind = None if str(path) == NO_ADAPTER else adapter_type(path)
        if kind not in (None, ADAPTER_TYPE, LORA_TYPE):
            raise WeightsError(f"This adapter is of type {kind!r}, not {ADAPTER_TYPE} or {LORA_TYPE}.", path=path)
        if kind == LORA_TYPE:
            loras.append(path)
        else:
            joint.append(path if kind else None)
    if len(joint) > 1:
        raise UsageError(
            f"The adapters {' and '.join(str(path or NO_ADAPTER) for path in joint[:2])} exclude each other.",
            remedy="Give at most one joint-embedding adapter or none, and any number of LoRAs.",
        )
    return (joint[0] if joint else own), loras


def _codec(checkpoint: Checkpoint, soundfont: Path | None, folder: Path) -> Codec:
    if checkpoint.audio is not None:
        from expotion_cli.music.codecs.encodec import EncodecCodec

        _require_notes(soundfont)
        return EncodecCodec(checkpoint.audio, checkpoint.decoder.config.num_codebooks, checkpoint.digest)
    if checkpoint.config.get("codec") == "notes":
        from expotion_cli.music.codecs.notes.codec import NoteCodec
        from expotion_cli.music.codecs.notes.judge import NoteJudge

        return NoteCodec(soundfont, NoteJudge.of_model(folder))
    raise WeightsError("The config names no codec: it has neither an audio_encoder nor codec = notes.", path=folder)


def _require_notes(soundfont: Path | None) -> None:
    if soundfont is not None:
        raise UsageError("A soundfont is of use only to models that compose notes.", remedy="Leave --soundfont out.")


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where there is one.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"There is no device {name!r}.", remedy="Use --device auto, cpu, cuda or cuda:N.") from error
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        count = torch.cuda.device_count()
        if device.type != "cuda":
            reason = f"The device {name!r} can't be used here."
        else:
            reason = (
                f"There is no GPU {name}: there are {count}, from cuda:0 on." if count else "No CUDA GPU was found."
            )
        raise UsageError(reason, remedy="Use --device cpu.") from error
    return device


def _dtype(name: str, device: torch.device, is_small: Callable[[], bool]) -> torch.dtype:
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise UsageError(f"There is no number type {name!r}.", remedy=f"Use auto, {', '.join(DTYPES)}.")
    if device.type == "cpu" and (not has_bf16() or is_small()):
        return torch.float32
    return torch.bfloat16


def _is_small(source: Source) -> bool:
    sizes = decoder_config(source.config, source.path)
    return sizes.num_layers * sizes.dim * (8 * sizes.dim + 2 * sizes.ffn_dim) < SMALL_MODEL_PARAMETERS


def has_bf16() -> bool:
    """Whether this processor computes bf16 by itself."""
    # Emulated bf16 is far slower than fp32; torch tells of the real thing only through this private name.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
