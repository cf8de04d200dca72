"""FCPXML 1.10, as Final Cut Pro and DaVinci Resolve read it: a project with the video, and markers on it.

Times are rational seconds, multiples of a frame. Final Cut Pro gives markers no colours; sections become chapter
markers, which it shows in orange.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

from expotion_cli.timeline.marker import SECTION, Footage, FoundMarker, Marker, plain

VERSION = "1.10"
_MARKERS = ("marker", "chapter-marker")
_CLIPS = ("asset-clip", "clip", "video", "ref-clip", "sync-clip", "mc-clip", "title", "gap")


def write_fcpxml(footage: Footage, markers: Sequence[Marker]) -> str:
    """Markers as a project of one video."""
    base = footage.timebase
    start, length = _time(base.start / base.rate), _time(footage.num_frames / base.rate)
    name, counts = plain(footage.name), "DF" if base.is_drop else "NDF"
    root = ET.Element("fcpxml", version=VERSION)
    resources = ET.SubElement(root, "resources")
    picture = {"id": "r1", "frameDuration": _time(1 / base.rate)}
    picture |= {"width": str(footage.width), "height": str(footage.height)}
    ET.SubElement(resources, "format", picture)
    video: dict[str, str] = {"id": "r2", "name": name, "start": start, "duration": length, "hasVideo": "1"}
    video |= {"format": "r1", "videoSources": "1"}
    if footage.has_sound:
        video |= {"hasAudio": "1", "audioSources": "1", "audioChannels": "2", "audioRate": "48000"}
    asset = ET.SubElement(resources, "asset", video)
    ET.SubElement(asset, "media-rep", kind="original-media", src=footage.url)
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name="expotion")
    sequence = ET.SubElement(
        ET.SubElement(event, "project", name=name),
        "sequence",
        format="r1",
        duration=length,
        tcStart=_time(footage.record.start / base.rate),
        tcFormat=counts,
    )
    clip = ET.SubElement(
        ET.SubElement(sequence, "spine"),
        "asset-clip",
        ref="r2",
        offset=_time(footage.record.start / base.rate),
        name=name,
        start=start,
        duration=length,
        format="r1",
        tcFormat=counts,
    )
    for marker in markers:
        is_chapter = SECTION in marker.kinds
        about = {
            "start": _time((base.start + marker.frame) / base.rate),
            "duration": _time(1 / base.rate),
            "value": plain(marker.name),
        }
        about |= {"note": plain(marker.note)} if marker.note else {}
        about |= {"posterOffset": "0s"} if is_chapter else {}
        ET.SubElement(clip, "chapter-marker" if is_chapter else "marker", about)
    ET.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'
    return f"{head}{ET.tostring(root, encoding='unicode')}\n"


def read_fcpxml(text: str) -> list[FoundMarker]:
    """Markers on the videos of an FCPXML file, wherever the videos stand in it.

    Raises:
        ValueError: it is not FCPXML, or damaged; the message says why.
    """
    if "<!ENTITY" in text:  # a few lines can unfold to gigabytes
        raise ValueError("it declares entities, which FCPXML has no use for")
    try:
        root = ET.fromstring(text.encode("utf-8") if text.lstrip().startswith("<?xml") else text)
    except ET.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    if root.tag != "fcpxml":
        raise ValueError(f"its root is <{root.tag}>, not <fcpxml>")
    formats = {each.get("id"): each.get("frameDuration") for each in root.iter("format")}
    assets = {each.get("id"): each for each in root.iter("asset")}
    found: list[FoundMarker] = []
    for clip in (each for kind in _CLIPS for each in root.iter(kind)):
        marks = [each for kind in _MARKERS for each in clip.findall(kind)]
        if marks:
            asset = _asset_of(clip, assets)
            found += _on_clip(clip, marks, asset, formats, len(found))
    if not found:
        raise ValueError("it holds no markers")
    if len({each.clip for each in found}) == 1:
        found = [FoundMarker(each.row, each.name, each.note, time=each.time, rate=each.rate) for each in found]
    return found


def _asset_of(clip: ET.Element, assets: dict[str | None, ET.Element]) -> ET.Element | None:
    """The file that a clip shows: its own, or that of the first video inside it."""
    return next((assets[each.get("ref")] for each in (clip, *clip) if each.get("ref") in assets), None)


def _on_clip(
    clip: ET.Element,
    marks: Sequence[ET.Element],
    asset: ET.Element | None,
    formats: dict[str | None, str | None],
    before: int,
) -> Iterator[FoundMarker]:
    begins = _seconds(asset.get("start", "0s")) if asset is not None else _seconds(clip.get("start", "0s"))
    step = formats.get(asset.get("format") if asset is not None else clip.get("format"))
    rate = 1 / _seconds(step) if step and _seconds(step) else None
    name = _file_name(asset) if asset is not None else clip.get("name")
    for number, mark in enumerate(marks, start=before + 1):
        row = f"marker {number}"
        if "start" not in mark.attrib:
            raise ValueError(f"{row} has no start")
        time = _seconds(mark.get("start", "")) - begins
        yield FoundMarker(row, mark.get("value", ""), mark.get("note", ""), clip=name, time=time, rate=rate)


def _file_name(asset: ET.Element) -> str | None:
    place = asset.find("media-rep")
    url = asset.get("src") if place is None else place.get("src")
    return unquote(urlsplit(url).path).rpartition("/")[2] if url else asset.get("name")


def _time(value: Fraction | int) -> str:
    value = Fraction(value)
    return f"{value.numerator}s" if value.denominator == 1 else f"{value.numerator}/{value.denominator}s"


def _seconds(text: str) -> Fraction:
    try:
        return Fraction(text.strip().removesuffix("s"))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is no time") from None
