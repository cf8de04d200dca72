"""Is the embedded model's music music, is it new, and does it follow the picture? Listened to by measuring.

For each clip and seed a cue is generated and rendered under several conditions on the same beat grid:

- picture: with the clip's own streams;
- none: the same grid, but the model sees nothing: what is left is the placement of the beats;
- shuffled: the same grid, with another clip's streams: what is left is having any picture at all;
- blind (on demand): neither streams nor a grid made for the clip.

"beats" are the beats of the grid alone, as if a drum struck each of them.

    python benchmarks/first_light.py --seeds 3
    python benchmarks/first_light.py --seeds 2 --visual-guidance 1,2,3 --no-copy-check
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import Stopwatch, machine, print_table, spread, use_cores, write_results
from copies import STATISTICS, copy_check, show_copies
from following import Cue, LightClip, beats_alone, follow, paired, show_following

from expotion_cli.audio.dynamics import voice_levels
from expotion_cli.audio.onsets import onset_strength, onset_times
from expotion_cli.demo import write_demo_clips
from expotion_cli.evaluation import sync
from expotion_cli.evaluation.sound_report import measure_sound
from expotion_cli.media.probe import probe
from expotion_cli.music.codecs.notes import metrics as measures
from expotion_cli.recipe import Recipe, load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.streams import choose_streams
from expotion_cli.spotting.activity import motion_energy
from expotion_cli.storage import cache_root

CONDITIONS = ("picture", "none", "shuffled", "blind")
LOWEST_SCALE_CONSISTENCY = 0.85


def load_clips(real: Path | None) -> list[LightClip]:
    """The demo clips, then real ones; what is seen in them comes from the embedding cache or goes there."""
    from expotion_cli.spotting.activity import motion_signal
    from expotion_cli.vision.cache import EmbeddingCache

    cache = EmbeddingCache()
    folder = cache_root() / "benchmarks" / "demo"
    demos = {demo.path: demo for demo in write_demo_clips(folder)}
    names = choose_streams(("face", "pose", "flow")).names
    clips = []
    for path in [*demos, *(sorted(real.glob("*.mp4")) if real is not None else [])]:
        info = probe(path)
        seen = ladder.see(info, names, cache=cache)
        _, accents, rate_hz = motion_signal(seen.streams, float(info.duration))
        known = demos[path].accent_times_s if path in demos else ()
        clips.append(
            LightClip(
                info=info,
                name=path.stem,
                seen_streams=seen,
                motion=motion_energy(path, cache=cache),
                known=known,
                seen=tuple(onset_times(accents, rate_hz)),
            )
        )
    return clips


def make_cues(
    model: Any,
    clips: Sequence[LightClip],
    recipe: Recipe,
    seeds: int,
    conditions: Sequence[str],
    watch: Stopwatch | None = None,
) -> list[Cue]:
    """Generate all cues in one go, then render them; `watch` learns how long it took."""
    from expotion_cli.music.codecs.notes.instruments import SoundSettings

    wanted = []
    for seed, (number, clip) in itertools.product(range(seeds), enumerate(clips)):
        duration = clip.info.duration
        own, blind = (
            ladder.compose_request(
                model, seen, ladder.spot(seen, duration, recipe), duration, recipe, prompt=recipe.prompt, seed=seed
            )
            for seen in (clip.seen_streams, ladder.Seen())
        )
        # Each seed takes the streams of another neighbour.
        stranger = clips[(number + 1 + seed % max(1, len(clips) - 1)) % len(clips)].seen_streams.streams
        requests = {
            "picture": own,
            "none": dataclasses.replace(own, conditioning=model.condition({}, own.timeline)),
            "shuffled": dataclasses.replace(own, conditioning=model.condition(stranger, own.timeline)),
            "blind": blind,
        }
        wanted += [(number, seed, condition, requests[condition]) for condition in conditions]
    watch = watch or Stopwatch()
    tokens = dict(model.generate([request for *_, request in wanted]))
    watch.lap("generate")
    cues = []
    for index, (number, seed, condition, request) in enumerate(wanted):
        sound_settings = SoundSettings.from_table({"sound": recipe.sound, "voices": recipe.voices}, seed)
        stems = {"keep_stems": True} if condition == "picture" else {}
        made = model.codec.decode(tokens[index], request.timeline, sound_settings, seed=seed, **stems)
        watch.lap("render")
        strength = onset_strength(made.audio, made.sample_rate)
        cues.append(
            Cue(
                number,
                seed,
                condition,
                request,
                tokens[index],
                made.audio,
                made.sample_rate,
                strength,
                voice_levels(made.stems),
            )
        )
        watch.lap("measure")
    return cues


def note_table(cues: Sequence[Cue], ranges: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Note statistics of the cues, each beside the 5-95 % range of the training music's excerpts of about its length.

    Args:
        cues: the cues.
        ranges: from `training_ranges`.
    """
    found = [(nearest_range(cue, ranges), measures.statistics(cue.tokens)) for cue in cues]
    table = {}
    for key in STATISTICS:
        values, limits = [], []
        for known, row in found:
            low, high = (known.get(key, {}).get(name, edge) for name, edge in (("p5", -np.inf), ("p95", np.inf)))
            if np.isfinite(row[key]):
                values.append(row[key])
                limits.append((LOWEST_SCALE_CONSISTENCY, 1.0) if key == "scale_consistency" else (low, high))
        lows, highs = np.array(limits, dtype=float).reshape(-1, 2).T
        inside = (values >= lows) & (values <= highs)
        table[key] = {
            "mean": round(float(np.mean(values)), 4) if values else None,
            "lowest": round(float(min(values)), 4) if values else None,
            "highest": round(float(max(values)), 4) if values else None,
            "range": [round(float(v), 4) if np.isfinite(v) else None for v in (np.mean(lows), np.mean(highs))],
            "share_inside": round(float(inside.sum() / len(found)), 4),
        }
    return table


def nearest_range(cue: Cue, ranges: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The ranges of the excerpts whose length comes nearest to the cue's; nothing where there are none."""
    steps = cue.tokens.shape[1]
    return ranges[min(ranges, key=lambda length: abs(np.log(steps / int(length))))] if ranges else {}


def differences(cues: Sequence[Cue]) -> dict[str, dict[str, float]]:
    """Share of equal tokens, of all and where either cue has an onset, for other seeds and for other clips."""
    pairs: dict[str, list[tuple[float, float]]] = {"other_seed": [], "other_clip": []}
    for a, b in itertools.combinations(cues, 2):
        if (a.clip == b.clip) == (a.seed == b.seed):
            continue
        length = min(a.tokens.shape[1], b.tokens.shape[1])
        x, y = a.tokens[:, :length], b.tokens[:, :length]
        struck = (x > 1) | (y > 1)
        onsets = float((x == y)[struck].mean()) if struck.any() else 1.0
        pairs["other_seed" if a.clip == b.clip else "other_clip"].append((float((x == y).mean()), onsets))
    return {
        kind: {"tokens": round(float(np.mean(v, axis=0)[0]), 4), "onsets": round(float(np.mean(v, axis=0)[1]), 4),
               "most_onsets": round(float(np.max(v, axis=0)[1]), 4)}
        for kind, v in pairs.items() if v
    }  # fmt: skip


def heard(cues: Sequence[Cue]) -> dict[str, Any]:
    """What a listener notices in the renderings, before mix and loudness; and how loud voices are beside each other."""
    rows = [measure_sound(cue.audio, cue.sample_rate).record() for cue in cues]
    result = {key: spread([row[key] for row in rows if row[key] is not None]) for key in rows[0]}
    voices = {name for cue in cues for name in cue.stems_db}
    levels = {}
    for name in sorted(voices):
        sounding = [cue.stems_db[name] for cue in cues if cue.stems_db.get(name) is not None]
        levels[name] = spread(sounding) | {"cues": len(sounding)}
    return {"sound": result, "voices_db": levels}


def measure(
    model: Any,
    clips: Sequence[LightClip],
    recipe: Recipe,
    *,
    seeds: int = 1,
    conditions: Sequence[str] = CONDITIONS[:3],
    ranges: dict[str, dict[str, dict[str, float]]] | None = None,
    listening: bool = True,
) -> tuple[dict[str, Any], list[Cue]]:
    """All but the copy check for one setting. Returns (plain JSON values, the cues of the first condition)."""
    watch = Stopwatch()
    cues = make_cues(model, clips, recipe, seeds, conditions, watch)
    seeing = [cue for cue in cues if cue.condition == conditions[0]]
    result: dict[str, Any] = {
        "notes": note_table(seeing, ranges or {}),
        "differences": differences(seeing),
        "following": {c: follow(clips, [cue for cue in cues if cue.condition == c]) for c in conditions},
    }
    found = result["following"]
    result["paired"] = {
        f"{conditions[0]} - {other}": paired(found[conditions[0]], found[other]) for other in conditions[1:]
    }
    found["beats"] = beats_alone(clips, cues)
    if listening:
        result["heard"] = heard(seeing)
    result["cues"] = len(cues)
    watch.lap("measure")
    result["times_s"] = watch.stages
    return result, seeing


def show(title: str, result: dict[str, Any]) -> None:
    """Print a setting's tables."""
    show_following(title, result)
    rows = [
        (key, row["mean"], row["lowest"], row["highest"], *row["range"], f"{100 * row['share_inside']:.0f} %")
        for key, row in result["notes"].items()
    ]
    print_table("Notes, with the picture", ("", "mean", "lowest", "highest", "aim, mean from", "to", "inside"), rows)
    rows = [(kind, d["tokens"], d["onsets"], d["most_onsets"]) for kind, d in result["differences"].items()]
    print_table("Equal in two cues", ("of an", "tokens", "onsets", "most onsets"), rows)
    if "heard" in result:
        sound = {**result["heard"]["sound"], **{f"{n}, dB of all": v for n, v in result["heard"]["voices_db"].items()}}
        rows = [(key, row["p5"], row["p50"], row["p95"], row["max"]) for key, row in sound.items()]
        print_table("Heard, before mix and loudness", ("", "5 %", "median", "95 %", "max"), rows)


def training_ranges(model_name: str) -> dict[str, dict[str, dict[str, float]]]:
    """The training music's statistics by the length of excerpts in steps, as the model's folder states them."""
    from expotion_cli.weights.manifest import find_manifest

    folder = Path(model_name) if Path(model_name).is_dir() else find_manifest(model_name, "music").folder
    facts = folder / "training.json" if folder is not None else Path()
    return json.loads(facts.read_text()).get("statistics_by_steps", {}) if facts.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="cues a clip")
    parser.add_argument("--visual-guidance", default="", help="one or more, with commas; the recipe's by default")
    parser.add_argument("--guidance", default="", help="likewise")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--recipe", default="cinematic")
    parser.add_argument("--model", default="expotion-mini")
    parser.add_argument("--adapter", help="a folder, or none")
    parser.add_argument("--clips", choices=("demo", "all"), default="all", help="all: with real ones")
    parser.add_argument("--conditions", default=",".join(CONDITIONS[:3]), help=f"of {', '.join(CONDITIONS)}")
    parser.add_argument("--corpus", type=Path, help="a built corpus; else it is built once, in the cache")
    parser.add_argument("--no-copy-check", action="store_true")
    parser.add_argument("--no-listening", action="store_true")
    parser.add_argument("--name", default="first_light", help="of the results file")
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    from expotion_cli.music.load import load_model

    default = Path(__file__).resolve().parents[2] / "shared" / "clips"
    real = Path(os.environ.get("EXPOTION_REAL_CLIPS") or default)
    clips = load_clips(real if options.clips == "all" and real.is_dir() else None)
    model = load_model(options.model, adapter=options.adapter)
    ranges = training_ranges(options.model)
    conditions = options.conditions.split(",")
    recipe = load_recipe(options.recipe)
    if options.temperature is not None:
        recipe = recipe.override({"generate.temperature": options.temperature})
    texts = [float(v) for v in options.guidance.split(",") if v] or [recipe.generate.guidance]
    pictures = [float(v) for v in options.visual_guidance.split(",") if v] or [recipe.generate.visual_guidance]
    settings = []
    for guidance, visual in itertools.product(texts, pictures):
        chosen = recipe.override({"generate.guidance": guidance, "generate.visual_guidance": visual})
        result, seeing = measure(
            model,
            clips,
            chosen,
            seeds=options.seeds,
            conditions=conditions,
            ranges=ranges,
            listening=not options.no_listening,
        )
        show(f"guidance {guidance:g}, visual guidance {visual:g}", result)
        if not options.no_copy_check:
            result["copies"] = copy_check([cue.tokens for cue in seeing], options.corpus)
            show_copies(result["copies"])
        drawn = {"guidance": guidance, "visual_guidance": visual, "temperature": chosen.generate.temperature}
        settings.append({**drawn, **result})
    write_results(
        options.name,
        {
            "machine": facts,
            "model": {"name": Path(options.model).name, "digest": model.digest, "adapter": model.adapter is not None},
            "recipe": recipe.name,
            "seeds": options.seeds,
            "clips": {c.name: {"known_accents": len(c.known), "seen_accents": len(c.seen)} for c in clips},
            "tolerance_s": sync.TOLERANCE_S,
            "settings": settings,
        },
    )


if __name__ == "__main__":
    main()
