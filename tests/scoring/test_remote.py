"""Clips and results on remote storage: copied once, delivered whole, and never more on this machine than a group."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fsspec
import pytest
from fake_composer import FakeComposer
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from expotion_cli import storage
from expotion_cli.errors import MissingLibraryError, UsageError
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch, remote
from expotion_cli.scoring.api import score_folder
from expotion_cli.scoring.extras import Extras
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.urls import mirror

BLIND = {"streams.use": ()}
ALL = {"a.mp4", "b.mov", "sub/c.mp4"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_video) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(sorted(ALL)):
        make_video(folder / name, duration_s=0.4 + 0.2 * number, hue=60 * number, sound=False)
    return folder


@pytest.fixture
def store(clips):
    """A store in memory, with the clips below `memory://in`."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    for name in ALL:
        fs.pipe_file(f"/in/{name}", (clips / name).read_bytes())
    yield fs
    fs.store.clear()


@pytest.fixture
def moved(monkeypatch):
    """Names of files that were copied ("get") and uploaded ("put"); what `fails` holds can't be."""
    found = {"get": [], "put": [], "fails": set()}
    get, put = MemoryFileSystem.get_file, MemoryFileSystem.put_file

    def get_file(self, path, copy, **options):
        found["get"].append(path)
        if path in found["fails"]:
            raise OSError("the line is dead")
        return get(self, path, copy, **options)

    def put_file(self, path, to, **options):
        found["put"].append(to)
        if to in found["fails"]:
            raise PermissionError("not yours")
        return put(self, path, to, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file, raising=False)
    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file, raising=False)
    return found


def score(inputs="memory://in", out="memory://out", composer=None, **settings):
    """{clip: (status, error)} of a run."""
    composer = composer or FakeComposer()
    given = [inputs] if isinstance(inputs, str) else inputs
    files = remote.RemoteFiles(given, out, Settings(out=mirror(out), **settings))
    found = {}
    for planned in files.plans(load_recipe("cinematic", BLIND)):
        summary = batch.run(planned, lambda: composer)
        found |= {result.name: (result.status, result.error and str(result.error)) for result in summary.results}
    return found


def copies(cache: Path) -> list[Path]:
    """Clips and results that lie in the spool."""
    spool = (cache / "spool").rglob("*")
    return [path for path in spool if path.is_file() and path.name != remote.LEDGER]


@pytest.mark.long
def test_a_remote_folder_is_scored_as_a_local_one_and_nothing_stays_behind(store, clips, tmp_path, own_cache, moved):
    assert score(midi=True) == dict.fromkeys(ALL, ("scored", None))
    batch.run(plan([clips], load_recipe("cinematic", BLIND), Settings(out=tmp_path, midi=True)), FakeComposer)
    wanted = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.removeprefix("/out/") for path in store.find("/out")} == set(wanted) and len(wanted) == 10
    for name, path in wanted.items():
        if not name.endswith((".json", ".jsonl")):
            assert store.cat_file(f"/out/{name}") == path.read_bytes(), name
    said, local = (
        json.loads(text) for text in (store.cat_file("/out/b.score.json"), wanted["b.score.json"].read_text())
    )
    assert said["clip"] == local["clip"] and said["artefact"] == local["artefact"]
    assert copies(own_cache) == []
    for stem in ("a", "b", "sub/c"):
        uploads = [to for to in moved["put"] if to.startswith(f"/out/{stem}.")]
        assert len(uploads) == 3 and uploads[-1].endswith(".score.json"), "the sidecar comes last"
    assert b'"scored"' in store.cat_file("/out/ledger.jsonl")


def test_sound_files_are_uploaded_before_the_sidecar_and_go_with_their_result(store, moved, own_cache):
    extras = Extras("flac")
    assert score("memory://in/a.mp4", extras=extras) == {"a.mp4": ("scored", None)}
    assert store.exists("/out/a.music.flac") and moved["put"][-2].endswith("a.score.json")
    assert not list(own_cache.rglob("*.flac"))
    assert score("memory://in/a.mp4", extras=extras) == {"a.mp4": ("already", None)}
    score("memory://in/a.mp4", overwrite=True)
    assert store.exists("/out/a.mp4") and not store.exists("/out/a.music.flac")
    store.pipe_file("/out/a.music.flac", b"mine")
    ((status, error),) = score("memory://in/a.mp4", extras=extras).values()
    assert status == "refused" and "was not made by expotion" in str(error)


@pytest.mark.long
def test_a_rerun_copies_no_clip_and_uploads_no_result(store, moved):
    score()
    moved["get"].clear()
    moved["put"].clear()
    composer = FakeComposer()
    assert score(composer=composer) == dict.fromkeys(ALL, ("already", None))
    assert moved["get"] == composer.composed == [] and set(moved["put"]) == {"/out/ledger.jsonl"}
    store.pipe_file("/in/a.mp4", store.cat_file("/in/sub/c.mp4"))
    assert score(overwrite=True, inputs="memory://in/a.mp4")["a.mp4"] == ("scored", None)
    assert moved["get"] == ["/in/a.mp4"], "a clip of another size or time is another"


@pytest.mark.long
def test_a_result_of_which_a_part_is_missing_is_made_again(store):
    score()
    whole = {name: store.cat_file(name) for name in store.find("/out") if name.endswith((".mp4", ".mov"))}
    store.rm_file("/out/a.mp4")
    store.rm_file("/out/b.score.json")
    found = score()
    assert {name: status for name, (status, _) in found.items()} == {
        "a.mp4": "scored", "b.mov": "scored", "sub/c.mp4": "already"
    }  # fmt: skip
    assert {name: store.cat_file(name) for name in whole} == whole


@pytest.mark.long
def test_what_others_made_is_not_replaced(store, moved):
    store.pipe_file("/out/a.mp4", b"a film of mine")
    status, error = score()["a.mp4"]
    assert status == "refused" and error.startswith("memory://out/a.mp4: this file was not made by expotion")
    assert store.cat_file("/out/a.mp4") == b"a film of mine" and "/out/a.mp4" not in moved["put"]
    assert score(overwrite=True)["a.mp4"] == ("scored", None)
    assert store.cat_file("/out/a.mp4") != b"a film of mine"


@pytest.mark.long
@pytest.mark.parametrize("where", ["/in/b.mov", "/out/b.mov", "/out/b.score.json"])
def test_a_copy_or_an_upload_that_fails_costs_that_clip_until_the_next_run(store, moved, own_cache, where):
    moved["fails"] = {where}
    found = score()
    failed = [(name, error) for name, (status, error) in found.items() if status == "failed"]
    assert len(found) == 3 and len(failed) == 1
    ((name, error),) = failed
    url, verb = ("memory://in/b.mov", "copied") if where.startswith("/in") else ("memory://out/b.mov", "uploaded")
    assert name == (url if verb == "copied" else "b.mov") and error.startswith(f"{url}: it can't be {verb} (")
    assert "run the same command again" in error and not store.exists("/out/b.score.json")
    assert copies(own_cache) == []
    moved["fails"] = set()
    again = {name: status for name, (status, _) in score().items()}
    assert again == {"a.mp4": "already", "b.mov": "scored", "sub/c.mp4": "already"}


def test_a_copy_that_came_short_is_no_clip(store, monkeypatch):
    monkeypatch.setattr(
        MemoryFileSystem, "get_file", lambda self, path, copy, **_: Path(copy).write_bytes(b"half"), raising=False
    )
    (error,) = {error for _, error in score("memory://in/a.mp4").values()}
    assert "memory://in/a.mp4: it can't be copied (4 of " in error


def test_the_spool_never_holds_more_than_a_group(store, monkeypatch, own_cache, moved):
    monkeypatch.setattr(remote, "GROUP_CLIPS", 1)
    held = []
    get = MemoryFileSystem.get_file

    def get_file(self, path, copy, **options):
        held.append([each for each in copies(own_cache) if ".partial" not in each.suffixes])
        return get(self, path, copy, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file, raising=False)
    assert score() == dict.fromkeys(ALL, ("scored", None))
    assert held == [[], [], []]
    monkeypatch.setattr(remote, "GROUP_CLIPS", 32)
    monkeypatch.setattr(remote, "GROUP_BYTES", store.size("/in/a.mp4") + 1)
    files = remote.RemoteFiles(["memory://in"], "memory://new", Settings(out=mirror("memory://new")))
    assert [len(planned.jobs) for planned in files.plans(load_recipe("cinematic", BLIND), is_dry=True)] == [1, 1, 1]
    assert not store.exists("/new"), "a dry run writes nothing"


@pytest.mark.long
def test_a_copy_that_a_stopped_run_left_is_taken_up(store, moved):
    recipe = load_recipe("cinematic", BLIND)
    next(remote.RemoteFiles(["memory://in"], "memory://out", Settings(out=mirror("memory://out"))).plans(recipe))
    assert len(moved["get"]) == 3
    assert score() == dict.fromkeys(ALL, ("scored", None)) and len(moved["get"]) == 3


def test_names_that_are_none_are_refused_and_others_are_found(store, clips):
    content = (clips / "a.mp4").read_bytes()
    long = "n" * 300 + ".mp4"
    for name in ("in/../../up.mp4", "in/bell\x07.mp4", f"in/{long}", "in/.hidden/x.mp4", "in/notes.txt", "in/ü 1.mp4"):
        store.pipe_file(f"/{name}", content)
    files = remote.RemoteFiles(["memory://in"], "memory://out", Settings(out=mirror("memory://out")))
    (planned,) = files.plans(load_recipe("cinematic", BLIND), is_dry=True)
    assert {job.name for job in planned.jobs} == {*ALL, "ü 1.mp4"}
    said = {str(problem.error) for problem in planned.problems}
    assert len(said) == 3 and all(text.startswith("memory://in/") and text.endswith("Rename it.") for text in said)
    for wanted in ("leads out of the folder", "control characters", "too long"):
        assert any(wanted in text for text in said), wanted
    assert all(job.clip.path.is_relative_to(storage.cache_root()) for job in planned.jobs)


def test_globs_lists_and_places_that_are_not_there(store, clips):
    def names(*inputs, recursive=True):
        files = remote.RemoteFiles(inputs, "memory://out", Settings(out=mirror("memory://out"), recursive=recursive))
        plans = list(files.plans(load_recipe("cinematic", BLIND), is_dry=True))
        problems = [str(each.error) for planned in plans for each in planned.problems]
        return {job.name for planned in plans for job in planned.jobs}, problems

    assert names("memory://in/*.mp4") == ({"a.mp4"}, [])
    assert names("memory://in/", recursive=False) == ({"a.mp4", "b.mov"}, [])
    assert names("memory://in/sub", str(clips / "b.mov"), f"file://{clips / 'a.mp4'}") == (
        {"c.mp4", "b.mov", "a.mp4"},
        [],
    )
    found, problems = names("memory://nowhere", "memory://in/*.webm")
    assert not found and "memory://nowhere: there is no such file" in problems[0] and "nothing matches" in problems[1]
    found, (problem,) = names("memory://in/a.mp4", str(clips / "a.mp4"))
    assert found == {"a.mp4"} and "would have the name of that of" in problem
    with pytest.raises(UsageError, match="the output folder is also an input"):
        remote.RemoteFiles(["memory://out/"], "memory://out", Settings(out=mirror("memory://out")))


def test_results_inside_the_input_are_no_clips(store):
    assert score(out="memory://in/scored") == dict.fromkeys(ALL, ("scored", None))
    assert score(out="memory://in/scored") == dict.fromkeys(ALL, ("already", None))


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_copied(store, moved):
    moved["fails"] = {"/out/ledger.jsonl"}
    with pytest.raises(UsageError, match="memory://out: the output folder can't be written"):
        score()
    assert moved["get"] == []


def test_the_ledgers_of_two_machines_are_joined(store, monkeypatch, tmp_path):
    for machine in ("one", "two", "one"):
        monkeypatch.setenv("EXPOTION_CACHE", str(tmp_path / machine))
        score(["memory://in/a.mp4", "memory://in/b.mov"] if machine == "two" else ["memory://in/a.mp4"])
    lines = store.cat_file("/out/ledger.jsonl").splitlines()
    events = [(event["event"], event["clip"]) for event in map(json.loads, lines) if event["event"] != "stage"]
    assert sorted(events) == [("begin", "a.mp4"), ("begin", "b.mov"), ("scored", "a.mp4"), ("scored", "b.mov")]


@pytest.mark.parametrize(("protocol", "remedy"), [("s3", "pip install 'expotion[s3]'"), ("gs", "expotion[gcs]")])
def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch, protocol, remedy):
    monkeypatch.setitem(
        known_implementations, protocol, {"class": "not_installed_here.FileSystem", "err": "Install it"}
    )
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    with pytest.raises(MissingLibraryError) as caught:
        remote.RemoteFiles([f"{protocol}://bucket/clips"], "scored", Settings())
    assert remedy in str(caught.value) and f"{protocol}://" in str(caught.value) and caught.value.exit_code == 4


def test_a_protocol_that_nobody_knows_and_a_password(monkeypatch):
    with pytest.raises(UsageError) as caught:
        remote.RemoteFiles(["nosuch://me:secret@host/clips"], "scored", Settings())
    assert "nosuch://me:***@host/clips: it can't be opened" in str(caught.value)


def test_from_python_a_model_is_loaded_once_for_all_groups(store, monkeypatch):
    monkeypatch.setattr(remote, "GROUP_CLIPS", 2)
    loaded = []
    recipe = load_recipe("cinematic", BLIND)
    summary = score_folder(
        "memory://in", "memory://out", model=lambda: loaded.append(FakeComposer()) or loaded[-1], recipe=recipe
    )
    assert (summary.exit_code, summary.count("scored"), len(loaded)) == (0, 3, 1)
    assert store.exists("/out/sub/c.score.json")
