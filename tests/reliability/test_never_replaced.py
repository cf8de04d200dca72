"""A result is never replaced without a word, and a dry run says what the real run does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_composer import FakeComposer

from expotion_cli.music.identity import ModelIdentity
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch
from expotion_cli.scoring.account import Account, Listener
from expotion_cli.scoring.ledger import read_ledger
from expotion_cli.scoring.plan import Settings, plan

BLIND = {"streams.use": ()}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_video) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_video(folder / "a.mp4", duration_s=0.4, sound=False)
    return folder


def run(clips, out, *, composer=None, recipe="cinematic", flags=BLIND, **settings):
    """(what a dry run says, what the real run does, its error if any)."""
    composer = composer or FakeComposer()
    planned = plan([clips], load_recipe(recipe, {**BLIND, **flags}), Settings(out=out, **settings))
    (ahead,) = Account(planned, Listener()).standings(ModelIdentity.of(composer)).values()
    (result,) = (summary := batch.run(planned, lambda: composer)).results
    real = {"scored": "score", "already": "already", "refused": "refuse"}[result.status]
    assert ahead.verdict == real or (ahead.verdict, real) == ("replace", "score")
    assert str(ahead.error) == str(result.error)
    assert summary.exit_code == (2 if real == "refuse" else 0)
    return ahead.verdict, str(result.error)


def put(path: Path, content: bytes) -> bytes:
    path.write_bytes(content)
    return content


def test_a_result_of_other_settings_is_refused_and_named_by_what_differs(clips, tmp_path):
    assert run(clips, tmp_path)[0] == "score"
    before = (tmp_path / "a.mp4").read_bytes()
    other = FakeComposer()
    other.name, other.digest = "another", "model-2"
    for options, wanted in [
        ({"flags": {"generate.seed": 5}}, "another seed ("),
        ({"flags": {"prompt": "quiet"}}, "another prompt"),
        ({"flags": {"loudness.lufs": -20}}, "loudness.lufs -14.0, now -20"),
        ({"recipe": "jazz"}, "another recipe (cinematic, now jazz)"),
        ({"composer": other}, "another model (fake, now another)"),
    ]:
        verdict, said = run(clips, tmp_path, **options)
        assert verdict == "refuse" and wanted in said and "--overwrite" in said and "--name-by" in said
        assert (tmp_path / "a.mp4").read_bytes() == before
    assert run(clips, tmp_path, flags={"generate.seed": 5}, overwrite=True)[0] == "replace"
    assert (tmp_path / "a.mp4").read_bytes() != before
    assert run(clips, tmp_path, flags={"generate.seed": 5})[0] == "already"


def test_results_named_by_recipe_and_seed_stay_beside_each_other(clips, tmp_path):
    for recipe in ("cinematic", "jazz"):
        for verdict in ("score", "already"):
            flags = {"generate.seed": 7}
            assert run(clips, tmp_path, recipe=recipe, flags=flags, name_by=("recipe", "seed"))[0] == verdict
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"a.cinematic.seed7.mp4", "a.jazz.seed7.mp4"}
    assert len(list(tmp_path.glob("*.score.json"))) == 2


def test_a_result_that_was_edited_is_kept(clips, tmp_path, make_video):
    run(clips, tmp_path)
    edited = make_video(tmp_path / "a.mp4", duration_s=0.6).read_bytes()
    verdict, said = run(clips, tmp_path)
    assert verdict == "refuse" and "changed since it was made" in said and (tmp_path / "a.mp4").read_bytes() == edited


@pytest.mark.parametrize("name", ["a.score.json", "a.mid"])
def test_somebody_elses_file_beside_a_result_is_kept(clips, tmp_path, name):
    own = put(tmp_path / name, b'{"mine": 1}')
    verdict, said = run(clips, tmp_path, midi=True)
    assert verdict == "refuse" and name in said and (tmp_path / name).read_bytes() == own
    assert not (tmp_path / "a.mp4").exists()


def test_an_edited_midi_file_is_kept_unless_it_is_overwritten(clips, tmp_path):
    run(clips, tmp_path, midi=True)
    edited = put(tmp_path / "a.mid", b"edited")
    assert run(clips, tmp_path, midi=True)[0] == "refuse"
    assert run(clips, tmp_path, flags={"generate.seed": 5}, overwrite=True)[0] == "replace"
    assert (tmp_path / "a.mid").read_bytes() == edited, "without --midi nothing of the user's is removed"


def test_what_another_version_made_is_made_anew_and_said(clips, tmp_path, monkeypatch):
    run(clips, tmp_path)
    monkeypatch.setattr("expotion_cli.scoring.sidecar.RESULT_VERSION", 99)
    assert run(clips, tmp_path)[0] == "replace"


def test_other_weights_are_told_from_another_release_of_the_program(clips, tmp_path):
    assert run(clips, tmp_path)[0] == "score"
    other = FakeComposer()
    other.digest = "model-2"
    verdict, said = run(clips, tmp_path, composer=other)
    assert verdict == "refuse" and "other weights of the model fake" in said
    place = tmp_path / "a.score.json"
    sidecar = json.loads(place.read_text())
    sidecar["versions"]["expotion"] = "0.0.1"
    place.write_text(json.dumps(sidecar))
    assert run(clips, tmp_path, composer=other)[0] == "replace"


def test_a_sidecar_of_another_clip_of_this_name_is_kept(clips, tmp_path):
    run(clips, tmp_path)
    video = tmp_path / "a.mp4"
    known = json.loads((tmp_path / "a.score.json").read_text())
    known["output"]["file"] = "a.mov"
    (tmp_path / "a.score.json").write_text(json.dumps(known))
    video.rename(tmp_path / "a.mov")
    verdict, said = run(clips, tmp_path)
    assert verdict == "refuse" and "belongs to a.mov" in said


def test_the_ledger_tells_clip_stage_duration_and_outcome_and_a_torn_line_is_passed_over(clips, tmp_path):
    run(clips, tmp_path)
    ledger = tmp_path / "ledger.jsonl"
    with open(ledger, "ab") as file:
        file.write(b'{"at": "2026", "event": "sco')
    run(clips, tmp_path, flags={"generate.seed": 5})
    entries = read_ledger(ledger)
    stages = [entry["stage"] for entry in entries if entry["event"] == "stage"]
    assert stages == ["see", "compose", "render", "follow", "finish"]
    assert all(e["outcome"] == "done" and e["duration_s"] >= 0 for e in entries if e["event"] == "stage")
    others = [entry for entry in entries if entry["event"] != "stage"]
    assert [entry["event"] for entry in others] == ["begin", "scored", "refused"]
    done = others[1]
    assert (done["clip"], done["stage"], done["outcome"]) == ("a.mp4", "finish", "scored") and done["duration_s"] > 0
    assert all(line.startswith("{") for line in ledger.read_text().splitlines())


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_ledger_that_can_not_be_written_stops_at_once_with_one_message(clips, tmp_path, kind):
    from expotion_cli.errors import UsageError

    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "target").write_text("")
    if kind == "folder":
        (out / "ledger.jsonl").mkdir()
    else:
        (out / "ledger.jsonl").symlink_to(tmp_path / "target")
    planned = plan([clips], load_recipe("cinematic", BLIND), Settings(out=out))
    with pytest.raises(UsageError, match="the ledger can't be written"):
        batch.run(planned, FakeComposer)
    assert (tmp_path / "target").read_text() == "" and not list(out.glob("*.mp4"))


def test_a_listener_in_trouble_fails_no_clip(clips, tmp_path):
    class Broken(Listener):
        def stage(self, *_):
            raise OSError(28, "No space left on device")

        def result(self, _):
            raise BrokenPipeError

    planned = plan([clips], load_recipe("cinematic", BLIND), Settings(out=tmp_path))
    assert batch.run(planned, FakeComposer, listener=Broken()).exit_code == 0
