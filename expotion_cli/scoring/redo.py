"""Bars of a result composed anew: what is asked, what was done before, and what both are known by.

Each redo is a step on top of the cue as it was first composed. The sidecar lists the steps (`redone`), a cue's digest
covers them, and the tokens after each step are kept in the cue store. So a redo can be taken up after an interruption,
and a plain rerun knows the result as its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.errors import ClipError
from expotion_cli.recipe import MAX_SEED
from expotion_cli.scoring import sidecar
from expotion_cli.spans import Span
from expotion_cli.storage import digest_bytes, digest_of
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    from expotion_cli.music.codecs.notes.instruments import SoundSettings
    from expotion_cli.scoring.cue_store import StoredCue

REDO_VERSION = 2
"""Raised whenever the same redo would give other tokens; what another version made is neither kept nor taken up."""
TOKENS = "tokens_sha256"
"""Of a result's tokens, in its sidecar."""
KEY = "redone"
"""Of the steps, in sidecars and in the notes of stored cues."""
VOICINGS, CLOSING = "voicings", "closing"
"""Of what follows redone bars, in the notes of stored cues: how chords are voiced, and how the cue closes."""
MOST_STEPS = 200
_NEAR_BAR_LINE_S = 0.02
"""A span that reaches into a bar by less does not touch it."""
_BEYOND_S = 0.05


@dataclass(frozen=True)
class Redo:
    """What a user asks to be composed anew.

    Attributes:
        spans: in seconds, in order.
        seed: None for the next one.
        prompt: for these bars alone; None for the cue's own.
    """

    spans: tuple[Span, ...]
    seed: int | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Step:
    """A redo that was carried out, or is about to be.

    Attributes:
        spans: as asked, in seconds.
        seed: of the bars.
        is_own_seed: the user chose it.
        prompt: for these bars alone; None for the cue's own.
        bars: (first, last) of the bars that were composed, from 1 on, both included; empty while it isn't known.
    """

    spans: tuple[Span, ...]
    seed: int
    is_own_seed: bool = False
    prompt: str | None = None
    bars: tuple[tuple[int, int], ...] = ()

    @property
    def decides(self) -> list[Any]:
        """What of it decides the tokens."""
        return [[list(span) for span in self.spans], self.seed, self.prompt]

    def does(self, asked: Redo) -> bool:
        """Whether this is what is asked."""
        own = self.seed if self.is_own_seed else None
        return (self.spans, own, self.prompt) == (asked.spans, asked.seed, asked.prompt)


@dataclass(frozen=True)
class Course:
    """The way from a cue as it was first composed to the one that is wanted.

    Attributes:
        steps: the redos.
        cues: digest of the cue at first and after each step.
        result: digest of the finished result.
        is_known: the result that is there was made on this way.
        num_made: so many of the steps that result has.
        tokens: sha256 of the tokens that it was made of, if its sidecar says so.
        take: number of the take that is redone, from 1.
    """

    steps: tuple[Step, ...]
    cues: tuple[str, ...]
    result: str
    is_known: bool = False
    num_made: int = 0
    tokens: str | None = None
    take: int = 1

    def check(self, tokens: np.ndarray, path: Path) -> None:
        """Make sure that bars are composed into the notes that the user knows, not into others.

        Args:
            tokens: [K, S] of the cue that the result there should be made of.
            path: of the clip.

        Raises:
            ClipError: they were lost from the cache, and came out otherwise when they were composed again.
        """
        if self.is_known and len(self.steps) > self.num_made and self.tokens not in (None, tokens_digest(tokens)):
            raise ClipError(
                "the notes of its result are no longer in the cache, and this machine composes others.",
                path=path,
                remedy="Score it again with --overwrite, or redo it where it was scored.",
            )


@dataclass(frozen=True)
class Redone:
    """What playing a cue takes from its redos.

    Attributes:
        rows: records of the steps (`record`), in order.
        voicings: (step, MIDI pitches) of chords that follow the bars (`SoundSettings.voicings`).
        closing: [voice, first step, last step, value, velocity] from the closing chord on, if it follows the bars.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    voicings: tuple[tuple[int, tuple[int, ...]], ...] = ()
    closing: tuple[tuple[str, int, int, int, int], ...] = ()

    @classmethod
    def of(cls, notes: Mapping[str, Any]) -> Redone:
        """What a stored cue's notes say."""
        voicings = ((int(step), tuple(map(int, pitches))) for step, pitches in notes.get(VOICINGS, ()))
        return cls(tuple(notes.get(KEY, ())), tuple(voicings), tuple(map(tuple, notes.get(CLOSING, ()))))


NOT_REDONE = Redone()


@dataclass(frozen=True)
class Base:
    """A finished cue of which some bars are composed anew.

    Attributes:
        tokens: [K, S] int64.
        notes: of the stored cue.
        step: what is to be done.
    """

    tokens: Any
    notes: Mapping[str, Any]
    step: Step


def settled(settings: SoundSettings, redone: Redone) -> SoundSettings:
    """Settings with what is settled of a cue by its redos.

    Args:
        settings: of the cue.
        redone: what its notes say.
    """
    if not redone.rows:
        return settings
    from expotion_cli.music.codecs.notes.tokens import Event

    closing = tuple((name, Event(*numbers)) for name, *numbers in redone.closing)
    return replace(settings, voicings=redone.voicings, closing=closing)


def course(
    digests: tuple[str, str], known: Mapping[str, Any] | None, asked: Redo | None, seed: int, take: int = 1
) -> Course:
    """The way to the result that a run wants.

    What was redone before stays, also where another version of the program makes the result anew.

    Args:
        digests: of the cue and of the result without any redo.
        known: the sidecar of this clip's result, if there is one.
        asked: what to compose anew; None for nothing more.
        seed: of the cue.
        take: number of the take that plays, from 1, of which `digests` has the cue's.
    """
    cue, result = digests
    made = steps_of(known)
    num_made = len(made)
    is_known = known is not None and known.get("artefact") == _result(result, made)
    if asked is not None and is_known and not _stands(made, asked):
        fresh = asked.seed if asked.seed is not None else (seed + 1 + len(made)) & MAX_SEED
        made = (*made, Step(asked.spans, fresh, asked.seed is not None, asked.prompt))
    cues = [cue, *(_cue(cue, made[:count]) for count in range(1, len(made) + 1))]
    tokens = (known or {}).get(TOKENS)
    return Course(made, tuple(cues), _result(result, made), is_known, num_made, tokens, take)


def _stands(made: Sequence[Step], asked: Redo) -> bool:
    """Whether what is asked was done, and nothing of it was redone since."""
    place = next((n for n in reversed(range(len(made))) if made[n].does(asked)), None)
    if place is None:
        return False
    return not any(
        first <= stop and start <= last
        for later in made[place + 1 :]
        for first, last in later.bars
        for start, stop in made[place].bars
    )


def _cue(digest: str, steps: Sequence[Step]) -> str:
    return sidecar.cue_digest({"cue": digest, **_decide(steps)}) if steps else digest


def _result(digest: str, steps: Sequence[Step]) -> str:
    return digest_of({"result": digest, **_decide(steps)}) if steps else digest


def _decide(steps: Sequence[Step]) -> dict[str, Any]:
    return {"redo": REDO_VERSION, "steps": [step.decides for step in steps]}


def tokens_digest(tokens: np.ndarray) -> str:
    """sha256 (hex) of a cue's tokens [K, S]."""
    return digest_bytes(np.ascontiguousarray(tokens, np.int64).tobytes())


def outside(spans: Iterable[Span], duration_s: float) -> Span | None:
    """The first span that reaches beyond a clip."""
    return next((span for span in spans if span[1] > duration_s + _BEYOND_S), None)


def bars_of(spans: Iterable[Span], timeline: Timeline) -> tuple[tuple[int, int], ...]:
    """(first, last) of the bars that the spans touch, from 1 on, both included; runs of bars that meet become one.

    Args:
        spans: in seconds.
        timeline: the cue's beat grid. Bar 1 is the one in which the picture begins.
    """
    size, most = timeline.bar_steps, -(-timeline.num_steps // timeline.bar_steps)
    found: list[tuple[int, int]] = []
    for first_s, last_s in spans:
        near = min(_NEAR_BAR_LINE_S, (last_s - first_s) / 3)
        first = math.floor(timeline.step_at(first_s + near) / size)
        last = math.ceil(timeline.step_at(last_s - near) / size) - 1
        first = min(max(first, 0), most - 1)
        last = min(max(last, first), most - 1)
        if found and first + 1 <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last + 1, found[-1][1])
        else:
            found.append((first + 1, last + 1))
    return tuple(found)


def record(step: Step, timeline: Timeline) -> dict[str, Any]:
    """What sidecar and stored cue say of a step, in plain values.

    Args:
        step: that was carried out.
        timeline: the cue's beat grid.
    """
    bars = bars_of(step.spans, timeline)
    size = timeline.bar_steps
    edges = [timeline.time_of(np.array([(first - 1) * size, last * size])) for first, last in bars]
    end_s = float(timeline.duration)
    return {
        "asked_s": [list(span) for span in step.spans],
        "bars": [list(pair) for pair in bars],
        "redone_s": [[round(min(max(float(edge), 0.0), end_s), 3) for edge in pair] for pair in edges],
        "seed": step.seed,
        "is_own_seed": step.is_own_seed,
        "prompt": step.prompt,
    }


def steps_of(known: Mapping[str, Any] | None) -> tuple[Step, ...]:
    """The steps that a sidecar or a stored cue lists; none where they can't be read."""
    rows = (known or {}).get(KEY)
    if not isinstance(rows, list) or len(rows) > MOST_STEPS:
        return ()
    try:
        return tuple(
            Step(
                tuple((float(a), float(b)) for a, b in row["asked_s"]),
                int(row["seed"]),
                bool(row["is_own_seed"]),
                None if row["prompt"] is None else str(row["prompt"]),
                tuple((int(a), int(b)) for a, b in row["bars"]),
            )
            for row in rows
        )
    except (KeyError, TypeError, ValueError):
        return ()


def described(cue: StoredCue) -> dict[str, Any]:
    """What the sidecar says of a cue's tokens and its redos."""
    return {TOKENS: tokens_digest(cue.tokens), **({KEY: cue.notes[KEY]} if KEY in cue.notes else {})}


def kept_base(way: Course, get: Callable[[str], StoredCue | None]) -> Base | None:
    """The last cue on the way whose tokens are kept, and the step that comes next; None to begin at the beginning.

    Args:
        way: to the cue that is wanted.
        get: gives a stored cue by its digest, if there is one.
    """
    for place in reversed(range(len(way.steps))):
        if (cue := get(way.cues[place])) is not None:
            return Base(cue.tokens, cue.notes, way.steps[place])
    return None


def said(row: Mapping[str, Any]) -> str:
    """A record in words: which bars, and when they sound."""
    parts = []
    for (first, last), (start_s, stop_s) in zip(row["bars"], row["redone_s"], strict=True):
        bars = f"bar {first}" if first == last else f"bars {first}-{last}"
        parts.append(f"{bars} ({start_s:.1f}-{stop_s:.1f} s)")
    return ", ".join(parts)
