"""Pieces written on motion curves: what moves is what sounds, and it is music."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.music.codecs.notes import metrics
from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET, NUM_VOICES, tokens_to_events, valid_tokens
from expotion_cli.training.mini.corpus.build import build_corpus, compose_numbered, load_corpus
from expotion_cli.training.mini.corpus.following import FOLLOWING_STYLES, compose_following
from expotion_cli.training.mini.corpus.following_voices import OnsetGrid
from expotion_cli.training.mini.corpus.motion import LIMIT, draw_motion


@pytest.fixture(scope="module")
def pieces():
    """Some pieces of every style."""
    return [compose_following(np.random.default_rng((7, n)), style) for style in FOLLOWING_STYLES for n in range(4)]


def struck(tokens: np.ndarray) -> np.ndarray:
    """[S] voices struck at each step, the dynamics left out."""
    return (tokens[1:] >= FIRST_ONSET).sum(axis=0)


def by_sixteenths(values: np.ndarray) -> np.ndarray:
    return values[: len(values) // 3 * 3].reshape(-1, 3).sum(axis=1)


def test_voices_strike_where_the_curve_is_high_in_every_style(pieces):
    own = []
    for piece in pieces:
        body = piece.tokens.shape[1] - 48
        hits, curve = by_sixteenths(struck(piece.tokens[:, :body])), by_sixteenths(piece.motion[:body])
        own.append(np.corrcoef(hits, curve)[0, 1])
    styles = np.array(own).reshape(len(FOLLOWING_STYLES), -1).mean(axis=1)
    assert styles.min() > 0.5 and np.mean(own) > 0.65


def test_nothing_but_a_waiting_chord_begins_where_nobody_moves(pieces):
    for piece in pieces:
        calm = np.flatnonzero(np.convolve(piece.motion, np.ones(5), "same")[: -48 - 6] < 0.05)
        assert (piece.tokens[2:, calm] >= FIRST_ONSET).sum() <= 0.01 * max(1, len(calm))


def test_the_level_swells_with_the_curve(pieces):
    for piece in pieces:
        row, level, levels = piece.tokens[0], 0, []
        for token in row:
            level = token - FIRST_ONSET if token >= FIRST_ONSET else level
            levels.append(level)
        assert piece.motion.std() > 0.1 and np.corrcoef(levels[:-48], piece.motion[:-48])[0, 1] > 0.8


def test_following_pieces_stay_in_key_end_on_the_tonic_and_use_their_voices_tokens(pieces):
    used = valid_tokens()
    for piece in pieces:
        assert all(used[k, piece.tokens[k]].all() for k in range(NUM_VOICES))
        assert metrics.statistics(piece.tokens)["scale_consistency"] > 0.8
        last = [event for event in tokens_to_events(piece.tokens)["bass"] if event.start >= len(piece.motion) - 48]
        assert {event.value % 12 for event in last} == {0}


def test_phrases_breathe(pieces):
    for piece in pieces:
        row = tokens_to_events(piece.tokens)["melody"]
        body = piece.tokens.shape[1] - 48
        for event in row:
            if event.start < body:
                assert event.end <= event.start // 192 * 192 + 192 - 3 or event.end == body


def test_drawn_motion_is_mostly_calm_with_high_peaks_and_changes_within_a_second():
    curves = [draw_motion(np.random.default_rng(seed), 960, 100) for seed in range(60)]
    assert all(curve.min() >= 0 and curve.max() <= LIMIT * 1.05 for curve in curves)
    lively = [curve for curve in curves if curve.std() > 0.15]
    assert len(lively) > 45
    assert 0.2 < np.mean([curve.mean() for curve in lively]) < 0.42
    assert 0.5 < np.mean([np.quantile(curve, 0.9) for curve in lively]) < 0.9
    near, far = (np.mean([np.corrcoef(c[:-lag], c[lag:])[0, 1] for c in lively]) for lag in (2, 20))
    assert near > 0.7 and far < 0.5


def test_strikes_lie_on_the_feels_grid_and_peaks_keep_their_distance():
    curve = draw_motion(np.random.default_rng(1), 480, 100)
    found = OnsetGrid.find(curve, "straight", 480)
    assert set(found.steps % 3) == {0}
    strong = found.above(0.6)
    assert strong and all(curve[max(0, s - 1) : s + 2].max() > 0.35 for s, _ in strong)
    peaks = sorted(found.peaks(0.5, 12))
    assert peaks and np.diff(peaks).min() >= 12
    assert OnsetGrid.find(np.zeros(480), "straight", 480).above(0.0) == []


def test_a_given_curve_is_followed_to_its_end_and_silence_after_it():
    curve = np.tile(np.concatenate([np.ones(24), np.zeros(24)]), 5)
    piece = compose_following(np.random.default_rng(3), "classical", curve=curve, tempo_bpm=100)
    assert piece.attributes["tempo_bpm"] == 100 and piece.tokens.shape[1] >= len(curve) + 48
    hits = struck(piece.tokens[:, : len(curve)]).reshape(5, 2, 24).sum(axis=(0, 2))
    assert hits[0] > 8 * hits[1]


def test_the_second_corpus_keeps_the_curves_of_the_pieces_that_follow(tmp_path):
    build_corpus(tmp_path, 12, 3, chorales=False, workers=1, following_share=0.6)
    corpus = load_corpus(tmp_path)
    moved = [n for n in range(12) if corpus.motion(n) is not None]
    assert 3 <= len(moved) <= 11
    for number in range(12):
        piece = compose_numbered(3, number, 0.6)
        assert np.array_equal(piece.tokens, corpus.piece(number))
        assert (piece.motion is not None) == (number in moved)
        if number in moved:
            assert np.allclose(corpus.motion(number), piece.motion, atol=1e-3)
