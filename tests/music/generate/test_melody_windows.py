"""MusicGen Melody over several windows, held against the bare decoder: what each is told, and what it goes on from.

A window's tokens are compared with those that the decoder gives where it is run once over the whole window, with all
tokens known, behind a prefix made here from the tune's own span and the prompt that holds.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
import pytest
import torch
from cues import FixedEngine, random_adapter, tokens_of
from options import make_request, make_sampling
from tiny_melody import save_tiny_melody, tune

from expotion_cli.audio.pitch_classes import SAMPLE_RATE, pitch_classes
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.conditioning import FORM, StepStream, form_stream
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.melody import SPAN_S, Melody
from expotion_cli.music.transformer.attention import GuidanceRows
from expotion_cli.music.transformer.context import LockstepContext
from expotion_cli.music.transformer.delay import apply_delay
from expotion_cli.music.transformer.prefix import NO_PITCH, encode_prefix
from expotion_cli.timing import Timeline

WINDOW, OVERLAP, RATE = 20, 10, 1
"""A step is a second, so the tune moves along by ten seconds with each window."""
STEPS = 47
WINDOWS = ((0, 0, 20), (10, 20, 30), (20, 30, 40), (30, 40, 47))
"""First step, first step that is new, last step plus 1."""
PROMPT, LATER = "slow sad piano", "upbeat electronic dance"
TUNE = tune(33.0, (60, 65, 62, 69, 64, 67, 71))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_melody(tmp_path_factory.mktemp("melody") / "model")


def make_engine(folder, kind=Engine, dtype=torch.float32, *, adapted: bool = False):
    loaded = load_checkpoint(folder, device=torch.device("cpu"), dtype=dtype)
    return kind(loaded.decoder, loaded.text, random_adapter(loaded.decoder, WINDOW) if adapted else None, WINDOW)


@pytest.fixture(scope="module")
def plain(folder):
    return make_engine(folder)


@pytest.fixture(scope="module")
def adapted(folder):
    return make_engine(folder, adapted=True)


class Heard(Melody):
    """A melody whose pitch classes are computed once."""

    @cached_property
    def told(self) -> dict:
        return {}

    def pitches(self, start_s):
        if start_s not in self.told:
            self.told[start_s] = super().pitches(start_s)
        return self.told[start_s]


@pytest.fixture(scope="module")
def melody(plain):
    return Heard(TUNE, plain.decoder.config.melody_frames, is_long=True)


@lru_cache
def span_of(start: int, frames: int) -> torch.Tensor:
    """[F] pitch classes of the half minute of the endless tune that begins at a step."""
    first = start * SAMPLE_RATE // RATE
    heard = np.tile(TUNE, 4)[first : first + SPAN_S * SAMPLE_RATE]
    return torch.from_numpy(pitch_classes(heard)[:frames].astype(np.int64))


def ask(melody, steps=STEPS, *, seed=0, moving=False, **sampling):
    conditioning = None
    if moving:
        rng = np.random.default_rng(steps)
        seen = StepStream(rng.normal(size=(steps, 2)).astype(np.float32), np.ones(steps, bool))
        conditioning = {"pose": seen, FORM: form_stream(steps)}
    timeline = Timeline(Fraction(steps, RATE), Fraction(RATE))
    return make_request(PROMPT, timeline, conditioning, seed, make_sampling(**sampling), melody=melody)


def prefix_of(engine, prompt: str, start: int, rows: int, without: int):
    """The prefix of a cue's rows, the first `without` of them with neither text nor melody."""
    states, mask = engine.text.encode(prompt, is_padded=False)
    states, mask = states[None].repeat(rows, 1, 1), mask[None].repeat(rows, 1)
    pitches = span_of(start, engine.decoder.config.melody_frames)[None].repeat(rows, 1)
    mask[:without], pitches[:without] = False, NO_PITCH
    return encode_prefix(engine.decoder, states, mask, pitches)


def side_of(engine, request, start: int, *, masked: bool = False):
    rows = np.minimum(np.arange(start, start + WINDOW + 1), request.num_steps - 1)
    streams = request.conditioning
    values = {name: torch.from_numpy(each.values[rows])[None] for name, each in streams.items()}
    seen = {name: torch.ones(1, len(rows), dtype=torch.bool) for name in streams}
    if masked:
        seen["pose"][:] = False
    return engine.adapter.side_stream(engine.decoder, engine.adapter.join_streams(values, seen))


@torch.no_grad()
def likeliest(engine, request, tokens, first: int, stop: int, prompt: str = PROMPT) -> np.ndarray:
    """[K, stop - first] the likeliest tokens of a window, each where all before it are known."""
    guidance, visual = request.sampling.guidance, request.sampling.visual_guidance
    moving = request.conditioning is not None
    count = 3 if moving else 1 + (guidance != 1)
    rows = GuidanceRows(count, without_text=int(guidance != 1), without_picture=2 if moving else 0)
    known = apply_delay(torch.from_numpy(tokens[:, first:stop]), engine.decoder.config.start_token)
    context = LockstepContext(
        prefix_of(engine, prompt, first, count, rows.without_text),
        side_stream=side_of(engine, request, first) if moving else None,
        masked=side_of(engine, request, first, masked=True) if moving else None,
        rows=rows,
    )
    logits = engine.decoder(known[None].repeat(count, 1, 1), context).float()
    if count == 3:
        none, text, full = logits
        found = none + guidance * (text - none) + visual * (full - text)
    else:
        found = logits[0] if count == 1 else logits[0] + guidance * (logits[1] - logits[0])
    best = found.argmax(dim=-1)
    return np.stack([best[k, k : k + stop - first].numpy() for k in range(len(best))])


@pytest.mark.parametrize(
    ("kind", "moving", "sampling"),
    [
        ("plain", False, {"guidance": 1.0}),
        ("plain", False, {"guidance": 3.0}),
        ("adapted", True, {"guidance": 3.0, "visual_guidance": 2.0}),
    ],
)
def test_each_window_hears_its_own_span_of_the_tune_and_sees_its_own_of_the_picture(
    request, melody, kind, moving, sampling
):
    engine = request.getfixturevalue(kind)
    cue = ask(melody, moving=moving, temperature=0, **sampling)
    (tokens,) = tokens_of(engine, [cue])
    assert len(np.unique(tokens)) > 10
    for first, new, stop in WINDOWS:
        found = likeliest(engine, cue, tokens, first, stop)
        assert np.array_equal(found[:, new - first :], tokens[:, new:stop]), (first, stop)


def test_another_span_another_beginning_or_another_part_of_the_picture_would_be_noticed(adapted, melody, monkeypatch):
    cue = ask(melody, moving=True, temperature=0, guidance=3.0, visual_guidance=2.0)
    (tokens,) = tokens_of(adapted, [cue])
    first, new, stop = WINDOWS[2]

    def is_other(cue=cue, tokens=tokens) -> bool:
        return not np.array_equal(likeliest(adapted, cue, tokens, first, stop)[:, new - first :], tokens[:, new:stop])

    assert not is_other()
    changed = tokens.copy()
    changed[:, first:new] = tokens[:, :10]
    assert is_other(tokens=changed), "what stood before"
    still = {name: StepStream(np.roll(each.values, 7, axis=0), each.mask) for name, each in cue.conditioning.items()}
    assert is_other(cue=replace(cue, conditioning=still)), "the picture"
    monkeypatch.setitem(globals(), "span_of", lambda start, frames, own=span_of: own(start - 10, frames))
    assert is_other(), "the melody of the window before"


@pytest.mark.parametrize(("kind", "moving"), [("plain", False), ("adapted", True)])
def test_a_prompt_that_changes_is_heard_from_its_own_window_on_beside_the_melody(request, melody, kind, moving):
    engine = request.getfixturevalue(kind)
    cue = ask(melody, moving=moving, temperature=0, guidance=3.0, visual_guidance=2.0 if moving else 1.0)
    cue = replace(cue, later_prompts=((26, LATER),))
    (tokens,) = tokens_of(engine, [cue])
    windows = ((0, 0, 20, PROMPT), (10, 20, 26, PROMPT), (16, 26, 36, LATER), (26, 36, 46, LATER), (36, 46, 47, LATER))
    for first, new, stop, prompt in windows:
        found = likeliest(engine, cue, tokens, first, stop, prompt)
        assert np.array_equal(found[:, new - first :], tokens[:, new:stop]), (first, stop)
    found = likeliest(engine, cue, tokens, 16, 36, PROMPT)
    assert not np.array_equal(found[:, 10:], tokens[:, 26:36]), "the earlier prompt"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [Engine, FixedEngine])
def test_a_long_cue_with_a_melody_is_the_same_alone_and_beside_others(folder, melody, kind, dtype):
    engine = make_engine(folder, kind, dtype, adapted=True)
    short = Heard(TUNE[: 5 * SAMPLE_RATE], melody.frames)
    cues = [
        ask(melody, seed=1),
        replace(ask(melody, 33, seed=2), later_prompts=((24, LATER),)),
        ask(short, 9, seed=3),
        ask(None, 26, seed=4),
        ask(melody, 41, seed=5, moving=True, visual_guidance=2.0),
    ]
    together = tokens_of(engine, cues)
    for number in (0, 1, 4):
        (alone,) = tokens_of(engine, [cues[number]], batch_size=1)
        assert np.array_equal(alone, together[number]), number
    assert all(each.shape == (4, cue.num_steps) for each, cue in zip(together, cues, strict=True))
