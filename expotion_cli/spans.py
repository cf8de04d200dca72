"""Spans of a clip as users write them: "12.0-18.5" in seconds, or "0:12-0:18.5" on a clock."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expotion_cli.errors import UsageError

Span = tuple[float, float]
"""(first, last) seconds on the picture's clock."""
TIME = r"(?:(?:\d+:)?\d{1,2}:)?\d+(?:\.\d+)?"
"""Seconds, or a clock with minutes and perhaps hours."""
TO = r"\s*(?:-|\N{EN DASH})\s*"
_SPAN = re.compile(rf"({TIME}){TO}({TIME})(?:\s*s)?")


def seconds(text: str) -> float:
    """The seconds of a text that matches `TIME`."""
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


def read_spans(texts: Sequence[str], flag: str) -> tuple[Span, ...]:
    """Parse spans; each text may hold several, with commas between. Those that touch or overlap become one.

    >>> read_spans(["12-18.5", "0:30-0:34,17-20"], "--redo")
    ((12.0, 20.0), (30.0, 34.0))

    Args:
        texts: as they were given.
        flag: what to call their origin in messages.

    Raises:
        UsageError: one is not a span, or ends before it begins.
    """
    found: list[Span] = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        match = _SPAN.fullmatch(part)
        if match is None:
            raise UsageError(
                f"{flag} {part!r} is not a span.", remedy="Give two times in seconds, such as 12.0-18.5, or 0:12-0:18."
            )
        first, last = seconds(match[1]), seconds(match[2])
        if last <= first:
            swapped = f"{match[2]}-{match[1]}" if last < first else "another end"
            raise UsageError(f"{flag} {part} ends before it has begun.", remedy=f"Did you mean {swapped}?")
        found.append((first, last))
    merged: list[Span] = []
    for first, last in sorted(found):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)
