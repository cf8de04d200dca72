"""Prompts that change in the course of a cue: "0-8: calm piano; 8-15: full orchestra"."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from expotion_cli.errors import ClipError, UsageError
from expotion_cli.spans import TIME, TO, seconds

NEAR_S = 0.02
"""Parts that miss each other by less meet."""
END_S = 0.5
"""The last part may end so far from the clip's end."""
_TIMED = re.compile(rf"\s*({TIME}){TO}({TIME})?\s*s?\s*:(.*)", re.DOTALL)
_REMEDY = 'Write "0-8: calm piano; 8-15: full orchestra"; the last part may be left open: "8-: full orchestra".'


@dataclass(frozen=True)
class TimedPrompt:
    """A part of a timed prompt.

    Attributes:
        start_s: when it begins.
        end_s: when it ends; None where the clip does.
        text: its words.
    """

    start_s: float
    end_s: float | None
    text: str


def is_timed(prompt: str) -> bool:
    """Whether a prompt begins with a span of time and a colon."""
    return _TIMED.match(prompt) is not None


def read_timed(prompt: str) -> tuple[TimedPrompt, ...]:
    """The parts of a timed prompt; none of one that holds from beginning to end.

    >>> [(part.start_s, part.end_s, part.text) for part in read_timed("0-8: calm piano; 8-: full orchestra")]
    [(0.0, 8.0, 'calm piano'), (8.0, None, 'full orchestra')]

    Raises:
        UsageError: a part has no times or no words, or parts overlap or leave a hole.
    """
    if not is_timed(prompt):
        return ()
    parts = []
    for text in prompt.split(";"):
        found = _TIMED.match(text)
        if found is None:
            raise UsageError(f"the part {_short(text)} of the prompt has no times.", remedy=_REMEDY)
        words = " ".join(found[3].split())
        times = text[: found.start(3) - 1].strip()
        if not words:
            raise UsageError(f"the prompt says nothing for {times}.", remedy=_REMEDY)
        start_s, end_s = seconds(found[1]), None if found[2] is None else seconds(found[2])
        if end_s is not None and end_s <= start_s:
            raise UsageError(f"the prompt's part {times} ends before it has begun.", remedy=_REMEDY)
        parts.append(TimedPrompt(start_s, end_s, words))
    if parts[0].start_s > NEAR_S:
        raise UsageError(f"the prompt says nothing for 0-{parts[0].start_s:g}.", remedy=_REMEDY)
    for before, after in itertools.pairwise(parts):
        if before.end_s is None:
            raise UsageError("only the last part of the prompt may be left open.", remedy=_REMEDY)
        if after.start_s < before.end_s - NEAR_S:
            reason = (
                f"two parts of the prompt hold from {after.start_s:g} to {min(before.end_s, after.end_s or 1e9):g} s."
            )
            raise UsageError(reason, remedy=_REMEDY)
        if after.start_s > before.end_s + NEAR_S:
            raise UsageError(f"the prompt says nothing for {before.end_s:g}-{after.start_s:g}.", remedy=_REMEDY)
    return tuple(parts)


def check_timed(prompt: str, duration_s: float) -> None:
    """Check that a prompt fills a clip.

    Args:
        prompt: timed or not.
        duration_s: of the clip.

    Raises:
        UsageError: it can't be read.
        ClipError: it ends before the clip or after it.
    """
    parts = read_timed(prompt)
    if not parts:
        return
    end_s = parts[-1].end_s
    if parts[-1].start_s >= duration_s or (end_s is not None and end_s > duration_s + END_S):
        reason = f"the prompt goes on to {end_s or parts[-1].start_s:g} s, the clip lasts {duration_s:.3f} s."
        raise ClipError(reason, remedy="End the prompt where the clip ends, or leave its last part open.")
    if end_s is not None and end_s < duration_s - END_S:
        reason = f"the prompt ends at {end_s:g} s, the clip lasts {duration_s:.3f} s."
        raise ClipError(reason, remedy=f"Leave the last part open: {parts[-1].start_s:g}-: {_short(parts[-1].text)}")


def texts_of(prompt: str) -> tuple[str, ...]:
    """The words of a prompt's parts; of one that is not timed, the prompt itself."""
    return tuple(part.text for part in read_timed(prompt)) or (prompt,)


def whole(prompt: str) -> str:
    """All of a prompt's words without their times: what key, tempo and metre of the cue are read from."""
    return "; ".join(texts_of(prompt))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
