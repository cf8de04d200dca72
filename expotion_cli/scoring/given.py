"""What a user gives for single clips: cue plans and hit points. Both are checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.errors import UsageError
from expotion_cli.scoring.discover import Source, listed
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.hits_file import UserHits
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.plan_file import SUFFIX, plan_digest, read_plan
from expotion_cli.storage import digest_of

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo


@dataclass(frozen=True)
class Given:
    """What a user gives for one clip.

    Attributes:
        plan: obeyed instead of what spotting would find.
        plan_file: its path inside the folder of plans, with forward slashes.
        hits: hit points of the user's own.
    """

    plan: CuePlan | None = None
    plan_file: str | None = None
    hits: tuple[HitPoint, ...] = ()

    def hashed_fields(self) -> dict[str, Any]:
        """What of it decides the cue; nothing where nothing is given, so that other cues keep their digests."""
        fields: dict[str, Any] = {}
        if self.plan is not None:
            fields["plan"] = plan_digest(self.plan)
        if self.hits:
            fields["user_hits"] = digest_of([[hit.time_s, hit.weight] for hit in self.hits])
        return fields


@dataclass(frozen=True)
class GivenFiles:
    """Where plans and hit points of a batch's clips stand.

    Attributes:
        folder: of the plans.
        plans: the plan of a clip, by the clip's path inside the input.
        hits: a user's own hit points.
        notes: what is worth saying about them.
    """

    folder: Path | None = None
    plans: Mapping[str, Path] = field(default_factory=dict)
    hits: UserHits | None = None
    notes: tuple[str, ...] = ()

    def of(self, source: Source, clip: ClipInfo) -> Given:
        """What is given for a clip.

        Args:
            source: the clip's file.
            clip: what probing found.

        Raises:
            PlanError: the plan can't be read or obeyed, or a hit point lies outside the clip.
        """
        hits = () if self.hits is None else self.hits.of(source.names, float(clip.duration), clip.fps, clip.timecode)
        path = self.plans.get(source.relative.as_posix())
        if path is None or self.folder is None:
            return Given(hits=hits)
        return Given(read_plan(path, clip.duration), path.relative_to(self.folder).as_posix(), hits)


def find_given(sources: Sequence[Source], folder: Path | None, hits: UserHits | None) -> GivenFiles:
    """Find each clip's plan: by the clip's path inside the input, or else by its name alone.

    A name alone counts only where one plan and one clip bear it.

    Args:
        sources: the clips.
        folder: holds `NAME.plan.json` files, in subfolders or not; None for no plans.
        hits: a user's own hit points.

    Raises:
        UsageError: there is no such folder.
    """
    notes = [] if hits is None else hits.unused(name for source in sources for name in source.names)
    if folder is None:
        return GivenFiles(hits=hits, notes=tuple(notes))
    if not folder.is_dir():
        raise UsageError("there is no such folder.", path=folder, remedy="Write plans with `expotion plan`.")
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob(f"*{SUFFIX}"))}
    wanted = {source.relative.as_posix(): source.renamed(SUFFIX) for source in sources}
    plans = {name: files[place.as_posix()] for name, place in wanted.items() if place.as_posix() in files}
    spare = [path for path in files.values() if path not in plans.values()]
    unused = []
    for file_name in dict.fromkeys(path.name for path in spare):
        paths = [path for path in spare if path.name == file_name]
        clips = [name for name, place in wanted.items() if place.name == file_name and name not in plans]
        if len(paths) == len(clips) == 1:
            plans[clips[0]] = paths[0]
            continue
        places = [path.relative_to(folder).as_posix() for path in paths]
        if clips:
            notes.append(
                f"{listed(places)} may be meant for {listed(clips)}, so it's for none: mirror the clips' paths"
            )
        else:
            unused += places
    without = [name for name in wanted if name not in plans]
    if without:
        notes.append(f"no plan for {listed(without)}; spotted as usual")
    if unused:
        notes.append(f"plans for no clip at hand: {listed(unused)}")
    return GivenFiles(folder, plans, hits, tuple(notes))
