"""The command, disturbed at random moments, ends with an undisturbed run's results: `benchmarks/reliability.py`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from disturbed import Batch, kills, lost_workers, signals, two_at_once, undisturbed
from runaways import RUNAWAYS, runaways
from watched import Results, make_clips

from expotion_cli.storage import temporary_name

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
    pytest.mark.timeout(1200),  # whole programs, started again and again on machines of any speed
]
SEED = 7


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Batch:
    root = tmp_path_factory.mktemp("small")
    return undisturbed(root / "whole", make_clips(root / "clips", 2), ("--streams", "none", "--takes", "1", "--midi"))


@pytest.fixture(scope="module")
def batches(tmp_path_factory) -> list[Batch]:
    root = tmp_path_factory.mktemp("batches")
    clips = make_clips(root / "clips", 6)
    flags = (("--streams", "flow", "--midi"), ("--midi",))
    return [undisturbed(root / f"whole-{number}", clips, each) for number, each in enumerate(flags)]


@pytest.mark.long
def test_killed_at_random_moments_it_goes_on_and_nothing_is_lost_or_made_twice(small, tmp_path):
    found = kills(tmp_path, [small], 2, SEED)
    assert found["violations"] == [] and found["finished_clips_redone"] == 0
    assert found["kills"] == 2 and found["clips"] >= 2


@pytest.mark.long
def test_interrupted_at_random_moments_it_says_how_to_go_on(small, tmp_path):
    found = signals(tmp_path, small, 2, SEED)
    assert found["violations"] == [] and found["signals"] == 2


@pytest.mark.long
def test_what_crashes_hangs_or_fills_memory_costs_one_clip():
    found = runaways()
    assert found["violations"] == [] and len(found["runaways"]) == len(RUNAWAYS)


@pytest.mark.slow
def test_larger_batches_killed_more_often(batches, tmp_path):
    found = kills(tmp_path, batches, 16, SEED + 1)
    assert found["violations"] == [] and found["finished_clips_redone"] == 0 and found["kills"] == 16


@pytest.mark.slow
def test_larger_batches_interrupted_more_often(batches, tmp_path):
    assert signals(tmp_path, batches[0], 12, SEED + 1)["violations"] == []


@pytest.mark.slow
def test_two_commands_share_a_folder_at_random_moments(batches, tmp_path):
    found = two_at_once(tmp_path, batches[0], 4, SEED)
    assert found["violations"] == [] and found["scored"] == found["clips"]


@pytest.mark.slow
def test_workers_killed_stopped_and_crashed(batches, tmp_path):
    found = lost_workers(tmp_path, batches[0], 3, SEED + 1)
    assert found["violations"] == [] and found["workers_hit"].keys() == {"SIGKILL", "SIGSTOP", "SIGSEGV"}


def test_differences_of_results_are_told():
    expected = Results({"a.mp4": "1", "b.mp4": "2"}, {}, {"cue": "3"}, {"a.mp4": "4"})
    found = Results({"a.mp4": "x", "c.mp4": "2"}, {}, {"cue": "3"}, {})
    assert expected.differences(expected) == []
    assert expected.differences(found) == [
        "files: a.mp4 differs",
        "files: b.mp4 missing",
        "files: c.mp4 too much",
        "sound: a.mp4 missing",
    ]


def test_a_half_written_result_or_a_second_making_would_be_noticed(small, tmp_path):
    """What `kills` looks at tells damage: a result cut short, a leftover, a clip that the ledger lists twice."""
    from disturbed import _finished, _unfinished

    place = small.place(tmp_path / "place")
    for folder in (place.out, place.cache):
        shutil.copytree(small.clips.parent / "whole" / folder.name, folder)
    done = place.done()
    assert _finished(place, small) == [] == _unfinished(place, small, done)
    ledger = place.out / "ledger.jsonl"
    scored = next(line for line in ledger.read_text().splitlines() if '"scored"' in line)
    ledger.write_text(f"{ledger.read_text()}{scored}\n")
    prefix, suffix = temporary_name(place.out / place.names[0])
    Path(place.out / f"{prefix}12345678{suffix}").write_bytes(b"half")
    video = place.out / place.names[1]
    video.write_bytes(video.read_bytes()[:-100])
    told = " ".join(_finished(place, small))
    assert "was scored 2 times" in told and "is left over" in told and f"files: {video.name} differs" in told
    told = " ".join(_unfinished(place, small, done))
    assert "is no whole result" in told and "was touched again" in told
