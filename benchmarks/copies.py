"""How much of a melody is copied from the training music: longest exact runs of notes, beside an honest baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import print_table, spread

from expotion_cli.music.codecs.notes import metrics as measures
from expotion_cli.music.codecs.notes.copies import SEPARATOR, join_melodies, longest_shared_run, melody_codes
from expotion_cli.storage import cache_root, digest_of

PIECES = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "freedoom"
"""MIDI files that the model learned from; left out where they are not there."""
STATISTICS = ("scale_consistency", "pitch_class_entropy", "density", "polyphony", "empty_beat_rate", "silence_rate")
"""Of `metrics.statistics`, those that are compared with the training music."""


def training_corpus(folder: Path | None, name: str = "build") -> Any:
    """The training music: read from a folder, or built once in the cache with the training recipe's settings.

    Args:
        folder: of a built corpus.
        name: "build" for the pieces of the first stage, "grooves" for those of the second, MIDI files among them.
    """
    from expotion_cli.training.mini.corpus.build import SOURCES_FILE, build_corpus, load_corpus
    from expotion_cli.training.mini.settings import MiniSettings

    settings = dict(MiniSettings.load().corpus[name])
    if name == "grooves" and PIECES.is_dir():
        settings["pieces"] = str(PIECES)
    if folder is None:
        folder = cache_root() / "benchmarks" / f"corpus-{digest_of(settings)[:16]}"
        if not (folder / SOURCES_FILE).is_file():
            print("building the training music ...", flush=True)
            build_corpus(folder, **settings)
    return load_corpus(folder)


def training_melodies() -> np.ndarray:
    """The melodies of all training pieces of both stages, as `join_melodies` joins them."""
    corpora = [training_corpus(None, name) for name in ("build", "grooves")]
    return join_melodies(corpus.piece(number) for corpus in corpora for number in corpus.train)


def copy_check(cues: Sequence[np.ndarray], folder: Path | None = None) -> dict[str, Any]:
    """Longest runs of melody notes shared with the training pieces; the same of held-out pieces cut to equal length.

    Args:
        cues: [K, S] tokens each.
        folder: of a built corpus.
    """
    corpus = training_corpus(folder)
    melodies = join_melodies(corpus.piece(number) for number in corpus.train)
    rng = np.random.default_rng(0)
    crops = []
    for cue in cues:
        steps = cue.shape[1]
        piece = corpus.piece(corpus.held_out[int(rng.integers(len(corpus.held_out)))])
        first = int(rng.integers(0, max(1, (piece.shape[1] - steps) // 48 + 1))) * 48
        crops.append(measures.excerpt(piece, first, steps).astype(np.int64))
    result: dict[str, Any] = {
        "training_pieces": len(corpus.train),
        "training_melody_notes": int((melodies != SEPARATOR).sum()),
    }
    for name, pieces in (("cues", cues), ("held_out", crops)):
        result[name] = spread([longest_shared_run(piece, melodies) for piece in pieces])
        result[f"{name}_notes"] = spread([len(melody_codes(piece)) for piece in pieces])
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
