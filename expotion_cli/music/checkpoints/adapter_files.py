"""Reads and writes joint-embedding adapters: PEFT's folder layout, and the `.pth` files EXPOTION's authors released.

A folder holds `adapter_config.json` (with `"peft_type": "EXPOTION_JOINT_EMBEDDING"`, the sizes and the streams) and
`adapter_model.safetensors`. A released file is a torch file with the tensors alone: `pos_emb`, `ld_proj.weight`,
`merge_linear.N.weight`, `gates` and, in older runs, `masked_embedding`. Sizes follow from the shapes; the streams'
names do not. Known widths get the names in `KNOWN_WIDTHS`. For others, a file of the same name with `.json` appended
(`adapter.pth.json`) lists the streams in the order of their concatenation:

    {"streams": [{"name": "facenet", "width": 512}, {"name": "synchformer", "width": 768}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expotion_cli import storage
from expotion_cli.errors import WeightsError
from expotion_cli.music.checkpoints.safe_torch import read_torch_file
from expotion_cli.music.checkpoints.state_dict import Part, empty_modules, fill, read_json, read_tensors
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.decoder import MusicDecoder

ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
ADAPTER_TYPE = "EXPOTION_JOINT_EMBEDDING"
KNOWN_WIDTHS: dict[int, tuple[StreamSpec, ...]] = {
    256: (StreamSpec.numbered("raft", 256),),
    512: (StreamSpec.numbered("facenet", 512),),
    768: (StreamSpec.numbered("synchformer", 768),),
    1280: (StreamSpec.numbered("facenet", 512), StreamSpec.numbered("synchformer", 768)),
}
"""Width D of a released adapter's input → the streams of the run with that width."""
_MASKED = "masked_embedding"


def adapter_type(path: Path) -> str:
    """An adapter's `peft_type`: "EXPOTION_JOINT_EMBEDDING", "LORA" ...

    Raises:
        WeightsError: there is nothing at this path, or it is not an adapter.
    """
    if path.is_file():
        return ADAPTER_TYPE
    if not path.is_dir():
        raise WeightsError("There is no adapter at this path.", path=path, remedy="Give its folder, or a .pth file.")
    kind = read_json(path / ADAPTER_CONFIG_FILE).get("peft_type")
    return str(kind)


def load_adapter(path: str | Path, decoder: MusicDecoder) -> tuple[JointEmbeddingAdapter, str]:
    """Load a joint-embedding adapter.

    Args:
        path: a folder in PEFT's layout, or a released `.pth` file.
        decoder: the one it was trained on.

    Returns:
        The adapter, frozen, with the decoder's device and dtype; and its digest, sha256 over its files.

    Raises:
        WeightsError: it is another kind of adapter, is damaged, or is for a decoder of another size.
    """
    path = Path(path)
    config, part, files = _open_released(path) if path.is_file() else _open_folder(path)
    if config.dim != decoder.config.dim or config.num_layers > decoder.config.num_layers:
        raise WeightsError(
            f"This adapter is for a decoder of width {config.dim} with at least {config.num_layers} layers, the model "
            f"has {decoder.config.dim} and {decoder.config.num_layers}.",
            path=path,
            remedy="Choose the adapter that was trained on this model.",
        )
    with empty_modules():
        adapter = JointEmbeddingAdapter(config)
    fill(adapter, part, device=decoder.device, dtype=decoder.dtype)
    adapter.eval().requires_grad_(False)
    return adapter, storage.digest_of([storage.digest_file(file) for file in files])


def released_streams(path: Path) -> tuple[StreamSpec, ...]:
    """The streams a released `.pth` file was trained on, without loading its tensors.

    Raises:
        WeightsError: it is another kind of file, or damaged.
    """
    return _open_released(path)[0].streams


def save_adapter(folder: str | Path, adapter: JointEmbeddingAdapter, base_model: str, dtype: torch.dtype) -> None:
    """Write an adapter in PEFT's layout.

    Args:
        folder: where its two files go.
        adapter: trained here, or loaded.
        base_model: name or path of the model it is for.
        dtype: of the saved tensors.
    """
    from safetensors.torch import save

    folder = Path(folder)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in adapter.state_dict().items()}
    storage.write_bytes(folder / ADAPTER_WEIGHTS_FILE, save(tensors, {"format": "pt"}))
    values = {"peft_type": ADAPTER_TYPE, "base_model_name_or_path": base_model, **adapter.config.to_dict()}
    storage.write_json(folder / ADAPTER_CONFIG_FILE, values)


def _open_folder(folder: Path) -> tuple[AdapterConfig, Part, list[Path]]:
    settings, weights = folder / ADAPTER_CONFIG_FILE, folder / ADAPTER_WEIGHTS_FILE
    values = read_json(settings)
    if values.get("peft_type") != ADAPTER_TYPE:
        raise WeightsError(f"This adapter is of type {values.get('peft_type')!r}, not {ADAPTER_TYPE}.", path=settings)
    try:
        config = AdapterConfig.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"The adapter's config can't be used: {_said(error)}.", path=settings) from error
    if min(config.dim, config.num_layers, config.rank, config.window_steps, config.input_dim) < 1:
        raise WeightsError("The adapter's config has a size of 0.", path=settings)
    return config, Part(read_tensors([weights]), weights), [settings, weights]


def _open_released(path: Path) -> tuple[AdapterConfig, Part, list[Path]]:
    values = read_torch_file(path)
    if isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    tensors = {str(name).removeprefix("module."): value for name, value in values.items()}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{name!r} is a {type(value).__name__}, expected a tensor.", path=path)
    rows, steps, dim = _shape(tensors, "pos_emb", "[N + 1, steps + 1, d]", path)
    rank, width = _shape(tensors, "ld_proj.weight", "[r, D]", path)
    if rows < 2 or steps < 2:
        raise WeightsError(f"The tensor 'pos_emb' has shape {[rows, steps, dim]}, expected more rows.", path=path)
    beside = path.with_name(path.name + ".json")
    streams = _streams(width, path, beside)
    try:
        config = AdapterConfig(dim=dim, num_layers=rows - 1, rank=rank, window_steps=steps - 1, streams=streams)
    except ValueError as error:
        raise WeightsError(f"The adapter can't be used: {error}.", path=path) from error
    if "gates" in tensors and tensors["gates"].numel() == config.num_layers:
        tensors["gates"] = tensors["gates"].reshape(-1)
    tensors |= _missing_rows(tensors.pop(_MASKED, None), streams, path)
    return config, Part(tensors, path), [path, *([beside] if beside.is_file() else [])]


def _said(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _shape(tensors: Mapping[str, Tensor], name: str, expected: str, path: Path) -> list[int]:
    if name not in tensors:
        raise WeightsError(f"The tensor {name!r} is missing, expected {expected}.", path=path)
    shape = list(tensors[name].shape)
    if len(shape) != expected.count(",") + 1:
        raise WeightsError(f"The tensor {name!r} has shape {shape}, expected {expected}.", path=path)
    return shape


def _streams(width: int, path: Path, beside: Path) -> tuple[StreamSpec, ...]:
    if not beside.is_file():
        if width in KNOWN_WIDTHS:
            return KNOWN_WIDTHS[width]
        known = ", ".join(f"{w} ({' + '.join(s.name for s in specs)})" for w, specs in KNOWN_WIDTHS.items())
        raise WeightsError(
            f"The tensor 'ld_proj.weight' takes {width} numbers, which tells no stream; known are {known}.",
            path=path,
            remedy=f'Name them in {beside.name} beside it: {{"streams": [{{"name": "...", "width": {width}}}]}}.',
        )
    values: Any = read_json(beside).get("streams")
    try:
        streams = tuple(StreamSpec.numbered(str(s["name"]), int(s["width"])) for s in values)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"The streams are of another form ({error!r}).", path=beside) from error
    names = {s.name for s in streams}
    if sum(len(s.dims) for s in streams) != width or len(names) < len(streams) or not all(map(str.isidentifier, names)):
        raise WeightsError(
            f"The streams' widths must add up to {width}, what 'ld_proj.weight' of {path.name} takes, under different "
            "names of letters.",
            path=beside,
        )
    return streams


def _missing_rows(masked: Tensor | None, streams: tuple[StreamSpec, ...], path: Path) -> dict[str, Tensor]:
    """The learned row of each stream: from `masked_embedding`, of all streams together or of the one it fits, or 0."""
    rows = {s.name: torch.zeros(len(s.dims)) for s in streams}
    if masked is not None:
        fitting = [s.name for s in streams if len(s.dims) == masked.numel()]
        if masked.numel() == sum(len(s.dims) for s in streams):
            parts = masked.flatten().split([len(s.dims) for s in streams])
            rows = dict(zip(rows, parts, strict=True))
        elif len(fitting) == 1:
            rows[fitting[0]] = masked.flatten()
        else:
            raise WeightsError(
                f"The tensor {_MASKED!r} has shape {list(masked.shape)}, which is the width of none of the streams "
                f"{', '.join(rows)}.",
                path=path,
            )
    return {f"missing.{name}": row for name, row in rows.items()}
