"""Figures from what the tagger hears: how far sets lie from a reference, and whether music keeps its recipe's style.

Where no reference is given, sets are compared with one that ships: excerpts of Freedoom's music, as the tagger hears
them (`models/musicnn.md` says how they were made).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from expotion_cli.errors import WeightsError, reading
from expotion_cli.evaluation import distributions
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue, MusicSet
from expotion_cli.evaluation.results import MIN_FOR_INTERVAL, Figure, figure_of_values, interval_of
from expotion_cli.tagging.tagger import NAME, Heard, Tagger, style
from expotion_cli.weights.manifest import find_manifest

REFERENCE_FILE = "musicnn/reference.safetensors"
NO_TAGS = "no tags: neither a recipe that has some (a sidecar NAME.score.json) nor a prompt that names one"
TOO_LITTLE = "too little sound for a covariance"
MIN_WINDOWS = 4
DRAWS = 200


@dataclass(frozen=True)
class TagReference:
    """What the tagger hears in the music that sets are compared with, piece by piece.

    Attributes:
        name: of the set.
        embeddings: [windows, 200] of each piece.
        tags: [50] mean probabilities of each piece.
    """

    name: str
    embeddings: tuple[np.ndarray, ...]
    tags: tuple[np.ndarray, ...]


@lru_cache(maxsize=1)
def shipped_reference() -> TagReference:
    """The reference that ships: excerpts of 12 s of Freedoom's music.

    Raises:
        WeightsError: its file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    manifest = find_manifest(NAME, "tagger")
    manifest.require()
    path = next(file.path for file in manifest.files if file.name == REFERENCE_FILE)
    remedy = "Install the package again."
    with (
        reading(path, "the reference", error=WeightsError, remedy=remedy, also=(SafetensorError,)),
        safe_open(path, framework="numpy") as file,
    ):
        name = json.loads(file.metadata()["about"])["name"]
        embeddings, tags = (file.get_tensor(key).astype(np.float32) for key in ("embeddings", "tags"))
    return TagReference(f"{name} (shipped)", tuple(embeddings), tuple(tags))


class TagMeasures:
    """Measures sets by what the tagger hears in them; the tagger is loaded when it is first needed.

    Args:
        seed: of bootstraps and splits.
        reference: the set that others are measured against; None for the one that ships.
        keep: keeps what was heard in a cue: (kind, cue, make) → what `make` made.
    """

    def __init__(self, seed: int, reference: MusicSet | None, keep: Callable[[str, Cue, Callable[[], Heard]], Heard]):
        self._seed, self._given, self._keep = seed, reference, keep
        self._tagger: Tagger | None = None

    @property
    def identity(self) -> str | None:
        """Which tagger listened; None if it was not needed."""
        return self._tagger.identity if self._tagger is not None else None

    @property
    def reference_name(self) -> str:
        """The set that others are measured against."""
        return self._given.name if self._given is not None else shipped_reference().name

    def distances(self, cues: Sequence[Cue]) -> dict[str, Figure]:
        """How far a set lies from the reference: Fréchet distance of embeddings, KL divergence of tags.

        Args:
            cues: of the set, none of them silent.
        """
        keys = ("fad_musicnn", "kl_musicnn")
        try:
            theirs, heard = self._reference(), [self._hear(cue) for cue in cues]
        except WeightsError as error:
            return dict.fromkeys(keys, Figure(missing=str(error)))
        if not theirs.tags:
            return dict.fromkeys(keys, Figure(missing="the reference set is silent"))
        own, others = (
            [rows for rows in some if len(rows)] for some in ([h.embeddings for h in heard], theirs.embeddings)
        )
        if min(sum(map(len, own)), sum(map(len, others))) < MIN_WINDOWS:
            frechet = Figure(missing=TOO_LITTLE)
        else:
            frechet = self._figure(own, others, _fit, distributions.frechet_of_fits)
        kl = self._figure([one.mean for one in heard], theirs.tags, _shares, _divergence)
        return dict(zip(keys, (frechet, kl), strict=True))

    def style(self, cues: Sequence[Cue]) -> Figure:
        """Mean probability of each cue's own tags; chance is that of the same tags in the reference that ships.

        Args:
            cues: of the set; silence has none of its tags.
        """
        with_tags = [cue for cue in cues if cue.tags]
        if not with_tags:
            return Figure(missing=NO_TAGS)
        try:
            usual = np.stack(shipped_reference().tags)
            own: dict[str, list[float]] = {}
            apart: dict[str, list[float]] = {}
            for cue in with_tags:
                own.setdefault(cue.clip, []).append(style(self._hear(cue).mean, cue.tags))
                apart.setdefault(cue.clip, []).append(own[cue.clip][-1] - style(usual, cue.tags))
        except WeightsError as error:
            return Figure(missing=str(error))
        by_clip = {clip: float(np.mean(values)) for clip, values in own.items()}
        lifts = np.array([np.mean(values) for values in apart.values()])
        found = figure_of_values(by_clip, seed=self._seed)
        lift = float(lifts.mean())
        assert found.value is not None
        return Figure(
            found.value, found.interval, found.value - lift, lift, interval_of(lifts, self._seed), found.by_clip
        )

    def _figure(
        self,
        own: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
        fit: Callable[[Sequence[np.ndarray]], object],
        distance: Callable,
    ) -> Figure:
        """A distance between what is fitted to two lists of pieces; the reference is fitted once."""
        fitted = fit(theirs)
        interval = None
        if len(own) >= MIN_FOR_INTERVAL:
            rng = np.random.default_rng(self._seed)
            draws = [rng.integers(0, len(own), len(own)) for _ in range(DRAWS)]
            low, high = np.percentile([distance(fit([own[i] for i in draw]), fitted) for draw in draws], (2.5, 97.5))
            interval = (float(low), float(high))

        def apart(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
            return float(distance(fit(some), fit(others)))

        chance = distributions.to_itself(theirs, apart, self._seed, count=len(own))
        return Figure(float(distance(fit(own), fitted)), interval, chance)

    def _reference(self) -> TagReference:
        if self._given is None:
            return shipped_reference()
        heard = [self._hear(cue) for cue in self._given.cues if not cue.is_silent]
        return TagReference(self._given.name, tuple(h.embeddings for h in heard), tuple(h.mean for h in heard))

    def _hear(self, cue: Cue) -> Heard:
        if self._tagger is None:
            self._tagger = Tagger()
        tagger = self._tagger
        return self._keep("tags", cue, lambda: tagger.hear(cue.audio, SAMPLE_RATE))


def _fit(pieces: Sequence[np.ndarray]) -> distributions.GaussianFit:
    return distributions.fit_gaussian(np.concatenate(list(pieces)))


def _shares(tags: Sequence[np.ndarray]) -> np.ndarray:
    mean = np.mean(tags, axis=0, dtype=np.float64)
    return np.asarray(mean / max(mean.sum(), 1e-12))


def _divergence(own: np.ndarray, theirs: np.ndarray) -> float:
    return distributions.kl_divergence(theirs, own)
