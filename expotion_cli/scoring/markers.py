"""Marker files beside a result: its hit points, cuts, sections and beats, for editing programs.

What they hold stands in the sidecar, so that they can be written for finished results, too. Their names and digests
stand in it as well: a marker file that somebody changed, or that isn't ours, is never replaced.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

import numpy as np

from expotion_cli.declare import nearest_hint
from expotion_cli.errors import UsageError
from expotion_cli.spotting.hits import CUT as CUT_CAUSE
from expotion_cli.spotting.hits import GESTURE, USER
from expotion_cli.storage import write_bytes
from expotion_cli.timeline.files import WRITERS
from expotion_cli.timeline.marker import BEAT, CUT, HIT, JOINED, KINDS, SECTION, Footage, Marker, url_of
from expotion_cli.timeline.timecode import shown_rate, timebase_of, timeline_rate
from expotion_cli.timing import COMMON_METRE, METRES, STEPS_PER_BEAT, Tempo

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.spotting.plan import CuePlan

KINDS_ASKED = {"hits": HIT, "cuts": CUT, "sections": SECTION, "beats": BEAT}
"""What `--marker-kinds` calls them."""
USUAL_KINDS = ("hits", "cuts", "sections")
COLOURS = {GESTURE: "Blue", CUT_CAUSE: "Red", USER: "Green", SECTION: "Purple", BEAT: "Yellow"}
"""By cause of a hit point, else by kind; a cut has the colour of hit points on cuts."""
VERSION = 1
"""Raised when the same facts come to give other files."""


@dataclass(frozen=True)
class MarkerChoice:
    """Which markers are written, and how.

    Attributes:
        formats: of `timeline.files.WRITERS`; none for no markers.
        kinds: of `KINDS_ASKED`.
        start: timecode of the timeline's first frame; None for the clip's own.
    """

    formats: tuple[str, ...] = ()
    kinds: tuple[str, ...] = USUAL_KINDS
    start: str | None = None

    @property
    def meaning(self) -> dict[str, Any]:
        """What of it decides what stands in a file."""
        return {"version": VERSION, "kinds": list(self.kinds), "start": self.start}


NO_MARKERS = MarkerChoice()


def choose_markers(formats: str | None, kinds: str | None, start: str | None) -> MarkerChoice:
    """Read the flags.

    Args:
        formats: of `--markers`, separated by commas; None for no markers.
        kinds: of `--marker-kinds`.
        start: of `--marker-start`, a timecode.

    Raises:
        UsageError: a format or kind is unknown, or the start is no timecode.
    """
    if formats is None:
        if kinds is not None or start is not None:
            flag = "--marker-kinds" if kinds is not None else "--marker-start"
            raise UsageError(f"{flag} needs --markers.", remedy=f"Add --markers {','.join(WRITERS)}.")
        return NO_MARKERS
    wanted = _known(formats, "--markers", WRITERS)
    chosen = _known(kinds, "--marker-kinds", KINDS_ASKED) if kinds is not None else USUAL_KINDS
    if start is not None:
        try:
            timebase_of(Fraction(60), start).number_of(start)
        except ValueError as error:
            raise UsageError(f"--marker-start: {error}.", remedy="Give one like 01:00:00:00.") from None
    return MarkerChoice(wanted, chosen, start)


def _known(text: str, flag: str, known: Iterable[str]) -> tuple[str, ...]:
    known = tuple(known)
    parts = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for part in parts or ("",):
        if part not in known:
            said = f"{flag} {part!r} is unknown{nearest_hint(part, known)}." if part else f"{flag} names nothing."
            raise UsageError(said, remedy=f"Known: {', '.join(known)}.")
    return tuple(each for each in known if each in parts)


def marker_path(video: Path, kind: str) -> Path:
    """`NAME.edl` beside `NAME.mp4`."""
    return video.with_name(f"{video.stem}.{kind}")


def facts_of(plan: CuePlan, *, has_beats: bool = True) -> dict[str, Any]:
    """What markers need to know of a plan, in the sidecar's form.

    Args:
        plan: of the cue.
        has_beats: whether the music keeps to the plan's beats.
    """
    tempo = plan.tempo
    return {
        "hits": [vars(hit) for hit in plan.hits],
        "cuts": [vars(cut) for cut in plan.cuts],
        **grid_facts(plan, tempo if has_beats else None),
    }


def grid_facts(plan: CuePlan, tempo: Tempo | None) -> dict[str, Any]:
    """Sections and beats of a plan, as the sidecar has them; no beats for music without."""
    grid: dict[str, Any] | None = None
    if tempo is not None:
        grid = {"bpm": str(tempo.bpm), "start_s": str(tempo.start), "metre": tempo.metre}
        grid |= {"bends": [list(bend) for bend in tempo.bends]} if tempo.bends else {}
    sections = [{"start_s": each.start_s, "end_s": each.end_s, "intensity": each.intensity} for each in plan.sections]
    return {"sections": sections, "grid": grid}


def has_facts(sidecar: Mapping[str, Any]) -> bool:
    """Whether a sidecar says all that markers need; those of earlier versions don't."""
    return all(isinstance(sidecar.get(key), list) for key in ("hits", "cuts", "sections")) and "grid" in sidecar


def markers_of(facts: Mapping[str, Any], footage: Footage, kinds: Sequence[str]) -> list[Marker]:
    """The markers of a clip, at most one on a frame, in order.

    Args:
        facts: from `facts_of`, or a sidecar.
        footage: the video.
        kinds: of `KINDS_ASKED`.
    """
    wanted = {KINDS_ASKED[kind] for kind in kinds}
    on_frame: dict[int, list[Marker]] = {}
    for time_s, marker in _found(facts, footage):
        if marker.kinds[0] in wanted:
            frame = min(max(0, footage.timebase.frame_at(time_s)), footage.num_frames - 1)
            on_frame.setdefault(frame, []).append(marker)
    return [_joined(frame, markers) for frame, markers in sorted(on_frame.items())]


def _found(facts: Mapping[str, Any], footage: Footage) -> Iterator[tuple[float, Marker]]:
    for hit in facts["hits"]:
        note = "; ".join(part for part in (f"weight {hit['weight']:g}", hit.get("source")) if part)
        name = f"hit: {hit['cause']} {hit['weight']:.1f}"
        yield hit["time_s"], Marker(0, (HIT,), name, COLOURS.get(hit["cause"], "Blue"), note, hit["weight"])
    for number, section in enumerate(facts["sections"], start=1):
        name = f"section {number}: intensity {section['intensity']:.1f}"
        note = f"until {section['end_s']:g} s"
        yield section["start_s"], Marker(0, (SECTION,), name, COLOURS[SECTION], note)
    for cut in facts["cuts"]:
        note = f"strength {cut['strength']:g}"
        yield cut["time_s"], Marker(0, (CUT,), f"cut: {cut['kind']}", COLOURS[CUT_CAUSE], note)
    for number, time_s in enumerate(_beats(facts.get("grid"), footage)):
        if time_s is not None:
            bar, beat = divmod(number, METRES[facts["grid"].get("metre", COMMON_METRE)])
            name = f"beat {bar + 1}.{beat + 1}" if beat else f"bar {bar + 1}"
            yield time_s, Marker(0, (BEAT,), name, COLOURS[BEAT])


def _beats(grid: Mapping[str, Any] | None, footage: Footage) -> list[float | None]:
    """When each beat falls; None for those before the picture begins, which are counted all the same."""
    if grid is None:
        return []
    bends = tuple((float(time_s), float(factor)) for time_s, factor in grid.get("bends", ()))
    tempo = Tempo(Fraction(grid["bpm"]), Fraction(grid["start_s"]), 0.0, bends, grid.get("metre", COMMON_METRE))
    duration = footage.num_frames / footage.timebase.rate
    timeline = tempo.timeline(duration)
    times = timeline.time_of(np.arange(0, timeline.num_steps, STEPS_PER_BEAT))
    return [float(time) if -1e-6 <= time < float(duration) else None for time in times]


def _joined(frame: int, markers: Sequence[Marker]) -> Marker:
    """Markers on one frame as one: editing programs keep no two."""
    if any(each.kinds == (HIT,) and each.colour == COLOURS[CUT_CAUSE] for each in markers):
        markers = [each for each in markers if each.kinds != (CUT,)]  # the hit point says it
    markers = sorted(markers, key=lambda each: KINDS.index(each.kinds[0]))
    weights = [each.weight for each in markers if each.weight is not None]
    return Marker(
        frame=frame,
        kinds=tuple(dict.fromkeys(kind for each in markers for kind in each.kinds)),
        name=JOINED.join(each.name for each in markers),
        colour=markers[0].colour,
        note="; ".join(dict.fromkeys(each.note for each in markers if each.note)),
        weight=max(weights, default=None),
    )


def footage_of(
    clip: ClipInfo, video: Path, choice: MarkerChoice, *, is_here: bool = True, has_sound: bool = True
) -> Footage:
    """What markers lie on.

    Args:
        clip: whose picture it is.
        video: the finished video, or the clip itself.
        choice: may state where the timeline begins.
        is_here: whether the video stays where it is; otherwise it is sought beside the marker file.
        has_sound: whether the video has a sound track.

    Raises:
        UsageError: the timeline can't begin at that timecode.
    """
    base = timebase_of(clip.fps, clip.timecode)
    if choice.start is not None:
        try:
            base.number_of(choice.start)
        except ValueError as error:
            raise UsageError(f"--marker-start: {error}.", path=clip.path, remedy="Give one like 01:00:00:00.") from None
    return Footage(
        url=url_of(video) if is_here else quote_from_bytes(os.fsencode(video.name)),
        name=video.name,
        timebase=base,
        num_frames=max(1, math.floor(clip.duration * base.rate + Fraction(1, 2))),
        width=clip.width,
        height=clip.height,
        has_sound=has_sound,
        begins=choice.start,
    )


def write_markers(
    video: Path, facts: Mapping[str, Any], footage: Footage, choice: MarkerChoice, formats: Iterable[str]
) -> dict[str, Any]:
    """Write marker files, each atomically; returns what the sidecar says of them.

    Args:
        video: beside which they belong.
        facts: from `facts_of`, or a sidecar.
        footage: what they lie on.
        choice: which markers.
        formats: which files.

    Raises:
        OutputError: a file can't be written.
    """
    files = {}
    for kind, content in marker_contents(facts, footage, choice, formats).items():
        path = marker_path(video, kind)
        write_bytes(path, content)
        files[kind] = {**file_record(path, content), **choice.meaning}
    return files


def marker_contents(
    facts: Mapping[str, Any], footage: Footage, choice: MarkerChoice, formats: Iterable[str]
) -> dict[str, bytes]:
    """The content of each file."""
    found = markers_of(facts, footage, choice.kinds)
    return {kind: WRITERS[kind](footage, found).encode("utf-8") for kind in formats}


def file_record(path: Path, content: bytes) -> dict[str, Any]:
    """Name, size and sha256 of a file with this content."""
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def marker_files(video: Path, sidecar: Mapping[str, Any]) -> list[Path]:
    """The marker files that a sidecar names."""
    return [marker_path(video, kind) for kind in marker_records(sidecar) if kind in WRITERS]


def marker_records(sidecar: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a sidecar says of its marker files, by format."""
    found = (sidecar or {}).get("markers")
    return {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def rate_notes(clips: Iterable[ClipInfo]) -> list[str]:
    """What is worth saying where a clip's rate is none that a timeline has."""
    rates = {clip.path.name: timeline_rate(clip.fps) for clip in clips}
    odd = [f"{name} ({shown_rate(rate)})" for name, (rate, is_own) in rates.items() if not is_own]
    if not odd:
        return []
    more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
    return [f"the frame rate varies; markers are for a timeline of the nearest usual rate: {', '.join(odd[:5])}{more}"]
