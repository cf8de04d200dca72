"""`expotion watch`: what counts as arrived, what is left alone, restarts, two at once, odd folders, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from expotion_cli.errors import UsageError
from expotion_cli.scoring.watching import Arrivals, Watching, check_places


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video) -> Path:
    return make_video(tmp_path_factory.mktemp("made") / "one.mp4", duration_s=0.4, sound=False)


@pytest.fixture
def inbox(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def watch(expotion, composer, inbox, tmp_path):
    """Runs `expotion watch in --once`, out in `out`."""

    def run(*flags):
        return expotion("watch", inbox, "--once", "--settle", 0, "--streams", "none", "--out", tmp_path / "out", *flags)

    return run


def events(out: Path) -> list[tuple[str, str]]:
    lines = map(json.loads, (out / "ledger.jsonl").read_text().splitlines())
    return [(line["event"], line["clip"]) for line in lines if line["event"] in ("scored", "failed", "left")]


def arrivals(folder: Path, out: Path, settle_s: float = 0.0, **more) -> tuple[Arrivals, list[str]]:
    notes: list[str] = []
    return Arrivals(Watching(folder, settle_s, **more), out, True, "settings", notes.append), notes


def names(found) -> list[str]:
    return [source.relative.as_posix() for source in found.sources] if found is not None else []


def test_what_is_there_is_scored_once_and_then_left(watch, clip, inbox, composer, tmp_path):
    shutil.copy(clip, inbox)
    done = watch()
    assert done.exit_code == 0 and (tmp_path / "out" / "one.mp4").is_file(), done.output
    assert "scored   one.mp4" in done.output and "1 scored" in done.output
    asked = len(composer.composed)
    again = watch()
    assert again.exit_code == 0 and "1 already there" in again.output and len(composer.composed) == asked
    shutil.copy(clip, inbox / "late.mp4")
    assert "scored   late.mp4" in watch().output, "what came while nobody watched"


def test_an_empty_folder_is_no_failure(watch):
    done = watch()
    assert done.exit_code == 0 and "nothing to score" in done.output
    done = watch("--json")
    assert json.loads(done.stdout)["counts"] == {"scored": 0, "already": 0, "refused": 0, "failed": 0}


def test_a_clip_that_fails_is_left_alone_until_it_changes(watch, clip, inbox, tmp_path):
    (inbox / "bad.mp4").write_bytes(b"no video at all")
    shutil.copy(clip, inbox)
    done = watch()
    assert done.exit_code == 1 and "bad.mp4" in done.output
    done = watch()
    assert done.exit_code == 0 and "failed before; left alone until it changes" in done.output
    assert events(tmp_path / "out").count(("failed", "bad.mp4")) <= 1
    shutil.copy(clip, inbox / "bad.mp4")
    done = watch()
    assert done.exit_code == 0 and "scored   bad.mp4" in done.output
    assert "left alone" not in watch().output


def test_it_is_tried_again_with_other_settings(watch, inbox):
    (inbox / "bad.mp4").write_bytes(b"no video at all")
    assert watch().exit_code == 3
    assert "left alone" in watch().output
    assert watch("--recipe", "jazz").exit_code == 3


def test_a_file_that_is_still_being_copied_is_not_touched(inbox, tmp_path, clip):
    seen, _ = arrivals(inbox, tmp_path / "out", settle_s=0.3)
    growing = inbox / "grows.mp4"
    content = clip.read_bytes()
    for share in (4, 3, 2, 1):
        growing.write_bytes(content[: len(content) // share])
        assert seen.look() is None and seen.growing == (growing,)
        time.sleep(0.1)
    time.sleep(0.35)
    assert names(seen.look()) == ["grows.mp4"] and seen.growing == ()


def test_a_file_with_an_old_date_that_only_just_came_must_settle_too(inbox, tmp_path, clip):
    shutil.copy(clip, inbox)
    os.utime(inbox / "one.mp4", (1e9, 1e9))
    seen, _ = arrivals(inbox, tmp_path / "out", settle_s=60)
    assert seen.look() is None, "its entry in the folder is new"
    os.utime(inbox / "one.mp4", (4e9, 4e9))
    assert seen.look() is None, "a clock that is ahead proves nothing"


def test_once_names_what_still_grows(inbox, tmp_path, clip):
    seen, notes = arrivals(inbox, tmp_path / "out", settle_s=0.4, once=True)
    shutil.copy(clip, inbox)
    stop = threading.Event()

    def grow():
        while not stop.wait(0.05):
            with open(inbox / "grows.mp4", "ab") as file:
                file.write(b"more")

    (inbox / "grows.mp4").write_bytes(b"some")
    thread = threading.Thread(target=grow)
    thread.start()
    try:
        assert [names(found) for found in seen.batches()] == [["one.mp4"]]
    finally:
        stop.set()
        thread.join()
    assert any("still growing" in note and "grows.mp4" in note for note in notes)


def test_a_batch_is_handed_out_once_and_again_when_a_file_changes(inbox, tmp_path, clip):
    seen, _ = arrivals(inbox, tmp_path / "out")
    shutil.copy(clip, inbox)
    assert names(seen.look()) == ["one.mp4"]
    seen.settle([])
    assert seen.look() is None
    with open(inbox / "one.mp4", "ab") as file:
        file.write(b"x")
    assert names(seen.look()) == ["one.mp4"]


def test_hidden_files_links_and_results_inside_are_passed_over(inbox, tmp_path, clip):
    shutil.copy(clip, inbox / ".one.mp4.part")
    (inbox / "out").mkdir()
    shutil.copy(clip, inbox / "out" / "scored.mp4")
    (inbox / "text.txt").write_text("hello")
    (inbox / "gone.mp4").symlink_to(tmp_path / "nowhere")
    seen, notes = arrivals(inbox, inbox / "out")
    assert seen.look() is None and seen.look() is None
    assert len(notes) == 1 and "leads nowhere" in notes[0], "said once"


def test_a_folder_that_vanishes_is_waited_for(inbox, tmp_path, clip):
    seen, notes = arrivals(inbox, tmp_path / "out")
    shutil.rmtree(inbox)
    assert seen.look() is None and seen.look() is None
    inbox.mkdir()
    shutil.copy(clip, inbox)
    assert names(seen.look()) == ["one.mp4"]
    assert [note.split(" is ")[1] for note in notes] == ["gone; waiting for it to come back", "back"]


def test_events_wake_the_watcher_at_once(inbox, tmp_path, clip):
    seen, _ = arrivals(inbox, tmp_path / "out", settle_s=0.1)
    batches = seen.batches()
    timer = threading.Timer(0.5, shutil.copy, (clip, inbox))
    timer.start()
    began = time.monotonic()
    assert names(next(batches)) == ["one.mp4"] and time.monotonic() - began < 20, "long before the next look"
    batches.close()


def test_polling_needs_no_events(inbox, tmp_path, clip, monkeypatch):
    import watchdog.observers

    monkeypatch.setattr(watchdog.observers, "Observer", lambda: pytest.fail("nobody asked for events"))
    seen, _ = arrivals(inbox, tmp_path / "out", poll_s=0.1)
    threading.Timer(0.3, shutil.copy, (clip, inbox)).start()
    assert names(next(seen.batches())) == ["one.mp4"]


def test_where_events_can_not_be_had_it_looks_from_time_to_time(inbox, tmp_path, clip, monkeypatch):
    from watchdog.observers import Observer

    from expotion_cli.scoring import watching

    def fails(self):
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(Observer, "start", fails)
    monkeypatch.setattr(watching, "LOOK_WITHOUT_EVENTS_S", 0.1)
    seen, notes = arrivals(inbox, tmp_path / "out")
    threading.Timer(0.3, shutil.copy, (clip, inbox)).start()
    assert names(next(seen.batches())) == ["one.mp4"] and any("inotify watch limit" in note for note in notes)


def test_folders_inside_each_other(expotion, inbox, tmp_path):
    with pytest.raises(UsageError, match="also the watched one"):
        check_places(inbox, inbox)
    with pytest.raises(UsageError, match="taken for new clips"):
        check_places(inbox, tmp_path)
    check_places(inbox, inbox / "out")
    with pytest.raises(UsageError, match="no such folder"):
        check_places(tmp_path / "none", tmp_path / "out")
    assert expotion("watch", inbox, "--once", "--out", tmp_path).exit_code == 2
    assert expotion("watch", tmp_path / "none", "--once").exit_code == 2
    assert "this machine" in expotion("watch", inbox, "--once", "--out", "memory://x").output


def test_the_flags_are_those_of_scoring(expotion):
    from typer.main import get_command

    from expotion_cli.cli.app import app

    commands = get_command(app).commands
    flags = {name: {option for param in commands[name].params for option in param.opts} for name in ("score", "watch")}
    of_finished = {"--overwrite", "--redo", "--redo-seed", "--redo-prompt"}
    assert flags["score"] - flags["watch"] == {"clips", "--input-list", "--dry-run", "--version", *of_finished}
    assert flags["watch"] - flags["score"] == {"folder", "--settle", "--poll", "--once"}
    assert "carry" not in " ".join(flags["score"])
    done = expotion("watch", ".", "--recpie", "jazz")
    assert done.exit_code == 2 and "--recipe" in done.output


def test_the_model_is_loaded_once_for_all_batches(composer, clip, inbox, tmp_path, monkeypatch):
    from expotion_cli.cli.watch import watch
    from expotion_cli.errors import Interrupted

    def batches(self):
        for number in range(3):
            shutil.copy(clip, inbox / f"{number}.mp4")
            yield self.look()
        raise KeyboardInterrupt

    monkeypatch.setattr(Arrivals, "batches", batches)
    from typer.main import get_command

    from expotion_cli.cli.app import app

    command = get_command(app).commands["watch"]
    arguments = [str(inbox), "--settle", "0", "--streams", "none", "--out", str(tmp_path / "out"), "-q"]
    values = command.make_context("watch", arguments).params
    with pytest.raises(Interrupted, match="3 scored") as caught:
        watch(**values)
    assert caught.value.exit_code == 130 and "goes on where it stopped" in str(caught.value)
    assert len(composer.asked) == 1
    assert events(tmp_path / "out") == [("scored", f"{number}.mp4") for number in range(3)]


@pytest.mark.slow
def test_two_watchers_share_a_folder_and_say_in_the_end_what_they_did(clip, tmp_path):
    """Real processes, the shipped model: every clip is scored by one of them, and both say what they did."""
    inbox, out = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    code = "from expotion_cli.cli import main; main()"
    flags = ["watch", str(inbox), "--out", str(out), "--settle", "0.5", "--streams", "none", "--poll", "0.5"]
    run = [sys.executable, "-c", code, *flags]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for number in range(4):
            shutil.copy(clip, inbox / f"{number}.mp4")
            time.sleep(1.0)
        waited = time.monotonic() + 240
        while len(list(out.glob("*.score.json"))) < 4 and time.monotonic() < waited:
            time.sleep(0.5)
        time.sleep(3.0)
        for each in both:
            each.terminate()  # a process that was started in the background may ignore SIGINT
        said = [each.communicate(timeout=60) for each in both]
    finally:
        for each in both:
            each.kill()
    assert [each.returncode for each in both] == [130, 130], said
    assert Counter(name for event, name in events(out) if event == "scored") == {f"{n}.mp4": 1 for n in range(4)}
    assert all("stopped watching" in err for _, err in said)
