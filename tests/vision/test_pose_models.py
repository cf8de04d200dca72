"""The setting `model` of the pose encoder: which landmarker runs, and what is said where it was not fetched."""

from __future__ import annotations

import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.assets import shipped_folder
from expotion_cli.errors import RecipeError, UsageError, WeightsError
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring.streams import streams_for
from expotion_cli.vision import landmarks
from expotion_cli.vision.encoder import StreamSource, make_encoder
from expotion_cli.vision.pose import MODELS, PoseEncoder
from expotion_cli.vision.streams import encode_clip, stream_digests
from expotion_cli.weights.manifest import find_manifest, weights_folder

FULL = StreamSource("pose", {"model": "full"})


@pytest.fixture(autouse=True)
def forget_checked_files():
    landmarks.task_file.cache_clear()
    landmarks.weights_digest.cache_clear()
    yield
    landmarks.task_file.cache_clear()
    landmarks.weights_digest.cache_clear()


@pytest.fixture
def fetched_full(tmp_path, monkeypatch) -> Path:
    """A file where the full model would be: the lite one with a remark at its end, pinned as the full one."""
    shipped, shelf = shipped_folder("models"), tmp_path / "models"
    shutil.copytree(shipped, shelf, ignore=shutil.ignore_patterns("expotion-mini"))
    content = (shipped / "mediapipe" / "pose_landmarker_lite.task").read_bytes()
    assert content[-2:] == b"\0\0", "a zip archive without a comment"
    remark = b"full"
    content = content[:-2] + struct.pack("<H", len(remark)) + remark
    manifest = (shipped / "mediapipe-pose-full.toml").read_text()
    old = find_manifest("mediapipe-pose-full").files[0]
    manifest = manifest.replace(str(old.num_bytes), str(len(content)))
    (shelf / "mediapipe-pose-full.toml").write_text(manifest.replace(old.sha256, hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr("expotion_cli.weights.manifest.shipped_folder", lambda _: shelf)
    path = weights_folder() / "mediapipe-pose-full" / "pose_landmarker_full.task"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    yield path
    landmarks.close_idle()


@pytest.mark.parametrize("model", MODELS)
def test_a_recipes_setting_reaches_the_encoder(tmp_path, monkeypatch, model):
    (tmp_path / "mine.toml").write_text(f'[streams]\nuse = ["pose"]\npose_model = "{model}"\n')
    monkeypatch.setattr(PoseEncoder, "unavailable", lambda self: None)
    (source,) = streams_for(load_recipe(tmp_path / "mine.toml")).sources
    assert source == StreamSource("pose", {"model": model})
    asked = []
    monkeypatch.setattr(landmarks, "acquire", lambda kind, name: asked.append((kind, name)) or _Silent())
    make_encoder(source).begin()
    assert asked == [("pose", {"lite": "pose", "full": "pose-full", "heavy": "pose-heavy"}[model])]


class _Silent:
    def begin(self):
        pass


@pytest.mark.long
def test_a_fetched_model_runs_under_a_digest_of_its_own(fetched_full, person_clips, cache):
    clip = next(iter(person_clips.values())).path
    lite, full = (stream_digests(clip, [source])["pose"] for source in ("pose", FULL))
    assert lite != full
    assert stream_digests(clip, [StreamSource("pose", {"model": "lite"})])["pose"] == lite, "lite is what is usual"
    seen, usual = (encode_clip(clip, [source], cache=cache)["pose"] for source in (FULL, "pose"))
    assert seen.digest == full and usual.digest == lite
    assert seen.coverage > 0.9 and np.array_equal(seen.values, usual.values), "here it is the same network"
    (worker,) = landmarks._idle["pose-full"]
    assert str(fetched_full) in worker._process.args


def test_a_fetched_model_that_changed_is_not_run(fetched_full, tmp_path):
    content = bytearray(fetched_full.read_bytes())
    content[5000] ^= 1
    fetched_full.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged") as caught:
        PoseEncoder("full").begin()
    assert caught.value.path == fetched_full and "expotion fetch mediapipe-pose-full" in caught.value.remedy


@pytest.mark.parametrize("size", ["full", "heavy"])
def test_a_model_that_was_not_fetched_is_told_with_the_command(size, moving_patch):
    source = StreamSource("pose", {"model": size})
    assert f"expotion fetch mediapipe-pose-{size}" in make_encoder(source).unavailable()
    with pytest.raises(WeightsError) as caught:
        encode_clip(moving_patch(160, 120, 0.2), [source])
    assert f"expotion fetch mediapipe-pose-{size}" in str(caught.value)
    assert make_encoder("pose").unavailable() is None, "the one that ships is not concerned"


def test_the_other_streams_go_on_without_it(tmp_path):
    (tmp_path / "mine.toml").write_text('[streams]\nuse = ["pose", "flow"]\npose_model = "full"\n')
    choice = streams_for(load_recipe(tmp_path / "mine.toml"))
    assert choice.names == ("flow",) and choice.missing == ("pose",)
    (note,) = choice.notes
    assert note.startswith("pose left out") and "expotion fetch mediapipe-pose-full" in note


def test_a_model_nobody_made_is_an_error_that_lists_those_there_are(tmp_path):
    with pytest.raises(UsageError, match="no model 'huge'") as caught:
        PoseEncoder("huge")
    assert "lite, full, heavy" in caught.value.remedy
    (tmp_path / "mine.toml").write_text('[streams]\npose_model = "huge"\n')
    with pytest.raises(RecipeError, match="no model 'huge'"):
        streams_for(load_recipe(tmp_path / "mine.toml"))
