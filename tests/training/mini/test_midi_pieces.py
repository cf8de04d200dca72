"""General-MIDI files become pieces for eight voices: on the grid, in C, with their drums, bass, tune and chords."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import symusic

from expotion_cli.errors import UsageError
from expotion_cli.music.codecs.notes.tokens import VOICES, chord_pitches, tokens_to_events
from expotion_cli.training.mini.corpus.build import build_corpus, load_corpus
from expotion_cli.training.mini.corpus.captions import STYLE_NAMES, caption
from expotion_cli.training.mini.corpus.keys import find_keys
from expotion_cli.training.mini.corpus.midi_drums import LANES
from expotion_cli.training.mini.corpus.midi_pieces import is_held_out, read_folder, read_piece, style_of

TICKS, BARS = 480, 8
KEPT, HELD = "tune-0", "tune-4"


def write(
    path: Path, *, shift: int = 2, metre: tuple[int, int] | None = (4, 4), stretch: float = 1.0, bars: int = BARS
) -> Path:
    """A tune over I-IV-V-I in a major key with drums, bass and chords."""
    score = symusic.Score(TICKS)
    score.tempos.append(symusic.Tempo(0, qpm=100))
    if metre is not None:
        score.time_signatures.append(symusic.TimeSignature(0, *metre))
    beat = round(TICKS * stretch)
    tracks = {
        "drums": symusic.Track("kit", 0, is_drum=True),
        "bass": symusic.Track("bass", 33),
        "lead": symusic.Track("lead", 73),
        "pad": symusic.Track("pad", 48),
    }
    roots = (60, 65, 67, 60)
    scale = (0, 4, 7, 4, 2, 5, 9, 7)
    for bar in range(bars):
        root = roots[bar % 4] + shift
        for b in range(4):
            at = (4 * bar + b) * beat
            tracks["drums"].notes.append(symusic.Note(at, 60, 36 if b % 2 == 0 else 38, 100))
            for half in (0, beat // 2):
                tracks["drums"].notes.append(symusic.Note(at + half, 60, 42, 70))
            tracks["bass"].notes.append(symusic.Note(at, beat // 2, root - 24, 90))
            tracks["lead"].notes.append(
                symusic.Note(at + beat // 4, beat // 2, roots[0] + shift + 12 + scale[(4 * bar + b) % 8], 110)
            )
        for interval in (0, 4, 7):
            tracks["pad"].notes.append(symusic.Note(4 * bar * beat, 4 * beat, root - 12 + interval, 60))
    if bars > 4:
        tracks["drums"].notes.append(symusic.Note(16 * beat, 60, 57, 120))
    for track in tracks.values():
        score.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    score.dump_midi(path)
    return path


@pytest.fixture(scope="module")
def piece(tmp_path_factory):
    found, facts = read_piece(write(tmp_path_factory.mktemp("midi") / f"{HELD}.mid"), "free")
    assert facts["keys"] == ["2 major"] and facts["grid"] == "its own" and facts["bars"] == BARS
    (only,) = found
    return only


def test_a_piece_is_moved_to_c_and_its_chords_are_those_that_sound(piece):
    events = tokens_to_events(piece.tokens)
    chords = [chord_pitches(event.value) for event in events["harmony"]]
    assert [root for root, _ in chords] == [0, 5, 7, 0, 5, 7, 0]
    assert all(intervals[:2] == (0, 4) for _, intervals in chords)
    assert {e.value % 12 for e in events["bass"]} == {0, 5, 7}
    assert piece.attributes["mode"] == "major" and piece.attributes["tempo_bpm"] == 100


def test_tune_bass_and_pad_find_their_voices_with_their_rhythm(piece):
    events = tokens_to_events(piece.tokens)
    assert [e.start for e in events["melody"]] == [3 + 12 * beat for beat in range(4 * BARS)]
    assert [e.start for e in events["bass"]] == [12 * beat for beat in range(4 * BARS)]
    assert (
        piece.attributes["instruments"]["melody"] == "flute"
        and piece.attributes["instruments"]["bass"] == "electric bass"
    )
    for name in ("bass", "melody", "figure"):
        base = next(voice.base for voice in VOICES if voice.name == name)
        assert all(base <= event.value < base + 48 for event in events[name])


def test_drum_patterns_survive(piece):
    events = tokens_to_events(piece.tokens)
    assert [(e.start, e.value) for e in events["drums"][:4]] == [(0, 1), (12, 2), (24, 1), (36, 2)]
    assert next(e.value for e in events["drums"] if e.start == 4 * 48) == 1 | 16, "kick and crash at once"
    assert [e.start for e in events["percussion"]] == list(range(0, 48 * BARS, 6))
    assert set(LANES) >= set(range(27, 88))


def test_a_grid_that_the_ticks_do_not_tell_is_found_in_the_onsets(tmp_path):
    (found, *_), facts = read_piece(write(tmp_path / f"{HELD}.mid", stretch=0.83, bars=16), "free")
    assert facts["grid"] == "fitted to the onsets"
    assert found.attributes["tempo_bpm"] == pytest.approx(100 / 0.83, abs=1)
    starts = [e.start for e in tokens_to_events(found.tokens)["bass"]]
    assert starts[:8] == list(range(0, 96, 12))


def test_other_metres_are_left_out_and_said(tmp_path):
    with pytest.raises(ValueError, match="3/4"):
        read_piece(write(tmp_path / "waltz.mid", metre=(3, 4)), "free")
    write(tmp_path / f"{KEPT}.mid")
    pieces, rows = read_folder(tmp_path)
    assert [row["used"] for row in rows] == [True, False] and "3/4" in rows[1]["reason"]
    assert {row["statement"] for row in rows} == {"not stated"} and pieces


def test_pieces_are_trained_on_in_several_views_or_held_out_by_their_names(tmp_path):
    assert not is_held_out(KEPT) and is_held_out(HELD)
    names = [f"piece {number}" for number in range(400)]
    assert 0.18 < np.mean([is_held_out(name) for name in names]) < 0.32
    for name in (KEPT, HELD):
        write(tmp_path / "music" / f"{name}.mid")
    (tmp_path / "music" / "LICENCE.txt").write_text("A page.\nCopyright 1999 them\nLicense: free\nAll of it.")
    build_corpus(tmp_path / "corpus", 3, 1, chorales=False, workers=1, pieces=tmp_path / "music")
    corpus = load_corpus(tmp_path / "corpus")
    sources = {split: [corpus.attributes[n]["source"] for n in numbers if n >= 3] for split, numbers in
               (("train", corpus.train), ("held_out", corpus.held_out))}  # fmt: skip
    assert sources == {"train": [f"midi {KEPT}"] * 3, "held_out": [f"midi {HELD}"]}
    assert {corpus.attributes[n]["licence"] for n in range(3, 7)} == {"Copyright 1999 them; License: free"}
    views = [corpus.piece(n) for n in corpus.train if n >= 3]
    assert not np.array_equal(views[0], views[1]) and not np.array_equal(views[0], views[2])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="No MIDI file"):
        build_corpus(tmp_path / "none", 1, 1, chorales=False, workers=1, pieces=tmp_path / "empty")


def test_a_change_of_key_is_heard_and_a_passing_chord_is_not():
    scale = np.zeros(12)
    scale[[0, 2, 4, 5, 7, 9, 11]] = (3, 1, 2, 1, 2.5, 1, 0.7)
    bars = np.tile(scale, (48, 1))
    bars[24:] = np.roll(scale, 6)
    bars[5] = np.eye(12)[8]
    keys = find_keys(bars, np.zeros_like(bars))
    assert keys[0] == keys[23] == (0, "major") and keys[24] == keys[-1] == (6, "major") and len(set(keys)) == 2


def test_styles_are_told_by_instruments_and_captions_can_be_written(piece):
    assert style_of([30, 30, 33], has_drums=True, per_second=12, tempo_bpm=140) == "metal"
    assert style_of([27, 33, 48], has_drums=True, per_second=6, tempo_bpm=100) == "rock"
    assert style_of([48, 60, 47], has_drums=True, per_second=6, tempo_bpm=100) == "cinematic"
    assert style_of([88, 89], has_drums=False, per_second=2, tempo_bpm=70) == "ambient"
    assert style_of([81, 38, 90], has_drums=True, per_second=8, tempo_bpm=120) == "electronic"
    assert piece.attributes["style"] in STYLE_NAMES
    rng = np.random.default_rng(0)
    assert all(caption({**piece.attributes, "style": style}, rng) for style in STYLE_NAMES for _ in range(5))
