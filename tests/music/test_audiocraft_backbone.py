"""The other backbone where audiocraft is not installed; what it does where it is, `tests/audiocraft` shows."""

from __future__ import annotations

import sys

import pytest

from expotion_cli.errors import EnvironmentProblem, UsageError
from expotion_cli.music.audiocraft_backbone import load_audiocraft


@pytest.fixture
def no_audiocraft(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "audiocraft"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "audiocraft", None)


def test_without_audiocraft_the_error_says_how_to_get_it(no_audiocraft, tmp_path):
    with pytest.raises(EnvironmentProblem, match="uv sync --group audiocraft") as caught:
        load_audiocraft(tmp_path)
    assert caught.value.exit_code == 4 and "not installed" in str(caught.value)


def test_a_wrong_device_is_said_before_audiocraft_is_looked_for(no_audiocraft, tmp_path):
    with pytest.raises(UsageError, match="qpu"):
        load_audiocraft(tmp_path, device="qpu")
