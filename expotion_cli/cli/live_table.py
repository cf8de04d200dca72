"""The live table of a batch: one row for each clip, one bar and the time left for all; it fits any width.

Nothing breaks in the middle of a number or a unit: columns are as wide as what they hold, names give way, and where
there is no room beside a row, facts stand below it.
"""

from __future__ import annotations

import re
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from expotion_cli.cli.progress import Reporter, clock, closing_notes, result_facts, summary_line
from expotion_cli.cli.say import shown
from expotion_cli.scoring.account import Summary
from expotion_cli.scoring.estimate import PHASE_OF, Estimator
from expotion_cli.scoring.plan import Job, Plan, Result

GAP = "  "
SHORTEST_NAME, LONGEST_NAME = 12, 40
STAGE_WIDTH = len("compose 100%")
BAR_WIDTH = 30
MOST_FAILURES = 20
"""Named again in the end; `expotion status` names all."""
_NUMBER_AND_UNIT = re.compile(r"(\d) (?=(?:dBTP|dB|LUFS|LU|s|ms|min|h|k?Hz|[kMG]B|bpm|%|of)\b)")
_DOING = {"see": "seeing", "compose": "composing", "finish": "finishing"}
_DONE = {"see": "seen", "compose": "composed"}


class LiveTable(Reporter):
    """A table that redraws itself.

    Args:
        plan: of the batch.
        stream: the terminal.
    """

    def __init__(self, plan: Plan, stream: Any):
        super().__init__(plan)
        self.console = Console(file=stream, highlight=False)
        self._lock = threading.Lock()
        self._stages: dict[str, tuple[str, float]] = {}
        self._results: dict[str, Result] = {}
        self._lengths = {job.name: float(job.clip.duration) for job in plan.jobs}
        self._estimator = Estimator(sum(self._lengths.values()))
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
            self._stages[job.name] = (PHASE_OF[stage], share)
            self._estimator.stage(job.name, self._lengths[job.name], stage, share, time.monotonic())

    def result(self, result: Result) -> None:
        """See `Listener`."""
        with self._lock:
            self._results[result.name] = result
            tell = self._estimator.settled if result.status == "scored" else self._estimator.dropped
            tell(result.name, self._lengths[result.name], time.monotonic())
        if result.error is not None:
            self._print(result.status, str(result.error), "bold red")

    def note(self, text: str) -> None:
        """See `Listener`; above the table."""
        self.said.add(text)
        self._print("note", text, "bold cyan")

    def close_with(self, summary: Summary) -> None:
        """Print notes, what failed and how to mend it, and the summary."""
        for text in closing_notes(summary, self.said):
            self._print("note", text, "bold cyan")
        failed = [result for result in summary.results if result.error is not None]
        for result in failed[:MOST_FAILURES]:
            self._print(result.status, str(result.error), "bold red")
        if len(failed) > MOST_FAILURES:
            where = self.plan.files.called(self.plan.settings.out)
            self._print("failed", f"{len(failed) - MOST_FAILURES} more; see expotion status {where}", "bold red")
        self.console.print(Text(shown(summary_line(summary, self.plan))), soft_wrap=True)

    def draw(self) -> Group:
        """The current table."""
        with self._lock:
            width, now = self.console.width, time.monotonic()
            finished, left = len(self._results), self._estimator.left(now)
            done = self._estimator.share
            lines = self._table(width)
            doing = self._doing()
        if finished < len(self.plan.jobs):
            bar = min(BAR_WIDTH, width - 1)
            lines.append(Text.assemble(("━" * round(done * bar), "green"), ("━" * (bar - round(done * bar)), "dim")))
            facts = [f"{finished}/{len(self.plan.jobs)} clips", clock(now - self._started)]
            facts += [str(left)] if left is not None else []
            lines += [Text(line, style="dim") for line in packed([*facts, *doing], width - 1, GAP)]
        return Group(*lines)

    def _print(self, label: str, text: str, style: str) -> None:
        first, *others = wrapped(f"{label}: {shown(text)}", self.console.width - 1)
        lines = "\n".join([first.removeprefix(label), *others])
        self.console.print(Text.assemble((label, style), lines), soft_wrap=True)

    def _doing(self) -> list[str]:
        """What is being done: how many clips are at which phase, or what they wait for."""
        phases = Counter(phase for name, (phase, share) in self._stages.items()
                         if name not in self._results and (share < 1 or phase == "finish"))  # fmt: skip
        if not phases:
            return [self.waiting_for] if self.waiting_for else []
        return [f"{word} {phases[phase]}" for phase, word in _DOING.items() if phases[phase]]

    def _table(self, width: int) -> list[Any]:
        """Head and rows that fit the screen."""
        facts = {name: result_facts(result) for name, result in self._results.items() if result.error is None}
        music = max((cell_len(", ".join(each)) for each in facts.values()), default=30)
        lengths = {name: length_text(seconds) for name, seconds in self._lengths.items()}
        length = max(len("length"), *map(len, lengths.values())) if lengths else 0
        beside = len(GAP) + length + len(GAP) + STAGE_WIDTH
        has_lengths = width - 1 - beside >= SHORTEST_NAME
        if not has_lengths:
            beside = len(GAP) + STAGE_WIDTH
        is_wide = width - 1 - beside - len(GAP) - music >= SHORTEST_NAME
        longest = max([cell_len(shown(name)) for name in lengths] + [SHORTEST_NAME])
        room = width - 1 - beside - (len(GAP) + music if is_wide else 0)
        name_width = max(1, min(longest, LONGEST_NAME, room))

        def line(name: Text, seconds: str, stage: Text, after: str) -> Text:
            name = Text(cut_in_the_middle(name.plain, name_width), name.style)
            stage.truncate(STAGE_WIDTH, overflow="ellipsis", pad=bool(after))
            parts: list[Any] = [name, (GAP + seconds.rjust(length), "dim") if has_lengths else "", GAP, stage]
            return Text.assemble(*parts, GAP + after if after else "", no_wrap=True)

        head = line(Text("clip", "dim"), "length", Text("stage", "dim"), "music" if is_wide else "")
        head.stylize("dim")
        lines = [head]
        jobs = self._jobs_that_fit(max(3, self.console.height - 7) // (1 if is_wide else 2))
        for job in jobs:
            said = facts.get(job.name, [])
            lines.append(line(Text(shown(job.name)), lengths[job.name], self._stage(job),
                              ", ".join(said) if is_wide else ""))  # fmt: skip
            if not is_wide and said:
                lines += [Text(GAP + each, no_wrap=True) for each in packed(said, width - 1 - len(GAP), ", ")]
        if hidden := len(self.plan.jobs) - len(jobs):
            lines.append(Text(f"… and {hidden} more", style="dim"))
        return lines

    def _stage(self, job: Job) -> Text:
        result = self._results.get(job.name)
        if result is not None:
            if result.error is not None:
                return Text(f"✗ {result.status}", style="red")
            return Text("✓ done" if result.status == "scored" else f"✓ {result.status}", style="green")
        if job.name not in self._stages:
            return Text("waits", style="dim")
        phase, share = self._stages[job.name]
        if phase in _DONE:
            return Text(_DONE[phase] if share >= 1 else f"{phase} {int(100 * share)}%", style="cyan")
        return Text(phase, style="cyan")  # rendering and finishing report no shares

    def _jobs_that_fit(self, room: int) -> Sequence[Job]:
        """Clips in progress first, then those just finished, then those waiting; shown in their own order."""
        jobs = self.plan.jobs
        if len(jobs) <= room:
            return jobs
        working: list[Job] = []
        finished: list[Job] = []
        waiting: list[Job] = []
        for job in jobs:
            place = finished if job.name in self._results else working if job.name in self._stages else waiting
            place.append(job)
        chosen = {job.name for job in [*working[:room], *finished[::-1], *waiting][:room]}
        return [job for job in jobs if job.name in chosen]


def cut_in_the_middle(name: str, width: int) -> str:
    """A name of exactly this many cells; what is too long loses its middle, as names often differ in their ends."""
    if cell_len(name) <= width or width < 4:
        return set_cell_size(name, width)
    end = ""
    while cell_len(end) < width // 3:
        end = name[-len(end) - 1 :]
    if cell_len(end) > width // 3:  # a character of two cells
        end = end[1:]
    return set_cell_size(name, width - 1 - cell_len(end)) + "…" + end


def wrapped(text: str, width: int) -> list[str]:
    """Text on lines that end between words, and never between a number and its unit; a long path is left whole."""
    tied = _NUMBER_AND_UNIT.sub("\\1\N{NO-BREAK SPACE}", text)
    lines = textwrap.wrap(tied, max(10, width), break_long_words=False, break_on_hyphens=False) or [""]
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def packed(facts: Iterable[str], width: int, between: str) -> list[str]:
    """Facts on as few lines as they fit on; none is broken."""
    lines: list[str] = []
    for fact in facts:
        if lines and cell_len(lines[-1] + between + fact) <= width:
            lines[-1] += between + fact
        else:
            lines.append(fact)
    return lines


def length_text(seconds: float) -> str:
    """A clip's length: "9.5 s", "2:05", "1:02:05"."""
    return f"{seconds:.1f} s" if seconds < 59.95 else clock(seconds)
