"""Progress of a batch: a live table on a terminal (`live_table`), else one line for each clip."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any

from expotion_cli.cli.say import say, say_aside, say_error
from expotion_cli.scoring.account import Listener, Summary
from expotion_cli.scoring.plan import Plan, Result
from expotion_cli.scoring.standing import ALREADY, CHECK, Standing
from expotion_cli.scoring.takes.layout import takes_folder

MOST_NAMES = 3
"""Clips that a note of several names."""
MOST_NOTES = 12


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
        return [*result_facts(result), *(note for note in notes_of(result) if note not in self.said)]

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


def result_facts(result: Result) -> list[str]:
    """Facts about a result: tempo, loudness, true peak."""
    sidecar = result.sidecar or {}
    facts = []
    if tempo := sidecar.get("tempo"):
        facts.append(f"{tempo['bpm']:.0f} bpm")
    loudness = sidecar.get("loudness") or {}
    if loudness.get("integrated_lufs") is not None:
        facts.append(f"{loudness['integrated_lufs']:.1f} LUFS")
    if loudness.get("true_peak_dbtp") is not None:
        facts.append(f"{loudness['true_peak_dbtp']:.1f} dBTP")
    return facts


def notes_of(result: Result) -> list[str]:
    """What is worth saying of a result: bars that were redone, and the notes of its sidecar."""
    return [*redo_facts(result), *(result.sidecar or {}).get("notes", [])]


def closing_notes(summary: Summary, said: Collection[str]) -> list[str]:
    """Notes of results, each once with its clips, without those that were said of all.

    Args:
        summary: of the run.
        said: notes that were printed.
    """
    clips: dict[str, list[str]] = {}
    for result in summary.results:
        for note in notes_of(result) if result.status == "scored" else redo_facts(result):
            if note not in said:
                clips.setdefault(note, []).append(result.name)
    lines = []
    for note, names in list(clips.items())[:MOST_NOTES]:
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        lines.append(f"{', '.join(names[:MOST_NAMES])}{more}: {note}")
    if len(clips) > MOST_NOTES:
        lines.append(f"{len(clips) - MOST_NOTES} more notes stand in the sidecars, NAME.score.json")
    return lines


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
    return f"{said} in {clock(summary.duration_s)} → {plan.files.called(plan.settings.out)}/"


def show_plan(plan: Plan, found: Mapping[str, Standing], details: Mapping[str, str], *, is_first: bool = True) -> None:
    """What `--dry-run` prints: one line for each clip, and one for what is known of its music.

    Args:
        plan: of all clips, or of a group.
        found: the fate of each.
        details: what is known of those that will be scored.
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
        if plan.settings.keep_takes:
            facts += f" · takes in {called(takes_folder(job.destination))}/"
        standing = found[job.name]
        if standing.error is not None:
            say_error(standing.error, "would refuse")
        elif standing.verdict == ALREADY:
            say(f"already there {job.name} → {called(job.destination)}")
        elif standing.verdict == CHECK:
            say(f"would check {job.name} → {called(job.destination)}: a result is there; only a run can tell which")
        else:
            seed = job.seed if standing.step is None else standing.step.seed
            facts += f" · {standing.said}" if standing.said else ""
            beside = "".join(f" + {name}" for name in plan.settings.extras.shown(job.destination))
            say(f"would {standing.verdict} {job.name} → {called(job.destination)}{beside} · {facts} · seed {seed}")
        if job.name in details:
            say(f"    {details[job.name]}")


def clock(seconds: float) -> str:
    """A time as clocks show it: "0:44", "1:02:05"."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
