"""An adapter learns from prepared data, leaves the model as it was, and what is saved scores a clip elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from adapter_runs import trainer_for
from options import make_request
from safetensors.torch import load_file

from expotion_cli.errors import UsageError
from expotion_cli.music.checkpoints.huggingface import load_checkpoint
from expotion_cli.music.load import load_model
from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.timing import Timeline
from expotion_cli.training.adapter.trainable import lora_parameters
from expotion_cli.training.adapter.warmup import GATE_START
from expotion_cli.training.logs import read_log

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def base_weights(model) -> dict[str, torch.Tensor]:
    checkpoint = load_checkpoint(model, device=torch.device("cpu"), dtype=torch.float32)
    parts = {"decoder": checkpoint.decoder, "text": checkpoint.text}
    return {f"{name}.{key}": t for name, part in parts.items() for key, t in part.state_dict().items()}


def weights_of(trainer) -> dict[str, torch.Tensor]:
    """The base's weights in a trainer, under the names of `base_weights`."""
    parts = {"decoder": trainer.decoder, "text": trainer.text}
    every = {f"{name}.{key}": t for name, part in parts.items() for key, t in part.state_dict().items()}
    return {name.replace(".base_layer", ""): t for name, t in every.items() if ".lora_" not in name}


def test_it_learns_what_motion_tells_of_the_music(taught):
    trainer, trained = taught
    last = trained.best
    assert last["loss"] < last["off"] - 0.4, "the adapter tells more than the model knows by itself"
    assert last["loss"] < last["shuffled"] - 0.2 and last["loss"] < last["unseen"] - 0.15, "and it is what is seen"
    losses = [row["loss"] for row in read_log(trainer.out / "log.csv")]
    assert len(losses) == 10 and losses[-1] < losses[0] - 0.3
    rows = read_log(trainer.out / "held_out.csv")
    assert [row["step"] for row in rows] == [50, 100, 150, 200] and rows[-1]["loss"] < rows[0]["loss"]
    assert len({row["off"] for row in rows}) == 1, "the model alone stays what it was"


def test_only_the_adapter_changes_and_all_of_it(taught, tiny_model, moving_data, tmp_path):
    trainer, _ = taught
    before, after = base_weights(tiny_model), weights_of(trainer)
    assert before.keys() == after.keys() and len(before) > 30
    assert all(torch.equal(before[name], after[name]) for name in before)
    fresh = trainer_for(moving_data, tiny_model, tmp_path / "run").adapter.state_dict()
    changed = {name for name, tensor in trainer.adapter.state_dict().items() if not torch.equal(tensor, fresh[name])}
    # Nothing was left out in this run, so the row that stands for what is unseen had nothing to learn from.
    assert changed == set(fresh) - {"missing.move"}
    assert (trainer.adapter.gates.detach() - GATE_START).abs().min() > 1e-3


def test_what_is_saved_is_what_was_learnt_in_pefts_layout(taught, tiny_model):
    trainer, trained = taught
    assert {path.name for path in trained.adapter.iterdir()} == {WEIGHTS, CONFIG}
    config = json.loads((trained.adapter / CONFIG).read_text())
    assert config["peft_type"] == "EXPOTION_JOINT_EMBEDDING" and config["base_model_name_or_path"] == str(tiny_model)
    assert config["streams"] == [{"name": "move", "width": 2}]
    saved, learnt = load_file(trained.adapter / WEIGHTS), trainer.adapter.state_dict()
    assert saved.keys() == learnt.keys() and all(torch.equal(saved[name], learnt[name]) for name in learnt)
    facts = json.loads((trainer.out / "training.json").read_text())
    assert facts["best_step"] == trained.progress.best_step == 200 and facts["data"]["clips"]["train"] == 12
    assert facts["gates"] == trainer.adapter.gates.tolist() and len(facts["held_out"]) == 4


def test_a_loaded_adapter_composes_what_was_learnt(taught, tiny_model):
    """Through the model that scores: for somebody who is up, high tokens are likelier than for one who is down."""
    _, trained = taught
    model = load_model(str(tiny_model), device="cpu", adapter=trained.adapter)
    shares = []
    for up in (1.0, -1.0):
        timeline = Timeline(Fraction(3), Fraction(50))
        rows = trained_stream(np.full((15, 2), up, np.float32))
        request = request_for(model, timeline, rows)
        ((_, tokens),) = model.generate([request])
        shares.append(float(np.mean(tokens >= 16)))
    assert shares[0] > shares[1] + 0.1, shares


def trained_stream(values: np.ndarray):
    from expotion_cli.training.data.data_folder import StoredStream

    return {"move": StoredStream(values, np.ones(len(values), bool), 5.0, ("0", "1"))}


def request_for(model, timeline, streams):

    return make_request("slow sad piano", timeline, model.condition(streams, timeline), 3)


def test_gates_leave_0_with_the_authors_recipe(moving_data, tiny_model, tmp_path):
    settings = ("adapter.rank=48", "adapter.warm_up_steps=0", "train.steps=30", "train.warmup_steps=0")
    trainer = trainer_for(moving_data, tiny_model, tmp_path / "run", *settings, recipe="authors")
    assert trainer.adapter.gates.abs().max() == 0 and trainer.adapter.config.rank == 48
    (optimizer,) = trainer.optimizers
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["lr"] == 1e-2
    trained = trainer.run()
    assert trainer.adapter.gates.detach().abs().min() > 1e-3
    assert trained.best["loss"] < trained.best["off"] - 0.01 and trained.best["gate"] > 0


@pytest.mark.slow
def test_music_alone_teaches_with_motion_that_is_made_up(music_data, tiny_model, tmp_path, make_video, own_cache):
    """From a folder of music without any picture to a scored video, the latter in a process of its own."""
    settings = ("adapter.rank=8", "train.steps=60", "train.learning_rate=3e-2", "train.gate_learning_rate=5e-3")
    trainer = trainer_for(music_data, tiny_model, tmp_path / "run", *settings, recipe="synthetic")
    assert [spec.name for spec in trainer.adapter.config.streams] == ["pose", "face", "flow"]
    assert all(trainer.crops.crop(number).is_synthetic for number in range(40))
    trained = trainer.run()
    assert trained.best["loss"] < trained.best["off"] - 0.05
    clip = make_video(tmp_path / "clips" / "clip.mp4", duration_s=1.0)
    command = [sys.executable, "-c", "from expotion_cli.cli import score_main; score_main()"]
    flags = ["--model", tiny_model, "--adapter", trained.adapter, "--streams", "flow", "--lufs", "-30"]
    done = subprocess.run(
        [*command, str(clip), *map(str, [*flags, "--out", tmp_path / "scored"])],
        env={**os.environ, "EXPOTION_CACHE": str(own_cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = read_sidecar(tmp_path / "scored" / "clip.mp4")
    assert str(trained.adapter) in json.dumps(said)


def test_a_clip_without_what_the_adapter_reads_is_left_out_and_counted(music_data, tiny_model, tmp_path):
    with pytest.raises(UsageError, match="no clip in the data can train"):
        settings = ('adapter.streams=["pose"]', "data.synthetic=0")
        trainer_for(music_data, tiny_model, tmp_path / "run", *settings)
    with pytest.raises(UsageError, match="hold neither pictures nor features"):
        trainer_for(music_data, tiny_model, tmp_path / "run")


def test_an_adapter_can_be_taken_up_and_trained_on(taught, moving_data, tiny_model, tmp_path):
    _, trained = taught
    trainer = trainer_for(moving_data, tiny_model, tmp_path / "run", start_from=trained.adapter)
    assert torch.equal(trainer.adapter.ld_proj.weight, load_file(trained.adapter / WEIGHTS)["ld_proj.weight"])
    more = trainer.run()
    assert more.first["loss"] < trained.first["loss"] - 0.2, "it begins where the other one ended, without a warm-up"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (('adapter.streams=["move:3"]',), "move is 2 wide, the recipe says 3"),
        (('adapter.streams=["mov"]',), "did you mean 'move'"),
        (('adapter.streams=["pose:7"]',), "by the names of its dimensions"),
        (("adapter.layers=3",), "the model has 2 layers"),
        (("data.synthetic=1",), "can't be synthesised"),
    ],
)
def test_streams_and_sizes_that_do_not_fit_are_refused(moving_data, tiny_model, tmp_path, settings, wanted):
    with pytest.raises(UsageError, match=wanted):
        trainer_for(moving_data, tiny_model, tmp_path / "run", *settings)
    assert not (tmp_path / "run").exists()


def test_an_adapter_for_features_of_another_width_is_refused(taught, tokenizer, tiny_model, tmp_path):
    from adapter_runs import prepare_moving

    wider = prepare_moving(tmp_path, tokenizer, width=3)
    with pytest.raises(UsageError, match="reads 2 dimensions of move, the data hold 3"):
        trainer_for(wider, tiny_model, tmp_path / "run", start_from=taught[1].adapter)


def test_a_lora_is_saved_as_peft_does_and_scores_as_it_was_trained(moving_data, tiny_model, tmp_path):
    settings = ("adapter.rank=0", "lora.rank=4", "lora.dropout=0.1", "train.lora_learning_rate=0.02")
    trainer = trainer_for(moving_data, tiny_model, tmp_path / "run", *settings)
    trained = trainer.run()
    assert trained.adapter is None and trained.best["loss"] < trained.best["off"] - 0.1
    before, after = base_weights(tiny_model), weights_of(trainer)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.abs().max() > 0 for parameter in lora_parameters(trainer.decoder).values())
    config = json.loads((trained.lora / CONFIG).read_text())
    assert (config["peft_type"], config["r"], sorted(config["target_modules"])) == ("LORA", 4, ["q_proj", "v_proj"])
    assert {path.name for path in trained.lora.iterdir()} == {WEIGHTS, CONFIG}
    merged = load_model(str(tiny_model), device="cpu", adapter=trained.lora).decoder
    alone = load_model(str(tiny_model), device="cpu").decoder
    trainer.decoder.eval()
    batch = trainer.crops.batch([trainer.crops.crop(0)])
    with torch.no_grad():
        learnt = trainer.predict(batch)[0]
        trainer.decoder, trainer.lora_model = merged, None
        loaded = trainer.predict(batch)[0]
        trainer.decoder = alone
        untouched = trainer.predict(batch)[0]
    assert torch.allclose(learnt, loaded, atol=1e-4) and (learnt - untouched).abs().max() > 0.05


def test_adapter_and_lora_can_be_trained_together(moving_data, tiny_model, tmp_path):
    trainer = trainer_for(moving_data, tiny_model, tmp_path / "run", "lora.rank=2", "train.steps=8")
    trained = trainer.run()
    assert trained.best["loss"] < trained.best["off"] and {"shuffled", "unseen"} <= trained.best.keys()
    model = load_model(str(tiny_model), device="cpu", adapter=[trained.adapter, trained.lora])
    assert str(trained.adapter) in model.adapter_name and str(trained.lora) in model.adapter_name
