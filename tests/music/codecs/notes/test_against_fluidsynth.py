"""The sampler beside FluidSynth, where that is installed: pitch, envelopes, velocity, choked hi-hats, loops."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import symusic

from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.soundfont import DRUM_BANK, default_soundfont, load_soundfont

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs the program fluidsynth"),
]

RATE = 44100
TICKS_PER_S = 2000
PROGRAMS = (0, 4, 6, 11, 19, 24, 26, 33, 40, 42, 46, 48, 52, 56, 60, 61, 65, 71, 73, 81)
KITS = (0, 8, 16, 24, 25, 32, 40, 48)
FRAME = RATE // 20
Play = Callable[[Sequence[PlayedNote], int, float, bool], np.ndarray]


@pytest.fixture(scope="module")
def fluid(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """FluidSynth's sound of some notes, without reverberation and chorus: [2, n]."""
    folder = tmp_path_factory.mktemp("fluidsynth")

    def play(notes: Sequence[PlayedNote], program: int, duration_s: float, drums: bool = False) -> np.ndarray:
        score = symusic.Score(960)
        score.tempos.append(symusic.Tempo(0, qpm=TICKS_PER_S / 960 * 60))
        track = symusic.Track("notes", program=program, is_drum=drums)
        for note in notes:
            begin, held = round(note.time_s * TICKS_PER_S), round(note.duration_s * TICKS_PER_S)
            track.notes.append(symusic.Note(begin, held, note.pitch, note.velocity))
        for time, number, value in ((0, 7, 127), (0, 10, 64), (round(duration_s * TICKS_PER_S), 11, 127)):
            track.controls.append(symusic.ControlChange(time, number, value))
        score.tracks.append(track)
        (folder / "notes.mid").write_bytes(score.dumps_midi())
        command = "fluidsynth -niq -R 0 -C 0 -g 1 -o synth.polyphony=256 -T raw -O float -F".split()
        command += [str(folder / "raw"), "-r", str(RATE), str(default_soundfont()), str(folder / "notes.mid")]
        subprocess.run(command, check=True, capture_output=True)
        audio, length = np.fromfile(folder / "raw", "<f4").reshape(-1, 2).T, round(duration_s * RATE)
        return np.pad(audio, ((0, 0), (0, max(0, length - audio.shape[1]))))[:, :length]

    return play


@pytest.fixture(scope="module")
def ours() -> Play:
    synth = Synth(load_soundfont())
    return lambda notes, program, duration_s, drums=False: synth.play(notes, program, round(duration_s * RATE), drums)


def course_db(audio: np.ndarray) -> np.ndarray:
    """Level of every 50 ms."""
    power = (audio.astype(np.float64) ** 2).mean(axis=0)
    return 10 * np.log10(power[: len(power) // FRAME * FRAME].reshape(-1, FRAME).mean(axis=1) + 1e-14)


def cents_between(first: np.ndarray, second: np.ndarray) -> float:
    """How much higher the second sound is: the shift at which their spectra, over log frequency, agree best."""
    size, step = 1 << 18, 0.5
    grid = 80 * 2 ** (np.arange(0, 1200 * 5, step) / 1200)
    spectra = []
    for sound in (first, second):
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size))
        spectra.append(np.interp(grid, np.arange(len(spectrum)) * RATE / size, spectrum))
    shifts = range(-40, 41)
    alike = [np.dot(spectra[0][40:-40], spectra[1][40 + k : len(grid) - 40 + k]) for k in shifts]
    return shifts[int(np.argmax(alike))] * step


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_sound_as_in_fluidsynth(fluid: Play, ours: Play, program: int) -> None:
    low = 36 if program == 33 else 55
    struck = [(low, 100), (low + 12, 127), (low, 50)]
    notes = [PlayedNote(0.1 + 2.5 * k, 1.2, pitch, velocity) for k, (pitch, velocity) in enumerate(struck)]
    theirs, mine = (play(notes, program, 7.6, False) for play in (fluid, ours))
    offsets = []
    for note, (pitch, velocity) in zip(notes, struck, strict=True):
        part = slice(round(note.time_s * RATE), round((note.time_s + 2.4) * RATE))
        steady = slice(part.start + RATE // 10, part.start + RATE)
        assert abs(cents_between(theirs[0, steady], mine[0, steady])) <= 3, (pitch, velocity)
        wanted, found = course_db(theirs[:, part]), course_db(mine[:, part])
        heard = wanted > wanted.max() - 40
        difference = (found - wanted)[heard & (np.arange(len(wanted)) < 22)]
        offsets.append(float(np.median(difference)))
        assert np.abs(difference - offsets[-1]).max() < 2.5, "attack and decay"
        release = (found - wanted)[22:][heard[22:]] - offsets[-1]
        assert len(release) == 0 or np.median(np.abs(release)) < 6, "release"
    assert np.ptp(offsets) < 1.5, "velocity acts the same"


@pytest.mark.parametrize("kit", KITS)
def test_kits_sound_as_in_fluidsynth(fluid: Play, ours: Play, kit: int) -> None:
    assert kit in load_soundfont().numbers(DRUM_BANK)
    notes = [PlayedNote(0.1 + k, 0.2, key, 100) for k, key in enumerate((36, 38, 42, 45, 46, 48, 49, 51, 54))]
    theirs, mine = (play(notes, kit, 9.1, True) for play in (fluid, ours))
    for note in notes:  # their shapes; `balance.py` evens the levels of keys out
        part = slice(round(note.time_s * RATE), round((note.time_s + 0.9) * RATE))
        wanted, found = course_db(theirs[:, part]), course_db(mine[:, part])
        difference = (found - wanted)[wanted > wanted.max() - 35]
        assert np.abs(difference - np.median(difference)).max() < 5, note.pitch


def test_a_closed_hi_hat_chokes_the_open_one_as_in_fluidsynth(fluid: Play, ours: Play) -> None:
    notes = [PlayedNote(0.1, 0.1, 46, 100), PlayedNote(0.4, 0.1, 42, 60)]
    theirs, mine = (course_db(play(notes, 0, 1.5, True)) for play in (fluid, ours))
    alone = course_db(ours(notes[:1], 0, 1.5, True))
    later = slice(14, 20)
    assert (alone[later] - mine[later]).min() > 15 and np.abs(theirs[later] - mine[later]).max() < 8


@pytest.mark.parametrize("program", [19, 48, 52, 60, 73, 81, 89])
def test_held_notes_loop_without_clicks(fluid: Play, ours: Play, program: int) -> None:
    notes = [PlayedNote(0.1, 6.0, 62, 100)]

    def roughness(audio: np.ndarray) -> float:
        """Highest short peak of the second difference above its own middle level, in decibels."""
        bend = np.abs(np.diff(audio[0, RATE : 5 * RATE].astype(np.float64), 2))
        blocks = bend[: len(bend) // 64 * 64].reshape(-1, 64).max(axis=1)
        return float(20 * np.log10(blocks.max() / np.median(blocks)))

    assert roughness(ours(notes, program, 6.0, False)) < roughness(fluid(notes, program, 6.0, False)) + 3
