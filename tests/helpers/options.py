"""Settings for functions that take all of them: tests name only those that they are about."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from expotion_cli.media import mix as mixing
from expotion_cli.media import remux as remuxing
from expotion_cli.music.conditioning import StepStream
from expotion_cli.music.generate.sampling import Sampling
from expotion_cli.music.melody import Melody
from expotion_cli.music.request import CueRequest
from expotion_cli.timing import Timeline

make_sampling = partial(Sampling, guidance=3.0, visual_guidance=1.0, temperature=1.0, top_k=250, top_p=1.0)
mix_down = partial(mixing.mix, mode="replace", fade_in_s=0.02, fade_out_s=1.5, under_lu=12.0, music_gain_db=0.0)
remux = partial(remuxing.remux, target_lufs=-14.0, peak_dbtp=-1.0, audio_codec="auto", keep_original=False,
                default_track="mix")  # fmt: skip


def mix(*arguments: Any, **settings: Any) -> np.ndarray:
    """The sound that `mix_down` makes."""
    return mix_down(*arguments, **settings).sound


def make_request(
    prompt: str,
    timeline: Timeline,
    conditioning: Mapping[str, StepStream] | None,
    seed: int,
    sampling: Sampling | None = None,
    melody: Melody | None = None,
) -> CueRequest:
    """A request, drawn with `make_sampling()` where it doesn't matter."""
    return CueRequest(prompt, timeline, conditioning, seed, sampling or make_sampling(), "", melody=melody)
