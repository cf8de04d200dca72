"""Buffers rows of numbers until a clip ends: in memory while they are few, then in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np

IN_MEMORY = 4 << 20
"""Bytes kept in memory."""
BLOCK_ROWS = 4096
"""Rows read at a time when all are read."""


class RowBuffer:
    """float32 rows of one width, added one by one and read again in pieces.

    Args:
        width: C, numbers in a row.
    """

    def __init__(self, width: int):
        self.width = width
        self._rows = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)

    def __len__(self) -> int:
        return self._rows

    def add(self, row: np.ndarray) -> None:
        """Keep a row [C] behind the others."""
        data = np.ascontiguousarray(row, dtype=np.float32)
        assert data.shape == (self.width,), data.shape
        self._file.seek(self._rows * self.width * 4)
        self._file.write(data.tobytes())
        self._rows += 1

    def read(self, start: int, stop: int) -> np.ndarray:
        """[stop - start, C] float32; 0 <= start <= stop <= len."""
        assert 0 <= start <= stop <= self._rows, (start, stop)
        self._file.seek(start * self.width * 4)
        data = self._file.read((stop - start) * self.width * 4)
        return np.frombuffer(data, dtype=np.float32).reshape(-1, self.width)

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in order, [at most `BLOCK_ROWS`, C] at a time."""
        for start in range(0, self._rows, BLOCK_ROWS):
            yield self.read(start, min(start + BLOCK_ROWS, self._rows))

    def close(self) -> None:
        """Drop all rows; safe to call twice."""
        self._file.close()
