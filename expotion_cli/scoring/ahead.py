"""What is known of clips before they are scored: their plans, what is cached, how long the rest will take.

Nothing is decoded, no model is loaded: plans are known where the streams are cached, or the whole cue.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli import brief
from expotion_cli.errors import ExpotionError
from expotion_cli.keys import parse_key
from expotion_cli.scoring import ladder
from expotion_cli.scoring.account import artefact_digests
from expotion_cli.scoring.cue_store import CueStore
from expotion_cli.scoring.estimate import PHASES
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.markers import marker_path
from expotion_cli.scoring.speeds import Speeds
from expotion_cli.scoring.streams import FALLBACK_STREAM
from expotion_cli.spotting.plan import CuePlan, add_user_hits
from expotion_cli.spotting.plan_file import from_record
from expotion_cli.storage import cache_root
from expotion_cli.vision.cuts import CUTS

if TYPE_CHECKING:
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.scoring.plan import Job, Plan
    from expotion_cli.vision.cache import EmbeddingCache

LOOKING_S = 20.0
"""Plans of so many seconds' worth of clips are looked at; reading thousands from the cache would take minutes."""


@dataclass(frozen=True)
class Ahead:
    """What is known of a clip before it is scored.

    Attributes:
        plan: its cue plan; None if it isn't known.
        key: of the music, as people write it; "" where the seed draws it.
        is_seen: whether its streams are cached.
        is_composed: whether its cue is cached; None where no model is known whose it could be.
        was_looked: whether anybody looked for the plan.
        estimate_s: seconds of work by phase (`estimate.PHASES`), None where nothing was measured.
        markers: marker files that will be written.
    """

    plan: CuePlan | None = None
    key: str = ""
    is_seen: bool = False
    is_composed: bool | None = None
    was_looked: bool = True
    estimate_s: Mapping[str, float | None] = field(default_factory=dict)
    markers: tuple[Path, ...] = ()

    @property
    def work_s(self) -> float | None:
        """All seconds of work; None where a phase was never measured."""
        times = list(self.estimate_s.values())
        known = [each for each in times if each is not None]
        return sum(known) if len(known) == len(times) else None


def look_at(planned: Plan, jobs: Iterable[Job], identity: ModelIdentity | None) -> dict[str, Ahead]:
    """What is known of clips that will be scored, by their names.

    Args:
        planned: the plan.
        jobs: of it, those that will be scored.
        identity: the model's, where it is known.
    """
    from expotion_cli.vision.cache import EmbeddingCache

    cache, store, speeds = EmbeddingCache(), CueStore(cache_root() / "cues"), Speeds()
    digests = artefact_digests(planned.jobs, planned, identity) if identity is not None else {}
    began, found = time.monotonic(), {}
    for job in jobs:
        cues = digests[job.name].cues if job.name in digests else None
        is_composed = None if cues is None else not planned.settings.overwrite and all(map(store.has, cues))
        is_seen, watches = _is_seen(planned, job, cache), bool(planned.streams.sources)
        plan, was_looked = None, time.monotonic() - began < LOOKING_S
        if was_looked:
            cue = store.get(cues[0]) if cues is not None and is_composed else None
            plan = _known_plan(
                planned, job, cue.notes if cue is not None else None, cache if is_seen or not watches else None
            )
        needed = {"see": watches and not is_seen and not is_composed, "compose": not is_composed, "finish": True}
        name, device = planned.settings.model, None
        if identity is not None:
            name, device = identity.name, identity.device
        about: dict[str, Any] = {"model": name, "device": device, "streams": planned.streams.names}
        times = {
            phase: speeds.estimate(phase, float(job.clip.duration), **about) if needed[phase] else 0.0
            for phase in PHASES
        }
        found[job.name] = Ahead(
            plan=plan,
            key=_key(planned, job, plan),
            is_seen=is_seen,
            is_composed=is_composed,
            was_looked=was_looked,
            estimate_s=times,
            markers=tuple(marker_path(job.destination, kind) for kind in planned.settings.markers.formats),
        )
    return found


def _is_seen(planned: Plan, job: Job, cache: EmbeddingCache) -> bool:
    """Whether nothing of the clip would have to be decoded."""
    if not planned.streams.sources:
        return False
    own = [source if isinstance(source, str) else source.name for source in planned.streams.sources
           if isinstance(source, str) or source.folder is None]  # fmt: skip
    if not all(cache.path_of(job.streams[name]).is_file() for name in (*own, CUTS)):
        return False
    if cache.path_of(job.streams[FALLBACK_STREAM]).is_file():
        return True
    streams = [cache.get(job.streams[name]) for name in own]  # where nobody is found, another one is seen
    return any(stream is not None and bool(stream.mask.any()) for stream in streams)


def _known_plan(
    planned: Plan, job: Job, cue_notes: Mapping[str, Any] | None, cache: EmbeddingCache | None
) -> CuePlan | None:
    """The plan of a clip, if finding it costs next to nothing."""
    failures: list[ExpotionError] = []
    with guard(job.clip.path, failures.append):
        if cue_notes is not None:
            return from_record(cue_notes["plan"], job.clip.duration, is_given=False)
        if job.given.plan is not None:
            return add_user_hits(job.given.plan, job.given.hits)
        if cache is not None:
            seen = ladder.see(job.clip, planned.streams.sources, cache=cache)
            return ladder.spot(seen, job.clip.duration, planned.recipe, prompt=job.prompt, user_hits=job.given.hits)
    return None


def _key(planned: Plan, job: Job, plan: CuePlan | None) -> str:
    wanted = brief.read(job.prompt, planned.recipe)
    key, is_minor = wanted.key, wanted.is_minor
    if plan is not None and plan.is_given and plan.key is not None and parse_key(planned.recipe.compose.key) is None:
        key = parse_key(plan.key)
        is_minor = plan.is_minor if plan.is_minor is not None else is_minor
    if key is not None:
        return str(replace(key, is_minor=is_minor))
    return {None: "", True: "minor", False: "major"}[is_minor]
