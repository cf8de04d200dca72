"""What `--dry-run` says: the fate of each clip, as the real run would decide it, and what is known of its music."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from expotion_cli.scoring.ahead import Ahead, look_at
from expotion_cli.scoring.estimate import PHASES
from expotion_cli.scoring.sidecar import sidecar_path
from expotion_cli.scoring.standing import CHECK, REPLACE, SCORE, Standing

if TYPE_CHECKING:
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.scoring.plan import Plan


def look_ahead(planned: Plan, identity: ModelIdentity | None) -> tuple[dict[str, Standing], dict[str, Ahead]]:
    """What the real run would do with each clip, and what is known of those that it would score, by their names.

    No model is loaded: where results are there and no earlier run remembered the model, they would be checked.

    Args:
        planned: the plan.
        identity: the model's, where it is known.
    """
    if identity is None:
        fates = {job.name: Standing(_fate_without_model(planned, *_places(job.destination))) for job in planned.jobs}
    else:
        fates = _fates(planned, identity)
    scored = [job for job in planned.jobs if fates[job.name].verdict in (SCORE, REPLACE)]
    return fates, look_at(planned, scored, identity)


def _fates(planned: Plan, identity: ModelIdentity) -> dict[str, Standing]:
    from expotion_cli.scoring.account import Account, Listener

    return Account(planned, Listener()).standings(identity)


def _places(video: Path) -> tuple[Path, Path]:
    return video, sidecar_path(video)


def _fate_without_model(planned: Plan, *places: Path) -> str:
    if planned.settings.redo is None and not any(map(planned.files.exists, places)):
        return SCORE
    return REPLACE if planned.settings.overwrite else CHECK


def details(planned: Plan, ahead: Mapping[str, Ahead], fates: Mapping[str, Standing]) -> dict[str, str]:
    """One line for each clip that would be scored, or get marker files.

    Args:
        planned: the plan.
        ahead: what is known of clips that would be scored.
        fates: of all clips.
    """
    lines = {name: _line(each) for name, each in ahead.items()}
    for job in planned.jobs:
        if lacking := fates[job.name].lacking:
            lines[job.name] = f"would write {', '.join(f'{job.destination.stem}.{kind}' for kind in lacking)}"
    return lines


def _line(ahead: Ahead) -> str:
    facts = []
    if ahead.plan is not None:
        plan, tempo = ahead.plan, ahead.plan.tempo
        facts.append(f"{float(tempo.bpm):.0f} bpm")
        facts += [ahead.key] if ahead.key else []
        facts += [_count(len(plan.hits), "hit point"), _count(len(plan.cuts), "cut")]
        facts.append(_count(len(plan.sections), "section"))
    cached = [word for word, is_there in (("streams", ahead.is_seen), ("cue", ahead.is_composed)) if is_there]
    if ahead.plan is None:
        facts.append("plan not looked at" if cached and not ahead.was_looked else "not seen yet")
    facts += [f"cached: {' and '.join(cached)}"] if cached else []
    work_s = ahead.work_s
    facts.append("no estimate yet" if work_s is None else f"about {_time(work_s)} of work")
    facts += [f"also {', '.join(path.name for path in ahead.markers)}"] if ahead.markers else []
    return " · ".join(facts)


def estimated(ahead: Iterable[Ahead]) -> str:
    """The last line: how much work all clips together are, as measured in earlier runs."""
    clips = list(ahead)
    known = [each for each in clips if each.work_s is not None]
    if not known:
        return "no estimate yet: nothing was measured with this model and these streams"
    totals = {phase: sum(each.estimate_s[phase] or 0.0 for each in known) for phase in PHASES}
    parts = ", ".join(f"{phase} {_time(seconds)}" for phase, seconds in totals.items())
    rest = f"; {len(clips) - len(known)} clips without an estimate" if len(known) < len(clips) else ""
    return f"about {_time(sum(totals.values()))} of work ({parts}), as measured in earlier runs{rest}"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 or not seconds else "1 s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
