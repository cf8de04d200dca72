"""Whole evaluations of made music for made motion, and how they are told."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from expotion_cli.errors import ClipError
from expotion_cli.evaluation import baselines, measuring, page, report
from expotion_cli.evaluation.measuring import EvaluatedClip, MeasureOptions, evaluate
from expotion_cli.evaluation.outputs import SAMPLE_RATE, Cue, MusicSet
from expotion_cli.evaluation.pretrained import WeightsSource
from expotion_cli.evaluation.results import METRICS, Figure, beside_turned, figure_of_pairs, ranking_of
from expotion_cli.evaluation.yardsticks import DRUM_RULE, METRONOME

DURATION_S = 8.0
BARE_RULE = "bare rule over strays"


def moments(seed: int) -> np.ndarray:
    """Irregular times, half a second apart on average."""
    rng = np.random.default_rng(seed)
    return (np.arange(14) + 0.7 + rng.uniform(-0.3, 0.3, 14)) * 0.5


def made_clip(seed: int, name: str | None = None) -> EvaluatedClip:
    """A clip that swings at its moments."""
    rows = np.arange(int(DURATION_S * 50)) / 50
    motion = 0.02 + np.exp(-0.5 * ((rows[:, None] - moments(seed)) / 0.06) ** 2).sum(axis=1)
    info = SimpleNamespace(duration=Fraction(int(DURATION_S)), start=Fraction(0), path=f"{name or seed}.mp4")
    return EvaluatedClip(name or f"clip-{seed}", info, motion.astype(np.float32), "made")


def music(clip: EvaluatedClip, seed: int, take: int = 0, **facts: object) -> Cue:
    """Hits at the moments of a clip of this seed."""
    return Cue(clip.name, baselines.strike(moments(seed), DURATION_S, SAMPLE_RATE), take, **facts)


@pytest.fixture(scope="module")
def clips() -> dict[str, EvaluatedClip]:
    return {clip.name: clip for clip in (made_clip(seed) for seed in range(5))}


@pytest.fixture(scope="module")
def result(clips):
    """A set that follows its clips, one that follows others, and the baselines."""
    follows = MusicSet("follows", tuple(music(clip, seed) for seed, clip in enumerate(clips.values())))
    strays = MusicSet("strays", tuple(music(clip, seed + 50) for seed, clip in enumerate(clips.values())))
    return evaluate(clips, [follows, strays], MeasureOptions(("sync", "music", "notes"), baseline="strays"))


def row(result, name):
    return next(row for row in result.rows if row.name == name)


def test_music_that_follows_is_told_from_music_that_does_not(result):
    follows, strays = row(result, "follows").figures, row(result, "strays").figures
    assert follows["correlation"].value > 0.4 > strays["correlation"].value
    assert follows["correlation"].lift_interval[0] > 0 > strays["correlation"].lift_interval[0]
    assert follows["ranking"].value > 0.95 and abs(strays["ranking"].value - 0.5) < 0.4
    assert follows["correlation"].against["interval"][0] > 0 and follows["correlation"].against["clips"] == 5
    assert strays["correlation"].against is None and set(follows["correlation"].by_clip) == set(result.clips)


def test_every_figure_of_following_has_an_interval_and_chance(result):
    keys = [metric.key for metric in METRICS if metric.group == "sync"]
    assert {"correlation", "ranking", "hits", "hit", "hit_1s", "coverage_1s"} <= set(keys)
    for name in ("follows", "strays", BARE_RULE, DRUM_RULE, METRONOME):
        for key in keys:
            figure = row(result, name).figures[key]
            assert figure.interval[0] <= figure.value <= figure.interval[1], (name, key)
            assert figure.chance is not None and figure.lift == pytest.approx(figure.value - figure.chance)


def test_yardsticks_stand_where_they_should(result):
    rule, metronome = row(result, DRUM_RULE).figures, row(result, METRONOME).figures
    assert rule["correlation"].value > metronome["correlation"].value + 0.15 and rule["ranking"].value > 0.95
    assert rule["correlation"].lift_interval[0] > 0 and rule["swell"].value > metronome["swell"].value
    assert metronome["hit_1s"].value == 1.0 > metronome["hit"].value and metronome["coverage_1s"].value >= 1.0
    assert metronome["pulse"].value > 0.85 > rule["pulse"].value


def test_the_bare_rule_makes_music_follow_that_does_not(result):
    strays, ruled = row(result, "strays").figures, row(result, BARE_RULE).figures
    assert ruled["hits"].value > strays["hits"].value + 0.15
    assert ruled["hits"].lift_interval[0] > 0.2
    assert ruled["correlation"].against["interval"][0] > 0.05 and ruled["ranking"].value > 0.9
    assert row(result, BARE_RULE).kind == "yardstick" and ruled["hits"].against["clips"] == 5


def test_hits_stand_beside_the_music_turned_and_beside_shuffled_pairs(result):
    follows = row(result, "follows").figures["hits"]
    assert follows.value > 0.9 and follows.lift_interval[0] > 0.3
    assert 0.1 < follows.chance < 0.6 and 0.1 < follows.shuffled < 0.6
    assert follows.record()["shuffled"] == pytest.approx(follows.shuffled, abs=1e-4)
    assert "shuffled" not in row(result, "follows").figures["hit"].record()


def test_without_a_baseline_the_bare_rule_is_laid_over_the_first_set(clips):
    sets = [MusicSet(name, tuple(music(clip, 9) for clip in clips.values())) for name in ("one", "two")]
    found = evaluate(clips, sets, MeasureOptions(("music",)))
    assert [row.name for row in found.rows] == ["one", "two", "bare rule over one", DRUM_RULE, METRONOME]


def test_dynamics_and_pulse_belong_to_the_sound_alone(clips):
    t = np.arange(int(DURATION_S * SAMPLE_RATE)) / SAMPLE_RATE
    even = 0.1 * np.sin(2 * np.pi * 1000 * t)
    loud = np.where(t % 1 < 0.5, 1.0, 0.1)  # 20 dB apart, each as long as a block of 0.4 s and more
    sets = [
        MusicSet(name, tuple(Cue(clip, np.tile(sound, (2, 1)).astype(np.float32)) for clip in clips))
        for name, sound in (("even", even), ("pumping", even * loud))
    ]
    found = evaluate(clips, sets, MeasureOptions(("music",), baselines=False))
    even_figures, pumping = (row(found, name).figures for name in ("even", "pumping"))
    assert even_figures["spread"].value == pytest.approx(0, abs=0.1) and even_figures["hole"].value == 0
    assert pumping["spread"].value == pytest.approx(20, abs=0.5) and 10 < pumping["hole"].value < 30
    assert all(figure.chance is None and len(figure.by_clip) == 5 for figure in pumping.values())
    assert set(pumping) == {"spread", "hole", "pulse"}


def test_settings_say_all_that_must_be_equal_to_compare(result):
    said = result.settings
    assert {"rate_hz": 50.0, "max_lag_s": 0.2, "bin_s": 0.2, "motion": ["made"]}.items() <= said.items()
    assert said["weak_bin_s"] == 1.0 and "15 dB" in said["spread"] and "0.1 s" in said["musical_accents"]
    assert said["bootstrap"]["seed"] == 0 and said["alignment_sigma_s"] == pytest.approx(0.05)


def test_the_same_evaluation_gives_the_same_figures(clips, result):
    follows = MusicSet("follows", tuple(music(clip, seed) for seed, clip in enumerate(clips.values())))
    again = evaluate(clips, [follows], MeasureOptions(("sync",), baselines=False))
    assert (
        again.rows[0].figures["correlation"].record()["interval"]
        == (row(result, "follows").figures["correlation"].record()["interval"])
    )


def test_several_takes_of_a_clip_are_one_clip(clips):
    cues = [music(clip, seed + take * 50, take) for seed, clip in enumerate(clips.values()) for take in (0, 1)]
    found = evaluate(clips, [MusicSet("two", tuple(cues))], MeasureOptions(("sync",), baselines=False)).rows[0]
    assert found.cues == 10 and len(found.clips) == 5 and len(found.figures["correlation"].by_clip) == 5


def test_a_single_clip_has_figures_but_no_ranking_and_says_so(clips):
    clip = clips["clip-0"]
    found = evaluate({clip.name: clip}, [MusicSet("one", (music(clip, 0),))], MeasureOptions(("sync",)))
    figures = found.rows[0].figures
    assert figures["correlation"].value > 0.4 and figures["correlation"].chance is None
    assert figures["correlation"].interval is None and "single clip" in figures["ranking"].missing
    assert any("no ranking" in note for note in found.notes) and "single clip" in report.text(found)


def test_a_clip_in_which_nobody_moves_is_left_out_of_beats_alone(clips):
    still = EvaluatedClip("still", made_clip(9).info, np.zeros(400, np.float32), "made")
    both = {**clips, "still": still}
    cues = [music(clip, seed) for seed, clip in enumerate(clips.values())] + [music(still, 9)]
    figures = evaluate(both, [MusicSet("all", tuple(cues))], MeasureOptions(("sync",), baselines=False)).rows[0].figures
    assert "still" not in figures["hit"].by_clip and figures["correlation"].by_clip["still"] == 0


def test_silent_music_follows_nothing_and_has_no_quality(clips):
    silent = MusicSet("silent", tuple(Cue(c.name, np.zeros((2, 8 * SAMPLE_RATE), np.float32)) for c in clips.values()))
    figures = (
        evaluate(clips, [silent], MeasureOptions(("sync", "quality"), baselines=False), reference=silent)
        .rows[0]
        .figures
    )
    assert figures["correlation"].value == figures["hit"].value == figures["alignment_music"].value == 0
    assert "silent" in figures["spectrum"].missing


def test_prompts_that_state_tempo_and_key_are_held_to(clips, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def cue(clip, bpm: float, words: str) -> Cue:
        return Cue(clip.name, baselines.strike(np.arange(0, 8, 60 / bpm), 8.0, SAMPLE_RATE), prompt=words)

    names = list(clips.values())
    right = [cue(clip, bpm, f"drums, {bpm} bpm") for clip, bpm in zip(names, (90, 110, 130, 150), strict=False)]
    found = evaluate(
        clips,
        [MusicSet("right", tuple(right))],
        MeasureOptions(("text",), weights=WeightsSource(None), baselines=False),
    )
    figures = found.rows[0].figures
    assert figures["tempo"].value == 1.0 and figures["tempo"].chance < 0.5
    assert figures["key"].missing == "no prompt states a key" and "needs" in figures["clap"].missing
    assert "synchformer" in figures["consistency"].missing


def test_pairs_and_ranking_of_a_known_matrix():
    matrix = np.array([[[0.9, 0.1, 0.2], [0.1, 0.8, 0.3], [0.2, 0.1, 0.7]]])
    figure = figure_of_pairs(matrix, ["a", "b", "c"], seed=0)
    assert figure.value == pytest.approx(0.8) and figure.chance == pytest.approx(1 / 6)
    assert ranking_of(matrix, seed=0).value == 1.0
    turned = beside_turned(figure, {"a": 0.2, "b": 0.3, "c": 0.1}, seed=0)
    assert (turned.value, turned.chance, turned.lift) == pytest.approx((0.8, 0.2, 0.6))
    assert turned.shuffled == figure.chance and turned.lift_interval[0] >= 0.5 - 1e-9
    nothing = figure_of_pairs(np.full((1, 3, 3), np.nan), ["a", "b", "c"], seed=0)
    assert beside_turned(nothing, {}, seed=0) is nothing
    assert nothing.value is None and "no clip has motion beats" in nothing.missing
    assert Figure(missing="why").record() == {"not_measured": "why"}


def test_text_says_values_intervals_chance_and_what_is_missing(result):
    text = report.text(result)
    figure = row(result, "follows").figures["correlation"]
    low, high = figure.interval
    assert f"{figure.value:.2f}* ({low:.2f} to {high:.2f}) [{figure.chance:.2f}]" in text
    assert "not measured: pitch-class entropy" in text and "Beside strays, clip by clip" in text
    assert max(map(len, text.splitlines())) <= 240 and "metronome" in text
    table = report.markdown(result, "sync", ["correlation", "ranking"])
    assert table.count("\n") == 1 + 5 and table.startswith("| set | clips | motion-onset r | own ranks higher |")


def test_text_has_a_table_of_dynamics_and_pulse_and_shows_what_hits_are_beside(result):
    lines = report.text(result).splitlines()
    start = lines.index("Dynamics and pulse")
    assert lines[start + 1].split() == ["set", "clips", "spread,", "dB", "holes,", "%", "pulse"]
    shown = [line.split("  ")[1] for line in lines[start + 2 : start + 7]]
    assert shown == ["follows", "strays", BARE_RULE, DRUM_RULE, METRONOME]
    assert "[" not in "".join(lines[start + 2 : start + 7]), "the sound alone has no chance level"
    hits = row(result, "follows").figures["hits"]
    low, high = hits.interval
    assert f"{hits.value:.2f}* ({low:.2f} to {high:.2f}) [{hits.chance:.2f}]" in "\n".join(lines)
    assert any("coverage, 1 s" in line and "hit, 1 s" in line for line in lines)


def test_json_holds_everything_and_is_plain(result):
    said = json.loads(json.dumps(report.as_record(result), allow_nan=False))
    assert [one["name"] for one in said["sets"]] == ["follows", "strays", BARE_RULE, DRUM_RULE, METRONOME]
    assert said["sets"][0]["figures"]["polyphony"] == {"not_measured": "no MIDI files beside the outputs (NAME.mid)"}
    assert said["metrics"]["hit"]["source"] and said["exit_code"] == 0 and said["baseline"] == "strays"


class Reader(HTMLParser):
    """Notices what is left open, and whatever would be loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.cells = [], [], 0

    def handle_starttag(self, tag, attributes):
        self.cells += tag == "td"
        self.loads += [v for k, v in attributes if k in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "br", "circle", "line", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open[-1:] == [tag]:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag != "p":
            while self.open and self.open[-1] == "p":
                self.open.pop()
            assert self.open and self.open.pop() == tag, (tag, self.open)


def test_the_page_is_one_whole_file_that_loads_nothing(result, tmp_path):
    path = page.write_page(tmp_path / "sub" / "page.html", result, "A <title> & more")
    text = path.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert not reader.open and not reader.loads and reader.cells > 40 and "http" not in text and "url(" not in text
    assert "Dynamics and pulse" in text and "human-composed music: 1.5 to 7.5" in text
    assert "A &lt;title&gt; &amp; more" in text and 'class="chance"' in text


@pytest.mark.long
def test_the_page_is_accessible_and_fits_the_screen(result, tmp_path, browser):
    from browsing import check_everywhere

    check_everywhere(browser, page.write_page(tmp_path / "page.html", result))


def test_the_page_escapes_every_string_that_came_from_a_file(result):
    evil = "<script>alert(1)</script>"
    rows = [replace(each, name=evil, clips=(evil, *each.clips)) for each in result.rows]
    settings = {**result.settings, "recipe": evil, "prompt": evil}
    said = replace(result, rows=rows, baseline=evil, notes=(evil,), failures=(ClipError(evil),), settings=settings)
    text = page.page(said, evil)
    assert "<script" not in text.lower() and text.count("&lt;script&gt;") >= 9


def test_motion_of_a_clip_is_taken_from_the_stream_asked_for(make_video, tmp_path):
    from expotion_cli.media.probe import probe

    info = probe(make_video(tmp_path / "one.mp4", duration_s=1.0))
    flow, plain = (measuring.prepare_clip("one", info, stream=stream) for stream in ("flow", measuring.PLAIN))
    assert len(flow.motion) == len(plain.motion) == 50 and plain.motion.max() > 0
    assert flow.stream.startswith("flow ") and "plain" in plain.stream
