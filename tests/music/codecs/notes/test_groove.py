"""Grooves: files that load or say what is wrong, and drums that go on, vary and answer."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.errors import RecipeError
from expotion_cli.music.codecs.notes.groove import (
    ANSWERED,
    HEAVY,
    TOP,
    Bar,
    choose_levels,
    groove_names,
    load_groove,
    play,
)
from expotion_cli.music.codecs.notes.groove_file import LANES, MAX_BYTES, STEPS_OF_METRE, STRONG
from expotion_cli.music.codecs.notes.tokens import events_to_tokens, tokens_to_events
from expotion_cli.timing import STEPS_PER_BEAT

EVERY = [(name, metre) for name in groove_names() for metre in STEPS_OF_METRE]
DRUMLESS = ("ambient", "classical")
PLAIN = """
title = "Plain"
["4/4"]
[["4/4".levels]]
from = 0.0
kick = "X---x---X---x---"
closed_hat = "x-x-x-x-x-x-x-x-"
"""


def lanes(events, *, voice=None):
    """(step, drum) → velocity class."""
    found = {}
    for name, (of, place) in LANES.items():
        for event in events[of] if voice in (None, of) else ():
            if event.value >> place & 1:
                found[event.start, name] = event.velocity
    return found


def cue(num_bars, *, seed=0, hits=True, bar_steps=48):
    """Bars of a made-up cue: sections of eight bars, intensities that move, some hit points, a silent bar."""
    rng = np.random.default_rng(seed)
    bars = []
    for place in range(num_bars):
        found = ((int(rng.integers(bar_steps)), float(rng.random())),) if hits and rng.random() < 0.4 else ()
        bars.append(Bar(float(rng.random()), place % 8 == 0, place % 8 == 7, found, place == 20))
    return bars


def write(folder: Path, text: str, name="mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_styles_that_recipes_need_are_shipped():
    wanted = "ambient boom-bap cinematic classical comedy corporate documentary four-on-the-floor jazz rock suspense "
    wanted += "trailer upbeat waltz six-eight"
    assert set(groove_names()) >= set(wanted.split())
    assert all(load_groove(name).title for name in groove_names())


@pytest.mark.parametrize(("name", "metre"), EVERY)
def test_every_groove_plays_every_metre_in_events_that_tokens_can_hold(name, metre):
    bars, steps = cue(32, bar_steps=STEPS_OF_METRE[metre]), STEPS_OF_METRE[metre]
    events = play(load_groove(name), bars, bar_steps=steps, seed=3, metre=metre)
    assert set(events) == {"drums", "percussion"} and events["drums"]
    read = tokens_to_events(events_to_tokens(events, 32 * steps))
    assert all(read[voice] == events[voice] for voice in events)
    assert not [event for found in events.values() for event in found if 20 * steps <= event.start < 21 * steps]


@pytest.mark.parametrize("name", groove_names())
def test_the_same_arguments_give_the_same_drums_and_another_seed_others(name):
    groove, bars = load_groove(name), [Bar(0.9, place % 8 == 0) for place in range(16)]
    first = play(groove, bars, bar_steps=48, seed=1)
    assert play(load_groove(name), bars, bar_steps=48, seed=1) == first
    assert any(play(groove, bars, bar_steps=48, seed=seed) != first for seed in (2, 3, 4))


@pytest.mark.parametrize(("name", "metre"), EVERY)
def test_the_groove_goes_on_through_fills_and_answers(name, metre):
    groove, steps = load_groove(name), STEPS_OF_METRE[metre]
    bars = cue(120, seed=5, bar_steps=steps)
    played = lanes(play(groove, bars, bar_steps=steps, seed=0, metre=metre))
    levels = groove.patterns[metre].levels
    missing, section = [], 0
    for place, (bar, level) in enumerate(zip(bars, choose_levels(levels, bars), strict=True)):
        section = place if bar.is_section_start else section
        wanted = []
        for row in levels[level].rows:
            first = (place - section) * steps % row.num_steps
            wanted += [(place * steps + s - first, row.lane) for s, _ in row.strokes if first <= s < first + steps]
        kept = sum(stroke in played for stroke in wanted)
        missing.append(bool(wanted) and not bar.is_silent and kept < 0.5 * len(wanted))
    assert not any(a and b for a, b in itertools.pairwise(missing))
    assert np.mean(missing) < 0.1


@pytest.mark.parametrize("name", groove_names())
@pytest.mark.parametrize("intensity", [0.1, 0.45, 0.65, 0.95])
def test_no_eight_bars_come_more_than_twice_in_a_row_in_four_minutes(name, intensity):
    bars = [Bar(intensity, place % 16 == 0, place % 16 == 15) for place in range(128)]
    events = play(load_groove(name), bars, bar_steps=48, seed=9)
    if not events["drums"]:
        assert name in DRUMLESS
        return
    played = lanes(events)
    contents = [
        frozenset((step - place * 48, lane, force) for (step, lane), force in played.items() if step // 48 == place)
        for place in range(128)
    ]
    for first in range(128 - 23):
        blocks = [contents[first + shift : first + shift + 8] for shift in (0, 8, 16)]
        assert not blocks[0] == blocks[1] == blocks[2]


def test_the_dance_groove_has_a_kick_on_every_beat_at_every_level():
    groove = load_groove("four-on-the-floor")
    for metre, beat in (("4/4", 12), ("3/4", 12), ("6/8", 18)):
        steps = STEPS_OF_METRE[metre]
        for intensity in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            bars = [
                Bar(intensity, place % 4 == 0, place % 4 == 3, ((beat, 0.9),) if place % 3 else ())
                for place in range(32)
            ]
            played = lanes(play(groove, bars, bar_steps=steps, seed=1, metre=metre))
            assert all((step, "kick") in played for step in range(0, 32 * steps, beat))


@pytest.mark.parametrize(("name", "metre"), EVERY)
def test_hit_points_are_answered_on_their_step_and_stand_out(name, metre):
    groove, steps = load_groove(name), STEPS_OF_METRE[metre]
    bars = cue(64, seed=2, bar_steps=steps)
    events = play(groove, bars, bar_steps=steps, seed=0, metre=metre)
    played = lanes(events)
    wanted = {
        place * steps + step: weight
        for place, bar in enumerate(bars)
        for step, weight in bar.hits
        if weight >= ANSWERED and not bar.is_silent
    }
    steps_hit = sorted(wanted)
    apart = [s for s in steps_hit if not any(0 < abs(s - other) <= 2 for other in steps_hit)]
    assert len(apart) > 8
    for step in apart:
        answer = groove.heavy_answer if wanted[step] >= HEAVY else groove.answer
        assert "kick" in answer
        assert all(played[step, lane] == TOP for lane in answer)
        assert not [key for key in played if 0 < abs(key[0] - step) <= 2], "strokes beside an answer make way"
    assert {step for (step, _), force in played.items() if force == TOP} <= set(steps_hit)
    assert max(force for (step, _), force in played.items() if step not in wanted) <= STRONG


def test_light_hit_points_change_nothing_and_silent_bars_answer_nothing():
    groove = load_groove("rock")
    bare = [Bar(0.7, place == 0) for place in range(8)]
    light = [Bar(0.7, place == 0, hits=((7, 0.2),)) for place in range(8)]
    assert play(groove, bare, bar_steps=48, seed=0) == play(groove, light, bar_steps=48, seed=0)
    silent = [Bar(1.0, True, hits=((0, 1.0),), is_silent=True)] * 4
    assert play(groove, silent, bar_steps=48, seed=0) == {"drums": [], "percussion": []}


def test_before_a_heavy_blow_hats_pause_for_half_a_beat_or_a_pickup_leads_in():
    bars = [Bar(0.6, place == 0, hits=((24, 1.0),) if place == 2 else ()) for place in range(4)]
    gap = lanes(play(load_groove("trailer"), bars, bar_steps=48, seed=0), voice="percussion")
    bare = lanes(play(load_groove("trailer"), [Bar(0.6, place == 0) for place in range(4)], bar_steps=48, seed=0))
    before = range(2 * 48 + 18, 2 * 48 + 24)
    assert not [key for key in gap if key[0] in before]
    assert [key for key in bare if key[0] in before and LANES[key[1]][0] == "percussion"]
    filled = lanes(play(load_groove("rock"), bars, bar_steps=48, seed=0))
    snares = [step for step, lane in filled if lane == "snare" and 2 * 48 + 12 <= step < 2 * 48 + 24]
    assert len(snares) >= 2, "rock leads in with its snare"


def test_sections_begin_with_crash_and_kick_but_not_in_soft_grooves():
    bars = [Bar(0.7, place % 8 == 0, place % 8 == 7) for place in range(24)]
    for name in ("rock", "trailer", "upbeat", "four-on-the-floor", "cinematic"):
        played = lanes(play(load_groove(name), bars, bar_steps=48, seed=0))
        assert all((step, lane) in played for step in (0, 8 * 48, 16 * 48) for lane in ("kick", "crash"))
    for name in ("ambient", "documentary", "boom-bap", "jazz", "classical"):
        assert load_groove(name).is_soft
        assert not [key for key in lanes(play(load_groove(name), bars, bar_steps=48, seed=0)) if key[1] == "crash"]


def test_a_fill_leads_into_the_next_section_and_only_there():
    bars = [Bar(0.5, place % 8 == 0, place % 8 == 7) for place in range(32)]
    played = lanes(play(load_groove("rock"), bars, bar_steps=48, seed=0), voice="drums")

    def busy(place):
        return sum(1 for step, lane in played if lane != "kick" and place * 48 + 24 <= step < place * 48 + 48)

    plain = max(busy(place) for place in range(32) if place % 8 not in (0, 7))
    assert all(busy(place) > plain for place in (7, 15, 23))
    assert busy(31) <= plain, "nothing follows the last bar"


def test_levels_do_not_flicker_but_follow_a_lasting_change():
    levels = load_groove("rock").patterns["4/4"].levels
    edge = levels[1].least

    def chosen(*intensities):
        return choose_levels(levels, [Bar(value, place == 0) for place, value in enumerate(intensities)])

    assert len(set(chosen(*[edge + 0.02, edge - 0.02] * 8))) == 1
    assert len(set(chosen(0.1, 0.1, 0.95, 0.1, 0.1, 0.95, 0.1))) == 1, "a single bar is no change"
    assert chosen(0.1, 0.1, 0.95, 0.95, 0.1, 0.1) == [0, 0, 3, 3, 0, 0]
    bars = [Bar(0.1, True), Bar(0.1), Bar(0.95, True), Bar(0.95)]
    assert choose_levels(levels, bars) == [0, 0, 3, 3], "a section takes its level at once"


def test_swing_moves_the_off_beats_only():
    bars = [Bar(0.4, place == 0) for place in range(8)]
    jazz = {step % STEPS_PER_BEAT for step, _ in lanes(play(load_groove("jazz"), bars, bar_steps=48, seed=0))}
    assert {0, 8} <= jazz and 6 not in jazz
    bap = {step % STEPS_PER_BEAT for step, _ in lanes(play(load_groove("boom-bap"), bars, bar_steps=48, seed=0))}
    assert {0, 6} <= bap and not {3, 9} & bap


def test_a_file_without_a_metre_falls_back_and_keeps_its_own_answers(tmp_path):
    groove = load_groove(write(tmp_path, 'answer = ["kick", "clap"]\nfallback = "six-eight"\n' + PLAIN))
    assert groove.name == "mine" and groove.answer == ("kick", "clap")
    assert groove.heavy_answer == ("kick", "clap", "crash")
    assert groove.patterns["6/8"] == load_groove("six-eight").patterns["6/8"]
    assert groove.patterns["3/4"] == load_groove("waltz").patterns["3/4"]
    assert load_groove(write(tmp_path, PLAIN)).patterns["3/4"] == load_groove("waltz").patterns["3/4"]


def test_bars_that_no_metre_has_and_hit_points_outside_their_bar_are_refused():
    groove = load_groove("rock")
    for steps, metre in ((40, None), (48, "3/4"), (36, "5/4")):
        with pytest.raises(ValueError, match="steps"):
            play(groove, [Bar(0.5)], bar_steps=steps, seed=0, metre=metre)
    with pytest.raises(ValueError, match="hit point on step 48"):
        play(groove, [Bar(0.5, hits=((48, 1.0),))], bar_steps=48, seed=0)
    assert play(groove, [], bar_steps=48, seed=0) == {"drums": [], "percussion": []}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "plays no metre"),
        ("title = ", "not valid TOML"),
        (PLAIN.replace("title", "titel"), "titel' \\(did you mean 'title'"),
        (PLAIN.replace("kick", "kik"), r"levels\[0\].kik' \(did you mean .*kick"),
        (PLAIN.replace("from = 0.0", ""), r"4/4.levels\[0\].from = None must be a number"),
        (PLAIN.replace("0.0", "nan"), "must be a number from 0 to 1"),
        (PLAIN.replace("X---x---X---x---", "X---x---X---x--"), "has 15 characters; it may have 12, 16, 24, 32"),
        (PLAIN.replace("X---x---X---x---", "X---y---X---x---"), "has 'y'; known are"),
        (PLAIN.replace('"X---x---X---x---"', "7"), "must be text"),
        (PLAIN.replace("X---x---X---x---", "x" * 5000), "at most 200 characters"),
        (PLAIN + '[["4/4".levels]]\nfrom = 0.0\n', "must be above that of the level before"),
        (PLAIN + '[["4/4".levels]]\nfrom = 0.5\n' * 9, "must be 1 to 8 tables"),
        (PLAIN + '[["4/4".fills]]\nweight = "hevy"\nsnare = "xx"\n', "did you mean 'heavy'"),
        (PLAIN + '[["4/4".fills]]\nweight = "heavy"\nsnare = "xx"\nkick = "xxxx"\n', "rows, all of one length"),
        (PLAIN + '[["4/4".fills]]\nweight = "heavy"\n', "rows, all of one length"),
        ('answer = ["kick", "snair"]' + PLAIN, "'snair' is no drum \\(did you mean 'snare'"),
        ('answer = "kick"' + PLAIN, "must be a list of drums"),
        ('before_heavy = "gaps"' + PLAIN, "did you mean 'gap'"),
        ("soft = 1" + PLAIN, "must be true or false"),
        ('fallback = "walz"' + PLAIN, "No groove is called 'walz' \\(did you mean 'waltz'"),
        ('fallback = "../groove/waltz.toml"' + PLAIN, "No groove is called"),
        ('["4/4"]\nlevels = 3\n', "must be 1 to 8 tables"),
        ('"4/4" = 3\n', "must be a table"),
        ('["6/8"]\nswing = "eighths"\n[["6/8".levels]]\nfrom = 0\n', "does not exist in this metre"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("#" * (MAX_BYTES + 1), "at most"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_what_is_wrong(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(RecipeError, match=said) as caught:
        load_groove(path)
    assert caught.value.path == path


def test_unknown_and_missing_grooves_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="'cinematik' \\(did you mean 'cinematic'.*Shipped grooves: ambient"):
        load_groove("cinematik")
    with pytest.raises(RecipeError, match="no such groove file"):
        load_groove(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="bytes.toml"):
        load_groove(tmp_path / "bytes.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(RecipeError, match="folder.toml"):
        load_groove(tmp_path / "folder.toml")
