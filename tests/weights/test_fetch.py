"""Fetching brings the listed files whole and as stated, or says what is wrong and leaves nothing half-written."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from local_hub import REPO, only_model, serving

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.weights.fetch import ATTEMPTS, fetch
from expotion_cli.weights.manifest import LOCK_FILE, find_manifest

BIG = "model.safetensors"
NAMES = ("config.json", BIG, "tokenizer.json")
FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": bytes(range(256)) * 300,
    "tokenizer.json": b"t" * 2000,
    "pytorch_model.bin": b"never fetched",
}


@pytest.fixture
def hub(monkeypatch):
    with serving(dict(FILES), monkeypatch) as hub:
        yield hub


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Writes the manifest; returns it as it is read with what lies in the cache."""

    def write(revision: str = "main", big: str = ""):
        only_model(tmp_path, NAMES, monkeypatch, revision=revision, big=big)
        return find_manifest("tiny", "music")

    return write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")} if folder.exists() else set()


def states(manifest) -> list[str]:
    return [file.state(thorough=True) for file in manifest.files]


def test_a_fetch_brings_the_listed_files_and_no_others(hub, shelf):
    manifest = shelf()
    told = []
    lock = fetch(manifest, on_progress=lambda *step: told.append(step))
    listed = {"config.json", "model.safetensors", "tokenizer.json"}
    assert names(manifest.folder) == {*listed, LOCK_FILE}
    for name in listed:
        assert (manifest.folder / name).read_bytes() == FILES[name]
        assert lock.pins[name].sha256 == hashlib.sha256(FILES[name]).hexdigest()
        assert told.count((name, len(FILES[name]), len(FILES[name]))) >= 1
    assert {name for name, _, _ in hub.served} == listed
    found = shelf()
    found.require()
    assert states(found) == ["here"] * 3 and found.revision == hub.head["main"]
    assert found.about_bytes == sum(len(FILES[name]) for name in listed)


def test_a_second_fetch_only_checks_and_needs_no_network(hub, shelf, monkeypatch):
    fetch(shelf())
    before = list(hub.served)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    fetch(shelf())
    assert hub.served == before and hub.asked == 1


def test_a_broken_connection_is_taken_up_where_it_broke(hub, shelf):
    hub.break_after = {BIG: [20_000, 10_000]}
    fetch(shelf())
    assert [(start, count) for name, start, count in hub.served if name == BIG] == [
        (0, 20_000), (20_000, 10_000), (30_000, len(FILES[BIG]) - 30_000),
    ]  # fmt: skip


def test_an_interrupted_fetch_goes_on_in_the_next_run(hub, shelf):
    manifest = shelf()

    def interrupt(name, done, total):
        if name == "model.safetensors":
            raise KeyboardInterrupt

    hub.break_after = {BIG: [30_000]}
    with pytest.raises(KeyboardInterrupt):
        fetch(manifest, on_progress=interrupt)
    assert "model.safetensors" not in names(manifest.folder), "half a file has no final name"
    assert states(shelf())[1] == "missing"
    (part,) = manifest.folder.glob(".model.safetensors.*")
    size = part.stat().st_size
    assert 0 < size <= 30_000
    hub.served.clear()
    fetch(shelf())
    assert hub.served == [("model.safetensors", size, len(FILES[BIG]) - size)]
    assert not list(manifest.folder.glob(".*")) and states(shelf()) == ["here"] * 3


def test_a_server_that_knows_no_ranges_is_read_from_the_start(hub, shelf):
    hub.break_after, hub.ignore_range = {BIG: [30_000]}, True
    fetch(shelf())
    assert hub.sent(BIG) == 30_000 + len(FILES[BIG])
    assert states(shelf()) == ["here"] * 3


def test_a_server_that_only_breaks_is_given_up_and_what_came_is_kept(hub, shelf):
    hub.break_after = {BIG: [500] + [0] * 50}
    with pytest.raises(WeightsError, match=r"model\.safetensors.*no connection.*expotion fetch tiny") as caught:
        fetch(shelf())
    assert caught.value.exit_code == 4 and len(hub.break_after[BIG]) == 50 - ATTEMPTS
    (part,) = shelf().folder.glob(".model.safetensors.*")
    assert part.stat().st_size == 500


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_content_that_is_not_what_the_hub_states_is_refused_and_removed(hub, shelf, name):
    manifest = shelf()
    hub.damage = {name}
    with pytest.raises(WeightsError, match="not what the hub states") as caught:
        fetch(manifest)
    assert caught.value.path == manifest.folder / name and caught.value.exit_code == 4
    assert not [found for found in names(manifest.folder) if name in found], "neither the file nor a part of it is left"
    with pytest.raises(WeightsError, match="expotion fetch tiny"):
        shelf().require()
    hub.damage = set()
    fetch(shelf())
    assert states(shelf()) == ["here"] * 3


def test_the_lock_pins_the_commit_that_was_found_first(hub, shelf):
    hub.break_after = {BIG: [100] + [0] * 20}
    with pytest.raises(WeightsError, match="no connection"):
        fetch(shelf())
    first, hub.break_after = hub.head["main"], {}
    hub.commit("main", {**FILES, "model.safetensors": b"other" * 999})
    lock = fetch(shelf())
    assert lock.revision == first == json.loads((shelf().folder / LOCK_FILE).read_text())["revision"]
    assert (shelf().folder / "model.safetensors").read_bytes() == FILES[BIG]
    (shelf().folder / "model.safetensors").unlink()
    fetch(shelf())
    assert shelf().revision == first and hub.asked == 1, "later fetches keep to it"


def test_a_manifest_that_names_a_newer_commit_overrules_the_lock(hub, shelf):
    fetch(shelf())
    newer = hub.commit("main", {**FILES, "model.safetensors": b"newer" * 999})
    manifest = shelf(revision=newer)
    assert states(manifest) == ["unchecked"] * 3
    with pytest.raises(WeightsError, match="not checked"):
        manifest.require()
    hub.served.clear()
    fetch(manifest)
    assert [name for name, _, _ in hub.served] == ["model.safetensors"], "what is the same in both stays"
    assert (manifest.folder / "model.safetensors").read_bytes() == b"newer" * 999
    shelf(revision=newer).require()


def test_what_the_manifest_states_rules_over_the_hub(hub, shelf):
    right = hashlib.sha256(FILES[BIG]).hexdigest()
    fetch(shelf(big=f'sha256 = "{right}"'))
    manifest = shelf(big=f'sha256 = "{"0" * 64}"')
    with pytest.raises(WeightsError, match="another content"):
        fetch(manifest)
    with pytest.raises(WeightsError, match="damaged"):
        manifest.require()


def test_files_put_there_by_hand_are_compared_with_the_hub_and_not_fetched_again(hub, shelf):
    manifest = shelf()
    manifest.folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (manifest.folder / name).write_bytes(FILES[name])
    (manifest.folder / "tokenizer.json").write_bytes(b"u" * 2000)
    assert states(manifest) == ["unchecked"] * 3
    fetch(manifest)
    assert [name for name, _, _ in hub.served] == ["tokenizer.json"] and states(shelf()) == ["here"] * 3


def test_an_altered_or_truncated_file_is_found_by_a_load_and_mended_by_a_fetch(hub, shelf):
    fetch(shelf())
    path = shelf().folder / "model.safetensors"
    content = FILES[BIG]
    for broken in (content[:-1], bytes([content[0] ^ 1]) + content[1:]):
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match="damaged.*expotion fetch tiny"):
            shelf().require()
        fetch(shelf())
        assert path.read_bytes() == content


def test_a_model_that_is_not_there_is_an_error_that_says_which_file_and_how_to_get_it(shelf):
    manifest = shelf()
    with pytest.raises(WeightsError, match=r"config\.json.*not been fetched.*expotion fetch tiny") as caught:
        manifest.require()
    assert caught.value.exit_code == 4 and caught.value.path == manifest.folder / "config.json"


def test_without_a_network_the_file_and_the_command_are_named_and_nothing_is_written(shelf, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(WeightsError, match=r"config\.json.*no connection to http.*expotion fetch tiny") as caught:
            fetch(shelf())
    assert caught.value.exit_code == 4 and not shelf().folder.exists()


@pytest.mark.parametrize(("status", "said"), [(404, "HF_ENDPOINT"), (403, "--model FOLDER"), (503, "Later, run")])
def test_a_hub_that_refuses_is_told_with_its_answer(hub, shelf, status, said):
    hub.status = status
    with pytest.raises(WeightsError, match=f"answers {status}") as caught:
        fetch(shelf())
    assert said in caught.value.remedy and not shelf().folder.exists()


@pytest.mark.parametrize("address", ["nowhere", "file:///tmp"])
def test_an_endpoint_that_is_no_web_address_is_a_usage_error(shelf, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(UsageError, match=f"HF_ENDPOINT is '{address}'"):
        fetch(shelf())


def test_something_else_than_a_hub_is_an_error(hub, shelf, monkeypatch):
    monkeypatch.setattr("local_hub._Handler._api", lambda self, state: self._answer(200, b"<html>sign in here</html>"))
    with pytest.raises(WeightsError, match="not answer like a model hub"):
        fetch(shelf())


def test_a_repository_that_lost_a_file_is_an_error_that_names_it(hub, shelf):
    hub.commit("main", {name: content for name, content in FILES.items() if name != "tokenizer.json"})
    with pytest.raises(WeightsError, match=r"tokenizer\.json.*no such file"):
        fetch(shelf())


def test_a_full_disk_is_said_before_anything_is_asked_of_it(hub, shelf, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5000))
    with pytest.raises(WeightsError, match=r"model\.safetensors.*free.*EXPOTION_CACHE"):
        fetch(shelf())
    assert hub.sent(BIG) == 0


def test_two_fetches_of_one_model_do_not_write_into_each_other(hub, shelf):
    refused = []

    def second(name, done, total):
        with pytest.raises(WeightsError, match="under way"):
            fetch(shelf())
        refused.append(name)

    fetch(shelf(), on_progress=second)
    assert set(refused) == set(NAMES)
    assert states(shelf()) == ["here"] * 3


def test_a_lock_that_cannot_be_read_counts_for_nothing(hub, shelf):
    fetch(shelf())
    for text in ("{", "[]", '{"files": []}', json.dumps({"repo": REPO, "revision": "main", "files": {}})):
        (shelf().folder / LOCK_FILE).write_text(text)
        assert states(shelf()) == ["unchecked"] * 3
    hub.served.clear()
    fetch(shelf())
    assert hub.served == [] and states(shelf()) == ["here"] * 3
