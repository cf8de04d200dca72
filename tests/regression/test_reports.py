"""A check as text, JSON, JUnit XML and a page."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from expotion_cli.errors import OutputError
from expotion_cli.media.flac import read_flac
from expotion_cli.regression import page, report
from expotion_cli.regression.checking import CheckResult, ClipCheck, Difference
from expotion_cli.regression.measures import Sound, compare, tolerances


def sound(pitch_hz: float, level: float = 0.3) -> Sound:
    times = np.arange(44_100) / 44_100
    wave = level * np.sin(2 * np.pi * pitch_hz * times) * (1 - times)
    return Sound(np.rint(np.stack([wave, wave]) * 32767).astype(np.int16), 44_100)


@pytest.fixture
def result(tmp_path) -> CheckResult:
    """One clip of each kind, with a name that is hard on XML and HTML."""
    one, two = sound(440), sound(700)
    awkward = 'a<b>&"c\x07\udc80.mp4'
    return CheckResult(
        folder=tmp_path / "renders",
        mode="exact",
        clips=(
            ClipCheck("same.mp4", "same", distances=compare(one, one), reference=one, new=one, duration_s=1.25),
            ClipCheck(
                awkward,
                "drift",
                differences=(Difference("prompt", "'x'", "'<script>alert(1)</script>'", True),),
                distances=compare(one, two) | {"lag": None},
                beyond=("spectrum",),
                reference=one,
                new=two,
            ),
            ClipCheck("gone.mp4", "error", error=OutputError("it is gone.", path="gone.mp4", remedy="Bring it back.")),
        ),
        machine={"torch": ("1", "2")},
        tolerances=tolerances(),
        notes=("a <note>",),
        duration_s=3.5,
    )


def test_the_table_marks_what_is_beyond_and_explains_below(result):
    lines = report.table(result).splitlines()
    assert lines[0].split() == ["clip", *result.tolerances, "result"] and lines[1].startswith("tolerance")
    assert lines[2].endswith("same") and "!" not in lines[2] and "!" in lines[3] and lines[4].split()[-1] == "error"
    text = "\n".join(lines[5:])
    assert "prompt: 'x' →" in text and "spectrum: " in text and "Bring it back." in text and "same.mp4" not in text
    assert report.summary(result).startswith("1 same, 1 drift, 1 error · tokens and sound compared")


def test_json_holds_plain_finite_values(result):
    said = json.loads(json.dumps(report.as_record(result), allow_nan=False))
    assert said["exit_code"] == 1 and said["counts"] == {"same": 1, "drift": 1, "error": 1}
    same, drift, error = said["clips"]
    assert set(same["distances"].values()) == {0.0} and drift["distances"]["lag"] is None
    assert drift["changed"][0]["what"] == "prompt" and drift["beyond"] == ["spectrum"]
    assert error["error"] == {"reason": "it is gone.", "path": "gone.mp4", "remedy": "Bring it back."}
    assert said["tolerances"]["lag"]["unit"] == "ms" and said["machine"] == {"torch": {"was": "1", "now": "2"}}


def test_junit_is_valid_xml_with_a_test_case_a_clip(result, tmp_path):
    report.write_junit(tmp_path / "deep" / "junit.xml", result)
    suites = ElementTree.parse(tmp_path / "deep" / "junit.xml").getroot()
    (suite,) = suites
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert suites.tag == "testsuites" and counts == {"tests": "3", "failures": "1", "errors": "1", "skipped": "0"}
    same, drift, error = suite.findall("testcase")
    assert same.get("time") == "1.250" and same.find("failure") is None and same.find("error") is None
    assert drift.get("name") == 'a<b>&"c??.mp4' and "prompt: 'x'" in drift.find("failure").get("message")
    assert "spectrum" in drift.find("failure").text and "Bring it back." in error.find("error").text
    assert {item.get("name") for item in suite.find("properties")} >= {"mode", "machine.torch", "tolerance.lag"}


def test_accepted_drift_is_no_failure_in_junit(result, tmp_path):
    import dataclasses

    report.write_junit(tmp_path / "junit.xml", dataclasses.replace(result, updated=True))
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite.get("failures") == "0" and suite.find("testcase/failure") is None


def test_the_page_needs_nothing_but_its_folder_and_escapes_what_it_shows(result, tmp_path):
    path = page.write_page(tmp_path / "page", result)
    text = path.read_text(errors="surrogateescape")
    assert "<script>alert" not in text and "a&lt;b&gt;" in text and "a &lt;note&gt;" in text
    assert not re.findall(r"(?:src|href)=\"?https?:", text)
    named = set(re.findall(r'src="([^"]+)"', text))
    assert named and all((tmp_path / "page" / name).is_file() for name in named)
    assert len([name for name in named if name.endswith(".flac")]) == 4, "both sounds of both clips that have them"
    kept, rate = read_flac(tmp_path / "page" / "clip-2-new.flac")
    assert rate == 44_100 and np.array_equal(kept, result.clips[1].new.samples)
    assert text.count("<details open>") == 2 and text.count("<details>") == 1
    assert "prefers-color-scheme: dark" in text


def test_the_page_is_accessible_and_fits_the_screen(result, tmp_path, browser):
    from browsing import check_everywhere

    check_everywhere(browser, page.write_page(tmp_path / "page", result))


def test_pictures_show_where_sounds_differ(result):
    import io

    from PIL import Image

    from expotion_cli.regression import plots

    one, two = result.clips[1].reference, result.clips[1].new
    equal = np.asarray(Image.open(io.BytesIO(plots.difference(one, one))))
    apart = np.asarray(Image.open(io.BytesIO(plots.difference(one, two))))
    assert equal.shape == apart.shape and equal[..., 3].max() == 0 and apart[..., 3].max() > 200
    shown = np.asarray(Image.open(io.BytesIO(plots.spectrogram(one)))).astype(int).sum(axis=2)
    bands = one.mel_db.shape[1]
    loudest = bands - 1 - shown.mean(axis=1).argmax() // plots.ROW_PIXELS
    assert loudest == one.mel_db.mean(axis=0).argmax(), "low notes at the bottom"
    assert plots.loudness(one, two).count("<polyline") == 2


def test_a_page_that_can_not_be_written_is_an_error_that_names_the_folder(result, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        page.write_page(tmp_path / "file", result)


def test_the_example_for_github_actions_is_valid_and_names_commands_that_exist():
    text = (Path(__file__).resolve().parents[2] / "docs" / "regression-renders.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    workflow = yaml.safe_load(block)
    (job,) = workflow["jobs"].values()
    scripts = "\n".join(step["run"] for step in job["steps"] if "run" in step)
    assert "expotion regress check" in scripts and "--junit" in scripts and "timeout-minutes" in job
    assert subprocess.run(["bash", "-n"], input=scripts, text=True).returncode == 0
