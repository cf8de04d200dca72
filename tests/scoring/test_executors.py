"""Where rungs run."""

from __future__ import annotations

import threading
import time

import pytest

from expotion_cli.scoring.executors import InlineExecutor, ThreadExecutor


def test_a_stage_runs_in_a_lane_of_its_own_in_order():
    order, release = [], threading.Event()
    executor = ThreadExecutor()
    blocked = executor.submit("see", release.wait, 30)
    later = [executor.submit("see", order.append, number) for number in range(3)]
    finished = executor.submit("finish", threading.get_ident)
    assert finished.result(30) != threading.get_ident() and order == [], "finishing does not wait for seeing"
    release.set()
    assert blocked.result(30) is True
    for future in later:
        future.result(30)
    assert order == [0, 1, 2]
    executor.close()


def test_a_stage_may_have_several_lanes():
    executor, meeting = ThreadExecutor({"finish": 2}), threading.Barrier(2, timeout=30)
    both = [executor.submit("finish", meeting.wait) for _ in range(2)]
    assert sorted(future.result(30) for future in both) == [0, 1], "they met, so they ran at the same time"
    executor.close()


def test_closing_cancels_what_has_not_begun_and_waits_for_what_has():
    begun, done, release = threading.Event(), [], threading.Event()

    def work():
        begun.set()
        release.wait(30)
        done.append(True)

    executor = ThreadExecutor()
    executor.submit("see", work)
    never = executor.submit("see", done.append, "never")
    assert begun.wait(30)
    threading.Timer(0.1, release.set).start()
    started = time.monotonic()
    executor.close()
    assert done == [True] and never.cancelled() and time.monotonic() - started < 20


def test_inline_runs_at_once_in_the_callers_thread_and_keeps_errors_for_whoever_asks():
    executor = InlineExecutor()
    assert executor.submit("see", threading.get_ident).result() == threading.get_ident()
    failed = executor.submit("see", int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result()
    executor.close()
