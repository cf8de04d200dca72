"""Sound files beside results: the music by itself, and stems that add up to it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fake_composer import FakeCodec, FakeComposer
from made_sounds import band

from expotion_cli.audio.filters import apply_sections, low_pass
from expotion_cli.errors import ProbeError, UsageError
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound, read_sound
from expotion_cli.recipe import Follow, load_recipe
from expotion_cli.scoring import batch, extras
from expotion_cli.scoring.extras import Extras, path_of
from expotion_cli.scoring.follow import layer
from expotion_cli.scoring.plan import Settings, plan
from expotion_cli.scoring.sidecar import sidecar_path
from expotion_cli.spotting.hits import HitPoint
from expotion_cli.spotting.plan import make_plan
from expotion_cli.timing import num_samples

BOTH = Extras("wav", "wav")
STEMS = ("bass", "melody")


class VoicedCodec(FakeCodec):
    """Two voices, if they are asked for."""

    def decode(self, tokens, timeline, settings=None, *, seed=0, marks=(), keep_stems=False):
        made = super().decode(tokens, timeline, settings, seed=seed, marks=marks)
        made.audio = np.repeat(made.audio, 2, axis=0)
        melody = apply_sections(made.audio, [low_pass(300, self.sample_rate)], 3200)
        made.stems = {"melody": melody, "bass": made.audio - melody} if keep_stems else {}
        return made


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_video) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_video(folder / "a.mp4", duration_s=1.0, sound=True)
    return folder


def planned(clips, out, wanted=BOTH, flags=None, **settings):
    recipe = load_recipe("cinematic", {"streams.use": (), "loudness.lufs": -20, **(flags or {})})
    return plan([clips], recipe, Settings(out=out, extras=wanted, **settings))


def score(clips, out, wanted=BOTH, flags=None, **settings):
    composer = FakeComposer()
    composer.codec = VoicedCodec()
    return batch.run(planned(clips, out, wanted, flags, **settings), lambda: composer)


def db(sound: np.ndarray) -> float:
    return float(20 * np.log10(max(np.abs(sound).max(), 1e-12)))


def test_music_and_stems_lie_beside_the_result_and_add_up(clips, tmp_path):
    """Sample-aligned with the picture, exactly as long, and with the clip's own sound the mix before the limiter."""
    flags = {"mix.mode": "under"}
    (result,) = score(clips, tmp_path, flags=flags).results
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".jsonl") == [
        "a.mp4", "a.music.wav", "a.score.json", "a.stems"
    ]  # fmt: skip
    said = result.sidecar
    rate, clip = said["output"]["sample_rate"], probe(clips / "a.mp4")
    music = read_sound(tmp_path / "a.music.wav", rate)
    names = sorted(path.name for path in (tmp_path / "a.stems").iterdir())
    assert {"bass.wav", "melody.wav"} <= set(names) and said["stems"][0]["file"].startswith("a.stems/")
    parts = [read_sound(tmp_path / "a.stems" / name, rate) for name in names]
    assert {part.shape for part in (music, *parts)} == {(2, num_samples(clip.duration, rate))}
    assert db(sum(parts) - music) < db(music) - 60
    mixed = music + read_clip_sound(clip, rate) * 10 ** (said["loudness"]["gain_db"] / 20)
    heard, inner = read_clip_sound(tmp_path / "a.mp4", rate), slice(rate // 10, -rate // 10)
    assert said["loudness"]["limited_db"] == 0
    assert np.sqrt(np.mean((heard - mixed)[:, inner] ** 2)) < 0.05 * np.sqrt(np.mean(mixed[:, inner] ** 2))


@pytest.mark.long
def test_the_files_are_part_of_done_and_go_with_their_result(clips, tmp_path):
    assert score(clips, tmp_path, Extras()).count("scored") == 1
    assert score(clips, tmp_path).count("scored") == 1, "they are missing"
    assert score(clips, tmp_path).count("already") == 1
    assert score(clips, tmp_path, Extras()).count("already") == 1
    music = tmp_path / "a.music.wav"
    content = music.read_bytes()
    music.unlink()
    assert score(clips, tmp_path, Extras()).count("scored") == 1, "the result is not whole"
    assert not (tmp_path / "a.stems").exists(), "without --stems a new result leaves none of an older one behind"
    assert score(clips, tmp_path).count("scored") == 1
    assert music.read_bytes() == content
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]
    assert score(clips, tmp_path, Extras("flac")).count("scored") == 1
    assert not music.exists() and (tmp_path / "a.music.flac").exists()


@pytest.mark.parametrize("name", [".music.wav", ".stems/bass.wav"])
@pytest.mark.parametrize("is_scored", [False, True])
def test_files_of_others_are_never_replaced_without_a_word(clips, tmp_path, name, is_scored):
    if is_scored:
        score(clips, tmp_path, Extras())
    theirs = path_of(tmp_path / "a.mp4", name)
    theirs.parent.mkdir(exist_ok=True, parents=True)
    theirs.write_bytes(b"mine")
    (result,) = score(clips, tmp_path).results
    assert result.status == "refused" and result.error.path == theirs and "--overwrite" in result.error.remedy
    assert theirs.read_bytes() == b"mine"
    assert score(clips, tmp_path, overwrite=True).count("scored") == 1 and theirs.read_bytes() != b"mine"
    other = tmp_path / "a.stems" / "notes.txt"
    other.write_text("mine")
    score(clips, tmp_path, Extras(), overwrite=True)
    assert [path.name for path in (tmp_path / "a.stems").iterdir()] == ["notes.txt"]


def test_a_sidecar_cannot_make_a_run_remove_other_files(clips, tmp_path):
    score(clips, tmp_path)
    precious = tmp_path / "precious.wav"
    precious.write_bytes(b"x")
    place = sidecar_path(tmp_path / "a.mp4")
    said = json.loads(place.read_text())
    said["stems"] = [{"file": "../precious.wav", "bytes": 1, "sha256": said["music"]["sha256"]}, "nonsense", None]
    place.write_text(json.dumps(said))
    assert set(extras.records(said)) == {".music.wav"}
    score(clips, tmp_path, Extras(), overwrite=True)
    assert precious.exists()


def test_flac_is_turned_down_where_its_peaks_would_not_fit_and_a_note_says_so(clips, tmp_path):
    flags = {"loudness.lufs": -5.0, "follow.mode": "none"}
    (result,) = score(clips, tmp_path, Extras("flac", "flac"), flags).results
    notes = [note for note in result.sidecar["notes"] if "FLAC" in note]
    music = read_sound(tmp_path / "a.music.flac", 32_000)
    total = sum(read_sound(tmp_path / "a.stems" / f"{name}.flac", 32_000) for name in STEMS)
    assert db(total - music) < db(music) - 60 and np.abs(music).max() < 1
    assert bool(notes) == (db(music) > -0.3)


def test_clashing_names_long_clips_and_unknown_formats_are_refused_ahead(clips, tmp_path):
    video = tmp_path / "a.mp4"
    taken = [tmp_path / "A.MUSIC.WAV", video]
    assert extras.clashes(taken, {"a.mp4": video}, Extras()) == {}
    (error,) = extras.clashes(taken, {"a.mp4": video}, BOTH).values()
    assert "would have the name of" in str(error) and error.path == path_of(video, ".music.wav")
    clip = probe(clips / "a.mp4")
    extras.check_length(clip, BOTH)
    long = type(clip)(**{**vars(clip), "duration": Fraction(1801)})
    extras.check_length(long, Extras("wav"))
    with pytest.raises(ProbeError, match="30 minutes"):
        extras.check_length(long, BOTH)
    with pytest.raises(UsageError, match="--stems 'mp3' is unknown"):
        extras.check(Extras("wav", "mp3"))


def test_a_dry_run_names_them(clips, tmp_path):
    assert BOTH.shown(tmp_path / "a.mp4") == ["a.music.wav", "a.stems/*.wav"]
    assert Extras().shown(tmp_path / "a.mp4") == [] and not Extras()
    assert Extras().and_those([".stems/bass.wav", ".music.flac"]) == Extras("flac", "wav")
    assert Extras("wav").and_those([".music.flac"]) == Extras("wav")
    assert len(planned(clips, tmp_path).jobs) == 1 and not list(tmp_path.iterdir())


def test_the_follow_layer_treats_all_stems_alike_and_gives_its_accents_one_of_their_own():
    rate = 16_000
    music = np.stack([band(rate, 6 * rate, seed=4)] * 2)
    low = apply_sections(music, [low_pass(600, rate)], rate // 10)
    hits = tuple(HitPoint(time_s, 0.8, "user", "") for time_s in (1.5, 3.0, 4.5))
    cue_plan = make_plan({}, Fraction(6), (90.0, 90.0), user_hits=hits)
    followed = layer.follow(music, rate, cue_plan, Follow(), stems={"low": low, "high": music - low})
    assert set(followed.stems) == {"low", "high", layer.ACCENTS} and followed.answers
    assert db(sum(followed.stems.values()) - followed.audio) < db(followed.audio) - 60
    assert np.array_equal(layer.follow(music, rate, cue_plan, Follow()).audio, followed.audio)
    bare = layer.follow(music, rate, cue_plan, Follow(mode="none"), stems={"low": low, "high": music - low})
    assert np.allclose(sum(bare.stems.values()), music, atol=1e-6)
