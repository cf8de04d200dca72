"""Files are whole or absent, and known by their content."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import stat
import tempfile
import time
from pathlib import Path

import pytest

from expotion_cli import storage


def test_digests_know_where_parts_end():
    assert storage.digest_bytes(b"ab", b"c") != storage.digest_bytes(b"a", b"bc")
    assert storage.digest_bytes(b"a") != storage.digest_bytes(b"a", b"")
    assert len(storage.digest_bytes()) == 64


def test_a_values_digest_ignores_key_order_and_nothing_else():
    assert storage.digest_of({"a": 1, "b": [2, None]}) == storage.digest_of({"b": [2, None], "a": 1})
    assert storage.digest_of({"a": [1, 2]}) != storage.digest_of({"a": [2, 1]})
    assert storage.digest_of({"a": 1}) != storage.digest_of({"a": "1"})


def test_what_json_cannot_hold_has_no_digest():
    with pytest.raises(TypeError, match="not JSON serializable"):
        storage.digest_of({"path": Path("x")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.digest_of([float("nan")])


def test_a_files_digest_is_the_sha256_of_its_content(tmp_path):
    content = os.urandom(storage.CHUNK_BYTES + 17)
    (tmp_path / "a").write_bytes(content)
    assert storage.digest_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_finished_block_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    final = tmp_path / "new folder" / "clip.score.mp4"
    storage.write_bytes(final, b"old")
    with storage.atomic_path(final) as temporary:
        assert temporary.parent == final.parent and temporary.suffix == ".mp4" and temporary.name.startswith(".")
        temporary.write_bytes(b"new")
        assert final.read_bytes() == b"old"
    assert final.read_bytes() == b"new"
    assert [path.name for path in final.parent.iterdir()] == ["clip.score.mp4"]
    assert stat.S_IMODE(final.stat().st_mode) == 0o644


def test_a_block_that_fails_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    final = tmp_path / "clip.mp4"
    storage.write_bytes(final, b"old")
    with pytest.raises(RuntimeError, match="half way"), storage.atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("half way")
    assert final.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def _write_slowly(final: Path) -> None:
    with storage.atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        (final.parent / "begun").touch()
        time.sleep(60)


def test_a_writer_killed_half_way_leaves_no_final_file(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_write_slowly, args=(tmp_path / "clip.mp4",))
    process.start()
    while not (tmp_path / "begun").exists():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "clip.mp4").exists()
    storage.write_bytes(tmp_path / "clip.mp4", b"whole")
    assert (tmp_path / "clip.mp4").read_bytes() == b"whole"


def test_the_longest_names_of_any_script_can_be_written(tmp_path):
    for letter in ("a", "é", "音", "🎬"):
        name = letter * (251 // len(letter.encode())) + ".mp4"
        storage.write_bytes(tmp_path / name, b"music")
        assert (tmp_path / name).read_bytes() == b"music"


def test_json_is_written_readably_and_whole(tmp_path):
    value = {"title": "ночь", "numbers": [1, 2.5], "none": None}
    storage.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value and "ночь" in text and text.endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(tmp_path / "a.json", {"loss": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def _append_many(path: Path, letter: str) -> None:
    for _ in range(30):
        storage.append_line(path, letter * 500)


def test_lines_of_several_processes_never_mix(tmp_path):
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, letter)) for letter in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(path.read_text().splitlines()) == sorted(letter * 500 for letter in "abc" for _ in range(30))


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPOTION_CACHE", str(tmp_path / "own"))
    assert storage.cache_root() == tmp_path / "own"
    monkeypatch.delenv("EXPOTION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert storage.cache_root() == tmp_path / "xdg" / "expotion"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert storage.cache_root() == Path.home() / ".cache" / "expotion"


def _half_written(final: Path) -> list[Path]:
    """Temporaries of a file and of its temporary file, as a kill leaves them; the last one is a folder."""
    left = []
    for path in (final, final):
        prefix, suffix = storage.temporary_name(path)
        left.append(Path(tempfile.mkstemp(suffix, prefix, path.parent)[1]))
    prefix, suffix = storage.temporary_name(left[0])
    left.append(Path(tempfile.mkdtemp(suffix, prefix, final.parent)))
    (left[-1] / "part").write_bytes(b"half")
    return left


NEIGHBOURS = ("take.1.mp4", "take.mkv", "take.score.json", "take-2.mp4", ".take.mp4", f"{'x' * 60}2.mp4")


@pytest.mark.parametrize(
    "name", ["take.mp4", "a.b.c.mp4", f"{'x' * 60}1.mp4", "長" * 70 + ".mp4", "-v.mp4", "[1] \n.mp4"]
)
def test_what_a_kill_left_of_a_file_is_removed_and_what_others_write_stays(tmp_path, name):
    writing = [path for other in NEIGHBOURS for path in _half_written(tmp_path / other)]
    left = _half_written(tmp_path / name)
    (tmp_path / name).write_bytes(b"whole")
    storage.remove_temporaries(tmp_path / name)
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in writing) and (tmp_path / name).read_bytes() == b"whole"


def test_the_name_that_a_file_is_written_under_is_one_that_is_removed(tmp_path):
    final = tmp_path / f"{'x' * 60}.mp4"
    with storage.atomic_path(final) as first, storage.atomic_path(first) as second:
        storage.remove_temporaries(final)
        assert not first.exists() and not second.exists()
        second.write_bytes(b"whole")
    assert final.read_bytes() == b"whole"


def test_only_stale_temporaries_are_removed_from_a_folder(tmp_path):
    old, new, whole = tmp_path / ".a.x.partial.bin", tmp_path / ".b.x.partial.bin", tmp_path / "c.bin"
    for path in (old, new, whole):
        path.write_bytes(b"half")
    for path in (old, whole):
        os.utime(path, (1e9, 1e9))
    storage.remove_stale(tmp_path)
    assert not old.exists() and new.exists() and whole.exists()
    storage.remove_stale(tmp_path / "missing")
