"""Are words obeyed? What prompts ask for, beside what the finished notes are.

Composes the prompts of `tests/helpers/asked_prompts.py`, and the recipe's own prompt with each of the 24 keys, with ten
tempos and in three metres. Measured on the MIDI file as it would be written:

- *sound*: every instrument asked for has notes; *rest*: none that was excluded has a single one, and where the prompt
  names who plays, nobody else has;
- *key*: the key whose profile fits the notes best, weighted by how long they sound, has the tonic and mode asked for;
  beside it the share of notes inside that scale (in minor with both sevenths);
- *tempo*: the mean of the tempo map is within 2 % of what was asked;
- *metre*: the file's time signature, and onsets that don't clearly return after a bar of another length instead.

    python benchmarks/words.py
    python benchmarks/words.py --clips DIR --seeds 3
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from bench import RESULTS, machine, print_table, put_into, use_cores, write_results
from real_clips import load_clips

sys.path.append(str(RESULTS.parent.parent / "tests" / "helpers"))
from asked_prompts import ASKED, Asked

from expotion_cli import vocabulary
from expotion_cli.audio.tonality import find_key
from expotion_cli.keys import Key, parse_key
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.playing import sound_settings
from expotion_cli.timing import METRES, STEPS_PER_BEAT

PAGE = RESULTS.parent.parent / "docs" / "evaluation.md"
DURATION = Fraction(10)
TEMPOS = (60, 72, 84, 96, 104, 112, 120, 132, 144, 160)
TEMPO_TOLERANCE = 0.02
SCALES = {False: (0, 2, 4, 5, 7, 9, 11), True: (0, 2, 3, 5, 7, 8, 10, 11)}
CLEARLY = 0.12
BEATING = ("drums", "percussion")
MEASURES = ("sound", "rest", "key", "mode", "tempo", "metre")
MARK = 0.95


@dataclass(frozen=True)
class Made:
    """What a prompt has become.

    Attributes:
        asked: the prompt, and what it asks for.
        midi: the file as it would be written.
        tokens: [8, S] of the notes.
    """

    asked: Asked
    midi: bytes
    tokens: np.ndarray


def wanted(recipe: str) -> Iterator[Asked]:
    """The sixty prompts, then keys, tempos and metres by themselves, with the recipe's own instruments."""
    yield from ASKED
    own = load_recipe(recipe).prompt
    for is_minor in (False, True):
        for tonic in range(12):
            key = str(Key(tonic, is_minor))
            yield Asked(f"{own}, in {key}", (), (), key, key.split()[1], recipe=recipe, alone=False)
    for bpm in TEMPOS:
        yield Asked(f"{own}, {bpm} bpm", bpm=(bpm, bpm), recipe=recipe, alone=False)
    for metre in METRES:
        yield Asked(f"{own}, {metre}", metre=metre, recipe=recipe, alone=False)


def compose(model: Any, asked: Sequence[Asked], seens: Sequence[ladder.Seen], seeds: int) -> list[Made]:
    """One take of each prompt and seed; pictures take turns."""
    from expotion_cli.music.codecs.notes.arrange import arrange
    from expotion_cli.music.codecs.notes.midi import to_midi
    from expotion_cli.music.codecs.notes.tokens import tokens_to_events

    orders, requests = [], []
    for seed in range(seeds):
        for number, one in enumerate(asked):
            recipe, seen = load_recipe(one.recipe), seens[(number + seed) % len(seens)]
            plan = ladder.spot(seen, DURATION, recipe, prompt=one.prompt)
            requests.append(ladder.compose_request(model, seen, plan, DURATION, recipe, prompt=one.prompt, seed=seed))
            orders.append((one, recipe, plan, seed))
    found: list[Made | None] = [None] * len(orders)
    for index, tokens in model.generate(requests):
        one, recipe, plan, seed = orders[index]
        timeline, settings = requests[index].timeline, sound_settings(recipe, seed, plan, one.prompt)
        events = tokens_to_events(np.asarray(tokens)[:, : timeline.num_steps])
        midi = to_midi(arrange(events, timeline, settings), timeline, settings, plan.marks)
        found[index] = Made(one, midi, tokens[:, : timeline.num_steps])
    return [made for made in found if made is not None]


def measure(made: Made) -> dict[str, bool | float | None]:
    """Whether each thing asked for came true; None where it was not asked for."""
    import pretty_midi

    asked, file = made.asked, pretty_midi.PrettyMIDI(io.BytesIO(made.midi))
    parts = [part for part in file.instruments if part.notes]
    voices = {part.name.partition(":")[0]: part for part in parts}
    heard = {name if name in BEATING else part.program for name, part in voices.items()}
    unwanted = {name for name in asked.rests if name in voices}
    unwanted |= {program for name in asked.rests for program in vocabulary.FAMILIES.get(name, ()) if program in heard}
    unwanted |= heard - set(asked.sounds) if asked.alone else set()
    has_rests = bool(asked.rests) or asked.alone
    result: dict[str, bool | float | None] = {
        "sound": set(asked.sounds) <= heard if asked.sounds else bool(heard),
        "rest": not unwanted if has_rests else None,
    }
    classes = np.zeros(12)
    for part in parts:
        for note in part.notes if not part.is_drum else ():
            classes[note.pitch % 12] += note.end - note.start
    key = parse_key(asked.key or "auto")
    tonic, is_minor = find_key(classes / max(classes.sum(), 1e-9))
    right_mode = key is None or key.is_minor is None or is_minor == key.is_minor
    result["key"] = None if key is None else tonic == key.tonic and right_mode
    result["mode"] = None if not asked.mode else is_minor == (asked.mode == "minor")
    result["in_scale"] = None
    if key is not None and key.is_minor is not None:
        scale = [(key.tonic + step) % 12 for step in SCALES[key.is_minor]]
        result["in_scale"] = float(classes[scale].sum() / max(classes.sum(), 1e-9))
    result["tempo"] = None
    if asked.bpm is not None:
        low, high = asked.bpm[0] * (1 - TEMPO_TOLERANCE), asked.bpm[1] * (1 + TEMPO_TOLERANCE)
        result["tempo"] = bool(low <= mean_tempo(file) <= high)
    signature = file.time_signature_changes[-1]  # before it there may be a bar that the picture cuts into
    is_written = f"{signature.numerator}/{signature.denominator}" == asked.metre
    result["metre"] = is_written and returns_by_bars(made.tokens, asked.metre)
    return result


def mean_tempo(file: Any) -> float:
    """Mean of a file's tempo map over its ten seconds, in beats a minute."""
    at_s, bpm = file.get_tempo_changes()
    length_s = np.diff(np.append(np.maximum(at_s, 0), float(DURATION)))
    return float((bpm * np.maximum(length_s, 0)).sum() / np.maximum(length_s, 0).sum())


def returns_by_bars(tokens: np.ndarray, metre: str) -> bool:
    """Whether onsets don't return after a bar of the other length clearly more than after one of this metre."""
    from expotion_cli.music.codecs.notes.judge import onset_strength

    struck = onset_strength(tokens)
    struck = struck - struck.mean()
    returns = {
        beats: float(struck[lag:] @ struck[:-lag]) / max(float(struck @ struck), 1e-9)
        for beats in (3, 4)
        if (lag := beats * STEPS_PER_BEAT) < len(struck)
    }
    return returns.get(METRES[metre], 0.0) > max(returns.values()) - CLEARLY


def summary(rows: Sequence[dict[str, bool | float | None]]) -> dict[str, dict[str, float]]:
    """Measure → takes that were asked, and the share that obeyed."""
    found = {}
    for name in (*MEASURES, "in_scale"):
        values = [float(row[name]) for row in rows if row[name] is not None]
        if values:
            found[name] = {"takes": len(values), "share": round(float(np.mean(values)), 3)}
    return found


TITLES = {
    "sound": "instruments asked for sound",
    "rest": "what is excluded, and whoever is not named, has no note",
    "key": "key",
    "mode": "mode",
    "tempo": "tempo, within 2 %",
    "metre": "metre",
    "in_scale": "notes inside the scale asked for",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="takes a prompt")
    parser.add_argument("--recipe", default="cinematic", help="for keys, tempos and metres")
    parser.add_argument("--model", default="expotion-mini")
    parser.add_argument("--clips", type=Path, help="a folder of clips, whose pictures take turns; none without")
    parser.add_argument("--name", default="words", help="of the results file")
    parser.add_argument("--cores", type=int, default=0, help="use only so many processors")
    options = parser.parse_args()
    use_cores(options.cores)
    facts = machine()
    from expotion_cli.music.load import load_model

    seens = [clip.seen for clip in load_clips(options.clips)] if options.clips else [ladder.Seen()]
    model = load_model(options.model)
    made = compose(model, list(wanted(options.recipe)), seens, options.seeds)
    rows = [measure(one) for one in made]
    found = summary(rows)
    failed = [
        {"prompt": one.asked.prompt, "seed": number // (len(made) // options.seeds), "failed": names}
        for number, (one, row) in enumerate(zip(made, rows, strict=True))
        if (names := [name for name in MEASURES if row[name] is False])
    ]
    table = [(TITLES[name], row["takes"], row["share"]) for name, row in found.items()]
    print_table(f"Words obeyed (mark: {MARK})", ("", "takes asked", "share"), table)
    for one in failed:
        print(f"  {one['prompt']!r}, seed {one['seed']}: {', '.join(one['failed'])}")
    write_results(
        options.name,
        {
            "machine": facts,
            "model": {"name": Path(options.model).name, "digest": model.digest},
            "clips": len(seens) if options.clips else 0,
            "seeds": options.seeds,
            "mark": MARK,
            "obeyed": found,
            "failed": failed,
        },
    )
    if options.name == "words":
        lines = ["| | takes asked | share |", "|---|---:|---:|"]
        lines += [f"| {title} | {count} | {share:.1%} |" for title, count, share in table]
        put_into(PAGE, {"words": "\n".join(lines)})


if __name__ == "__main__":
    main()
