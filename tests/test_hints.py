"""What is remembered of files."""

from __future__ import annotations

import os

import pytest

from expotion_cli import hints, storage
from expotion_cli.hints import FileHints


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once."""
    monkeypatch.setattr(hints, "SETTLED_NS", -(10**10))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "clip.bin"
    path.write_bytes(b"before")
    return path


def change_unseen(path, content, monkeypatch):
    """Other content under the same size and times, as on a file system that tells no time of change."""

    def state(path):
        status = os.stat(path)
        return (status.st_size, status.st_mtime_ns, 0, status.st_ino, status.st_dev)

    monkeypatch.setattr(hints, "state_of", state)
    status = os.stat(path)
    with open(path, "r+b") as opened:
        opened.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_facts_are_kept_as_long_as_the_file_stays_as_it_is(file, tmp_path, settled):
    store = FileHints(tmp_path / "hints")
    assert store.facts(file, "clip") is None
    store.remember(file, clip={"fps": "25"})
    assert FileHints(tmp_path / "hints").facts(file, "clip") == {"fps": "25"}
    assert FileHints(tmp_path / "hints").sha256(file) == storage.digest_file(file)
    file.write_bytes(b"longer than before")
    assert FileHints(tmp_path / "hints").facts(file, "clip") is None


def test_a_file_that_was_written_just_now_is_not_remembered(file, tmp_path):
    store = FileHints(tmp_path / "hints")
    store.remember(file, clip=1)
    assert store.paths() == [] and store.facts(file, "clip") is None
    assert store.sha256(file) == storage.digest_file(file)


def test_whoever_verifies_believes_no_hint_and_mends_wrong_ones(file, tmp_path, settled, monkeypatch):
    root = tmp_path / "hints"
    change_unseen(file, b"before", monkeypatch)  # from here on, changes are invisible
    FileHints(root).remember(file, clip="old")
    change_unseen(file, b"after!", monkeypatch)
    monkeypatch.setattr(hints, "_hashed", {})
    trusting, verifying = FileHints(root), FileHints(root, trusted=False)
    assert trusting.sha256(file) != storage.digest_file(file) and trusting.facts(file, "clip") == "old"
    assert verifying.facts(file, "clip") is None and verifying.sha256(file) == storage.digest_file(file)
    assert FileHints(root).sha256(file) == storage.digest_file(file) and FileHints(root).facts(file, "clip") is None


def test_what_was_written_just_now_is_kept_once_it_has_settled(file, tmp_path, monkeypatch):
    store, sha256 = FileHints(tmp_path / "hints"), storage.digest_file(file)
    store.expect(file, sha256)
    store.settle()
    assert store.paths() == [], "it may change again within one tick of the clock"
    monkeypatch.setattr(hints, "SETTLED_NS", -(10**10))
    store.settle()
    assert len(store.paths()) == 1
    monkeypatch.setattr(hints.storage, "digest_file", lambda _: pytest.fail("read again"))
    monkeypatch.setattr(hints, "_hashed", {})
    assert FileHints(tmp_path / "hints").sha256(file) == sha256


def test_what_changed_before_it_settled_is_not_kept(file, tmp_path, monkeypatch):
    store = FileHints(tmp_path / "hints")
    store.expect(file, storage.digest_file(file))
    file.write_bytes(b"another content")
    monkeypatch.setattr(hints, "SETTLED_NS", -(10**10))
    store.settle()
    assert store.paths() == []


def test_a_read_only_cache_still_serves(file, tmp_path, settled, monkeypatch):
    monkeypatch.setattr(hints.storage, "write_hint", lambda *_: (_ for _ in ()).throw(PermissionError(13, "denied")))
    store = FileHints(tmp_path / "hints")
    store.remember(file, clip=1)
    assert store.sha256(file) == storage.digest_file(file)
