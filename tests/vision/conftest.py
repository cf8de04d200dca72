"""Small clips with known motion, made on the fly."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from expotion_cli.demo import DEMO_CLIPS, DemoClip, write_demo_clips
from expotion_cli.vision.cache import EmbeddingCache
from expotion_cli.vision.encoder import EmbeddingStream
from expotion_cli.vision.streams import encode_clip

MakeClip = Callable[..., Path]


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [height, width, 3], smooth random patches that optical flow can hold on to."""
    coarse = np.random.default_rng(seed).integers(40, 216, (height // 8 + 1, width // 8 + 1, 1))
    fine = np.kron(coarse, np.ones((8, 8, 3)))[:height, :width]
    soft = (fine + np.roll(fine, 2, 0) + np.roll(fine, 2, 1) + np.roll(fine, (2, 2), (0, 1))) / 4
    return soft.astype(np.uint8)


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """(picture of a time, seconds, fps, name) -> an MP4 whose frames are 320 by 240."""

    def make(picture: Callable[[float], np.ndarray], duration_s: float, fps: int = 25, name: str = "clip.mp4") -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for i in range(round(duration_s * fps)):
                frame = av.VideoFrame.from_ndarray(picture(i / fps), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture
def moving_patch(make_clip: MakeClip) -> Callable[..., Path]:
    """A clip of a patch that goes to and fro, stopping dead on the beat.

    (centre_x, tempo_bpm, duration_s, pan_px_s, fps, name): the patch moves up and down by 30 pixels; `pan_px_s` moves
    everything sideways, as a camera does.
    """

    def make(centre_x: int, tempo_bpm: float, duration_s: float = 3.0, pan_px_s: float = 0, **more) -> Path:
        wall, patch = texture(240, 800, 1), texture(90, 90, 2)

        def picture(time_s: float) -> np.ndarray:
            beat, phase = divmod(time_s * tempo_bpm / 60 + 1e-9, 1)
            way = max(0.0, (phase - 0.3) / 0.7) ** 2
            up = way if beat % 2 == 0 else 1 - way
            left = round(pan_px_s * time_s)
            shown = wall[:, left : left + 320].copy()
            top = round(60 + 30 * up)
            shown[top : top + 90, centre_x - 45 : centre_x + 45] = patch
            return shown

        return make_clip(picture, duration_s, **more)

    return make


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache")


@pytest.fixture(scope="session")
def person_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DemoClip]:
    """The demo's moving and its still clip, 4 and 2 seconds of them."""
    sway, _, still = DEMO_CLIPS
    times = tuple(time for time in sway.accent_times_s if time < 3.9)
    short = (
        dataclasses.replace(sway, duration_s=4.0, accent_times_s=times),
        dataclasses.replace(still, duration_s=2.0, has_sound=False),
    )
    return {clip.name: clip for clip in write_demo_clips(tmp_path_factory.mktemp("people"), short)}


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingCache:
    """What `seen_in` keeps its streams in."""
    return EmbeddingCache(tmp_path_factory.mktemp("seen"))


@pytest.fixture(scope="session")
def seen_in(shared_cache: EmbeddingCache) -> Callable[[Path], dict[str, EmbeddingStream]]:
    """Face, pose and flow of a clip, as they were encoded: each clip is encoded once for all tests."""
    return functools.cache(lambda path: encode_clip(path, ["face", "pose", "flow"], cache=shared_cache))


@pytest.fixture
def real_clip() -> Callable[[str], Path]:
    """A real clip by its name; skips where there are none."""

    def find(name: str) -> Path:
        default = Path(__file__).resolve().parents[3] / "shared" / "clips"
        path = Path(os.environ.get("EXPOTION_REAL_CLIPS", default)) / name
        if not path.is_file():
            pytest.skip(f"no real clip {name}")
        return path

    return find
