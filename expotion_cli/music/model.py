"""A loaded model: decoder, text encoder, adapter and codec under one name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from expotion_cli import storage
from expotion_cli.music.checkpoints.huggingface import Checkpoint
from expotion_cli.music.codecs.codec import Codec
from expotion_cli.music.conditioning import MADE_HERE, StepStream, condition
from expotion_cli.music.generate.engine import VERSION, Engine
from expotion_cli.music.melody import Melody
from expotion_cli.music.request import CueRequest
from expotion_cli.music.transformer.adapter import JointEmbeddingAdapter
from expotion_cli.spotting.activity import SeenStream
from expotion_cli.spotting.plan import CuePlan
from expotion_cli.timing import Timeline

if TYPE_CHECKING:
    pass

ENCODEC_WINDOW_S = 30
"""Window of EnCodec models: MusicGen was trained on 30 s (arXiv 2306.05284, section 3.1)."""


class Model:
    """A model that composes cues from a prompt and, with an adapter, from embedding streams.

    Args:
        name: the name or path the user gave.
        licence: of the weights.
        checkpoint: the loaded weights.
        codec: turns its tokens into sound.
        adapter: the joint-embedding adapter, or None.
        adapter_name: names or paths of all adapters in use, or None.
        adapter_digest: hash of the adapters' files.
        melodist: the model that composes the melodies this one plays, or None.

    Attributes:
        digest: hash of all that decides the tokens of a given request: weights, adapters, dtype, code and judge.
    """

    backbone = "expotion"
    takes_facts = False
    """Whether requests state the cue's facts (`request.Facts`)."""

    def __init__(
        self,
        name: str,
        licence: str,
        checkpoint: Checkpoint,
        codec: Codec,
        adapter: JointEmbeddingAdapter | None,
        adapter_name: str | None,
        adapter_digest: str = "",
        melodist: Model | None = None,
    ):
        self.name, self.licence, self.codec = name, licence, codec
        self.decoder, self.adapter, self.adapter_name = checkpoint.decoder, adapter, adapter_name
        judge = getattr(codec, "judge", None)
        # Takes are chosen from later; that the judge is part of the digest keeps cues of earlier versions valid.
        judged = [judge.digest, codec.sketch_version] if judge is not None else []
        self.melodist = melodist
        played = [melodist.digest, melodist.codec.digest] if melodist is not None else []
        self.digest: str = storage.digest_of(
            [checkpoint.digest, adapter_digest, str(self.dtype), VERSION, *judged, *played]
        )
        window = checkpoint.config.get("window_steps")
        if adapter is not None:
            window = adapter.config.window_steps
        if window is None:
            window = int(ENCODEC_WINDOW_S * getattr(codec, "rate_hz", 50))
        self.engine = Engine(self.decoder, checkpoint.text, adapter, window, codec.bar_steps)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.decoder.device

    @property
    def dtype(self) -> torch.dtype:
        """The decoder's dtype."""
        return self.decoder.dtype

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the visual streams that its adapter reads, and its melodist's; empty without either."""
        own = self.adapter.config.streams if self.adapter is not None else ()
        names = [spec.name for spec in own if spec.name not in MADE_HERE]
        return tuple(dict.fromkeys([*names, *(self.melodist.streams if self.melodist is not None else ())]))

    @property
    def window_steps(self) -> int:
        """Steps that it generates at once; longer cues are generated window by window."""
        return self.engine.window

    @property
    def takes_melody(self) -> bool:
        """Whether it plays a tune that it is given."""
        return self.decoder.config.takes_melody

    def melody(self, sound: np.ndarray, timeline: Timeline) -> Melody:
        """A tune for a cue, for models that take one.

        Args:
            sound: [n] mono at `pitch_classes.SAMPLE_RATE`; the first `melody.needed_s` seconds do.
            timeline: the cue's.
        """
        return Melody(sound, self.decoder.config.melody_frames, timeline.num_steps > self.window_steps)

    def condition(
        self,
        streams: Mapping[str, SeenStream],
        timeline: Timeline,
        *,
        plan: CuePlan | None = None,
    ) -> dict[str, StepStream] | None:
        """The streams its adapter reads, on the cue's step grid (`conditioning.condition`); None without an adapter."""
        if self.adapter is None:
            return None
        return condition(streams, timeline, self.adapter.config.streams, plan=plan)

    def generate(
        self,
        requests: Sequence[CueRequest],
        *,
        batch_size: int | str = "auto",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Tokens [K, S] of each request on its timeline, as they finish (`Engine.generate`)."""
        for number, tokens in self.engine.generate(requests, batch_size=batch_size, on_progress=on_progress):
            yield number, requests[number].on_timeline(tokens)
