"""What encoders with a fetched network share: where its weights are, how they are read, and on what it runs.

Weights are data: torch files are read with torch's restricted reader, which rebuilds tensors and plain containers and
runs nothing. A network gets all of its tensors or none. It is loaded once and kept for the clips that follow.
torch is imported only when a network is loaded, or when somebody asks for a GPU.
"""

from __future__ import annotations

import functools
import pickle
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli import storage
from expotion_cli.errors import UsageError, WeightsError, reason_of
from expotion_cli.weights.bounds import check_archive
from expotion_cli.weights.manifest import find_manifest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

DTYPES = ("float32", "bfloat16")
_SHOWN = 3
_kept: dict[str, tuple[tuple, Any]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class NetworkFile:
    """The file with a network's weights: the manifest's, or one of your own.

    Attributes:
        manifest: name of the manifest in `models/`; its first file is meant.
        own: used in its place; nothing but its content is checked.
    """

    manifest: str
    own: Path | None = None

    @property
    def path(self) -> Path:
        """Where it is, or should be."""
        return self.own or find_manifest(self.manifest, "encoder").files[0].path

    def missing_reason(self) -> str | None:
        """Why it can't be used now and what to do about it, or None. Reads no content."""
        if self.own is None:
            return find_manifest(self.manifest, "encoder").missing_reason()
        return None if self.own.is_file() else f"{self.own}: There is no file at this path."

    def digest(self) -> str:
        """What pins its content: the sha256 that the manifest, its lock or the content itself gives."""
        if self.own is None:
            pin = find_manifest(self.manifest, "encoder").files[0].pin
            return " ".join(pin.digest or ())
        try:
            found = self.own.stat()
        except OSError:
            return ""
        return f"sha256 {_content_digest(self.own, found.st_size, found.st_mtime_ns)}"

    def require(self) -> Path:
        """The checked file.

        Raises:
            WeightsError: it is missing, or not what the manifest pins.
        """
        if self.own is None:
            find_manifest(self.manifest, "encoder").require()
        elif not self.own.is_file():
            raise WeightsError("There is no file at this path.", path=self.own, remedy=self.remedy)
        return self.path

    @property
    def remedy(self) -> str:
        """What to do where the content is wrong."""
        if self.own is None:
            return f"Remove it and run: expotion fetch {self.manifest}"
        return f"Give the file its authors published, or run: expotion fetch {self.manifest}"


@functools.lru_cache(maxsize=16)
def _content_digest(path: Path, num_bytes: int, changed_ns: int) -> str:
    return storage.digest_file(path)


def choose_device(wanted: str) -> str:
    """The torch device for a setting: "auto" is a GPU where there is one, else the CPU.

    Raises:
        UsageError: there is no such device.
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(f"There is no device called {wanted!r}.", remedy="Use auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("There is no CUDA device here.", remedy="Use auto or cpu.")
    return wanted


def check_dtype(name: str) -> str:
    """The name, if networks run in numbers of this kind.

    Raises:
        UsageError: they don't.
    """
    if name not in DTYPES:
        raise UsageError(f"Encoders don't run in {name!r}.", remedy=f"Use {' or '.join(DTYPES)}.")
    return name


def arithmetic(device: str, dtype: str) -> Any:
    """A context in which products are taken in numbers of this kind; sums and norms stay as they are."""
    import torch

    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


def keep(kind: str, key: tuple, make: Callable[[], Any]) -> Any:
    """The network of this kind, made unless the one in use last is the same; only the last one is kept.

    Args:
        kind: networks of other kinds are kept beside it.
        key: all that decides it.
        make: makes it.
    """
    with _lock:
        kept = _kept.get(kind)
        if kept is None or kept[0] != key:
            _kept.pop(kind, None)  # before the next one is made: two may not fit
            _kept[kind] = kept = (key, make())
        return kept[1]


def release() -> None:
    """Forget all networks that were kept."""
    with _lock:
        _kept.clear()


def read_tensors(path: Path, remedy: str) -> Mapping[str, Any]:
    """What a safetensors or torch file holds, mapped into memory.

    Raises:
        WeightsError: it is missing, damaged, or more than tensors and plain values.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        check_archive(path)
        # files from before torch 1.6 are not zip archives and can't be mapped
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = "Reading this file would run code that it names, so it is not read."
        raise WeightsError(reason, path=path, remedy=remedy) from error
    except Exception as error:  # whatever a damaged file makes its reader stumble over
        raise WeightsError(f"The file can't be read ({reason_of(error)}).", path=path, remedy=remedy) from error
    if not isinstance(found, dict):
        raise WeightsError(f"The file holds a {type(found).__name__}, expected tensors.", path=path, remedy=remedy)
    return found


def fill(
    network: nn.Module, tensors: Mapping[str, Tensor], path: Path, remedy: str, written: Callable[[str], str] = str
) -> None:
    """Give a network its weights as float32, all of them or none.

    Args:
        network: may stand on the `meta` device.
        tensors: by the network's own names, and none besides.
        path: their file, for errors.
        remedy: for errors.
        written: a network's name → what the file calls it, for errors.

    Raises:
        WeightsError: tensors are missing, foreign, of another shape or kind, or hold NaN or infinity.
    """
    import torch

    expected = network.state_dict()
    if missing := [f"{written(name)!r} {list(own.shape)}" for name, own in expected.items() if name not in tensors]:
        raise WeightsError(f"Missing tensors: {_listed(missing)}.", path=path, remedy=remedy)
    if foreign := [repr(written(name)) for name in tensors if name not in expected]:
        raise WeightsError(f"Tensors of another network: {_listed(foreign)}.", path=path, remedy=remedy)
    wrong = [
        f"{written(name)!r} is {_description(tensors[name])}, expected {_description(own)}"
        for name, own in expected.items()
        if not _fits(tensors[name], own)
    ]
    if wrong:
        raise WeightsError(f"Tensors of another shape: {_listed(wrong)}.", path=path, remedy=remedy)
    taken = {}
    for name, own in expected.items():
        kind = torch.float32 if own.is_floating_point() else own.dtype
        taken[name] = torch.empty(own.shape, dtype=kind).copy_(tensors[name])  # out of the file, which may go away
        if own.is_floating_point() and own.numel() and not all(end.isfinite() for end in taken[name].aminmax()):
            raise WeightsError(f"The tensor {written(name)!r} holds NaN or infinity.", path=path, remedy=remedy)
    network.load_state_dict(taken, assign=True)
    network.eval().requires_grad_(False)


def _fits(found: Any, own: torch.Tensor) -> bool:
    shape = getattr(found, "shape", None)
    return shape == own.shape and found.is_floating_point() == own.is_floating_point()


def _description(value: Any) -> str:
    return str(list(value.shape)) if hasattr(value, "shape") else f"a {type(value).__name__}"


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
