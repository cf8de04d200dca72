"""MIDI files for composers: read by three libraries, laid beside the sound."""

from __future__ import annotations

import io
import itertools
from fractions import Fraction

import mido
import numpy as np
import pretty_midi
import pytest
import symusic

from expotion_cli.music.codecs.notes.arrange import arrange
from expotion_cli.music.codecs.notes.codec import NoteCodec
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.midi import to_midi
from expotion_cli.music.codecs.notes.tokens import VOICES, Event, events_to_tokens, tokens_to_events
from expotion_cli.timing import Timeline, beat_rate_hz

BENDS = ((0.0, 1.0), (2.0, 1.03), (5.0, 0.98), (9.0, 1.01))
LINES = [
    Timeline(Fraction(10), beat_rate_hz(100)),
    Timeline(Fraction(10), beat_rate_hz(100), Fraction("-1/2")),
    Timeline(Fraction(10), beat_rate_hz(93), Fraction("-1.9"), BENDS),
    Timeline(Fraction(10), beat_rate_hz(120), Fraction("-1.37"), BENDS, "3/4"),
    Timeline(Fraction(10), beat_rate_hz(84), Fraction("-0.61"), (), "6/8"),
    Timeline(Fraction(10), beat_rate_hz(120), Fraction("-1.995")),  # the bar ends 5 ms after the first frame
    Timeline(Fraction(1, 4), beat_rate_hz(60), Fraction("-1")),
]
IDS = ["even", "half a second in", "bent", "three", "six", "a sliver of a bar", "a quarter of a second"]


def voicing(seed: int = 5, **sound: object) -> SoundSettings:
    table = {
        "sound": {"key": "Bb", "humanise": 1.0, **sound},
        "voices": {"melody": {"program": 73}, "bass": {"pan": -1}},
    }
    return SoundSettings.from_table(table, seed)


def sounding_s(tokens: np.ndarray, timeline: Timeline, settings: SoundSettings) -> dict[str, list[tuple[float, int]]]:
    """(seconds, key) of every note of a voice, as the renderer plays it."""
    notes = arrange(tokens_to_events(tokens[:, : timeline.num_steps]), timeline, settings).notes
    return {
        name: sorted((max(0.0, float(timeline.time_of(note.start)) + note.shift_s), note.pitch) for note in found)
        for name, found in notes.items()
    }


@pytest.mark.parametrize("timeline", LINES, ids=IDS)
def test_notes_stand_where_they_sound(piece_tokens, timeline) -> None:
    settings, tokens = voicing(), piece_tokens(timeline.num_steps)
    made = pretty_midi.PrettyMIDI(io.BytesIO(NoteCodec().decode(tokens, timeline, settings).midi))
    read = {part.name.partition(":")[0]: part for part in made.instruments}
    wanted = sounding_s(tokens, timeline, settings)
    assert set(read) == set(wanted)
    for name, notes in wanted.items():
        found = sorted((note.start, note.pitch) for note in read[name].notes)
        assert len(found) >= 0.9 * len(notes) > 0
        for start_s, pitch in found:
            assert min(abs(start_s - time_s) for time_s, key in notes if key == pitch) < 0.010, name
        assert max(note.end for note in read[name].notes) <= float(timeline.duration) + 0.010


@pytest.mark.parametrize("timeline", LINES, ids=IDS)
def test_bar_lines_fall_where_the_musics_bars_begin(piece_tokens, timeline) -> None:
    midi = NoteCodec().decode(piece_tokens(timeline.num_steps), timeline, voicing()).midi
    made = pretty_midi.PrettyMIDI(io.BytesIO(midi))
    bars = timeline.time_of(np.arange(0, timeline.num_steps, timeline.bar_steps))
    bars = bars[bars > 0]
    changes = made.time_signature_changes
    metre = tuple(int(text) for text in timeline.metre.split("/"))
    assert (changes[-1].numerator, changes[-1].denominator) == metre and len(changes) <= 2
    tick, length = int(made.time_to_tick(changes[-1].time)), 480 * 4 * metre[0] // metre[1]
    lines = np.array([made.tick_to_time(tick + n * length) for n in range(12)])
    for bar_s in bars:
        assert np.abs(lines - bar_s).min() < 0.012


def test_the_file_says_who_plays_in_which_key_and_on_which_channel(piece_tokens) -> None:
    timeline = LINES[1]
    midi = (
        NoteCodec()
        .decode(
            piece_tokens(timeline.num_steps), timeline, voicing(), marks=[(2.5, "hit: gesture 0.8"), (99, "too late")]
        )
        .midi
    )
    score = symusic.Score.from_midi(midi)
    assert score.key_signatures[0].key == -2 and score.key_signatures[0].tonality == 0
    assert {(mark.text, mark.time) for mark in score.markers} >= {("picture starts", 0)}
    file = mido.MidiFile(file=io.BytesIO(midi))
    assert file.type == 1 and abs(file.length - 10) < 0.1
    seconds = {mark.text: float(score.to("second").markers[n].time) for n, mark in enumerate(score.markers)}
    assert seconds["hit: gesture 0.8"] == pytest.approx(2.5, abs=0.002) and "too late" not in seconds
    assert seconds["picture ends"] == pytest.approx(10, abs=0.002)
    tracks = {track.name: track for track in file.tracks}
    assert {"melody: flute", "drums: Standard kit", "percussion: Standard kit"} <= set(tracks)
    for name, track in tracks.items():
        channels = {message.channel for message in track if not message.is_meta}
        if name.startswith("tempo"):
            assert not channels
            continue
        assert len(channels) == 1 and (channels == {9}) == name.startswith(("drums", "percussion"))
        kinds = [(m.type, getattr(m, "control", None)) for m in track if not m.is_meta][:3]
        if not name.startswith("percussion"):  # it shares the drums' channel
            assert kinds == [("control_change", 0), ("control_change", 32), ("program_change", None)]
    pitched = [name for name in tracks if not name.startswith(("tempo", "drums", "percussion"))]
    channels = [next(m.channel for m in tracks[name] if not m.is_meta) for name in pitched]
    assert len(set(channels)) == len(channels)
    assert next(m.program for m in tracks["melody: flute"] if m.type == "program_change") == 73


def test_a_minor_key_is_written_as_one() -> None:
    timeline = Timeline(Fraction(4), beat_rate_hz(120))
    events = {"harmony": [Event(0, 48, 1, 0)], "melody": [Event(0, 24, 63, 2), Event(24, 48, 60, 2)]}
    plain = SoundSettings(key=-3, humanise=0.0, spread=0.0, landing=False)
    score = symusic.Score.from_midi(to_midi(arrange(events, timeline, plain), timeline, plain))
    assert (score.key_signatures[0].key, score.key_signatures[0].tonality) == (0, 1), "A minor"


def test_a_key_is_released_before_it_is_struck_again(piece_tokens) -> None:
    midi = NoteCodec().decode(piece_tokens(240), LINES[0], voicing()).midi
    for part in pretty_midi.PrettyMIDI(io.BytesIO(midi)).instruments:
        by_key = itertools.groupby(sorted(part.notes, key=lambda n: (n.pitch, n.start)), key=lambda n: n.pitch)
        for _, notes in by_key:
            assert all(one.end <= two.start + 1e-6 for one, two in itertools.pairwise(notes))


def test_the_files_onsets_are_those_of_the_sound() -> None:
    timeline = Timeline(Fraction(6), beat_rate_hz(96), Fraction("-0.7"), BENDS)
    events = {"percussion": [Event(step, step + 2, 1, 3) for step in range(12, timeline.num_steps - 8, 14)]}
    settings = voicing(reverb_s=0.0, landing=False, ring=False)
    made = NoteCodec().decode(events_to_tokens(events, timeline.num_steps), timeline, settings)
    notes = pretty_midi.PrettyMIDI(io.BytesIO(made.midi)).instruments[0].notes
    level = np.abs(made.audio).max(axis=0)
    for note in notes:
        first = int((note.start - 0.03) * made.sample_rate)
        loud = np.flatnonzero(level[max(0, first) : first + 4000] > 0.1 * level[max(0, first) : first + 4000].max())
        assert abs((max(0, first) + loud[0]) / made.sample_rate - note.start) < 0.010
    assert len(notes) == len(events["percussion"]) - sum(timeline.time_of(e.start) < 0 for e in events["percussion"])


def test_the_swell_is_controller_11(piece_tokens) -> None:
    timeline = Timeline(Fraction(8), beat_rate_hz(120))
    plain = SoundSettings(key=0, humanise=0.0, spread=0.0, ring=False, landing=False)
    midi = NoteCodec().decode(piece_tokens(timeline.num_steps, level=None), timeline, plain).midi
    track = next(t for t in symusic.Score.from_midi(midi).tracks if t.name.startswith("harmony"))
    swell = [control.value for control in track.controls if control.number == 11]
    assert len(swell) >= 4 and swell == sorted(swell) and swell[-1] - swell[0] > 15


def test_silence_is_a_file_without_notes() -> None:
    silent = NoteCodec().decode(np.zeros((len(VOICES), 24), np.int64), Timeline(Fraction(1), beat_rate_hz(120)))
    assert symusic.Score.from_midi(silent.midi).note_num() == 0
