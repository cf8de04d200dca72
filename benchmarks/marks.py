"""The marks of following and of music, in one table: hits, spread, holes, pulse, lift, ranking, style, distance.

For each recipe, clip and seed a cue is made as `expotion-score` would, with the picture and with `--streams none`.
"Notes alone" is the music before the follow layer; "in first five" the share of takes in which the tagger hears one
of the recipe's own tags among its first five; the distance is that of musicnn's embeddings from human-composed music.
Beside them stand the bare rule laid over the same music without the picture, a click track, and, where `--peers` names
a folder with SYSTEM/CLIP.m4a, what other systems made of the same clips, as they are and with the follow layer.

    python benchmarks/marks.py --seeds 3
    python benchmarks/marks.py --seeds 1 --recipes cinematic --clips DIR --peers DIR
    python benchmarks/marks.py --seeds 1 --model DIR --adapter DIR/adapter --name marks_large
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from bench import RESULTS, machine, print_table, put_into, use_cores, write_results
from real_clips import Clip, load_clips

from expotion_cli.audio.dynamics import measure_dynamics
from expotion_cli.audio.hits import hits
from expotion_cli.audio.loudness import integrated_lufs
from expotion_cli.audio.onsets import RATE_HZ, onset_strength
from expotion_cli.audio.pulse import pulse_clarity
from expotion_cli.errors import ExpotionError
from expotion_cli.evaluation import baselines, sync
from expotion_cli.evaluation.distributions import fit_gaussian, frechet_of_fits
from expotion_cli.evaluation.tag_measures import shipped_reference
from expotion_cli.media.sound import resample
from expotion_cli.recipe import Recipe, load_recipe, recipe_names
from expotion_cli.scoring import ladder
from expotion_cli.scoring.follow import layer
from expotion_cli.scoring.group import Order, compose
from expotion_cli.scoring.takes.playing import play_composed
from expotion_cli.spotting.visual_accents import visual_accents
from expotion_cli.tagging.tagger import Tagger, style_ratio
from expotion_cli.tags import TAGS

PAGE = RESULTS.parent.parent / "docs" / "evaluation.md"
RATE = 44_100
MARKS = (
    "hits >= 0.92 (<= 0.50), notes alone >= 0.80; spread <= 9 / <= 13; hole <= 1; pulse >= 0.78 (ambient 0.70); "
    "lift >= 0.35; auc >= 0.97; style >= 0.90; in first five >= 0.80"
)


Sounds = Mapping[tuple[int, int], np.ndarray]
"""(seed, number of the clip) → [2, n] at `RATE`."""


def make(model: Any, recipe: Recipe, clips: Sequence[Clip], seeds: int, *, picture: bool) -> tuple[Sounds, Sounds]:
    """Compose, render and follow one cue for each seed and clip: (before, after the follow layer)."""
    orders = [
        Order(
            clips[number].info,
            recipe,
            recipe.prompt,
            seed,
            see=partial(_seen, clips[number].seen if picture else ladder.Seen()),
            key=(seed, number),
        )
        for seed, number in itertools.product(range(seeds), range(len(clips)))
    ]
    notes, sounds = {}, {}
    for cue in compose(model, orders, failed=_failed):
        seed, order = cue.order.seed, cue.order.key
        chosen = play_composed(model, cue)
        tokens = cue.takes[chosen.number - 1]
        # The take that was chosen, as it was before the follow layer.
        before = ladder.render(model, tokens, cue.request.timeline, recipe, seed=seed, plan=cue.plan)
        notes[order] = resample(before.audio, before.sample_rate, RATE)
        sounds[order] = resample(chosen.played.score.audio, chosen.played.score.sample_rate, RATE)
    in_order = [order.key for order in orders]
    return {key: notes[key] for key in in_order}, {key: sounds[key] for key in in_order}


def _seen(seen: ladder.Seen) -> ladder.Seen:
    return seen


def _failed(order: Order, error: ExpotionError) -> NoReturn:
    raise error


def measured(clips: Sequence[Clip], sounds: Sounds) -> dict[str, Any]:
    """All marks of one set of sounds; style is left to `styles`."""
    strengths = {order: onset_strength(audio, RATE) for order, audio in sounds.items()}
    rows = []
    for (_, number), strength in strengths.items():
        found = hits(visual_accents(clips[number].motion), strength)
        rows.append((found.value, found.chance, pulse_clarity(strength)))
    dynamics = [measure_dynamics(audio, RATE) for audio in sounds.values()]
    limited = [limited_db(audio) for audio in sounds.values()]
    values = np.array(rows)
    spreads, holes = (np.array([getattr(one, key) for one in dynamics]) for key in ("spread_db", "hole_share"))
    return {
        "takes": len(sounds),
        "hits": mean(values[:, 0]),
        "hits_chance": mean(values[:, 1]),
        "spread_db": mean(spreads),
        "spread_worst_db": round(float(np.nanmax(spreads)), 1),
        "hole_percent": round(100 * float(np.nanmean(holes)), 2),
        "pulse": mean(values[:, 2]),
        **following(clips, strengths),
        "limiter_median_db": round(float(np.median(limited)), 1),
        "limiter_worst_db": round(float(np.max(limited)), 1),
    }


def limited_db(audio: np.ndarray) -> float:
    """What a limiter at -1 dBTP would take at -14 LUFS, by sample peaks."""
    peak = 20 * np.log10(max(float(np.abs(audio).max()), 1e-9))
    return max(0.0, peak - integrated_lufs(audio, RATE) - 13.0)


def following(clips: Sequence[Clip], strengths: Mapping[tuple[int, int], np.ndarray]) -> dict[str, Any]:
    """Lift and ranking of own against other pairs, among the clips that all seeds have."""
    seeds = sorted({seed for seed, _ in strengths})
    numbers = sorted({number for _, number in strengths})
    if len(numbers) < 2:
        return {"lift": None, "auc": None}
    matrix = np.array([
        [[sync.motion_onset_correlation(clips[other].motion, strengths[seed, own]).value for other in numbers]
         for own in numbers] for seed in seeds
    ])  # fmt: skip
    found = sync.own_against_other(matrix)
    return {"own_r": round(found.own, 3), "lift": round(found.lift, 3), "auc": round(found.probability, 3)}


def hits_alone(clips: Sequence[Clip], notes: Sounds) -> float | None:
    """Mean share of the visual accents that the notes alone meet."""
    found = [hits(visual_accents(clips[n].motion), onset_strength(audio, RATE)) for (_, n), audio in notes.items()]
    return mean(np.array([one.value for one in found]))


def in_first_five(heard_tags: Sequence[np.ndarray], tags: Sequence[str]) -> float | None:
    """Share of takes in which one of these tags is among the five that the tagger hears best."""
    if not tags:
        return None
    best = [{TAGS[place] for place in np.argsort(one)[-5:]} for one in heard_tags]
    return round(float(np.mean([bool(first & set(tags)) for first in best])), 3)


def distance(tagger: Tagger, sounds: Sounds | Sequence[np.ndarray]) -> float:
    """Frechet distance of musicnn's embeddings from those of the reference that ships."""
    every = sounds.values() if isinstance(sounds, Mapping) else sounds
    own = fit_gaussian(np.concatenate([tagger.hear(audio, RATE).embeddings for audio in every]))
    return round(frechet_of_fits(own, fit_gaussian(np.concatenate(shipped_reference().embeddings))), 1)


def mean(values: np.ndarray) -> float | None:
    """Mean of what is known, rounded; None where nothing is."""
    return round(float(np.nanmean(values)), 3) if np.isfinite(values).any() else None


def heard(tagger: Tagger, sounds: Sounds) -> list[np.ndarray]:
    """[50] mean tag probabilities of each sound."""
    return [tagger.hear(audio, RATE).mean for audio in sounds.values()]


def peers(folder: Path, clips: Sequence[Clip], recipe: Recipe, tagger: Tagger) -> dict[str, dict[str, Any]]:
    """Marks of what other systems made, as it is and with the follow layer laid over it."""
    from expotion_cli.media.sound import read_sound

    found = {}
    for system in sorted(path for path in folder.iterdir() if path.is_dir()):
        sounds = {
            (0, number): read_sound(path, RATE)
            for number, clip in enumerate(clips)
            if (path := system / f"{clip.info.path.stem}.m4a").is_file()
        }
        if not sounds:
            continue
        found[system.name] = measured(clips, sounds) | {"distance": distance(tagger, sounds)}
        laid = {}
        for (seed, number), audio in sounds.items():
            plan = ladder.spot(clips[number].seen, clips[number].info.duration, recipe)
            laid[seed, number] = layer.follow(audio, RATE, plan, recipe.follow).audio
        found[f"{system.name} + follow layer"] = measured(clips, laid)
    return found


COLUMNS = {
    "hits": lambda r: f"{r['hits']:.2f} ({r['hits_chance']:.2f})",
    "spread dB, mean / worst": lambda r: f"{r['spread_db']:.1f} / {r['spread_worst_db']:.1f}",
    "hole %": lambda r: f"{r['hole_percent']:.1f}",
    "pulse": lambda r: "-" if r["pulse"] is None else f"{r['pulse']:.2f}",
    "lift": lambda r: "-" if r["lift"] is None else f"{r['lift']:.2f}",
    "auc": lambda r: "-" if r["auc"] is None else f"{r['auc']:.2f}",
    "notes alone": lambda r: f"{r['notes']:.2f}" if r.get("notes") is not None else "-",
    "style": lambda r: f"{r['style']:.2f}" if r.get("style") is not None else "-",
    "in first five": lambda r: f"{r['first_five']:.2f}" if r.get("first_five") is not None else "-",
    "distance": lambda r: f"{r['distance']:.0f}" if r.get("distance") is not None else "-",
    "limiter dB, median / worst": lambda r: f"{r['limiter_median_db']:.1f} / {r['limiter_worst_db']:.1f}",
}


def table(results: Mapping[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of the table, the set's name first."""
    return [(name, *(show(row) for show in COLUMNS.values())) for name, row in results.items()]


def markdown(results: Mapping[str, dict[str, Any]]) -> str:
    """The table for a page."""
    lines = [("", *COLUMNS), ("---",) * (1 + len(COLUMNS)), *table(results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="takes a clip")
    parser.add_argument("--recipes", default=",".join(recipe_names()))
    parser.add_argument("--model", default="expotion-mini", help="a name, or a folder")
    parser.add_argument("--adapter", type=Path, help="of a model in a folder, as a rule FOLDER/adapter")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clips", type=Path, help="a folder of clips")
    parser.add_argument("--peers", type=Path, help="a folder of SYSTEM/CLIP.m4a")
    parser.add_argument("--name", default="marks", help="of the results file")
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    from expotion_cli.music.load import load_model

    default = Path(__file__).resolve().parents[2] / "shared" / "clips"
    clips = load_clips(options.clips or Path(os.environ.get("EXPOTION_REAL_CLIPS") or default))
    model, tagger = load_model(options.model, device=options.device, adapter=options.adapter), Tagger()
    results: dict[str, dict[str, Any]] = {}
    every: list[np.ndarray] = []
    for name in options.recipes.split(","):
        recipe = load_recipe(name)
        notes, own = make(model, recipe, clips, options.seeds, picture=True)
        _, blind = make(model, recipe, clips, options.seeds, picture=False)
        every += own.values()
        rule = {
            order: baselines.lay_bare_rule(audio, RATE, clips[order[1]].motion, RATE_HZ)
            for order, audio in blind.items()
        }
        without = heard(tagger, blind)
        for title, sounds in ((name, own), (f"{name}, --streams none", blind), (f"{name}, bare rule", rule)):
            row = measured(clips, sounds)
            tags = without if sounds is blind else heard(tagger, sounds)
            row["style"] = None if sounds is blind else style_ratio(tags, without, recipe.tags)
            row |= {"first_five": in_first_five(tags, recipe.tags), "distance": distance(tagger, sounds)}
            results[title] = row
        results[name]["notes"] = hits_alone(clips, notes)
        print_table(name, ("", *COLUMNS), table({key: row for key, row in results.items() if key.startswith(name)}))
    clicks = {
        (0, number): baselines.strike(
            baselines.metronome_times(float(clip.info.duration)), float(clip.info.duration), RATE
        )
        for number, clip in enumerate(clips)
    }
    results["click track"] = measured(clips, clicks)
    if options.peers is not None:
        results |= peers(options.peers, clips, load_recipe("cinematic"), tagger)
    print_table(MARKS, ("", *COLUMNS), table(results))
    write_results(
        options.name,
        {
            "machine": facts,
            "model": {"name": Path(options.model).name, "digest": model.digest},
            "clips": [clip.info.path.stem for clip in clips],
            "seeds": options.seeds,
            "marks": MARKS,
            "distance_of_all": distance(tagger, every),
            "sets": results,
        },
    )
    if options.name == "marks":
        put_into(PAGE, {"marks": markdown(results)})


if __name__ == "__main__":
    main()
