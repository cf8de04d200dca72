"""Progress of an inspection: a bar on a terminal, and one line for each clip."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expotion_cli.cli.say import say_error
from expotion_cli.inspection.fonts import printable
from expotion_cli.inspection.run import InspectionProgress, Job, Result


def choose_progress(jobs: Sequence[Job], *, quiet: bool, as_json: bool) -> ProgressLine:
    """A bar on a terminal, else lines; on standard error where standard output is taken by `--json`."""
    if quiet:
        return ProgressLine()
    stream = sys.stderr if as_json else sys.stdout
    return Bar(jobs, stream) if stream.isatty() else Lines(stream)


class ProgressLine(InspectionProgress):
    """Reports failures only; base of the others. Used as a context manager around the run."""

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def result(self, result: Result) -> None:
        """See `Listener`."""
        if result.error is not None:
            say_error(result.error, "failed")

    def close_with(self, results: Sequence[Result], out: Path) -> None:
        """Print the summary."""


class Lines(ProgressLine):
    """One line for each clip, as it finishes."""

    def __init__(self, stream: Any):
        self.stream = stream

    def result(self, result: Result) -> None:
        """See `Listener`."""
        super().result(result)
        if result.error is None:
            print(result_line(result), file=self.stream, flush=True)

    def close_with(self, results: Sequence[Result], out: Path) -> None:
        """Print the summary."""
        print(summary_line(results, out), file=self.stream, flush=True)


class Bar(ProgressLine):
    """One bar for all clips, which moves with the frames read; lines appear above it."""

    def __init__(self, jobs: Sequence[Job], stream: Any):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self.console = Console(file=stream, highlight=False)
        self._bar = Progress(
            BarColumn(30), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False),
            console=self.console, transient=True,
        )  # fmt: skip
        self._lengths = {job.record: float(job.clip.duration) for job in jobs}
        self._task = self._bar.add_task("", total=sum(self._lengths.values()))
        self._done_s, self._number, self._now = 0.0, 0, 0.0

    def __enter__(self) -> Bar:
        self._bar.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._bar.__exit__(*problem)

    def share(self, job: Job, share: float) -> None:
        """See `Listener`."""
        self._now = self._lengths[job.record]
        about = f"{self._number + 1}/{len(self._lengths)} {printable(job.name)}"
        self._bar.update(self._task, completed=self._done_s + share * self._now, description=about)

    def result(self, result: Result) -> None:
        """See `Listener`."""
        from rich.text import Text

        self._done_s, self._number = self._done_s + self._now, self._number + 1
        self._bar.update(self._task, completed=self._done_s)
        if result.error is not None:
            self.console.print(Text.assemble(("failed", "bold red"), printable(f": {result.error}")))
        else:
            self.console.print(Text(result_line(result)))

    def close_with(self, results: Sequence[Result], out: Path) -> None:
        """Print the summary."""
        self._bar.stop()
        self.console.print(summary_line(results, out), markup=False)


def result_line(result: Result) -> str:
    """One line about a clip: streams found, accents, hit points, tempo, notes."""
    record = result.record
    assert record is not None
    found = ", ".join(f"{stream['name']} {stream['coverage']:.0%}" for stream in record["streams"])
    facts = [found, f"{len(record['accents'])} accents"]
    if plan := record["plan"]:
        tempo, count = plan["tempo"], len(plan["hits"])
        sure = f"confidence {tempo['confidence']:.2f}" if tempo["confidence"] else "no clear pulse"
        facts += [f"{count} hit point{'' if count == 1 else 's'}", f"{tempo['bpm']:.0f} bpm ({sure})"]
    return " · ".join([f"{record['clip']['file']} → {printable(str(result.files[0]))}", *facts, *record["notes"]])


def summary_line(results: Sequence[Result], out: Path) -> str:
    """The last line: how many clips, and where the results are."""
    failed = sum(result.error is not None for result in results)
    said = f"{len(results) - failed} inspected" + (f", {failed} failed" if failed else "")
    return f"{said} → {out}/"
