"""A model from the hub, from the manifest to tokens."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from local_hub import LICENCE, only_model, serving
from options import make_request, make_sampling

from expotion_cli import storage
from expotion_cli.errors import UnknownNameError, WeightsError
from expotion_cli.music.load import load_model
from expotion_cli.weights import manifest
from expotion_cli.weights.fetch import fetch
from expotion_cli.weights.manifest import find_manifest

FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    only_model(tmp_path, FILES, monkeypatch)
    return tmp_path


@pytest.fixture
def fetched(shelf, tiny_folder, monkeypatch) -> Path:
    """The tiny MusicGen in its folder in the cache, fetched."""
    with serving({path.name: path.read_bytes() for path in tiny_folder.iterdir()}, monkeypatch):
        fetch(find_manifest("tiny", "music"))
    return find_manifest("tiny", "music").folder


def tokens(model) -> np.ndarray:
    timeline = model.codec.timeline(Fraction(1, 2), None)
    ((_, found),) = model.generate([make_request("slow sad piano", timeline, None, 1, make_sampling())])
    return found


@pytest.mark.parametrize("name", ["tiny", "someone/tiny"])
def test_a_fetched_model_composes_what_the_original_folder_composes(fetched, tiny_folder, name):
    model = load_model(name, device="cpu")
    assert model.licence == LICENCE, "it goes into every sidecar"
    assert np.array_equal(tokens(model), tokens(load_model(str(tiny_folder), device="cpu")))


def test_each_file_is_hashed_once_and_the_digest_is_that_of_the_same_files_anywhere(fetched, tiny_folder, monkeypatch):
    read = []
    digest_file = storage.digest_file
    monkeypatch.setattr(storage, "digest_file", lambda path: read.append(path.name) or digest_file(path))
    model = load_model("tiny", device="cpu")
    assert sorted(read) == sorted(FILES)
    assert model.digest == load_model(str(tiny_folder), device="cpu").digest


def test_an_altered_file_is_found_before_anything_is_loaded(fetched):
    path = fetched / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors.*damaged.*expotion fetch tiny"):
        load_model("tiny", device="cpu")


def test_a_model_that_was_not_fetched_names_file_and_command(shelf):
    for name in ("tiny", "someone/tiny"):
        with pytest.raises(WeightsError, match=r"config\.json.*not been fetched.*expotion fetch tiny") as caught:
            load_model(name, device="cpu")
        assert caught.value.exit_code == 4


def test_a_hub_id_without_a_manifest_says_what_can_be_done(shelf):
    with pytest.raises(UnknownNameError, match="neither a folder .*hf download someone/else") as caught:
        load_model("someone/else", device="cpu")
    assert caught.value.exit_code == 2


def test_a_folder_named_like_a_hub_id_is_the_folder(fetched, tiny_folder, tmp_path, monkeypatch):
    place = tmp_path / "someone"
    place.mkdir()
    (place / "tiny").symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    assert load_model("someone/tiny", device="cpu").licence != LICENCE
    assert manifest.licence_notice("someone/tiny") == "" and "CC-BY-NC" in manifest.licence_notice("tiny")
