"""How well motion that is made up from music matches real people's: spread, sharpness and memory of each dimension.

Real: what the encoders see in the clips. Made up: bodies that move to music (`training.motion_from_audio`), to sound
files and to pieces composed by rule and played with the soundfont. Beside both: white noise with each clip's own mean
and deviation, which has the right size and nothing else, and half of the real clips against the other half, which is as
near as so few people come to each other.

The ranges of the made-up bodies were set on these same eight clips, so this tells how well they fit, not how far they
carry.

    python benchmarks/synthetic_motion.py [--clips DIR] [--music DIR ...] [--pieces 24] [--bodies 4]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, machine, print_table, put_into, write_results

from expotion_cli.audio.onsets import onset_times
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import SOUND_SUFFIXES, read_sound
from expotion_cli.music.codecs.notes.codec import NoteCodec
from expotion_cli.spotting.activity import ACTIVITY_FLOORS, normalise
from expotion_cli.timing import Timeline, beat_rate_hz
from expotion_cli.training.adapter.motion_from_audio import DIMS, MARGIN_S, RATE_HZ, synthetic_motion
from expotion_cli.training.data.curves import MusicCurves, measure_curves
from expotion_cli.training.mini.corpus.build import compose_numbered
from expotion_cli.training.mini.corpus.piece import Piece
from expotion_cli.vision.streams import encode_clip

REPOSITORY = RESULTS.parent.parent
PAGE = REPOSITORY / "docs" / "training.md"
SOUND_RATE = 32_000
LENGTH_S, LONGEST_LAG_S = 8.0, 2.0
ACCENTS = (("pose", "accent"), ("face", "head_accent"), ("flow", "accent"))
SPLITS = 40
KINDS = ("made up", "white noise", "half of the clips")
FIGURES = {
    "spread": "spread (KS)",
    "raw_spread": "spread in the encoders' units (KS)",
    "memory": "autocorrelation (RMS)",
}


@dataclass(frozen=True)
class Curve:
    """One dimension of somebody: values [T] at RATE_HZ, and where it was seen [T] bool."""

    values: np.ndarray
    seen: np.ndarray


Person = dict[tuple[str, str], Curve]


def watch(clips: Sequence[Path]) -> list[Person]:
    """What the encoders see in real clips."""
    people = []
    for clip in clips:
        streams = encode_clip(probe(clip), tuple(DIMS))
        person = {}
        for name, dims in DIMS.items():
            stream = streams[name]
            assert float(stream.rate_hz) == RATE_HZ
            for dim in dims:
                person[name, dim] = Curve(stream.values[:, stream.dims.index(dim)], stream.mask)
        people.append(person)
    return people


def listen(folders: Sequence[Path], num_pieces: int) -> list[MusicCurves]:
    """What is heard in sound files, and in pieces composed by rule."""
    files = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES)
    heard = [measure_curves(read_sound(path, SOUND_RATE, 1), SOUND_RATE) for path in files]
    return heard + [measure_curves(*play(compose_numbered(7, number), number)) for number in range(num_pieces)]


def play(piece: Piece, seed: int) -> tuple[np.ndarray, int]:
    """A stretch from the middle of a piece composed by rule, played: ([2, n], its sample rate)."""
    codec = NoteCodec()
    timeline = Timeline(Fraction(round(LENGTH_S + 4)), beat_rate_hz(Fraction(piece.attributes["tempo_bpm"])))
    first = max(0, piece.tokens.shape[1] - timeline.num_steps) // 2 // 48 * 48
    return codec.decode(piece.tokens[:, first:], timeline, seed=seed).audio, codec.sample_rate


def move(music: Sequence[MusicCurves], bodies: int) -> list[Person]:
    """Several bodies for each piece, each moving to a stretch of it."""
    people = []
    for number, piece in enumerate(music):
        for body in range(bodies):
            rng = np.random.default_rng((number, body))
            start = rng.uniform(0, max(0.0, piece.duration_s - LENGTH_S))
            streams = synthetic_motion(piece.between(start - MARGIN_S, start + LENGTH_S + MARGIN_S), rng)
            people.append(
                {
                    (name, dim): Curve(streams[name].values[:, column], streams[name].mask)
                    for name, dims in DIMS.items()
                    for column, dim in enumerate(dims)
                }
            )
    return people


def white_noise(people: Sequence[Person], rng: np.random.Generator) -> list[Person]:
    """Noise with the mean and deviation of each person's every dimension; speeds are never below 0."""
    made = []
    for person in people:
        noisy = {}
        for key, curve in person.items():
            known = curve.values[curve.seen] if curve.seen.any() else np.zeros(1)
            values = rng.normal(known.mean(), known.std(), len(curve.values))
            noisy[key] = Curve(np.maximum(values, 0) if key in ACTIVITY_FLOORS else values, curve.seen)
        made.append(noisy)
    return made


def ks_distance(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Kolmogorov-Smirnov distance 0..1 of two sets of samples; every sample counts the same, however long."""
    places = np.sort(np.concatenate([*one, *other]))
    shares = [
        np.mean([np.searchsorted(np.sort(sample), places, side="right") / len(sample) for sample in samples], axis=0)
        for samples in (one, other)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def seen_values(people: Sequence[Person], key: tuple[str, str], *, as_read: bool) -> list[np.ndarray]:
    """Each person's seen values, as the encoder gives them or as an adapter reads them."""
    found = []
    for person in people:
        curve = person[key]
        if curve.seen.any():
            values = normalise(*key, curve.values, curve.seen) if as_read else curve.values
            found.append(values[curve.seen])
    return found


def memory(people: Sequence[Person], key: tuple[str, str]) -> np.ndarray:
    """Mean autocorrelation at lags of 1 row to LONGEST_LAG_S."""
    lags = range(1, int(LONGEST_LAG_S * RATE_HZ) + 1)
    rows = []
    for person in people:
        curve = person[key]
        seen = curve.seen.astype(float)
        if seen.sum() < 2 * RATE_HZ or curve.values[curve.seen].std() < 1e-9:
            continue
        x = np.where(curve.seen, curve.values - curve.values[curve.seen].mean(), 0.0)
        power = (x**2).sum() / seen.sum()
        pairs = [max(1.0, (seen[lag:] * seen[:-lag]).sum()) for lag in lags]
        rows.append([(x[lag:] * x[:-lag]).sum() / n / power for lag, n in zip(lags, pairs, strict=True)])
    return np.mean(rows, axis=0)


def accents_a_second(people: Sequence[Person], key: tuple[str, str]) -> float:
    """Peaks of an accent curve, picked as onsets are, in a second that is seen."""
    count, seconds = 0, 0.0
    for person in people:
        curve = person[key]
        peaks = onset_times(np.where(curve.seen, curve.values, 0.0), RATE_HZ)
        count += int(curve.seen[np.clip(np.rint(peaks * RATE_HZ).astype(int), 0, len(curve.seen) - 1)].sum())
        seconds += float(curve.seen.sum()) / RATE_HZ
    return count / max(seconds, 1e-9)


def apart(one: Sequence[Person], other: Sequence[Person], key: tuple[str, str]) -> dict[str, float]:
    """How far two groups of people lie apart in a dimension."""
    figures = {
        name: ks_distance(*(seen_values(group, key, as_read=as_read) for group in (one, other)))
        for name, as_read in (("spread", True), ("raw_spread", False))
    }
    figures["memory"] = float(np.sqrt(np.mean((memory(one, key) - memory(other, key)) ** 2)))
    if key in ACCENTS:
        figures["accents"] = accents_a_second(other, key)
    return figures


def halves(people: Sequence[Person], key: tuple[str, str]) -> dict[str, float]:
    """Random halves of the same people against each other, on average."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(SPLITS):
        order = rng.permutation(len(people))
        one, other = ([people[n] for n in part] for part in np.array_split(order, 2))
        found.append(apart(one, other, key))
    return {name: float(np.mean([figures[name] for figures in found])) for name in found[0]}


def quantiles(people: Sequence[Person], key: tuple[str, str]) -> list[float]:
    """10th, 50th and 90th percentile of all that was seen, in the encoder's units."""
    values = np.concatenate(seen_values(people, key, as_read=False))
    return [round(float(value), 4) for value in np.percentile(values, (10, 50, 90))]


def measure(real: Sequence[Person], made: Sequence[Person]) -> dict[str, Any]:
    """All dimensions; and each stream's mean over them."""
    noise = white_noise(real, np.random.default_rng(1))
    dims: dict[str, Any] = {}
    for name in DIMS:
        for dim in DIMS[name]:
            key = (name, dim)
            found = {"made up": apart(real, made, key), "white noise": apart(real, noise, key)}
            found["half of the clips"] = halves(real, key)
            dims[f"{name}.{dim}"] = {
                "quantiles": {"real": quantiles(real, key), "made up": quantiles(made, key)},
                **{kind: {figure: round(value, 4) for figure, value in found[kind].items()} for kind in KINDS},
            }
            if key in ACCENTS:
                dims[f"{name}.{dim}"]["accents_a_second"] = round(accents_a_second(real, key), 3)
    streams = {}
    for name in DIMS:
        rows = [figures for key, figures in dims.items() if key.startswith(f"{name}.")]
        streams[name] = {
            figure: {kind: round(float(np.mean([row[kind][figure] for row in rows])), 4) for kind in KINDS}
            for figure in FIGURES
        }
    return {"dims": dims, "streams": streams}


def table(results: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """(head, rows) of the summary."""
    rows: list[list[Any]] = []
    for name, figures in results["streams"].items():
        rows += [[name, title, *(figures[figure][kind] for kind in KINDS)] for figure, title in FIGURES.items()]
    for name, dim in ACCENTS:
        found = results["dims"][f"{name}.{dim}"]
        title = f"accents a second (real: {found['accents_a_second']:.2f})"
        rows.append([name, title, found["made up"]["accents"], found["white noise"]["accents"], None])
    return ["stream", "measure", *KINDS], rows


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same for a page."""
    cells = [[f"{c:.2f}" if isinstance(c, float) else "" if c is None else str(c) for c in row] for row in rows]
    lines = [list(head), ["---", "---", *["---:"] * (len(head) - 2)], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Watch, listen, move, compare."""
    shared = REPOSITORY.parent / "shared"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path(os.environ.get("EXPOTION_REAL_CLIPS") or shared / "clips"))
    parser.add_argument("--music", type=Path, nargs="*", default=[shared / "reference-scores"], help="folders of sound")
    parser.add_argument("--pieces", type=int, default=24, help="pieces composed by rule")
    parser.add_argument("--bodies", type=int, default=4, help="bodies that move to each piece")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    clips = sorted(options.clips.glob("*.mp4"))
    if len(clips) < 4:
        parser.error(f"{options.clips} holds {len(clips)} clips; four are the least that can be halved")
    facts = machine()
    music = listen([folder for folder in options.music if folder.is_dir()], options.pieces)
    real, made = watch(clips), move(music, options.bodies)
    results = measure(real, made)
    head, rows = table(results)
    print_table(f"{len(clips)} real clips, {len(made)} bodies moving to {len(music)} pieces", head, rows)
    settings = {
        "clips": [clip.stem for clip in clips],
        "pieces": {"sound files": len(music) - options.pieces, "composed by rule": options.pieces},
        "bodies_a_piece": options.bodies,
        "seconds": LENGTH_S,
    }
    if not options.no_write:
        write_results("synthetic_motion", {"machine": facts, "settings": settings, **results})
        put_into(PAGE, {"synthetic-motion": markdown(head, rows)})


if __name__ == "__main__":
    main()
