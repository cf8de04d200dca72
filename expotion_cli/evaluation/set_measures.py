"""Measures of whole sets: how they sound beside a reference, and whether prompt, picture and sound belong together."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation import beats, distributions, offsets
from expotion_cli.evaluation.features import SoundFeatures, takes_of
from expotion_cli.evaluation.offsets import Synchformer
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue, MusicSet
from expotion_cli.evaluation.pretrained import Ast, Clap, WeightsSource
from expotion_cli.evaluation.results import MIN_FOR_INTERVAL, Figure, figure_of_pairs, figure_of_values
from expotion_cli.evaluation.tag_measures import TagMeasures
from expotion_cli.prompts import stated_key, stated_tempo

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.vision.cache import EmbeddingCache

ALL_SILENT = "all its outputs are silent"
NO_PROMPTS = "no prompts (a sidecar NAME.score.json, captions.json or --prompts)"
TOO_SHORT = f"no clip and its sound last {offsets.WINDOW_S:g} s, the length of one Synchformer window"
NO_REFERENCE = "needs a reference set (--reference NAME or FOLDER)"
DRAWS = 200
"""Of the bootstrap of a distance between sets, which costs more than a mean."""
MIN_WINDOWS = 4


class SetMeasures:
    """Measures sets against one reference; keeps the reference's descriptors, and networks once they are loaded.

    Args:
        weights: where networks' weights are.
        seed: of bootstraps and splits.
        reference: the set that quality is measured against, or None.
        clips: whose pictures the sets belong to, by name.
        cache: of embedding streams.
        on_status: called with a line of text before slow steps.
    """

    def __init__(
        self,
        weights: WeightsSource,
        seed: int,
        reference: MusicSet | None,
        *,
        clips: Mapping[str, ClipInfo] | None = None,
        cache: EmbeddingCache | None = None,
        on_status: Callable[[str], None] | None = None,
    ):
        self._weights, self._seed, self._reference = weights, seed, reference
        self._clips, self._cache, self._on_status = clips or {}, cache, on_status or (lambda text: None)
        self._seen: dict[str, np.ndarray] = {}
        self._loaded: dict[type, Any] = {}
        self._known: dict[tuple[str, int], tuple[Cue, Any]] = {}
        self.tags = TagMeasures(seed, reference, self._cached)
        self.networks: dict[str, str] = {}

    def quality(self, one: MusicSet) -> dict[str, Figure]:
        """How a set sounds compared with the reference: FAD, KL, IS and the distances that need no network.

        The tagger's distances are from the reference that ships where none is given.
        """
        cues = [cue for cue in one.cues if not cue.is_silent]
        keys = ("fad", "kl", "inception", "fad_musicnn", "kl_musicnn", "spectrum", "chroma", "rhythm")
        if not cues:
            return dict.fromkeys(keys, Figure(missing=ALL_SILENT))
        figures = self._by_networks(cues) | self.tags.distances(cues) | self._by_descriptors(cues)
        if self._reference is not None and one.name == self._reference.name:
            itself = Figure(missing="it is the reference itself")
            found = (k for k in keys if k != "inception" and figures[k].value is not None)
            figures |= dict.fromkeys(found, itself)
        return figures

    def release(self) -> None:
        """Free what is kept of all cues but the reference's."""
        kept = {id(cue) for cue in self._reference.cues} if self._reference else set()
        self._known = {key: value for key, value in self._known.items() if key[1] in kept}

    def text(self, music: Sequence[SoundFeatures]) -> dict[str, Figure]:
        """Whether a set keeps its recipe's style, meets its prompts, and is in sync with the picture."""
        with_words = [h for h in music if h.cue.prompt]
        figures = {"style": self.tags.style([h.cue for h in music])}
        figures |= dict.fromkeys(("clap", "tempo", "key"), Figure(missing=NO_PROMPTS)) | self._synchrony(music)
        if with_words:
            tempos = {id(h): found for h in with_words if (found := stated_tempo(h.cue.prompt or "")) is not None}
            keys = {id(h): found for h in with_words if (found := stated_key(h.cue.prompt or "")) is not None}
            figures["clap"] = self._clap_score(with_words)
            figures["tempo"] = self._against_other_prompts(
                [h for h in with_words if id(h) in tempos],
                lambda h, other: beats.meets_tempo(h.beats_and_tempo[1], tempos[id(other)]),
                "no prompt states a tempo",
            )
            figures["key"] = self._against_other_prompts(
                [h for h in with_words if id(h) in keys],
                lambda h, other: float(self._key(h.cue) == keys[id(other)]),
                "no prompt states a key",
            )
        return figures

    def _by_descriptors(self, cues: Sequence[Cue]) -> dict[str, Figure]:
        measures: dict[str, Callable[..., float]] = {
            "spectrum": distributions.spectrum_distance,
            "chroma": distributions.chroma_distance,
            "rhythm": distributions.rhythm_distance,
        }
        if self._reference is None:
            return dict.fromkeys(measures, Figure(missing=NO_REFERENCE))
        own = [self._descriptor(cue) for cue in cues]
        theirs = [self._descriptor(cue) for cue in self._reference.cues if not cue.is_silent]
        if not theirs:
            return dict.fromkeys(measures, Figure(missing="the reference set is silent"))
        return {key: self._distance(own, theirs, measure) for key, measure in measures.items()}

    def _distance(self, own: Sequence[Any], theirs: Sequence[Any], measure: Callable[..., float]) -> Figure:
        value = measure(own, theirs)
        if not math.isfinite(value):
            return Figure(missing="too few onsets")
        interval = None
        if len(own) >= MIN_FOR_INTERVAL:
            rng = np.random.default_rng(self._seed)
            drawn = [measure([own[i] for i in rng.integers(0, len(own), len(own))], theirs) for _ in range(DRAWS)]
            low, high = np.nanpercentile(drawn, (2.5, 97.5))
            interval = (float(low), float(high))
        return Figure(value, interval, distributions.to_itself(theirs, measure, self._seed))

    def _by_networks(self, cues: Sequence[Cue]) -> dict[str, Figure]:
        figures = {}
        try:
            labels = {id(cue): self._labels(cue) for cue in cues}
            figures["inception"] = self._inception(np.stack(list(labels.values())))
            figures["kl"] = self._kl(cues, labels)
        except WeightsError as error:
            figures["kl"] = figures["inception"] = Figure(missing=str(error))
        if self._reference is None:
            return figures | {"fad": Figure(missing=NO_REFERENCE)}
        try:
            own = [self._windows(cue) for cue in cues]
            theirs = [self._windows(cue) for cue in self._reference.cues if not cue.is_silent]
        except WeightsError as error:
            return figures | {"fad": Figure(missing=str(error))}
        if min(sum(map(len, own)), sum(map(len, theirs))) < MIN_WINDOWS:
            return figures | {"fad": Figure(missing="too little sound for a covariance")}
        return figures | {"fad": self._distance(own, theirs, _frechet)}

    def _inception(self, labels: np.ndarray) -> Figure:
        if len(labels) < 2:
            return Figure(missing="a single output: variety can't be measured")
        interval = None
        if len(labels) >= MIN_FOR_INTERVAL:
            rng = np.random.default_rng(self._seed)
            drawn = [
                distributions.inception_score(labels[rng.integers(0, len(labels), len(labels))]) for _ in range(DRAWS)
            ]
            low, high = np.percentile(drawn, (2.5, 97.5))
            interval = float(low), float(high)
        return Figure(distributions.inception_score(labels), interval, 1.0)

    def _kl(self, cues: Sequence[Cue], labels: dict[int, np.ndarray]) -> Figure:
        if self._reference is None:
            return Figure(missing=NO_REFERENCE)
        true = {cue.clip: self._labels(cue) for cue in self._reference.cues if not cue.is_silent}
        paired = [cue for cue in cues if cue.clip in true]
        if not paired:
            return Figure(missing="the reference set has none of these clips")
        own, other = {}, []
        for cue in paired:
            own[cue.clip] = distributions.kl_divergence(true[cue.clip], labels[id(cue)])
            other += [distributions.kl_divergence(t, labels[id(cue)]) for c, t in true.items() if c != cue.clip]
        return figure_of_values(own, seed=self._seed, chance=float(np.mean(other)) if other else None)

    def _synchrony(self, music: Sequence[SoundFeatures]) -> dict[str, Figure]:
        """Whether sound and picture are in sync, and whether the sound fits both picture and prompt."""
        keys = ("in_sync", "sync_offset", "consistency")
        try:
            network: Synchformer = self._network(Synchformer)
        except WeightsError as error:
            return dict.fromkeys(keys, Figure(missing=str(error)))
        usable = [h for h in music if h.cue.clip in self._clips and not h.cue.is_silent]
        if not usable:
            return dict.fromkeys(keys, Figure(missing=ALL_SILENT))
        usable = [h for h in usable if self._num_segments(h) >= offsets.NUM_SEGMENTS]
        if not usable:
            return dict.fromkeys(keys, Figure(missing=TOO_SHORT))

        @functools.cache
        def scores(one: SoundFeatures, other: SoundFeatures) -> tuple[float, float]:
            return network.score(self._visual_features(other), self._audio_features(one))

        figures = {
            "in_sync": self._against_others(usable, lambda h, other: scores(h, other)[0]),
            "sync_offset": self._against_others(usable, lambda h, other: scores(h, other)[1]),
        }
        with_words = [h for h in usable if h.cue.prompt]
        if not with_words:
            return figures | {"consistency": Figure(missing=NO_PROMPTS)}
        try:
            fits = self._fits(with_words)
        except WeightsError as error:
            return figures | {"consistency": Figure(missing=str(error))}
        all_three = self._against_others(
            with_words, lambda h, other: offsets.together(scores(h, other)[0], fits(h, other))
        )
        return figures | {"consistency": all_three}

    def _clap_score(self, music: Sequence[SoundFeatures]) -> Figure:
        try:
            return self._against_other_prompts(music, self._fits(music), NO_PROMPTS)
        except WeightsError as error:
            return Figure(missing=str(error))

    def _fits(self, music: Sequence[SoundFeatures]) -> Callable[[SoundFeatures, SoundFeatures], float]:
        """(music, whose prompt) → CLAP's cosine.

        Raises:
            WeightsError: the weights are not here.
        """
        network = self._network(Clap)
        words = network.words([h.cue.prompt for h in music])
        sound = np.stack([self._windows(h.cue).mean(axis=0) for h in music])
        cosines, place = sound @ words.T, {id(h): number for number, h in enumerate(music)}
        return lambda h, other: float(cosines[place[id(h)], place[id(other)]])

    def _against_other_prompts(
        self, music: Sequence[SoundFeatures], score: Callable[[Any, Any], float], otherwise: str
    ) -> Figure:
        """Music against its own prompt and the others'; equal prompts give no shuffled pairs."""
        if not music:
            return Figure(missing=otherwise)
        if len({h.cue.prompt for h in music}) > 1:
            return self._against_others(music, score)
        matrix, names = _table(music, score)
        own = np.einsum("rii->ri", matrix).mean(axis=0)
        return figure_of_values(dict(zip(names, own.tolist(), strict=True)), seed=self._seed)

    def _against_others(self, music: Sequence[SoundFeatures], score: Callable[[Any, Any], float]) -> Figure:
        """Music against its own clip and the others."""
        matrix, names = _table(music, score)
        return figure_of_pairs(matrix, names, seed=self._seed)

    def _num_segments(self, music: SoundFeatures) -> int:
        """Segments that picture and sound have in common."""
        return min(len(self._visual_features(music)), len(self._audio_features(music)))

    def _visual_features(self, music: SoundFeatures) -> np.ndarray:
        """Synchformer's visual features of the clip that a cue belongs to, each clip encoded once."""
        name = music.cue.clip
        if name not in self._seen:
            self._on_status(f"{offsets.NAME} encodes {name}")
            self._seen[name] = self._network(Synchformer).encode_video(self._clips[name], self._cache)
        return self._seen[name]

    def _audio_features(self, music: SoundFeatures) -> np.ndarray:
        cue = music.cue
        return self._cached("synchformer", cue, lambda: self._network(Synchformer).encode_audio(cue.audio))

    def _key(self, cue: Cue) -> tuple[int, bool]:
        found = self._descriptor(cue)
        return found.tonic, found.minor

    def _descriptor(self, cue: Cue) -> distributions.Descriptor:
        return self._cached("descriptor", cue, lambda: distributions.describe(cue.audio, SAMPLE_RATE))

    def _windows(self, cue: Cue) -> np.ndarray:
        return self._cached("clap", cue, lambda: self._network(Clap).windows(cue.audio))

    def _labels(self, cue: Cue) -> np.ndarray:
        return self._cached("ast", cue, lambda: self._network(Ast).labels(cue.audio))

    def _cached(self, kind: str, cue: Cue, make: Callable[[], Any]) -> Any:
        key = kind, id(cue)
        if key not in self._known:
            self._known[key] = cue, make()  # holding the cue keeps its id its own
        return self._known[key][1]

    def _network(self, kind: type) -> Any:
        if kind not in self._loaded:
            try:
                self._loaded[kind] = kind(self._weights)
                self.networks[kind.__name__.lower()] = self._loaded[kind].identity
            except WeightsError as error:
                self._loaded[kind] = error
        if isinstance(self._loaded[kind], WeightsError):
            raise self._loaded[kind]
        return self._loaded[kind]


def _table(music: Sequence[SoundFeatures], score: Callable[[Any, Any], float]) -> tuple[np.ndarray, list[str]]:
    """[takes, N, N] scores, row music, column the clip it is compared with, and the N clips."""
    names = list(dict.fromkeys(h.cue.clip for h in music))
    takes = takes_of(music, names)
    return np.array([[[score(a, b) for b in take] for a in take] for take in takes]), names


def _frechet(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> float:
    return distributions.frechet(np.concatenate(list(one)), np.concatenate(list(two)))
