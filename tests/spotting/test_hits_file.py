"""A user's hits files: every form that is read, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from expotion_cli.errors import PlanError, UsageError
from expotion_cli.spotting.hits_file import MAX_BYTES, read_hits

NAMES = ("sub/two.mp4", "two.mp4", "two")


def times(tmp_path, content: str, name: str = "hits.csv", *, fps: float = 25.0, duration_s: float = 100.0) -> list:
    """[(time_s, weight)] of the clip sub/two.mp4."""
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return [(hit.time_s, hit.weight) for hit in read_hits(path).of(NAMES, duration_s, Fraction(fps))]


@pytest.mark.parametrize(
    "content",
    [
        "time_s,weight\n1.5,0.5\n4,\n",
        "1.5,0.5\n4\n",
        "\ufefftime_s;weight\r\n1.5;0.5\r\n4;\r\n",
        "time_s;weight\n1,5;0,5\n4;1\n",
        "Time\tWeight\n1.5\t0.5\n4\t1\n",
        "# from my editor\n\nseconds, weight\n4, 1\n1.5, 0.5\n# the end\n",
        "1.5,0.5,two.mp4\n4,1,sub/two.mp4\n3,1,one.mp4\n",
        "time_s,weight,\n1.5,0.5,\n4,1,\n",
        "start\n0:01.5\n0:00:04\n",
        "frame,weight\n37.5,0.5\n100,1\n",
        "clip,frame,time_s,weight\ntwo,,1.5,.5\n,100,,1\n",
    ],
)
def test_tables_of_all_forms_mean_the_same(tmp_path, content):
    found = times(tmp_path, content)
    assert [time for time, _ in found] == [1.5, 4.0]
    assert found[1][1] == 1 and found[0][1] == (1.0 if content.startswith("start") else 0.5)


@pytest.mark.parametrize(
    "content",
    [
        [1.5, 4],
        ["0:01.5", {"time_s": 4}],
        {"two": [1.5], "sub/two.mp4": [4], "one": [3]},
        {"hits": [{"time_s": 1.5, "cause": "gesture", "source": "a plan"}, {"time": 4}], "tempo": {"bpm": 96}},
        [{"frame": 100, "clip": "two"}, {"time_s": 1.5}, {"time_s": 3, "clip": "one"}],
    ],
    ids=["numbers", "objects", "by clip", "a plan", "frames"],
)
def test_json_of_all_forms_means_the_same(tmp_path, content):
    assert times(tmp_path, json.dumps(content), "hits.json") == [(1.5, 1), (4, 1)]


def test_frames_count_at_the_clips_own_rate(tmp_path):
    ((time_s, _),) = times(tmp_path, "frame\n90\n", fps=30000 / 1001)
    assert time_s == pytest.approx(90 * 1001 / 30000, abs=1e-4)


def test_hit_points_name_the_file_and_the_row_they_are_from(tmp_path):
    path = tmp_path / "hits.csv"
    path.write_text("time_s\n1\n")
    (hit,) = read_hits(path).of(NAMES, 10.0, Fraction(25))
    assert (hit.cause, hit.source) == ("user", "hits.csv, line 2")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("when,weight\n1,1\n", "line 1: no column is called time_s or frame"),
        ("time_s,wieght\n1,1\n", "line 2: unknown column 'wieght' (did you mean 'weight'"),
        ("time_s\nsoon\n", "line 2 holds no number"),
        ("time_s\n1e999\n", "line 2 holds no number"),
        ("time_s\nnan\n", "line 2 holds no number"),
        ("time_s,weight\n1,7\n", "line 2: weight is 7"),
        ("", "it has no hit points"),
        ("time_s\n", "it has no hit points"),
        ("# nothing\n", "it has no hit points"),
        ("words and more words\n", "no column is called"),
        ("1\n" * 20_001, "at most 20000"),
    ],
    ids=["header", "column", "word", "infinite", "nan", "weight", "empty", "header alone", "comment", "prose", "many"],
)
def test_a_table_that_cannot_be_read_is_refused_with_what_and_where(tmp_path, content, wanted):
    path = tmp_path / "hits.csv"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_hits(path)
    assert wanted in str(caught.value) and str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("{", "not JSON"),
        ("3", "it must be a list"),
        ('{"one": 3}', "it must be a list, or an object of lists by clip"),
        ("[[1]]", "entry 1 holds no number"),
        ("[null]", "entry 1 holds no number"),
        ("[true]", "entry 1 holds no number"),
        ('[{"time_s": 1, "wieght": 1}]', "entry 1: unknown column 'wieght'"),
        ('[{"weight": 1}]', "entry 1 holds no number"),
        (f"[{10**400}]", "entry 1 holds no number"),
        ("[]", "it has no hit points"),
    ],
)
def test_json_that_cannot_be_read_is_refused_with_what_and_where(tmp_path, content, wanted):
    path = tmp_path / "hits.json"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_hits(path)
    assert wanted in str(caught.value)


def test_a_huge_file_and_one_that_is_not_there_are_refused(tmp_path):
    path = tmp_path / "hits.csv"
    with pytest.raises(UsageError, match="can't be read"):
        read_hits(path)
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(UsageError, match="larger than 4 MB"):
        read_hits(path)
    path.write_bytes(b"\x00\xff\x80")
    with pytest.raises(UsageError):
        read_hits(path)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("time_s\n1200\n", "If these are frame numbers, call the column frame"),
        ("time_s\n51200.5\n", "If these are milliseconds, divide them by 1000"),
        ("time_s\n-1\n", "Times count from the first frame"),
        ("frame\n99999\n", "line 2: 99999 frames lies outside the clip"),
        ("time_s\n1\n1.02\n", "closer than 50 ms"),
    ],
    ids=["frames", "milliseconds", "before", "beyond", "crowded"],
)
def test_times_outside_the_clip_are_refused_with_a_guess(tmp_path, content, wanted):
    with pytest.raises(PlanError) as caught:
        times(tmp_path, content)
    assert wanted in str(caught.value)


def test_rows_of_clips_that_are_not_at_hand_are_noted(tmp_path):
    path = tmp_path / "hits.csv"
    path.write_text("1,1,two\n2,1,three.mp4\n")
    assert read_hits(path).unused(NAMES) == ["hit points for no clip at hand: three.mp4"]
