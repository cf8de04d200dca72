"""Composers elsewhere: in processes that share the work."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from devices import NEEDS_CUDA

from expotion_cli.errors import UsageError
from expotion_cli.music.load import load_model
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch
from expotion_cli.scoring.composers import HostedComposer, LocalComposer
from expotion_cli.scoring.executors import InlineExecutor
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.workers import ProcessExecutor
from expotion_cli.storage import digest_file

RECIPE = {"streams.use": [], "generate.takes": 1}
MODEL = {"name": "expotion-mini", "device": "cpu", "dtype": "fp32", "adapter": None, "soundfont": None}


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_video) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(4):
        make_video(folder / f"{number}.mp4", duration_s=1.0, hue=60 * number)
    return folder


def score(clips: Path, out: Path, load) -> batch.Summary:
    planned = plan([clips], load_recipe("cinematic", RECIPE), Settings(out=out, overwrite=True))
    return batch.run(planned, load)


@pytest.mark.parametrize(
    "device",
    [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=(pytest.mark.gpu, NEEDS_CUDA))],
)
def test_two_processes_share_the_cues_and_the_results_are_the_same(clips, tmp_path, device):
    """On GPUs one each, or both on the only one; there another number of cues at a time may round otherwise."""
    here = score(clips, tmp_path / "here", lambda: load_model(**MODEL | {"device": device}))
    cards = torch.cuda.device_count()
    places = [device if device == "cpu" else f"cuda:{number % cards}" for number in range(2)]
    composers = [HostedComposer(ProcessExecutor({"compose": 1}, 1), MODEL | {"device": place}) for place in places]
    asked = [0, 0]
    for number, composer in enumerate(composers):
        compose = composer.compose

        def counted(orders, *, number=number, compose=compose, **options):
            asked[number] += len(orders)
            return compose(orders, **options)

        composer.compose = counted
    there = score(clips, tmp_path / "there", lambda: composers)
    assert [result.status for result in (*here.results, *there.results)] == ["scored"] * 8
    for number in range(4) if device == "cpu" else ():
        one, other = (tmp_path / where / f"{number}.mp4" for where in ("here", "there"))
        assert digest_file(one) == digest_file(other)
    assert sum(asked) == 4 and min(asked) >= 1, "both composed"
    said = json.loads((tmp_path / "there" / "0.score.json").read_text())
    assert {"see", "compose", "render", "follow", "finish"} <= said["stages_s"].keys()


def test_a_failure_of_one_cue_elsewhere_is_that_cues_alone(clips, tmp_path, monkeypatch):
    """The host runs here, so that its ladder can be broken."""
    from expotion_cli.scoring import ladder

    spot = ladder.spot

    def broken(seen, duration, recipe, *, prompt=None, user_hits=()):
        if prompt == "broken":
            raise UsageError("it can't be spotted.")
        return spot(seen, duration, recipe, prompt=prompt, user_hits=user_hits)

    monkeypatch.setattr(ladder, "spot", broken)
    planned = plan([clips], load_recipe("cinematic", RECIPE), Settings(out=tmp_path, prompts={"1.mp4": "broken"}))
    summary = batch.run(planned, lambda: [HostedComposer(InlineExecutor(), MODEL)])
    assert [result.status for result in summary.results] == ["scored", "failed", "scored", "scored"]
    assert "it can't be spotted" in str(summary.results[1].error)


def test_a_hosted_model_is_the_one_that_is_loaded_here():
    hosted, here = HostedComposer(InlineExecutor(), MODEL), LocalComposer(load_model(**MODEL))
    assert dataclasses.asdict(hosted.identity) == dataclasses.asdict(here.identity)
    assert hosted.check(load_recipe("cinematic"), ["slow piano"]) == here.check(
        load_recipe("cinematic"), ["slow piano"]
    )
