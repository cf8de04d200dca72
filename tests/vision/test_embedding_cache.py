import dataclasses
import hashlib
import json
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from expotion_cli import storage
from expotion_cli.vision import streams
from expotion_cli.vision.cache import EmbeddingCache
from expotion_cli.vision.encoder import EmbeddingStream
from expotion_cli.vision.flow import FlowEncoder


def stream(seed: int = 0, rows: int = 20) -> EmbeddingStream:
    rng = np.random.default_rng(seed)
    return EmbeddingStream("flow", rng.random((rows, 2), dtype=np.float32), rng.random(rows) > 0.5, 25.0, ("a", "b"),
                           "flow", "1", storage.digest_of(seed))  # fmt: skip


def same(left: EmbeddingStream, right: EmbeddingStream) -> bool:
    return all(
        np.array_equal(getattr(left, field.name), getattr(right, field.name)) for field in dataclasses.fields(left)
    )


def test_what_is_put_is_got_back_whole(cache):
    kept = stream()
    assert cache.get(kept.digest) is None
    cache.put(kept)
    assert same(cache.get(kept.digest), kept)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_entry_is_noticed_and_removed(cache, damage, caplog):
    path = cache.put(stream())
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[-5] ^= 0x40
    path.write_bytes({"cut": whole[:-7], "flipped": bytes(broken), "empty": b"", "text": b"not a tensor file"}[damage])
    assert cache.get(stream().digest) is None
    assert not path.exists() and "damaged" in caplog.text


def test_an_entry_under_another_name_is_not_believed(cache):
    path = cache.put(stream(1))
    other = cache.path_of(stream(2).digest)
    other.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, other)
    assert cache.get(stream(2).digest) is None and cache.get(stream(1).digest) is not None


def test_verify_removes_what_is_damaged_and_keeps_the_rest(cache):
    good, bad = cache.put(stream(1)), cache.put(stream(2))
    bad.write_bytes(bad.read_bytes()[:-1])
    report = cache.verify()
    assert report.checked == 2 and report.removed == (bad,) and good.exists()
    info = cache.info()
    assert info.entries == 1 and info.by_encoder == {"flow": 1} and info.num_bytes == good.stat().st_size


def test_prune_removes_what_was_unused_for_longest(cache):
    paths = [cache.put(stream(i)) for i in range(3)]
    for i, path in enumerate(paths):
        os.utime(path, (1000 + i, 1000 + i))
    cache.get(stream(0).digest)  # used now
    report = cache.prune(max_bytes=2 * paths[0].stat().st_size)
    assert report.removed == (paths[1],) and paths[0].exists() and paths[2].exists()
    assert report.freed_bytes > 0 and cache.prune(0).checked == 2 and cache.info().entries == 0


def test_the_second_time_a_clip_is_not_decoded(cache, moving_patch, monkeypatch):
    clip = moving_patch(160, 120, 0.5)
    first = streams.encode_clip(clip, ["flow"], cache=cache)["flow"]
    monkeypatch.setattr("expotion_cli.media.decode.iter_views", lambda *args, **more: pytest.fail("decoded again"))
    started = time.perf_counter()
    second = streams.encode_clip(clip, ["flow"], cache=cache)["flow"]
    assert time.perf_counter() - started < 0.1
    assert same(first, second)
    renamed = clip.rename(clip.with_name("renamed.mov"))
    copied = shutil.copy(renamed, clip)
    assert same(streams.encode_clip(copied, ["flow"], cache=cache)["flow"], first)


def test_a_damaged_entry_is_computed_again(cache, moving_patch):
    clip = moving_patch(160, 120, 0.5)
    first = streams.encode_clip(clip, ["flow"], cache=cache)["flow"]
    path = cache.path_of(first.digest)
    path.write_bytes(path.read_bytes()[:-20])
    assert same(streams.encode_clip(clip, ["flow"], cache=cache)["flow"], first)
    assert same(cache.get(first.digest), first)


def test_another_content_under_the_same_name_is_another_clip(cache, moving_patch):
    first = streams.encode_clip(moving_patch(160, 120, 0.5), ["flow"], cache=cache)["flow"]
    second = streams.encode_clip(moving_patch(70, 90, 0.5), ["flow"], cache=cache)["flow"]
    assert first.digest != second.digest and not np.array_equal(first.values, second.values)


def test_a_new_version_of_an_encoder_does_not_read_the_old_ones_values(cache, moving_patch, monkeypatch):
    clip = moving_patch(160, 120, 0.5)
    old = streams.encode_clip(clip, ["flow"], cache=cache)["flow"]
    monkeypatch.setattr(FlowEncoder, "version", "2-test")
    assert streams.encode_clip(clip, ["flow"], cache=cache)["flow"].digest != old.digest
    assert cache.info().by_encoder == {"flow": 2, "cuts": 1}


def test_remembered_hashes_are_used_for_settled_files_only(cache, tmp_path, monkeypatch):
    clip = tmp_path / "clip.bin"
    clip.write_bytes(b"content")
    expected = storage.digest_file(clip)
    assert cache.content_hash(clip) == expected
    assert not list((cache.root / "hints").glob("*.json")), "written just now: may change within a tick"
    monkeypatch.setattr("expotion_cli.hints.SETTLED_NS", 0)
    assert cache.content_hash(clip) == expected
    monkeypatch.setattr("expotion_cli.hints.storage.digest_file", lambda _: pytest.fail("read again"))
    assert cache.content_hash(clip) == expected


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once."""
    monkeypatch.setattr("expotion_cli.hints.SETTLED_NS", -(10**10))


def change_unseen(clip, content):
    """Other content of the same size, and the time of change set back."""
    status = os.stat(clip)
    with open(clip, "r+b") as file:
        file.write(content)
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (os.stat(clip).st_size, os.stat(clip).st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_a_clip_is_hashed_by_reading_each_byte_once_however_often_it_is_asked_for(cache, tmp_path, monkeypatch):
    clip = tmp_path / "large.bin"
    clip.write_bytes(os.urandom(5 * storage.CHUNK_BYTES // 2))
    read = []

    class Counting:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def read(self, size=-1):
            chunk = self._file.read(size)
            read.append(len(chunk))
            return chunk

    def opened(path, mode="r"):
        assert Path(path) == clip
        return Counting(open(path, mode))

    monkeypatch.setattr(storage, "open", opened, raising=False)
    for _ in range(3):
        assert cache.content_hash(clip) == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert sum(read) == clip.stat().st_size and max(read) <= storage.CHUNK_BYTES, "in pieces, not as a whole"


def test_looking_at_a_clip_reads_it_for_its_hash_once_in_all_steps(cache, moving_patch, monkeypatch, settled):
    clip, hashed = moving_patch(160, 120, 0.5), []
    whole = storage.digest_file
    monkeypatch.setattr("expotion_cli.hints.storage.digest_file", lambda p: hashed.append(Path(p)) or whole(p))
    streams.stream_digests(clip, ["flow"], cache=cache)
    streams.encode_clip(clip, ["flow"], cache=cache)
    assert hashed == [clip]
    monkeypatch.setattr("expotion_cli.hints._hashed", {})  # as in another process
    streams.encode_clip(clip, ["flow"], cache=EmbeddingCache(cache.root))
    assert hashed == [clip]
    assert cache.verify().mistaken == () and hashed == [clip, clip], "verify reads it again"
    streams.encode_clip(clip, ["flow"], cache=cache)
    assert hashed == [clip, clip], "and leaves right hashes where they are"


def test_content_that_changed_under_the_same_size_and_time_is_noticed(cache, tmp_path, settled):
    clip = tmp_path / "clip.bin"
    clip.write_bytes(b"before")
    before = cache.content_hash(clip)
    change_unseen(clip, b"after!")
    assert cache.content_hash(clip) == storage.digest_file(clip) != before
    cache.verify()
    (kept,) = (cache.root / "hints").glob("*.json")
    assert json.loads(kept.read_text())["sha256"] == storage.digest_file(clip), "the other one serves nobody"


def test_verify_finds_a_clip_that_changed_without_any_sign(cache, tmp_path, monkeypatch, settled):
    def state(path):  # of a file system that doesn't tell when a file was changed last
        status = os.stat(path)
        return (status.st_size, status.st_mtime_ns, 0, status.st_ino, status.st_dev)

    monkeypatch.setattr("expotion_cli.hints.state_of", state)
    clip, other = tmp_path / "clip.bin", tmp_path / "other.bin"
    for path in (clip, other):
        path.write_bytes(b"before")
        cache.content_hash(path)
    stale = cache.content_hash(clip)
    change_unseen(clip, b"after!")
    assert cache.content_hash(clip) == stale != storage.digest_file(clip), "the hint lies"
    assert cache.verify().mistaken == (clip,)
    assert cache.content_hash(clip) == storage.digest_file(clip)
    assert cache.content_hash(other) == stale
    other.unlink()
    assert cache.verify().mistaken == () and len(list((cache.root / "hints").glob("*.json"))) == 1


def test_a_damaged_hint_is_no_hint(cache, tmp_path, settled):
    clip = tmp_path / "clip.bin"
    clip.write_bytes(b"content")
    expected = cache.content_hash(clip)
    (hint,) = (cache.root / "hints").glob("*.json")
    for content in ("", "{}", "[]", '{"key": 1, "sha256": 2}'):
        hint.write_text(content)
        assert cache.content_hash(clip) == expected
    hint.write_text("[]")
    assert cache.verify().mistaken == () and not hint.exists()


def _put_and_get(root, seeds):
    cache = EmbeddingCache(root)
    return all(cache.put(stream(seed)) and same(cache.get(stream(seed).digest), stream(seed)) for seed in seeds)


def test_two_processes_may_write_the_same_entries_at_once(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        results = [pool.submit(_put_and_get, tmp_path / "cache", [i % 5 for i in range(60)]) for _ in range(2)]
        assert all(result.result() for result in results)
    assert EmbeddingCache(tmp_path / "cache").verify().removed == ()
