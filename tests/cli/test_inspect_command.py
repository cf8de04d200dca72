"""`expotion inspect`: what it writes, what it says, exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expotion_cli.cli.inspecting import Bar
from expotion_cli.demo import DEMO_CLIPS, write_demo_clips
from expotion_cli.inspection.run import Job, Result
from expotion_cli.media.probe import probe


@pytest.fixture
def inspect(expotion):
    """Runs `expotion inspect` with the encoder that takes no time."""
    return lambda *arguments: expotion("inspect", "--streams", "flow", *arguments)


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_each_clip_gets_a_picture_and_a_record_and_the_folder_is_mirrored(inspect, clip_folder, tmp_path):
    out = tmp_path / "out"
    done = inspect(clip_folder, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert files_in(out) == ["one.inspect.json", "one.inspect.png", "sub/two.inspect.json", "sub/two.inspect.png"]
    lines = done.stdout.splitlines()
    assert lines[-1] == f"2 inspected → {out}/" and len(lines) == 3
    assert lines[0].startswith(f"one.mp4 → {out}/one.inspect.png · flow 100%")
    assert Image.open(out / "one.inspect.png").width == 1600
    record = read(out / "sub" / "two.inspect.json")
    assert record["clip"]["file"] == "sub/two.mp4" and record["clip"]["duration_s"] == 0.8
    assert [stream["name"] for stream in record["streams"]] == ["flow"]


def test_results_go_to_their_own_folder_by_default(inspect, clip_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inspect(clip_folder / "one.mp4").exit_code == 0
    assert files_in(tmp_path) == ["inspected/one.inspect.json", "inspected/one.inspect.png"]


def test_formats_are_chosen(inspect, clip_folder, tmp_path):
    assert inspect(clip_folder / "one.mp4", "--out", tmp_path / "svg", "--format", "svg").exit_code == 0
    assert files_in(tmp_path / "svg") == ["one.inspect.json", "one.inspect.svg"]
    assert ElementTree.parse(tmp_path / "svg" / "one.inspect.svg").getroot().get("width") == "1600"
    assert inspect(clip_folder / "one.mp4", "--out", tmp_path / "both", "--format", "svg, PNG").exit_code == 0
    assert len(files_in(tmp_path / "both")) == 3


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (("--format", "pgn"), "did you mean 'png'"),
        (("--format", ","), "names nothing"),
        (("--streams", "flwo"), "did you mean 'flow'"),
        (("--streams", "none"), "no encoders were chosen"),
        (("--recipe", "cinematik"), "cinematic"),
    ],
)
def test_wrong_flags_exit_with_2_before_anything_is_written(expotion, clip_folder, tmp_path, flags, wanted):
    done = expotion("inspect", clip_folder, "--out", tmp_path / "out", *flags)
    assert done.exit_code == 2 and wanted in done.stderr and not (tmp_path / "out").exists()


def test_a_broken_clip_fails_and_the_others_go_on(inspect, clip_folder, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(clip_folder, folder)
    (folder / "broken.mp4").write_text("words")
    done = inspect(folder, tmp_path / "nowhere.mp4", "--out", tmp_path / "out")
    assert done.exit_code == 1 and done.stdout.splitlines()[-1].startswith("2 inspected, 2 failed")
    assert done.stderr.count("failed: ") == 2 and "broken.mp4: this isn't a readable video file" in done.stderr
    assert len(files_in(tmp_path / "out")) == 4


def test_a_clip_that_fails_while_it_is_looked_at_leaves_nothing_and_the_others_go_on(
    inspect, clip_folder, tmp_path, monkeypatch
):
    from expotion_cli.inspection import record

    real = record.record_of

    def record_of(seen):
        if seen.name == "one.mp4":
            raise ValueError("what nobody thought of")
        return real(seen)

    monkeypatch.setattr(record, "record_of", record_of)
    done = inspect(clip_folder, "--out", tmp_path, "--json")
    assert done.exit_code == 1 and "unexpected ValueError: what nobody thought of" in done.stderr
    assert {row["clip"]: row["status"] for row in json.loads(done.stdout)["clips"]} == {
        "one.mp4": "failed", "sub/two.mp4": "inspected"
    }  # fmt: skip
    assert files_in(tmp_path) == ["sub/two.inspect.json", "sub/two.inspect.png"]


def test_nothing_to_inspect_exits_with_3_and_makes_no_folder(inspect, tmp_path):
    (tmp_path / "fake.mp4").write_text("words")
    done = inspect(tmp_path / "fake.mp4", "--out", tmp_path / "out")
    assert done.exit_code == 3 and not (tmp_path / "out").exists()


def test_the_summary_for_programs_stands_alone_on_standard_output(inspect, clip_folder, tmp_path):
    done = inspect(clip_folder, "--out", tmp_path / "out", "--json")
    said = json.loads(done.stdout)
    assert said["exit_code"] == 0 and [row["clip"] for row in said["clips"]] == ["one.mp4", "sub/two.mp4"]
    assert all(Path(file).is_file() for row in said["clips"] for file in row["files"])
    assert said["clips"][0]["hits"] == len(read(tmp_path / "out" / "one.inspect.json")["plan"]["hits"])
    assert said["clips"][0]["found"] == {"flow": 1.0} and said["clips"][0]["tempo"]["recipe"] == "cinematic"


def test_quiet_says_only_what_went_wrong(inspect, clip_folder, tmp_path):
    (tmp_path / "fake.mp4").write_text("words")
    done = inspect(clip_folder / "one.mp4", tmp_path / "fake.mp4", "--out", tmp_path / "out", "--quiet")
    assert done.exit_code == 1 and done.stdout == "" and done.stderr.startswith("failed: ")
    assert done.stderr.count("\n") == 1


def test_streams_that_cannot_run_here_are_noted_and_the_others_go_on(expotion, clip_folder, tmp_path, monkeypatch):
    from expotion_cli.vision.landmarks import LandmarkEncoder

    monkeypatch.setattr(LandmarkEncoder, "unavailable", lambda self: "libGL.so.1 is missing. Install libgl1.")
    done = expotion("inspect", clip_folder / "one.mp4", "--out", tmp_path)
    assert done.exit_code == 0 and "face and pose left out: libGL.so.1 is missing" in done.stderr
    assert [stream["name"] for stream in read(tmp_path / "one.inspect.json")["streams"]] == ["flow"]


def test_the_recipe_gives_the_range_of_the_tempo(inspect, clip_folder, tmp_path):
    assert inspect(clip_folder / "one.mp4", "--out", tmp_path, "--recipe", "lofi").exit_code == 0
    record = read(tmp_path / "one.inspect.json")
    lowest, highest = record["recipe"]["range_bpm"]
    assert record["recipe"]["name"] == "lofi" and lowest <= record["plan"]["tempo"]["bpm"] <= highest


def test_features_computed_elsewhere_get_a_lane(expotion, clip_folder, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "one.npy", np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32))
    done = expotion("inspect", clip_folder / "one.mp4", "--out", tmp_path, "--streams", f"flow,marlin={folder}@5")
    assert done.exit_code == 0, done.stderr
    record = read(tmp_path / "one.inspect.json")
    assert [(stream["name"], stream["num_dims"]) for stream in record["streams"]][1] == ("marlin", 16)


def test_nothing_is_written_through_a_link_out_of_the_folder(inspect, clip_folder, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "sub").symlink_to(elsewhere)
    done = inspect(clip_folder, "--out", out)
    assert done.exit_code == 2 and "outside the output folder" in done.stderr and not files_in(elsewhere)
    (out / "sub").unlink()
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (out / "one.inspect.png").symlink_to(mine)
    assert inspect(clip_folder / "one.mp4", "--out", out).exit_code == 0
    assert mine.read_text() == "mine" and not (out / "one.inspect.png").is_symlink()


def test_clips_that_differ_in_the_suffix_alone_get_pictures_of_their_own(inspect, clip_folder, tmp_path):
    shutil.copy(clip_folder / "one.mp4", tmp_path / "one.mov")
    done = inspect(clip_folder / "one.mp4", tmp_path / "one.mov", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert files_in(tmp_path / "out") == [
        f"one.{suffix}.inspect.{kind}" for suffix in ("mov", "mp4") for kind in ("json", "png")
    ]


def test_clips_that_would_share_a_picture_are_refused(inspect, clip_folder, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(clip_folder / "one.mp4", tmp_path / "other" / "one.mp4")
    done = inspect(clip_folder / "one.mp4", tmp_path / "other", "--out", tmp_path / "out")
    assert done.exit_code == 2 and "one.mp4" in done.stderr and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_exits_with_2(inspect, clip_folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = inspect(clip_folder / "one.mp4", "--out", tmp_path / "file")
    assert done.exit_code == 2 and "--out" in done.stderr and (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("name", [b"a & b <c> \"d\" 'e'.mp4", b"half \xff of a letter.mp4", b"bell \x07.mp4"])
def test_clips_with_hard_names_are_drawn_and_recorded(inspect, clip_folder, tmp_path, name):
    clip = tmp_path / os.fsdecode(name)
    shutil.copy(clip_folder / "one.mp4", clip)
    done = inspect(clip, "--out", tmp_path / "out", "--format", "png,svg", "--json")
    assert done.exit_code == 0, done.stderr
    (svg,) = (tmp_path / "out").glob("*.svg")
    (record,) = (tmp_path / "out").glob("*.json")
    title = ElementTree.parse(svg).getroot().find("{http://www.w3.org/2000/svg}title").text
    assert title == f"What expotion saw in {read(record)['clip']['file']}" and title.endswith(".mp4")
    assert json.loads(done.stdout)["clips"][0]["clip"] == read(record)["clip"]["file"]


def test_the_bar_counts_clips_by_their_length_and_shows_names_as_they_are(clip_folder):
    import io

    clips = [probe(clip_folder / "one.mp4"), probe(clip_folder / "sub" / "two.mp4")]
    jobs = [Job(f"[red]{i}.mp4", clip, Path(f"{i}.inspect.json")) for i, clip in enumerate(clips)]
    stream = io.StringIO()
    record = {"clip": {"file": "[red]0.mp4"}, "streams": [], "accents": [], "plan": None, "notes": []}
    with Bar(jobs, stream) as bar:
        bar.share(jobs[0], 0.5)
        (task,) = bar._bar.tasks
        assert task.percentage == pytest.approx(100 * 0.3 / 1.4, rel=0.01) and "[red]0.mp4" in task.description
        bar.result(Result(jobs[0].name, (Path("0.inspect.png"),), record))
        assert task.completed == pytest.approx(0.6, rel=0.01)
    assert "[red]0.mp4 → 0.inspect.png" in stream.getvalue()


@pytest.mark.long
def test_a_person_is_seen_with_face_motion_and_beat(expotion, tmp_path):
    sway = dataclasses.replace(DEMO_CLIPS[0], duration_s=4.0)
    (clip,) = write_demo_clips(tmp_path, [sway])
    done = expotion("inspect", clip.path, "--out", tmp_path / "out", "--format", "png,svg")
    assert done.exit_code == 0, done.stderr
    record = read(tmp_path / "out" / "sway.inspect.json")
    assert {stream["name"]: stream["coverage"] > 0.9 for stream in record["streams"]} == {
        "face": True, "pose": True, "flow": True
    }  # fmt: skip
    curves = record["curves"]["values"]
    # the portrait's face is a little left of the middle, in the upper half, and a fifth of the picture high
    assert 0.3 < np.mean(curves["face.x"]) < 0.5 and 0.2 < np.mean(curves["face.y"]) < 0.45
    assert 0.15 < np.mean(curves["face.height"]) < 0.3 and np.ptp(curves["face.x"]) > 0.02, "it sways"
    tempo = record["plan"]["tempo"]
    assert abs(tempo["bpm"] - 96) < 3 and tempo["confidence"] > 0.5
    assert {hit["cause"] for hit in record["plan"]["hits"]} == {"gesture"} and record["plan"]["cuts"] == []
    truth = [time for time in sway.accent_times_s if time < 3.9]
    flow = [accent["time_s"] for accent in record["accents"] if accent["source"] == "flow"]
    assert sum(min(abs(time - each) for each in flow) < 0.1 for time in truth) >= len(truth) - 1


@pytest.mark.long
def test_a_real_clip_where_no_face_is_found_says_so(expotion, real_clips, tmp_path):
    tennis = [clip for clip in real_clips if clip.name == "tennis.mp4"]
    if not tennis:
        pytest.skip("tennis.mp4 is not among the real clips")
    assert expotion("inspect", tennis[0], "--out", tmp_path, "--format", "svg").exit_code == 0
    record = read(tmp_path / "tennis.inspect.json")
    face = next(stream for stream in record["streams"] if stream["name"] == "face")
    pose = next(stream for stream in record["streams"] if stream["name"] == "pose")
    assert face["coverage"] < 0.1 and pose["coverage"] > 0.9
    assert (face["seen_s"] == []) == ("nobody found" in (tmp_path / "tennis.inspect.svg").read_text(encoding="utf-8"))


def test_a_broken_frame_is_counted_as_one(inspect, tmp_path, ffmpeg):
    import av

    clip = tmp_path / "broken.avi"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=1", "-c:v", "mjpeg", clip)
    with av.open(str(clip)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][12]
    content = bytearray(clip.read_bytes())
    content[packet.pos + 16 : packet.pos + packet.size - 16] = b"\xff" * (packet.size - 32)
    clip.write_bytes(content)
    done = inspect(clip, "--out", tmp_path / "out", "--streams", "flow")
    assert done.exit_code == 0 and "1 broken frame skipped" in done.stdout
