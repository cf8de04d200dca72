"""Progress of a batch: a live table on a terminal, else one line for each clip."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from expotion_cli.cli.say import say, say_aside, say_error, shown
from expotion_cli.scoring.account import Listener, Summary
from expotion_cli.scoring.ladder import STAGES
from expotion_cli.scoring.plan import Job, Plan, Result
from expotion_cli.scoring.standing import ALREADY, Standing

STAGE_WEIGHTS = {"see": 0.55, "compose": 0.25, "render": 0.05, "finish": 0.15}
"""Rough shares of a clip's time, for the bar and the ETA only."""
ETA_AFTER_S = 2.0


def choose_listener(plan: Plan, *, quiet: bool, as_json: bool) -> Reporter:
    """A live table on a terminal, else lines; on standard error where standard output is taken by `--json`."""
    if quiet:
        return Reporter(plan)
    stream = sys.stderr if as_json else sys.stdout
    return LiveTable(plan, stream) if stream.isatty() else Lines(plan, stream)


class Reporter(Listener):
    """Prints notes and failures only; the base of the others. A context manager around the run."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.waiting_for = ""
        self.said: set[str] = set()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """See `Listener`."""
        self.said.add(text)
        say_aside(text)

    def result(self, result: Result) -> None:
        """See `Listener`."""
        if result.error is not None:
            say_error(result.error, result.status)

    def facts(self, result: Result) -> list[str]:
        """Facts about a result, without notes that were printed for all clips."""
        return [fact for fact in result_facts(result) if fact not in self.said]

    def close_with(self, summary: Summary) -> None:
        """Print the summary."""


class Lines(Reporter):
    """One line for each clip, as it finishes."""

    def __init__(self, plan: Plan, stream: Any):
        super().__init__(plan)
        self.stream = stream
        self._lock = threading.Lock()

    def result(self, result: Result) -> None:
        """See `Listener`."""
        super().result(result)
        if result.output is not None:
            with self._lock:
                facts = " · ".join([f"{result.name} → {self.plan.files.called(result.output)}", *self.facts(result)])
                say(f"{result.status:<8} {facts}", file=self.stream)

    def close_with(self, summary: Summary) -> None:
        """Print the summary."""
        say(summary_line(summary, self.plan), file=self.stream)


class LiveTable(Reporter):
    """A table that redraws itself: one row for each clip, and one bar for all."""

    def __init__(self, plan: Plan, stream: Any):
        from rich.console import Console
        from rich.live import Live

        super().__init__(plan)
        self.console = Console(file=stream, highlight=False)
        self._lock = threading.Lock()
        self._shares: dict[str, dict[str, float]] = {job.name: {} for job in plan.jobs}
        self._results: dict[str, Result] = {}
        self._started = time.monotonic()
        self._live = Live(get_renderable=self.draw, console=self.console, refresh_per_second=8)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._live.__exit__(*problem)

    def stage(self, job: Job, stage: str, share: float) -> None:
        """See `Listener`."""
        with self._lock:
            shares = self._shares[job.name]
            for earlier in STAGES[: STAGES.index(stage)]:
                shares[earlier] = 1.0
            shares[stage] = share

    def result(self, result: Result) -> None:
        """See `Listener`."""
        with self._lock:
            self._results[result.name] = result
        if result.error is not None:
            from rich.text import Text

            self.console.print(Text.assemble((result.status, "bold red"), shown(f": {result.error}")))

    def close_with(self, summary: Summary) -> None:
        """Print the summary."""
        from rich.text import Text

        self.console.print(Text(shown(summary_line(summary, self.plan))))

    def draw(self) -> Any:
        """The current table."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            rows = self._rows()
            done, eta = self.overall()
            finished = len(self._results)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("clip", no_wrap=True, overflow="ellipsis", min_width=12, max_width=40)
        table.add_column("length", justify="right")
        for title in ("see", "compose", "finish"):
            table.add_column(title, justify="right", width=7)
        table.add_column("music", no_wrap=True, overflow="ellipsis")
        for row in rows:
            table.add_row(*row)
        hidden = len(self.plan.jobs) - len(rows)
        parts: list[Any] = [table]
        if hidden > 0:
            parts.append(Text(f"… and {hidden} more", style="dim"))
        if finished < len(self.plan.jobs):
            parts.append(self._bar(done, eta, finished))
        return Group(*parts)

    def overall(self) -> tuple[float, float | None]:
        """(share of all work that is done, remaining seconds or None while it is too early to tell)."""
        total = sum(float(job.clip.duration) for job in self.plan.jobs) or 1.0
        done = 0.0
        for job in self.plan.jobs:
            shares = self._shares[job.name]
            own = 1.0 if job.name in self._results else sum(w * shares.get(s, 0.0) for s, w in STAGE_WEIGHTS.items())
            done += own * float(job.clip.duration) / total
        elapsed = time.monotonic() - self._started
        return done, elapsed * (1 - done) / done if done > 0.02 and elapsed > ETA_AFTER_S else None

    def _rows(self) -> list[list[Any]]:
        """Rows that fit the screen: clips in progress first, then those just finished, then those waiting."""
        room = max(3, self.console.height - 6)
        jobs = list(self.plan.jobs)
        if len(jobs) > room:
            order = {job.name: index for index, job in enumerate(jobs)}
            working = [job for job in jobs if self._shares[job.name] and job.name not in self._results]
            finished = [job for job in jobs if job.name in self._results]
            waiting = [job for job in jobs if not self._shares[job.name] and job.name not in self._results]
            chosen = [*working[:room], *finished[::-1], *waiting][:room]
            jobs = sorted(chosen, key=lambda job: order[job.name])
        return [self._row(job) for job in jobs]

    def _row(self, job: Job) -> list[Any]:
        from rich.text import Text

        result = self._results.get(job.name)
        cells: list[Any] = [Text(shown(job.name)), Text(f"{float(job.clip.duration):.1f} s", style="dim")]
        if result is None:
            shares = self._shares[job.name]
            marks = [_share(shares.get("see")), _share(shares.get("compose"))]
            # Rendering and finishing report no shares: they are under way, or not.
            marks.append(Text("…", style="cyan") if "render" in shares else _share(None))
            return [*cells, *marks, Text("")]
        mark = Text("–", style="red") if result.error else Text("✓", style="green")
        facts = Text(result.status, style="red") if result.error else Text(", ".join(self.facts(result)))
        return [*cells, mark, mark, mark, facts]

    def _bar(self, done: float, eta: float | None, finished: int) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        elapsed = time.monotonic() - self._started
        left = "ETA –:––" if eta is None else f"ETA {_clock(eta)}"
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_row(
            ProgressBar(total=1.0, completed=done, width=30),
            Text(f"{finished}/{len(self.plan.jobs)} clips"),
            Text(f"{_clock(elapsed)}  {left}", style="dim"),
            Text(self.waiting_for, style="dim"),
        )
        return grid


def result_facts(result: Result) -> list[str]:
    """Facts about a result: tempo, loudness, true peak, notes."""
    sidecar = result.sidecar or {}
    facts = []
    if tempo := sidecar.get("tempo"):
        facts.append(f"{tempo['bpm']:.0f} bpm")
    loudness = sidecar.get("loudness") or {}
    if loudness.get("integrated_lufs") is not None:
        facts.append(f"{loudness['integrated_lufs']:.1f} LUFS")
    if loudness.get("true_peak_dbtp") is not None:
        facts.append(f"{loudness['true_peak_dbtp']:.1f} dBTP")
    if result.status == "already":
        facts.append("already there")
    facts += redo_facts(result)
    return [*facts, *sidecar.get("notes", [])]


def redo_facts(result: Result) -> list[str]:
    """Which bars of a result were composed anew: by this run the last ones, in one that is already there all."""
    from expotion_cli.scoring.redo import KEY, said

    rows = (result.sidecar or {}).get(KEY) or []
    if result.status == "already":
        return [f"keeps what was redone: {', '.join(map(said, rows))}"] if rows else []
    return [f"redone: {said(rows[-1])}"] if rows else []


def summary_line(summary: Summary, plan: Plan) -> str:
    """The last line: how many clips, how long it took, where the results are."""
    counts = [(summary.count("scored"), "scored"), (summary.count("already"), "already there")]
    counts += [(summary.count(status), status) for status in ("refused", "failed")]
    said = ", ".join(f"{number} {word}" for number, word in counts if number) or "nothing to score"
    return f"{said} in {_clock(summary.duration_s)} → {plan.files.called(plan.settings.out)}/"


def show_plan(plan: Plan, found: Mapping[str, Standing], *, is_first: bool = True) -> None:
    """What `--dry-run` prints: one line for each clip.

    Args:
        plan: of all clips, or of a group.
        found: the fate of each.
        is_first: of several groups.
    """
    called = plan.files.called
    if is_first:
        streams = ", ".join(plan.streams.names) or "none"
        say(f"recipe {plan.recipe.name}, streams {streams}, output {called(plan.settings.out)}/")
    for job in plan.jobs:
        clip = job.clip
        sound = "sound" if clip.audio is not None else "sound of an unknown kind" if clip.has_sound else "no sound"
        facts = f"{float(clip.duration):.1f} s · {clip.width}×{clip.height} · {float(clip.fps):.4g} fps · {sound}"
        facts += f" · plan {job.given.plan_file}" if job.given.plan_file is not None else ""
        facts += "".join(f" · {note}" for note in clip.notes)
        standing = found[job.name]
        if standing.error is not None:
            say_error(standing.error, "would refuse")
        elif standing.verdict == ALREADY:
            say(f"already there {job.name} → {called(job.destination)}")
        else:
            seed = job.seed if standing.step is None else standing.step.seed
            facts += f" · {standing.said}" if standing.said else ""
            say(f"would {standing.verdict} {job.name} → {called(job.destination)} · {facts} · seed {seed}")


def _share(share: float | None) -> Any:
    from rich.text import Text

    if share is None:
        return Text("·", style="dim")
    return Text("✓", style="green") if share >= 1 else Text(f"{share:.0%}", style="cyan")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
