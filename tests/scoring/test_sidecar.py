"""Sidecars: today's form, the old form, and whether a result is whole."""

from __future__ import annotations

import json

from expotion_cli import storage
from expotion_cli.hints import FileHints
from expotion_cli.scoring import sidecar

OLD = {
    "format": 1,
    "artefact": "a" * 64,
    "prompt": "slow strings",
    "recipe": {"name": "cinematic", "generate": {"guidance": 3.0, "drafts": 4}},
    "stages_s": {"look": 1.0, "compose": 2.0, "render": 3.0, "encode": 4.0},
    "midi": None,
    "has_midi": True,
}


def written(folder, content):
    video = folder / "clip.mp4"
    video.write_bytes(b"picture and sound")
    sidecar.write_sidecar(video, {**content, "output": sidecar.file_record(video)})
    return video


def test_a_sidecar_of_the_old_form_is_read_in_todays_words(tmp_path):
    video = written(tmp_path, OLD)
    found = sidecar.read_sidecar(video)
    assert found["stages_s"] == {"see": 1.0, "compose": 2.0, "render": 3.0, "finish": 4.0}
    assert found["recipe"] == {"name": "cinematic", "generate": {"guidance": 3.0, "takes": 4}}
    assert found["prompt"] == "slow strings" and found["format"] == 1, "it says what it was"


def test_a_result_with_a_sidecar_of_the_old_form_is_done_all_the_same(tmp_path):
    video = written(tmp_path, OLD)
    known = sidecar.read_sidecar(video)
    assert sidecar.is_done(video, known, "a" * 64)
    assert not sidecar.is_done(video, known, "b" * 64) and not sidecar.is_done(video, known, "a" * 64, midi=True)
    video.write_bytes(b"picture and SOUND")
    assert not sidecar.is_done(video, known, "a" * 64), "as long as before, but other bytes"


def test_todays_form_is_left_as_it_is_and_says_its_number(tmp_path):
    content = {"format": sidecar.FORMAT, "stages_s": {"look": 1.0}, "recipe": {"generate": {"drafts": 1}}}
    assert sidecar.FORMAT == 2 and sidecar.upgraded(content) is content


def test_what_can_not_be_read_is_no_sidecar(tmp_path):
    video = written(tmp_path, OLD)
    for text in ("", "[1]", "{", json.dumps("x")):
        sidecar.sidecar_path(video).write_text(text)
        assert sidecar.read_sidecar(video) is None


def test_hints_spare_the_reading_of_an_unchanged_result(tmp_path, monkeypatch):
    monkeypatch.setattr("expotion_cli.hints.SETTLED_NS", -(10**10))  # files count as settled at once
    video, hints = written(tmp_path, OLD), FileHints(tmp_path / "hints")
    known = sidecar.read_sidecar(video)
    assert sidecar.is_done(video, known, "a" * 64, hints=hints)
    read = []
    whole = storage.digest_file
    monkeypatch.setattr("expotion_cli.hints.storage.digest_file", lambda path: read.append(path) or whole(path))
    monkeypatch.setattr("expotion_cli.hints._hashed", {})  # as in another process
    assert sidecar.is_done(video, known, "a" * 64, hints=FileHints(tmp_path / "hints")) and read == []
    assert sidecar.is_done(video, known, "a" * 64, hints=FileHints(tmp_path / "hints", trusted=False))
    assert read == [video], "verified"


def test_a_new_way_to_finish_keeps_the_cues_already_composed(monkeypatch):
    cue, result = sidecar.cue_digest({"seed": 1}), sidecar.result_digest({"tokens": "abc"})
    monkeypatch.setattr(sidecar, "RESULT_VERSION", sidecar.RESULT_VERSION + 1)
    assert sidecar.cue_digest({"seed": 1}) == cue and sidecar.result_digest({"tokens": "abc"}) != result
