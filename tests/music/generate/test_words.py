"""Prompts that change and negative prompts: what they change, and that neighbours and runners don't."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cues import BAR, WINDOW, FixedEngine, cue, random_adapter, tokens_of
from options import make_sampling

from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.generate.constraints import DRAWN, NO_SOURCE, Constraints
from expotion_cli.music.generate.engine import Engine

GREEDY = make_sampling(guidance=2.0, visual_guidance=1.5, temperature=0.0)
CHANGE = 20


@pytest.fixture(scope="module", params=[Engine, FixedEngine])
def engine(request, tiny_folder) -> Engine:
    loaded = load_checkpoint(tiny_folder, device=torch.device("cpu"), dtype=torch.float32)
    return request.param(loaded.decoder, loaded.text, random_adapter(loaded.decoder), WINDOW, BAR)


def changing(steps=40, **options):
    return replace(cue(steps, "slow sad piano", **options), later_prompts=((CHANGE, "upbeat electronic dance"),))


def test_until_the_prompt_changes_the_music_is_that_of_the_first_one(engine):
    plain, both = tokens_of(engine, [cue(40, sampling=GREEDY), changing(sampling=GREEDY)])
    assert np.array_equal(plain[:, :CHANGE], both[:, :CHANGE])
    assert not np.array_equal(plain[:, CHANGE:], both[:, CHANGE:])


def test_what_follows_goes_on_from_what_was_there(engine):
    """With the first part given, a cue of the second prompt alone goes on likewise, from the same window on."""
    (both,) = tokens_of(engine, [changing(sampling=GREEDY)])
    given = both.copy()
    given[:, CHANGE:] = DRAWN
    none = np.full(given.shape, NO_SOURCE)
    settled = Constraints(given, none, np.ones((1, 64), dtype=bool), np.zeros(given.shape, dtype=np.int64))
    alone = replace(changing(sampling=GREEDY), prompt="upbeat electronic dance", constraints=settled)
    assert np.array_equal(tokens_of(engine, [alone])[0], both)


def test_neighbours_and_batch_sizes_do_not_matter_to_changing_and_negative_prompts(engine):
    cues = [
        changing(seed=1),
        changing(33, seed=2),
        cue(30),
        replace(cue(25, seed=3), negative_prompt="fast epic strings"),
    ]
    together = tokens_of(engine, cues)
    for one, found in zip(cues, together, strict=True):
        assert np.array_equal(tokens_of(engine, [one], batch_size=1)[0], found)


def test_a_negative_prompt_leads_elsewhere_only_where_text_guides(engine):
    plain = cue(20, sampling=GREEDY)
    without, away = tokens_of(engine, [plain, replace(plain, negative_prompt="slow sad piano, slow")])
    assert not np.array_equal(without, away)
    alone = replace(plain, sampling=make_sampling(guidance=1.0, visual_guidance=1.5, temperature=0.0))
    without, away = tokens_of(engine, [alone, replace(alone, negative_prompt="slow sad piano, slow")])
    assert np.array_equal(without, away)


def test_away_from_the_prompt_itself_guidance_has_no_weight(engine):
    """Both rows hear the same words, so what is drawn is what the prompt gives unguided."""
    plain = replace(cue(20), conditioning=None, sampling=make_sampling(guidance=5.0, temperature=0.0))
    guided = replace(plain, negative_prompt=plain.prompt)
    bare = replace(plain, sampling=make_sampling(guidance=1.0, temperature=0.0))
    found, wanted = tokens_of(engine, [guided, bare])
    assert np.array_equal(found, wanted)


def test_windows_in_which_all_is_given_are_passed_over(engine):
    """Bars late in a cue cost their own windows, and come out as if all had been decoded."""
    (old,) = tokens_of(engine, [cue(60)])
    given = old.copy()
    given[:, 40:44] = DRAWN
    none = np.full(given.shape, NO_SOURCE)
    settled = Constraints(given, none, np.ones((1, 64), dtype=bool), np.zeros(given.shape, dtype=np.int64))
    told: list[int] = []
    request = replace(cue(60), constraints=settled)
    (new,) = tokens_of(engine, [request], on_progress=lambda done, total: told.append(done))
    assert np.array_equal(np.delete(new, np.s_[40:44], axis=1), np.delete(old, np.s_[40:44], axis=1))
    assert min(told) > 30, "the first windows are not decoded"
