"""A run that is killed, meets a full disk or a loss that is no number goes on from its last checkpoint, bit for bit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import adapter_runs
import numpy as np
import pytest
import torch
from adapter_runs import prepare_moving, trainer_for

from expotion_cli.errors import ExpotionError, OutputError, UsageError
from expotion_cli.training import checkpoints
from expotion_cli.training.data.data_folder import DataFolder
from expotion_cli.training.logs import read_log

CHECKPOINT, BEST, WEIGHTS = "checkpoint.pt", "best.pt", "adapter/adapter_model.safetensors"
BOTH = ("lora.rank=2", "lora.dropout=0.1", "data.drop_each=0.3", "data.drop_text=0.3")
"""As much randomness as there can be."""


@pytest.fixture(scope="module")
def straight(moving_data, tiny_model, tmp_path_factory) -> Path:
    """A run of 24 steps that nothing interrupts."""
    out = tmp_path_factory.mktemp("straight") / "run"
    trainer_for(moving_data, tiny_model, out, *BOTH).run()
    return out


def flat(value, name: str = "") -> dict:
    """A checkpoint's leaves by their place in it."""
    if isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for k, part in pairs for key, leaf in flat(part, f"{name}/{k}").items()}
    return {name: value}


def require_same_run(one: Path, other: Path) -> None:
    """Weights, optimisers, progress, logs and results are the same to the bit; only the time it took may differ."""
    first, second = (flat(torch.load(path / CHECKPOINT, weights_only=True)) for path in (one, other))
    assert first.keys() == second.keys() and len(first) > 40
    for name, leaf in first.items():
        same = torch.equal(leaf, second[name]) if isinstance(leaf, torch.Tensor) else leaf == second[name]
        assert same or name == "/elapsed_s", name
    for name in ("log.csv", "held_out.csv"):
        rows = [
            [{k: v for k, v in row.items() if k != "elapsed_s"} for row in read_log(p / name)] for p in (one, other)
        ]
        assert rows[0] == rows[1] and len(rows[0]) >= 2, name
    for name in (WEIGHTS, "lora/adapter_model.safetensors", "adapter/adapter_config.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(straight, moving_data, tiny_model, tmp_path):
    out = tmp_path / "run"
    arguments = [moving_data.path, tiny_model, out, 16, *BOTH]
    paths = os.pathsep.join([str(Path(adapter_runs.__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, adapter_runs.__file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        assert process.stdout.readline() == b"now\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert torch.load(out / CHECKPOINT, weights_only=True)["step"] == 14, "step 16 is beyond the last checkpoint"
    assert len(read_log(out / "held_out.csv")) == 2 and not (out / "adapter").exists()
    trainer = trainer_for(moving_data, tiny_model, out, *BOTH)
    taught = record_steps(trainer)
    trainer.run()
    assert taught == list(range(14, 24))
    require_same_run(out, straight)


def record_steps(trainer) -> list[int]:
    """The steps that a trainer learns from, as they come."""
    steps, learn = [], trainer.train_step

    def recorded(step: int) -> float:
        steps.append(step)
        return learn(step)

    trainer.train_step = recorded
    return steps


def test_a_finished_run_trains_nothing_and_writes_what_was_lost(straight, moving_data, tiny_model, tmp_path):
    out = shutil.copytree(straight, tmp_path / "run")
    shutil.rmtree(out / "adapter")
    trainer = trainer_for(moving_data, tiny_model, out, *BOTH)
    taught = record_steps(trainer)
    trained = trainer.run()
    assert taught == [] and trained.progress.step == 24
    require_same_run(out, straight)


@pytest.mark.parametrize("changed", ["recipe", "data", "model", "start"])
def test_a_folder_of_another_run_is_not_gone_on_with(straight, moving_data, tiny_model, tmp_path, changed, taught):
    out = shutil.copytree(straight, tmp_path / "run")
    data, model, settings, start = moving_data, tiny_model, BOTH, None
    if changed == "recipe":
        settings = (*BOTH, "train.learning_rate=0.5")
    elif changed == "data":
        copied = shutil.copytree(moving_data.path, tmp_path / "data")
        content = json.loads((copied / "data.json").read_text())
        content["clips"][0]["caption"] = "other words"
        (copied / "data.json").write_text(json.dumps(content))
        data = DataFolder.open(copied)
    elif changed == "model":
        model = other_weights(tiny_model, tmp_path / "model")
    else:
        start = taught[1].adapter
    wanted = {"recipe": "recipe's train.learning_rate", "data": "its data", "model": "its model", "start": "start-from"}
    before = (out / CHECKPOINT).read_bytes()
    trainer = trainer_for(data, model, out, *settings, start_from=start)
    with pytest.raises(UsageError, match=f"another run: .*{wanted[changed]}"):
        trainer.run()
    assert (out / CHECKPOINT).read_bytes() == before


def other_weights(model: Path, to: Path) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, to)
    tensors = load_file(to / "model.safetensors")
    tensors["decoder.lm_heads.0.weight"] = tensors["decoder.lm_heads.0.weight"] + 0.1
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


def test_another_adapter_under_the_same_path_is_another_start(taught, moving_data, tiny_model, tmp_path):
    start = shutil.copytree(taught[1].adapter, tmp_path / "start")
    trainer_for(moving_data, tiny_model, tmp_path / "run", "train.steps=1", start_from=start).run()
    config = json.loads((start / "adapter_config.json").read_text())
    (start / "adapter_config.json").write_text(json.dumps({**config, "note": "changed"}))
    moved = shutil.copytree(taught[1].adapter, tmp_path / "elsewhere")
    trainer_for(moving_data, tiny_model, tmp_path / "run", "train.steps=1", start_from=moved).run()
    with pytest.raises(UsageError, match="start-from"):
        trainer_for(moving_data, tiny_model, tmp_path / "run", "train.steps=1", start_from=start).run()


@pytest.mark.long
def test_a_loss_that_is_no_number_stops_and_names_the_batch(straight, moving_data, tiny_model, tmp_path):
    out = tmp_path / "run"
    trainer = trainer_for(moving_data, tiny_model, out, *BOTH)
    spoilt = trainer.step_crops(17)[2]
    predict, batch_of = trainer.predict, trainer.crops.batch

    def batch(crops):
        trainer.spoil = crops and crops[0].key == trainer.step_crops(17)[0].key
        return batch_of(crops)

    def predict_spoilt(given, **options):
        logits, targets = predict(given, **options)
        return (logits * torch.nan if trainer.spoil else logits), targets

    trainer.crops.batch, trainer.predict = batch, predict_spoilt
    with pytest.raises(ExpotionError) as caught:
        trainer.run()
    said = str(caught.value)
    assert "loss of step 17 is nan" in said and str(spoilt) in said and str(out) in said and "another --out" in said
    assert torch.load(out / CHECKPOINT, weights_only=True)["step"] == 14
    kept = torch.load(out / CHECKPOINT, weights_only=True)["modules"]
    assert all(bool(tensor.isfinite().all()) for tensor in flat(kept).values())
    trainer_for(moving_data, tiny_model, out, *BOTH).run()
    require_same_run(out, straight)


def test_features_that_are_no_numbers_never_become_data(tokenizer, tmp_path):
    listed = adapter_runs.write_moving_list(tmp_path / "list")
    np.save(tmp_path / "list" / "f3.npy", np.full((16, 2), np.nan, np.float32))
    from expotion_cli.music.transformer.adapter import StreamSpec
    from expotion_cli.training.data.prepare import PrepareOptions, prepare

    options = PrepareOptions(features=(StreamSpec.numbered("move", 2),))
    made = prepare(listed, tmp_path / "data", tokenizer=tokenizer, options=options)
    assert len(made.clips) == 15 and "NaN" in str(made.problems[0]) and made.problems[0].path.name == "f3.npy"


@contextlib.contextmanager
def full_disk(kind: str, monkeypatch, after: int):
    """The disk is full from the `after`-th state that is written on: it says so itself, or the system stops a file."""
    count, save = 0, torch.save

    def refuse(state, file):
        nonlocal count
        count += 1
        if count <= after:
            return save(state, file)
        if kind == "says so":
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        import resource

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            return save(state, file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.torch, "save", refuse)
        yield


@pytest.mark.long
@pytest.mark.parametrize("kind", ["says so", "stops the file"])
def test_a_full_disk_says_so_and_keeps_the_last_checkpoint(
    kind, straight, moving_data, tiny_model, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    with full_disk(kind, monkeypatch, after=3), pytest.raises(OutputError) as caught:  # 7, best of 8, 14, best of 16
        trainer_for(moving_data, tiny_model, out, *BOTH).run()
    said = str(caught.value)
    assert "can't be written" in said and "Make room" in said and ("No space left" in said) == (kind == "says so")
    assert caught.value.path.name in (CHECKPOINT, BEST) and caught.value.exit_code == 1
    assert torch.load(out / CHECKPOINT, weights_only=True)["step"] == 14
    assert not [path for path in out.iterdir() if "partial" in path.name], "no half of a file is left"
    trainer_for(moving_data, tiny_model, out, *BOTH).run()
    require_same_run(out, straight)


def test_a_log_that_cannot_be_written_says_so(moving_data, tiny_model, tmp_path):
    out = tmp_path / "run"
    (out / "held_out.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match="can't be written"):
        trainer_for(moving_data, tiny_model, out).run()


def test_it_stops_when_held_out_losses_rise_and_keeps_the_best(moving_data, tiny_model, tmp_path):
    trainer = trainer_for(moving_data, tiny_model, tmp_path / "run", "train.steps=100", "train.patience=2")
    losses, states = iter([3.0, 2.0, 2.5, 2.4, 1.0]), []

    def evaluate():
        states.append(trainer.adapter.ld_proj.weight.detach().clone())
        return {"loss": next(losses)}

    trainer.evaluate = evaluate
    trained = trainer.run()
    assert (trained.progress.step, trained.progress.best_step, trained.steps) == (32, 16, 100)
    assert torch.equal(trainer.adapter.ld_proj.weight, states[1]) and not torch.equal(states[1], states[3])
    again = trainer_for(moving_data, tiny_model, tmp_path / "run", "train.steps=100", "train.patience=2")
    taught = record_steps(again)
    assert again.run().progress.step == 32 and taught == [], "run again it stays stopped"


def test_without_held_out_clips_the_last_weights_are_kept_and_that_is_said(tokenizer, tiny_model, tmp_path):
    from expotion_cli.music.transformer.adapter import StreamSpec
    from expotion_cli.training.data.prepare import PrepareOptions, prepare

    options = PrepareOptions(features=(StreamSpec.numbered("move", 2),), held_out_share=0)
    prepare(adapter_runs.write_moving_list(tmp_path / "list"), tmp_path / "data", tokenizer=tokenizer, options=options)
    trainer = trainer_for(tmp_path / "data", tiny_model, tmp_path / "run", "train.patience=2")
    trained = trainer.run()
    assert trained.best == {} and trained.progress.step == 24 and not (tmp_path / "run" / BEST).exists()
    assert "nothing is held out" in " ".join(trained.notes) and (trained.adapter / "adapter_config.json").is_file()


def test_a_single_held_out_clip_is_not_called_another_ones(tokenizer, tiny_model, tmp_path):
    data = prepare_moving(tmp_path, tokenizer)
    content = json.loads((data.path / "data.json").read_text())
    held_out = [clip for clip in content["clips"] if clip["split"] == "held_out"]
    for clip in held_out[1:]:
        clip["split"] = "aside"
    (data.path / "data.json").write_text(json.dumps(content))
    figures = trainer_for(data.path, tiny_model, tmp_path / "run").evaluate()
    assert figures.keys() == {"loss", "unseen", "off", "gate"}


def test_logs_go_to_csv_files_and_to_tensorboard_where_it_is(moving_data, tiny_model, tmp_path, monkeypatch):
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str):
            written.append((folder, 0.0, -1))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, -1))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    out = tmp_path / "run"
    trainer_for(moving_data, tiny_model, out).run()
    rows = read_log(out / "log.csv")
    assert [row["step"] for row in rows] == [20, 24] and rows[0].keys() == {"step", "loss", "elapsed_s"}
    assert rows[0]["elapsed_s"] < rows[1]["elapsed_s"]
    held_out = read_log(out / "held_out.csv")
    assert held_out[0].keys() == {"step", "loss", "shuffled", "unseen", "off", "gate"}
    assert written[0][0] == str(out / "tensorboard") and written[-1][0] == "closed"
    assert ("train/loss", pytest.approx(rows[0]["loss"], abs=1e-4), 20) in written
    assert {"train/rate", "train/gradient_norm", "held_out/shuffled"} <= {name for name, _, _ in written}
