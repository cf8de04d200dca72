"""Rungs in worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.errors import ClipError, DecodeError
from expotion_cli.scoring.workers import ProcessExecutor, clip_workers

CLIP = Path("clip.mp4")
WAIT_S = 60


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    made = clip_workers(1)
    yield made
    made.close()


def crash_until(marker: Path, tries: int) -> int:
    """End this process like a broken decoder until it was tried so often."""
    with open(marker, "a") as file:
        file.write("x")
    if len(marker.read_text()) < tries:
        os.kill(os.getpid(), signal.SIGSEGV)
    return len(marker.read_text())


def fail(path: Path) -> None:
    raise DecodeError("it is broken.", path=path, remedy="Mend it.")


def climb_slowly(on_progress: Callable[[float], None]) -> str:
    on_progress(0.5)
    time.sleep(0.5)
    return "there"


def fill(num_bytes: int) -> int:
    return int(np.ones(num_bytes, dtype=np.uint8).sum())


def start_child(pid_file: Path) -> None:
    """Start a program that outlives its task, and wait."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pid_file.write_text(str(child.pid))
    time.sleep(600)


def wait_for(path: Path) -> int:
    """The process id that was written there."""
    until = time.monotonic() + WAIT_S
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return int(path.read_text())


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return False


def ends_soon(pid: int) -> bool:
    until = time.monotonic() + WAIT_S
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_running(pid)


def test_rungs_run_in_another_process_which_is_kept(executor):
    first, second = (executor.submit("see", os.getpid).result(WAIT_S) for _ in range(2))
    assert first == second != os.getpid()


def test_other_stages_run_here(executor):
    assert executor.submit("render", os.getpid).result(WAIT_S) == os.getpid()


def test_a_crash_is_tried_once_more(executor, tmp_path):
    assert executor.submit("see", crash_until, tmp_path / "tries", 2, path=CLIP).result(WAIT_S) == 2


def test_a_second_crash_is_the_clips_failure_and_the_next_clip_is_not_harmed(executor, tmp_path):
    broken = executor.submit("see", crash_until, tmp_path / "tries", 99, path=CLIP)
    fine = executor.submit("see", abs, -1)
    with pytest.raises(ClipError, match=r"clip\.mp4: looking at its picture ended its process \(signal SIGSEGV\)"):
        broken.result(WAIT_S)
    assert (tmp_path / "tries").read_text() == "xx"
    assert fine.result(WAIT_S) == 1


def test_an_error_keeps_its_class_file_and_remedy(executor):
    with pytest.raises(DecodeError) as caught:
        executor.submit("probe", fail, CLIP, path=CLIP).result(WAIT_S)
    assert (caught.value.reason, caught.value.path, caught.value.remedy) == ("it is broken.", CLIP, "Mend it.")


def test_what_nobody_foresaw_names_the_clip_and_keeps_its_traceback(executor):
    with pytest.raises(ClipError.__base__, match=r"clip\.mp4: unexpected ValueError") as caught:
        executor.submit("see", int, "x", path=CLIP).result(WAIT_S)
    assert "Traceback" in caught.value.details


def test_a_runaway_is_ended_at_its_limit_of_time(executor):
    started = time.monotonic()
    with pytest.raises(ClipError, match=r"clip\.mp4: reading it took longer than 1 s, twice\. Raise --clip-timeout"):
        executor.submit("probe", time.sleep, 600, path=CLIP, limit_s=1.0).result(WAIT_S)
    assert time.monotonic() - started < WAIT_S


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux keeps such limits")
def test_more_memory_than_allowed_is_the_clips_failure(tmp_path):
    executor = clip_workers(1, memory_bytes=1 << 30)
    with pytest.raises(ClipError, match=r"clip\.mp4: it needs more memory than the 1 GiB that one clip may take"):
        executor.submit("see", fill, 2 << 30, path=CLIP).result(WAIT_S)
    assert executor.submit("see", fill, 1 << 20).result(WAIT_S) == 1 << 20
    executor.close()


def test_progress_arrives_here(executor):
    told: list[float] = []
    assert executor.submit("see", climb_slowly, on_progress=told.append).result(WAIT_S) == "there"
    assert told == [0.5]


def test_what_runs_can_be_cancelled(executor):
    running = executor.submit("see", time.sleep, 600)
    following = executor.submit("see", abs, -1)
    time.sleep(0.3)
    assert running.cancel()
    assert following.result(WAIT_S) == 1


def test_finishing_goes_before_what_waits_to_be_seen():
    executor, order = ProcessExecutor({"finish": 1, "see": 1}, 1), []
    blocked = executor.submit("see", time.sleep, 1.0)
    waiting = [executor.submit(stage, abs, number) for number, stage in enumerate(("see", "finish"))]
    for number, future in enumerate(waiting):
        future.add_done_callback(lambda _, number=number: order.append(number))
    blocked.result(WAIT_S)
    for future in waiting:
        future.result(WAIT_S)
    assert order == [1, 0]
    executor.close()


def test_several_clips_are_seen_at_a_time(tmp_path):
    executor = clip_workers(2)
    for number in range(2):
        executor.submit("see", start_child, tmp_path / str(number))
    assert wait_for(tmp_path / "0") != wait_for(tmp_path / "1"), "both began, and neither ever ends"
    executor.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_closing_ends_a_stopped_worker_and_what_it_started(tmp_path):
    executor = clip_workers(1)
    pid = executor.submit("see", os.getpid).result(WAIT_S)
    never = executor.submit("see", start_child, tmp_path / "child")
    child = wait_for(tmp_path / "child")
    for one in (pid, child):
        os.kill(one, signal.SIGSTOP)
    started = time.monotonic()
    executor.close()
    assert time.monotonic() - started < 5
    assert ends_soon(pid) and ends_soon(child)
    threading.Event().wait(0.3)
    assert never.cancelled()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_no_worker_outlives_a_killed_batch(tmp_path):
    script = (
        "import os, sys, pathlib, time\n"
        "from expotion_cli.scoring.workers import clip_workers\n"
        "if __name__ == '__main__':\n"
        "    pid = clip_workers(1).submit('see', os.getpid).result()\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(pid))\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "batch.py").write_text(script)
    package_home = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": package_home}
    parent = subprocess.Popen([sys.executable, tmp_path / "batch.py", tmp_path / "pid"], env=environment)
    pid = wait_for(tmp_path / "pid")
    assert is_running(pid)
    parent.kill()
    parent.wait()
    assert ends_soon(pid)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals can't be held back here")
def test_an_interrupt_while_a_worker_loads_neither_ends_it_nor_is_told_by_it(tmp_path):
    script = (
        "import os, signal, time\n"
        "from expotion_cli.scoring.workers import clip_workers\n"
        "def is_blocked():\n"
        "    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "if __name__ == '__main__':\n"
        "    got = []\n"
        "    signal.signal(signal.SIGINT, lambda number, _: got.append(number))\n"
        "    workers = clip_workers(1)\n"
        "    seen = workers.submit('see', is_blocked)\n"
        "    while not seen.done():\n"
        "        os.killpg(0, signal.SIGINT)\n"  # as a terminal does, at every moment of its start
        "        time.sleep(0.005)\n"
        "    print(seen.result(), is_blocked(), len(got) > 0)\n"
        "    workers.close()\n"
    )
    (tmp_path / "batch.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ran = subprocess.run(
        [sys.executable, tmp_path / "batch.py"],
        env=environment,
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "False False True\n", "")
