"""Composed training music: valid, in key, ending, following its gesture, described truly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from expotion_cli.music.codecs.notes.metrics import statistics
from expotion_cli.music.codecs.notes.muspy import scale_consistency
from expotion_cli.music.codecs.notes.tokens import (
    FIRST_ONSET,
    HOLD,
    NUM_VOICES,
    VELOCITIES,
    VOICE_INDEX,
    VOICES,
    chord_pitches,
    events_to_tokens,
    tokens_to_events,
    valid_tokens,
)
from expotion_cli.prompts import stated_tempo
from expotion_cli.training.mini.corpus import captions, chorales, theory
from expotion_cli.training.mini.corpus.arranger import compose
from expotion_cli.training.mini.corpus.build import build_corpus, compose_numbered, driving_curves, load_corpus
from expotion_cli.training.mini.corpus.piece import Piece
from expotion_cli.training.mini.corpus.styles import STYLES

BAR = 48


@pytest.fixture(scope="module")
def pieces() -> list[Piece]:
    """Sixteen pieces of every style."""
    return [compose(np.random.default_rng((5, i)), style) for style in STYLES for i in range(16)]


def test_composed_pieces_use_only_tokens_their_voices_have(pieces):
    used = valid_tokens()
    for piece in pieces:
        assert piece.tokens.dtype == np.int16
        assert piece.tokens.shape[0] == NUM_VOICES
        assert used[np.arange(NUM_VOICES)[:, None], piece.tokens].all()


def test_composed_tokens_are_what_the_note_language_itself_would_write(pieces):
    for piece in pieces[::7]:
        events = tokens_to_events(piece.tokens)
        assert np.array_equal(events_to_tokens(events, piece.tokens.shape[1]), piece.tokens)


def test_composed_pieces_last_16_to_40_whole_bars(pieces):
    bars = {piece.tokens.shape[1] / BAR for piece in pieces}
    assert all(16 <= b <= 40 and b == int(b) for b in bars)
    assert len(bars) >= 5


def test_the_same_seed_composes_the_same_piece_and_another_seed_another():
    first, again, other = (compose(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.tokens, again.tokens)
    assert first.attributes == again.attributes
    assert not np.array_equal(first.tokens, other.tokens)


@pytest.mark.long
def test_composed_pieces_stay_in_key_on_c(pieces):
    consistency = [statistics(p.tokens)["scale_consistency"] for p in pieces]
    assert np.median(consistency) > 0.95
    assert np.quantile(consistency, 0.1) > 0.9
    for piece in pieces:
        scale = theory.SCALES[piece.attributes["scale"]]
        counts = np.zeros(12)
        for name in ("bass", "figure", "melody", "counter"):
            for event in tokens_to_events(piece.tokens)[name]:
                counts[event.value % 12] += 1
        assert counts[list(scale)].sum() / max(counts.sum(), 1) > 0.8
        assert counts.sum() >= 10 and scale_consistency(counts) > 0.75


def test_every_piece_ends_on_the_tonic_and_then_falls_silent(pieces):
    for piece in pieces:
        last = piece.tokens.shape[1] - BAR
        tonic = {0, 4 if piece.attributes["mode"] == "major" else 3, 7}
        events = tokens_to_events(piece.tokens)
        final = {name: [e for e in events[name] if e.start >= last] for name in ("bass", "figure", "melody", "counter")}
        heard = [e for found in final.values() for e in found]
        assert heard and all(e.start == last and e.end <= piece.tokens.shape[1] - 12 for e in heard)
        assert {e.value % 12 for e in heard} <= tonic
        assert [e.value % 12 for e in final["bass"]] == [0] * ("bass" in piece.attributes["voices"])
        assert not (piece.tokens[1:, -12:] >= FIRST_ONSET).any()


def test_density_and_loudness_follow_the_gesture_where_a_piece_says_so(pieces):
    density, loudness, dynamics, raised = [], [], [], []
    for piece in pieces:
        if piece.attributes["energy"]["follow"] < 1.0:
            continue
        energy, accents = (rows[:-BAR].astype(float) for rows in driving_curves(piece))
        tokens = piece.tokens[:, :-BAR]
        per_beat = energy.reshape(-1, 12).mean(axis=1)
        if per_beat.std() < 0.1:
            continue
        onsets = (tokens[1:] >= FIRST_ONSET).sum(axis=0).reshape(-1, 12).sum(axis=1)
        density.append(np.corrcoef(onsets, per_beat)[0, 1])
        row = tokens[VOICE_INDEX["dynamics"]]
        last = np.maximum.accumulate(np.where(row != HOLD, np.arange(len(row)), 0))
        calm = np.convolve(accents > 0, np.ones(6))[: len(accents)] == 0  # away from accents, which stand out
        dynamics.append(np.corrcoef(row[last][calm], energy[calm])[0, 1])
        raised += list(row[last][accents > 0] - FIRST_ONSET)
        voice = tokens[VOICE_INDEX["bass"]]
        struck = (voice >= FIRST_ONSET) & (accents == 0)
        classes = (voice[struck] - FIRST_ONSET) % len(VELOCITIES)
        if len(set(classes)) > 1:
            loudness.append(np.corrcoef(classes, energy[struck])[0, 1])
    assert len(density) > 30
    assert np.median(density) > 0.55
    assert np.median(dynamics) > 0.9
    assert np.min(raised) >= 5
    assert np.median(loudness) > 0.6


def test_pieces_that_follow_nothing_have_even_density(pieces):
    def spread(piece: Piece) -> float:
        onsets = (piece.tokens[1:, :-BAR] >= FIRST_ONSET).sum(axis=0).reshape(-1, BAR).sum(axis=1)
        return onsets.std() / onsets.mean()

    free = [spread(p) for p in pieces if p.attributes["energy"]["follow"] == 0.0]
    bound = [spread(p) for p in pieces if p.attributes["energy"]["follow"] == 1.0]
    assert 0.1 < len(free) / len(pieces) < 0.32
    assert np.median(free) < 0.6 * np.median(bound)


def test_accents_are_struck_together_at_the_loudest_and_stillness_is_still(pieces):
    together, around, still, loudest = [], [], [], []
    for piece in pieces:
        if piece.attributes["energy"]["follow"] < 1.0:
            continue
        energy, accents = (rows[:-BAR].astype(float) for rows in driving_curves(piece))
        tokens = piece.tokens[1:, :-BAR]
        onsets = (tokens >= FIRST_ONSET).sum(axis=0)
        for step in np.flatnonzero(accents):
            together.append(onsets[step])
            around += list(onsets[step + 1 : step + 3])
        still += list(onsets[(energy <= 0.06) & (accents == 0)])
        for name in ("bass", "melody"):
            row = piece.tokens[VOICE_INDEX[name], :-BAR]
            steps = np.flatnonzero((row >= FIRST_ONSET) & (accents > 0))
            classes = (row[steps] - FIRST_ONSET) % len(VELOCITIES)
            loudest += list(classes == 3)
    assert np.mean(loudest) > 0.75
    assert np.mean(together) > 3
    assert np.mean(around) < 0.3
    assert np.mean(still) < 0.01


def test_attributes_name_the_voices_that_sound(pieces):
    absent = set()
    for piece in pieces:
        sounding = {v.name for i, v in enumerate(VOICES) if i and (piece.tokens[i] >= FIRST_ONSET).any()}
        assert set(piece.attributes["voices"]) == sounding == set(piece.attributes["instruments"])
        absent |= {v.name for v in VOICES[1:]} - sounding
        tempo = STYLES[piece.attributes["style"]].tempo
        assert tempo[0] <= piece.attributes["tempo_bpm"] <= tempo[1]
    assert absent >= {"drums", "percussion", "harmony", "counter", "figure", "melody"}


def test_captions_are_varied_and_say_nothing_untrue(pieces):
    rng = np.random.default_rng(1)
    said, numbers, without_drums, named = set(), 0, 0, 0
    opposite = {"major": "minor", "minor": "major"}
    for piece in pieces:
        a = piece.attributes
        for _ in range(4):
            text = captions.caption(a, rng)
            said.add(text)
            words = text.replace(",", " ").replace(".", " ").split()
            assert opposite[a["mode"]] not in words
            assert not ("slow" in words and a["tempo"] != "slow")
            assert not ("fast" in words and a["tempo"] != "fast")
            if "bpm" in words:
                numbers += 1
                assert words[words.index("bpm") - 1] == str(a["tempo_bpm"])
                assert stated_tempo(text) == (a["tempo_bpm"], a["tempo_bpm"])
            else:
                assert stated_tempo(text) is None
            if "no drums" in text or "no percussion" in text:
                without_drums += 1
                assert not {"drums", "percussion"} & set(a["voices"])
            for instrument in ("saxophone", "violin", "flute", "trumpet", "harpsichord", "ukulele"):
                if instrument in text:
                    named += 1
                    assert instrument in a["instruments"].values()
    assert min(numbers, without_drums, named) > 30, "each of these is said now and then"
    assert len(said) > 0.9 * 4 * len(pieces)
    lengths = [len(text) for text in said]
    assert min(lengths) < 40 and max(lengths) > 250


def test_corpus_folder_holds_every_piece_whatever_the_number_of_workers(tmp_path: Path):
    build_corpus(tmp_path / "one", 30, seed=9, chorales=False, workers=1)
    build_corpus(tmp_path / "two", 30, seed=9, chorales=False, workers=2)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    corpus = load_corpus(tmp_path / "one")
    assert sorted(corpus.train + corpus.held_out) == list(range(30))
    assert corpus.held_out and not set(corpus.train) & set(corpus.held_out)
    piece = compose_numbered(9, 17)
    assert np.array_equal(corpus.piece(17), piece.tokens)
    assert corpus.attributes[17]["style"] == piece.attributes["style"]
    energy, accent = driving_curves(piece)
    span = slice(corpus.offsets[17], corpus.offsets[18])
    assert np.array_equal(corpus.energy[span], energy) and np.array_equal(corpus.accent[span], accent)


def test_cadences_end_phrases_and_loops_lead_back_to_their_start():
    from random import Random

    r = Random(0)
    for mode in theory.SCALES:
        home = theory.tonic(mode)
        for _ in range(50):
            assert theory.phrase(r, mode, 4, "full")[-1] == home
            assert theory.phrase(r, mode, 4, "half")[-1] != home
        assert len({tuple(theory.loop(r, mode, 4)) for _ in range(200)}) > 20


def test_borrowed_tones_take_the_place_of_their_neighbours_in_the_scale():
    dominant = theory.degree_chord("V", "minor", seventh=False)
    assert {p % 12 for p in dominant.scale} == {0, 2, 3, 5, 7, 8, 11}
    borrowed = theory.degree_chord("bVII", "major", seventh=False)
    assert {p % 12 for p in borrowed.scale} == {0, 2, 4, 5, 7, 9, 10}


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        ("Public Domain (Encoding: CC0)", "free"),
        ("© 2014, Creative Commons License (CC-BY)", "free"),
        ("freely distributed under a CC-BY-SA license", "restricted"),
        ("CC BY-NC 4.0", "restricted"),
        ("PDF © 2004 A. Person - used by permission", "restricted"),
        ("Copyright 2000, A. Person", "unclear"),
        ("", "unclear"),
    ],
)
def test_only_clear_licences_count_as_free(statement, verdict):
    assert chorales.judge(statement) == verdict


def test_a_part_song_becomes_voices_on_c_with_its_chords():
    # A cadence in D major: D, G, A7, D in four parts, one chord a beat, after a beat of silence.
    chords = [(62, 66, 69, 74), (55, 67, 71, 74), (57, 67, 73, 76), (50, 66, 69, 74)]
    parts = [[(12 * i, 12 * i + 12, chord[k]) for i, chord in enumerate(chords)] for k in (3, 2, 1, 0)]
    piece = chorales.from_parts(parts, tonic=2, mode="major", lead=12, source="test", licence="CC0")
    events = tokens_to_events(piece.tokens)
    assert [e.value for e in events["melody"]] == [72, 72, 74, 72]
    assert [e.value for e in events["bass"]] == [60, 53, 55, 48]
    assert [e.start for e in events["counter"]] == [12, 24, 36, 48]
    assert [chord_pitches(e.value)[0] for e in events["harmony"]] == [0, 5, 7, 0]
    assert not events["drums"] and len(events["dynamics"]) == 1
    assert valid_tokens()[np.arange(8)[:, None], piece.tokens].all()


@pytest.mark.long
def test_the_free_scores_of_music21_are_told_file_by_file(tmp_path: Path):
    root, files = chorales.corpus_files()
    table = {}
    for path in files:
        if path.parent.name in ("lusitano", "liliuokalani") or path.name in ("bwv66.6.mxl", "bwv10.7.mxl"):
            table[path.name] = chorales.judge(chorales.statement_of(path))
    assert table["allor_che_ignuda.mxl"] == "free"
    assert table["bwv10.7.mxl"] == "restricted"
    assert table["bwv66.6.mxl"] == "unclear"
    path = root / "lusitano" / "allor_che_ignuda.mxl"
    piece = chorales.read_score(path, "lusitano", chorales.statement_of(path))
    assert statistics(piece.tokens)["scale_consistency"] > 0.85
    assert json.dumps(piece.attributes)
