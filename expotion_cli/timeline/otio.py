"""OpenTimelineIO files: a timeline of one video, with markers on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from expotion_cli.storage import parse_json
from expotion_cli.timeline.marker import Footage, FoundMarker, Marker, plain
from expotion_cli.timeline.timecode import USUAL_RATES

if TYPE_CHECKING:
    import opentimelineio as otio


def write_otio(footage: Footage, markers: Sequence[Marker]) -> str:
    """Markers as a timeline of one video; kinds and weights stand in each marker's metadata."""
    import opentimelineio as otio

    base = footage.timebase
    rate = float(base.rate)

    def span(frame: int, length: int) -> Any:
        begins, lasts = (otio.opentime.RationalTime(value, rate) for value in (frame, length))
        return otio.opentime.TimeRange(begins, lasts)

    whole = span(base.start, footage.num_frames)
    clip = otio.schema.Clip(
        name=plain(footage.name),
        media_reference=otio.schema.ExternalReference(target_url=footage.url, available_range=whole),
        source_range=whole,
    )
    for marker in markers:
        about: dict[str, Any] = {"kinds": list(marker.kinds)}
        about |= {"weight": marker.weight} if marker.weight is not None else {}
        clip.markers.append(
            otio.schema.Marker(
                name=plain(marker.name),
                marked_range=span(base.start + marker.frame, 1),
                color=marker.colour.upper(),
                metadata={"expotion": about},
                comment=plain(marker.note),
            )
        )
    start = otio.opentime.RationalTime(footage.record.start, rate)
    timeline = otio.schema.Timeline(name=plain(footage.name), global_start_time=start)
    timeline.tracks.append(otio.schema.Track(name="V1", kind=otio.schema.TrackKind.Video, children=[clip]))
    return f"{timeline.to_json_string(indent=2)}\n"


def read_otio(text: str) -> list[FoundMarker]:
    """Markers of an OpenTimelineIO file, on its videos or on the timeline.

    Raises:
        ValueError: it is not OpenTimelineIO, or damaged; the message says why.
    """
    import opentimelineio as otio

    parse_json(text)  # the library's parser would follow any depth
    try:
        root = otio.adapters.read_from_string(text, "otio_json")
    except Exception as error:  # its parser, written in C++, has errors of many kinds
        raise ValueError(f"not OpenTimelineIO: {str(error).splitlines()[0] if str(error) else error!r}") from None
    if not isinstance(root, otio.schema.Timeline | otio.schema.Clip | otio.core.Composition):
        raise ValueError(f"it holds no timeline, but {type(root).__name__}")
    try:
        found = list(_markers(root))
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"its timeline makes no sense ({error})") from None
    if not found:
        raise ValueError("it holds no markers")
    if len({each.clip for each in found}) == 1:
        found = [FoundMarker(each.row, each.name, each.note, time=each.time, rate=each.rate) for each in found]
    return found


def _markers(root: Any) -> Iterator[FoundMarker]:
    import opentimelineio as otio

    top = root.tracks if isinstance(root, otio.schema.Timeline) else root
    items = [top, *(top.find_children() if isinstance(top, otio.core.Composition) else ())]
    clips = [item for item in items if isinstance(item, otio.schema.Clip)]
    number = 0
    for item in items:
        for marker in getattr(item, "markers", ()):
            number += 1
            at, on = marker.marked_range.start_time, item
            if not isinstance(item, otio.schema.Clip):  # it lies on the timeline: which video is there?
                on = next((clip for clip in clips if _covers(item, clip, at)), None)
                at = item.transformed_time(at, on) if on is not None else at
            begins, name = _begin_of(on) if on is not None else (None, None)
            time = _seconds(at) - (_seconds(begins) if begins is not None else 0)
            note = getattr(marker, "comment", "") or ""
            yield FoundMarker(f"marker {number}", marker.name, note, clip=name, time=time, rate=_rate(at.rate))


def _covers(top: Any, clip: otio.schema.Clip, at: Any) -> bool:
    placed = top.range_of_child(clip)
    return bool(placed.contains(at))


def _begin_of(clip: Any) -> tuple[Any, str | None]:
    """When the file of a clip begins, on the clip's own clock, and what it is called."""
    reference = clip.media_reference
    url = getattr(reference, "target_url", None)
    name = unquote(urlsplit(url).path).rpartition("/")[2] if url else clip.name or None
    if reference is not None and reference.available_range is not None:
        return reference.available_range.start_time, name
    return (clip.source_range.start_time if clip.source_range is not None else None), name


def _rate(value: float) -> Fraction:
    """The exact rate that a float stands for."""
    nearest = min(USUAL_RATES, key=lambda rate: abs(float(rate) - value))
    return nearest if abs(float(nearest) - value) < 0.002 else Fraction(value).limit_denominator(1001)


def _seconds(time: Any) -> Fraction:
    if not time.rate > 0:
        raise ValueError("a time has no rate")
    return Fraction(time.value).limit_denominator(1_000_000) / _rate(time.rate)
