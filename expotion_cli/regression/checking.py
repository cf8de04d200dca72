"""Renders a reference's clips again and reports what changed: settings and tokens by name, and the sound."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.errors import ExpotionError
from expotion_cli.recipe import Recipe, added
from expotion_cli.regression import recording
from expotion_cli.regression.measures import Sound, Tolerance, compare
from expotion_cli.regression.reference import RecordedClip, Reference, flat
from expotion_cli.regression.rendering import (
    NOT_OF_THE_MACHINE,
    Clip,
    Rendered,
    TimeLimit,
    machine_facts,
    render,
    run_notes,
    settings_of,
)
from expotion_cli.scoring import playing

if TYPE_CHECKING:
    from expotion_cli.music.model import Model

EXACT, PERCEPTUAL, AUTO = "exact", "perceptual", "auto"


@dataclass(frozen=True)
class Difference:
    """One thing that differs from the reference.

    Attributes:
        what: its name: "prompt", "seed", "recipe loudness.lufs", "weights", "tokens" ...
        was, now: as text.
        counts: whether it makes a drift by itself. Settings always do; what follows from them (weights' digest,
            conditioning, tokens) only where exact equality can be expected.
    """

    what: str
    was: str
    now: str
    counts: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.was} → {self.now}" if self.was else f"{self.what}: {self.now}"


@dataclass(frozen=True)
class ClipCheck:
    """Result of one clip.

    Attributes:
        name: as recorded.
        status: "same", "drift" or "error" (it could not be checked).
        differences: what changed, causes first.
        distances: `measures.compare`; empty for errors.
        beyond: measures past their tolerance.
        error: why it could not be checked.
        notes: remarks for the user.
        duration_s: how long it took.
        reference, new: both sounds, where there was something to compare.
    """

    name: str
    status: str
    differences: tuple[Difference, ...] = ()
    distances: dict[str, float | None] = field(default_factory=dict)
    beyond: tuple[str, ...] = ()
    error: ExpotionError | None = None
    notes: tuple[str, ...] = ()
    duration_s: float = 0.0
    reference: Sound | None = None
    new: Sound | None = None


@dataclass(frozen=True)
class CheckResult:
    """Result of a check.

    Attributes:
        folder: the reference folder.
        mode: "exact" or "perceptual", as it was in the end.
        clips: in the reference's order.
        machine: what differs from the machine it was recorded on: name → (was, now).
        tolerances: that were applied, by measure.
        notes: remarks on the whole check.
        duration_s: how long it took.
        updated: the new renders have replaced the reference.
    """

    folder: Path
    mode: str
    clips: tuple[ClipCheck, ...]
    machine: dict[str, tuple[str, str]]
    tolerances: dict[str, Tolerance]
    notes: tuple[str, ...] = ()
    duration_s: float = 0.0
    updated: bool = False

    def count(self, status: str) -> int:
        """How many clips ended so."""
        return sum(clip.status == status for clip in self.clips)

    @property
    def exit_code(self) -> int:
        """0: all the same, or taken over as the new reference; 1: drift or errors; 3: nothing could be checked."""
        if self.count("error") == len(self.clips):
            return 3
        return 1 if self.count("error") or (self.count("drift") and not self.updated) else 0


def check(
    reference: Reference,
    load: Callable[..., Model],
    *,
    where: Sequence[str | Path] = (),
    mode: str = AUTO,
    tolerances: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    limit_s: float | None = None,
    update: bool = False,
    on_stage: Callable[[str, str], None] | None = None,
) -> CheckResult:
    """Render all clips of a reference with today's code, recipe and weights, and compare.

    Args:
        reference: from `reference.read_reference`.
        load: `music.loading.load_model`; called once, if a clip was found.
        where: files or folders that hold the clips, if they moved.
        mode: "exact" (tokens must be equal), "perceptual" (the sound decides) or "auto": exact on a machine with the
            facts of the recording one, perceptual elsewhere. The sound is compared in every mode.
        tolerances: limits by measure, over the manifest's and the built-in ones.
        options: `device` and `dtype` instead of the recorded ones.
        limit_s: clips that are not finished after so many seconds are errors.
        update: make the new renders the reference, if every clip could be rendered.
        on_stage: called with (clip name, stage) as each begins.

    Raises:
        UsageError: a setting, the recipe or a tolerance is wrong; a recorded model is not known any more.
        EnvironmentProblem: the weights are missing or damaged.
    """
    started = time.monotonic()
    limit = TimeLimit(limit_s)
    limits = recording.recorded_tolerances(reference, tolerances or {})
    source, recipe, notes = recording.recorded_recipe(reference)
    playing.check_sound(recipe)
    clips, problems, unknown = recording.locate(reference, where)
    arguments = recording.recorded_model(reference) | {k: v for k, v in (options or {}).items() if v is not None}
    checks = {name: ClipCheck(name, "error", error=error) for name, error in problems.items()}
    differing: dict[str, tuple[str, str]] = {}
    made: list[Rendered] = []
    if clips:
        model = load(**arguments)
        features = recording.recorded_features(reference)
        notes = (*notes, *run_notes(model, recipe, features))
        differing = _machine_differences(reference.machine, machine_facts(model))
        if mode == AUTO:
            mode = PERCEPTUAL if any(key not in NOT_OF_THE_MACHINE for key in differing) else EXACT
        comparison = _Comparison(reference, recipe, model, mode, limits, differing)
        wanted = [clips[recorded.name] for recorded in reference.clips if recorded.name in clips]
        for index, outcome in render(wanted, recipe, model, features=features, limit=limit, on_stage=on_stage):
            checks[wanted[index].name] = comparison.compare_clip(wanted[index], outcome)
            if isinstance(outcome, Rendered):
                made.append(outcome)
        if update and len(made) == len(reference.clips):
            asked = recording.RecordingOptions(source, reference.recipe["flags"], arguments, features)
            recording.write(reference.folder, recipe, asked, model, made, reference)
            checks = {name: _accepted(old) for name, old in checks.items()}
    updated = update and len(made) == len(reference.clips)
    if update and not updated:
        unknown = [*unknown, "not updated: not every clip could be rendered"]
    return CheckResult(
        folder=reference.folder,
        mode=EXACT if mode == AUTO else mode,
        clips=tuple(checks[recorded.name] for recorded in reference.clips),
        machine=differing,
        tolerances=limits,
        notes=(*notes, *unknown),
        duration_s=round(time.monotonic() - started, 3),
        updated=updated,
    )


def _accepted(old: ClipCheck) -> ClipCheck:
    """A clip whose reference file was damaged is whole again once it is written anew."""
    return ClipCheck(old.name, "drift", notes=(str(old.error),), new=old.new) if old.error is not None else old


def _machine_differences(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    keys = list(dict.fromkeys([*was, *now]))
    return {key: (was.get(key, "none"), now.get(key, "none")) for key in keys if was.get(key) != now.get(key)}


class _Comparison:
    """Compares renders with the reference."""

    def __init__(
        self,
        reference: Reference,
        recipe: Recipe,
        model: Model,
        mode: str,
        limits: Mapping[str, Tolerance],
        machine: Mapping[str, tuple[str, str]],
    ):
        self.reference, self.exact, self.limits = reference, mode == EXACT, limits
        self.recorded = {clip.name: clip for clip in reference.clips}
        self.common = [*self._recipe_differences(recipe), *self._model_differences(model, machine)]

    def compare_clip(self, clip: Clip, outcome: Rendered | ExpotionError) -> ClipCheck:
        """Compare one render with what was recorded."""
        recorded = self.recorded[clip.name]
        if isinstance(outcome, ExpotionError):
            return ClipCheck(clip.name, "error", error=outcome)
        try:
            tokens, sound = self.reference.tokens(recorded), self.reference.sound(recorded)
        except ExpotionError as error:
            return ClipCheck(clip.name, "error", error=error, new=outcome.sound)
        differences = [*self._own_differences(recorded, outcome), *self.common, *self._tokens(tokens, outcome)]
        distances = compare(sound, outcome.sound)
        beyond = tuple(name for name, value in distances.items() if value is not None and self._is_beyond(name, value))
        notes = list(outcome.notes)
        is_drift = bool(beyond) or any(difference.counts for difference in differences)
        if not is_drift and not np.array_equal(sound.samples, outcome.sound.samples):
            notes.append("the sound differs, within the tolerances")
        if beyond and not differences:
            notes.append("same settings and tokens: what changed is how they are played, mixed or encoded")
        return ClipCheck(
            name=clip.name,
            status="drift" if is_drift else "same",
            differences=tuple(differences),
            distances=distances,
            beyond=beyond,
            notes=tuple(notes),
            duration_s=outcome.duration_s,
            reference=sound,
            new=outcome.sound,
        )

    def _is_beyond(self, name: str, value: float) -> bool:
        return value > self.limits[name].limit + 1e-6  # differences of rounded values are no rounder than floats

    def _recipe_differences(self, recipe: Recipe) -> list[Difference]:
        was, now = {**added(), **flat(self.reference.recipe["fields"])}, flat(settings_of(recipe))
        apart = [key for key in dict.fromkeys([*was, *now]) if was.get(key) != now.get(key)]
        # What these two come to is compared clip by clip.
        apart = [key for key in apart if key not in ("prompt", "seed")]
        return [Difference(f"recipe {key}", _word(was.get(key)), _word(now.get(key)), True) for key in apart]

    def _model_differences(self, model: Model, machine: Mapping[str, tuple[str, str]]) -> list[Difference]:
        found = []
        was = self.reference.model
        if was["digest"] != model.digest:
            what = "weights or number type" if "number type" in machine else "weights"
            found.append(Difference(what, _short(was["digest"]), _short(model.digest), self.exact))
        if was["codec"] != model.codec.digest:
            what = "soundfont or the way it is played"
            found.append(Difference(what, _short(was["codec"]), _short(model.codec.digest), self.exact))
        return found

    def _own_differences(self, recorded: RecordedClip, new: Rendered) -> list[Difference]:
        found = []
        if recorded.prompt != new.prompt:
            found.append(Difference("prompt", repr(recorded.prompt), repr(new.prompt), True))
        if recorded.seed != new.seed:
            found.append(Difference("seed", str(recorded.seed), str(new.seed), True))
        was, now = ({row["name"]: row for row in rows} for rows in (recorded.streams, new.streams))
        if list(was) != list(now):
            before, after = (", ".join(rows) or "none" for rows in (was, now))
            found.append(Difference("streams", before, after, self.exact))
        for name in (name for name in was if name in now and was[name]["digest"] != now[name]["digest"]):
            before, after = (_short(rows[name]["digest"]) for rows in (was, now))
            found.append(Difference(f"{name} encoder", before, after, self.exact))
        if recorded.tempo != new.tempo:
            found.append(Difference("tempo", _tempo(recorded.tempo), _tempo(new.tempo), self.exact))
        if recorded.conditioning != new.conditioning:
            before, after = _short(recorded.conditioning), _short(new.conditioning)
            found.append(Difference("conditioning (what was seen)", before, after, self.exact))
        return found

    def _tokens(self, was: np.ndarray, new: Rendered) -> list[Difference]:
        now = new.tokens
        if was.shape != now.shape:
            before, after = ("×".join(map(str, tokens.shape)) for tokens in (was, now))
            return [Difference("tokens", before, after, self.exact)]
        apart = was != now
        if not apart.any():
            return []
        step = int(apart.any(axis=0).argmax())
        at_s = max(0.0, new.start_s + step / new.rate_hz)
        share = f"{100 * apart.mean():.1f} % differ, first at step {step} of {was.shape[1]} ({at_s:.1f} s)"
        return [Difference("tokens", "", share, self.exact)]


def _word(value: Any) -> str:
    return "unset" if value is None else repr(value) if isinstance(value, str) else str(value)


def _tempo(record: Mapping[str, Any] | None) -> str:
    return f"{record['bpm']:g} bpm from {record['start_s']:.4f} s" if record else "none"


def _short(digest: str) -> str:
    return digest[:12]
