"""--video-track, --audio-track, --max-duration, and what of a clip's file is refused before anything is composed."""

from __future__ import annotations

import json

import pytest
from odd_files import AAC, ffmpeg, film, tone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clip with two pictures and two sound tracks, and an ordinary one."""
    folder = tmp_path_factory.mktemp("clips")
    base = film(folder / "plain.mp4", duration_s=1)
    small = ["-f", "lavfi", "-i", "testsrc2=size=48x32:rate=25:duration=1"]
    maps = ["-map", "0:v", "-map", "1:v", "-map", "0:a", "-map", "2:a", "-c", "copy"]
    names = ["-metadata:s:a:1", "title=Hum", "-disposition:v:1", 0, "-disposition:a:1", 0]
    codecs = ["-c:v:1", "libx264", *AAC[:1], "aac", "-ac:a:1", 2]
    ffmpeg("-i", base, *small, *tone("0.3*sin(2*PI*700*t)", 1), *maps, *codecs, *names, folder / "many.mkv")
    return folder


def rows(done):
    return {row["clip"]: row for row in json.loads(done.stdout)["clips"]}


def sidecar(out, name):
    return json.loads((out / f"{name}.score.json").read_text())


def test_the_tracks_that_the_flags_name_are_taken_and_a_clip_without_them_fails(score, folder, tmp_path):
    done = score(folder, "--out", tmp_path, "--video-track", 2, "--audio-track", "2", "--mix", "under", "--json")
    assert done.exit_code == 1, done.stderr
    assert rows(done)["plain.mp4"]["status"] == "failed" and "1 video track, and no number 2" in done.stderr
    said = sidecar(tmp_path, "many")
    assert said["clip"]["width"] == 48
    assert "picture: track 2 of 2 (h264, 48x32) is scored" in said["notes"]
    assert any(note.startswith("own sound: track 2 (Hum, aac) of 2; without 1 (aac)") for note in said["notes"])


@pytest.mark.long
def test_another_choice_is_another_result_and_the_same_one_is_done(score, folder, tmp_path):
    artefacts = []
    for flags in ((), ("--audio-track", "2"), ("--audio-track", "1,2"), ("--video-track", 2)):
        out = tmp_path / str(len(artefacts))
        for _ in range(2):
            done = score(folder / "many.mkv", "--out", out, "--mix", "under", *flags, "--json")
            assert done.exit_code == 0, done.stderr
        assert rows(done)["many.mkv"]["status"] == "already"
        artefacts.append(sidecar(out, "many")["artefact"])
    assert len(set(artefacts)) == 4


@pytest.mark.parametrize(("flag", "value"), [("--video-track", 0), ("--audio-track", "0"), ("--audio-track", "first")])
def test_what_is_no_track_is_refused(score, folder, tmp_path, flag, value):
    done = score(folder, "--out", tmp_path, flag, value)
    assert done.exit_code == 2 and f"{flag} " in done.stderr and "is no track" in done.stderr


def test_longer_clips_are_refused_and_the_remedy_works(score, folder, tmp_path):
    done = score(folder / "plain.mp4", "--out", tmp_path, "--max-duration", 0.5)
    assert done.exit_code == 3 and "it lasts 1 seconds, longer than 0.5 seconds" in done.stderr
    assert "Pass --max-duration 1, or cut it into parts." in done.stderr
    assert score(folder / "plain.mp4", "--out", tmp_path, "--max-duration", 1).exit_code == 0


def test_a_codec_that_the_container_cannot_hold_is_refused_before_composing(score, composer, folder, tmp_path):
    done = score(folder / "plain.mp4", "--out", tmp_path, "--audio-codec", "flac")
    assert done.exit_code == 3 and composer.asked == []
    assert "flac sound doesn't go into .mp4. Use --audio-codec aac, or auto." in done.stderr
    done = score(folder, "--out", tmp_path, "--audio-codec", "flac", "--json")
    assert {name: row["status"] for name, row in rows(done).items()} == {"plain.mp4": "failed", "many.mkv": "scored"}


def test_a_dry_run_says_which_picture(score, folder, tmp_path):
    done = score(folder, "--out", tmp_path, "--dry-run")
    assert "picture: track 1 of 2 (h264, 96x64) is scored" in done.stdout


def test_plans_and_charts_are_of_the_picture_that_is_named(expotion, folder, tmp_path):
    for command in (("plan", "--to"), ("inspect", "--out")):
        out = tmp_path / command[0]
        done = expotion(command[0], folder, command[1], out, "--video-track", 2, "--streams", "flow", "--json")
        found = rows(done)
        assert done.exit_code == 1 and found["plain.mp4"]["status"] == "failed", done.stderr
        assert "no number 2" in done.stderr and found["many.mkv"]["status"] in ("written", "inspected")
    record = json.loads((tmp_path / "inspect" / "many.inspect.json").read_text())
    assert (record["clip"]["width"], record["clip"]["height"]) == (48, 32)
