"""Generates several takes of a cue and keeps the best: composing notes is cheap, and sampling sometimes goes wrong.

Takes differ in their seed alone; the first has the cue's own. A take is judged by its notes, before it is rendered:
faults count most, then how many measures lie within the training music's usual range, then how well its onsets follow
the motion. The judgement depends on the cue alone, so batch sizes and interruptions don't change the choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from expotion_cli.music.request import CueRequest


class Judge(Protocol):
    """Rates a take."""

    def __call__(self, tokens: np.ndarray, request: CueRequest) -> tuple[float, ...]:
        """Rate tokens [K, S] of a request; the take with the greatest key is the best."""
        ...


def takes_of(request: CueRequest) -> list[CueRequest]:
    """One request for each take of a cue, each with its own seed."""
    return [replace(request, takes=1, seed=take_seed(request.seed, number)) for number in range(request.takes)]


def take_seed(seed: int, number: int) -> int:
    """The seed of a cue's take; number 0 has the cue's own."""
    if number == 0:
        return seed
    # "draft" is an older word for a take; it stays in the hash so that seeds keep their takes.
    return int.from_bytes(hashlib.sha256(f"{seed} draft {number}".encode()).digest()[:4], "little") >> 1


def keep_best(
    generated: Iterable[tuple[int, np.ndarray]], owners: Sequence[int], requests: Sequence[CueRequest], judge: Judge
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the best take of each cue, as soon as its last take is generated.

    Args:
        generated: (number of the take, its tokens), in any order.
        owners: for each take the number of its cue.
        requests: the cues.
        judge: rates takes; of equally good ones the lowest number wins.

    Yields:
        (number of the cue, tokens [K, S]).
    """
    waiting: dict[int, dict[int, np.ndarray]] = {}
    for number, tokens in generated:
        cue = owners[number]
        found = waiting.setdefault(cue, {})
        found[number] = tokens
        if len(found) == requests[cue].takes:
            del waiting[cue]
            if len(found) == 1:
                yield cue, tokens
            else:
                yield cue, max((judge(t, requests[cue]), -n, t) for n, t in sorted(found.items()))[2]
