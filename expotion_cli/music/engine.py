"""Generates many cues at once, each exactly as it would come out alone.

Library matrix products round differently for different numbers of rows, and one flipped bit can flip a token. So the
decoder always runs on blocks of one fixed shape: `BLOCK_CUES` cues (absent ones are silent copies), texts padded to
buckets, conditions as long as a window. Together with noise that belongs to the cue (`sampling.cue_noise`), a cue's
tokens do not depend on its neighbours, on the batch size or on an interruption.

A cue longer than a window is continued window by window: the second half of what was generated is handed to the next
window as its beginning, and the condition moves along with the picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from expotion_cli.errors import UsageError
from expotion_cli.music.adapter import JointEmbeddingAdapter
from expotion_cli.music.conditioning import FORM, StepStream
from expotion_cli.music.decoder import Memory, MusicDecoder, VisualMemory
from expotion_cli.music.delay import num_positions, remove_delay
from expotion_cli.music.sampling import Sampling, cue_noise, draw, guide
from expotion_cli.music.text import TextEncoder
from expotion_cli.storage import digest_bytes, digest_of
from expotion_cli.timing import Timeline

BLOCK_CUES = 4
SMALL_DIM = 512


@dataclass(frozen=True)
class CueRequest:
    """One cue to generate.

    Attributes:
        prompt: what it should sound like.
        timeline: gives the number of steps.
        conditioning: streams on the step grid (`conditioning.condition`), or None for no picture at all.
        seed: another seed, another cue.
        sampling: how tokens are drawn.
    """

    prompt: str
    timeline: Timeline
    conditioning: Mapping[str, StepStream] | None
    seed: int
    sampling: Sampling = Sampling()

    @property
    def num_steps(self) -> int:
        """Steps S."""
        return self.timeline.num_steps

    @property
    def is_seeing(self) -> bool:
        """Some visual stream is seen at some time."""
        return any(name != FORM and stream.mask.any() for name, stream in (self.conditioning or {}).items())

    @cached_property
    def digest(self) -> str:
        """sha256 over all that decides the tokens, but for the model."""
        # As floats: 3 and 3.0 are the same setting.
        sampling = {name: float(value) for name, value in asdict(self.sampling).items()}
        parts = [digest_of([self.prompt, self.num_steps, self.seed, sampling]).encode()]
        for name, stream in sorted((self.conditioning or {}).items()):
            parts += [name.encode(), np.ascontiguousarray(stream.values, np.float32).tobytes(), stream.mask.tobytes()]
        return digest_bytes(*parts)


class Engine:
    """The decoder at work.

    Args:
        decoder: frozen.
        text: its text encoder.
        adapter: what it sees with, or None.
        window_steps: steps W generated at once.
        bar_steps: windows begin at multiples of this.
    """

    def __init__(
        self,
        decoder: MusicDecoder,
        text: TextEncoder,
        adapter: JointEmbeddingAdapter | None,
        window_steps: int,
        bar_steps: int = 1,
    ):
        self.decoder, self.text, self.adapter, self.window = decoder, text, adapter, window_steps
        self.overlap = window_steps - max(bar_steps, window_steps // 2 // bar_steps * bar_steps)
        assert 0 < self.overlap < self.window

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[CueRequest],
        *,
        batch_size: int | str = "auto",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Generate cues, shortest first within cues of a kind.

        Args:
            requests: the cues.
            batch_size: cues decoded together, at most a block's; "auto" for a block. It never changes a cue's tokens.
            on_progress: called with (steps done, steps in all) of the block at hand.

        Yields:
            (index of the request, tokens [K, S] int64), as cues finish.

        Raises:
            UsageError: the batch size is no positive number.
        """
        size = BLOCK_CUES if batch_size == "auto" else batch_size
        if not isinstance(size, int) or size < 1:
            raise UsageError(f"Batch size {batch_size} is out of range.", remedy="Use auto, or 1 or more.")
        kinds: dict[tuple, list[int]] = {}
        for index, request in enumerate(requests):
            kind = (request.sampling, request.is_seeing, request.conditioning is None, self.text.bucket(request.prompt))
            kinds.setdefault(kind, []).append(index)
        for indices in kinds.values():
            indices.sort(key=lambda i: requests[i].num_steps)
            step = min(size, BLOCK_CUES)
            for start in range(0, len(indices), step):
                chosen = indices[start : start + step]
                with _calm_threads(self.decoder):
                    found = _Block(self, [requests[i] for i in chosen]).run(on_progress)
                yield from zip(chosen, found, strict=True)


@contextlib.contextmanager
def _calm_threads(decoder: MusicDecoder) -> Iterator[None]:
    """One thread for a small decoder on a CPU, whose products are too short to be worth handing out.

    With more, the threads' meeting points cost more than the work, many times more on a busy machine; and rounding
    would depend on the number of cores.
    """
    threads = torch.get_num_threads()
    is_small = decoder.device.type == "cpu" and decoder.config.dim <= SMALL_DIM
    try:
        if is_small:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


class _Block:
    """A fixed number of cues of one kind, decoded in step."""

    def __init__(self, engine: Engine, cues: list[CueRequest]):
        self.engine, self.cues = engine, cues
        self.decoder, self.device = engine.decoder, engine.decoder.device
        self.padded = cues + [cues[0]] * (BLOCK_CUES - len(cues))
        self.sampling, self.is_seeing = cues[0].sampling, cues[0].is_seeing
        self.kinds = self.sampling.rows(self.is_seeing)
        self.num_steps = max(cue.num_steps for cue in cues)
        self.num_streams = self.decoder.config.num_codebooks
        self.noise = torch.zeros(BLOCK_CUES, self.num_steps, self.num_streams, dtype=torch.float64)
        for row, cue in enumerate(self.padded):
            self.noise[row, : cue.num_steps] = torch.from_numpy(
                cue_noise(cue.seed, cue.digest, cue.num_steps, self.num_streams)
            )
        self.noise = self.noise.to(self.device)
        self.streams = torch.arange(self.num_streams, device=self.device)
        self.lengths = torch.tensor([[cue.num_steps] for cue in self.padded], device=self.device)

    def run(self, on_progress: Callable[[int, int], None] | None) -> list[np.ndarray]:
        engine = self.engine
        text = self._text_memory()
        tokens = torch.zeros(BLOCK_CUES, self.num_streams, self.num_steps, dtype=torch.int64, device=self.device)
        start = known = 0
        while True:
            length = min(engine.window, self.num_steps - start)
            report = None
            if on_progress is not None:
                report = lambda done, start=start: on_progress(start + done, self.num_steps)  # noqa: E731
            window = self._window(
                text, self._visual_memory(start), tokens[:, :, start : start + length], known, start, report
            )
            tokens[:, :, start : start + length] = window
            if start + length >= self.num_steps:
                break
            known = engine.overlap
            start += engine.window - engine.overlap
        found = tokens.cpu().numpy()
        return [found[row, :, : cue.num_steps].copy() for row, cue in enumerate(self.cues)]

    def _window(
        self,
        text: Memory,
        visual: VisualMemory | None,
        tokens: Tensor,
        known: int,
        offset: int,
        report: Callable[[int], None] | None,
    ) -> Tensor:
        """Decode one window. tokens [B, K, W'], of which the first `known` steps are given; returns them all."""
        length, num_streams = tokens.shape[2], self.num_streams
        start_token = self.decoder.config.start_token
        total = num_positions(length, num_streams)
        delayed = torch.full((BLOCK_CUES, num_streams, total), start_token, device=self.device)
        for k in range(num_streams):
            delayed[:, k, k + 1 : k + 1 + known] = tokens[:, k, :known]
        cache = self.decoder.new_cache(BLOCK_CUES * len(self.kinds), num_positions(self.engine.window, num_streams))
        position = 0
        following = known + 1  # the first position that holds a token not known yet
        while following < total:
            fresh = delayed[:, :, position:following].repeat(len(self.kinds), 1, 1)
            logits = self.decoder(fresh, text, cache=cache, visual=visual, last_only=True)[:, :, 0].float()
            steps = following - 1 - self.streams
            drawn = self._draw(logits, offset + steps)
            # Behind the window's last step the delay pattern holds start tokens, though the cue may go on.
            is_open = (steps >= known) & (steps < length) & (offset + steps < self.lengths)
            delayed[:, :, following] = torch.where(is_open, drawn, delayed[:, :, following])
            position = following
            following += 1
            if report is not None and following % 16 == 0:
                report(min(following, length))
        return remove_delay(delayed, length)

    def _draw(self, logits: Tensor, steps: Tensor) -> Tensor:
        """Guide and draw for all cues. logits [R, K, V], steps [K] → [B, K]."""
        guided = guide(logits.unflatten(0, (len(self.kinds), BLOCK_CUES)), self.sampling, self.is_seeing)
        uniform = self.noise[:, steps.clamp(0, self.num_steps - 1), self.streams]
        return draw(guided.flatten(0, 1), uniform.flatten(), self.sampling).view(BLOCK_CUES, self.num_streams)

    def _text_memory(self) -> Memory:
        encoded = {cue.prompt: self.engine.text.encode(cue.prompt) for cue in self.cues}
        states, masks = [], []
        for has_text, _ in self.kinds:
            for cue in self.padded:
                state, mask = encoded[cue.prompt]
                states.append(state)
                masks.append(mask if has_text else torch.zeros_like(mask))
        return self.decoder.remember_text(torch.stack(states), torch.stack(masks))

    def _visual_memory(self, start: int) -> VisualMemory | None:
        adapter = self.engine.adapter
        if adapter is None or self.cues[0].conditioning is None:
            return None
        rows = np.arange(start, start + adapter.config.window_steps + 1)
        values: dict[str, list[Tensor]] = {}
        masks: dict[str, list[Tensor]] = {}
        for spec in adapter.config.streams:
            for _, has_picture in self.kinds:
                for cue in self.padded:
                    stream = cue.conditioning.get(spec.name)
                    if stream is None:
                        stream = StepStream(np.zeros((1, len(spec.dims)), np.float32), np.zeros(1, dtype=bool))
                    held = np.minimum(rows, len(stream.mask) - 1)
                    seen = stream.mask[held] & (has_picture or spec.name == FORM)
                    values.setdefault(spec.name, []).append(torch.from_numpy(stream.values[held]))
                    masks.setdefault(spec.name, []).append(torch.from_numpy(seen))
        condition = adapter.join_streams(
            {name: torch.stack(v).to(self.device) for name, v in values.items()},
            {name: torch.stack(m).to(self.device) for name, m in masks.items()},
        )
        return adapter.remember(self.decoder, condition)
