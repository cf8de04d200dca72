"""`expotion fetch`, and what other commands say of models that have to be fetched."""

from __future__ import annotations

import json

import pytest
from local_hub import only_model, serving

from expotion_cli.cli import library

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one model, and a shelf with its manifest."""
    only_model(tmp_path, FILES, monkeypatch)
    monkeypatch.setattr(library, "shipped_folder", lambda name: tmp_path)
    (tmp_path / "tiny.md").write_text("# tiny\n")
    with serving(FILES, monkeypatch) as hub:
        yield hub


@pytest.mark.parametrize("name", ["tiny", "someone/tiny"])
def test_fetch_takes_a_name_or_a_hub_id_and_tells_licence_files_and_place(hub, expotion, own_cache, name):
    done = expotion("fetch", name)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("CC-BY-NC-4.0") == 1 and "model.safetensors" in done.stderr
    assert str(own_cache / "weights" / "tiny") in done.stdout and hub.head["main"][:12] in done.stdout
    assert expotion("models", "tiny", "--verify").exit_code == 0


def test_a_fetched_model_is_listed_as_here_with_what_the_lock_pins(hub, expotion):
    (row,) = json.loads(expotion("models", "--json").stdout)
    assert row["state"] == "not fetched" and row["bytes"] == 10_000 and row["revision"] == "main"
    expotion("fetch", "tiny")
    (row,) = json.loads(expotion("models", "--json").stdout)
    assert (row["state"], row["revision"]) == ("here", hub.head["main"])
    assert row["bytes"] == sum(map(len, FILES.values())) and all(file["sha256"] for file in row["files"])


def test_verifying_reads_the_fetched_files_and_finds_an_altered_one(hub, expotion, own_cache):
    expotion("fetch", "tiny")
    path = own_cache / "weights" / "tiny" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert expotion("models").exit_code == 0
    done = expotion("models", "--verify")
    assert done.exit_code == 4 and "damaged" in done.stdout


def test_the_cache_tells_of_fetched_weights_and_pruning_leaves_them(hub, expotion, own_cache):
    expotion("fetch", "tiny")
    told = json.loads(expotion("cache", "info", "--json").stdout)["weights"]
    assert told["bytes"] > sum(map(len, FILES.values())) and told["folder"] in expotion("cache", "info").stdout
    assert expotion("cache", "prune", "--max-size", "0").exit_code == 0
    assert expotion("models", "tiny", "--verify").exit_code == 0


def test_without_a_network_fetch_exits_with_4_and_says_what_to_do(hub, expotion, monkeypatch, own_cache):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = expotion("fetch", "tiny")
    assert done.exit_code == 4 and "no connection" in done.stderr and "expotion fetch tiny" in done.stderr
    assert "config.json" in done.stderr and not (own_cache / "weights" / "tiny").exists()


def test_a_model_that_ships_needs_no_fetch(expotion):
    done = expotion("fetch", "expotion-mini")
    assert done.exit_code == 0 and "comes with the package" in done.stdout


def test_a_name_nobody_knows_exits_with_2_and_an_unknown_hub_id_says_what_can_be_done(expotion):
    done = expotion("fetch", "musicgen-smal")
    assert done.exit_code == 2 and "musicgen-small" in done.stderr
    done = expotion("fetch", "someone/else")
    assert done.exit_code == 2 and "hf download someone/else" in done.stderr


def test_scoring_tells_a_restrictive_licence_once_a_run(hub, score, clip_folder, tmp_path):
    done = score(clip_folder, "--model", "tiny", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("CC-BY-NC-4.0") == 1
    free = score(clip_folder, "--model", "expotion-mini", "--out", tmp_path / "other")
    assert free.exit_code == 0 and "licence" not in free.stderr
