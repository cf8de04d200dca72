"""A composer small enough to run in no time: its tokens follow from seed, prompt and length alone."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from expotion_cli.timing import Timeline


class FakeCodec:
    """Ten steps a second; each token is a note of a tenth of a second."""

    digest = "codec-1"
    sample_rate = 32_000
    follows_tempo = False

    def timeline(self, duration: Fraction, tempo: object) -> Timeline:
        return Timeline(duration, Fraction(10))

    def sketch(self, *_: object, **__: object) -> None:
        return None

    def answered(self, *_: object, **__: object) -> dict[float, float]:
        return {}

    def decode(self, tokens: np.ndarray, timeline: Timeline, settings: object = None, *, seed: int = 0, marks=()):
        num_samples = timeline.samples(self.sample_rate)
        pitch = np.repeat(200.0 + 10 * tokens[0], self.sample_rate // 10 + 1)[:num_samples]
        pitch = np.pad(pitch, (0, num_samples - len(pitch)), mode="edge")
        wave = 0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / self.sample_rate)
        return SimpleNamespace(
            audio=wave[None].astype(np.float32), sample_rate=self.sample_rate, midi=tokens.tobytes(), key=None
        )


class FakeComposer:
    """What `batch` needs of a model, and a count of what it was asked for."""

    name, digest, licence, backbone = "fake", "model-1", "CC0-1.0", "fake"
    adapter_name = None
    device, dtype = "cpu", "float32"
    streams = ()

    def __init__(self) -> None:
        self.codec = FakeCodec()
        self.composed: list[str] = []

    def condition(self, streams: object, timeline: Timeline, *, plan: object = None) -> dict:
        return {}

    def generate(self, requests, *, batch_size="auto", on_progress=None):
        for index, request in reversed(list(enumerate(requests))):
            self.composed.append(request.prompt)
            if on_progress is not None:
                on_progress(1, 2)
            key = hashlib.sha256(f"{request.seed} {request.prompt}".encode()).digest()
            numbers = np.random.default_rng(list(key)).integers(0, 60, (2, request.timeline.num_steps))
            yield index, numbers.astype(np.int64)
