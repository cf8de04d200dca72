"""Batches under watch: the command itself in processes of its own, what it leaves on disk, and how to disturb it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import process_tree

from expotion_cli.demo import DEMO_CLIPS, write_demo_clips
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.scoring.cue_store import read_cue
from expotion_cli.scoring.ledger import read_ledger
from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.storage import digest_file

REPOSITORY = Path(__file__).resolve().parents[1]
VOLATILE = ("stages_s", "composed_together")
"""What a sidecar may say otherwise after an interruption: how long it took, and in whose company."""
LONGEST_S = 900
OUTLIVES_S = 5.0
_CODE = "from expotion_cli.cli import score_main; print(flush=True); score_main()"
_MARK = "EXPOTION_WATCHED"


def make_clips(folder: Path, count: int) -> Path:
    """A folder of short clips (1 to 2 s) of a person who moves; the same bytes each time."""
    clips = []
    for number in range(count):
        kind = DEMO_CLIPS[number % len(DEMO_CLIPS)]
        clips.append(dataclasses.replace(kind, name=f"{kind.name}-{number}", duration_s=1.0 + number % 6 / 5))
    write_demo_clips(folder, clips)
    return folder


@dataclass(frozen=True)
class Results:
    """All that must come out the same, whatever happened on the way: name or digest → content.

    Attributes:
        files: sha256 of each video and MIDI file.
        sidecars: what each says, `VOLATILE` aside.
        tokens: sha256 of each cue's tokens.
        sound: sha256 of each video's decoded sound.
    """

    files: dict[str, str]
    sidecars: dict[str, Any]
    tokens: dict[str, str]
    sound: dict[str, str]

    def differences(self, found: Results) -> list[str]:
        """What is missing, too much or other in results that should be these."""
        told = []
        for name in ("files", "sidecars", "tokens", "sound"):
            expected, there = getattr(self, name), getattr(found, name)
            for key in sorted(expected.keys() | there.keys()):
                if expected.get(key) != there.get(key):
                    what = "missing" if key not in there else "too much" if key not in expected else "differs"
                    told.append(f"{name}: {key} {what}")
        return told


class Place:
    """An output folder, a cache and a folder for temporary files, all of one batch.

    Args:
        root: where they are made.
        clips: the batch.
        flags: of the command.
    """

    def __init__(self, root: Path, clips: Path, flags: tuple[str, ...]):
        self.root, self.clips, self.flags = root, clips, flags
        self.out, self.cache, self.temporary = root / "out", root / "cache", root / "tmp"
        self.temporary.mkdir(parents=True)
        self.mark = uuid.uuid4().hex

    @property
    def names(self) -> list[str]:
        """The clips' names."""
        return sorted(path.name for path in self.clips.iterdir() if path.suffix != ".json")

    def start(self, cache: Path | None = None) -> subprocess.Popen[str]:
        """Start the command as the leader of a new session; returns as soon as its first line is reached.

        Args:
            cache: another cache than the place's own.
        """
        environment = {
            **os.environ,
            "EXPOTION_CACHE": str(cache or self.cache),
            "EXPOTION_WORKERS": "1",
            "PYTHONPATH": str(REPOSITORY),
            "TMPDIR": str(self.temporary),
            _MARK: self.mark,
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, str(self.clips), "--out", str(self.out), *self.flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def finish(self) -> float:
        """Run the command to its end; returns how long that took, in seconds."""
        started = time.monotonic()
        process = self.start()
        _, complaint = process.communicate(timeout=LONGEST_S)
        if process.returncode != 0:
            raise RuntimeError(f"the undisturbed batch failed ({process.returncode}): {complaint}")
        return time.monotonic() - started

    def survivors(self) -> list[int]:
        """Processes of this place that are still alive, after they had a while to end."""
        until = time.monotonic() + OUTLIVES_S
        while (alive := list(_marked(self.mark))) and time.monotonic() < until:
            time.sleep(0.05)
        return alive

    def files(self) -> dict[str, str]:
        """sha256 of all under final names but sidecars and the ledger."""
        paths = [path for path in self.out.glob("[!.]*") if path.suffix not in (".json", ".jsonl")]
        return {path.name: digest_file(path) for path in paths}

    def sidecars(self) -> dict[str, Any]:
        """What the sidecars say, `VOLATILE` aside."""
        said = {path.name: json.loads(path.read_text()) for path in self.out.glob("[!.]*.score.json")}
        return {name: {k: v for k, v in one.items() if k not in VOLATILE} for name, one in said.items()}

    def results(self) -> Results:
        """All that is there."""
        paths = [path for path in self.cache.glob("cues/??/*.safetensors") if not path.name.startswith(".")]
        cues = {path.stem: read_cue(path) for path in paths}
        tokens = {name: hashlib.sha256(cue.tokens.tobytes()).hexdigest() for name, cue in cues.items() if cue}
        sound = {}
        for path in self.out.glob("[!.]*.mp4"):
            sound[path.name] = hashlib.sha256(read_clip_sound(path, 44_100).tobytes()).hexdigest()
        return Results(self.files(), self.sidecars(), tokens, sound)

    def events(self, event: str) -> Counter[str]:
        """Clip → how many such events the ledger lists."""
        return Counter(entry["clip"] for entry in read_ledger(self.out / "ledger.jsonl") if entry["event"] == event)

    def done(self) -> dict[str, tuple[int, int]]:
        """Inode and time of every file of the clips that are done."""
        videos = [path for path in self.out.glob("[!.]*.mp4") if read_sidecar(path) is not None]
        files = [file for video in videos for file in self.out.glob(f"{video.stem}.*")]
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def leases(self) -> list[Path]:
        """Leases that stand in the output folder."""
        return list(self.out.glob(".expotion/leases/*.lease"))

    def hidden(self) -> list[str]:
        """Whatever stands in the output folder under a hidden name."""
        return [str(path.relative_to(self.out)) for path in self.out.rglob(".*")]

    def temporaries(self) -> tuple[int, int]:
        """(half-written files in the cache, entries of the folder for temporary files)."""
        in_cache = [path for path in self.cache.rglob(".*") if ".partial" in path.name]
        return len(in_cache), len(list(self.temporary.iterdir()))

    def moment(self) -> str:
        """What a batch that was killed just now had been doing."""
        if not self.leases():
            return "starting"
        cues = [path for path in self.cache.glob("cues/??/*.safetensors") if not path.name.startswith(".")]
        return "finishing" if len(cues) == len(self.names) else "seeing, composing"


def run_until(process: subprocess.Popen[str], moment_s: float, act: Callable[[], object]) -> bool:
    """Let a batch run for so long and then act; returns whether it was still running.

    Args:
        process: from `Place.start`.
        moment_s: seconds from now.
        act: what is done to it then.
    """
    try:
        process.wait(moment_s)  # it says too little to fill a pipe
        return False
    except subprocess.TimeoutExpired:
        act()
        return True


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a process, its group and all below it, at once."""
    with contextlib.suppress(ProcessLookupError):
        below = process_tree(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        for pid in below[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def worker_pids(process: subprocess.Popen[str]) -> list[int]:
    """A batch's worker processes."""
    return [pid for pid in process_tree(process.pid)[1:] if b"spawn_main" in _read(pid, "cmdline")]


def is_busy(pid: int) -> bool:
    """Whether a process runs right now instead of waiting."""
    return _read(pid, "stat").rpartition(b")")[2].split()[:1] == [b"R"]


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        if wanted in _read(int(folder.name), "environ").split(b"\0"):  # empty for those that have ended
            yield int(folder.name)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
