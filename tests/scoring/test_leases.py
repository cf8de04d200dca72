"""Leases on clips."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expotion_cli.scoring import leases
from expotion_cli.scoring.leases import Leases

TAKE = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from expotion_cli.scoring import leases\n"
    "leases.LEASE_S = float(sys.argv[2])\n"
    "held = leases.Leases(Path(sys.argv[1]))\n"
    "print(held.take('a.mp4'), flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def elsewhere(tmp_path, repository):
    """Starts a process that holds the lease on a.mp4."""
    started: list[subprocess.Popen[str]] = []

    def start(lease_s: float = leases.LEASE_S) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(tmp_path), str(lease_s)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(repository)},
        )
        started.append(process)
        assert process.stdout.readline().strip() == "True"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def take_within(held: Leases, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not held.take("a.mp4"):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_a_lease_is_held_by_one_process_which_is_named(tmp_path, elsewhere):
    other = elsewhere()
    held = Leases(tmp_path)
    assert not held.take("a.mp4") and not held.holds("a.mp4") and held.take("b.mp4")
    assert held.holder("a.mp4").startswith(f"process {other.pid} on ")
    held.close()
    assert other.poll() is None and not held.take("a.mp4"), "closing leaves the others' leases alone"


def test_a_lease_of_a_killed_process_is_taken_over_at_once(tmp_path, elsewhere):
    other, held = elsewhere(), Leases(tmp_path)
    other.kill()
    other.wait()
    assert take_within(held, leases.LEASE_S / 2) and held.holds("a.mp4")
    held.close()


def test_a_lease_that_nobody_freshens_expires_and_its_holder_finds_out(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(leases, "LEASE_S", 1.0)
    stopped, held = elsewhere(1.0), Leases(tmp_path)
    assert not take_within(held, 2.0), "it is freshened"
    os.kill(stopped.pid, signal.SIGSTOP)
    assert take_within(held, 20.0) and held.holds("a.mp4")
    held.close()


def test_whoever_lost_a_lease_does_not_hold_it(tmp_path):
    held = Leases(tmp_path)
    assert held.take("a.mp4") and held.holds("a.mp4")
    (path,) = held.folder.iterdir()
    other = path.read_text().replace("token=", "token=f")
    path.unlink()
    path.write_text(other)
    assert not held.holds("a.mp4"), "another process took it over"
    held.release("a.mp4")
    assert path.read_text() == other, "its lease is left alone"


def test_nothing_is_left_behind_not_even_of_a_killed_process(tmp_path, elsewhere):
    other, held = elsewhere(), Leases(tmp_path)
    assert held.take("b.mp4")
    other.kill()
    other.wait()
    held.close()
    assert list(Path(tmp_path).rglob("*")) == []
