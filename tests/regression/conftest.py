"""A reference recorded with a composer that takes no time, and faults to put between recording and checking."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_composer import FakeComposer

from expotion_cli.media import remux
from expotion_cli.regression import checking, recording
from expotion_cli.regression.reference import Reference, read_reference
from expotion_cli.scoring import ladder

RECIPE = 'prompt = "calm piano"\n[streams]\nuse = []\n[generate]\nseed = "per-clip"\n'


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory, make_video) -> Path:
    """A folder as a user's repository would be: clips, a recipe of one's own, and a reference."""
    folder = tmp_path_factory.mktemp("repository")
    make_video(folder / "clips" / "one.mp4", duration_s=2.0)
    make_video(folder / "clips" / "sub" / "two.mp4", duration_s=1.6, hue=90, sound=False)
    (folder / "mine.toml").write_text(RECIPE)
    record(folder)
    return folder


@pytest.fixture
def repository(recorded_once, tmp_path) -> Path:
    """A copy of it at another place."""
    return shutil.copytree(recorded_once, tmp_path / "repository")


def record(folder: Path, composer: FakeComposer | None = None, *, overwrite: bool = True, **flags: object) -> Reference:
    """Record `clips` with `mine.toml` into `renders`."""
    clips, problems = recording.find_clips([folder / "clips"], folder / "renders")
    assert not problems
    options = {"name": "fake", "adapter": None, "soundfont": None, "device": "cpu", "dtype": "auto"}
    wanted = recording.RecordingOptions(str(folder / "mine.toml"), flags, options)
    return recording.record(clips, folder / "renders", wanted, lambda: composer or FakeComposer(), overwrite=overwrite)


@pytest.fixture
def rerecord() -> Callable[..., Reference]:
    """`record`, for tests."""
    return record


@pytest.fixture
def check(repository) -> Callable[..., checking.CheckResult]:
    """Checks the repository's reference; `composer` may be another one."""

    def run(composer: FakeComposer | None = None, **options: object) -> checking.CheckResult:
        reference = read_reference(repository / "renders")
        return checking.check(reference, lambda **_: composer or FakeComposer(), **options)

    return run


@pytest.fixture
def too_loud(monkeypatch) -> Callable[[float], None]:
    """The meter that the loudness is set by begins to lie by so many LU."""

    def lie(by_lu: float) -> None:
        honest = remux.measure

        def measure(*arguments, **options):
            found = honest(*arguments, **options)
            return dataclasses.replace(found, integrated_lufs=found.integrated_lufs - by_lu)

        monkeypatch.setattr(remux, "measure", measure)

    return lie


@pytest.fixture
def too_late(monkeypatch) -> Callable[[float], None]:
    """The music begins so many seconds late."""

    def delay(by_s: float) -> None:
        prompt = ladder.render

        def render(*arguments, **options):
            score = prompt(*arguments, **options)
            lead = round(by_s * score.sample_rate)
            audio = np.pad(score.audio, ((0, 0), (lead, 0)))[:, : score.audio.shape[1]]
            return dataclasses.replace(score, audio=audio)

        monkeypatch.setattr(ladder, "render", render)

    return delay
