"""How takes are judged: by the marks, then by the score; and what is asked of a bundle of measures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from expotion_cli.music.codecs.codec import Rating
from expotion_cli.music.codecs.encodec import rate_sound
from expotion_cli.recipe import Recipe, load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.ladder import Score, Seen
from expotion_cli.scoring.takes import score as scoring
from expotion_cli.scoring.takes.playing import Played, play_best
from expotion_cli.scoring.takes.score import Judged, best, deciding, judge
from expotion_cli.spotting.hits import HitPoint

RATE, LENGTH_S = 22_050, 8.0
BEATS = np.arange(0, LENGTH_S, 0.5)
UNRATED = Rating()
ELSEWHERE = [time_s for time_s in BEATS if time_s not in (1.0, 3.0, 4.5, 6.0)]
PLAIN = Recipe()
STRINGS = load_recipe("cinematic")
HITS = tuple(HitPoint(time_s, 1.0, "gesture", "") for time_s in (1.0, 3.0, 4.5, 6.0))


@pytest.fixture(scope="module")
def plan():
    return replace(ladder.spot(Seen(), Fraction(8), PLAIN), hits=HITS)


def music(times_s=BEATS, accents_s=(), level: float = 0.2) -> Score:
    """A steady pulse of short tones over a held chord, with louder ones where accents are."""
    t = np.arange(round(LENGTH_S * RATE)) / RATE
    sound = 0.03 * sum(np.sin(2 * np.pi * hz * t) for hz in (220, 277, 330))
    for time_s, size in [*((each, 0.05) for each in times_s), *((each, 0.4) for each in accents_s)]:
        sound += size * np.sin(2 * np.pi * 880 * (t - time_s)) * np.exp(-12 * np.maximum(t - time_s, 0)) * (t >= time_s)
    return Score((level * np.stack([sound, sound])).astype(np.float32), RATE, None)


def judged(score: Score, plan, rating: Rating = UNRATED, recipe: Recipe = PLAIN) -> Judged:
    return judge(1, score, rating, plan, recipe)


def test_music_that_meets_the_hit_points_and_keeps_its_pulse_misses_no_mark(plan):
    found = judged(music(accents_s=[hit.time_s for hit in HITS]), plan, Rating(usual=0.8))
    assert found.missed == () and found.terms["hits"] == 1 and found.terms["notes"] == 0.8
    assert found.score > 0.85 and found.terms["style"] is None, "a recipe without tags has no style"


@pytest.mark.parametrize(
    ("make", "missed"),
    [
        (lambda: music(times_s=ELSEWHERE, accents_s=[0.5, 2.0, 5.0, 7.0]), "hits"),
        (lambda: music(times_s=np.random.default_rng(1).uniform(0, 8, 20)), "pulse"),
        (lambda: with_gap(music(accents_s=[hit.time_s for hit in HITS]), 3.2, 5.6), "silent for 2.4 s"),
        (lambda: with_gap(music(accents_s=[hit.time_s for hit in HITS]), 3.2, 5.6, 0.03), "holes"),
        (lambda: with_gap(music(accents_s=[hit.time_s for hit in HITS]), 1.2, 2.9, 0.1), "spread"),
        (lambda: with_peak(music(accents_s=[hit.time_s for hit in HITS])), "limiter"),
    ],
)
def test_each_mark_is_missed_by_music_that_lacks_just_that(plan, make, missed):
    assert missed in "; ".join(judged(make(), plan).missed)


def with_gap(score: Score, start_s: float, end_s: float, left: float = 0.0) -> Score:
    audio = score.audio.copy()
    audio[:, round(start_s * RATE) : round(end_s * RATE)] *= left
    return replace(score, audio=audio)


def with_peak(score: Score) -> Score:
    audio = score.audio.copy()
    audio[:, 5 * RATE] = 30 * np.abs(audio).max()
    return replace(score, audio=audio)


def test_silence_before_the_music_may_begin_is_no_fault(plan):
    late = with_gap(music(accents_s=[hit.time_s for hit in HITS]), 0.0, 2.5)
    assert "silent" in "; ".join(judged(late, plan).missed)
    assert "silent" not in "; ".join(judged(late, replace(plan, start_s=2.5)).missed)


def test_silence_and_faults_are_counted_and_never_divide_by_nothing(plan):
    silent = replace(music(), audio=np.zeros((2, round(LENGTH_S * RATE)), np.float32))
    found = judged(silent, replace(plan, hits=()), Rating(faults=("stuck in a loop",)))
    assert found.missed[0] == "stuck in a loop" and "silent for 8.0 s, at most 2" in found.missed
    assert found.terms["hits"] is None and found.terms["spread_db"] is None
    empty = replace(silent, audio=np.zeros((2, 0), np.float32))
    assert judged(empty, replace(plan, hits=())).score is None or judged(empty, plan).score >= 0


def test_style_is_the_probability_of_the_recipes_tags_and_costs_no_more_for_long_takes(plan, monkeypatch):
    asked = {}

    def hear(sound, rate, *, most_windows):
        asked["windows"] = most_windows
        heard = np.full(50, 0.01)
        heard[[scoring.TAGS.index("strings"), scoring.TAGS.index("techno")]] = 0.4, 0.6
        return SimpleNamespace(mean=heard)

    monkeypatch.setattr(scoring, "_tagger", lambda: SimpleNamespace(hear=hear))
    found = judged(music(), plan, recipe=STRINGS)
    assert found.terms["style"] == pytest.approx((0.4 + 3 * 0.01) / 4, abs=1e-3) and asked["windows"] == 4
    assert found.terms["style_place"] == 2 and "style" not in "; ".join(found.missed)
    weird = judged(music(), plan, recipe=STRINGS.override({"tags": ("weird",)}))
    assert weird.terms["style_place"] == 3, "two are heard better, the others equally well"


def take(number: int, score: float | None, *missed: str) -> Judged:
    return Judged(number, {}, missed, score)


def test_no_take_outside_the_marks_is_kept_while_another_is_inside():
    assert best([take(1, 0.99, "pulse"), take(2, 0.2), take(3, 0.9, "hits")]).number == 2
    assert best([take(1, 0.5, "pulse", "hits"), take(2, 0.4, "hits"), take(3, 0.3, "holes")]).number == 2
    assert best([take(1, 0.5), take(2, 0.7), take(3, 0.7)]).number == 2, "of equals the first"
    assert best([take(1, None), take(2, 0.0)]).number == 2


def test_a_choice_depends_on_number_tags_and_version_and_one_take_is_not_judged(plan):
    one, other = (deciding(STRINGS.override({"generate.takes": takes})) for takes in (2, 3))
    assert one != other and deciding(STRINGS.override({"tags": ("harp",)})) != deciding(STRINGS)
    assert "tagger" not in deciding(PLAIN)
    played = Played(music(), {"render": 0.0, "follow": 0.0}, Rating())
    assert play_best(lambda number: played, 1, plan, PLAIN).judged == ()


def test_the_best_is_kept_or_the_one_that_is_wanted(plan):
    hit = [point.time_s for point in HITS]
    sounds = {
        1: music(times_s=ELSEWHERE, accents_s=[0.5, 2.0]),
        2: music(accents_s=hit),
        3: with_gap(music(accents_s=hit), 3.2, 5.6),
    }
    told = []

    def play(number: int) -> Played:
        return Played(sounds[number], {"render": 0.1, "follow": 0.0}, Rating())

    chosen = play_best(play, 3, plan, PLAIN, on_take=lambda number, played: told.append((number, played.score)))
    assert chosen.number == 2 and chosen.played.score is sounds[2] and told == list(sounds.items())
    assert [each.number for each in chosen.judged] == [1, 2, 3]
    wanted = play_best(play, 3, plan, PLAIN, wanted=3)
    assert wanted.number == 3 and wanted.played.score is sounds[3] and wanted.judged == chosen.judged


def test_sound_is_rated_by_loops_and_clipping():
    draw = np.random.default_rng(0)
    free = draw.integers(0, 2048, (4, 400))
    quiet = np.zeros((2, 32_000 * 8), np.float32)
    assert rate_sound(free, quiet, 50.0) == Rating()
    stuck = free.copy()
    stuck[0, 100:320] = np.resize(free[0, :17], 220)
    assert rate_sound(stuck, quiet, 50.0).faults == ("stuck in a loop",)
    bars = np.resize(free[0, :100], 400)
    assert rate_sound(bars[None], quiet, 50.0).faults == (), "bars of two seconds may return"
    loud = quiet.copy()
    loud[:, ::500] = 1.2
    assert rate_sound(free, loud, 50.0).faults == ("0.2% of it clipped",)
    assert rate_sound(free[:, :3], quiet[:, :0], 50.0) == Rating(), "a cue of a few steps"
