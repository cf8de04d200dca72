"""Cues longer than a window: no seam where windows join, and no more memory than a window's."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from options import make_request

from expotion_cli.audio.onsets import mel_bands
from expotion_cli.music.codecs.notes.metrics import BAR_STEPS
from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET, HOLD, VOICES
from expotion_cli.music.conditioning import FORM, StepStream
from expotion_cli.music.generate.sampling import Sampling
from expotion_cli.music.load import load_model
from expotion_cli.recipe import load_recipe
from expotion_cli.timing import Tempo

LENGTH = Fraction(45)
SIDE_S, FRAME = 0.3, 4096
DRAWS, LEAST_P = 5000, 0.01


@dataclass(frozen=True)
class Take:
    """A long take of the embedded model.

    Attributes:
        tokens: [8, S].
        audio: [n] mono.
        sample_rate: in Hz.
        bars: steps at which bars begin, first and last left out.
        places: the same in samples.
        joins: for each of them, whether a window begins to write there.
    """

    tokens: np.ndarray
    audio: np.ndarray
    sample_rate: int
    bars: np.ndarray
    places: np.ndarray
    joins: np.ndarray


@pytest.fixture(scope="module")
def takes() -> list[Take]:
    """Somebody moves, slowly swelling, at 120 beats a minute; a take for each of four recipes."""
    model = load_model(device="cpu")
    tempo = Tempo(Fraction(120), Fraction(0), 0.0)
    timeline = model.codec.timeline(LENGTH, tempo)
    conditioning, steps = model.condition({}, timeline), np.arange(timeline.num_steps)
    for spec in model.adapter.config.streams:
        if spec.name != FORM:
            waves = [0.5 + 0.4 * np.sin(2 * np.pi * steps / (150 + 40 * k)) for k in range(len(spec.dims))]
            conditioning[spec.name] = StepStream(np.stack(waves, 1).astype(np.float32), np.ones(len(steps), bool))
    requests = []
    for name, weight in (("cinematic", 3.4), ("ambient", 2.6), ("classical", 2.6), ("electronic", 2.6)):
        recipe = load_recipe(name, {"generate.visual_guidance": weight})  # the adapter steers
        requests.append(make_request(recipe.prompt, timeline, conditioning, 0, Sampling.of(recipe.generate)))
    tokens = dict(model.generate(requests))
    sounds = [model.codec.decode(tokens[i], timeline, seed=0).audio.mean(axis=0) for i in range(len(requests))]
    window, stride = model.engine.window, model.engine.window - model.engine.overlap
    bars = np.arange(BAR_STEPS, timeline.num_steps - BAR_STEPS, BAR_STEPS)
    joins = (bars >= window) & ((bars - window) % stride == 0)
    assert joins.sum() >= 3
    places = np.rint(timeline.step_times()[bars] * model.codec.sample_rate).astype(int)
    return [Take(tokens[i], sound, model.codec.sample_rate, bars, places, joins) for i, sound in enumerate(sounds)]


def level_jump(before: np.ndarray, after: np.ndarray) -> float:
    """Decibels by which the level changes."""
    levels = [10 * np.log10((side.astype(np.float64) ** 2).mean() + 1e-10) for side in (before, after)]
    return abs(levels[1] - levels[0])


def spectral_jump(before: np.ndarray, after: np.ndarray) -> float:
    """Mean change of the logarithm of mel bands."""
    bands = mel_bands(FRAME, 44_100)

    def spectrum(side: np.ndarray) -> np.ndarray:
        starts = range(0, len(side) - FRAME + 1, FRAME // 2)
        frames = np.array([side[s : s + FRAME] for s in starts]) * np.hanning(FRAME)
        return np.log(np.abs(np.fft.rfft(frames)) @ bands.T + 1e-3).mean(axis=0)

    return float(np.abs(spectrum(after) - spectrum(before)).mean())


def p_value(takes: list[Take], sounds: list[np.ndarray], jump) -> float:
    """How likely as many bar lines drawn at random from each take would have as high a mean rank of the jump as the
    joins have: a permutation test on ranks over all takes, one-sided. Small if the joins stick out. One take does not
    tell: where harmony changes every other bar, every other bar line jumps, and joins lie two bars apart."""
    rng = np.random.default_rng(0)
    found, drawn = 0.0, np.zeros(DRAWS)
    for take, audio in zip(takes, sounds, strict=True):
        side = round(SIDE_S * take.sample_rate)
        jumps = np.array([jump(audio[place - side : place], audio[place : place + side]) for place in take.places])
        ranks = np.argsort(np.argsort(jumps))
        found += ranks[take.joins].mean()
        drawn += [rng.permutation(ranks)[: take.joins.sum()].mean() for _ in range(DRAWS)]
    return float((1 + np.sum(drawn >= found)) / (1 + DRAWS))


@pytest.mark.slow
@pytest.mark.parametrize("jump", [level_jump, spectral_jump])
def test_level_and_spectrum_jump_no_more_where_windows_join_than_at_other_bar_lines(takes, jump):
    assert p_value(takes, [take.audio for take in takes], jump) > LEAST_P


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["level", "spectrum"])
def test_a_seam_would_be_noticed(takes, kind):
    """The same takes with seams put in: what each window wrote is softer or duller than what the one before wrote."""
    sounds = []
    for take in takes:
        audio = take.audio.copy()
        places = [*take.places[take.joins], len(audio)]
        for first, last in list(itertools.pairwise(places))[::2]:
            part = audio[first:last]
            audio[first:last] = 0.2 * part if kind == "level" else np.convolve(part, np.full(64, 1 / 64), mode="same")
        sounds.append(audio)
    assert p_value(takes, sounds, level_jump if kind == "level" else spectral_jump) <= LEAST_P


def held(take: Take, bars: np.ndarray) -> tuple[int, int]:
    """(voices that go on beyond a bar line, voices that sound just before it), summed over bar lines."""
    going_on = sounding = 0
    for row, voice in zip(take.tokens, VOICES, strict=True):
        if voice.kind in ("pitched", "chord"):
            for bar in bars:
                changes = np.flatnonzero(row[:bar] != HOLD)
                if len(changes) and row[changes[-1]] >= FIRST_ONSET:
                    sounding += 1
                    going_on += int(row[bar] == HOLD)
    return going_on, sounding


@pytest.mark.slow
def test_notes_are_held_across_joins_as_they_are_across_other_bar_lines(takes):
    """A join is no general re-attack. One-sided binomial test with the other bar lines' share."""
    across, before = np.sum([held(take, take.bars[take.joins]) for take in takes], axis=0)
    across_others, before_others = np.sum([held(take, take.bars[~take.joins]) for take in takes], axis=0)
    share = across_others / before_others
    assert (1 - share) ** before < LEAST_P, "too few notes to tell"
    fewer = [math.comb(before, k) * share**k * (1 - share) ** (before - k) for k in range(across + 1)]
    assert sum(fewer) > LEAST_P, f"{across} of {before} at joins, {across_others} of {before_others} elsewhere"


PEAKS = """
import resource
import sys
from fractions import Fraction
from pathlib import Path

import torch

from cues import cue
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.transformer.config import DecoderConfig
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.generate.engine import Engine

text = load_checkpoint(Path(sys.argv[1]), device=torch.device("cpu"), dtype=torch.float32)
torch.manual_seed(0)
sizes = dict(dim=512, num_layers=2, num_heads=8, ffn_dim=64, num_codebooks=4, vocab_size=64)
decoder = MusicDecoder(DecoderConfig(**sizes, text_dim=text.decoder.config.text_dim)).eval().requires_grad_(False)
engine = Engine(decoder, text.text, None, 75)
for steps in (150, 150, 500):
    dict(engine.generate([cue(steps, seed=seed) for seed in range(4)]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_cues_three_times_as_long_take_no_more_memory_to_generate(tiny_folder, repository):
    """Peaks of the process; with caches as long as the cue the second would need 34 MB more (2 layers of width 512,
    350 more steps, keys and values, three rows for each of four cues, float32)."""
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tiny_folder)],
        cwd=repository / "tests" / "helpers",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    _, short_mb, long_mb = map(float, done.stdout.split())
    assert long_mb - short_mb < 10
