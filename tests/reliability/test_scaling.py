"""The simulator of `docs/scaling.md`."""

from __future__ import annotations

import itertools
import json
import math
import random

import pytest
import scaling
from scaling import ClipCost, Fleet, cores_to_feed, costs, read_folder, share_traffic, simulate

CLIP = ClipCost(see_s=4.0, finish_s=2.0, gpu_steps=480)
MANY = [CLIP] * 3000
STEP_S = 0.002


def mixed(count: int) -> list[ClipCost]:
    draw = random.Random(4)
    return [ClipCost(draw.uniform(1, 9), draw.uniform(1, 3), draw.uniform(200, 900)) for _ in range(count)]


def test_one_clip_takes_the_sum_of_its_stages():
    outcome = simulate([CLIP], Fleet(gpus=1, cores=1, step_s=STEP_S))
    assert outcome.took_s == pytest.approx(4.0 + 480 * STEP_S + 2.0)
    assert outcome.core_share == pytest.approx(6.0 / outcome.took_s)
    assert outcome.gpu_share == pytest.approx(480 * STEP_S / outcome.took_s)


def test_no_machine_does_more_than_it_can():
    clips = mixed(2000)
    for gpus, cores in ((1, 4), (2, 32), (8, 8), (3, 200)):
        fleet = Fleet(gpus, cores, STEP_S)
        outcome = simulate(clips, fleet)
        least_gpu_s = sum(clip.gpu_steps for clip in clips) * STEP_S / fleet.together
        assert outcome.took_s * cores >= sum(clip.core_s for clip in clips) * (1 - 1e-9)
        assert outcome.took_s * gpus >= least_gpu_s * (1 - 1e-9)
        # What was done is what there was to do: no clip is lost or made twice.
        assert outcome.core_share * outcome.took_s * cores == pytest.approx(sum(clip.core_s for clip in clips))
        assert outcome.gpu_share <= 1 + 1e-9 and outcome.core_share <= 1 + 1e-9


@pytest.mark.parametrize("cores", [8, 64, 2000])
def test_more_gpus_are_never_slower(cores):
    took = [simulate(MANY, Fleet(gpus, cores, STEP_S)).took_s for gpus in (1, 2, 4, 8, 16)]
    for fewer, more in itertools.pairwise(took):
        assert more <= fewer * 1.001


@pytest.mark.parametrize("gpus", [1, 8])
def test_more_cores_are_never_slower(gpus):
    took = [simulate(MANY, Fleet(gpus, cores, STEP_S)).took_s for cores in (2, 8, 32, 128, 512)]
    for fewer, more in itertools.pairwise(took):
        assert more <= fewer * 1.001


def test_the_bottleneck_moves_from_the_cores_to_the_gpus_where_the_cores_suffice():
    fleet = Fleet(gpus=2, cores=1, step_s=STEP_S)
    enough = cores_to_feed(MANY, fleet)
    assert enough == 2 * 6.0 / (480 * STEP_S / 64)
    clips = [CLIP] * 30_000  # so many that the beginning and the end count little
    few = simulate(clips, Fleet(2, enough // 2, STEP_S))
    plenty = simulate(clips, Fleet(2, enough * 2, STEP_S))
    assert few.bottleneck.startswith("cores") and few.core_share > 0.9 and few.gpu_share < 0.6
    assert plenty.bottleneck.startswith("GPUs") and plenty.core_share < 0.6
    # With half of the cores it takes about twice as long; beyond enough of them nothing is gained.
    assert few.took_s == pytest.approx(sum(clip.core_s for clip in clips) / (enough // 2), rel=0.1)


def test_faster_gpus_do_not_help_where_cores_are_short():
    slow, fast = (simulate(MANY, Fleet(8, 16, step_s)).took_s for step_s in (STEP_S, STEP_S / 10))
    assert fast == pytest.approx(slow, rel=0.01)


def test_a_folder_is_read_and_its_costs_grow_with_the_length(tmp_path):
    stages = {"see": 2.0, "compose": 9.0, "render": 1.0, "follow": 0.5, "finish": 0.5}
    for number in range(2):
        said = {"clip": {"duration_s": 5.0}, "stages_s": stages, "output": {"bytes": 1000 + 2000 * number}}
        (tmp_path / f"{number}.score.json").write_text(json.dumps(said))
    (tmp_path / "cache" / "cues").mkdir(parents=True)
    (tmp_path / "cache" / "cues" / "x").write_bytes(bytes(500))
    (tmp_path / "cache" / "embeddings").mkdir()
    found = read_folder(tmp_path, tmp_path / "cache")
    assert found["bytes"]["result"] == 2000 and found["bytes"]["cues"] == 250 and found["bytes"]["embeddings"] == 0
    (first, second) = costs(found["clips"], 10.0, 24.0, takes=2)
    assert first == second == ClipCost(see_s=4.0, finish_s=4.0, gpu_steps=480.0)


def test_the_share_carries_each_reading_and_writing():
    assert share_traffic(10.0, 1e6, 2e6) == {"read_mb_s": 80.0, "write_mb_s": 20.0}


def test_what_is_assumed_of_gpus_is_said(tmp_path, monkeypatch, capsys):
    said = {"clip": {"duration_s": 5.0}, "output": {"bytes": 1000}}
    said["stages_s"] = {"see": 2.0, "compose": 9.0, "render": 1.0, "follow": 0.5, "finish": 0.5}
    (tmp_path / "x.score.json").write_text(json.dumps(said))
    arguments = ["scaling.py", str(tmp_path), "--simulated", "3000", "--gpu-step-ms", "2", "--to", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    scaling.main()
    assert "ASSUMED: 2 ms for a GPU's step of 64 cues" in capsys.readouterr().out
    written = json.loads((tmp_path / "scaling.json").read_text())
    assert written["assumed"].startswith("ASSUMED")
    assert [row["gpus"] for row in written["costs"]] == [1, 8, 64]
    feeding = [row["cores_that_feed_them"] for row in written["costs"]]
    assert feeding[0] == math.ceil(8.0 / (480 * 0.002 / 64)) and feeding[1] == pytest.approx(8 * feeding[0], abs=8)
    assert str(tmp_path) not in json.dumps(written)
