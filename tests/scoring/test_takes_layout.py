"""Takes beside a result: what the sidecar says of them is what readers see."""

from __future__ import annotations

import pytest

from expotion_cli.scoring.sidecar import write_sidecar
from expotion_cli.scoring.takes import find_takes
from expotion_cli.scoring.takes.layout import kept_files, takes_folder


@pytest.fixture
def video(tmp_path):
    (tmp_path / "clip.takes").mkdir()
    (tmp_path / "clip.takes" / "take-2.m4a").write_bytes(b"sound")
    return tmp_path / "clip.mp4"


def record(**more) -> dict:
    rows = [
        {"take": 2, "score": 0.75, "terms": {"hits": 1.0, "pulse": None}, "missed": [],
         "sound": {"file": "take-2.m4a"}, "cue": {"file": "take-2.safetensors"}},
        {"take": 1, "score": None, "terms": {}, "missed": ["loop"], "sound": {"file": "take-1.m4a"}},
    ]  # fmt: skip
    return {"takes": {"chosen": 2, "chosen_by": "score", "each": rows, **more}}


def test_takes_are_read_in_order_with_what_is_there_to_listen_to(video):
    write_sidecar(video, record())
    first, second = find_takes(video)
    assert (first.number, first.score, first.missed, first.chosen, first.sound) == (1, None, ("loop",), False, None)
    assert (second.score, second.terms, second.chosen, second.by_user) == (
        0.75,
        {"hits": 1.0, "pulse": None},
        True,
        False,
    )
    assert second.sound == takes_folder(video) / "take-2.m4a"
    write_sidecar(video, record(chosen=1, chosen_by="user"))
    assert [(take.chosen, take.by_user) for take in find_takes(video)] == [(True, True), (False, False)]


@pytest.mark.parametrize(
    "content",
    [{}, {"takes": None}, {"takes": 4}, record(each=None), record(each=[7, {"take": "one"}]), record(chosen=None)],
)
def test_a_sidecar_without_takes_has_none(video, content):
    assert find_takes(video) == []
    write_sidecar(video, content)
    assert find_takes(video) == []


def test_a_sidecar_can_not_point_outside_the_folder_of_takes(video):
    content = record()
    content["takes"]["each"][0]["sound"] = {"file": "../secret.m4a"}
    content["takes"]["each"][1]["sound"] = {"file": "/etc/passwd"}
    write_sidecar(video, content)
    assert [take.sound for take in find_takes(video)] == [None, None]
    assert [path.name for path, _ in kept_files(video, content)] == ["take-2.safetensors"]
