"""Files of tensors by others, held to their own size before memory is taken: a few bytes may claim any shape."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_PICKLE_BYTES = 64 << 20
"""Of the pickle in a torch file, which holds names and plain values; the tensors lie beside it."""
_MOST_VIEWS = 4
"""How often all of a file's numbers may appear in its tensors: weights are tied, kept as best and as last, ..."""
_SPARE_BYTES = 64 << 20


def check_archive(file: str | Path | IO[bytes]) -> None:
    """Refuse a torch file whose parts are compressed: `torch.save` stores them plain, so only a bomb needs it.

    A file of torch before 1.6, which is no zip archive, passes.

    Raises:
        OSError: it can't be read.
        ValueError: a part is compressed, larger than the file, or a pickle beyond `LARGEST_PICKLE_BYTES`.
    """
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
        raise ValueError(f"a damaged archive: {error}") from error
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
            raise ValueError(f"its part {part.filename!r} is compressed, which torch.save does not do")
        if part.filename.endswith(".pkl") and part.file_size > LARGEST_PICKLE_BYTES:
            raise ValueError(f"its part {part.filename!r} is larger than {LARGEST_PICKLE_BYTES >> 20} MB")


def check_tensors(tensors: Iterable[Any], file_bytes: int) -> None:
    """Refuse tensors that unfold to far more than their file: strides of 0, sparse ones, none at all behind a shape.

    Args:
        tensors: of a torch file, one for each time that one appears.
        file_bytes: its size.

    Raises:
        ValueError: together they are larger than any file of this size means.
    """
    import torch

    total = 0
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.is_meta:
            raise ValueError("a sparse or empty tensor, expected plain ones")
        total += tensor.numel() * tensor.element_size()
        if total > _MOST_VIEWS * file_bytes + _SPARE_BYTES:
            raise ValueError(f"its tensors unfold to more than {total >> 20} MB, the file has {file_bytes >> 10} kB")


def read_npy(file: IO[bytes], file_bytes: int) -> np.ndarray:
    """A `.npy` file's array; nothing in it is executed.

    Args:
        file: at its beginning.
        file_bytes: its size.

    Raises:
        OSError: it can't be read.
        ValueError: it is no such file, is cut off, or claims a shape that it has no room for.
    """
    form = np.lib.format
    version = form.read_magic(file)
    read_header = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"it holds {dtype} of shape {list(shape)}, expected numbers")
    if math.prod(shape) * dtype.itemsize > file_bytes - file.tell():
        raise ValueError(f"it is cut off: its header says {'x'.join(map(str, shape))} numbers, the file has fewer")
    file.seek(0)
    return form.read_array(file, allow_pickle=False)
