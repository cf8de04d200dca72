"""Judges sets by how they sound beside a reference, and by whether words, picture and sound belong together."""

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
from expotion_cli.evaluation.outputs import SAMPLE_RATE, MusicSet, Piece
from expotion_cli.evaluation.pretrained import Ast, Clap, Shelf
from expotion_cli.evaluation.results import MIN_FOR_INTERVAL, Figure, of_pairs, of_values
from expotion_cli.prompts import stated_key, stated_tempo

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.vision.cache import EmbeddingCache

ALL_SILENT = "all its outputs are silent"
NO_PROMPTS = "no prompts (a sidecar NAME.score.json, captions.json or --prompts)"
TOO_SHORT = f"no clip and its sound last {offsets.WINDOW_S:g} s, which Synchformer looks at in one go"
NO_REFERENCE = "needs a reference set (--reference NAME or FOLDER)"
DRAWS = 200
"""Of the bootstrap of a distance between sets, which costs more than a mean."""
MIN_WINDOWS = 4


class Judge:
    """Keeps what is needed for all sets: the reference's descriptors, and networks once they are loaded.

    Args:
        shelf: where networks' weights are.
        seed: of bootstraps and splits.
        reference: what quality is held to, or None.
        clips: whose pictures the sets belong to, by name.
        cache: of what was seen in them.
        tell: told what takes long.
    """

    def __init__(
        self,
        shelf: Shelf,
        seed: int,
        reference: MusicSet | None,
        *,
        clips: Mapping[str, ClipInfo] | None = None,
        cache: EmbeddingCache | None = None,
        tell: Callable[[str], None] | None = None,
    ):
        self._shelf, self._seed, self._reference = shelf, seed, reference
        self._clips, self._cache, self._tell = clips or {}, cache, tell or (lambda text: None)
        self._seen: dict[str, np.ndarray] = {}
        self._loaded: dict[type, Any] = {}
        self._known: dict[tuple[str, int], tuple[Piece, Any]] = {}
        self.networks: dict[str, str] = {}

    def quality(self, one: MusicSet) -> dict[str, Figure]:
        """How a set sounds beside the reference."""
        pieces = [piece for piece in one.pieces if not piece.is_silent]
        keys = ("fad", "kl", "inception", "spectrum", "chroma", "rhythm")
        if not pieces:
            return dict.fromkeys(keys, Figure(missing=ALL_SILENT))
        figures = self._by_networks(pieces) | self._by_descriptors(pieces)
        if self._reference is not None and one.name == self._reference.name:
            itself = Figure(missing="it is the reference itself")
            found = (k for k in keys if k != "inception" and figures[k].value is not None)
            figures |= dict.fromkeys(found, itself)
        return figures

    def forget(self) -> None:
        """Let go of all pieces but the reference's."""
        kept = {id(piece) for piece in self._reference.pieces} if self._reference else set()
        self._known = {key: value for key, value in self._known.items() if key[1] in kept}

    def text(self, heard: Sequence[SoundFeatures]) -> dict[str, Figure]:
        """Whether a set keeps to its prompts, and with them to the picture."""
        with_words = [h for h in heard if h.piece.prompt]
        figures = dict.fromkeys(("clap", "tempo", "key"), Figure(missing=NO_PROMPTS)) | self._together(heard)
        if with_words:
            tempos = {id(h): stated_tempo(h.piece.prompt) for h in with_words}
            keys = {id(h): stated_key(h.piece.prompt) for h in with_words}
            figures["clap"] = self._clap_score(with_words)
            figures["tempo"] = self._kept(
                [h for h in with_words if tempos[id(h)] is not None],
                lambda h, other: beats.meets_tempo(h.beats_and_tempo[1], tempos[id(other)]),
                "no prompt states a tempo",
            )
            figures["key"] = self._kept(
                [h for h in with_words if keys[id(h)] is not None],
                lambda h, other: float(self._key(h.piece) == keys[id(other)]),
                "no prompt states a key",
            )
        return figures

    def _by_descriptors(self, pieces: Sequence[Piece]) -> dict[str, Figure]:
        measures: dict[str, Callable[..., float]] = {
            "spectrum": distributions.spectrum_distance,
            "chroma": distributions.chroma_distance,
            "rhythm": distributions.rhythm_distance,
        }
        if self._reference is None:
            return dict.fromkeys(measures, Figure(missing=NO_REFERENCE))
        own = [self._descriptor(piece) for piece in pieces]
        theirs = [self._descriptor(piece) for piece in self._reference.pieces if not piece.is_silent]
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

    def _by_networks(self, pieces: Sequence[Piece]) -> dict[str, Figure]:
        figures = {}
        try:
            labels = {id(piece): self._labels(piece) for piece in pieces}
            figures["inception"] = self._inception(np.stack(list(labels.values())))
            figures["kl"] = self._kl(pieces, labels)
        except WeightsError as error:
            figures["kl"] = figures["inception"] = Figure(missing=str(error))
        if self._reference is None:
            return figures | {"fad": Figure(missing=NO_REFERENCE)}
        try:
            own = [self._windows(piece) for piece in pieces]
            theirs = [self._windows(piece) for piece in self._reference.pieces if not piece.is_silent]
        except WeightsError as error:
            return figures | {"fad": Figure(missing=str(error))}
        if min(sum(map(len, own)), sum(map(len, theirs))) < MIN_WINDOWS:
            return figures | {"fad": Figure(missing="too little sound for a covariance")}
        return figures | {"fad": self._distance(own, theirs, _frechet)}

    def _inception(self, labels: np.ndarray) -> Figure:
        if len(labels) < 2:
            return Figure(missing="a single output: there is no variety to tell")
        interval = None
        if len(labels) >= MIN_FOR_INTERVAL:
            rng = np.random.default_rng(self._seed)
            drawn = [
                distributions.inception_score(labels[rng.integers(0, len(labels), len(labels))]) for _ in range(DRAWS)
            ]
            low, high = np.percentile(drawn, (2.5, 97.5))
            interval = float(low), float(high)
        return Figure(distributions.inception_score(labels), interval, 1.0)

    def _kl(self, pieces: Sequence[Piece], labels: dict[int, np.ndarray]) -> Figure:
        if self._reference is None:
            return Figure(missing=NO_REFERENCE)
        true = {piece.clip: self._labels(piece) for piece in self._reference.pieces if not piece.is_silent}
        paired = [piece for piece in pieces if piece.clip in true]
        if not paired:
            return Figure(missing="the reference set has none of these clips")
        own, other = {}, []
        for piece in paired:
            own[piece.clip] = distributions.kl_divergence(true[piece.clip], labels[id(piece)])
            other += [distributions.kl_divergence(t, labels[id(piece)]) for c, t in true.items() if c != piece.clip]
        return of_values(own, seed=self._seed, chance=float(np.mean(other)) if other else None)

    def _together(self, heard: Sequence[SoundFeatures]) -> dict[str, Figure]:
        """Whether sound and picture are in time, and whether the sound keeps to both, picture and words."""
        keys = ("in_sync", "sync_offset", "consistency")
        try:
            network: Synchformer = self._network(Synchformer)
        except WeightsError as error:
            return dict.fromkeys(keys, Figure(missing=str(error)))
        usable = [h for h in heard if h.piece.clip in self._clips and not h.piece.is_silent]
        if not usable:
            return dict.fromkeys(keys, Figure(missing=ALL_SILENT))
        usable = [h for h in usable if min(len(self._sight(h)), len(self._hearing(h))) >= offsets.NUM_SEGMENTS]
        if not usable:
            return dict.fromkeys(keys, Figure(missing=TOO_SHORT))

        @functools.cache
        def judged(music: SoundFeatures, other: SoundFeatures) -> tuple[float, float]:
            return network.judge(self._sight(other), self._hearing(music))

        figures = {
            "in_sync": self._against_others(usable, lambda h, other: judged(h, other)[0]),
            "sync_offset": self._against_others(usable, lambda h, other: judged(h, other)[1]),
        }
        with_words = [h for h in usable if h.piece.prompt]
        if not with_words:
            return figures | {"consistency": Figure(missing=NO_PROMPTS)}
        try:
            fits = self._fits(with_words)
        except WeightsError as error:
            return figures | {"consistency": Figure(missing=str(error))}
        all_three = self._against_others(
            with_words, lambda h, other: offsets.together(judged(h, other)[0], fits(h, other))
        )
        return figures | {"consistency": all_three}

    def _clap_score(self, heard: Sequence[SoundFeatures]) -> Figure:
        try:
            return self._kept(heard, self._fits(heard), NO_PROMPTS)
        except WeightsError as error:
            return Figure(missing=str(error))

    def _fits(self, heard: Sequence[SoundFeatures]) -> Callable[[SoundFeatures, SoundFeatures], float]:
        """(music, whose words) → CLAP's cosine.

        Raises:
            WeightsError: the weights are not here.
        """
        network = self._network(Clap)
        words = network.words([h.piece.prompt for h in heard])
        sound = np.stack([self._windows(h.piece).mean(axis=0) for h in heard])
        cosines, place = sound @ words.T, {id(h): number for number, h in enumerate(heard)}
        return lambda h, other: float(cosines[place[id(h)], place[id(other)]])

    def _kept(self, heard: Sequence[SoundFeatures], score: Callable[[Any, Any], float], otherwise: str) -> Figure:
        """Music against its own words and the others'; equal prompts make no shuffled pairs."""
        if not heard:
            return Figure(missing=otherwise)
        if len({h.piece.prompt for h in heard}) > 1:
            return self._against_others(heard, score)
        matrix, names = _table(heard, score)
        own = np.einsum("rii->ri", matrix).mean(axis=0)
        return of_values(dict(zip(names, own.tolist(), strict=True)), seed=self._seed)

    def _against_others(self, heard: Sequence[SoundFeatures], score: Callable[[Any, Any], float]) -> Figure:
        """Music against what belongs to its own clip, and to the others."""
        matrix, names = _table(heard, score)
        return of_pairs(matrix, names, seed=self._seed)

    def _sight(self, heard: SoundFeatures) -> np.ndarray:
        """What Synchformer sees in the clip of a piece, each clip looked at once."""
        name = heard.piece.clip
        if name not in self._seen:
            self._tell(f"{offsets.NAME} looks at {name}")
            self._seen[name] = self._network(Synchformer).see(self._clips[name], self._cache)
        return self._seen[name]

    def _hearing(self, heard: SoundFeatures) -> np.ndarray:
        piece = heard.piece
        return self._remember("synchformer", piece, lambda: self._network(Synchformer).hear(piece.audio))

    def _key(self, piece: Piece) -> tuple[int, bool]:
        found = self._descriptor(piece)
        return found.tonic, found.minor

    def _descriptor(self, piece: Piece) -> distributions.Descriptor:
        return self._remember("descriptor", piece, lambda: distributions.describe(piece.audio, SAMPLE_RATE))

    def _windows(self, piece: Piece) -> np.ndarray:
        return self._remember("clap", piece, lambda: self._network(Clap).windows(piece.audio))

    def _labels(self, piece: Piece) -> np.ndarray:
        return self._remember("ast", piece, lambda: self._network(Ast).labels(piece.audio))

    def _remember(self, kind: str, piece: Piece, make: Callable[[], Any]) -> Any:
        key = kind, id(piece)
        if key not in self._known:
            self._known[key] = piece, make()  # holding the piece keeps its id its own
        return self._known[key][1]

    def _network(self, kind: type) -> Any:
        if kind not in self._loaded:
            try:
                self._loaded[kind] = kind(self._shelf)
                self.networks[kind.__name__.lower()] = self._loaded[kind].identity
            except WeightsError as error:
                self._loaded[kind] = error
        if isinstance(self._loaded[kind], WeightsError):
            raise self._loaded[kind]
        return self._loaded[kind]


def _table(heard: Sequence[SoundFeatures], score: Callable[[Any, Any], float]) -> tuple[np.ndarray, list[str]]:
    """[takes, N, N] scores, row music, column what it is held to, and the N clips."""
    names = list(dict.fromkeys(h.piece.clip for h in heard))
    takes = takes_of(heard, names)
    return np.array([[[score(a, b) for b in take] for a in take] for take in takes]), names


def _frechet(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> float:
    return distributions.frechet(np.concatenate(list(one)), np.concatenate(list(two)))
