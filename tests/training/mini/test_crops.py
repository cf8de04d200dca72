"""Crops begin on bar lines, know where the piece ends, and take losses only where there is music."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET, HOLD, NUM_VOICES, REST, VOCAB_SIZE
from expotion_cli.music.conditioning import form_stream
from expotion_cli.music.plan_stream import StepPlan, plan_rows
from expotion_cli.training.loss import token_loss
from expotion_cli.training.mini.crops import (
    BAR_STEPS,
    FROM_EACH,
    collate,
    crop,
    draw_crop,
    held_out_crops,
    loss_parts,
    piece_weights,
    unigram_baseline,
)


@dataclass(frozen=True)
class Music:
    tokens: np.ndarray
    attributes: dict
    plan: StepPlan


def music(bars: int, seed: int = 0, source: str = "composed") -> Music:
    tokens = np.random.default_rng(seed).integers(0, VOCAB_SIZE, (NUM_VOICES, bars * BAR_STEPS)).astype(np.uint8)
    plan = StepPlan(np.linspace(0, 1, bars), ((0, 0.5), (90, 1.0), (100, 0.4), (300, 0.7)), (0, 4 * BAR_STEPS))
    return Music(tokens, {"source": source, "seed": seed}, plan)


PIECE = music(8)
WINDOW = 4 * BAR_STEPS


def test_a_crop_inside_a_piece_is_that_stretch_and_wholly_valid():
    found = crop(PIECE, 2 * BAR_STEPS, WINDOW)
    assert np.array_equal(found.tokens, PIECE.tokens[:, 2 * BAR_STEPS : 6 * BAR_STEPS])
    assert found.tokens.dtype == np.int64 and found.valid_steps == WINDOW
    assert found.attributes is PIECE.attributes


def test_a_crop_past_the_end_rests_there_and_one_bar_of_silence_is_valid():
    found = crop(PIECE, 6 * BAR_STEPS, WINDOW)
    assert np.array_equal(found.tokens[:, : 2 * BAR_STEPS], PIECE.tokens[:, 6 * BAR_STEPS :])
    assert (found.tokens[:, 2 * BAR_STEPS] == REST).all() and (found.tokens[:, 2 * BAR_STEPS + 1 :] == HOLD).all()
    assert found.valid_steps == 3 * BAR_STEPS
    assert crop(PIECE, 5 * BAR_STEPS, WINDOW).valid_steps == WINDOW


def test_a_crop_sees_its_piece_s_plan_from_its_own_first_step():
    found = crop(PIECE, 2 * BAR_STEPS, WINDOW).plan
    assert np.array_equal(found.intensity, PIECE.plan.intensity[2:])
    assert found.hits == tuple((step - 2 * BAR_STEPS, weight) for step, weight in PIECE.plan.hits)
    whole, part = plan_rows(PIECE.plan, 8 * BAR_STEPS), plan_rows(found, WINDOW)
    assert np.allclose(part, whole[2 * BAR_STEPS : 2 * BAR_STEPS + WINDOW], atol=1e-6)


def test_held_out_crops_are_taken_from_every_group_and_spread_over_pieces_by_people():
    pieces = [music(8), music(20, 1, "midi tune"), music(4, 2, "midi short")]
    found = held_out_crops(pieces, WINDOW)
    assert set(found) == {"composed", "midi"} and len(found["midi"]) == FROM_EACH + 1
    assert np.array_equal(found["midi"][0].tokens, pieces[1].tokens[:, :WINDOW])
    assert np.array_equal(found["midi"][FROM_EACH - 1].tokens, pieces[1].tokens[:, -WINDOW:])


def test_the_form_of_a_crop_is_that_stretch_of_the_whole_pieces_form():
    whole = form_stream(8 * BAR_STEPS).values
    assert np.allclose(crop(PIECE, 96, WINDOW).form.values, whole[96 : 96 + WINDOW], atol=1e-6)
    past = crop(PIECE, 6 * BAR_STEPS, WINDOW).form
    assert (past.values[2 * BAR_STEPS :, 1] == 1).all() and past.mask.all()


def test_drawn_crops_begin_on_bar_lines_and_favour_openings_and_endings():
    rng = np.random.default_rng(0)
    pieces = [music(16)]
    weights = piece_weights(pieces, {"composed": 1.0})
    starts = []
    for _ in range(400):
        found = draw_crop(pieces, weights, WINDOW, rng)
        bar = -np.log(found.form.values[0, 0]) * 96 / BAR_STEPS  # the opening's fall tells where the crop begins
        assert bar == pytest.approx(round(bar), abs=1e-3)
        assert found.tokens.shape == (NUM_VOICES, WINDOW)
        starts.append(round(bar))
    starts = np.array(starts)
    assert 0.27 < (starts == 0).mean() < 0.45
    assert 0.15 < (starts >= 12).mean() < 0.4
    assert (starts > 12).any() and starts.max() <= 15
    assert len(set(starts)) > 10


def test_a_piece_shorter_than_the_window_can_be_drawn():
    pieces = [music(1)]
    for seed in range(20):
        found = draw_crop(pieces, np.array([1.0]), WINDOW, np.random.default_rng(seed))
        assert np.array_equal(found.tokens[:, :BAR_STEPS], pieces[0].tokens) and found.valid_steps == 2 * BAR_STEPS


def test_each_group_gets_its_share_and_each_piece_in_proportion_to_its_length():
    pieces = [music(10), music(30), music(5, source="bach/bwv1"), music(15, source="bach/bwv2")]
    weights = piece_weights(pieces, {"composed": 0.8, "score": 0.2})
    assert np.diff(weights, prepend=0) == pytest.approx([0.2, 0.6, 0.05, 0.15])
    assert piece_weights(pieces[:2], {"composed": 0.8, "score": 0.2}) == pytest.approx([0.25, 1.0])
    assert np.diff(piece_weights(pieces, {"score": 1.0}), prepend=0) == pytest.approx([0, 0, 0.25, 0.75])


def test_targets_are_the_inputs_one_position_later_and_only_where_there_is_music():
    crops = [crop(PIECE, 0, WINDOW), crop(PIECE, 7 * BAR_STEPS, WINDOW)]
    inputs, targets = collate(crops, torch.device("cpu"))
    assert inputs.shape == targets.shape == (2, NUM_VOICES, WINDOW + NUM_VOICES - 1)
    for row, part in enumerate(crops):
        for k in range(NUM_VOICES):
            for position in range(inputs.shape[2]):
                step = position - k  # the step this position predicts
                held = position - 1 - k  # the step this position holds
                wanted = part.tokens[k, step] if 0 <= step < part.valid_steps else -100
                assert targets[row, k, position] == wanted
                assert inputs[row, k, position] == (part.tokens[k, held] if 0 <= held < WINDOW else VOCAB_SIZE)


def test_the_loss_counts_valid_positions_alone():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 7)
    targets = torch.randint(0, 7, (2, 3, 4))
    targets[:, :, 2] = -100
    expected = -torch.log_softmax(logits, -1).gather(-1, targets.clamp(min=0)[..., None])[..., 0][targets >= 0]
    assert token_loss(logits, targets).item() == pytest.approx(expected.mean().item(), abs=1e-6)
    logits[:, :, 2] = 1e4 * torch.randn(2, 3, 7)
    assert token_loss(logits, targets).item() == pytest.approx(expected.mean().item(), abs=1e-6)


def test_onsets_are_judged_apart_from_holds_and_rests():
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 3, 9)
    targets = torch.tensor([[[REST, HOLD, FIRST_ONSET], [-100, 8, HOLD]]])
    losses = -torch.log_softmax(logits, -1)
    onsets = losses[0, 0, 2, FIRST_ONSET] + losses[0, 1, 1, 8]
    every = onsets + losses[0, 0, 0, REST] + losses[0, 0, 1, HOLD] + losses[0, 1, 2, HOLD]
    parts = loss_parts(logits, targets)
    assert parts["onset"] == (pytest.approx(onsets.item(), abs=1e-5), 2)
    assert parts["all"] == (pytest.approx(every.item(), abs=1e-5), 5)


def test_the_unigram_baseline_is_the_entropy_of_what_each_voice_says():
    tokens = np.full((NUM_VOICES, 2000 * BAR_STEPS), HOLD, dtype=np.uint8)
    tokens[:, ::4] = FIRST_ONSET
    piece = Music(tokens, {}, PIECE.plan)
    found = unigram_baseline([piece], [crop(piece, 0, WINDOW)])
    assert found["all"] == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)), rel=0.01)
    assert found["onset"] == pytest.approx(-np.log(0.25), rel=0.01)


def test_the_unigram_baseline_keeps_voices_apart_and_does_not_choke_on_new_tokens():
    tokens = np.full((NUM_VOICES, 100 * BAR_STEPS), HOLD, dtype=np.uint8)
    tokens[3] = REST
    piece = Music(tokens, {}, PIECE.plan)
    assert unigram_baseline([piece], [crop(music(4), 0, WINDOW), crop(piece, 0, WINDOW)])["all"] < np.inf
    known = crop(piece, 0, WINDOW)
    known.tokens[0, 0] = FIRST_ONSET + 5
    found = unigram_baseline([piece], [known])
    assert found["all"] < 0.1 and found["onset"] > np.log(100 * BAR_STEPS) - 0.1
