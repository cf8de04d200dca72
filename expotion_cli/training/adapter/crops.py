"""Draws crops of prepared clips, with the motion that was seen or synthetic motion made from the music.

All of crop n is drawn from a generator keyed by (seed, n), so a batch depends neither on interruptions of the run nor
on how many devices share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from expotion_cli.music.conditioning import FORM, StepStream, condition, form_stream
from expotion_cli.music.plan_stream import PLAN
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.spotting.activity import SeenStream
from expotion_cli.spotting.plan import make_plan
from expotion_cli.timing import Timeline
from expotion_cli.training.adapter.batches import Batch, BatchShape, Sample, collate
from expotion_cli.training.adapter.motion_from_audio import MARGIN_S, synthetic_motion
from expotion_cli.training.data.data_folder import ClipRecord, DataFolder, PreparedClip
from expotion_cli.training.seeding import keyed_generator
from expotion_cli.training.settings import START, DataSettings

_ORDER, _CROP, _HELD_OUT = 1 << 40, 2 << 40, 3 << 40
"""Purposes of `keyed_generator`."""
_CACHED_CLIPS = 64
_BPM = (60.0, 140.0)
"""The plan's tempo: music without a beat grid ignores it."""


@dataclass(frozen=True)
class Crop:
    """A stretch of a clip, and what is dropped from it.

    Attributes:
        clip: its record.
        start: first step.
        num_steps: steps of music in it, at most the window.
        is_synthetic: its motion is made from its music.
        dropped: names of the streams that are masked.
        without_text: its caption is dropped.
        key: (seed, number, purpose) of the generator that synthetic motion is drawn from.
    """

    clip: ClipRecord
    start: int
    num_steps: int
    is_synthetic: bool
    dropped: frozenset[str]
    without_text: bool
    key: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.clip.name} from step {self.start}"


class CropSampler:
    """Draws crops from a split of a data folder and collates them.

    Args:
        folder: the data.
        clips: the split's records; at least one.
        shape: of the batches.
        settings: the recipe's [data] table.
        seed: of the run.
    """

    def __init__(
        self, folder: DataFolder, clips: Sequence[ClipRecord], shape: BatchShape, settings: DataSettings, seed: int
    ):
        self.folder, self.clips, self.shape, self.settings, self.seed = folder, list(clips), shape, settings, seed
        from_start = settings.crops == START
        # A clip stands in the list once for every window that it fills.
        self.entries = [
            clip
            for clip in self.clips
            for _ in range(1 if from_start else max(1, round(clip.num_steps / shape.window)))
        ]
        self.load = lru_cache(maxsize=_CACHED_CLIPS)(folder.load)
        self.whole_condition = lru_cache(maxsize=_CACHED_CLIPS)(self._whole_condition)
        self._order = lru_cache(maxsize=2)(self._order_of)

    @property
    def crops_per_epoch(self) -> int:
        """Crops that go through the music once."""
        return len(self.entries)

    def crop(self, number: int) -> Crop:
        """Draw crop `number` of the run."""
        epoch, place = divmod(number, len(self.entries))
        clip = self.entries[self._order(epoch)[place]]
        rng = keyed_generator(self.seed, number, _CROP)
        settings = self.settings
        start = self._draw_start(clip, rng)
        drop_all = rng.random() < settings.drop_all
        dropped = [name for name in self.shape.visual_names if rng.random() < settings.drop_each or drop_all]
        return Crop(
            clip,
            start,
            min(self.shape.window, clip.num_steps - start),
            self._is_synthetic(clip, rng.random()),
            frozenset(dropped),
            bool(rng.random() < settings.drop_text),
            (self.seed, number, _CROP << 1),
        )

    def held_out(self, count: int) -> list[Crop]:
        """Draw `count` fixed crops for evaluation, from all clips in turn; nothing is dropped from them."""
        crops = []
        for number in range(count):
            clip = self.clips[number % len(self.clips)]
            rng = keyed_generator(self.seed, number, _HELD_OUT)
            start = self._draw_start(clip, rng)
            length = min(self.shape.window, clip.num_steps - start)
            synthetic = self._is_synthetic(clip, 0.0 if self.settings.synthetic == 1 else 1.0)
            crops.append(Crop(clip, start, length, synthetic, frozenset(), False, (self.seed, number, _HELD_OUT << 1)))
        return crops

    def batch(self, crops: Sequence[Crop]) -> Batch:
        """Load crops and collate them."""
        samples = []
        for crop in crops:
            clip = self.load(crop.clip.digest)
            tokens = clip.tokens[:, crop.start : crop.start + crop.num_steps]
            caption = None if crop.without_text else crop.clip.caption
            samples.append(Sample(tokens, self.streams_for(crop, clip), caption))
        return collate(samples, self.shape)

    def streams_for(self, crop: Crop, clip: PreparedClip) -> dict[str, StepStream]:
        """A crop's conditioning streams, W + 1 rows each; a stream that the clip lacks is masked throughout."""
        rows = self.shape.window + 1
        if crop.is_synthetic:
            streams, first = self._synthetic_streams(crop, clip), 0
        else:
            streams, first = self.whole_condition(crop.clip.digest), crop.start
        result = {}
        for spec in self.shape.specs:
            stream = streams.get(spec.name)
            at = first
            if spec.name == FORM:
                stream, at = form_stream(crop.clip.num_steps), crop.start
            if stream is None:
                stream = StepStream(np.zeros((1, len(spec.dims)), np.float32), np.zeros(1, dtype=bool))
            held = np.minimum(np.arange(at, at + rows), len(stream.mask) - 1)  # the last row is held, as at inference
            result[spec.name] = StepStream(stream.values[held], stream.mask[held] & (spec.name not in crop.dropped))
        return result

    def _draw_start(self, clip: ClipRecord, rng: np.random.Generator) -> int:
        return 0 if self.settings.crops == START else draw_start(clip.num_steps, self.shape.window, rng)

    def _is_synthetic(self, clip: ClipRecord, drawn: float) -> bool:
        if not self.shape.visual_names or not clip.has_sound:
            return False
        return not has_picture(clip, self.shape.visual_names) or drawn < self.settings.synthetic

    def _synthetic_streams(self, crop: Crop, clip: PreparedClip) -> Mapping[str, StepStream]:
        assert clip.curves is not None
        rate = float(self.shape.rate_hz)
        length = min(self.shape.window + 1, crop.clip.num_steps - crop.start)
        start_s = crop.start / rate
        music = clip.curves.between(start_s - MARGIN_S, start_s + length / rate + MARGIN_S)
        motion = synthetic_motion(music, keyed_generator(*crop.key))
        specs = [spec for spec in self.shape.specs if spec.name != FORM]
        return planned_condition(motion, Timeline(length / self.shape.rate_hz, self.shape.rate_hz), specs)

    def _whole_condition(self, digest: str) -> Mapping[str, StepStream]:
        """A whole clip's streams on the step grid: people are scaled over the clip, as at inference."""
        clip = self.load(digest)
        timeline = Timeline(clip.tokens.shape[1] / self.shape.rate_hz, self.shape.rate_hz)
        specs = [spec for spec in self.shape.specs if spec.name != FORM]
        return planned_condition({name: s for name, s in clip.streams.items() if s.mask.any()}, timeline, specs)

    def _order_of(self, epoch: int) -> np.ndarray:
        return keyed_generator(self.seed, epoch, _ORDER).permutation(len(self.entries))


def planned_condition(
    streams: Mapping[str, SeenStream], timeline: Timeline, specs: Sequence[StreamSpec]
) -> dict[str, StepStream]:
    """Streams on the step grid; where an adapter reads the plan, the one that spotting finds in them."""
    asks = any(spec.name == PLAN for spec in specs) and bool(streams)
    return condition(streams, timeline, specs, plan=make_plan(streams, timeline.duration, _BPM) if asks else None)


def has_picture(clip: ClipRecord, names: Sequence[str]) -> bool:
    """Whether any of these streams saw something in a clip."""
    return any(clip.streams.get(name, 0) > 0 for name in names)


def mismatched_crops(crops: Sequence[Crop]) -> list[Crop]:
    """For each crop, the next one of another clip; empty if all crops are of one clip."""
    if len({crop.clip.digest for crop in crops}) < 2:
        return []
    found = []
    for number, crop in enumerate(crops):
        following = (crops[(number + step) % len(crops)] for step in range(1, len(crops)))
        found.append(next(other for other in following if other.clip.digest != crop.clip.digest))
    return found


def draw_start(num_steps: int, window: int, rng: np.random.Generator) -> int:
    """A random first step.

    Clips shorter than 1.5 windows start at 0 half of the time, else up to half a window before their end, so that
    endings are trained on, too.

    Args:
        num_steps: of the clip.
        window: steps of a crop.
        rng: source of randomness.
    """
    if num_steps >= 1.5 * window:
        return int(rng.integers(0, num_steps - window + 1))
    last = num_steps - min(num_steps, window) // 2
    return int(rng.integers(0, max(1, last))) if rng.random() < 0.5 else 0
