"""Small cues that see somebody move, and an adapter with open gates."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from options import make_request, make_sampling

from expotion_cli.music.conditioning import FORM, FORM_DIMS, StepStream, form_stream
from expotion_cli.music.generate.cuda_graph import CudaGraphBatch
from expotion_cli.music.generate.engine import Engine
from expotion_cli.music.generate.sampling import Sampling
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.adapter import AdapterConfig, JointEmbeddingAdapter, StreamSpec
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.timing import Timeline

WINDOW, BAR = 16, 4
STREAMS = (StreamSpec("pose", ("energy", "accent")), StreamSpec(FORM, FORM_DIMS))
BOTH = make_sampling(guidance=2.0, visual_guidance=1.5, top_k=40)


class FixedEngine(Engine):
    """An engine that uses fixed buffers wherever it runs."""

    capture = False

    def _runner(self, takes, size):
        places = max(take.most_positions for take in takes)
        self.made = CudaGraphBatch(self.decoder, size, places, max(t.longest_text for t in takes), capture=self.capture)
        return self.made


def random_adapter(decoder: MusicDecoder, window: int = WINDOW) -> JointEmbeddingAdapter:
    torch.manual_seed(8)
    layers = decoder.config.num_layers - 1
    adapter = JointEmbeddingAdapter(AdapterConfig(decoder.config.dim, layers, 6, window, STREAMS))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.7)
    return adapter.to(decoder.dtype).eval().requires_grad_(False)


def cue(
    num_steps: int, prompt: str = "slow sad piano", seed: int = 0, sampling: Sampling = BOTH, **options
) -> CueRequest:
    """A cue of this many steps that sees somebody move; `conditioning=None` for no picture."""
    rng = np.random.default_rng(num_steps)
    mask = np.ones(num_steps, dtype=bool)
    mask[num_steps // 2 : num_steps // 2 + 2] = False
    seen = {"pose": StepStream(rng.normal(size=(num_steps, 2)).astype(np.float32), mask), FORM: form_stream(num_steps)}
    conditioning = options.get("conditioning", seen)
    return make_request(prompt, Timeline(Fraction(num_steps, 50), Fraction(50)), conditioning, seed, sampling)


def tokens_of(engine: Engine, requests: list[CueRequest], **options) -> list[np.ndarray]:
    found = dict(engine.generate(requests, **options))
    assert sorted(found) == list(range(len(requests)))
    return [found[i] for i in range(len(requests))]


def many(count: int) -> list[CueRequest]:
    """Cues of all lengths and prompts, most of them of one kind."""
    words = ("slow sad piano", "upbeat electronic dance", "fast epic strings with drums", "")
    return [cue(5 + (7 * i) % 29, words[i % 4], seed=i) for i in range(count)]
