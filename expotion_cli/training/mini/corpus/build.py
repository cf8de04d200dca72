"""Builds the training corpus in a folder, and reads it back.

A corpus is a folder with

- `corpus.safetensors`: all pieces one after another: `tokens` uint8 [8, total], `offsets` int64 [N + 1], `energy` and
  `accent` float16 [total] on the step grid: the energy profile of each piece, NaN for none;
- `attributes.json`: one entry a piece;
- `split.json`: numbers of the training and held-out pieces, whole pieces each;
- `sources.json`: origin and licence of the scores.
"""

from __future__ import annotations

import importlib.util
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import EnvironmentProblem, UsageError
from expotion_cli.processes import beyond_interrupts, ignore_interrupts
from expotion_cli.training.mini.corpus.arranger import compose
from expotion_cli.training.mini.corpus.energy import HALF_BEAT
from expotion_cli.training.mini.corpus.midi_pieces import MIDI, is_held_out, read_folder
from expotion_cli.training.mini.corpus.piece import Piece

CORPUS_FILE, ATTRIBUTES_FILE, SPLIT_FILE, SOURCES_FILE = (
    "corpus.safetensors",
    "attributes.json",
    "split.json",
    "sources.json",
)
_BLOCK = 250


@dataclass(frozen=True)
class Corpus:
    """A corpus in memory.

    Attributes:
        tokens: [8, total] uint8.
        offsets: [N + 1] int64; piece i is `tokens[:, offsets[i]:offsets[i + 1]]`.
        energy: [total] float16, 0..1; NaN for pieces without profile.
        accent: [total] float16, strength 0..1 at accented steps, else 0; NaN as above.
        attributes: one dict a piece, with "source" and "licence".
        train: numbers of the pieces to train on.
        held_out: numbers of the pieces for evaluation.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    energy: np.ndarray
    accent: np.ndarray
    attributes: list[dict[str, Any]]
    train: list[int]
    held_out: list[int]

    def piece(self, number: int) -> np.ndarray:
        """[8, S] uint8 tokens of one piece."""
        return self.tokens[:, self.offsets[number] : self.offsets[number + 1]]


def build_corpus(
    folder: str | Path,
    num_composed: int,
    seed: int,
    chorales: bool = True,
    workers: int = 2,
    held_out_share: float = 0.03,
    grooves: bool = False,
    pieces: str | Path | None = None,
) -> Path:
    """Compose the corpus and write it; the same arguments give the same bytes, whatever `workers` is.

    Args:
        folder: created if absent; its corpus files are replaced.
        num_composed: number of pieces to compose by rule.
        seed: of all randomness.
        chorales: also read the free scores that come with music21 (needs music21).
        workers: processes.
        held_out_share: share of pieces to hold out, 0..1.
        grooves: compose all pieces on profiles without stillness.
        pieces: also read the General-MIDI files of this folder; its `LICENCE.txt` states their terms.

    Returns:
        The folder.

    Raises:
        EnvironmentProblem: `chorales` is set and music21 is not installed.
        UsageError: `pieces` holds no MIDI file that can be read.
    """
    from safetensors.numpy import save_file

    if chorales and importlib.util.find_spec("music21") is None:  # checked before hours of composing
        raise EnvironmentProblem("music21 is not installed.", remedy="Run: pip install music21")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [(seed, first, min(first + _BLOCK, num_composed), grooves) for first in range(0, num_composed, _BLOCK)]
    if workers > 1 and len(blocks) > 1:
        with ProcessPoolExecutor(workers, get_context("spawn"), ignore_interrupts) as pool:
            with beyond_interrupts():
                composing = pool.map(_compose_block, blocks)
            packed = list(composing)
    else:
        packed = [_compose_block(block) for block in blocks]
    sources: list[dict[str, Any]] = []
    if chorales:
        from expotion_cli.training.mini.corpus.chorales import read_scores

        scores, sources = read_scores()
        if scores:
            packed.append(_pack(scores))
    if pieces is not None:
        found, rows = read_folder(Path(pieces))
        if not found:
            raise UsageError("No MIDI file of this folder can be read as a piece.", path=pieces)
        packed.append(_pack(found))
        sources += rows
    lengths = np.concatenate([p[1] for p in packed]) if packed else np.zeros(0, np.int64)
    attributes = [a for p in packed for a in p[4]]
    with storage.atomic_path(folder / CORPUS_FILE) as temporary:
        save_file(
            {
                "tokens": np.concatenate([p[0] for p in packed], axis=1),
                "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
                "energy": np.concatenate([p[2] for p in packed]),
                "accent": np.concatenate([p[3] for p in packed]),
            },
            str(temporary),
        )
    storage.write_bytes(folder / ATTRIBUTES_FILE, json.dumps(attributes, ensure_ascii=False).encode())
    storage.write_json(folder / SPLIT_FILE, _split(attributes, seed, held_out_share))
    storage.write_json(folder / SOURCES_FILE, sources)
    return folder


def load_corpus(folder: str | Path) -> Corpus:
    """Read a corpus folder."""
    from safetensors.numpy import load_file

    folder = Path(folder)
    arrays = load_file(str(folder / CORPUS_FILE))
    split = json.loads((folder / SPLIT_FILE).read_text())
    attributes = json.loads((folder / ATTRIBUTES_FILE).read_text())
    return Corpus(attributes=attributes, train=split["train"], held_out=split["held_out"], **arrays)


def compose_numbered(seed: int, number: int, grooves: bool = False) -> Piece:
    """Compose piece `number` of a corpus; it depends on its arguments alone.

    Args:
        seed: of the corpus.
        number: of the piece.
        grooves: see `build_corpus`.
    """
    return compose(np.random.default_rng((seed, number)), follow="groove" if grooves else None)


def driving_curves(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """([S] energy, [S] accent strength) that a piece was written on, as stored; NaN for none."""
    size = piece.tokens.shape[1]
    if piece.profile is None:
        return np.full(size, np.nan, np.float16), np.full(size, np.nan, np.float16)
    energy = np.repeat(np.asarray(piece.profile.energy, np.float16), HALF_BEAT)[:size]
    accent = np.zeros(size, np.float16)
    for step, strength in piece.profile.accents.items():
        accent[step] = strength
    return energy, accent


Packed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]


def _compose_block(block: tuple[int, int, int, bool]) -> Packed:
    seed, first, last, grooves = block
    return _pack([compose_numbered(seed, number, grooves) for number in range(first, last)])


def _pack(pieces: list[Piece]) -> Packed:
    rows = [driving_curves(piece) for piece in pieces]
    return (
        np.concatenate([piece.tokens.astype(np.uint8) for piece in pieces], axis=1),
        np.array([piece.tokens.shape[1] for piece in pieces], np.int64),
        np.concatenate([energy for energy, _ in rows]),
        np.concatenate([accent for _, accent in rows]),
        [{**piece.attributes, "source": piece.source, "licence": piece.licence} for piece in pieces],
    )


def _split(attributes: list[dict[str, Any]], seed: int, share: float) -> dict[str, list[int]]:
    """Hold out whole pieces; pieces from one score stay together. MIDI files are held out by their names."""
    rng = np.random.default_rng((seed, 1 << 32))
    groups: dict[str, list[int]] = {}
    for number, entry in enumerate(attributes):
        key = f"composed {number}" if entry["source"] == "composed" else entry["source"]
        groups.setdefault(key, []).append(number)
    held_out = [
        n
        for key, members in groups.items()
        if (rng.random() < share if not key.startswith(MIDI) else is_held_out(key.removeprefix(MIDI)))
        for n in members
    ]
    if not held_out and len(groups) > 1:
        held_out = list(groups.values())[-1]
    apart = set(held_out)
    return {"train": [n for n in range(len(attributes)) if n not in apart], "held_out": held_out}
