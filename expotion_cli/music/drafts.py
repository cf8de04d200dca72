"""Several drafts of a cue, of which one is kept: composing notes is cheap, and not every throw of the dice is good.

Drafts differ in their seed alone; the first has the cue's own. A draft is judged by its notes, before it is rendered:
faults count most, then how many measures lie where nearly all of the training music lies, then how well its strikes
follow the motion. The judgement depends on the cue alone, so batch sizes and interruptions don't change the choice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from expotion_cli.music import notes
from expotion_cli.music.arrange import dynamics_curve, ring_on
from expotion_cli.music.conditioning import DRIVE, DRIVE_LAGS
from expotion_cli.music.statistics import MEASURES, five_measures, is_stuck
from expotion_cli.music.takes import CueRequest
from expotion_cli.storage import digest_of
from expotion_cli.timing import STEPS_PER_BEAT

VERSION = 1
"""Raised whenever the same drafts would be judged otherwise."""
LONGEST_PAUSE_S = 2.0
RANGES_FILE = "training.json"
_SOFTEST = 0.4
_SPREAD_STEPS = 1.5


class Judge(Protocol):
    """Says how good a draft is."""

    def __call__(self, tokens: np.ndarray, request: CueRequest) -> tuple[float, ...]:
        """Tokens [K, S] of a request → a key; the greatest is the best."""
        ...


def drafts_of(request: CueRequest) -> list[CueRequest]:
    """The drafts a cue asks for: as many requests, each with a seed of its own."""
    return [replace(request, drafts=1, seed=draft_seed(request.seed, number)) for number in range(request.drafts)]


def draft_seed(seed: int, number: int) -> int:
    """The seed of a cue's draft; number 0 has the cue's own."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} draft {number}".encode()).digest()[:4], "little") >> 1


def keep_best(
    generated: Iterable[tuple[int, np.ndarray]], owners: Sequence[int], requests: Sequence[CueRequest], judge: Judge
) -> Iterator[tuple[int, np.ndarray]]:
    """Of the drafts of each cue the best, as soon as the last of them is there.

    Args:
        generated: (number of the draft, its tokens), in any order.
        owners: for each draft the number of its cue.
        requests: the cues.
        judge: where two drafts are equally good, the one with the lower number wins.

    Yields:
        (number of the cue, tokens [K, S]).
    """
    waiting: dict[int, dict[int, np.ndarray]] = {}
    for number, tokens in generated:
        cue = owners[number]
        found = waiting.setdefault(cue, {})
        found[number] = tokens
        if len(found) == requests[cue].drafts:
            del waiting[cue]
            if len(found) == 1:
                yield cue, tokens
            else:
                yield cue, max((judge(t, requests[cue]), -n, t) for n, t in sorted(found.items()))[2]


@dataclass(frozen=True)
class NoteJudge:
    """Judges cues of notes.

    Attributes:
        ranges: measure → (low, high) of the training music, for excerpts of some lengths in steps; without any, only
            faults and following count.
    """

    ranges: Mapping[int, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    @classmethod
    def of_model(cls, folder: Path) -> NoteJudge:
        """The judge of a model whose folder says how its training music spreads (`training.json`), if it does."""
        path = folder / RANGES_FILE
        if not path.is_file():
            return cls()
        rows = json.loads(path.read_text()).get("statistics_by_steps", {})
        ranges = {
            int(steps): {key: (row[key]["p10"], row[key]["p90"]) for key in MEASURES if key in row}
            for steps, row in rows.items()
        }
        return cls(ranges)

    @property
    def digest(self) -> str:
        """Hash of all that decides a choice."""
        return digest_of(
            [VERSION, {str(steps): {k: list(v) for k, v in row.items()} for steps, row in self.ranges.items()}]
        )

    def __call__(self, tokens: np.ndarray, request: CueRequest) -> tuple[float, ...]:
        """(-faults, measures inside their range, correlation with the motion) of tokens [8, S]."""
        return -self.faults(tokens, request), self.inside(tokens), follows(tokens, request)

    def faults(self, tokens: np.ndarray, request: CueRequest) -> int:
        """How many of these it has: stuck in a loop; nothing struck for long and nothing held."""
        longest = longest_pause(tokens) / float(request.timeline.rate_hz)
        return int(is_stuck(tokens)) + int(longest > LONGEST_PAUSE_S)

    def inside(self, tokens: np.ndarray) -> int:
        """How many of the five measures lie within the training music's 10-90 % range, as it will be played."""
        if not self.ranges:
            return 0
        steps = tokens.shape[1]
        known = self.ranges[min(self.ranges, key=lambda length: abs(np.log(steps / length)))]
        found = five_measures(notes.events_to_tokens(ring_on(notes.tokens_to_events(tokens), steps), steps))
        return sum(low - 1e-9 <= found[key] <= high + 1e-9 for key, (low, high) in known.items())


def longest_pause(tokens: np.ndarray) -> int:
    """Longest stretch of steps in which no pitched voice sounds and no drum is struck, as it will be played."""
    steps = tokens.shape[1]
    silent = np.ones(steps + 2, dtype=bool)
    silent[[0, -1]] = False
    for name, found in ring_on(notes.tokens_to_events(tokens), steps).items():
        kind = notes.VOICES[notes.VOICE_INDEX[name]].kind
        for event in found if kind != "dynamics" else ():
            end = min(steps, event.start + STEPS_PER_BEAT) if kind == "drums" else event.end
            silent[1 + event.start : 1 + end] = False
    sounding = np.flatnonzero(~silent)
    return int(np.diff(sounding).max()) - 1


def strikes(tokens: np.ndarray) -> np.ndarray:
    """[S]: how hard each step is struck, all voices together."""
    steps = tokens.shape[1]
    events = notes.tokens_to_events(tokens)
    loudness = _SOFTEST + (1 - _SOFTEST) * dynamics_curve(events["dynamics"], steps) / (notes.DYNAMIC_LEVELS - 1)
    total = np.zeros(steps)
    for voice in notes.VOICES[1:]:
        classes = notes.CHORD_VELOCITIES if voice.kind == "chord" else notes.VELOCITIES
        for event in events[voice.name]:
            size = np.sqrt(event.value.bit_count()) if voice.kind == "drums" else 1.0
            total[event.start] += size * classes[event.velocity] / 127 * loudness[event.start]
    return total


def follows(tokens: np.ndarray, request: CueRequest) -> float:
    """Pearson correlation of strikes, a little blurred, with the motion that the cue was conditioned on; 0 without."""
    drive = (request.conditioning or {}).get(DRIVE)
    if drive is None or not drive.mask.any():
        return 0.0
    reach = np.arange(-4, 5)
    struck = np.convolve(strikes(tokens), np.exp(-0.5 * (reach / _SPREAD_STEPS) ** 2))
    struck = struck[reach[-1] : len(struck) - reach[-1]]  # as long as the cue, however short that is
    motion = drive.values[:, DRIVE_LAGS.index(0)]
    a, b = struck[drive.mask] - struck[drive.mask].mean(), motion[drive.mask] - motion[drive.mask].mean()
    size = np.sqrt(float(a @ a) * float(b @ b))
    return round(float(a @ b / size), 6) if size > 1e-9 else 0.0
