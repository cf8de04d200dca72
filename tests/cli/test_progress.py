"""The live table and the lines: what they say while a batch runs, at any width."""

from __future__ import annotations

import io
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from expotion_cli.cli import live_table, progress
from expotion_cli.cli.carry_out import choose_listener
from expotion_cli.cli.live_table import LiveTable
from expotion_cli.cli.progress import Lines, Reporter
from expotion_cli.errors import ProbeError
from expotion_cli.scoring.account import Summary
from expotion_cli.scoring.files import HERE
from expotion_cli.scoring.plan import Result, Settings

NOTE = "Loud hits were limited by 14 dB to reach \N{MINUS SIGN}14 LUFS; a lower --lufs sounds more natural."
SIDECAR = {"tempo": {"bpm": 96.2}, "loudness": {"integrated_lufs": -14.02, "true_peak_dbtp": -1.2}, "notes": [NOTE]}
ERROR = ProbeError("This isn't a readable video file.", path="clips/c.mp4", remedy="Convert it to MP4.")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def batch_of(count: int, *, seconds: float = 10, name: str = "clip-{:03}.mp4") -> SimpleNamespace:
    jobs = tuple(
        SimpleNamespace(name=name.format(n), clip=SimpleNamespace(duration=Fraction(seconds))) for n in range(count)
    )
    return SimpleNamespace(jobs=jobs, settings=Settings(Path("scored")), problems=(), files=HERE)


def scored(job, status="scored") -> Result:
    return Result(job.name, status, Path("scored") / job.name, sidecar=SIDECAR)


def shown(table: LiveTable) -> str:
    with table.console.capture() as captured:
        table.console.print(table.draw())
    return plain(captured.get())


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.fixture
def clock(monkeypatch):
    state = SimpleNamespace(now=100.0)
    monkeypatch.setattr(live_table.time, "monotonic", lambda: state.now)
    return state


def test_a_terminal_gets_a_table_a_pipe_lines_and_quiet_neither(monkeypatch):
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("sys.stderr", io.StringIO())
    plan = batch_of(1)
    assert type(choose_listener(plan, quiet=False, as_json=False)) is LiveTable
    assert type(choose_listener(plan, quiet=False, as_json=True)) is Lines
    assert type(choose_listener(plan, quiet=True, as_json=False)) is Reporter


def test_the_table_shows_stages_shares_and_results(clock):
    plan = batch_of(6)
    table = LiveTable(plan, Terminal())
    table.stage(plan.jobs[0], "see", 0.42)
    table.stage(plan.jobs[1], "compose", 0.5)
    table.stage(plan.jobs[2], "render", 0.0)
    table.result(scored(plan.jobs[3]))
    table.result(scored(plan.jobs[4], "already"))
    rows = {
        line.split()[0]: line.split(maxsplit=3)[3].strip() for line in shown(table).splitlines() if "10.0 s" in line
    }
    assert list(rows.values()) == [
        "see 42%",
        "compose 50%",
        "finish",
        "✓ done        96 bpm, -14.0 LUFS, -1.2 dBTP",
        "✓ already     96 bpm, -14.0 LUFS, -1.2 dBTP",
        "waits",
    ]
    assert "2/6 clips" in shown(table) and "seeing 1  composing 1  finishing 1" in shown(table)


def test_what_is_waited_for_is_said_only_while_nothing_else_is_done(clock):
    plan = batch_of(1)
    table = LiveTable(plan, Terminal())
    table.waiting_for = "loading expotion-mini"
    assert "loading expotion-mini" in shown(table)
    table.stage(plan.jobs[0], "see", 0.1)
    assert "loading" not in shown(table) and "seeing 1" in shown(table)


def test_the_time_left_is_told_once_every_phase_was_measured(clock):
    plan = batch_of(4)
    table = LiveTable(plan, Terminal())
    assert "left" not in shown(table)
    for stage, took in (("see", 20.0), ("compose", 5.0), ("finish", 5.0)):
        table.stage(plan.jobs[0], stage, 0.0)
        clock.now += took
        if stage == "see":
            table.stage(plan.jobs[0], stage, 1.0)
            assert "more than 1 min left" in shown(table), "three more to see, and all else besides"
    table.result(scored(plan.jobs[0]))
    assert "about 2 min left" in shown(table), "three more of 30 s each"


def test_a_long_batch_shows_the_clips_at_work_and_counts_the_rest(clock):
    plan = batch_of(300)
    table = LiveTable(plan, Terminal())
    table.stage(plan.jobs[250], "see", 0.5)
    text = shown(table)
    assert "clip-250.mp4" in text and len(text.splitlines()) <= table.console.height
    assert "more" in text


@pytest.mark.parametrize("width", range(30, 60))
def test_a_note_is_wrapped_between_words_and_never_before_a_unit(width):
    lines = live_table.wrapped(f"note: {NOTE}", width)
    assert " ".join(lines) == f"note: {NOTE}" and all(len(line) <= width for line in lines)
    assert any("14 dB" in line for line in lines) and any("14 LUFS" in line for line in lines)


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120])
def test_no_number_and_no_unit_is_broken_at_any_width(clock, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    plan = batch_of(5, seconds=3725, name="a rather long name 那边的人 of a clip {}.mp4")
    table = LiveTable(plan, Terminal())
    table.stage(plan.jobs[0], "compose", 1.0)
    table.stage(plan.jobs[1], "compose", 0.07)
    table.result(scored(plan.jobs[2]))
    table.result(Result(plan.jobs[3].name, "failed", error=ERROR))
    clock.now += 4000
    lines = shown(table).splitlines()
    from rich.cells import cell_len

    assert all(cell_len(line) < width for line in lines), "the last column stays free, or terminals would wrap"
    text = "\n".join(lines)
    whole = ["compose 7%", "96 bpm", "-14.0 LUFS", "-1.2 dBTP", "✗ failed", "2/5 clips", "1:06:40"]
    assert [fact for fact in whole if fact not in text] == []
    assert ("1:02:05" in text) == (width >= 40)
    assert width < 40 or all(f"{number}.mp4" in text for number in range(5)), "names keep the end that tells them apart"


def test_the_summary_names_notes_once_and_what_failed_with_its_remedy(clock, capsys):
    plan, terminal = batch_of(6), Terminal()
    table = LiveTable(plan, terminal)
    results = [scored(job) for job in plan.jobs[:5]]
    failed = Result(plan.jobs[5].name, "failed", error=ERROR)
    for result in (*results, failed):
        table.result(result)
    during = terminal.getvalue()
    assert "failed\x1b[0m: clips/c.mp4: This isn't a readable video file. Convert it to MP4." in " ".join(
        during.split()
    )
    table.close_with(Summary((*results, failed), 44.0))
    closing = " ".join(plain(terminal.getvalue()[len(during) :]).split())
    assert closing.count("Loud hits were limited") == 1
    assert "note: clip-000.mp4, clip-001.mp4, clip-002.mp4 and 2 more: Loud hits" in closing
    assert "failed: clips/c.mp4: This isn't a readable video file. Convert it to MP4." in closing
    assert closing.endswith("5 scored, 1 failed in 0:44 → scored/")


def test_no_color_is_obeyed(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for value, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        terminal = Terminal()
        LiveTable(batch_of(1), terminal).result(Result("clip-000.mp4", "failed", error=ERROR))
        assert ("\x1b[1;31m" in terminal.getvalue()) == coloured


def test_failures_are_told_everywhere(capsys):
    for teller in (Reporter(batch_of(1)), Lines(batch_of(1), io.StringIO())):
        teller.result(Result("a.mp4", "failed", error=ERROR))
        assert "failed: clips/c.mp4: This isn't a readable video file. Convert it to MP4." in capsys.readouterr().err


def test_a_pipe_gets_a_plain_line_for_each_clip_with_its_notes():
    plan, stream = batch_of(2), io.StringIO()
    lines = Lines(plan, stream)
    lines.result(scored(plan.jobs[0]))
    lines.result(scored(plan.jobs[1], "already"))
    one, two = stream.getvalue().splitlines()
    assert one == f"scored   clip-000.mp4 → scored/clip-000.mp4 · 96 bpm · -14.0 LUFS · -1.2 dBTP · {NOTE}"
    assert two.startswith("already  clip-001.mp4") and two.count("already") == 1


def test_the_last_line_counts_what_happened():
    results = tuple(Result(str(n), status) for n, status in enumerate(("scored", "scored", "already", "failed")))
    line = progress.summary_line(Summary(results, 3725.0), batch_of(4))
    assert line == "2 scored, 1 already there, 1 failed in 1:02:05 → scored/"
