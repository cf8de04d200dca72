"""Figures of an evaluation: each value with its interval and its chance level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from expotion_cli.errors import ExpotionError
from expotion_cli.evaluation.sync import bootstrap_interval, own_against_other

SYNC, MUSIC, QUALITY, NOTES, TEXT = "sync", "music", "quality", "notes", "text"
GROUPS = {
    SYNC: "Following the picture",
    MUSIC: "Dynamics and pulse",
    QUALITY: "Sound, compared with the reference set",
    NOTES: "Notes",
    TEXT: "Prompt, picture and sound",
}
FORMAT = 2
MIN_FOR_INTERVAL = 3
_RATIO_DRAWS = 2000


@dataclass(frozen=True)
class Metric:
    """One measure.

    Attributes:
        key: its name in JSON.
        group: of `GROUPS`.
        title: its name in tables.
        better: "higher", "lower", "near 1", "near the reference", or the range of human-composed music.
        digits: shown behind the point.
        chance: what the chance level is.
        about: its definition.
        source: who defined it.
        by_ratio: compared with the baseline set by the ratio of the means, not by their difference.
    """

    key: str
    group: str
    title: str
    better: str
    digits: int
    chance: str
    about: str
    source: str
    by_ratio: bool = False


_ALONE = "none: the sound alone"
_SHUFFLED = "the same music with the other clips' pictures"
_ITSELF = "two random halves of the reference set"
_AS_MANY = "as many random pieces of the reference, at most half of them, against its others"
_LOT = "as many random notes"
METRICS: tuple[Metric, ...] = (
    Metric("correlation", SYNC, "motion-onset r", "higher", 2, _SHUFFLED,
           "largest Pearson correlation of motion energy and onset strength, 50 rows a second, lags within 0.2 s",
           "this project; spectral flux as in Bello et al. 2005"),
    Metric("ranking", SYNC, "own ranks higher", "higher", 2, "a coin: 0.5",
           "probability that music and clip that belong together correlate more than a pair that shares only one",
           "this project; the area under the ROC curve of own against shuffled pairs"),
    Metric("hits", SYNC, "hits", "higher", 2, "the music turned by random times",
           "share of the visual accents (clear maxima of motion energy, at most one a second) with a musical accent "
           "(onset strength 1.5 standard deviations above its mean) within 0.1 s",
           "this project"),
    Metric("coverage", SYNC, "beat coverage", "near 1", 2, _SHUFFLED,
           "bins of 0.2 s with an onset over bins with a beat of the motion (BCS)",
           "Zhu et al. 2022 (D2M-GAN); true beats are the motion's"),
    Metric("hit", SYNC, "beat hit", "higher", 2, _SHUFFLED,
           "share of the bins with a beat of the motion that have an onset (BHS); dense music meets everything",
           "Zhu et al. 2022 (D2M-GAN); Yu et al. 2023 (LORIS)"),
    Metric("f1", SYNC, "beat F1", "higher", 2, _SHUFFLED,
           "harmonic mean of that share and of the share of the onsets' bins that have a beat of the motion",
           "Yu et al. 2023 (LORIS)"),
    Metric("coverage_1s", SYNC, "coverage, 1 s", "near 1", 2, _SHUFFLED,
           "beat coverage with bins of 1 s, as most papers count; a click track meets all of them",
           "Zhu et al. 2022 (D2M-GAN)"),
    Metric("hit_1s", SYNC, "hit, 1 s", "higher", 2, _SHUFFLED,
           "beat hit with bins of 1 s, as most papers count; a click track meets all of them",
           "Zhu et al. 2022 (D2M-GAN)"),
    Metric("alignment", SYNC, "beat alignment", "higher", 2, _SHUFFLED,
           "mean over the motion's beats of exp(-d²/2σ²), d to the nearest beat of the music, σ = 0.05 s",
           "Li et al. 2021 (AIST++)"),
    Metric("alignment_music", SYNC, "alignment, music's", "higher", 2, _SHUFFLED,
           "the same, mean over the music's beats",
           "Siyao et al. 2022 (Bailando)"),
    Metric("swell", SYNC, "loudness-energy r", "higher", 2, _SHUFFLED,
           "Pearson correlation of motion energy and level in dB, both averaged over 2 s",
           "this project"),
    Metric("spread", MUSIC, "spread, dB", "1.5 to 7.5", 1, _ALONE,
           "95th less 10th percentile of momentary loudness (0.4 s every 0.1 s), without the first 0.2 s and the last "
           "1.5 s; human-composed music: 1.5 to 7.5",
           "this project; loudness by ITU-R BS.1770-4"),
    Metric("hole", MUSIC, "holes, %", "lower", 1, _ALONE,
           "share of those blocks more than 15 dB under the integrated loudness; human-composed music: 0",
           "this project"),
    Metric("pulse", MUSIC, "pulse", "0.80 to 0.92", 2, _ALONE,
           "autocorrelation of log-compressed onset strength in windows of 5 s, their mean, its maximum over 40 to "
           "240 bpm; human-composed music: 0.80 to 0.92",
           "this project; after Grosche et al. 2010"),
    Metric("fad", QUALITY, "FAD (CLAP)", "lower", 3, _ITSELF,
           "Fréchet distance of CLAP embeddings of windows of 5 s, every 2.5 s; biased upwards by few clips",
           "Kilgour et al. 2019; with CLAP as in Gui et al. 2024"),
    Metric("kl", QUALITY, "KL (AST)", "lower", 2, "the reference's other clips",
           "KL(reference ‖ output) in nats of AST's label distributions, clip by clip",
           "Yang et al. 2023 (Diffsound); AST of Gong et al. 2021"),
    Metric("inception", QUALITY, "IS (AST)", "higher", 2, "1: all alike",
           "exp of the mean KL of each clip's label distribution from the set's",
           "Salimans et al. 2016"),
    Metric("fad_musicnn", QUALITY, "FAD (musicnn)", "lower", 1, _AS_MANY,
           "Fréchet distance of musicnn's embeddings of windows of 3 s, every 1.5 s; biased upwards by few clips",
           "Kilgour et al. 2019; musicnn of Pons and Serra 2019"),
    Metric("kl_musicnn", QUALITY, "KL (musicnn)", "lower", 3, _AS_MANY,
           "KL(reference ‖ set) in nats of the sets' mean probabilities of musicnn's 50 tags, brought to a sum of 1",
           "this project; musicnn of Pons and Serra 2019"),
    Metric("spectrum", QUALITY, "spectrum, dB", "lower", 1, _ITSELF,
           "root mean square difference of the sets' mean mel spectra, level aside",
           "this project"),
    Metric("chroma", QUALITY, "chroma, bits", "lower", 3, _ITSELF,
           "Jensen-Shannon divergence of the sets' mean chroma, each cue turned to its own tonic",
           "keys by Krumhansl and Kessler 1982"),
    Metric("rhythm", QUALITY, "onset gaps, ms", "lower", 0, _ITSELF,
           "Wasserstein-1 distance of the sets' times between onsets",
           "this project"),
    Metric("pitch_class_entropy", NOTES, "pitch-class entropy", "near the reference", 2, _LOT,
           "bits; 3.58 if all twelve are equally frequent", "MusPy (Dong et al. 2020)"),
    Metric("scale_consistency", NOTES, "scale consistency", "near the reference", 2, _LOT,
           "largest share of notes within one major or minor scale", "MusPy (Mogren 2016)"),
    Metric("groove_consistency", NOTES, "groove consistency", "near the reference", 2, _LOT,
           "1 less the mean share of steps (24 a beat) at which a bar's onsets differ from the bar before",
           "MusPy (Wu and Yang 2020)"),
    Metric("polyphony", NOTES, "polyphony", "near the reference", 1, _LOT,
           "mean number of pitches sounding where any does", "MusPy"),
    Metric("empty_beat_rate", NOTES, "empty beats", "near the reference", 2, _LOT,
           "share of beats during which nothing sounds", "MusPy (Dong et al. 2018)"),
    Metric("style", TEXT, "style", "higher", 3, "the same tags in the reference that ships",
           "mean probability that musicnn gives to the tags of the cue's recipe, else to those its prompt names",
           "this project; musicnn of Pons and Serra 2019", by_ratio=True),
    Metric("clap", TEXT, "CLAP score", "higher", 3, "the other clips' prompts",
           "cosine of CLAP's embeddings of prompt and sound, mean over windows of 5 s",
           "Wu et al. 2023 (LAION-CLAP)"),
    Metric("in_sync", TEXT, "in sync", "higher", 2, _SHUFFLED,
           "likelihood of the offsets -0.2, 0 and 0.2 s, as Synchformer judges, mean over windows of 4.8 s",
           "this project; Synchformer of Iashin et al. 2024"),
    Metric("sync_offset", TEXT, "sync offset, s", "lower", 2, _SHUFFLED,
           "distance from 0 of the offset that Synchformer takes for the likeliest, mean over windows of 4.8 s",
           "Iashin et al. 2024 (Synchformer); DeSync in Cheng et al. 2025 (MMAudio)"),
    Metric("consistency", TEXT, "text-video-audio", "higher", 2, _SHUFFLED + " and prompts",
           "geometric mean of in sync and of the CLAP score (0 where that is negative), clip by clip",
           "this project"),
    Metric("tempo", TEXT, "tempo met", "higher", 2, "the other clips' prompts",
           "share of the prompts that state a tempo whose music has it within 10 %, octaves allowed",
           "Accuracy 2 of Gouyon et al. 2006, at 10 %"),
    Metric("key", TEXT, "key met", "higher", 2, "the other clips' prompts",
           "share of the prompts that state a key whose music is in it",
           "keys by Krumhansl and Kessler 1982"),
)  # fmt: skip
BY_KEY = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class Figure:
    """The value of one measure for one set.

    Attributes:
        value: None where it was not measured.
        interval: 95 % bootstrap interval over clips; None for fewer than three clips.
        chance: chance level (`Metric.chance`); None where it can't be computed.
        lift, lift_interval: value above chance, where both come from the same pairs.
        by_clip: the value of each clip, where there is one.
        against: what lies between it and the baseline set, over the clips of both: mean difference (or ratio of the
            means, `Metric.by_ratio`), interval, clips.
        shuffled: value of the same music with the other clips' pictures, where that isn't the chance level.
        missing: why it was not measured.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    chance: float | None = None
    lift: float | None = None
    lift_interval: tuple[float, float] | None = None
    by_clip: Mapping[str, float] = field(default_factory=dict)
    against: Mapping[str, Any] | None = None
    shuffled: float | None = None
    missing: str | None = None

    def record(self) -> dict[str, Any]:
        """Plain JSON values, rounded."""
        if self.missing is not None:
            return {"not_measured": self.missing}
        return {
            "value": rounded(self.value),
            "interval": rounded(self.interval),
            "chance": rounded(self.chance),
            "lift": rounded(self.lift),
            "lift_interval": rounded(self.lift_interval),
            **({"shuffled": rounded(self.shuffled)} if self.shuffled is not None else {}),
            "clips": len(self.by_clip) or None,
            "by_clip": {name: rounded(value) for name, value in self.by_clip.items()},
            "against_baseline": self.against and {key: rounded(value) for key, value in self.against.items()},
        }


@dataclass(frozen=True)
class Row:
    """A set and its figures.

    Attributes:
        name: of the set.
        kind: "outputs", "yardstick" or "reference".
        clips: names of those measured.
        cues: how many there are of all clips.
        figures: by metric.
    """

    name: str
    kind: str
    clips: tuple[str, ...]
    cues: int
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        rows: the sets.
        clips: duration and number of beats of each clip's motion, by name.
        settings: what another evaluation must share to be compared.
        baseline: the set that others are compared with, or None.
        notes: remarks for the user.
        failures: what could not be measured.
    """

    rows: tuple[Row, ...]
    clips: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    baseline: str | None = None
    notes: tuple[str, ...] = ()
    failures: tuple[ExpotionError, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: all measured; 1: some could not be; 3: nothing could."""
        if not any(row.kind == "outputs" for row in self.rows):
            return 3
        return 1 if self.failures else 0

    def keys(self, group: str) -> list[str]:
        """Metrics of a group that some row has or misses."""
        present = {key for row in self.rows for key in row.figures}
        return [metric.key for metric in METRICS if metric.group == group and metric.key in present]


def figure_of_pairs(
    matrix: np.ndarray, names: Sequence[str], *, seed: int, nothing: str = "no clip has motion beats"
) -> Figure:
    """The figure of a matrix of pairs: own against shuffled pairs.

    Args:
        matrix: [R, N, N], row music, column clip; clips whose column is not a number (nothing to meet in them) are left
            out.
        names: of the clips.
        seed: of the bootstrap.
        nothing: what no clip has, where all are left out.
    """
    kept = np.isfinite(matrix).all(axis=(0, 1))
    matrix, names = matrix[:, kept][:, :, kept], [name for name, keep in zip(names, kept, strict=True) if keep]
    if not names:
        return Figure(missing=f"{nothing} (does anybody move?)")
    own = np.einsum("rii->ri", matrix).mean(axis=0)
    by_clip = dict(zip(names, own.tolist(), strict=True))
    interval = interval_of(own, seed)
    if len(names) < 2:
        return Figure(float(own.mean()), interval, by_clip=by_clip)
    ranking = own_against_other(matrix, seed=seed)
    enough = len(names) >= MIN_FOR_INTERVAL
    return Figure(
        ranking.own,
        interval,
        ranking.other,
        ranking.lift,
        ranking.lift_interval if enough else None,
        by_clip=by_clip,
    )


def beside_turned(pairs: Figure, turned: Mapping[str, float], *, seed: int) -> Figure:
    """A figure of pairs whose chance level is the same music turned by random times, by clip."""
    if pairs.value is None:
        return pairs
    apart = np.array([value - turned[name] for name, value in pairs.by_clip.items()])
    chance, lift = float(pairs.value - apart.mean()), float(apart.mean())
    return replace(pairs, chance=chance, lift=lift, lift_interval=interval_of(apart, seed), shuffled=pairs.chance)


def ranking_of(matrix: np.ndarray, *, seed: int) -> Figure:
    """How often music and clip that belong together score higher; see `own_against_other`."""
    if matrix.shape[-1] < 2:
        return Figure(missing="a single clip can't be ranked")
    found = own_against_other(matrix, seed=seed)
    enough = matrix.shape[-1] >= MIN_FOR_INTERVAL
    interval = found.probability_interval if enough else None
    lift = (interval[0] - 0.5, interval[1] - 0.5) if interval else None
    return Figure(found.probability, interval, 0.5, found.probability - 0.5, lift)


def figure_of_values(
    by_clip: Mapping[str, float], *, seed: int, chance: float | None = None, nothing: str = "no clip has a value"
) -> Figure:
    """The mean over clips of a measure that each clip has by itself; `nothing` says why, where none has."""
    known = {name: value for name, value in by_clip.items() if math.isfinite(value)}
    if not known:
        return Figure(missing=nothing)
    values = np.array(list(known.values()))
    lift = float(values.mean() - chance) if chance is not None else None
    return Figure(float(values.mean()), interval_of(values, seed), chance, lift, by_clip=known)


def interval_of(values: np.ndarray, seed: int) -> tuple[float, float] | None:
    """95 % bootstrap interval of a mean, None for fewer than three values."""
    return bootstrap_interval(values, seed=seed) if len(values) >= MIN_FOR_INTERVAL else None


def compare_with_baseline(rows: Sequence[Row], baseline: str, *, seed: int) -> tuple[Row, ...]:
    """The rows with each figure's difference from the baseline set, or ratio to it, over the clips that both have."""
    base = next(row for row in rows if row.name == baseline)
    result = []
    for row in rows:
        figures = {}
        for key, figure in row.figures.items():
            other = base.figures.get(key, Figure())
            common = [name for name in figure.by_clip if name in other.by_clip]
            if row.name != baseline and common:
                pairs = np.array([(figure.by_clip[name], other.by_clip[name]) for name in common])
                if not BY_KEY[key].by_ratio:
                    apart = pairs[:, 0] - pairs[:, 1]
                    found = {"mean": float(apart.mean()), "interval": interval_of(apart, seed), "clips": len(common)}
                    figure = replace(figure, against=found)
                elif pairs[:, 1].any():
                    figure = replace(figure, against={**_ratio(pairs, seed), "clips": len(common)})
            figures[key] = figure
        result.append(replace(row, figures=figures))
    return tuple(result)


def _ratio(pairs: np.ndarray, seed: int) -> dict[str, Any]:
    """Ratio of the columns' means [N, 2] and its 95 % bootstrap interval over rows, where there are enough."""
    interval = None
    if len(pairs) >= MIN_FOR_INTERVAL:
        draws = np.random.default_rng(seed).integers(0, len(pairs), (_RATIO_DRAWS, len(pairs)))
        above, below = pairs[draws].mean(axis=1).T
        low, high = np.percentile(above[below > 0] / below[below > 0], (2.5, 97.5))
        interval = (float(low), float(high))
    return {"ratio": float(pairs[:, 0].mean() / pairs[:, 1].mean()), "interval": interval}


def rounded(value: Any) -> Any:
    """A number, or each of several, with four decimal places; None for what is not a number."""
    if isinstance(value, (tuple, list)):
        return [rounded(each) for each in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
