"""`expotion models`, `recipes`, `cache` and `demo`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from expotion_cli.cli import flags
from expotion_cli.scoring.cue_store import CueStore, StoredCue
from expotion_cli.storage import cache_root
from expotion_cli.vision.encoder import REGISTRY


def test_models_lists_every_manifest_with_size_licence_and_presence(expotion):
    done = expotion("models")
    assert done.exit_code == 0
    rows = json.loads(expotion("models", "--json").stdout)
    assert {row["name"] for row in rows} >= {"mediapipe-face", "mediapipe-pose"}
    for row in rows:
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(row["name"] + " "))
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] < 1e9 else f"{row['bytes'] / 1e9:.1f} GB"
        assert (size if row["files"] else " - ") in line and row["licence"].split()[0] in line
        expected = "not fetched" if not row["ships"] else "here" if row["files"] else "built in"
        assert row["state"] == expected and row["state"] in line


def test_every_encoder_is_listed_with_the_stream_it_feeds_and_one_that_needs_no_files_is_built_in(expotion):
    rows = {row["name"]: row for row in json.loads(expotion("models", "--json").stdout) if row["kind"] == "encoder"}
    fed = {stream for row in rows.values() for stream in row["streams"]}
    assert fed >= set(REGISTRY)
    assert rows["flow"]["state"] == "built in" and rows["mediapipe-pose"]["state"] == "here"
    for size, num_bytes in (("full", 9_398_198), ("heavy", 30_664_242)):
        row = rows[f"mediapipe-pose-{size}"]
        assert (row["state"], row["streams"], row["bytes"]) == ("not fetched", ["pose"], num_bytes)
        assert len(row["files"][0]["sha256"]) == 64
        shown = expotion("models", row["name"]).stdout
        assert "feeds the stream pose" in shown and f"run: expotion fetch {row['name']}" in shown and "# media" in shown
    shown = expotion("models", "flow", "--verify")
    assert shown.exit_code == 0 and "built in" in shown.stdout


def test_a_streams_name_shows_the_encoders_that_feed_it(expotion):
    rows = json.loads(expotion("models", "pose", "--json").stdout)
    assert [row["name"] for row in rows] == ["mediapipe-pose", "mediapipe-pose-full", "mediapipe-pose-heavy"]
    assert expotion("models", "raft-flow").stdout.startswith("raft: ")
    unknown = expotion("models", "poze")
    assert unknown.exit_code == 2 and "did you mean 'pose'" in unknown.stderr


def test_verifying_says_of_each_file_how_it_is(expotion):
    done = expotion("models", "--verify")
    lines = done.stdout.splitlines()
    assert "verified  mediapipe-face: mediapipe/face_landmarker.task" in lines
    assert lines[-1].startswith("13 of 13 files are verified")
    assert "verified" not in expotion("models").stdout
    states = {row["name"]: row["state"] for row in json.loads(expotion("models", "--verify", "--json").stdout)}
    assert states["expotion-mini"] == "verified" and states["musicgen-small"] == "not fetched"


def test_a_model_that_was_not_fetched_is_no_alarm_unless_it_is_asked_for(expotion):
    assert expotion("models", "--verify").exit_code == 0
    shown = expotion("models", "musicgen-small")
    assert shown.exit_code == 0 and "run: expotion fetch musicgen-small" in shown.stdout
    assert "facebook/musicgen-small" in shown.stdout and "CC-BY-NC" in shown.stdout
    assert expotion("models", "musicgen-small", "--verify").exit_code == 4


def test_one_model_is_shown_with_its_files_and_verified(expotion):
    done = expotion("models", "mediapipe-face", "--verify")
    assert done.exit_code == 0 and "face_landmarker.task" in done.stdout and "Apache-2.0" in done.stdout


def test_a_damaged_model_file_is_found(expotion, monkeypatch, tmp_path):
    (tmp_path / "m.bin").write_bytes(b"12345")
    (tmp_path / "mine.toml").write_text(
        'kind = "music"\ntitle = "t"\nlicence = "l"\n[[files]]\npath = "m.bin"\nbytes = 5\nsha256 = "00"\n'
    )
    for module in ("expotion_cli.weights.manifest", "expotion_cli.cli.library"):
        monkeypatch.setattr(f"{module}.shipped_folder", lambda name: tmp_path)
    assert expotion("models").exit_code == 0
    done = expotion("models", "--verify")
    assert done.exit_code == 4 and "damaged   mine: m.bin" in done.stdout
    assert "0 of 1 files" in done.stdout and "mine: install the package again." in done.stdout


@pytest.mark.parametrize(("command", "near"), [("models", "mediapipe-face"), ("fetch", "mediapipe-face")])
def test_an_unknown_name_exits_with_2_and_names_the_nearest(expotion, command, near):
    done = expotion(command, near[:-1])
    assert done.exit_code == 2 and near in done.stderr


def test_the_cache_is_counted_checked_and_pruned(expotion, own_cache):
    store = CueStore(cache_root() / "cues")
    for number in range(3):
        store.put(f"{number}" * 64, StoredCue(np.full((2, 50), number), {"tempo": None}))
    assert json.loads(expotion("cache", "info", "--json").stdout)["cues"]["entries"] == 3
    path = store.path("1" * 64)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.get("1" * 64) is None, "a damaged cue is as good as none"
    checked = json.loads(expotion("cache", "verify", "--json").stdout)
    assert checked == {"checked": 3, "removed": [str(path)], "mistaken": []}
    assert json.loads(expotion("cache", "prune", "--max-size", "0", "--json").stdout)["checked"] == 2
    assert "0 cues" in expotion("cache", "info").stdout


def test_copies_of_remote_clips_are_counted_and_pruned_once_no_run_uses_them(expotion, own_cache):
    run = own_cache / "spool" / "0123456789abcdef"
    for name, age_s in (("in/a/old.mp4", 7200), ("in/new.mp4", 0), ("out/made.mp4", 7200), ("out/ledger.jsonl", 7200)):
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    counted = json.loads(expotion("cache", "info", "--json").stdout)["spool"]
    assert counted == {"folder": str(own_cache / "spool"), "files": 3, "bytes": 3000}
    assert "3 files, 0.0 MB" in expotion("cache", "info").stdout
    pruned = json.loads(expotion("cache", "prune", "--max-size", "2GB", "--json").stdout)
    assert sorted(pruned["removed"]) == [str(run / "in/a/old.mp4"), str(run / "out/made.mp4")]
    assert sorted(path.name for path in run.rglob("*")) == ["in", "ledger.jsonl", "new.mp4", "out"]


def test_pruning_keeps_what_fits_into_the_size_and_cues_have_a_tenth_of_it_at_least(expotion, own_cache):
    store = CueStore(cache_root() / "cues")
    for number in range(4):
        path = store.path(store_name := f"{number}" * 64)
        store.put(store_name, StoredCue(np.full((2, 50), number), {}))
        os.utime(path, (1000 + number,) * 2)
    each = path.stat().st_size
    kept = json.loads(expotion("cache", "prune", "--max-size", f"{4 * each}B", "--json").stdout)
    assert kept == {"checked": 4, "removed": []}, "without embeddings all the room is for cues"
    embedding = own_cache / "embeddings" / "00" / f"{'0' * 64}.safetensors"
    embedding.parent.mkdir(parents=True)
    embedding.write_bytes(bytes(35 * each))
    pruned = json.loads(expotion("cache", "prune", "--max-size", f"{38 * each / 1000} KB", "--json").stdout)
    assert pruned["removed"] == [str(store.path("0" * 64))] and embedding.exists()
    left = json.loads(expotion("cache", "info", "--json").stdout)
    assert left["embeddings"]["bytes"] + left["cues"]["bytes"] == 38 * each


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("0", 0), ("500MB", 500_000_000), ("2GB", 2_000_000_000), ("1.5 gib", 1_610_612_736), ("64KiB", 65536), ("7b", 7)],
)
def test_sizes_are_read_with_their_units(text, num_bytes):
    assert flags.size(text, "--max-size") == num_bytes


@pytest.mark.parametrize("text", ["500", "2 gigs", "GB", "-1MB", "1e3MB", "nan", ""])
def test_pruning_needs_to_know_how_much_and_in_which_unit(expotion, own_cache, text):
    kept = CueStore(cache_root() / "cues")
    kept.put("1" * 64, StoredCue(np.zeros((2, 5)), {}))
    done = expotion("cache", "prune", f"--max-size={text}")
    assert done.exit_code == 2 and f"--max-size {text!r} is not a size" in done.stderr and "500MB or 2GB" in done.stderr
    assert kept.get("1" * 64).tokens.shape == (2, 5), "nothing is removed by mistake"
    assert expotion("cache", "prune").exit_code == 2


@pytest.mark.long
def test_demo_clips_can_be_planned_at_once(expotion, tmp_path):
    done = expotion("demo", tmp_path / "clips")
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 3
    planned = json.loads(expotion("score", tmp_path / "clips", "--dry-run", "--json").stdout)
    assert len(planned["clips"]) == 3 and not planned["failed"]


def test_demo_where_nothing_can_be_written_is_an_error_with_the_folder(expotion, tmp_path):
    (tmp_path / "file").touch()
    done = expotion("demo", tmp_path / "file")
    assert done.exit_code in (1, 2) and "file" in done.stderr and "Traceback" not in done.stderr


def test_the_version_is_printed(expotion, repository):
    from expotion_cli.version import __version__

    assert expotion("--version").stdout.strip().endswith(f" {__version__}")
    for command, name in (("main", "expotion"), ("score_main", "expotion-score")):
        code = f"import sys; sys.argv = ['{name}', '--version']; from expotion_cli.cli import {command}; {command}()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository)
        assert (done.stdout, done.returncode) == (f"{name} {__version__}\n", 0)
