"""`expotion takes`, `--takes` and `--keep-takes`: takes are kept beside the result, listed, chosen, and left alone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_composer import FakeNoteComposer

from expotion_cli.music.codecs.codec import Rating
from expotion_cli.scoring.cue_store import CueStore, read_cue
from expotion_cli.scoring.leases import Leases
from expotion_cli.scoring.ledger import read_ledger
from expotion_cli.scoring.sidecar import read_sidecar, write_sidecar
from expotion_cli.scoring.takes import find_takes
from expotion_cli.storage import cache_root, digest_file

KEEP = ("--takes", 3, "--keep-takes")


@pytest.fixture
def clip(clip_folder, tmp_path) -> Path:
    (tmp_path / "clips").mkdir()
    return Path(shutil.copy(clip_folder / "one.mp4", tmp_path / "clips" / "one.mp4"))


@pytest.fixture
def scored(clip, score) -> Path:
    """A result with three kept takes."""
    out = clip.parent.parent / "out"
    assert score(clip, "-o", out, *KEEP).exit_code == 0
    return out / "one.mp4"


def others(video: Path) -> list[int]:
    return [take.number for take in find_takes(video) if not take.chosen]


def test_the_takes_of_a_cue_are_kept_to_listen_to_and_the_first_is_the_cue_of_one_take(scored, clip, score, tmp_path):
    takes = find_takes(scored)
    assert [take.number for take in takes] == [1, 2, 3] and sum(take.chosen for take in takes) == 1
    names = {f"take-{number}{suffix}" for number in (1, 2, 3) for suffix in (".m4a", ".safetensors")}
    assert {path.name for path in (scored.parent / "one.takes").iterdir()} == names
    assert all(take.sound.stat().st_size > 1000 and set(take.terms) >= {"hits", "pulse", "notes"} for take in takes)
    assert len({digest_file(take.sound) for take in takes}) == 3
    record = read_sidecar(scored)["takes"]
    assert record["each"][0]["seed"] == read_sidecar(scored)["seed"] and record["chosen_by"] == "score"
    # The same cue with a single take has the first one's tokens, under the digest that it always had.
    store = CueStore(cache_root() / "cues")
    before = store.size()[0]
    assert score(clip, "-o", tmp_path / "single", "--takes", 1).exit_code == 0
    assert store.size()[0] == before == 3 and read_sidecar(tmp_path / "single" / "one.mp4")["takes"] is None


def test_takes_that_are_there_are_not_composed_again(scored, clip, score, composer, tmp_path):
    assert len(composer.composed) == 3
    assert score(clip, "-o", tmp_path / "more", "--takes", 5).exit_code == 0
    assert len(composer.composed) == 5, "two more"
    assert score(clip, "-o", scored.parent, "--takes", 3).exit_code == 0
    assert score(clip, "-o", tmp_path / "fewer", "--takes", 2).exit_code == 0 and len(composer.composed) == 5


def test_no_take_outside_the_marks_is_played_while_another_is_inside(clip, score, composer, tmp_path, monkeypatch):
    rated = iter([Rating(("stuck in a loop",)), Rating(), Rating(("off its key",))] * 2)
    monkeypatch.setattr(composer.codec, "rate", lambda *_: next(rated))
    monkeypatch.setattr("expotion_cli.scoring.takes.score._missed", lambda terms, tags: [])
    assert score(clip, "-o", tmp_path / "out", "--takes", 3).exit_code == 0
    video = tmp_path / "out" / "one.mp4"
    assert [(take.chosen, take.missed) for take in find_takes(video)] == [
        (False, ("stuck in a loop",)), (True, ()), (False, ("off its key",))
    ]  # fmt: skip
    assert not (tmp_path / "out" / "one.takes").exists(), "nobody asked for them to be kept"


def test_a_dry_run_names_the_folder_and_one_take_leaves_nothing_to_keep(clip, score, tmp_path):
    said = score(clip, "-o", tmp_path / "out", *KEEP, "--dry-run")
    assert f"takes in {tmp_path / 'out' / 'one.takes'}/" in said.stdout and not (tmp_path / "out").exists()
    row = json.loads(score(clip, "-o", tmp_path / "out", *KEEP, "--dry-run", "--json").stdout)["clips"][0]
    assert row["takes"] == str(tmp_path / "out" / "one.takes")
    refused = score(clip, "-o", tmp_path / "out", "--takes", 1, "--keep-takes")
    assert refused.exit_code == 2 and "--keep-takes needs several takes to keep. Add --takes 4" in refused.stderr


def test_takes_are_listed_by_video_sidecar_and_clip(scored, clip, expotion, monkeypatch):
    tables = [
        expotion("takes", scored).stdout,
        expotion("takes", scored.with_name("one.score.json")).stdout,
        expotion("takes", clip, "--out", scored.parent).stdout,
    ]
    assert len(set(tables)) == 1
    head, *rows = tables[0].splitlines()
    assert head.split()[:3] == ["take", "score", "hits"] and "marks missed" in head
    assert [row.replace("*", "").split()[0] for row in rows[:3]] == ["1", "2", "3"]
    assert sum(row.startswith("*") for row in rows[:3]) == 1 and "one.takes/take-2.m4a" in rows[1]
    assert f"another one: expotion takes {scored} --choose N" in tables[0]
    said = json.loads(expotion("takes", scored, "--json").stdout)
    assert [row["take"] for row in said["takes"]] == [1, 2, 3] and said["video"] == str(scored)
    assert said["takes"][0]["sound"].endswith("take-1.m4a") and not any(row["by_user"] for row in said["takes"])


def test_another_take_is_played_without_composing_and_a_rerun_leaves_the_choice_alone(
    scored, clip, score, expotion, composer, tmp_path
):
    before, known, (other, third) = digest_file(scored), read_sidecar(scored), others(scored)
    shutil.rmtree(cache_root() / "cues")
    done = expotion("takes", scored, "--choose", other)
    assert done.exit_code == 0 and f"plays take {other} of 3, as you chose" in done.stdout
    assert len(composer.composed) == 3 and digest_file(scored) != before
    said = read_sidecar(scored)
    assert (said["takes"]["chosen"], said["takes"]["chosen_by"]) == (other, "user")
    assert said["output"]["sha256"] == digest_file(scored) and said["artefact"] == known["artefact"]
    same = {"tokens_sha256", "takes", "output", "loudness", "measured", "stages_s", "versions", "notes"}
    assert {key: value for key, value in said.items() if key not in same} == {
        key: value for key, value in known.items() if key not in same
    }
    last = read_ledger(scored.parent / "ledger.jsonl")[-1]
    assert (last["event"], last["take"], last["by"], last["output"]) == ("chosen", other, "user", "one.mp4")
    assert not (scored.parent / ".expotion").exists(), "the lease is given back"

    again = score(clip, "-o", scored.parent, *KEEP)
    assert "already" in again.stdout and read_sidecar(scored) == said
    refused = score(clip, "-o", scored.parent, *KEEP, "--lufs", -20)
    assert refused.exit_code == 2 and "other settings (loudness.lufs" in refused.stderr
    assert read_sidecar(scored) == said
    # Made anew, the result still plays what the user chose; and every take comes out as the batch would play it.
    assert score(clip, "-o", scored.parent, *KEEP, "--overwrite").exit_code == 0
    assert read_sidecar(scored)["takes"]["chosen_by"] == "user"
    assert digest_file(scored) == said["output"]["sha256"]
    assert expotion("takes", clip, "--out", scored.parent, "--choose", third).exit_code == 0
    assert expotion("takes", scored, "--choose", "best").exit_code == 0
    assert digest_file(scored) == before and read_sidecar(scored)["takes"]["chosen_by"] == "score"


def test_the_take_that_plays_already_becomes_the_users_choice_at_no_cost(scored, expotion, composer):
    (plays,) = (take.number for take in find_takes(scored) if take.chosen)
    before = scored.stat().st_mtime_ns
    composer.asked.clear()
    assert expotion("takes", scored, "--choose", plays).exit_code == 0
    assert scored.stat().st_mtime_ns == before and composer.asked == [], "no model is loaded for that"
    assert read_sidecar(scored)["takes"]["chosen_by"] == "user"


def test_midi_goes_with_the_take(clip, score, expotion, tmp_path):
    assert score(clip, "-o", tmp_path / "out", *KEEP, "--midi").exit_code == 0
    video = tmp_path / "out" / "one.mp4"
    before = video.with_suffix(".mid").read_bytes()
    assert expotion("takes", video, "--choose", others(video)[0]).exit_code == 0
    assert video.with_suffix(".mid").read_bytes() != before
    assert "already" in score(clip, "-o", tmp_path / "out", *KEEP, "--midi").stdout
    video.with_suffix(".mid").write_bytes(b"mine")
    refused = expotion("takes", video, "--choose", others(video)[0])
    assert refused.exit_code == 2 and "one.mid: this result was changed" in refused.stderr


def test_what_can_not_be_chosen_says_why_and_what_to_do(scored, clip, score, expotion, tmp_path):
    def refusal(*arguments, code=2) -> str:
        done = expotion("takes", *arguments)
        assert done.exit_code == code, done.stderr
        return done.stderr

    assert "there is no take 9. Its takes are 1, 2, 3." in refusal(scored, "--choose", 9)
    assert "--choose '0' is no take. Give a number from the list, or best." in refusal(scored, "--choose", 0)
    assert "there is no such file" in refusal(tmp_path / "none.mp4")
    assert "no result in" in refusal(clip, "--out", tmp_path / "clips")
    assert "takes are chosen on this machine" in refusal("s3://bucket/one.mp4")
    assert score(clip, "-o", tmp_path / "bare", "--takes", 3).exit_code == 0
    assert "its takes were not kept" in refusal(tmp_path / "bare" / "one.mp4", "--choose", 2)
    assert "Name one of them." in refusal(clip, "--out", tmp_path, "--choose", 2)
    assert score(clip, "-o", tmp_path / "single", "--takes", 1).exit_code == 0
    assert "has one take only" in refusal(tmp_path / "single" / "one.mp4", code=0)
    assert "this cue has one take only" in refusal(tmp_path / "single" / "one.mp4", "--choose", 2)
    known = read_sidecar(scored)
    write_sidecar(scored, {key: value for key, value in known.items() if key != "takes"})
    assert "an older version of expotion made this result" in refusal(scored, "--choose", 2)
    write_sidecar(scored, known | {"recipe": {"name": "x"}})
    assert "the sidecar is damaged" in refusal(scored, "--choose", others(scored)[0], code=1)
    scored.with_name("one.score.json").write_text("{")
    assert "one.score.json: the sidecar can't be read" in refusal(scored, "--choose", 2, code=1)


def test_a_result_in_other_hands_is_left_alone(scored, clip, expotion, tmp_path):
    (other, _), before = others(scored), digest_file(scored)
    held = Leases(scored.parent)
    assert held.take("one.mp4")
    busy = expotion("takes", scored, "--choose", other)
    assert busy.exit_code == 1 and "is scoring this clip right now. Wait until it is done." in busy.stderr
    held.close()
    with scored.open("ab") as file:
        file.write(b"edited")
    edited = expotion("takes", scored, "--choose", other)
    assert edited.exit_code == 2 and "this result was changed since it was made" in edited.stderr
    assert expotion("takes", scored, "--choose", other, "--overwrite").exit_code == 0
    assert digest_file(scored) != before and find_takes(scored)[other - 1].by_user
    clip.write_bytes(clip.read_bytes() + b"\0")
    changed = expotion("takes", scored, "--choose", others(scored)[0])
    assert changed.exit_code == 1 and "the clip was changed since this result was made" in changed.stderr
    clip.unlink()
    gone = expotion("takes", scored, "--choose", others(scored)[0])
    assert "the clip that this result was made from is not there. Name the clip" in gone.stderr


def test_another_players_takes_are_not_played(scored, expotion, composer, monkeypatch):
    monkeypatch.setattr(type(composer.codec), "digest", "codec-2")
    other = expotion("takes", scored, "--choose", others(scored)[0])
    assert other.exit_code == 2 and "played by another version of expotion" in other.stderr


def test_a_damaged_take_is_found_in_the_cue_store_or_named(scored, expotion):
    other, _ = others(scored)
    kept = scored.with_name("one.takes") / f"take-{other}.safetensors"
    kept.write_bytes(b"\0" * 50)
    assert expotion("takes", scored, "--choose", other).exit_code == 0
    assert expotion("takes", scored, "--choose", "best").exit_code == 0
    shutil.rmtree(cache_root() / "cues")
    damaged = expotion("takes", scored, "--choose", other)
    assert damaged.exit_code == 1 and f"take-{other}.safetensors: the file of this take is damaged" in damaged.stderr
    kept.unlink()
    assert "this take is missing" in expotion("takes", scored, "--choose", other).stderr
    assert read_sidecar(scored)["output"]["sha256"] == digest_file(scored), "nothing was touched"


@pytest.mark.long
def test_kept_takes_are_never_replaced_without_a_word(scored, clip, score):
    sound = scored.with_name("one.takes") / "take-2.m4a"
    sound.write_bytes(b"mine")
    refused = score(clip, "-o", scored.parent, *KEEP)
    assert refused.exit_code == 2 and "take-2.m4a: this take was changed since it was made" in refused.stderr
    assert "already" in score(clip, "-o", scored.parent, "--takes", 3).stdout, "the result itself is whole"
    sound.unlink()
    (scored.with_name("one.takes") / "notes.txt").write_text("mine")
    assert score(clip, "-o", scored.parent, *KEEP).exit_code == 0 and sound.stat().st_size > 1000
    assert score(clip, "-o", scored.parent, "--takes", 2, "--overwrite").exit_code == 0
    left = {path.name for path in scored.with_name("one.takes").iterdir()}
    assert left == {"notes.txt", "take-1.m4a", "take-1.safetensors", "take-2.m4a", "take-2.safetensors"}
    shutil.rmtree(scored.with_name("one.takes"))
    assert "already" in score(clip, "-o", scored.parent, "--takes", 2).stdout, "they may be removed"


def test_a_folder_of_someone_elses_is_refused_and_what_a_killed_run_left_is_not(clip, score, tmp_path, monkeypatch):
    folder = tmp_path / "out" / "one.takes"
    folder.mkdir(parents=True)
    (folder / "take-1.m4a").write_bytes(b"mine")
    refused = score(clip, "-o", tmp_path / "out", *KEEP)
    assert refused.exit_code == 2 and "take-1.m4a: this file was not made by expotion" in refused.stderr
    assert score(clip, "-o", tmp_path / "other", *KEEP).exit_code == 0
    (tmp_path / "other" / "one.score.json").unlink()  # as if killed just before it was written
    (tmp_path / "other" / "one.takes" / ".take-1.abcdefgh.partial.m4a").write_bytes(b"half")
    assert score(clip, "-o", tmp_path / "other", *KEEP).exit_code == 0
    assert len(list((tmp_path / "other" / "one.takes").iterdir())) == 6


def test_a_choice_that_is_killed_halfway_leaves_a_result_that_a_rerun_mends(scored, clip, score, expotion, monkeypatch):
    from expotion_cli.scoring.takes import choose

    before = digest_file(scored)
    real = choose.sidecars.write_sidecar

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(choose.sidecars, "write_sidecar", killed)
    assert expotion("takes", scored, "--choose", others(scored)[0]).exit_code == 130
    monkeypatch.setattr(choose.sidecars, "write_sidecar", real)
    assert digest_file(scored) != before
    assert score(clip, "-o", scored.parent, *KEEP).exit_code == 0
    assert digest_file(scored) == before and len(find_takes(scored)) == 3


def test_a_choice_that_can_not_be_composed_any_more_makes_way_with_a_word(scored, clip, score, expotion):
    other = max(others(scored))
    assert expotion("takes", scored, "--choose", other).exit_code == 0
    fewer = score(clip, "-o", scored.parent, "--takes", 2, "--keep-takes", "--overwrite", "--seed", 5)
    assert fewer.exit_code == 0 and "the take that you chose is no longer composed" in fewer.stderr
    assert read_sidecar(scored)["takes"]["chosen_by"] == "score"


@pytest.mark.long
def test_a_redo_builds_on_the_take_that_plays_and_keeps_the_others(expotion, monkeypatch, make_video, tmp_path):
    fake = FakeNoteComposer()
    monkeypatch.setitem(sys.modules, "expotion_cli.music.load", SimpleNamespace(load_model=lambda name, **_: fake))
    clip = make_video(tmp_path / "a.mp4", duration_s=8.0, sound=False, size="32x32")
    video = tmp_path / "out" / "a.mp4"

    def score(*more):
        return expotion("score", clip, "-o", video.parent, "--streams", "none", "--tempo", 120, *KEEP, *more)

    assert score().exit_code == 0
    other = others(video)[0]
    assert expotion("takes", video, "--choose", other).exit_code == 0
    composed, takes = len(fake.composed), read_sidecar(video)["takes"]
    done = score("--redo", "2.5-3.9")
    assert done.exit_code == 0 and len(fake.composed) == composed + 1, done.stderr
    assert read_sidecar(video)["takes"] == takes and all(take.sound for take in find_takes(video))
    given, kept = fake.requests[-1].constraints.given, video.with_name("a.takes") / f"take-{other}.safetensors"
    played = read_cue(kept).tokens
    assert np.array_equal(given[given >= 0], played[given >= 0]) and (given[:, 96:] == played[:, 96:]).all()
    assert score().stdout.count("already there") >= 1
    refused = expotion("takes", video, "--choose", others(video)[0])
    assert refused.exit_code == 2 and f"bars of take {other} were composed anew" in refused.stderr
    assert score("--overwrite").exit_code == 0 and "redone" not in read_sidecar(video)
    assert read_sidecar(video)["takes"]["chosen_by"] == "user"
