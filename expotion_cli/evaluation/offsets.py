"""Whether music and picture are in sync, by Synchformer (Iashin et al. 2024).

For 4.8 s of picture and sound, Synchformer gives a likelihood to each of 21 offsets. Two figures follow: how much of
that likelihood lies within ±0.2 s (`in_sync`), and how far from 0 the likeliest offset lies (`sync_offset`; the mean
over the first and the last 4.8 s of clips of 8 s is known as DeSync). Both are means over windows of 4.8 s, spread
evenly from the first to the last, as many as cover the clip, two at least.

The weights are those of `models/synchformer.toml`: the visual encoder's file holds the whole model.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import WeightsError
from expotion_cli.evaluation.outputs import SAMPLE_RATE
from expotion_cli.evaluation.pretrained import WeightsSource
from expotion_cli.media.decode import iter_views
from expotion_cli.media.sound import resample, to_mono
from expotion_cli.vision import networks
from expotion_cli.vision.encoder import EmbeddingStream
from expotion_cli.vision.synchformer import OWN_RATE_HZ, PICTURES_HZ, SEGMENT, STRIDE, SynchformerEncoder, middle
from expotion_cli.weights.manifest import find_manifest, size_text

if TYPE_CHECKING:
    from expotion_cli.evaluation.synchformer_av import AudioVisualModel, ModelSizes
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.vision.cache import EmbeddingCache

NAME = "synchformer"
NUM_SEGMENTS = 14
WINDOW_S = float(Fraction(SEGMENT + (NUM_SEGMENTS - 1) * STRIDE) / PICTURES_HZ)
"""4.8 s, the length of one window."""
IN_SYNC_S = 0.2
_BATCH = {"cpu": 1, "cuda": 8}
_SOUND_BATCH = 8
_STREAM = "synchformer-segments"
_VERSION = "1"


class Synchformer:
    """The published model: features of pictures and sound, and the likelihood of offsets between them.

    Args:
        where: a folder that may hold the weights; by default the manifest's are used.
        sizes: as published by default.

    Raises:
        WeightsError: the weights are not here, or damaged.
    """

    def __init__(self, where: WeightsSource, sizes: ModelSizes | None = None):
        self._file = _find(where)
        path = self._file.require()
        import torch

        from expotion_cli.evaluation.synchformer_av import load_model, offsets_s

        device = networks.choose_device("auto")
        self._device = torch.device(device)
        self._model: AudioVisualModel = load_model(path, sizes, remedy=self._file.remedy).to(self._device)
        self.offsets_s = np.array(offsets_s(self._model.sizes.classes))
        self.identity = f"{NAME}, {self._file.digest()}"

    def encode_video(self, clip: ClipInfo, cache: EmbeddingCache | None = None) -> np.ndarray:
        """Visual features of each segment of 0.64 s, one every 0.32 s.

        Args:
            clip: whose pictures.
            cache: where to look and keep; None computes.

        Returns:
            [S, moments, D] float32; S is 0 for clips shorter than a segment.

        Raises:
            DecodeError: the picture can't be read.
        """
        moments, width = self._model.sizes.visual.moments, self._model.sizes.visual.width
        digest = ""
        if cache is not None:
            decided = {"clip": cache.content_hash(clip.path), "weights": self._file.digest(), "version": _VERSION}
            # Other devices round otherwise.
            digest = storage.digest_of({**decided, "encoder": _STREAM, "device": self._device.type})
            if (kept := cache.get(digest)) is not None:
                return kept.values.reshape(-1, moments, width)
        found = self._encode(clip)
        if cache is not None:
            rows = found.reshape(-1, width)
            dims, mask = tuple(map(str, range(width))), np.ones(len(rows), dtype=bool)
            rate_hz = float(2 * OWN_RATE_HZ)  # segments overlap by half, so each moment has two rows
            cache.put(EmbeddingStream(_STREAM, rows, mask, rate_hz, dims, _STREAM, _VERSION, digest))
        return found

    def encode_audio(self, audio: np.ndarray) -> np.ndarray:
        """Audio features of each segment of 0.64 s, one every 0.32 s.

        Args:
            audio: [2, n] float32 at `outputs.SAMPLE_RATE`; sample 0 sounds with the first frame.

        Returns:
            [S, moments, D] float32; S is 0 for sound shorter than a segment.
        """
        import torch

        from expotion_cli.evaluation import synchformer_audio

        size, sizes = synchformer_audio.SEGMENT, self._model.sizes.audio
        mono = resample(to_mono(audio), SAMPLE_RATE, synchformer_audio.SAMPLE_RATE)
        segments = torch.from_numpy(mono[0]).unfold(0, size, size // 2) if mono.shape[1] >= size else None
        rows = [np.zeros((0, sizes.moments, sizes.width), dtype=np.float32)]
        for part in segments.split(_SOUND_BATCH) if segments is not None else ():
            with torch.inference_mode():
                spectra = synchformer_audio.log_mel(part.to(self._device), sizes)
                rows.append(self._model.afeat_extractor(spectra).float().cpu().numpy())
        return np.concatenate(rows)

    def compare(self, seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
        """Likelihood of each offset, window by window; the longer input is cut to the shorter.

        Args:
            seen: from `encode_video`.
            heard: from `encode_audio`.

        Returns:
            [windows, classes] float64, each row of sum 1; no windows where one is shorter than 4.8 s.
        """
        import torch

        starts = windows(min(len(seen), len(heard)))
        rows = [np.zeros((0, len(self.offsets_s)))]
        for start in starts:
            window = slice(start, start + NUM_SEGMENTS)
            both = (torch.from_numpy(part[window])[None].to(self._device) for part in (seen, heard))
            with torch.inference_mode():
                rows.append(torch.softmax(self._model(*both).double(), dim=-1).cpu().numpy())
        return np.concatenate(rows)

    def score(self, seen: np.ndarray, heard: np.ndarray) -> tuple[float, float]:
        """(`in_sync`, `sync_offset`) of a pair; not numbers where one is shorter than 4.8 s."""
        likely = self.compare(seen, heard)
        return in_sync(likely, self.offsets_s), sync_offset(likely, self.offsets_s)

    def _encode(self, clip: ClipInfo) -> np.ndarray:
        import torch

        visual = self._model.sizes.visual
        rows = [np.zeros((0, visual.moments, visual.width), dtype=np.float32)]
        pictures: list[np.ndarray] = []  # from the first picture of the next segment on
        waiting: list[np.ndarray] = []
        frames = (frame.pixels for _, frame in iter_views(clip, (SynchformerEncoder.view,)))
        for pixels in itertools.chain(frames, (None,)):
            if pixels is not None:
                pictures.append(middle(pixels))
                if len(pictures) == SEGMENT:
                    waiting.append(np.stack(pictures))
                    del pictures[:STRIDE]
            if waiting and (pixels is None or len(waiting) == _BATCH.get(self._device.type, 1)):
                with torch.inference_mode():
                    segments = torch.from_numpy(np.stack(waiting)).to(self._device)
                    rows.append(self._model.vfeat_extractor(segments).float().cpu().numpy())
                waiting = []
        return np.concatenate(rows)


def windows(num_segments: int) -> list[int]:
    """First segments of the windows in so many segments: evenly spread, the last one ends with the last segment.

    As many as cover all when they hardly overlap, but two at least; one or none where there is no room for two.
    """
    last = num_segments - NUM_SEGMENTS
    if last <= 0:
        return [0] if last == 0 else []
    count = min(last + 1, max(2, math.ceil((num_segments + 1) / (NUM_SEGMENTS + 1))))
    return [round(last * i / (count - 1)) for i in range(count)]


def in_sync(likely: np.ndarray, offsets_s: np.ndarray) -> float:
    """Likelihood that the offset is within ±0.2 s, mean over windows.

    Args:
        likely: [windows, classes], each row of sum 1.
        offsets_s: [classes] seconds.

    Returns:
        0 to 1; 0.14 for likelihood spread evenly; not a number without windows.
    """
    if not len(likely):
        return math.nan
    return float(likely[:, np.abs(offsets_s) <= IN_SYNC_S + 1e-6].sum(axis=1).mean())


def sync_offset(likely: np.ndarray, offsets_s: np.ndarray) -> float:
    """Distance of the likeliest offset from 0 in seconds, mean over windows.

    Args:
        likely: [windows, classes].
        offsets_s: [classes] seconds.

    Returns:
        0 to 2; not a number without windows.
    """
    if not len(likely):
        return math.nan
    return float(np.abs(offsets_s[likely.argmax(axis=1)]).mean())


def together(in_sync: float, clap: float) -> float:
    """Text-video-audio consistency: the geometric mean of `in_sync` and of the CLAP score, 0 for scores below 0.

    It is high only where the sound keeps to both, the picture and the words.
    """
    return math.sqrt(in_sync * max(0.0, clap))


def _find(where: WeightsSource) -> networks.NetworkFile:
    """The file with the weights.

    Raises:
        WeightsError: it is neither in the folder of the user's nor fetched.
    """
    published = networks.NetworkFile(NAME)
    name = published.path.name
    for path in () if where.folder is None else (where.folder / name, where.folder / NAME / name):
        if path.is_file():
            return networks.NetworkFile(NAME, path)
    if not published.path.is_file():
        size = size_text(find_manifest(NAME).about_bytes)
        remedy = f"(run: expotion fetch {NAME}, {size}; or give --weights FOLDER with {name})"
        raise WeightsError(f"needs {NAME}", remedy=remedy)
    return published
