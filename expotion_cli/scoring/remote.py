"""Clips and results on remote storage: whatever fsspec reaches by a URL, by way of a folder of this machine.

Clips are copied into the spool folder, scored there and removed again, group by group, so that room for one group is
enough for any archive. Results are made in a folder that mirrors the remote one, and uploaded one by one: the sidecar
last, so that its presence means the rest is whole. The ledger stays in the mirror and is uploaded after each group.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import (
    ClipError,
    ExpotionError,
    OutputError,
    UsageError,
    reason_of,
    writing,
)
from expotion_cli.hints import FileHints
from expotion_cli.media.clip import clip_from, clip_record
from expotion_cli.scoring import extras
from expotion_cli.scoring.account import BRINGERS
from expotion_cli.scoring.discover import Found, Source, discover, listed, told_apart
from expotion_cli.scoring.files import Files
from expotion_cli.scoring.ledger import LEDGER
from expotion_cli.scoring.markers import marker_files
from expotion_cli.scoring.marking import outdated
from expotion_cli.scoring.naming import spelling
from expotion_cli.scoring.plan import Job, Plan, Result, Settings, plan
from expotion_cli.scoring.sidecar import midi_path, sidecar_path, upgraded
from expotion_cli.scoring.takes.layout import kept_files, takes_folder
from expotion_cli.scoring.urls import RETRY, Listing, is_url, local, open_url, shown, spool
from expotion_cli.storage import LARGEST_JSON_BYTES, atomic_path, parse_json

if TYPE_CHECKING:
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.executors import Executor
    from expotion_cli.scoring.streams import Needs

GROUP_CLIPS, GROUP_BYTES = 32, 32 << 30
"""Clips are copied and scored in groups of at most so many, or so many bytes."""
ASKERS = 16
"""Small requests are made so many at a time."""
KEPT_S = 7 * 24 * 3600.0
"""Copies that a stopped run left are removed after this time, unless a run takes them up."""


def plans_for(
    inputs: Sequence[str],
    out: str,
    recipe: Recipe,
    settings: Settings,
    *,
    needs: Needs | None = None,
    executor: Executor | None = None,
    is_dry: bool = False,
) -> Iterator[Plan]:
    """One plan for all clips, or one for each group where clips or results lie on remote storage.

    Args:
        inputs: files, folders or glob patterns, or URLs of such.
        out: the output folder, or its URL.
        recipe: with all flags laid over it.
        settings: of the run; their `out` is `mirror(out)`.
        needs: see `plan.plan`.
        executor: see `plan.plan`.
        is_dry: nothing will be scored.

    Raises:
        MissingLibraryError, UsageError: see `plan.plan` and `RemoteFiles`.
    """
    if any(map(is_url, (*inputs, out))):
        yield from RemoteFiles(inputs, out, settings).plans(recipe, needs=needs, executor=executor, is_dry=is_dry)
    else:
        yield plan([local(text) for text in inputs], recipe, settings, needs=needs, executor=executor)


class RemoteFiles(Files):
    """Clips and results of one run, some of them on remote storage.

    Args:
        inputs: files, folders or glob patterns, some of them URLs.
        out: the output folder, or its URL.
        settings: of the run; their `out` is `mirror(out)`.

    Raises:
        MissingLibraryError: a file system's package is not installed.
        UsageError: a URL can't be opened, or the output folder is itself an input.
    """

    def __init__(self, inputs: Sequence[str], out: str, settings: Settings):
        self.url, self.settings = shown(out).rstrip("/") if is_url(out) else None, settings
        self._out = open_url(out) if is_url(out) else None
        self._in = spool(out) / "in"
        self._hints = FileHints(trusted=not settings.verify)
        self._ahead: dict[tuple[str, Path], Any] = {}
        here = [local(text) for text in inputs if not is_url(text)]
        found = discover(here, out=settings.out, recursive=settings.recursive)
        listing = Listing(self._in, settings.recursive, self._out)
        for url in filter(is_url, inputs):
            listing.add(url)
        self._originals = listing.originals
        self._problems = [*found.problems, *listing.problems]
        sources = told_apart((*found.sources, *(each.source for each in self._originals.values())))
        self._sources = tuple(self._without_collisions(sources))
        again = [f"the same files again, scored once: {listed(listing.again)}"] if listing.again else []
        self._notes = (*found.notes, *again)

    def plans(
        self, recipe: Recipe, *, needs: Needs | None = None, executor: Executor | None = None, is_dry: bool = False
    ) -> Iterator[Plan]:
        """Plan group after group; at least one. What a group left is removed when the next one is asked for.

        Args:
            recipe: with all flags laid over it.
            needs: see `plan.plan`.
            executor: see `plan.plan`.
            is_dry: nothing will be scored.

        Raises:
            UsageError: the spool or the output folder can't be written, or see `plan.plan`.
        """
        with writing(self._in, "the spool folder", error=UsageError, remedy="Set EXPOTION_CACHE to another folder."):
            self._in.mkdir(parents=True, exist_ok=True)
            self._remove_forgotten()
        self._fetch_ledger()
        if not is_dry:
            self.upload_ledger()
        first = True
        for group in self._groups():
            with ThreadPoolExecutor(BRINGERS) as pool:
                outcomes = list(pool.map(self._prepared, group))
            errors = [each for each in outcomes if isinstance(each, ExpotionError)]
            problems = [Result(str(error.path), "failed", error=error) for error in errors]
            sources = tuple(each for each in outcomes if isinstance(each, Source))
            found = Found(sources, tuple(self._problems) if first else (), self._notes, batch=self._sources)
            planned = plan((), recipe, self.settings, needs=needs, executor=executor, found=found)
            renamed = [replace(each, error=each.error and self.renamed(each.error)) for each in planned.problems]
            planned = replace(planned, problems=(*problems, *renamed), files=self)
            self._remember(planned.jobs)
            self._look_ahead(planned.jobs)
            yield planned
            first = False
            for source in sources:
                self._drop(source.path)
            if not is_dry:
                self.upload_ledger()

    def sidecar(self, video: Path) -> dict[str, Any] | None:
        """See `Files`."""
        if self._out is None:
            return super().sidecar(video)
        found: dict[str, Any] | None = self._asked("sidecar", video)
        return found

    def exists(self, path: Path) -> bool:
        """See `Files`."""
        return super().exists(path) if self._out is None else self._asked("size", path) is not None

    def matches(self, path: Path, record: Any, hints: FileHints | None = None) -> bool:
        """See `Files`; of remote files the size alone is compared."""
        if self._out is None:
            return super().matches(path, record, hints)
        return isinstance(record, Mapping) and "bytes" in record and self._asked("size", path) == record["bytes"]

    def is_broken(self, video: Path) -> bool:
        """See `Files`; remote files are not read for it, and so taken for whole."""
        return self._out is None and super().is_broken(video)

    def bring(self, clip: Path) -> None:
        """See `Files`: copy it, unless it has been."""
        original = self._originals.get(str(clip))
        if original is None or clip.exists():
            return
        try:
            with atomic_path(clip, durable=False) as temporary:
                original.fs.get_file(original.path, str(temporary))
                size = temporary.stat().st_size
                if original.num_bytes is not None and size != original.num_bytes:
                    raise OSError(f"{size} of {original.num_bytes} bytes came")
        except Exception as error:
            raise ClipError(f"it can't be copied ({reason_of(error)}).", path=original.url, remedy=RETRY) from error

    def deliver(self, video: Path, content: Mapping[str, Any]) -> None:
        """See `Files`: upload video, sound files and MIDI file, and the sidecar last; remove them here."""
        if self._out is None:
            return
        fs, midi, place = self._out[0], midi_path(video), sidecar_path(video)
        sounds = [extras.path_of(video, name) for name in extras.records(content)]
        marked = marker_files(video, content)
        takes = [path for path, _ in kept_files(video, content)]
        files = [video, *sounds, *([midi] if content.get("midi") else []), *marked, *takes, place]
        try:
            old = self.sidecar(video)
            if old is not None:  # what is half replaced must not look whole
                with contextlib.suppress(Exception):
                    fs.rm_file(self._there(place))
            for path in files:
                if path.parent != video.parent:
                    fs.makedirs(self._there(path.parent), exist_ok=True)
                fs.put_file(str(path), self._there(path))
            for name, record in extras.records(old).items():
                if (path := extras.path_of(video, name)) not in files and self.matches(path, record):
                    fs.rm_file(self._there(path))
            beside = [] if old is None else [(midi, old.get("midi")), *kept_files(video, old)]
            for path, known in beside:
                if path not in files and self.matches(path, known):
                    fs.rm_file(self._there(path))
            for path in outdated(video, old, content.get("markers") or (), self):
                fs.rm_file(self._there(path))
        except Exception as error:
            reason = f"it can't be uploaded ({reason_of(error)})."
            raise OutputError(reason, path=self.called(video), remedy=RETRY) from error
        finally:
            for path in files:
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                extras.path_of(video, ".stems").rmdir()
            with contextlib.suppress(OSError):
                takes_folder(video).rmdir()

    @property
    def keeps_here(self) -> bool:
        """See `Files`."""
        return self._out is None

    def note_markers(self, video: Path, content: Mapping[str, Any]) -> None:
        """See `Files`: upload the marker files, and the sidecar last."""
        super().note_markers(video, content)
        if self._out is None:
            return
        files = [*(path for path in marker_files(video, content) if path.exists()), sidecar_path(video)]
        try:
            for path in files:
                self._out[0].put_file(str(path), self._there(path))
        except Exception as error:
            reason = f"its markers can't be uploaded ({reason_of(error)})."
            raise OutputError(reason, path=self.called(video), remedy=RETRY) from error
        finally:
            for path in files:
                path.unlink(missing_ok=True)

    def called(self, path: Path) -> str:
        """See `Files`: the URL of what is remote."""
        if (original := self._originals.get(str(path))) is not None:
            return original.url
        if self.url is not None and path.is_relative_to(self.settings.out):
            return "/".join((self.url, *path.relative_to(self.settings.out).parts))
        return str(path)

    def renamed(self, error: ExpotionError) -> ExpotionError:
        """See `Files`."""
        path = error.path
        if not isinstance(path, Path) or (name := self.called(path)) == str(path):
            return error
        found = type(error)(error.reason.replace(str(path), name), path=name, remedy=error.remedy)
        found.details = error.details
        return found

    def upload_ledger(self) -> None:
        """Put the ledger beside the results, which also shows that they can be written.

        Raises:
            UsageError: they can't.
        """
        if self._out is None:
            return
        ledger = self.settings.out / LEDGER
        try:
            ledger.parent.mkdir(parents=True, exist_ok=True)
            ledger.touch()
            self._out[0].put_file(str(ledger), self._there(ledger))
        except Exception as error:
            reason = f"the output folder can't be written ({reason_of(error)})."
            raise UsageError(reason, path=self.url, remedy=RETRY) from error

    def _fetch_ledger(self) -> None:
        """Have what other machines wrote there at hand, too."""
        if self._out is None:
            return
        fs, ledger = self._out[0], self.settings.out / LEDGER
        fs.invalidate_cache()
        try:
            theirs = fs.cat_file(self._there(ledger)).splitlines(keepends=True)
        except FileNotFoundError:
            return
        except Exception as error:
            reason = f"the output folder can't be read ({reason_of(error)})."
            raise UsageError(reason, path=self.url, remedy=RETRY) from error
        ours = ledger.read_bytes() if ledger.is_file() else b""
        known = set(ours.splitlines(keepends=True))
        if news := b"".join(line for line in theirs if line not in known):
            ledger.parent.mkdir(parents=True, exist_ok=True)
            with open(ledger, "ab") as file:  # another process may be writing there
                file.write(news if not ours or ours.endswith(b"\n") else b"\n" + news)

    def _without_collisions(self, sources: Sequence[Source]) -> Iterator[Source]:
        """Groups don't know each other: results that would overwrite another's are noticed here."""
        taken: dict[str, Source] = {}
        for source in sources:
            first = taken.setdefault(spelling(source.renamed("")), source)
            if first is source:
                yield source
                continue
            reason = f"its result would have the name of that of {self.called(first.path)}."
            remedy = "Rename one, or score them into different --out folders."
            self._problems.append(UsageError(reason, path=self.called(source.path), remedy=remedy))

    def _groups(self) -> Iterator[list[Source]]:
        """All clips, in groups for which there is room."""
        group: list[Source] = []
        num_bytes, is_first = 0, True
        for source in self._sources:
            original = self._originals.get(str(source.path))
            size = 0 if original is None else original.num_bytes or 0
            if group and (len(group) == GROUP_CLIPS or num_bytes + size > GROUP_BYTES):
                yield group
                group, num_bytes, is_first = [], 0, False
            group.append(source)
            num_bytes += size
        if group or is_first:
            yield group

    def _prepared(self, source: Source) -> Source | ExpotionError:
        """A clip that can be planned: it is known from an earlier run, or copied."""
        original = self._originals.get(str(source.path))
        if original is None:
            return source
        known = self._hints.recall(original.state) if original.state is not None else None
        clip = clip_from(known["clip"], source.path) if known and "clip" in known else None
        if known is not None and clip is not None and clip.chosen == self.settings.tracks:
            return replace(source, known=(clip, known["sha256"]))
        if original.state is None or self.settings.verify:
            self._drop(source.path)
        try:
            self.bring(source.path)
        except ExpotionError as error:
            return error
        return source

    def _remember(self, jobs: Sequence[Job]) -> None:
        """What was found out about clips, so that they need not be copied to be known."""
        for job in jobs:
            original = self._originals.get(str(job.clip.path))
            if original is not None and original.state is not None:
                self._hints.keep(original.state, job.content, clip=clip_record(job.clip))

    def _drop(self, copy: Path) -> None:
        """Remove a copy; its folders, too, if no other process uses them."""
        if str(copy) in self._originals:
            with contextlib.suppress(OSError):
                copy.unlink(missing_ok=True)
                for folder in copy.relative_to(self._in).parents[:-1]:
                    (self._in / folder).rmdir()

    def _remove_forgotten(self) -> None:
        for path in self._in.parent.parent.glob("*/in/**/*"):
            with contextlib.suppress(OSError):
                if path.is_file() and time.time() - path.stat().st_mtime > KEPT_S:
                    path.unlink()

    def _look_ahead(self, jobs: Sequence[Job]) -> None:
        """Ask for all results of a group at once: the answers are used up by whoever asks first."""
        self._ahead.clear()
        if self._out is None:
            return

        def look(video: Path) -> None:
            with contextlib.suppress(ExpotionError):  # whoever asks again is told
                self._ahead["sidecar", video] = self._ask("sidecar", video)
                self._ahead["size", video] = self._ask("size", video)

        with ThreadPoolExecutor(ASKERS) as pool:
            list(pool.map(look, [job.destination for job in jobs]))

    def _asked(self, what: str, path: Path) -> Any:
        return self._ahead.pop((what, path)) if (what, path) in self._ahead else self._ask(what, path)

    def _ask(self, what: str, path: Path) -> Any:
        """The "size" of a file in the output folder, or the "sidecar" of a video; None if there is none."""
        assert self._out is not None
        fs, there = self._out[0], self._there(path if what == "size" else sidecar_path(path))
        try:
            if what == "size":
                return fs.info(there)["size"]
            with fs.open(there, "rb") as file:
                content = parse_json(file.read(LARGEST_JSON_BYTES))
        except (FileNotFoundError, ValueError):
            return None
        except Exception as error:
            reason = f"it can't be read ({reason_of(error)})."
            raise OutputError(reason, path=self.called(path), remedy=RETRY) from error
        return upgraded(content) if isinstance(content, dict) else None

    def _there(self, path: Path) -> str:
        assert self._out is not None
        return "/".join((self._out[1], *path.relative_to(self.settings.out).parts))
