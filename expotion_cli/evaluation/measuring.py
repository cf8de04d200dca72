"""Measures sets of music against their clips: all figures of `results.METRICS` that can be computed here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.audio.beats import LIKELY_BPM, TIGHTNESS, TRACK_RATE_HZ
from expotion_cli.audio.dynamics import HOLE_DB, SPREAD_PERCENTILES
from expotion_cli.audio.hits import ACCENT_DEVIATIONS, TOLERANCE_S, hits, share_met
from expotion_cli.audio.onsets import RATE_HZ
from expotion_cli.errors import ClipError
from expotion_cli.evaluation import baselines, beats, offsets, symbolic, sync
from expotion_cli.evaluation.features import SoundFeatures, takes_of
from expotion_cli.evaluation.outputs import SAMPLE_RATE, MusicSet
from expotion_cli.evaluation.pretrained import WeightsSource
from expotion_cli.evaluation.results import (
    GROUPS,
    MUSIC,
    NOTES,
    QUALITY,
    SYNC,
    TEXT,
    Evaluation,
    Figure,
    Row,
    beside_turned,
    compare_with_baseline,
    figure_of_pairs,
    figure_of_values,
    ranking_of,
)
from expotion_cli.evaluation.set_measures import SetMeasures
from expotion_cli.evaluation.yardsticks import OUTPUTS, YARDSTICK, with_yardsticks
from expotion_cli.music.codecs.notes.muspy import MEASURES
from expotion_cli.spotting.activity import motion_energy
from expotion_cli.spotting.visual_accents import MIN_PROMINENCE, PER_SECOND, visual_accents
from expotion_cli.tagging.tagger import LEVEL_LUFS
from expotion_cli.version import __version__
from expotion_cli.vision.motion import flow_method, make_flow_function

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream

OnStatus = Callable[[str], None]
_PLAIN_SIDE = 160
PLAIN = "plain"
MOTION = ("flow", "pose", PLAIN)
"""Whose energy counts: a stream's (camera motion taken off), or plain dense flow's, the camera's motion included."""


@dataclass(frozen=True)
class EvaluatedClip:
    """A clip with the motion that music is compared with.

    Attributes:
        name: of the clip.
        info: what probing found.
        motion: [T] motion energy at `RATE_HZ`.
        stream: where the motion comes from, as text.
    """

    name: str
    info: ClipInfo
    motion: np.ndarray
    stream: str

    @property
    def duration_s(self) -> float:
        """Its length."""
        return float(self.info.duration)

    @cached_property
    def beats_s(self) -> np.ndarray:
        """[n] seconds: beats of the motion."""
        return beats.kinematic_beats(self.motion)

    @cached_property
    def accents_s(self) -> np.ndarray:
        """[n] seconds: visual accents of the motion."""
        return visual_accents(self.motion)


@dataclass(frozen=True)
class MeasureOptions:
    """What to measure and how.

    Attributes:
        groups: of `results.GROUPS`.
        seed: of every bootstrap and of random notes.
        weights: where to find the networks' weights.
        baseline: name of the set that others are compared with.
        baselines: measure the yardsticks as well (`yardsticks.with_yardsticks`).
    """

    groups: tuple[str, ...] = tuple(GROUPS)
    seed: int = 0
    weights: WeightsSource = WeightsSource()
    baseline: str | None = None
    baselines: bool = True


def prepare_clip(
    name: str, info: ClipInfo, *, stream: str = "flow", cache: EmbeddingCache | None = None, seen: Any = None
) -> EvaluatedClip:
    """Prepare a clip.

    Args:
        name: of the clip.
        info: what probing found.
        stream: of `MOTION`.
        cache: of embedding streams.
        seen: the stream itself, if it is already encoded.

    Raises:
        DecodeError: the picture can't be read.
        ClipError: the encoder found nobody.
    """
    if stream == PLAIN:
        motion = plain_motion(info)
        return EvaluatedClip(name, info, motion, f"mean speed of plain dense flow ({flow_method()})")
    from expotion_cli.vision.streams import encode_clip

    found: EmbeddingStream = seen if seen is not None else encode_clip(info, (stream,), cache=cache)[stream]
    if not found.mask.any():
        raise ClipError(f"nobody was found by {stream}.", path=info.path, remedy="Use --motion flow.")
    motion = motion_energy(found)[: math.ceil(float(info.duration) * RATE_HZ)]
    return EvaluatedClip(name, info, motion, f"{found.encoder} {found.version}, energy")


def plain_motion(info: ClipInfo) -> np.ndarray:
    """[T] mean speed of dense flow at `RATE_HZ`, in picture heights a second, nothing taken off.

    Raises:
        DecodeError: the picture can't be read.
    """
    from expotion_cli.media.decode import iter_frames

    function, last, times, speeds = make_flow_function(), None, [0.0], [0.0]
    for frame in iter_frames(info, max_side=_PLAIN_SIDE):
        small = (frame.pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).round().astype(np.uint8)
        if last is not None and last[1].shape == small.shape and frame.time_s > last[0]:
            seconds = frame.time_s - last[0]
            speeds.append(float(np.linalg.norm(function(last[1], small), axis=-1).mean()) / (len(small) * seconds))
            times.append((frame.time_s + last[0]) / 2)
        last = frame.time_s, small
    grid = np.arange(math.ceil(float(info.duration) * RATE_HZ)) / RATE_HZ
    return np.interp(grid, times[1:] or times, speeds[1:] or speeds).astype(np.float32)


def evaluate(
    clips: Mapping[str, EvaluatedClip],
    sets: Iterable[MusicSet],
    options: MeasureOptions,
    *,
    reference: MusicSet | None = None,
    cache: EmbeddingCache | None = None,
    notes: Sequence[str] = (),
    failures: Sequence[Any] = (),
    on_status: OnStatus | None = None,
) -> Evaluation:
    """Measure sets of music.

    Args:
        clips: by name; those in no set are listed but not measured.
        sets: what to measure.
        options: which measures, and how.
        reference: the set that quality is measured against; its cues need not belong to the clips.
        cache: of embedding streams.
        notes: of earlier steps, to be part of the result.
        failures: of earlier steps, likewise.
        on_status: called with a line of text at each step.
    """
    on_status = on_status or (lambda text: None)
    set_measures = None
    if {QUALITY, TEXT} & set(options.groups):
        infos = {name: clip.info for name, clip in clips.items()}
        set_measures = SetMeasures(
            options.weights, options.seed, reference, clips=infos, cache=cache, on_status=on_status
        )
    rows, said = [], list(notes)
    with_them = options.baselines and {SYNC, MUSIC} & set(options.groups)
    every = with_yardsticks(sets, clips, options.baseline) if with_them else ((one, OUTPUTS) for one in sets)
    for one, kind in every:
        on_status(one.name)
        heard = [SoundFeatures(cue) for cue in one.cues]
        figures: dict[str, Figure] = {}
        if SYNC in options.groups:
            figures |= follow(clips, heard, options.seed)
        if MUSIC in options.groups:
            figures |= dynamics_and_pulse(heard, options.seed)
        if kind == OUTPUTS:
            said += one.notes
            if QUALITY in options.groups and set_measures is not None:
                figures |= set_measures.quality(one)
            if NOTES in options.groups:
                found, troubles = note_figures(one, options.seed)
                figures, said = figures | found, said + troubles
            if TEXT in options.groups and set_measures is not None:
                figures |= set_measures.text(heard)
            if set_measures is not None:
                set_measures.release()
        rows.append(Row(one.name, kind, one.clips, len(heard), figures))
    rows.sort(key=lambda row: row.kind == YARDSTICK)
    measured = {name for row in rows for name in row.clips}
    if len(measured) == 1:
        said.append("a single clip: no shuffled pairs, no ranking, no intervals")
    elif 0 < len(measured) < 5:
        said.append(f"only {len(measured)} clips: intervals over so few say little")
    finished = compare_with_baseline(rows, options.baseline, seed=options.seed) if options.baseline else tuple(rows)
    described = {
        name: {"duration_s": round(clip.duration_s, 3), "motion_beats": len(clip.beats_s)}
        for name, clip in clips.items()
        if name in measured
    }
    settings = describe_settings(clips.values(), options, set_measures, reference)
    return Evaluation(finished, described, settings, options.baseline, tuple(dict.fromkeys(said)), tuple(failures))


def follow(clips: Mapping[str, EvaluatedClip], heard: Sequence[SoundFeatures], seed: int) -> dict[str, Figure]:
    """Figures of how closely music follows motion: each cue with each clip of its set.

    Args:
        clips: by name.
        heard: features of the set's cues.
        seed: of the bootstrap.
    """
    names = list(dict.fromkeys(h.cue.clip for h in heard))
    takes = takes_of(heard, names)
    keys = (
        *("correlation", "hits", "coverage", "hit", "f1", "coverage_1s", "hit_1s"),
        *("alignment", "alignment_music", "swell"),
    )
    table = np.full((len(keys), len(takes), len(names), len(names)), np.nan)
    for take, cues in enumerate(takes):
        for row, one in enumerate(cues):
            for column, name in enumerate(names):
                table[:, take, row, column] = _pair(one, clips[name])
    found = {key: figure_of_pairs(values, names, seed=seed) for key, values in zip(keys, table, strict=True)}
    pairs = figure_of_pairs(table[keys.index("hits")], names, seed=seed, nothing="no clip has visual accents")
    turned = {name: float(np.mean([_turned(cues[n], clips[name]) for cues in takes])) for n, name in enumerate(names)}
    found["hits"] = beside_turned(pairs, turned, seed=seed)
    return {"correlation": found.pop("correlation"), "ranking": ranking_of(table[0], seed=seed), **found}


def dynamics_and_pulse(heard: Sequence[SoundFeatures], seed: int) -> dict[str, Figure]:
    """Spread, holes and pulse of a set's sound, whatever the picture shows."""
    values: dict[str, dict[str, list[float]]] = {"spread": {}, "hole": {}, "pulse": {}}
    for one in heard:
        found = (one.dynamics.spread_db, 100 * one.dynamics.hole_share, one.pulse)
        for by_clip, value in zip(values.values(), found, strict=True):
            by_clip.setdefault(one.cue.clip, []).append(value)
    means = {key: {n: float(np.mean(known)) for n, known in by_clip.items()} for key, by_clip in values.items()}
    nothing = "the sound is silent or shorter than 3 s"
    return {key: figure_of_values(by_clip, seed=seed, nothing=nothing) for key, by_clip in means.items()}


def _pair(one: SoundFeatures, clip: EvaluatedClip) -> tuple[float, ...]:
    duration_s = min(one.cue.duration_s, clip.duration_s)
    onsets_s, true_s = (times[times < duration_s] for times in (one.onsets_s, clip.beats_s))
    accents_s, seen_s = (times[times < duration_s] for times in (one.accents_s, clip.accents_s))
    beats_s = one.beats_and_tempo[0]
    beats_s = beats_s[beats_s < duration_s]
    # Music without beats has no mean over its beats; it counts as music that meets none.
    musics = beats.beat_alignment(true_s, beats_s) if len(beats_s) else 0.0
    return (
        sync.motion_onset_correlation(clip.motion, one.onsets).value,
        share_met(seen_s, accents_s),
        *beats.beat_scores(onsets_s, true_s, duration_s),
        *beats.beat_scores(onsets_s, true_s, duration_s, beats.WEAK_BIN_S)[:2],
        beats.beat_alignment(beats_s, true_s),
        musics if len(true_s) else math.nan,
        sync.swell_correlation(clip.motion, one.loudness),
    )


def _turned(one: SoundFeatures, clip: EvaluatedClip) -> float:
    """What share of its clip's accents the music meets after it is turned by random times."""
    duration_s = min(one.cue.duration_s, clip.duration_s)
    return hits(clip.accents_s[clip.accents_s < duration_s], one.onsets[: math.ceil(duration_s * RATE_HZ)]).chance


def note_figures(one: MusicSet, seed: int) -> tuple[dict[str, Figure], list[str]]:
    """Statistics of a set's notes, and a line for each MIDI file that could not be read."""
    values: dict[str, dict[str, list[float]]] = {key: {} for key in MEASURES}
    lots: dict[str, list[float]] = {key: [] for key in MEASURES}
    troubles = []
    for number, (cue, midi) in enumerate((cue, cue.midi) for cue in one.cues if cue.midi is not None):
        try:
            notes = symbolic.read_notes(midi)
        except ClipError as error:
            troubles.append(f"{one.name}, {cue.clip}: {error}")
            continue
        for key, value in symbolic.note_statistics(notes).items():
            values[key].setdefault(cue.clip, []).append(value)
        for key, value in symbolic.note_statistics(symbolic.at_random(notes, seed + number)).items():
            lots[key].append(value)
    if not any(values.values()):
        missing = Figure(missing="no MIDI files beside the outputs (NAME.mid)")
        return dict.fromkeys(MEASURES, missing), troubles
    figures = {}
    for key, by_clip in values.items():
        known = [value for value in lots[key] if math.isfinite(value)]
        means = {name: float(np.mean(found)) for name, found in by_clip.items()}
        figures[key] = figure_of_values(means, seed=seed, chance=float(np.mean(known)) if known else None)
    return figures, troubles


def describe_settings(
    clips: Any, options: MeasureOptions, set_measures: SetMeasures | None, reference: MusicSet | None
) -> dict[str, Any]:
    """Everything that two evaluations must have in common for their figures to be comparable.

    Args:
        clips: that were measured.
        options: of the evaluation.
        set_measures: knows the networks that were loaded, or None.
        reference: the set that quality was measured against, or None.
    """
    return {
        "motion": sorted({clip.stream for clip in clips}),
        "sample_rate": SAMPLE_RATE,
        "rate_hz": RATE_HZ,
        "max_lag_s": sync.MAX_LAG_S,
        "onsets": "spectral flux of 48 mel bands, 40 Hz to 16 kHz; clear onsets above 1.5 times the mean",
        "bin_s": beats.BIN_S,
        "weak_bin_s": beats.WEAK_BIN_S,
        "visual_accents": f"maxima of prominence {MIN_PROMINENCE:g} of the range, at most {PER_SECOND:g} a second",
        "musical_accents": f"onset strength {ACCENT_DEVIATIONS:g} deviations above its mean, within {TOLERANCE_S:g} s",
        "spread": f"percentiles {SPREAD_PERCENTILES[0]} to {SPREAD_PERCENTILES[1]}; holes {HOLE_DB:g} dB down",
        "motion_beats": f"minima of the speed smoothed with sigma {beats.KINEMATIC_SIGMA_S:.4f} s",
        "music_beats": f"dynamic programming at {TRACK_RATE_HZ:g} Hz, tightness {TIGHTNESS:g}, "
        f"tempos near {LIKELY_BPM:g} bpm",
        "alignment_sigma_s": beats.ALIGNMENT_SIGMA_S,
        "swell_span_s": 2.0,
        "in_sync_s": offsets.IN_SYNC_S,
        "sync_window_s": offsets.WINDOW_S,
        "yardsticks_bpm": baselines.BPM,
        "notes": f"{symbolic.RESOLUTION} steps a beat, bars by the files' time signatures",
        "reference": reference.name if reference else None,
        "reference_pieces": len(reference.cues) if reference else 0,
        **_tagged(set_measures),
        "networks": dict(set_measures.networks) if set_measures else {},
        "bootstrap": {"draws": 2000, "level": 0.95, "over": "clips", "seed": options.seed},
        "versions": {"expotion": __version__, "numpy": np.__version__},
    }


def _tagged(set_measures: SetMeasures | None) -> dict[str, Any]:
    """What was tagged with, and against what; nothing where nothing was tagged."""
    if set_measures is None or (identity := set_measures.tags.identity) is None:
        return {}
    return {"tagger": identity, "tagger_reference": set_measures.tags.reference_name, "tagged_at_lufs": LEVEL_LUFS}


def input_folders(inputs: Sequence[str | Path]) -> list[Path]:
    """The folders among the inputs, and those of the files."""
    paths = [Path(each) for each in inputs]
    return list(dict.fromkeys(path if path.is_dir() else path.parent for path in paths))
