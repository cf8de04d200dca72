"""Rates takes of a cue by their notes: faults, and measures outside the usual range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.audio.tonality import key_fits
from expotion_cli.errors import WeightsError
from expotion_cli.music.codecs.codec import Rating
from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.music.codecs.notes.arrange import dynamics_curve
from expotion_cli.music.codecs.notes.metrics import five_measures, is_stuck
from expotion_cli.music.codecs.notes.muspy import MEASURES
from expotion_cli.music.codecs.notes.ringing import ring_on
from expotion_cli.storage import digest_of, read_json
from expotion_cli.timing import STEPS_PER_BEAT

if TYPE_CHECKING:
    from expotion_cli.timing import Timeline

VERSION = 4
"""Raised whenever the same takes would be rated otherwise."""
LONGEST_PAUSE_S = 2.0
RANGES_FILE = "training.json"
_OFF_KEY = 0.08
_SOFTEST = 0.4


@dataclass(frozen=True)
class NoteJudge:
    """Rates takes of a cue by their note tokens.

    Attributes:
        ranges: measure → (10th, 90th percentile) in the training music, by length of the excerpts in steps. Empty: only
            faults count.
    """

    ranges: Mapping[int, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    @classmethod
    def of_model(cls, folder: Path) -> NoteJudge:
        """The judge of a model: with the ranges in its folder's `training.json`, or without any."""
        path = folder / RANGES_FILE
        if not path.is_file():
            return cls()
        rows = read_json(path, "the model's statistics", error=WeightsError).get("statistics_by_steps", {})
        ranges = {
            int(steps): {key: (row[key]["p10"], row[key]["p90"]) for key in MEASURES if key in row}
            for steps, row in rows.items()
        }
        return cls(ranges)

    @property
    def digest(self) -> str:
        """Hash of everything that influences the ratings."""
        return digest_of(
            [VERSION, {str(steps): {k: list(v) for k, v in row.items()} for steps, row in self.ranges.items()}]
        )

    def rate(self, tokens: np.ndarray, timeline: Timeline) -> Rating:
        """Rate tokens [8, S]: by loops, pauses longer than `LONGEST_PAUSE_S`, another key than its own; by measures."""
        bar_steps = timeline.bar_steps
        longest_s = longest_pause(tokens, bar_steps) / float(timeline.rate_hz)
        faults = [
            *(["stuck in a loop"] if is_stuck(tokens, bar_steps) else []),
            *([f"a pause of {longest_s:.1f} s"] if longest_s > LONGEST_PAUSE_S else []),
            *(["off its key"] if is_off_key(tokens) else []),
        ]
        usual = self.num_in_range(tokens, bar_steps) / len(MEASURES) if self.ranges else None
        return Rating(tuple(faults), usual)

    def num_in_range(self, tokens: np.ndarray, bar_steps: int) -> int:
        """How many of the five measures of the arranged notes lie within the training music's 10-90 % range."""
        if not self.ranges:
            return 0
        steps = tokens.shape[1]
        known = self.ranges[min(self.ranges, key=lambda length: abs(np.log(steps / length)))]
        rung = ring_on(notes.tokens_to_events(tokens), steps, bar_steps)
        found = five_measures(notes.events_to_tokens(rung, steps), bar_steps)
        return sum(low - 1e-9 <= found[key] <= high + 1e-9 for key, (low, high) in known.items())


def is_off_key(tokens: np.ndarray) -> bool:
    """Whether another tonic than its own fits clearly better."""
    fits = key_fits(pitch_classes(tokens))
    return max(fits.values()) > max(fits[0, False], fits[0, True]) + _OFF_KEY


def pitch_classes(tokens: np.ndarray) -> np.ndarray:
    """[12] steps for which each pitch class sounds, the tonic first; the tonic alone where none does."""
    sounding = np.zeros(12)
    for name, found in notes.tokens_to_events(tokens).items():
        kind = notes.VOICES[notes.VOICE_INDEX[name]].kind
        for event in found if kind in ("pitched", "chord") else ():
            classes = [event.value]
            if kind == "chord":
                root, intervals = notes.chord_pitches(event.value)
                classes = [root + interval for interval in intervals]
            for each in classes:
                sounding[each % 12] += event.end - event.start
    return sounding if sounding.any() else np.eye(12)[0]


def longest_pause(tokens: np.ndarray, bar_steps: int) -> int:
    """Longest run of steps in which, after arranging, no pitched voice sounds and no drum is struck."""
    steps = tokens.shape[1]
    silent = np.ones(steps + 2, dtype=bool)
    silent[[0, -1]] = False
    for name, found in ring_on(notes.tokens_to_events(tokens), steps, bar_steps).items():
        kind = notes.VOICES[notes.VOICE_INDEX[name]].kind
        for event in found if kind != "dynamics" else ():
            end = min(steps, event.start + STEPS_PER_BEAT) if kind == "drums" else event.end
            silent[1 + event.start : 1 + end] = False
    sounding = np.flatnonzero(~silent)
    return int(np.diff(sounding).max()) - 1


def onset_strength(tokens: np.ndarray) -> np.ndarray:
    """Onset strength of each step, summed over voices: [S]."""
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
