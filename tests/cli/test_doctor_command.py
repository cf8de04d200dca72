"""`expotion doctor`: whatever is missing is said with its remedy, and never with a traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

from expotion_cli.media import ffmpeg
from expotion_cli.scoring import health
from expotion_cli.vision import landmarks, libraries
from expotion_cli.weights import manifest


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """No test reads the user's own recipes; and of a machine with any GPU the processor is looked at."""
    monkeypatch.setenv("EXPOTION_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    remembered = (ffmpeg.ffmpeg_exe, landmarks.missing_reason)
    for each in remembered:
        each.cache_clear()
    yield
    for each in remembered:
        each.cache_clear()


@pytest.fixture
def doctor(expotion):
    """Runs it with --json; the result has `code` and, by name, the checks that found something to mend."""

    def run(*arguments):
        done = expotion("doctor", "--json", "--device", "cpu", *arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        record = json.loads(done.stdout)
        assert done.exit_code == record["exit_code"] and "Traceback" not in done.output
        wrong = {}
        for check in record["checks"]:
            assert check["state"] in health.STATES and check["said"]
            if check["state"] == health.WRONG:
                assert check["remedy"], "each says how to mend it"
                wrong[check["name"]] = f"{check['said']} | {check['remedy']}"
        return done.exit_code, wrong

    return run


def test_a_machine_that_has_all_is_fine_and_nothing_is_made(expotion, tmp_path):
    done = expotion("doctor", "--device", "cpu")
    needed = ("python", "libraries", "device", "ffmpeg", "system libraries", "models", "streams", "soundfont",
              "recipes", "cache", "output")  # fmt: skip
    if libraries.missing_libraries():
        pytest.skip("this machine lacks system libraries")
    assert done.exit_code == 0 and done.stdout.rstrip().endswith("Nothing to mend.")
    assert [name for name in needed if f"✓ {name}: " not in done.stdout] == []
    assert "– models: not fetched: " in done.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["torch", "symusic", "mediapipe", "imageio_ffmpeg"])
def test_a_library_that_is_missing_is_named(doctor, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(landmarks.importlib.util, "find_spec", lambda name: None if name == library else True)
    code, wrong = doctor()
    assert code == 1 and any(library in said for said in wrong.values())


def test_a_machine_without_ffmpeg_is_told_what_to_install(doctor, monkeypatch):
    import imageio_ffmpeg

    def none():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    code, wrong = doctor()
    assert code == 1 and "IMAGEIO_FFMPEG_EXE" in wrong["ffmpeg"]


def test_an_ffmpeg_that_does_not_run_or_lacks_encoders_is_named(doctor, monkeypatch, tmp_path):
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "ffmpeg_exe", lambda: str(broken))
    assert "can't be run" in doctor()[1]["ffmpeg"]
    broken.write_text("#!/bin/sh\necho 'ffmpeg version 7.1 x'\necho ' A..... aac AAC'\n")
    assert "no encoder flac" in doctor()[1]["ffmpeg"]


def test_missing_system_libraries_are_named_with_their_packages(doctor, monkeypatch):
    for module in (libraries, landmarks):
        monkeypatch.setattr(module, "missing_libraries", lambda: {"libGL.so.1": "libgl1"})
    code, wrong = doctor()
    assert (
        code == 1
        and "libGL.so.1" in wrong["system libraries"]
        and "apt-get install libgl1" in wrong["system libraries"]
    )
    assert "libgl1" in wrong["streams"]


def test_damaged_and_missing_weights_are_named(doctor, monkeypatch, tmp_path):
    shipped = shutil.copytree(manifest.shipped_folder("models"), tmp_path / "models")
    monkeypatch.setattr(manifest, "shipped_folder", lambda name: shipped)
    (shipped / "expotion-mini" / "config.json").write_text("{}")
    next(shipped.glob("fluidr3mono/*.sf3")).unlink()
    code, wrong = doctor()
    assert code == 1 and "install" in wrong["models"].lower()
    assert "damaged" in wrong["models"] or "missing" in wrong["models"]


def test_a_recipe_of_ones_own_that_cannot_be_read_is_named(doctor, tmp_path):
    (tmp_path / "config" / "recipes").mkdir(parents=True)
    (tmp_path / "config" / "recipes" / "mine.toml").write_text("promt = 'x'")
    code, wrong = doctor()
    assert code == 1 and "mine.toml" in wrong["recipes"] and "did you mean 'prompt'" in wrong["recipes"]


def test_folders_that_cannot_be_written_are_named(doctor, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EXPOTION_CACHE", str(tmp_path / "file" / "cache"))
    code, wrong = doctor("--out", tmp_path / "file" / "out")
    assert code == 1 and "EXPOTION_CACHE" in wrong["cache"] and "--out" in wrong["output"]


def test_a_full_disk_is_named(doctor, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(health.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5, 5))
    code, wrong = doctor()
    assert code == 1 and "0.0 GB free" in wrong["output"] and "Free some space" in wrong["cache"]


def test_a_device_that_is_not_there_is_named(doctor):
    code, wrong = doctor("--device", "cuda:77")
    assert code == 1 and "GPU" in wrong["device"] and "--device cpu" in wrong["device"]


def test_optional_parts_are_no_fault(doctor, monkeypatch):
    monkeypatch.setitem(health.EXTRAS, "s3", "no_such_library")
    assert "extras" not in doctor()[1]


def test_it_runs_where_libraries_of_the_other_commands_are_missing(repository):
    code = (
        "import sys\nfor name in ('numpy', 'torch', 'av', 'scipy'): sys.modules[name] = None\n"
        "sys.argv = ['expotion', 'doctor']\nfrom expotion_cli.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "✗ libraries: numpy: not installed" in done.stdout and "to mend." in done.stdout
