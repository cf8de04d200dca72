"""Batches disturbed at random moments: killed, interrupted, doubled, robbed of their workers.

Each function returns plain values for a table, with a list of violations: what was promised and not kept.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watched import LONGEST_S, Place, Results, is_busy, kill_all, run_until, worker_pids

ENDS_S = 5.0
"""Most that a batch may take to end after SIGINT or SIGTERM."""
FIRST_S, EARLY_S = 0.1, 1.5
"""Between them libraries load; as many signals are sent then as at other moments. Before, Python itself begins."""
LOOK_S = 0.02
LONGER = 1.2


@dataclass(frozen=True)
class Batch:
    """A batch and what comes of it undisturbed.

    Attributes:
        clips: its folder.
        flags: of the command.
        expected: its results.
        length_s: how long it took.
    """

    clips: Path
    flags: tuple[str, ...]
    expected: Results
    length_s: float

    def place(self, root: Path) -> Place:
        """Where to run it once more."""
        return Place(root, self.clips, self.flags)

    def left_s(self, place: Place) -> float:
        """About how long it would still take there: half of the time is the start, the rest goes with the clips."""
        left = len(place.names) - len(place.sidecars())
        return self.length_s * (1 + left / len(place.names)) / 2


def undisturbed(root: Path, clips: Path, flags: Sequence[str]) -> Batch:
    """Run a batch without disturbing it.

    Args:
        root: a folder that does not exist yet.
        clips: the batch's clips.
        flags: of the command.
    """
    place = Place(root, clips, tuple(flags))
    length_s = place.finish()
    return Batch(clips, tuple(flags), place.results(), length_s)


def kills(
    root: Path, batches: Sequence[Batch], count: int, seed: int, *, longest_s: float = math.inf
) -> dict[str, Any]:
    """SIGKILL at random moments, resumed each time; once a batch is done, the next begins in fresh folders.

    Args:
        root: where the batches run.
        batches: taken in turn.
        count: how many kills.
        seed: of the moments.
        longest_s: no further batch is begun after so long, whatever the count.
    """
    draw, violations, moments = random.Random(seed), [], Counter[str]()
    rounds = redone = 0
    left_in_cache, left_in_tmp = [], []
    started = time.monotonic()
    while moments.total() < count and time.monotonic() - started < longest_s:
        batch = batches[rounds % len(batches)]
        place, done, in_vain = batch.place(root / f"kills-{rounds}"), {}, 0
        while True:
            process = place.start()
            # On a machine that has become slower it would never get further, so what is in vain makes it wait longer.
            most_s = batch.left_s(place) * LONGER**in_vain
            moment_s = draw.uniform(0, most_s) if moments.total() < count else LONGEST_S
            alone = (
                draw.random() < 0.5
            )  # as the system does when memory is short; or all at once, as a closing host does
            act = process.kill if alone else lambda process=process: kill_all(process)
            was_killed = run_until(process, moment_s, act)
            _, complaint = process.communicate()
            where = f"round {rounds}, kill {moments.total()}"
            if survivors := place.survivors():
                violations.append(f"{where}: {len(survivors)} processes outlive it")
            if not was_killed:
                if process.returncode != 0:
                    violations.append(f"{where}: exit code {process.returncode}: {complaint[-300:]}")
                break
            moments[place.moment()] += 1
            violations += [f"{where}: {text}" for text in _unfinished(place, batch, done)]
            in_vain = in_vain + 1 if place.done() == done else 0
            done = place.done()
        violations += [f"round {rounds}: {text}" for text in _finished(place, batch)]
        if not done.items() <= place.done().items():
            violations.append(f"round {rounds}: a finished clip was touched again")
        redone += sum(number - 1 for number in place.events("scored").values())
        for values, number in zip((left_in_cache, left_in_tmp), place.temporaries(), strict=True):
            values.append(number)
        shutil.rmtree(place.root)
        rounds += 1
    return {
        "kills": moments.total(),
        "moments": dict(moments),
        "batches": rounds,
        "clips": sum(len(batches[i % len(batches)].expected.sound) for i in range(rounds)),
        "finished_clips_redone": redone,
        "cache_temporaries": sum(left_in_cache),
        "temporary_files": sum(left_in_tmp),
        "violations": violations,
        "took_s": round(time.monotonic() - started, 1),
    }


def _unfinished(place: Place, batch: Batch, done: dict[str, tuple[int, int]]) -> list[str]:
    """What is wrong in a place whose batch was killed."""
    told = []
    expected = batch.expected
    for name, digest in place.files().items():
        if expected.files.get(name) != digest:
            told.append(f"{name} is no whole result")
    for name, said in place.sidecars().items():
        if expected.sidecars.get(name) != said:
            told.append(f"{name} says something else")
    if not done.items() <= place.done().items():
        told.append("a finished clip was touched again")
    return told


def _finished(place: Place, batch: Batch) -> list[str]:
    """What is wrong in a place whose batch is done."""
    left_over = [f"{name} is left over" for name in place.hidden()]
    return [*batch.expected.differences(place.results()), *_scored_once(place), *left_over]


def _scored_once(place: Place) -> list[str]:
    scored, already = place.events("scored"), place.events("already")
    # Killed between the sidecar and the ledger's line, a clip is found to be there already.
    wrong = [name for name in place.names if scored[name] > 1 or not scored[name] + already[name]]
    return [f"{name} was scored {scored[name]} times" for name in wrong]


def signals(root: Path, batch: Batch, count: int, seed: int, *, longest_s: float = math.inf) -> dict[str, Any]:
    """SIGINT and SIGTERM in turn at random moments, also while libraries load.

    Args:
        root: where the batches run.
        batch: the batch; it goes on after each signal, and anew once it is done.
        count: how many signals.
        seed: of the moments.
        longest_s: no further signal is sent after so long, whatever the count.
    """
    started = time.monotonic()
    draw, violations, moments = random.Random(seed), [], Counter[str]()
    took_s: list[float] = []
    rounds, place = 0, batch.place(root / "signals-0")
    while len(took_s) < count and (not took_s or time.monotonic() - started < longest_s):
        number = (signal.SIGINT, signal.SIGTERM)[len(took_s) % 2]
        process = place.start()

        def send(process: subprocess.Popen[str] = process, number: signal.Signals = number) -> None:
            nonlocal sent
            sent = time.monotonic()
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.send_signal(number)

        sent = 0.0
        latest_s = batch.left_s(place) if len(took_s) // 2 % 2 else EARLY_S
        was_sent = run_until(process, draw.uniform(FIRST_S, latest_s), send)
        moment = place.moment() if was_sent else ""
        try:
            _, complaint = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            kill_all(process)
            _, complaint = process.communicate()
        if not was_sent:
            shutil.rmtree(place.root)
            rounds += 1
            place = batch.place(root / f"signals-{rounds}")
            continue
        took_s.append(time.monotonic() - sent)
        moments[moment] += 1
        if process.returncode == 0 and len(place.sidecars()) == len(place.names):
            continue  # the last clip was done before the signal counted
        where = f"signal {len(took_s)} ({number.name}, {moment})"
        if took_s[-1] > ENDS_S:
            violations.append(f"{where}: it took {took_s[-1]:.1f} s")
        if process.returncode != 130:
            violations.append(f"{where}: exit code {process.returncode}: {complaint[-300:]}")
        elif "Run the same command again" not in complaint or "Traceback" in complaint:
            violations.append(f"{where}: it said {complaint[-300:]}")
        if place.leases():
            violations.append(f"{where}: leases are left")
        if survivors := place.survivors():
            violations.append(f"{where}: {len(survivors)} processes outlive it")
    took_s.sort()
    return {
        "signals": len(took_s),
        "moments": dict(moments),
        "median_s": round(took_s[len(took_s) // 2], 2),
        "longest_s": round(took_s[-1], 2),
        "violations": violations,
    }


def two_at_once(root: Path, batch: Batch, rounds: int, seed: int) -> dict[str, Any]:
    """Two commands on one output folder, the second begun at a random moment; in every other round the first is killed.

    Args:
        root: where the batches run.
        batch: the batch.
        rounds: how often.
        seed: of the moments.
    """
    draw, violations = random.Random(seed), []
    killed = begun = scored = 0
    for number in range(rounds):
        place = batch.place(root / f"two-{number}")
        cache = place.cache if number % 4 < 2 else place.root / "other-cache"
        processes = [place.start()]
        run_until(processes[0], draw.uniform(0, batch.length_s * 0.6), lambda: None)
        processes.append(place.start(cache))
        if number % 2:
            killed += run_until(
                processes[0], draw.uniform(0, batch.length_s * 0.6), lambda first=processes[0]: kill_all(first)
            )
        complaints = [process.communicate(timeout=LONGEST_S)[1] for process in processes]
        codes = [process.returncode for process in processes]
        where = f"round {number}"
        if codes[1] != 0 or codes[0] not in (0, -signal.SIGKILL):
            violations.append(f"{where}: exit codes {codes}: {complaints[0][-200:]} {complaints[1][-200:]}")
        begun += place.events("begin").total()
        scored += place.events("scored").total()
        found = place.results()
        if cache != place.cache:  # what the one composed is not in the other's cache
            found = Results(found.files, found.sidecars, batch.expected.tokens, found.sound)
        violations += [f"{where}: {text}" for text in batch.expected.differences(found)]
        violations += [f"{where}: {name} is left over" for name in place.hidden()]
        violations += [f"{where}: {text}" for text in _scored_once(place)]
        if codes[0] == 0 and place.events("begin").total() != len(place.names):
            violations.append(f"{where}: {place.events('begin').total()} clips were begun")
        shutil.rmtree(place.root)
    return {
        "rounds": rounds,
        "first_killed": killed,
        "clips": rounds * len(batch.expected.sound),
        "begun": begun,
        "scored": scored,
        "violations": violations,
    }


def lost_workers(root: Path, batch: Batch, count: int, seed: int) -> dict[str, Any]:
    """Workers that are killed or stopped from outside in the middle of a clip, one a batch: all clips are scored.

    Args:
        root: where the batches run.
        batch: the batch.
        count: how many workers, by SIGKILL, SIGSEGV and SIGSTOP in turn.
        seed: of the moments.
    """
    draw, violations, hit = random.Random(seed), [], Counter[str]()
    limit_s = max(5.0, batch.length_s)
    for index in range(count):
        number = (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV)[index % 3]
        place = Place(root / f"workers-{index}", batch.clips, (*batch.flags, "--clip-timeout", f"{limit_s:.0f}"))
        process = place.start()
        victim = _busy_worker(process, draw.uniform(0, batch.length_s / 4))
        if victim is not None:
            os.kill(victim, number)
            hit[number.name] += 1
        _, complaint = process.communicate(timeout=LONGEST_S)
        where = f"worker {index} ({number.name})"
        if process.returncode != 0:
            violations.append(f"{where}: exit code {process.returncode}: {complaint[-300:]}")
        violations += [f"{where}: {text}" for text in batch.expected.differences(place.results())]
        violations += [f"{where}: {name} is left over" for name in place.hidden()]
        if survivors := place.survivors():
            violations.append(f"{where}: {len(survivors)} processes outlive it")
        shutil.rmtree(place.root)
    return {"batches": count, "workers_hit": dict(hit), "clip_timeout_s": round(limit_s), "violations": violations}


def _busy_worker(process: subprocess.Popen[str], wait_s: float) -> int | None:
    """A worker that is at work, so long after the first one was; None if the batch ends before."""
    first: float | None = None
    while process.poll() is None:
        busy = [pid for pid in worker_pids(process) if is_busy(pid)]
        if busy:
            first = first or time.monotonic()
            if time.monotonic() - first >= wait_s:
                return busy[-1]
        time.sleep(LOOK_S)
    return None
