"""`expotion plan`: what it writes, what it keeps, what it says, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from expotion_cli.demo import DEMO_CLIPS, write_demo_clips
from expotion_cli.media.probe import probe
from expotion_cli.spotting.plan_file import read_plan


@pytest.fixture
def plan(expotion):
    """Runs `expotion plan` without looking at the picture."""
    return lambda *arguments: expotion("plan", "--streams", "none", *arguments)


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_each_clip_gets_a_plan_that_can_be_read_and_the_folder_is_mirrored(plan, clip_folder, tmp_path):
    to = tmp_path / "plans"
    done = plan(clip_folder, "--to", to)
    assert done.exit_code == 0, done.stderr
    assert files_in(to) == ["one.plan.json", "sub/two.plan.json"]
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"one.mp4 → {to}/one.plan.json · 0 hit points · 0 cuts · ")
    assert lines[0].endswith(" · 1 section · no embedding streams were asked for")
    assert lines[-1] == f"2 written → {to}/" and len(lines) == 3
    record = read(to / "sub" / "two.plan.json")
    assert record["clip"] == "sub/two.mp4" and record["duration_s"] == 0.8
    clip = probe(clip_folder / "sub" / "two.mp4")
    assert read_plan(to / "sub" / "two.plan.json", clip.duration).is_given


def test_a_plan_is_laid_out_for_people_one_line_for_each_hit_point(plan, clip_folder, tmp_path):
    hits = tmp_path / "hits.csv"
    hits.write_text("0.1\n0.5\n")
    assert plan(clip_folder / "one.mp4", "--to", tmp_path, "--hits", hits).exit_code == 0
    text = (tmp_path / "one.plan.json").read_text()
    assert '\n    {"time_s": 0.1, "weight": 1.0, "cause": "user", "source": "hits.csv, line 1"},\n' in text
    assert len([line for line in text.splitlines() if '"values": [' in line]) == 1


def test_a_plan_that_is_there_already_is_kept_and_that_is_said(plan, clip_folder, tmp_path):
    assert plan(clip_folder, "--to", tmp_path).exit_code == 0
    edited = tmp_path / "one.plan.json"
    edited.write_text("my own work")
    (tmp_path / "sub" / "two.plan.json").unlink()
    done = plan(clip_folder, "--to", tmp_path)
    assert done.exit_code == 0 and edited.read_text() == "my own work"
    assert f"kept {edited}: it was already there; --overwrite replaces it" in done.stdout
    assert done.stdout.splitlines()[-1] == f"1 written, 1 kept → {tmp_path}/"
    assert plan(clip_folder, "--to", tmp_path, "--overwrite").exit_code == 0
    assert read(edited)["clip"] == "one.mp4"


def test_a_plan_that_appears_while_the_clip_is_looked_at_is_kept(plan, clip_folder, tmp_path, monkeypatch):
    from expotion_cli.scoring import ladder

    real = ladder.spot

    def spot(*arguments, **options):
        (tmp_path / "one.plan.json").write_text("my own work")
        return real(*arguments, **options)

    monkeypatch.setattr(ladder, "spot", spot)
    done = plan(clip_folder / "one.mp4", "--to", tmp_path)
    assert done.exit_code == 0 and (tmp_path / "one.plan.json").read_text() == "my own work"


def test_a_broken_clip_fails_and_the_others_go_on(plan, clip_folder, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(clip_folder, folder)
    (folder / "broken.mp4").write_text("words")
    done = plan(folder, tmp_path / "nowhere.mp4", "--to", tmp_path / "plans")
    assert done.exit_code == 1 and done.stdout.splitlines()[-1].startswith("2 written, 2 failed")
    assert "broken.mp4: this isn't a readable video file" in done.stderr and len(files_in(tmp_path / "plans")) == 2


def test_nothing_to_plan_exits_with_3_and_makes_no_folder(plan, tmp_path):
    (tmp_path / "fake.mp4").write_text("words")
    assert plan(tmp_path / "fake.mp4", "--to", tmp_path / "plans").exit_code == 3
    assert not (tmp_path / "plans").exists()


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (("--recipe", "cinematik"), "cinematic"),
        (("--tempo", "fast"), "not a tempo"),
        (("--streams", "flwo"), "did you mean 'flow'"),
        (("--hits", "nowhere.csv"), "the hits file can't be read"),
    ],
)
def test_wrong_flags_exit_with_2_before_anything_is_written(expotion, clip_folder, tmp_path, flags, wanted):
    done = expotion("plan", clip_folder, "--to", tmp_path / "plans", *flags)
    assert done.exit_code == 2 and wanted in done.stderr and not (tmp_path / "plans").exists()


def test_the_summary_for_programs_stands_alone_on_standard_output(plan, clip_folder, tmp_path):
    (tmp_path / "one.plan.json").write_text("{}")
    said = json.loads(plan(clip_folder, tmp_path / "nowhere.mp4", "--to", tmp_path, "--json").stdout)
    assert said["exit_code"] == 1 and said["counts"] == {"written": 1, "kept": 1, "failed": 1}
    rows = {row["status"]: row for row in said["clips"]}
    assert rows["written"]["clip"] == "sub/two.mp4" and rows["written"]["sections"] == 1
    assert Path(rows["kept"]["file"]) == tmp_path / "one.plan.json" and rows["failed"]["error"]["remedy"]


def test_quiet_says_only_what_went_wrong(plan, clip_folder, tmp_path):
    done = plan(clip_folder, tmp_path / "nowhere.mp4", "--to", tmp_path / "plans", "--quiet")
    assert done.stdout == "" and done.stderr.count("\n") == 1 and done.stderr.startswith("failed: ")


def test_tempo_and_prompt_decide_the_plans_tempo(plan, clip_folder, tmp_path):
    assert plan(clip_folder, "--to", tmp_path / "a", "--tempo", "96").exit_code == 0
    assert read(tmp_path / "a" / "one.plan.json")["tempo"]["bpm"] == 96
    assert plan(clip_folder, "--to", tmp_path / "b", "--prompt", "piano at 84 bpm").exit_code == 0
    assert read(tmp_path / "b" / "one.plan.json")["tempo"]["bpm"] == 84


def test_hit_points_outside_a_clip_are_that_clips_failure_and_unknown_clips_are_noted(plan, clip_folder, tmp_path):
    hits = tmp_path / "hits.csv"
    hits.write_text("time_s,clip\n0.7,one\n0.7,two.mp4\n0.2,three\n")
    done = plan(clip_folder, "--to", tmp_path / "plans", "--hits", hits)
    assert done.exit_code == 1 and "hit points for no clip at hand: three" in done.stderr
    assert "line 2: 0.7 s lies outside the clip, which lasts 0.600 s" in done.stderr
    assert [hit["time_s"] for hit in read(tmp_path / "plans" / "sub" / "two.plan.json")["hits"]] == [0.7]


def test_motion_gives_a_plan_with_hit_points_on_its_stops(expotion, tmp_path):
    import dataclasses

    sway = dataclasses.replace(DEMO_CLIPS[0], duration_s=4.0)
    (clip,) = write_demo_clips(tmp_path, [sway])
    done = expotion("plan", clip.path, "--to", tmp_path / "plans", "--streams", "flow")
    assert done.exit_code == 0, done.stderr
    record = read(tmp_path / "plans" / "sway.plan.json")
    assert len(record["hits"]) >= 4 and {hit["cause"] for hit in record["hits"]} == {"gesture"}
    assert 90 < record["tempo"]["bpm"] < 102 and record["tempo_map"]
