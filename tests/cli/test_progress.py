"""The live table and the lines: what they say while a batch runs."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from expotion_cli.cli import progress
from expotion_cli.cli.progress import STAGE_WEIGHTS, Lines, LiveTable, Reporter, choose_listener
from expotion_cli.errors import ProbeError
from expotion_cli.scoring.account import Summary
from expotion_cli.scoring.files import HERE
from expotion_cli.scoring.ladder import STAGES
from expotion_cli.scoring.plan import Result, Settings

SIDECAR = {"tempo": {"bpm": 96.2}, "loudness": {"integrated_lufs": -14.02, "true_peak_dbtp": -1.2}, "notes": []}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def batch_of(count: int) -> SimpleNamespace:
    jobs = tuple(
        SimpleNamespace(name=f"clip-{n:03}.mp4", clip=SimpleNamespace(duration=Fraction(10))) for n in range(count)
    )
    return SimpleNamespace(jobs=jobs, settings=Settings(Path("scored")), problems=(), files=HERE)


def shown(table: LiveTable) -> str:
    with table.console.capture() as captured:
        table.console.print(table.draw())
    return captured.get()


@pytest.fixture
def clock(monkeypatch):
    state = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: state.now)
    return state


def test_a_terminal_gets_a_table_a_pipe_lines_and_quiet_neither(monkeypatch):
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("sys.stderr", io.StringIO())
    plan = batch_of(1)
    assert type(choose_listener(plan, quiet=False, as_json=False)) is LiveTable
    assert type(choose_listener(plan, quiet=False, as_json=True)) is Lines
    assert type(choose_listener(plan, quiet=True, as_json=False)) is Reporter


def test_the_table_shows_stages_shares_and_results(clock):
    plan = batch_of(3)
    table = LiveTable(plan, Terminal())
    table.stage(plan.jobs[0], "see", 0.42)
    table.stage(plan.jobs[1], "compose", 0.5)
    table.result(Result("clip-002.mp4", "scored", Path("scored/clip-002.mp4"), sidecar=SIDECAR))
    rows = {line.split()[0]: line for line in shown(table).splitlines() if line.startswith("clip-")}
    assert "42%" in rows["clip-000.mp4"]
    assert "✓" in rows["clip-001.mp4"] and "50%" in rows["clip-001.mp4"]
    assert "96 bpm, -14.0 LUFS, -1.2 dBTP" in rows["clip-002.mp4"]
    assert "1/3 clips" in shown(table)


def test_the_eta_follows_the_share_of_all_work_done(clock):
    plan = batch_of(2)
    table = LiveTable(plan, Terminal())
    assert table.overall() == (0.0, None)
    table.result(Result("clip-000.mp4", "scored", Path("x"), sidecar=SIDECAR))
    clock.now += 30
    done, eta = table.overall()
    assert done == pytest.approx(0.5) and eta == pytest.approx(30)
    assert "ETA 0:30" in shown(table)
    assert sum(STAGE_WEIGHTS.values()) == pytest.approx(1) and set(STAGE_WEIGHTS) == set(STAGES) - {"spot", "follow"}


def test_a_long_batch_shows_the_clips_at_work_and_counts_the_rest(clock):
    plan = batch_of(300)
    table = LiveTable(plan, Terminal())
    table.stage(plan.jobs[250], "see", 0.5)
    text = shown(table)
    assert "clip-250.mp4" in text and len(text.splitlines()) <= table.console.height
    assert "more" in text


def test_failures_are_told_everywhere(capsys):
    error = ProbeError("it is cut off.", path="a.mp4", remedy="Copy it again.")
    for teller in (Reporter(batch_of(1)), Lines(batch_of(1), io.StringIO())):
        teller.result(Result("a.mp4", "failed", error=error))
        assert "failed: a.mp4: it is cut off. Copy it again." in capsys.readouterr().err


def test_the_last_line_counts_what_happened():
    results = tuple(Result(str(n), status) for n, status in enumerate(("scored", "scored", "already", "failed")))
    line = progress.summary_line(Summary(results, 3725.0), batch_of(4))
    assert line == "2 scored, 1 already there, 1 failed in 1:02:05 → scored/"
