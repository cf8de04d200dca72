"""`--dry-run`: plans, what is cached and how long it takes, without a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from expotion_cli.scoring.speeds import Speeds


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video) -> Path:
    return make_video(tmp_path_factory.mktemp("in") / "one.mp4", duration_s=1.0, sound=False)


def dry(expotion, clip, out, *flags) -> dict:
    done = expotion("score", clip, "--out", out, "--dry-run", "--json", *flags)
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["clips"]
    return row


def test_a_clip_that_nobody_saw_has_no_plan_and_no_estimate(expotion, composer, clip, tmp_path):
    row = dry(expotion, clip, tmp_path / "out", "--streams", "flow")
    assert row["would"] == "score" and row["cue_plan"] is None and row["cached"] == {"streams": False, "cue": None}
    assert set(row["estimate_s"].values()) == {None}
    text = expotion("score", clip, "--out", tmp_path / "out", "--streams", "flow", "--dry-run").output
    assert "not seen yet · no estimate yet" in text and "no estimate yet: nothing was measured" in text
    assert not composer.asked and not (tmp_path / "out").exists()


def test_once_the_streams_are_cached_the_plan_is_known(expotion, composer, clip, tmp_path):
    expotion("plan", clip, "--to", tmp_path / "plans", "--streams", "flow")
    plan = json.loads((tmp_path / "plans" / "one.plan.json").read_text())
    row = dry(expotion, clip, tmp_path / "out", "--streams", "flow", "--key", "A minor")
    assert row["cached"]["streams"] is True and row["cue_plan"]["key"] == "A minor"
    assert row["cue_plan"]["tempo"]["bpm"] == plan["tempo"]["bpm"]
    assert (row["cue_plan"]["hits"], row["cue_plan"]["sections"]) == (len(plan["hits"]), len(plan["sections"]))
    text = expotion("score", clip, "--out", tmp_path / "out", "--streams", "flow", "--dry-run").output
    assert f"{plan['tempo']['bpm']:.0f} bpm" in text and "cached: streams" in text
    assert not composer.asked


def test_after_a_run_its_speeds_and_its_cue_are_known(expotion, composer, clip, tmp_path):
    assert expotion("score", clip, "--out", tmp_path / "out", "--streams", "flow").exit_code == 0
    row = dry(expotion, clip, tmp_path / "other", "--streams", "flow")
    assert row["cached"] == {"streams": True, "cue": True} and row["cue_plan"] is not None
    assert row["estimate_s"]["see"] == row["estimate_s"]["compose"] == 0 and row["estimate_s"]["finish"] >= 0
    fresh = dry(expotion, clip, tmp_path / "other", "--streams", "flow", "--seed", "77")
    assert fresh["cached"]["cue"] is False and None not in fresh["estimate_s"].values()
    text = expotion("score", clip, "--out", tmp_path / "other", "--streams", "flow", "--dry-run").output
    assert "of work" in text and "as measured in earlier runs" in text
    assert (
        "already there" in expotion("score", clip, "--out", tmp_path / "out", "--streams", "flow", "--dry-run").output
    )


def test_where_only_a_run_could_tell_whose_a_result_is_no_model_is_loaded(expotion, composer, clip, tmp_path):
    out = tmp_path / "out"
    expotion("score", clip, "--out", out, "--streams", "none")
    asked = len(composer.asked)
    done = expotion("score", clip, "--out", out, "--streams", "none", "--dry-run", "--verify")
    assert done.exit_code == 0 and "would check one.mp4" in done.output and len(composer.asked) == asked


def test_a_dry_run_over_cached_streams_imports_no_torch(expotion, clip, own_cache, tmp_path):
    expotion("plan", clip, "--to", tmp_path / "plans", "--streams", "flow")
    flags = ["score", str(clip), "--out", str(tmp_path / "out"), "--streams", "flow", "--dry-run", "--json"]
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from expotion_cli.cli.app import app\n"
        f"done = CliRunner().invoke(app, {flags!r})\n"
        "assert done.exit_code == 0 and '\"bpm\"' in done.stdout, done.output\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def sidecar(**changes) -> dict:
    stages = {"see": 4.0, "compose": 6.0, "render": 1.0, "follow": 0.5, "finish": 2.5}
    said = {"clip": {"duration_s": 10.0}, "model": {"name": "m"}, "device": "cpu", "streams": [{"name": "flow"}]}
    return {**said, "stages_s": stages, "composed_together": 3, **changes}


def test_speeds_are_medians_of_what_was_measured(tmp_path):
    place = tmp_path / "speeds.json"
    about = {"model": "m", "device": "cpu", "streams": ["flow"]}
    assert Speeds(place).estimate("see", 20.0, **about) is None
    Speeds(place).add([sidecar(), sidecar(), sidecar(stages_s={"see": 400.0, "compose": 6.0, "finish": 4.0})])
    known = Speeds(place)
    assert known.estimate("see", 20.0, **about) == pytest.approx(8.0)
    assert known.estimate("compose", 20.0, **about) == pytest.approx(4.0), "three cues shared those six seconds"
    assert known.estimate("finish", 20.0, **about) == pytest.approx(8.0)
    assert known.estimate("see", 20.0, **{**about, "streams": ["face"]}) is None
    assert known.estimate("compose", 20.0, **{**about, "device": "cuda:0"}) is None
    assert known.estimate("compose", 20.0, **{**about, "device": None}) == pytest.approx(4.0)


def test_streams_from_the_cache_tell_nothing_of_speed(tmp_path):
    place = tmp_path / "speeds.json"
    Speeds(place).add([sidecar(stages_s={"see": 0.001, "compose": 6.0})])
    assert Speeds(place).estimate("see", 1.0, model="m", device="cpu", streams=["flow"]) is None


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 1, "kinds": {"x": ["y"]}}', "{" * 10_000])
def test_a_damaged_memory_is_no_memory(tmp_path, content):
    place = tmp_path / "speeds.json"
    place.write_text(content)
    Speeds(place).add([{}, sidecar()])
    assert Speeds(place).estimate("finish", 1.0, model="m", device="cpu", streams=[]) == pytest.approx(0.4)
