"""The time left, from recorded events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from expotion_cli.scoring.estimate import Estimator, Left, left_by_ledger

CLIP_S = 10.0


def replay(events, clips: int, until: float):
    """What is said at a moment of a recorded run; an event is (time, clip, stage or "done" or "dropped", share)."""
    estimator = Estimator(clips * CLIP_S)
    for at, clip, stage, *share in sorted(events, key=lambda event: event[0]):
        if at > until:
            break
        if stage == "done":
            estimator.settled(clip, CLIP_S, at)
        elif stage == "dropped":
            estimator.dropped(clip, CLIP_S, at)
        else:
            estimator.stage(clip, CLIP_S, stage, share[0], at)
    return estimator.left(until)


def one_after_the_other(clips: int, see=4.0, compose=2.0, finish=1.0):
    """As on one core: each clip is seen, composed and finished before the next one begins."""
    events, at = [], 0.0
    for clip in map(str, range(clips)):
        for stage, took in (("see", see), ("compose", compose), ("finish", finish)):
            events += [(at, clip, stage, 0.0), (at + took, clip, stage, 1.0)]
            at += took
        events.append((at, clip, "done"))
    return events, at


def side_by_side(clips: int, took: float = 4.0):
    """A full pipe: clip n is seen while n - 1 is composed and n - 2 is finished, each in the same time."""
    events = []
    for clip in range(clips):
        for place, stage in enumerate(("see", "compose", "finish")):
            begin = (clip + place) * took
            events += [(begin, str(clip), stage, 0.0), (begin + took, str(clip), stage, 1.0)]
        events.append(((clip + 3) * took, str(clip), "done"))
    return events, (clips + 2) * took


@pytest.mark.parametrize("recorded", [one_after_the_other, side_by_side])
def test_what_is_said_comes_true(recorded):
    events, end = recorded(20)
    for share in (0.3, 0.5, 0.7, 0.9):
        said = replay(events, 20, end * share)
        assert not said.is_least
        assert said.seconds == pytest.approx(end * (1 - share), rel=0.2, abs=0.05 * end)


def test_a_slow_phase_that_others_hide_behind_counts_alone():
    """Seeing takes longest and never stops; what is done beside it adds nothing."""
    events = []
    for clip in range(20):
        begin = clip * 10.0
        events += [(begin, str(clip), "see", 0.0), (begin + 10, str(clip), "see", 1.0)]
        events += [(begin + 10, str(clip), "compose", 0.0), (begin + 12, str(clip), "finish", 0.0)]
        events.append((begin + 13, str(clip), "done"))
    said = replay(events, 20, 100.0)
    assert said.seconds == pytest.approx(100, rel=0.15)


def test_nothing_is_said_before_something_was_measured():
    events, _ = one_after_the_other(3)
    assert replay([], 3, 100.0) is None
    assert replay(events[:1], 3, 0.5) is None, "seeing has begun, and nothing of it is done"


def test_phases_that_were_never_measured_make_it_a_lower_bound():
    events = [(0.0, "0", "see", 0.0), (4.0, "0", "see", 0.5)]
    said = replay(events, 2, 4.0)
    assert said == Left(pytest.approx(12.0), is_least=True) and str(said) == "more than 10 s left"


def test_clips_that_were_there_already_say_nothing_about_speed():
    events, end = one_after_the_other(4)
    there = [(-1.0, f"there {n}", "dropped") for n in range(96)]
    said = replay([*there, *events], 100, end / 2)
    assert said.seconds == pytest.approx(end / 2, rel=0.1)


def test_a_failed_clip_is_no_work_left_and_no_speed_gained():
    events, end = one_after_the_other(4)
    failed = [event for event in events if event[1] != "3"] + [
        (end - 6.9, "3", "see", 0.1),
        (end - 6.8, "3", "dropped"),
    ]
    assert replay(failed, 4, end) is None, "nothing is left"
    assert replay([*failed[:-1], (0.0, "3", "dropped")], 4, end / 2).seconds == pytest.approx(7.0, rel=0.1)


def test_cues_that_are_cached_skip_seeing_and_composing_and_are_measured_so():
    events = []
    for clip in range(5):
        events += [(clip * 3.0, str(clip), "render", 0.0), (clip * 3.0 + 3, str(clip), "done")]
    said = replay(events, 10, 15.0)
    assert not said.is_least and said.seconds == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "5 s"), (22, "20 s"), (57, "55 s"), (58, "1 min"), (150, "2 min"), (3000, "50 min"), (5390, "90 min"),
     (5430, "1 h 30 min"), (7200, "2 h"), (90000, "25 h")],
)  # fmt: skip
def test_a_time_is_said_no_more_exactly_than_it_is_known(seconds, said):
    assert str(Left(seconds)) == f"about {said.replace('90 min', '1 h 30 min')} left"


def ledger_of(clips: int, seen: int):
    """What a run one after the other leaves in its ledger: seven seconds a clip."""
    started = datetime(2026, 11, 28, 12, tzinfo=UTC)
    return [
        {
            "at": (started + timedelta(seconds=7 * (clip + 1))).isoformat(timespec="milliseconds"),
            "event": "scored", "clip": f"{clip}.mp4", "length_s": CLIP_S, "left": clips - clip - 1,
            "left_s": CLIP_S * (clips - clip - 1),
            "spans": {"see": [-7.0, -3.0], "compose": [-3.0, -1.0], "finish": [-1.0, 0.0]},
        }
        for clip in range(seen)
    ]  # fmt: skip


def test_a_ledger_gives_the_same_answer():
    entries = ledger_of(clips=10, seen=4)
    left, at = left_by_ledger(json.loads(json.dumps(entries)))
    assert not left.is_least and left.seconds == pytest.approx(42.0, rel=0.05)
    assert at == datetime.fromisoformat(entries[-1]["at"]).timestamp()


def test_a_ledger_without_measurements_or_with_nothing_left_gives_none():
    assert left_by_ledger([]) is None
    assert left_by_ledger([{"at": "2026-11-28T12:00:00+00:00", "event": "scored", "clip": "a"}]) is None
    assert left_by_ledger(ledger_of(clips=4, seen=4)) is None


def test_a_ledger_that_others_wrote_to_is_read_as_far_as_it_goes():
    strange = [
        {"at": "yesterday", "left_s": 3},
        {"left_s": 3},
        {"at": 3, "left_s": 3},
        {"at": "2026-11-28T12:00:10+00:00", "left_s": 5, "length_s": "x", "spans": []},
        {"at": "2026-11-28T12:00:10+00:00", "left_s": 5, "length_s": 1, "spans": {"see": [None, 1], "x": [0, 1]}},
    ]
    left, _ = left_by_ledger([*strange, *ledger_of(clips=10, seen=4)])
    assert left.seconds > 0
    wrong = ledger_of(clips=10, seen=4)
    wrong[-1]["left_s"] = "many"
    assert left_by_ledger(wrong) is None
