"""Streams computed elsewhere: a folder with one file of rows a clip, such as the features EXPOTION's authors published.

`CLIP.pt`, `CLIP.npy` or `CLIP.safetensors` belongs to the clip `CLIP.mp4`; files in a subfolder named like the clip's
own folder come first, so that clips of the same name can be told apart. A file holds one tensor `[T, D]` of floating
numbers, or a dict with it under `values` or `features` (or as its only tensor) and, if it likes, a `mask` `[T]`.
Row i stands at i / rate seconds. The rate comes from whoever names the folder, else from the file's metadata
(safetensors: `rate_hz`), else from `features.json` in the folder (`{"rate_hz": 25}`), else it is 5. Metadata or
`features.json` may also name the `dims`. Nothing in a file is executed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import ClipError, EmptyStreamError, UsageError, reading
from expotion_cli.media.clip import ClipInfo
from expotion_cli.storage import read_json
from expotion_cli.vision.encoder import EmbeddingStream, StreamSource
from expotion_cli.weights.bounds import check_archive, read_npy

ENCODER = "precomputed"
VERSION = "1"
DEFAULT_RATE_HZ = 5.0
SUFFIXES = (".safetensors", ".npy", ".pt")
SETTINGS_FILE = "features.json"
MAX_BYTES = 1 << 30
LENGTH_TOLERANCE = 0.1
"""Rows may be off the clip's length by this share; that far a stream is simply cut or held."""
_FEW_ROWS = 1.5
_NAMES = ("values", "features")


def check_folder(source: StreamSource) -> None:
    """Check that a source's folder can hold features.

    Raises:
        UsageError: there is no such folder, or nothing in it.
    """
    assert source.folder is not None
    remedy = f"Write --streams {source.name}=FOLDER, with a .pt, .npy or .safetensors file for each clip in it."
    if not source.folder.is_dir():
        raise UsageError(f"there is no such folder of {source.name} features.", path=source.folder, remedy=remedy)
    if not any(path.suffix in SUFFIXES for path in source.folder.rglob("*")):
        raise UsageError(f"the folder holds no {source.name} features.", path=source.folder, remedy=remedy)


def feature_file(source: StreamSource, clip: Path) -> Path:
    """The file of a clip in a source's folder.

    Raises:
        ClipError: there is none, or there are several.
    """
    assert source.folder is not None
    for folder in (source.folder / clip.resolve().parent.name, source.folder):
        found = [path for suffix in SUFFIXES if (path := folder / f"{clip.stem}{suffix}").is_file()]
        if len(found) > 1:
            raise ClipError(
                f"several files hold {source.name} features of {clip.name}: {', '.join(path.name for path in found)}.",
                path=folder,
                remedy="Leave one of them there.",
            )
        if found:
            return found[0]
    raise ClipError(
        f"there are no {source.name} features for this clip.",
        path=clip,
        remedy=f"Put them at {source.folder / f'{clip.stem}.pt'} (or .npy, .safetensors), as [T, D] floating numbers.",
    )


def read_stream(source: StreamSource, clip: ClipInfo) -> EmbeddingStream:
    """The stream of a clip.

    Its digest holds the file's content, the rate and the stream's name, and no place.

    Raises:
        ClipError: the clip's file is missing, damaged, of another shape than is wanted, or of another length than
            the clip.
        EmptyStreamError: it has no rows.
    """
    path = feature_file(source, clip.path)
    with reading(path, "the features"):
        if path.stat().st_size > MAX_BYTES:
            raise _wrong(path, f"it is larger than {MAX_BYTES >> 30} GB")
        content = path.read_bytes()
    tensors, metadata = _tensors(path, content)
    values, mask = _pick(path, tensors)
    folder_says = _settings(source.folder) if source.folder is not None else {}
    rate_hz = _rate(path, source.rate_hz or metadata.get("rate_hz") or folder_says.get("rate_hz") or DEFAULT_RATE_HZ)
    dims = _dims(path, values, metadata.get("dims") or folder_says.get("dims"), source)
    _check_length(path, source, len(values), rate_hz, clip)
    sha256 = hashlib.sha256(content).hexdigest()
    return EmbeddingStream(
        name=source.name,
        values=values,
        mask=mask,
        rate_hz=rate_hz,
        dims=dims,
        encoder=ENCODER,
        version=VERSION,
        digest=storage.digest_of({"name": source.name, "features": sha256, "rate_hz": rate_hz, "version": VERSION}),
    )


def _tensors(path: Path, content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arrays by name, metadata) of a file; values of other kinds are left to `_pick`."""
    try:
        if path.suffix == ".npy":
            return {_NAMES[0]: read_npy(io.BytesIO(content), len(content))}, {}
        if path.suffix == ".safetensors":
            return _safetensors(content)
        return _torch_file(content), {}
    except Exception as error:  # whatever a damaged file makes its reader stumble over
        said = (str(error) or type(error).__name__).splitlines()[0]
        remedy = "Make it again."
        if path.suffix == ".pt":
            remedy = "Make it again, with nothing but the tensor in it: torch.save(tensor, file)."
        raise _wrong(
            path, f"it is damaged, or not a {path.suffix} file of tensors only ({said[:200]})", remedy
        ) from error


def _safetensors(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors.torch import load

    tensors = {name: _array(value) for name, value in load(content).items()}
    header = storage.parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = dict(header.get("__metadata__") or {})
    if "dims" in metadata:
        metadata["dims"] = storage.parse_json(metadata["dims"])
    return tensors, metadata


def _torch_file(content: bytes) -> dict[str, Any]:
    import torch

    check_archive(io.BytesIO(content))
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if isinstance(found, torch.Tensor):
        return {_NAMES[0]: _array(found)}
    if isinstance(found, Mapping):
        return {str(name): _array(value) for name, value in found.items() if isinstance(value, torch.Tensor)}
    raise ValueError(f"it holds a {type(found).__name__}")


def _array(tensor: Any) -> np.ndarray:
    import torch

    if tensor.numel() * 4 > MAX_BYTES:  # a few bytes may unfold to any size
        raise ValueError(f"{tensor.numel()} numbers, more than fit into {MAX_BYTES >> 30} GB")
    tensor = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()


def _pick(path: Path, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """float32 [T, D] values and bool [T] mask."""
    tensors = dict(tensors)
    mask = tensors.pop("mask", None)
    named = [name for name in _NAMES if name in tensors]
    if not named and len(tensors) == 1:
        named = list(tensors)
    if len(named) != 1:
        raise _wrong(path, f"it holds {', '.join(tensors) or 'no tensor'}, expected one tensor, called values or alone")
    values = tensors[named[0]]
    shape = "x".join(map(str, values.shape)) or "no"
    if values.dtype.kind != "f":
        raise _wrong(path, f"it holds numbers of type {values.dtype} (shape {shape}), expected floating ones")
    if values.ndim != 2 or not values.shape[1]:
        raise _wrong(path, f"it has shape {shape}, expected [T, D]: a row for each moment")
    if not len(values):
        raise EmptyStreamError("the features have no rows.", path=path, remedy="Make them again.")
    with np.errstate(over="ignore"):  # what does not fit is not finite afterwards
        values = np.ascontiguousarray(values, dtype=np.float32)
    if not (finite := np.isfinite(values).all(axis=1)).all():
        raise _wrong(path, f"row {int(np.argmin(finite))} of {len(values)} holds a value that is not finite")
    if mask is None:
        return values, np.ones(len(values), dtype=bool)
    if mask.shape != (len(values),) or mask.dtype.kind not in "biu":
        raise _wrong(path, f"its mask has shape {list(mask.shape)} and type {mask.dtype}, expected {len(values)} bools")
    return values, mask.astype(bool)


def _rate(path: Path, stated: Any) -> float:
    try:
        rate_hz = float(stated)
    except (TypeError, ValueError):
        rate_hz = 0.0
    if not 0 < rate_hz < 1000:
        raise _wrong(path, f"{stated!r} is not a number of rows a second")
    return rate_hz


def _dims(path: Path, values: np.ndarray, stated: Any, source: StreamSource) -> tuple[str, ...]:
    """The names of the columns, held to what will be read of them."""
    width = values.shape[1]
    numbers = tuple(map(str, range(width)))
    dims = tuple(map(str, stated)) if isinstance(stated, list | tuple) else numbers
    if len(dims) != width or len(set(dims)) != width:
        raise _wrong(path, f"it has {width} columns and {len(dims)} names for them")
    if not source.dims:
        return dims
    if source.dims == tuple(map(str, range(len(source.dims)))):
        if width != len(source.dims):
            raise _wrong(
                path,
                f"it has {width} numbers a row, the adapter reads {len(source.dims)} of {source.name}",
                "Give the features that the adapter was trained on, or name the stream that these are.",
            )
        return numbers
    if absent := [dim for dim in source.dims if dim not in dims]:
        raise _wrong(
            path,
            f"the adapter reads {source.name}.{absent[0]}, which no column of it is called",
            f"Name the columns: a list dims in the file's metadata or in {SETTINGS_FILE}.",
        )
    return dims


def _check_length(path: Path, source: StreamSource, rows: int, rate_hz: float, clip: ClipInfo) -> None:
    expected = float(clip.duration) * rate_hz
    if abs(rows - expected) > max(_FEW_ROWS, LENGTH_TOLERANCE * expected):
        fitting = rows / float(clip.duration)
        raise _wrong(
            path,
            f"it has {rows} rows; at {rate_hz:g} a second {expected:.0f} belong to this clip of "
            f"{float(clip.duration):.1f} s",
            f"Say how many rows a second there are, {fitting:.3g} as it seems: --streams "
            f"{source.name}={source.folder}@{fitting:.3g}",
        )


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return {}
    values = read_json(path, error=ClipError, remedy='Write for example {"rate_hz": 25}.')
    if not isinstance(values, dict) or not set(values) <= {"rate_hz", "dims"}:
        raise _wrong(path, "it holds something else than rate_hz and dims", 'Write for example {"rate_hz": 25}.')
    return values


def _wrong(path: Path, reason: str, remedy: str = "Make it again.") -> ClipError:
    return ClipError(f"these features can't be used: {reason}.", path=path, remedy=remedy)
