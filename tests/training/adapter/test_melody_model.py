"""Adapters are trained on MusicGen Melody as well, without a melody."""

from __future__ import annotations

import numpy as np
import pytest
from adapter_runs import trainer_for
from tiny_melody import melodic_copy

from expotion_cli.music.load import load_model


@pytest.fixture(scope="module")
def melody_model(tiny_model, tmp_path_factory):
    return melodic_copy(tiny_model, tmp_path_factory.mktemp("melodic") / "model")


@pytest.mark.parametrize("setting", ["train.micro_batch=3", "train.checkpointing=true"])
def test_a_step_does_not_depend_on_the_micro_batch_or_on_checkpointing(moving_data, melody_model, tmp_path, setting):
    steps = []
    for name, settings in (("whole", ()), ("parts", (setting,))):
        common = ("train.batch=8", "train.micro_batch=8", "data.drop_text=0.5", "adapter.gate_start=0.3", "lora.rank=2")
        trainer = trainer_for(moving_data, melody_model, tmp_path / name, *common, *settings)
        loss = trainer.train_step(0)
        steps.append(
            (loss, np.concatenate([p.grad.flatten().numpy() for p in trainer.parameters if p.grad is not None]))
        )
    (whole, expected), (parts, found) = steps
    assert abs(whole - parts) < 1e-5 and np.abs(expected).max() > 0
    assert np.abs(found - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())


def test_a_trained_adapter_is_loaded_with_its_melody_model(moving_data, melody_model, tmp_path):
    result = trainer_for(moving_data, melody_model, tmp_path / "run", "train.steps=2", "train.eval_every=2").run()
    model = load_model(str(melody_model), device="cpu", adapter=tmp_path / "run" / "adapter")
    assert model.takes_melody and model.streams == ("move",) and result is not None
