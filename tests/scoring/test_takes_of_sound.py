"""Takes of a model that composes sound, not notes: composed together, judged once they are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_music import save_tiny

from expotion_cli.music.load import load_model
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import batch
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.sidecar import read_sidecar
from expotion_cli.scoring.takes import find_takes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(str(save_tiny(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", duration_s=4.0)


def score(clip: Path, out: Path, model, takes: int) -> list:
    recipe = load_recipe("cinematic", {"streams.use": (), "generate.takes": takes})
    assert batch.run(plan([clip], recipe, Settings(out=out)), lambda: model).exit_code == 0
    return find_takes(out / "clip.mp4")


@pytest.mark.long
def test_the_best_of_several_is_played_and_a_stuck_one_is_not(model, clip, tmp_path, monkeypatch):
    takes = score(clip, tmp_path / "three", model, 3)
    assert len({take.terms["pulse"] for take in takes}) > 1, "takes differ"
    assert all(take.terms["notes"] is None and take.score is not None for take in takes)
    (chosen,) = (take for take in takes if take.chosen)
    generate, stuck = model.generate, chosen.number

    def getting_stuck(requests, **options):
        for number, tokens in generate(requests, **options):
            if number == stuck - 1:
                tokens = np.repeat(tokens[:, :1], tokens.shape[1], axis=1)
            yield number, tokens

    monkeypatch.setattr(model, "generate", getting_stuck)
    monkeypatch.setattr("expotion_cli.scoring.takes.score._missed", lambda terms, tags: [])
    monkeypatch.setenv("EXPOTION_CACHE", str(tmp_path / "cache"))
    again = score(clip, tmp_path / "stuck", model, 3)
    assert not again[stuck - 1].chosen and "stuck in a loop" in again[stuck - 1].missed
    assert sum(take.chosen for take in again) == 1


@pytest.mark.long
def test_one_take_is_not_judged_and_has_no_other_digest_than_before(model, clip, tmp_path):
    assert score(clip, tmp_path / "one", model, 1) == []
    assert read_sidecar(tmp_path / "one" / "clip.mp4")["takes"] is None
