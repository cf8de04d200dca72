"""What an encoder is, what it returns, and which ones there are."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np

from expotion_cli.errors import UnknownNameError

RATE_HZ = 25.0
"""Rows a second of the embedded encoders' streams."""

# Name -> "module:class". A further encoder (facenet, synchformer, raft) is one file and one line here.
REGISTRY: dict[str, str] = {
    "face": "expotion_cli.vision.face:FaceEncoder",
    "pose": "expotion_cli.vision.pose:PoseEncoder",
    "flow": "expotion_cli.vision.flow:FlowEncoder",
}


@dataclass(frozen=True)
class Dim:
    """One dimension of a stream: its name, its unit and range, and what it says."""

    name: str
    unit: str
    about: str


@dataclass(frozen=True)
class Picture:
    """One decoded picture as the encoders get it.

    Attributes:
        time_s: seconds on the picture's clock.
        rgb: uint8 [H, W, 3], upright.
        thumbnail: uint8 [h, w] grey, about 160 by 120.
    """

    time_s: float
    rgb: np.ndarray
    thumbnail: np.ndarray


@dataclass(frozen=True)
class EmbeddingStream:
    """A clip seen by one encoder.

    Attributes:
        name: the stream's name in recipes (`face`, `pose`, `flow`).
        values: float32 [T_e, D], row i stands at i / rate_hz seconds.
        mask: bool [T_e], False where nothing was seen (values there are filled by the encoder's stated rule).
        rate_hz: rows a second.
        dims: D names.
        encoder: the encoder's name.
        version: the encoder's version.
        digest: hash of all that decided the values: clip content, encoder, version, weights, settings.
    """

    name: str
    values: np.ndarray
    mask: np.ndarray
    rate_hz: float
    dims: tuple[str, ...]
    encoder: str
    version: str
    digest: str

    def __post_init__(self) -> None:
        assert self.values.ndim == 2 and self.values.shape == (len(self.mask), len(self.dims)), self.values.shape
        assert self.values.dtype == np.float32 and self.mask.dtype == np.bool_

    def dim(self, name: str) -> np.ndarray:
        """[T_e] float32, one dimension by its name.

        Raises:
            UnknownNameError: the stream has no dimension of that name.
        """
        try:
            return self.values[:, self.dims.index(name)]
        except ValueError:
            raise UnknownNameError(f"Stream {self.name!r} has no dimension {name!r}.") from None

    @property
    def coverage(self) -> float:
        """Share of rows where something was seen, 0..1."""
        return float(self.mask.mean()) if len(self.mask) else 0.0


@runtime_checkable
class Encoder(Protocol):
    """Turns a clip's pictures into rows: `begin`, `feed` each picture in order, `finish`; then `close`.

    `begin` may be called again after `finish`, for another clip; nothing is carried from clip to clip.
    """

    name: str
    version: str
    rate_hz: float
    dims: tuple[str, ...]

    def identity(self) -> dict:
        """All that decides this encoder's values besides the clip: name, version, weights, settings (JSON-like)."""

    def begin(self) -> None:
        """Start a clip. Raises MissingLibraryError where the encoder can't run on this machine."""

    def feed(self, picture: Picture) -> None:
        """Take the next picture; times rise."""

    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """End the clip: float32 [T_e, D] values and bool [T_e] mask."""

    def close(self) -> None:
        """Release what `begin` took, also in the middle of a clip."""


def encoder_class(name: str) -> type:
    """The class registered under a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in REGISTRY:
        raise UnknownNameError(f"There is no encoder {name!r}.", remedy=f"Known encoders: {', '.join(REGISTRY)}.")
    module, _, attribute = REGISTRY[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
