"""Adapters are trained on a GPU as on the CPU; `-m gpu` asks one."""

from __future__ import annotations

import pytest
from adapter_runs import trainer_for
from devices import DEVICES

from expotion_cli.training.logs import read_log


@pytest.fixture(scope="module")
def on_the_cpu(moving_data, tiny_model, tmp_path_factory) -> list[dict[str, float]]:
    out = tmp_path_factory.mktemp("cpu") / "run"
    trainer_for(moving_data, tiny_model, out, "train.steps=8").run()
    return read_log(out / "held_out.csv")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_has_the_losses_of_the_cpu_in_fp32(moving_data, tiny_model, on_the_cpu, tmp_path, device, precision):
    trainer = trainer_for(
        moving_data, tiny_model, tmp_path / "run", "train.steps=8", f"train.precision={precision}", device=device
    )
    assert trainer.distributed.device.type == device
    trainer.run()
    rows = read_log(tmp_path / "run" / "held_out.csv")
    assert [row["step"] for row in rows] == [row["step"] for row in on_the_cpu]
    for row, other in zip(rows, on_the_cpu, strict=True):
        assert row == pytest.approx(other, rel=0.02 if precision == "bf16" else 2e-3)
