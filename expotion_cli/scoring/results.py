"""From composed takes to a finished result: music, video, MIDI file, sidecar and the ledger's line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import Interrupted
from expotion_cli.recipe import bounds
from expotion_cli.scoring import extras, marking, redo, sidecar
from expotion_cli.scoring.composers import Composer, Playing
from expotion_cli.scoring.cue_store import StoredCue
from expotion_cli.scoring.executors import Executor
from expotion_cli.scoring.finishing import Finished, finish_clip
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.plan import Job, Plan, Result
from expotion_cli.scoring.takes.keep import Keeper
from expotion_cli.scoring.takes.layout import kept_files, kept_names, takes_folder
from expotion_cli.scoring.takes.playing import play_best
from expotion_cli.scoring.takes.record import describe_takes, users_choice
from expotion_cli.spotting.plan_file import from_record
from expotion_cli.storage import atomic_path, remove_temporaries, write_bytes

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.scoring.account import Account
    from expotion_cli.scoring.queue import Queue


MOST_TAKES = int(bounds("generate.takes")[1])


@dataclass(frozen=True)
class ResultWriter:
    """Finishes the clips of a run.

    Attributes:
        plan: what is carried out.
        composer: plays the takes.
        account: what is done and what is not.
        queue: holds the clips' leases.
        executor: where clips are finished.
    """

    plan: Plan
    composer: Composer
    account: Account
    queue: Queue
    executor: Executor

    def write(self, job: Job, cues: Sequence[StoredCue]) -> None:
        """Tokens of all takes → music of the best → scored video → sidecar."""
        if self.account.stop.is_set():
            return
        with guard(job.clip.path, partial(self.account.fail, job)):
            settings, recipe = self.plan.settings, self.plan.recipe
            listener, ledger = self.account.listener, self.account.open()
            digests, way = self.account.digests[job.name], self.account.course(job)
            listener.stage(job, "render", 0.0)
            plan = from_record(cues[0].notes["plan"], job.clip.duration, is_given=False)
            leftover = sidecar.sound_files(job.destination)
            sounds = settings.extras if settings.redo is None else settings.extras.and_those(leftover)
            playing = Playing(job.clip.duration, recipe, job.seed, job.prompt, stems=bool(sounds.stems))
            old = self.plan.files.sidecar(job.destination) if way.steps or len(cues) > 1 else None
            keeper = Keeper(recipe, cues) if len(cues) > 1 and self._keeps_takes(job, old) else None
            wanted, is_lost = (None, False) if way.steps else users_choice(old, digests.cues)
            if is_lost:
                listener.note(f"{job.name}: the take that you chose is no longer composed; the best one plays")
            chosen = play_best(
                lambda number: self.composer.play(cues[number - 1], playing),
                len(cues),
                plan,
                recipe,
                wanted=wanted,
                on_take=keeper.add if keeper is not None else None,
            )
            cue, score, stages_s = cues[chosen.number - 1], chosen.played.score, dict(chosen.stages_s)
            self.account.passed(job, chosen.played.stages_s)
            listener.stage(job, "follow", 1.0)
            listener.stage(job, "finish", 0.0)
            relative = self.account.relative(job)
            ledger.write("begin", **self.account.so_far(job), output=relative, artefact=way.result)
            midi = sidecar.midi_path(job.destination)
            had_midi = settings.redo is not None and sidecar.matches(midi, (old or {}).get("midi"))
            files = {midi: score.midi} if score.midi is not None and (settings.midi or had_midi) else {}
            if keeper is not None:
                files |= keeper.files(job.destination)

            def make(folder: Path | None, video: Path) -> Finished:
                finishing = self.executor.submit(
                    "finish",
                    finish_clip,
                    job.clip,
                    job.content,
                    replace(score, midi=None),
                    recipe,
                    video,
                    plan,
                    comment(job.clip, recipe.name, self.composer.identity.name, job.seed),
                    sounds,
                    folder,
                    path=job.clip.path,
                    limit_s=settings.limit_s(job.clip.duration),
                )
                try:
                    return finishing.result()
                except CancelledError:
                    raise Interrupted("stopped") from None

            has_beats = self.composer.identity.has_tempo
            facts = sidecar.followed(plan, job.given.plan_file, score.answers, has_beats=has_beats)
            marked: Any = None
            sound_files: dict[str, Any] = {}

            def settle(folder: Path | None, finished: Finished) -> None:
                nonlocal marked, sound_files
                sound_files = extras.settle(folder, job.destination, finished.written, leftover)
                choice = settings.markers
                if settings.redo is not None:  # the plan stays, and so do its markers
                    choice = marking.as_before(job.destination, choice)
                marked = marking.mark_anew(job.clip, job.destination, facts, choice, self.plan.files)

            with _timed(stages_s, "finish"), extras.workspace(job.destination, sounds) as folder:
                check = partial(self.queue.check, job)
                finished = put(
                    job.destination,
                    partial(make, folder),
                    files,
                    check=check,
                    keep_takes=bool(way.steps),
                    also=partial(settle, folder),
                )
            said = sidecar.describe(
                self.composer.identity,
                recipe,
                job.clip,
                cue.notes,
                finished.report,
                prompt=job.prompt,
                seed=job.seed,
                stages_s=stages_s,
                run_notes=self.account.notes,
            )
            output = {"file": job.destination.name, "bytes": finished.num_bytes, "sha256": finished.sha256}
            said |= {
                "measured": finished.measured,
                "artefact": way.result,
                "takes": (old or {}).get("takes")
                if way.steps
                else describe_takes(
                    chosen,
                    job.seed,
                    digests.cues,
                    kept=None if keeper is None else keeper.kept(job, self.composer.identity, self.account.notes),
                ),
                **score.record(),
                "clip": {"file": job.name, "sha256": job.content, **said["clip"]},
                "output": {**output, **said["output"]},
                **facts,
                **({"markers": marked} if marked else {}),
                **({"melody": self.plan.melody.record()} if self.plan.melody is not None else {}),
                "midi": sidecar.file_record(midi) if midi in files else None,
                "has_midi": score.midi is not None,
                **redo.described(cue),
                **sound_files,
            }
            sidecar.write_sidecar(job.destination, said)
            self.account.hints.expect(job.destination, finished.sha256)
            self.account.hints.settle()
            self.plan.files.deliver(job.destination, said)
            self.account.passed(job, {"finish": stages_s["finish"]})
            ledger.write(
                "scored",
                **self.account.so_far(job),
                outcome="scored",
                output=relative,
                artefact=way.result,
                seed=job.seed,
                output_bytes=finished.num_bytes,
                output_sha256=finished.sha256,
                **self.account.outlook(job),
            )
            self.account.settle(job, Result(job.name, "scored", job.destination, sidecar=said))

    def _keeps_takes(self, job: Job, old: Mapping[str, Any] | None) -> bool:
        """Whether all takes of a cue are kept: if asked, or if they lie beside the result that is made anew."""
        return self.plan.settings.keep_takes or any(
            self.plan.files.exists(path) for path, _ in kept_files(job.destination, old)
        )


def put(
    video: Path,
    make: Callable[[Path], Finished],
    files: Mapping[Path, bytes],
    *,
    check: Callable[[], object],
    keep_takes: bool = False,
    also: Callable[[Finished], object] | None = None,
) -> Finished:
    """Put a result in its place, with the files that lie beside it. What an earlier result left beside it is removed.

    Args:
        video: its place.
        make: writes it, under another name.
        files: what belongs beside it: place and content.
        check: raises if the place is not ours any more; asked before anything has its final name.
        keep_takes: those of an earlier result belong to this one, too.
        also: puts more beside it.
    """
    with _cleared(video), atomic_path(video) as temporary:
        finished = make(temporary)
        check()
        for path, content in files.items():
            write_bytes(path, content)
        # What belongs to a result that is about to be replaced goes with it; what was changed since stays.
        old = sidecar.read_sidecar(video) or {}
        takes = () if keep_takes else kept_files(video, old)
        for path, record in ((sidecar.midi_path(video), old.get("midi")), *takes):
            if path not in files and sidecar.matches(path, record):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            takes_folder(video).rmdir()  # unless something lies in it
        if also is not None:
            also(finished)
    return finished


def comment(clip: ClipInfo, recipe: str, model: str, seed: int) -> dict[str, Any]:
    """What a result says of itself in its metadata; the clip's own comment stays.

    Args:
        clip: what is scored.
        recipe: its name.
        model: its name.
        seed: of the cue.
    """
    if "comment" in {key.lower() for key in clip.tags}:
        return {}
    return {"comment": f"Music: expotion, recipe {recipe}, model {model}, seed {seed}"}


@contextlib.contextmanager
def _cleared(destination: Path) -> Iterator[None]:
    """Nothing of an earlier attempt lies beside this result, and nothing of this one's: a worker may have been lost."""
    _remove_leftovers(destination)
    try:
        yield
    finally:
        _remove_leftovers(destination)


def _remove_leftovers(destination: Path) -> None:
    sidecar.remove_leftovers(destination)
    remove_temporaries(*(takes_folder(destination) / name for name in kept_names(MOST_TAKES)))


@contextlib.contextmanager
def _timed(stages_s: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long the inside took, in seconds."""
    started = time.monotonic()
    yield
    stages_s[stage] = round(time.monotonic() - started, 3)
