"""One guard for failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from expotion_cli.errors import DecodeError, EnvironmentProblem, ExpotionError, Interrupted, OutputError, WeightsError
from expotion_cli.scoring.guard import as_failure, guard

CLIP = Path("clip.mp4")


def caught(error: Exception) -> ExpotionError:
    failures: list[ExpotionError] = []
    with guard(CLIP, failures.append):
        raise error
    (failure,) = failures
    return failure


def test_what_was_raised_on_purpose_stays_as_it_is():
    error = DecodeError("broken.", path="other.mp4")
    assert caught(error) is error and error.details is None


def test_trouble_of_the_system_names_its_own_file_or_the_clip():
    failure = caught(OSError(28, "No space left on device"))
    assert isinstance(failure, OutputError) and failure.path == CLIP and "No space left" in failure.reason
    assert caught(OSError(13, "Permission denied", "out/x.mp4")).path == Path("out/x.mp4")


def test_what_nobody_foresaw_names_the_clip_and_carries_its_traceback():
    failure = caught(ZeroDivisionError("division by zero"))
    assert failure.path == CLIP and failure.reason == "unexpected ZeroDivisionError: division by zero."
    assert "test_guard.py" in failure.details and "ZeroDivisionError" in failure.details
    assert as_failure(KeyError("x"), CLIP).details.startswith("KeyError"), "also for one that was never raised"


def test_interruptions_and_fatal_errors_pass():
    failures: list[ExpotionError] = []
    for error in (Interrupted("stopped"), KeyboardInterrupt(), WeightsError("missing")):
        with pytest.raises(type(error)), guard(CLIP, failures.append, fatal=(EnvironmentProblem,)):
            raise error
    assert failures == []
