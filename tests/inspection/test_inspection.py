"""What an inspection shows and records, on streams made by hand; and the pictures it takes from clips."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expotion_cli.errors import MissingLibraryError
from expotion_cli.inspection import chart, geometry, observe, raster, scene, vector
from expotion_cli.inspection.fonts import printable, shortened, text_width
from expotion_cli.inspection.lanes import lanes_of
from expotion_cli.inspection.marks import Stretches, Ticks
from expotion_cli.inspection.record import CURVE_RATE_HZ, record_of
from expotion_cli.media.clip import ClipInfo
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import ladder
from expotion_cli.spotting.accents import Stillness, find_accents, find_stillness
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.plan_file import as_record, from_record
from expotion_cli.spotting.sections import Intensity
from expotion_cli.timing import Tempo
from expotion_cli.vision.encoder import EmbeddingStream
from expotion_cli.vision.face import FaceEncoder
from expotion_cli.vision.flow import FlowEncoder
from expotion_cli.vision.pose import PoseEncoder

ENCODERS = {"face": FaceEncoder, "pose": PoseEncoder, "flow": FlowEncoder}
RATE_HZ = 25.0
ASPECT = 4 / 3
BEAT_ROWS = 16


def make_stream(name: str, rows: int, mask: np.ndarray | None = None, **columns: np.ndarray | float) -> EmbeddingStream:
    """A stream of the embedded encoders: named columns, all others zero."""
    dims = ENCODERS[name].dims
    values = np.zeros((rows, len(dims)), dtype=np.float32)
    for dim, column in columns.items():
        values[:, dims.index(dim)] = column
    mask = np.ones(rows, dtype=bool) if mask is None else mask
    return EmbeddingStream(name, values, mask, RATE_HZ, dims, name, "1", "d" * 64)


def make_clip(duration_s: float, width: int = 640, height: int = 480) -> ClipInfo:
    return ClipInfo(
        path=Path("clip.mp4"), duration=Fraction(duration_s).limit_denominator(1000), fps=Fraction(25), width=width,
        height=height, rotation=0, container="mp4", video_codec="h264", audio=None, num_chapters=0,
        num_frames=round(duration_s * 25), start=Fraction(0), demuxer="mov", video_index=0, tracks=(), tags={},
    )  # fmt: skip


def make_observation(
    streams: list[EmbeddingStream],
    duration_s: float,
    name: str = "clip.mp4",
    notes: tuple[str, ...] = (),
    plan: CuePlan | None = None,
) -> observe.Observation:
    found = {stream.name: stream for stream in streams}
    clip, recipe = make_clip(duration_s), load_recipe("cinematic")
    return observe.Observation(
        name, clip, "c" * 64, found, find_accents(found), find_stillness(found),
        plan or ladder.spot(ladder.Seen(found), clip.duration, recipe), recipe, notes,
    )  # fmt: skip


def beating(rows: int, period_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Energy that swells to each beat, and an accent on it."""
    phase = np.arange(rows) % period_rows
    energy = (phase / period_rows) ** 2
    return energy.astype(np.float32), np.where(phase == 0, 0.8, 0.0).astype(np.float32)


@pytest.fixture
def seen() -> observe.Observation:
    """Ten seconds: a body that moves on a beat and stops after seven, a face that is gone from 4 to 6."""
    rows = 250
    energy, accent = beating(rows, BEAT_ROWS)
    energy[175:], accent[175:] = 0.0, 0.0
    mask = np.ones(rows, dtype=bool)
    mask[100:150] = False
    pose = make_stream("pose", rows, energy=energy, accent=accent, energy_left=energy, energy_right=energy / 2,
                       torso_size=0.3, nose_seen=1.0, nose_y=0.5)  # fmt: skip
    face = make_stream("face", rows, mask, head_x=0.0, head_y=5.0, head_z=-50.0, valence=0.4, arousal=0.1)
    flow = make_stream("flow", rows, energy=energy / 10, accent=accent / 10, camera_x=0.05)
    return make_observation([face, pose, flow], 10.0)


def picture_of(seen: observe.Observation) -> scene.Scene:
    """The chart, with thumbnails of one grey each."""
    size = chart.thumbnail_size(seen.clip.width, seen.clip.height)
    times = chart.thumbnail_times(seen.duration_s, seen.clip.width, seen.clip.height)
    greys = [np.full((size[1], size[0], 3), 40 + 10 * i, dtype=np.uint8) for i in range(len(times))]
    return chart.draw(seen, greys)


def words_in(drawing: scene.Scene) -> list[str]:
    return [shape.words for shape in drawing.shapes if isinstance(shape, scene.Text)]


def test_the_faces_box_is_where_a_camera_would_see_the_head():
    half = 50 * math.tan(math.radians(31.5))  # centimetres from the picture's middle to its edge, 50 cm away
    mask = np.array([True, True, True, False])
    stream = make_stream("face", 4, mask, head_x=[0, half, 0, 0], head_y=[0, 0, half, 0], head_z=[-50, -50, -50, -50])
    boxes = geometry.face_boxes(stream, ASPECT)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert middle[0] == pytest.approx([0.5, 0.5]) and middle[1] == pytest.approx([0.5 + 0.5 / ASPECT, 0.5])
    assert middle[2] == pytest.approx([0.5, 0.0], abs=1e-6), "up in space is up in the picture"
    assert (boxes[0, 3] - boxes[0, 1]) == pytest.approx(geometry.FACE_CM[1] / (2 * half)) and np.isnan(boxes[3]).all()


def test_joints_stand_where_the_body_is_and_guessed_ones_are_left_out():
    stream = make_stream("pose", 2, np.array([True, False]), torso_x=0.2, torso_y=-0.1, torso_size=0.4,
                         left_wrist_x=0.5, left_wrist_y=1.0, left_wrist_seen=1.0, right_wrist_seen=0.2)  # fmt: skip
    found = geometry.joints(stream, 0, ASPECT)
    assert set(found) == {"left_wrist"}
    assert found["left_wrist"] == pytest.approx((0.5 + 0.4 / ASPECT, 0.5 - 0.3))
    assert geometry.joints(stream, 1, ASPECT) == {}


def test_accents_are_found_where_they_are_and_trembling_is_none(seen):
    beats = np.arange(0, 175, BEAT_ROWS) / RATE_HZ
    found = [accent for accent in seen.accents if accent.source == "pose"]
    assert [accent.time_s for accent in found] == pytest.approx(beats, abs=0.03)
    assert {accent.source for accent in seen.accents} == {"pose", "flow"}
    tremble = make_stream("pose", 250, accent=np.random.default_rng(0).uniform(0, 0.1, 250))
    assert find_accents({"pose": tremble}) == ()


def test_what_was_not_seen_has_no_accents():
    accent = np.zeros(100, dtype=np.float32)
    accent[[20, 70]] = 1.0
    found = find_accents({"pose": make_stream("pose", 100, np.arange(100) < 50, accent=accent)})
    assert [accent.time_s for accent in found] == pytest.approx([0.8], abs=0.03)


def test_stillness_is_the_surest_witness_own(seen):
    assert seen.stillness.source == "pose"
    assert any(start < 7.3 and end == 10.0 for start, end in seen.stillness.spans_s)
    assert not any(start < 0.5 < end for start, end in seen.stillness.spans_s)
    hardly = np.arange(250) < 50
    streams = {"pose": make_stream("pose", 250, hardly), "flow": make_stream("flow", 250, energy=1.0)}
    assert find_stillness(streams) == Stillness("flow", 0.015, ())
    assert find_stillness({"pose": make_stream("pose", 250, hardly)}).source is None


@pytest.fixture
def encoded(monkeypatch):
    """Encoders that give these streams; `asked` lists what was encoded."""

    def give(*streams: EmbeddingStream) -> list[tuple[str, ...]]:
        asked, found = [], {stream.name: stream for stream in streams}

        def encode_clip(clip, sources, **_):
            asked.append(tuple(sources))
            return {name: found[name] for name in sources if name in found}

        monkeypatch.setattr("expotion_cli.vision.streams.encode_clip", encode_clip)
        monkeypatch.setattr("expotion_cli.storage.digest_file", lambda path: "c" * 64)
        return asked

    return give


@pytest.mark.parametrize(
    ("prompt", "bpm_range"),
    [
        ("strings", (96, 144)),
        ("strings, 77 bpm", (77, 77)),
        ("tempo: 77", (77, 77)),
        ("fast strings", (124, 144)),
        ("slow strings", (50, 84)),
        ("strings, 110 to 115 bpm", (110, 115)),
    ],
)
def test_the_plan_is_the_one_that_a_cue_follows(seen, encoded, prompt, bpm_range):
    recipe = seen.recipe.override({"prompt": prompt})
    encoded(*seen.streams.values())
    shown = observe.Observer(seen.streams, recipe).observe(seen.clip, "one")
    followed = ladder.spot(ladder.see(seen.clip, seen.streams), seen.clip.duration, recipe, prompt=prompt)
    assert shown.plan == followed and bpm_range[0] <= followed.tempo.bpm <= bpm_range[1]
    record = record_of(shown)
    assert record["recipe"]["range_bpm"] == list(bpm_range) and record["plan"] == as_record(followed, "one")
    assert from_record(record["plan"], seen.clip.duration, is_given=False).hits == followed.hits


def test_the_tempo_follows_the_motion(seen):
    assert abs(float(seen.tempo.bpm) - 60 * RATE_HZ / BEAT_ROWS) < 3 and seen.tempo.confidence > 0


def test_where_nobody_is_found_flow_is_followed_as_in_scoring(seen, encoded):
    nobody = make_stream("face", 250, np.zeros(250, dtype=bool))
    asked = encoded(nobody, make_stream("flow", 250, energy=beating(250, BEAT_ROWS)[0]))
    found = observe.Observer(("face",), seen.recipe).observe(seen.clip, "one")
    assert asked == [("face", "cuts"), ("flow",)] and "followed flow instead" in found.notes[0]
    assert found.plan == ladder.spot(ladder.see(seen.clip, ("face",)), seen.clip.duration, seen.recipe)


def test_an_encoder_that_fails_to_start_is_left_out_and_not_tried_again(seen, monkeypatch):
    tried = []

    def encode_clip(clip, sources, **_):
        tried.append(tuple(sources))
        if "face" in sources:
            raise MissingLibraryError("The landmarker can't start.", remedy="Install libgl1.")
        return {name: seen.streams[name] for name in sources if name in seen.streams}

    monkeypatch.setattr("expotion_cli.vision.streams.encode_clip", encode_clip)
    monkeypatch.setattr("expotion_cli.storage.digest_file", lambda path: "c" * 64)
    observer = observe.Observer(("face", "flow"), seen.recipe)
    first = observer.observe(seen.clip, "one")
    assert list(first.streams) == ["flow"] and "libgl1" in " ".join(first.notes)
    observer.observe(seen.clip, "two")
    assert tried == [(*names, "cuts") for names in (("face", "flow"), ("face",), ("flow",), ("flow",))]
    with pytest.raises(MissingLibraryError, match="can't start"):
        observe.Observer(("face",), seen.recipe).observe(seen.clip, "three")


def test_a_gap_is_hatched_in_its_place_and_curves_stop_at_it(seen):
    drawing = picture_of(seen)
    start, end = (chart.time_to_x(time, 10.0) for time in (4.0, 6.0))
    hatched = [shape for shape in drawing.shapes if isinstance(shape, scene.Hatch) and shape.width > 100]
    assert len(hatched) == 4, "face found, its box across and up, expression"
    assert all(abs(each.x - start) < 6 and abs(each.x + each.width - end) < 6 for each in hatched)
    orange = [shape.points for shape in drawing.shapes if isinstance(shape, scene.Line) and shape.colour == "#e69f00"]
    assert len(orange) == 3, "arousal before and after the gap, and the camera"
    across = [points for points in orange if points[0][0] < start + 6 and points[-1][0] > end - 6]
    assert len(across) == 1, "the camera's alone goes on through it"
    assert "not seen" in words_in(drawing)


def test_lanes_say_that_nobody_was_found():
    nobody = np.zeros(100, dtype=bool)
    streams = [make_stream("face", 100, nobody), make_stream("pose", 100, nobody), make_stream("flow", 100)]
    drawing = picture_of(make_observation(streams, 4.0))
    assert words_in(drawing).count("nobody found") == 4, "face found, body found, body motion, expression"
    assert not [shape for shape in drawing.shapes if isinstance(shape, scene.Line) and shape.colour == "#ff8fd0"]


def test_only_streams_that_looked_have_lanes_and_embeddings_get_one_of_their_own():
    numbers = tuple(map(str, range(8)))
    values = np.cumsum(np.ones((50, 8), dtype=np.float32), axis=0)
    facenet = EmbeddingStream("facenet", values, np.ones(50, dtype=bool), 5.0, numbers, "facenet", "1", "d" * 64)
    seen = make_observation([facenet], 10.0)
    *plan, lane = lanes_of(seen, 1000)
    assert [each.title for each in plan] == ["Hit points", "Intensity", "Sections", "Beat grid"]
    assert lane.title == "facenet" and "8 numbers" in lane.unit and seen.tempo.confidence == 0
    mean = lane.marks[0].columns.mean
    assert mean == pytest.approx(np.full(50, math.sqrt(8) * 5.0), rel=1e-5)
    (record,) = record_of(seen)["streams"]
    assert record["dims"] == {} and record["num_dims"] == 8 and record["change"]["mean"] == pytest.approx(14.1421)


@pytest.mark.parametrize("names", [("flow",), ("pose",), ("face", "flow"), ("face", "pose", "flow")])
def test_words_beside_the_lanes_stand_clear_of_each_other_whoever_looked(names):
    values = 400 * np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    wide = EmbeddingStream("synchformer", values, np.ones(50, bool), 5.0, tuple("abcdefgh"), "synchformer", "1", "d")
    drawing = picture_of(make_observation([*(make_stream(name, 250) for name in names), wide], 10.0))
    texts = [shape for shape in drawing.shapes if isinstance(shape, scene.Text)]
    for beside in (
        [text.y for text in texts if text.anchor == "end" and text.x < chart.LEFT],
        [text.y for text in texts if text.anchor == "end" and text.x > chart.LEFT + chart.PLOT],
    ):
        assert np.diff(sorted(beside)).min() > 12
    levels = [text for text in texts if text.anchor == "start" and text.x > chart.LEFT + chart.PLOT]
    assert all(text_width(text.words, text.size) < 34 for text in levels), [text.words for text in levels]


def test_an_hour_is_drawn_with_as_many_points_as_pixels():
    rows = 90_000
    energy, accent = beating(rows, 15)
    streams = [make_stream("pose", rows, energy=energy, accent=accent), make_stream("flow", rows, energy=energy)]
    hits = tuple(HitPoint(0.6 * i, 0.5, "gesture", "") for i in range(6000))
    intensity = Intensity(10.0, (0.5, 0.6) * 18_000, (0.5,) * 1500, "")
    tempo = Tempo(Fraction(100), Fraction(0), 1.0, ((0.0, 1.01),))
    seen = make_observation(streams, 3600.0, plan=CuePlan(3600.0, tempo, intensity, hits))
    drawing = picture_of(seen)
    longest = max(len(shape.points) for shape in drawing.shapes if isinstance(shape, scene.Area | scene.Line))
    assert len(seen.accents) > 5_000 and longest <= 2 * chart.PLOT + 4 and len(drawing.shapes) < 2 * chart.PLOT
    assert {"0:00", "30:00", "1:00:00"} <= set(words_in(drawing)) and "1:00:00 (3600.0 s)" in " ".join(
        words_in(drawing)
    )
    ticks = [mark for lane in lanes_of(seen, chart.PLOT) for mark in lane.marks if isinstance(mark, Ticks)]
    assert max(len(mark.marks) for mark in ticks) <= chart.PLOT
    assert len(raster.to_png(drawing)) < 2_000_000


def test_accents_and_stillness_stand_at_their_times(seen):
    lanes = {lane.title: lane for lane in lanes_of(seen, chart.PLOT)}
    drawn = {time for mark in lanes["Accents"].marks for time, _ in mark.marks}
    assert drawn == {accent.time_s for accent in seen.accents}
    (still,) = (mark for mark in lanes["Stillness"].marks if isinstance(mark, Stretches))
    assert still.spans_s == seen.stillness.spans_s


@pytest.mark.parametrize("size", [(640, 480), (1080, 1920), (1920, 1080), (4096, 16), (16, 4096), (96, 64)])
def test_thumbnails_keep_their_proportion_and_stand_evenly_in_the_plot(size):
    width, height = chart.thumbnail_size(*size)
    times = chart.thumbnail_times(8.0, *size)
    assert abs(width - height * size[0] / size[1]) <= max(1, size[0] / size[1]) and height <= 140
    assert np.diff(times) == pytest.approx(np.full(len(times) - 1, 8.0 / len(times))) and times[0] == 4.0 / len(times)
    assert len(times) >= 3 and width * len(times) <= chart.PLOT


def test_time_is_labelled_in_seconds_and_in_minutes_of_longer_clips():
    assert [chart.axis_times(9.5)[1](time) for time in chart.axis_times(9.5)[0]] == [f"{i} s" for i in range(10)]
    times, words = chart.axis_times(0.3)
    assert times[-1] == pytest.approx(0.3) and words(0.05) == "0.05 s"
    times, words = chart.axis_times(5000.0)
    assert len(times) <= 17 and words(3900) == "1:05:00"


def test_the_png_holds_the_thumbnails_pixel_for_pixel(seen):
    without_hits = dataclasses.replace(seen.plan, hits=())
    drawing = picture_of(make_observation([seen.streams["flow"]], 10.0, plan=without_hits))
    image = np.asarray(Image.open(io.BytesIO(raster.to_png(drawing))))
    assert image.shape == (drawing.height, drawing.width, 3)
    photos = [shape for shape in drawing.shapes if isinstance(shape, scene.Photo)]
    for photo in photos:
        high, wide = photo.pixels.shape[:2]
        x, y = round(photo.x), round(photo.y)
        assert np.array_equal(image[y : y + high, x : x + wide], photo.pixels)
    assert len(photos) == len(chart.thumbnail_times(10.0, 640, 480))


NASTY = "a & b <c> \"d\" 'e' \x01\x1f]]> \udcff 舞.mp4"


def test_the_svg_is_valid_xml_whatever_the_clip_is_called(seen):
    drawing = picture_of(dataclasses.replace(seen, name=printable(NASTY), notes=("<note> & more",)))
    text = vector.to_svg(drawing)
    root = ElementTree.fromstring(text.encode("utf-8"))
    said = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert said == words_in(drawing)
    assert any('a & b <c> "d"' in words for words in said) and "<note> & more" in said
    images = re.findall(r'href="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == len(chart.thumbnail_times(10.0, 640, 480))
    size = chart.thumbnail_size(640, 480)
    assert all(Image.open(io.BytesIO(base64.b64decode(image))).size == size for image in images)


def test_both_pictures_show_the_same(seen):
    root = ElementTree.fromstring(vector.to_svg(drawing := picture_of(seen)).encode())
    tags = [
        element.tag.rpartition("}")[2] for element in root if element.tag.rpartition("}")[2] not in ("title", "defs")
    ]
    assert len(tags) == len(drawing.shapes) + 1, "one element a shape, and the page"


def test_long_names_are_shortened_in_the_middle_to_fit():
    name = "x" * 300 + "end.mp4"
    short = shortened(name, 27, 800)
    assert text_width(short, 27) <= 800 and short.endswith("end.mp4") and "…" in short
    assert shortened("short.mp4", 27, 800) == "short.mp4"


def test_names_become_text_that_any_file_can_hold():
    assert printable("cafe\u0301.mp4") == "café.mp4"
    assert printable("a\udcff\x07b\uffff") == "a??b?"


def test_the_record_holds_no_nan_and_leaves_gaps_open(seen):
    broken = seen.streams["pose"].values.copy()
    broken[10:20, :] = np.nan
    broken[30, :] = np.inf
    streams = seen.streams | {"pose": dataclasses.replace(seen.streams["pose"], values=broken)}
    record = record_of(dataclasses.replace(seen, streams=streams))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    curves_seen = record["curves"]["values"]
    assert record["curves"]["rate_hz"] == CURVE_RATE_HZ and {len(curve) for curve in curves_seen.values()} == {50}
    gaps = [i for i, value in enumerate(curves_seen["face.valence"]) if value is None]
    assert gaps == list(range(20, 30)) == [i for i, value in enumerate(curves_seen["face.x"]) if value is None]
    assert curves_seen["face.x"][0] == 0.5 and curves_seen["face.y"][0] < 0.5
    energy = curves_seen["pose.energy"]
    assert [i for i, value in enumerate(energy) if value is None] == [2, 3], (
        "a row that is not finite counts as not seen"
    )


def test_the_record_says_who_looked_and_what_was_found(seen):
    record = record_of(seen)
    face, pose = record["streams"][:2]
    assert face["coverage"] == 0.8 and face["seen_s"] == [[0.0, 4.0], [6.0, 10.0]] and face["digest"] == "d" * 64
    assert face["dims"]["valence"] == {"unit": "-1..1", "mean": 0.4, "p95": 0.4}
    assert pose["dims"]["energy"]["unit"] == "torso lengths/s" and pose["seen_s"] == [[0.0, 10.0]]
    assert record["format"] == 2 and record["recipe"] == {"name": "cinematic", "range_bpm": [96.0, 144.0]}
    assert record["plan"]["metre"] == "4/4" and record["plan"]["clip"] == "clip.mp4"
    assert len(record["accents"]) == len(seen.accents) and record["clip"]["sha256"] == "c" * 64
