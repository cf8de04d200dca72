"""Given, returning and masked tokens are what the decoder draws around, in any company and across windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cues import BAR, WINDOW, FixedEngine, cue, random_adapter, tokens_of

from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.generate.constraints import DRAWN, NO_SOURCE, Constraints
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.request import CueRequest


@pytest.fixture(scope="module")
def engine(tiny_folder) -> Engine:
    loaded = load_checkpoint(tiny_folder, device=torch.device("cpu"), dtype=torch.float32)
    return Engine(loaded.decoder, loaded.text, random_adapter(loaded.decoder), WINDOW, BAR)


def constrained(steps: int, seed: int = 0) -> CueRequest:
    """Row 0 is given at every third step, row 1 returns after 5 and row 2 after 20 steps, row 3 draws odd tokens."""
    shape = (4, steps)
    given, source = np.full(shape, DRAWN), np.full(shape, NO_SOURCE)
    given[0, ::3] = np.arange(steps)[::3] % 60
    source[1, 5:] = np.arange(steps - 5)
    if steps > 20:
        source[2, 20:] = np.arange(steps - 20)
    masks = np.ones((2, 64), dtype=bool)
    masks[1, ::2] = False
    mask_of = np.zeros(shape, dtype=np.int64)
    mask_of[3] = 1
    return replace(cue(steps, seed=seed), constraints=Constraints(given, source, masks, mask_of))


@pytest.mark.parametrize("steps", [12, 30])
def test_constraints_are_met_within_a_window_and_across_windows(engine, steps):
    (tokens,) = tokens_of(engine, [constrained(steps)])
    assert np.array_equal(tokens[0, ::3], np.arange(steps)[::3] % 60)
    assert np.array_equal(tokens[1, 5:], tokens[1, :-5])
    assert steps < 20 or np.array_equal(tokens[2, 20:], tokens[2, :-20])
    assert (tokens[3] % 2 == 1).all()
    free = tokens_of(engine, [cue(steps)])[0]
    assert (free[3] % 2 == 0).any() and not np.array_equal(free[1, 5:], free[1, :-5]), "the constraints do something"


def test_the_decoder_hears_what_is_given(engine):
    request = constrained(12)
    assert request.constraints is not None
    other = request.constraints.given.copy()
    other[0, ::3] = 7
    changed = replace(request, constraints=replace(request.constraints, given=other))
    same_noise = replace(changed, seed=request.seed)
    ours, theirs = tokens_of(engine, [request, same_noise])
    assert not np.array_equal(ours[1:], theirs[1:])


@pytest.mark.long
def test_a_constrained_cue_is_the_same_in_any_company_and_with_fixed_buffers(engine):
    batch = [constrained(30), cue(21), constrained(12, seed=3), cue(9), constrained(17, seed=5)]
    alone = [tokens_of(engine, [request])[0] for request in batch]
    fixed = FixedEngine(engine.decoder, engine.text, engine.adapter, WINDOW, BAR)
    for found in (tokens_of(engine, batch), tokens_of(engine, batch, batch_size=2), tokens_of(fixed, batch)):
        for ours, theirs in zip(found, alone, strict=True):
            assert np.array_equal(ours, theirs)


def test_constraints_are_part_of_a_requests_digest():
    assert constrained(12).digest != cue(12).digest
    assert constrained(12).digest == constrained(12).digest


def test_steps_that_stand_for_the_same_one_are_dropped():
    request = replace(cue(6), layout=np.array([0, 1, 2, 2, 3, 4, 5, 5]))
    assert request.num_steps == 8
    assert request.on_timeline(np.arange(8)[None]).tolist() == [[0, 1, 2, 4, 5, 6]]
