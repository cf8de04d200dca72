"""What a step learns from: drawn by number alone, with parts left out as often as asked, each token counted once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from adapter_runs import trainer_for

from expotion_cli.music.conditioning import EMBEDDED_STREAMS, FORM
from expotion_cli.music.plan_stream import PLAN
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.music.transformer.delay import remove_delay
from expotion_cli.training.adapter.batches import BatchShape
from expotion_cli.training.adapter.crops import CropSampler, draw_start, mismatched_crops
from expotion_cli.training.data.data_folder import ClipRecord, PreparedClip, StoredStream
from expotion_cli.training.data.splits import TRAIN
from expotion_cli.training.loss import IGNORE_INDEX
from expotion_cli.training.settings import DataSettings

SPECS = (StreamSpec.numbered("a", 2), StreamSpec.numbered("b", 3))
STEPS = 240


class Folder:
    """Clips as they come from a data folder: token t of stream k is t + 1000 k, row r of stream a holds r."""

    def __init__(self, lengths=(STEPS,) * 4, names=("a", "b")):
        self.lengths, self.names = dict(zip("wxyz", lengths, strict=False)), names

    def records(self) -> list[ClipRecord]:
        seen = dict.fromkeys(self.names, 1.0)
        return [
            ClipRecord(name, name, TRAIN, f"words of {name}", "", "", steps, steps / 50, seen, has_sound=False)
            for name, steps in self.lengths.items()
        ]

    def load(self, digest: str) -> PreparedClip:
        steps = self.lengths[digest]
        tokens = (np.arange(steps) + 1000 * np.arange(4)[:, None]).astype(np.int16)
        rows = np.arange(steps // 10 + 1, dtype=np.float32)[:, None]
        widths = {"a": 2, "b": 3}
        streams = {
            name: StoredStream(np.repeat(rows, widths[name], 1), np.ones(len(rows), bool), 5.0,
                               tuple(map(str, range(widths[name]))))
            for name in self.names
        }  # fmt: skip
        return PreparedClip(tokens, streams, None, np.zeros(0, np.uint32), steps / 50)


def sampler(folder: Folder | None = None, window: int = 100, specs=SPECS, seed: int = 0, **settings) -> CropSampler:
    folder = folder or Folder()
    shape = BatchShape(window, (0, 1, 2, 3), 5000, Fraction(50), specs)
    return CropSampler(folder, folder.records(), shape, DataSettings(**settings), seed)


def test_words_all_streams_and_each_stream_are_left_out_as_often_as_asked():
    crops = sampler(drop_text=0.3, drop_all=0.2, drop_each=0.25)
    drawn = [crops.crop(number) for number in range(3000)]
    seen = np.array([[name not in crop.dropped for name in ("a", "b")] for crop in drawn])
    without_text = np.array([crop.without_text for crop in drawn])
    assert without_text.mean() == pytest.approx(0.3, abs=0.03)
    assert (~seen).mean(axis=0) == pytest.approx(np.full(2, 0.2 + 0.8 * 0.25), abs=0.03)
    assert (~seen).all(axis=1).mean() == pytest.approx(0.2 + 0.8 * 0.25**2, abs=0.03)
    assert abs(np.corrcoef(without_text, ~seen[:, 0])[0, 1]) < 0.06, "text and streams are dropped independently"
    one = sampler(drop_text=0.0, drop_all=0.0, drop_each=0.0)
    assert not any(crop.dropped or crop.without_text for crop in map(one.crop, range(200)))


def test_what_is_left_out_of_a_crop_is_missing_from_its_batch():
    crops = sampler(drop_each=0.5, drop_text=0.5)
    chosen = [crops.crop(number) for number in range(40)]
    batch = crops.batch(chosen)
    assert {crop.dropped for crop in chosen} == {frozenset(), frozenset("a"), frozenset("b"), frozenset("ab")}
    for row, crop in enumerate(chosen):
        for name in "ab":
            assert batch.masks[name][row].any() == (name not in crop.dropped)
        assert batch.captions[row] == (None if crop.without_text else f"words of {crop.clip.name}")
    masked = batch.without_picture()
    assert not any(mask.any() for mask in masked.masks.values()) and masked.inputs is batch.inputs


def test_a_dropped_caption_and_a_dropped_stream_reach_the_model(moving_data, tiny_model, tmp_path):
    """They come to it exactly as when composing: no word is attended to, and the learned row stands for a stream."""
    trainer = trainer_for(moving_data, tiny_model, tmp_path / "run", "adapter.gate_start=0.5")
    with torch.no_grad():
        trainer.adapter.missing["move"].fill_(7.0)
    drop = {"data.drop_text=1": "text", "data.drop_each=1": "picture", "data.drop_all=1": "picture"}
    whole = trainer.crops.batch([trainer.crops.crop(0)])
    for setting, kind in drop.items():
        other = trainer_for(moving_data, tiny_model, tmp_path / kind, setting)
        batch = other.crops.batch([other.crops.crop(0)])
        joined = trainer.adapter.join_streams(batch.values, batch.masks)
        assert torch.equal(batch.targets, whole.targets)
        assert bool((joined == 7.0).all()) == (kind == "picture")
        _, mask = trainer._text_states(batch.captions)
        assert bool(mask.any()) == (kind != "text")
        with torch.no_grad():
            assert (trainer.predict(batch)[0] - trainer.predict(whole)[0]).abs().max() > 1e-3


def test_targets_are_the_clips_tokens_in_the_delay_pattern_and_each_counts_once():
    crops = sampler(Folder((90, STEPS, STEPS, STEPS)))
    chosen = [crops.crop(number) for number in range(30)]
    batch = crops.batch(chosen)
    assert batch.inputs.shape == batch.targets.shape == (30, 4, 100 + 3)
    wanted = [crop.num_steps for crop in chosen]
    assert len(set(wanted)) > 1, "some crops end with their clip"
    assert ((batch.targets != IGNORE_INDEX).sum(dim=(1, 2)) == torch.tensor(wanted) * 4).all()
    for row, crop in enumerate(chosen):
        # The start token in front of the targets gives the pattern that music is composed in.
        tokens = remove_delay(torch.cat([torch.full((4, 1), IGNORE_INDEX), batch.targets[row]], dim=1), 100)
        expected = crop.start + torch.arange(crop.num_steps) + 1000 * torch.arange(4)[:, None]
        assert torch.equal(tokens[:, : crop.num_steps], expected)
        assert torch.equal(batch.inputs[row, 0, 1 : crop.num_steps], expected[0, :-1])
    assert (batch.inputs[:, :, 0] == 5000).all()


def test_what_is_seen_stands_beside_the_music_it_belongs_to():
    crops = sampler(drop_each=0, drop_all=0, drop_text=0)
    for number in range(20):
        crop = crops.crop(number)
        seen = crops.batch([crop]).values["a"][0, : crop.num_steps, 0].numpy()
        # Row r, which holds r, was seen at r / 5 s; step s is heard at s / 50 s.
        assert seen == pytest.approx((crop.start + np.arange(crop.num_steps)) / 10, abs=1e-3)


def test_a_crop_depends_on_its_number_and_the_seed_alone():
    one, other = sampler(), sampler()
    backwards = [other.crop(number) for number in reversed(range(50))][::-1]
    assert [one.crop(number) for number in range(50)] == backwards
    assert [sampler(seed=1).crop(number) for number in range(50)] != backwards
    by_epoch = [sorted(one.crop(n).clip.name for n in range(first, first + 8)) for first in (0, 8, 16)]
    assert by_epoch == [sorted("wxyz" * 2)] * 3, "a clip of two windows comes twice an epoch"


def test_crops_begin_anywhere_or_at_the_start():
    starts = [draw_start(STEPS, 100, np.random.default_rng(seed)) for seed in range(2000)]
    assert min(starts) == 0 and max(starts) == STEPS - 100 and np.std(starts) > 35
    about_a_window = [draw_start(110, 100, np.random.default_rng(seed)) for seed in range(2000)]
    assert 0.45 < np.mean(np.array(about_a_window) == 0) < 0.6 and max(about_a_window) > 50
    fixed = sampler(crops="start")
    assert all(fixed.crop(number).start == 0 for number in range(40)) and fixed.crops_per_epoch == 4


def test_mismatched_crops_are_of_other_clips():
    crops = sampler(Folder((STEPS, STEPS, STEPS))).held_out(8)
    found = mismatched_crops(crops)
    assert len(found) == len(crops) == 8
    assert all(other.clip.name != crop.clip.name for crop, other in zip(crops, found, strict=True))
    assert mismatched_crops(sampler(Folder((STEPS,))).held_out(5)) == []


def test_motion_that_is_made_up_takes_its_share(music_data):
    shape = BatchShape(100, (0, 1), 32, Fraction(50), EMBEDDED_STREAMS)
    clips = [
        ClipRecord(**{**vars(clip), "streams": {"pose": 1.0} if number % 2 else {}})
        for number, clip in enumerate(music_data.clips(TRAIN))
    ]
    crops = CropSampler(music_data, clips, shape, DataSettings(synthetic=0.4, drop_each=0, drop_all=0), 0)
    drawn = [crops.crop(number) for number in range(2000)]
    with_picture = [crop.is_synthetic for crop in drawn if crop.clip.streams]
    assert np.mean(with_picture) == pytest.approx(0.4, abs=0.05)
    assert all(crop.is_synthetic for crop in drawn if not crop.clip.streams), "music alone has no other motion"
    batch = crops.batch([crop for crop in drawn if crop.is_synthetic][:6])
    assert batch.masks["pose"].float().mean() > 0.6 and batch.values["pose"].std() > 0.05
    assert batch.masks[FORM].all() and batch.values[FORM].max() > 0.5
    assert batch.masks[PLAN].all() and batch.values[PLAN].std() > 0.05, "the plan is found in motion that is made up"
    held_out = CropSampler(music_data, clips, shape, DataSettings(synthetic=0.4), 0).held_out(12)
    judged = [crop for crop in held_out if crop.clip.streams]
    assert judged and not any(crop.is_synthetic for crop in judged), "judged on real motion where there is"


def gradients(trainer, step: int = 0) -> dict[str, torch.Tensor]:
    loss = trainer.train_step(step)
    named = {f"{part}.{name}": p for part, m in trainer.modules.items() for name, p in m.named_parameters()}
    return {name: p.grad.clone() for name, p in named.items() if p.grad is not None} | {"loss": torch.tensor(loss)}


@pytest.mark.parametrize("setting", ["train.micro_batch=1", "train.micro_batch=3", "train.checkpointing=true"])
def test_small_parts_and_checkpointing_give_the_gradient_of_the_whole_batch(moving_data, tiny_model, tmp_path, setting):
    common = ("train.batch=8", "adapter.gate_start=0.3", "lora.rank=2", "data.drop_text=0.3", "data.drop_each=0.3")
    whole = trainer_for(moving_data, tiny_model, tmp_path / "whole", *common, "train.micro_batch=8")
    parts = trainer_for(moving_data, tiny_model, tmp_path / "parts", *common, "train.micro_batch=8", setting)
    one, other = gradients(whole), gradients(parts)
    assert one.keys() == other.keys() and len(one) > 8
    for name, gradient in one.items():
        scale = max(1e-6, float(gradient.abs().max()))
        assert float((gradient - other[name]).abs().max()) < 2e-4 * scale, name
    assert float(one["adapter.gates"].abs().max()) > 1e-5


@pytest.mark.long
def test_mixed_precision_computes_in_bf16_and_keeps_what_is_trained_in_fp32(moving_data, tiny_model, tmp_path):
    mixed = trainer_for(moving_data, tiny_model, tmp_path / "mixed", "train.precision=bf16")
    batch = mixed.crops.batch([mixed.crops.crop(0)])
    assert mixed.distributed.is_bf16 and mixed.predict(batch)[0].dtype == torch.bfloat16
    trained = mixed.run()
    exact = trainer_for(moving_data, tiny_model, tmp_path / "exact", "train.precision=fp32").run()
    assert all(p.dtype == torch.float32 for p in mixed.parameters)
    assert trained.best["loss"] == pytest.approx(exact.best["loss"], abs=0.05) and trained.best != exact.best
    assert trained.best["loss"] < trained.best["off"] - 0.02
