"""Scoring from Python: one clip, or a folder of them. `import expotion_cli` exports these functions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from expotion_cli.errors import ExpotionError
from expotion_cli.hints import content_hash
from expotion_cli.media.clip import AUTO_TRACKS, Tracks
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.recipe import Recipe
from expotion_cli.scoring import ladder, playing
from expotion_cli.scoring.account import Listener, Summary, summed
from expotion_cli.scoring.batch import run
from expotion_cli.scoring.group import Order, compose
from expotion_cli.scoring.ladder import Score, Seen
from expotion_cli.scoring.melodies import find_melody
from expotion_cli.scoring.plan import Settings, prompt_notes
from expotion_cli.scoring.remote import plans_for
from expotion_cli.scoring.streams import missing_in_clip, missing_streams, needs_of, streams_for
from expotion_cli.scoring.takes.playing import play_composed
from expotion_cli.scoring.urls import mirror
from expotion_cli.spotting.hits_file import read_hits

if TYPE_CHECKING:
    from expotion_cli.media.remux import RemuxReport
    from expotion_cli.music.model import Model
    from expotion_cli.spotting.hits import HitPoint
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Tempo
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.encoder import StreamSource


@dataclass(frozen=True)
class ScoredClip:
    """A finished clip.

    Attributes:
        output: the video.
        seen: what the encoders saw.
        tempo: of the music; None for codecs without a beat grid.
        score: the music.
        report: how the video came out.
    """

    output: Path
    seen: Seen
    tempo: Tempo | None
    score: Score
    report: RemuxReport


def score_clip(
    path: str | Path,
    destination: str | Path,
    *,
    model: Model,
    recipe: Recipe,
    prompt: str | None = None,
    seed: int | None = None,
    plan: CuePlan | None = None,
    user_hits: Sequence[HitPoint] = (),
    features: Iterable[StreamSource] = (),
    cache: EmbeddingCache | None = None,
    tracks: Tracks = AUTO_TRACKS,
) -> ScoredClip:
    """Score one clip, all rungs.

    >>> import expotion_cli as expotion
    >>> recipe = expotion.load_recipe("cinematic", {"streams.use": ["flow"]})
    >>> scored = expotion.score_clip("clip.mp4", "scored.mp4", model=expotion.load_model(), recipe=recipe, seed=1)
    >>> abs(scored.report.loudness.integrated_lufs - recipe.loudness.lufs) < 0.6
    True

    Args:
        path: the clip.
        destination: the video to write; its suffix should be `media.clip.output_suffix`'s.
        model: from `load_model`.
        recipe: from `load_recipe`.
        prompt: instead of the recipe's.
        seed: of the cue; another seed, another cue. By default the recipe decides, as for `expotion-score`.
        plan: obeyed instead of what spotting would find (`spotting.plan_file.read_plan`).
        user_hits: hit points to add.
        features: folders of rows computed elsewhere, in place of the encoders of these names.
        cache: keeps embedding streams between runs.
        tracks: which picture and sound to take, where the clip holds several.

    Raises:
        ClipError: the clip can't be scored.
        OutputError: the result can't be written.
        UsageError: the soundfont lacks an instrument that the recipe asks for.
    """
    from expotion_cli.media.probe import probe

    clip = probe(path, tracks)
    needs = needs_of(model)
    melody = find_melody(recipe, needs, model.name)
    choice = streams_for(recipe, needs, features)
    seen = ladder.see(clip, choice.sources, cache=cache)
    identity = ModelIdentity.of(model)
    played = playing.check_instruments(model, recipe, [recipe.prompt if prompt is None else prompt])
    missing = (*missing_streams(identity, choice, recipe), *missing_in_clip(identity, choice, seen.streams, recipe))
    words = recipe.prompt if prompt is None else prompt
    if model.codec.follows_tempo:
        missing = (*missing, *prompt_notes([words], recipe))
    missing = (*missing, *(melody.notes if melody is not None else ()))
    seen = dataclasses.replace(seen, notes=(*seen.notes, *choice.notes, *choice.remarks, *missing, *played))
    if seed is None:
        seed = recipe.seed_for(content_hash(path))
    order = Order(clip, recipe, words, seed, see=lambda: seen, plan=plan, user_hits=tuple(user_hits))

    def failed(order: Order, error: ExpotionError) -> NoReturn:
        raise error

    (cue,) = compose(model, [order], failed=failed)
    score = play_composed(model, cue).played.score
    report = ladder.finish(clip, score, recipe, Path(destination))
    return ScoredClip(Path(destination), seen, cue.tempo, score, report)


def score_folder(
    inputs: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    model: Model | Callable[[], Model],
    recipe: Recipe,
    prompts: Mapping[str, str] | None = None,
    plans: str | Path | None = None,
    hits: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Summary:
    """Score many clips, as `expotion-score` does: cues are composed together, finished results stay, others go on.

    >>> import expotion_cli as expotion
    >>> recipe = expotion.load_recipe("cinematic", {"streams.use": ["flow"]})
    >>> summary = expotion.score_folder("clips", "scored", model=expotion.load_model, recipe=recipe)
    >>> [(result.name, result.status) for result in summary.results]
    [('clip.mp4', 'scored')]

    Args:
        inputs: a file, a folder or a glob pattern, or several; or URLs that fsspec knows.
        out: the output folder, or its URL; it mirrors the input.
        model: from `load_model`; or `load_model` itself, called once it is known that a model is needed.
        recipe: from `load_recipe`.
        prompts: words of their own for some clips, by file name, stem or path inside the input folder.
        plans: folder of cue plans, as `expotion plan` writes them.
        hits: file with hit points to add: CSV, JSON, or markers (EDL, FCPXML, OpenTimelineIO).
        overwrite: make results anew that are already there.
        listener: told how it goes.

    Raises:
        UsageError: results would collide, the output folder can't be written, or the hits file can't be read.
        EnvironmentProblem: weights or a library are missing.
    """
    given = [str(each) for each in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    settings = Settings(
        out=mirror(str(out)),
        overwrite=overwrite,
        prompts=dict(prompts or {}),
        plans=None if plans is None else Path(plans),
        hits=None if hits is None else read_hits(Path(hits)),
    )
    needs = None if callable(model) else needs_of(model)
    load = functools.cache(model) if callable(model) else lambda: model
    planned_groups = plans_for(given, str(out), recipe, settings, needs=needs)
    return summed([run(planned, load, listener=listener) for planned in planned_groups])
