"""A disk that fills up in the middle of a batch: a small file system in memory, where one may be mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_composer import FakeComposer

from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.sidecar import sidecar_path

NAMES = ("a.mp4", "b.mp4", "c.mp4")
SIZE_KB, ROOM_KB = 4096, 90


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_KB}k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_costs_no_finished_clip_and_the_rest_is_made_once_there_is_room(
    disk, make_video, tmp_path
):
    for name in NAMES:
        make_video(tmp_path / "in" / name, duration_s=1, sound=False, hue=ord(name[0]))
    (disk / "ballast").write_bytes(bytes((SIZE_KB - ROOM_KB) * 1024))
    out = disk / "out"

    def score():
        recipe = load_recipe("cinematic", {"streams.use": ()})
        return batch.run(plan([tmp_path / "in"], recipe, Settings(out=out)), FakeComposer)

    first = score()
    assert first.exit_code == 1 and 1 <= first.count("scored") < len(NAMES)
    failed = [result for result in first.results if result.status == "failed"]
    for result in failed:
        assert str(result.error).startswith(f"{out / result.name}: ") and "space left" in str(result.error)
        assert "Free some space" in result.error.remedy
    done = {result.name for result in first.results if result.status == "scored"}
    there = {path.name for path in out.rglob("*.mp4") if not path.name.startswith(".")}
    assert there == done == {name for name in NAMES if sidecar_path(out / name).is_file()}
    assert not [path for path in out.rglob("*") if "partial" in path.name]
    (disk / "ballast").unlink()
    again = score()
    assert (again.exit_code, again.count("already")) == (0, len(done))
    assert again.count("scored") == len(NAMES) - len(done)
