"""The report's HTML, without a browser."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser

import pytest
from made_results import make_result

from expotion_cli.report.looking import Look
from expotion_cli.report.page import clock, values, write_report
from expotion_cli.report.results import collect


class Page(HTMLParser):
    """Elements with their attributes, and the text of those with an id."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script":
            self.scripts[-1] += data

    def all(self, tag, name):
        return [attributes[name] for each, attributes in self.elements if each == tag and name in attributes]


@pytest.fixture
def written(folder, tmp_path):
    """The page of the folder, one folder above it."""
    found = collect(folder)
    path = write_report(tmp_path / "report.html", found, {})
    return path.read_text(encoding="utf-8")


def test_the_page_holds_all_but_the_videos_which_it_links_relatively(written, tmp_path):
    page = Page(written)
    videos = page.all("video", "src")
    assert sorted(videos) == sorted(
        f"scored/{name}"
        for name in (
            "clip%202.mp4",
            "sub/clip%2010.mp4",
            "cut.mp4",
            "edited.mp4",
            "stopped.mp4",
            "lost.mp4",
            "strange.mp4",
        )
    )
    assert set(page.all("video", "preload")) == {"none"}
    assert not page.all("link", "href") and not page.all("script", "src") and not page.all("img", "src")
    assert all(not address.startswith(("http", "//", "/")) for address in page.all("a", "href"))


def test_nothing_from_a_file_is_markup_or_script(written):
    page = Page(written)
    assert len(page.scripts) == 2 and "</script><script>document" not in written and "\u2028" not in page.scripts[0]
    assert json.loads(page.scripts[0]) and "&lt;/script&gt;&lt;script&gt;document.title" in written
    policy = page.all("meta", "content")[0]
    assert policy.startswith("default-src 'none'") and "unsafe-inline" not in policy.partition("script-src")[2]


def test_what_is_wrong_stands_on_top_what_fails_first(written):
    top = written.index('id="attention"')
    names = ("bad.mp4", "there.mp4", "cut.mp4", "never.mp4", "gone.mp4", "edited.mp4")
    places = [written.index(f"<bdi>{name}</bdi>", top) for name in names]
    assert places == sorted(places) and places[-1] < written.index('id="find"') < written.index("<article")
    assert "Convert it." in written and "The last run was interrupted" in written


def test_hostile_sidecars_make_a_page_all_the_same(tmp_path, scored_video):
    odd = [
        None,
        7,
        "x",
        [],
        [None, 1, {"time_s": "x"}, {"time_s": 1e308}, {"time_s": 1.0, "sounds": 3}],
        {"a": {}},
        True,
    ]
    keys = ("clip recipe model adapter soundfont streams tempo loudness measured hits cuts plan notes versions takes "
            "instruments key metre midi prompt seed format not_understood").split()  # fmt: skip
    for number, value in enumerate(odd):
        make_result(tmp_path / f"{number}.mp4", scored_video, **dict.fromkeys(keys, value))
    make_result(tmp_path / "long.mp4", scored_video, clip={"duration_s": 1e300})
    rows = {"chosen": 1, "each": [{"take": 1, "missed": 5}, {"take": 2, "terms": {"a": "b"}}]}
    make_result(tmp_path / "takes.mp4", scored_video, takes=rows)
    make_result(tmp_path / (os.fsdecode(b"caf\xe9") + ".mp4"), scored_video)
    found = collect(tmp_path)
    shown = values(found, {}, tmp_path)
    assert len(shown["cards"]) == len(odd) + 3 and not shown["wrong"]
    assert next(card for card in shown["cards"] if card["name"] == "long.mp4")["axis"]["duration"] == 0
    text = write_report(tmp_path / "report.html", found, {}).read_text(encoding="utf-8")
    assert "caf%E9.mp4" in text and json.loads(Page(text).scripts[0])["clip-4"]["hits"] == []


def test_a_page_of_two_hundred_results_stays_small(tmp_path, scored_video):
    result = make_result(tmp_path / "one.mp4", scored_video)
    found = collect(tmp_path)
    look = Look(10.0, 640, 360, poster="x" * 12_000, peaks="x" * 640, motion="x" * 640)
    size = len(
        write_report(tmp_path / "report.html", found, dict.fromkeys([found.results[0].video], look)).read_bytes()
    )
    bare = len(write_report(tmp_path / "bare.html", type(found)(found.folder, ()), {}).read_bytes())
    assert result and (size - bare) * 200 < 6e6


def test_measures_are_shown_with_their_units_and_absent_ones_as_such(tmp_path, scored_video):
    make_result(tmp_path / "one.mp4", scored_video, measured={"hits": 0.2, "hits_chance": 0.4, "pulse": None})
    (card,) = values(collect(tmp_path), {}, tmp_path)["cards"]
    shown = {name: (value, beside, mark) for name, value, _, beside, mark in card["measures"]}
    assert shown["hits"] == ("20%", "by chance 40%", "warn") and shown["pulse"] == ("–", "", "")
    assert shown["loudness"][0] == "\N{MINUS SIGN}14.0 LUFS" and card["axis"]["hits"][1][3] is None


def test_music_that_was_aligned_says_how_and_what_it_gained(tmp_path, scored_video):
    moved = {"hits_before": 0.4, "hits_after": 0.8, "shift_s": -0.172, "most_bend": 0.0229, "points": [[0, 0.172]]}
    still = {"hits_before": 1.0, "hits_after": 1.0, "shift_s": 0.0, "most_bend": 0.0, "points": []}
    for name, alignment in (("a", moved), ("b", still), ("c", None), ("d", {"shift_s": "x"})):
        make_result(tmp_path / f"{name}.mp4", scored_video, alignment=alignment)
    cards = values(collect(tmp_path), {}, tmp_path)["cards"]
    said = [dict(fact[:2] for fact in card["facts"]).get("moved") for card in cards]
    words = "by \N{MINUS SIGN}0.17 s, bent by up to 2.3%: its own accents meet 80% of the hit points, not 40%"
    assert said == [words, None, None, None]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.0"), (59.96, "1:00.0"), (65.04, "1:05.0"), (3661, "1:01:01.0")]
)
def test_clocks_round_once(seconds, text):
    assert clock(seconds, tenths=True) == text and clock(seconds) == re.sub(r"\.\d$", "", text)
