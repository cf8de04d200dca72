"""Tokens in, the right notes out: register, key, chords, chasing, the ending, MIDI, settings."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import symusic

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.music.codecs.codec import Codec
from expotion_cli.music.codecs.notes.arrange import arrange, dynamics_curve, voice_chords
from expotion_cli.music.codecs.notes.codec import NoteCodec
from expotion_cli.music.codecs.notes.instruments import SOUNDING_VOICES, SoundSettings
from expotion_cli.music.codecs.notes.ringing import ring_on
from expotion_cli.music.codecs.notes.soundfont import default_soundfont, load_soundfont
from expotion_cli.music.codecs.notes.tokens import QUALITIES, VOICES, Event, chord_value, events_to_tokens
from expotion_cli.timing import Tempo, Timeline, beat_rate_hz

PLAIN = SoundSettings(key=0, humanise=0.0, spread=0.0, ring=False, landing=False)


def line(duration: float | str, bpm: int = 120, start: float | str = 0) -> Timeline:
    return Timeline(Fraction(duration), beat_rate_hz(bpm), Fraction(start))


def test_the_note_codec_is_a_codec_on_the_beat_grid() -> None:
    codec = NoteCodec()
    assert isinstance(codec, Codec)
    assert (codec.num_codebooks, codec.vocab_size, codec.bar_steps, codec.follows_tempo) == (8, 194, 48, True)
    timeline = codec.timeline(Fraction(10), Tempo(Fraction(97), Fraction(-1, 2), 1.0))
    assert timeline.rate_hz == Fraction(97 * 12, 60) and timeline.start == Fraction(-1, 2)
    assert timeline.num_steps == 204  # 10.5 s of 19.4 steps, rounded up


def test_chords_hold_all_their_tones_in_a_middle_register_and_move_smoothly() -> None:
    chords = [(root, QUALITIES[name]) for name in QUALITIES for root in (0, 9, 5, 7, 2, 10, 4, 11)]
    voiced = voice_chords(chords)
    for (root, intervals), pitches in zip(chords, voiced, strict=True):
        assert {pitch % 12 for pitch in pitches} == {(root + interval) % 12 for interval in intervals}
        assert len(set(pitches)) == 4 and pitches[0] >= 51 and pitches[-1] <= 77
    steps = [abs(b - a) for one, two in itertools.pairwise(voiced) for a, b in zip(one, two, strict=True)]
    assert np.mean(steps) < 3 and max(steps) <= 9


def test_a_repeated_chord_keeps_its_place() -> None:
    voiced = voice_chords([(0, (0, 4, 7)), (5, (0, 4, 7)), (0, (0, 4, 7)), (0, (0, 4, 7))])
    assert voiced[2] == voiced[3]


def test_dynamics_swell_within_a_sixteenth_and_reach_their_level_at_the_event() -> None:
    curve = dynamics_curve([Event(0, 48, 1), Event(48, 96, 7)], 96)
    assert curve[0] == curve[45] == 1 and curve[48] == curve[96] == 7
    assert np.all(np.diff(curve) >= 0) and np.allclose(np.diff(curve[45:49]), 2)


def test_between_the_levels_that_a_sketch_uses_lie_less_than_ten_decibels() -> None:
    events = {
        "dynamics": [Event(0, 48, 3), Event(48, 96, 7)],
        "drums": [Event(step, step + 1, 1, 2) for step in range(0, 96, 12)],
        "melody": [Event(step, step + 12, 72, 2) for step in range(0, 96, 12)],
    }
    arrangement = arrange(events, line(4), PLAIN)
    for name in ("drums", "melody"):
        soft, loud = (arrangement.notes[name][place].velocity for place in (0, 5))
        change_db = 40 * np.log10(arrangement.control[60] / arrangement.control[0] * loud / soft)
        assert 5 < change_db < 10 and soft < loud
    assert arrangement.control.argmax() >= 48 and (np.diff(arrangement.control) >= 0).all()


def test_the_last_chord_falls_on_the_hardest_strike_that_leaves_it_time_to_ring() -> None:
    beats = {"melody": [Event(step, step + 6, 72, 1) for step in range(0, 240, 12)]}
    hardest = {**beats, "drums": [Event(step, step + 1, 1, 3 * (step == 222)) for step in (214, 222, 228)]}
    for events, landing in ((hardest, 222), (beats, 216)):
        arrangement = arrange(events, line(10), SoundSettings(key=0, humanise=0.0, spread=0.0))
        assert max(note.start for note in arrangement.notes["melody"]) == landing


def test_the_voices_of_an_ensemble_lie_apart_in_sound_but_not_on_paper() -> None:
    events = {"melody": [Event(0, 12, 72, 2)], "figure": [Event(0, 12, 60, 2)], "harmony": [Event(0, 48, 0)]}
    tight, loose = (
        arrange(events, line(4), SoundSettings(humanise=0.0, landing=False, spread=spread)).notes
        for spread in (0.0, 1.0)
    )
    assert all(note.shift_s == 0 for notes in tight.values() for note in notes)
    assert loose["melody"][0].shift_s < 0 < loose["figure"][0].shift_s
    strum = [note.shift_s for note in loose["harmony"] if note.start == 0]
    assert strum == sorted(strum) and 0.02 < strum[-1] < 0.06
    starts = [{note.start for notes in found.values() for note in notes} for found in (tight, loose)]
    assert starts == [{0.0, 48.0}] * 2


def test_accents_are_struck_together_however_far_the_voices_lie_apart() -> None:
    events = {"melody": [Event(0, 12, 72, 3)], "figure": [Event(0, 12, 60, 3)], "harmony": [Event(0, 48, 0, 1)]}
    notes = arrange(events, line(4), SoundSettings(humanise=1.0, landing=False, spread=1.0)).notes
    assert {note.shift_s for found in notes.values() for note in found if note.start == 0} == {0.0}


def test_key_and_octave_transpose_pitched_voices_but_not_drums(piece) -> None:
    timeline = line(4)
    home = arrange(piece(2), timeline, PLAIN)
    table = {"sound": {"key": "D", "humanise": 0.0, "landing": False}, "voices": {"melody": {"octave": -1}}}
    moved = arrange(piece(2), timeline, SoundSettings.from_table(table))
    for name, shift in (("figure", 2), ("melody", -10), ("drums", 0)):
        assert [n.pitch + shift for n in home.notes[name]] == [n.pitch for n in moved.notes[name]], name
    assert {(n.pitch + 2) % 12 for n in home.notes["harmony"]} == {n.pitch % 12 for n in moved.notes["harmony"]}


def test_notes_sounding_before_the_picture_are_struck_again_only_if_enough_is_left() -> None:
    timeline = line(4, start="-3/4")  # the picture begins at step 18
    events = {
        "melody": [Event(0, 36, 72, 2)],  # 0.75 s are left
        "bass": [Event(0, 20, 36, 2)],  # 0.08 s are left
        "figure": [Event(0, 12, 60, 2), Event(24, 30, 64, 2)],  # over before it
        "drums": [Event(12, 24, 1, 2), Event(24, 36, 2, 2)],
    }
    notes = arrange(events, timeline, PLAIN).notes
    assert [(n.start, n.end) for n in notes["melody"]] == [(18.0, 36.0)]
    assert "bass" not in notes
    assert [n.start for n in notes["figure"]] == [24.0] and [n.start for n in notes["drums"]] == [24.0]


@pytest.mark.parametrize("minor", [False, True])
def test_the_ending_lands_on_the_tonic_shortly_before_the_end(piece, minor: bool) -> None:
    timeline = line("9.3", bpm=96)
    events = piece(4)
    if minor:
        events["harmony"] = [Event(e.start, e.end, chord_value(0, "min"), 1) for e in events["harmony"]]
    arrangement = arrange(events, timeline, SoundSettings(key=2, humanise=0.0))
    assert arrangement.minor == minor
    last = max(note.start for note in arrangement.notes["bass"])
    assert last % 6 == 0 and 0.45 <= 9.3 - last / float(timeline.rate_hz) <= 1.4
    final = {name: [n for n in notes if n.start >= last] for name, notes in arrangement.notes.items()}
    triad = {2, 5, 9} if minor else {2, 6, 9}
    assert {n.pitch % 12 for n in final["harmony"]} == triad
    assert [n.pitch % 12 for n in final["bass"]] == [2]
    assert final["melody"][0].pitch % 12 in triad
    assert {n.pitch for n in final["drums"]} == {36, 49}
    assert final["percussion"] == [] and all(n.start == last for notes in final.values() for n in notes)
    assert all(n.end >= 9.3 * float(timeline.rate_hz) - 1 for n in final["harmony"] + final["melody"])
    assert all(n.end <= last for notes in arrangement.notes.values() for n in notes if n.start < last)


def test_a_silent_voice_does_not_join_the_landing_and_short_clips_have_none(piece) -> None:
    events = piece(4)
    events["melody"] = events["melody"][:3]
    arrangement = arrange(events, line(8), SoundSettings(key=0))
    assert len(arrangement.notes["melody"]) == 3
    short, plain = (
        arrange(piece(1), line("0.9"), v) for v in (SoundSettings(key=0, humanise=0.0, spread=0.0, ring=False), PLAIN)
    )
    assert short.notes == plain.notes and np.array_equal(short.control, plain.control)


def test_unused_voices_and_foreign_tokens_do_no_harm() -> None:
    timeline = line(1)
    tokens = np.random.default_rng(0).integers(0, 194, (8, timeline.num_steps + 7))
    rendering = NoteCodec().decode(tokens, timeline, SoundSettings(), seed=1)
    assert np.isfinite(rendering.audio).all() and rendering.audio.shape == (2, 44100)
    silent = NoteCodec().decode(events_to_tokens({}, timeline.num_steps), timeline)
    assert not silent.audio.any() and symusic.Score.from_midi(silent.midi).note_num() == 0


@pytest.mark.parametrize(
    ("table", "near"),
    [
        ({"sound": {"reverbs": 1.0}}, "sound.reverb_s"),
        ({"voices": {"melodie": {}}}, "voices.melody"),
        ({"voices": {"bass": {"gain": 2}}}, "voices.bass.gain_db"),
        ({"sounds": {}}, "sound"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(table: dict, near: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        SoundSettings.from_table(table)


@pytest.mark.parametrize(
    "table",
    [
        {"sound": {"key": "H"}},
        {"sound": {"humanise": 2}},
        {"sound": {"air_db": 13}},
        {"sound": {"lowpass_hz": 90}},
        {"sound": {"landing": "yes"}},
        {"voices": {"bass": {"program": 128}}},
        {"voices": {"bass": {"pan": "left"}}},
        {"voices": {"bass": 3}},
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(table: dict) -> None:
    where = next(iter(table.values()))
    with pytest.raises(UsageError, match=next(iter(where))):
        SoundSettings.from_table(table)


def test_keys_fold_around_c_and_auto_depends_on_the_seed_alone() -> None:
    names = {"C": 0, "F#": 6, "G": -5, "A": -3, "Bb": -2, "Eb": 3, "F": 5, "d": 2}
    for name, semitones in names.items():
        assert SoundSettings.from_table({"sound": {"key": name}}).tonic == semitones
    drawn = {seed: SoundSettings(seed=seed).tonic for seed in range(40)}
    assert drawn == {seed: SoundSettings(seed=seed).tonic for seed in range(40)}
    assert len(set(drawn.values())) >= 5 and all(-5 <= tonic <= 6 for tonic in drawn.values())


def test_every_sounding_voice_has_a_default_sound() -> None:
    assert set(SoundSettings().sounds) == set(SOUNDING_VOICES) == {v.name for v in VOICES} - {"dynamics"}
    kit = SoundSettings.from_table({"sound": {"kit": 25}, "voices": {"percussion": {"program": 8}}}).sounds
    assert kit["drums"].program == 25 and kit["percussion"].program == 8


@pytest.mark.parametrize(("tonic", "timpani"), [(0, (48, 43)), (2, (50, 45)), (-5, (43, 50)), (3, (51, 46))])
def test_the_orchestra_kit_plays_toms_on_timpani_in_the_cues_key_and_cymbals_on_its_own_keys(tonic, timpani) -> None:
    events = {
        "drums": [Event(0, 12, 0b01001), Event(12, 24, 0b10100)],
        "percussion": [Event(0, 12, 0b00111), Event(12, 24, 0b11000)],
    }

    def keys(kit: int) -> list[set[int]]:
        settings = replace(PLAIN, kit=kit, key=tonic)
        notes = arrange(events, line(4), settings).notes
        return [{n.pitch for n in notes[v] if n.start == s} for v in ("drums", "percussion") for s in (0, 12)]

    low, high = timpani
    assert keys(0) == keys(8) == [{36, 48}, {45, 49}, {42, 46, 51}, {54, 39}]
    assert keys(48) == [{36, high}, {low, 57}, {27, 29, 30}, {54, 39}]


def test_missing_and_broken_soundfonts_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such soundfont"):
        NoteCodec(tmp_path / "none.sf2")
    text, short = tmp_path / "text.sf2", tmp_path / "short.sf2"
    text.write_text("not a soundfont at all, only words")
    short.write_bytes(default_soundfont().read_bytes()[:500_000])
    for path in (text, short):
        with pytest.raises(WeightsError, match="Not a complete SoundFont"):
            NoteCodec(path)


def test_the_default_soundfont_is_found_and_loaded_once() -> None:
    assert load_soundfont() is load_soundfont(default_soundfont())
    assert NoteCodec().digest == NoteCodec(default_soundfont()).digest


def test_what_sounded_last_rings_on_through_silence_and_a_cue_opens_with_its_first_chord() -> None:
    events = {
        "harmony": [Event(48, 60, 8, 1), Event(120, 132, 40, 0)],
        "melody": [Event(60, 72, 72, 2), Event(140, 150, 74, 2)],
        "drums": [Event(90, 91, 1, 2)],
    }
    rung = ring_on(events, 192, 48)
    assert [(e.start, e.end, e.value) for e in rung["harmony"]] == [(0, 48, 8), (48, 60, 8), (120, 132, 40)]
    assert [(e.start, e.end) for e in rung["melody"]] == [(60, 96), (96, 120), (140, 192)]
    assert rung["harmony"][-1].end == 132, "gaps below a beat stay"
    assert rung["drums"] == events["drums"] and len(events["harmony"]) == 2
    assert ring_on({"drums": events["drums"]}, 192, 48) == {"drums": events["drums"]}


def test_what_is_held_long_while_nothing_begins_is_struck_again_at_bar_lines() -> None:
    events = {"counter": [Event(6, 192, 65, 3)], "drums": [Event(60, 61, 1, 2)]}
    rung = ring_on(events, 192, 48)["counter"]
    assert [(e.start, e.end, e.velocity) for e in rung] == [(6, 48, 3), (48, 96, 0), (96, 144, 0), (144, 192, 0)]
    chord = {"harmony": [Event(0, 150, 8, 1)], "counter": [Event(0, 192, 65, 3)], "melody": [Event(100, 192, 72, 2)]}
    rung = ring_on(chord, 192, 48)
    assert [(e.start, e.end) for e in rung["harmony"]] == [(0, 48), (48, 150)], "of several the chord"
    assert [(e.start, e.end) for e in rung["counter"]] == [(0, 144), (144, 192)], "once the chord is over, another"
    assert rung["melody"] == chord["melody"]
    alone = {"harmony": [Event(0, 24, 8, 1)], "counter": [Event(20, 192, 65, 3)]}
    rung = ring_on(alone, 192, 48)
    assert [(e.start, e.end, e.value) for e in rung["harmony"][1:]] == [(48, 96, 8), (96, 144, 8), (144, 192, 8)]
    assert rung["counter"] == alone["counter"], "the last chord comes back under a note that is held alone"
    busy = {"melody": [Event(24 * n, 24 * n + 24, 72, 2) for n in range(8)], "bass": [Event(0, 192, 36, 2)]}
    assert ring_on(busy, 192, 48) == busy


def test_a_cue_that_is_soft_throughout_is_played_at_a_middle_level_and_keeps_its_shape() -> None:
    soft, loud = (
        arrange(
            {"dynamics": [Event(0, 48, low), Event(48, 96, low + 1)], "melody": [Event(0, 96, 72, 2)]}, line(4), PLAIN
        ).control
        for low in (0, 4)
    )
    assert np.allclose(soft, loud) and soft[-1] > soft[0]
