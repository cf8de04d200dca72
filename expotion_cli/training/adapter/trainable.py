"""What is trained: the joint-embedding adapter and PEFT's LoRA, new or loaded; their optimisers; saving a LoRA."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from expotion_cli import storage
from expotion_cli.declare import nearest_hint
from expotion_cli.errors import UsageError
from expotion_cli.music.checkpoints.adapter_files import (
    ADAPTER_CONFIG_FILE,
    ADAPTER_WEIGHTS_FILE,
    KNOWN_WIDTHS,
    load_adapter,
)
from expotion_cli.music.conditioning import EMBEDDED_STREAMS, MADE_HERE
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.training.optimizers import BETAS, muon_and_adamw
from expotion_cli.training.settings import MUON, AdapterSettings, LoraSettings, TrainSettings

if TYPE_CHECKING:
    from peft import PeftModel

_NAMED = {spec.name: spec for spec in EMBEDDED_STREAMS}


DataStreams = Mapping[str, Mapping[str, Any]]
"""The data's streams by name, as `DataFolder.streams` gives them."""


def choose_specs(chosen: Sequence[str], data_streams: DataStreams) -> tuple[StreamSpec, ...]:
    """The streams a new adapter reads, with their dimensions.

    Args:
        chosen: the recipe's `adapter.streams`, as "pose" or "raft:256"; empty for all that the data hold.
        data_streams: what the data hold.

    Raises:
        UsageError: a stream is unknown, or the data hold it at another width.
    """
    specs = []
    for text in chosen or data_streams:
        name, _, width = text.partition(":")
        dims = data_streams.get(name, {}).get("dims")
        if name in _NAMED:
            spec = _NAMED[name]
            if width:
                raise UsageError(f"{name} is read by the names of its dimensions and takes no width ({text!r}).")
            absent = [dim for dim in spec.dims if dims is not None and dim not in dims]
            if absent and name not in MADE_HERE:
                raise UsageError(f"The data's {name} has no dimension {absent[0]}.", remedy="Prepare the data again.")
        else:
            known = next((len(s.dims) for specs in KNOWN_WIDTHS.values() for s in specs if s.name == name), None)
            size = int(width) if width.isdecimal() else len(dims) if dims is not None else known
            if size is None or (width and not width.isdecimal()):
                names = [*_NAMED, *data_streams]
                raise UsageError(
                    f"adapter.streams: {text!r} is neither in the data nor known{nearest_hint(name, names)}.",
                    remedy=f"The data hold: {', '.join(data_streams) or 'no streams'}.",
                )
            if dims is not None and len(dims) != size:
                raise UsageError(
                    f"The data's {name} is {len(dims)} wide, the recipe says {size}.",
                    remedy="Prepare the data with the features you mean, or correct adapter.streams.",
                )
            spec = StreamSpec.numbered(name, size)
        specs.append(spec)
    if not specs:
        raise UsageError(
            "The data hold neither pictures nor features.", remedy="Train with --recipe synthetic, or prepare videos."
        )
    return tuple(specs)


def new_adapter(
    settings: AdapterSettings, specs: tuple[StreamSpec, ...], decoder: MusicDecoder, seed: int
) -> JointEmbeddingAdapter:
    """Make a new adapter on the decoder's device, in float32, with seeded weights.

    Args:
        settings: the recipe's [adapter] table.
        specs: streams that it reads.
        decoder: that it adapts.
        seed: of its initial weights.

    Raises:
        UsageError: the recipe adapts more layers than the model has.
    """
    config = decoder.config
    if settings.layers > config.num_layers:
        raise UsageError(
            f"adapter.layers = {settings.layers}, but the model has {config.num_layers} layers.",
            remedy="Use 0 for all of them.",
        )
    torch.manual_seed(seed)
    adapter = JointEmbeddingAdapter(
        AdapterConfig(config.dim, settings.layers or config.num_layers, settings.rank, settings.window_steps, specs)
    )
    adapter.gates.data.fill_(settings.gate_start)
    return adapter.to(decoder.device)


def load_initial_adapter(
    path: Path, decoder: MusicDecoder, data_streams: DataStreams, *, allow_synthetic: bool
) -> tuple[JointEmbeddingAdapter, str]:
    """Load an adapter to continue from.

    Args:
        path: its folder, or a released `.pth` file.
        decoder: that it adapts.
        data_streams: what the data hold.
        allow_synthetic: streams that can be synthesised may be missing from the data.

    Returns:
        The adapter in float32, with gradients on; and the sha256 (hex) over its files.

    Raises:
        UsageError: the data lack a stream that it reads, or hold it at another width.
        WeightsError: it is damaged, or was trained for another model.
    """
    adapter, digest = load_adapter(path, decoder)
    for spec in adapter.config.streams:
        dims = data_streams.get(spec.name, {}).get("dims")
        if dims is None and spec.name not in MADE_HERE and not (allow_synthetic and spec.name in _NAMED):
            raise UsageError(f"The adapter reads {spec.name}, which the data do not hold.", path=path)
        if dims is not None and spec.is_numbered and len(dims) != len(spec.dims):
            raise UsageError(
                f"The adapter reads {len(spec.dims)} dimensions of {spec.name}, the data hold {len(dims)}.",
                path=path,
                remedy="Prepare the data with the features it was trained on.",
            )
    return adapter.to(torch.float32).requires_grad_(True), digest


def add_lora(settings: LoraSettings, decoder: MusicDecoder, seed: int) -> PeftModel:
    """Insert a LoRA (Hu et al. 2022) into the decoder, in float32; from now on the decoder computes with it.

    Args:
        settings: the recipe's [lora] table.
        decoder: changed in place.
        seed: of the LoRA's initial weights.

    Returns:
        PEFT's wrapper of the decoder, which can switch the LoRA off and save it.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed + 1)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        bias="none",
    )
    adapted = get_peft_model(decoder, config)
    for parameter in lora_parameters(decoder).values():
        parameter.data = parameter.data.float()
    return adapted


def lora_parameters(decoder: MusicDecoder) -> dict[str, nn.Parameter]:
    """The LoRA's parameters in a decoder, by their names there."""
    return {name: p for name, p in decoder.named_parameters() if ".lora_" in name}


class ParameterBundle(nn.Module):
    """A module of parameters that belong to other modules, so that a checkpoint holds these parameters only."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]):
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name.replace(".", "/"), parameter)


def make_optimizers(
    settings: TrainSettings, adapter: JointEmbeddingAdapter | None, lora: nn.Module | None
) -> list[torch.optim.Optimizer]:
    """Optimisers for what is trained: AdamW (Loshchilov & Hutter 2019), or Muon and AdamW for the adapter.

    Args:
        settings: the recipe's [train] table.
        adapter: None if it is not trained.
        lora: None if it is not trained; its optimiser is always AdamW.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizers: list[torch.optim.Optimizer] = []
    gate_rate = settings.gate_learning_rate or rate
    if adapter is not None and settings.optimizer == MUON:
        optimizers += muon_and_adamw([adapter], matrix_lr=rate, other_lr=rate, weight_decay=decay, gate_lr=gate_rate)
    elif adapter is not None:
        others = [parameter for name, parameter in adapter.named_parameters() if name != "gates"]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": [adapter.gates], "lr": gate_rate}]
        optimizers.append(torch.optim.AdamW(groups, lr=rate, weight_decay=decay))
    if lora is not None:
        optimizers.append(
            torch.optim.AdamW(
                lora.parameters(), lr=settings.lora_learning_rate or rate, weight_decay=decay, betas=BETAS
            )
        )
    return optimizers


def save_lora(folder: Path, adapted: PeftModel, base_model: str) -> None:
    """Write a LoRA in PEFT's format, each file whole or not at all.

    Args:
        folder: gets the weights and their configuration.
        adapted: from `add_lora`.
        base_model: name to state in the configuration.

    Raises:
        OSError: it can't be written.
    """
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base_model
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".lora.") as temporary:
        adapted.save_pretrained(temporary, save_embedding_layers=False)  # the default needs a transformers config
        for name in (ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE):
            storage.write_bytes(folder / name, (Path(temporary) / name).read_bytes())
