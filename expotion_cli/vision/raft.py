"""The `raft` and `raft-flow` encoders: what RAFT, a network for optical flow, makes of a clip.

Both look at the same frames, 5 a second by default (as the features of the released EXPOTION adapters are), the
shorter side brought to 256; sides are cut to whole multiples of 8, and what is longer than 640 at both ends. Asked for
together they share the network and its work.

`raft` is 256 numbers without a meaning of their own: the channels of RAFT's feature encoder, each the mean over all
places of the frame on the screen at the row's time. They say what is there rather than how it moves. How the authors
of EXPOTION brought RAFT down to 256 numbers is not published, so an adapter trained on their features may read these
otherwise.

`raft-flow` is the flow itself from each frame to the next, summed up: see `DIMS`. Flow between rows i - 1 and i and
between i and i + 1 are averaged for row i. The camera's motion, the median flow along the upper, left and right border,
is taken off. Each shot is measured by itself (`cuts`).
There is always something to see: both masks are all True.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.errors import UsageError
from expotion_cli.media.frames import Frame, View
from expotion_cli.timing import exact, num_rows
from expotion_cli.vision import networks, signals
from expotion_cli.vision.encoder import Dim, Encoder

if TYPE_CHECKING:
    from expotion_cli.vision.raft_model import RaftNetwork

RATE_HZ, MAX_RATE_HZ = 5.0, 30.0
SHORT_SIDE = 256
WIDTH = 256
UPDATES = 12
"""How often the flow of a pair is improved; torchvision's default."""
GRID_ROWS, GRID_COLUMNS = 3, 4
NOISE = 0.01
"""Picture heights a second: slower motion counts as none."""
_FINE = 2  # accents are taken on a grid this many times finer

DIMS: tuple[Dim, ...] = (
    *(Dim(f"cell_{row}_{column}", "picture heights/s",
          f"mean speed in row {row} from the top, column {column} from the left")
      for row in range(GRID_ROWS) for column in range(GRID_COLUMNS)),
    Dim("motion_x", "picture heights/s", "mean motion to the right"),
    Dim("motion_y", "picture heights/s", "mean motion up"),
    Dim("expansion", "1/s", "mean divergence: things grow or come nearer where positive"),
    Dim("peak", "picture heights/s", "speed that 5 % of the picture exceed"),
    Dim("area", "0..1", "share of the picture that moves"),
    Dim("camera_x", "picture heights/s", "removed camera motion, to the right"),
    Dim("camera_y", "picture heights/s", "removed camera motion, up"),
    Dim("energy", "picture heights/s", "mean speed over the picture"),
    Dim("energy_left", "picture heights/s", "mean speed in the picture's left half"),
    Dim("energy_right", "picture heights/s", "mean speed in the picture's right half"),
    Dim("accent", "picture heights/s, >= 0", "peaks where motion stops or turns sharply, mean over the picture"),
    Dim("presence", "1", "always 1: there is always something to see"),
)  # fmt: skip


class _RaftEncoder(Encoder):
    """What the two encoders have in common."""

    version = "1"

    def __init__(
        self,
        *,
        rate_hz: float = RATE_HZ,
        device: str = "auto",
        dtype: str = "float32",
        weights: str | Path | None = None,
    ):
        if not 0 < rate_hz <= MAX_RATE_HZ:
            raise UsageError(
                f"{self.name}'s rate_hz is {rate_hz}.", remedy=f"Use more than 0 and at most {MAX_RATE_HZ:g}."
            )
        self.rate_hz = float(rate_hz)
        self.view = View(rate_hz=exact(self.rate_hz), short_side=SHORT_SIDE)
        self._wanted_device, self._dtype = device, networks.check_dtype(dtype)
        self._file = networks.NetworkFile("raft", Path(weights) if weights is not None else None)
        self._network: RaftNetwork | None = None

    def unavailable(self) -> str | None:
        """See `encoder.Encoder`."""
        return self._file.missing_reason()

    def identity(self) -> dict:
        """See `encoder.Encoder`. Other devices and numbers round otherwise, so they count."""
        return {
            **super().identity(),
            "weights": self._file.digest(),
            "device": networks.choose_device(self._wanted_device).partition(":")[0],
            "dtype": self._dtype,
        }

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        device = networks.choose_device(self._wanted_device)

        def load() -> RaftNetwork:
            from expotion_cli.vision.raft_model import RaftNetwork, load_raft

            return RaftNetwork(load_raft(self._file.require(), remedy=self._file.remedy), device, self._dtype)

        self._network = networks.keep("raft", (self._file, self._file.digest(), device, self._dtype), load)

    def close(self) -> None:
        """See `encoder.Encoder`. The network itself is kept for the next clip."""
        if self._network is not None:
            self._network.forget()
            self._network = None


class RaftEncoder(_RaftEncoder):
    """Encodes what RAFT's feature encoder sees.

    Args:
        rate_hz: rows a second, up to 30.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        dtype: "float32", or "bfloat16" for products in half the bits.
        weights: a file of your own in place of the manifest's.

    Raises:
        UsageError: a setting is out of range.
    """

    name = "raft"
    dims = tuple(map(str, range(WIDTH)))

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        super().begin()
        self._rows: list[np.ndarray] = []
        self._last: np.ndarray | None = None

    def feed(self, frame: Frame) -> None:
        """See `encoder.Encoder`."""
        assert self._network is not None
        stays = self._last is frame.pixels
        self._rows.append(self._rows[-1] if stays else self._network.summary(frame.pixels))
        self._last = frame.pixels

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`."""
        rows = num_rows(duration, exact(self.rate_hz))
        seen = self._rows[:rows]
        values = np.zeros((rows, WIDTH), dtype=np.float32)
        if seen:
            values[: len(seen)] = seen
            values[len(seen) :] = seen[-1]
        mask = np.arange(rows) < len(seen)
        self.close()
        return values, mask

    def close(self) -> None:
        """See `encoder.Encoder`."""
        super().close()
        self._rows, self._last = [], None


class RaftFlowEncoder(_RaftEncoder):
    """Encodes a clip's visible motion by RAFT's flow; see `DIMS`.

    Args:
        updates: how often the flow of a pair is improved: fewer are faster and coarser.
        rate_hz, device, dtype, weights: see `RaftEncoder`.
    """

    name = "raft-flow"
    version = "2"
    dims = tuple(dim.name for dim in DIMS)

    def __init__(
        self,
        *,
        updates: int = UPDATES,
        rate_hz: float = RATE_HZ,
        device: str = "auto",
        dtype: str = "float32",
        weights: str | Path | None = None,
    ):
        super().__init__(rate_hz=rate_hz, device=device, dtype=dtype, weights=weights)
        if updates < 1:
            raise UsageError(f"raft-flow's updates are {updates}.", remedy=f"Use at least 1; {UPDATES} by default.")
        self._updates = updates

    def identity(self) -> dict:
        """See `encoder.Encoder`."""
        return {**super().identity(), "updates": self._updates}

    def begin(self) -> None:
        """See `encoder.Encoder`."""
        super().begin()
        self._last: Frame | None = None
        self._times: list[float] = []
        self._fields: list[np.ndarray] = []
        self._cuts: list[float] = []

    def feed(self, frame: Frame) -> None:
        """See `encoder.Encoder`."""
        last, self._last = self._last, frame
        if last is None or last.pixels.shape != frame.pixels.shape:
            return
        self._fields.append(self._look(last.pixels, frame.pixels, frame.time_s - last.time_s))
        self._times.append((last.time_s + frame.time_s) / 2)

    def begin_shot(self, time_s: float) -> None:
        """See `encoder.Encoder`."""
        self._cuts.append(time_s)
        if self._last is not None and time_s > self._last.time_s:
            self._last = None

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """See `encoder.Encoder`."""
        rows = num_rows(duration, exact(self.rate_hz))
        values = flow_rows(np.array(self._times), self._fields, rows, self.rate_hz, self._cuts)
        self.close()
        return values, np.ones(rows, dtype=bool)

    def close(self) -> None:
        """See `encoder.Encoder`."""
        super().close()
        self._last, self._times, self._fields, self._cuts = None, [], [], []

    def _look(self, before: np.ndarray, after: np.ndarray, seconds: float) -> np.ndarray:
        """What `summarise_flow` says of a pair."""
        from expotion_cli.vision.raft_model import fit

        if before is after or np.array_equal(before, after):
            return summarise_flow(np.zeros((*fit(before).shape[:2], 2), dtype=np.float32), seconds)
        assert self._network is not None
        return summarise_flow(self._network.flow(before, after, self._updates), seconds)


_TOTALS = 10


def summarise_flow(flow: np.ndarray, seconds: float) -> np.ndarray:
    """One pair of frames: float32 [cells of the grid, totals in the order of `DIMS`, vectors of the finer grid].

    Args:
        flow: [h, w, 2] pixels right and down.
        seconds: between the two frames.
    """
    height, width = flow.shape[:2]
    velocity = flow * (np.array([1.0, -1.0]) / (height * seconds))
    band = max(1, min(height, width) // 10)
    border = [velocity[:band], velocity[:, :band], velocity[:, -band:]]
    camera = np.median(np.concatenate([part.reshape(-1, 2) for part in border]), axis=0)
    velocity = signals.without_noise(velocity - camera, NOISE)
    speed = np.linalg.norm(velocity, axis=-1)
    growth = np.gradient(velocity[..., 0], axis=1).mean() - np.gradient(velocity[..., 1], axis=0).mean()
    half = width // 2
    totals = [
        velocity[..., 0].mean(),
        velocity[..., 1].mean(),
        growth * height,
        np.quantile(speed, 0.95),
        (speed > 0).mean(),
        *camera,
        speed.mean(),
        speed[:, :half].mean(),
        speed[:, width - half :].mean(),
    ]
    cells = _cell_means(speed[..., None], GRID_ROWS, GRID_COLUMNS).ravel()
    vectors = _cell_means(velocity, GRID_ROWS * _FINE, GRID_COLUMNS * _FINE).ravel()
    return np.concatenate([cells, totals, vectors]).astype(np.float32)


def flow_rows(
    times_s: np.ndarray, fields: list[np.ndarray], rows: int, rate_hz: float, cuts_s: Sequence[float] = ()
) -> np.ndarray:
    """Rows of a clip.

    Args:
        times_s: [N] the middle between the two frames of each field.
        fields: N results of `summarise_flow`.
        rows: T.
        rate_hz: rows a second.
        cuts_s: when new shots begin; each shot's rows come from its own fields.

    Returns:
        float32 [T, D].
    """
    values = np.zeros((rows, len(DIMS)), dtype=np.float32)
    values[:, -1] = 1
    at = np.arange(rows) / rate_hz
    first = GRID_ROWS * GRID_COLUMNS + _TOTALS
    for shot in signals.shots(cuts_s, times_s, rows, rate_hz):
        (start, stop), span = shot.frames, slice(*shot.rows)
        if start == stop:
            continue
        columns = np.stack(fields[start:stop]).T
        table = np.stack([np.interp(at[span], times_s[start:stop], column) for column in columns], axis=1)
        vectors = table[:, first:].reshape(len(table), -1, 2)
        values[span, :first] = table[:, :first]
        values[span, first] = signals.accents(vectors, [(0, len(table))]).mean(axis=1)
    return values


def _cell_means(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """[h, w, C] → [rows, columns, C], each the mean of its part of the picture."""
    upper, left = np.arange(rows) * len(values) // rows, np.arange(columns) * values.shape[1] // columns
    sums = np.add.reduceat(np.add.reduceat(values, upper, axis=0), left, axis=1)
    tall, wide = np.diff(upper, append=len(values)), np.diff(left, append=values.shape[1])
    return sums / (tall[:, None] * wide[None, :])[..., None]
