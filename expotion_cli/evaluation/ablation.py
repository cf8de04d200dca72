"""Ablation of the conditioning: clips are scored with parts left out, and with another clip's streams."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import ExpotionError, OutputError, UsageError, writing
from expotion_cli.evaluation import measuring
from expotion_cli.evaluation.measuring import EvaluatedClip, MeasureOptions, OnStatus
from expotion_cli.evaluation.outputs import (
    SAMPLE_RATE,
    Cue,
    MusicSet,
    clip_prompts,
    read_reference,
)
from expotion_cli.evaluation.results import Evaluation
from expotion_cli.evaluation.running import check_options, nothing_measured, probe_clips
from expotion_cli.media.sound import resample
from expotion_cli.recipe import DEFAULT_RECIPE, Generate, Recipe, load_recipe
from expotion_cli.scoring import ladder, playing
from expotion_cli.scoring.group import ComposedCue, Order, compose, groups
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.streams import choose_streams

if TYPE_CHECKING:
    from expotion_cli.music.model import Model
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import EmbeddingStream

TEXT_ONLY, BEATS, FACE, MOTION, BOTH, SHUFFLED = "text", "beats", "face", "motion", "both", "shuffled"
CONDITIONS = (TEXT_ONLY, BEATS, FACE, MOTION, BOTH, SHUFFLED)
STREAMS = {FACE: ("face",), MOTION: ("pose", "flow"), BOTH: ("face", "pose", "flow")}
ALL_STREAMS = STREAMS[BOTH]


@dataclass(frozen=True)
class Plan:
    """What to score.

    Attributes:
        clips: files, folders or patterns.
        recipe: a name or a path.
        conditions: of `CONDITIONS`.
        visual_guidances, guidances: each is tried with each; the recipe's where there is none. Instead of a visual
            one of 0, with which nothing is seen, the default counts.
        seeds: takes of each clip; take n has the seed `first_seed` + n.
        first_seed: see above.
        prompt: replaces the recipe's.
        prompts: JSON file with prompts of single clips.
        reference: folder of sound, or None for the text-only takes.
        keep: where to write the music, or None.
    """

    clips: Sequence[str | Path]
    recipe: str = DEFAULT_RECIPE
    conditions: tuple[str, ...] = CONDITIONS
    visual_guidances: tuple[float, ...] = ()
    guidances: tuple[float, ...] = ()
    seeds: int = 1
    first_seed: int = 0
    prompt: str | None = None
    prompts: Path | None = None
    reference: Path | None = None
    keep: Path | None = None


@dataclass(frozen=True)
class Variant:
    """One row of the table: a condition, and a recipe with its guidances.

    Attributes:
        name: of the row.
        condition: of `CONDITIONS`.
        recipe: with all flags laid over it.
    """

    name: str
    condition: str
    recipe: Recipe


def ablate(
    plan: Plan,
    options: MeasureOptions,
    load: Callable[[], Model],
    *,
    cache: EmbeddingCache | None = None,
    on_status: OnStatus | None = None,
) -> Evaluation:
    """Score the clips under all conditions and measure the music as it is composed, before mix and loudness.

    Args:
        plan: what to score.
        options: what to measure; the baseline is the text alone where that is a condition.
        load: gives the model; called once flags and clips are found to be right.
        cache: of embedding streams.
        on_status: called with a line of text at each step.

    Raises:
        UsageError: an unknown condition, or a guidance out of range.
    """
    on_status = on_status or (lambda text: None)
    check_options(options)
    variants = plan_variants(plan)
    words = clip_prompts(plan.prompts) if plan.prompts is not None else {}
    infos, failures = probe_clips(plan.clips)
    if not infos:
        return nothing_measured(failures)
    notes: list[str] = []
    if len(infos) < 2 and any(variant.condition == SHUFFLED for variant in variants):
        variants = [variant for variant in variants if variant.condition != SHUFFLED]
        notes.append("a single clip: there are no other streams to compose from, shuffled is left out")
    if not variants:
        raise UsageError("no condition is left.", remedy="Give at least two clips for shuffled.")
    choice = choose_streams(ALL_STREAMS)
    notes += choice.notes
    seen: dict[str, ladder.Seen] = {}
    clips: dict[str, EvaluatedClip] = {}
    for name, info in infos.items():
        on_status(f"see      {name}")
        with guard(info.path, failures.append):
            found = ladder.see(info, dict.fromkeys((*choice.names, "flow")), cache=cache)
            clips[name] = measuring.prepare_clip(name, info, cache=cache, seen=found.streams["flow"])
            seen[name] = found
            notes += [f"{name}: {note}" for note in found.notes]
    if not clips:
        return nothing_measured(failures, notes)
    model = load()
    notes += _what_the_model_lacks(model, variants)
    composer = VariantComposer(model, clips, seen, plan, words, on_status, failures)
    baseline = next((variant.name for variant in variants if variant.condition == TEXT_ONLY), None)
    first = composer.compose(variants[0]) if baseline == variants[0].name else None
    reference = _folder(plan.reference, clips, failures) if plan.reference is not None else first
    sets = itertools.chain([first] if first else [], map(composer.compose, variants[1:] if first else variants))
    result = measuring.evaluate(
        clips,
        sets,
        dataclasses.replace(options, baseline=baseline),
        reference=reference,
        cache=cache,
        notes=notes,
        failures=failures,
        on_status=on_status,
    )
    settings = {
        **result.settings,
        "measured": "what the model composed, rendered; before fades, mix, loudness and encoding",
        "model": {"name": model.name, "digest": model.digest, "adapter": model.adapter_name},
        "recipe": {"name": variants[0].recipe.name, "prompt": variants[0].recipe.prompt, "prompts": bool(words)},
        "seeds": [plan.first_seed + take for take in range(plan.seeds)],
        "sets": {
            variant.name: {
                "condition": variant.condition,
                "guidance": variant.recipe.generate.guidance,
                "visual_guidance": variant.recipe.generate.visual_guidance,
            }
            for variant in variants
        },
    }
    return dataclasses.replace(result, settings=settings)


def plan_variants(plan: Plan) -> list[Variant]:
    """The rows of the table, the text alone first.

    Conditions without streams are composed once per text guidance: visual guidance has nothing to amplify there.

    Raises:
        UsageError: an unknown condition, or a guidance out of range.
    """
    for name in plan.conditions:
        if name not in CONDITIONS:
            raise UsageError(
                f"There is no condition {name!r}{nearest_hint(name, CONDITIONS)}.",
                remedy=f"Conditions: {', '.join(CONDITIONS)}.",
            )
    recipe = load_recipe(plan.recipe)
    if plan.prompt is not None:
        recipe = recipe.override({"prompt": plan.prompt}, source="--prompt")
    texts = plan.guidances or (recipe.generate.guidance,)
    # A recipe may leave the picture to the follow layer; what the model makes of it shows only where the model sees it.
    pictures = plan.visual_guidances or (recipe.generate.visual_guidance or Generate().visual_guidance,)
    found = []
    for condition in (name for name in CONDITIONS if name in plan.conditions):
        sees = condition not in (TEXT_ONLY, BEATS)
        for text, picture in itertools.product(dict.fromkeys(texts), dict.fromkeys(pictures)):
            if not sees and picture != pictures[0]:
                continue
            values = {"generate.guidance": text, "generate.visual_guidance": picture}
            parts = [condition]
            parts += [f"text {text:g}"] if len(set(texts)) > 1 else []
            parts += [f"visual {picture:g}"] if len(set(pictures)) > 1 and sees else []
            name = ", ".join(parts)
            found.append(Variant(name, condition, recipe.override(values, source="--guidance, --visual-guidance")))
    if not found:
        raise UsageError("--conditions names none.", remedy=f"Conditions: {', '.join(CONDITIONS)}.")
    return found


class VariantComposer:
    """Composes sets of music for the same clips.

    Args:
        model: from `music.load.load_model`.
        clips: by name.
        seen: each clip's embedding streams.
        plan: what to score.
        words: prompts of single clips, by name.
        on_status: called with a line of text at each step.
        failures: gets what could not be composed or rendered; the rest goes on.
    """

    def __init__(
        self,
        model: Model,
        clips: Mapping[str, EvaluatedClip],
        seen: Mapping[str, ladder.Seen],
        plan: Plan,
        words: Mapping[str, str],
        on_status: OnStatus,
        failures: list[ExpotionError],
    ):
        self._model, self._clips, self._seen = model, clips, seen
        self._plan, self._words, self._on_status, self._failures = plan, words, on_status, failures

    def compose(self, variant: Variant) -> MusicSet:
        """The set of a variant, all takes of all clips.

        Raises:
            OutputError: the music can't be written where it should be kept.
        """
        self._on_status(f"compose  {variant.name}")
        cues: list[Cue] = []
        for some in groups(list(self._orders(variant)), self._model.device):
            for composed in compose(self._model, some, failed=self._failed):
                name, take = composed.order.key
                self._on_status(f"render   {variant.name}: {name}")
                with guard(composed.order.clip.path, self._failures.append, fatal=(OutputError,)):
                    cues.append(self._render(variant, composed, name, take))
        cues.sort(key=lambda cue: (cue.seed, list(self._clips).index(cue.clip)))
        return MusicSet(variant.name, tuple(cues))

    def _failed(self, order: Order, error: ExpotionError) -> None:
        self._failures.append(error)

    def _render(self, variant: Variant, composed: ComposedCue, name: str, take: int) -> Cue:
        request = composed.request
        score = ladder.render(
            self._model,
            composed.takes[0],
            request.timeline,
            variant.recipe,
            seed=request.seed,
            prompt=composed.order.prompt,
        )
        if self._plan.keep is not None:
            _keep(self._plan.keep, variant.name, name, take, score)
        audio = resample(score.audio, score.sample_rate, SAMPLE_RATE)
        midi = score.midi if score.midi and score.midi.startswith(b"MThd") else None
        return Cue(name, audio, take, midi, request.prompt, variant.recipe.tags)

    def _orders(self, variant: Variant) -> Iterator[Order]:
        names = list(self._clips)
        for take, (number, name) in itertools.product(range(self._plan.seeds), enumerate(names)):
            clip, seen, plan = self._clips[name].info, self._seen[name], None
            prompt = self._words.get(name, variant.recipe.prompt)
            streams: Mapping[str, EmbeddingStream] = seen.streams
            if variant.condition in (BEATS, SHUFFLED):
                # The clip's own grid stays; only what the model sees changes.
                plan = ladder.spot(seen, clip.duration, variant.recipe, prompt=prompt)
                streams = {}
                if variant.condition == SHUFFLED:
                    # Each take sees another neighbour; its rows are cut, or held at their end, to this clip's length.
                    other = names[(number + 1 + take % max(1, len(names) - 1)) % len(names)]
                    streams = self._seen[other].streams
            elif variant.condition == TEXT_ONLY:
                streams = {}
            else:
                streams = {key: value for key, value in streams.items() if key in STREAMS[variant.condition]}
            given = dataclasses.replace(seen, streams=dict(streams))
            seed = self._plan.first_seed + take
            # One candidate: what a choice among several adds is not the conditioning's.
            order = Order(clip, variant.recipe, prompt, seed, see=partial(_given, given), plan=plan, take_numbers=(0,))
            yield dataclasses.replace(order, key=(name, take))


def _given(seen: ladder.Seen) -> ladder.Seen:
    return seen


def _what_the_model_lacks(model: Model, variants: Sequence[Variant]) -> list[str]:
    notes = []
    for condition, streams in STREAMS.items():
        wanted = any(variant.condition == condition for variant in variants)
        if wanted and not set(streams) & set(model.streams):
            beats = "only the tempo follows them" if model.codec.follows_tempo else "they play no part"
            notes.append(f"{condition}: {model.name} reads none of {', '.join(streams)}: {beats}")
    notes += [note for variant in variants for note in playing.check_instruments(model, variant.recipe)]
    return list(dict.fromkeys(notes))


def _folder(folder: Path, clips: Mapping[str, EvaluatedClip], failures: list[ExpotionError]) -> MusicSet:
    if not folder.is_dir():
        raise UsageError("there is no such folder of sound.", path=folder, remedy="Check --reference.")
    return read_reference(folder, {name: clip.info for name, clip in clips.items()}, failures)


def _keep(root: Path, variant: str, clip: str, take: int, score: ladder.Score) -> None:
    from expotion_cli.media.flac import to_16_bit, write_flac
    from expotion_cli.storage import write_bytes

    folder = root / (variant.replace(", ", "-").replace(" ", "") + (f"-take{take + 1}" if take else ""))
    path = folder / f"{clip}.flac"
    with writing(path, "the music", remedy="Check --keep."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_flac(path, to_16_bit(score.audio), score.sample_rate)
        if score.midi:
            write_bytes(path.with_suffix(".mid"), score.midi)
