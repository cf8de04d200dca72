"""`expotion report` and `expotion cuesheet` on what scoring really leaves behind."""

from __future__ import annotations

import csv
import os

import pytest


@pytest.fixture
def scored(score, clip_folder, tmp_path):
    """Two results as `expotion score` makes them, and a file that is no clip."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    done = score(clip_folder, tmp_path / "in", "--out", tmp_path / "scored", "--quiet")
    assert done.exit_code == 1, done.stderr
    return tmp_path / "scored"


def test_a_scored_folder_becomes_a_page_that_tells_of_every_clip(expotion, scored):
    done = expotion("report", scored)
    page = (scored / "report.html").read_text(encoding="utf-8")
    assert done.exit_code == 0 and done.stdout == f"2 results, 1 to look after → {scored / 'report.html'}\n"
    for word in ("one.mp4", "sub/two.mp4", "cinematic", "CC0-1.0", "data:image/jpeg;base64,", "bad.mp4"):
        assert word in page, word
    assert "failed: " in done.stderr and "bad.mp4" in done.stderr
    reason = page[page.index('class="attention"') : page.index('class="remedy"')]
    assert "bad.mp4" in reason and page.count('class="remedy"') == 1, "the ledger knows what to do"
    assert expotion("report", scored, "--quiet").stdout == ""


def test_the_page_goes_where_it_is_wanted_and_links_from_there(expotion, scored, tmp_path):
    assert expotion("report", scored, "--to", tmp_path / "pages" / "all.html", "-q").exit_code == 0
    page = (tmp_path / "pages" / "all.html").read_text(encoding="utf-8")
    assert 'src="../scored/one.mp4"' in page and not (scored / "report.html").exists()


def test_the_cue_sheet_is_written_twice_and_says_what_it_leaves_out(expotion, scored):
    assert expotion("cuesheet", scored).exit_code == 0, "a clip that failed has no music to tell of"
    (scored / "one.score.json").write_text("{")
    done = expotion("cuesheet", scored)
    assert done.exit_code == 1 and "damaged: one.mp4: its sidecar one.score.json can't be read" in done.stderr
    with open(scored / "cuesheet.csv", encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["clip"] == "sub/two.mp4" and row["model"] == "fake" and row["model_licence"] == "CC0-1.0"
    assert row["out"] == "00:00:00:20" and "one.mp4" in (scored / "cuesheet.html").read_text(encoding="utf-8")
    assert done.stdout.startswith("1 cue → ")


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [(["report", "nowhere"], "there is no such folder", 2), (["cuesheet", "s3://a/b"], "Copy the folder here", 2),
     (["report", "."], "there are no results", 3), (["cuesheet", "."], "there are no results", 3),
     (["report", ".", "--to", "x.csv"], ".html", 2), (["cuesheet", ".", "--to", "x.xls"], ".csv", 2),
     (["report", ".", "--to", "."], "is a folder", 2)],
)  # fmt: skip
def test_wrong_wishes_are_refused_with_a_remedy(expotion, tmp_path, monkeypatch, arguments, word, code):
    monkeypatch.chdir(tmp_path)
    done = expotion(*arguments)
    assert done.exit_code == code and word in done.stderr and not os.listdir(tmp_path)
