"""Judges sets by how they sound beside a reference, and by whether they keep to their words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from expotion_cli.errors import WeightsError
from expotion_cli.evaluation import distributions, prompts
from expotion_cli.evaluation.hearing import Heard, takes_of
from expotion_cli.evaluation.outputs import SAMPLE_RATE, MusicSet, Piece
from expotion_cli.evaluation.pretrained import SYNCHFORMER, Ast, Clap, Shelf
from expotion_cli.evaluation.results import MIN_FOR_INTERVAL, Figure, of_pairs, of_values

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
    """

    def __init__(self, shelf: Shelf, seed: int, reference: MusicSet | None):
        self._shelf, self._seed, self._reference = shelf, seed, reference
        self._loaded: dict[type, Any] = {}
        self._known: dict[tuple[str, int], tuple[Piece, Any]] = {}
        self.networks: dict[str, str] = {}

    def quality(self, one: MusicSet) -> dict[str, Figure]:
        """How a set sounds beside the reference."""
        pieces = [piece for piece in one.pieces if not piece.is_silent]
        keys = ("fad", "kl", "inception", "spectrum", "chroma", "rhythm")
        if not pieces:
            return dict.fromkeys(keys, Figure(missing="all its outputs are silent"))
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

    def text(self, heard: Sequence[Heard]) -> dict[str, Figure]:
        """Whether a set keeps to its prompts."""
        with_words = [h for h in heard if h.piece.prompt]
        missing = Figure(missing="no prompts (a sidecar NAME.score.json, captions.json or --prompts)")
        figures = {"clap": missing, "tempo": missing, "key": missing}
        if with_words:
            tempos = {id(h): prompts.stated_tempo(h.piece.prompt) for h in with_words}
            keys = {id(h): prompts.stated_key(h.piece.prompt) for h in with_words}
            figures["clap"] = self._clap_score(with_words)
            figures["tempo"] = self._kept(
                [h for h in with_words if tempos[id(h)] is not None],
                lambda h, other: prompts.meets_tempo(h.beats_and_tempo[1], tempos[id(other)]),
                "no prompt states a tempo",
            )
            figures["key"] = self._kept(
                [h for h in with_words if keys[id(h)] is not None],
                lambda h, other: float(self._key(h.piece) == keys[id(other)]),
                "no prompt states a key",
            )
        figures["consistency"] = Figure(missing=f"needs {SYNCHFORMER}'s audio-visual model, which is not part of this")
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
            interval = tuple(float(edge) for edge in np.percentile(drawn, (2.5, 97.5)))
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

    def _clap_score(self, heard: Sequence[Heard]) -> Figure:
        try:
            words = self._network(Clap).words([h.piece.prompt for h in heard])
            sound = np.stack([self._windows(h.piece).mean(axis=0) for h in heard])
        except WeightsError as error:
            return Figure(missing=str(error))
        fits = sound @ words.T
        place = {id(h): number for number, h in enumerate(heard)}
        return self._kept(list(heard), lambda h, other: float(fits[place[id(h)], place[id(other)]]), "no prompts")

    def _kept(self, heard: Sequence[Heard], score: Callable[[Any, Any], float], otherwise: str) -> Figure:
        """Music against its own words and the others'; equal prompts make no shuffled pairs."""
        if not heard:
            return Figure(missing=otherwise)
        names = list(dict.fromkeys(h.piece.clip for h in heard))
        takes = takes_of(heard, names)
        matrix = np.array([[[score(a, b) for b in take] for a in take] for take in takes])
        if len({h.piece.prompt for h in heard}) > 1:
            return of_pairs(matrix, names, seed=self._seed)
        own = np.einsum("rii->ri", matrix).mean(axis=0)
        return of_values(dict(zip(names, own.tolist(), strict=True)), seed=self._seed)

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


def _frechet(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> float:
    return distributions.frechet(np.concatenate(list(one)), np.concatenate(list(two)))
