"""Files with addresses of their own are fetched, checked and pinned by the rules that hold for a hub's."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from local_hub import only_encoder, serving

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.weights.fetch import Redirects, fetch
from expotion_cli.weights.manifest import LOCK_FILE, Manifest, find_manifest, read_manifests

NAME = "eye.pth"
CONTENT = bytes(range(256)) * 300
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
STATED = {
    "nothing": "",
    "size": f"bytes = {len(CONTENT)}",
    "prefix": f'sha256_prefix = "{SHA256[:8]}"',
    "md5": f'md5 = "{MD5}"',
    "sha256": f'sha256 = "{SHA256}"',
    "all": f'sha256 = "{SHA256}"\nmd5 = "{MD5}"\nbytes = {len(CONTENT)}',
}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("EXPOTION_MIRROR", raising=False)
    with serving({NAME: CONTENT}, monkeypatch) as server:
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        yield server


@pytest.fixture
def shelf(tmp_path, monkeypatch, server):
    """Writes the manifest; returns it as it is read with what lies in the cache."""

    def write(stated: str = "", *, names: tuple[str, ...] = (NAME,), address: str | None = None) -> Manifest:
        only_encoder(tmp_path, names, address or server.address, monkeypatch, stated=stated)
        return find_manifest("eye", "encoder")

    return write


def by_hand(manifest: Manifest, content: bytes = CONTENT) -> Path:
    manifest.folder.mkdir(parents=True, exist_ok=True)
    (manifest.folder / NAME).write_bytes(content)
    return manifest.folder / NAME


@pytest.mark.parametrize("stated", STATED.values(), ids=STATED)
def test_a_file_is_fetched_through_a_redirect_and_pinned_whatever_its_publisher_states(server, shelf, stated):
    manifest = shelf(stated)
    assert not manifest.ships and manifest.streams == ("sight",)
    assert "Run: expotion fetch eye" in manifest.missing_reason()
    told = []
    lock = fetch(manifest, on_progress=lambda *step: told.append(step))
    assert told[-1] == (NAME, len(CONTENT), len(CONTENT))
    assert {path.name for path in manifest.folder.iterdir()} == {NAME, LOCK_FILE}
    assert lock.pins[NAME].sha256 == SHA256
    kept = json.loads((manifest.folder / LOCK_FILE).read_text())["files"][NAME]
    assert (kept["url"], kept["bytes"], kept["sha256"]) == (f"{server.address}/releases/{NAME}", len(CONTENT), SHA256)
    found = shelf(stated)
    assert found.missing_reason() is None and found.require() == {manifest.folder / NAME: SHA256}
    assert found.about_bytes == len(CONTENT)
    server.status = 500
    fetch(found)  # only checks


def test_a_broken_connection_is_taken_up_where_it_broke_and_so_is_a_broken_run(server, shelf, monkeypatch):
    server.break_after = {NAME: [20_000, 10_000]}
    fetch(shelf())
    assert server.served[1:] == [(NAME, 20_000, 10_000), (NAME, 30_000, len(CONTENT) - 30_000)]
    (shelf().folder / NAME).unlink()
    (shelf().folder / LOCK_FILE).unlink()
    server.served.clear()
    server.break_after = {NAME: [20_000] + [0] * 20}
    with pytest.raises(WeightsError, match="no connection"):
        fetch(shelf())
    assert shelf().files[0].state() == "missing"
    server.break_after = {}
    server.served.clear()
    fetch(shelf())
    assert server.served == [(NAME, 20_000, len(CONTENT) - 20_000)]


def test_a_part_is_not_continued_with_what_took_the_files_place_meanwhile(server, shelf):
    server.break_after = {NAME: [20_000] + [0] * 20}
    with pytest.raises(WeightsError, match="no connection"):
        fetch(shelf())
    other = CONTENT[::-1]
    server.break_after = {}
    server.commit("main", {NAME: other})
    fetch(shelf())
    assert (shelf().folder / NAME).read_bytes() == other
    assert {path.name for path in shelf().folder.iterdir()} == {NAME, LOCK_FILE}, "the old part is gone"


@pytest.mark.parametrize("stated", ["prefix", "md5", "sha256"])
def test_content_that_is_not_what_the_manifest_states_is_refused_and_removed(server, shelf, stated):
    server.damage = {NAME}
    with pytest.raises(
        WeightsError, match=rf"eye\.pth.*not what the manifest states \(.*{stated} .*expotion fetch eye"
    ):
        fetch(shelf(STATED[stated]))
    assert not [path for path in shelf().folder.rglob("*") if path.is_file()]


def test_a_server_with_a_file_of_another_size_is_refused_before_anything_is_fetched(server, shelf):
    with pytest.raises(WeightsError, match=f"has {len(CONTENT)} bytes.*where 5 are stated"):
        fetch(shelf("bytes = 5"))
    assert server.served == []


@pytest.mark.parametrize("stated", ["prefix", "md5", "sha256"])
def test_a_file_put_there_by_hand_is_checked_and_pinned_without_a_network(server, shelf, stated):
    server.status = 500
    manifest = shelf(STATED[stated])
    by_hand(manifest)
    fetch(manifest)
    assert shelf(STATED[stated]).require() == {manifest.folder / NAME: SHA256}
    by_hand(manifest, CONTENT[:-1] + b"!")
    with pytest.raises(WeightsError, match="damaged.*expotion fetch eye"):
        shelf(STATED[stated]).require()
    with pytest.raises(WeightsError, match="answers 500"):
        fetch(shelf(STATED[stated]))


def test_a_file_by_hand_of_which_nothing_is_stated_is_pinned_if_it_has_the_servers_size(server, shelf):
    by_hand(shelf(), CONTENT[:-1])
    assert shelf().files[0].state() == "unchecked"
    fetch(shelf())
    assert server.sent(NAME) == len(CONTENT), "a file of another size is fetched again"
    (shelf().folder / LOCK_FILE).unlink()
    fetch(shelf())
    assert server.sent(NAME) == len(CONTENT) and shelf().require()


def test_a_copied_folder_with_its_lock_needs_no_network(server, shelf):
    fetch(shelf())
    server.status = 500
    assert shelf().require() and fetch(shelf()).pins[NAME].sha256 == SHA256


@pytest.mark.parametrize("change", ["url", "md5", "prefix"])
def test_a_lock_counts_no_more_once_the_manifest_states_something_else(server, shelf, change):
    first = {"url": "", "md5": STATED["md5"], "prefix": STATED["prefix"]}[change]
    fetch(shelf(first))
    assert shelf(first).missing_reason() is None
    other = {"url": "", "md5": f'md5 = "{"0" * 32}"', "prefix": 'sha256_prefix = "00000000"'}[change]
    address = "http://localhost:9" if change == "url" else None
    assert shelf(other, address=address).files[0].state() == "unchecked"


def test_a_mirror_serves_what_lies_in_a_copy_of_the_weights_folder(server, shelf, monkeypatch):
    manifest = shelf(address="https://nowhere.invalid")
    server.commit("main", {f"eye/{NAME}": CONTENT})
    monkeypatch.setenv("EXPOTION_MIRROR", f"{server.address}/releases/")
    fetch(manifest)
    assert shelf(address="https://nowhere.invalid").require() == {manifest.folder / NAME: SHA256}
    monkeypatch.setenv("EXPOTION_MIRROR", "nowhere")
    (manifest.folder / LOCK_FILE).unlink()
    with pytest.raises(UsageError, match="EXPOTION_MIRROR is 'nowhere'"):
        fetch(shelf(address="https://nowhere.invalid"))


def test_a_server_that_knows_no_ranges_is_read_from_the_start_and_one_that_tells_no_size_is_refused(server, shelf):
    server.ignore_range = True
    fetch(shelf())
    assert shelf().require()
    (shelf().folder / NAME).unlink()
    (shelf().folder / LOCK_FILE).unlink()
    server.ignore_range, server.unsized = False, True
    with pytest.raises(WeightsError, match=r"how long this file is.*put it there, and run: expotion fetch eye"):
        fetch(shelf())


@pytest.mark.parametrize("target", ["ftp://example.org/eye.pth", "file:///etc/hostname"])
def test_a_redirect_to_something_else_than_a_web_address_is_not_followed(server, shelf, target):
    server.redirect = target
    with pytest.raises(WeightsError, match="answers 302"):
        fetch(shelf())
    assert not (shelf().folder / NAME).exists()


def test_a_redirect_never_leads_out_of_https():
    follow = Redirects().redirect_request
    request = urllib.request.Request("https://example.org/eye.pth", headers={"Range": "bytes=5-"})
    with pytest.raises(urllib.error.HTTPError, match="it leads to http://"):
        follow(request, None, 302, "Found", {}, "http://example.org/eye.pth")
    followed = follow(request, None, 302, "Found", {}, "https://cdn.example.org/eye.pth")
    assert followed.full_url == "https://cdn.example.org/eye.pth" and followed.headers["Range"] == "bytes=5-"


@pytest.mark.parametrize("status", [404, 403])
def test_a_file_that_is_gone_is_said_with_its_address_and_its_source(server, shelf, status):
    server.status = status
    with pytest.raises(
        WeightsError, match=rf"eye\.pth: .*answers {status}.*releases/eye\.pth.*https://example\.org/eye"
    ):
        fetch(shelf())


def test_without_a_network_the_file_and_the_command_are_named(shelf):
    with pytest.raises(WeightsError, match=r"eye\.pth.*no connection to http://127\.0\.0\.1:9.*expotion fetch eye"):
        fetch(shelf(address=NOWHERE))


def test_several_files_are_each_pinned_as_they_arrive(server, shelf):
    names = (NAME, "config.json")
    server.commit("main", {NAME: CONTENT, "config.json": b"{}"})
    server.break_after = {NAME: [0] * 20}
    with pytest.raises(WeightsError, match=r"eye\.pth"):
        fetch(shelf(names=("config.json", NAME)))
    assert [file.state() for file in shelf(names=names).files] == ["missing", "here"]
    server.break_after = {}
    fetch(shelf(names=names))
    assert shelf(names=names).missing_reason() is None


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ('sha256 = "XYZ"', "not a lower-case hexadecimal number"),
        ('sha256_prefix = "ff5fadd5.pth"', "not a lower-case hexadecimal number"),
    ],
)
def test_a_manifest_with_a_digest_that_is_none_is_named(shelf, stated, said):
    with pytest.raises(WeightsError, match=rf"eye\.toml.*{said}"):
        shelf(stated)


def test_an_address_without_https_is_refused_unless_it_is_this_machine(tmp_path, monkeypatch):
    only_encoder(tmp_path, (NAME,), "http://example.org", monkeypatch)
    with pytest.raises(WeightsError, match=r"eye\.toml.*not an https address"):
        read_manifests()
