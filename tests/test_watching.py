"""Which encoders look, and what is said where that does not reach the music."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from expotion_cli.errors import UnknownNameError
from expotion_cli.recipe import load_recipe
from expotion_cli.watching import choose_streams, unheard_streams, unseen_in_clip


@pytest.fixture
def missing(monkeypatch) -> dict[str, str]:
    """Encoder → why it can't run here; all others can."""
    found: dict[str, str] = {}
    monkeypatch.setattr("expotion_cli.watching._unavailable", found.get)
    return found


def reader(*streams: str, follows_tempo: bool = False) -> SimpleNamespace:
    """A model whose adapter reads these streams; none for one without an adapter."""
    return SimpleNamespace(name="some-model", streams=streams, codec=SimpleNamespace(follows_tempo=follows_tempo))


def said(model: SimpleNamespace, *use: str) -> tuple[str, ...]:
    return unheard_streams(model, choose_streams(use), load_recipe("cinematic", {"streams.use": use}))


def test_missing_libraries_are_said_once_and_flow_stands_in(missing):
    missing |= {"face": "install libgl1", "pose": "install libgl1"}
    choice = choose_streams(("face", "pose"))
    assert choice.names == ("flow",)
    (note,) = choice.notes
    assert "face and pose" in note and note.count("libgl1") == 1
    assert choose_streams(("face", "pose", "flow")).names == ("flow",)


def test_an_unknown_stream_names_the_nearest(missing):
    with pytest.raises(UnknownNameError, match="did you mean 'pose'"):
        choose_streams(("pos",))


def test_an_adapter_that_gets_all_it_reads_is_no_matter(missing):
    assert said(reader("face", "pose", "flow"), "face", "pose", "flow") == ()
    assert said(reader("flow"), "face", "pose", "flow") == (), "streams it does not read are no loss"


def test_a_stream_without_an_encoder_is_named(missing):
    (note,) = said(reader("flow", "synchformer"), "flow", "pose")
    assert note == "the adapter reads synchformer (no such encoder here yet), but does not get it"


def test_streams_that_the_recipe_leaves_out_are_named(missing):
    (note,) = said(reader("pose", "face", "flow", "raft"), "flow")
    assert "pose and face (left out by the recipe) and raft (no such encoder here yet)" in note
    assert "picture" not in note


def test_an_adapter_that_gets_nothing_leaves_the_picture_without_a_part(missing):
    (note,) = said(reader("facenet", "synchformer"), "face", "pose", "flow")
    assert "facenet and synchformer (no such encoder here yet)" in note and note.endswith("the picture plays no part")
    (note,) = said(reader("pose"), "flow")
    assert "pose (left out by the recipe)" in note and note.endswith("the picture plays no part")


def test_with_a_beat_the_tempo_still_follows_the_picture(missing):
    (note,) = said(reader("synchformer", follows_tempo=True), "flow")
    assert note.endswith("only the tempo follows the picture")


def test_without_an_adapter_the_picture_plays_no_part(missing):
    assert said(reader(), "flow") == ("some-model has no adapter that sees: the picture plays no part",)


def test_who_wants_nobody_to_look_is_told_nothing(missing):
    assert said(reader("synchformer")) == said(reader()) == said(reader("face", "pose")) == ()


def test_a_library_that_lacks_is_said_once_unless_nothing_is_left_to_see_by(missing):
    missing["pose"] = "install libgl1"
    assert said(reader("pose", "flow"), "pose", "flow") == (), "the choice's own note says it, with the remedy"
    (note,) = said(reader("pose"), "pose")
    assert "pose (can't run here)" in note and note.endswith("the picture plays no part")


def test_a_clip_where_only_a_stand_in_saw_something_is_told_apart(missing):
    choice = choose_streams(("face", "pose"))
    (note,) = unseen_in_clip(reader("face"), choice, ["flow"])
    assert note == "nothing that the adapter reads was seen: the picture plays no part"
    assert unseen_in_clip(reader("face"), choice, ["face"]) == ()
    assert unseen_in_clip(reader("face", "flow"), choice, ["flow"]) == (), "the stand-in is heard"
    assert unseen_in_clip(reader("synchformer"), choice, ["flow"]) == (), "that holds for every clip, and was said"
