"""Where somebody speaks: spans of time, from the probabilities that Silero VAD gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli.weights.manifest import Manifest, find_manifest

if TYPE_CHECKING:
    from expotion_cli.speech.silero import SileroVad

NAME = "silero-vad"
VERSION = 1
"""Raised when other spans come to be found in the same sound."""
FRAME_S = 512 / 16_000
BEGINS, ENDS = 0.5, 0.35
"""Speech begins where it is this probable, and goes on until it is less probable than that: the published values."""
SHORTEST_S, PAUSE_S = 0.25, 0.3
"""Shorter bursts are no speech, and shorter gaps no pause: they lie within a word or between two."""
PAD_S = 0.06
"""Words begin before the network is sure, and fade after it no longer is."""
_BLOCK = 1024  # frames looked at together, so that hours need little memory

Span = tuple[float, float]
"""Seconds from, and to."""


def manifest() -> Manifest:
    """Of the network's weights, which ship with the package."""
    return find_manifest(NAME, "speech")


def find_speech(sound: np.ndarray, sample_rate: int) -> tuple[Span, ...]:
    """Where somebody speaks in a sound.

    Args:
        sound: [channels, n] float32, full scale 1; channels are averaged.
        sample_rate: in Hz.

    Raises:
        WeightsError: the network's weights are missing or damaged.
    """
    return spans_of(speech_probability(sound, sample_rate), sound.shape[1] / sample_rate)


def speech_probability(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """How probable speech is.

    Args:
        sound: [n] or [channels, n] float32, full scale 1; channels are averaged.
        sample_rate: in Hz.

    Returns:
        [T] float32, row i for the 32 ms from i * `FRAME_S` on; T covers all samples.

    Raises:
        WeightsError: the network's weights are missing or damaged.
    """
    import torch

    from expotion_cli.media.sound import resample, to_mono
    from expotion_cli.speech import silero

    network = _network()
    mono = resample(to_mono(sound), sample_rate, silero.SAMPLE_RATE)[0]
    count = -(-len(mono) // silero.FRAME)
    padded = np.zeros(silero.CONTEXT + count * silero.FRAME, np.float32)
    padded[silero.CONTEXT :][: len(mono)] = mono
    frames = np.lib.stride_tricks.sliding_window_view(padded, silero.CONTEXT + silero.FRAME)[:: silero.FRAME]
    found, state = np.zeros(count, np.float32), None
    with torch.inference_mode():
        for first in range(0, count, _BLOCK):
            block = torch.from_numpy(frames[first : first + _BLOCK].copy())
            probability, state = network(block, state)
            found[first : first + _BLOCK] = probability.numpy()
    return found


def spans_of(probability: np.ndarray, duration_s: float) -> tuple[Span, ...]:
    """Spans of speech, in order and apart from each other.

    Args:
        probability: [T] of `speech_probability`.
        duration_s: of the sound; no span ends later.
    """
    spans: list[Span] = []
    began: int | None = None
    for row, value in enumerate([*probability.tolist(), 0.0]):
        if began is None and value >= BEGINS:
            began = row
        elif began is not None and value < ENDS:
            spans.append((began * FRAME_S, row * FRAME_S))
            began = None
    kept = [(start, end) for start, end in joined(spans, PAUSE_S) if end - start >= SHORTEST_S]
    padded = [(max(0.0, start - PAD_S), min(duration_s, end + PAD_S)) for start, end in kept]
    return tuple((round(start, 3), round(end, 3)) for start, end in padded if end > start)


def joined(spans: Sequence[Span], longest_gap_s: float) -> list[Span]:
    """Spans that follow each other within so many seconds, as one.

    Args:
        spans: in order.
        longest_gap_s: at most so much lies between two that are joined.
    """
    found: list[Span] = []
    for start, end in spans:
        if found and start - found[-1][1] <= longest_gap_s:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


@lru_cache(maxsize=1)
def _network() -> SileroVad:
    import torch

    from expotion_cli.speech.silero import SileroVad
    from expotion_cli.vision import networks

    of = manifest()
    of.require()
    path, remedy = of.files[0].path, "Install the package again."
    with torch.device("meta"):
        network = SileroVad()
    networks.fill(network, networks.read_tensors(path, remedy), path, remedy)
    return network
