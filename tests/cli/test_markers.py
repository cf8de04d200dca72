"""`--markers`, `expotion markers` and `--hits` with markers: what is written, kept, refused, and read back."""

from __future__ import annotations

import json
from pathlib import Path

import opentimelineio as otio
import pytest

FORMATS = "edl,fcpxml,otio,csv"
NAMES = {f"one.{kind}" for kind in FORMATS.split(",")}


@pytest.fixture(scope="module")
def clip(tmp_path_factory, ffmpeg) -> Path:
    """Two seconds of 29.97 frames with a drop-frame timecode."""
    path = tmp_path_factory.mktemp("clip") / "one.mov"
    picture = "testsrc=size=96x64:rate=30000/1001:duration=2.002"
    ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-timecode", "01:00:00;00", path)
    return path


@pytest.fixture
def hits(tmp_path) -> Path:
    path = tmp_path / "moments.csv"
    path.write_text("time_s,weight\n0.5005,0.9\n1.3346666,0.4\n")
    return path


def said(out: Path) -> dict:
    return json.loads((out / "one.score.json").read_text())


def times(out: Path) -> list[tuple[float, float]]:
    return [(hit["time_s"], hit["weight"]) for hit in said(out)["hits"]]


def test_marker_files_lie_beside_the_result_and_name_it(score, clip, hits, tmp_path):
    out = tmp_path / "out"
    done = score(clip, "--out", out, "--hits", hits, "--markers", FORMATS)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {"one.mov", "one.score.json", "ledger.jsonl", *NAMES}
    assert set(said(out)["markers"]) == set(FORMATS.split(","))
    read = otio.adapters.read_from_file(str(out / "one.otio"))
    (video,) = read.find_clips()
    assert video.media_reference.target_url == (out / "one.mov").as_uri()
    assert [marker.name for marker in video.markers] == [
        "section 1: intensity 0.5", "hit: user 0.9", "hit: user 0.4"
    ]  # fmt: skip
    assert [marker.marked_range.start_time.value - 107_892 for marker in video.markers] == [0, 15, 40]
    edl = (out / "one.edl").read_text()
    assert "FCM: DROP FRAME" in edl and "01:00:00;15 01:00:00;16 01:00:00;15 01:00:00;16" in edl
    assert not list(out.glob("*.partial*"))


@pytest.mark.parametrize("kind", FORMATS.split(","))
def test_what_is_written_is_read_back_to_the_frame(kind, score, clip, hits, tmp_path):
    score(clip, "--out", tmp_path / "first", "--hits", hits, "--markers", kind)
    done = score(clip, "--out", tmp_path / "again", "--hits", tmp_path / "first" / f"one.{kind}")
    assert done.exit_code == 0, done.output
    frames = [round(time_s * 30000 / 1001, 3) for time_s, _ in times(tmp_path / "again")]
    assert frames == pytest.approx([15, 40], abs=0.01) and [w for _, w in times(tmp_path / "again")] == [0.9, 0.4]


def test_a_rerun_adds_the_markers_that_lack_and_composes_nothing(score, composer, clip, hits, tmp_path):
    out = tmp_path / "out"
    score(clip, "--out", out, "--hits", hits)
    video, asked = (out / "one.mov").read_bytes(), len(composer.composed)
    done = score(clip, "--out", out, "--hits", hits, "--markers", "edl")
    assert done.exit_code == 0 and "markers written: edl" in done.output, done.output
    assert (out / "one.edl").is_file() and (out / "one.mov").read_bytes() == video
    assert len(composer.composed) == asked
    before = said(out)
    again = score(clip, "--out", out, "--hits", hits, "--markers", "edl")
    assert "already there" in again.output and "markers written" not in again.output and said(out) == before
    other = score(clip, "--out", out, "--hits", hits, "--markers", "edl", "--marker-kinds", "hits")
    assert other.exit_code == 0 and "section" not in (out / "one.edl").read_text()


def test_a_marker_file_that_was_changed_is_refused_and_stays(score, clip, hits, tmp_path):
    out = tmp_path / "out"
    score(clip, "--out", out, "--hits", hits, "--markers", "edl")
    (out / "one.edl").write_text("mine")
    dry = score(clip, "--out", out, "--hits", hits, "--markers", "edl", "--dry-run")
    done = score(clip, "--out", out, "--hits", hits, "--markers", "edl")
    for run in (dry, done):
        assert run.exit_code == 2 and "one.edl" in run.output and "--overwrite" in run.output
    assert (out / "one.edl").read_text() == "mine"
    assert score(clip, "--out", out, "--hits", hits, "--markers", "edl", "--overwrite").exit_code == 0
    assert "section 1" in (out / "one.edl").read_text()


def test_somebody_elses_file_in_the_way_is_refused(score, clip, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.csv").write_text("mine")
    done = score(clip, "--out", out, "--markers", "csv")
    assert done.exit_code == 2 and "one.csv" in done.output and (out / "one.csv").read_text() == "mine"
    assert not (out / "one.mov").exists()
    assert score(clip, "--out", out).exit_code == 0, "nobody asked for it"


def test_a_result_that_is_replaced_takes_its_markers_along(score, clip, tmp_path):
    out = tmp_path / "out"
    score(clip, "--out", out, "--markers", "edl,otio")
    done = score(clip, "--out", out, "--overwrite", "--seed", 7, "--markers", "csv")
    assert done.exit_code == 0 and {path.suffix for path in out.iterdir()} == {".mov", ".json", ".jsonl", ".csv"}
    assert set(said(out)["markers"]) == {"csv"}


def test_an_interrupted_run_leaves_nothing_that_a_rerun_refuses(score, clip, hits, tmp_path):
    """Killed between writing an EDL and the sidecar that names it."""
    out = tmp_path / "out"
    score(clip, "--out", out, "--hits", hits)
    before = (out / "one.score.json").read_bytes()
    score(clip, "--out", out, "--hits", hits, "--markers", "edl")
    (out / "one.score.json").write_bytes(before)
    assert score(clip, "--out", out, "--hits", hits, "--markers", "edl").exit_code == 0
    assert "edl" in said(out)["markers"]


def test_a_dry_run_names_the_marker_files(score, clip, tmp_path):
    done = score(clip, "--out", tmp_path / "out", "--markers", "edl,otio", "--dry-run")
    assert done.exit_code == 0 and "one.edl" in done.output and "one.otio" in done.output
    done = score(clip, "--out", tmp_path / "out", "--markers", "edl", "--dry-run", "--json")
    assert json.loads(done.stdout)["clips"][0]["markers"] == [str(tmp_path / "out" / "one.edl")]
    assert not (tmp_path / "out").exists()


def test_finished_results_are_marked_from_their_sidecars(score, expotion, composer, clip, hits, tmp_path):
    out = tmp_path / "out"
    score(clip, "--out", out, "--hits", hits)
    asked = len(composer.composed)
    done = expotion("markers", out, "--markers", "edl,csv")
    assert done.exit_code == 0 and "one.mov → one.edl, one.csv" in done.output, done.output
    first = (out / "one.edl").read_text()
    assert "one.edl, one.csv already there" in expotion("markers", out, "--markers", "edl,csv").output
    (out / "one.edl").write_text("mine")
    assert expotion("markers", out, "--markers", "edl").exit_code == 2
    assert expotion("markers", out / "one.mov", "--markers", "edl", "--overwrite").exit_code == 0
    assert (out / "one.edl").read_text() == first and len(composer.composed) == asked
    assert "already there" in score(clip, "--out", out, "--hits", hits, "--markers", "edl,csv").output


def test_marking_says_why_it_can_not(expotion, score, clip, tmp_path):
    assert expotion("markers", tmp_path / "none").exit_code == 2
    (tmp_path / "empty").mkdir()
    done = expotion("markers", tmp_path / "empty")
    assert done.exit_code == 2 and "holds no results" in done.output
    out = tmp_path / "out"
    score(clip, "--out", out)
    old = said(out)
    (out / "one.score.json").write_text(json.dumps({key: old[key] for key in old if key not in ("sections", "grid")}))
    done = expotion("markers", out)
    assert done.exit_code == 1 and "earlier version" in done.output and "--markers edl" in done.output
    assert score(clip, "--out", out, "--markers", "edl").exit_code == 0 and (out / "one.edl").is_file()


def test_plans_get_markers_too_and_edits_are_followed(expotion, clip, hits, tmp_path):
    to = tmp_path / "plans"
    done = expotion("plan", clip, "--to", to, "--streams", "none", "--hits", hits, "--markers", "edl,csv")
    assert done.exit_code == 0 and {path.name for path in to.iterdir()} == {"one.plan.json", "one.edl", "one.csv"}
    plan = json.loads((to / "one.plan.json").read_text())
    plan["hits"] = plan["hits"][:1]
    (to / "one.plan.json").write_text(json.dumps(plan))
    kept = expotion("plan", clip, "--to", to, "--streams", "none", "--markers", "edl,otio")
    assert kept.exit_code == 0 and "kept one.edl" in kept.output and (to / "one.otio").is_file()
    assert (to / "one.edl").read_text().count("hit: user") == 2, "it is kept"
    (to / "one.edl").unlink()
    expotion("plan", clip, "--to", to, "--streams", "none", "--markers", "edl")
    assert (to / "one.edl").read_text().count("hit: user") == 1


def test_beats_are_marked_where_the_music_keeps_them(expotion, clip, tmp_path):
    done = expotion("plan", clip, "--to", tmp_path, "--streams", "none", "--tempo", "120", "--markers", "csv",
                    "--marker-kinds", "beats")  # fmt: skip
    rows = (tmp_path / "one.csv").read_text().splitlines()[1:]
    assert done.exit_code == 0 and len(rows) in (4, 5) and all("beat" in row.split(",")[3] for row in rows)
    start = json.loads((tmp_path / "one.plan.json").read_text())["tempo"]["bar_starts_s"]
    first = float(rows[0].split(",")[0])
    assert (first - start) % 0.5 == pytest.approx(0, abs=0.017) or (first - start) % 0.5 > 0.483


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--markers", "eld"], ["eld", "edl", "Known: edl, fcpxml, otio, csv"]),
        (["--markers", ""], ["names nothing"]),
        (["--markers", "edl", "--marker-kinds", "hit"], ["hits"]),
        (["--marker-kinds", "hits"], ["needs --markers"]),
        (["--markers", "edl", "--marker-start", "soon"], ["soon", "01:00:00:00"]),
    ],
)
def test_wrong_flags_name_what_is_known(score, clip, tmp_path, flags, words):
    done = score(clip, "--out", tmp_path / "out", *flags)
    assert done.exit_code == 2 and all(word in done.output for word in words), done.output


def test_markers_of_another_rate_get_a_clear_message(score, clip, tmp_path):
    times = " ".join(4 * ["01:00:01:45"])
    (tmp_path / "fast.edl").write_text(f"001  001  V  C  {times}\n |C:ResolveColorBlue |M:x |D:1\n")
    done = score(clip, "--out", tmp_path / "out", "--hits", tmp_path / "fast.edl")
    assert done.exit_code == 3 and "frame 45" in done.output and "29.97" in done.output, done.output
    rate = otio.opentime.RationalTime(25, 25)
    marked = otio.schema.Clip("one", markers=[otio.schema.Marker("x", otio.opentime.TimeRange(rate, rate))])
    (tmp_path / "pal.otio").write_text(marked.to_json_string())
    done = score(clip, "--out", tmp_path / "out", "--hits", tmp_path / "pal.otio")
    assert "25 frames a second" in done.output and "29.97" in done.output and "pal.otio" in done.output


@pytest.mark.long
def test_resolves_timelines_that_begin_at_one_hour_are_understood(score, make_video, tmp_path):
    plain = make_video(tmp_path / "in" / "one.mp4", duration_s=2)
    code = "01:00:01:10 01:00:01:11"
    (tmp_path / "m.edl").write_text(f"001  001      V     C        {code} {code}\n |C:ResolveColorRed |M:boom |D:1\n")
    done = score(plain, "--out", tmp_path / "out", "--hits", tmp_path / "m.edl")
    assert done.exit_code == 0 and times(tmp_path / "out") == [(1.4, 1.0)]
    (tmp_path / "far.edl").write_text((tmp_path / "m.edl").read_text().replace("01:00:01", "02:00:01"))
    done = score(plain, "--out", tmp_path / "out2", "--hits", tmp_path / "far.edl")
    assert "02:00:01:10 lies outside" in done.output and "00:00:00:00 to 00:00:02:00" in done.output
    (tmp_path / "cut.xml").write_text("<xmeml/>")
    done = score(plain, "--out", tmp_path / "out3", "--hits", tmp_path / "cut.xml")
    assert done.exit_code == 2 and "cut.xml" in done.output and ".edl" in done.output


def test_markers_of_remote_results_are_uploaded_with_them_or_later(score, expotion, clip, tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/marked-clips/one.mov", clip.read_bytes())
    flags = ["memory://marked-clips", "--out", "memory://marked"]
    assert score(*flags, "--markers", "otio").exit_code == 0
    assert store.exists("/marked/one.otio") and not store.exists("/marked/one.edl")
    assert '"target_url": "one.mov"' in store.cat_file("/marked/one.otio").decode(), "it lies beside the video"
    done = score(*flags, "--markers", "edl,otio")
    assert done.exit_code == 0 and "markers written: edl" in done.output and store.exists("/marked/one.edl")
    assert set(json.loads(store.cat_file("/marked/one.score.json"))["markers"]) == {"edl", "otio"}
    assert "markers written" not in score(*flags, "--markers", "edl,otio").output
