"""The whole way once, small: an adapter trained on a folder of made music, without any video.

Pieces composed by rule are played with the soundfont and written as sound files with words. A small MusicGen with
random weights, whose codec was fitted to a made-up song so that it hears, gives the tokens. The two training commands
run as a user types them, and held-out losses tell whether what motion says of the music was learnt. No music comes of
random weights.

    python benchmarks/adapter_trial.py [--pieces 160] [--steps 150] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench import machine, print_table, write_results
from synthetic_motion import REPOSITORY, play

from expotion_cli.training.logs import read_log
from expotion_cli.training.mini.corpus.build import compose_numbered
from expotion_cli.training.mini.corpus.captions import caption

sys.path.insert(0, str(REPOSITORY / "tests" / "helpers"))
from tiny_music import save_tiny, write_wav

SIZES = {"dim": 128, "num_layers": 4, "vocab_size": 64}
COLUMNS = {"loss": "own motion", "shuffled": "another clip's", "unseen": "nobody seen", "off": "bare model"}


def make_music(folder: Path, count: int) -> None:
    """Pieces of 12 s as sound files, with words beside them; those that are there are kept."""
    for number in range(count):
        path = folder / f"piece{number:03}.wav"
        if not path.with_suffix(".txt").is_file():
            piece = compose_numbered(11, number)
            sound, rate = play(piece, number)
            write_wav(path, 0.8 * sound.mean(axis=0) / max(1e-6, float(np.abs(sound).max())), rate)
            path.with_suffix(".txt").write_text(caption(piece.attributes, np.random.default_rng(number)))


def run(*arguments: object) -> dict:
    """`expotion train ... --json`: what it says."""
    command = [sys.executable, "-m", "expotion_cli.cli", "train", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    """Make music, prepare it, train, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=int, default=160)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--work", type=Path, help="keeps what was made; a folder that vanishes by default")
    options = parser.parse_args()
    facts = machine()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        model, music, data, out = (work / name for name in ("model", "music", "data", "run"))
        if not (model / "tokenizer.json").is_file():
            save_tiny(model, **SIZES)
        make_music(music, options.pieces)
        prepared = run("prepare", music, "--model", model, "--out", data)
        settings = {"train.steps": options.steps, "train.batch": 16, "train.micro_batch": 16}
        settings["train.gate_learning_rate"] = 5e-3
        flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        run("adapter", "--data", data, "--model", model, "--out", out, "--recipe", "synthetic", *flags)
        held_out = read_log(out / "held_out.csv")
        elapsed_s = read_log(out / "log.csv")[-1]["elapsed_s"]
    rows = [[int(row["step"]), *(row[key] for key in COLUMNS)] for row in held_out]
    print_table("held-out loss, nats a token", ["step", *COLUMNS.values()], rows)
    print(f"trained for {elapsed_s / 60:.0f} minutes")
    write_results(
        "adapter_trial",
        {
            "machine": facts,
            "settings": {"recipe": "synthetic", **settings, "model": SIZES, "clips": prepared["clips"]},
            "held_out": held_out,
            "minutes": round(elapsed_s / 60, 1),
        },
    )


if __name__ == "__main__":
    main()
