"""Two commands that score the same clips into the same folder, each with worker processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expotion_cli.scoring.ledger import read_ledger

COMMAND = [sys.executable, "-c", "from expotion_cli.cli import score_main; score_main()"]
WAIT_S = 240
FAST = ("--streams", "none", "--takes", "1", "--workers", "1")


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_video) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(3):
        make_video(folder / f"{number}.mp4", duration_s=1.0 + number / 5, hue=60 * number)
    return folder


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A command that a failed test stopped, or no longer waits for, ends with the test."""
    yield
    while _started:
        process = _started.pop()
        process.kill()
        process.communicate()


def start(clips: Path, out: Path, cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "EXPOTION_CACHE": str(cache)}
    arguments = [str(clips), "--out", str(out), *FAST]
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    _started.append(process)
    return process


def events(out: Path, event: str) -> list[str]:
    return sorted(entry["clip"] for entry in read_ledger(out / "ledger.jsonl") if entry["event"] == event)


def wait_for_a_lease(out: Path) -> None:
    until = time.monotonic() + WAIT_S
    while not any("pid=" in path.read_text() for path in out.glob(".expotion/leases/*.lease")):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_each_clip_is_made_once_and_the_second_command_waits_and_says_so(clips, tmp_path):
    first = start(clips, tmp_path / "out", tmp_path / "cache-1")
    wait_for_a_lease(tmp_path / "out")
    first.send_signal(signal.SIGSTOP)  # else it might be through before the second one looks
    second = start(clips, tmp_path / "out", tmp_path / "cache-2")
    assert f" being scored by process {first.pid} on " in second.stderr.readline()
    first.send_signal(signal.SIGCONT)
    said = [process.communicate(timeout=WAIT_S) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    names = ["0.mp4", "1.mp4", "2.mp4"]
    assert events(tmp_path / "out", "scored") == events(tmp_path / "out", "begin") == names
    assert "already there" in said[1][0] and "failed" not in said[1][0]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == names
    assert not (tmp_path / "out" / ".expotion").exists()


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_what_a_killed_command_held_is_taken_over(clips, tmp_path):
    first = start(clips, tmp_path / "out", tmp_path / "cache")
    wait_for_a_lease(tmp_path / "out")
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=WAIT_S)
    started = time.monotonic()
    second = start(clips, tmp_path / "out", tmp_path / "cache")
    said = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0 and time.monotonic() - started < WAIT_S, said
    for name in ("0", "1", "2"):
        assert json.loads((tmp_path / "out" / f"{name}.score.json").read_text())["artefact"]
    left = [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]
    assert not left


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_five_seconds_and_says_how_to_go_on(clips, tmp_path, number):
    process = start(clips, tmp_path / "out", tmp_path / "cache")
    wait_for_a_lease(tmp_path / "out")
    started = time.monotonic()
    process.send_signal(number)
    _, complaint = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130 and time.monotonic() - started < 5, complaint
    assert "Run the same command again" in complaint and "Traceback" not in complaint
    assert not list((tmp_path / "out").rglob("*.lease"))
