"""`expotion status`: what a folder tells of a batch, however far it got and whoever made it."""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

CLIP_S = 10.0


def put_result(out, name: str, *, num_bytes: int = 100) -> None:
    video = out / name
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(bytes(num_bytes))
    record = {"file": video.name, "bytes": num_bytes, "sha256": "00"}
    said = {"format": 2, "artefact": "0" * 64, "clip": {"file": name}, "output": record, "midi": None}
    video.with_name(f"{video.stem}.score.json").write_text(json.dumps(said))


def line(seconds_ago: float, event: str, clip: str, **more) -> str:
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return json.dumps({"at": at.isoformat(timespec="milliseconds"), "event": event, "clip": clip, **more}) + "\n"


def scored(number: int, of: int, seconds_ago: float) -> str:
    """The line of a clip that took seven seconds, in a run that takes one clip after the other."""
    return line(
        seconds_ago, "scored", f"{number}.mp4", outcome="scored", length_s=CLIP_S, left=of - number - 1,
        left_s=CLIP_S * (of - number - 1), spans={"see": [-7, -3], "compose": [-3, -1], "finish": [-1, 0]},
    )  # fmt: skip


def failed(clip: str, seconds_ago: float = 1.0) -> str:
    remedy = "Convert it to MP4."
    reason = f"clips/{clip}: This isn't a readable video file. {remedy}"
    return line(seconds_ago, "failed", clip, outcome="failed", reason=reason, remedy=remedy)


@pytest.fixture
def half_done(tmp_path):
    """Four of ten clips are done one after the other, one has failed, and somebody is at work."""
    out = tmp_path / "scored"
    for number in range(4):
        put_result(out, f"{number}.mp4")
    (out / "ledger.jsonl").write_text(
        failed("bad.mp4", 40) + "".join(scored(number, 10, 28 - 7 * number) for number in range(4)) + '{"at": "2026'
    )
    return out


def put_lease(out, number: int, pid: int, host: str, age_s: float = 0.0) -> None:
    path = out / ".expotion" / "leases" / f"{number:032}.lease"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"token=x\npid={pid}\nhost={host}\n")
    os.utime(path, (time.time() - age_s,) * 2)


def test_a_batch_at_work_tells_all(expotion, half_done):
    for number in range(2):
        put_lease(half_done, number, os.getpid(), socket.gethostname())
    put_lease(half_done, 2, 7, "studio-2")
    put_lease(half_done, 3, 7, "studio-3", age_s=600)  # nobody keeps it fresh
    put_lease(half_done, 4, 2**30, socket.gethostname())  # its process is dead
    done = expotion("status", half_done)
    lines = done.stdout.splitlines()
    assert done.exit_code == 1 and lines[0].endswith("scored: 4 done, 1 failed, 3 at work, 6 left")
    assert f"at work: process {os.getpid()} on {socket.gethostname()}, 2 clips" in lines
    assert "at work: process 7 on studio-2, 1 clip" in lines
    assert "time: about 35 s left" in lines, "six of seven seconds, seven seconds after the fourth was done"
    assert "failed: bad.mp4: clips/bad.mp4: This isn't a readable video file." in lines
    assert "    Convert it to MP4." in lines and any(line.startswith("disk: results 0.0 MB, ") for line in lines)


def test_a_batch_that_was_stopped_says_how_to_go_on(expotion, half_done):
    with open(half_done / "ledger.jsonl", "a") as ledger:
        ledger.write("\n" + line(0, "interrupted", "", left=6))
    said = expotion("status", half_done).stdout
    assert "the last run was interrupted: run the same command again to go on" in said
    assert "time: about 40 s left" in said, "of work, whenever it goes on"


def test_programs_get_the_same_as_json(expotion, half_done):
    record = json.loads(expotion("status", half_done, "--json").stdout)
    assert (record["exit_code"], record["done"], record["left"], record["running"]) == (1, 4, 6, 0)
    assert record["time_left_s"] == pytest.approx(42, rel=0.05) and record["time_left_is_least"] is False
    (failure,) = record["failures"]
    assert failure["remedy"] == "Convert it to MP4." and not failure["reason"].endswith(failure["remedy"])
    assert record["bytes"] > 400 and record["free_bytes"] > 0


def test_a_clip_that_failed_once_and_was_scored_later_is_done(expotion, tmp_path):
    put_result(tmp_path, "sub/a.mp4")
    end = line(0, "scored", "sub/a.mp4", outcome="scored", left=0, left_s=0.0, length_s=1.0, spans={})
    (tmp_path / "ledger.jsonl").write_text(failed("sub/a.mp4") + end)
    done = expotion("status", tmp_path)
    assert done.exit_code == 0 and done.stdout.splitlines()[0].endswith(": 1 done") and "time" not in done.stdout


def test_a_result_that_is_not_whole_is_named(expotion, tmp_path):
    put_result(tmp_path, "a.mp4")
    put_result(tmp_path, "b.mp4")
    (tmp_path / "a.mp4").write_bytes(b"cut")
    (tmp_path / "b.mp4").unlink()
    done = expotion("status", tmp_path)
    assert done.exit_code == 1 and "0 done, 2 damaged" in done.stdout
    assert "damaged: a.score.json: its video is gone or of another size" in done.stdout


@pytest.mark.parametrize("content", [{}, {"notes.txt": "x", "ledger.jsonl": "no JSON\n[]\n3\n", "x.score.json": "[]"}])
def test_a_foreign_folder_is_told_apart(expotion, tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    done = expotion("status", tmp_path)
    assert done.exit_code == 3 and done.stdout == f"{tmp_path}: nothing here was made by expotion.\n"
    assert json.loads(expotion("status", tmp_path, "--json").stdout)["done"] == 0


def test_sidecars_and_ledgers_of_others_do_no_harm(expotion, tmp_path):
    (tmp_path / "ledger.jsonl").write_text('{"event": "failed", "clip": 3, "reason": null}\n{"left": true}\n')
    (tmp_path / "a.score.json").write_text('{"artefact": "x", "output": {"file": "../../etc/passwd", "bytes": 1}}')
    (tmp_path / "b.score.json").write_text('{"artefact": "x", "output": {"file": "\\u0000", "bytes": 1}, "clip": 3}')
    done = expotion("status", tmp_path)
    assert done.exit_code == 1 and "1 failed" in done.stdout and "2 damaged" in done.stdout


@pytest.mark.parametrize(
    ("place", "said"), [("nowhere", "no such folder"), ("s3://a/b", "only folders of this machine")]
)
def test_what_is_no_folder_is_named(expotion, tmp_path, monkeypatch, place, said):
    monkeypatch.chdir(tmp_path)
    done = expotion("status", place)
    assert done.exit_code == 2 and said in done.stderr and place in done.stderr


def test_a_real_run_can_be_asked_about(score, expotion, clip_folder, tmp_path):
    out = tmp_path / "scored"
    (tmp_path / "bad.mp4").write_text("no video")
    score(clip_folder, tmp_path / "bad.mp4", "--out", out)
    record = json.loads(expotion("status", out, "--json").stdout)
    assert (record["done"], record["left"], record["running"], record["time_left_s"]) == (2, 0, 0, None)
    assert [failure["clip"] for failure in record["failures"]] == ["bad.mp4"] and record["failures"][0]["remedy"]
    events = [json.loads(text) for text in (out / "ledger.jsonl").read_text().splitlines()]
    ends = [event for event in events if event["event"] == "scored"]
    assert [event["left"] for event in ends] == [1, 0] and ends[-1]["left_s"] == 0
    for event in ends:
        spans = event["spans"]
        assert set(spans) >= {"compose", "finish"} and all(begin <= end <= 0 for begin, end in spans.values())
