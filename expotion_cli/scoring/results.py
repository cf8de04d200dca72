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
from expotion_cli.scoring.takes.playing import Chosen, play_best
from expotion_cli.scoring.takes.record import describe_takes, users_choice
from expotion_cli.spotting.plan_file import from_record
from expotion_cli.storage import atomic_path, remove_temporaries, write_bytes

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.scoring.account import Account
    from expotion_cli.scoring.extras import Extras
    from expotion_cli.scoring.ladder import Score
    from expotion_cli.scoring.queue import Queue
    from expotion_cli.spotting.plan import CuePlan


MOST_TAKES = int(bounds("generate.takes")[1])


@dataclass(frozen=True)
class _Music:
    """The music that a result will have.

    Attributes:
        plan: the cue plan that it follows.
        cue: the take that plays.
        chosen: the same as music, beside how the others were judged.
        keeper: holds all takes; None where they are not kept.
        old: the sidecar of the result that is made anew, where it matters.
        sounds: sound files that are asked for.
        leftover: those that an earlier result left beside its place.
        facts: plan, answers and beats, as sidecar and markers say them.
    """

    plan: CuePlan
    cue: StoredCue
    chosen: Chosen
    keeper: Keeper | None
    old: Mapping[str, Any] | None
    sounds: Extras
    leftover: Sequence[str]
    facts: Mapping[str, Any]

    @property
    def score(self) -> Score:
        return self.chosen.played.score


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
            ledger, result = self.account.open(), self.account.course(job).result
            music = self._play(job, cues)
            self.account.listener.stage(job, "finish", 0.0)
            facts = {"output": self.account.relative(job), "artefact": result}
            ledger.write("begin", **self.account.so_far(job), **facts)
            started = time.monotonic()
            finished, beside = self._finish(job, music)
            stages_s = {**music.chosen.stages_s, "finish": round(time.monotonic() - started, 3)}
            said = {**self._described(job, music, finished, stages_s), "artefact": result, **beside}
            sidecar.write_sidecar(job.destination, said)
            self.account.hints.expect(job.destination, finished.sha256)
            self.account.hints.settle()
            self.plan.files.deliver(job.destination, said)
            self.account.passed(job, {"finish": stages_s["finish"]})
            ledger.write(
                "scored",
                **self.account.so_far(job),
                outcome="scored",
                **facts,
                seed=job.seed,
                output_bytes=finished.num_bytes,
                output_sha256=finished.sha256,
                **self.account.outlook(job),
            )
            self.account.settle(job, Result(job.name, "scored", job.destination, sidecar=said))

    def _play(self, job: Job, cues: Sequence[StoredCue]) -> _Music:
        """The best take as music, or the one that the user chose."""
        settings, recipe, listener = self.plan.settings, self.plan.recipe, self.account.listener
        is_redone, cue_digests = bool(self.account.course(job).steps), self.account.digests[job.name].cues
        listener.stage(job, "render", 0.0)
        plan = from_record(cues[0].notes["plan"], job.clip.duration, is_given=False)
        leftover = sidecar.sound_files(job.destination)
        sounds = settings.extras if settings.redo is None else settings.extras.and_those(leftover)
        playing = Playing(job.clip.duration, recipe, job.seed, job.prompt, stems=bool(sounds.stems))
        old = self.plan.files.sidecar(job.destination) if is_redone or len(cues) > 1 else None
        keeper = Keeper(recipe, cues) if len(cues) > 1 and self._keeps_takes(job, old) else None
        wanted, is_lost = (None, False) if is_redone else users_choice(old, cue_digests)
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
        self.account.passed(job, chosen.played.stages_s)
        listener.stage(job, "follow", 1.0)
        answers, has_beats = chosen.played.score.answers, self.composer.identity.has_tempo
        facts = sidecar.followed(plan, job.given.plan_file, answers, has_beats=has_beats)
        return _Music(plan, cues[chosen.number - 1], chosen, keeper, old, sounds, leftover, facts)

    def _finish(self, job: Job, music: _Music) -> tuple[Finished, dict[str, Any]]:
        """The video in its place, and what the sidecar says of the files beside it."""
        settings, score, midi = self.plan.settings, music.score, sidecar.midi_path(job.destination)
        had_midi = settings.redo is not None and sidecar.matches(midi, (music.old or {}).get("midi"))
        files = {midi: score.midi} if score.midi is not None and (settings.midi or had_midi) else {}
        if music.keeper is not None:
            files |= music.keeper.files(job.destination)
        with extras.workspace(job.destination, music.sounds) as folder:
            finished, beside = put(
                job.destination,
                partial(self._make, job, music, folder),
                files,
                check=partial(self.queue.check, job),
                keep_takes=bool(self.account.course(job).steps),
                also=partial(self._settle, job, music, folder),
            )
        return finished, {"midi": sidecar.file_record(midi) if midi in files else None, **beside}

    def _make(self, job: Job, music: _Music, folder: Path | None, video: Path) -> Finished:
        """Write the video under another name, and the sound files into a folder."""
        finishing = self.executor.submit(
            "finish",
            finish_clip,
            job.clip,
            job.content,
            replace(music.score, midi=None),
            self.plan.recipe,
            video,
            music.plan,
            comment(job.clip, self.plan.recipe.name, self.composer.identity.name, job.seed),
            music.sounds,
            folder,
            path=job.clip.path,
            limit_s=self.plan.settings.limit_s(job.clip.duration),
        )
        try:
            return finishing.result()
        except CancelledError:
            raise Interrupted("stopped") from None

    def _settle(self, job: Job, music: _Music, folder: Path | None, finished: Finished) -> dict[str, Any]:
        """Put sound files and markers beside the video; returns what the sidecar says of them."""
        settings = self.plan.settings
        sound_files = extras.settle(folder, job.destination, finished.written, music.leftover)
        choice = settings.markers
        if settings.redo is not None:  # the plan stays, and so do its markers
            choice = marking.as_before(job.destination, choice)
        marked = marking.mark_anew(job.clip, job.destination, music.facts, choice, self.plan.files)
        return {**({"markers": marked} if marked else {}), **sound_files}

    def _described(self, job: Job, music: _Music, finished: Finished, stages_s: Mapping[str, float]) -> dict[str, Any]:
        """What the sidecar says of the music and of the video."""
        identity, run_notes = self.composer.identity, self.account.notes
        said = sidecar.describe(
            identity,
            self.plan.recipe,
            job.clip,
            music.cue.notes,
            finished.report,
            prompt=job.prompt,
            seed=job.seed,
            stages_s=stages_s,
            run_notes=run_notes,
        )
        if self.account.course(job).steps:
            takes = (music.old or {}).get("takes")
        else:
            kept = None if music.keeper is None else music.keeper.kept(job, identity, run_notes)
            takes = describe_takes(music.chosen, job.seed, self.account.digests[job.name].cues, kept=kept)
        output = {"file": job.destination.name, "bytes": finished.num_bytes, "sha256": finished.sha256}
        return {
            **said,
            "measured": finished.measured,
            "takes": takes,
            **music.score.record(),
            "clip": {"file": job.name, "sha256": job.content, **said["clip"]},
            "output": {**output, **said["output"]},
            **music.facts,
            **({"melody": self.plan.melody.record()} if self.plan.melody is not None else {}),
            "has_midi": music.score.midi is not None,
            **redo.described(music.cue),
        }

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
    also: Callable[[Finished], dict[str, Any]],
) -> tuple[Finished, dict[str, Any]]:
    """Put a result in its place, with the files that lie beside it. What an earlier result left beside it is removed.

    Args:
        video: its place.
        make: writes it, under another name.
        files: what belongs beside it: place and content.
        check: raises if the place is not ours any more; asked before anything has its final name.
        keep_takes: those of an earlier result belong to this one, too.
        also: puts more beside it, and returns what the sidecar says of that.
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
        return finished, also(finished)


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
