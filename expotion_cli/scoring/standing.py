"""What lies where a clip's result belongs, and so what a run does: score, leave, replace or refuse.

A result is never replaced without a word. What this program did not make, what was changed since, and a result that
other settings made are refused, and the reason names what differs; what another version of the program made is made
anew, and said. A dry run asks the same questions as a real one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import ExpotionError, RefusedError
from expotion_cli.scoring import extras, marking, sidecar
from expotion_cli.scoring.markers import has_facts, marker_path
from expotion_cli.scoring.redo import outside
from expotion_cli.scoring.takes.layout import kept_files, kept_names, takes_folder
from expotion_cli.spotting.hits import USER
from expotion_cli.spotting.plan_file import plan_digest
from expotion_cli.version import __version__

if TYPE_CHECKING:
    from expotion_cli.hints import FileHints
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.scoring.ledger import Ledger
    from expotion_cli.scoring.plan import Job, Plan
    from expotion_cli.scoring.redo import Course, Step

SCORE, ALREADY, REPLACE, REFUSE, REDO = "score", "already", "replace", "refuse", "redo"
CHECK = "check"
"""A result is there, and only a run that loads the model can tell what it is; for dry runs."""
_MOST_KEYS = 4
_NAMED_APART = ("prompt", "generate.seed", "tags", "name", "digest")


@dataclass(frozen=True)
class Standing:
    """What a run does with a clip.

    Attributes:
        verdict: `SCORE`, `ALREADY`, `REPLACE`, `REDO` or `REFUSE`; in a dry run also `CHECK`.
        sidecar: of the result that is there already.
        error: why it is refused.
        step: what `REDO` composes anew.
        said: the same in words; which bars, as far as that is known.
        lacking: formats of marker files that a result there already lacks, of those asked for.
    """

    verdict: str
    sidecar: dict[str, Any] | None = None
    error: ExpotionError | None = None
    step: Step | None = None
    said: str = ""
    lacking: tuple[str, ...] = ()


def standing(
    job: Job, way: Course, plan: Plan, identity: ModelIdentity, ledger: Ledger, hints: FileHints | None
) -> Standing:
    """Look at a result's place.

    Args:
        job: the clip.
        way: to the result that the run would make.
        plan: of the run.
        identity: of the model.
        ledger: of the output folder.
        hints: spares reading unchanged files again.
    """
    found = _standing(job, way, plan, identity, ledger, hints)
    return found if found.error is None else replace(found, error=plan.files.renamed(found.error))


def _standing(
    job: Job, way: Course, plan: Plan, identity: ModelIdentity, ledger: Ledger, hints: FileHints | None
) -> Standing:
    video, settings, files, digest = job.destination, plan.settings, plan.files, way.result
    place, midi = sidecar.sidecar_path(video), sidecar.midi_path(video)
    known = files.sidecar(video)
    if known is not None and not isinstance(known.get("artefact"), str):
        known = None
    if settings.overwrite:
        return Standing(REPLACE if any(map(files.exists, (video, place))) else SCORE)
    for path in _strange_markers(job, known, plan, ledger, hints):
        return _refused(path, _NOT_OURS, _MOVE)
    number = plan.recipe.generate.takes
    wants_takes = settings.keep_takes and number > 1 and not way.steps  # one take was redone, the others stay
    kept = dict(kept_files(video, known))
    # What is asked for and not kept yet has no record, so nothing matches it.
    beside = [(path, kept.get(path)) for path in _take_files(video, number)] if wants_takes else []
    wanted = settings.extras
    if sidecar.is_done(
        video,
        known,
        digest,
        midi=settings.midi,
        extras=wanted,
        beside=beside,
        hints=hints,
        is_same=files.matches,
    ):
        lacking = marking.lacking(video, known, settings.markers, files, hints)
        if not lacking or (known is not None and has_facts(known)):
            return Standing(ALREADY, known, lacking=lacking)
        return Standing(REPLACE, known)  # an earlier version made it, which noted less
    if settings.redo is not None and (reason := _redo_refused(job, way, known, plan, identity)) is not None:
        return reason
    if known is None:
        is_ours = not files.exists(place) and _is_left_over(job, digest, plan, ledger, hints)
        others = [marker_path(video, kind) for kind in settings.markers.formats]
        others += [extras.path_of(video, name) for name in wanted.names()]
        for path in (place, video, *((midi,) if settings.midi else ()), *others, *(path for path, _ in beside)):
            if files.exists(path) and not is_ours:
                return _refused(path, "this file was not made by expotion.", "Move it, or pass --overwrite.")
        return Standing(SCORE)
    output = known.get("output")
    name = output.get("file") if isinstance(output, Mapping) else None
    if name != video.name and files.exists(video.parent / str(name)):
        return _refused(place, f"it belongs to {name}.", "Move both, or choose another --out.")
    verdict = SCORE
    if files.exists(video):
        is_whole = files.matches(video, output, hints)
        begun = None if is_whole else _being_replaced(job, plan, ledger)
        if begun is not None and begun != digest:
            return _refused(video, "a run was stopped while it replaced this result.", _AGAIN)
        if not is_whole and begun is None and not files.is_broken(video):
            return _refused(video, "this result was changed since it was made.", "Move it, or pass --overwrite.")
        if is_whole and known["artefact"] != digest:
            if found := differences(known, job, plan, identity):
                return _refused(video, f"a result is there already, of {', '.join(found)}.", _REMEDY)
            verdict = REPLACE
    if settings.midi and files.exists(midi) and not files.matches(midi, known.get("midi"), hints):
        return _refused(midi, _NOT_OURS, _MOVE)
    recorded = extras.records(known)
    for name in wanted.names():
        path = extras.path_of(video, name)
        if files.exists(path) and not files.matches(path, recorded.get(name), hints):
            return _refused(path, _NOT_OURS, _MOVE)
    # Takes that lie beside a result are kept anew with it, asked for or not.
    for path in {**dict(beside), **kept}:
        if files.exists(path) and not files.matches(path, kept.get(path), hints):
            return _refused(path, "this take was changed since it was made.", "Move it, or pass --overwrite.")
    if settings.redo is not None:
        return Standing(REDO, known, step=way.steps[-1])
    return Standing(verdict, known)


def _redo_refused(
    job: Job, way: Course, known: dict[str, Any] | None, plan: Plan, identity: ModelIdentity
) -> Standing | None:
    """Why bars of a clip's result can't be composed anew; None if they can."""
    video, redo = job.destination, plan.settings.redo
    assert redo is not None
    if not identity.follows_tempo:
        reason = f"--redo needs a model that writes notes, and {identity.name} makes sound."
        return _refused(video, reason, "Use expotion-mini, or score the whole clip with another --seed.")
    if known is None:
        return _refused(
            video, "there is no result yet to compose bars of anew.", "Score the clip without --redo first."
        )
    if (span := outside(redo.spans, float(job.clip.duration))) is not None:
        reason = (
            f"--redo {span[0]:g}-{span[1]:g} reaches beyond the clip, which lasts {float(job.clip.duration):.3f} s."
        )
        return _refused(job.clip.path, reason, "Give times within the clip, in seconds.")
    if not way.is_known:
        if found := differences(known, job, plan, identity):
            return _refused(video, f"the result is of {', '.join(found)}.", _AS_MADE)
        return _refused(
            video, "the result was made by another version of expotion.", "Score it again without --redo first."
        )
    return None


def _take_files(video: Path, number: int) -> list[Path]:
    return [takes_folder(video) / name for name in kept_names(number)]


_AGAIN = "Give that run's command again, or pass --overwrite."
_AS_MADE = "Pass --redo with the flags that the result was made with; its sidecar lists them."
_NOT_OURS, _MOVE = "this file was not made by expotion, or was changed.", "Move it, or pass --overwrite."
_REMEDY = "Pass --overwrite to replace it, --name-by to write beside it, or another --out."


def differences(known: Mapping[str, Any], job: Job, plan: Plan, identity: ModelIdentity) -> list[str]:
    """What a result there was made of that the run would not make it of, in words.

    Args:
        known: the result's sidecar.
        job: the clip.
        plan: of the run.
        identity: of the model.

    Returns:
        Nothing where only a version of the program or of an encoder differs: such results are made anew.
    """
    return list(_differences(known, job, plan, identity))


def _differences(known: Mapping[str, Any], job: Job, plan: Plan, identity: ModelIdentity) -> Iterator[str]:
    old = {key: value if isinstance(value, Mapping) else {} for key, value in known.items()}
    clip, recipe, model = old.get("clip", {}), old.get("recipe", {}), old.get("model", {})
    if clip.get("sha256") != job.content:
        yield "another version of the clip" if clip.get("file") == job.name else f"another clip ({clip.get('file')})"
    if recipe.get("name") != plan.recipe.name:
        yield f"another recipe ({recipe.get('name')}, now {plan.recipe.name})"
    else:
        before, now = _flat(recipe), _flat(plan.recipe.fields())
        keys = [key for key in now if key not in _NAMED_APART and before.get(key, now[key]) != now[key]]
        told = [f"{key} {before[key]}, now {now[key]}" for key in keys[:_MOST_KEYS]]
        if told:
            yield f"other settings ({'; '.join(told)}{', ...' if len(keys) > _MOST_KEYS else ''})"
    if known.get("seed") != job.seed:
        yield f"another seed ({known.get('seed')}, now {job.seed})"
    tags = list(plan.recipe.tags)
    if plan.recipe.generate.takes > 1 and recipe.get("tags", tags) != tags:
        yield "other tags, by which takes are chosen"
    if known.get("prompt") != job.prompt:
        yield "another prompt"
    if model.get("name") != identity.name:
        yield f"another model ({model.get('name')}, now {identity.name})"
    elif model.get("digest") != identity.digest and old.get("versions", {}).get("expotion") == __version__:
        # The digest holds versions of the code, too: of another release's result nobody can tell which of them differs.
        yield f"other weights of the model {identity.name}"
    if known.get("adapter") != identity.adapter_name:
        yield f"another adapter ({known.get('adapter')}, now {identity.adapter_name})"
    if known.get("soundfont") != identity.soundfont:
        yield "another soundfont"
    given = job.given.plan
    is_same = given is None or job.given.hits or old.get("plan", {}).get("digest") == plan_digest(given)
    if old.get("plan", {}).get("given") != job.given.plan_file or not is_same:
        yield "another cue plan"
    if given is None and _user_hits(known) != [round(hit.time_s, 3) for hit in job.given.hits]:
        yield "other hit points"


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": _plain(value)}
    return found


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _user_hits(known: Mapping[str, Any]) -> list[float]:
    hits = known.get("hits")
    return [round(hit["time_s"], 3) for hit in hits if hit.get("cause") == USER] if isinstance(hits, list) else []


def _strange_markers(
    job: Job, known: Mapping[str, Any] | None, plan: Plan, ledger: Ledger, hints: FileHints | None
) -> list[Path]:
    """Files in the place of marker files that this program didn't make, beside a result that it did."""
    choice = plan.settings.markers
    if known is None or not choice.formats:
        return []
    if _being_replaced(job, plan, ledger) is not None:
        return []  # a run was stopped while it replaced them
    return marking.strangers(job.clip, job.destination, known, choice, plan.files, hints)


def _is_left_over(job: Job, digest: str, plan: Plan, ledger: Ledger, hints: FileHints | None) -> bool:
    """Whether files without a sidecar are what an interrupted run left, or a result whose sidecar was removed."""
    entry = ledger.last(str(job.destination.relative_to(plan.settings.out)))
    if entry is None:
        return False
    if entry.get("event") == "begin" or "output_sha256" not in entry:
        return True
    if entry.get("artefact") != digest:
        return False
    record = {"bytes": entry.get("output_bytes"), "sha256": entry["output_sha256"]}
    return not plan.files.exists(job.destination) or plan.files.matches(job.destination, record, hints)


def _being_replaced(job: Job, plan: Plan, ledger: Ledger) -> str | None:
    """Digest of the result that a run was about to put in this place when it was stopped; None if none was."""
    entry = ledger.last(str(job.destination.relative_to(plan.settings.out))) or {}
    return str(entry.get("artefact")) if entry.get("event") == "begin" else None


def _refused(path: Path, reason: str, remedy: str) -> Standing:
    return Standing(REFUSE, error=RefusedError(reason, path=path, remedy=remedy))
