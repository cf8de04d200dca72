"""MediaPipe's landmarkers: their task files, and the worker processes that run them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from expotion_cli.errors import DecodeError, MissingLibraryError
from expotion_cli.media.frames import Frame
from expotion_cli.processes import beyond_interrupts
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import signals
from expotion_cli.vision import worker as protocol
from expotion_cli.vision.encoder import COLOUR, RATE_HZ, Encoder
from expotion_cli.vision.libraries import missing_libraries
from expotion_cli.vision.row_buffer import BLOCK_ROWS
from expotion_cli.weights.manifest import find_manifest

_CLOSED_PORT = "http://127.0.0.1:9"
_QUEUE_FRAMES = 4
_idle: dict[str, list[LandmarkWorker]] = {}
_idle_lock = threading.Lock()


@functools.cache
def task_file(model: str) -> Path:
    """The task file of the manifest `mediapipe-<model>`, checked against the manifest's sha256.

    Raises:
        WeightsError: the manifest or the file is missing, or the file differs from what the manifest pins.
    """
    manifest = find_manifest(f"mediapipe-{model}", "encoder")
    manifest.require()
    return manifest.files[0].path


@functools.cache
def weights_digest(model: str) -> str | None:
    """sha256 (hex) that a model's task file is pinned to; the file's content is read only before it is used.

    Raises:
        WeightsError: the manifest or the file is missing.
    """
    manifest = find_manifest(f"mediapipe-{model}", "encoder")
    if manifest.missing_reason():
        manifest.require()
    return manifest.files[0].sha256


@functools.cache
def missing_reason() -> str | None:
    """Why MediaPipe can't run here and what to install, or None. Starts nothing and imports nothing heavy."""
    if importlib.util.find_spec("mediapipe") is None:
        return "The Python package mediapipe is not installed. Run: pip install mediapipe"
    lacking = missing_libraries()
    if not lacking:
        return None
    return (
        f"System libraries are missing: {', '.join(lacking)}. On Debian or Ubuntu run: "
        f"apt-get install {' '.join(lacking.values())}"
    )


class LandmarkWorker:
    """One landmarker in a process of its own.

    Frames are sent through a short queue, so decoding, both landmarkers and optical flow run side by side with
    bounded memory.

    Args:
        kind: `face` or `pose`.
        model: whose task file it runs, for `task_file`; the kind's own by default.

    Raises:
        MissingLibraryError: MediaPipe can't start here.
        WeightsError: the shipped weights are missing or damaged.
    """

    def __init__(self, kind: str, model: str | None = None):
        self.kind, self.model = kind, model or kind
        path = task_file(self.model)
        self._errors = tempfile.TemporaryFile()
        package_home = str(Path(__file__).resolve().parents[2])
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_home, environment.get("PYTHONPATH")]))
        # MediaPipe reports usage figures over the network. Clips are private: give it a proxy that is not there.
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment[name] = environment[name.upper()] = _CLOSED_PORT
        environment["no_proxy"] = environment["NO_PROXY"] = ""
        with beyond_interrupts():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "expotion_cli.vision.worker", kind, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to_worker, self._from_worker = self._process.stdin, self._process.stdout
        self._ready = False
        self._queue: queue.Queue[bytes | tuple[bytes, np.ndarray] | None] = queue.Queue(_QUEUE_FRAMES)
        self._broken = False
        self._in_clip = False
        self._writer = threading.Thread(target=self._write, name=f"{kind}-landmarks", daemon=True)
        self._writer.start()

    @property
    def reusable(self) -> bool:
        """Whether another clip can be begun with this worker."""
        return not self._broken and not self._in_clip and self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until the landmarker is loaded.

        Raises:
            MissingLibraryError: it can't start here.
        """
        if self._ready:
            return
        answer = self._from_worker.read(1)
        if answer != b"Y":
            reason = missing_reason() or self._told_reason(answer)
            self.close()
            raise MissingLibraryError(f"MediaPipe's {self.kind} landmarker can't start.", remedy=reason)
        self._ready = True

    def begin(self) -> None:
        """Start a clip with a fresh landmarker."""
        self._in_clip = True
        self._queue.put(b"B")

    def begin_shot(self) -> None:
        """Forget whoever was seen: a new shot begins with the next frame."""
        self._queue.put(b"C")

    def feed(self, frame: Frame) -> None:
        """Send a frame; waits while the queue is full."""
        height, width = frame.pixels.shape[:2]
        header = protocol.FRAME.pack(round(frame.time_s * 1000), height, width)
        self._queue.put((b"F" + header, np.ascontiguousarray(frame.pixels)))

    def finish(self) -> Iterator[np.ndarray]:
        """End the clip: float32 [n, columns] blocks of N rows in all, one row a frame.

        Columns are `worker.FACE_COLUMNS` or `POSE_COLUMNS`; at least one block comes, which may be empty. All blocks
        have to be taken before anything else is asked.

        Raises:
            MissingLibraryError: the landmarker could not start here.
            DecodeError: the worker died.
        """
        self.wait_ready()
        self._queue.put(b"E")
        source = self._from_worker
        head = source.read(protocol.SHAPE.size)
        if len(head) == protocol.SHAPE.size:
            left, columns = protocol.SHAPE.unpack(head)
            while True:
                size = min(left, BLOCK_ROWS) * columns * 4
                data = source.read(size)
                if len(data) != size:
                    break
                left -= min(left, BLOCK_ROWS)
                self._in_clip = left > 0
                yield np.frombuffer(data, dtype="<f4").reshape(-1, columns)
                if not left:
                    return
        reason = self._told_reason(head[:1])
        self.close()
        raise DecodeError(f"MediaPipe's {self.kind} landmarker stopped in the middle of a clip ({reason}).")

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._broken = True
        if self._writer.is_alive():
            self._queue.put(None)
            if self._in_clip:
                self._process.kill()  # it may be busy with frames nobody wants any more
            self._writer.join(timeout=5)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from_worker.close()
        self._errors.close()

    def _write(self) -> None:
        sink = self._to_worker
        try:
            while (item := self._queue.get()) is not None:
                if self._broken:
                    continue  # keep emptying the queue, or the feeder would wait for ever
                try:
                    for part in item if isinstance(item, tuple) else (item,):
                        sink.write(part.data if isinstance(part, np.ndarray) else part)
                    sink.flush()
                except (BrokenPipeError, ValueError, OSError):
                    self._broken = True
        finally:
            with contextlib.suppress(OSError):
                sink.close()

    def _told_reason(self, answer: bytes) -> str:
        """What the worker said of its end, else the last line of its error stream."""
        if answer == b"N":
            head = self._from_worker.read(protocol.LENGTH.size)
            if len(head) == protocol.LENGTH.size:
                return self._from_worker.read(protocol.LENGTH.unpack(head)[0]).decode(errors="replace")
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.poll()}"


def acquire(kind: str, model: str) -> LandmarkWorker:
    """A worker for one clip: an idle one if there is, else a new one (still starting; see `wait_ready`)."""
    with _idle_lock:
        waiting = _idle.get(model, [])
        while waiting:
            worker = waiting.pop()
            if worker.reusable:
                return worker
            worker.close()
    return LandmarkWorker(kind, model)


def release(worker: LandmarkWorker) -> None:
    """Give a worker back: kept for the next clip if it finished its clip, else ended."""
    if not worker.reusable:
        worker.close()
        return
    with _idle_lock:
        _idle.setdefault(worker.model, []).append(worker)


class LandmarkEncoder(Encoder):
    """What the encoders on MediaPipe's landmarks have in common; each adds its names and reads the landmarks."""

    rate_hz = RATE_HZ
    view = COLOUR

    def __init__(self, model: str | None = None) -> None:
        self._model = model or self.name
        self._worker: LandmarkWorker | None = None
        self._times: list[float] = []
        self._cuts: list[float] = []
        self._aspect = 1.0

    def unavailable(self) -> str | None:
        """See `encoder.Encoder`."""
        return missing_reason()

    def identity(self) -> dict:
        """See `encoder.Encoder`."""
        return {**super().identity(), "weights": weights_digest(self._model)}

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        self.close()
        self._times, self._cuts = [], []
        self._worker = acquire(self.name, self._model)
        self._worker.begin()

    def feed(self, frame: Frame) -> None:
        """See `encoder.Encoder`."""
        assert self._worker is not None
        height, width = frame.pixels.shape[:2]
        self._aspect = width / height
        self._worker.feed(frame)
        self._times.append(frame.time_s)

    def begin_shot(self, time_s: float) -> None:
        """See `encoder.Encoder`."""
        assert self._worker is not None
        self._cuts.append(time_s)
        if self._times and time_s > self._times[-1]:
            self._worker.begin_shot()

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`. The rows of a clip are those of its shots, one after the other."""
        times, self._times = np.array(self._times), []
        rows = num_rows(duration, exact(self.rate_hz))
        shots = signals.shots(self._cuts, times, rows, self.rate_hz)
        if len(shots) == 1:
            # not bound to a name here, so that `read` can let go of it: of a long clip it is large
            return self.read(times, self._collect(len(times)), rows)
        state = self._collect(len(times))
        parts = []
        for shot in shots:
            inside, (first, stop) = slice(*shot.frames), shot.rows
            parts.append(self.read(times[inside] - first / self.rate_hz, state[inside], stop - first))
        return np.concatenate([values for values, _ in parts]), np.concatenate([mask for _, mask in parts])

    def _collect(self, frames: int) -> np.ndarray:
        """[frames, c] the condensed rows of the clip; gives the worker back."""
        assert self._worker is not None
        state, done = np.zeros((0, 0)), 0
        for raw in self._worker.finish():
            part = self.condense(raw)
            if not done:
                state = np.empty((frames, part.shape[1]))
            state[done : done + len(part)] = part
            done += len(part)
        assert done == frames, (done, frames)
        self.close()
        return state

    def close(self) -> None:
        """See `encoder.Encoder`."""
        if self._worker is not None:
            release(self._worker)
            self._worker = None

    def condense(self, raw: np.ndarray) -> np.ndarray:
        """What is needed of the worker's rows [n, columns]: [n, c], each row by itself."""
        raise NotImplementedError

    def read(self, times: np.ndarray, state: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and mask from the condensed rows [N, c] at the pictures' times."""
        raise NotImplementedError


@atexit.register
def close_idle() -> None:
    """End all idle workers (also run when the interpreter ends)."""
    with _idle_lock:
        workers = [worker for kind in _idle.values() for worker in kind]
        _idle.clear()
    for worker in workers:
        worker.close()
