"""The pages in a real browser, opened from disk: Chromium plays, seeks, filters, sorts and auditions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import check_everywhere, show
from made_results import make_result, write_ledger

from expotion_cli.report import cuesheet
from expotion_cli.report.looking import Look, look_at
from expotion_cli.report.page import write_report
from expotion_cli.report.results import collect

EVIL = '</script><img src=x onerror="document.title=1"><b>'


@pytest.fixture(scope="module")
def source(tmp_path_factory, ffmpeg) -> Path:
    """H.264 and AAC, four seconds; the picture turns from dark to light."""
    path = tmp_path_factory.mktemp("browser") / "source.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=black:size=192x108:rate=25:duration=4,geq=lum='T*60':cb=128:cr=128",
           "-f", "lavfi", "-i", "sine=frequency=330:duration=4", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12",
           "-c:a", "aac", path)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory, source, ffmpeg) -> Path:
    """A report of four results, one with takes, and of a clip that failed."""
    folder = tmp_path_factory.mktemp("pages") / "scored % #1"
    clip = {"file": "x", "duration_s": 4.0, "fps": 25.0, "width": 192, "height": 108}
    hits = [{"time_s": at, "weight": 0.8, "cause": "gesture", "answered_s": at if at < 3 else None, "sounds": ["notes"]}
            for at in (1.0, 2.5, 3.5)]  # fmt: skip
    takes = {"chosen": 1, "chosen_by": "score", "each": [
        {"take": 1, "score": 0.8, "terms": {"hits": 0.7}, "missed": [], "sound": {"file": "take-1.m4a"}},
        {"take": 2, "score": 0.6, "terms": {"hits": 0.5}, "missed": ["loop"], "sound": {"file": "take-2.m4a"}},
        {"take": 3, "score": 0.1, "terms": {}, "missed": []}]}  # fmt: skip
    for name, recipe, share, lufs, more in (
        ("a 1.mp4", "jazz", 0.2, -16.0, {"takes": takes}), ("b.mp4", "cinematic", 0.9, -14.0, {"prompt": EVIL}),
        ("c.mp4", "jazz", None, -12.0, {"notes": ["a note"]}),
    ):  # fmt: skip
        measured = {"hits": share, "hits_chance": 0.3, "pulse": 0.8, "spread_db": 4.0, "hole_share": 0.0}
        loudness = {"integrated_lufs": lufs, "true_peak_dbtp": -1.0, "range_lu": 2.0}
        make_result(folder / name, source, recipe={"name": recipe}, measured=measured, loudness=loudness, clip=clip,
                    hits=hits, cuts=[{"time_s": 2.0}], **more)  # fmt: skip
    make_result(
        folder / "edited.mp4", source, recipe={"name": "upbeat"}, model={"name": "m", "licence": "CC-BY-NC-4.0"}
    )
    with open(folder / "edited.mp4", "ab") as file:
        file.write(b"\0" * 8)
    (folder / "a 1.takes").mkdir()
    for number in (1, 2):
        tone = f"sine=frequency={number * 300}:duration=4"
        ffmpeg("-f", "lavfi", "-i", tone, "-c:a", "aac", folder / "a 1.takes" / f"take-{number}.m4a")
    failure = {"event": "failed", "clip": "bad.mov", "reason": "bad.mov: it is cut short.", "remedy": "Copy it again."}
    write_ledger(folder, failure)
    kept = [folder / "a 1.takes" / f"take-{number}.m4a" for number in (1, 2)]
    found, look = collect(folder), Look(**look_at(source, {}, kept) | {"trouble": ()})
    cuesheet.write_html(folder / "cuesheet.html", found, cuesheet.cues(found))
    return write_report(folder / "report.html", found, {r.video: look for r in found.results if r.video})


@pytest.fixture
def run(browser, page) -> Callable[..., Any]:
    """Runs a script in the freshly opened report; `$` finds an element, `card` a result's by its name."""
    show(browser, page)
    helpers = (
        "const $ = what => document.querySelector(what);"
        "const named = name => each => each.querySelector('bdi').textContent === name;"
        "const card = name => [...document.querySelectorAll('.clip')].find(named(name));"
    )
    return lambda script, *arguments: browser.execute_script(helpers + script, *arguments)


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What a condition comes to say, once it says something."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    assert found, "it did not happen"
    return found


def press(browser, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def test_a_clip_plays_alone_and_its_playhead_moves(run):
    run("card('a 1.mp4').querySelector('.play').click()")
    until(
        lambda: run(
            "const v = card('a 1.mp4').querySelector('video'); return v.currentTime > 0.3 && v.videoWidth === 192"
        )
    )
    label = run("return card('a 1.mp4').querySelector('.play').getAttribute('aria-label')")
    assert label == "Pause a 1.mp4" and run("return card('a 1.mp4').classList.contains('playing')")
    run("card('b.mp4').querySelector('.play').click()")
    until(lambda: run("return card('b.mp4').querySelector('video').currentTime > 0.2"))
    assert run("return card('a 1.mp4').querySelector('video').paused")
    assert run("return parseFloat(card('b.mp4').querySelector('.axis').style.getPropertyValue('--at'))") > 4
    run("card('b.mp4').querySelector('video').click()")
    assert run("return card('b.mp4').querySelector('video').paused")


def test_a_click_and_a_drag_on_the_axis_seek_and_show_that_picture(browser, run):
    from selenium.webdriver.common.action_chains import ActionChains

    axis = run("return card('a 1.mp4').querySelector('.axis')")
    ActionChains(browser).move_to_element(axis).click().perform()
    assert run("return card('a 1.mp4').querySelector('video').currentTime") == pytest.approx(2.0, abs=0.05)
    ActionChains(browser).move_to_element(axis).click_and_hold().move_by_offset(
        axis.size["width"] // 4, 0
    ).release().perform()
    assert run("return arguments[0].getAttribute('aria-valuetext')", axis) == "3.0 of 4.0 seconds"
    shown = "const v = card('a 1.mp4').querySelector('video'), c = new OffscreenCanvas(1, 1).getContext('2d');"
    until(lambda: run("const v = card('a 1.mp4').querySelector('video'); return v.readyState > 1 && !v.seeking"))
    # a file's pixels can't be read back; that the poster went is what a seek must do
    assert run(shown + "c.drawImage(v, 0, 0, 1, 1); return v.videoWidth") == 192


def test_the_axis_is_a_slider_for_the_keyboard(browser, run):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    run("card('a 1.mp4').querySelector('.axis').focus()")
    at = lambda: run("return card('a 1.mp4').querySelector('video').currentTime")  # noqa: E731
    for keys, seconds in (
        ((Keys.ARROW_RIGHT,), 1.0), ((Keys.ARROW_RIGHT, Keys.ARROW_LEFT), 1.0), (("n",), 2.5), (("n",), 3.5),
        (("p",), 2.5), ((Keys.END,), 4.0), ((Keys.HOME,), 0.0),
    ):  # fmt: skip
        press(browser, *keys)
        assert at() == pytest.approx(seconds, abs=0.05), keys
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    assert at() == pytest.approx(0.04, abs=0.01)
    press(browser, Keys.SPACE)
    until(lambda: at() > 0.4)
    press(browser, Keys.SPACE)
    assert run("return card('a 1.mp4').querySelector('video').paused")
    press(browser, "j")
    assert run("return document.activeElement === card('b.mp4').querySelector('.axis')")
    press(browser, "k")
    assert run("return document.activeElement === card('a 1.mp4').querySelector('.axis')")


def test_every_control_is_reached_with_the_tab_key(browser, run):
    from selenium.webdriver.common.keys import Keys

    seen = set()
    for _ in range(40):
        press(browser, Keys.TAB)
        seen.add(run("const e = document.activeElement; return e.id || e.className || e.tagName"))
    assert {"find", "recipe", "status", "sort", "volume", "play", "full", "axis"} <= seen


def test_filters_hide_and_say_how_many_are_left(run):
    shown = "return [...document.querySelectorAll('.clip:not([hidden]) bdi')].map(b => b.textContent)"
    choose = "$(arguments[0]).value = arguments[1]; $(arguments[0]).dispatchEvent(new Event(arguments[2]));"
    assert run(shown) == ["a 1.mp4", "b.mp4", "c.mp4", "edited.mp4"]
    assert run(choose + shown, "#recipe", "jazz", "change") == ["a 1.mp4", "c.mp4"]
    assert run("return $('#count').textContent") == "2 of 4 shown"
    assert run(choose + shown, "#find", "calm C.MP4", "input") == ["c.mp4"]
    assert run(choose + shown, "#find", "nobody", "input") == [] and run("return !$('#none').hidden")
    run("$('#reset').click()")
    assert run(choose + shown, "#status", "failed", "change") == [] and run("return $('#none').hidden")
    assert run(choose + shown, "#status", "changed", "change") == ["edited.mp4"]
    left = "return [...document.querySelectorAll('.attention li:not([hidden]) bdi')].map(b => b.textContent)"
    assert run(left) == ["edited.mp4"]
    assert run(choose + left, "#status", "", "change") == ["bad.mov", "edited.mp4"]


def test_results_are_sorted_and_those_without_a_value_come_last(run):
    script = (
        "$('#sort').value = arguments[0]; $('#sort').dispatchEvent(new Event('change'));"
        "return [...document.querySelectorAll('.clip bdi')].map(b => b.textContent[0]).join('')"
    )
    for order, names in (
        ("hits-down", "beac"),
        ("hits-up", "aebc"),
        ("lufs-down", "cbea"),
        ("lufs-up", "abec"),
        ("name", "abce"),
    ):
        assert run(script, order) == names, order


def test_a_take_is_heard_in_the_place_of_the_videos_sound_at_the_same_time(run):
    run("card('a 1.mp4').querySelector('.takes input[value$=\"take-2.m4a\"]').click()")
    run("clips[0].seek(1.5); clips[0].toggle()")
    until(lambda: run("return clips[0].take.currentTime > 1.8"))
    assert run("return clips[0].video.muted") and run("return clips[0].take.src.endsWith('take-2.m4a')")
    assert abs(run("return clips[0].take.currentTime - clips[0].video.currentTime")) < 0.15
    command = run("return card('a 1.mp4').querySelector('.command code').textContent")
    assert (
        command.startswith("expotion takes '")
        and command.endswith("a 1.mp4' --choose 2")
        and run("return !card('a 1.mp4').querySelector('.command').hidden")
    )
    told = run(
        "return [...card('a 1.mp4').querySelectorAll('.takes label')].map(l => l.innerText.split(/\\s*\\n/).join(' '))"
    )
    assert told[1].startswith("take 1 chosen score 0.80 hits 70%") and told[2].startswith(
        "take 2 score 0.60 hits 50% loop"
    )
    run("card('a 1.mp4').querySelector('.takes input[value=\"\"]').click()")
    assert run(
        "return !clips[0].video.muted && clips[0].take === null && card('a 1.mp4').querySelector('.command').hidden"
    )
    assert run("return [...card('a 1.mp4').querySelectorAll('.takes input')].map(i => i.disabled)") == [False] * 3 + [
        True
    ]


def test_hit_points_are_drawn_and_listed_with_what_answers_them(run):
    until(lambda: run("return card('a 1.mp4').querySelectorAll('.marks path').length === 3"))
    assert run("return card('a 1.mp4').querySelectorAll('.marks path.met, .marks line.answer').length") == 4
    assert run("return card('a 1.mp4').querySelector('.wave path').getAttribute('d').length") > 1000
    assert run("return card('a 1.mp4').querySelectorAll('.mini path').length") == 2
    run("card('a 1.mp4').querySelector('details.hits summary').click()")
    buttons = until(lambda: run("return card('a 1.mp4').querySelectorAll('.hits button')"))
    buttons[1].click()
    assert run("return clips[0].video.currentTime") == 2.5


def test_nothing_from_a_file_runs_and_the_browser_has_nothing_to_complain_of(browser, run, page):
    assert run("return document.title") == f"{page.parent.name}: expotion report"
    assert run("return document.querySelectorAll('img, .prompt b').length") == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.slow
def test_two_hundred_results_open_within_two_seconds(browser, source, tmp_path):
    for number in range(200):
        make_result(tmp_path / f"clip {number}.mp4", source)
    found, look = collect(tmp_path), Look(**look_at(source, {}) | {"trouble": ()})
    page = write_report(tmp_path / "report.html", found, {r.video: look for r in found.results if r.video})
    times = []
    for _ in range(3):
        show(browser, page)
        times.append(browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert browser.execute_script("return document.querySelectorAll('.clip').length") == 200
    assert browser.execute_script("return document.querySelectorAll('.marks').length") < 50, "drawn when they are near"
    assert min(times) < 2000


def test_a_video_that_can_not_be_played_says_so(run):
    run("clips[1].video.src = 'nowhere.mp4'; clips[1].toggle()")
    until(lambda: run("return card('b.mp4').querySelector('.broken')"))


@pytest.mark.long
@pytest.mark.parametrize("name", ["report.html", "cuesheet.html"])
def test_pages_are_accessible_and_fit_the_screen_in_light_and_dark(browser, page, name):
    check_everywhere(browser, page.with_name(name))
