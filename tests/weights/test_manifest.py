"""Manifests say where weights come from, and are held to it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from expotion_cli.assets import shipped_folder
from expotion_cli.errors import EnvironmentProblem, UnknownNameError, WeightsError
from expotion_cli.weights.manifest import find_manifest, read_manifests

CONTENT = b"some weights" * 100
MANIFEST = """
kind = "music"
title = "A test model"
licence = "MIT"
folder = "{name}"
adapter = "{name}/adapter"

[[files]]
path = "{name}/model.safetensors"
bytes = {size}
sha256 = "{sha256}"
"""


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """A `models/` folder with two music models and an encoder."""
    for name in ("quartet", "orchestra"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(CONTENT)
        text = MANIFEST.format(name=name, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "eye.toml").write_text('kind = "encoder"\ntitle = "Sees"\nlicence = "MIT"\n')
    monkeypatch.setattr("expotion_cli.weights.manifest.shipped_folder", lambda name: tmp_path)
    return tmp_path


def test_manifests_are_read_music_first(models):
    found = read_manifests()
    assert list(found) == ["orchestra", "quartet", "eye"]
    quartet = found["quartet"]
    assert (quartet.title, quartet.licence, quartet.kind) == ("A test model", "MIT", "music")
    assert quartet.folder == models / "quartet" and quartet.adapter == models / "quartet" / "adapter"
    assert found["eye"].folder is None and found["eye"].files == ()


def test_an_unknown_name_names_the_nearest_and_what_is_known(models):
    with pytest.raises(UnknownNameError, match="Did you mean quartet") as caught:
        find_manifest("quartett", "music")
    assert caught.value.exit_code == 2
    assert "orchestra, quartet" in str(caught.value)
    with pytest.raises(UnknownNameError) as caught:
        find_manifest("zzz", "music")
    assert "Did you mean" not in str(caught.value)


def test_a_name_of_another_kind_is_not_found(models):
    with pytest.raises(UnknownNameError, match="eye"):
        find_manifest("eye", "music")
    assert find_manifest("eye", "encoder").title == "Sees"


def test_whole_files_pass(models):
    manifest = find_manifest("quartet", "music")
    manifest.require()
    assert [file.state(thorough=True) for file in manifest.files] == ["here"]


def test_a_missing_truncated_or_altered_file_is_named_with_its_state(models):
    manifest, path = find_manifest("quartet", "music"), models / "quartet" / "model.safetensors"
    altered = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    for content, state in ((CONTENT[:-1], "damaged"), (altered, "damaged"), (None, "missing")):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(WeightsError, match=state) as caught:
            manifest.require()
        assert str(path) in str(caught.value) and caught.value.exit_code == 4
        path.write_bytes(CONTENT)
    find_manifest("orchestra", "music").require()


def test_an_altered_file_of_the_right_size_is_found_only_by_reading_it(models):
    (models / "quartet" / "model.safetensors").write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])
    (file,) = find_manifest("quartet", "music").files
    assert (file.state(), file.state(thorough=True)) == ("here", "damaged")


NO_SIZE = 'kind = "music"\ntitle = "a"\nlicence = "b"\n[[files]]\npath = "x"\n'


@pytest.mark.parametrize("text", ["kind = ", 'kind = "music"\n', NO_SIZE])
def test_a_manifest_that_cannot_be_read_is_named(models, text):
    (models / "broken.toml").write_text(text)
    with pytest.raises(WeightsError, match="broken.toml"):
        read_manifests()


def test_shipped_folders_are_found_and_others_are_a_problem_of_the_installation():
    assert (shipped_folder("recipes") / "score" / "cinematic.toml").is_file()
    with pytest.raises(EnvironmentProblem, match="no such thing") as caught:
        shipped_folder("no such thing")
    assert caught.value.exit_code == 4
