"""Files of strangers that are no media: bounded before memory is taken, refused in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from expotion_cli import storage
from expotion_cli.cli import flags
from expotion_cli.errors import ClipError, RecipeError, UsageError, WeightsError
from expotion_cli.music.checkpoints.huggingface import decoder_config
from expotion_cli.music.checkpoints.safe_torch import read_torch_file
from expotion_cli.music.codecs.notes import groove_file
from expotion_cli.music.transformer.adapter import AdapterConfig, StreamSpec
from expotion_cli.music.transformer.t5 import T5Settings
from expotion_cli.music.transformer.text import load_tokenizer
from expotion_cli.prompts import read_prompts
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring.streams import needs_ahead
from expotion_cli.spotting.hits_file import read_hits
from expotion_cli.training.data import listing
from expotion_cli.training.data.arrays import read_tokens
from expotion_cli.training.settings import load_train_recipe
from expotion_cli.vision import networks, precomputed

WIDE = {"peft_type": "EXPOTION_JOINT_EMBEDDING", "dim": 8, "num_layers": 1, "rank": 1, "window_steps": 2}


def test_nesting_without_end_is_refused_in_json_and_toml(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "deep.toml").write_text("prompt=" + "[" * 100_000)
    with pytest.raises(UsageError, match="nested too deeply") as caught:
        read_prompts(tmp_path / "deep.json")
    assert caught.value.exit_code == 2
    with pytest.raises(RecipeError, match="nested too deeply"):
        load_recipe(str(tmp_path / "deep.toml"))


@pytest.mark.parametrize("key", ["a", '"! "', "'!'"])
def test_a_dotted_key_without_end_takes_no_time(tmp_path, key):
    (tmp_path / "dots.toml").write_text(".".join([key] * 50_000) + " = 1")
    began = time.monotonic()
    with pytest.raises(RecipeError, match="nested too deeply"):
        load_recipe(str(tmp_path / "dots.toml"))
    assert time.monotonic() - began < 5
    assert storage.parse_toml("a.b.'c d' = 'one. two. three'")["a"]["b"] == {"c d": "one. two. three"}


def test_a_file_of_100_mb_is_not_read(tmp_path):
    for name in ("prompts.json", "recipe.toml"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(100 << 20)  # takes no room on the disk
    with pytest.raises(UsageError, match="larger than 8 MB"):
        read_prompts(tmp_path / "prompts.json")
    with pytest.raises(RecipeError, match="larger than 1 MB"):
        load_recipe(str(tmp_path / "recipe.toml"))


def test_a_fifo_in_place_of_a_settings_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "prompts.json")
    with pytest.raises(UsageError, match="not a regular file"):
        read_prompts(tmp_path / "prompts.json")


def test_adapters_of_sizes_that_none_has_are_refused_before_they_are_built(tmp_path):
    values = {**WIDE, "streams": [{"name": "flow", "width": 10**10}]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    needs_ahead("expotion-mini", tmp_path)  # returns
    with pytest.raises(ValueError, match="width of 10000000000"):
        AdapterConfig.from_dict(values)
    streams = (StreamSpec.numbered("flow", 4),)
    for sizes in ((8, 10**7, 1, 2), (8, 1, 1, 10**9), (10**9, 1, 1, 2), (1 << 14, 64, 1, 1 << 16)):
        with pytest.raises(ValueError, match="no adapter has"):
            AdapterConfig(*sizes, streams)


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "vocab_size"])
def test_models_of_sizes_that_none_has_are_refused_before_they_are_built(tmp_path, name):
    decoder = {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 6, "ffn_dim": 768, "num_codebooks": 8}
    config = {"decoder": {**decoder, "vocab_size": 194, name: 192 * 10**6}, "text_encoder": {"d_model": 128}}
    with pytest.raises(WeightsError, match="more than any model has"):
        decoder_config(config, tmp_path / "config.json")
    with pytest.raises(ValueError, match="more than any model has"):
        T5Settings.from_config({"num_layers": 10**7})


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"model": {"type": "BPE"}}'])
def test_a_tokenizer_that_is_none_is_an_error_and_no_panic(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match="no tokenizer"):
        load_tokenizer(tmp_path)


def test_features_that_unfold_to_gigabytes_are_refused_while_they_are_small(tmp_path):
    index = torch.zeros((2, 1), dtype=torch.int64)
    tensors = {
        "sparse": torch.sparse_coo_tensor(index, torch.ones(1), (10**6, 10**4)),
        "expanded": torch.ones(1).expand(10**6, 10**4),
    }
    for name, tensor in tensors.items():
        torch.save(tensor, tmp_path / f"{name}.pt")
        with pytest.raises(ClipError, match="10000000000 numbers"):
            precomputed._tensors(tmp_path / f"{name}.pt", (tmp_path / f"{name}.pt").read_bytes())
    np.save(tmp_path / "fine.npy", np.ones((3, 2)))
    assert precomputed._tensors(tmp_path / "fine.npy", (tmp_path / "fine.npy").read_bytes())[0]["values"].shape == (
        3,
        2,
    )


def test_an_encoder_asked_for_by_name_and_not_fetched_ends_with_exit_code_4():
    from expotion_cli.scoring.streams import streams_for

    with pytest.raises(WeightsError, match="facenet is not fetched") as caught:
        streams_for(load_recipe("cinematic", {"streams.use": ("facenet",)}))
    assert caught.value.exit_code == 4 and "expotion fetch facenet" in caught.value.remedy


def test_a_name_that_looks_like_another_users_home_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert storage.expanded("~/x") == Path.home() / "x"
    for find in (load_recipe, load_train_recipe, groove_file.load_groove):
        with pytest.raises(RecipeError, match="there is no such"):
            find("~nobody-of-this-name/x.toml")
    assert flags.streams_and_features("a=~nobody-of-this-name")[1][0].folder == Path("~nobody-of-this-name")


def shared_lists(levels):
    value = [0]
    for _ in range(levels):
        value = [value, value]
    return value


@pytest.mark.long
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (lambda: {"a": shared_lists(40)}, "more than 1048576 values"),
        (lambda: {"a": torch.ones(1).expand(10**6, 10**4)}, "unfold to more than"),
        (lambda: {str(number): torch.ones(1).expand(10**6) for number in range(40)}, "unfold to more than"),
        (lambda: {"a": torch.sparse_coo_tensor(torch.zeros((2, 1)), torch.ones(1), (10**6, 10**4))}, "sparse"),
    ],
)
def test_torch_files_that_unfold_beyond_their_size_are_refused(tmp_path, content, wanted):
    torch.save(content(), tmp_path / "bomb.pth")
    began = time.monotonic()
    with pytest.raises(WeightsError, match=wanted):
        read_torch_file(tmp_path / "bomb.pth")
    assert time.monotonic() - began < 30


def test_a_deflated_torch_file_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"a": torch.zeros(4 << 20)}, tmp_path / "plain.pth")
    assert read_torch_file(tmp_path / "plain.pth")["a"].shape == (4 << 20,)
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert (tmp_path / "bomb.pth").stat().st_size < 1 << 20
    with pytest.raises(WeightsError, match="is compressed"):
        read_torch_file(tmp_path / "bomb.pth")
    with pytest.raises(ClipError, match="is compressed"):
        precomputed._tensors(tmp_path / "bomb.pt", (tmp_path / "bomb.pth").read_bytes())
    shutil.copy(tmp_path / "bomb.pth", tmp_path / "bomb.pt")
    with pytest.raises(ClipError, match="is compressed"):
        read_tokens(tmp_path / "bomb.pt", 2048)
    with pytest.raises(WeightsError, match="is compressed"):
        networks.read_tensors(tmp_path / "bomb.pth", "Fetch it again.")


def test_a_npy_header_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "absurd.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (4, 10**15)})
    with pytest.raises(ClipError, match="its header says 4x1000000000000000 numbers"):
        read_tokens(path, 2048)
    with pytest.raises(ClipError, match="its header says 4x1000000000000000 numbers"):
        precomputed._tensors(path, path.read_bytes())
    np.save(path, np.ones((4, 6), dtype=np.int64))
    assert read_tokens(path, 2048).shape == (4, 6)


def test_tables_and_captions_are_read_in_bounds(tmp_path):
    for name in ("hits.csv", "clip.txt", "clip.wav", "all.list"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(100 << 20)
    with pytest.raises(UsageError, match="the hits file can't be read .larger than 4 MB"):
        read_hits(tmp_path / "hits.csv")
    found = listing.find_clips(tmp_path)
    assert not found.clips and "its caption can't be read (larger than 1 MB)" in str(found.problems[0])
    with pytest.raises(UsageError, match="the list can't be read .larger than 64 MB"):
        listing.find_clips(tmp_path / "all.list")
