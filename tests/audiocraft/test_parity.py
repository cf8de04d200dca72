"""This project's decoder and codec, loaded from audiocraft's files, are the same functions as audiocraft's own."""

from __future__ import annotations

import itertools
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from audiocraft_files import LM_FILE, change_package, load
from options import make_request, make_sampling

from expotion_cli.music.generate.sampling import guide
from expotion_cli.music.load import load_model
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.delay import apply_delay, remove_delay

PROMPTS = ("slow sad piano", "epic strings, drums and a very long tail of other words")
START, STEPS = 64, 40


def conditions(lm, prompt: str) -> dict:
    """audiocraft's two rows for guidance: with the words, and without."""
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout, ConditioningAttributes

    given = [ConditioningAttributes(text={"description": prompt})]
    rows = given + ClassifierFreeGuidanceDropout(p=1.0)(given)
    return lm.condition_provider(lm.condition_provider.tokenize(rows))


def memory(checkpoint, prompt: str):
    """Our memory of the same two rows."""
    states, mask = checkpoint.text.encode(prompt)
    return checkpoint.decoder.encode_text(torch.stack([states, states]), torch.stack([mask, torch.zeros_like(mask)]))


def laid_out(lm, codes: torch.Tensor) -> torch.Tensor:
    """Codes [B, K, S] in audiocraft's own delay pattern. [B, K, P]"""
    return lm.pattern_provider.get_pattern(codes.shape[-1]).build_pattern_sequence(codes, lm.special_token_id)[0]


def sequence(lm) -> torch.Tensor:
    """Random tokens in the delay pattern, the same for both rows. [2, K, P]"""
    torch.manual_seed(1)
    return laid_out(lm, torch.randint(0, START, (1, lm.n_q, STEPS))).expand(2, -1, -1)


@torch.no_grad()
@pytest.mark.parametrize("prompt", PROMPTS)
def test_guided_logits_equal_audiocrafts_whole_and_over_prefill_and_cached_steps(exported, prompt):
    lm, ours = exported.lm, load(exported.folder)
    tokens, given, text = sequence(lm), conditions(lm, prompt), memory(ours, prompt)
    expected = lm(tokens, [], given)
    assert (ours.decoder(tokens, LockstepContext(text)) - expected).abs().max() <= 1e-4
    assert expected.std() > 0.1
    assert (expected[0] - expected[1]).abs().max() > 0.1, "the words matter"
    context = LockstepContext(text, cache=ours.decoder.new_cache(2, tokens.shape[2]))
    edges = [0, *range(16, tokens.shape[2] + 1)]
    with lm.streaming():
        for first, last in itertools.pairwise(edges):
            part = tokens[:, :, first:last]
            theirs, found = lm(part, [], given), ours.decoder(part, context)
            assert (found - theirs).abs().max() <= 1e-4, (first, last)
            assert (found - expected[:, :, first:last]).abs().max() <= 1e-4, (first, last)
            guided = theirs[1] + (theirs[0] - theirs[1]) * 3.0
            ours_guided = guide(found.flip(0), make_sampling(guidance=3.0))
            assert (ours_guided - (found[1] + (found[0] - found[1]) * 3.0)).abs().max() <= 1e-5, (first, last)
            # A guidance of 3 weighs the two rows by 3 and -2: what the logits may differ by counts five times.
            assert (ours_guided - guided).abs().max() <= 5 * 1e-4, (first, last)


@torch.no_grad()
def test_a_file_with_torchs_own_attention_inside_gives_the_same_logits(plain):
    lm, ours = plain.lm, load(plain.folder)
    tokens = sequence(lm)
    assert any(".mha." in name for name in lm.state_dict())
    theirs = lm(tokens, [], conditions(lm, PROMPTS[1]))
    assert (ours.decoder(tokens, LockstepContext(memory(ours, PROMPTS[1]))) - theirs).abs().max() <= 1e-4
    assert theirs.std() > 0.1


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_are_audiocrafts_for_250_steps(exported, guidance):
    from audiocraft.models import MusicGen

    reference = MusicGen("reference", exported.codec, exported.lm, max_duration=30)
    reference.set_generation_params(use_sampling=False, duration=5, cfg_coef=guidance)
    _, expected = reference.generate(PROMPTS[:1], return_tokens=True)
    model = load_model(str(exported.folder), device="cpu", dtype="fp32")
    timeline = model.codec.timeline(Fraction(5), None)
    request = make_request(PROMPTS[0], timeline, None, 0, make_sampling(guidance=guidance, temperature=0))
    ((_, tokens),) = model.generate([request])
    assert tokens.shape == (exported.lm.n_q, 250) and len(np.unique(tokens)) > 10
    assert tokens.tolist() == expected[0].tolist()


def test_the_codecs_sound_equals_audiocrafts(exported):
    model = load_model(str(exported.folder), device="cpu")
    tokens = np.random.default_rng(0).integers(0, START, (model.codec.num_codebooks, 50))
    rendering = model.codec.decode(tokens, model.codec.timeline(Fraction(1), None))
    sides = [tokens[0::2], tokens[1::2]] if model.codec.num_codebooks == 8 else [tokens, tokens]
    with torch.no_grad():
        expected = [exported.codec.decode(torch.from_numpy(side)[None])[0, 0].numpy() for side in sides]
    assert rendering.audio.shape == (2, 32_000) and np.abs(np.stack(expected)).max() > 1e-3
    assert np.abs(rendering.audio - np.stack(expected)).max() <= 1e-5


@pytest.mark.parametrize("num_steps", [4, 7, 50])
def test_the_delay_pattern_equals_audiocrafts(exported, num_steps):
    lm, delays = exported.lm, load(exported.folder).decoder.config.delays
    assert list(delays) == list(lm.pattern_provider.delays)
    codes = torch.randint(0, START, (2, lm.n_q, num_steps))
    assert torch.equal(apply_delay(codes, START, delays), laid_out(lm, codes))
    assert torch.equal(remove_delay(laid_out(lm, codes), num_steps, delays), codes)


def test_settings_as_omegaconfs_own_objects_load_the_same_model(mono, tmp_path):
    folder = shutil.copytree(mono.folder, tmp_path / "objects")
    change_package(folder / LM_FILE, lambda package: package.update({"xp.cfg": mono.lm.cfg}))
    found, expected = load(folder).decoder.state_dict(), load(mono.folder).decoder.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
