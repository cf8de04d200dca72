"""Names and folders that users have: nothing ends a batch, nothing goes missing without a word."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from expotion_cli.errors import ExpotionError
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring.discover import discover
from expotion_cli.scoring.naming import too_long
from expotion_cli.scoring.plan import Settings, plan

MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(900)
BLIND = {"streams.use": ()}
COMMAND = [sys.executable, "-c", "from expotion_cli.cli import score_main; score_main()", "--dry-run"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video) -> Path:
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", duration_s=0.4, sound=False)


def planned(folder: Path, out: Path, **settings):
    return plan([folder], load_recipe("cinematic", BLIND), Settings(out=out, **settings))


def command(*arguments: object, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, "--streams", "none", *arguments], capture_output=True, timeout=120, **options)


@pytest.mark.long
def test_a_name_that_is_no_utf_8_is_planned_and_json_stays_valid(clip, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    odd = os.fsdecode(b"caf\xe9.mp4")
    for name in (odd, "good.mp4"):
        shutil.copy(clip, folder / name)
    done = command(folder, "--out", tmp_path / "out", "--json", env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.decode("utf-8"))
    assert [row["clip"] for row in said["clips"]] == [odd, "good.mp4"], "the name comes back, byte for byte"
    lines = command(folder, "--out", tmp_path / "out").stdout.decode("utf-8")
    assert "caf\\xe9.mp4" in lines


def test_control_characters_never_reach_the_terminal_and_no_line_is_broken(clip, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a\x1b[31mred\nline.mp4", "b\u202egp4.mp4"):
        shutil.copy(clip, folder / name)
    (folder / "c\x1b[2J.mp4").write_text("no video")
    done = command(folder, "--out", tmp_path / "out", text=True)
    assert done.returncode == 1, done.stderr
    assert not {"\x1b", "\u202e"} & set(done.stdout + done.stderr)
    lines = done.stdout.splitlines()  # the settings, what would be done and the plan of each clip, how long it takes
    assert len(lines) == 6 and sum("would score" in line for line in lines) == 2
    assert "a\\x1b[31mred\\nline.mp4" in done.stdout and "c\\x1b[2J.mp4" in done.stderr


def test_clips_that_differ_in_the_suffix_alone_keep_their_whole_names(clip, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("clip.mp4", "clip.m4v", "other.mp4", "other.take.mp4"):
        shutil.copy(clip, folder / name)
    for _ in range(2):  # a rerun finds them
        found = planned(folder, tmp_path / "out")
        assert {job.name: job.destination.name for job in found.jobs} == {
            "clip.m4v": "clip.m4v.m4v",
            "clip.mp4": "clip.mp4.mp4",
            "other.mp4": "other.mp4",
            "other.take.mp4": "other.take.mp4",
        }
        assert not found.problems


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "dangling link", "endless link"])
def test_what_is_no_regular_file_is_refused_at_once(clip, tmp_path, kind, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(clip, folder / "good.mp4")
    monkeypatch.chdir(folder)  # the names of sockets are short
    if kind == "FIFO":
        os.mkfifo("x.mp4")
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind("x.mp4")
    elif kind == "device":
        os.symlink("/dev/zero", "x.mp4")
    else:
        os.symlink("nowhere" if kind == "dangling link" else "x.mp4", "x.mp4")
    for inputs in ([folder], ["x.mp4", "good.mp4"]):
        found = discover(inputs, out=tmp_path / "out")
        assert [source.path.name for source in found.sources] == ["good.mp4"]
        (problem,) = found.problems
        assert problem.path.name == "x.mp4" and problem.remedy
        assert ("leads nowhere" if "link" in kind else "not a regular file") in problem.reason


def test_a_link_beside_its_target_is_named_and_the_target_keeps_its_name(tmp_path):
    (tmp_path / "film.mp4").write_bytes(MP4)
    (tmp_path / "again.mp4").symlink_to("film.mp4")
    found = discover([tmp_path], out=tmp_path / "out")
    assert [source.path.name for source in found.sources] == ["film.mp4"]
    (note,) = found.notes
    assert "again.mp4" in note and "film.mp4" in note
    assert not discover([tmp_path / "film.mp4", tmp_path / "film.mp4"], out="out").notes


def test_linked_folders_are_named(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.mp4").write_bytes(MP4)
    (tmp_path / "in" / "sub" / "back").symlink_to(tmp_path / "in")
    found = discover([tmp_path / "in"], out=tmp_path / "out")
    assert len(found.sources) == 1 and "back" in found.notes[0]


def test_a_subfolder_that_can_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.mp4").write_bytes(MP4)
    scandir = os.scandir

    def locked(path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    found = discover([tmp_path], out=tmp_path / "out")
    (problem,) = found.problems
    assert problem.path == tmp_path / "shut" and "Permission denied" in problem.reason and len(found.sources) == 1


def test_a_cameras_proxy_is_passed_over_with_a_word_and_scored_where_it_stands_alone(tmp_path):
    for name in ("GX010001.MP4", "GL010001.LRV", "DJI_0002.MP4", "DJI_0002.LRF", "GL010009.LRV"):
        (tmp_path / name).write_bytes(MP4)
    (tmp_path / "GX010001.THM").write_bytes(b"\xff\xd8\xff\xe0" + bytes(900))
    found = discover([tmp_path], out=tmp_path / "out")
    assert {source.path.name for source in found.sources} == {"GX010001.MP4", "DJI_0002.MP4", "GL010009.LRV"}
    (note,) = found.notes
    assert "GL010001.LRV" in note and "DJI_0002.LRF" in note
    assert len(discover([tmp_path / "GL010001.LRV"], out="out").sources) == 1, "named, it counts"


@pytest.mark.parametrize("argument", ["~x.mp4", "x" * 300 + ".mp4", "-x.mp4", "a\nb.mp4", "x/" * 3000])
def test_odd_arguments_are_problems_of_their_own(argument):
    found = discover([argument], out="out")
    assert not found.sources and isinstance(found.problems[0], ExpotionError)


@pytest.mark.parametrize("name", ["~x.mp4", "-x.mp4", "a\nb.mp4", "😀" * 60 + ".mp4", "take [1].mp4"])
def test_odd_names_are_found_from_the_current_folder(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, f"./{name}")
    (job,) = plan([name], load_recipe("cinematic", BLIND), Settings(out=Path("out"))).jobs
    assert job.destination == Path("out") / name


def test_a_name_too_long_for_its_sidecar_is_refused_before_any_work_counting_bytes(clip, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(clip, folder / "good.mp4")
    for stem in ("x" * 251, "😀" * 62, "x" * 244):
        shutil.copy(clip, folder / f"{stem}.mp4")
    found = planned(folder, tmp_path / "out")
    assert {len(job.name) for job in found.jobs} == {8, 248}
    reasons = {problem.name[0]: problem.error.reason for problem in found.problems}
    assert reasons == {
        "x": "the name is 7 bytes too long for this file system.",
        "😀": "the name is 4 bytes too long for this file system.",
    }
    assert not (tmp_path / "out").exists()
    assert too_long(tmp_path, ["x" * 255]) is None


def test_a_clip_inside_the_output_folder_never_replaces_itself_and_the_others_go_on(clip, tmp_path):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    shutil.copy(clip, out / "a.mp4")
    shutil.copy(clip, out / "sub" / "b.mp4")
    found = plan([out / "a.mp4", out / "sub"], load_recipe("cinematic", BLIND), Settings(out=out))
    assert [job.destination for job in found.jobs] == [out / "b.mp4"]
    assert "overwrite a clip" in found.problems[0].error.reason


def test_thousands_of_files_are_found_in_seconds(tmp_path):
    for number in range(5000):
        (tmp_path / f"{number:04}.mp4").write_bytes(MP4)
    found = discover([tmp_path], out=tmp_path / "out")
    assert len(found.sources) == 5000 and not found.problems


def test_outputs_of_clips_that_differ_in_the_suffix_alone_are_matched_to_them(tmp_path):
    from expotion_cli.evaluation import outputs

    for folder, names in (("in", ("a.mp4", "a.mov", "b.mp4")), ("out", ("a.mp4.mp4", "a.mov.mp4", "b.mp4"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"\0\0\0\x18ftypisom" + bytes(16))
    clips, problems = outputs.find_clips([tmp_path / "in"])
    assert sorted(clips) == ["a.mov", "a.mp4", "b"] and not problems
    found = outputs.find_outputs("ours", tmp_path / "out", clips)
    assert {clip: output.path.name for clip, output in found.files.items()} == {
        "a.mp4": "a.mp4.mp4",
        "a.mov": "a.mov.mp4",
        "b": "b.mp4",
    }
    (tmp_path / "prompts.json").write_text('{"a.mov": "strings", "a.mp4": "brass", "b.mp4": "piano"}')
    prompts = outputs.clip_prompts(tmp_path / "prompts.json")
    assert [prompts[clip] for clip in ("a.mov", "a.mp4", "b")] == ["strings", "brass", "piano"]
