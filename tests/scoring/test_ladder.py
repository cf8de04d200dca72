"""The ladder of one clip, rung by rung."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from expotion_cli.errors import RecipeError, UsageError
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.music.request import Facts
from expotion_cli.recipe import load_recipe, recipe_names
from expotion_cli.scoring import ladder, playing
from expotion_cli.scoring.sidecar import cue_timeline, tempo_record
from expotion_cli.timing import Tempo, Timeline


def stream(name: str, found: bool):
    return SimpleNamespace(
        name=name, mask=np.full(50, found), encoder=name, version="1", digest=f"{name}-digest", rate_hz=25.0, skipped=0
    )


@pytest.fixture
def eyes(monkeypatch):
    """Encoders that find what `found` says; `asked` lists what was encoded."""
    state = SimpleNamespace(found={"face": True, "pose": True, "flow": True}, asked=[])

    def encode_clip(clip, names, *, cache=None, on_progress=None):
        state.asked.append(tuple(names))
        return {name: stream(name, state.found[name]) for name in names if name in state.found}

    monkeypatch.setattr("expotion_cli.vision.streams.encode_clip", encode_clip)
    return state


def test_a_clip_with_nobody_in_it_is_followed_by_flow(eyes):
    eyes.found |= {"face": False, "pose": False}
    seen = ladder.see(None, ("face", "pose"))
    assert eyes.asked == [("face", "pose", "cuts"), ("flow",)] and list(seen.streams) == ["flow"]
    assert "nobody found by face and pose, followed flow instead" in seen.notes
    assert {report["name"]: report["found"] for report in seen.reports} == {"face": 0, "pose": 0, "flow": 1}


def test_a_stream_that_found_nobody_is_set_aside(eyes):
    eyes.found["face"] = False
    seen = ladder.see(None, ("face", "pose", "flow"))
    assert list(seen.streams) == ["pose", "flow"] and seen.notes == ("nobody found by face",)
    assert len(eyes.asked) == 1


def test_without_streams_the_picture_is_not_looked_at(eyes):
    assert ladder.see(None, ()).streams == {} and eyes.asked == []


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_sets_instruments_the_codec_knows(name):
    playing.check_sound(load_recipe(name))


@pytest.mark.parametrize(
    "text", ["[voices.basss]\nprogram = 1\n", "[voices.bass]\nprogramm = 1\n", "[sound]\nkit = 200\n"]
)
def test_a_wrong_instrument_setting_is_an_error_that_names_the_recipe(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        playing.check_sound(load_recipe(path))
    assert caught.value.path == path and caught.value.remedy


def test_tempo_survives_its_record_exactly():
    tempo = Tempo(Fraction(1234567, 12345), Fraction(-7, 9), 0.5, ((0.0, 1.0), (2.5, 1.01234)))
    codec = SimpleNamespace(timeline=lambda duration, tempo: (duration, tempo))
    model = SimpleNamespace(codec=codec)
    again = cue_timeline(model, Fraction(10), tempo_record(tempo))
    assert again == (Fraction(10), tempo)


def test_the_result_is_as_long_as_the_picture_and_mono_music_becomes_stereo(make_video, tmp_path):
    clip = probe(make_video(tmp_path / "in.mp4", duration_s=0.7, fps="30000/1001", sound=False))
    rate = 32_000
    music = np.sin(np.arange(3 * rate) / 20)[None].astype(np.float32) * 0.1
    made = SimpleNamespace(audio=music, sample_rate=rate, midi=None, key=None)
    codec = SimpleNamespace(decode=lambda *_, **__: made, follows_tempo=False)
    score = ladder.render(SimpleNamespace(codec=codec), None, None, load_recipe("cinematic"), seed=1)
    assert score.audio.shape == (2, 3 * rate)
    ladder.finish(clip, score, load_recipe("cinematic"), tmp_path / "out.mp4")
    written = probe(tmp_path / "out.mp4")
    assert written.duration == clip.duration and written.audio.channels == 2
    assert abs(read_clip_sound(tmp_path / "out.mp4", rate).shape[1] - clip.duration * rate) <= 1024


def test_under_keeps_the_clips_own_sound_and_replace_drops_it(make_video, tmp_path):
    clip = probe(make_video(tmp_path / "in.mp4", duration_s=2.0))  # its own sound is a tone of 330 Hz
    rate = 44_100
    music = np.tile(np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate), (2, 1)).astype(np.float32) * 0.2
    levels = {}
    for mode in ("replace", "under"):
        recipe = load_recipe("cinematic", {"mix.mode": mode})
        ladder.finish(clip, ladder.Score(music, rate, None), recipe, tmp_path / f"{mode}.mp4")
        spectrum = np.abs(np.fft.rfft(read_clip_sound(tmp_path / f"{mode}.mp4", rate)[0, :rate]))
        levels[mode] = 20 * np.log10(spectrum[328:333].max() / spectrum[998:1003].max())
    assert levels["replace"] < -40 and levels["under"] > 6


def test_a_clap_in_the_clips_own_sound_is_named_as_what_keeps_the_result_quiet(make_video, tmp_path, monkeypatch):
    clip, rate = probe(make_video(tmp_path / "in.mp4", duration_s=2.0)), 44_100
    tone = np.tile(np.sin(2 * np.pi * 300 * np.arange(2 * rate) / rate), (2, 1)).astype(np.float32)
    own = 0.01 * tone
    own[:, rate // 2 : rate // 2 + 150] = 0.9
    monkeypatch.setattr("expotion_cli.media.sound.read_clip_sound", lambda *_: own)
    recipe = load_recipe("cinematic", {"mix.mode": "under"})
    report = ladder.finish(clip, ladder.Score(0.2 * tone, rate, None), recipe, tmp_path / "out.mp4")
    assert "peaks would pass" in report.notes[0] and report.notes[1].endswith("those of the clip's own sound")


def test_the_audio_codec_can_be_chosen_where_the_container_takes_it(make_video, tmp_path):
    clip = probe(make_video(tmp_path / "in.mp4", duration_s=1.0))
    rate = 44_100
    music = np.tile(np.sin(2 * np.pi * 440 * np.arange(rate) / rate), (2, 1)).astype(np.float32) * 0.2
    recipe = load_recipe("cinematic", {"mix.audio_codec": "flac"})
    ladder.finish(clip, ladder.Score(music, rate, None), recipe, tmp_path / "out.mkv")
    assert probe(tmp_path / "out.mkv").audio.codec == "flac"
    with pytest.raises(UsageError, match="flac sound doesn't go into .webm"):
        ladder.finish(clip, ladder.Score(music, rate, None), recipe, tmp_path / "out.webm")


def test_a_given_tempo_is_taken_as_it_is():
    given = Tempo(Fraction(97), Fraction(-1, 3), 0.5)
    codec = SimpleNamespace(
        bar_steps=48,
        follows_tempo=True,
        timeline=lambda duration, tempo: Timeline(duration, tempo.bpm / 5, tempo.start),
        sketch=lambda *_, **__: None,
    )
    model = SimpleNamespace(codec=codec, condition=lambda streams, timeline, *, plan: None, takes_facts=False)
    recipe = load_recipe("cinematic")
    plan = dataclasses.replace(ladder.spot(ladder.Seen(), Fraction(4), recipe), tempo=given)
    request = ladder.compose_request(model, ladder.Seen(), plan, Fraction(4), recipe, prompt="strings", seed=1)
    assert request.facts is None and request.timeline == Timeline(Fraction(4), Fraction(97, 5), Fraction(-1, 3))
    model.takes_facts = True
    told = ladder.compose_request(model, ladder.Seen(), plan, Fraction(4), recipe, prompt="a waltz in A minor", seed=1)
    assert told.facts == Facts(97, "3/4", "A minor"), "what a model without a beat grid is told in words"
    assert told.digest != dataclasses.replace(told, facts=dataclasses.replace(told.facts, bpm=98)).digest
