"""A cue's tokens are its own: alone, in company, in any order, window by window."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cues import BAR, BOTH, WINDOW, cue, many, random_adapter, tokens_of
from options import make_sampling

from expotion_cli.errors import UsageError
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.conditioning import FORM
from expotion_cli.music.generate.cpu_batch import CpuBatch
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.generate.sampling import Sampling, cue_noise
from expotion_cli.music.generate.window import Take
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.decoder import MusicDecoder

LONG_PROMPT = "slow sad piano " * 40


@pytest.fixture(scope="module")
def checkpoint(tiny_folder):
    return load_checkpoint(tiny_folder, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def engine(checkpoint) -> Engine:
    return Engine(checkpoint.decoder, checkpoint.text, random_adapter(checkpoint.decoder), WINDOW, BAR)


@pytest.fixture(scope="module")
def blind(checkpoint) -> Engine:
    """Without an adapter."""
    return Engine(checkpoint.decoder, checkpoint.text, None, WINDOW, BAR)


@pytest.fixture(scope="module")
def wide(checkpoint) -> Engine:
    """As wide as the embedded model: there, library kernels for different numbers of rows do round differently."""
    config = DecoderConfig(
        dim=192,
        num_layers=2,
        num_heads=6,
        ffn_dim=768,
        num_codebooks=8,
        vocab_size=194,
        text_dim=checkpoint.decoder.config.text_dim,
    )
    torch.manual_seed(9)
    decoder = MusicDecoder(config).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=2.0 * parameter.shape[1] ** -0.5)
    return Engine(decoder, checkpoint.text, random_adapter(decoder), WINDOW, BAR)


@pytest.fixture(scope="module")
def half(tiny_folder) -> Engine:
    """In bf16."""
    checkpoint = load_checkpoint(tiny_folder, device=torch.device("cpu"), dtype=torch.bfloat16)
    return Engine(checkpoint.decoder, checkpoint.text, random_adapter(checkpoint.decoder), WINDOW, BAR)


COMPANY = [
    cue(9, "upbeat electronic dance", seed=4),
    cue(23, "fast epic strings with drums", seed=1),
    cue(16, "", seed=2),
    cue(26, LONG_PROMPT, seed=3),
    cue(30, "slow sad piano", seed=5, sampling=replace(BOTH, guidance=1.0)),
    cue(12, "dreamy", seed=6, conditioning=None),
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "num_steps"), [("engine", 11), ("engine", 30), ("wide", 21)])
def test_a_cue_gives_the_same_tokens_alone_and_among_neighbours_in_any_order(request, kind, num_steps):
    engine = request.getfixturevalue(kind)
    mine = cue(num_steps, "slow sad piano with drums", seed=77)
    (alone,) = tokens_of(engine, [mine])
    assert alone.shape == (engine.decoder.config.num_codebooks, num_steps)
    assert len(np.unique(alone)) > 8
    for neighbours, place in ((COMPANY[:3], 0), (COMPANY[:3], 3), (COMPANY[2::-1], 1), (COMPANY, 4)):
        batch = [*neighbours[:place], mine, *neighbours[place:]]
        assert np.array_equal(tokens_of(engine, batch)[place], alone)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bf16 in this processor")
def test_a_row_alone_rounds_as_in_company_in_bf16(checkpoint):
    torch.manual_seed(9)
    sizes = {"dim": 512, "num_layers": 4, "num_heads": 8, "ffn_dim": 2048, "num_codebooks": 4, "vocab_size": 2048}
    decoder = MusicDecoder(DecoderConfig(**sizes, text_dim=checkpoint.decoder.config.text_dim)).to(torch.bfloat16)
    engine = Engine(decoder.eval().requires_grad_(False), checkpoint.text, None, 64)
    plain = make_sampling(guidance=1.0, visual_guidance=1.0, top_k=250)
    cues = [cue(40, seed=seed, sampling=plain, conditioning=None) for seed in range(3)]
    together = tokens_of(engine, cues)
    for one, expected in zip(cues, together, strict=True):
        assert np.array_equal(tokens_of(engine, [one])[0], expected)


@pytest.mark.long
def test_the_batch_size_never_changes_a_token(engine):
    batch = [*COMPANY, cue(20, seed=9), cue(10, seed=10), cue(27, seed=11)]
    expected = tokens_of(engine, batch, batch_size=1)
    for size in (2, 7, "auto"):
        for ours, theirs in zip(tokens_of(engine, batch, batch_size=size), expected, strict=True):
            assert np.array_equal(ours, theirs)


def test_twins_in_a_batch_are_twins_and_another_seed_or_prompt_is_not(engine):
    first, twin, other, spoken = tokens_of(engine, [cue(20), cue(20), cue(20, seed=1), cue(20, "upbeat dance")])
    assert np.array_equal(first, twin)
    for different in (other, spoken):
        assert (different != first).mean() > 0.3


def test_another_picture_or_length_is_another_cue():
    base = cue(20)
    assert base.digest == cue(20).digest
    pose = base.conditioning["pose"]
    moved = {**base.conditioning, "pose": replace(pose, values=pose.values + 1)}
    hidden = {**base.conditioning, "pose": replace(pose, mask=np.zeros(20, dtype=bool))}
    others = [
        cue(21), cue(20, seed=1), cue(20, "another"), cue(20, sampling=make_sampling()), cue(20, conditioning=None),
        cue(20, conditioning=moved), cue(20, conditioning=hidden),
    ]  # fmt: skip
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1


def test_how_a_number_is_written_does_not_make_another_cue():
    assert cue(20, sampling=make_sampling(guidance=3)).digest == cue(20, sampling=make_sampling(guidance=3.0)).digest


# Generation once more: one cue, no cache, no blocks; every position recomputes everything from the start.


def direct_tokens(engine: Engine, request: CueRequest) -> np.ndarray:
    decoder, num_steps = engine.decoder, request.num_steps
    num_codebooks = decoder.config.num_codebooks
    noise = cue_noise(request.seed, request.digest, num_steps, num_codebooks)
    tokens = np.zeros((num_codebooks, num_steps), dtype=np.int64)
    start, known = 0, 0
    while True:
        length = min(engine.window, num_steps - start)
        for position in range(known + 1, length + num_codebooks):
            logits = guided_logits(engine, request, tokens, start, length, position)
            for k in range(num_codebooks):
                step = position - 1 - k
                if known <= step < length:
                    tokens[k, start + step] = pick(logits[k], noise[start + step, k], request.sampling)
        if start + length == num_steps:
            return tokens
        known = engine.overlap
        start += engine.window - engine.overlap


def guided_logits(engine, request, tokens, start, length, position) -> np.ndarray:
    """[K, V]: what position `position` (not yet filled) should hold, from all positions before it."""
    decoder = engine.decoder
    num_codebooks = len(tokens)
    laid = np.full((num_codebooks, position), decoder.config.start_token)
    for k in range(num_codebooks):
        for place in range(k + 1, min(position, k + 1 + length)):
            laid[k, place] = tokens[k, start + place - 1 - k]

    def logits(has_text: bool, has_picture: bool) -> np.ndarray:
        states, mask = engine.text.encode(request.prompt)
        text = decoder.encode_text(states[None], (mask if has_text else torch.zeros_like(mask))[None])
        visual = None
        if engine.adapter is not None and request.conditioning is not None:
            visual = engine.adapter.side_stream(decoder, condition_rows(engine, request, start, has_picture))
        with torch.no_grad():
            return (
                decoder(torch.from_numpy(laid)[None], LockstepContext(text, side_stream=visual))[0, :, -1]
                .double()
                .numpy()
            )

    g, v = request.sampling.guidance, request.sampling.visual_guidance
    if not request.has_picture or v == 1:
        if g == 1:
            return logits(True, True)
        unconditional = logits(False, True)
        return unconditional + g * (logits(True, True) - unconditional)
    text_alone = logits(True, False)
    nothing = logits(False, False)
    return nothing + g * (text_alone - nothing) + v * (logits(True, True) - text_alone)


def condition_rows(engine, request, start, has_picture) -> torch.Tensor:
    rows = []
    for position in range(engine.window + 1):
        step, row = min(start + position, request.num_steps - 1), []
        for spec in engine.adapter.config.streams:
            stream = request.conditioning.get(spec.name)
            is_seen = stream is not None and stream.mask[step] and (has_picture or spec.name == FORM)
            row += stream.values[step].tolist() if is_seen else engine.adapter.missing[spec.name].tolist()
        rows.append(row)
    return torch.tensor(rows)[None]


def pick(logits: np.ndarray, uniform: float, sampling: Sampling) -> int:
    order = np.argsort(-logits, kind="stable")[: sampling.top_k or None]
    weights = np.exp((logits[order] - logits[order[0]]) / sampling.temperature)
    reached, target = 0.0, uniform * weights.sum()
    for token, weight in zip(order, weights, strict=True):
        reached += weight
        if target < reached:
            return int(token)
    return int(order[-1])


@pytest.mark.parametrize(("guidance", "visual"), [(1.0, 1.0), (3.0, 1.0), (1.0, 2.0), (2.0, 2.0), (3.0, 1.5)])
def test_guidance_equals_direct_computation(engine, guidance, visual):
    request = cue(10, sampling=make_sampling(guidance=guidance, visual_guidance=visual, top_k=20, temperature=1.2))
    assert tokens_of(engine, [request])[0].tolist() == direct_tokens(engine, request).tolist()


@pytest.mark.parametrize("num_steps", [1, WINDOW, WINDOW + 1, 7 * WINDOW // 2])
def test_cues_of_every_length_equal_direct_computation_window_by_window(engine, num_steps):
    request = cue(num_steps, seed=3, sampling=make_sampling(guidance=2.0, visual_guidance=1.0, top_k=30))
    ours = tokens_of(engine, [request])[0]
    assert ours.shape == (4, num_steps) and ours.dtype == np.int64
    assert ours.min() >= 0 and ours.max() < engine.decoder.config.vocab_size
    assert ours.tolist() == direct_tokens(engine, request).tolist()


def test_a_longer_greedy_cue_begins_as_a_shorter_one(blind):
    sampling = make_sampling(guidance=2.0, temperature=0)
    short, longer = tokens_of(blind, [cue(n, sampling=sampling, conditioning=None) for n in (WINDOW, 3 * WINDOW)])
    assert np.array_equal(longer[:, :WINDOW], short)


def test_no_picture_and_no_adapter_work_and_equal_direct_computation(engine, blind):
    for composer, request in (
        (engine, cue(12, conditioning=None)),
        (blind, cue(12, conditioning=None)),
        (blind, cue(12, sampling=replace(BOTH, visual_guidance=1.0))),
        (engine, cue(12, conditioning={})),
    ):
        assert tokens_of(composer, [request])[0].tolist() == direct_tokens(composer, request).tolist()


def test_a_picture_in_which_nobody_is_seen_equals_one_that_lacks_the_stream(engine):
    base = cue(12, sampling=make_sampling(temperature=0))
    hidden = replace(base.conditioning["pose"], mask=np.zeros(12, dtype=bool))
    unseen = cue(12, sampling=base.sampling, conditioning={**base.conditioning, "pose": hidden})
    absent = cue(12, sampling=base.sampling, conditioning={FORM: base.conditioning[FORM]})
    assert base.has_picture and not unseen.has_picture and not absent.has_picture
    first, second, seen = tokens_of(engine, [unseen, absent, base])
    assert np.array_equal(first, second)
    assert not np.array_equal(first, seen)


def test_windows_begin_on_bar_lines_and_overlap_by_about_half(checkpoint):
    for window, bar, stride in ((16, 4, 8), (40, 12, 12), (25, 1, 12), (384, 48, 192), (100, 48, 48)):
        engine = Engine(checkpoint.decoder, checkpoint.text, None, window, bar)
        assert engine.window - engine.overlap == stride and stride % bar == 0


def test_progress_rises_to_at_most_the_cues_length(engine):
    seen = []
    tokens_of(engine, [cue(40)], on_progress=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {40}
    done = [d for d, _ in seen]
    assert 0 < min(done) and max(done) <= 40 and max(done) > 24


@pytest.mark.parametrize("size", [0, -3, "many"])
def test_a_batch_size_below_one_or_no_number_is_a_usage_error(engine, size):
    with pytest.raises(UsageError, match=str(size)):
        list(engine.generate([cue(2)], batch_size=size))


def test_no_cues_give_no_tokens(engine):
    assert list(engine.generate([])) == []


def test_the_decoders_memory_does_not_grow_with_the_cues_length(engine, monkeypatch):
    sizes = []
    new_cache = MusicDecoder.new_cache

    def watched(decoder: MusicDecoder, rows: int, places: int):
        sizes.append(places)
        return new_cache(decoder, rows, places)

    monkeypatch.setattr(MusicDecoder, "new_cache", watched)
    tokens_of(engine, [cue(6)])
    assert sizes == [6 + 4 - 1]
    sizes.clear()
    tokens_of(engine, [cue(9 * WINDOW)])
    full = WINDOW + 4 - 1
    assert sizes.count(full) == 1 + math.ceil(8 * WINDOW / (WINDOW // 2)) and max(sizes) == full


@pytest.mark.long
@pytest.mark.parametrize("kind", ["engine", "wide", "half"])
def test_a_cue_is_the_same_alone_at_batch_7_and_at_batch_32_with_other_neighbours(request, kind):
    engine, mine = request.getfixturevalue(kind), cue(19, "slow sad piano", seed=123)
    (alone,) = tokens_of(engine, [mine])
    for size, company in ((7, many(13)), (32, many(41)[5:])):
        place = len(company) // 2
        batch = [*company[:place], mine, *company[place:]]
        assert np.array_equal(tokens_of(engine, batch, batch_size=size)[place], alone)


def test_no_row_idles_while_a_cue_waits(engine, monkeypatch):
    busy = []
    step = CpuBatch.step

    def watched(cohorts: CpuBatch):
        busy.append(len(cohorts.takes))
        return step(cohorts)

    monkeypatch.setattr(CpuBatch, "step", watched)
    batch = many(12)
    tokens_of(engine, batch, batch_size=5)
    last_full = max(i for i, count in enumerate(busy) if count == 5)
    assert set(busy[: last_full + 1]) == {5}
    windows = sum(math.ceil(max(0, c.num_steps - WINDOW) / (WINDOW - engine.overlap)) + 1 for c in batch)
    lengths = sum(c.num_steps for c in batch) + windows * (4 - 1)  # the delay pattern takes three more places a window
    assert sum(busy) == lengths


def test_the_automatic_batch_shrinks_with_the_free_memory(engine, monkeypatch):
    takes = [Take(i, c, (0, 1, 2, 3), 64, WINDOW, WINDOW // 2, lambda _: 64) for i, c in enumerate(many(60))]
    assert engine.auto_batch(takes) == 64 // 3
    monkeypatch.setattr("expotion_cli.music.generate.engine._free_bytes", lambda device: 2_000_000)
    assert 1 <= engine.auto_batch(takes) < 10
    monkeypatch.setattr("expotion_cli.music.generate.engine._free_bytes", lambda device: 0)
    assert engine.auto_batch(takes) == 1
