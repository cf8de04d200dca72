"""Melodies: a user's tune is read, checked and known by its content; a composed one is the embedded model's own cue."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import symusic
from tiny_melody import FRAMES, save_tiny_melody, speech, tiny_musicgen_melody, tune
from tiny_music import write_wav

from expotion_cli.audio.pitch_classes import SAMPLE_RATE, pitch_classes
from expotion_cli.errors import DecodeError, UsageError
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import resample, to_mono
from expotion_cli.music.load import load_model
from expotion_cli.music.melody_file import LARGEST_MIDI_BYTES, read_tune
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import ladder, melodies
from expotion_cli.scoring.follow import layer
from expotion_cli.scoring.group import Order, compose
from expotion_cli.scoring.ladder import Seen
from expotion_cli.scoring.melodies import find_melody
from expotion_cli.scoring.streams import Needs, needs_ahead, needs_of
from expotion_cli.spotting.sections import Section

SCALE = (60, 62, 64, 65, 67, 69, 71, 72)


def wav(path: Path, sound: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    return write_wav(path, sound, rate)


def midi(path: Path, notes=SCALE, *, is_drum: bool = False, program: int = 0, bass: bool = False) -> Path:
    """A note each half second."""
    score = symusic.Score(480)
    for track_program, shift in ((program, 0), *(((33, -25),) if bass else ())):
        track = symusic.Track("tune", track_program, is_drum)
        for number, pitch in enumerate(notes):
            track.notes.append(symusic.Note(480 * number, 470, pitch + shift, 90))
        score.tracks.append(track)
    score.tempos.append(symusic.Tempo(0, 120))
    path.write_bytes(score.dumps_midi())
    return path


def heard_notes(sound: np.ndarray) -> list[int]:
    found = pitch_classes(sound)
    return [int(found[round((0.5 * number + 0.25) * SAMPLE_RATE / 4096)]) for number in range(len(SCALE))]


def test_a_sound_file_at_another_rate_and_a_midi_file_give_the_same_pitch_classes(tmp_path):
    sound = read_tune(wav(tmp_path / "tune.wav", tune(4.0, SCALE, 22_050), 22_050), 30)
    assert sound.dtype == np.float32 and abs(len(sound) - 4 * SAMPLE_RATE) < 64
    notes = read_tune(midi(tmp_path / "tune.mid"), 30)
    assert heard_notes(sound) == heard_notes(notes) == [pitch % 12 for pitch in SCALE]


def test_a_midi_files_bass_and_drums_do_not_sound(tmp_path):
    with_bass = read_tune(midi(tmp_path / "bass.mid", bass=True), 30)
    assert heard_notes(with_bass) == [pitch % 12 for pitch in SCALE]
    alone = read_tune(midi(tmp_path / "only.mid", program=33), 30)
    assert heard_notes(alone) == [pitch % 12 for pitch in SCALE], "a bass alone is the tune"
    with pytest.raises(DecodeError, match="no notes but drums"):
        read_tune(midi(tmp_path / "drums.mid", is_drum=True), 30)


def test_no_more_than_the_cue_needs_is_read_of_a_file_of_two_hours(tmp_path):
    samples = (np.clip(tune(20.0, SCALE, 8000), -1, 1) * 32_767).astype("<i2").tobytes()
    size = 2 * 3600 * 8000 * 2
    header = (
        b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16)
    )
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(header + b"data" + struct.pack("<I", size) + samples)
        file.truncate(44 + size)  # the rest is a hole in the file
    assert len(read_tune(path, 12.5)) == 12.5 * SAMPLE_RATE
    assert heard_notes(read_tune(path, 12.5)) == [pitch % 12 for pitch in SCALE]


def flac(path: Path, sound: np.ndarray) -> Path:
    """A FLAC file, whose head says how long it lasts."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound * 32_767).astype("<i2")[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for each in (frame, None):
            container.mux(stream.encode(each))
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("silent.wav", "its sound is silence"),
        ("speck.wav", "no more than 0.06 s of sound are there"),
        ("header.wav", "its sound can't be read"),
        ("text.wav", "its sound can't be read"),
        ("empty.wav", "its sound can't be read"),
        ("noise.txt", "its sound can't be read"),
        ("broken.mid", "damaged"),
        ("huge.mid", "more than any MIDI file needs"),
        ("picture.mp4", "it holds no sound"),
        ("folder", "this is a folder"),
        ("none.wav", "there is no such melody file"),
    ],
)
def test_a_melody_that_cannot_be_used_is_refused_by_name_before_any_work(tmp_path, make_video, name, said):
    path = tmp_path / name
    if name == "silent.wav":
        wav(path, np.zeros(SAMPLE_RATE))
    elif name in ("speck.wav", "header.wav"):  # a second of which so many bytes were copied
        path.write_bytes(wav(tmp_path / "whole.wav", tune(1.0)).read_bytes()[: 4044 if name == "speck.wav" else 30])
    elif name == "text.wav":
        path.write_text("this is no sound\n" * 50)
    elif name == "empty.wav":
        path.touch()
    elif name == "noise.txt":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif name == "broken.mid":
        path.write_bytes(midi(tmp_path / "whole.mid").read_bytes()[:60])
    elif name == "huge.mid":
        path.write_bytes(b"MThd" + bytes(LARGEST_MIDI_BYTES))
    elif name == "picture.mp4":
        make_video(path, duration_s=0.4, sound=False)
    elif name == "folder":
        path.mkdir()
    with pytest.raises(UsageError) as caught:
        find_melody(load_recipe("cinematic", {"melody": str(path)}), Needs(takes_melody=True), "model")
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert caught.value.remedy and caught.value.exit_code == 2


def notes_of(path: Path) -> tuple[str, ...]:
    found = find_melody(load_recipe("cinematic", {"melody": str(path)}), None, "model")
    assert found is not None and len(found.sha256) == 64 and found.record()["file"] == path.name
    return found.notes


def test_a_tune_that_is_cut_off_and_one_that_lasts_hours_are_noted(tmp_path, monkeypatch):
    whole = flac(tmp_path / "whole.flac", tune(8.0, SCALE))
    assert not notes_of(whole)
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (note,) = notes_of(cut)
    assert note.startswith("cut.flac is cut off") and "of 8 s are there" in note
    monkeypatch.setattr(melodies, "LONG_S", 5)
    (note,) = notes_of(whole)
    assert note.startswith("whole.flac lasts 0 minutes") and "no more than its beginning" in note


def test_speech_and_noise_are_noted_and_tunes_are_not(tmp_path):
    noise = np.random.default_rng(0).normal(size=5 * SAMPLE_RATE) * 0.1
    for name, sound in (("speech.wav", speech(8.0)), ("noise.wav", noise)):
        (note,) = notes_of(wav(tmp_path / name, sound))
        assert note.startswith(name) and "no clear tune" in note
    assert not notes_of(wav(tmp_path / "tune.wav", tune(8.0, SCALE))) and not notes_of(midi(tmp_path / "tune.mid"))


def test_a_tune_counts_by_its_content_and_a_composed_one_by_how_it_sounds(tmp_path):
    def fields(path: str, **flags):
        recipe = load_recipe("cinematic", {"melody": path, **flags})
        return find_melody(recipe, None, "model").hashed_fields(recipe, 1)

    first, moved = wav(tmp_path / "a.wav", tune(1.0)), wav(tmp_path / "b.wav", tune(1.0))
    assert fields(str(first)) == fields(str(moved)) != fields(str(wav(tmp_path / "c.wav", tune(1.0, (61,)))))
    assert fields("mini") == fields("mini", **{"loudness.lufs": -20})
    sound = load_recipe("cinematic", {"melody": "mini"}).override({"voices": {"melody": {"program": 73}}})
    assert find_melody(sound, None, "m").hashed_fields(sound, 1) != fields("mini")
    assert load_recipe("cinematic").hashed_fields() == load_recipe("cinematic", {"melody": str(first)}).hashed_fields()
    assert "melody" not in load_recipe("cinematic").fields()


@pytest.mark.parametrize("melody", ["mini", "tune.wav"])
def test_a_model_that_takes_no_melody_is_named(melody):
    with pytest.raises(UsageError, match="expotion-mini takes no melody") as caught:
        find_melody(load_recipe("cinematic", {"melody": melody}), needs_ahead("expotion-mini"), "expotion-mini")
    assert "musicgen-melody" in caught.value.remedy


@pytest.fixture(scope="module")
def melody_folder(tmp_path_factory) -> Path:
    return save_tiny_melody(tmp_path_factory.mktemp("model") / "melody", tiny_musicgen_melody(rate=8000))


@pytest.fixture(scope="module")
def clip(tmp_path_factory, make_video):
    return probe(make_video(tmp_path_factory.mktemp("clip") / "one.mp4", duration_s=2.0))


def composed(model, clip, recipe, prompt: str = "slow piano"):
    def failed(order, error):
        raise error

    (cue,) = compose(model, [Order(clip, recipe, prompt, 7, see=Seen)], failed=failed)
    return cue


def test_a_models_small_files_tell_that_it_takes_a_melody_and_what_its_melodist_needs(melody_folder):
    alone, with_mini = needs_ahead(str(melody_folder)), needs_ahead(str(melody_folder), melody="mini")
    assert alone.takes_melody and not alone.streams and not alone.has_tempo
    assert (
        with_mini.takes_melody
        and with_mini.has_tempo
        and not with_mini.follows_tempo
        and set(with_mini.streams) == set(needs_ahead("expotion-mini").streams)
    )


def test_a_users_tune_reaches_the_request(melody_folder, clip, tmp_path):
    model = load_model(str(melody_folder), device="cpu")
    path = wav(tmp_path / "tune.wav", tune(3.0, SCALE))
    cue = composed(model, clip, load_recipe("cinematic", {"melody": str(path)}))
    expected = np.resize(pitch_classes(read_tune(path, 30)), FRAMES)
    assert cue.request.melody.pitches(Fraction(0)).tolist() == expected.tolist()
    assert cue.tempo is None and cue.request.prompt == "slow piano"
    plain = composed(model, clip, load_recipe("cinematic"))
    assert plain.request.melody is None and not np.array_equal(plain.takes[0], cue.takes[0])


def test_the_windows_of_a_long_cue_are_told_of_the_tune_and_of_the_plans_sections(melody_folder, clip, tmp_path):
    folder = shutil.copytree(melody_folder, tmp_path / "short-windows")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "window_steps": 40}))
    path = wav(tmp_path / "tune.wav", tune(3.0, SCALE))
    recipe = load_recipe("cinematic", {"melody": str(path), "generate.takes": 1})
    bare = ladder.spot(Seen(), clip.duration, recipe)
    sections = (Section(0.0, 1.2, 0.1, ""), Section(1.2, 2.0, 0.9, ""))
    order = Order(clip, recipe, "slow piano", 7, see=Seen, plan=replace(bare, sections=sections))
    model = load_model(str(folder), device="cpu")
    (cue,) = compose(model, [order], failed=lambda order, error: pytest.fail(str(error)))
    assert cue.request.prompt == "slow piano, calm, sparse"
    assert cue.request.later_prompts == ((60, "slow piano, energetic, full"),)
    assert cue.request.melody.is_long and cue.takes[0].shape == (4, 100)
    played = ladder.render(model, cue.takes[0], cue.request.timeline, recipe, seed=7, plan=cue.plan, prompt="piano")
    assert [row["start_s"] for row in played.orchestration["passages"]] == [0.0, 1.2]


@pytest.mark.long
def test_a_composed_melody_is_the_embedded_models_own_cue_on_beats_that_accents_keep(melody_folder, clip, monkeypatch):
    recipe = load_recipe("cinematic", {"melody": "mini", "generate.takes": 1})
    bare = load_model(str(melody_folder), device="cpu")
    with pytest.raises(UsageError, match="without a model that composes melodies"):
        composed(bare, clip, recipe)
    model = load_model(str(melody_folder), device="cpu", melody="mini")
    assert model.digest != bare.digest and set(needs_of(model).streams) == set(needs_of(model.melodist).streams)
    cue = composed(model, clip, recipe)
    mini = load_model("expotion-mini", device="cpu")
    own = composed(mini, clip, recipe.override({"melody": ""}))
    muted = recipe.override({"compose.mute": ("drums", "percussion", "bass"), "melody": ""})
    score = ladder.render(mini, own.takes[0], own.request.timeline, muted, seed=7, plan=own.plan, prompt="slow piano")
    sound = resample(to_mono(score.audio), score.sample_rate, SAMPLE_RATE)[0]
    assert cue.request.melody.pitches(Fraction(0)).tolist() == np.resize(pitch_classes(sound), FRAMES).tolist()
    assert cue.tempo == own.tempo == cue.plan.tempo
    assert cue.request.prompt == f"slow piano, {round(float(cue.tempo.bpm))} bpm"
    asked, kept = [], layer.follow
    monkeypatch.setattr(layer, "follow", lambda *a, **k: (asked.append(k), kept(*a, **k))[1])
    played = ladder.render(model, cue.takes[0], cue.request.timeline, recipe, seed=7, plan=cue.plan)
    ladder.follow(model, played, cue.request.timeline, cue.plan, recipe, seed=7)
    assert asked[0]["grid"] == own.request.timeline
    assert asked[0]["tonic"] is not None


def test_only_a_melody_model_gets_a_melodist():
    with pytest.raises(UsageError, match="takes no melody"):
        load_model("expotion-mini", device="cpu", melody="mini")
