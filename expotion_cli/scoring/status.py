"""How far an output folder is: what is done, what failed and why, who works on it now, and how long that will take.

It reads what stands there (sidecars, ledger, leases) and writes nothing, so it may be asked at any time, also of a
folder that another process is scoring into, and of one that holds half of something.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expotion_cli.errors import UsageError, reading
from expotion_cli.scoring import leases, sidecar
from expotion_cli.scoring.estimate import Left, left_by_ledger
from expotion_cli.scoring.ledger import LEDGER, last_ends, read_ledger
from expotion_cli.scoring.urls import is_url


@dataclass(frozen=True)
class Failure:
    """A clip that failed or was refused, as its last line in the ledger says.

    Attributes:
        clip: its name.
        status: "failed" or "refused".
        reason: why.
        remedy: what to do about it; empty in ledgers of earlier versions, where the reason says it.
    """

    clip: str
    status: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Holder:
    """A process that works on clips of this folder now."""

    process: str
    host: str
    clips: int


@dataclass(frozen=True)
class Status:
    """How far an output folder is.

    Attributes:
        out: the folder.
        done: number of results that are there with the size that their sidecars state.
        damaged: names of results whose video is gone or of another size.
        failures: clips that failed or were refused.
        holders: who works on clips now.
        left: clips that the last run had left, or None if it said nothing of it.
        time_left: how long they take.
        interrupted: the last run was stopped by the user.
        num_bytes: size of the results, their sidecars and MIDI files.
        free_bytes: room on the disk; None where it can't be told.
    """

    out: Path
    done: int
    damaged: tuple[str, ...]
    failures: tuple[Failure, ...]
    holders: tuple[Holder, ...]
    left: int | None
    time_left: Left | None
    interrupted: bool
    num_bytes: int
    free_bytes: int | None

    @property
    def is_foreign(self) -> bool:
        """Whether nothing there is of this program's making."""
        return not (self.done or self.damaged or self.failures or self.holders or self.left is not None)

    @property
    def running(self) -> int:
        """Number of clips that are worked on now."""
        return sum(holder.clips for holder in self.holders)


def read_status(out: str | Path) -> Status:
    """Look at an output folder.

    Raises:
        UsageError: it is not a folder of this machine, or can't be read.
    """
    if is_url(str(out)):
        raise UsageError(
            "only folders of this machine can be looked at.",
            path=str(out),
            remedy=f"Read {LEDGER} there, or run the command again with --dry-run.",
        )
    out = Path(out)
    if not out.is_dir():
        raise UsageError("there is no such folder.", path=out, remedy="Give the folder that --out named.")
    with reading(out / LEDGER, "the ledger", error=UsageError, remedy="Check its permissions."):
        entries = read_ledger(out / LEDGER)
    done, damaged, num_bytes = _results(out)
    holders = tuple(_holders(out))
    left, time_left = _outlook(entries, bool(holders))
    free = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(out).free
    return Status(
        out=out,
        done=len(done),
        damaged=tuple(damaged),
        failures=tuple(_failures(entries, done)),
        holders=holders,
        left=left,
        time_left=time_left,
        interrupted=bool(entries) and entries[-1].get("event") == "interrupted",
        num_bytes=num_bytes,
        free_bytes=free,
    )


def _results(out: Path) -> tuple[set[str], list[str], int]:
    """Clips whose results are whole, names of those that are not, and the size of all."""
    done: set[str] = set()
    damaged: list[str] = []
    num_bytes = 0
    for folder, names, files in os.walk(out):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.endswith(sidecar.SIDECAR_SUFFIX):
                continue
            place = Path(folder, name)
            content = sidecar.read_sidecar(place.with_name(name.removesuffix(sidecar.SIDECAR_SUFFIX) + ".x"))
            if content is None or not isinstance(content.get("artefact"), str):
                continue  # somebody else's file
            records = [content.get("output"), content.get("midi")]
            sizes = [_size(place), *(_size(place.with_name(_name(record))) for record in records if record)]
            num_bytes += sum(size or 0 for size in sizes)
            if _is_whole(place, content.get("output")):
                clip = content.get("clip")
                done.add(str(clip.get("file")) if isinstance(clip, Mapping) else name)
            else:
                damaged.append(place.relative_to(out).as_posix())
    return done, damaged, num_bytes


def _is_whole(place: Path, record: Any) -> bool:
    return isinstance(record, Mapping) and _size(place.with_name(_name(record))) == record.get("bytes")


def _name(record: Any) -> str:
    """The file that a sidecar names, which lies beside it."""
    name = record.get("file") if isinstance(record, Mapping) else None
    return Path(name).name or "." if isinstance(name, str) else "."


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None


def _failures(entries: Sequence[Mapping[str, Any]], done: set[str]) -> Iterator[Failure]:
    for clip, entry in last_ends(entries).items():
        if entry["event"] in ("failed", "refused") and (entry["event"] == "refused" or clip not in done):
            reason, remedy = str(entry.get("reason", "")), str(entry.get("remedy") or "")
            yield Failure(clip, str(entry["event"]), reason.removesuffix(remedy).strip(), remedy)


def _holders(out: Path) -> Iterator[Holder]:
    """Whoever holds fresh leases; those of dead processes don't count."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted((out / leases.FOLDER / "leases").glob(f"*{leases.SUFFIX}")):
        with contextlib.suppress(OSError, ValueError):
            age_s = time.time() - path.stat().st_mtime
            lines = path.read_text(encoding="utf-8").splitlines()[:20]
            said = dict(line.split("=", 1) for line in lines if "=" in line)
            pid, host = said.get("pid", ""), said.get("host", "")
            if age_s < 2 * leases.LEASE_S and not (host == socket.gethostname() and not _lives(pid)):
                found[pid, host] += 1
    for (pid, host), clips in found.items():
        yield Holder(pid, host, clips)


def _lives(pid: str) -> bool:
    import psutil

    return pid.isdecimal() and psutil.pid_exists(int(pid))


def _outlook(entries: Sequence[Mapping[str, Any]], is_running: bool) -> tuple[int | None, Left | None]:
    """Clips left by the last run, and how long they take from now on."""
    told = [entry["left"] for entry in entries if isinstance(entry.get("left"), int)]
    left = told[-1] if told else None
    found = left_by_ledger(entries)
    if not left or found is None:
        return left, None
    estimate, at = found
    gone = time.time() - at if is_running else 0.0
    return left, Left(max(0.0, estimate.seconds - gone), estimate.is_least)
