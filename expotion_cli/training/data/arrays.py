"""Reads ready features and tokens in the authors' file formats, as data: nothing in a file is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.errors import ClipError, reason_of
from expotion_cli.weights.bounds import check_archive, check_tensors, read_npy

LARGEST_BYTES = 1 << 30


def read_features(path: Path) -> np.ndarray:
    """Read an embedding [T, D] as float32 from a `.pt` or `.npy` file.

    Raises:
        ClipError: the file is missing, can't be read, or holds something else, NaN or infinity.
    """
    values = np.asarray(_read(path))
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiu":
        raise ClipError(f"it holds {_shape(values)}, expected numbers [T, D].", path=path)
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ClipError("its features hold NaN or infinity.", path=path, remedy="Extract them again.")
    return values


def read_tokens(path: Path, vocab_size: int) -> np.ndarray:
    """Read tokens [K, S] as int16 from a `.npy` or `.pt` file.

    Args:
        path: the file.
        vocab_size: V.

    Raises:
        ClipError: the file is missing, can't be read, or holds something else or a token outside 0..V - 1.
    """
    tokens = np.asarray(_read(path))
    if tokens.ndim == 3 and tokens.shape[0] == 1:
        tokens = tokens[0]
    if tokens.ndim != 2 or not tokens.size or tokens.dtype.kind not in "iu" or len(tokens) > 32:
        raise ClipError(f"it holds {_shape(tokens)}, expected whole numbers [K, S].", path=path)
    if tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ClipError(
            f"it holds tokens from {tokens.min()} to {tokens.max()}, the codec has 0 to {vocab_size - 1}.", path=path
        )
    return tokens.astype(np.int16)


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ClipError("it is too large for one clip.", path=path)
        if path.suffix.lower() == ".npy":
            with open(path, "rb") as file:
                return read_npy(file, path.stat().st_size)
        import torch

        check_archive(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except ClipError:
        raise
    except FileNotFoundError as error:
        raise ClipError("there is no such file.", path=path, remedy="Check the list, or give --root.") from error
    except (OSError, ValueError, EOFError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        reason = f"it can't be read ({reason_of(error)})."
        raise ClipError(reason, path=path, remedy="Copy or extract it again.") from error
    if isinstance(found, dict) and len(found) == 1:
        found = next(iter(found.values()))
    if not isinstance(found, torch.Tensor):
        raise ClipError(f"it holds a {type(found).__name__}, expected one tensor.", path=path)
    try:
        check_tensors([found], path.stat().st_size)
    except ValueError as error:
        raise ClipError(f"it can't be read ({error}).", path=path, remedy="Make it again.") from error
    return found.detach().float().numpy() if found.is_floating_point() else found.numpy()


def _shape(values: np.ndarray) -> str:
    return f"{values.dtype} of shape {list(values.shape)}"
