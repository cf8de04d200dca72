"""Results as scoring leaves them, without scoring: a video, its sidecar and lines of a ledger."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from expotion_cli.scoring.sidecar import FORMAT, sidecar_path, write_sidecar
from expotion_cli.storage import digest_file
from expotion_cli.version import __version__


def make_result(video: Path, source: Path, **changes: Any) -> dict[str, Any]:
    """Put a copy of a video into a folder, with a sidecar beside it.

    Args:
        video: where it goes.
        source: the video to copy.
        changes: of the sidecar's keys.
    """
    video.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, video)
    content = {
        "format": FORMAT,
        "artefact": "1" * 64,
        "clip": {"file": video.name, "duration_s": 2.0, "fps": 25.0, "width": 96, "height": 64},
        "output": {"file": video.name, "bytes": video.stat().st_size, "sha256": digest_file(video)},
        "recipe": {"name": "cinematic"},
        "prompt": "calm piano",
        "seed": 7,
        "model": {"name": "expotion-mini", "licence": "MIT (weights and music made with them)"},
        "adapter": "expotion-mini (its own)",
        "soundfont": {"file": "own.sf2", "sha256": "2" * 64},
        "streams": [],
        "tempo": {"bpm": 96.0, "start_s": 0.0, "confidence": 1.0},
        "loudness": {"integrated_lufs": -14.0, "true_peak_dbtp": -1.2, "range_lu": 3.0},
        "measured": {"hits": 0.5, "hits_chance": 0.25, "pulse": 0.8, "spread_db": 5.0, "hole_share": 0.0},
        "hits": [
            {"time_s": 0.5, "weight": 0.9, "cause": "gesture", "answered_s": 0.51, "sounds": ["notes"]},
            {"time_s": 1.5, "weight": 0.4, "cause": "cut", "answered_s": None, "sounds": []},
        ],
        "cuts": [{"time_s": 1.5, "kind": "hard", "strength": 1.0}],
        "plan": {"given": None, "digest": "3" * 64, "start_s": 0.0, "end_s": None},
        "notes": [],
        "versions": {"expotion": __version__},
        **changes,
    }
    write_sidecar(video, content)
    return content


def break_sidecar(video: Path) -> None:
    """Cut a sidecar in half."""
    path = sidecar_path(video)
    path.write_bytes(path.read_bytes()[:100])


def write_ledger(folder: Path, *events: dict[str, Any]) -> None:
    """Write a ledger with these events."""
    lines = [json.dumps({"at": f"2026-01-0{day}T10:00:00+00:00", **event}) for day, event in enumerate(events, 1)]
    (folder / "ledger.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
