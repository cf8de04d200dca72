"""A Ray cluster as an executor, with small rungs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expotion_cli.errors import ClipError, DecodeError, EnvironmentProblem
from expotion_cli.scoring.ray_cluster import RayCluster

ray = pytest.importorskip("ray", reason="pip install expotion[ray]")
CLIP = Path("clip.mp4")
WAIT_S = 120


@pytest.fixture(scope="module")
def cluster(repository) -> Iterator[RayCluster]:
    """Two processors of this machine."""
    home = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(repository), str(Path(__file__).parent)])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    made = RayCluster()
    yield made
    made.close()
    ray.shutdown()
    os.environ.pop("PYTHONPATH") if home is None else os.environ.update(PYTHONPATH=home)


def crash_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "there"


def fail(path: Path) -> None:
    raise DecodeError("it is broken.", path=path, remedy="Mend it.")


def test_no_cluster_is_a_problem_with_a_remedy():
    """Before there is one in this process."""
    with pytest.raises(EnvironmentProblem, match=r"can't be reached .* Check --ray-address"):
        RayCluster("127.0.0.1:1").submit("see", abs, -1)


def test_rungs_run_on_the_cluster_and_others_here(cluster):
    assert cluster.submit("see", os.getpid).result(WAIT_S) != os.getpid()
    assert cluster.submit("render", os.getpid).result(WAIT_S) == os.getpid()


def test_what_a_lost_process_did_is_done_again(cluster, tmp_path):
    assert cluster.submit("see", crash_once, tmp_path / "tried", path=CLIP).result(WAIT_S) == "there"


def test_errors_keep_their_class_file_and_remedy(cluster):
    with pytest.raises(DecodeError) as caught:
        cluster.submit("finish", fail, CLIP, path=CLIP).result(WAIT_S)
    assert (caught.value.reason, caught.value.path, caught.value.remedy) == ("it is broken.", CLIP, "Mend it.")


def test_a_runaway_is_ended_and_named(cluster):
    with pytest.raises(ClipError, match=r"clip\.mp4: looking at its picture failed on the cluster"):
        cluster.submit("see", time.sleep, 600, path=CLIP, limit_s=1.0).result(WAIT_S)


@pytest.mark.long
def test_never_more_is_under_way_than_the_cluster_can_hold(cluster):
    futures = [cluster.submit("see", time.sleep, 0.05) for _ in range(20)]
    most = 0
    while not all(future.done() for future in futures):
        most = max(most, cluster._under_way)
        time.sleep(0.005)
    assert 2 <= most <= 4, "two processors, and one rung ahead for each"
