"""How much of a melody is copied from the training music: longest exact runs of notes, beside an honest baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import print_table, spread

from expotion_cli.music.codecs.notes import metrics as measures
from expotion_cli.storage import cache_root, digest_of

SEPARATOR = -1
STATISTICS = ("scale_consistency", "pitch_class_entropy", "density", "polyphony", "empty_beat_rate", "silence_rate")
"""Of `music.statistics.statistics`, those that are compared with the training music."""


def melody_codes(tokens: np.ndarray) -> np.ndarray:
    """[n] int32, one a note of the melody: the interval from the note before and the spacing to the next."""
    line = measures.melody_line(tokens)
    return np.array([(interval + 128) << 16 | min(spacing, 65535) for interval, spacing in line], np.int32)


def longest_run(line: np.ndarray, haystack: np.ndarray) -> int:
    """Length in notes of the longest stretch of `line` that stands in `haystack` exactly."""
    runs, best = np.zeros(len(haystack) + 1, np.int32), 0
    for code in line:
        runs[1:] = np.where(haystack == code, runs[:-1] + 1, 0)
        best = max(best, int(runs.max(initial=0)))
    return best


def training_corpus(folder: Path | None, name: str = "build") -> Any:
    """The training music: read from a folder, or built once in the cache with the training recipe's settings.

    Args:
        folder: of a built corpus.
        name: "build" for the pieces of the first stage, "following" for those of the second.
    """
    from expotion_cli.training.mini.corpus.build import SOURCES_FILE, build_corpus, load_corpus
    from expotion_cli.training.mini.train import MiniSettings

    settings = MiniSettings.load().corpus[name]
    if folder is None:
        folder = cache_root() / "benchmarks" / f"corpus-{digest_of(settings)[:16]}"
        if not (folder / SOURCES_FILE).is_file():
            print("building the training music ...", flush=True)
            build_corpus(folder, **settings)
    return load_corpus(folder)


def training_lines() -> np.ndarray:
    """The melodies of all pieces of both stages, one after another, as codes."""
    parts = []
    for name in ("build", "following"):
        corpus = training_corpus(None, name)
        for number in corpus.train:
            parts += [melody_codes(corpus.piece(number)), np.array([SEPARATOR], np.int32)]
    return np.concatenate(parts)


def copy_check(cues: Sequence[np.ndarray], folder: Path | None = None) -> dict[str, Any]:
    """Longest runs of melody notes shared with the training pieces; the same of held-out pieces cut to equal length.

    Args:
        cues: [K, S] tokens each.
        folder: of a built corpus.
    """
    corpus = training_corpus(folder)
    parts = []
    for number in corpus.train:
        parts += [melody_codes(corpus.piece(number)), np.array([SEPARATOR], np.int32)]
    haystack = np.concatenate(parts)
    rng = np.random.default_rng(0)
    crops = []
    for cue in cues:
        steps = cue.shape[1]
        piece = corpus.piece(corpus.held_out[int(rng.integers(len(corpus.held_out)))])
        first = int(rng.integers(0, max(1, (piece.shape[1] - steps) // 48 + 1))) * 48
        crops.append(measures.excerpt(piece, first, steps).astype(np.int64))
    result: dict[str, Any] = {
        "training_pieces": len(corpus.train),
        "training_melody_notes": int((haystack != SEPARATOR).sum()),
    }
    for name, pieces in (("cues", cues), ("held_out", crops)):
        lines = [melody_codes(piece) for piece in pieces]
        result[name] = spread([longest_run(line, haystack) for line in lines])
        result[f"{name}_notes"] = spread([len(line) for line in lines])
    measured = [measures.statistics(crop) for crop in crops]
    result["held_out_statistics"] = {k: spread([m[k] for m in measured if np.isfinite(m[k])]) for k in STATISTICS}
    return result


def show_copies(found: dict[str, Any]) -> None:
    """Print the result of `copy_check`."""
    rows = []
    for words, name in (("cues", "cues"), ("held-out pieces, as long", "held_out")):
        rows.append((words, *(found[name][key] for key in ("p50", "p95", "max")), found[f"{name}_notes"]["p50"]))
    title = f"Longest exact run of melody notes shared with {found['training_pieces']} training pieces"
    print_table(title, ("", "median", "95 %", "longest", "of notes"), rows)
    rows = [(key, row["p5"], row["p50"], row["p95"]) for key, row in found["held_out_statistics"].items()]
    print_table("Notes of the held-out pieces, as long as the cues", ("", "5 %", "median", "95 %"), rows)
