"""Plays a groove over the bars of a cue: it goes on whatever moves, and answers the hit points.

The answers alone have the top velocity class, and what stands within two steps of one makes way, so that they stand out
of a beat that never stops.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from expotion_cli.music.codecs.notes.groove_file import (
    GHOST,
    LANES,
    NORMAL,
    STEPS_OF_METRE,
    STRONG,
    Fill,
    Groove,
    Level,
    Patterns,
    groove_names,
    load_groove,
)
from expotion_cli.music.codecs.notes.tokens import Event
from expotion_cli.timing import STEPS_PER_BEAT

__all__ = ["Bar", "Groove", "choose_levels", "groove_names", "load_groove", "play"]

ANSWERED, HEAVY = 0.35, 0.65
"""Weights from which a hit point is answered, and answered heavily."""
TOP = STRONG + 1
_MARGIN = 0.05
_WAY, _GAP = 2, STEPS_PER_BEAT // 2
_PHRASE = 4
_OFF_BEATS = {"none": (3, 6, 9), "sixteenths": (4, 6, 10), "eighths": (4, 8)}
_VOICES = ("drums", "percussion")


@dataclass(frozen=True)
class Bar:
    """What a bar asks of the drums.

    Attributes:
        intensity: 0..1, how much plays.
        is_section_start: a section begins with it.
        ends_section: the next bar begins a section.
        hits: (step in the bar, weight 0..1) of its hit points.
        is_silent: no drum is struck in it, its hit points have no answer.
    """

    intensity: float
    is_section_start: bool = False
    ends_section: bool = False
    hits: tuple[tuple[int, float], ...] = ()
    is_silent: bool = False


def play(
    groove: Groove, bars: Sequence[Bar], *, bar_steps: int, seed: int, metre: str | None = None
) -> dict[str, list[Event]]:
    """The drums of a cue. The same arguments give the same events.

    Args:
        groove: what is played.
        bars: of the cue, from step 0 on.
        bar_steps: length of a bar: 48 in 4/4, 36 in 3/4 and 6/8.
        seed: of fills and variations.
        metre: tells 6/8 from 3/4; None for 4/4 or 3/4.

    Returns:
        Events of "drums" and "percussion" on the cue's steps. `STRONG` is the highest velocity class of ordinary
        strokes, `TOP` that of answers.

    Raises:
        ValueError: no metre has bars of this length, or a hit point lies outside its bar.
    """
    metre = metre or next((name for name, steps in STEPS_OF_METRE.items() if steps == bar_steps), None)
    if metre is None or STEPS_OF_METRE.get(metre) != bar_steps:
        raise ValueError(f"no groove has bars of {bar_steps} steps in {metre or 'any metre'}")
    player = _Player(groove, groove.patterns[metre], bars, bar_steps, seed)
    player.play_bars()
    player.answer_hits()
    return player.events()


def choose_levels(levels: Sequence[Level], bars: Sequence[Bar]) -> list[int]:
    """The level of each bar.

    Within a section a level is left only if the next bar leaves it too, and only by a margin; a section's first bar
    takes the one that its intensity says.
    """

    def level_at(intensity: float) -> int:
        return max((place for place, level in enumerate(levels) if level.least <= intensity), default=0)

    def wish(bar: Bar, now: int) -> int:
        return max(now, level_at(bar.intensity - _MARGIN)) + min(now, level_at(bar.intensity + _MARGIN)) - now

    chosen: list[int] = []
    for place, bar in enumerate(bars):
        if bar.is_section_start or not chosen:
            chosen.append(level_at(bar.intensity))
            continue
        now = chosen[-1]
        following = bars[place + 1] if place + 1 < len(bars) else None
        later = now if following is None or following.is_section_start else wish(following, now)
        both = (wish(bar, now), later)
        chosen.append(min(both) if min(both) > now else min(now, max(both)))
    return chosen


class _Player:
    """The strokes of a cue while they are put together: (step, drum) → velocity class."""

    def __init__(self, groove: Groove, patterns: Patterns, bars: Sequence[Bar], bar_steps: int, seed: int):
        self._groove, self._patterns, self._bars = groove, patterns, bars
        self._bar_steps, self._seed = bar_steps, seed
        self._levels = choose_levels(patterns.levels, bars)
        self._strokes: dict[tuple[int, str], int] = {}
        self._varied: list[tuple[str, str, int]] = []
        self._last_fill: Fill | None = None
        self._filled = -2

    def play_bars(self) -> None:
        section, varied = 0, -1
        for place, bar in enumerate(self._bars):
            if bar.is_section_start:
                section = place
            if bar.is_silent:
                continue
            level = self._patterns.levels[self._levels[place]]
            self._play_level(place, place - section, level)
            if bar.is_section_start and level.rows and not self._groove.is_soft:
                for lane in ("kick", "crash"):
                    self._put(place * self._bar_steps, lane, STRONG if self._levels[place] else NORMAL)
            end = self._lead_on(place, place - section)
            if (place - section) % _PHRASE == _PHRASE - 1 or place - varied >= _PHRASE:
                self._vary(place, end, level)
                varied = place
            elif (place - section) % _PHRASE == 1 and self._drawn("ghost", place) % 2:
                self._vary(place, end, level)

    def answer_hits(self) -> None:
        """Put the answers in place of what stands around them."""
        answers: dict[int, float] = {}
        wanted = [(weight, step) for step, weight in self._hits() if weight >= ANSWERED]
        for weight, step in sorted(wanted, key=lambda one: (-one[0], one[1])):
            if not any(abs(step - other) <= _WAY for other in answers):
                answers[step] = weight
        for step in sorted(answers):
            if answers[step] >= HEAVY:
                self._make_room(step, answers)
        for step, weight in answers.items():
            lanes = self._groove.heavy_answer if weight >= HEAVY else self._groove.answer
            voices = {LANES[lane][0] for lane in lanes}
            for near in range(step - _WAY, step + _WAY + 1):
                for lane, (voice, _) in LANES.items():
                    force = self._strokes.pop((near, lane), None)
                    if near == step and force == STRONG:
                        self._strokes[step, lane] = TOP if voice in voices else STRONG
            for lane in lanes:
                self._strokes[step, lane] = TOP

    def events(self) -> dict[str, list[Event]]:
        """What the strokes amount to: a voice's strokes on one step share their loudest velocity class."""
        end = len(self._bars) * self._bar_steps
        together: dict[str, dict[int, dict[str, int]]] = {voice: {} for voice in _VOICES}
        for (step, lane), force in self._strokes.items():
            together[LANES[lane][0]].setdefault(step, {})[lane] = force
        found: dict[str, list[Event]] = {}
        for voice, by_step in together.items():
            steps = sorted(by_step)
            found[voice] = []
            for step, following in itertools.pairwise([*steps, end]):
                loudest = max(by_step[step].values())
                # One far below the others would come out far too loud.
                heard = [lane for lane, force in by_step[step].items() if force >= loudest - 1 or lane == "kick"]
                found[voice].append(Event(step, following, sum(1 << LANES[lane][1] for lane in heard), loudest))
        return found

    def _play_level(self, place: int, place_in_section: int, level: Level) -> None:
        for row in level.rows:
            first = place_in_section * self._bar_steps % row.num_steps
            for step, force in row.strokes:
                if first <= step < first + self._bar_steps:
                    self._put(place * self._bar_steps + step - first, row.lane, force)

    def _lead_on(self, place: int, place_in_section: int) -> int:
        """Fill the end of a bar before a section, at times that of eight bars.

        Returns:
            The step where the fill begins; the bar's end where there is none.
        """
        end = (place + 1) * self._bar_steps
        if place + 1 >= len(self._bars) or self._bars[place + 1].is_silent:
            return end
        following = self._bars[place + 1]
        now, then = self._levels[place], self._levels[place + 1]
        if not self._patterns.levels[then].rows:
            return end
        longest = self._bar_steps // 2
        if following.is_section_start or self._bars[place].ends_section:
            grows = then > now or then == len(self._patterns.levels) - 1
            weights = ("heavy", "light") if grows and not self._groove.is_soft else ("light",)
            if grows and self._filled < place - 1 and not self._bars[place].hits:
                longest = self._bar_steps
        elif place_in_section % 8 == 7 and self._patterns.levels[now].rows and self._drawn("pickup", place) % 2:
            weights = ("pickup",)
        else:
            return end
        fill = self._choose_fill(weights, longest, place)
        if fill is None:
            return end
        self._filled = place
        self._put_fill(fill, end - fill.num_steps)
        return end - fill.num_steps

    def _choose_fill(self, weights: Sequence[str], longest: int, place: int) -> Fill | None:
        for weight in weights:
            fitting = [f for f in self._patterns.fills if f.weight == weight and f.num_steps <= longest]
            fresh = [fill for fill in fitting if fill is not self._last_fill] or fitting
            if fresh:
                self._last_fill = fresh[self._drawn("fill", place) % len(fresh)]
                return self._last_fill
        return None

    def _put_fill(self, fill: Fill, start: int) -> None:
        for row in fill.rows:
            for step in range(start, start + fill.num_steps):
                self._strokes.pop((step, row.lane), None)
            for step, force in row.strokes:
                self._put(start + step, row.lane, force)

    def _vary(self, place: int, end: int, level: Level) -> None:
        """Change one small thing in a bar, another one than the last two times."""
        first = place * self._bar_steps
        choices = self._variations(first, end, level)
        fresh = [choice for choice in choices if choice not in self._varied[-2:]] or choices
        if not fresh:
            return
        kind, lane, step = choice = fresh[self._drawn("vary", place) % len(fresh)]
        self._varied.append(choice)
        force = self._strokes.pop((first + step, lane), GHOST)
        if kind != "drop":
            self._put(first + step, "open_hat" if kind == "open" else lane, force)

    def _variations(self, first: int, end: int, level: Level) -> list[tuple[str, str, int]]:
        """What may change in the bar from step `first` on, before its fill: (kind, drum, step in the bar)."""
        played = {row.lane for row in level.rows}
        here = {key: force for key, force in self._strokes.items() if first <= key[0] < end}
        taken = {(step, LANES[lane][0]) for step, lane in here}
        choices = []
        hats = sorted(step for step, lane in here if lane == "closed_hat")
        if hats and "open_hat" not in played and end == first + self._bar_steps:
            choices.append(("open", "closed_hat", hats[-1] - first))
        for lane in [lane for lane in self._groove.ghosts if lane in played] or (self._groove.ghosts if played else ()):
            for step in range(first, end):
                near = ((other, LANES[lane][0]) in taken for other in range(step - _WAY, step + _WAY + 1))
                if step % STEPS_PER_BEAT in _OFF_BEATS[self._patterns.swing] and not any(near):
                    choices.append(("ghost", lane, step - first))
        choices += [
            ("drop", lane, step - first)
            for (step, lane), force in sorted(here.items())
            if step % STEPS_PER_BEAT and force < STRONG and LANES[lane][0] == "percussion"
        ]
        return choices

    def _hits(self) -> list[tuple[int, float]]:
        found = []
        for place, bar in enumerate(self._bars):
            for step, weight in bar.hits:
                if not 0 <= step < self._bar_steps:
                    raise ValueError(f"bar {place} has a hit point on step {step} of {self._bar_steps}")
                if not bar.is_silent:
                    found.append((place * self._bar_steps + step, weight))
        return found

    def _make_room(self, step: int, answers: dict[int, float]) -> None:
        """What comes before a heavy answer: half a beat without hats, or a pickup where it has room."""
        if self._groove.before_heavy == "fill":
            pickup = self._choose_fill(("pickup",), STEPS_PER_BEAT, step)
            start = step - pickup.num_steps if pickup else step
            is_free = start >= 0 and not self._bars[start // self._bar_steps].is_silent
            if pickup and is_free and not any(start - _WAY <= other < step for other in answers):
                self._put_fill(pickup, start)
                return
        if self._groove.before_heavy != "none":
            for near in range(step - _GAP, step):
                for lane, (voice, _) in LANES.items():
                    if voice == "percussion":
                        self._strokes.pop((near, lane), None)

    def _put(self, step: int, lane: str, force: int) -> None:
        self._strokes[step, lane] = max(force, self._strokes.get((step, lane), GHOST))

    def _drawn(self, what: str, place: int) -> int:
        """A whole number that depends on the seed, the groove, the purpose and the place alone."""
        text = f"{self._seed} {self._groove.name} {what} {place}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
