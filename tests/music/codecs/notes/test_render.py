"""The sound itself, measured: timing, length, level, place, pitch, room."""

from __future__ import annotations

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest

from expotion_cli.audio.filters import apply_sections
from expotion_cli.audio.loudness import integrated_lufs, momentary_lufs
from expotion_cli.media.loudness import measure
from expotion_cli.music.codecs.notes.balance import Balance, peak_gain
from expotion_cli.music.codecs.notes.codec import NoteCodec
from expotion_cli.music.codecs.notes.instruments import SOUNDING_VOICES, SoundSettings
from expotion_cli.music.codecs.notes.render import pan_stereo
from expotion_cli.music.codecs.notes.reverb import impulse_response, reverberate
from expotion_cli.music.codecs.notes.sampler import PlayedNote, Synth
from expotion_cli.music.codecs.notes.soundfont import load_soundfont
from expotion_cli.music.codecs.notes.tokens import FIRST_ONSET, Event, chord_value, events_to_tokens
from expotion_cli.timing import Timeline, beat_rate_hz, num_samples

RATE = 44100


def line(duration: Fraction | int | str, bpm: int = 120, start: str = "0") -> Timeline:
    return Timeline(Fraction(duration), beat_rate_hz(bpm), Fraction(start))


def settings(**voices: dict) -> SoundSettings:
    """Exactly on the grid, in C, without room or landing."""
    sound = {"key": "C", "humanise": 0.0, "spread": 0.0, "landing": False, "reverb_s": 0.0}
    return SoundSettings.from_table({"sound": sound, "voices": voices})


def level_db(audio: np.ndarray) -> float:
    return float(10 * np.log10((audio.astype(np.float64) ** 2).mean() + 1e-20))


@pytest.fixture(scope="module")
def synth() -> Synth:
    return Synth(load_soundfont())


@pytest.mark.parametrize("duration", [Fraction(9 * 1001, 30000), Fraction("10.01"), Fraction(1, 7), Fraction(3)])
def test_the_sound_has_exactly_the_pictures_length(piece_tokens, duration: Fraction) -> None:
    timeline = line(duration, bpm=97, start="-1")
    rendering = NoteCodec().decode(piece_tokens(timeline.num_steps), timeline, seed=4)
    assert rendering.audio.shape == (2, num_samples(duration, RATE)) and rendering.audio.dtype == np.float32
    assert level_db(rendering.audio) > -50


def test_onsets_are_heard_where_their_steps_are() -> None:
    timeline = line(6, bpm=93, start="-7/10")
    steps = [s for s in (15, 28, 33, 48, 57, 72, 96, 110) if s / float(timeline.rate_hz) >= 0.7]
    events = {"figure": [Event(s, s + 2, 72, 2) for s in steps], "drums": [Event(s, s + 2, 2, 2) for s in steps]}
    for name in events:
        tokens = events_to_tokens({name: events[name]}, timeline.num_steps)
        audio = np.abs(NoteCodec().decode(tokens, timeline, settings(figure={"program": 11})).audio).max(axis=0)
        for step in steps:
            due = timeline.step_times()[step]
            before = audio[max(0, int((due - 0.02) * RATE)) : int(due * RATE)].max(initial=0)
            near = audio[int(due * RATE) : int((due + 0.015) * RATE)].max()
            assert near > 0.01 and near > 2.5 * before, (name, step)


def test_two_renderings_are_identical_whatever_was_rendered_between(piece_tokens) -> None:
    timeline, other = line(4), line(7, bpm=71)
    first = NoteCodec().decode(piece_tokens(timeline.num_steps), timeline, seed=9)
    NoteCodec().decode(piece_tokens(other.num_steps, level=7), other, seed=2)
    again = NoteCodec().decode(piece_tokens(timeline.num_steps), timeline, seed=9)
    assert first.audio.tobytes() == again.audio.tobytes() and first.midi == again.midi
    unlike = NoteCodec().decode(piece_tokens(timeline.num_steps), timeline, seed=10)
    assert not np.array_equal(unlike.audio, first.audio)


def test_a_fresh_synthesizer_makes_the_very_same_samples(synth: Synth) -> None:
    notes = [PlayedNote(0.1 * k, 0.3, 60 + k, 90) for k in range(5)]
    synth.play([PlayedNote(0, 4.0, 62, 90)], 48, RATE * 5)
    assert np.array_equal(synth.play(notes, 48, RATE), Synth(load_soundfont()).play(notes, 48, RATE))


def test_louder_dynamics_are_louder_and_a_swell_grows(piece_tokens) -> None:
    timeline = line(8)

    def before_a_loud_end(level: int) -> float:
        tokens = piece_tokens(timeline.num_steps, level=level)
        tokens[0, 144] = FIRST_ONSET + 7
        return level_db(NoteCodec().decode(tokens, timeline, settings()).audio[:, : 5 * RATE])

    soft, firm, full = (before_a_loud_end(level) for level in (0, 4, 7))
    assert firm - soft > 4 and full - firm > 3
    swelling = NoteCodec().decode(piece_tokens(timeline.num_steps, level=None), timeline, settings()).audio
    bars = [level_db(swelling[:, k * 2 * RATE : (k + 1) * 2 * RATE]) for k in range(4)]
    assert all(later > earlier + 0.5 for earlier, later in itertools.pairwise(bars))


def test_softer_notes_are_quieter_and_darker(synth: Synth) -> None:
    def heard(velocity: int) -> tuple[float, float]:
        audio = synth.play([PlayedNote(0, 1, 64, velocity)], 56, RATE).mean(axis=0)
        power = np.abs(np.fft.rfft(audio)) ** 2
        return level_db(audio), float((power * np.fft.rfftfreq(RATE, 1 / RATE)).sum() / power.sum())

    (soft_db, soft_hz), (loud_db, loud_hz) = heard(40), heard(120)
    assert 15 < loud_db - soft_db < 25 and loud_hz > 1.05 * soft_hz


@pytest.mark.parametrize("program", [0, 11, 25, 33, 40, 48, 60, 73, 81])
def test_instruments_sound_at_the_pitch_asked_for(synth: Synth, program: int) -> None:
    for pitch in (45, 57, 69):
        audio = synth.play([PlayedNote(0, 1.2, pitch, 100)], program, RATE).mean(axis=0)
        size = 1 << 19
        power = np.abs(np.fft.rfft(audio * np.hanning(RATE), size)) ** 2
        wanted = 440 * 2 ** ((pitch - 69) / 12)
        near = wanted * 2 ** (np.linspace(-80, 80, 161) / 1200)
        # Summed over octaves of the fundamental, for some instruments hardly have one.
        frequency = np.arange(len(power)) * RATE / size
        bins = np.array([np.interp(near * k, frequency, power) for k in (1, 2, 4)]).sum(axis=0)
        assert abs(np.linspace(-80, 80, 161)[bins.argmax()]) < 15, pitch


def test_plucked_notes_decay_held_ones_last_and_released_ones_end(synth: Synth) -> None:
    def course(program: int) -> list[float]:
        audio = synth.play([PlayedNote(0, 2.0, 60, 100)], program, 4 * RATE)
        return [level_db(audio[:, int(t * RATE) : int((t + 0.2) * RATE)]) for t in (0.3, 1.7, 3.6)]

    harp, strings = course(46), course(48)
    assert harp[0] - harp[1] > 8 and abs(strings[0] - strings[1]) < 5
    assert harp[1] - harp[2] > 15 and strings[1] - strings[2] > 25


def test_a_closed_hi_hat_silences_the_open_one(synth: Synth) -> None:
    ringing = synth.play([PlayedNote(0, 0.1, 46, 100)], 0, RATE, drums=True)
    choked = synth.play([PlayedNote(0, 0.1, 46, 100), PlayedNote(0.2, 0.1, 42, 100)], 0, RATE, drums=True)
    late = slice(int(0.6 * RATE), int(0.8 * RATE))
    assert level_db(ringing[:, late]) - level_db(choked[:, late]) > 30


def test_a_muted_voice_is_absent_and_gain_and_pan_do_what_they_say(piece_tokens) -> None:
    timeline = line(4)
    tokens = piece_tokens(timeline.num_steps, only=("melody", "bass"))

    def stems(**melody: object) -> dict[str, np.ndarray]:
        return NoteCodec().decode(tokens, timeline, settings(melody=melody), keep_stems=True).stems

    plain = stems(pan=0.0)
    assert set(plain) == {"melody", "bass"} and "melody" not in stems(mute=True)
    assert level_db(stems(pan=0.0, gain_db=-6.0)["melody"]) - level_db(plain["melody"]) == pytest.approx(-6, abs=0.01)
    left, right = stems(pan=-0.7)["melody"], stems(pan=0.7)["melody"]
    assert level_db(left[0]) - level_db(left[1]) > 8 and level_db(right[1]) - level_db(right[0]) > 8
    mix = NoteCodec().decode(tokens, timeline, settings(melody={"pan": 0.0}))
    assert np.allclose(mix.audio, plain["melody"] + plain["bass"], atol=1e-6)


def test_stems_with_their_reverb_add_up_to_the_cue(piece_tokens) -> None:
    timeline = line(4)
    tokens = piece_tokens(timeline.num_steps)
    made = NoteCodec().decode(tokens, timeline, SoundSettings(key=0), keep_stems=True)
    assert len(made.stems) > 4
    rest = sum(made.stems.values()) - made.audio
    assert level_db(rest) < level_db(made.audio) - 80
    assert np.array_equal(NoteCodec().decode(tokens, timeline, SoundSettings(key=0)).audio, made.audio)


def test_panning_keeps_the_power_of_a_centred_sound() -> None:
    mono = np.tile(np.random.default_rng(0).standard_normal(RATE).astype(np.float32), (2, 1))
    for pan in (-1.0, -0.4, 0.3, 1.0):
        assert level_db(pan_stereo(mono, pan)) == pytest.approx(level_db(mono), abs=0.05)
    assert np.abs(pan_stereo(mono, 1.0)[0]).max() < 1e-6


def test_the_landing_neither_breaks_off_nor_falls_silent(piece_tokens) -> None:
    timeline = line(10, bpm=104)
    audio = NoteCodec().decode(piece_tokens(timeline.num_steps), timeline, SoundSettings(key=0)).audio
    body = level_db(audio[:, 4 * RATE : 8 * RATE])
    tail = [level_db(audio[:, int(t * RATE) : int((t + 0.1) * RATE)]) for t in np.arange(9.4, 9.95, 0.1)]
    assert body - 25 < min(tail) and max(tail[-2:]) < body


def test_peaks_stay_within_full_scale(piece_tokens) -> None:
    timeline = line(4)
    loud = {name: {"gain_db": 20.0} for name in SOUNDING_VOICES}
    audio = NoteCodec().decode(piece_tokens(timeline.num_steps, level=7), timeline, settings(**loud)).audio
    assert 0.9 < np.abs(audio).max() <= 0.981
    plain = NoteCodec().decode(piece_tokens(timeline.num_steps, level=5), timeline).audio
    assert 0.1 < np.abs(plain).max() < 0.9


def test_voices_are_balanced_whatever_the_instruments(piece_tokens) -> None:
    """The melody stands out of every accompanying voice and none of them is lost, with three very unlike bands."""
    bands = (
        {},
        {"harmony": 89, "bass": 39, "figure": 14, "melody": 73, "counter": 49},
        {"harmony": 4, "bass": 33, "figure": 26, "melody": 65, "counter": 11},
    )
    timeline = line(8)
    tokens = piece_tokens(timeline.num_steps)
    for band in bands:
        voicing = settings(**{name: {"program": program} for name, program in band.items()})
        stems = NoteCodec().decode(tokens, timeline, voicing, keep_stems=True).stems
        loud = {name: float(np.median(momentary_lufs(stem, RATE))) for name, stem in stems.items()}
        others = {name: value for name, value in loud.items() if name != "melody"}
        assert max(others.values()) < loud["melody"] + 0.5, (band, loud)
        assert min(others.values()) > loud["melody"] - 16, (band, loud)


def test_the_balance_brings_programs_of_unlike_loudness_together(synth: Synth) -> None:
    balance, heard, raw = Balance(synth), [], []
    for program in (0, 46, 60, 73, 48, 81, 11):
        notes = [PlayedNote(0, 0.8, 69, 92)]
        raw.append(momentary_lufs(synth.play(notes, program, RATE), RATE).max())
        heard.append(raw[-1] + 20 * np.log10(balance.gain("melody", program)))
    assert np.ptp(raw) > 5 and np.ptp(heard) < 4


def test_a_recipe_makes_its_whole_mix_brighter_or_darker(piece_tokens) -> None:
    timeline = line(4)
    tokens = piece_tokens(timeline.num_steps)

    def highs_db(**sound: float) -> float:
        plain = {"key": "C", "reverb_s": 0.0, "humanise": 0.0}
        audio = NoteCodec().decode(tokens, timeline, SoundSettings.from_table({"sound": {**plain, **sound}})).audio
        power = (np.abs(np.fft.rfft(audio[0])) ** 2)[len(audio[0]) // 2 * 8000 // (RATE // 2) :]
        return float(10 * np.log10(power.sum()))

    plain = highs_db()
    assert highs_db(air_db=3) - plain == pytest.approx(3, abs=0.3)
    assert plain - highs_db(lowpass_hz=4000) > 10
    assert highs_db(lowpass_hz=0, air_db=0) == plain


def test_recordings_that_stand_off_zero_are_brought_back(piece_tokens) -> None:
    timeline = line(4)
    tokens = piece_tokens(timeline.num_steps, only=("melody",))
    audio = NoteCodec().decode(tokens, timeline, settings(melody={"program": 65})).audio
    assert np.abs(audio).max() > 0.05 and abs(audio[:, RATE // 2 :].mean()) < 1e-4


def test_filters_in_blocks_equal_the_recursion_they_stand_for() -> None:
    section = (0.2, 0.3, 0.1, 1.0, -0.7, 0.2)
    sound = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    wanted, x1, x2, y1, y2 = [], 0.0, 0.0, 0.0, 0.0
    for x in sound.astype(float):
        y = 0.2 * x + 0.3 * x1 + 0.1 * x2 + 0.7 * y1 - 0.2 * y2
        wanted.append(y)
        x1, x2, y1, y2 = x, x1, y, y1
    assert np.allclose(apply_sections(sound, [section], ring=60), wanted, atol=1e-5)


@pytest.mark.parametrize("reverb_s", [0.8, 2.4])
def test_the_room_decays_as_long_as_asked_darkens_and_is_wide(reverb_s: float) -> None:
    response = impulse_response(reverb_s, RATE).astype(np.float64)
    left = np.cumsum(response[0, ::-1] ** 2)[::-1]
    decay_db = 10 * np.log10(left / left[0] + 1e-15)
    measured = 2 * (np.argmax(decay_db < -35) - np.argmax(decay_db < -5)) / RATE
    assert measured == pytest.approx(reverb_s, rel=0.15)
    assert abs(np.corrcoef(response)[0, 1]) < 0.3

    def centroid(part: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(part)) ** 2
        return float((power * np.fft.rfftfreq(len(part), 1 / RATE)).sum() / power.sum())

    early, late = (response[0, int(t * reverb_s * RATE) :][: RATE // 5] for t in (0.1, 0.6))
    assert centroid(late) < 0.7 * centroid(early)
    click = np.zeros((2, 3 * RATE), np.float32)
    click[:, 0] = 1
    wet = reverberate(click, reverb_s, RATE)
    assert np.abs(wet[:, : int(0.005 * RATE)]).max() < 1e-4 < np.abs(wet).max()
    assert np.array_equal(wet, reverberate(click, reverb_s, RATE))


def test_long_cues_reverberate_across_block_borders(piece_tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = line(5)
    tokens = piece_tokens(timeline.num_steps)
    whole = NoteCodec().decode(tokens, timeline, SoundSettings(key=0)).audio
    monkeypatch.setattr("expotion_cli.music.codecs.notes.render._BLOCK_S", 1)
    assert np.allclose(NoteCodec().decode(tokens, timeline, SoundSettings(key=0)).audio, whole, atol=1e-5)


def test_a_cue_of_ten_seconds_with_all_voices_renders_quickly(piece_tokens) -> None:
    timeline = line(10, bpm=112)
    tokens = piece_tokens(timeline.num_steps, level=None)
    NoteCodec().decode(tokens, timeline)
    begun = time.process_time()
    NoteCodec().decode(tokens, timeline, seed=0)
    assert time.process_time() - begun < 1.5


def cue_with_a_hit(level: int, hit: bool = True) -> np.ndarray:
    """Eight seconds of soft strings, and one stroke of kick and crash in the middle."""
    events = {
        "dynamics": [Event(0, 192, level)],
        "harmony": [Event(48 * bar, 48 * bar + 48, chord_value(0, "maj"), 1) for bar in range(4)],
        "drums": [Event(96, 108, 1 | 16, 2)] if hit else [],
    }
    return events_to_tokens(events, 192)


@pytest.mark.parametrize("level", [0, 7])
def test_a_lone_stroke_stands_out_of_a_cue_but_does_not_tower_above_it(level: int) -> None:
    timeline = line(8)
    audio, alone = (NoteCodec().decode(cue_with_a_hit(level, hit), timeline, settings()).audio for hit in (True, False))
    stroke = slice(int(4.0 * RATE), int(4.05 * RATE))
    before = slice(int(3.8 * RATE), int(3.95 * RATE))
    assert level_db(audio[:, stroke]) > level_db(audio[:, before]) + 6
    assert 20 * np.log10(np.abs(audio).max()) < integrated_lufs(audio, RATE) + 15.5
    # All but the stroke and its decay sounds as it does without it.
    late = slice(int(7.0 * RATE), int(7.9 * RATE))
    assert np.allclose(audio[:, : int(3.9 * RATE)], alone[:, : int(3.9 * RATE)], atol=1e-6)
    assert level_db(audio[:, late]) == pytest.approx(level_db(alone[:, late]), abs=0.5)


def test_peaks_are_held_before_they_come_by_their_excess_and_nothing_else_is_touched() -> None:
    sound = np.full((2, RATE), 0.01, np.float32)
    sound[0, RATE // 2 : RATE // 2 + 40] = 1.0  # 20 dB above a threshold of -20 dBFS
    gain = peak_gain(sound, RATE, -20.0)
    assert gain.shape == (RATE,) and gain.max() == 1.0
    assert np.all(gain[: RATE // 2 - RATE // 50] == 1.0)
    at_peak = 20 * np.log10(gain[RATE // 2 : RATE // 2 + 40])
    assert np.allclose(at_peak, -15.0, atol=0.3), "a quarter of the excess stays"
    assert np.all(gain[RATE // 2 + RATE // 5 :] == 1.0) and np.all(np.diff(gain[RATE // 2 + RATE // 50 :]) >= 0)
    assert np.abs(np.diff(gain)).max() < 0.02, "no step that could click"


def test_peaks_below_the_threshold_and_very_short_sound_pass_unaltered() -> None:
    noise = 0.05 * np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    assert np.all(peak_gain(noise, RATE, 0.0) == 1.0)
    for length in (1, 63, 64, 65, 500):
        assert peak_gain(noise[:, :length], RATE, -60.0).shape == (length,)


def test_integrated_loudness_agrees_with_the_meter_used_for_results(piece_tokens) -> None:
    timeline = line(8)
    for level in (None, 3):
        audio = NoteCodec().decode(piece_tokens(timeline.num_steps, level=level), timeline, settings()).audio
        assert integrated_lufs(audio, RATE) == pytest.approx(measure(audio, RATE).integrated_lufs, abs=0.15)
    gap = np.concatenate([audio, np.zeros_like(audio)], axis=1)
    assert integrated_lufs(gap, RATE) == pytest.approx(integrated_lufs(audio, RATE), abs=0.5)
    assert integrated_lufs(np.zeros((2, RATE), np.float32), RATE) == -np.inf
