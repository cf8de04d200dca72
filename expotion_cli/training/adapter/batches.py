"""Batches for training an adapter: crops of prepared clips with what was seen, or what would have been seen.

Everything about crop number n of a run is drawn from a generator keyed by (seed, n), so a batch does not depend on how
often a run was interrupted, nor on how many devices share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from expotion_cli.music.conditioning import FORM, StepStream, condition, form_stream
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.music.transformer.delay import apply_delay
from expotion_cli.timing import Timeline
from expotion_cli.training.adapter.motion_from_audio import MARGIN_S, move_to
from expotion_cli.training.data.shards import ClipRecord, DataFolder, Item
from expotion_cli.training.losses import IGNORED
from expotion_cli.training.settings import START, DataPart

_ORDER, _CROP, _HELD_OUT = 1 << 40, 2 << 40, 3 << 40
"""Kinds of randomness; a key is (seed + kind, number)."""


def generator(kind: int, seed: int, number: int) -> np.random.Generator:
    """The generator of one thing, independent of all others."""
    return np.random.Generator(np.random.Philox(key=[kind + seed, number]))


@dataclass(frozen=True)
class Crop:
    """A stretch of a clip, with all that is left out of it.

    Attributes:
        clip: its record.
        start: first step.
        num_steps: steps of music in it, at most the window.
        is_synthetic: its motion is made up.
        unseen: streams that are left out.
        is_deaf: its words are left out.
        key: of the generator that made-up motion is drawn from.
    """

    clip: ClipRecord
    start: int
    num_steps: int
    is_synthetic: bool
    unseen: frozenset[str]
    is_deaf: bool
    key: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.clip.name} from step {self.start}"


@dataclass(frozen=True)
class Batch:
    """Crops as tensors.

    Attributes:
        inputs: [B, K, P] int64, delayed.
        targets: [B, K, P] int64, IGNORED where no loss is taken.
        values: per stream [B, W + 1, D_s] float32.
        masks: per stream [B, W + 1] bool.
        captions: in words; None where the words are left out.
    """

    inputs: Tensor
    targets: Tensor
    values: dict[str, Tensor]
    masks: dict[str, Tensor]
    captions: tuple[str | None, ...]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        values = {name: tensor.to(device) for name, tensor in self.values.items()}
        masks = {name: tensor.to(device) for name, tensor in self.masks.items()}
        return Batch(self.inputs.to(device), self.targets.to(device), values, masks, self.captions)

    def with_eyes_of(self, other: Batch) -> Batch:
        """The same music with what another batch sees; where it opens and ends stays its own."""
        values = {name: (self if name == FORM else other).values[name] for name in self.values}
        masks = {name: (self if name == FORM else other).masks[name] for name in self.masks}
        return Batch(self.inputs, self.targets, values, masks, self.captions)

    def blind(self) -> Batch:
        """The same with nothing seen."""
        masks = {name: mask & (name == FORM) for name, mask in self.masks.items()}
        return Batch(self.inputs, self.targets, self.values, masks, self.captions)


@dataclass(frozen=True)
class Shape:
    """Sizes that crops are cut to.

    Attributes:
        window: steps W.
        delays: of the decoder's streams.
        start_token: of the decoder.
        rate_hz: steps a second.
        specs: streams that the adapter reads; empty without one.
    """

    window: int
    delays: tuple[int, ...]
    start_token: int
    rate_hz: Fraction
    specs: tuple[StreamSpec, ...]

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the streams that come from eyes."""
        return tuple(spec.name for spec in self.specs if spec.name != FORM)


class Crops:
    """Draws crops from a split of a data folder and makes batches of them.

    Args:
        folder: the data.
        clips: the split's records; at least one.
        shape: what crops are cut to.
        settings: the recipe's table.
        seed: the run's.
    """

    def __init__(self, folder: DataFolder, clips: Sequence[ClipRecord], shape: Shape, settings: DataPart, seed: int):
        self.folder, self.clips, self.shape, self.settings, self.seed = folder, list(clips), shape, settings, seed
        whole = settings.crops == START
        # A long piece comes up as often as its length asks for.
        self.entries = [
            clip for clip in self.clips for _ in range(1 if whole else max(1, round(clip.num_steps / shape.window)))
        ]
        self.item = lru_cache(maxsize=64)(folder.load)
        self.whole_condition = lru_cache(maxsize=64)(self._whole_condition)
        self._order = lru_cache(maxsize=2)(self._order_of)

    @property
    def crops_an_epoch(self) -> int:
        """Crops that go once through the music."""
        return len(self.entries)

    def crop(self, number: int) -> Crop:
        """Crop number n of a run."""
        epoch, place = divmod(number, len(self.entries))
        clip = self.entries[self._order(epoch)[place]]
        rng = generator(_CROP, self.seed, number)
        start = 0 if self.settings.crops == START else draw_start(clip.num_steps, self.shape.window, rng)
        settings = self.settings
        everything = rng.random() < settings.drop_all
        unseen = [name for name in self.shape.seen if rng.random() < settings.drop_each or everything]
        return Crop(
            clip,
            start,
            min(self.shape.window, clip.num_steps - start),
            self._is_synthetic(clip, rng.random()),
            frozenset(unseen),
            bool(rng.random() < settings.drop_text),
            (_CROP << 1, self.seed, number),
        )

    def held_out(self, count: int) -> list[Crop]:
        """Fixed crops to take held-out losses on, from all clips in turn; nothing is left out of them."""
        crops = []
        for number in range(count):
            clip = self.clips[number % len(self.clips)]
            rng = generator(_HELD_OUT, self.seed, number)
            start = 0 if self.settings.crops == START else draw_start(clip.num_steps, self.shape.window, rng)
            length = min(self.shape.window, clip.num_steps - start)
            synthetic = self._is_synthetic(clip, 0.0 if self.settings.synthetic == 1 else 1.0)
            crops.append(Crop(clip, start, length, synthetic, frozenset(), False, (_HELD_OUT << 1, self.seed, number)))
        return crops

    def batch(self, crops: Sequence[Crop]) -> Batch:
        """Crops as one batch."""
        tokens = torch.full(
            (len(crops), len(self.shape.delays), self.shape.window), self.shape.start_token, dtype=torch.int64
        )
        wanted = torch.full_like(tokens, IGNORED)
        seen = []
        for row, crop in enumerate(crops):
            item = self.item(crop.clip.digest)
            part = torch.from_numpy(item.tokens[:, crop.start : crop.start + crop.num_steps].astype(np.int64))
            tokens[row, :, : crop.num_steps] = part
            wanted[row, :, : crop.num_steps] = part
            seen.append(self.see(crop, item))
        inputs = apply_delay(tokens, self.shape.start_token, self.shape.delays)[..., :-1]
        targets = apply_delay(wanted, IGNORED, self.shape.delays)[..., 1:]
        values, masks = {}, {}
        for spec in self.shape.specs:
            values[spec.name] = torch.from_numpy(np.stack([streams[spec.name].values for streams in seen]))
            masks[spec.name] = torch.from_numpy(np.stack([streams[spec.name].mask for streams in seen]))
        captions = tuple(None if crop.is_deaf else crop.clip.caption for crop in crops)
        return Batch(inputs, targets, values, masks, captions)

    def see(self, crop: Crop, item: Item) -> dict[str, StepStream]:
        """What a crop's person is seen doing, W + 1 rows of every stream; a stream that there is none of is unseen."""
        rows = self.shape.window + 1
        if crop.is_synthetic:
            streams, first = self._made_up(crop, item), 0
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
            held = np.minimum(np.arange(at, at + rows), len(stream.mask) - 1)  # as when composing
            result[spec.name] = StepStream(stream.values[held], stream.mask[held] & (spec.name not in crop.unseen))
        return result

    def _is_synthetic(self, clip: ClipRecord, drawn: float) -> bool:
        if not self.shape.seen or not clip.has_sound:
            return False
        return not has_picture(clip, self.shape.seen) or drawn < self.settings.synthetic

    def _made_up(self, crop: Crop, item: Item) -> Mapping[str, StepStream]:
        assert item.hearing is not None
        rate = float(self.shape.rate_hz)
        length = min(self.shape.window + 1, crop.clip.num_steps - crop.start)
        start_s = crop.start / rate
        music = item.hearing.between(start_s - MARGIN_S, start_s + length / rate + MARGIN_S)
        made = move_to(music, generator(*crop.key))
        specs = [spec for spec in self.shape.specs if spec.name != FORM]
        return condition(made, Timeline(length / self.shape.rate_hz, self.shape.rate_hz), specs)

    def _whole_condition(self, digest: str) -> Mapping[str, StepStream]:
        """The whole clip's streams on the step grid: people are brought to one scale over a clip, as when composing."""
        item = self.item(digest)
        timeline = Timeline(item.tokens.shape[1] / self.shape.rate_hz, self.shape.rate_hz)
        specs = [spec for spec in self.shape.specs if spec.name != FORM]
        return condition({n: s for n, s in item.streams.items() if s.mask.any()}, timeline, specs)

    def _order_of(self, epoch: int) -> np.ndarray:
        return generator(_ORDER, self.seed, epoch).permutation(len(self.entries))


def has_picture(clip: ClipRecord, names: Sequence[str]) -> bool:
    """Whether any of these streams saw something in a clip."""
    return any(clip.streams.get(name, 0) > 0 for name in names)


def strangers(crops: Sequence[Crop]) -> list[Crop]:
    """For each crop the next one of another clip; empty where all are of one clip."""
    if len({crop.clip.digest for crop in crops}) < 2:
        return []
    found = []
    for number, crop in enumerate(crops):
        following = (crops[(number + step) % len(crops)] for step in range(1, len(crops)))
        found.append(next(other for other in following if other.clip.digest != crop.clip.digest))
    return found


def draw_start(num_steps: int, window: int, rng: np.random.Generator) -> int:
    """A random first step. Of clips about as long as the window half begin later, and their crops end early."""
    if num_steps >= 1.5 * window:
        return int(rng.integers(0, num_steps - window + 1))
    last = num_steps - min(num_steps, window) // 2
    return int(rng.integers(0, max(1, last))) if rng.random() < 0.5 else 0
