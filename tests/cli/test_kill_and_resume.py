"""The command itself, with the embedded model, killed again and again: it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.demo import DEMO_CLIPS, write_demo_clips
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring.cue_store import read_cue
from expotion_cli.scoring.ledger import read_ledger
from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.storage import digest_file

LENGTHS_S = (2.0, 1.6, 1.2)
LONGEST_RUN_S = 240
VOLATILE = ("stages_s", "composed_together")
"""What a sidecar may say otherwise after an interruption: how long it took, and in whose company."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    pairs = zip(DEMO_CLIPS, LENGTHS_S, strict=True)
    write_demo_clips(folder, [dataclasses.replace(clip, duration_s=length) for clip, length in pairs])
    return folder


class Place:
    """An output folder and a cache of its own."""

    def __init__(self, root: Path):
        self.out, self.cache = root / "out", root / "cache"

    def start(self, clips: Path) -> subprocess.Popen:
        command = [sys.executable, "-c", "from expotion_cli.cli import score_main; score_main()"]
        options = [clips, "--recipe", "cinematic", "--midi", "--out", self.out]
        environment = {**os.environ, "EXPOTION_CACHE": str(self.cache)}
        return subprocess.Popen(
            [*command, *map(str, options)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, clips: Path) -> None:
        process = self.start(clips)
        _, complaint = process.communicate(timeout=LONGEST_RUN_S)
        assert process.returncode == 0, complaint

    def kill_when(self, clips: Path, ready: Callable[[], bool]) -> None:
        """Run until `ready`, then SIGKILL."""
        process, began = self.start(clips), time.monotonic()
        while not ready():
            assert process.poll() is None, f"it ended before the moment came: {process.stderr.read()}"
            assert time.monotonic() - began < LONGEST_RUN_S, "the moment never came"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def streams(self) -> list[Path]:
        """Embedding streams that are kept."""
        return [p for p in self.cache.glob("embeddings/??/*.safetensors") if not p.name.startswith(".")]

    def cues(self) -> dict[str, np.ndarray]:
        """Tokens that are kept, by digest."""
        paths = [p for p in self.cache.glob("cues/??/*.safetensors") if not p.name.startswith(".")]
        return {path.stem: read_cue(path).tokens for path in paths}

    def being_written(self) -> list[Path]:
        """Unfinished videos with something in them."""
        return [p for p in self.out.glob(".*.partial.mp4") if _size(p)]

    def under_final_names(self) -> dict[str, str]:
        """Digest of every result but sidecars and the ledger."""
        paths = [p for p in self.out.glob("*") if p.suffix in (".mp4", ".mid") and not p.name.startswith(".")]
        return {path.name: digest_file(path) for path in paths}

    def sidecars(self) -> dict[str, dict]:
        found = {path.name: json.loads(path.read_text()) for path in self.out.glob("[!.]*.score.json")}
        return {name: {k: v for k, v in said.items() if k not in VOLATILE} for name, said in found.items()}

    def events(self, event: str) -> list[str]:
        return [entry["clip"] for entry in read_ledger(self.out / "ledger.jsonl") if entry["event"] == event]

    def done(self) -> dict[str, tuple[int, int]]:
        """Identity and time of every file of the clips that are done."""
        videos = [p for p in self.out.glob("[!.]*.mp4") if read_sidecar(p) is not None]
        files = [p for v in videos for p in (v, v.with_suffix(".mid"), v.with_suffix(".score.json"))]
        return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has just been renamed
        return 0


@pytest.mark.slow
@pytest.mark.timeout(900)  # six starts of the whole program; some 40 s where nothing else runs
def test_killed_while_looking_composing_and_encoding_it_ends_with_the_results_of_an_undisturbed_run(clips, tmp_path):
    whole, place = Place(tmp_path / "whole"), Place(tmp_path / "killed")
    whole.finish(clips)
    expected, num_streams = whole.under_final_names(), len(whole.streams())
    num_cues = len(LENGTHS_S) * load_recipe("cinematic").generate.takes
    assert len(expected) == 6 and len(whole.cues()) == num_cues

    moments = {
        "looking": lambda: len(place.streams()) >= 1,
        "composing": lambda: len(place.streams()) == num_streams,
        "encoding": lambda: bool(place.being_written()),
        "one clip done": lambda: len(place.events("scored")) >= 1,
    }
    done: dict[str, tuple[int, int]] = {}
    for moment, ready in moments.items():
        place.kill_when(clips, ready)
        if moment == "looking":
            assert len(place.streams()) < num_streams and not place.cues()
        elif moment == "composing":
            assert len(place.cues()) < num_cues and not place.under_final_names()
        elif moment == "encoding":
            assert len(place.under_final_names()) < 6
        else:
            assert 0 < len(place.done()) < 9
        # Under a final name there is never anything but the whole result.
        assert place.under_final_names().items() <= expected.items(), moment
        assert done.items() <= place.done().items(), moment
        done = place.done()

    place.finish(clips)
    assert place.under_final_names() == expected
    assert place.sidecars() == whole.sidecars()
    tokens, undisturbed = place.cues(), whole.cues()
    assert tokens.keys() == undisturbed.keys()
    assert all(np.array_equal(tokens[digest], undisturbed[digest]) for digest in tokens)
    for name in ("sway.mp4", "rise.mp4", "still.mp4"):
        assert np.array_equal(read_clip_sound(place.out / name, 44_100), read_clip_sound(whole.out / name, 44_100))
    assert done and done.items() <= place.done().items(), "what was done is not touched again"
    assert Counter(place.events("scored")) == {"sway.mp4": 1, "rise.mp4": 1, "still.mp4": 1}
    assert not [p for p in place.out.rglob("*") if ".partial" in p.name]
