"""Marker files: written, read back by OpenTimelineIO and by us, and what is said of bad ones."""

from __future__ import annotations

import csv
import io
import re
from fractions import Fraction
from xml.etree import ElementTree as ET

import opentimelineio as otio
import pytest

from expotion_cli.errors import UsageError
from expotion_cli.timeline.edl import read_edl, write_edl
from expotion_cli.timeline.fcpxml import read_fcpxml, write_fcpxml
from expotion_cli.timeline.files import READERS, WRITERS, read_markers
from expotion_cli.timeline.marker import Footage, Marker
from expotion_cli.timeline.otio import read_otio, write_otio
from expotion_cli.timeline.table import write_table
from expotion_cli.timeline.timecode import timebase_of

MARKERS = [
    Marker(0, ("section",), "section 1: intensity 0.4", "Purple", "until 4 s"),
    Marker(37, ("hit",), "hit: gesture 0.8", "Blue", "weight 0.812; peak of pose | face", 0.812),
    Marker(1800, ("hit", "section"), "hit: cut 0.7 + section 2: intensity 0.9", "Red", "weight 0.7", 0.7),
    Marker(1801, ("hit",), "hit: user 1.0", "Green", "", 1.0),
]
FRAMES = [marker.frame for marker in MARKERS]
CLIPS = {
    "23.976": (Fraction(24000, 1001), ""),
    "25": (Fraction(25), "10:20:30:12"),
    "29.97 DF": (Fraction(30000, 1001), "01:00:00;00"),
    "29.97 NDF": (Fraction(30000, 1001), "01:00:00:00"),
    "50": (Fraction(50), "23:59:30:00"),
    "59.94 DF": (Fraction(60000, 1001), "00:58:00;04"),
    "variable": (Fraction("29.87"), ""),
}
TIMECODES = {  # of MARKERS, counted by hand
    "23.976": ["00:00:00:00", "00:00:01:13", "00:01:15:00", "00:01:15:01"],
    "25": ["10:20:30:12", "10:20:31:24", "10:21:42:12", "10:21:42:13"],
    "29.97 DF": ["01:00:00;00", "01:00:01;07", "01:01:00;02", "01:01:00;03"],
    "29.97 NDF": ["01:00:00:00", "01:00:01:07", "01:01:00:00", "01:01:00:01"],
    "50": ["23:59:30:00", "23:59:30:37", "00:00:06:00", "00:00:06:01"],
    "59.94 DF": ["00:58:00;04", "00:58:00;41", "00:58:30;04", "00:58:30;05"],
    "variable": ["00:00:00:00", "00:00:01:07", "00:01:00:00", "00:01:00:01"],
}


def footage(clip: str, **changes) -> Footage:
    base = timebase_of(*CLIPS[clip])
    facts = {"url": "file:///media/take%201.mp4", "name": "take 1.mp4", "timebase": base, "num_frames": 2000}
    return Footage(**{**facts, "width": 1920, "height": 1080, "has_sound": True, **changes})


@pytest.mark.parametrize("clip", CLIPS)
def test_an_edl_holds_the_timecodes_counted_by_hand(clip):
    text = write_edl(footage(clip), MARKERS)
    events = re.findall(r"^\d{3}  001      V     C        (\S+) \S+ (\S+) \S+", text, re.MULTILINE)
    assert events == [(code, code) for code in TIMECODES[clip]]
    assert ("FCM: DROP FRAME" in text) == ("DF" in clip and "NDF" not in clip)
    assert "weight 0.812; peak of pose / face |C:ResolveColorBlue |M:hit: gesture 0.8 |D:1" in text
    assert [(m.timecode, m.name) for m in read_edl(text)] == [
        (code, marker.name) for code, marker in zip(TIMECODES[clip], MARKERS, strict=True)
    ]
    assert [marker.weight for marker in read_edl(text)] == [1.0, 0.812, 0.7, 1.0]


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if clip != "50"])  # the adapter knows no midnight
def test_opentimelineios_adapter_reads_the_edls_events_to_the_frame(clip):
    rate = float(timebase_of(*CLIPS[clip]).rate)
    plain = "\n".join(line for line in write_edl(footage(clip), MARKERS).splitlines() if "|C:" not in line)
    read = otio.adapters.read_from_string(plain, "cmx_3600", rate=rate, ignore_timecode_mismatch=True)
    starts = [each.source_range.start_time for each in read.find_clips()]
    assert [round(start.value) - timebase_of(*CLIPS[clip]).start for start in starts] == FRAMES


def test_a_timeline_may_begin_elsewhere_than_the_clip():
    text = write_edl(footage("25", begins="01:00:00:00"), MARKERS)
    assert "10:20:31:24 10:20:32:00 01:00:01:12 01:00:01:13" in text
    assert [each.timecode for each in read_edl(text)][:2] == ["01:00:00:00", "01:00:01:12"]


@pytest.mark.parametrize("clip", CLIPS)
def test_opentimelineio_reads_times_names_and_colours_back(clip):
    timeline = otio.adapters.read_from_string(write_otio(footage(clip), MARKERS), "otio_json")
    (read,) = timeline.find_clips()
    base = timebase_of(*CLIPS[clip])
    starts = [marker.marked_range.start_time for marker in read.markers]
    assert [start.value - base.start for start in starts] == FRAMES
    assert {start.rate for start in starts} == {float(base.rate)}
    assert [(m.name, m.color) for m in read.markers] == [(m.name, m.colour.upper()) for m in MARKERS]
    assert all(getattr(otio.schema.MarkerColor, m.color) == m.color for m in read.markers), "colours it knows"
    about = read.markers[1].metadata["expotion"]
    assert list(about["kinds"]) == ["hit"] and about["weight"] == 0.812
    assert read.media_reference.target_url == "file:///media/take%201.mp4"
    assert timeline.global_start_time.to_timecode(float(base.rate), base.is_drop) == base.timecode(0)
    found = read_otio(write_otio(footage(clip), MARKERS))
    assert [base.frame_at(each.time) for each in found] == FRAMES and {each.rate for each in found} == {base.rate}
    assert [(each.name, each.weight, each.is_hit) for each in found] == [
        ("section 1: intensity 0.4", 1.0, False),
        ("hit: gesture 0.8", 0.812, True),
        ("hit: cut 0.7 + section 2: intensity 0.9", 0.7, True),
        ("hit: user 1.0", 1.0, True),
    ]


@pytest.mark.parametrize("clip", CLIPS)
def test_fcpxml_holds_exact_times_inside_the_clip(clip):
    root = ET.fromstring(write_fcpxml(footage(clip), MARKERS).partition("<!DOCTYPE fcpxml>")[2])
    base = timebase_of(*CLIPS[clip])
    seconds = {key: Fraction(value.removesuffix("s")) for key, value in root.find(".//asset-clip").attrib.items()
               if key in ("start", "duration", "offset")}  # fmt: skip
    assert Fraction(root.find(".//format").get("frameDuration").removesuffix("s")) == 1 / base.rate
    assert seconds["start"] == base.start / base.rate and seconds["duration"] == 2000 / base.rate
    markers = [each for each in root.find(".//asset-clip") if each.tag in ("marker", "chapter-marker")]
    starts = [Fraction(each.get("start").removesuffix("s")) for each in markers]
    assert [(start - seconds["start"]) * base.rate for start in starts] == FRAMES, "whole frames, exactly"
    assert [each.tag for each in markers] == ["chapter-marker", "marker", "chapter-marker", "marker"]
    assert [each.get("value") for each in markers] == [marker.name for marker in MARKERS]
    assert root.find(".//sequence").get("tcFormat") == ("DF" if base.is_drop else "NDF")
    found = read_fcpxml(write_fcpxml(footage(clip), MARKERS))
    assert [each.time * base.rate for each in sorted(found, key=lambda each: each.time)] == FRAMES
    assert {each.rate for each in found} == {base.rate}


def test_fcpxml_has_the_elements_and_attributes_of_its_version():
    """Those of Apple's document type definition of FCPXML 1.10 that are used here."""
    clip = {"ref", "offset", "name", "start", "duration", "format", "tcFormat"}
    asset = {"id", "name", "start", "duration", "hasVideo", "format", "hasAudio", "videoSources", "audioSources"}
    known = {  # element -> (its parent, its attributes, those required)
        "resources": ("fcpxml", set(), set()),
        "format": ("resources", {"id", "frameDuration", "width", "height"}, {"id"}),
        "asset": ("resources", {*asset, "audioChannels", "audioRate"}, {"id"}),
        "media-rep": ("asset", {"kind", "src"}, {"src"}),
        "library": ("fcpxml", set(), set()),
        "event": ("library", {"name"}, set()),
        "project": ("event", {"name"}, set()),
        "sequence": ("project", {"format", "duration", "tcStart", "tcFormat"}, {"format"}),
        "spine": ("sequence", set(), set()),
        "asset-clip": ("spine", clip, {"ref"}),
        "marker": ("asset-clip", {"start", "duration", "value", "note"}, {"start", "value"}),
        "chapter-marker": (
            "asset-clip",
            {"start", "duration", "value", "note", "posterOffset"},
            {"start", "value"},
        ),
    }
    text = write_fcpxml(footage("25"), MARKERS)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n<fcpxml version="1.10">')
    root = ET.fromstring(text.partition("<!DOCTYPE fcpxml>")[2])
    for parent in root.iter():
        for child in parent:
            above, allowed, required = known[child.tag]
            assert parent.tag == above and required <= set(child.attrib) <= allowed, child.tag
    ids = {each.get("id") for each in root.find("resources")}
    assert {
        each.get("ref", each.get("format")) for each in root.iter() if each.tag in ("asset-clip", "sequence")
    } <= ids


@pytest.mark.parametrize("clip", ["23.976", "25", "29.97 DF", "59.94 DF"])
def test_opentimelineios_adapter_reads_the_fcpxml(clip):
    read = otio.adapters.read_from_string(write_fcpxml(footage(clip), MARKERS), "fcpx_xml")
    (video,) = [each for each in read.find_children() if isinstance(each, otio.schema.Clip)]
    base = timebase_of(*CLIPS[clip])
    starts = {marker.name: marker.marked_range.start_time for marker in video.markers}  # chapters are passed over
    frames = {name: round(start.to_seconds() * base.rate) - base.start for name, start in starts.items()}
    for marker in MARKERS:
        if "section" not in marker.kinds:
            assert 0 <= marker.frame - frames[marker.name] <= 1, "the adapter rounds frames of 1/23.976 s down"


def test_a_table_holds_seconds_frames_and_timecodes():
    rows = list(csv.DictReader(io.StringIO(write_table(footage("29.97 DF"), MARKERS))))
    assert [row["timecode"] for row in rows] == TIMECODES["29.97 DF"]
    assert [int(row["frame"]) for row in rows] == FRAMES
    assert [float(row["time_s"]) for row in rows] == pytest.approx([f * 1001 / 30000 for f in FRAMES], abs=1e-6)
    assert (rows[1]["kind"], rows[1]["weight"], rows[1]["colour"]) == ("hit", "0.812", "Blue")


def test_names_from_outside_break_no_file():
    odd = footage("25", name="a|b\n\x07 <&> \udce9.mp4", url="file:///a%7Cb")
    marker = [Marker(3, ("hit",), "hit: user 1.0", "Green", "|D:9 \x00 \ud800 <x>", 1.0)]
    for kind, write in WRITERS.items():
        text = write(odd, marker)
        text.encode("utf-8")
        if f".{kind}" in READERS:
            (found,) = READERS[f".{kind}"](text)
            assert found.name == "hit: user 1.0"


def test_locators_and_resolves_own_exports_are_read():
    text = (
        "TITLE: ( no title )\n\n"
        "001  001      V     C        01:00:18:06 01:00:18:07 01:00:18:06 01:00:18:07  \n"
        "a note with |C:ResolveColorYellow |M:Marker 1 |D:1\n\n"
        "002  AX       V     C        00:00:00:00 00:00:01:00 01:00:20:00 01:00:21:00\n"
        "* FROM CLIP NAME:  take 1.mov\n"
        "* LOC: 01:00:20:11 RED     LOOK HERE\n"
    )
    found = read_edl(text)
    assert [(m.timecode, m.name, m.note) for m in found] == [
        ("01:00:18:06", "Marker 1", "a note with"),
        ("01:00:20:11", "LOOK HERE", ""),
    ]
    assert all(marker.is_hit for marker in found)
    drop = read_edl("FCM: DROP FRAME\n" + text)[0]
    assert drop.timecode == "01:00:18;06", "some programs write : in spite of FCM"


def test_markers_of_several_clips_keep_their_names():
    text = write_fcpxml(footage("25"), MARKERS)
    other = text.replace('id="r2"', 'id="r3"').replace('ref="r2"', 'ref="r3"').replace("take%201", "take%202")
    asset, clip = (re.search(rf"<{tag} .*?</{tag}>", other, re.DOTALL)[0] for tag in ("asset", "asset-clip"))
    both = text.replace("</resources>", f"{asset}</resources>").replace("</spine>", f"{clip}</spine>")
    assert {each.clip for each in read_fcpxml(both)} == {"take 1.mp4", "take 2.mp4"}


def test_markers_on_the_timeline_count_from_the_video_under_them():
    timeline = otio.adapters.read_from_string(write_otio(footage("25"), MARKERS), "otio_json")
    (clip,) = timeline.find_clips()
    clip.markers.clear()
    at = otio.opentime.TimeRange(otio.opentime.RationalTime(50, 25), otio.opentime.RationalTime(1, 25))
    timeline.tracks.markers.append(otio.schema.Marker("mine", marked_range=at))
    (found,) = read_otio(timeline.to_json_string())
    assert (found.name, found.time) == ("mine", 2)


BAD = {
    "empty.edl": ("", "no events"),
    "text.edl": ("hello\nthere\n", "no events"),
    "cut.edl": ("TITLE: x\n\n001  001      V     C        01:00:00:00 01:00:\n", "line 3"),
    "short.edl": ("TITLE: x\n\n001  001      V  \n", "line 3"),
    "lost.edl": ("TITLE: x\n |C:ResolveColorBlue |M:x |D:1\n", "line 2"),
    "letters.edl": ("001  001      V     C        01:00:0x:00 01:00:00:01 01:00:00:00 01:00:00:01\n", "line 1"),
    "cuts.edl": ("001  AX       V     C        00:00:00:00 00:00:01:00 01:00:00:00 01:00:01:00\n", "no markers"),
    "cut.fcpxml": ("<fcpxml version='1.10'><resources>", "not XML"),
    "other.fcpxml": ("<xmeml/>", "<xmeml>"),
    "none.fcpxml": ("<fcpxml version='1.10'/>", "no markers"),
    "bomb.fcpxml": ("<!DOCTYPE fcpxml [<!ENTITY a 'aaaa'>]><fcpxml>&a;</fcpxml>", "entities"),
    "time.fcpxml": ("<fcpxml><gap start='0s'><marker start='1/0s' value='x'/></gap></fcpxml>", "no time"),
    "nothing.otio": ("{}", "no timeline"),
    "cut.otio": ('{"OTIO_SCHEMA": "Timeline.1", ', "can't be read"),
    "deep.otio": ("[" * 200_000, "nested"),
    "clip.otio": ('{"OTIO_SCHEMA": "SerializableCollection.1", "children": []}', "no timeline"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files_say_what_is_wrong(name, tmp_path):
    content, said = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as caught:
        read_markers(tmp_path / name)
    assert said in str(caught.value) and name in str(caught.value) and caught.value.remedy


def test_a_bundle_of_final_cut_is_read(tmp_path):
    (tmp_path / "cut.fcpxmld").mkdir()
    (tmp_path / "cut.fcpxmld" / "Info.fcpxml").write_text(write_fcpxml(footage("25"), MARKERS))
    assert len(read_markers(tmp_path / "cut.fcpxmld")) == len(MARKERS)
    with pytest.raises(UsageError, match="can't be read"):
        (tmp_path / "empty.fcpxmld").mkdir()
        read_markers(tmp_path / "empty.fcpxmld")
