"""`expotion regress`: flags, messages, exit codes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from expotion_cli.errors import WeightsError


@pytest.fixture
def recorded(expotion, composer, clip_folder, tmp_path):
    """A reference of copies of both clips."""
    shutil.copytree(clip_folder, tmp_path / "clips")
    done = expotion("regress", "record", tmp_path / "clips", "--to", tmp_path / "renders", "--streams", "none")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("recorded one.mp4") == 1 and done.stdout.splitlines()[-1].startswith("2 recorded")
    return tmp_path / "renders"


def test_recorded_flags_and_model_are_used_again(expotion, composer, clip_folder, tmp_path):
    flags = "--streams none --follow none --seed 7 --prompt rain --model other --adapter none --device cpu --dtype fp32"
    record = expotion("regress", "record", clip_folder, "--to", tmp_path / "r", "--json", "--quiet", *flags.split())
    said = json.loads(record.stdout)
    assert record.exit_code == 0 and {clip["seed"] for clip in said["clips"]} == {7} and said["bytes"] > 1000
    check = expotion("regress", "check", tmp_path / "r", "--dtype", "bf16")
    assert check.exit_code == 0, check.stdout + check.stderr
    assert composer.composed == ["rain"] * 8, "two takes of two clips, recorded and checked"
    recorded = json.loads((tmp_path / "r" / "regress.json").read_text())
    assert recorded["recipe"]["flags"]["follow.mode"] == "none"
    first, second = composer.asked
    assert first == second | {"dtype": "fp32"} and second["dtype"] == "bf16" and second["name"] == "other"


@pytest.mark.long
def test_adapters_are_recorded_in_their_order_and_found_where_all_moved_together(
    expotion, composer, clip_folder, tmp_path
):
    here = tmp_path / "here"
    shutil.copytree(clip_folder, here / "clips")
    (here / "lora").mkdir()
    flags = ["--streams", "none", "--adapter", "none", "--adapter", here / "lora"]
    assert expotion("regress", "record", here / "clips", "--to", here / "r", *flags).exit_code == 0
    here.rename(tmp_path / "there")
    assert expotion("regress", "check", tmp_path / "there" / "r").exit_code == 0
    first, second = (asked["adapter"] for asked in composer.asked)
    assert first == ["none", str(here / "lora")] and second[0] == "none"
    assert Path(second[1]).samefile(tmp_path / "there" / "lora")


@pytest.mark.long
def test_an_adapter_that_sees_nothing_is_noted_at_recording_and_at_checking(expotion, composer, clip_folder, tmp_path):
    composer.streams = ("marlin",)
    (tmp_path / "steered.toml").write_text('[generate]\nvisual_guidance = 2\n[streams]\nuse = ["flow"]\n')
    record = expotion("regress", "record", clip_folder, "--to", tmp_path / "r", "--recipe", tmp_path / "steered.toml")
    check = expotion("regress", "check", tmp_path / "r")
    for done in (record, check):
        assert done.exit_code == 0 and done.stderr.count("marlin: no encoder here gives it") == 1, done.stderr


@pytest.mark.long
def test_the_same_exits_with_0_and_writes_all_reports(expotion, composer, recorded, tmp_path):
    reports = ["--junit", tmp_path / "junit.xml", "--html", tmp_path / "page"]
    done = expotion("regress", "check", recorded, *reports)
    assert done.exit_code == 0 and "2 same" in done.stdout and "index.html" in done.stderr
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("tests") == "2"
    assert (tmp_path / "page" / "index.html").is_file()
    assert expotion("regress", "check", recorded, "--quiet").stdout == ""


@pytest.mark.long
@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("--seed 7", "other settings (seed"),
        ("--recipe ambient", "another recipe (cinematic, now ambient)"),
        ("--model other", "another model (expotion-mini, now other)"),
        ("--soundfont some.sf2", "another soundfont (none, now some.sf2)"),
    ],
)
def test_a_reference_of_other_settings_is_replaced_only_if_asked(expotion, composer, recorded, tmp_path, flags, wanted):
    before = {path: path.read_bytes() for path in recorded.rglob("*") if path.is_file()}
    again = ["regress", "record", tmp_path / "clips", "--to", recorded, "--streams", "none"]
    assert expotion(*again).exit_code == 0, "the same again is no harm"
    done = expotion(*again, *flags.split())
    assert done.exit_code == 2 and wanted in done.stderr and "--overwrite" in done.stderr, done.stderr
    assert before == {path: path.read_bytes() for path in recorded.rglob("*") if path.is_file()}
    assert expotion(*again, *flags.split(), "--overwrite").exit_code == 0
    assert (recorded / "regress.json").read_bytes() != before[recorded / "regress.json"]


def test_a_reference_of_other_clips_or_weights_is_replaced_only_if_asked(expotion, composer, recorded, tmp_path):
    again = ["regress", "record", tmp_path / "clips", "--to", recorded, "--streams", "none"]
    composer.digest = "model-2"
    done = expotion(*again)
    assert done.exit_code == 2 and "other weights" in done.stderr
    (tmp_path / "clips" / "one.mp4").unlink()
    done = expotion(*again)
    assert done.exit_code == 2 and "more clips (one.mp4)" in done.stderr
    (recorded / "regress.json").write_text("{")
    assert expotion(*again).exit_code == 2 and expotion(*again, "--overwrite").exit_code == 0


@pytest.mark.long
def test_drift_exits_with_1_and_update_accepts_it(expotion, composer, recorded):
    composer.digest = "model-2"
    done = expotion("regress", "check", recorded, "--quiet")
    assert done.exit_code == 1 and "weights: model-1 → model-2" in done.stdout
    assert expotion("regress", "check", recorded, "--perceptual").exit_code == 0
    said = expotion("regress", "check", recorded, "--json")
    assert json.loads(said.stdout)["counts"]["drift"] == 2 and json.loads(said.stdout)["exit_code"] == 1
    assert expotion("regress", "check", recorded, "--update").exit_code == 0
    assert expotion("regress", "check", recorded, "--exact").exit_code == 0


def test_moved_clips_are_found_where_they_are_named(expotion, composer, recorded, tmp_path):
    (tmp_path / "clips").rename(tmp_path / "elsewhere")
    done = expotion("regress", "check", recorded)
    assert done.exit_code == 3 and "not where it was recorded from" in done.stdout
    assert expotion("regress", "check", recorded, tmp_path / "elsewhere").exit_code == 0


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--tolerance", "loudness"], "MEASURE=NUMBER"),
        (["--tolerance", "volume=1"], "Measures:"),
        (["--tolerance", "lag=-1"], "at least 0"),
        (["--time-limit", "-1"], "--time-limit"),
        (["--html", "regress.json"], None),
    ],
)
def test_wrong_values_are_named(expotion, composer, recorded, tmp_path, monkeypatch, flags, wanted):
    monkeypatch.chdir(recorded)
    done = expotion("regress", "check", recorded, *flags)
    assert done.exit_code == (2 if wanted else 1) and (wanted or "regress.json") in done.stderr
    assert "Traceback" not in done.stderr


def test_time_is_limited(expotion, composer, recorded):
    done = expotion("regress", "check", recorded, "--time-limit", "0")
    assert done.exit_code == 3 and "time limit of 0 s" in done.stdout


def test_a_folder_without_a_reference_exits_with_2(expotion, composer, tmp_path):
    done = expotion("regress", "check", tmp_path / "none", "--json")
    assert done.exit_code == 2 and "expotion regress record" in json.loads(done.stdout)["error"]["remedy"]
    assert not composer.asked


def test_missing_weights_exit_with_4_and_are_no_drift(expotion, composer, recorded, monkeypatch):
    def load_model(name, **options):
        raise WeightsError("the weights are truncated.", path="model.safetensors", remedy="Install again.")

    monkeypatch.setattr(sys.modules["expotion_cli.music.load"], "load_model", load_model)
    done = expotion("regress", "check", recorded)
    assert done.exit_code == 4 and "model.safetensors" in done.stderr


def test_recording_wants_every_clip_to_be_readable(expotion, composer, clip_folder, tmp_path):
    (tmp_path / "bad.mp4").write_text("words")
    done = expotion("regress", "record", clip_folder, tmp_path / "bad.mp4", "--to", tmp_path / "r", "--json")
    assert done.exit_code == 1 and "bad.mp4" in done.stderr and len(json.loads(done.stdout)["failed"]) == 1
    assert not (tmp_path / "r").exists() and not composer.asked
    assert expotion("regress", "record", tmp_path / "bad.mp4", "--to", tmp_path / "r").exit_code == 3


def test_clips_that_would_share_a_file_are_refused(expotion, composer, clip_folder, tmp_path):
    shutil.copy(clip_folder / "one.mp4", tmp_path / "one.mov")
    done = expotion("regress", "record", clip_folder / "one.mp4", tmp_path / "one.mov", "--to", tmp_path / "r")
    assert done.exit_code == 2 and "one.mov" in done.stderr
