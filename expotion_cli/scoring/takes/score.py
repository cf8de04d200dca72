"""What a take is worth: by its music after the follow layer, before it meets the clip's own sound.

A take is held to the marks that finished cues are held to (`docs/evaluation.md`). The take that misses the fewest is
the best; among equals the one with the highest score, the mean of five terms: hits, dynamics, pulse, style and notes.
So none that misses a mark is kept while another meets all. A take is judged by itself, whatever the others are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.audio.dynamics import find_silences, measure_dynamics
from expotion_cli.audio.hits import hits
from expotion_cli.audio.loudness import integrated_lufs
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.audio.pulse import pulse_clarity
from expotion_cli.tags import TAGS

if TYPE_CHECKING:
    from expotion_cli.music.codecs.codec import Rating
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.ladder import Score
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.tagging.tagger import Tagger

VERSION = 1
"""To be raised when the same takes come to be ranked differently; part of every result that was chosen from several."""

LEAST_HITS, MOST_BY_CHANCE = 0.92, 0.5
GOOD_SPREAD_DB, MOST_SPREAD_DB = 9.0, 13.0
MOST_HOLES = 0.01
LEAST_PULSE, LEAST_AMBIENT_PULSE, AMBIENT = 0.78, 0.70, "ambient"
MOST_LIMITED_DB = 6.0
LONGEST_SILENCE_S = 2.0
AMONG_FIRST = 5
"""One of the recipe's own tags should be among so many that the tagger hears best."""
TAGGED_WINDOWS = 4
"""Windows of 3 s that are tagged, spread over a take of any length: tagging all of it costs as much as composing it."""


@dataclass(frozen=True)
class Judged:
    """How a take is judged.

    Attributes:
        number: of the take, from 1.
        terms: what was measured, by name; None where there is nothing to measure.
        missed: marks that it misses and faults that it has, in words.
        score: 0..1; None where nothing could be measured.
    """

    number: int
    terms: Mapping[str, float | None]
    missed: tuple[str, ...]
    score: float | None

    @property
    def rank(self) -> tuple[float, ...]:
        """The greatest is the best; of equals the first."""
        return -len(self.missed), -1.0 if self.score is None else self.score, -self.number


def best(judged: Sequence[Judged]) -> Judged:
    """The best of several takes, at least one."""
    return max(judged, key=lambda take: take.rank)


def deciding(recipe: Recipe) -> dict[str, Any]:
    """What the choice depends on besides the takes' music, for a result's digest."""
    tags = {"tags": list(recipe.tags), "tagger": _tagger_digest()} if recipe.tags else {}
    return {"version": VERSION, "number": recipe.generate.takes, **tags}


def judge(number: int, score: Score, rating: Rating, plan: CuePlan, recipe: Recipe) -> Judged:
    """Judge a take.

    Args:
        number: of the take, from 1.
        score: its music, after the follow layer.
        rating: the codec's.
        plan: what the music should do.
        recipe: with all flags laid over it; its tags tell the style, its loudness how much would be limited.

    Raises:
        WeightsError: the tagger's weights are missing or damaged.
    """
    audio, rate = score.audio, score.sample_rate
    end_s = plan.duration_s if plan.end_s is None else plan.end_s
    sounding = audio[:, round(plan.start_s * rate) : max(round(end_s * rate), round(plan.start_s * rate) + 1)]
    strength, dynamics = onset_strength(audio, rate), measure_dynamics(sounding, rate)
    met = hits(np.array([hit.time_s for hit in plan.hits]), strength)
    style, place = _style(audio, rate, recipe.tags)
    terms = {
        "hits": _known(met.value, 3),
        "hits_chance": _known(met.chance, 3),
        "spread_db": _known(dynamics.spread_db, 1),
        "hole_share": _known(dynamics.hole_share, 4),
        "pulse": _known(pulse_clarity(strength), 3),
        "limiter_db": _known(limited_db(audio, rate, recipe), 1),
        "silence_s": _known(find_silences(sounding, rate).longest_s if sounding.size else 0.0, 2),
        "style": style,
        "style_place": place,
        "notes": _known(math.nan if rating.usual is None else rating.usual, 2),
    }
    return Judged(number, terms, (*rating.faults, *_missed(terms, recipe.tags)), _score(terms))


def limited_db(audio: np.ndarray, sample_rate: int, recipe: Recipe) -> float:
    """What a limiter would have to take off the highest sample at the recipe's loudness; NaN for silence."""
    loudness, peak = integrated_lufs(audio, sample_rate), float(np.abs(audio).max(initial=0.0))
    if not math.isfinite(loudness) or peak <= 0:
        return math.nan
    return max(0.0, 20 * math.log10(peak) + recipe.loudness.lufs - loudness - recipe.loudness.peak_dbtp)


def _missed(terms: Mapping[str, float | None], tags: Sequence[str]) -> list[str]:
    least_pulse = LEAST_AMBIENT_PULSE if AMBIENT in tags else LEAST_PULSE
    found = [
        _outside(terms["hits"], LEAST_HITS, "hits {:.2f}, at least {:.2f}", is_least=True),
        _outside(terms["hits_chance"], MOST_BY_CHANCE, "hits by chance {:.2f}, at most {:.2f}"),
        _outside(terms["spread_db"], MOST_SPREAD_DB, "spread {:.1f} dB, at most {:.0f}"),
        _outside(terms["hole_share"], MOST_HOLES, "holes {:.1%}, at most {:.0%}"),
        _outside(terms["pulse"], least_pulse, "pulse {:.2f}, at least {:.2f}", is_least=True),
        _outside(terms["limiter_db"], MOST_LIMITED_DB, "limiter {:.1f} dB, at most {:.0f}"),
        _outside(terms["silence_s"], LONGEST_SILENCE_S, "silent for {:.1f} s, at most {:.0f}"),
        _outside(terms["style_place"], AMONG_FIRST, "style: its first tag is heard as number {:.0f}, at most {:.0f}"),
    ]
    return [words for words in found if words]


def _outside(value: float | None, mark: float, words: str, *, is_least: bool = False) -> str:
    if value is None or (value >= mark if is_least else value <= mark):
        return ""
    return words.format(value, mark)


def _score(terms: Mapping[str, float | None]) -> float | None:
    """Mean of the five terms, each 0..1; those that could not be measured are left out."""
    spread, holes = terms["spread_db"], terms["hole_share"]
    dynamics = None
    if spread is not None and holes is not None:
        evenness = (MOST_SPREAD_DB - spread) / (MOST_SPREAD_DB - GOOD_SPREAD_DB)
        dynamics = (min(1.0, max(0.0, evenness)) + max(0.0, 1 - holes / (2 * MOST_HOLES))) / 2
    known = [v for v in (terms["hits"], dynamics, terms["pulse"], terms["style"], terms["notes"]) if v is not None]
    return round(sum(known) / len(known), 4) if known else None


def _style(audio: np.ndarray, sample_rate: int, tags: Sequence[str]) -> tuple[float | None, int | None]:
    """(mean probability of the tags, place of the one heard best among all 50); None without tags."""
    if not tags:
        return None, None
    from expotion_cli.tagging.tagger import style

    heard = _tagger().hear(audio, sample_rate, most_windows=TAGGED_WINDOWS).mean
    own = max(float(heard[TAGS.index(tag)]) for tag in tags)
    return round(style(heard, tags), 3), int((heard > own).sum()) + 1


@lru_cache(maxsize=1)
def _tagger() -> Tagger:
    from expotion_cli.tagging.tagger import Tagger

    return Tagger()


@lru_cache(maxsize=1)
def _tagger_digest() -> str | None:
    from expotion_cli.tagging.tagger import NAME
    from expotion_cli.weights.manifest import find_manifest

    return find_manifest(NAME, "tagger").files[0].sha256


def _known(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
