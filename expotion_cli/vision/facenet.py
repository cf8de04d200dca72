"""The `facenet` encoder: the main person's face as FaceNet embeds it (Schroff et al. 2015, arXiv:1503.03832).

Frames are taken at 5 a second, their longer side at most 1,280 pixels. MTCNN finds the faces (`mtcnn`), `tracking`
follows the main person through crossings and gaps, and each of their faces is cut out as facenet-pytorch does with its
defaults (no margin, 160 by 160, bilinear, (value - 127.5) / 128) and embedded: a vector of length 1.

The 512 numbers have no meaning of their own; vectors of the same person lie near each other. Gaps up to 0.4 s are
interpolated (and brought to length 1 again), longer ones hold the last vector; the mask is False in both. Where no face
is ever seen all values are zero.
"""

from __future__ import annotations

import itertools
import queue
import tempfile
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.errors import UsageError
from expotion_cli.media.frames import Frame, View
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import memory, mtcnn, networks, signals
from expotion_cli.vision.encoder import Encoder

if TYPE_CHECKING:
    import torch

FACENET_RATE_HZ = 5.0
"""Rows a second by default, as in the features that EXPOTION's authors published."""

MAX_RATE_HZ = 25.0
MAX_SIDE = 1280
WIDTH = 512
CLASSIFIER = "logits."
"""What names of the tensors that tell 8,631 people apart begin with; they have no use here."""

_BATCH = {"cpu": 16, "cuda": 64}
_QUEUE_FRAMES = 4
_TIDY_FACES = 256
_BLOCK_ROWS = 1024
_IN_MEMORY = 16 << 20  # bytes of cut-out faces; more go to a temporary file


class FacenetEncoder(Encoder):
    """Encodes the face of the clip's main person.

    Args:
        rate_hz: rows a second, up to 25.
        device: where faces are embedded: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N". They are
            found on the CPU.
        weights: a state dict of InceptionResnetV1 in place of the manifest's.

    Raises:
        UsageError: a setting is out of range.
    """

    name = "facenet"
    version = "2"
    dims = tuple(map(str, range(WIDTH)))

    def __init__(
        self, *, rate_hz: float = FACENET_RATE_HZ, device: str = "auto", weights: str | Path | None = None
    ) -> None:
        if not 0 < rate_hz <= MAX_RATE_HZ:
            raise UsageError(
                f"facenet's rate_hz is {rate_hz}.", remedy=f"Use more than 0 and at most {MAX_RATE_HZ:.0f}."
            )
        self.rate_hz = float(rate_hz)
        self.view = View(rate_hz=exact(self.rate_hz), max_side=MAX_SIDE)
        self._wanted_device = device
        self._file = networks.NetworkFile(self.name, Path(weights) if weights is not None else None)
        self._network: Any = None
        self._device = "cpu"
        self._finder: _Finder | None = None
        self._cuts: list[float] = []

    def unavailable(self) -> str | None:
        """See `encoder.Encoder`."""
        return mtcnn.missing_reason() or self._file.missing_reason()

    def identity(self) -> dict:
        """See `encoder.Encoder`. Other devices round otherwise, so they count."""
        return {
            **super().identity(),
            "weights": self._file.digest(),
            "mtcnn": mtcnn.weights_digest(),
            "device": networks.choose_device(self._wanted_device).partition(":")[0],
        }

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        self.close()
        self._device = networks.choose_device(self._wanted_device)
        self._network = networks.keep(self.name, (self._file, self._file.digest(), self._device), self._load)
        self._finder, self._cuts = _Finder(), []

    def feed(self, frame: Frame) -> None:
        """See `encoder.Encoder`."""
        assert self._finder is not None
        self._finder.feed(frame)

    def begin_shot(self, time_s: float) -> None:
        """See `encoder.Encoder`."""
        assert self._finder is not None
        self._cuts.append(time_s)
        self._finder.begin_shot(time_s)

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`."""
        assert self._finder is not None
        times_s, found, faces = self._finder.finish()
        memory.release_free()  # what the finder's thread freed is of no use to this one
        raw = np.zeros((len(times_s), WIDTH), dtype=np.float32)
        places, done = np.flatnonzero(found), 0
        for vectors in embed(self._network, faces, self._device):
            raw[places[done : done + len(vectors)]] = vectors
            done += len(vectors)
            if done % _TIDY_FACES < len(vectors):
                memory.release_free()
        rows = num_rows(duration, exact(self.rate_hz))
        values, mask = np.empty((rows, WIDTH), dtype=np.float32), np.zeros(rows, dtype=bool)
        for shot in signals.shots(self._cuts, times_s, rows, self.rate_hz):
            inside, (first, stop) = slice(*shot.frames), shot.rows
            own_s = times_s[inside] - first / self.rate_hz
            # the tracker has already dropped what was found by chance
            grid = signals.rows_from_pictures(own_s, found[inside], raw[inside], stop - first, self.rate_hz, min_run=1)
            mask[first:stop] = grid.mask
            for start in range(0, stop - first, _BLOCK_ROWS):  # of a long clip each further copy takes much memory
                block = grid.values[start : start + _BLOCK_ROWS]
                lengths = np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
                np.divide(block, lengths, out=values[first + start :][: len(block)], casting="same_kind")
        self.close()
        return values, mask

    def close(self) -> None:
        """See `encoder.Encoder`. The network itself is kept for the next clip."""
        self._network = None
        if self._finder is not None:
            self._finder.close()
            self._finder = None

    def _load(self) -> torch.nn.Module:
        return load_network(self._file.require(), self._file.remedy, self._device)


def load_network(path: Path, remedy: str, device: str) -> torch.nn.Module:
    """InceptionResnetV1 with the weights of a state dict, ready to embed.

    Its batch norms become part of the convolutions before them, which changes roundings and saves time.

    Args:
        path: safetensors, or what `torch.save` wrote, of today's or of the old format.
        remedy: what to do where the content is wrong.
        device: for torch.

    Raises:
        WeightsError: the file is missing, damaged, or not of this network.
    """
    import torch
    from facenet_pytorch import InceptionResnetV1
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    with torch.device("meta"):
        network = InceptionResnetV1(pretrained=None, classify=False)
    tensors = networks.read_tensors(path, remedy)
    wanted = {name: tensor for name, tensor in tensors.items() if not name.startswith(CLASSIFIER)}
    networks.fill(network, wanted, path, remedy)
    for part in list(network.modules()):
        if hasattr(part, "conv") and hasattr(part, "bn"):
            part.conv, part.bn = fuse_conv_bn_eval(part.conv, part.bn), torch.nn.Identity()
    return network.requires_grad_(False).to(device, memory_format=torch.channels_last)


def embed(network: torch.nn.Module, faces: Iterable[np.ndarray], device: str) -> Iterator[np.ndarray]:
    """FaceNet's vectors of cut-out faces, in order.

    Args:
        network: as `load_network` gives it.
        faces: uint8 [160, 160, 3] each.
        device: where the network is.

    Yields:
        float32 [n, 512] of the next n faces, each of length 1.
    """
    import torch

    faces = iter(faces)
    size = _BATCH["cuda" if device.startswith("cuda") else "cpu"]
    while batch := list(itertools.islice(faces, size)):
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(batch)).to(device).permute(0, 3, 1, 2)  # already in channels_last
            vectors = network((pixels.float() - 127.5) / 128.0).float().cpu().numpy()
        yield vectors


class _Finder:
    """Finds and cuts out faces in a thread of its own, so that decoding goes on meanwhile.

    Whose faces they are is known at the clip's end only, so all are kept, in a file beyond some size.
    """

    def __init__(self) -> None:
        import torch

        self._face_finder = mtcnn.FaceFinder()
        self._queue: queue.Queue[Frame | float | None] = queue.Queue(_QUEUE_FRAMES)
        self._times: list[float] = []
        self._size = (1, 1)
        self._kept: list[list[int]] = []  # for each frame the place of each face in the file, or -1
        self._faces = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)
        self._num_faces = 0
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="faces", daemon=True)
        # MTCNN's products are too small to share among threads. What a thread sets holds for itself, and for threads
        # that begin later: those get back what was set before.
        self._ready = threading.Event()
        threads = torch.get_num_threads()
        self._thread.start()
        self._ready.wait()
        torch.set_num_threads(threads)

    def feed(self, frame: Frame) -> None:
        """Take a frame; waits while the queue is full."""
        self._queue.put(frame)

    def begin_shot(self, time_s: float) -> None:
        """Take note of a cut, if it lies before frames that are still to come."""
        self._queue.put(time_s)

    def finish(self) -> tuple[np.ndarray, np.ndarray, Iterator[np.ndarray]]:
        """End the clip: [N] times of the frames, bool [N] the main person's face was found, and those faces.

        Whatever went wrong in the thread is raised here.
        """
        self._end()
        if self._error is not None:
            raise self._error
        chosen = self._face_finder.tracker.main_person(self._size)
        places = np.array([kept[i] if i >= 0 else -1 for kept, i in zip(self._kept, chosen, strict=True)], dtype=int)
        return np.array(self._times), places >= 0, map(self._read, places[places >= 0])

    def close(self) -> None:
        """Stop; safe to call twice, and after `finish`."""
        self._stopped = True
        self._end()
        self._faces.close()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        import torch

        torch.set_num_threads(1)
        self._ready.set()
        while (frame := self._queue.get()) is not None:
            if self._stopped or self._error is not None:
                continue  # keep emptying the queue, or the feeder would wait for ever
            try:
                self._look(frame)
            except BaseException as error:
                self._error = error

    def _look(self, frame: Frame | float) -> None:
        if not isinstance(frame, Frame):
            if not self._times or frame > self._times[-1]:
                self._face_finder.begin_shot()
            return
        boxes, _ = self._face_finder.find(frame.time_s, frame.pixels)
        places = []
        for box in boxes:
            face = mtcnn.cut_out(frame.pixels, box)
            places.append(-1 if face is None else self._num_faces)
            if face is not None:
                self._faces.write(face.tobytes())
                self._num_faces += 1
        height, width = frame.pixels.shape[:2]
        self._times.append(frame.time_s)
        self._size = (width, height)
        self._kept.append(places)

    def _read(self, place: int) -> np.ndarray:
        num_bytes = mtcnn.CROP * mtcnn.CROP * 3
        self._faces.seek(place * num_bytes)
        return np.frombuffer(self._faces.read(num_bytes), dtype=np.uint8).reshape(mtcnn.CROP, mtcnn.CROP, 3)
