"""The motion's pulse against motion whose tempo is known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.spotting.tempo import choose_tempo
from expotion_cli.timing import Tempo

RATE_HZ = 25


def swaying(bpm: float, *, duration_s: float = 10, first_s: float = 0.3, noise: float = 0.2, seed: int = 0):
    """Energy and accents of something that sways and turns on every beat: it is fastest between its turns."""
    generator = np.random.default_rng(seed)
    seconds = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    beat_s = 60 / bpm
    speed = np.abs(np.sin(np.pi * (seconds - first_s) / beat_s)) * np.pi / beat_s
    turns = np.arange(first_s % beat_s, duration_s, beat_s)
    accents = np.exp(-0.5 * ((seconds[:, None] - turns) / 0.05) ** 2).sum(axis=1)
    energy = speed + noise * speed.mean() * generator.standard_normal(len(seconds))
    accents = accents + noise * generator.standard_normal(len(seconds))
    return np.maximum(energy, 0), np.maximum(accents, 0), turns


def misses(tempo: Tempo, times_s: np.ndarray, beats: int = 1) -> np.ndarray:
    """Distance of each time from the nearest beat (or the nearest of every `beats`-th beat from the first)."""
    grid_s = 60 / float(tempo.bpm) * beats
    return np.abs((times_s - float(tempo.start) + grid_s / 2) % grid_s - grid_s / 2)


@pytest.mark.parametrize("seed", range(4))
def test_swaying_at_90_gives_90_and_beats_on_the_turns(seed: int) -> None:
    energy, accents, turns = swaying(90, first_s=0.1 + 0.15 * seed, noise=0.3, seed=seed)
    tempo = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (66, 132))
    assert float(tempo.bpm) == pytest.approx(90, rel=0.02) and tempo.confidence > 0.6
    assert misses(tempo, turns).max() < 0.06
    assert -Fraction(240) / tempo.bpm < tempo.start <= 0


@pytest.mark.parametrize("bpm", [48, 61, 72, 83, 104, 127, 140, 176])
def test_other_tempos_are_folded_by_octaves_into_the_range(bpm: int) -> None:
    energy, accents, turns = swaying(bpm)
    tempo = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (66, 132))
    octave = np.log2(float(tempo.bpm) / bpm)
    assert abs(octave - round(octave)) < 0.03 and 66 <= tempo.bpm <= 132
    per_turn = 1 if tempo.bpm > 0.8 * bpm else 2
    assert np.median(misses(Tempo(tempo.bpm * per_turn, tempo.start, 1.0), turns)) < 0.06


def test_one_stream_alone_is_enough() -> None:
    energy, accents, turns = swaying(84)
    nothing = np.zeros_like(energy)
    by_accents = choose_tempo(nothing, accents, RATE_HZ, Fraction(10), (66, 132))
    by_energy = choose_tempo(energy, nothing, RATE_HZ, Fraction(10), (66, 132))
    for tempo in (by_accents, by_energy):
        assert float(tempo.bpm) == pytest.approx(84, rel=0.02)
    assert misses(by_accents, turns).max() < 0.06
    assert misses(by_energy, turns + 60 / 84 / 2).max() < 0.08  # peaks of speed, for there is nothing else


def test_speed_peaking_twice_a_cycle_does_not_double_a_tempo_that_fits() -> None:
    seconds = np.arange(300) / RATE_HZ
    energy = np.abs(np.cos(2 * np.pi * seconds * 50 / 60))  # fifty cycles a minute: a hundred peaks
    tempo = choose_tempo(energy, np.zeros(300), RATE_HZ, Fraction(12), (66, 132))
    assert float(tempo.bpm) == pytest.approx(100, rel=0.02)


def test_a_range_without_an_octave_of_the_pulse_takes_three_against_two_at_less_confidence() -> None:
    energy, accents, _ = swaying(90)
    straight = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (66, 132))
    crossed = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (100, 150))
    assert float(crossed.bpm) == pytest.approx(135, rel=0.02) and crossed.confidence < straight.confidence


def test_bars_begin_on_the_strong_turns() -> None:
    energy, accents, turns = swaying(100, noise=0.1)
    seconds = np.arange(len(accents)) / RATE_HZ
    strong = turns[2::4]
    accents = accents + 2 * np.exp(-0.5 * ((seconds[:, None] - strong) / 0.05) ** 2).sum(axis=1)
    tempo = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (66, 132))
    assert misses(tempo, strong, beats=4).max() < 0.08


@pytest.mark.parametrize("kind", ["still", "constant", "empty", "missing"])
def test_without_motion_the_middle_of_the_range_is_taken(kind: str) -> None:
    still = np.zeros((2, 250))
    energy, accents = {
        "still": still, "constant": still + 0.7, "empty": still[:, :0], "missing": still + np.nan
    }[kind]  # fmt: skip
    tempo = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (64, 144))
    assert float(tempo.bpm) == pytest.approx(96, abs=0.01) and tempo.start == 0 and tempo.confidence == 0


def test_without_a_pulse_the_tempo_stays_near_the_middle_of_the_range() -> None:
    energy, accents = np.abs(np.random.default_rng(3).standard_normal((2, 250)))
    tempo = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (64, 144))
    assert abs(np.log(float(tempo.bpm) / 96)) <= np.log(1.151) and tempo.confidence == 0


def test_beats_meet_free_gestures_that_have_no_pulse() -> None:
    seconds, strikes = np.arange(250) / RATE_HZ, np.array([0.7, 2.9, 4.3, 7.35, 8.6])
    accents = np.exp(-0.5 * ((seconds[:, None] - strikes) / 0.05) ** 2).sum(axis=1)
    still, fitted = (choose_tempo(np.ones(250), a, RATE_HZ, Fraction(10), (66, 132)) for a in (0 * accents, accents))
    assert still.start == 0 and still.confidence == fitted.confidence == 0
    assert misses(fitted, strikes).mean() < 0.6 * misses(still, strikes).mean()
    assert 80 < fitted.bpm < 108


def test_noise_hardly_ever_passes_for_a_pulse() -> None:
    smooth = np.hanning(9)
    sure = 0
    for seed in range(40):
        wild = np.abs(np.random.default_rng(seed).standard_normal((2, 250)))
        energy, accents = (np.convolve(row, smooth, "same") for row in wild)
        sure += choose_tempo(energy, accents, RATE_HZ, Fraction(10), (66, 132)).confidence > 0.2
    assert sure <= 1


def test_a_fixed_tempo_is_kept_and_only_laid_over_the_accents() -> None:
    energy, accents, turns = swaying(90)
    tempo = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (90, 90))
    assert tempo.bpm == 90 and misses(tempo, turns).max() < 0.06
    foreign = choose_tempo(energy, accents, RATE_HZ, Fraction(10), (101.5, 101.5))
    assert foreign.bpm == Fraction("101.5") and foreign.confidence < 0.3


def test_long_clips_stay_on_the_beat_to_their_end() -> None:
    energy, accents, turns = swaying(91.3, duration_s=180)
    tempo = choose_tempo(energy, accents, RATE_HZ, Fraction(180), (66, 132))
    assert misses(tempo, turns).max() < 0.06


@pytest.mark.parametrize("duration", [Fraction(3, 10), Fraction(1), Fraction(5, 2)])
def test_short_clips_have_a_valid_tempo(duration: Fraction) -> None:
    energy, accents, _ = swaying(120, duration_s=float(duration))
    tempo = choose_tempo(energy, accents, RATE_HZ, duration, (66, 132))
    assert 66 <= tempo.bpm <= 132 and -Fraction(240) / tempo.bpm < tempo.start <= 0


def test_an_impossible_range_is_refused() -> None:
    for bpm_range in ((120, 60), (0, 60), (-3, -3)):
        with pytest.raises(ValueError, match="tempo range"):
            choose_tempo(np.ones(50), np.ones(50), RATE_HZ, Fraction(2), bpm_range)
