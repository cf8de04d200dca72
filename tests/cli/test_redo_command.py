"""`expotion score --redo`, `--loop` and prompts with times, as a user meets them."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from fake_composer import FakeNoteComposer


@pytest.fixture
def notes(expotion, monkeypatch):
    """Runs `expotion score` with a composer of notes."""
    fake = FakeNoteComposer()
    monkeypatch.setitem(sys.modules, "expotion_cli.music.load", SimpleNamespace(load_model=lambda name, **_: fake))
    return lambda *arguments: expotion("score", "--streams", "none", "--tempo", "120", *arguments)


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video):
    return make_video(tmp_path_factory.mktemp("clips") / "a.mp4", duration_s=8.0, sound=False, size="32x32")


@pytest.mark.long
def test_a_user_redoes_bars_and_is_told_which(notes, clip, tmp_path):
    assert notes(clip, "--out", tmp_path, "--midi").exit_code == 0
    ahead = notes(clip, "--out", tmp_path, "--redo", "2.5-3.9", "--dry-run")
    assert ahead.exit_code == 0 and "would redo a.mp4" in ahead.stdout and "bar 2 (2.0-4.0 s)" in ahead.stdout
    as_json = json.loads(notes(clip, "--out", tmp_path, "--redo", "2.5-3.9", "--dry-run", "--json").stdout)
    assert as_json["clips"][0]["would"] == "redo" and as_json["clips"][0]["redo"] == "bar 2 (2.0-4.0 s)"
    done = notes(clip, "--out", tmp_path, "--redo", "2.5-3.9", "--redo-prompt", "solo zorblax piano")
    assert done.exit_code == 0 and "redone: bar 2 (2.0-4.0 s)" in done.stdout, done.stderr
    assert "not understood: zorblax" in done.stderr
    said = json.loads((tmp_path / "a.score.json").read_text())
    assert said["redone"][0]["prompt"] == "solo zorblax piano" and said["midi"]["file"] == "a.mid"
    assert [row["bar"] for row in said.get("passages", [])] in ([1, 2, 3], [])
    plain = notes(clip, "--out", tmp_path)
    assert plain.exit_code == 0 and "keeps what was redone: bar 2 (2.0-4.0 s)" in plain.stdout
    summary = json.loads(notes(clip, "--out", tmp_path, "--json").stdout)
    assert summary["clips"][0]["redone"] == said["redone"]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--redo", "5-3"], "--redo 5-3 ends before it has begun. Did you mean 3-5?"),
        (["--redo", "soon"], "'soon' is not a span. Give two times in seconds"),
        (["--redo", "1-2", "--overwrite"], "Leave one of them out"),
        (["--redo-seed", "4"], "--redo-seed says how to redo bars, but not which"),
        (["--redo-prompt", "calm"], "--redo-prompt says how to redo bars, but not which"),
        (["--redo", "1-2", "--redo-prompt", " "], "--redo-prompt is empty"),
        (["--redo", "1-2", "--redo-prompt", "0-1: a"], "takes words without times"),
        (
            ["--redo", "1-2", "--model", "sound"],
            "--redo needs a model that writes notes, and sound makes sound",
        ),
        (
            ["--loop", "--model", "sound"],
            "--loop needs a model that writes notes: sound keeps no bar lines",
        ),
        (["--prompt", "0-4: calm; 3-8: loud"], "two parts of the prompt hold from 3 to 4 s"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_done(notes, clip, tmp_path, monkeypatch, flags, wanted):
    (tmp_path / "sound").mkdir()
    (tmp_path / "sound" / "config.json").write_text('{"model_type": "musicgen"}')
    monkeypatch.chdir(tmp_path)
    done = notes(clip, "--out", tmp_path / "out", *flags)
    assert done.exit_code == 2 and wanted in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_clip_that_was_never_scored_and_a_span_beyond_it_are_refused(notes, clip, tmp_path):
    never = notes(clip, "--out", tmp_path, "--redo", "1-2")
    assert never.exit_code == 2 and "there is no result yet" in never.stderr and "without --redo first" in never.stderr
    assert notes(clip, "--out", tmp_path).exit_code == 0
    beyond = notes(clip, "--out", tmp_path, "--redo", "7-12")
    assert beyond.exit_code == 2 and "--redo 7-12 reaches beyond the clip, which lasts 8.000 s" in beyond.stderr


@pytest.mark.long
def test_a_loop_is_another_result_with_whole_bars_and_says_where_none_fit(expotion, notes, clip, tmp_path):
    done = notes(clip, "--out", tmp_path, "--loop")
    assert done.exit_code == 0, done.stderr
    said = json.loads((tmp_path / "a.score.json").read_text())
    assert said["recipe"]["compose"]["loop"] is True and said["tempo"] == {
        "bpm": 120.0,
        "start_s": 0.0,
        "confidence": 0,
    }
    other = notes(clip, "--out", tmp_path)
    assert other.exit_code == 2 and "compose.loop True, now False" in other.stderr
    none = expotion("score", "--streams", "none", "--tempo", "100", clip, "--out", tmp_path / "b", "--loop")
    assert (
        none.exit_code == 1
        and "a.mp4: whole bars fill its 8.000 s at 90.00 or 120.00 bpm, and the tempo may be 97-103" in none.stderr
    )
