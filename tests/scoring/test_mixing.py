"""The table `[mix]` through the finish rung: ducking, what is said of it, and the second track."""

from __future__ import annotations

import wave

import numpy as np
import pytest
from made_sounds import TALK_S, band, talk
from odd_files import ffmpeg, film

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.media.clip import Tracks
from expotion_cli.media.probe import open_container, probe
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.recipe import load_recipe
from expotion_cli.scoring import mixing
from expotion_cli.scoring.ladder import Score, finish

RATE = 16_000
SECONDS = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("mixing")
    film(made / "silent.mp4", "-an", duration_s=SECONDS)
    for name, sound in (("talk", talk()), ("band", band(num_samples=SECONDS * RATE))):
        with wave.open(str(made / f"{name}.wav"), "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
            file.writeframes((sound * 32_767).astype("<i2").tobytes())
        own = ("-metadata:s:a:0", "language=deu", "-i", made / f"{name}.wav")
        ffmpeg("-i", made / "silent.mp4", *own[2:], "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac",
               *own[:2], made / f"{name}.mp4")  # fmt: skip
    return made


@pytest.fixture(scope="module")
def music():
    tune = band(44_100, SECONDS * 44_100, seed=2)
    return Score(np.stack([tune, tune]), 44_100, None)


def recipe(**settings):
    return load_recipe("cinematic", {f"mix.{key}": value for key, value in settings.items()})


def test_music_ducks_for_speech_and_the_report_says_where_that_is(folder, music, tmp_path):
    report = finish(probe(folder / "talk.mp4"), music, recipe(mode="duck"), tmp_path / "out.mp4")
    assert len(report.speech) == len(TALK_S)
    assert np.allclose(report.speech, TALK_S, atol=0.25)
    assert not [note for note in report.notes if "speaks" in note]


def test_where_nobody_speaks_a_note_says_so(folder, music, tmp_path):
    report = finish(probe(folder / "band.mp4"), music, recipe(mode="duck"), tmp_path / "out.mp4")
    assert report.speech == () and "nobody speaks in its own sound: the music is not lowered" in report.notes


@pytest.mark.parametrize("mode", ["replace", "under", "duck"])
def test_a_clip_without_sound_gets_the_music_alone_and_notes(folder, music, tmp_path, mode):
    settings = recipe(mode=mode, keep_original=True)
    report = finish(probe(folder / "silent.mp4"), music, settings, tmp_path / "out.mp4")
    assert report.speech is None and "it has no sound of its own to keep" in report.notes
    assert ("it has no sound of its own: the music stands alone" in report.notes) == (mode != "replace")


@pytest.mark.parametrize(("suffix", "default"), [(".mp4", "mix"), (".mp4", "original"), (".mkv", "original")])
def test_the_original_sound_is_a_named_track_beside_the_mix(folder, music, tmp_path, suffix, default):
    clip = folder / f"talk{suffix}"
    if suffix != ".mp4":
        ffmpeg("-i", folder / "talk.mp4", "-c", "copy", "-map", 0, clip)
    settings = recipe(mode="duck", keep_original=True, default_track=default)
    report = finish(probe(clip), music, settings, tmp_path / f"out{suffix}")
    with open_container(tmp_path / f"out{suffix}") as container:
        names = [stream.metadata.get("handler_name" if suffix == ".mp4" else "title") for stream in container.streams]
        default_flags = [bool(stream.disposition & 1) for stream in container.streams.audio]
        languages = [stream.language for stream in container.streams.audio]
    assert names[1:] == ["Music and original sound", "Original sound"] and languages == ["deu", "deu"]
    assert default_flags == [default == "mix", default == "original"]
    second = read_clip_sound(probe(tmp_path / f"out{suffix}", Tracks(audio=(2,))), RATE)
    own, first = read_clip_sound(clip, RATE), 0 if suffix == ".mp4" else RATE // 10  # MKV drops packets before 0
    assert np.array_equal(second[:, first:], own[:, first:]), "copied, and in its place"
    assert abs(report.loudness.integrated_lufs - settings.loudness.lufs) < 0.6 or report.is_quieter


def test_what_the_container_cannot_hold_is_refused_before_anything_is_composed(folder, tmp_path):
    clip = tmp_path / "talk.avi"
    ffmpeg("-i", folder / "talk.mp4", "-c:v", "copy", "-c:a", "adpcm_ms", clip)  # its result is an MP4 file
    mixing.check_original(probe(clip), recipe())
    with pytest.raises(UsageError, match="--keep-original can't copy its sound .adpcm_ms. into .mp4") as refused:
        mixing.check_original(probe(clip), recipe(keep_original=True))
    assert refused.value.path == clip and "MKV" in refused.value.remedy
    mixing.check_original(probe(folder / "silent.mp4"), recipe(keep_original=True))


def test_settings_without_effect_are_named():
    assert mixing.settings_without_effect(recipe()) == ()
    (gain,) = mixing.settings_without_effect(recipe(music_gain_db=3))
    assert "--music-gain" in gain
    (track,) = mixing.settings_without_effect(recipe(default_track="original"))
    assert "--keep-original" in track
    assert mixing.settings_without_effect(recipe(mode="duck", music_gain_db=3)) == ()


def test_missing_weights_end_a_run_that_ducks_before_any_work(monkeypatch):
    class Missing:
        def require(self):
            raise WeightsError("This file of silero-vad is missing.", remedy="Install the package again.")

    monkeypatch.setattr("expotion_cli.speech.listening.manifest", Missing)
    mixing.check_ahead(recipe(mode="under"))
    with pytest.raises(WeightsError, match="silero-vad"):
        mixing.check_ahead(recipe(mode="duck"))


def test_only_results_that_hold_own_sound_depend_on_how_it_is_mixed():
    assert mixing.hashed_fields(recipe()) == {}
    assert set(mixing.hashed_fields(recipe(mode="under"))["mix"]) == {"version"}
    assert len(mixing.hashed_fields(recipe(mode="duck"))["mix"]["speech"]["weights"]) == 64
    assert recipe(music_gain_db=0.0).hashed_fields()["mix"].keys() == {
        "mode", "under_lu", "fade_in_s", "fade_out_s", "audio_codec"
    }  # fmt: skip
    assert recipe(keep_original=True).digest != recipe().digest


def test_bad_values_are_refused_with_their_range():
    for key, value in (("under_lu", 41), ("music_gain_db", float("nan")), ("keep_original", 1), ("mode", "dukc")):
        with pytest.raises(UsageError, match=f"mix.{key}"):
            recipe(**{key: value})
