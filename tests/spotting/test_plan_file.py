"""The JSON form of cue plans: nothing is lost, bad ones are refused by name, and the schema says the same."""

from __future__ import annotations

import copy
import dataclasses
import json
from fractions import Fraction
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest

from expotion_cli.errors import PlanError
from expotion_cli.recipe import bounds
from expotion_cli.spotting.cuts import Cut
from expotion_cli.spotting.hits import CAUSES, HitPoint
from expotion_cli.spotting.plan import CuePlan, add_user_hits, make_plan, with_user_hits
from expotion_cli.spotting.plan_file import (
    CUT_KINDS,
    MAX_BYTES,
    MAX_HITS,
    MODES,
    as_record,
    from_record,
    plan_digest,
    read_plan,
    write_plan,
)

DURATION = Fraction(12)
CUTS = (Cut(6.0, "hard", 0.9), Cut(9.5, "dissolve", 0.6))


def user(time_s: float, weight: float = 1.0) -> HitPoint:
    return HitPoint(time_s, weight, "user", "mine")


@pytest.fixture(scope="module")
def spotted() -> CuePlan:
    """A plan with hit points, cuts and a tempo map."""
    hits = [user(t, w) for t, w in ((0.71, 0.5), (2.02, 1.0), (3.37, 0.8), (4.66, 0.3), (8.1, 0.9))]
    return make_plan({}, DURATION, (80, 120), cuts=CUTS, user_hits=hits)


@pytest.fixture
def record(spotted) -> dict:
    return as_record(spotted, "one.mp4")


@pytest.fixture(scope="session")
def schema(repository) -> jsonschema.Draft202012Validator:
    content = json.loads((repository / "docs" / "cue-plan.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def changed(record: dict, path: str, value: object) -> dict:
    """A copy with one value replaced; `path` is like `hits.0.time_s`."""
    result = copy.deepcopy(record)
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    place = result
    for part in parents:
        place = place[part]
    place[last] = value
    return result


def test_a_plan_survives_writing_and_reading(spotted, tmp_path):
    path = tmp_path / "one.plan.json"
    write_plan(path, spotted, "one.mp4")
    read = read_plan(path, DURATION)
    assert read.is_given and len(read.hits) == 7 and read.tempo.bends
    assert dataclasses.replace(read, is_given=False) == spotted
    edited = dataclasses.replace(read, key="Bb", is_minor=True, start_s=1.5, end_s=9.0)
    write_plan(path, edited)
    assert read_plan(path, DURATION) == edited


def test_reading_and_writing_again_changes_no_byte(spotted, tmp_path):
    write_plan(tmp_path / "a", spotted, "one.mp4")
    write_plan(tmp_path / "b", read_plan(tmp_path / "a", DURATION), "one.mp4")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_plan_of_motion_survives_too(schema):
    times = np.arange(0, 12, 1 / 25)
    energy = np.abs(np.sin(np.pi * times * 1.6))[:, None].astype(np.float32)
    mask = np.ones(len(energy), dtype=bool)
    stream = SimpleNamespace(values=np.hstack([energy, energy]), rate_hz=25.0, dims=("energy", "accent"), mask=mask)
    plan = make_plan({"flow": stream}, DURATION, (70, 140))
    assert plan.hits and plan.tempo.confidence > 0
    read = from_record(as_record(plan), DURATION)
    assert as_record(read) == as_record(plan) and plan_digest(read) == plan_digest(plan)
    schema.validate(as_record(plan))


def test_tempo_alone_is_a_plan():
    plan = from_record({"tempo": {"bpm": 100}}, DURATION)
    assert (plan.tempo.bpm, plan.tempo.start, plan.tempo.bends, plan.hits, plan.start_s, plan.end_s) == (
        100, 0, (), (), 0.0, None
    )  # fmt: skip
    assert set(plan.intensity.values) == {0.5} and [(s.start_s, s.end_s) for s in plan.sections] == [(0, 12)]


def test_any_bar_line_will_do(record):
    for start in (-3.5, 0.4, 17.2):
        tempo = from_record({"tempo": {"bpm": 120, "bar_starts_s": start}}, DURATION).tempo
        assert (
            -2 < tempo.start <= 0
            and abs((float(tempo.start) - start) / 2 - round((float(tempo.start) - start) / 2)) < 1e-6
        )


def test_the_digest_is_that_of_the_meaning(record):
    plan = from_record(record, DURATION)
    same = {**record, "clip": "other.mp4", "hits": [{**hit, "source": "else"} for hit in record["hits"][::-1]]}
    del same["metre"], same["format"]
    assert plan_digest(from_record(same, DURATION)) == plan_digest(plan)
    for path, value in (
        ("hits.0.weight", 0.51),
        ("hits.0.time_s", 0.72),
        ("hits.0.cause", "gesture"),
        ("tempo.bpm", record["tempo"]["bpm"] + 0.01),
        ("key", "C"),
        ("mode", "major"),
        ("intensity.values.0", 0.9),
        ("opening.start_s", 1),
        ("ending.end_s", 11),
    ):
        assert plan_digest(from_record(changed(record, path, value), DURATION)) != plan_digest(plan), path


BAD = [
    ("hits.0.time_s", 12.5, "hits[0].time_s is 12.5; it must lie from 0 to 12"),
    ("hits.0.time_s", -1, "hits[0].time_s is -1"),
    ("hits.0.time_s", "soon", "hits[0].time_s is 'soon', not a number"),
    ("hits.0.time_s", True, "not a number"),
    ("hits.0.time_s", None, "hits[0].time_s is missing"),
    ("hits.0.time_s", float("nan"), "not a number"),
    ("hits.0.time_s", 10**400, "hits[0].time_s is not a number"),
    ("hits.1.time_s", 0.74, "hit points at 0.71 s and 0.74 s are closer than 50 ms"),
    ("hits.0.weight", 1.5, "hits[0].weight is 1.5; it must lie from 0 to 1"),
    ("hits.0.cause", "gestrue", "did you mean 'gesture'"),
    ("hits.0.wieght", 1, "hits[0] has an unknown key 'wieght' (did you mean 'weight'"),
    ("hits", {"time_s": 1}, "hits must be a list"),
    ("hits.0", 3.0, "hits[0] must be an object with names, not float"),
    ("hist", [], "the plan has an unknown key 'hist' (did you mean 'hits'"),
    ("format", 2, "its format is 2; this version reads 1"),
    ("duration_s", 30, "it is for a clip of 30 s, but this one lasts 12.000 s"),
    ("duration_s", float("inf"), "duration_s is inf, not a number"),
    ("metre", "5/4", "metre is '5/4'"),
    ("tempo", {}, "tempo.bpm is missing"),
    ("tempo.bpm", 1000, "tempo.bpm is 1000; it must lie from 20 to 300"),
    ("tempo_map", [{"time_s": 0, "bpm": 150}], "a tempo map may bend"),
    ("tempo_map", [{"time_s": 2, "bpm": 0}], "tempo_map[0].bpm is 0"),
    ("tempo_map.1.time_s", 0.0, "tempo_map[1].time_s is 0, less than 0.05 s after the one before"),
    ("key", "H", "key is 'H'"),
    ("mode", "dorian", "mode is 'dorian'"),
    ("cuts.0.time_s", 99, "cuts[0].time_s is 99"),
    ("cuts.0.kind", "wipe", "cuts[0].kind is 'wipe'"),
    ("sections", [{"start_s": 4, "end_s": 2}], "sections[0] runs from 4 to 2 s"),
    ("sections", [{"start_s": 0, "end_s": 8}, {"start_s": 6, "end_s": 12}], "sections[1] runs from 6 to 12 s"),
    ("intensity.values", [0.5, 2], "intensity.values[1] is 2"),
    ("intensity.values", [], "intensity.values must be a list"),
    ("intensity.values", [0.5] * 2000, "intensity.values must be a list"),
    ("opening.start_s", 13, "opening.start_s is 13"),
    ("ending.end_s", 99, "ending.end_s is 99"),
    ("opening.start_s", 11.9, "Leave it 0.2 s at least"),
]


@pytest.mark.parametrize(("path", "value", "wanted"), BAD, ids=[f"{path} {str(value)[:20]}" for path, value, _ in BAD])
def test_a_bad_plan_is_refused_with_what_and_where(record, tmp_path, path, value, wanted):
    with pytest.raises(PlanError) as caught:
        from_record(changed(record, path, value), DURATION, path=tmp_path / "one.plan.json")
    assert wanted in str(caught.value) and str(caught.value).startswith(str(tmp_path / "one.plan.json"))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"tempo: 96", "the plan can't be read (not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "the plan can't be read"),
        (b'{"tempo": {"bpm": ' + b"9" * 5000 + b"}}", "the plan can't be read"),
        (b"[1, 2]", "the plan must be an object with names, not list"),
        (b" " * (MAX_BYTES + 1), "it is too large for a plan (8 MB)"),
        (b"", "the plan can't be read"),
    ],
    ids=["words", "bytes", "depth", "digits", "list", "huge", "empty"],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, content, wanted):
    path = tmp_path / "one.plan.json"
    path.write_bytes(content)
    with pytest.raises(PlanError) as caught:
        read_plan(path, DURATION)
    assert wanted in str(caught.value)


def test_a_plan_with_more_hit_points_than_can_be_obeyed_is_refused(record):
    with pytest.raises(PlanError, match="at most 20000"):
        from_record({**record, "hits": [{"time_s": 1}] * (MAX_HITS + 1)}, DURATION)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PlanError, match="No such file"):
        read_plan(tmp_path / "one.plan.json", DURATION)


def test_what_is_written_fits_the_schema(schema, record):
    schema.validate(record)
    schema.validate(json.loads(json.dumps({**record, "key": "F#", "mode": "minor"})))
    schema.validate({"tempo": {"bpm": 100}})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((path, value) for path, value, wanted in BAD if "unknown key" in wanted),
        ("hits.0.time_s", "soon"),
        ("hits.0.time_s", True),
        ("hits.0.time_s", None),
        ("hits.0.weight", 1.5),
        ("hits.0.cause", "gestrue"),
        ("tempo", {}),
        ("tempo.bpm", 1000),
        ("key", "H"),
        ("mode", "dorian"),
        ("metre", "5/4"),
        ("format", 2),
        ("cuts.0.kind", "wipe"),
        ("intensity.values", []),
        ("hits", {"time_s": 1}),
        ("ending.end_s", -1),
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_refused_for_its_shape(schema, record, path, value):
    assert not schema.is_valid(changed(record, path, value))


def test_schema_and_code_agree_on_names_and_ranges(schema):
    properties = schema.schema["properties"]
    hit = properties["hits"]["items"]["properties"]
    assert tuple(hit["cause"]["enum"]) == CAUSES
    assert tuple(properties["cuts"]["items"]["properties"]["kind"]["enum"]) == CUT_KINDS
    assert tuple(properties["mode"]["enum"]) == (*MODES, None)
    assert [properties["tempo"]["properties"]["bpm"][end] for end in ("minimum", "maximum")] == [
        bounds("tempo.min")[0], bounds("tempo.max")[1]
    ]  # fmt: skip
    assert {each["maxItems"] for each in properties.values() if "maxItems" in each} == {MAX_HITS}


def test_the_examples_of_the_page_are_plans(repository, schema):
    text = (repository / "docs" / "spotting.md").read_text(encoding="utf-8")
    blocks = [json.loads(block.split("```")[0]) for block in text.split("```json\n")[1:]]
    plans = [block for block in blocks if isinstance(block, dict) and "tempo" in block]
    assert len(plans) == 3
    for plan in plans:
        schema.validate(plan)
        from_record(plan, DURATION)


def test_hit_points_found_near_a_users_own_give_way_but_the_users_stay():
    found = (HitPoint(1.0, 0.5, "gesture", ""), HitPoint(2.0, 0.5, "gesture", ""), user(3.0))
    hits = with_user_hits(found, [user(1.2), user(3.2)])
    assert [hit.time_s for hit in hits] == [1.2, 2.0, 3.0, 3.2]
    assert [hit.time_s for hit in with_user_hits(found, [user(3.01)])] == [1.0, 2.0, 3.01]


def test_added_hit_points_bend_the_beat_only_where_no_tempo_map_was_given(record):
    mapped = from_record(record, DURATION)
    assert add_user_hits(mapped, [user(5.5)]).tempo == mapped.tempo
    even = from_record({**record, "tempo_map": []}, DURATION)
    bent = add_user_hits(even, [user(5.5)])
    assert (bent.tempo.bpm, bent.tempo.start) == (even.tempo.bpm, even.tempo.start) and bent.tempo.bends
    assert add_user_hits(even, []) is even


def test_a_clip_of_one_frame_has_a_plan_that_can_be_read_again():
    duration = Fraction(1, 25)
    plan = make_plan({}, duration, (90.0, 120.0))
    assert from_record(as_record(plan), duration, is_given=False) == plan
