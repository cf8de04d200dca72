"""Held-out clips share neither track nor person with those learnt from; a given split's leaks are counted."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.training.data.splits import ASIDE, HELD_OUT, TRAIN, Identity, drop_leaks, find_leaks, split


def clip(name: str, track: str = "", person: str = "", tokens: str = "", duration_s: float = 10.0) -> Identity:
    return Identity(name, track, person, tokens or f"tokens of {name}", duration_s)


def share_of(clips, where, kind) -> float:
    total = sum(c.duration_s for c in clips)
    return sum(c.duration_s for c, w in zip(clips, where, strict=True) if w == kind) / total


def test_whole_tracks_and_people_are_held_out():
    clips = [
        clip(f"{p}-{t}-{i}", f"track {p} {t}", f"person {p}") for p in range(20) for t in range(3) for i in range(4)
    ]
    where = split(clips, [], 0.1)
    assert share_of(clips, where, HELD_OUT) == pytest.approx(0.1, abs=0.05) and ASIDE not in where
    assert find_leaks(clips, [], where).is_clean


def test_clips_that_share_a_recording_stay_together_without_any_stated_track():
    clips = [clip(f"c{i}") for i in range(40)]
    pairs = [(i, i + 1) for i in range(0, 40, 2)]
    where = split(clips, pairs, 0.2)
    assert all(where[a] == where[b] for a, b in pairs) and HELD_OUT in where
    assert find_leaks(clips, pairs, where).is_clean


def test_few_people_to_much_music_are_held_out_crosswise_and_the_mixed_clips_set_aside():
    rng = np.random.default_rng(0)
    clips = [clip(f"c{i}", f"t{rng.integers(30)}", f"p{rng.integers(8)}") for i in range(400)]
    where = split(clips, [], 0.1)
    assert find_leaks(clips, [], where).is_clean
    assert 0.03 < share_of(clips, where, HELD_OUT) < 0.2 and share_of(clips, where, TRAIN) > 0.4 and ASIDE in where


def test_nothing_is_held_out_where_no_honest_choice_exists():
    same = [clip(f"c{i}", "one track", "one person") for i in range(10)]
    assert set(split(same, [], 0.1)) == {TRAIN}
    assert set(split([clip("a"), clip("b")], [], 0.0)) == {TRAIN} and split([clip("a")], [], 0.5) == [TRAIN]


def test_adding_clips_moves_few_others():
    clips = [clip(f"c{i}", f"t{i}", f"p{i}") for i in range(200)]
    before, after = split(clips[:180], [], 0.1), split(clips, [], 0.1)
    assert sum(a != b for a, b in zip(before, after, strict=False)) < 12
    assert split(clips, [], 0.1, seed=1) != after


def test_the_leaks_of_a_given_split_are_counted_by_kind():
    clips = [
        clip("a", "t1", "p1"),
        clip("b", "t2", "p2", tokens="same"),
        clip("c", "t3"),
        clip("x", "t1", "p9"),
        clip("y", "t8", "p2", tokens="same"),
        clip("z", "", ""),
    ]
    where = [TRAIN] * 3 + [HELD_OUT] * 3
    leaks = find_leaks(clips, [(2, 5), (3, 4)], where)
    assert leaks.same_track == ("x",) and leaks.same_target == ("y",) and leaks.same_person == ("y",)
    assert leaks.same_sound == ("z",) and leaks.unknown_person == 1 and leaks.unknown_track == 1
    assert not leaks.is_clean and len(leaks.lines()) == 5 and leaks.lines()[0].startswith("1 of 3 held-out clips have")


def test_leaks_can_be_dropped_from_what_is_learnt():
    clips = [clip("a", "t1"), clip("b", "t2", "p"), clip("c", "t3"), clip("d", "t4"), clip("x", "t1", "p")]
    where = drop_leaks(clips, [(2, 4)], [TRAIN] * 4 + [HELD_OUT])
    assert where == [ASIDE, ASIDE, ASIDE, TRAIN, HELD_OUT] and find_leaks(clips, [(2, 4)], where).is_clean


def test_the_authors_kind_of_split_is_seen_to_leak():
    """Their test clips are of tracks that are also learnt from, a third with the very same target."""
    rng = np.random.default_rng(1)
    tracks = rng.integers(0, 26, 187)
    clips = [clip(f"c{i}", f"t{t}", tokens=f"t{t} at {rng.integers(3)}") for i, t in enumerate(tracks)]
    where = [HELD_OUT if i % 10 == 0 else TRAIN for i in range(len(clips))]
    leaks = find_leaks(clips, [], where)
    assert len(leaks.same_track) == leaks.held_out == 19 and 5 < len(leaks.same_target) <= 19
