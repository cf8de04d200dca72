"""The `synchformer` encoder: motion as a network saw it that had learned to match frames with their sound.

Frames are taken at 25 a second, their shorter side brought to 256 and the middle 224 by 224 cut out, as Synchformer's
authors do. Segments of 16 frames go through its visual encoder (`synchformer_model`), which gives 768 numbers for
every two frames: 12.5 rows a second. Row i is that of frames 2 i and 2 i + 1; it stands at the first of them, 20 ms
before the middle between them.

Segments begin every `stride` frames. By default that is 8, as the authors feed their synchronisation model: segments
overlap by half, so that hardly a row is only seen at a segment's edge. Rows of the same moment are averaged. The last
segment ends with the clip; it is moved back as far as needed, over frames already seen. Of clips shorter than a
segment the last frame is repeated, and so is it where their number is odd; rows past the clip are dropped. There is
always something to see: the mask is all True.

At another `rate_hz` each row is the mean of the rows of 12.5 Hz over the time nearest to it. Released EXPOTION adapters
were trained on features at 5 Hz; how those were brought to that rate is not published.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.errors import UsageError
from expotion_cli.media.frames import Frame, View
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import networks
from expotion_cli.vision.encoder import Encoder

if TYPE_CHECKING:
    from expotion_cli.vision.synchformer_model import VisualEncoder

PICTURES_HZ = Fraction(25)
SHORT_SIDE, SIDE = 256, 224
SEGMENT, TUBE = 16, 2
"""Frames in a segment, and in a row."""
WIDTH = 768
OWN_RATE_HZ = PICTURES_HZ / TUBE
STRIDE = SEGMENT // 2
_BATCH = {"cpu": 1, "cuda": 8}  # segments at once; on a CPU one fills all its cores


class SynchformerEncoder(Encoder):
    """Encodes a clip's motion with Synchformer's visual encoder.

    Args:
        stride: frames from one segment to the next, even, 2 to 16; 16 takes half the time of 8.
        rate_hz: rows a second, up to 25.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        dtype: "float32", or "bfloat16" for products in half the bits.
        weights: a checkpoint of your own in place of the manifest's.

    Raises:
        UsageError: a setting is out of range.
    """

    name = "synchformer"
    version = "1"
    dims = tuple(map(str, range(WIDTH)))
    view = View(rate_hz=PICTURES_HZ, short_side=SHORT_SIDE)

    def __init__(
        self,
        *,
        stride: int = STRIDE,
        rate_hz: float = float(OWN_RATE_HZ),
        device: str = "auto",
        dtype: str = "float32",
        weights: str | Path | None = None,
    ):
        if stride not in range(TUBE, SEGMENT + 1, TUBE):
            raise UsageError(f"synchformer's stride is {stride}.", remedy=f"Use an even number from 2 to {SEGMENT}.")
        if not 0 < rate_hz <= PICTURES_HZ:
            raise UsageError(
                f"synchformer's rate_hz is {rate_hz}.", remedy=f"Use more than 0 and at most {PICTURES_HZ}."
            )
        self.rate_hz = float(rate_hz)
        self._stride, self._wanted_device, self._dtype = stride, device, networks.check_dtype(dtype)
        self._file = networks.NetworkFile(self.name, Path(weights) if weights is not None else None)
        self._network: VisualEncoder | None = None
        self._device = "cpu"
        self._reset()

    def unavailable(self) -> str | None:
        """See `encoder.Encoder`."""
        return self._file.missing_reason()

    def identity(self) -> dict:
        """See `encoder.Encoder`. Other devices and numbers round otherwise, so they count."""
        return {
            **super().identity(),
            "weights": self._file.digest(),
            "stride": self._stride,
            "device": networks.choose_device(self._wanted_device).partition(":")[0],
            "dtype": self._dtype,
        }

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        self._reset()
        self._device = networks.choose_device(self._wanted_device)
        self._network = networks.keep(self.name, (self._file, self._file.digest(), self._device), self._load)

    def feed(self, frame: Frame) -> None:
        """See `encoder.Encoder`."""
        self._pictures.append(middle(frame.pixels))
        self._seen += 1
        while self._next + SEGMENT <= self._seen:
            self._queue(self._next)
            self._next += self._stride
        # what no further segment needs: the next one, and the last one that ends with the clip
        needed = min(self._next, self._seen - SEGMENT)
        while self._first < needed:
            self._pictures.pop(0)
            self._first += 1

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`."""
        rate = exact(self.rate_hz)
        rows = num_rows(duration, rate)
        if not self._seen:
            self.close()
            return np.zeros((rows, WIDTH), dtype=np.float32), np.zeros(rows, dtype=bool)
        total = max(SEGMENT, self._seen + self._seen % TUBE)
        if self._next - self._stride < total - SEGMENT:  # the last segment so far ends before the clip does
            self._pictures += [self._pictures[-1]] * (total - self._seen)
            self._queue(total - SEGMENT)
        self._run()
        seen = self._seen
        own = np.stack([part / count for part, count in zip(self._sums, self._counts, strict=True)])
        self.close()
        own = own[: -(-seen // TUBE)]
        mask = np.array([row * PICTURES_HZ < seen * rate for row in range(rows)])
        return at_rate(own, float(rate / OWN_RATE_HZ), rows), mask

    def close(self) -> None:
        """See `encoder.Encoder`. The network itself is kept for the next clip."""
        self._network = None
        self._reset()

    def _load(self) -> VisualEncoder:
        from expotion_cli.vision.synchformer_model import load_encoder

        return load_encoder(self._file.require(), remedy=self._file.remedy).to(self._device)

    def _reset(self) -> None:
        self._pictures: list[np.ndarray] = []  # those that are still needed, from number `_first` on
        self._first = self._seen = self._next = 0
        self._waiting: list[tuple[int, np.ndarray]] = []
        self._sums: list[np.ndarray] = []
        self._counts: list[int] = []

    def _queue(self, start: int) -> None:
        """Take the segment that begins with this picture."""
        self._waiting.append((start, np.stack(self._pictures[start - self._first :][:SEGMENT])))
        if len(self._waiting) >= _BATCH.get(self._device.partition(":")[0], 1):
            self._run()

    def _run(self) -> None:
        """Look at the segments that wait, and add what was seen to their rows."""
        import torch

        if not self._waiting:
            return
        assert self._network is not None
        starts, segments = zip(*self._waiting, strict=True)
        self._waiting = []
        with torch.inference_mode(), networks.arithmetic(self._device, self._dtype):
            seen = self._network(torch.from_numpy(np.stack(segments)).to(self._device)).float().cpu().numpy()
        for start, rows in zip(starts, seen, strict=True):
            for row, values in enumerate(rows, start // TUBE):
                if row == len(self._sums):
                    self._sums.append(values.copy())
                    self._counts.append(1)
                else:
                    self._sums[row] += values
                    self._counts[row] += 1


def middle(pixels: np.ndarray) -> np.ndarray:
    """[SIDE, SIDE, 3] out of the middle of a frame whose shorter side is `SHORT_SIDE`, a copy."""
    top, left = (round((size - SIDE) / 2) for size in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])


def at_rate(values: np.ndarray, rate: float, rows: int) -> np.ndarray:
    """Rows at another rate: each is the mean over the time nearer to it than to its neighbours.

    Value i fills the time from i - 1/2 to i + 1/2; before the first and after the last nothing is known, so the means
    there go over what is.

    Args:
        values: [N, D].
        rate: new rows for each old one; 1 changes nothing.
        rows: T.

    Returns:
        [T, D] float32; rows past all values repeat the last.
    """
    result = np.empty((rows, values.shape[1]), dtype=np.float32)
    last = len(values) - 0.5
    for row in range(rows):
        low, high = max(-0.5, (row - 0.5) / rate), min(last, (row + 0.5) / rate)
        if high <= low:
            result[row] = values[-1]
            continue
        first, stop = int(np.floor(low + 0.5)), int(np.ceil(high + 0.5))
        at = np.arange(first, stop)
        share = np.minimum(at + 0.5, high) - np.maximum(at - 0.5, low)
        result[row] = share @ values[first:stop] / share.sum()
    return result
