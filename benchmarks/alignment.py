"""What accent alignment does for music that was not made for the picture: other systems' scores, taken as takes.

Each score is measured as it is, aligned, with the follow layer over it, and with both. Hits are counted at the plan's
hit points, which alignment aims at, and at visual accents (maxima of motion energy), which it does not know; beside
them stand chance, dynamics, pulse and how many accents the music has. `most` is the share of the hit points that the
accents of the music as it is could meet at best: by the best of all maps of the kind that alignment may choose.

    python benchmarks/alignment.py --scores FOLDER_OF_SYSTEMS --clips CLIPS
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
from bench import machine, print_table, write_results
from real_clips import load_clips
from scipy.ndimage import maximum_filter1d

from expotion_cli.audio.dynamics import measure_dynamics
from expotion_cli.audio.hits import TOLERANCE_S, hits, musical_accents, share_met
from expotion_cli.audio.onsets import onset_strength
from expotion_cli.audio.pulse import pulse_clarity
from expotion_cli.media.sound import read_sound
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.follow import layer
from expotion_cli.scoring.follow.align import align
from expotion_cli.scoring.follow.time_map import Heard
from expotion_cli.spotting.visual_accents import visual_accents
from expotion_cli.timing import MOST_BEND

RATE = 48_000
STATES = ("as it is", "aligned", "followed", "aligned and followed")
MOST_SHIFT_BEATS, STEP_S = 0.5, 0.004
MEASURES = ("hits", "chance", "within_0.05_s", "visual_accents", "spread_db", "hole_percent", "pulse", "accents_per_s")


def measure(audio: np.ndarray, moments_s: np.ndarray, seen_s: np.ndarray) -> list[float]:
    """The row of `MEASURES` of one sound."""
    strength, dynamics = onset_strength(audio, RATE), measure_dynamics(audio, RATE)
    met, accents_s = hits(moments_s, strength), musical_accents(strength)
    near, seen = share_met(moments_s, accents_s, 0.05), share_met(seen_s, accents_s)
    spread, holes = dynamics.spread_db, 100 * dynamics.hole_share
    rate_hz = len(accents_s) * RATE / audio.shape[1]
    return [met.value, met.chance, near, seen, spread, holes, pulse_clarity(strength), rate_hz]


def most_met(heard: Heard, moments_s: np.ndarray) -> float:
    """Share of moments that accents come within `TOLERANCE_S` of, by the best map that half a beat and bends allow.

    Args:
        heard: of the music as it is; where it has no beat it can only bend.
        moments_s: [n] hit points, rising.
    """
    accents_s, begin_s = musical_accents(heard.strength), MOST_SHIFT_BEATS * heard.beat_s
    if not len(accents_s):
        return 0.0
    begin_s = 0.0 if np.isnan(begin_s) else begin_s
    farthest = math.ceil((begin_s + MOST_BEND * heard.duration_s) / STEP_S)
    offsets_s = np.arange(-farthest, farthest + 1) * STEP_S
    met, time_s = np.where(np.abs(offsets_s) <= begin_s + 1e-9, 0.0, -np.inf), 0.0
    for moment_s in moments_s.tolist():
        met = maximum_filter1d(met, 2 * math.floor(MOST_BEND * (moment_s - time_s) / STEP_S + 1e-9) + 1, cval=-np.inf,
                               mode="constant")  # fmt: skip
        away_s = np.abs((moment_s - offsets_s)[:, None] - accents_s).min(axis=1)
        met, time_s = met + (away_s <= TOLERANCE_S), moment_s
    return float(met.max() / len(moments_s))


def main() -> None:
    shared = Path(__file__).resolve().parents[2] / "shared"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path(os.environ.get("EXPOTION_REAL_CLIPS") or shared / "clips"))
    parser.add_argument("--scores", type=Path, default=shared / "reference-scores")
    parser.add_argument("--recipe", default="cinematic", help="whose follow layer is laid over them")
    options = parser.parse_args()
    facts, recipe = machine(), load_recipe(options.recipe)
    clips = {clip.info.path.stem: clip for clip in load_clips(options.clips)}
    systems, most, took_s = {}, {}, []
    for folder in sorted(path for path in options.scores.iterdir() if path.is_dir()):
        rows, bounds = [], []
        for path in sorted(path for path in folder.iterdir() if path.stem in clips):
            clip = clips[path.stem]
            audio = read_sound(path, RATE)[:, : clip.info.duration * RATE // 1]
            plan = ladder.spot(clip.seen, clip.info.duration, recipe)
            end_s = audio.shape[1] / RATE
            points = [hit for hit in plan.heard_hits if hit.time_s < end_s]
            seen_s = np.array([moment for moment in visual_accents(clip.motion) if moment < end_s])
            started = time.perf_counter()
            aligned, _ = align(audio, RATE, points)
            took_s.append((time.perf_counter() - started) / end_s)
            sounds = [audio, aligned, *(layer.follow(one, RATE, plan, recipe.follow).audio for one in (audio, aligned))]
            moments_s = np.array([hit.time_s for hit in points])
            bounds.append(most_met(Heard.of(audio, RATE), moments_s))
            rows.append([measure(sound, moments_s, seen_s) for sound in sounds])
        systems[folder.name], most[folder.name] = np.nanmean(rows, axis=0), float(np.mean(bounds))
    table, record = [], {}
    for name, means in systems.items():
        for state, values in zip(STATES, means.tolist(), strict=True):
            rise = values[0] - means[0][0]
            bound = round(most[name], 3) if state == STATES[0] else ""
            table.append((f"{name}, {state}", *(round(value, 3) for value in values), round(rise, 2), bound))
            record.setdefault(name, {"most": round(most[name], 4)})[state] = dict(
                zip(MEASURES, np.round(values, 4).tolist(), strict=True)
            )
    print_table("Scores of other systems, means over their clips", ("", *MEASURES, "rise", "most"), table)
    print(f"aligning takes {np.median(took_s):.3f} s for each second of music (median)")
    write_results("alignment", {"machine": facts, "systems": record, "seconds_per_second": float(np.median(took_s))})


if __name__ == "__main__":
    main()
