"""Generates many cues at once, each exactly as it would come out alone.

Cues of all lengths share a batch; when one has finished, its rows go to the next. A cue longer than a window is
generated window by window: the second half of a window is the known beginning of the next, and the condition moves
along with the picture, so memory does not grow with a cue's length.

A cue's tokens depend on the cue and the model alone. Noise belongs to the cue (`sampling.cue_noise`), everything that
is computed once is computed for the cue alone (`window.encode_conditions`), and on a CPU the numbers of rows that
share a product round alike (`onednn.row_quantum`). So neighbours, batch size and interruptions don't change a token
there. On a GPU they may, where the library picks another kernel for another batch size.
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
from expotion_cli.music.generate.cpu_batch import CpuBatch
from expotion_cli.music.generate.cuda_graph import CudaGraphBatch
from expotion_cli.music.generate.window import EncodedConditions, Take, encode_conditions
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.music.transformer.decoder import MusicDecoder
from expotion_cli.music.transformer.onednn import pack, row_quantum
from expotion_cli.music.transformer.text import TextEncoder

VERSION = 2
"""Raised whenever the same cue would give other tokens."""
SMALL_DIM = 512
"""Narrower decoders run on one CPU thread."""
AUTO_ROWS = {"cpu": 64, "cuda": 192}
"""Rows beyond which a larger batch is hardly faster."""
MEMORY_SHARE = 0.6
"""Share of the free memory that a batch may take."""
REPORT_EVERY = 16
"""Steps between two reports of progress."""
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc", "ALLOC_FAILED")


class Runner(Protocol):
    """Decodes the takes it was given, one position at a time."""

    @property
    def takes(self) -> list[Take]:
        """The takes being decoded."""
        ...

    def accepts(self, take: Take) -> bool:
        """Whether a take can join those being decoded."""
        ...

    def admit(self, takes: Sequence[Take], conditions: Sequence[EncodedConditions]) -> None:
        """Start takes of one kind (`Take.kind`)."""
        ...

    def step(self) -> list[Take]:
        """Decode one position of every take; returns those whose window is complete."""
        ...


class Engine:
    """Generates token sequences with a decoder.

    Args:
        decoder: frozen. The engine takes it over: its layers are fused and, on a CPU, packed (`onednn.pack`).
        text: its text encoder.
        adapter: its joint-embedding adapter, or None.
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
        self._most: int | None = None  # cues that fitted into memory together, once more did not
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
            batch_size: most cues decoded together; "auto" for as many as make it faster and fit into memory. On a
                CPU it never changes a cue's tokens. If memory runs out it is halved and generation continues; later
                calls begin with the size that fitted.
            on_progress: called every few steps with (steps done, steps in all).

        Yields:
            (index of the request, tokens [K, S] int64), as cues finish.

        Raises:
            UsageError: the batch size is not a positive whole number.
            EnvironmentProblem: there is not enough memory for a single cue.
        """
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise UsageError(f"Batch size {batch_size} is out of range.", remedy="Use auto, or 1 or more.")
        config = self.decoder.config
        delays, start_token, melody_frames = config.delays, config.start_token, config.melody_frames
        takes = [
            Take(i, cue, delays, start_token, self.window, self.overlap, self._text_length, melody_frames)
            for i, cue in enumerate(requests)
        ]
        if not takes:
            return
        size = self.auto_batch(takes) if batch_size == "auto" else int(batch_size)
        size = min(size, self._most or size)
        waiting = deque(sorted(takes, key=lambda take: -take.cue.num_steps))
        total, finished, steps = sum(take.cue.num_steps for take in takes), 0, 0
        runner: Runner | None = None
        while waiting or (runner is not None and runner.takes):
            done: list[Take] | None = None
            try:
                with _one_thread_if_small(self.decoder):
                    if runner is None:
                        runner = self._runner(takes, size)
                    self._fill(runner, waiting, size)
                    done = runner.step()
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    reason = f"There is not enough memory for a single cue ({error})."
                    raise EnvironmentProblem(reason, remedy="Use a smaller model, or --dtype bf16.") from error
            if done is None:
                # Only here, where no traceback holds on to the old batch, is there room for a smaller one.
                begun = [] if runner is None else runner.takes
                self._most = size = max(1, min(size, len(begun) or len(takes)) // 2)
                # The takes being decoded begin their current window again.
                waiting.extendleft(take for take in reversed(begun) if take not in waiting)
                runner = None
                _free_memory(self.decoder)
                continue
            assert runner is not None
            steps += 1
            for take in done:
                if take.is_done:
                    finished += take.cue.num_steps
                    yield take.number, take.tokens.numpy().copy()
                else:
                    waiting.appendleft(take)
            if on_progress is not None and (steps % REPORT_EVERY == 0 or done):
                unfinished = sum(take.progress for take in (*runner.takes, *waiting))
                on_progress(finished + unfinished, total)

    def auto_batch(self, takes: Sequence[Take]) -> int:
        """How many of these cues are decoded together by default."""
        device, config = self.decoder.device, self.decoder.config
        item, cache_item = self.decoder.dtype.itemsize, self.decoder.cache_dtype.itemsize
        needs = []
        for take in takes:
            music = take.rows.count * config.num_layers * take.most_positions
            text = 0 if config.takes_melody else config.num_layers * take.longest_text * (1 + take.has_negative)
            side = 0
            if self.adapter is not None and take.cue.conditioning is not None:
                sizes = self.adapter.config
                without = take.rows.without_picture
                num_sides = (without > 0) + (without < take.rows.count)
                side = num_sides * sizes.num_layers * (sizes.window_steps + 1) * 3 // 2
            needs.append(2 * config.dim * ((music + text) * cache_item + side * item))
        useful = AUTO_ROWS.get(device.type, 64) // max(take.rows.count for take in takes)
        return max(1, min(useful, int(_free_bytes(device) * MEMORY_SHARE / max(needs)), len(takes)))

    def _text_length(self, prompt: str) -> int:
        """Length that a prompt's states are padded to; in a prefix they aren't, as the music's place would move."""
        return len(self.text.tokenize(prompt)) if self.decoder.config.takes_melody else self.text.bucket(prompt)

    @cached_property
    def _quantum(self) -> int:
        with _one_thread_if_small(self.decoder):
            return row_quantum(self.decoder)

    def _runner(self, takes: Sequence[Take], size: int) -> Runner:
        if self.decoder.device.type == "cuda":
            longest = max(take.most_positions for take in takes)
            return CudaGraphBatch(self.decoder, size, longest, max(t.longest_text for t in takes), capture=True)
        return CpuBatch(self.decoder, self._quantum)

    def _fill(self, runner: Runner, waiting: deque[Take], size: int) -> None:
        """Start waiting takes in the free rows, those of one kind together."""
        while len(runner.takes) < size and (fitting := [take for take in waiting if runner.accepts(take)]):
            chosen = [take for take in fitting if take.kind == fitting[0].kind][: size - len(runner.takes)]
            encoded = [encode_conditions(take, self.decoder, self.text, self.adapter) for take in chosen]
            runner.admit(chosen, encoded)
            for take in chosen:
                waiting.remove(take)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; some libraries say so only in their message."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


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
def _one_thread_if_small(decoder: MusicDecoder) -> Iterator[None]:
    """Run a small decoder on one CPU thread: its products are too short to share.

    With more threads, synchronising them costs more than the work itself, and many times more on a busy machine.
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
