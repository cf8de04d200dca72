"""What a tagger hears in music: probabilities of 50 tags, and embeddings to measure distances between sounds with.

The network is musicnn (`tagging.musicnn`), trained on MagnaTagATune. Its weights ship with this package
(`models/musicnn.toml`). What it says depends on how loud the music is, so every sound is brought to one loudness first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from expotion_cli.audio.loudness import integrated_lufs
from expotion_cli.declare import nearest_hint
from expotion_cli.errors import UnknownNameError
from expotion_cli.media.sound import resample, to_mono
from expotion_cli.tags import TAGS
from expotion_cli.vision import networks
from expotion_cli.weights.manifest import find_manifest

NAME = "musicnn"
LEVEL_LUFS = -14.0
"""Loudness that sounds are brought to: that of a finished video, by default."""
WINDOW_S, HOP_S = 3.0, 1.5
_HOP_ROWS, _LEFT_OVER_ROWS = 94, 2
_SILENCE = 1e-3  # -60 dBFS
_BATCH = 8


@dataclass(frozen=True)
class Heard:
    """What the tagger hears in one sound, window by window.

    Attributes:
        probabilities: [windows, 50] float32 of `TAGS`; all 0 where a window is silent.
        embeddings: [sounding windows, 200] float32.
    """

    probabilities: np.ndarray
    embeddings: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """[50] mean probabilities; silence has none of the tags."""
        return np.asarray(self.probabilities.mean(axis=0))


class Tagger:
    """The published network.

    Raises:
        WeightsError: its weights are missing or damaged.
    """

    def __init__(self) -> None:
        import torch

        from expotion_cli.tagging.musicnn import Musicnn

        manifest = find_manifest(NAME, "tagger")
        manifest.require()
        file = manifest.files[0]
        with torch.device("meta"):
            self._network = Musicnn()
        remedy = "Install the package again."
        networks.fill(self._network, networks.read_tensors(file.path, remedy), file.path, remedy)
        self.identity = f"{NAME}, sha256 {file.sha256}"

    def hear(
        self,
        sound: np.ndarray,
        sample_rate: int,
        *,
        level_lufs: float | None = LEVEL_LUFS,
        most_windows: int | None = None,
    ) -> Heard:
        """Tag a sound in windows of 3 s, spread evenly over it, at most 1.5 s from one to the next.

        Args:
            sound: [n] or [channels, n], full scale 1; channels are averaged. Less than 3 s is repeated until it lasts
                3 s, as in the network's training.
            sample_rate: of `sound`, in Hz.
            level_lufs: loudness that the sound is brought to; None leaves it as it is.
            most_windows: take no more of them, so that a long sound costs no more than a short one; None for all.
        """
        import torch

        from expotion_cli.tagging import musicnn

        mono = _at_level(resample(to_mono(sound), sample_rate, musicnn.SAMPLE_RATE)[0], musicnn.SAMPLE_RATE, level_lufs)
        shortest = (musicnn.ROWS - 1) * musicnn.HOP
        if len(mono) < shortest:
            mono = np.resize(mono, shortest) if len(mono) else np.zeros(shortest, np.float32)
        rows = musicnn.log_mel(mono)
        last = len(rows) - musicnn.ROWS
        # A row or two that the last whole window leaves over are not worth another one.
        count = max(0, math.ceil((last - _LEFT_OVER_ROWS) / _HOP_ROWS)) + 1
        starts = np.rint(np.linspace(0, last, min(count, most_windows or count))).astype(int)
        ends = (starts + musicnn.ROWS) * musicnn.HOP
        sounds = np.array(
            [np.abs(mono[s * musicnn.HOP : e]).max() > _SILENCE for s, e in zip(starts, ends, strict=True)]
        )
        probabilities = np.zeros((len(starts), len(TAGS)), np.float32)
        embeddings = np.zeros((int(sounds.sum()), musicnn.WIDTH), np.float32)
        places = np.flatnonzero(sounds)
        for first in range(0, len(places), _BATCH):
            part = places[first : first + _BATCH]
            windows = np.stack([rows[start : start + musicnn.ROWS] for start in starts[part]])
            with torch.inference_mode():
                tagged, embedded = self._network(torch.from_numpy(windows))
            probabilities[part], embeddings[first : first + len(part)] = tagged.numpy(), embedded.numpy()
        return Heard(probabilities, embeddings)


def style(heard: np.ndarray | Iterable[np.ndarray], tags: Iterable[str]) -> float:
    """How much music sounds like what its tags say: their mean probability, 0 to 1.

    Args:
        heard: [..., 50] probabilities, of windows, of cues (`Heard.mean`) or of both.
        tags: of `TAGS`, at least one.

    Raises:
        UnknownNameError: a tag that the tagger doesn't know.
    """
    chosen = _places_of(tags)
    assert chosen, "a style has at least one tag"
    rows = np.concatenate([np.reshape(one, (-1, len(TAGS))) for one in _listed(heard)])
    return float(rows[:, chosen].astype(np.float64).mean())


def style_ratio(
    with_picture: np.ndarray | Iterable[np.ndarray],
    without_picture: np.ndarray | Iterable[np.ndarray],
    tags: Iterable[str],
) -> float:
    """How much of its style music keeps when it follows the picture: `style` with it over `style` without.

    Args:
        with_picture: [..., 50] probabilities.
        without_picture: the same, of music for which the picture plays no part.
        tags: those of the recipe.

    Returns:
        1 where nothing is lost; NaN where the music has none of the tags without the picture either.

    Raises:
        UnknownNameError: a tag that the tagger doesn't know.
    """
    tags = tuple(tags)
    bare = style(without_picture, tags)
    return style(with_picture, tags) / bare if bare > 0 else math.nan


def _places_of(tags: Iterable[str]) -> list[int]:
    """Places of tags among `TAGS`, each once."""
    chosen = tuple(dict.fromkeys(tags))
    for tag in chosen:
        if tag not in TAGS:
            raise UnknownNameError(
                f"There is no tag {tag!r}{nearest_hint(tag, TAGS)}.", remedy=f"Tags: {', '.join(TAGS)}."
            )
    return [TAGS.index(tag) for tag in chosen]


def _listed(heard: np.ndarray | Iterable[np.ndarray]) -> list[np.ndarray]:
    return [heard] if isinstance(heard, np.ndarray) else list(heard)


def _at_level(mono: np.ndarray, sample_rate: int, level_lufs: float | None) -> np.ndarray:
    """[n] float32 whose loudness, played from two loudspeakers, is `level_lufs`; silence stays silence."""
    mono = mono.astype(np.float32, copy=False)
    if level_lufs is None or not len(mono):
        return mono
    shortest = sample_rate // 2  # loudness is measured in blocks of 0.4 s
    measured = integrated_lufs(np.stack([np.resize(mono, max(len(mono), shortest))] * 2), sample_rate)
    if not math.isfinite(measured):
        return np.zeros_like(mono)
    return mono * np.float32(10 ** ((level_lufs - measured) / 20))
