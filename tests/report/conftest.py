"""A folder of results with everything in it that may go wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_results import break_sidecar, make_result, write_ledger

EVIL = '</script><script>document.title="gone"</script><!-- \u2028 "\' & <b>'


@pytest.fixture(scope="session")
def scored_video(tmp_path_factory, make_video) -> Path:
    """Two seconds of moving picture with a tone."""
    return make_video(tmp_path_factory.mktemp("source") / "source.mp4", duration_s=2.0, size="192x108")


@pytest.fixture
def folder(tmp_path, scored_video) -> Path:
    """Whole results and such that are not, each of its kind."""
    out = tmp_path / "scored"
    make_result(out / "clip 2.mp4", scored_video)
    make_result(out / "sub" / "clip 10.mp4", scored_video, prompt=EVIL, versions={"expotion": "0.0.1"})
    make_result(out / "gone.mp4", scored_video)
    (out / "gone.mp4").unlink()
    make_result(out / "cut.mp4", scored_video)
    break_sidecar(out / "cut.mp4")
    make_result(out / "edited.mp4", scored_video)
    with open(out / "edited.mp4", "ab") as file:
        file.write(b"more")
    for name in ("stopped.mp4", "lost.mp4", "strange.mp4"):
        (out / name).write_bytes(scored_video.read_bytes())
    (out / "theirs.score.json").write_text('{"format": 2}')
    write_ledger(
        out,
        {"event": "failed", "clip": "clip 2.mp4", "outcome": "failed", "reason": "an old failure."},
        {"event": "scored", "clip": "clip 2.mp4", "outcome": "scored", "output": "clip 2.mp4"},
        {"event": "scored", "clip": "lost.mp4", "outcome": "scored", "output": "lost.mp4"},
        {"event": "begin", "clip": "stopped.mov", "output": "stopped.mp4"},
        {"event": "begin", "clip": "never.mp4", "output": "never.mp4"},
        {
            "event": "failed",
            "clip": "bad.mp4",
            "outcome": "failed",
            "reason": f"in/bad.mp4: it is no video {EVIL}. Convert it.",
            "remedy": "Convert it.",
        },
        {"event": "refused", "clip": "there.mp4", "outcome": "refused", "reason": "there.mp4: it is there already."},
        {"event": "interrupted", "left": 2},
    )
    return out
