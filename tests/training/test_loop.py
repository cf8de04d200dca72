"""Training resumes to the same bits and stops at a loss that is no number."""

from __future__ import annotations

import contextlib
import itertools
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from expotion_cli.errors import ExpotionError
from expotion_cli.training.ahead import drawn_ahead, useful_workers
from expotion_cli.training.logs import read_log
from expotion_cli.training.loop import LoopSettings, fit
from expotion_cli.training.optimizers import muon_and_adamw
from expotion_cli.training.seeding import keyed_generator

SETTINGS = LoopSettings(steps=6, warmup_steps=2, decay_share=0.5, eval_every=2, save_every=3, seed=5)


class Killed(BaseException):
    """As sudden as a signal."""


class Run:
    """A small regression with matrices, an embedding, a norm and a gate, so that both optimisers have work."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh())
        self.head = nn.ModuleDict({"embed": nn.Embedding(5, 8), "out": nn.Linear(8, 3)})
        self.modules = {"body": self.body, "head": self.head}
        modules = list(self.modules.values())
        self.optimizers = muon_and_adamw(modules, matrix_lr=0.02, other_lr=0.02, weight_decay=0.01)
        self.calls = 0

    def loss(self, rng: np.random.Generator) -> torch.Tensor:
        self.calls += 1
        inputs = torch.from_numpy(rng.normal(size=(16, 6))).float()
        tokens = torch.from_numpy(rng.integers(0, 5, 16))
        outputs = self.head["out"](self.body(inputs) + self.head["embed"](tokens))
        return (outputs - inputs[:, :3].sin()).square().mean()

    def fit(self, folder, loss_of=None, settings=SETTINGS) -> None:
        loss_of = loss_of or self.loss
        fit(
            self.modules, self.optimizers, lambda _, rng: loss_of(rng), lambda: {"loss": 1.0}, folder, settings,
            draw=lambda rng: None,
        )  # fmt: skip

    def weights(self) -> list[torch.Tensor]:
        return [tensor.clone() for module in self.modules.values() for tensor in module.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> list[torch.Tensor]:
    """Weights after six steps without an interruption."""
    run = Run()
    run.fit(tmp_path_factory.mktemp("straight"))
    return run.weights()


@pytest.mark.parametrize("killed_at", [3, 4, 5])
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(straight, tmp_path, killed_at):
    first = Run()

    def loss_until_killed(rng):
        if first.calls == killed_at:
            raise Killed
        return first.loss(rng)

    with pytest.raises(Killed):
        first.fit(tmp_path, loss_until_killed)
    assert not same(first.weights(), straight)
    second = Run()
    second.fit(tmp_path)
    assert second.calls == 3
    assert same(second.weights(), straight)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(straight, tmp_path):
    first = Run()

    def loss_until_killed(rng):
        if first.calls == 2:
            raise Killed
        return first.loss(rng)

    with pytest.raises(Killed):
        first.fit(tmp_path, loss_until_killed)
    second = Run()
    second.fit(tmp_path)
    assert second.calls == 6 and same(second.weights(), straight)


def test_a_finished_run_is_loaded_and_not_trained_further(straight, tmp_path):
    Run().fit(tmp_path)
    again = Run()
    again.fit(tmp_path)
    assert again.calls == 0 and same(again.weights(), straight)


def test_a_loss_that_is_no_number_stops_with_its_step_and_keeps_the_last_checkpoint(straight, tmp_path):
    for wrong in ("nan", "inf"):
        folder = tmp_path / wrong
        run = Run()

        def loss_of(rng, run=run, wrong=wrong):
            loss = run.loss(rng)
            return loss * float(wrong) if run.calls == 5 else loss

        with pytest.raises(ExpotionError, match=f"step 4 is {wrong}") as caught:
            run.fit(folder, loss_of)
        assert str(folder) in str(caught.value)
        resumed = Run()
        resumed.fit(folder)
        assert resumed.calls == 3 and same(resumed.weights(), straight)


def test_a_gradient_that_is_no_number_never_reaches_a_checkpoint(straight, tmp_path):
    run = Run()

    def loss_of(rng):
        loss = run.loss(rng)
        return loss + (run.body[0].weight * 0).sqrt().sum() if run.calls == 6 else loss

    with pytest.raises(ExpotionError, match="step 5"):
        run.fit(tmp_path, loss_of)
    resumed = Run()
    resumed.fit(tmp_path)
    assert same(resumed.weights(), straight)


def test_training_lowers_the_loss_and_the_logs_say_so(tmp_path):
    run = Run()
    run.fit(tmp_path, settings=LoopSettings(steps=100, warmup_steps=5, eval_every=50, save_every=100))
    losses = [row["loss"] for row in read_log(tmp_path / "log.csv")]
    assert len(losses) == 5 and losses[-1] < 0.7 * losses[0]
    assert [row["step"] for row in read_log(tmp_path / "held_out.csv")] == [50, 100]


def test_steps_done_again_stand_in_the_logs_once(tmp_path):
    settings = LoopSettings(steps=100, warmup_steps=5, eval_every=10, save_every=25)
    run = Run()

    def loss_until_killed(rng):
        if run.calls == 65:
            raise Killed
        return run.loss(rng)

    with pytest.raises(Killed):
        run.fit(tmp_path, loss_until_killed, settings)
    with open(tmp_path / "held_out.csv", "a") as file:
        file.write("7")  # a row torn by the kill
    Run().fit(tmp_path, settings=settings)
    assert [row["step"] for row in read_log(tmp_path / "held_out.csv")] == list(range(10, 101, 10))
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == list(range(20, 101, 20))


def test_batches_drawn_ahead_by_other_processes_are_those_of_this_one():
    def draw(rng):
        return {"numbers": rng.normal(size=3), "process": os.getpid()}

    here, there = (list(itertools.islice(drawn_ahead(draw, 7, 5, workers), 9)) for workers in (0, 2))
    assert {batch["process"] for batch, _ in here} == {os.getpid()}
    assert len({batch["process"] for batch, _ in there} - {os.getpid()}) == 2
    for (one, rng), (other, rest) in zip(here, there, strict=True):
        assert np.array_equal(one["numbers"], other["numbers"]) and rng.random() == rest.random()
    assert np.array_equal(here[2][0]["numbers"], keyed_generator(7, 7).normal(size=3))
    assert useful_workers(torch.device("cpu")) == 0


def test_each_steps_data_is_its_own():
    draws = {step: keyed_generator(1, step).random(4).tobytes() for step in range(50)}
    assert len(set(draws.values())) == 50
    assert keyed_generator(1, 3).random(4).tobytes() == draws[3]
    assert keyed_generator(2, 3).random(4).tobytes() not in draws.values()


def test_the_rate_warms_up_stays_and_falls_to_a_twentieth():
    settings = LoopSettings(steps=100, warmup_steps=10, decay_share=0.4)
    rates = [settings.lr_factor(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1
    assert (np.diff(rates[:10]) > 0).all() and set(rates[9:61]) == {1.0}
    assert (np.diff(rates[60:]) < 0).all() and rates[100] == pytest.approx(0.05)


def test_limited_minutes_end_the_schedule_in_time_and_resume_where_they_were(tmp_path, monkeypatch):
    """With a clock that advances by a second a step: ten steps, whatever `steps` says."""
    settings = LoopSettings(steps=200, warmup_steps=1, decay_share=0.5, eval_every=4, save_every=3, minutes=10 / 60)

    def run(folder, killed_at=None) -> tuple[Run, list[float]]:
        monkeypatch.setattr("expotion_cli.training.loop.time", SimpleNamespace(monotonic=itertools.count().__next__))
        run, rates = Run(), []

        def loss_of(rng):
            if run.calls == killed_at:
                raise Killed
            rates.append(run.optimizers[1].param_groups[0]["lr"] / 0.02)
            return run.loss(rng)

        with contextlib.suppress(Killed):
            run.fit(folder, loss_of, settings)
        return run, rates

    straight, rates = run(tmp_path / "straight")
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.81, 0.62, 0.43, 0.24])
    assert [row["step"] for row in read_log(tmp_path / "straight" / "held_out.csv")] == [4, 8, 10]
    run(tmp_path / "killed", killed_at=8)
    resumed, rest = run(tmp_path / "killed")
    assert rest == pytest.approx(rates[6:]), "six steps and seconds were on disk"
    assert same(resumed.weights(), straight.weights())
    assert run(tmp_path / "killed")[1] == [], "it is over"


def test_hidden_matrices_go_to_muon_and_everything_else_to_adam():
    run = Run()
    muon, adam = ([p for group in o.param_groups for p in group["params"]] for o in run.optimizers)
    assert {id(p) for p in muon} == {id(run.body[0].weight), id(run.body[2].weight), id(run.head["out"].weight)}
    assert len(adam) == 6 and any(p is run.head["embed"].weight for p in adam)
    run.body.requires_grad_(False)
    muon = muon_and_adamw([run.body, run.head], matrix_lr=1, other_lr=1, weight_decay=0)[0]
    assert [id(p) for group in muon.param_groups for p in group["params"]] == [id(run.head["out"].weight)]
