"""The marks the embedded model is held to: does it follow, is it music, is it new, does it obey. One table, one JSON.

For each recipe, clip and seed a take is composed as `expotion-score` would, with the picture and with `--streams none`.
"bare rule" is what no model is needed for: a drum on every sixteenth at which more moves than usual, harder where more
moves. The ranges of note statistics are those of the training music's excerpts of about a take's length.

    python benchmarks/composition.py --seeds 3
    python benchmarks/composition.py --seeds 1 --recipes cinematic --no-copy-check --clips DIR
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, machine, print_table, put_into, use_cores, write_results
from copies import training_melodies
from real_clips import Clip, load_clips

from expotion_cli.audio.beats import tempo_of
from expotion_cli.audio.dynamics import voice_levels
from expotion_cli.audio.loudness import integrated_lufs, loudness_curve
from expotion_cli.audio.onsets import RATE_HZ, onset_strength
from expotion_cli.audio.spectrum import spectral_centroid
from expotion_cli.evaluation import sync
from expotion_cli.evaluation.beats import meets_tempo
from expotion_cli.evaluation.sound_report import measure_sound
from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.music.codecs.notes.arrange import arrange
from expotion_cli.music.codecs.notes.copies import longest_shared_run
from expotion_cli.music.codecs.notes.metrics import BAR_STEPS, five_measures, is_stuck
from expotion_cli.music.codecs.notes.muspy import MEASURES
from expotion_cli.music.codecs.notes.orchestrate import BEATING
from expotion_cli.music.codecs.notes.ringing import ring_on
from expotion_cli.recipe import Recipe, load_recipe
from expotion_cli.scoring import ladder

PAGE = RESULTS.parent.parent / "docs" / "evaluation.md"
SHARED = {"": "shared_by_two_seeds", ", `--streams none`": "shared_by_two_seeds_streams_none"}
ASKED_BPM = (76, 90, 104, 120, 138)
BEATS_RATE_HZ = 100.0
RESULT_LUFS, LONGEST_SILENCE_S = -14.0, 2.0


@dataclass(frozen=True)
class Take:
    """One composed and rendered cue."""

    clip: int
    seed: int
    request: Any
    tempo: Any
    tokens: np.ndarray
    audio: np.ndarray
    sample_rate: int
    stems: dict[str, np.ndarray]


def compose(model: Any, recipe: Recipe, wanted: Sequence[tuple[int, int, Clip, ladder.Seen, str]]) -> list[Take]:
    """Takes of (clip number, seed, clip, what is seen, prompt), generated in one go and rendered."""
    requests = []
    for _, seed, clip, seen, prompt in wanted:
        duration, plan = clip.info.duration, ladder.spot(seen, clip.info.duration, recipe, prompt=prompt)
        request = ladder.compose_request(model, seen, plan, duration, recipe, prompt=prompt, seed=seed)
        requests.append((request, plan.tempo))
    tokens = dict(model.generate([request for request, _ in requests]))
    takes = []
    for index, ((number, seed, *_), (request, tempo)) in enumerate(zip(wanted, requests, strict=True)):
        made = model.codec.decode(
            tokens[index], request.timeline, sound_settings(recipe, seed), seed=seed, keep_stems=True
        )
        takes.append(Take(number, seed, request, tempo, tokens[index], made.audio, made.sample_rate, dict(made.stems)))
    return takes


def sound_settings(recipe: Recipe, seed: int) -> Any:
    from expotion_cli.music.codecs.notes.instruments import SoundSettings

    return SoundSettings.from_table({"sound": recipe.sound, "voices": recipe.voices}, seed)


def ranking(clips: Sequence[Clip], sounds: Sequence[tuple[int, int, np.ndarray]]) -> dict[str, Any]:
    """Own against other pairs from (clip, seed, onset strength)."""
    seeds = sorted({seed for _, seed, _ in sounds})
    matrix = np.zeros((len(seeds), len(clips), len(clips)))
    for number, seed, strength in sounds:
        for other, clip in enumerate(clips):
            found = sync.motion_onset_correlation(clip.motion, strength)
            matrix[seeds.index(seed), number, other] = found.value
    own = {clip.info.path.stem: round(float(matrix[:, n, n].mean()), 3) for n, clip in enumerate(clips)}
    return {**sync.record(sync.own_against_other(matrix)), "own_by_clip": own}


def strength_of(take: Take) -> np.ndarray:
    return onset_strength(take.audio, take.sample_rate)


def bare_rule(model: Any, clips: Sequence[Clip], recipe: Recipe) -> dict[str, Any]:
    """What a drum on every lively sixteenth reaches, played by the recipe's own kit."""
    sounds = []
    for number, clip in enumerate(clips):
        duration, plan = clip.info.duration, ladder.spot(clip.seen, clip.info.duration, recipe, prompt="")
        request = ladder.compose_request(model, clip.seen, plan, duration, recipe, prompt="", seed=0)
        steps = np.arange(0, request.num_steps, 3)
        rows = np.clip(np.rint(request.timeline.step_times()[steps] * RATE_HZ), 0, len(clip.motion) - 1)
        energy = clip.motion[rows.astype(int)]
        low, high = np.quantile(energy, (0.5, 0.95))
        events = [
            notes.Event(int(s), int(s) + 1, 3, int(np.clip(4 * (e - low) / (high - low + 1e-6), 0, 3)))
            for s, e in zip(steps, energy, strict=True)
            if e > low
        ]
        tokens = notes.events_to_tokens({"drums": events}, request.num_steps)
        sound = replace(sound_settings(recipe, 0), landing=False)
        sound = replace(sound, voices=tuple((n, replace(v, mute=n != "drums", gain_db=0.0)) for n, v in sound.voices))
        made = model.codec.decode(tokens, request.timeline, sound, seed=0)
        sounds.append((number, 0, onset_strength(made.audio, made.sample_rate)))
    return ranking(clips, sounds)


def tempo_kept(model: Any, clips: Sequence[Clip], recipe: Recipe) -> dict[str, Any]:
    """Share of takes in which the tempo asked for in the prompt is heard, within a tenth, octaves allowed."""
    wanted, asked = [], []
    for bpm, (number, clip) in itertools.product(ASKED_BPM, enumerate(clips)):
        wanted.append((number, bpm, clip, clip.seen, f"{recipe.prompt}, {bpm} bpm"))
        asked.append(bpm)
    takes = compose(model, recipe, wanted)
    heard = [
        tempo_of(onset_strength(t.audio, t.sample_rate, BEATS_RATE_HZ).astype(float), BEATS_RATE_HZ) for t in takes
    ]
    kept = [bool(meets_tempo(h, (bpm, bpm))) for h, bpm in zip(heard, asked, strict=True)]
    grid = [float(take.tempo.bpm) == bpm for take, bpm in zip(takes, asked, strict=True)]
    by_bpm = {str(bpm): round(float(np.mean([k for k, b in zip(kept, asked, strict=True) if b == bpm])), 3)
              for bpm in ASKED_BPM}  # fmt: skip
    return {"takes": len(takes), "heard": round(float(np.mean(kept)), 3), "written": float(np.mean(grid)),
            "heard_by_bpm": by_bpm}  # fmt: skip


def inside_ranges(takes: Sequence[Take], ranges: dict[str, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Share of takes inside the training music's 10-90 % range, for each measure and for all five at once."""
    inside: dict[str, list[bool]] = {key: [] for key in MEASURES}
    values: dict[str, list[float]] = {key: [] for key in MEASURES}
    for take in takes:
        events = ring_on(notes.tokens_to_events(take.tokens), take.tokens.shape[1], BAR_STEPS)  # as it is played
        found = five_measures(notes.events_to_tokens(events, take.tokens.shape[1]))
        length = take.tokens.shape[1]
        known = ranges[min(ranges, key=lambda steps: abs(np.log(length / int(steps))))]
        for key in MEASURES:
            values[key].append(found[key])
            inside[key].append(bool(known[key]["p10"] - 1e-9 <= found[key] <= known[key]["p90"] + 1e-9))
    table = {
        key: {"mean": round(float(np.nanmean(values[key])), 3), "inside": round(float(np.mean(inside[key])), 3)}
        for key in MEASURES
    }
    every = np.mean([all(inside[key][i] for key in MEASURES) for i in range(len(takes))])
    return {**table, "all_five": round(float(every), 3)}


def shared_by_seeds(takes: Sequence[Take], recipe: Recipe) -> dict[str, float]:
    """The largest share of notes (voice, step, key) that two seeds of one clip have in common, both in the key of C.

    "all" counts drums as well, which come from the recipe's groove; "pitched" leaves them out.
    """
    most = {"all": 0.0, "pitched": 0.0}
    notes_of = [played(take, recipe) for take in takes]
    for (a, x), (b, y) in itertools.combinations(zip(takes, notes_of, strict=True), 2):
        if a.clip == b.clip and a.seed != b.seed:
            for key in most:
                mine, theirs = ({note for note in one if key == "all" or note[0] not in BEATING} for one in (x, y))
                most[key] = max(most[key], len(mine & theirs) / max(1, min(len(mine), len(theirs))))
    return {key: round(value, 3) for key, value in most.items()}


def played(take: Take, recipe: Recipe) -> set[tuple[str, float, int]]:
    """All notes as (voice, step, key), in the key of C."""
    settings = replace(sound_settings(recipe, take.seed), key=0)
    made = arrange(notes.tokens_to_events(take.tokens), take.request.timeline, settings)
    return {(name, note.start, note.pitch) for name, found in made.notes.items() for note in found}


def faults(takes: Sequence[Take]) -> dict[str, float]:
    """Takes that are silent, clipped or stuck; silence is judged as loud as results are."""
    heard, clipped = [], 0
    for take in takes:
        clipped += bool(np.abs(take.audio).max() >= 1)
        loudness = integrated_lufs(take.audio, take.sample_rate)
        gain_db = RESULT_LUFS - loudness if np.isfinite(loudness) else 0.0
        heard.append(measure_sound(take.audio * np.float32(10 ** (gain_db / 20)), take.sample_rate))
    return {
        "takes": len(takes),
        "silent": sum(one.silent_share > 0.5 or one.longest_silence_s > LONGEST_SILENCE_S for one in heard),
        "longest_silence_s": round(max(one.longest_silence_s for one in heard), 2),
        "clipped": clipped,
        "stuck": sum(is_stuck(take.tokens, take.request.timeline.bar_steps) for take in takes),
    }


def as_music(takes: Sequence[Take]) -> dict[str, Any]:
    """Voices, phrases, ending: what can be told by numbers."""
    levels: dict[str, list[float]] = {}
    centres: dict[str, list[float]] = {}
    breaths, longest, landed, tails = [], [], [], []
    for take in takes:
        for name, db in voice_levels(take.stems).items():
            if db is not None:
                levels.setdefault(name, []).append(db)
                centres.setdefault(name, []).append(spectral_centroid(take.stems[name], take.sample_rate))
        melody = notes.tokens_to_events(take.tokens)["melody"]
        rate = float(take.request.timeline.rate_hz)
        rests = [b.start - a.end for a, b in itertools.pairwise(melody)]
        breaths.append(sum(rest >= 3 for rest in rests) / (len(take.tokens[0]) / rate) * 10)
        spans, begun = [0.0], None
        for event, rest in zip(melody, [*rests, 99], strict=False):
            begun = event.start if begun is None else begun
            if rest >= 3:
                spans.append((event.end - begun) / rate)
                begun = None
        longest.append(max(spans))
        loud = loudness_curve(take.audio, take.sample_rate)
        tails.append(float(loud[-10:].mean() - loud.max()))
        landed.append(bool(tails[-1] > -40))
    return {
        "voices_db": {k: round(float(np.median(v)), 1) for k, v in sorted(levels.items())},
        "voices_centre_hz": {k: round(float(np.nanmedian(v))) for k, v in sorted(centres.items())},
        "melody_breaths_in_10_s": round(float(np.mean(breaths)), 2),
        "longest_melody_breath_to_breath_s": round(float(np.median(longest)), 2),
        "sounding_to_the_last_frame": round(float(np.mean(landed)), 3),
        "last_200_ms_below_the_loudest_db": round(float(np.median(tails)), 1),
    }


def measure(model: Any, clips: Sequence[Clip], name: str, seeds: int, ranges: Any, tempo: bool) -> tuple[dict, list]:
    """All marks of one recipe; also its takes with the picture."""
    recipe = load_recipe(name)
    everyone = list(itertools.product(range(seeds), enumerate(clips)))
    takes = compose(model, recipe, [(n, seed, clip, clip.seen, recipe.prompt) for seed, (n, clip) in everyone])
    blind = compose(model, recipe, [(n, seed, clip, ladder.Seen(), recipe.prompt) for seed, (n, clip) in everyone])
    result = {
        "picture": ranking(clips, [(take.clip, take.seed, strength_of(take)) for take in takes]),
        "streams_none": ranking(clips, [(take.clip, take.seed, strength_of(take)) for take in blind]),
        "bare_rule": bare_rule(model, clips, recipe),
        "notes": inside_ranges(takes, ranges) if ranges else None,
        "notes_streams_none": inside_ranges(blind, ranges) if ranges else None,
        "shared_by_two_seeds": shared_by_seeds(takes, recipe),
        "shared_by_two_seeds_streams_none": shared_by_seeds(blind, recipe),
        "faults": faults([*takes, *blind]),
        "music": as_music(takes),
        "bpm": round(float(np.mean([float(take.tempo.bpm) for take in takes])), 1),
    }
    if tempo:
        result["tempo"] = tempo_kept(model, clips, recipe)
    return result, takes


def show(name: str, found: dict[str, Any]) -> None:
    """Print one recipe's marks."""
    rows = []
    for words, key in (("with the picture", "picture"), ("--streams none", "streams_none"), ("bare rule", "bare_rule")):
        one = found[key]
        rows.append((words, one["own"], one["other"], one["lift"], one["probability"]))
    print_table(f"{name}: motion and onsets", ("", "own r", "shuffled r", "lift", "own ranks higher"), rows)
    rows = [("tempo asked for is heard", found.get("tempo", {}).get("heard"))]
    for key in MEASURES if found["notes"] else ():
        rows.append((f"{key.replace('_', ' ')} inside 10-90 %", found["notes"][key]["inside"]))
    for words, key in SHARED.items():
        rows += [(f"most notes shared by two seeds{words}: {kind}", value) for kind, value in found[key].items()]
    rows += [(f"{key}", value) for key, value in found["faults"].items()]
    rows += [(key.replace("_", " "), value) for key, value in found["music"].items() if not isinstance(value, dict)]
    rows += [(f"{k}, dB of all", v) for k, v in found["music"]["voices_db"].items()]
    print_table(f"{name}: the rest", ("", "value"), rows)


def markdown(results: dict[str, dict[str, Any]], longest_copy: int) -> str:
    """All recipes' marks for a page, and the longest run that any take shares with a training piece."""

    def following(key: str) -> list[str]:
        rows = [one[key] for one in results.values()]
        return [f"{r['lift']:.2f} ({r['own']:.2f} - {r['other']:.2f}); {r['probability']:.2f}" for r in rows]

    table = {
        "with the picture: lift (own r - shuffled r); own ranks higher": following("picture"),
        "`--streams none`": following("streams_none"),
        "the bare rule": following("bare_rule"),
        "tempo asked for is heard": [f"{one['tempo']['heard']:.0%}" for one in results.values() if "tempo" in one],
    }
    for key in MEASURES:
        title = f"{key.replace('_', ' ')} inside 10-90 %"
        table[title] = [
            f"{one['notes'][key]['inside']:.0%} ({one['notes'][key]['mean']:.2f})" for one in results.values()
        ]
    table["all five inside"] = [f"{one['notes']['all_five']:.0%}" for one in results.values()]
    for words, key in SHARED.items():
        table[f"most notes that two seeds share{words}: all; pitched voices"] = [
            f"{one[key]['all']:.0%}; {one[key]['pitched']:.0%}" for one in results.values()
        ]
    for key in ("takes", "silent", "clipped", "stuck"):
        table[key] = [str(one["faults"][key]) for one in results.values()]
    table["longest silence, s"] = [f"{one['faults']['longest_silence_s']:.2f}" for one in results.values()]
    music = {
        "melody breaths in 10 s": "melody_breaths_in_10_s",
        "from breath to breath, s": "longest_melody_breath_to_breath_s",
        "takes that sound to the last frame": "sounding_to_the_last_frame",
        "last 0.2 s below the loudest, dB": "last_200_ms_below_the_loudest_db",
    }
    for title, key in music.items():
        table[title] = [f"{one['music'][key]:.1f}" for one in results.values()]
    names = sorted({name for one in results.values() for name in one["music"]["voices_db"]})
    for name in names:
        found = [
            (one["music"]["voices_db"].get(name), one["music"]["voices_centre_hz"].get(name))
            for one in results.values()
        ]
        table[f"{name}: dB of all; centre, Hz"] = ["-" if db is None else f"{db:.0f}; {hz}" for db, hz in found]
    lines = [["", *results], ["---"] * (1 + len(results)), *([title, *cells] for title, cells in table.items())]
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    copied = f"Longest exact run of melody notes shared with a training piece: {longest_copy} notes (aim: at most 16)."
    return "\n".join([*rows, "", copied])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="takes a clip")
    parser.add_argument("--recipes", default="cinematic,classical,lofi")
    parser.add_argument("--model", default="expotion-mini")
    parser.add_argument("--adapter", help="a folder, or none")
    parser.add_argument("--clips", type=Path, help="a folder of clips")
    parser.add_argument("--no-copy-check", action="store_true")
    parser.add_argument("--no-tempo", action="store_true")
    parser.add_argument("--name", default="composition", help="of the results file")
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    from expotion_cli.music.load import load_model
    from expotion_cli.weights.manifest import find_manifest

    default = Path(__file__).resolve().parents[2] / "shared" / "clips"
    clips = load_clips(options.clips or Path(os.environ.get("EXPOTION_REAL_CLIPS") or default))
    model = load_model(options.model, adapter=options.adapter)
    folder = Path(options.model)
    if not folder.is_dir():
        folder = find_manifest(options.model, "music").folder
    training = json.loads((folder / "training.json").read_text())
    ranges = training["statistics_by_steps"]
    ranges = ranges if all("groove_consistency" in row for row in ranges.values()) else None
    results: dict[str, Any] = {}
    copied: int | None = None
    every: list[Take] = []
    for name in options.recipes.split(","):
        results[name], takes = measure(model, clips, name, options.seeds, ranges, not options.no_tempo)
        every += takes
        show(name, results[name])
    if not options.no_copy_check:
        melodies = training_melodies()
        runs = [longest_shared_run(take.tokens, melodies) for take in every]
        copied = int(max(runs))
        print_table("Copied", ("", "notes"), [("longest run shared with a training piece", copied)])
    write_results(
        options.name,
        {
            "machine": facts,
            "model": {"name": Path(options.model).name, "digest": model.digest},
            "clips": [clip.info.path.stem for clip in clips],
            "seeds": options.seeds,
            "held_out": training.get("follow", [])[-1:],
            "recipes": results,
            "longest_run_shared_with_training": copied,
        },
    )
    if options.name == "composition" and ranges and not options.no_tempo and copied is not None:
        put_into(PAGE, {"composition": markdown(results, copied)})


if __name__ == "__main__":
    main()
