"""Real clips for benchmarks: what was seen in each, and how much moves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.probe import probe
from expotion_cli.scoring import ladder
from expotion_cli.scoring.streams import choose_streams
from expotion_cli.spotting.activity import motion_energy


@dataclass(frozen=True)
class Clip:
    """A clip, what was seen in it and how much moves."""

    info: ClipInfo
    seen: ladder.Seen
    motion: np.ndarray


def load_clips(folder: Path) -> list[Clip]:
    """All clips of a folder; what is seen in them comes from the embedding cache or goes there."""
    from expotion_cli.vision.cache import EmbeddingCache

    cache, clips = EmbeddingCache(), []
    for path in sorted(folder.glob("*.mp4")):
        info = probe(path)
        seen = ladder.see(info, choose_streams(("face", "pose", "flow")).names, cache=cache)
        clips.append(Clip(info, seen, motion_energy(path, cache=cache)))
    return clips
