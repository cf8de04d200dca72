"""How closely cues follow their clips: the measures of `evaluation.sync` over many cues, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench import print_table

from expotion_cli.audio.loudness import loudness_curve
from expotion_cli.audio.onsets import RATE_HZ, onset_times
from expotion_cli.evaluation import sync
from expotion_cli.media.clip import ClipInfo
from expotion_cli.music.codecs.notes.tokens import VOICES, tokens_to_events
from expotion_cli.scoring import ladder
from expotion_cli.timing import STEPS_PER_BEAT


@dataclass(frozen=True)
class LightClip:
    """A clip and what is known of its motion: `known` accents by construction, `seen` ones from the streams."""

    info: ClipInfo
    name: str
    seen_streams: ladder.Seen
    motion: np.ndarray
    known: tuple[float, ...]
    seen: tuple[float, ...]

    @property
    def duration_s(self) -> float:
        return float(self.info.duration)


@dataclass(frozen=True)
class Cue:
    """One generated and rendered cue."""

    clip: int
    seed: int
    condition: str
    request: Any
    tokens: np.ndarray
    audio: np.ndarray
    sample_rate: int
    strength: np.ndarray
    stems_db: dict[str, float | None]


def follow(clips: Sequence[LightClip], cues: Sequence[Cue]) -> dict[str, Any]:
    """How closely the cues of one condition follow their clips, against chance and against other clips."""
    seeds = sorted({cue.seed for cue in cues})
    matrix = np.zeros((len(seeds), len(clips), len(clips)))
    swells = []
    by_cue: dict[str, list[float]] = {}
    for cue in cues:
        for number, clip in enumerate(clips):
            found = sync.motion_onset_correlation(clip.motion, cue.strength)
            matrix[seeds.index(cue.seed), cue.clip, number] = found.value
        swells.append(sync.swell_correlation(clips[cue.clip].motion, loudness_curve(cue.audio, cue.sample_rate)))
    by_cue["own r"] = [float(matrix[seeds.index(cue.seed), cue.clip, cue.clip]) for cue in cues]
    by_cue["swell r"] = swells
    interval = [round(edge, 4) for edge in sync.bootstrap_interval(swells)]
    result = {"swell": {"value": round(float(np.mean(swells)), 4), "interval": interval}}
    if len(clips) > 1:
        result["correlation"] = sync.record(sync.own_against_other(matrix))
        result["own_by_clip"] = {clip.name: round(float(matrix[:, n, n].mean()), 4) for n, clip in enumerate(clips)}
    for kind in ("known", "seen"):
        scores: dict[str, list[sync.AgainstChance]] = {"hits": [], "stress": [], "note_hits": [], "note_stress": []}
        owners = []
        for cue in cues:
            clip = clips[cue.clip]
            if accents := getattr(clip, kind):
                times, weights = struck_notes(cue)
                curve = np.zeros(len(cue.strength))
                np.add.at(curve, np.clip(np.rint(times * RATE_HZ).astype(int), 0, len(curve) - 1), weights)
                duration_s, rate_hz = clip.duration_s, RATE_HZ
                scores["hits"].append(sync.accent_hits(onset_times(cue.strength), accents, duration_s))
                scores["stress"].append(sync.accent_strength(cue.strength, rate_hz, accents, duration_s))
                scores["note_hits"].append(sync.accent_hits(times, accents, duration_s))
                scores["note_stress"].append(sync.accent_strength(curve, rate_hz, accents, duration_s))
                owners.append(clip.name)
        if owners:
            result[kind] = {name: sync.record(sync.pool(values, owners)) for name, values in scores.items()}
            by_cue |= {f"{kind} {name}": [one.value for one in values] for name, values in scores.items()}
    result["by_cue"] = {name: [round(value, 4) for value in values] for name, values in by_cue.items()}
    return result


def paired(one: dict[str, Any], other: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What one condition scores above another, cue by cue (same clip, same seed): mean and 95 % bootstrap interval."""
    result = {}
    for name, values in one["by_cue"].items():
        differences = np.subtract(values, other["by_cue"][name])
        interval = [round(edge, 4) for edge in sync.bootstrap_interval(differences)]
        result[name] = {"mean": round(float(differences.mean()), 4), "interval": interval, "cues": len(values)}
    return result


def show_following(title: str, result: dict[str, Any]) -> None:
    """Print the tables of what follows the picture."""
    following = result["following"]
    rows = []
    for condition in (c for c in following if "swell" in following[c]):
        one = following[condition].get("correlation", {})
        figures = [one.get(key) for key in ("own", "other", "lift", "probability")]
        rows.append((condition, *figures, following[condition]["swell"]["value"]))
    head = ("motion and onsets", "own r", "shuffled r", "lift", "own ranks higher", "swell r")
    print_table(f"Following the picture, {title} ({result['cues']} cues, s: {result['times_s']})", head, rows)
    for kind, words in (("known", "the demo clips' known accents"), ("seen", "accents seen in all clips")):
        rows = []
        for condition in (c for c in following if kind in following[c]):
            row = [condition]
            for name in ("hits", "stress", "note_hits", "note_stress"):
                one = following[condition][kind].get(name, {})
                row += [one.get("value"), *((one.get("chance"),) if name.endswith("hits") else ()), one.get("p_value")]
            rows.append(row)
        head = ("", "sound hits", "chance", "p", "sound stress", "p", "note hits", "chance", "p", "note stress", "p")
        print_table(f"Meeting {words} (stress: 1 is chance)", head, rows)
    rows = []
    for pair, found in result["paired"].items():
        for name, one in found.items():
            low, high = one["interval"]
            rows.append((f"{pair}: {name.replace('_', ' ')}", one["mean"], low, high, one["cues"], low > 0))
    print_table("Cue by cue", ("", "mean", "95 % from", "to", "cues", "above 0"), rows)


def struck_notes(cue: Cue) -> tuple[np.ndarray, np.ndarray]:
    """(times in seconds, weights) of the onsets as written, without the instruments' attacks; louder weighs more."""
    events = tokens_to_events(cue.tokens)
    struck = [(e.start, 1 + e.velocity) for voice in VOICES if voice.kind != "dynamics" for e in events[voice.name]]
    steps, weights = np.array(struck, dtype=float).reshape(-1, 2).T
    times = float(cue.request.timeline.start) + steps / float(cue.request.timeline.rate_hz)
    inside = (times > -0.5 / float(cue.request.timeline.rate_hz)) & (times < float(cue.request.timeline.duration))
    return np.maximum(times[inside], 0.0), weights[inside]


def beats_alone(clips: Sequence[LightClip], cues: Sequence[Cue]) -> dict[str, Any]:
    """How well the beats of the clips' grids meet their accents."""
    result, grids = {}, {cue.clip: cue.request.timeline for cue in cues if cue.condition != "blind"}
    for kind in ("known", "seen"):
        hits = {}
        for number, timeline in grids.items():
            if accents := getattr(clips[number], kind):
                beats = timeline.step_times()[::STEPS_PER_BEAT]
                hits[clips[number].name] = sync.accent_hits(beats, accents, clips[number].duration_s)
        if hits:
            result[kind] = {"note_hits": sync.record(sync.pool(list(hits.values()), list(hits)))}
            result[kind]["by_clip"] = {name: round(hit.value, 4) for name, hit in hits.items()}
    return result
