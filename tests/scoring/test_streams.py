"""Which encoders look, and what is said where that does not reach the music."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from expotion_cli.errors import RecipeError, UnknownNameError, UsageError
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring.streams import (
    Needs,
    choose_streams,
    encoder_settings,
    missing_in_clip,
    missing_streams,
    needs_ahead,
    needs_of,
    streams_for,
)
from expotion_cli.vision.encoder import StreamSource

STEERED = {"generate.visual_guidance": 2.0, "follow.mode": "none"}
"""Only an adapter follows the picture."""
RECIPE = load_recipe("cinematic", STEERED)
MOTION = {"synchformer": tuple(map(str, range(768)))}


@pytest.fixture
def missing(monkeypatch) -> dict[str, str]:
    """Encoder → why it can't run here; all others can."""
    found: dict[str, str] = {}
    monkeypatch.setattr(
        "expotion_cli.scoring.streams._unavailable", lambda s: found.get(s if isinstance(s, str) else s.name)
    )
    return found


def reader(*streams: str, follows_tempo: bool = False) -> SimpleNamespace:
    """A model whose adapter reads these streams; none for one without an adapter."""
    codec = SimpleNamespace(follows_tempo=follows_tempo)
    return SimpleNamespace(name="some-model", streams=streams, codec=codec, has_tempo=follows_tempo)


def said(model: SimpleNamespace, *use: str) -> tuple[str, ...]:
    return missing_streams(model, choose_streams(use), load_recipe("cinematic", {"streams.use": use, **STEERED}))


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
    (note,) = said(reader("flow", "marlin"), "flow", "pose")
    assert note == "The music won't follow marlin: no encoder here gives it."


def test_streams_that_the_recipe_leaves_out_are_named(missing):
    (note,) = said(reader("pose", "face", "flow", "marlin"), "flow")
    left_out = "body and face: --streams or the recipe leaves them out"
    assert note == f"The music won't follow {left_out}; nor marlin: no encoder here gives it."


def test_an_adapter_that_gets_nothing_leaves_the_picture_without_a_part(missing):
    (note,) = said(reader("marlin", "vivit"), "face", "pose", "flow")
    assert note == "The music won't follow marlin and vivit: no encoder here gives them. The picture plays no part."
    (note,) = said(reader("pose"), "flow")
    assert note.endswith("body: --streams or the recipe leaves it out. The picture plays no part.")


def test_with_a_beat_the_tempo_still_follows_the_picture(missing):
    (note,) = said(reader("marlin", follows_tempo=True), "flow")
    assert note.endswith("Only the tempo follows the picture.")


def test_without_an_adapter_the_picture_plays_no_part(missing):
    assert said(reader(), "flow") == ("some-model has no adapter for the picture. The picture plays no part.",)


def test_who_wants_nobody_to_look_is_told_nothing(missing):
    assert said(reader("synchformer")) == said(reader()) == said(reader("face", "pose")) == ()


def test_a_library_that_lacks_is_said_once_unless_nothing_is_left_to_see_by(missing):
    missing["pose"] = "install libgl1"
    assert said(reader("pose", "flow"), "pose", "flow") == (), "the choice's own note says it, with the remedy"
    (note,) = said(reader("pose"), "pose")
    assert "body: this machine can't see it" in note and note.endswith("The picture plays no part.")


def test_a_clip_where_only_a_stand_in_saw_something_is_told_apart(missing):
    choice = choose_streams(("face", "pose"))
    (note,) = missing_in_clip(reader("face"), choice, ["flow"], RECIPE)
    assert note == "Nobody was found in the picture. The picture plays no part."
    assert missing_in_clip(reader("face"), choice, ["face"], RECIPE) == ()
    assert missing_in_clip(reader("face", "flow"), choice, ["flow"], RECIPE) == (), "the stand-in is heard"
    assert missing_in_clip(reader("synchformer"), choice, ["flow"], RECIPE) == (), (
        "that holds for every clip, and was said"
    )


def test_where_nobody_lists_streams_they_are_what_the_adapter_reads(missing):
    choice = streams_for(RECIPE, Needs(MOTION))
    assert choice.names == ("synchformer",)
    (rule,) = choice.remarks
    assert "the adapter reads (synchformer)" in rule and "--streams" in rule and "[streams] use" in rule
    with_beat = streams_for(RECIPE, Needs(MOTION, follows_tempo=True))
    assert with_beat.names == ("face", "pose", "flow", "synchformer"), "the tempo is taken from the others"
    usual = streams_for(RECIPE, Needs(dict.fromkeys(("pose", "face", "flow"), ()), follows_tempo=True))
    assert (usual.names, usual.remarks) == (("face", "pose", "flow"), ())
    assert streams_for(RECIPE).names == ("face", "pose", "flow"), "nothing is known of the model"


def test_what_a_recipe_or_a_flag_lists_is_looked_at_whatever_the_adapter_reads(missing, tmp_path):
    (tmp_path / "mine.toml").write_text('[streams]\nuse = ["pose"]\n')
    for recipe in (load_recipe(tmp_path / "mine.toml"), load_recipe("lofi", {"streams.use": ("pose",), **STEERED})):
        choice = streams_for(recipe, Needs(MOTION))
        assert (choice.names, choice.remarks) == (("pose",), ())


def test_nobody_looks_where_nothing_of_the_picture_can_reach_the_music(missing):
    for flags in ({}, {"streams.use": ("face", "flow")}):
        assert streams_for(load_recipe("cinematic", {**STEERED, **flags}), Needs()).sources == ()
    assert streams_for(load_recipe("cinematic", {"streams.use": (), **STEERED}), Needs(MOTION)).sources == ()
    assert streams_for(RECIPE, Needs(follows_tempo=True)).names == ("face", "pose", "flow")


def test_weights_that_were_not_fetched_are_named_with_the_command_and_the_others_go_on(tmp_path):
    assert choose_streams(("flow", "synchformer")).names == ("flow",)
    choice = choose_streams(("synchformer",))
    assert choice.names == ("flow",) and choice.missing == ("synchformer",)
    (note,) = choice.notes
    assert note.startswith("synchformer left out") and "Run: expotion fetch synchformer" in note


def test_features_take_the_place_of_an_encoder_and_need_not_be_one(missing, tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((5, 768), np.float32))
    motion, other = (StreamSource(name, folder=tmp_path) for name in ("synchformer", "marlin"))
    missing["synchformer"] = "not fetched"
    choice = streams_for(load_recipe("cinematic", {"streams.use": ("flow", "synchformer")}), Needs(MOTION), (motion,))
    assert choice.names == ("flow", "synchformer") and not choice.notes
    assert choice.sources[1].folder == tmp_path and choice.sources[1].dims == MOTION["synchformer"]
    choice = streams_for(load_recipe("cinematic", {"streams.use": ("marlin",)}), Needs(MOTION), (other,))
    assert choice.names == ("marlin",)
    assert choice.remarks == ("the adapter does not read marlin; it reads synchformer",)
    with pytest.raises(UsageError, match="no such folder"):
        streams_for(RECIPE, None, (StreamSource("marlin", folder=tmp_path / "none"),))


def settings(tmp_path, text: str) -> dict:
    (tmp_path / "mine.toml").write_text(f"[streams]\n{text}\n")
    return encoder_settings(load_recipe(tmp_path / "mine.toml"))


def test_settings_of_encoders_stand_in_the_recipe_and_reach_them(missing, tmp_path):
    assert settings(tmp_path, 'use = ["synchformer"]\nsynchformer_stride = 16') == {"synchformer": {"stride": 16}}
    (source,) = streams_for(load_recipe(tmp_path / "mine.toml")).sources
    assert source == StreamSource("synchformer", {"stride": 16})
    plain, other = RECIPE, load_recipe("cinematic", {"streams.synchformer_stride": 16, **STEERED})
    assert plain.digest != other.digest and other.fields()["stream_settings"] == {"synchformer_stride": 16}
    assert not other.streams.is_chosen and streams_for(other, Needs(MOTION)).sources == (source,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "synchformer_strid = 16",
            "unknown key 'streams.synchformer_strid'.*did you mean 'streams.synchformer_stride'",
        ),
        ("usee = ['pose']", "unknown key 'streams.usee'.*did you mean 'streams.use'"),
        ("synchformer_stride = 3", "streams.synchformer_stride = 3: .*stride is 3"),
        ("flow_anything = 3", "unknown key 'streams.flow_anything'"),
        ("synchformer_stride = {a = 1}", "must be a plain value"),
    ],
)
def test_a_setting_no_encoder_has_is_an_error_with_the_recipe_and_the_nearest(tmp_path, text, said):
    with pytest.raises(RecipeError, match=said) as caught:
        settings(tmp_path, text)
    assert caught.value.path == tmp_path / "mine.toml" and caught.value.exit_code == 2


def test_what_a_model_needs_is_told_by_its_small_files_as_by_the_loaded_model(tmp_path):
    ahead = needs_ahead("expotion-mini")
    assert ahead.follows_tempo and set(ahead.streams) >= {"face", "pose", "flow"}
    assert needs_ahead("expotion-mini", ["none"]) == Needs({}, follows_tempo=True)
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert needs_ahead("expotion-mini", [str(lora)]) == ahead
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "musicgen"}')
    assert needs_ahead(str(tmp_path / "model")) == Needs()
    torch.save(
        {"pos_emb": torch.zeros(2, 5, 4), "ld_proj.weight": torch.zeros(3, 1280), "gates": torch.zeros(1)},
        tmp_path / "both.pth",
    )
    needs = needs_ahead(str(tmp_path / "model"), tmp_path / "both.pth")
    assert {name: len(dims) for name, dims in needs.streams.items()} == {"facenet": 512, "synchformer": 768}
    peft = tmp_path / "peft"
    peft.mkdir()
    streams = [{"name": "synchformer", "width": 768}, {"name": "pose", "dims": ["energy", "accent"]}]
    (peft / "adapter_config.json").write_text(json.dumps({"streams": streams}))
    assert needs_ahead(str(tmp_path / "model"), peft) == Needs({**MOTION, "pose": ("energy", "accent")})


@pytest.mark.parametrize("name", ["no-such-model", "musicgen-small", "someone/else"])
def test_of_a_model_that_can_not_be_read_nothing_is_known_ahead(name, tmp_path):
    assert needs_ahead(name) is None and needs_ahead("expotion-mini", [tmp_path / "none.pth"]) is None


def test_a_loaded_model_tells_what_it_reads():
    specs = (SimpleNamespace(name="pose", dims=("energy",)), SimpleNamespace(name="form", dims=("opening",)))
    model = reader("pose", follows_tempo=True)
    assert needs_of(model) == Needs({"pose": ()}, follows_tempo=True)
    model.adapter = SimpleNamespace(config=SimpleNamespace(streams=specs))
    assert needs_of(model) == Needs({"pose": ("energy",)}, follows_tempo=True)


def test_with_the_follow_layer_the_picture_is_looked_at_whatever_the_model_reads(missing):
    following = load_recipe("cinematic", {**STEERED, "follow.mode": "layer"})
    steady = load_recipe("cinematic", {"generate.visual_guidance": 0})
    assert streams_for(following, Needs()).names == ("face", "pose", "flow")
    assert streams_for(following, Needs(MOTION)).names == ("face", "pose", "flow", "synchformer")
    assert streams_for(steady, Needs(MOTION)).names == ("face", "pose", "flow"), "it steers nothing"
    assert streams_for(load_recipe("cinematic", {"streams.use": ()}), Needs()).sources == ()


def test_what_follows_the_picture_without_an_adapter_is_named(missing):
    following = load_recipe("cinematic", {**STEERED, "follow.mode": "layer"})
    for has_beat, words in (
        (True, "Only the tempo and the follow layer follow"),
        (False, "Only the follow layer follows"),
    ):
        (note,) = missing_streams(reader(follows_tempo=has_beat), choose_streams(("flow",)), following)
        assert note.endswith(f"{words} the picture.")


def test_without_visual_guidance_nothing_is_missed(missing):
    steady = load_recipe("cinematic", {"generate.visual_guidance": 0})
    assert missing_streams(reader("marlin"), choose_streams(("flow",)), steady) == ()
    assert missing_in_clip(reader("face"), choose_streams(("face",)), ["flow"], steady) == ()
