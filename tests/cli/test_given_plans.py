"""`expotion score --plans` and `--hits`: which plan belongs to which clip, what changes, what stays, what fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.audio.onsets import onset_strength
from expotion_cli.media.sound import read_sound

RATE = 32_000


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_video) -> Path:
    """Two clips of three seconds, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("clips")
    make_video(folder / "one.mp4", duration_s=3.0)
    make_video(folder / "sub" / "two.mp4", duration_s=3.0, hue=90, sound=False)
    return folder


@pytest.fixture
def plans(expotion, clips, tmp_path) -> Path:
    """Plans of both clips, with two hit points each."""
    hits = tmp_path / "moments.csv"
    hits.write_text("time_s,weight\n1.0,0.9\n2.2,0.4\n")
    done = expotion("plan", clips, "--to", tmp_path / "plans", "--streams", "none", "--hits", hits)
    assert done.exit_code == 0, done.stderr
    return tmp_path / "plans"


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def sidecar(out: Path, name: str = "one") -> dict:
    return json.loads((out / f"{name}.score.json").read_text())


def loudness(path: Path) -> np.ndarray:
    """[n] RMS of each hundredth of a second."""
    audio = read_sound(path, RATE)
    mono = audio.mean(axis=0)
    size = RATE // 100
    return np.sqrt((mono[: len(mono) // size * size].reshape(-1, size) ** 2).mean(axis=1))


def test_plans_are_found_by_the_clips_path_and_the_sidecar_tells_of_them(score, clips, plans, tmp_path):
    done = score(clips, "--plans", plans, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "plan" not in done.stderr, done.stderr
    said = sidecar(tmp_path / "out", "sub/two")
    assert said["plan"]["given"] == "sub/two.plan.json" and len(said["plan"]["digest"]) == 64
    assert [(hit["time_s"], hit["weight"], hit["cause"]) for hit in said["hits"]] == [
        (1.0, 0.9, "user"), (2.2, 0.4, "user")
    ]  # fmt: skip
    assert all(abs(hit["answered_s"] - hit["time_s"]) <= 0.041 and hit["sounds"] for hit in said["hits"])
    assert said["cuts"] == []


def test_without_plans_the_sidecar_tells_what_was_found(score, clips, tmp_path):
    assert score(clips / "one.mp4", "--out", tmp_path).exit_code == 0
    said = sidecar(tmp_path)
    assert said["plan"]["given"] is None and said["hits"] == [] and said["cuts"] == []


def test_a_plan_is_found_by_the_clips_name_where_the_folders_differ(score, clips, plans, tmp_path):
    done = score(clips / "sub" / "two.mp4", "--plans", plans, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "plans for no clip at hand: one.plan.json" in done.stderr
    assert sidecar(tmp_path / "out", "two")["plan"]["given"] == "sub/two.plan.json"


def test_a_name_that_two_clips_bear_needs_its_folder(score, clips, plans, tmp_path):
    folder = tmp_path / "in"
    for place in ("a", "b"):
        (folder / place).mkdir(parents=True)
        shutil.copy(clips / "one.mp4", folder / place / "one.mp4")
    (plans / "sub" / "two.plan.json").unlink()
    done = score(folder, "--plans", plans, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "one.plan.json may be meant for a/one.mp4, b/one.mp4, so it's for none" in done.stderr
    assert sidecar(tmp_path / "out", "a/one")["plan"]["given"] is None


def test_a_clip_without_a_plan_is_spotted_as_usual_and_that_is_said(score, clips, plans, tmp_path):
    (plans / "one.plan.json").rename(plans / "three.plan.json")
    done = score(clips, "--plans", plans, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "no plan for one.mp4; spotted as usual" in done.stderr
    assert "plans for no clip at hand: three.plan.json" in done.stderr
    assert sidecar(tmp_path / "out")["hits"] == []


def test_a_bad_plan_is_that_clips_failure_and_the_batch_goes_on(score, clips, plans, tmp_path):
    edit(plans / "one.plan.json", hits=[{"time_s": 3.5}])
    done = score(clips, "--plans", plans, "--out", tmp_path / "out")
    assert done.exit_code == 1 and "one.plan.json: hits[0].time_s is 3.5; it must lie from 0 to 3" in done.stderr
    assert (tmp_path / "out" / "sub" / "two.mp4").exists() and not (tmp_path / "out" / "one.mp4").exists()


def test_a_folder_of_plans_that_is_not_there_exits_with_2(score, clips, tmp_path):
    done = score(clips, "--plans", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.exit_code == 2 and "there is no such folder" in done.stderr and not (tmp_path / "out").exists()


def test_a_rerun_with_the_same_plan_does_nothing_and_a_new_layout_of_the_file_is_the_same_plan(
    score, composer, clips, plans, tmp_path
):
    assert score(clips, "--plans", plans, "--out", tmp_path / "out").exit_code == 0
    assert len(composer.composed) == 2
    path = plans / "one.plan.json"
    record = json.loads(path.read_text())
    record["hits"] = [{**hit, "source": "because I say so"} for hit in record["hits"][::-1]]
    del record["intensity"]["bars"], record["metre"], record["clip"]
    path.write_text(json.dumps(dict(reversed(record.items())), indent=7))
    done = score(clips, "--plans", plans, "--out", tmp_path / "out")
    assert done.stdout.count("already  ") == 2 and "2 already there in" in done.stdout and len(composer.composed) == 2


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [
        {"hits": [{"time_s": 1.0, "weight": 0.9}, {"time_s": 2.2, "weight": 1.0}]},
        {"hits": [{"time_s": 1.3, "weight": 0.9}, {"time_s": 2.2, "weight": 0.4}]},
        {"hits": []},
        {"key": "F#", "mode": "minor"},
        {"intensity": {"rate_hz": 1, "values": [0, 1, 0]}},
        {"opening": {"start_s": 1.0}},
        {"ending": {"end_s": 2.0}},
    ],
    ids=["weight", "time", "none", "key", "intensity", "opening", "ending"],
)
def test_an_edited_plan_changes_the_music(score, clips, plans, tmp_path, changes):
    out = tmp_path / "out"
    assert score(clips / "one.mp4", "--plans", plans, "--out", out).exit_code == 0
    before = (out / "one.mp4").read_bytes()
    edit(plans / "one.plan.json", **changes)
    refused = score(clips / "one.mp4", "--plans", plans, "--out", out)
    assert refused.exit_code == 2 and "another cue plan" in refused.stderr and (out / "one.mp4").read_bytes() == before
    done = score(clips / "one.mp4", "--plans", plans, "--out", out, "--overwrite")
    assert done.exit_code == 0 and "1 scored" in done.stdout and (out / "one.mp4").read_bytes() != before


def test_an_edited_tempo_is_the_tempo_of_the_music(expotion, clips, plans, tmp_path):
    flags = ("--streams", "none", "--takes", 1, "--plans", plans, "--out", tmp_path / "out")
    edit(plans / "one.plan.json", tempo={"bpm": 91.5, "bar_starts_s": -0.25}, tempo_map=[], key="Eb")
    done = expotion("score", clips / "one.mp4", *flags)
    assert done.exit_code == 0, done.stderr
    tempo = sidecar(tmp_path / "out")["tempo"]
    assert (tempo["bpm"], tempo["start_s"]) == (91.5, -0.25)


def test_hit_points_of_a_file_are_answered_in_the_finished_sound(score, clips, tmp_path):
    hits = tmp_path / "hits.csv"
    hits.write_text("0.8\n1.55\n2.35\n")
    done = score(clips / "one.mp4", "--hits", hits, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    said = sidecar(tmp_path / "out")
    assert [hit["time_s"] for hit in said["hits"]] == [0.8, 1.55, 2.35]
    audio = read_sound(tmp_path / "out" / "one.mp4", RATE)
    onsets = onset_strength(audio, RATE, 100)
    for hit in said["hits"]:
        near = round(100 * hit["answered_s"])
        assert onsets[near - 4 : near + 5].max() > 3 * np.median(onsets)


def test_hit_points_of_a_file_are_added_to_a_given_plan_and_count_for_their_clip_alone(
    score, composer, clips, plans, tmp_path
):
    assert score(clips, "--plans", plans, "--out", tmp_path / "out").exit_code == 0
    hits = tmp_path / "hits.json"
    hits.write_text(json.dumps({"one": [1.6, {"frame": 70, "weight": 0.5}]}))
    done = score(clips, "--plans", plans, "--hits", hits, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "1 scored, 1 already there" in done.stdout, done.stdout
    assert [hit["time_s"] for hit in sidecar(tmp_path / "out")["hits"]] == [1.0, 1.6, 2.2, 2.8]
    again = score(clips, "--plans", plans, "--hits", hits, "--out", tmp_path / "out")
    assert again.stdout.count("already  ") == 2 and "2 already there in" in again.stdout


def test_a_hits_file_that_cannot_be_read_exits_with_2_and_times_outside_fail_their_clip(score, clips, tmp_path):
    hits = tmp_path / "hits.csv"
    hits.write_text("when\nsoon\n")
    done = score(clips, "--hits", hits, "--out", tmp_path / "out")
    assert done.exit_code == 2 and "no column is called time_s or frame" in done.stderr
    hits.write_text("time_s,clip\n1200,one\n")
    done = score(clips, "--hits", hits, "--out", tmp_path / "out")
    assert done.exit_code == 1 and "divide them by 1000" in done.stderr and "1 scored, 1 failed" in done.stdout


def test_music_keeps_between_the_plans_opening_and_ending_in_every_mode(score, clips, plans, tmp_path):
    edit(plans / "one.plan.json", opening={"start_s": 0.9}, ending={"end_s": 2.4})
    for mode in ("layer", "none"):
        done = score(clips / "one.mp4", "--plans", plans, "--follow", mode, "--out", tmp_path / mode)
        assert done.exit_code == 0, done.stderr
        level = loudness(tmp_path / mode / "one.mp4")
        assert level[:85].max() < 0.02 * level.max() and level[246:].max() < 0.02 * level.max()
        assert level[95:180].min() > 0.02 * level.max()
    assert [hit["answered_s"] is None for hit in sidecar(tmp_path / "layer")["hits"]] == [False, False]
    assert [hit["answered_s"] for hit in sidecar(tmp_path / "none")["hits"]] == [None, None]


def test_follow_none_leaves_the_music_as_composed_and_stands_in_the_sidecar(score, clips, plans, tmp_path):
    assert score(clips / "one.mp4", "--plans", plans, "--follow", "none", "--out", tmp_path / "a").exit_code == 0
    assert score(clips / "one.mp4", "--follow", "none", "--out", tmp_path / "b").exit_code == 0
    assert sidecar(tmp_path / "a")["recipe"]["follow"]["mode"] == "none"
    assert sidecar(tmp_path / "a")["output"]["sha256"] == sidecar(tmp_path / "b")["output"]["sha256"]
    done = score(clips / "one.mp4", "--follow", "lyaer", "--out", tmp_path / "c")
    assert done.exit_code == 2 and "layer" in done.stderr


def test_a_dry_run_reads_the_plans_and_names_them(score, clips, plans, tmp_path):
    done = score(clips, "--plans", plans, "--out", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0 and "plan sub/two.plan.json" in done.stdout
    said = json.loads(score(clips, "--plans", plans, "--out", tmp_path / "out", "--dry-run", "--json").stdout)
    assert [row["plan"] for row in said["clips"]] == ["one.plan.json", "sub/two.plan.json"]


def test_planning_with_plans_and_hits_imports_neither_torch_nor_scipy(repository, clips, plans, tmp_path):
    hits = tmp_path / "hits.csv"
    hits.write_text("1.6\n")
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from expotion_cli.cli.app import app\n"
        "done = CliRunner().invoke(app, ['score', '--dry-run', *sys.argv[1:]])\n"
        "assert done.exit_code == 0, done.stderr\n"
        "print(sorted({'torch', 'scipy'} & set(sys.modules)))"
    )
    arguments = (clips, "--plans", plans, "--hits", hits, "--out", tmp_path / "out", "--streams", "none")
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
