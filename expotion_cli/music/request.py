"""The request for one cue: what is asked of a model, and the digest of all that decides the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from expotion_cli.music.conditioning import FORM, StepStream
from expotion_cli.music.generate.constraints import Constraints
from expotion_cli.music.generate.sampling import Sampling
from expotion_cli.music.melody import Melody
from expotion_cli.storage import digest_bytes, digest_of
from expotion_cli.timing import Timeline


@dataclass(frozen=True)
class Facts:
    """What is settled about a cue, for models that are told it apart from their prompt.

    Attributes:
        bpm: tempo in beats a minute.
        metre: one of `timing.METRES`.
        key: tonic and mode, e.g. "A minor"; empty where it is left open.
    """

    bpm: int
    metre: str
    key: str


@dataclass(frozen=True)
class CueRequest:
    """One cue to generate.

    Attributes:
        prompt: a description of the music.
        timeline: gives the number of steps S.
        conditioning: streams on the step grid (`conditioning.condition`), or None to leave the adapter out altogether.
        seed: seed of the noise; another seed gives another cue.
        sampling: how tokens are drawn.
        constraints: what is settled before tokens are drawn, on the decoder's steps; None for nothing.
        layout: [D] the timeline's step that each of the decoder's steps stands for, in order; None where they are the
            same. Steps that stand for the same one as the step before are dropped from the finished cue. Conditioning
            and constraints are on the decoder's steps.
        later_prompts: (decoder's step, prompt that holds from there on), in order; windows begin and end there.
        negative_prompt: what the music should not be: text guidance leads away from it.
        melody: a tune to play (`Model.melody`), for models that take one.
        facts: what is settled; None for models that are told nothing but the prompt.
    """

    prompt: str
    timeline: Timeline
    conditioning: Mapping[str, StepStream] | None
    seed: int
    sampling: Sampling
    negative_prompt: str
    constraints: Constraints | None = None
    layout: np.ndarray | None = None
    later_prompts: tuple[tuple[int, str], ...] = ()
    melody: Melody | None = None
    facts: Facts | None = None

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """All prompts, in order of time."""
        return (self.prompt, *(text for _, text in self.later_prompts))

    def prompt_at(self, step: int) -> str:
        """The prompt that holds at one of the decoder's steps."""
        return next((text for first, text in reversed(self.later_prompts) if first <= step), self.prompt)

    @property
    def num_steps(self) -> int:
        """Number of steps that the decoder generates."""
        return self.timeline.num_steps if self.layout is None else len(self.layout)

    def on_timeline(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens on the timeline's steps.

        Args:
            tokens: [K, D] on the decoder's.
        """
        return tokens if self.layout is None else tokens[:, self._kept]

    @property
    def _kept(self) -> np.ndarray:
        """[S] the decoder's first step for each of the timeline's."""
        assert self.layout is not None
        return np.flatnonzero(np.diff(self.layout, prepend=-1) > 0)

    @property
    def has_picture(self) -> bool:
        """Whether any visual stream has a row that is not masked."""
        return any(name != FORM and stream.mask.any() for name, stream in (self.conditioning or {}).items())

    @cached_property
    def digest(self) -> str:
        """sha256 over everything but the model that decides the tokens of a single take."""
        # As floats: 3 and 3.0 are the same setting.
        sampling = {name: float(value) for name, value in asdict(self.sampling).items()}
        parts = [digest_of([self.prompt, self.num_steps, self.seed, sampling]).encode()]
        for name, stream in sorted((self.conditioning or {}).items()):
            parts += [name.encode(), np.ascontiguousarray(stream.values, np.float32).tobytes(), stream.mask.tobytes()]
        if self.constraints is not None:
            parts.append(self.constraints.digest.encode())
        if self.later_prompts or self.negative_prompt:
            parts.append(digest_of([[list(each) for each in self.later_prompts], self.negative_prompt]).encode())
        if self.melody is not None:
            parts.append(self.melody.digest.encode())
        if self.facts is not None:
            parts.append(digest_of(asdict(self.facts)).encode())
        return digest_bytes(*parts)
