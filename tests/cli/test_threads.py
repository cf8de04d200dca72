"""Threads wait as the commands want, unless the user wants something else."""

from __future__ import annotations

import os

import pytest

from expotion_cli.cli.threads import set_waiting


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards, set or not
        monkeypatch.delenv(name)
    return monkeypatch


def test_threads_spin_for_a_moment_and_sleep_then():
    set_waiting()
    assert os.environ["GOMP_SPINCOUNT"] == "100000" and "OMP_WAIT_POLICY" not in os.environ


def test_what_the_user_has_set_stays(environment):
    environment.setenv("OMP_WAIT_POLICY", "PASSIVE")
    set_waiting()
    assert "GOMP_SPINCOUNT" not in os.environ
    environment.delenv("OMP_WAIT_POLICY")
    environment.setenv("GOMP_SPINCOUNT", "7")
    set_waiting()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_the_commands_that_compose_set_it(score, expotion, clip_folder, tmp_path):
    assert score(clip_folder, "--out", tmp_path / "out", "--dry-run").exit_code == 0
    assert os.environ.pop("GOMP_SPINCOUNT") == "100000"
    assert expotion("regress", "check", tmp_path / "none").exit_code == 2
    assert os.environ["GOMP_SPINCOUNT"] == "100000"
