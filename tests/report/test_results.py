"""What lies in a folder of results, whatever happened to it."""

from __future__ import annotations

import json
import os

import pytest
from made_results import make_result

from expotion_cli.errors import UsageError
from expotion_cli.hints import FileHints
from expotion_cli.report.facts import LONGEST_TEXT, Facts
from expotion_cli.report.results import STATUSES, collect, local_folder, natural


def test_every_result_has_its_status_and_what_is_wrong_a_remedy(folder):
    found = collect(folder)
    assert {result.name: result.status for result in found.results} == {
        "bad.mp4": "failed",
        "clip 2.mp4": "scored",
        "cut.mp4": "damaged",
        "edited.mp4": "changed",
        "gone.mp4": "missing",
        "lost.mp4": "damaged",
        "never.mp4": "unfinished",
        "stopped.mp4": "unfinished",
        "strange.mp4": "foreign",
        "sub/clip 10.mp4": "scored",
        "theirs.score.json": "foreign",
        "there.mp4": "refused",
    }
    wrong = {result.name: result for result in found.results if result.is_wrong}
    assert all(result.reason for result in wrong.values())
    assert [name for name, result in wrong.items() if not result.remedy] == ["there.mp4"], "an old ledger's line"
    assert wrong["bad.mp4"].reason.startswith("it is no video") and wrong["bad.mp4"].remedy == "Convert it."
    assert "Convert it." not in wrong["bad.mp4"].reason and wrong["bad.mp4"].at == "2026-01-06T10:00:00+00:00"
    assert found.notes == ("The last run was interrupted, 2 clips left. Run the same expotion-score command again.",)
    assert {result.status for result in found.results} == set(STATUSES)


def test_results_of_other_versions_say_so(folder):
    found = {result.name: result for result in collect(folder).results}
    assert found["clip 2.mp4"].notes == ()
    assert found["sub/clip 10.mp4"].notes == ("made by another version of expotion (0.0.1)",)


@pytest.mark.parametrize(("form", "word"), [(1, "another version"), (99, "newer version"), ("x", "another version")])
def test_sidecars_of_other_forms_are_read_as_far_as_they_go(tmp_path, scored_video, form, word):
    recipe = {"name": "jazz", "generate": {"drafts": 3}}
    make_result(tmp_path / "one.mp4", scored_video, format=form, recipe=recipe, hits=7, measured=None, clip="x")
    (result,) = collect(tmp_path).results
    assert result.status == "scored" and word in result.notes[0] and result.facts.table("recipe").text("name") == "jazz"


def test_an_unchanged_video_is_hashed_once(folder, monkeypatch):
    from expotion_cli import storage

    hints, read = FileHints(), []
    for path in folder.rglob("*.mp4"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    monkeypatch.setattr("expotion_cli.hints.SETTLED_NS", 0)
    collect(folder, hints=hints)
    monkeypatch.setattr(storage, "digest_file", lambda path: read.append(path))
    assert {result.status for result in collect(folder, hints=hints).results} == set(STATUSES) and read == []


def test_a_sidecar_can_not_name_a_video_elsewhere(tmp_path, scored_video):
    out = tmp_path / "out"
    content = make_result(out / "one.mp4", scored_video)
    (tmp_path / "secret.mp4").write_bytes(scored_video.read_bytes())
    (out / "one.mp4").unlink()
    for name in ("../secret.mp4", str(tmp_path / "secret.mp4"), "..", "."):
        content["output"]["file"] = name
        (out / "one.score.json").write_text(json.dumps(content))
        (result,) = collect(out).results
        assert result.status == "missing" and result.video is None and result.name == "one.score.json"


def test_takes_and_hidden_folders_hold_no_results(tmp_path, scored_video):
    make_result(tmp_path / "one.mp4", scored_video)
    for inside in ("one.takes", "one.stems", ".expotion"):
        make_result(tmp_path / inside / "take-1.mp4", scored_video)
    assert [result.name for result in collect(tmp_path).results] == ["one.mp4"]


@pytest.mark.parametrize("text", ["s3://archive/scored", "nowhere"])
def test_what_is_no_folder_here_is_refused_with_a_remedy(text):
    with pytest.raises(UsageError) as caught:
        local_folder(text)
    assert text in str(caught.value) and caught.value.remedy


def test_digits_in_names_count_by_their_value():
    names = ["clip 10", "Clip 9", "a²", "clip 9b", "1" * 400]
    assert sorted(names, key=natural) == ["1" * 400, "a²", "Clip 9", "clip 9b", "clip 10"]


def test_facts_are_what_they_should_be_or_nothing():
    facts = Facts(
        {"t": "x" * 9999, "i": 3, "b": True, "n": float("nan"), "h": 10**400, "l": [1, {"a": "b"}, "c"], "d": 5}
    )
    assert len(facts.text("t")) == LONGEST_TEXT and facts.text("i") == "3" and facts.text("b") == facts.text("h") == ""
    assert facts.number("i") == 3.0 and [facts.number(key) for key in "bnht"] == [None] * 4
    assert [row.text("a") for row in facts.rows("l")] == ["b"] and facts.texts("l") == ["c"]
    assert list(facts.rows("d")) == [] and facts.table("d").text("x") == "" and "i" in facts and "z" not in Facts([])
