"""Do four minutes hold? Cues on a made-up plan with sections, from composing to the finished file.

For each recipe and seed a cue of 240 s is composed, rendered, followed and finished in a process of its own, whose peak
of resident memory is measured (ffmpeg's processes hold 40 MB beside it). Of the music:

- *density*, *notes*, *finished*: rank correlation, bar by bar, of the plan's intensity with the number of onsets, with
  the loudness before the follow layer, and with that of the finished file's sound;
- *figures*: share of the tune's figures of five notes (intervals and spacing) that were there four bars before or
  earlier. The reference: held-out pieces of `--pieces FOLDER`, as long as they are;
- *in a row*: how often eight bars follow one another literally, all voices;
- *seam*: median change of loudness across the joins of the decoder's windows, and across the other bar lines, over
  half a second on each side; and the longest silence.

    python benchmarks/long_cues.py
    python benchmarks/long_cues.py --recipes cinematic --seeds 1 --pieces FOLDER
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, machine, print_table, put_into, tree_memory_mb, use_cores, write_results

PAGE = RESULTS.parent.parent / "docs" / "evaluation.md"
DURATION_S, BPM = 240, 112
SECTIONS_S = (0, 40, 72, 128, 168, 208)
INTENSITIES = (0.25, 0.5, 0.7, 0.35, 0.9, 0.6)
FIGURE_NOTES, FAR_BARS, BLOCK_BARS, LARGEST_GAP = 5, 4, 8, 12
SEAM_S, BAR = 0.5, 48
MARKS = "correlations >= 0.7; figures within half to double of the reference; in a row <= 2; peak <= 1.5 GiB (1,536 MB)"


def made_up_plan() -> Any:
    """A plan of six sections, with a sway of 20 s and small hit points twice in three seconds."""
    from expotion_cli.spotting.hits import HitPoint
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.spotting.sections import Intensity, Section
    from expotion_cli.timing import Tempo

    at, edges = np.arange(DURATION_S * 10) / 10, [*SECTIONS_S, DURATION_S]
    height = np.array(INTENSITIES)[np.searchsorted(SECTIONS_S, at, side="right") - 1]
    height = np.convolve(np.pad(height, 20, mode="edge"), np.full(41, 1 / 41), mode="valid")
    values = np.clip(height + 0.12 * np.sin(2 * np.pi * at / 20), 0, 1)
    rng = np.random.default_rng(3)
    count = DURATION_S * 2 // 3
    times, weights = np.sort(rng.uniform(1, DURATION_S - 1, count)), rng.uniform(0.1, 1, count)
    hits = tuple(HitPoint(float(t), float(w), "gesture", "") for t, w in zip(times, weights, strict=True))
    sections = tuple(Section(a, b, i, "") for a, b, i in zip(edges[:-1], edges[1:], INTENSITIES, strict=True))
    intensity = Intensity(10.0, tuple(values.tolist()), (), "made up")
    return CuePlan(float(DURATION_S), Tempo(Fraction(BPM), Fraction(0), 0.5), intensity, hits, sections=sections)


def make_clip(path: Path) -> None:
    """A picture of one colour, as long as the cue."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")
        for number in range(DURATION_S * 10):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make(recipe_name: str, seed: int, model_name: str, folder: Path) -> None:
    """One cue, from composing to the finished file, in this process; what is measured goes to `folder`."""
    from expotion_cli.media.probe import probe
    from expotion_cli.music.load import load_model
    from expotion_cli.recipe import load_recipe
    from expotion_cli.scoring import ladder

    recipe, plan, model = load_recipe(recipe_name), made_up_plan(), load_model(model_name, device="cpu")
    clip = probe(folder / "clip.mp4")
    peaks, took = {}, {}
    started = time.monotonic()

    def lap(stage: str) -> None:
        nonlocal started
        took[stage], started = round(time.monotonic() - started, 1), time.monotonic()
        peaks[stage] = round(tree_memory_mb(os.getpid(), peak=True))

    lap("load")
    request = ladder.compose_request(model, ladder.Seen(), plan, clip.duration, recipe, prompt=recipe.prompt, seed=seed)
    ((_, tokens),) = model.generate([request])
    lap("compose")
    score = ladder.render(model, tokens, request.timeline, recipe, seed=seed, plan=plan)
    lap("render")
    np.save(folder / "tokens.npy", tokens)
    times = request.timeline.time_of(np.arange(0, tokens.shape[1] + BAR, BAR))
    alone = loudness_of(score.audio, score.sample_rate, times)
    started = time.monotonic()
    score = ladder.follow(model, score, request.timeline, plan, recipe, seed=seed)
    lap("follow")
    ladder.finish(clip, score, recipe, folder / "scored.mp4")
    lap("finish")
    joins = np.arange(1, len(times)) * BAR
    hop = model.engine.window - model.engine.overlap
    said = {
        "times_s": times.tolist(),
        "loudness_of_notes": alone,
        "joins": [bool(step % hop == 0 and step < tokens.shape[1]) for step in joins],
        "peak_mb": peaks,
        "took_s": took,
    }
    (folder / "said.json").write_text(json.dumps(said))


def loudness_of(audio: np.ndarray, rate: int, times_s: np.ndarray) -> list[float]:
    """Mean power in dB of each bar."""
    edges = np.rint(np.clip(times_s, 0, DURATION_S) * rate).astype(int)
    return [
        float(10 * np.log10((audio[:, a:b] ** 2).mean() + 1e-9))
        for a, b in itertools.pairwise(edges)
        if b - a > rate // 50
    ]


def in_own_process(recipe: str, seed: int, model: str) -> dict[str, Any]:
    """Make a cue in a process of its own, watch its memory, and measure the music."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_clip(folder / "clip.mp4")
        command = [sys.executable, __file__, "--make", recipe, str(seed), str(folder), "--model", model]
        subprocess.run(command, check=True)
        said = json.loads((folder / "said.json").read_text())
        peaks = said["peak_mb"]
        return {**measured(folder, said), "peak_mb": max(peaks.values()), "peaks_mb": peaks, "took_s": said["took_s"]}


def measured(folder: Path, said: dict[str, Any]) -> dict[str, Any]:
    """The measures of one cue's music."""
    from scipy.stats import spearmanr

    from expotion_cli.audio.dynamics import find_silences
    from expotion_cli.media.sound import read_clip_sound

    tokens, times = np.load(folder / "tokens.npy"), np.array(said["times_s"])
    rate = 44_100
    sound = read_clip_sound(folder / "scored.mp4", rate)
    intensity = made_up_plan().intensity
    asked = [float(intensity.at(np.linspace(a, b, 9)).mean()) for a, b in itertools.pairwise(times)]
    curves = {
        "density": onsets_of_bars(tokens),
        "notes": said["loudness_of_notes"],
        "finished": loudness_of(sound, rate, times),
    }
    found = {name: round(float(spearmanr(curve, asked[: len(curve)])[0]), 2) for name, curve in curves.items()}
    changes = {True: [], False: []}
    for is_join, time_s in zip(said["joins"], times[1:], strict=True):
        if SEAM_S < time_s < DURATION_S - 2:
            middle, reach = round(time_s * rate), round(SEAM_S * rate)
            before, after = (
                10 * np.log10((part**2).mean() + 1e-9)
                for part in (sound[:, middle - reach : middle], sound[:, middle : middle + reach])
            )
            changes[is_join].append(abs(float(after - before)))
    return {
        **found,
        **figures(tokens),
        "in_a_row": repeats_in_a_row(tokens),
        "seam_db": round(float(np.median(changes[True])), 2),
        "bar_line_db": round(float(np.median(changes[False])), 2),
        "seam_worst_db": round(max(changes[True]), 1),
        "bar_line_worst_db": round(max(changes[False]), 1),
        "longest_silence_s": round(find_silences(sound[:, : -2 * rate], rate).longest_s, 2),
    }


def onsets_of_bars(tokens: np.ndarray) -> list[int]:
    """Onsets in each bar, of all voices."""
    from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET

    struck = (tokens[1:] >= FIRST_ONSET).sum(axis=0)
    return [int(struck[first : first + BAR].sum()) for first in range(0, len(struck), BAR)]


def figures(tokens: np.ndarray) -> dict[str, Any]:
    """How many of the tune's figures were there before, and how many bars are like no other."""
    from expotion_cli.music.codecs.notes.tokens import tokens_to_events

    tune = tokens_to_events(np.asarray(tokens))["melody"]
    seen: dict[tuple[tuple[int, int], ...], int] = {}
    found = recurring = 0
    for first in range(len(tune) - FIGURE_NOTES + 1):
        notes = tune[first : first + FIGURE_NOTES]
        pairs = list(itertools.pairwise(notes))
        if max(b.start - a.end for a, b in pairs) > LARGEST_GAP:
            continue
        figure = tuple((b.value - a.value, b.start - a.start) for a, b in pairs)
        found += 1
        earliest = seen.setdefault(figure, notes[0].start)
        recurring += notes[0].start - earliest >= FAR_BARS * BAR
    bars = bars_of(tokens)
    return {
        "figures": found,
        "recurring": round(recurring / found, 2) if found else None,
        "bars": len(bars),
        "distinct_bars": len(set(bars)),
    }


def bars_of(tokens: np.ndarray) -> list[bytes]:
    """Each whole bar of all voices but the dynamics."""
    rows = np.asarray(tokens)[1:].astype(np.int64)
    return [rows[:, first : first + BAR].tobytes() for first in range(0, rows.shape[1] - BAR + 1, BAR)]


def repeats_in_a_row(tokens: np.ndarray) -> int:
    """The most often that any eight bars follow one another literally; 1 where none are repeated at once."""
    bars, run, longest = bars_of(tokens), 0, 0
    for one, later in zip(bars, bars[BLOCK_BARS:], strict=False):
        run = run + 1 if one == later else 0
        longest = max(longest, run)
    return 1 + longest // BLOCK_BARS


def reference(folder: Path) -> dict[str, Any]:
    """Recurring figures in the held-out pieces of a folder of MIDI files, whole pieces each."""
    from expotion_cli.training.mini.corpus.midi_pieces import is_held_out, read_piece

    shares = []
    for path in sorted(folder.glob("*.mid")):
        if is_held_out(path.stem):
            try:
                pieces, _ = read_piece(path, "")
            except ValueError:
                continue  # not in 4/4
            longest = max(pieces, key=lambda piece: piece.tokens.shape[1])
            found = figures(longest.tokens)
            if found["figures"] >= 40:
                shares.append(found["recurring"])
    return {"pieces": len(shares), "recurring": [round(float(v), 2) for v in np.percentile(shares, (0, 50, 100))]}


COLUMNS = ("density", "notes", "finished", "recurring", "in_a_row", "seam_db", "bar_line_db", "longest_silence_s",
           "peak_mb")  # fmt: skip


def table(results: dict[str, dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of the table, the cue's name first."""
    return [(name, *(row[column] for column in COLUMNS)) for name, row in results.items()]


def markdown(results: dict[str, dict[str, Any]], known: dict[str, Any] | None) -> str:
    """The table for a page."""
    head = ("cue", "density r", "notes' loudness r", "finished loudness r", "figures that recur", "8 bars in a row",
            "seams, dB", "other bar lines, dB", "longest silence, s", "peak, MB")  # fmt: skip
    rows: Sequence[Sequence[Any]] = [head, ("---",) * len(head), *table(results)]
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    if known is not None:
        low, middle, high = known["recurring"]
        lines += ["", f"Figures that recur in {known['pieces']} held-out pieces: {low} to {high}, median {middle}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="cinematic,electronic,lofi")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--model", default="expotion-mini")
    parser.add_argument("--pieces", type=Path, help="a folder of MIDI files, whose held-out pieces are the reference")
    parser.add_argument("--name", default="long_cues", help="of the results file")
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors")
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_cores(options.cores)
    if options.make is not None:
        recipe, seed, folder = options.make
        make(recipe, int(seed), options.model, Path(folder))
        return
    facts = machine()
    known = reference(options.pieces) if options.pieces is not None else None
    results = {}
    for recipe in options.recipes.split(","):
        for seed in range(options.seeds):
            results[f"{recipe}, seed {seed}"] = in_own_process(recipe, seed, options.model)
            print_table(f"{recipe}, seed {seed}", ("", *COLUMNS), table(results)[-1:])
    print_table(MARKS, ("", *COLUMNS), table(results))
    if known is not None:
        print(f"  recurring figures in {known['pieces']} held-out pieces (least, median, most): {known['recurring']}")
    write_results(
        options.name,
        {"machine": facts, "marks": MARKS, "duration_s": DURATION_S, "cues": results, "reference": known},
    )
    if options.name == "long_cues":
        put_into(PAGE, {"long-cues": markdown(results, known)})


if __name__ == "__main__":
    main()
