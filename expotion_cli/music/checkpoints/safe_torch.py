"""Reads what `torch.save` wrote without running anything in it.

Such a file is a pickle, and a pickle is a program: it may name any function and call it. torch's own restricted reader
rebuilds tensors and plain containers alone. Files of audiocraft may also hold their settings as omegaconf's objects;
each of those classes is replaced by a stand-in that only keeps what it is given, so neither omegaconf nor any other
code is imported. A file that names anything else is refused before it is read.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from expotion_cli.errors import WeightsError
from expotion_cli.weights.bounds import check_archive, check_tensors

_INERT_MODULES = ("omegaconf.",)
_INERT_NAMES = {f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool", "object")}
_INERT_NAMES |= {"typing.Any", "pathlib.PosixPath"}
_PLAIN_DICT = "collections.defaultdict"
_DEEPEST = 64
_MOST_NODES = 1 << 20
"""Values in one file, each counted as often as it is referred to."""


class _StandIn:
    """Takes the place of an object whose class is not ours to import; keeps its state, does nothing."""

    state: Any = None

    def __new__(cls, *arguments: Any) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_torch_file(path: Path) -> dict[str, Any]:
    """A dict that `torch.save` wrote; its tensors are mapped into memory.

    omegaconf's objects come as plain dicts, lists and values; interpolations stay the strings they are.

    Raises:
        WeightsError: the file is missing, damaged, no such file, or names code to be run.
    """
    if not path.is_file():
        raise WeightsError("The file is missing.", path=path)
    try:
        check_archive(path)
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # whatever a damaged pickle makes its reader stumble over
        raise _damaged(path, error) from error
    for name in named:
        if not (name.startswith(_INERT_MODULES) or name in _INERT_NAMES or name == _PLAIN_DICT):
            raise WeightsError(
                f"Reading this file would run {name}, so it is not read.",
                path=path,
                remedy="Weights hold tensors, not code: get the file from its authors, or export it with "
                "audiocraft.utils.export.",
            )
    stand_ins: list[Any] = [
        (_plain_dict if name == _PLAIN_DICT else type(name, (_StandIn,), {}), name) for name in named
    ]
    try:
        with torch.serialization.safe_globals(stand_ins):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors: list[torch.Tensor] = []
        found = _plain(loaded, tensors, itertools.count(1))
        check_tensors(tensors, path.stat().st_size)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"This file holds more than tensors and plain values ({str(error).splitlines()[0]}).", path=path
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise WeightsError(f"The file holds a {type(found).__name__}, expected a dict of tensors.", path=path)
    return found


def _damaged(path: Path, error: Exception) -> WeightsError:
    said = (str(error) or type(error).__name__).splitlines()[0]
    return WeightsError(f"The file is no torch file, or damaged ({said}).", path=path, remedy="Fetch the file again.")


def _plain_dict(*arguments: Any) -> dict[Any, Any]:
    return {}


def _plain(value: Any, tensors: list[torch.Tensor], nodes: Iterator[int], depth: int = 0) -> Any:
    """The value without stand-ins; an omegaconf container keeps its items in `_content`, a node its value in `_val`.

    Args:
        value: as torch read it.
        tensors: those met are added.
        nodes: counts the values; lists that hold one another twice over grow without end once they are copied.
        depth: of the value.
    """
    if depth > _DEEPEST:
        raise ValueError("settings nested too deeply")
    if next(nodes) > _MOST_NODES:
        raise ValueError(f"more than {_MOST_NODES} values")
    if isinstance(value, _StandIn):
        state = value.state if isinstance(value.state, dict) else {}
        return _plain(state["_content"] if "_content" in state else state.get("_val"), tensors, nodes, depth + 1)
    if isinstance(value, dict):
        return {key: _plain(item, tensors, nodes, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, tensors, nodes, depth + 1) for item in value]
    if isinstance(value, torch.Tensor):
        tensors.append(value)
    return value
