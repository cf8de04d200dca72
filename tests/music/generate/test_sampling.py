"""Tokens are drawn as the probabilities say, with noise that belongs to one cue."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from options import make_sampling

from expotion_cli.errors import RecipeError
from expotion_cli.music.generate.sampling import Sampling, cue_noise, draw, guide
from expotion_cli.recipe import Recipe

LOGITS = torch.tensor([2.0, -1.0, 0.5, 3.0, 0.0, 1.0, -3.0, 2.5])


def drawn(sampling: Sampling, count: int = 20_000) -> np.ndarray:
    """Shares of each token among many draws from `LOGITS`."""
    uniform = torch.from_numpy(np.random.default_rng(1).random(count))
    tokens = draw(LOGITS.expand(count, -1), uniform, sampling)
    return np.bincount(tokens.numpy(), minlength=len(LOGITS)) / count


def chi_square(shares: np.ndarray, expected: np.ndarray, count: int = 20_000) -> float:
    held = expected > 0
    return float((count * (shares[held] - expected[held]) ** 2 / expected[held]).sum())


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_follow_the_softmax(temperature):
    shares = drawn(make_sampling(temperature=temperature, top_k=0))
    expected = softmax(LOGITS.double().numpy() / temperature)
    limit = 24.3  # chi-square of 7 degrees of freedom, p = 0.001
    assert chi_square(shares, expected) < limit
    assert chi_square(shares, softmax(LOGITS.double().numpy() / (temperature * 1.1))) > limit


def test_top_k_keeps_the_k_likeliest_in_their_proportions():
    expected = softmax(LOGITS.double().numpy())
    expected[np.argsort(expected)[:-3]] = 0
    shares = drawn(make_sampling(top_k=3))
    assert set(np.flatnonzero(shares)) == {0, 3, 7}
    assert chi_square(shares, expected / expected.sum()) < 13.8  # 2 degrees of freedom, p = 0.001


def test_top_k_beyond_the_vocabulary_means_all():
    assert np.array_equal(drawn(make_sampling(top_k=250)), drawn(make_sampling(top_k=0)))


def test_top_k_of_one_and_temperature_zero_are_greedy():
    torch.manual_seed(0)
    logits, uniform = torch.randn(500, 40), torch.rand(500, dtype=torch.float64)
    best = logits.argmax(dim=-1)
    assert torch.equal(draw(logits, uniform, make_sampling(top_k=1)), best)
    assert torch.equal(draw(logits, uniform, make_sampling(temperature=0)), best)
    assert not torch.equal(draw(logits, uniform, make_sampling()), best)


def test_top_p_cuts_the_tail_and_keeps_the_smallest_set_that_reaches_it():
    probabilities = softmax(LOGITS.double().numpy())
    order = np.argsort(-probabilities)
    for top_p in (0.3, 0.6, 0.9, 1.0):
        reached = np.cumsum(probabilities[order])
        kept = order[: min(int(np.searchsorted(reached, top_p)) + 1, len(order))]
        shares = drawn(make_sampling(top_p=top_p, top_k=0))
        expected = np.zeros_like(probabilities)
        expected[kept] = probabilities[kept] / probabilities[kept].sum()
        assert set(np.flatnonzero(shares)) <= set(kept)
        assert chi_square(shares, expected) < 24.3
    assert set(np.flatnonzero(drawn(make_sampling(top_p=0.01)))) == {3}


def test_the_ends_of_the_uniform_range_draw_real_tokens():
    uniform = torch.tensor([0.0, 1.0 - 2**-53], dtype=torch.float64)
    for sampling in (make_sampling(), make_sampling(top_k=3), make_sampling(top_p=0.5)):
        first, last = draw(LOGITS.expand(2, -1), uniform, sampling).tolist()
        assert first == 3
        assert 0 <= last < len(LOGITS)
    assert draw(LOGITS.expand(2, -1), uniform, make_sampling(top_p=0.5)).tolist()[1] in (3, 7)


def test_noise_belongs_to_seed_and_cue_and_its_rows_to_their_position():
    noise = cue_noise(7, "a cue", 30, 4)
    assert noise.shape == (30, 4) and noise.min() >= 0 and noise.max() < 1
    assert np.array_equal(cue_noise(7, "a cue", 30, 4), noise)
    assert np.array_equal(cue_noise(7, "a cue", 90, 4)[:30], noise)
    assert not np.isin(cue_noise(8, "a cue", 30, 4), noise).any()
    assert not np.isin(cue_noise(7, "another cue", 30, 4), noise).any()
    assert not np.isin(cue_noise(-7, "a cue", 30, 4), noise).any()


def test_seed_and_cue_are_kept_apart_in_the_noise_key():
    assert not np.array_equal(cue_noise(1, "2x", 5, 1), cue_noise(12, "x", 5, 1))


def test_noise_is_uniform_and_neither_positions_nor_streams_are_correlated():
    noise = cue_noise(0, "long", 20_000, 4)
    counts = np.histogram(noise, bins=20, range=(0, 1))[0]
    assert ((counts - 4000) ** 2 / 4000).sum() < 43.8  # 19 degrees of freedom, p = 0.001
    streams = np.corrcoef(noise.T)[np.triu_indices(4, 1)]
    following = [np.corrcoef(noise[1:, k], noise[:-1, k])[0, 1] for k in range(4)]
    assert np.abs([*streams, *following]).max() < 4 / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("guidance", "visual", "expected"),
    [
        (1.0, 1.0, ((True, True),)),
        (3.0, 1.0, ((False, True), (True, True))),
        (1.0, 2.0, ((True, False), (True, True))),
        (2.0, 2.0, ((False, False), (True, True))),
        (3.0, 2.0, ((False, False), (True, False), (True, True))),
    ],
)
def test_a_cue_takes_only_the_guidance_rows_it_needs(guidance, visual, expected):
    assert make_sampling(guidance=guidance, visual_guidance=visual).rows(True) == expected


@pytest.mark.parametrize("visual", [1.0, 2.0, 3.0])
def test_without_a_picture_visual_guidance_adds_no_rows(visual):
    assert make_sampling(guidance=3.0, visual_guidance=visual).rows(False) == ((False, False), (True, False))
    assert make_sampling(guidance=1.0, visual_guidance=visual).rows(False) == ((True, False),)


def test_fewer_rows_give_what_all_three_would():
    torch.manual_seed(1)
    nothing, text, picture, both = torch.randn(4, 5, 9, dtype=torch.float64)
    rows = {(False, False): nothing, (True, False): text, (False, True): picture, (True, True): both}

    def guided(guidance: float, visual: float) -> torch.Tensor:
        sampling = make_sampling(guidance=guidance, visual_guidance=visual)
        return guide(torch.stack([rows[kind] for kind in sampling.rows(True)]), sampling)

    def in_full(guidance: float, visual: float) -> torch.Tensor:
        return nothing + guidance * (text - nothing) + visual * (both - text)

    for pair in ((3.0, 2.0), (2.0, 2.0), (1.0, 2.0), (1.0, 1.0), (0.0, 4.0)):
        torch.testing.assert_close(guided(*pair), in_full(*pair), rtol=0, atol=1e-12)
    torch.testing.assert_close(guided(3.0, 1.0), picture + 3 * (both - picture), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "setting",
    [
        {"guidance": -0.1},
        {"guidance": 21},
        {"guidance": float("nan")},
        {"visual_guidance": 20.5},
        {"temperature": -1},
        {"temperature": 4.1},
        {"top_p": 1.1},
        {"top_p": 0},
        {"top_k": -1},
        {"top_k": 2.5},
        {"top_k": 5000},
    ],
)
def test_a_setting_out_of_range_is_refused_in_the_words_of_the_recipe(setting):
    ((name, value),) = setting.items()
    with pytest.raises(RecipeError) as caught:
        make_sampling(**setting)
    with pytest.raises(RecipeError) as wanted:
        Recipe().override({f"generate.{name}": value}, source="mine")
    assert f"mine: {caught.value}" == str(wanted.value)


def test_sampling_is_what_the_recipe_says():
    recipe = Recipe().override({"generate.top_k": 7, "generate.visual_guidance": 2})
    assert Sampling.of(recipe.generate) == Sampling(3.0, 2.0, 1.0, 7, 1.0)
