"""Data parallelism: which part of a step this process computes, and how gradients are summed.

`accelerate launch` (or torchrun) starts the processes. Each holds the whole model and trains on its share of every
step's crops. What is trained is small, so its gradients are summed once a step, in one buffer, without a model wrapper.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from expotion_cli.music.load import choose_device

Item = TypeVar("Item")


class DistributedContext:
    """The processes of a run, and this one's device and precision.

    Args:
        device: "auto", "cpu", "cuda", ...; of several processes each gets its own.
        precision: "auto" (bf16 on CUDA devices that have it, else fp32), "fp32" or "bf16".
    """

    def __init__(self, device: str = "auto", precision: str = "auto"):
        from accelerate import PartialState

        self.state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
        self.device = self.state.device if self.world_size > 1 else choose_device(device)
        has_bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.is_bf16 = precision == "bf16" or (precision == "auto" and has_bf16)

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return int(self.state.num_processes)

    @property
    def rank(self) -> int:
        """Index of this process, from 0."""
        return int(self.state.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    @property
    def frozen_dtype(self) -> torch.dtype:
        """Storage type of frozen weights: bf16 on a GPU that multiplies in bf16 anyway, else float32."""
        return torch.bfloat16 if self.is_bf16 and self.device.type == "cuda" else torch.float32

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision for forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16)

    def shard(self, items: Sequence[Item]) -> list[Item]:
        """This process's share of a step's items: every `world_size`-th one."""
        return list(items[self.rank :: self.world_size])

    def all_reduce(self, value: Tensor) -> Tensor:
        """Sum a tensor over all processes; each of them gets the sum."""
        if self.world_size == 1:
            return value
        from accelerate.utils import reduce

        summed = reduce(value, reduction="sum")
        assert isinstance(summed, Tensor)
        return summed

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes."""
        if self.world_size == 1:
            return
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:  # a process without crops in this step
                parameter.grad = torch.zeros_like(parameter)
        flat = self.all_reduce(torch.cat([p.grad.flatten().float() for p in parameters if p.grad is not None]))
        first = 0
        for parameter in parameters:
            part = flat[first : first + parameter.numel()]
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
            first += parameter.numel()

    def broadcast_parameters(self, modules: Iterable[nn.Module]) -> None:
        """Copy the main process's weights to all others."""
        if self.world_size == 1:
            return
        from accelerate.utils import broadcast

        with torch.no_grad():
            for module in modules:
                for parameter in module.parameters():
                    parameter.copy_(broadcast(parameter.detach().clone()))

    def barrier(self) -> None:
        """Block until every process has arrived here."""
        self.state.wait_for_everyone()
