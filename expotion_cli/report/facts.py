"""Facts out of JSON by others: each value only where it has the kind that is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST_TEXT = 4000
"""Characters of one text; what goes beyond is left out."""
MOST_ROWS = 5000


class Facts:
    """A table of JSON values whose kinds nobody warrants.

    Args:
        content: anything; what is no table counts as an empty one.
    """

    def __init__(self, content: Any = None):
        self._content: Mapping[Any, Any] = content if isinstance(content, Mapping) else {}

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def __iter__(self) -> Iterator[str]:
        return iter([key for key in list(self._content)[:MOST_ROWS] if isinstance(key, str)])

    def text(self, key: str) -> str:
        """A text, or a whole number as one; else empty."""
        value = self._content.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{value:d}" if abs(value) < 1 << 64 else ""
        return value[:LONGEST_TEXT] if isinstance(value, str) else ""

    def number(self, key: str) -> float | None:
        """A finite number, or None."""
        return finite(self._content.get(key))

    def table(self, key: str) -> Facts:
        """A table in this one."""
        return Facts(self._content.get(key))

    def rows(self, key: str) -> Iterator[Facts]:
        """The tables of a list, at most `MOST_ROWS`."""
        value = self._content.get(key)
        for row in value[:MOST_ROWS] if isinstance(value, list) else ():
            if isinstance(row, Mapping):
                yield Facts(row)

    def texts(self, key: str) -> list[str]:
        """The texts of a list, at most `MOST_ROWS`."""
        value = self._content.get(key)
        found = value[:MOST_ROWS] if isinstance(value, list) else ()
        return [each[:LONGEST_TEXT] for each in found if isinstance(each, str)]


def finite(value: Any) -> float | None:
    """A value as a finite number, or None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
