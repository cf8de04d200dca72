"""SoundFont files: plain and compressed, damaged and hostile, and what they lack."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from small_soundfont import Sound, Zone, sine, write_soundfont

from expotion_cli.errors import UsageError, WeightsError
from expotion_cli.media.vorbis import decode_vorbis
from expotion_cli.music.codecs.notes import soundfont, tables
from expotion_cli.music.codecs.notes.codec import NoteCodec
from expotion_cli.music.codecs.notes.general_midi import PROGRAM_NAMES
from expotion_cli.music.codecs.notes.instruments import SoundSettings
from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.soundfont import DRUM_BANK, SoundFont, default_soundfont, load_soundfont
from expotion_cli.weights.manifest import find_manifest

RATE = 44100
ALL_PROGRAMS = [(0, program) for program in range(128)]


@pytest.fixture(scope="module")
def vorbis() -> bytes:
    """A short recording of the shipped soundfont, still compressed."""
    font = load_soundfont()
    recording = min((r.recording for r in font.regions(73)), key=lambda found: found.end - found.start)
    return default_soundfont().read_bytes()[_sample_data(font.path) :][recording.start : recording.end]


def _sample_data(path: Path) -> int:
    return tables.find_chunks(path)["smpl"][0]


def one_sound(path: Path, sound: Sound, *presets: tuple[int, int], **generators: int) -> SoundFont:
    zone = Zone(0, {int(key[1:]): value for key, value in generators.items()})
    return SoundFont(write_soundfont(path, {preset: [zone] for preset in presets or [(0, 0)]}, [sound]))


def test_a_compressed_font_plays_as_the_same_recordings_uncompressed(tmp_path: Path, vorbis: bytes) -> None:
    plain = np.clip(np.rint(decode_vorbis(vorbis, 1 << 20) * 32768), -32768, 32767).astype(np.int16)
    loop = (len(plain) // 2, len(plain))  # up to the very last sample
    fonts = [
        one_sound(tmp_path / name, Sound(data, loop=loop), (0, 0), _54=1, _38=-1200)
        for name, data in (("a.sf2", plain), ("a.sf3", vorbis))
    ]
    first, second = (Synth(font).play([PlayedNote(0, 1, 67, 100)], 0, 2 * RATE) for font in fonts)
    assert np.abs(first).max() > 0.02 and np.abs(first - second).max() < 1e-4


def test_every_recording_of_the_shipped_font_is_as_long_as_its_loops_need() -> None:
    font = load_soundfont()
    for program in (0, 24, 48, 60, 73):
        for region in font.regions(program):
            if region.loops:
                assert 0 <= region.loop_start < region.loop_end <= region.start + len(font.samples(region))


@pytest.mark.parametrize("pads", [True, False])
def test_odd_chunks_are_read_with_and_without_padding(tmp_path: Path, vorbis: bytes, pads: bool) -> None:
    odd = vorbis if len(vorbis) % 2 else vorbis + b"\0"
    path = write_soundfont(tmp_path / "odd.sf3", {(0, 5): [Zone()]}, [Sound(odd)], pads=pads)
    assert SoundFont(path).programs == [(0, 5)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"RIFF" + data[4:],
        lambda data: data[:-2000] + bytes(200) + data[-1800:],
        lambda data: data[:-200].replace(b"vorbis", b"xorbis"),
        lambda data: data[: data.rfind(b"OggS") + 6] + b"\xff" * 7 + b"\x7f" + data[data.rfind(b"OggS") + 14 :],
    ],
    ids=["cut short", "no ogg", "holes", "another codec", "endless by its own account"],
)
def test_a_damaged_recording_is_named_with_its_file_and_what_to_do(tmp_path: Path, vorbis: bytes, damage) -> None:
    font = one_sound(tmp_path / "hurt.sf3", Sound(damage(vorbis), name="flute c4"))
    with pytest.raises(WeightsError, match=r"hurt\.sf3: .*'flute c4' can't be decoded.* intact copy"):
        Synth(font).play([PlayedNote(0, 1, 60, 100)], 0, RATE)


def test_a_long_recording_is_refused_before_memory_is_taken(vorbis: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 100 are allowed"):
        decode_vorbis(vorbis, 100)


def test_decoded_recordings_are_kept_within_bounds(tmp_path: Path, vorbis: bytes, monkeypatch) -> None:
    monkeypatch.setattr(soundfont, "_DECODED_BYTES", 1)
    zones = [Zone(0, {43: 0 | 59 << 8}), Zone(1, {43: 60 | 127 << 8})]
    font = SoundFont(write_soundfont(tmp_path / "two.sf3", {(0, 0): zones}, [Sound(vorbis, name=n) for n in "ab"]))
    for region in font.regions(0):
        font.samples(region)
        assert len(font._decoded) == 1


def test_a_small_file_that_stands_for_billions_of_regions_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "_MOST_REGIONS", 9)
    path = write_soundfont(tmp_path / "many.sf2", {(0, 0): [Zone()] * 10}, [Sound(sine(0.1))])
    with pytest.raises(WeightsError, match="more than 9 regions"):
        SoundFont(path).regions(0)
    data = bytearray(path.read_bytes())
    place = data.index(b"inst") + 8 + 20
    data[place : place + 2] = struct.pack("<H", 11)  # the first instrument begins behind the end of all
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="do not fit together"):
        SoundFont(path).regions(0)


@pytest.mark.parametrize("key", [0, 127])
def test_absurd_settings_take_neither_memory_nor_time(tmp_path: Path, key: int) -> None:
    absurd = dict.fromkeys((5, 6, 7, 10, 11, 13, 39, 40), -32768) | {56: 32767, 22: 32767, 24: 32767, 9: 32767, 8: 1500}
    for index, turned in enumerate((absurd, dict.fromkeys(absurd, 32767))):
        generators = {**turned, 54: 1, 51: -32768, 52: -32768}
        sound = Sound(sine(0.2), loop=(100, 101), sample_rate=400_000, key=127 - key)
        font = SoundFont(write_soundfont(tmp_path / f"{index}.sf2", {(0, 0): [Zone(0, generators)]}, [sound]))
        audio = Synth(font).play([PlayedNote(0, 5, key, 127)], 0, 5 * RATE)
        assert np.isfinite(audio).all()
    with pytest.raises(WeightsError, match="samples a second"):
        one_sound(tmp_path / "fast.sf2", Sound(sine(0.1), sample_rate=4_000_000_000)).regions(0)


def test_a_missing_program_is_refused_by_name_with_the_nearest_one(tmp_path: Path) -> None:
    codec = NoteCodec(one_sound(tmp_path / "solo.sf2", Sound(sine(0.2)), (0, 40), (0, 3), (DRUM_BANK, 0)).path)
    piano = {name: {"program": 3} for name in ("harmony", "bass", "figure", "counter")}
    table = {"voices": {**piano, "melody": {"program": 90}}}
    with pytest.raises(UsageError) as caught:
        codec.check_sound(SoundSettings.from_table(table))
    for words in ("solo.sf2", "the voice melody", "program 90 (polysynth pad)", "40 (violin)"):
        assert words in str(caught.value)
    table["voices"]["melody"] = {"program": 90, "mute": True}
    assert codec.check_sound(SoundSettings.from_table(table)) == ()
    with pytest.raises(UsageError, match=r"no program 90 \(polysynth pad\)"):
        Synth(codec.font).play([PlayedNote(0, 1, 60, 90)], 90, RATE)


def test_a_missing_kit_falls_back_to_the_standard_one_with_a_note(tmp_path: Path) -> None:
    path = one_sound(tmp_path / "kit.sf2", Sound(sine(0.2)), *ALL_PROGRAMS, (DRUM_BANK, 0)).path
    (note,) = NoteCodec(path).check_sound(SoundSettings.from_table({"sound": {"kit": 8}}))
    assert note == "kit.sf2 has no drum kit 8 (Room); its Standard kit plays instead"
    assert NoteCodec(path).check_sound(SoundSettings()) == ()


def test_a_font_without_drums_is_refused_unless_drums_are_muted(tmp_path: Path) -> None:
    path = one_sound(tmp_path / "quiet.sf2", Sound(sine(0.2)), *ALL_PROGRAMS).path
    with pytest.raises(UsageError, match=r"no drum kits \(bank 128\), which the voice drums needs.* Mute"):
        NoteCodec(path).check_sound(SoundSettings())
    muted = {"voices": {name: {"mute": True} for name in ("drums", "percussion")}}
    assert NoteCodec(path).check_sound(SoundSettings.from_table(muted)) == ()
    odd = one_sound(tmp_path / "odd.sf2", Sound(sine(0.2)), *ALL_PROGRAMS, (DRUM_BANK, 48)).path
    with pytest.raises(UsageError, match=r"neither the drum kit 0 \(Standard\).* 48 \(Orchestra\)"):
        NoteCodec(odd).check_sound(SoundSettings())


def test_the_digest_follows_the_fonts_content_not_its_name(tmp_path: Path) -> None:
    first, same, other = tmp_path / "a.sf2", tmp_path / "b.sf2", tmp_path / "c.sf2"
    one_sound(first, Sound(sine(0.2)))
    same.write_bytes(first.read_bytes())
    one_sound(other, Sound(sine(0.2, level=0.4)))
    digests = [NoteCodec(path).digest for path in (first, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert NoteCodec(other).soundfont["file"] == "c.sf2" and len(NoteCodec(other).soundfont["sha256"]) == 64


def test_the_shipped_font_is_complete_and_held_to_its_manifest(tmp_path: Path, monkeypatch) -> None:
    font = load_soundfont()
    assert set(ALL_PROGRAMS) <= set(font.programs) and {0, 8, 16, 24, 25, 32, 40, 48} <= set(font.numbers(DRUM_BANK))
    (file,) = find_manifest("fluidr3mono").files
    assert font.sha256 == file.sha256 and len(set(PROGRAM_NAMES)) == 128
    other = one_sound(tmp_path / "other.sf2", Sound(sine(0.2))).path
    monkeypatch.setattr(soundfont, "default_soundfont", lambda: other)
    with pytest.raises(WeightsError, match="damaged.* Install the package again"):
        load_soundfont()


def test_velocity_acts_on_level_and_filter_as_the_font_says(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-9000, 9000, RATE).astype(np.int16)

    def heard(velocity: int, *modulators: tuple[int, int, int]) -> tuple[float, float]:
        path = tmp_path / f"{abs(hash(modulators))}.sf2"
        zone = Zone(0, {8: 9000}, modulators)  # a filter at 1.5 kHz
        font = SoundFont(write_soundfont(path, {(0, 0): [zone]}, [Sound(noise)]))
        audio = Synth(font).play([PlayedNote(0, 0.5, 60, velocity)], 0, RATE // 2)[0].astype(np.float64)
        power = np.abs(np.fft.rfft(audio)) ** 2
        centroid = (power * np.fft.rfftfreq(len(audio), 1 / RATE)).sum() / power.sum()
        return 10 * np.log10((audio**2).mean()), float(centroid)

    flat, steep = (0x0502, 48, 0), (0x0502, 48, 960)
    assert heard(64, flat)[0] == pytest.approx(heard(127, flat)[0], abs=0.1)
    assert heard(127, steep)[0] - heard(64, steep)[0] == pytest.approx(11.9, abs=0.2)
    darker = (0x0102, 8, -2400)
    assert heard(64, darker)[1] < 0.8 * heard(127, darker)[1]
    assert heard(64)[1] == pytest.approx(heard(127)[1], rel=0.01)
