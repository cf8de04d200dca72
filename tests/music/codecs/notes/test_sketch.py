"""The sketch: form, entries, rhythm, answers, key and metre, settled before the decoder draws."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.music.codecs.notes.form import bar_intensity, plan_form
from expotion_cli.music.codecs.notes.groove import groove_names
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.passage import Passage
from expotion_cli.music.codecs.notes.sketch import DECODER_BAR, Sketch, sketch, strikes_on_grid
from expotion_cli.music.codecs.notes.tokens import HOLD, REST, VOICE_INDEX
from expotion_cli.music.generate.constraints import DRAWN, NO_SOURCE
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.spotting.sections import Intensity, Section
from expotion_cli.timing import METRES, Tempo

MUTABLE = ("harmony", "drums", "percussion", "bass", "figure", "melody", "counter")


def plan_of(
    seconds: float, intensity=lambda t: 0.7, hits=(), sections=(), metre: str = "4/4", bpm: int = 120
) -> CuePlan:
    times = np.arange(int(seconds * 10)) / 10
    values = tuple(float(intensity(t)) for t in times)
    tempo = Tempo(Fraction(bpm), Fraction(0), 0.5, metre=metre)
    return CuePlan(
        seconds,
        tempo,
        Intensity(10.0, values, (), "made up"),
        hits=tuple(HitPoint(t, w, "gesture", "made up") for t, w in hits),
        sections=tuple(Section(a, b, 0.5, "made up") for a, b in sections),
    )


def drawn(plan: CuePlan, muted=(), density: str = "", **options) -> Sketch:
    voices = tuple((name, replace(sound, mute=name in muted)) for name, sound in SoundSettings().voices)
    settings = {
        "passages": [Passage(0, SoundSettings(voices=voices), density)],
        "is_minor": None,
        "answers": 1.0,
        "groove": "cinematic",
        "seed": 1,
        **options,
    }
    return sketch(plan, plan.tempo.timeline(Fraction(plan.duration_s)), **settings)


def row(found: Sketch, name: str) -> np.ndarray:
    return found.constraints.given[VOICE_INDEX[name]]


def allowed(found: Sketch, name: str, step: int) -> np.ndarray:
    constraints = found.constraints
    return constraints.masks[constraints.mask_of[VOICE_INDEX[name], step]]


def test_more_voices_play_where_more_moves_and_their_levels_stay_close():
    found = drawn(plan_of(32, lambda t: 0.05 if t < 16 else 0.95))
    resting = {name: (row(found, name) == REST).sum() for name in ("bass", "figure", "melody", "counter")}
    assert resting["counter"] > resting["figure"] > 0
    calm, full = slice(96, 300), slice(480, 700)
    drums = np.concatenate([row(found, name)[None] for name in ("drums", "percussion")])
    assert (drums[:, full] > HOLD).sum() > 2 * (drums[:, calm] > HOLD).sum() > 0, "the groove goes on, thinner"
    dynamics = notes.tokens_to_events(np.where(found.constraints.given == DRAWN, HOLD, found.constraints.given))
    levels = [event.value for event in dynamics["dynamics"]]
    assert max(levels) - min(levels) <= 3 and levels[0] < max(levels)


def test_every_voice_that_plays_strikes_at_a_hit_point_and_keeps_still_around_it():
    found = drawn(plan_of(16, hits=[(5.0, 0.9), (9.02, 0.8)]))
    assert [strike.step for strike in found.strikes] == [120, 216], "on the nearest sixteenth"
    for step in (120, 216):
        for name in ("harmony", "bass", "figure", "melody"):
            here = row(found, name)
            assert here[step] == DRAWN and found.constraints.source[VOICE_INDEX[name], step] == NO_SOURCE
            assert not np.isin(here[[step - 2, step - 1, step + 1, step + 2]], [DRAWN]).any()
            tokens = np.flatnonzero(allowed(found, name, step))
            velocities = {notes.read_token(notes.VOICES[VOICE_INDEX[name]], int(token))[1] for token in tokens}
            assert velocities == {1 if name == "harmony" else 3}, name
        assert row(found, "drums")[step] > HOLD
        before = row(found, "bass")[step - 5 : step]
        assert REST in before, "a gap before a heavy one"
    quiet = allowed(found, "melody", 100)
    loud = [t for t in np.flatnonzero(quiet) if (notes.read_token(notes.VOICES[6], int(t)) or (0, 0))[1] == 3]
    assert not loud, "nothing else is as strong"


def test_answers_can_be_fewer_or_none():
    plan = plan_of(16, hits=[(2.0, 0.2), (5.0, 0.9), (9.0, 0.5)])
    timeline = plan.tempo.timeline(Fraction(16))
    assert [len(strikes_on_grid(plan, timeline, share)) for share in (1.0, 0.6, 0.2, 0.0)] == [3, 2, 1, 0]


def test_hit_points_that_crowd_are_thinned_to_about_one_a_second_the_heaviest_first():
    crowd = plan_of(10, hits=[(0.25 * n, 0.3 + 0.6 * (n % 4 == 0)) for n in range(1, 40)])
    strikes = strikes_on_grid(crowd, crowd.tempo.timeline(Fraction(10)), 1.0)
    assert len(strikes) <= 11 and sum(strike.weight > 0.8 for strike in strikes) == 9
    assert (np.diff([strike.step for strike in strikes]) >= 6).all()


def test_a_long_cue_has_an_opening_and_a_theme_that_returns_at_section_starts():
    plan = plan_of(240, lambda t: 0.5 + 0.3 * np.sin(t / 20), sections=[(0, 60), (60, 130), (130, 240)])
    bars = plan_form(plan, plan.tempo.timeline(Fraction(240)))
    assert len(bars) == 120 and [bar.is_opening for bar in bars[:5]] == [True] * 4 + [False]
    starts = [number for number, bar in enumerate(bars) if bar.starts_section]
    assert {30, 65} <= set(starts) and max(np.diff([*starts, 120])) <= 12
    returning = [bars[start].melody_from for start in starts[1:]]
    assert returning.count(4) >= 4, "the first theme comes back"
    assert all(bar.melody_from is None or bar.melody_from < number for number, bar in enumerate(bars))
    free = [bar.melody_from is None for bar in bars]
    assert sum(free) > 30, "and is continued anew"


def test_a_cue_of_a_few_bars_repeats_its_first_ones():
    plan = plan_of(10)
    bars = plan_form(plan, plan.tempo.timeline(Fraction(10)))
    assert [bar.melody_from for bar in bars] == [None, None, 0, None, None]


def test_without_contrast_in_the_picture_the_cue_rises_to_a_peak_and_comes_down():
    flat = plan_of(64, lambda t: 0.5)
    rising = bar_intensity(flat, flat.tempo.timeline(Fraction(64)))
    assert 0.7 < rising.argmax() / len(rising) < 0.85 and rising[0] < 0.5 and rising[-1] < rising.max() - 0.1
    moving = plan_of(64, lambda t: float(t % 16 > 8))
    followed = bar_intensity(moving, moving.tempo.timeline(Fraction(64)))
    wanted = [moving.intensity.at(np.linspace(2 * n, 2 * n + 2, 9)).mean() for n in range(32)]
    assert np.corrcoef(followed, wanted)[0, 1] > 0.9


def test_muted_voices_rest_throughout_and_another_leads():
    found = drawn(plan_of(16, lambda t: 0.1), muted=("harmony", "drums", "percussion", "bass", "counter"))
    for name in ("harmony", "drums", "percussion", "bass", "counter"):
        assert set(np.unique(row(found, name))) <= {REST, HOLD} and row(found, name)[0] == REST, name
    bars = row(found, "melody")[: 8 * 48].reshape(8, 48)
    assert (bars == DRAWN).any(axis=1).all(), "it plays on where little moves"
    silent = drawn(plan_of(8), muted=MUTABLE)
    assert all(row(silent, name)[0] == REST for name in MUTABLE)


@pytest.mark.parametrize(("is_minor", "third"), [(True, 3), (False, 4)])
def test_a_mode_leaves_its_own_notes_and_chords_alone_and_the_cue_begins_on_its_tonic(is_minor, third):
    found = drawn(plan_of(16), is_minor=is_minor)
    first = allowed(found, "harmony", 0)
    for token in np.flatnonzero(first):
        root, intervals = notes.chord_pitches(notes.read_token(notes.VOICES[1], int(token))[0])
        assert root == 0 and intervals[1] == third
    melody = allowed(found, "melody", 60)
    classes = {
        onset[0] % 12
        for token in np.flatnonzero(melody)
        if (onset := notes.read_token(notes.VOICES[6], int(token))) is not None
    }
    assert third in classes and 7 - third not in classes


def classes_of(found, name, step):
    """(pitch classes, or roots of chords, that may be struck; whether nothing may be struck)."""
    voice = notes.VOICES[VOICE_INDEX[name]]
    onsets = [notes.read_token(voice, int(token)) for token in np.flatnonzero(allowed(found, name, step))]
    struck = [onset[0] for onset in onsets if onset is not None]
    roots = {notes.chord_pitches(value)[0] if name == "harmony" else value % 12 for value in struck}
    return roots, len(struck) < len(onsets)


def test_chords_and_bass_say_the_key_with_every_half_phrase_and_the_tune_where_there_are_no_chords():
    found = drawn(plan_of(120, lambda t: 0.9), is_minor=True)
    starts = [number for number, bar in enumerate(found.bars) if bar.place % 4 == 0 and bar.harmony_from is None]
    assert len(starts) >= 2
    for number in starts:
        for name in ("harmony", "bass"):
            assert classes_of(found, name, 48 * number) == ({0}, False), name
    assert len(classes_of(found, "harmony", 48 * (starts[-1] + 1))[0]) > 3, "between them chords move"
    alone = drawn(plan_of(120, lambda t: 0.9), is_minor=True, muted=("harmony", "bass", "drums", "percussion"))
    struck = [48 * number for number in starts if row(alone, "melody")[48 * number] == DRAWN]
    assert struck
    for step in struck:
        assert classes_of(alone, "melody", step)[0] == {0, 3, 7}


def test_a_voice_that_the_cue_never_gets_busy_enough_for_enters_in_its_busiest_bars_with_a_note():
    found = drawn(plan_of(24, lambda t: 0.02 * t))
    bars = row(found, "counter")[: 12 * 48].reshape(12, 48)
    playing = [number for number, bar in enumerate(bars) if (bar == DRAWN).any()]
    intensities = [bar.intensity for bar in found.bars]
    assert 2 <= len(playing) <= 3 and int(np.argmax(intensities)) in playing
    assert not classes_of(found, "counter", 48 * playing[0])[1], "it can't keep still there"


@pytest.mark.parametrize("metre", list(METRES))
@pytest.mark.parametrize("groove", groove_names())
def test_every_groove_sketches_every_metre(metre, groove):
    plan = plan_of(12, hits=[(4.0, 0.8)], metre=metre)
    found = drawn(plan, groove=groove)
    timeline = plan.tempo.timeline(Fraction(12))
    if metre == "4/4":
        assert found.layout is None and found.constraints.given.shape[1] == timeline.num_steps
        return
    assert found.layout is not None
    assert (np.diff(found.layout) >= 0).all() and set(found.layout) == set(range(timeline.num_steps))
    assert found.layout[DECODER_BAR] == 36, "a bar of the decoder's stands for one of three quarters"
    cut = np.flatnonzero(np.diff(found.layout, prepend=-1) == 0)
    assert (found.constraints.given[:, cut] == HOLD).all()


def test_what_returns_comes_from_the_same_step_of_an_earlier_bar_in_any_metre():
    for metre in METRES:
        found = drawn(replace(plan_of(10, metre=metre), hits=()))
        source = found.constraints.source[VOICE_INDEX["melody"]]
        places = np.flatnonzero(source != NO_SOURCE)
        assert len(places) >= 30
        assert ((places - source[places]) % DECODER_BAR == 0).all()
