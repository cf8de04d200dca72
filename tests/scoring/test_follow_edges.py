"""Where music begins and ends: silent before a plan's start, faded out by its end, whatever follows."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.recipe import Follow
from expotion_cli.scoring.follow import layer, level
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.sections import Intensity
from expotion_cli.timing import Tempo

RATE = 16_000
MUSIC = np.random.default_rng(0).normal(0, 0.1, (2, 4 * RATE)).astype(np.float32)
HITS = tuple(HitPoint(time_s, 1.0, "user", "mine") for time_s in (0.5, 2.0, 3.5))


def plan(start_s: float = 0.0, end_s: float | None = None) -> CuePlan:
    return CuePlan(
        4.0, Tempo(100, 0, 0.0), Intensity(10.0, (0.5,) * 40, (0.5,), ""), HITS, start_s=start_s, end_s=end_s
    )


def test_without_start_and_end_no_sample_changes():
    assert level.within(MUSIC, RATE, 0.0, None) is MUSIC


def test_music_enters_within_30_ms_and_leaves_within_half_a_second():
    heard = level.within(MUSIC, RATE, 1.0, 3.0)
    assert heard.shape == MUSIC.shape and heard.dtype == np.float32
    assert not heard[:, :RATE].any() and not heard[:, 3 * RATE :].any()
    whole = slice(int(1.03 * RATE) + 1, int(2.5 * RATE))
    assert np.array_equal(heard[:, whole], MUSIC[:, whole])
    share = np.abs(heard[:, int(2.5 * RATE) : 3 * RATE] / MUSIC[:, int(2.5 * RATE) : 3 * RATE])[0]
    assert (np.diff(share) < 1e-6).all() and share[0] > 0.99 and share[-1] < 0.01


def test_the_shortest_music_still_sounds_in_its_middle():
    heard = level.within(MUSIC, RATE, 1.0, 1.2)
    middle = int(1.1 * RATE)
    assert np.allclose(heard[:, middle], MUSIC[:, middle], rtol=0.01)


@pytest.mark.parametrize("mode", ["layer", "none"])
def test_every_mode_keeps_between_start_and_end_and_answers_only_what_is_heard(mode):
    followed = layer.follow(MUSIC, RATE, plan(1.0, 3.0), Follow(mode=mode), tonic=0)
    assert not followed.audio[:, :RATE].any() and not followed.audio[:, 3 * RATE :].any()
    assert followed.audio[:, int(1.1 * RATE) : int(2.4 * RATE)].std() > 0.02
    assert [answer.hit_s for answer in followed.answers] == ([2.0] if mode == "layer" else [])


def test_hit_points_everywhere_are_answered_where_music_is_everywhere():
    followed = layer.follow(MUSIC, RATE, plan(), Follow(), tonic=0)
    assert [answer.hit_s for answer in followed.answers] == [0.5, 2.0, 3.5]
