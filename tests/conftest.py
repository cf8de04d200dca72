"""What every test may use: real clips where they exist, small made clips, and a cache of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Whoever starts the tests in the background may have Ctrl-C ignored, and so would the programs that they interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
# Commands that a test calls in its own process use the libraries that are loaded there (`test_workers.py` and
# `reliability/` use worker processes).
os.environ.setdefault("EXPOTION_WORKERS", "0")
# As in the command itself: threads that spin while they wait would slow down whatever else runs here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side: one core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_clips() -> list[Path]:
    """Videos of real people, sorted; tests that need them are skipped where there are none."""
    folder = Path(os.environ.get("EXPOTION_REAL_CLIPS") or REPOSITORY.parent / "shared" / "clips")
    clips = sorted(folder.glob("*.mp4"))
    if not clips:
        pytest.skip(f"no real clips in {folder} (set EXPOTION_REAL_CLIPS)")
    return clips


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EXPOTION_CACHE", str(root))
    return root


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """Runs the packaged ffmpeg with these arguments."""
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()

    def run(*arguments: object) -> None:
        command = [program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="session")
def make_video(ffmpeg: Callable[..., None]) -> Callable[..., Path]:
    """Makes a small moving test picture, with a tone unless `sound` is false."""

    def make(
        path: Path, *, duration_s: float = 1.0, fps: str = "25", size: str = "96x64", sound: bool = True, hue: int = 0
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = f"testsrc=size={size}:rate={fps}:duration={duration_s},hue=h={hue}"
        tone = ["-f", "lavfi", "-i", f"sine=frequency=330:duration={duration_s}"] if sound else []
        vp9 = path.suffix == ".webm"
        codecs = ["-c:v", "libvpx-vp9" if vp9 else "libx264", "-pix_fmt", "yuv420p", "-g", "12"]
        if sound:
            codecs += ["-c:a", "libopus" if vp9 else "aac"]
        ffmpeg("-f", "lavfi", "-i", picture, *tone, *codecs, "-threads", "1", path)
        return path

    return make


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, for pages."""
    from browsing import start_chromium

    made = start_chromium()
    yield made
    made.quit()
