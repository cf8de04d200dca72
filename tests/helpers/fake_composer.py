"""A composer small enough to run in no time: its tokens follow from seed, prompt and length alone."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from expotion_cli.music.codecs.codec import Rating
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

    def rate(self, tokens: np.ndarray, audio: np.ndarray, timeline: Timeline) -> Rating:
        return Rating()

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
    takes_facts = False

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


class FakeNoteCodec(FakeCodec):
    """A codec of notes on a beat grid, sketched as cues are; each step sounds at the pitch of its melody token."""

    digest = "notes-1"
    follows_tempo = True
    bar_steps = 48
    soundfont = None

    def timeline(self, duration: Fraction, tempo) -> Timeline:
        return tempo.timeline(duration)

    def sketch(self, *about, **how):
        from expotion_cli.music.codecs.notes.codec import NoteCodec

        return NoteCodec.sketch(self, *about, **how)

    def decode(self, tokens, timeline, settings=None, *, seed=0, marks=(), passages=()):
        return super().decode(tokens[6:7] % 60, timeline)


class FakeNoteComposer(FakeComposer):
    """Draws the notes that the constraints leave open, by the request's digest alone."""

    name, digest = "fake-notes", "model-n"

    def __init__(self) -> None:
        super().__init__()
        self.codec = FakeNoteCodec()
        self.requests: list = []

    def generate(self, requests, *, batch_size="auto", on_progress=None):
        for index, request in enumerate(requests):
            self.composed.append(request.prompt)
            self.requests.append(request)
            settled = request.constraints
            rng = np.random.default_rng(int(request.digest[:15], 16))
            tokens = settled.given.copy()
            for row, step in np.argwhere(tokens < 0):
                origin = settled.source[row, step]
                allowed = np.flatnonzero(settled.masks[settled.mask_of[row, step]])
                tokens[row, step] = tokens[row, origin] if origin >= 0 else rng.choice(allowed)
            yield index, request.on_timeline(tokens)
