import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.assets import shipped_folder
from expotion_cli.errors import DecodeError, MissingLibraryError, WeightsError
from expotion_cli.media.frames import Frame
from expotion_cli.vision import landmarks, libraries, streams

PICTURE = Frame(0.0, np.zeros((48, 64, 3), np.uint8))


@pytest.fixture
def without_libgl(monkeypatch):
    load = libraries.ctypes.CDLL

    def refuse(name, *args, **kwargs):
        if name == "libGL.so.1":
            raise OSError("cannot open shared object file")
        return load(name, *args, **kwargs)

    landmarks.missing_reason.cache_clear()
    libraries.missing_libraries.cache_clear()
    monkeypatch.setattr(libraries.ctypes, "CDLL", refuse)
    monkeypatch.setattr(landmarks.sys, "platform", "linux")
    yield
    landmarks.missing_reason.cache_clear()
    libraries.missing_libraries.cache_clear()


def test_a_missing_system_library_is_named_with_the_package_that_has_it(without_libgl):
    reasons = streams.available_encoders()
    assert reasons["flow"] is None
    assert reasons["face"] == reasons["pose"]
    assert "libGL.so.1" in reasons["face"] and "apt-get install" in reasons["face"] and "libgl1" in reasons["face"]


def test_what_is_left_still_runs_without_the_library(without_libgl, moving_patch):
    clip = moving_patch(160, 120, 0.5)
    assert list(streams.encode_clip(clip, ["flow"])) == ["flow"]
    with pytest.raises(MissingLibraryError, match="libgl1"):
        streams.encode_clip(clip, ["face", "flow"])


def test_damaged_weights_are_noticed_before_they_are_used(tmp_path, monkeypatch):
    shipped = shipped_folder("models")
    (tmp_path / "mediapipe").mkdir()
    manifest = (shipped / "mediapipe-face.toml").read_text()
    (tmp_path / "mediapipe-face.toml").write_text(manifest)
    content = bytearray((shipped / "mediapipe" / "face_landmarker.task").read_bytes())
    content[1000] ^= 1
    (tmp_path / "mediapipe" / "face_landmarker.task").write_bytes(content)
    monkeypatch.setattr("expotion_cli.weights.manifest.shipped_folder", lambda _: tmp_path)
    landmarks.task_file.cache_clear()
    landmarks.weights_digest.cache_clear()
    try:
        with pytest.raises(WeightsError, match="damaged"):
            landmarks.task_file("face")
        (tmp_path / "mediapipe" / "face_landmarker.task").unlink()
        with pytest.raises(WeightsError, match="missing"):
            landmarks.task_file("face")
    finally:
        landmarks.task_file.cache_clear()
        landmarks.weights_digest.cache_clear()


def test_a_worker_that_dies_is_an_error_and_not_a_hang():
    worker = landmarks.LandmarkWorker("face")
    worker.wait_ready()
    worker.begin()
    worker.feed(PICTURE)
    worker._process.kill()
    for _ in range(10):  # more than the queue holds
        worker.feed(PICTURE)
    with pytest.raises(DecodeError, match="stopped in the middle"):
        list(worker.finish())
    assert not worker.reusable


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_worker_is_cut_off_from_the_network():
    worker = landmarks.LandmarkWorker("face")
    environment = Path(f"/proc/{worker._process.pid}/environ").read_bytes().split(b"\0")
    worker.close()
    assert b"https_proxy=http://127.0.0.1:9" in environment and b"no_proxy=" in environment


def test_a_worker_that_cannot_start_says_why(monkeypatch):
    monkeypatch.setattr(landmarks.sys, "executable", _python_that_lacks_mediapipe())
    worker = landmarks.LandmarkWorker("pose")
    with pytest.raises(MissingLibraryError, match="pose landmarker can't start"):
        worker.wait_ready()


def _python_that_lacks_mediapipe() -> str:
    """A program that ends at once, complaining."""
    return "/bin/false" if not sys.platform.startswith("win") else "where.exe"


def test_importing_vision_loads_neither_mediapipe_nor_opencv_nor_torch():
    code = (
        "import sys; import expotion_cli.vision.streams, expotion_cli.demo, expotion_cli.vision.face;"
        "print([m for m in ('mediapipe', 'cv2', 'torch', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
