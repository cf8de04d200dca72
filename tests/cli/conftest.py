"""Runs commands in this process, with a composer that takes no time where music is not the point."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from fake_composer import FakeComposer
from typer.testing import CliRunner


@pytest.fixture
def composer(monkeypatch) -> FakeComposer:
    """Takes the place of the model; `asked` keeps the arguments of `load_model`."""
    fake = FakeComposer()
    fake.asked = []

    def load_model(name, **options):
        fake.asked.append({"name": name, **options})
        return fake

    monkeypatch.setitem(sys.modules, "expotion_cli.music.load", SimpleNamespace(load_model=load_model))
    return fake


@pytest.fixture
def expotion(own_cache) -> Callable:
    """Runs `expotion ARGUMENTS`; the result has exit_code, stdout and stderr."""
    from expotion_cli.cli.app import app

    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def score(expotion, composer) -> Callable:
    """Runs `expotion score` with one take and without looking at the picture, which other tests do otherwise."""
    return lambda *arguments: expotion("score", "--streams", "none", "--takes", 1, *arguments)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory, make_video):
    """Two clips, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("inputs")
    make_video(folder / "one.mp4", duration_s=0.6)
    make_video(folder / "sub" / "two.mp4", duration_s=0.8, hue=90, sound=False)
    return folder
