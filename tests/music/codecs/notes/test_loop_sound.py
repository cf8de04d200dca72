"""A loop repeats as if it had been played again and again: its rings sound at its beginning."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.audio.filters import folded
from expotion_cli.music.codecs.notes.arrange import arrange
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.render import SAMPLE_RATE, Renderer
from expotion_cli.music.codecs.notes.soundfont import load_soundfont
from expotion_cli.music.codecs.notes.tokens import Event, chord_value
from expotion_cli.recipe import Follow
from expotion_cli.scoring.follow.layer import follow
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import make_plan
from expotion_cli.timing import Tempo

BARS, BAR_S = 2, 2.0
SETTINGS = SoundSettings(key=0, humanise=0.0, spread=0.0, ring=False, landing=False, reverb_s=1.2)


def events(times: int) -> dict[str, list[Event]]:
    """Chords that are held to the end of the bars, and a tune, so many times."""
    found: dict[str, list[Event]] = {"harmony": [], "melody": []}
    for turn in range(times):
        at = turn * BARS * 48
        found["harmony"] += [
            Event(at, at + 48, chord_value(0, "maj"), 1),
            Event(at + 48, at + 96, chord_value(7, "maj"), 1),
        ]
        found["melody"] += [Event(at + step, at + step + 12, 67 + step // 12, 2) for step in range(0, 96, 12)]
    return found


def played(times: int, *, is_loop: bool) -> np.ndarray:
    timeline = Tempo(Fraction(120), Fraction(0), 0.0).timeline(Fraction(int(times * BARS * BAR_S)))
    settings = replace(SETTINGS, is_loop=is_loop)
    arrangement = arrange(events(times), timeline, settings)
    return Renderer(load_soundfont()).render(arrangement, timeline, settings).audio


@pytest.fixture(scope="module")
def loop() -> np.ndarray:
    return played(1, is_loop=True)


def test_a_loop_sounds_like_any_repetition_of_the_same_bars(loop):
    size = round(BARS * BAR_S * SAMPLE_RATE)
    assert loop.shape == (2, size)
    third = played(4, is_loop=False)[:, 2 * size : 3 * size]
    assert np.abs(loop - third).max() < 0.02 * np.abs(third).max()
    alone = played(1, is_loop=False)
    assert np.abs(alone - third).max() > 0.05 * np.abs(third).max(), "without wrapping there is a difference"


def test_the_follow_layer_leaves_no_step_at_the_seam(loop):
    duration = Fraction(int(BARS * BAR_S))
    hits = [HitPoint(time, 0.9, "user", "made up") for time in (0.05, 1.1, 3.9)]
    plan = make_plan({}, duration, (120, 120), user_hits=hits)
    values = np.linspace(0.0, 1.0, len(plan.intensity.values))
    plan = replace(plan, intensity=replace(plan.intensity, values=tuple(np.minimum(values, values[::-1]) * 2)))
    grid = Tempo(Fraction(120), Fraction(0), 0.0).timeline(duration)

    def gain_db(is_loop: bool) -> np.ndarray:
        made = follow(loop, SAMPLE_RATE, plan, Follow(accents=()), grid=grid, tonic=0, is_loop=is_loop).audio
        power = [np.square(part[:, -1024:]).sum() for part in (made, loop)]
        power += [np.square(part[:, :1024]).sum() for part in (made, loop)]
        ends = 10 * np.log10(np.array(power[::2]) / np.array(power[1::2]))
        return abs(ends[0] - ends[1])

    assert gain_db(True) < 0.5 < gain_db(False)


def test_what_is_beyond_the_end_is_folded_over_the_beginning():
    sound = np.zeros((2, 25))
    sound[:, [3, 13, 23]] = 1, 2, 4
    assert folded(sound, 10)[0, 3] == 7 and folded(sound, 10).shape == (2, 10)
    assert folded(sound, 25) is sound
