"""What `test_checkpoint_files` leaves open: guided logits, audiocraft's own steps and delays, other tensor names."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from expotion_cli.music.attending import Passage
from expotion_cli.music.checkpoint import load_checkpoint
from expotion_cli.music.delay import apply_delay, remove_delay
from expotion_cli.music.engine import CueRequest
from expotion_cli.music.loading import load_model
from expotion_cli.music.sampling import Sampling, guide
from expotion_cli.timing import Timeline

PROMPTS = ("slow sad piano", "epic strings, drums and a very long tail of other words")
START, STEPS = 64, 40


def both(exported):
    """(audiocraft's language model, our checkpoint read from its file)."""
    return exported.lm, load_checkpoint(exported.folder, device=torch.device("cpu"), dtype=torch.float32)


def conditions(lm, prompt: str) -> dict:
    """audiocraft's two rows for guidance: with the words, and without."""
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout, ConditioningAttributes

    given = [ConditioningAttributes(text={"description": prompt})]
    rows = given + ClassifierFreeGuidanceDropout(p=1.0)(given)
    return lm.condition_provider(lm.condition_provider.tokenize(rows))


def memory(checkpoint, prompt: str):
    """Our memory of the same two rows."""
    states, mask = checkpoint.text.encode(prompt)
    return checkpoint.decoder.remember_text(torch.stack([states, states]), torch.stack([mask, torch.zeros_like(mask)]))


def sequence(lm) -> torch.Tensor:
    """Random tokens in audiocraft's own delay pattern, the same for both rows. [2, K, T]"""
    torch.manual_seed(1)
    codes = torch.randint(0, START, (1, lm.n_q, STEPS))
    laid_out, _, _ = lm.pattern_provider.get_pattern(STEPS).build_pattern_sequence(codes, lm.special_token_id)
    return laid_out.expand(2, -1, -1)


@torch.no_grad()
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", ["mono", "stereo"])
def test_guided_logits_equal_audiocrafts_own_streaming_over_prefill_and_steps(kind, prompt, request):
    lm, ours = both(request.getfixturevalue(kind))
    tokens, given = sequence(lm), conditions(lm, prompt)
    passage = Passage(memory(ours, prompt), cache=ours.decoder.new_cache(2, tokens.shape[2]))
    edges = [0, *range(16, tokens.shape[2] + 1)]
    with lm.streaming():
        for first, last in zip(edges, edges[1:], strict=False):
            part = tokens[:, :, first:last]
            theirs, found = lm(part, [], given), ours.decoder(part, passage)
            assert (found - theirs).abs().max() <= 1e-4, (first, last)
            guided = theirs[1] + (theirs[0] - theirs[1]) * 3.0
            assert (guide(found.flip(0), Sampling(guidance=3.0)) - guided).abs().max() <= 1e-4, (first, last)
            assert (theirs[0] - theirs[1]).abs().max() > 0.1  # the words matter


@torch.no_grad()
def test_a_file_with_torchs_own_attention_inside_gives_the_same_logits(plain):
    lm, ours = both(plain)
    tokens = sequence(lm)
    assert any(".mha." in name for name in lm.state_dict())
    theirs = lm(tokens, [], conditions(lm, PROMPTS[1]))
    assert (ours.decoder(tokens, Passage(memory(ours, PROMPTS[1]))) - theirs).abs().max() <= 1e-4
    assert theirs.std() > 0.1


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_in_stereo_are_audiocrafts_for_250_steps(stereo, guidance):
    from audiocraft.modules.conditioners import ConditioningAttributes

    model = load_model(str(stereo.folder), device="cpu", dtype="fp32")
    sampling = Sampling(guidance=guidance, temperature=0)
    ((_, ours),) = model.generate([CueRequest(PROMPTS[0], Timeline(Fraction(5), Fraction(50)), None, 0, sampling)])
    attributes = [ConditioningAttributes(text={"description": PROMPTS[0]})]
    theirs = stereo.lm.generate(None, attributes, max_gen_len=250, use_sampling=False, cfg_coef=guidance)
    assert ours.shape == (8, 250) and len(np.unique(ours)) > 10
    assert ours.tolist() == theirs[0].tolist()


def test_the_delay_pattern_equals_audiocrafts():
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider

    for num_steps in (4, 7, 50):
        codes = torch.randint(0, START, (2, 4, num_steps))
        theirs, _, _ = DelayedPatternProvider(4).get_pattern(num_steps).build_pattern_sequence(codes, START)
        assert torch.equal(apply_delay(codes, START), theirs)
        assert torch.equal(remove_delay(theirs, num_steps), codes)
