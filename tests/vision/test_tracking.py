"""Made boxes on made paths: crossings, gaps, crowds."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.vision.tracking import MAX_LOST_S, Tracker, follow, overlap

SIZE = (640, 480)
NOBODY = np.zeros((0, 4))


def box(x: float, y: float, side: float) -> np.ndarray:
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])


def seen(paths: dict[str, callable], times_s, jitter: float = 0.0, seed: int = 0):
    """What a detector gives of people on paths (time -> (x, y, side, is in front) or None): hidden ones are left out.

    Returns boxes a frame and names a frame, in random order.
    """
    random = np.random.default_rng(seed)
    boxes, names = [], []
    for time_s in times_s:
        there = {name: at for name, path in paths.items() if (at := path(time_s)) is not None}
        found = {}
        for name, (x, y, side, _) in there.items():
            wobble = random.normal(0, jitter * side, 3) if jitter else np.zeros(3)
            found[name] = box(x + wobble[0], y + wobble[1], side + wobble[2] / 2)
        for name in list(found):
            front = [other for other in there if other != name and there[other][3] > there[name][3]]
            if any(overlap(box(*there[other][:3]), box(*there[name][:3])) > 0.25 for other in front):
                del found[name]
        order = list(found)
        random.shuffle(order)
        boxes.append(np.array([found[name] for name in order]).reshape(-1, 4))
        names.append(order)
    return boxes, names


def followed(chosen: np.ndarray, names: list[list[str]]) -> list[str | None]:
    return [names[i][index] if index >= 0 else None for i, index in enumerate(chosen)]


@pytest.mark.parametrize("rate_hz", [5, 10, 25])
@pytest.mark.parametrize("in_front", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_somebody_who_passes_before_or_behind_does_not_steal_the_track(rate_hz, in_front, seed):
    """The second is as large as the main person and crosses at one and a half face sizes a second."""
    times_s = np.arange(0, 8, 1 / rate_hz)
    paths = {
        "main": lambda t: (320 + 10 * np.sin(2 * t), 200, 100, 0),
        "other": lambda t: (320 + 150 * (t - 4), 205, 100, 1 if in_front else -1) if 1 < t < 7 else None,
    }
    boxes, names = seen(paths, times_s, jitter=0.03, seed=seed)
    who = followed(follow(times_s, boxes, size=SIZE), names)
    assert "other" not in who
    assert who.count("main") == sum("main" in there for there in names)


@pytest.mark.parametrize("rate_hz", [5, 25])
@pytest.mark.parametrize("seed", range(4))
def test_two_people_who_cross_keep_their_names(rate_hz, seed):
    times_s = np.arange(0, 6, 1 / rate_hz)
    paths = {
        "main": lambda t: (150 + 60 * t, 220, 100, 1),
        "other": lambda t: (490 - 60 * t, 230, 90, 0),
    }
    boxes, names = seen(paths, times_s, jitter=0.02, seed=seed)
    assert any(len(there) == 1 for there in names), "they must hide each other for a moment"
    assert set(followed(follow(times_s, boxes, size=SIZE), names)) == {"main"}


def test_looks_tell_people_apart_who_meet_and_turn_back():
    """By their motion alone they would seem to have passed each other."""
    times_s = np.arange(0, 6, 0.2)
    paths = {
        "main": lambda t: (310 - 50 * abs(t - 3) - 2, 220, 100, 1),
        "other": lambda t: (330 + 50 * abs(t - 3) + 2, 220, 95, 0),
    }
    boxes, names = seen(paths, times_s, jitter=0.02)
    appearance = {"main": np.array([1.0, 0.0, 0.1]), "other": np.array([0.0, 1.0, 0.1])}
    appearances = [np.array([appearance[name] for name in there]).reshape(-1, 3) for there in names]
    assert set(followed(follow(times_s, boxes, size=SIZE, appearances=appearances), names)) == {"main"}


def test_gaps_are_waited_for_and_the_person_behind_does_not_fill_them():
    times_s = np.arange(0, 8, 0.2)

    def main(t):
        return None if 3 < t < 4.5 else (300, 200, 110, 1)

    paths = {"main": main, "behind": lambda t: (420, 210, 70, 0)}
    boxes, names = seen(paths, times_s, jitter=0.02)
    who = followed(follow(times_s, boxes, size=SIZE), names)
    assert set(who) == {"main", None} and who.count(None) == sum(3 < t < 4.5 for t in times_s)


def test_after_the_main_person_is_gone_an_equal_is_followed_and_somebody_small_is_not():
    times_s = np.arange(0, 10, 0.2)
    paths = {"first": lambda t: (300, 200, 110, 1) if t < 6 else None}
    for side, last in ((90, "second"), (30, None)):
        later = {"second": lambda t, side=side: (360, 220, side, 0) if t > 6.5 else None}
        boxes, names = seen({**paths, **later}, times_s)
        who = followed(follow(times_s, boxes, size=SIZE), names)
        assert who[10] == "first" and who[-5] == last


def test_the_main_person_is_large_near_the_centre_and_long_there():
    times_s = np.arange(0, 4, 0.2)
    cases = (
        ({"main": (320, 240, 80), "other": (320, 100, 50)}, "larger"),
        ({"main": (320, 240, 80), "other": (60, 60, 85)}, "nearer the centre"),
    )
    for people, why in cases:
        boxes, names = seen({name: lambda t, at=at: (*at, 0) for name, at in people.items()}, times_s)
        assert set(followed(follow(times_s, boxes, size=SIZE), names)) == {"main"}, why
    paths = {"main": lambda t: (200, 240, 80, 0), "other": lambda t: (420, 240, 90, 0) if 1 < t < 2 else None}
    boxes, names = seen(paths, times_s)
    assert set(followed(follow(times_s, boxes, size=SIZE), names)) == {"main"}, "longer there"


def test_units_and_rates_do_not_matter():
    times_s = np.arange(0, 6, 0.2)
    paths = {"main": lambda t: (150 + 60 * t, 220, 100, 1), "other": lambda t: (490 - 60 * t, 230, 90, 0)}
    boxes, _ = seen(paths, times_s, jitter=0.02)
    inside = follow(times_s, boxes, size=SIZE)
    shares = follow(times_s, [b / 640 for b in boxes], size=(1.0, 0.75))
    assert np.array_equal(inside, shares) and (inside >= 0).sum() > 25


def test_finds_by_chance_are_nobody():
    random = np.random.default_rng(3)
    times_s = np.arange(0, 10, 0.2)
    boxes = [
        np.array([box(*random.uniform((40, 40), (600, 440)), random.uniform(15, 30))]) if i % 7 == 0 else NOBODY
        for i in range(len(times_s))
    ]
    assert (follow(times_s, boxes, size=SIZE) == -1).all()


def test_a_clip_of_one_picture_and_one_of_none():
    assert follow([0.0], [np.array([box(100, 100, 50)])], size=SIZE).tolist() == [0]
    assert follow([0.0], [NOBODY], size=SIZE).tolist() == [-1]
    assert follow([], [], size=SIZE).tolist() == []


def test_a_crowd_costs_little_and_the_large_one_in_front_is_followed():
    random = np.random.default_rng(5)
    times_s = np.arange(0, 4, 0.2)
    places = random.uniform((30, 30), (610, 450), (40, 2))
    boxes = [
        np.array([*(box(*(place + random.normal(0, 1, 2)), 25) for place in places), box(320, 240, 90)])
        for _ in times_s
    ]
    chosen = follow(times_s, boxes, [np.full(41, 0.9)] * len(times_s), size=SIZE)
    assert (chosen == 40).all()


def test_tracks_tell_where_somebody_is_expected_next():
    tracker = Tracker()
    for i in range(10):
        tracker.add(i / 5, [box(100 + 20 * i, 200, 80)])
    (track,) = tracker.live
    assert track.frames == list(range(10)) and track.indices == [0] * 10
    ahead = (track.expected(2.0) - track.boxes[-1])[0]
    assert 12 < ahead < 20
    tracker.add(1.8 + MAX_LOST_S + 0.1, NOBODY)
    assert tracker.live == [] and len(tracker.tracks) == 1


def test_overlap_is_the_common_share_of_both_boxes():
    assert overlap(box(0, 0, 2), box(0, 0, 2)) == 1
    assert overlap(box(0, 0, 2), box(1, 0, 2)) == pytest.approx(1 / 3)
    assert overlap(box(0, 0, 2), box(2, 0, 2)) == 0
