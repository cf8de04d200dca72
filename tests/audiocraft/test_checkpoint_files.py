"""This project's decoder and codec, loaded from audiocraft's files, are the same functions as audiocraft's own."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from expotion_cli.music.attending import Passage
from expotion_cli.music.checkpoint import load_checkpoint
from expotion_cli.music.delay import apply_delay
from expotion_cli.music.engine import CueRequest
from expotion_cli.music.loading import load_model
from expotion_cli.music.sampling import Sampling

PROMPT = "slow sad piano"
CPU = torch.device("cpu")
KINDS = ("mono", "stereo")


@pytest.fixture(params=KINDS)
def exported(request):
    return request.getfixturevalue(request.param)


def theirs(lm, tokens: torch.Tensor, prompt: str | None) -> torch.Tensor:
    """audiocraft's logits [1, K, T, V]; no prompt stands for the unconditional half of guidance."""
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout, ConditioningAttributes

    attributes = [ConditioningAttributes(text={"description": prompt or PROMPT})]
    if prompt is None:
        attributes = ClassifierFreeGuidanceDropout(p=1.0)(attributes)
    provider = lm.condition_provider
    with torch.no_grad():
        return lm(tokens, [], provider(provider.tokenize(attributes)))


@pytest.mark.parametrize("prompt", [PROMPT, "epic strings, drums and a very long tail of other words", None])
def test_logits_equal_audiocrafts_over_prefill_and_cached_steps(exported, prompt):
    checkpoint = load_checkpoint(exported.folder, device=CPU, dtype=torch.float32)
    decoder, text = checkpoint.decoder, checkpoint.text
    torch.manual_seed(1)
    tokens = apply_delay(torch.randint(0, 64, (1, decoder.config.num_codebooks, 40)), 64)[:, :, :40]
    expected = theirs(exported.lm, tokens, prompt)
    with torch.no_grad():
        states, mask = text.encode(prompt or PROMPT)
        mask = mask if prompt is not None else torch.zeros_like(mask)
        memory = decoder.remember_text(states[None], mask[None])
        whole = decoder(tokens, Passage(memory))
        passage = Passage(memory, cache=decoder.new_cache(1, 40))
        parts = [decoder(tokens[:, :, :25], passage)]
        parts += [decoder(tokens[:, :, i : i + 1], passage) for i in range(25, 40)]
    assert (whole - expected).abs().max() <= 1e-4
    assert (torch.cat(parts, dim=2) - expected).abs().max() <= 1e-4
    assert expected.std() > 0.1


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_tokens_are_audiocrafts_for_250_steps(mono, guidance):
    from audiocraft.models import MusicGen

    reference = MusicGen("reference", mono.codec, mono.lm, max_duration=30)
    reference.set_generation_params(use_sampling=False, duration=5, cfg_coef=guidance)
    _, expected = reference.generate([PROMPT], return_tokens=True)
    model = load_model(str(mono.folder), device="cpu")
    timeline = model.codec.timeline(Fraction(5), None)
    request = CueRequest(PROMPT, timeline, None, 0, Sampling(guidance=guidance, temperature=0))
    ((_, tokens),) = model.generate([request])
    assert tokens.shape == (4, 250) and tokens.tolist() == expected[0].tolist()


def test_the_codecs_sound_equals_audiocrafts(exported):
    model = load_model(str(exported.folder), device="cpu")
    tokens = np.random.default_rng(0).integers(0, 64, (model.codec.num_streams, 50))
    rendering = model.codec.decode(tokens, model.codec.timeline(Fraction(1), None))
    sides = [tokens[0::2], tokens[1::2]] if model.codec.num_streams == 8 else [tokens, tokens]
    with torch.no_grad():
        expected = [exported.codec.decode(torch.from_numpy(side)[None])[0, 0].numpy() for side in sides]
    assert rendering.audio.shape == (2, 32_000) and np.abs(np.stack(expected)).max() > 1e-3
    assert np.abs(rendering.audio - np.stack(expected)).max() <= 1e-5


def test_stereo_files_delay_their_codebooks_in_pairs(stereo):
    checkpoint = load_checkpoint(stereo.folder, device=CPU, dtype=torch.float32)
    assert list(checkpoint.decoder.config.delays) == list(stereo.lm.pattern_provider.delays)


def test_settings_as_omegaconfs_own_objects_load_the_same_model(mono, tmp_path):
    import shutil

    folder = shutil.copytree(mono.folder, tmp_path / "objects")
    package = torch.load(folder / "state_dict.bin", weights_only=True)
    torch.save({**package, "xp.cfg": mono.lm.cfg}, folder / "state_dict.bin")
    found = load_checkpoint(folder, device=CPU, dtype=torch.float32).decoder.state_dict()
    expected = load_checkpoint(mono.folder, device=CPU, dtype=torch.float32).decoder.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
