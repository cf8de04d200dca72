"""What an encoder is, what it returns, and which ones there are."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.errors import UnknownNameError
from expotion_cli.media.frames import Frame, View

RATE_HZ = 25.0
"""Rows a second of the embedded encoders' streams."""

MAX_RATE_HZ = Fraction(31)
"""At most this many frames a second are encoded; above the usual 30, frames are skipped."""

COLOUR = View(max_side=640, max_rate_hz=MAX_RATE_HZ)
"""Every new frame in colour, for encoders that detect people."""

THUMBNAIL = View(max_side=320, max_height=120, min_side=16, max_rate_hz=MAX_RATE_HZ, grey=True)
"""Every new frame, small and in grey."""

# Name -> "module:class". A new encoder takes one file and one line here.
REGISTRY: dict[str, str] = {
    "face": "expotion_cli.vision.face:FaceEncoder",
    "pose": "expotion_cli.vision.pose:PoseEncoder",
    "flow": "expotion_cli.vision.flow:FlowEncoder",
    "facenet": "expotion_cli.vision.facenet:FacenetEncoder",
    "synchformer": "expotion_cli.vision.synchformer:SynchformerEncoder",
    "raft": "expotion_cli.vision.raft:RaftEncoder",
    "raft-flow": "expotion_cli.vision.raft:RaftFlowEncoder",
}


@dataclass(frozen=True)
class Dim:
    """One dimension of a stream: its name, its unit and range, and what it means."""

    name: str
    unit: str
    about: str


@dataclass(frozen=True)
class EmbeddingStream:
    """What one encoder made of a clip.

    Attributes:
        name: the stream's name in recipes (`face`, `pose`, `flow`).
        values: float32 [T_e, D], row i stands at i / rate_hz seconds.
        mask: bool [T_e], False where nothing was seen (values there are filled as the encoder's docstring says).
        rate_hz: rows a second.
        dims: D names.
        encoder: the encoder's name.
        version: the encoder's version.
        digest: hash of all that decided the values: clip content, encoder, version, weights, settings.
        skipped: frames of the clip that could not be decoded.
    """

    name: str
    values: np.ndarray
    mask: np.ndarray
    rate_hz: float
    dims: tuple[str, ...]
    encoder: str
    version: str
    digest: str
    skipped: int = 0

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


class Encoder(ABC):
    """Turns a clip's frames into rows: `begin`, `feed` each frame in order, `finish`; then `close`.

    In between `begin_shot` tells of cuts (`cuts`).

    `begin` may be called again after `finish`, for another clip; nothing is carried from clip to clip. Making an
    encoder costs nothing and needs no weights; `begin` does.

    Attributes:
        name: in `REGISTRY` and in recipes.
        version: raised whenever the same clip comes to give other values.
        rate_hz: rows a second.
        dims: D names; numbers for embeddings whose dimensions have no meaning of their own.
        view: which frames it wants, and how large.
    """

    name: str
    version: str
    rate_hz: float
    dims: tuple[str, ...]
    view: View

    @property
    def dim(self) -> int:
        """D, the width of a row."""
        return len(self.dims)

    def unavailable(self) -> str | None:
        """Why this encoder can't run on this machine and what to do about it, or None. Starts nothing heavy."""
        return None

    def identity(self) -> dict[str, Any]:
        """All that decides this encoder's values besides the clip: name, version, weights, settings (JSON-like)."""
        return {"name": self.name, "version": self.version, "rate_hz": self.rate_hz}

    @abstractmethod
    def begin(self) -> None:
        """Start a clip. Raises MissingLibraryError or WeightsError where the encoder can't run on this machine."""

    @abstractmethod
    def feed(self, frame: Frame) -> None:
        """Take the next frame of the view; times increase."""

    def begin_shot(self, time_s: float) -> None:  # noqa: B027 - most look at each frame by itself
        """Take note that a new shot begins here: nothing of motion goes on across it.

        Of a hard cut this is told before its first frame is fed, of a dissolve (by its middle) when all frames are.
        """

    @abstractmethod
    def finish(self, duration: Fraction) -> tuple[np.ndarray, np.ndarray]:
        """End the clip of this length: float32 [T_e, D] values and bool [T_e] mask."""

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release what `begin` took, also in the middle of a clip."""

    def encode(self, frames: Iterable[Frame], duration: Fraction) -> np.ndarray:
        """All frames of a clip at once: [T_e, D] float32."""
        try:
            self.begin()
            for frame in frames:
                self.feed(frame)
            return self.finish(duration)[0]
        finally:
            self.close()


@dataclass(frozen=True)
class StreamSource:
    """Where a stream comes from: an encoder with its settings, or a folder of rows computed elsewhere.

    Attributes:
        name: the stream's name; also the encoder's, if there is no folder.
        settings: keyword arguments of the encoder.
        folder: holds one file of rows a clip, named like the clip (`precomputed`).
        rate_hz: rows a second of those files; None where they say it themselves.
        dims: what the rows must hold, where it is known who will read them.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    rate_hz: float | None = None
    dims: tuple[str, ...] | None = None


def make_encoder(source: str | StreamSource) -> Encoder:
    """The encoder of a stream.

    Raises:
        UnknownNameError: there is none of that name.
    """
    source = StreamSource(source) if isinstance(source, str) else source
    return encoder_class(source.name)(**source.settings)


def encoder_class(name: str) -> type[Encoder]:
    """The class registered under a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in REGISTRY:
        raise UnknownNameError(f"There is no encoder {name!r}.", remedy=f"Known encoders: {', '.join(REGISTRY)}.")
    module, _, attribute = REGISTRY[name].partition(":")
    found: type[Encoder] = getattr(importlib.import_module(module), attribute)
    return found
