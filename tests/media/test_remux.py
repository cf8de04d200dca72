import math
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from options import remux

from expotion_cli.errors import OutputError, UsageError
from expotion_cli.media.clip import output_suffix
from expotion_cli.media.decode import iter_frames
from expotion_cli.media.level import Attempt, Level, unmet
from expotion_cli.media.loudness import Loudness, measure
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import read_clip_sound
from expotion_cli.storage import digest_file

RATE = 44_100
COPIED = ["ntsc.mp4", "silent.mov", "short.mp4", "variable.mp4", "ten-bit.mkv", "rich.mkv", "rich.mp4", "small.webm"]
TURNED = ["turned-90.mp4", "turned-180.mp4", "turned-270.mov"]
MOVED = ["old.avi", "reordered.avi", "broadcast.ts"]


@pytest.fixture(scope="session")
def scored(clip, music, tmp_path_factory):
    """`scored(name)`: the clip's info, the music given to it, the result and its report; each made once."""
    folder = tmp_path_factory.mktemp("scored")
    done = {}

    def make(name):
        if name not in done:
            info = probe(clip(name))
            sound = music(info.duration)
            target = folder / name.replace(".", "-")
            target = target.with_suffix(output_suffix(info))
            done[name] = info, sound, target, remux(info, sound, RATE, target, metadata={"comment": "key=value, ä"})
        return done[name]

    return make


@pytest.mark.parametrize("name", [*COPIED, *TURNED, *MOVED])
def test_encoded_sound_meets_loudness_and_peak(scored, name):
    _, _, path, report = scored(name)
    if name != "short.mp4":  # 0.3 s have no loudness of their own
        assert measure(path) == report.loudness
    assert report.loudness.integrated_lufs == pytest.approx(-14.0, abs=0.5)
    assert report.loudness.true_peak_dbtp <= -1.0


@pytest.mark.parametrize("name", [*COPIED, *TURNED, "old.avi"])
def test_the_picture_is_copied_bit_for_bit(scored, run_ffmpeg, name):
    info, _, path, _ = scored(name)

    def digest(file):
        return run_ffmpeg("-i", file, "-map", "0:v:0", "-c", "copy", "-f", "streamhash", "-")

    assert digest(info.path) == digest(path) != ""


@pytest.mark.parametrize("name", [*COPIED, *TURNED, *MOVED])
def test_the_same_pictures_are_shown_at_the_same_times(scored, name):
    info, _, path, _ = scored(name)
    result = probe(path)
    assert (result.num_frames, result.rotation) == (info.num_frames, info.rotation)
    assert abs(result.duration - info.duration) <= Fraction(1, 1000)
    for before, after in zip(iter_frames(info), iter_frames(result), strict=True):
        assert after.time_s == pytest.approx(before.time_s, abs=0.0011)
        assert np.array_equal(before.pixels, after.pixels)


@pytest.mark.parametrize("name", [*COPIED, *TURNED, *MOVED])
def test_sound_begins_and_ends_with_the_picture(scored, name):
    info, sound, path, report = scored(name)
    result = probe(path)
    assert abs(result.audio.start) <= Fraction(2, 1000)
    heard = read_clip_sound(result, RATE)
    length = min(heard.shape[1], sound.shape[1])
    spectrum = np.fft.rfft(heard[0, :length], 2 * length) * np.conj(np.fft.rfft(sound[0, :length], 2 * length))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    lag = lag if lag < length else lag - 2 * length
    assert abs(lag) <= 0.002 * RATE
    gain = 10 ** (report.gain_db / 20)
    tail = slice(length - RATE // 20, length)  # the music goes on to the very end
    assert np.sqrt(np.mean(heard[0, tail] ** 2)) == pytest.approx(gain * np.sqrt(np.mean(sound[0, tail] ** 2)), rel=0.2)
    with av.open(str(path)) as container:
        decoded = sum(frame.samples for frame in container.decode(audio=0)) / result.audio.sample_rate
    # what a codec's last frame adds is silence, shorter than that frame
    assert -0.002 <= decoded - float(info.duration) <= 1024 / RATE


@pytest.mark.parametrize("name", ["ntsc.mp4", "silent.mov", "rich.mkv"])
def test_stated_length_of_the_sound_is_the_pictures(scored, name):
    info, _, path, _ = scored(name)
    assert abs(probe(path).audio.duration - info.duration) <= Fraction(2, 1000)


@pytest.mark.parametrize(
    ("name", "suffix", "codec"),
    [
        ("ntsc.mp4", ".mp4", "aac"),
        ("silent.mov", ".mov", "aac"),
        ("rich.mkv", ".mkv", "aac"),
        ("small.webm", ".webm", "opus"),
        ("old.avi", ".mp4", "aac"),
        ("broadcast.ts", ".mp4", "aac"),
    ],
)
def test_each_container_gets_the_sound_players_expect_in_it(scored, name, suffix, codec):
    _, _, path, report = scored(name)
    assert path.suffix == suffix and report.audio_codec == codec == probe(path).audio.codec


@pytest.mark.parametrize("name", ["rich.mkv", "rich.mp4"])
def test_subtitles_chapters_and_tags_are_kept(scored, name):
    info, _, path, _ = scored(name)
    result = probe(path)
    kept, given = ([t.codec for t in i.tracks if t.kind == "subtitle"] for i in (result, info))
    assert kept == given != []
    tags = {key.lower(): value for key, value in result.tags.items()}
    assert (tags["title"], tags["artist"], tags["comment"]) == ("A title", "An artist", "key=value, ä")
    with av.open(str(path)) as container, av.open(str(info.path)) as source:
        chapters, wanted = container.chapters(), source.chapters()
        assert [c["metadata"]["title"] for c in chapters] == ["First", "Second"]
        for chapter, original in zip(chapters, wanted, strict=True):
            assert chapter["start"] * chapter["time_base"] == original["start"] * original["time_base"]
        texts = [bytes(p) for p in container.demux(container.streams.subtitles[0]) if p.size]
    assert any(b"A line of text" in text for text in texts)


def test_a_cover_picture_is_kept_and_never_becomes_a_second_picture(scored):
    for name in ("covered.mp4", "covered.mkv"):
        info, _, path, report = scored(name)
        result = probe(path)
        assert len(result.covers) == len(info.covers) == 1 and report.notes == ()
        assert [track.kind for track in result.tracks if not track.is_cover] == ["video", "audio"]


def test_mkv_takes_flac_exactly_as_long_as_the_picture(clip, music, tmp_path):
    info = probe(clip("rich.mkv"))
    report = remux(info, music(info.duration), RATE, tmp_path / "a.mkv", audio_codec="flac")
    with av.open(str(tmp_path / "a.mkv")) as container:
        decoded = sum(frame.samples for frame in container.decode(audio=0))
    assert report.audio_codec == "flac" and decoded == round(float(info.duration) * RATE)


def bursts(decay: float) -> np.ndarray:
    """[2, n] bursts of noise, two a second for 6 s; the faster they decay the higher their peaks stand out."""
    t = np.arange(6 * RATE) / RATE
    sound = np.exp(-decay * (2 * t % 1)) * np.random.default_rng(0).normal(size=len(t)) * 0.8
    return np.stack([sound, sound]).astype(np.float32)


def test_dynamic_music_is_limited_under_the_true_peak(clip, tmp_path):
    report = remux(probe(clip("speech.mp4")), bursts(4), RATE, tmp_path / "a.mp4")
    assert 2 < report.limited_db < 6 and not report.is_quieter and report.notes == ()
    assert report.loudness.integrated_lufs == pytest.approx(-14.0, abs=0.5)
    assert report.loudness.true_peak_dbtp <= -1.0


def test_what_the_limiter_took_is_the_peak_before_less_the_peak_after(clip, tmp_path):
    sound = bursts(5)
    report = remux(probe(clip("rich.mkv")), sound, RATE, tmp_path / "a.mkv", audio_codec="flac")
    before = measure(sound[:, : round(probe(clip("rich.mkv")).duration * RATE)], RATE).true_peak_dbtp
    taken = before + report.gain_db - report.loudness.true_peak_dbtp
    assert 2 < report.limited_db == pytest.approx(taken, abs=0.3)


@pytest.mark.long
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "opus"), (".mkv", "flac")])
def test_where_6_db_of_limiting_do_not_suffice_the_result_is_quieter_and_names_the_loudness_that_works(
    clip, tmp_path, suffix, codec
):
    info, path = probe(clip("speech.mp4")), tmp_path / f"a{suffix}"
    report = remux(info, bursts(25), RATE, path, audio_codec=codec)
    assert report.limited_db == pytest.approx(6.0) and report.is_quieter
    assert report.loudness == measure(path) and report.loudness.true_peak_dbtp <= -1.0
    found = re.fullmatch(
        r"The loudness is (-\d\d\.\d) LUFS, not -14: louder, its peaks would pass -1 dBTP; --lufs (-\d\d) can be met\.",
        report.notes[0],
    )
    assert float(found[1]) == report.loudness.integrated_lufs < -15
    again = remux(info, bursts(25), RATE, path, audio_codec=codec, target_lufs=float(found[2]))
    assert again.loudness.integrated_lufs == pytest.approx(float(found[2]), abs=0.5) and again.notes == ()


def test_other_targets_are_met_too(clip, music, tmp_path):
    info = probe(clip("speech.mp4"))
    report = remux(info, music(6.0), RATE, tmp_path / "a.mp4", target_lufs=-23.0, peak_dbtp=-9.0)
    assert report.loudness == measure(tmp_path / "a.mp4")
    assert report.loudness.integrated_lufs == pytest.approx(-23.0, abs=0.5) and report.loudness.true_peak_dbtp <= -9.0


def test_bare_clicks_are_written_as_loud_as_their_peaks_allow(clip, tmp_path):
    clicks = np.zeros((2, 6 * RATE), np.float32)
    clicks[:, ::RATE] = 0.9
    report = remux(probe(clip("speech.mp4")), clicks, RATE, tmp_path / "a.mp4")
    assert (
        -45 < report.loudness.integrated_lufs < -30 and report.limited_db <= 6 and "peaks would pass" in report.notes[0]
    )
    assert -3 < report.loudness.true_peak_dbtp <= -1


def test_a_loudness_below_all_that_may_be_asked_for_is_not_recommended():
    level = Level(-20.0, 40.0, -1.2, True)
    attempt = Attempt(level, Loudness(-55.0, -1.2, 0.0), 41.0, -0.2)
    assert list(unmet(attempt, -14.0, -1.0)) == [
        "The loudness is -55.0 LUFS, not -14: louder, its peaks would pass -1 dBTP."
    ]


def test_quiet_music_is_raised_and_what_is_too_quiet_to_measure_is_left_alone(clip, tmp_path):
    info, tone = probe(clip("speech.mp4")), np.sin(440 * 2 * np.pi * np.arange(6 * RATE) / RATE)
    quiet, faint = (np.stack([level * tone] * 2).astype(np.float32) for level in (1e-3, 1e-4))
    assert remux(info, quiet, RATE, tmp_path / "a.mp4").loudness.integrated_lufs == pytest.approx(-14.0, abs=0.5)
    report = remux(info, faint, RATE, tmp_path / "b.mp4")
    assert report.gain_db == 0 and "too quiet" in report.notes[0] and not report.is_quieter


def test_what_the_encoder_drops_altogether_is_said(clip, tmp_path):
    shrill = 0.5 * np.sin(21_500 * 2 * np.pi * np.arange(6 * RATE) / RATE)  # Opus ends at 20 kHz
    sound = np.stack([shrill, shrill]).astype(np.float32)
    report = remux(probe(clip("speech.mp4")), sound, RATE, tmp_path / "a.mkv", audio_codec="opus")
    assert report.notes == ("encoding leaves nothing of the sound that can be measured",)


def test_silence_passes_with_a_note(clip, tmp_path):
    info = probe(clip("ntsc.mp4"))
    report = remux(info, np.zeros((2, 10), np.float32), RATE, tmp_path / "a.mp4")
    assert report.loudness.integrated_lufs == -math.inf and "silent" in report.notes[0]
    assert not read_clip_sound(tmp_path / "a.mp4", RATE).any()


def test_sound_too_short_to_measure_says_so(scored):
    *_, report = scored("short.mp4")
    assert any("0.4 s" in note for note in report.notes)


@pytest.mark.long
def test_the_same_input_gives_the_same_file(clip, music, tmp_path):
    for name in ("rich.mkv", "rich.mp4", "small.webm"):
        info = probe(clip(name))
        paths = [tmp_path / f"{n}-{name}" for n in range(2)]
        for path in paths:
            remux(info, music(info.duration), RATE, path)
        assert digest_file(paths[0]) == digest_file(paths[1]), name


def test_what_does_not_fit_together_is_refused(clip, music, tmp_path):
    info = probe(clip("ntsc.mp4"))
    with pytest.raises(UsageError, match="flac"):
        remux(info, music(1), RATE, tmp_path / "a.mp4", audio_codec="flac")
    with pytest.raises(UsageError, match="container"):
        remux(info, music(1), RATE, tmp_path / "a.xyz")


def test_an_unwritable_place_is_an_output_error(clip, music, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="can't be written") as caught:
        remux(probe(clip("ntsc.mp4")), music(1), RATE, tmp_path / "file" / "a.mp4")
    assert "its permissions" in caught.value.remedy


def test_what_ffmpeg_says_reaches_the_ledger_and_not_the_message(clip, music, tmp_path):
    with pytest.raises(OutputError) as caught:
        remux(probe(clip("rich.mp4")), music(1), RATE, tmp_path / "a.webm")  # H.264 doesn't go into WebM
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'a.webm'}: its picture (h264) could not be copied into .webm.")
    assert "Only VP8 or VP9 or AV1" in caught.value.details and "ffmpeg" not in caught.value.reason
    assert "0x" not in caught.value.details and "\n" not in message + caught.value.details
    assert list(tmp_path.iterdir()) == []


def test_odd_names_are_written_and_read_as_names(clip, music, tmp_path, monkeypatch):
    (tmp_path / "-i:x.mp4").write_bytes(clip("short.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    remux(probe(Path("-i:x.mp4")), music(Fraction(3, 10)), RATE, Path("-out: 'a' %d.mp4"))
    assert probe(tmp_path / "-out: 'a' %d.mp4").audio.codec == "aac"


def test_real_clips_keep_their_picture_and_gain_sound(real_clips, music, run_ffmpeg, tmp_path):
    for path in real_clips[:2]:
        info = probe(path)
        target = tmp_path / path.name
        report = remux(info, music(info.duration), RATE, target)
        assert report.loudness.integrated_lufs == pytest.approx(-14.0, abs=0.5)
        hashes = [run_ffmpeg("-i", f, "-map", "0:v:0", "-c", "copy", "-f", "streamhash", "-") for f in (path, target)]
        assert hashes[0] == hashes[1]
        assert probe(target).duration == info.duration
