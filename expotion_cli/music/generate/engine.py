"""Generates many cues at once, each exactly as it would come out alone.

Cues of all lengths share a batch; when one has finished, its rows go to the next. A cue longer than a window is
continued window by window: the second half of what was generated is handed to the next window as its beginning, and
the condition moves along with the picture, so memory does not grow with a cue's length.

A cue's tokens depend on the cue and the model alone: noise belongs to the cue (`sampling.cue_noise`), everything that
is computed once is computed for the cue alone (`takes.remember`), and on a CPU the numbers of rows that share a
product round alike (`packing.row_quantum`). So neighbours, batch size and interruptions don't change a token there;
on a GPU they may, where the library picks another kernel for another batch.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from expotion_cli.errors import EnvironmentProblem, UsageError
from expotion_cli.music.generate.cpu_batch import Cohorts
from expotion_cli.music.generate.cuda_graph import FixedBuffers
from expotion_cli.music.generate.window import Take, TakeMemory, remember
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.onednn import pack, row_quantum
from expotion_cli.music.transformer.text import TextEncoder

VERSION = 2
"""Raised whenever the same cue would give other tokens."""
SMALL_DIM = 512
AUTO_ROWS = {"cpu": 64, "cuda": 192}
"""More rows at once hardly raise the speed any more."""
MEMORY_SHARE = 0.6
"""Share of the free memory that a batch may take."""
REPORT_EVERY = 16


class Runner(Protocol):
    """Decodes the takes it was given, one position at a time."""

    @property
    def takes(self) -> list[Take]:
        """The takes at work."""
        ...

    def accepts(self, take: Take) -> bool:
        """Whether a take can join those at work."""
        ...

    def admit(self, takes: Sequence[Take], memories: Sequence[TakeMemory]) -> None:
        """Take up takes of one kind."""
        ...

    def step(self) -> list[Take]:
        """One position of every take; returns those whose window is complete."""
        ...


class Engine:
    """The decoder at work.

    Args:
        decoder: frozen. It is the engine's from now on: on a CPU its matrices are packed (`packing.pack`).
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
        pack(decoder)

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[CueRequest],
        *,
        batch_size: int | str = "auto",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Generate cues, the longest first.

        Args:
            requests: the cues.
            batch_size: cues decoded together at most; "auto" for as many as are of use and fit into memory. It never
                changes a cue's tokens on a CPU. When memory runs out it is halved and the work goes on.
            on_progress: called now and then with (steps done, steps in all).

        Yields:
            (index of the request, tokens [K, S] int64), as cues finish.

        Raises:
            UsageError: the batch size is no positive number.
            EnvironmentProblem: memory does not suffice for a single cue.
        """
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise UsageError(f"Batch size {batch_size} is out of range.", remedy="Use auto, or 1 or more.")
        delays, start_token = self.decoder.config.delays, self.decoder.config.start_token
        takes = [
            Take(i, cue, delays, start_token, self.window, self.overlap, self.text.bucket(cue.prompt))
            for i, cue in enumerate(requests)
        ]
        if not takes:
            return
        size = self.auto_batch(takes) if batch_size == "auto" else int(batch_size)
        waiting = deque(sorted(takes, key=lambda take: -take.cue.num_steps))
        total, finished, steps = sum(take.cue.num_steps for take in takes), 0, 0
        runner = self._runner(takes, size)
        while waiting or runner.takes:
            try:
                with _calm_threads(self.decoder):
                    self._fill(runner, waiting, size)
                    done = runner.step()
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    reason = f"There is not enough memory for a single cue ({error})."
                    raise EnvironmentProblem(reason, remedy="Use a smaller model, or --dtype bf16.") from error
                size = max(1, min(size, len(runner.takes)) // 2)
                # They begin their present window again.
                waiting.extendleft(take for take in reversed(runner.takes) if take not in waiting)
                runner = self._runner(takes, size)
                _free_memory(self.decoder)
                continue
            steps += 1
            for take in done:
                if take.is_done:
                    finished += take.cue.num_steps
                    yield take.number, take.tokens.numpy().copy()
                else:
                    waiting.appendleft(take)
            if on_progress is not None and (steps % REPORT_EVERY == 0 or done):
                at_work = sum(take.progress for take in (*runner.takes, *waiting))
                on_progress(finished + at_work, total)

    def auto_batch(self, takes: Sequence[Take]) -> int:
        """How many of these cues are decoded together by default."""
        device, config = self.decoder.device, self.decoder.config
        item, music_item = self.decoder.dtype.itemsize, self.decoder.cache_dtype.itemsize
        needs = []
        for take in takes:
            music = take.rows.count * config.num_layers * take.num_positions
            text = config.num_layers * take.text_length
            picture = 0
            if self.adapter is not None and take.cue.conditioning is not None:
                sizes = self.adapter.config
                views = (take.rows.blind > 0) + (take.rows.blind < take.rows.count)
                picture = views * sizes.num_layers * (sizes.window_steps + 1) * 3 // 2
            needs.append(2 * config.dim * ((music + text) * music_item + picture * item))
        useful = AUTO_ROWS.get(device.type, 64) // max(take.rows.count for take in takes)
        return max(1, min(useful, int(_free_bytes(device) * MEMORY_SHARE / max(needs)), len(takes)))

    @cached_property
    def _quantum(self) -> int:
        with _calm_threads(self.decoder):
            return row_quantum(self.decoder)

    def _runner(self, takes: Sequence[Take], size: int) -> Runner:
        if self.decoder.device.type == "cuda":
            places = max(take.num_positions for take in takes)
            return FixedBuffers(self.decoder, size, places, max(t.text_length for t in takes), capture=True)
        return Cohorts(self.decoder, self._quantum)

    def _fill(self, runner: Runner, waiting: deque[Take], size: int) -> None:
        """Hand free rows to waiting takes, those of one kind together."""
        while len(runner.takes) < size and (fitting := [take for take in waiting if runner.accepts(take)]):
            chosen = [take for take in fitting if take.kind == fitting[0].kind][: size - len(runner.takes)]
            runner.admit(chosen, [remember(take, self.decoder, self.text, self.adapter) for take in chosen])
            for take in chosen:
                waiting.remove(take)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; a CPU's allocator says so only in words."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def _free_memory(decoder: MusicDecoder) -> None:
    import gc

    gc.collect()
    if decoder.device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def _calm_threads(decoder: MusicDecoder) -> Iterator[None]:
    """One thread for a small decoder on a CPU, whose products are too short to be worth handing out.

    With more, the threads' meeting points cost more than the work, many times more on a busy machine.
    """
    threads = torch.get_num_threads()
    is_small = decoder.device.type == "cpu" and decoder.config.dim < SMALL_DIM
    try:
        if is_small:
            torch.set_num_threads(1)
        yield
    finally:
        if is_small:
            torch.set_num_threads(threads)
