"""MusicGen Melody, loaded from audiocraft's files, is audiocraft's own; its melodies are those of both extractors."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from audiocraft_files import LM_FILE, load
from options import make_request, make_sampling
from tiny_melody import tune

from expotion_cli.audio.pitch_classes import SAMPLE_RATE, class_powers, pitch_classes
from expotion_cli.music.load import load_model
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.prefix import NO_PITCH, encode_prefix

PROMPT = "epic strings, drums and a very long tail of other words"
STEPS = 40
TUNE = tune(7.0, (60, 64, 67, 71, 62))


def rows_of(lm, sound: np.ndarray) -> dict:
    """audiocraft's two rows for guidance: with words and melody, and without."""
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout, ConditioningAttributes, WavCondition

    wave = torch.from_numpy(sound)[None, None]
    melody = WavCondition(wave, torch.tensor([wave.shape[-1]]), sample_rate=[SAMPLE_RATE], path=[None])
    given = [ConditioningAttributes(text={"description": PROMPT}, wav={"self_wav": melody})]
    rows = given + ClassifierFreeGuidanceDropout(p=1.0)(given)
    return lm.condition_provider(lm.condition_provider.tokenize(rows))


def prefix_of(checkpoint, sound: np.ndarray):
    """Our prefix of the same two rows."""
    states, mask = checkpoint.text.encode(PROMPT, is_padded=False)
    frames = checkpoint.decoder.config.melody_frames
    pitches = torch.from_numpy(np.resize(pitch_classes(sound), frames).astype(np.int64))
    return encode_prefix(
        checkpoint.decoder,
        torch.stack([states, states]),
        torch.stack([mask, torch.zeros_like(mask)]),
        torch.stack([pitches, torch.full_like(pitches, NO_PITCH)]),
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", ["melodic", "melodic_stereo"])
def test_logits_of_both_guidance_rows_equal_audiocrafts_whole_and_step_by_step(request, kind):
    exported = request.getfixturevalue(kind)
    lm, ours = exported.lm, load(exported.folder)
    torch.manual_seed(1)
    codes = torch.randint(0, 64, (1, lm.n_q, STEPS))
    pattern = lm.pattern_provider.get_pattern(STEPS)
    tokens = pattern.build_pattern_sequence(codes, lm.special_token_id)[0].expand(2, -1, -1)
    given, prefix = rows_of(lm, TUNE), prefix_of(ours, TUNE)
    expected = lm(tokens, [], given)
    assert (ours.decoder(tokens, LockstepContext(prefix)) - expected).abs().max() <= 1e-4
    assert expected.std() > 0.1 and (expected[0] - expected[1]).abs().max() > 0.1
    other = lm(tokens, [], rows_of(lm, tune(7.0, (61, 66))))
    assert (other[0] - expected[0]).abs().max() > 0.1, "the melody matters"
    assert (other[1] - expected[1]).abs().max() <= 1e-5, "not where guidance leaves it out"
    cache = ours.decoder.new_cache(2, prefix.length + tokens.shape[2])
    context = LockstepContext(prefix, cache=cache)
    with lm.streaming():
        for first, last in itertools.pairwise([0, *range(16, tokens.shape[2] + 1)]):
            part = tokens[:, :, first:last]
            theirs, found = lm(part, [], given), ours.decoder(part, context)
            assert (found - theirs).abs().max() <= 1e-4, (first, last)


def reference_of(exported, seconds: float, guidance: float, **options):
    from audiocraft.models import MusicGen

    reference = MusicGen("reference", exported.codec, exported.lm, max_duration=30)
    reference.set_generation_params(use_sampling=False, duration=seconds, cfg_coef=guidance, **options)
    wave = torch.from_numpy(TUNE)[None, None]
    _, tokens = reference.generate_with_chroma([PROMPT], wave, SAMPLE_RATE, return_tokens=True)
    return tokens[0]


@pytest.mark.parametrize(("kind", "guidance"), [("melodic", 1.0), ("melodic", 3.0), ("melodic_stereo", 3.0)])
def test_greedy_tokens_are_audiocrafts_for_250_steps(request, kind, guidance):
    exported = request.getfixturevalue(kind)
    expected = reference_of(exported, 5, guidance)
    model = load_model(str(exported.folder / LM_FILE), device="cpu", dtype="fp32")
    timeline = model.codec.timeline(Fraction(5), None)
    melody = model.melody(TUNE, timeline)
    sampling = make_sampling(guidance=guidance, temperature=0)
    ((_, tokens),) = model.generate([make_request(PROMPT, timeline, None, 0, sampling, melody=melody)])
    assert tokens.shape == (exported.lm.n_q, 250) and len(np.unique(tokens)) > 10
    assert tokens.tolist() == expected.tolist()


def test_a_long_cues_windows_get_the_melody_that_audiocraft_gives_them(melodic, monkeypatch):
    """With our stride of 15 s, which it can be told to take."""
    heard = []
    conditioner = melodic.lm.condition_provider.conditioners["self_wav"]
    compute = conditioner._get_wav_embedding
    monkeypatch.setattr(conditioner, "_get_wav_embedding", lambda wav: (heard.append(compute(wav)), heard[-1])[1])

    def generate(prompt, conditions, *, max_gen_len, **_):
        return made(melodic.lm, conditions, max_gen_len)

    monkeypatch.setattr(melodic.lm, "generate", generate)
    reference_of(melodic, 47, 1.0, extend_stride=15)
    model = load_model(str(melodic.folder / LM_FILE), device="cpu", dtype="fp32")
    melody = model.melody(TUNE, model.codec.timeline(Fraction(47), None))
    ours = [melody.pitches(Fraction(start)) for start in (0, 15, 30)]
    theirs = [row[0].argmax(dim=-1).numpy() for row in heard]
    assert len(theirs) == 3
    for window, (found, expected) in enumerate(zip(ours, theirs, strict=True)):
        assert np.mean(found != expected) < 0.01, window
    assert not np.array_equal(ours[0], ours[1])


def made(lm, conditions, length: int) -> torch.Tensor:
    """Tokens of no meaning, once the conditions have been computed."""
    lm.condition_provider(lm.condition_provider.tokenize(conditions))
    return torch.zeros(1, lm.n_q, length, dtype=torch.int64)


def noisy(length: int) -> np.ndarray:
    return tune(length / SAMPLE_RATE) + 0.01 * np.random.default_rng(length).normal(size=length).astype(np.float32)


@pytest.mark.parametrize("length", [5000, 100_001, 30 * SAMPLE_RATE])
def test_pitch_classes_are_those_of_both_published_extractors(length):
    from audiocraft.modules.chroma import ChromaExtractor
    from transformers import MusicgenMelodyFeatureExtractor

    sound = noisy(length)
    wave = torch.from_numpy(sound)
    extractor = ChromaExtractor(SAMPLE_RATE, n_chroma=12, radix2_exp=14, argmax=True)
    theirs = extractor(wave[None])[0].argmax(dim=-1).numpy()
    features = MusicgenMelodyFeatureExtractor()(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    transformers = features["input_features"][0].argmax(dim=-1).numpy()
    found, powers = pitch_classes(sound), np.sort(class_powers(sound), axis=1)
    clear = powers[:, -2] < powers[:, -1] * (1 - 1e-3)
    assert len(found) == len(theirs) == len(transformers) and clear.mean() > 0.9
    assert np.array_equal(found[clear], theirs[clear]) and np.array_equal(found[clear], transformers[clear])
