"""Reads weight files strictly: a module gets all of its tensors or none, and nothing in a file is executed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from expotion_cli import storage
from expotion_cli.errors import WeightsError, reading

WEIGHTS_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
FETCH_AGAIN = "Fetch the file again."


@dataclass(frozen=True)
class Part:
    """One module's tensors, as its file holds them.

    Attributes:
        tensors: by the module's own names; nothing else may be among them.
        path: their file, for errors.
        written: a module's name → what the file calls it, for errors.
    """

    tensors: Mapping[str, Tensor]
    path: Path
    written: Callable[[str], str] = str


@dataclass(frozen=True)
class Source:
    """An opened checkpoint: its settings, and its tensors under this project's names.

    Attributes:
        config: settings in the form of a transformers `config.json`.
        path: the file the settings are from, for errors.
        decoder: tensors of the decoder.
        text: tensors of the T5 encoder, under transformers' names.
        audio: tensors of the EnCodec model, under transformers' names; None for other codecs.
        tokenizer: folder with the tokenizer.
        files: all files that decide the result; the checkpoint's digest is over these, in this order.
    """

    config: dict[str, Any]
    path: Path
    decoder: Part
    text: Part
    audio: Part | None
    tokenizer: Path
    files: tuple[Path, ...]


@contextmanager
def empty_modules() -> Iterator[None]:
    """Make modules without values, for `fill`: on the `meta` device, and without initialising them.

    There is nothing to initialise there, but torch would import its symbolic compiler for it, which takes a second.
    """
    with torch.device("meta"), _NoInitialisation():
        yield


class _NoInitialisation(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def fill(
    module: nn.Module, part: Part, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Give a module its weights, all of them or none.

    The module takes new tensors instead of copying into its own, so it may stand on the `meta` device, where it costs
    neither memory nor random numbers; files are mapped into memory, so no more than the result is ever in memory.

    Args:
        module: keeps its values if an error is raised.
        part: what it gets.
        device: where the tensors go; the CPU by default.
        dtype: of floating-point tensors.

    Raises:
        WeightsError: a tensor is missing, unknown, of the wrong shape or kind, or holds NaN or infinity.
    """
    expected = module.state_dict()
    for name, own in expected.items():
        called = part.written(name)
        if name not in part.tensors:
            raise WeightsError(
                f"The tensor {called!r} is missing; its shape would be {list(own.shape)}.", path=part.path
            )
        found = part.tensors[name]
        if found.shape != own.shape:
            raise WeightsError(
                f"The tensor {called!r} has shape {list(found.shape)}, expected {list(own.shape)}.", path=part.path
            )
        if found.is_floating_point() != own.is_floating_point() or found.layout != torch.strided:
            raise WeightsError(f"The tensor {called!r} holds {found.dtype}, expected {own.dtype}.", path=part.path)
    if foreign := [name for name in part.tensors if name not in expected]:
        raise WeightsError(f"The tensor {part.written(foreign[0])!r} is not part of this model.", path=part.path)
    taken: dict[int, Tensor] = {}  # tied tensors stay one
    for name in expected:
        found = part.tensors[name]
        if id(found) not in taken:
            taken[id(found)] = _own_copy(found, part.written(name), part.path, device, dtype)
    module.load_state_dict({name: taken[id(part.tensors[name])] for name in expected}, assign=True)


def _own_copy(found: Tensor, called: str, path: Path, device: torch.device | None, dtype: torch.dtype) -> Tensor:
    kind = dtype if found.is_floating_point() else found.dtype
    own = torch.empty(found.shape, dtype=kind, device=device or torch.device("cpu")).copy_(found.detach())
    # With a NaN among them both extremes are NaN; this takes a tenth of the time of a mask.
    if own.is_floating_point() and not all(extreme.isfinite() for extreme in own.aminmax()):
        raise WeightsError(f"The tensor {called!r} holds NaN or infinity in {kind}.", path=path, remedy=FETCH_AGAIN)
    return own


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or the shards its index names.

    Raises:
        WeightsError: there are none.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        shards = read_json(folder / INDEX_FILE).get("weight_map")
        names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
        if any(Path(name).name != name for name in names):
            raise WeightsError("The index names files outside its folder.", path=folder / INDEX_FILE)
        if names:
            return [folder / name for name in names]
    raise WeightsError(
        f"The folder has no {WEIGHTS_FILE}.", path=folder, remedy="Give a model folder in the transformers format."
    )


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Read all tensors of safetensors files, mapped into memory.

    Raises:
        WeightsError: a file is missing, truncated or not safetensors, or two hold the same tensor.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = {}
    for path in files:
        with reading(path, "the weights", error=WeightsError, remedy=FETCH_AGAIN, also=(SafetensorError,)):
            found = load_file(path)
        if twice := tensors.keys() & found.keys():
            raise WeightsError(f"The tensor {min(twice)!r} stands in another shard as well.", path=path)
        tensors |= found
    return tensors


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        WeightsError: it is missing, damaged or holds something else.
    """
    values = storage.read_json(path, "the file", error=WeightsError)
    if not isinstance(values, dict):
        raise WeightsError("The file holds no settings.", path=path)
    return values
