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
from expotion_cli.music.codecs.notes.tokens import Event
from expotion_cli.recipe import Follow
from expotion_cli.scoring.follow.layer import follow
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import make_plan
from expotion_cli.timing import Tempo

BARS, BAR_S = 2, 2.0
SETTINGS = SoundSettings(key=0, humanise=0.0, spread=0.0, ring=False, landing=False, reverb_s=1.2)


def events(times: int) -> dict[str, list[Event]]:
    """A note that is held to the end of the bars, and a tune, so many times."""
    found: dict[str, list[Event]] = {"counter": [], "melody": []}
    for turn in range(times):
        at = turn * BARS * 48
        found["counter"].append(Event(at, at + 96, 60, 2))
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


def test_the_follow_layer_leaves_no_step_at_the_seam():
    duration = Fraction(int(BARS * BAR_S))
    at = np.arange(int(BARS * BAR_S) * SAMPLE_RATE) / SAMPLE_RATE
    tone = np.repeat((np.sin(2 * np.pi * 300 * at) * np.where(at < 2, 0.5, 0.05))[None], 2, axis=0).astype(np.float32)
    hits = [HitPoint(time, 0.9, "user", "made up") for time in (0.15, 1.1, 3.5)]
    plan = make_plan({}, duration, (120, 120), user_hits=hits)
    grid = Tempo(Fraction(120), Fraction(0), 0.0).timeline(duration)

    def step_db(is_loop: bool) -> float:
        """How far the gain at the beginning is from that at the end."""
        made = follow(tone, SAMPLE_RATE, plan, Follow(accents=()), grid=grid, tonic=0, is_loop=is_loop).audio
        first, last = (
            np.square(made[:, part]).sum() / np.square(tone[:, part]).sum() for part in (np.s_[:441], np.s_[-441:])
        )
        return abs(float(10 * np.log10(first / last)))

    assert step_db(True) < 1.0 < 3.0 < step_db(False)


def test_peaks_near_the_seam_are_softened_on_both_sides_of_it():
    tone = np.repeat(0.05 * np.sin(2 * np.pi * 100 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE)[None], 2, axis=0)
    tone[:, -3000:-2000] *= 12
    sound = tone.astype(np.float32)
    plan = make_plan({}, Fraction(4), (120, 120))

    def step_db(is_loop: bool) -> float:
        made = follow(sound, SAMPLE_RATE, plan, Follow(accents=(), dynamics_db=0), tonic=0, is_loop=is_loop).audio
        first, last = (
            np.square(made[:, at]).sum() / np.square(sound[:, at]).sum() for at in (np.s_[:441], np.s_[-441:])
        )
        return abs(float(10 * np.log10(first / last)))

    assert step_db(True) < 1.5 and step_db(True) < 0.5 * step_db(False)


def test_what_is_beyond_the_end_is_folded_over_the_beginning():
    sound = np.zeros((2, 25))
    sound[:, [3, 13, 23]] = 1, 2, 4
    assert folded(sound, 10)[0, 3] == 7 and folded(sound, 10).shape == (2, 10)
    assert folded(sound, 25) is sound
