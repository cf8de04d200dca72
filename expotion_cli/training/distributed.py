"""One device or many: which part of a step is this process's, and how gradients come together.

Several processes are started by `accelerate launch` (or torchrun); each holds the whole model and learns from its share
of every step's crops. Adapters are small, so their gradients are added up once a step, without any wrapper.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expotion_cli.music.load import choose_device


class Team:
    """The processes of a run.

    Args:
        device: "auto", "cpu", "cuda" ...; with several processes each gets its own.
        precision: "auto", "fp32" or "bf16".
    """

    def __init__(self, device: str = "auto", precision: str = "auto"):
        from accelerate import PartialState

        self.state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
        self.device = self.state.device if self.count > 1 else choose_device(device)
        has_bf16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.is_bf16 = precision == "bf16" or (precision == "auto" and has_bf16)

    @property
    def count(self) -> int:
        """Processes at work."""
        return int(self.state.num_processes)

    @property
    def number(self) -> int:
        """Which one this is."""
        return int(self.state.process_index)

    @property
    def is_first(self) -> bool:
        """The first one writes."""
        return self.number == 0

    @property
    def frozen_dtype(self) -> torch.dtype:
        """How frozen weights are held: on a GPU in bf16 where products are computed so anyway."""
        return torch.bfloat16 if self.is_bf16 and self.device.type == "cuda" else torch.float32

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision around forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bf16)

    def share(self, things: Sequence[Any]) -> list[Any]:
        """This process's part of a step's crops."""
        return list(things[self.number :: self.count])

    def add_up(self, value: Tensor) -> Tensor:
        """The sum over all processes, on each of them."""
        if self.count == 1:
            return value
        from accelerate.utils import reduce

        summed = reduce(value, reduction="sum")
        assert isinstance(summed, Tensor)
        return summed

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""
        if self.count == 1:
            return
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:  # a process without crops in this step
                parameter.grad = torch.zeros_like(parameter)
        flat = self.add_up(torch.cat([p.grad.flatten().float() for p in parameters if p.grad is not None]))
        first = 0
        for parameter in parameters:
            part = flat[first : first + parameter.numel()]
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
            first += parameter.numel()

    def agree(self, modules: Iterable[nn.Module]) -> None:
        """Give all processes the first one's weights."""
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        with torch.no_grad():
            for module in modules:
                for parameter in module.parameters():
                    parameter.copy_(broadcast(parameter.detach().clone()))

    def wait(self) -> None:
        """Until all are here."""
        self.state.wait_for_everyone()
