"""The cue sheet: complete, honest about licences, harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest
from made_results import make_result, write_ledger

from expotion_cli.report import cuesheet
from expotion_cli.report.licences import forbids_sale
from expotion_cli.report.results import collect
from expotion_cli.weights.manifest import read_manifests

MUSICGEN = {"name": "musicgen-small", "licence": "CC-BY-NC-4.0 (weights by Meta: attribution, no commercial use)"}


@pytest.fixture
def mixed(tmp_path, scored_video):
    """Three results: of free parts, of a model that must not be sold with, and of a soundfont nobody knows."""
    font = next(f for f in read_manifests()["fluidr3mono"].files if f.name.endswith(".sf3"))
    shipped = {"file": "FluidR3Mono_GM.sf3", "sha256": font.sha256}
    make_result(tmp_path / "a free.mp4", scored_video, soundfont=shipped)
    make_result(tmp_path / "b unknown.mp4", scored_video)
    make_result(tmp_path / "c not for sale.mp4", scored_video, model=MUSICGEN, adapter=None, soundfont=None)
    return collect(tmp_path)


def rows(content: bytes) -> list[dict[str, str]]:
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_what_must_not_be_sold_comes_first_and_every_licence_is_stated(mixed):
    sold, unknown, free = rows(cuesheet.as_csv(cuesheet.cues(mixed)))
    assert sold["clip"] == "c not for sale.mp4" and sold["commercial_use"].startswith("no,")
    assert sold["model_licence"] == MUSICGEN["licence"] and sold["adapter"] == sold["soundfont_licence"] == ""
    assert unknown["commercial_use"].startswith("unclear") and unknown["soundfont_licence"] == "not stated"
    assert free["clip"] == "a free.mp4" and free["commercial_use"].startswith("no stated licence forbids")
    assert free["soundfont_licence"].startswith("MIT (Frank Wen") and free["adapter_licence"].startswith("MIT (weights")
    assert (free["recipe"], free["seed"], free["title"]) == ("cinematic", "7", "a free")
    assert len(free["sha256"]) == 64 and "composed by software" in free["composer"] and free["note"] == ""


def test_the_ledger_tells_when_this_very_result_was_made(tmp_path, scored_video):
    for name in ("a.mp4", "b.mp4"):
        make_result(tmp_path / name, scored_video)
    write_ledger(
        tmp_path,
        {"event": "scored", "clip": "a.mov", "output": "a.mp4", "artefact": "1" * 64},
        {"event": "scored", "clip": "b.mov", "output": "b.mp4", "artefact": "another"},
    )
    first, second = rows(cuesheet.as_csv(cuesheet.cues(collect(tmp_path))))
    assert (first["made_on"], second["made_on"]) == ("2026-01-01 10:00:00 UTC", "")


def test_an_adapter_of_ones_own_has_no_stated_licence(tmp_path, scored_video):
    make_result(tmp_path / "a.mp4", scored_video, adapter="expotion-mini (its own) + my-lora", soundfont=None)
    (row,) = rows(cuesheet.as_csv(cuesheet.cues(collect(tmp_path))))
    assert row["adapter_licence"] == "not stated" and row["commercial_use"].startswith("unclear")


@pytest.mark.parametrize(
    ("licence", "forbidden"),
    [("CC-BY-NC-4.0", True), ("CC BY-NC-SA 4.0", True), ("Non-commercial use only", True), ("noncommercial", True),
     ("MIT", False), ("code MIT; INCLUDED fonts free", False), ("CC-BY-SA 3.0", False), ("", False)],
)  # fmt: skip
def test_licences_that_forbid_sale_are_told_by_their_words(licence, forbidden):
    assert forbids_sale(licence) is forbidden


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1", "\r=1", "\N{FULLWIDTH EQUALS SIGN}1"])
def test_no_cell_is_a_formula(tmp_path, scored_video, cell):
    make_result(tmp_path / "a.mp4", scored_video, prompt=cell, model={"name": cell, "licence": cell})
    made = cuesheet.cues(collect(tmp_path))
    (row,) = rows(cuesheet.as_csv(made))
    assert row["prompt"] == row["model"] == row["model_licence"] == f"'{cell}"
    assert cuesheet.harmless("a-b=c") == "a-b=c" and cuesheet.harmless("") == ""


def test_times_come_from_the_cue_plan_and_count_frames(tmp_path, scored_video):
    clip = {"duration_s": 125.5, "fps": 24.0}
    make_result(tmp_path / "a.mp4", scored_video, clip=clip, plan={"start_s": 1.5, "end_s": 61.0})
    make_result(tmp_path / "b.mp4", scored_video, clip=clip, plan={"start_s": -5, "end_s": 1e9})
    first, second = rows(cuesheet.as_csv(cuesheet.cues(collect(tmp_path))))
    assert (first["in"], first["out"], first["timecode_fps"]) == ("00:00:01:12", "00:01:01:00", "24")
    assert (second["in"], second["out"], second["duration_s"]) == ("00:00:00:00", "00:02:05:12", "125.500")


@pytest.mark.parametrize(
    ("seconds", "fps", "code", "rate"),
    [(0.96, 25, "00:00:00:24", "25"), (3600, 30, "01:00:00:00", "30"), (1.001, 29.97003, "00:00:01:00", "29.97"),
     (10.01, 23.976024, "00:00:10:00", "23.976"), (2, "odd", "00:00:02:00", "25")],
)  # fmt: skip
def test_timecode_counts_whole_frames_at_the_nominal_rate(tmp_path, scored_video, seconds, fps, code, rate):
    make_result(tmp_path / "a.mp4", scored_video, clip={"duration_s": seconds, "fps": fps})
    (row,) = rows(cuesheet.as_csv(cuesheet.cues(collect(tmp_path))))
    assert (row["out"], row["timecode_fps"]) == (code, rate)


def test_what_can_not_be_told_of_is_named_and_the_rest_goes_on(folder):
    found = collect(folder)
    assert [cue.result.name for cue in cuesheet.cues(found)] == ["clip 2.mp4", "edited.mp4", "sub/clip 10.mp4"]
    assert [r.name for r in cuesheet.left_out(found)] == ["cut.mp4", "gone.mp4", "lost.mp4", "never.mp4", "stopped.mp4"]
    row = next(row for row in rows(cuesheet.as_csv(cuesheet.cues(found))) if row["clip"] == "edited.mp4")
    assert "changed since it was made" in row["note"]


def test_the_page_escapes_and_names_what_is_missing(folder, tmp_path):
    found = collect(folder)
    cuesheet.write_html(tmp_path / "sheet.html", found, cuesheet.cues(found))
    text = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;/script&gt;" in text and "Not on this sheet (5)" in text
    assert "not for sale" not in text and "licence is not stated" in text
