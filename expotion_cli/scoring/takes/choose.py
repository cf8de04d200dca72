"""Plays another take of a finished result: rendered, mixed and remuxed anew, without composing.

Nothing is composed and nothing is seen again: the take's tokens and its cue plan lie beside the result or in the cue
store, all settings in the sidecar. The result keeps the digest that it is known by, so that a later run finds it done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import (
    ClipError,
    OutputError,
    ProbeError,
    RefusedError,
    UnknownNameError,
    UsageError,
    reading,
    writing,
)
from expotion_cli.hints import FileHints
from expotion_cli.scoring import extras
from expotion_cli.scoring import sidecar as sidecars
from expotion_cli.scoring.composers import Composer, Playing
from expotion_cli.scoring.cue_store import CueStore, StoredCue, read_cue
from expotion_cli.scoring.finishing import Finished, finish_clip
from expotion_cli.scoring.leases import Leases
from expotion_cli.scoring.ledger import LEDGER, Ledger
from expotion_cli.scoring.recorded import recipe_of
from expotion_cli.scoring.redo import KEY as REDONE
from expotion_cli.scoring.redo import described
from expotion_cli.scoring.results import comment, put
from expotion_cli.scoring.takes.keep import player_digest
from expotion_cli.scoring.takes.layout import BY_SCORE, BY_USER, CUE, kept_file, takes_record
from expotion_cli.scoring.takes.score import Judged, best
from expotion_cli.spotting.plan_file import from_record
from expotion_cli.storage import cache_root

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo

KEEP = "Score it again with --keep-takes; the music stays the same."
AGAIN = "Run the same expotion-score command again with --keep-takes: it makes the result anew."


@dataclass(frozen=True)
class Choice:
    """What is asked for.

    Attributes:
        video: the result.
        number: of the take, from 1; None for the best by score.
        clip: that the result was made from, where the user named it; else the sidecar says where it lies.
        overwrite: replace a result that was changed since it was made.
    """

    video: Path
    number: int | None
    clip: Path | None = None
    overwrite: bool = False


def choose(choice: Choice, load: Callable[[Mapping[str, Any]], Composer]) -> dict[str, Any]:
    """Have a result play another of its takes.

    Args:
        choice: what is asked for.
        load: gives what plays the takes of a result, by its sidecar; called only if something is to be played.

    Returns:
        What stands in the sidecar then.

    Raises:
        UsageError: there is no such take, none is kept, or another version made them.
        RefusedError: the result was changed since it was made.
        ClipError: the clip is not where it was, or not the same any more.
        OutputError: another process works on the result, a kept take is damaged, or the result can't be written.
    """
    known = _checked(choice)
    out, name = _place(choice.video, known)
    leases, place = Leases(out), sidecars.sidecar_path(choice.video)
    try:
        if not leases.take(name):
            raise OutputError(
                f"{leases.holder(name)} is scoring this clip right now.",
                path=choice.video,
                remedy="Wait until it is done.",
            )
        known = _checked(choice)  # another process may have finished it since
        number = choice.number or best([_judged(row) for row in takes_record(known)["each"]]).number
        _refuse_changed(choice, known)
        by = BY_SCORE if choice.number is None else BY_USER
        is_there = sidecars.matches(choice.video, known.get("output"))
        plays_it = takes_record(known)["chosen"] == number and is_there
        if not plays_it:
            _note(out, "begin", name, known)

            known = _played(choice, number, known, load, check=partial(_still_ours, leases, name, choice.video))
        known["takes"] = {**known["takes"], "chosen": number, "chosen_by": by}
        with writing(place, "the sidecar"):
            sidecars.write_sidecar(choice.video, known)
        if not plays_it:
            output = {f"output_{key}": known["output"][key] for key in ("bytes", "sha256")}
            _note(out, "chosen", name, known, outcome="done", take=number, by=by, **output)
        return known
    finally:
        leases.close()


def _checked(choice: Choice) -> dict[str, Any]:
    """The sidecar of a result whose takes are kept, the one that is asked for among them.

    Raises:
        UsageError: they are not.
    """
    video = choice.video
    known = sidecars.read_sidecar(video)
    if known is None:
        raise UsageError("no sidecar lies beside it, so its takes are unknown.", path=video, remedy=KEEP)
    record = takes_record(known)
    if not record:
        reason = "an older version of expotion made this result; it noted no takes."
        if "takes" in known:
            reason = "this cue has one take only."
        raise UsageError(reason, path=video, remedy="Score it again with --takes 4 --keep-takes.")
    if "again" not in record or not any(kept_file(video, row, CUE) for row in record["each"]):
        raise UsageError("its takes were not kept.", path=video, remedy=KEEP)
    if known.get(REDONE):
        reason = f"bars of take {record['chosen']} were composed anew, which another take doesn't have."
        raise UsageError(reason, path=video, remedy="Score it again with --overwrite to undo that.")
    numbers = [row["take"] for row in record["each"]]
    if choice.number is not None and choice.number not in numbers:
        listed = ", ".join(map(str, sorted(numbers)))
        raise UnknownNameError(f"there is no take {choice.number}.", path=video, remedy=f"Its takes are {listed}.")
    return known


def _place(video: Path, known: Mapping[str, Any]) -> tuple[Path, str]:
    """(the output folder, the result's path inside it): results mirror the clips' paths inside the input."""
    clip, whole = known.get("clip"), video.absolute()
    depth = len(PurePosixPath(str(clip.get("file"))).parts) if isinstance(clip, Mapping) else 1
    out = whole.parents[min(depth, len(whole.parents)) - 1]
    if not (out / LEDGER).is_file():
        out = whole.parent  # it was moved out of the folder that it was made in
    return out, str(whole.relative_to(out))


def _judged(row: Mapping[str, Any]) -> Judged:
    score = row.get("score")
    return Judged(row["take"], {}, tuple(row.get("missed", ())), score if isinstance(score, int | float) else None)


def _refuse_changed(choice: Choice, known: Mapping[str, Any]) -> None:
    if choice.overwrite:
        return
    beside = [(choice.video, known.get("output"))]
    beside += [(sidecars.midi_path(choice.video), known["midi"])] if known.get("midi") else []
    for path, record in beside:
        if path.exists() and not sidecars.matches(path, record):
            reason = "this result was changed since it was made."
            raise RefusedError(reason, path=path, remedy="Move it, or pass --overwrite.")


def _still_ours(leases: Leases, name: str, video: Path) -> None:
    if not leases.holds(name):
        reason = "another process took this clip over while this one was stopped."
        raise OutputError(reason, path=video, remedy="Run the same command again.")


def _played(
    choice: Choice,
    number: int,
    known: Mapping[str, Any],
    load: Callable[[Mapping[str, Any]], Composer],
    *,
    check: Callable[[], object],
) -> dict[str, Any]:
    """Play a take and put the result in its place; returns the sidecar without the choice."""
    video, record = choice.video, takes_record(known)
    row = next(each for each in record["each"] if each["take"] == number)
    try:
        recipe, again = recipe_of(known), record["again"]
        seed, prompt, content = int(known["seed"]), str(known["prompt"]), str(known["clip"]["sha256"])
        clip = _clip(choice, again, content)
        cue = _cue(video, row)
        plan = from_record(cue.notes["plan"], clip.duration, is_given=False)
        composer = load(known)
        if player_digest(composer.identity) != again["player"]:
            reason = "these takes were played by another version of expotion, or with another model or soundfont."
            raise UsageError(reason, path=video, remedy=AGAIN)
        leftover = sidecars.sound_files(video)
        sounds = extras.NO_EXTRAS.and_those(leftover)
        played = composer.play(cue, Playing(clip.duration, recipe, seed, prompt, stems=bool(sounds.stems)))
        score, midi = played.score, sidecars.midi_path(video)
        files = {midi: score.midi} if known.get("midi") and score.midi is not None else {}
        tags = comment(clip, recipe.name, known["model"]["name"], seed)
        started = time.monotonic()

        def settle(folder: Path | None, finished: Finished) -> dict[str, Any]:
            return extras.settle(folder, video, finished.written, leftover)

        def make(folder: Path | None, place: Path) -> Finished:
            return finish_clip(clip, content, replace(score, midi=None), recipe, place, plan, tags, sounds, folder)

        with extras.workspace(video, sounds) as folder:
            making, settling = partial(make, folder), partial(settle, folder)
            finished, sound_files = put(video, making, files, check=check, keep_takes=True, also=settling)
        report = finished.report
        output = {"file": video.name, "bytes": finished.num_bytes, "sha256": finished.sha256}
        said = {
            **known,
            "output": {**output, "audio_codec": report.audio_codec, "sample_rate": report.sample_rate},
            "loudness": sidecars.loudness_record(report),
            "notes": [*again["run_notes"], *cue.notes["notes"], *report.notes],
            "stages_s": {
                **known["stages_s"],
                **played.stages_s,
                "finish": round(time.monotonic() - started, 3),
            },
            "measured": finished.measured,
            **score.record(),
            "midi": sidecars.file_record(midi) if midi in files else None,
            "versions": sidecars.versions(),
            **described(cue),
            **sound_files,
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        place = sidecars.sidecar_path(video)
        raise OutputError(f"the sidecar is damaged ({error!r}).", path=place, remedy=AGAIN) from error
    hints = FileHints()
    hints.expect(video, finished.sha256)
    hints.settle()
    return said


def _clip(choice: Choice, again: Mapping[str, Any], content: str) -> ClipInfo:
    """The clip that the result was made from, with the tracks that were chosen then."""
    from expotion_cli.media.clip import Tracks
    from expotion_cli.media.probe import probe

    path = choice.clip or choice.video.parent / str(again["clip"])
    remedy = f"Name the clip: expotion takes CLIP --out {choice.video.parent} --choose ..."
    if not path.is_file():
        raise ClipError("the clip that this result was made from is not there.", path=path, remedy=remedy)
    with reading(path, error=ProbeError):
        is_same = FileHints().sha256(path) == content
    if not is_same:
        raise ClipError("the clip was changed since this result was made.", path=path, remedy=remedy)
    return probe(path, Tracks(again["video_track"], tuple(again["audio_tracks"])))


def _cue(video: Path, row: Mapping[str, Any]) -> StoredCue:
    """A take's tokens: those beside the result, or else those in the cue store."""
    path = kept_file(video, row, CUE)
    assert path is not None
    cue = read_cue(path) if sidecars.matches(path, row[CUE]) else None
    cue = cue or CueStore(cache_root() / "cues").get(str(row["tokens"]))
    if cue is None:
        what = "is damaged" if path.exists() else "is missing"
        raise OutputError(
            f"the file of this take {what}, and the cue store has no copy.",
            path=path,
            remedy=f"Remove {path.parent}, and run the same expotion-score command again with --keep-takes.",
        )
    return cue


def _note(out: Path, event: str, name: str, known: Mapping[str, Any], **fields: Any) -> None:
    """A line of the ledger, where there is one; nothing is lost with it."""
    with contextlib.suppress(OSError):
        if (out / LEDGER).is_file():
            Ledger(out / LEDGER).write(
                event, clip=known["clip"]["file"], output=name, artefact=known["artefact"], **fields
            )
