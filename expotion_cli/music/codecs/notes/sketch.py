"""The sketch of a cue: what is settled about its tokens before the decoder fills in the rest.

A film composer does not begin with a melody but with a sketch of the scene: which bars are calm and which are full,
where the theme returns, which drum pattern carries it, where all must strike together. The sketch says that as
`Constraints`; the decoder composes within them and hears them:

- **groove**: drums from a groove file, chords and bass on bar lines, a figure in an even rhythm, voices that enter and
  leave with the intensity;
- **answers**: at hit points every voice that plays must strike, strongly; around them it keeps still, and before heavy
  ones there is a short gap;
- **form**: themes return, with their chords, and are harmonised, accompanied and continued anew;
- **key and metre**.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.music.codecs.notes.form import THEME_BARS, BarForm, plan_form, smooth_bars
from expotion_cli.music.codecs.notes.groove import ANSWERED, Bar, choose_levels, load_groove, play
from expotion_cli.music.codecs.notes.groove_file import FREE, LET_GO, STRUCK, Groove, Part
from expotion_cli.music.codecs.notes.motifs import motif_of
from expotion_cli.music.codecs.notes.passage import Passage
from expotion_cli.music.codecs.notes.token_sets import token_sets
from expotion_cli.music.codecs.notes.tokens import HOLD, NUM_VOICES, REST, VOICE_INDEX, VOICES
from expotion_cli.music.generate.constraints import DRAWN, NO_SOURCE, Constraints
from expotion_cli.timing import COMMON_METRE, METRES, STEPS_PER_BEAT

if TYPE_CHECKING:
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Timeline

SKETCH_VERSION = 3
"""Raised whenever the same cue would be sketched otherwise."""
DECODER_BAR = STEPS_PER_BEAT * METRES[COMMON_METRE]
"""Steps of the bars that the decoder has learned. Shorter bars are its bars without their end."""
_ENTERS = {"harmony": 0.0, "bass": 0.12, "melody": 0.2, "figure": 0.3, "counter": 0.6}
"""The intensity from which on a voice plays."""
_DENSITIES = {"sparse": -0.25, "dense": 0.25}
_HYSTERESIS = 0.08
_SOFTEST_LEVEL, _LEVELS = 3.0, 4.0
_MOTIF_BARS = 4
"""Bars in which a motif is heard one and a half times, and a free one."""
_BACKGROUND = ("bass", "figure")
"""Voices that are softer by a class between hit points."""
_SINGING, _SUNG = ("melody", "counter"), 0.75
"""Voices that answer heavier hit points alone, so that the tune may go its own way, and from which weight on.
A tune that returns is left as it was."""
_AROUND = 2
_BREATH, _GAP_STEPS, _HEAVY = 4, 5, 0.6
"""Steps of silence in the background before a hit point, and in all voices but the chords before a heavy one."""
_HIT_GAP_S, _HITS_PER_S, _LEAST_WEIGHT = 0.3, 1.1, 0.1
_NEAR_S = 0.055


@dataclass(frozen=True)
class Strike:
    """A hit point on the grid.

    Attributes:
        step: where it is struck.
        weight: 0..1.
        time_s: of the hit point.
    """

    step: int
    weight: float
    time_s: float


@dataclass(frozen=True)
class Sketch:
    """A cue before it is composed.

    Attributes:
        bars: its form.
        strikes: the hit points that notes answer.
        constraints: on the decoder's steps.
        layout: see `CueRequest.layout`.
    """

    bars: tuple[BarForm, ...]
    strikes: tuple[Strike, ...]
    constraints: Constraints
    layout: np.ndarray | None


def sketch(
    plan: CuePlan,
    timeline: Timeline,
    *,
    passages: Sequence[Passage],
    is_minor: bool | None,
    answers: float,
    groove: str,
    seed: int,
    is_loop: bool = False,
) -> Sketch:
    """Sketch a cue.

    Args:
        plan: from spotting.
        timeline: the cue's beat grid.
        passages: who plays when, and how much; at least one, from bar 0 on.
        is_minor: the mode that was asked for; None leaves it to the decoder.
        answers: 0..1, how strongly notes answer hit points.
        groove: name or path of the drum groove; "" leaves the drums to the decoder.
        seed: of the cue.
        is_loop: its last bar leads to its first.
    """
    firsts = [passage.first_bar for passage in passages]
    count = -(-timeline.num_steps // timeline.bar_steps)
    held = [passages[int(np.searchsorted(firsts, bar, side="right")) - 1] for bar in range(count)]
    shift = np.array([_DENSITIES.get(passage.density, 0.0) for passage in held])
    changes = [passage.first_bar for passage in passages if passage.starts_section]
    bars = plan_form(plan, timeline, shift, changes)
    if is_loop:
        bars = (*bars[:-1], replace(bars[-1], ends_section=True))
    strikes = strikes_on_grid(plan, timeline, answers)
    writer = _Writer(bars, strikes, timeline, [passage.muted for passage in held], is_minor)
    writer.write_dynamics(is_loop)
    pattern = load_groove(groove) if groove else None
    writer.write_drums(pattern, seed)
    writer.write_entries()
    writer.write_rhythm(pattern)
    writer.write_tune(seed)
    writer.write_key()
    writer.write_themes()
    writer.write_answers()
    return Sketch(bars, strikes, *writer.laid_out())


def strikes_on_grid(plan: CuePlan, timeline: Timeline, answers: float) -> tuple[Strike, ...]:
    """The hit points that notes answer, about one a second, the heaviest first, each on a step of the grid.

    A sixteenth is taken if it is near enough to be heard as the same moment.

    Args:
        plan: of the cue.
        timeline: its beat grid.
        answers: 0..1; with less, only heavier hit points are answered.
    """
    if answers <= 0:
        return ()
    end_s = float(timeline.duration) if plan.end_s is None else plan.end_s
    least = max(_LEAST_WEIGHT, 1 - answers)
    usable = [hit for hit in plan.hits if plan.start_s <= hit.time_s < end_s and hit.weight >= least]
    chosen: list[float] = []
    found: list[Strike] = []
    most = max(1, round(_HITS_PER_S * float(timeline.duration)))
    rate = float(timeline.rate_hz)
    for hit in sorted(usable, key=lambda hit: (-hit.weight, hit.time_s)):
        if len(chosen) == most:
            break
        if any(abs(hit.time_s - other) < _HIT_GAP_S for other in chosen):
            continue
        chosen.append(hit.time_s)
        exact = timeline.step_at(hit.time_s)
        sixteenth = 3 * round(exact / 3)
        step = sixteenth if abs(sixteenth - exact) / rate <= _NEAR_S else round(exact)
        if 0 <= step < timeline.num_steps:
            found.append(Strike(step, hit.weight, hit.time_s))
    return tuple(sorted(found, key=lambda strike: strike.step))


class _Writer:
    """Writes the constraints of one cue, on the timeline's steps."""

    def __init__(
        self,
        bars: Sequence[BarForm],
        strikes: Sequence[Strike],
        timeline: Timeline,
        muted: Sequence[tuple[str, ...]],
        is_minor: bool | None,
    ):
        self.bars, self.strikes, self.timeline, self.muted = bars, strikes, timeline, muted
        self.num_steps, self.bar_steps = timeline.num_steps, timeline.bar_steps
        shape = (NUM_VOICES, self.num_steps)
        self.given, self.source = np.full(shape, DRAWN), np.full(shape, NO_SOURCE)
        self.mask_of = np.zeros(shape, dtype=np.int64)
        self.masks, self.mask_numbers = token_sets(is_minor, _BACKGROUND)
        self.playing = _playing(bars, muted)

    def write_dynamics(self, is_loop: bool) -> None:
        """Levels that follow the intensity within a few decibels, reached over whole bars; those of a loop meet."""
        row = self.given[VOICE_INDEX["dynamics"]]
        row[:] = HOLD
        voice = VOICES[VOICE_INDEX["dynamics"]]
        before = -1
        for number, intensity in enumerate(smooth_bars([bar.intensity for bar in self.bars], is_loop)):
            level = min(notes.DYNAMIC_LEVELS - 1, round(_SOFTEST_LEVEL + _LEVELS * float(intensity)))
            if level != before:
                row[number * self.bar_steps] = notes.onset_token(voice, level)
            before = level

    def write_drums(self, groove: Groove | None, seed: int) -> None:
        """Drums and percussion of a groove; rests where they are muted."""
        names = ("drums", "percussion")
        if groove is not None:
            metre = self.timeline.metre
            played = play(groove, self._beaten(), bar_steps=self.bar_steps, seed=seed, metre=metre)
            rows = notes.events_to_tokens({name: played.get(name, []) for name in names}, self.num_steps)
            for name in names:
                self.given[VOICE_INDEX[name]] = rows[VOICE_INDEX[name]]
        for name in names:
            rests = np.array([0, *(name in muted for muted in self.muted), 0])
            for first, last in np.flatnonzero(np.diff(rests)).reshape(-1, 2).tolist():
                self._rest(name, first * self.bar_steps, last * self.bar_steps)

    def _beaten(self) -> list[Bar]:
        """The bars as the groove sees them."""
        return [
            Bar(bar.intensity, bar.starts_section, bar.ends_section, self._strikes_in(number))
            for number, bar in enumerate(self.bars)
        ]

    def _strikes_in(self, number: int) -> tuple[tuple[int, float], ...]:
        first = number * self.bar_steps
        return tuple(
            (s.step - first, max(s.weight, ANSWERED)) for s in self.strikes if first <= s.step < first + self.bar_steps
        )

    def write_entries(self) -> None:
        """Rests where a voice does not play."""
        for name, playing in self.playing.items():
            for number, plays in enumerate(playing):
                if not plays:
                    self._rest(name, number * self.bar_steps, (number + 1) * self.bar_steps)

    def write_rhythm(self, groove: Groove | None) -> None:
        """When chords, bass and figure strike: as the groove says, else on bar lines, halves and quarters of bars."""
        levels = groove.patterns[self.timeline.metre].levels if groove is not None else ()
        chosen = choose_levels(levels, self._beaten()) if levels else []
        for number in range(len(self.bars)):
            parts = levels[chosen[number]].parts if levels else {}
            for name in ("harmony", "bass", "figure"):
                self._pace(name, number, parts.get(name) or self._plain_part(name))
            for name in ("melody", "counter"):
                if self.playing[name][number]:
                    bar = slice(number * self.bar_steps, (number + 1) * self.bar_steps)
                    self.mask_of[VOICE_INDEX[name], bar] = self.mask_numbers[name, "soft"]
                    if not number or not self.playing[name][number - 1]:  # whoever enters is heard
                        self.mask_of[VOICE_INDEX[name], bar.start] = self.mask_numbers[name, "onset"]

    def write_key(self) -> None:
        """The tonic, where the music begins and with every half phrase: chord and bass say which key it is in.

        Without chords the tune begins on a note of the tonic's chord there.
        """
        for number, bar in enumerate(self.bars):
            if number and bar.place % THEME_BARS:
                continue
            names = [name for name in ("harmony", "bass") if self.playing[name][number]]
            for name in names if "harmony" in names else (*names, "melody", "figure"):
                place = VOICE_INDEX[name], number * self.bar_steps
                if self.playing[name][number] and self.given[place] == DRAWN:
                    self.mask_of[place] = self.mask_numbers[name, "tonic"]

    def write_tune(self, seed: int) -> None:
        """The rhythm of each theme's motif; every fourth bar is free, but begins with a note."""
        motifs: dict[str, Part] = {}
        smooth = smooth_bars([bar.intensity for bar in self.bars])
        for number, bar in enumerate(self.bars):
            if bar.is_opening or not self.playing["melody"][number]:
                continue
            if bar.theme not in motifs:
                motifs[bar.theme] = motif_of(bar.theme, self.timeline.metre, float(smooth[number]), seed)
            part = motifs[bar.theme] if bar.place % _MOTIF_BARS != _MOTIF_BARS - 1 else self._free_bar
            self._pace("melody", number, part, bar.place)

    @property
    def _free_bar(self) -> Part:
        """A bar that begins with a note and goes on as the decoder likes."""
        return Part(((0, STRUCK), *((step, FREE) for step in range(1, self.bar_steps))), self.bar_steps)

    def _plain_part(self, name: str) -> Part:
        """The rhythm of a voice of which the groove says nothing."""
        bar = self.bar_steps
        if name == "harmony":
            half = ((bar // 2, FREE),) if self.timeline.metre == COMMON_METRE else ()
            return Part(((0, STRUCK), *half), bar)
        half_beat = STEPS_PER_BEAT // 2
        if name == "bass":
            return Part(((0, STRUCK), *((step, FREE) for step in range(half_beat, bar, half_beat))), bar)
        contour = "0212" if self.timeline.metre == COMMON_METRE else "012321"
        steps = range(0, bar, bar // len(contour))
        return Part(tuple(zip(steps, contour, strict=True)), bar)

    def _pace(self, name: str, number: int, part: Part, place: int | None = None) -> None:
        """Hold a voice in one bar to a rhythm; `place` counts the bars of a rhythm that is longer than one."""
        if not self.playing[name][number]:
            return
        row, first = VOICE_INDEX[name], number * self.bar_steps
        stop = min(first + self.bar_steps, self.num_steps)
        self.given[row, first:stop] = HOLD
        bars_of_part = max(1, part.num_steps // self.bar_steps)
        begins = first - (number if place is None else place) % bars_of_part * self.bar_steps
        for step, mark in part.marks:
            place = begins + step
            if not first <= place < stop:
                continue
            if mark == LET_GO:
                self.given[row, place] = REST
                continue
            kind = {STRUCK: "onset", FREE: "soft"}.get(mark, f"register {mark}")
            self.given[row, place] = DRAWN
            self.mask_of[row, place] = self.mask_numbers[name, kind]

    def write_themes(self) -> None:
        """Melodies and chords that return."""
        for number, bar in enumerate(self.bars):
            self._return("melody", number, bar.melody_from)
            for name in ("harmony", "bass"):
                self._return(name, number, bar.harmony_from)

    def _return(self, name: str, number: int, origin: int | None) -> None:
        if origin is None or not self.playing[name][number] or not self.playing[name][origin]:
            return
        first, stop = number * self.bar_steps, min((number + 1) * self.bar_steps, self.num_steps)
        steps = np.arange(first, stop)
        self.source[VOICE_INDEX[name], first:stop] = steps - first + origin * self.bar_steps

    def write_answers(self) -> None:
        """Strokes of all voices at hit points, stillness around them, a gap before heavy ones."""
        before = -self.bar_steps
        for strike in self.strikes:
            number = strike.step // self.bar_steps
            gap = _GAP_STEPS if strike.weight >= _HEAVY and strike.step - before >= 2 * STEPS_PER_BEAT else 0
            for name, playing in self.playing.items():
                row = VOICE_INDEX[name]
                is_returning = name == "melody" and self.bars[number].melody_from is not None
                if not playing[number] or is_returning or (name in _SINGING and strike.weight < _SUNG):
                    continue
                around = slice(max(0, strike.step - _AROUND), strike.step + _AROUND + 1)
                self.given[row, around], self.source[row, around] = HOLD, NO_SOURCE
                silence = gap if name not in _BACKGROUND else max(gap, _BREATH)
                if silence and name != "harmony":
                    silent = slice(max(0, strike.step - silence), strike.step)
                    self.given[row, silent], self.source[row, silent] = HOLD, NO_SOURCE
                    self.given[row, silent.start] = REST
                self.given[row, strike.step] = DRAWN
                self.mask_of[row, strike.step] = self.mask_numbers[name, "loud"]
            before = strike.step

    def _rest(self, name: str, first: int, stop: int) -> None:
        row = VOICE_INDEX[name]
        self.given[row, first:stop], self.source[row, first:stop] = HOLD, NO_SOURCE
        self.given[row, first] = REST

    def laid_out(self) -> tuple[Constraints, np.ndarray | None]:
        """The constraints on the decoder's steps, and the layout of those."""
        if self.bar_steps == DECODER_BAR:
            return Constraints(self.given, self.source, self.masks, self.mask_of), None
        whole, rest = divmod(self.num_steps, self.bar_steps)
        inside = np.minimum(np.arange(DECODER_BAR), self.bar_steps - 1)
        parts = [inside + number * self.bar_steps for number in range(whole)]
        if rest:
            parts.append(np.arange(rest) + whole * self.bar_steps)
        layout = np.concatenate(parts)
        is_first = np.diff(layout, prepend=-1) > 0
        place = np.flatnonzero(is_first)  # the decoder's step of each of the timeline's
        given, source = self.given[:, layout], self.source[:, layout]
        source = np.where(source == NO_SOURCE, NO_SOURCE, place[source])
        given[:, ~is_first], source[:, ~is_first] = HOLD, NO_SOURCE
        return Constraints(given, source, self.masks, self.mask_of[:, layout]), layout


def _playing(bars: Sequence[BarForm], muted: Sequence[tuple[str, ...]]) -> dict[str, list[bool]]:
    """In which bars each pitched voice plays, given the voices that are muted in each."""
    casts = {names: _playing_with(bars, names) for names in dict.fromkeys(muted)}
    return {name: [casts[names][name][bar] for bar, names in enumerate(muted)] for name in _ENTERS}


def _playing_with(bars: Sequence[BarForm], muted: Sequence[str]) -> dict[str, list[bool]]:
    """In which bars each pitched voice plays; one of them always does, and nobody rests all the time unless muted."""
    there = [name for name in _ENTERS if name not in muted]
    playing: dict[str, list[bool]] = {}
    smooth = smooth_bars([bar.intensity for bar in bars])
    for name, enters in _ENTERS.items():
        plays, found = False, []
        for bar, intensity in zip(bars, smooth, strict=True):
            plays = name in there and intensity >= enters - (_HYSTERESIS if plays else 0)
            if bar.is_opening and name in ("melody", "counter"):
                plays = False
            found.append(plays)
        playing[name] = found
    fullest = int(np.argmax([-1.0 if bar.is_opening else value for bar, value in zip(bars, smooth, strict=True)]))
    for name in there:
        if not any(playing[name]):
            playing[name][max(0, fullest - 1) : fullest + 2] = [True] * len(bars[max(0, fullest - 1) : fullest + 2])
    leading = there[:1] if "harmony" in there or len(there) < 2 else there[:2]
    for name in leading:
        playing[name] = [True] * len(bars)
    return playing
