"""Trouble around a batch: caches that can't be written, consoles that are gone, errors that nobody foresaw."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_composer import FakeComposer

from expotion_cli.cli.say import shown
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch
from expotion_cli.scoring.account import Account, Listener
from expotion_cli.scoring.ledger import Ledger
from expotion_cli.scoring.plan import Settings, plan

BLIND = {"streams.use": ()}
PREPARE = "import sys; from expotion_cli.cli import main, score_main; "


def program(code: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", PREPARE + code, *map(str, arguments)], timeout=120, **options)


@pytest.mark.parametrize("streams", [(), ("flow",)])
def test_a_cache_that_can_not_be_written_is_told_once_and_costs_no_clip(tmp_path, make_video, monkeypatch, streams):
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / "in" / name, duration_s=0.4, sound=False, hue=ord(name[0]))
    (tmp_path / "cache").write_text("a file stands where the folder should be")
    monkeypatch.setenv("EXPOTION_CACHE", str(tmp_path / "cache"))
    notes: list[str] = []

    class Heard(Listener):
        def note(self, text):
            notes.append(text)

    recipe = load_recipe("cinematic", {"streams.use": streams})
    planned = plan([tmp_path / "in"], recipe, Settings(out=tmp_path / "out"))
    assert batch.run(planned, FakeComposer, listener=Heard()).count("scored") == 2
    told = [note for note in notes if "EXPOTION_CACHE" in note]
    assert len(told) == 1 and str(tmp_path / "cache") in told[0]


def test_an_error_that_nobody_foresaw_leaves_a_log_and_no_traceback(tmp_path):
    code = "import expotion_cli.recipe as r; r.load_recipe = lambda *_: 1 / 0; score_main()"
    environment = {**os.environ, "EXPOTION_CACHE": str(tmp_path)}
    done = program(code, "x.mp4", capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    log = Path(re.search(r"in (\S+\.log)\.", done.stderr)[1])
    assert log.parent == tmp_path / "logs" and "ZeroDivisionError" in log.read_text() and "x.mp4" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_an_interruption_while_libraries_load_ends_with_130_and_one_line(tmp_path):
    stop = "\ndef stop(*_, **__): raise KeyboardInterrupt\n"
    late = f"import expotion_cli.scoring.plan as p{stop}p.plan = stop\nscore_main()"
    finder = "sys.meta_path.insert(0, type('F', (), {'find_spec': stop})())"
    early = f"import expotion_cli.cli.say{stop}{finder}\nscore_main()"
    for code in (late, early):
        done = program(code, tmp_path, capture_output=True, text=True)
        assert done.returncode == 130, done.stderr
        assert done.stderr.startswith("interrupted: ") and len(done.stderr.splitlines()) == 1


def test_an_interruption_that_python_drops_or_renames_is_one_all_the_same(tmp_path):
    told = """
import os, signal, time
import expotion_cli.scoring.plan as p
class Doomed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
def dropped(*_, **__):
    Doomed()
    time.sleep(60)
def renamed(*_, **__):
    raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()
p.plan = """
    for how in ("dropped", "renamed"):
        done = program(f"{told}{how}\nscore_main()", tmp_path, capture_output=True, text=True)
        assert done.returncode == 130, done.stderr
        assert done.stderr == "interrupted: stopped. Run the same command again to go on.\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_after_all_is_told_changes_nothing(name):
    told = f"""
import atexit, os, signal
from expotion_cli.cli.console import run_guarded
def send(kill=os.kill, pid=os.getpid(), number=signal.{name}):
    kill(pid, number)
class Module:
    __del__ = lambda self, send=send: send()
sys.taken_apart_at_last = Module()
def command():
    atexit.register(send)
    raise SystemExit(3)
run_guarded(command, print)
"""
    done = program(told, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.long
def test_a_console_that_is_full_closed_or_gone_changes_no_exit_code(tmp_path):
    with open("/dev/full", "w") as full:
        done = program("main()", "recipes", stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0 and done.stderr.count("\n") == 1 and "No space left" in done.stderr
        done = program("main()", "recipes", "--json", stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "JSON summary is lost" in done.stderr and "Traceback" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = program("main()", "recipes", stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    command = [sys.executable, "-c", PREPARE + "score_main()", str(tmp_path / "none.mp4"), "--streams", "none"]
    closed = subprocess.run(["sh", "-c", '"$@" 2>&-', "sh", *command], capture_output=True, text=True, timeout=120)
    assert closed.returncode == 3 and "none.mp4" not in closed.stdout, "no message lands in another stream"


def test_names_are_shown_on_one_line_and_never_steer_a_terminal():
    assert shown("a\x1b[31mred\nline\u202e.mp4") == "a\\x1b[31mred\\nline\\u202e.mp4"
    assert shown(os.fsdecode(b"caf\xe9 \xc3\xa9.mp4")) == "caf\\xe9 é.mp4"
    assert shown("😀 ñ.mp4") == "😀 ñ.mp4"


@pytest.mark.long
def test_clips_that_failed_before_come_last_and_sound_the_same(tmp_path, make_video, monkeypatch):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make_video(tmp_path / "in" / name, duration_s=0.4, sound=False, hue=ord(name[0]))
    (tmp_path / "out").mkdir()
    ledger = Ledger(tmp_path / "out" / "ledger.jsonl")
    for clip, outcome in (("b.mp4", "failed"), ("a.mp4", "failed"), ("b.mp4", "scored"), ("b.mp4", "failed")):
        ledger.write(outcome, clip=clip, outcome=outcome)
    order, results = [], {}
    for out in ("out", "fresh"):
        settings = Settings(out=tmp_path / out, batch_size=1, prompts={f"{name}.mp4": name for name in "abc"})
        planned = plan([tmp_path / "in"], load_recipe("cinematic", BLIND), settings)
        monkeypatch.setenv("EXPOTION_CACHE", str(tmp_path / out / "cache"))
        order.append([job.name for job in Account(planned, Listener()).pending()])
        assert batch.run(planned, FakeComposer).exit_code == 0
        results[out] = [(tmp_path / out / name).read_bytes() for name in ("a.mp4", "b.mp4", "c.mp4")]
    assert order == [["c.mp4", "a.mp4", "b.mp4"], ["a.mp4", "b.mp4", "c.mp4"]]
    assert results["out"] == results["fresh"]
