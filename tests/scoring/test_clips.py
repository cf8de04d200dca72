"""Clips opened by commands that score nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from expotion_cli.errors import ClipError
from expotion_cli.media.clip import AUTO_TRACKS
from expotion_cli.scoring.clips import in_order, probe_sources
from expotion_cli.scoring.discover import discover
from expotion_cli.scoring.executors import InlineExecutor
from expotion_cli.scoring.workers import clip_workers


def name_of(path: Path) -> str:
    """Crashes like a broken decoder over clips that are called so."""
    if path.stem == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return path.stem


def test_probing_tells_of_each_file_in_its_order_what_was_found_or_why_not(make_video, tmp_path):
    make_video(tmp_path / "a.mp4", duration_s=0.4)
    (tmp_path / "b.mp4").write_bytes(b"no film")
    found = list(probe_sources(discover([tmp_path], out=tmp_path / "out").sources, AUTO_TRACKS, InlineExecutor()))
    assert [source.path.name for source, _ in found] == ["a.mp4", "b.mp4"]
    assert float(found[0][1].duration) == pytest.approx(0.4)
    assert isinstance(found[1][1], ClipError) and "b.mp4" in str(found[1][1])


def test_a_clip_that_ends_its_worker_is_the_only_one_that_fails(make_video, tmp_path):
    made = make_video(tmp_path / "a.mp4", duration_s=0.4)
    ((_, clip),) = probe_sources(discover([made], out=tmp_path / "out").sources, AUTO_TRACKS, InlineExecutor())
    calls = [(clip, (tmp_path / f"{name}.mp4",), None) for name in ("first", "crash", "last")]
    executor = clip_workers(1)
    try:
        first, crashed, last = in_order(executor, "see", name_of, calls, 2)
        assert (first.result(), last.result()) == ("first", "last")
        with pytest.raises(ClipError, match="SIGSEGV"):
            crashed.result()
    finally:
        executor.close()
