"""What is trained: the joint-embedding adapter and PEFT's LoRA, made anew or taken up, and how they are written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from expotion_cli import storage
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
from expotion_cli.recipe import nearest_hint
from expotion_cli.training.loop import matrix_optimizers
from expotion_cli.training.settings import MUON, AdapterPart, LoraPart, TrainPart

if TYPE_CHECKING:
    from peft import PeftModel

_BETAS = (0.9, 0.98)
_NAMED = {spec.name: spec for spec in EMBEDDED_STREAMS}


def choose_specs(wanted: Sequence[str], held: Mapping[str, Mapping[str, Any]]) -> tuple[StreamSpec, ...]:
    """The streams an adapter reads, with their dimensions.

    Args:
        wanted: from the recipe, as "pose" or "raft:256"; empty for all that the data hold.
        held: the data's streams, from `DataFolder.streams`.

    Raises:
        UsageError: a stream is unknown, or the data hold it at another width.
    """
    specs = []
    for text in wanted or held:
        name, _, width = text.partition(":")
        dims = held.get(name, {}).get("dims")
        if name in _NAMED:
            spec = _NAMED[name]
            if width:
                raise UsageError(f"{name} is read by the names of its dimensions, not by a width ({text!r}).")
            absent = [dim for dim in spec.dims if dims is not None and dim not in dims]
            if absent and name not in MADE_HERE:
                raise UsageError(f"The data's {name} has no {absent[0]}.", remedy="Prepare the data again.")
        else:
            known = next((len(s.dims) for specs in KNOWN_WIDTHS.values() for s in specs if s.name == name), None)
            size = int(width) if width.isdecimal() else len(dims) if dims is not None else known
            if size is None or (width and not width.isdecimal()):
                names = [*_NAMED, *held]
                raise UsageError(
                    f"adapter.streams: {text!r} is neither in the data nor known{nearest_hint(name, names)}.",
                    remedy=f"The data hold: {', '.join(held) or 'no streams'}.",
                )
            if dims is not None and len(dims) != size:
                raise UsageError(
                    f"The data's {name} is {len(dims)} wide, the recipe says {size}.",
                    remedy="Prepare the data with the features that are meant, or correct adapter.streams.",
                )
            spec = StreamSpec.numbered(name, size)
        specs.append(spec)
    if not specs:
        raise UsageError(
            "The data hold no picture and no features.", remedy="Train with --recipe synthetic, or prepare videos."
        )
    return tuple(specs)


def make_adapter(
    settings: AdapterPart, specs: tuple[StreamSpec, ...], decoder: MusicDecoder, seed: int
) -> JointEmbeddingAdapter:
    """A fresh adapter on the decoder's device, in float32.

    Raises:
        UsageError: it is to adapt more layers than there are.
    """
    config = decoder.config
    if settings.layers > config.num_layers:
        raise UsageError(
            f"adapter.layers = {settings.layers}, the model has {config.num_layers} layers.",
            remedy="Use 0 for all of them.",
        )
    torch.manual_seed(seed)
    adapter = JointEmbeddingAdapter(
        AdapterConfig(config.dim, settings.layers or config.num_layers, settings.rank, settings.window_steps, specs)
    )
    adapter.gates.data.fill_(settings.gate_start)
    return adapter.to(decoder.device)


def take_up_adapter(
    path: Path, decoder: MusicDecoder, held: Mapping[str, Mapping[str, Any]], *, can_make_up: bool
) -> tuple[JointEmbeddingAdapter, str]:
    """An existing adapter to go on from, in float32, and the sha256 over its files.

    Raises:
        UsageError: the data lack a stream that it reads, or hold it at another width.
        WeightsError: it is damaged, or for another model.
    """
    adapter, digest = load_adapter(path, decoder)
    for spec in adapter.config.streams:
        dims = held.get(spec.name, {}).get("dims")
        if dims is None and spec.name not in MADE_HERE and not (can_make_up and spec.name in _NAMED):
            raise UsageError(f"The adapter reads {spec.name}, which the data do not hold.", path=path)
        if dims is not None and spec.is_numbered and len(dims) != len(spec.dims):
            raise UsageError(
                f"The adapter reads {len(spec.dims)} numbers of {spec.name}, the data hold {len(dims)}.",
                path=path,
                remedy="Prepare the data with the features that it was trained on.",
            )
    return adapter.to(torch.float32).requires_grad_(True), digest


def add_lora(settings: LoraPart, decoder: MusicDecoder, seed: int) -> PeftModel:
    """Put a LoRA into the decoder's layers, in float32; the decoder itself computes with it from now on."""
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
    """The LoRA's parameters in a decoder, by name."""
    return {name: p for name, p in decoder.named_parameters() if ".lora_" in name}


class Kept(nn.Module):
    """Parameters of other modules under one roof, so that a checkpoint holds them alone."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]):
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(name.replace(".", "/"), parameter)


def make_optimizers(
    settings: TrainPart, adapter: JointEmbeddingAdapter | None, lora: nn.Module | None
) -> list[torch.optim.Optimizer]:
    """The recipe's optimisers over what is trained; a LoRA's are always AdamW."""
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizers: list[torch.optim.Optimizer] = []
    gate_rate = settings.gate_learning_rate or rate
    if adapter is not None and settings.optimizer == MUON:
        optimizers += matrix_optimizers([adapter], matrix_lr=rate, other_lr=rate, weight_decay=decay, gate_lr=gate_rate)
    elif adapter is not None:
        others = [parameter for name, parameter in adapter.named_parameters() if name != "gates"]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": [adapter.gates], "lr": gate_rate}]
        optimizers.append(torch.optim.AdamW(groups, lr=rate, weight_decay=decay))
    if lora is not None:
        optimizers.append(
            torch.optim.AdamW(
                lora.parameters(), lr=settings.lora_learning_rate or rate, weight_decay=decay, betas=_BETAS
            )
        )
    return optimizers


def save_lora(folder: Path, adapted: PeftModel, base_model: str) -> None:
    """Write a LoRA as PEFT does, each file whole or not at all."""
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base_model
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".lora.") as temporary:
        adapted.save_pretrained(temporary, save_embedding_layers=False)  # "auto" asks for transformers' kind of config
        for name in (ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE):
            storage.write_bytes(folder / name, (Path(temporary) / name).read_bytes())
