"""Note statistics of MIDI files whose values can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from expotion_cli.errors import ClipError
from expotion_cli.evaluation.symbolic import at_random, note_statistics, read_notes


def midi(notes, drums=(), metres=()) -> bytes:
    """A file of (beat, beats long, pitch) notes, and (beat, numerator, denominator) time signatures."""
    import symusic

    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, qpm=100))
    for beat, upper, lower in metres:
        score.time_signatures.append(symusic.TimeSignature(round(beat * 480), upper, lower))
    for rows, is_drum in ((notes, False), (drums, True)):
        track = symusic.Track("t", program=0, is_drum=is_drum)
        for start, length, pitch in rows:
            track.notes.append(symusic.Note(round(start * 480), round(length * 480), pitch, 80))
        score.tracks.append(track)
    return score.dumps_midi()


def test_a_scale_is_consistent_with_itself_and_its_entropy_is_that_of_seven_tones():
    scale = [(i, 1, 60 + step) for i, step in enumerate((0, 2, 4, 5, 7, 9, 11))]
    found = note_statistics(read_notes(midi(scale)))
    assert found["scale_consistency"] == 1.0
    assert found["pitch_class_entropy"] == pytest.approx(math.log2(7))
    assert found["polyphony"] == 1.0 and found["empty_beat_rate"] == 0.0


def test_drums_count_for_groove_and_empty_beats_alone():
    drums = [(beat, 0.25, 36) for beat in range(8)]
    found = note_statistics(read_notes(midi([(0, 1, 61), (0, 1, 62)], drums)))
    assert found["pitch_class_entropy"] == pytest.approx(1.0) and found["polyphony"] == 2.0
    assert found["empty_beat_rate"] == 0.0
    assert found["groove_consistency"] == 1.0
    without = note_statistics(read_notes(midi([(0, 1, 61), (6, 1, 62)])))
    assert without["empty_beat_rate"] == pytest.approx(5 / 7)
    assert math.isnan(note_statistics(read_notes(midi([], drums)))["polyphony"])


def test_a_groove_that_changes_every_bar_is_less_consistent():
    steady = [(bar * 4 + beat, 0.5, 60) for bar in range(4) for beat in range(4)]
    turning = [(bar * 4 + beat + 0.25 * bar, 0.5, 60) for bar in range(4) for beat in range(3)]
    same, other = (note_statistics(read_notes(midi(rows)))["groove_consistency"] for rows in (steady, turning))
    # The steady one ends within its fourth bar.
    assert same == 1.0 and other == pytest.approx(1 - 6 / 96)


def waltz(first: float, bars: int) -> list[tuple[float, float, int]]:
    """A long note and a short one in each bar of three quarters."""
    return [(first + 3 * bar + beat, 0.25, 60) for bar in range(bars) for beat in (0, 2.5)]


def test_bars_are_those_of_the_files_metre():
    rows = waltz(0, 8)
    assert note_statistics(read_notes(midi(rows, metres=[(0, 3, 4)])))["groove_consistency"] == 1.0
    assert note_statistics(read_notes(midi(rows, metres=[(0, 6, 8)])))["groove_consistency"] == 1.0
    assert note_statistics(read_notes(midi(rows)))["groove_consistency"] < 0.97, "4/4 where nothing is said"


def test_a_bar_that_the_picture_cuts_into_and_changes_of_metre_move_the_bar_lines():
    late = midi(waltz(1.25, 8), metres=[(0, 5, 16), (1.25, 3, 4)])
    assert read_notes(late).bar_lines[:4].tolist() == [0, 30, 102, 174]
    assert note_statistics(read_notes(late))["groove_consistency"] == 1.0
    both = waltz(0, 4) + [(12 + 4 * bar + beat, 0.25, 60) for bar in range(4) for beat in (0, 2)]
    assert note_statistics(read_notes(midi(both, metres=[(0, 3, 4), (12, 4, 4)])))["groove_consistency"] == 1.0
    assert note_statistics(read_notes(midi(both, metres=[(0, 3, 4)])))["groove_consistency"] < 1.0


def test_notes_by_lot_are_as_many_but_in_no_key():
    scale = [(i / 2, 0.5, 48 + 12 * (i % 3) + (0, 2, 4, 5, 7, 9, 11)[i % 7]) for i in range(120)]
    notes = read_notes(midi(scale))
    lot = at_random(notes, 0)
    assert len(lot.start) == len(notes.start) and np.array_equal(lot.end - lot.start, notes.end - notes.start)
    assert note_statistics(lot)["scale_consistency"] < 0.8 < note_statistics(notes)["scale_consistency"]
    assert np.array_equal(at_random(notes, 0).pitch, lot.pitch), "the lot is seeded"


def test_nothing_and_nonsense_are_told_apart():
    assert all(math.isnan(value) for value in note_statistics(read_notes(midi([]))).values())
    with pytest.raises(ClipError, match="MIDI file can't be read"):
        read_notes(b"RIFFnonsense")
