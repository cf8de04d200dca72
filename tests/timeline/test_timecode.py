"""Timecode of every usual rate, against frames counted by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from expotion_cli.timeline.timecode import Timebase, timebase_of, timeline_rate

FILM, NTSC, NTSC_60 = Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)
GOLDEN = [  # (rate, drop-frame, frame, timecode): 29.97 drops 2 numbers a minute but each tenth, 59.94 drops 4
    (FILM, False, 23, "00:00:00:23"),
    (FILM, False, 1440, "00:01:00:00"),
    (Fraction(25), False, 90_024, "01:00:00:24"),
    (NTSC, False, 1800, "00:01:00:00"),
    (NTSC, False, 108_000, "01:00:00:00"),
    (NTSC, True, 1799, "00:00:59;29"),
    (NTSC, True, 1800, "00:01:00;02"),
    (NTSC, True, 3597, "00:01:59;29"),
    (NTSC, True, 3598, "00:02:00;02"),
    (NTSC, True, 17_981, "00:09:59;29"),
    (NTSC, True, 17_982, "00:10:00;00"),
    (NTSC, True, 107_892, "01:00:00;00"),
    (Fraction(50), False, 3049, "00:01:00:49"),
    (NTSC_60, True, 3599, "00:00:59;59"),
    (NTSC_60, True, 3600, "00:01:00;04"),
    (NTSC_60, True, 35_964, "00:10:00;00"),
    (NTSC_60, True, 215_784, "01:00:00;00"),
    (Fraction(120), False, 119, "00:00:00:119"),
]


@pytest.mark.parametrize(("rate", "is_drop", "frame", "timecode"), GOLDEN)
def test_frames_and_timecode_are_those_counted_by_hand(rate, is_drop, frame, timecode):
    base = Timebase(rate, is_drop)
    assert base.timecode(frame) == timecode and base.frame_of(timecode) == frame


@pytest.mark.parametrize(("rate", "is_drop"), [(FILM, False), (NTSC, True), (NTSC, False), (NTSC_60, True)])
def test_every_frame_of_a_day_has_a_timecode_of_its_own(rate, is_drop):
    base = Timebase(rate, is_drop)
    day = base.number_of("23:59:59:" + str(base.nominal - 1)) + 1
    frames = [*range(40_000), *range(40_000, day, 997), day - 1]
    codes = [base.timecode(frame) for frame in frames]
    assert [base.frame_of(code) for code in codes] == frames and len(set(codes)) == len(codes)
    assert base.timecode(day) == base.timecode(0), "it begins again after 24 hours"


def test_drop_frame_timecode_keeps_up_with_the_clock():
    assert Timebase(NTSC, True).frame_at(3600) == Timebase(NTSC, True).frame_of("01:00:00;00")
    behind = Timebase(NTSC).frame_of("01:00:00:00") - Timebase(NTSC).frame_at(3600)
    assert behind == 108, "without it an hour of timecode is 3.6 s too long"


@pytest.mark.parametrize("bad", ["00:01:00;00", "00:01:00;01", "00:59:00;00"])
def test_numbers_that_drop_frame_leaves_out_are_refused(bad):
    with pytest.raises(ValueError, match="leaves out"):
        Timebase(NTSC, True).number_of(bad)
    assert Timebase(NTSC, True).number_of("00:10:00;00") == 17_982


@pytest.mark.parametrize("bad", ["", "1:2", "00:00:00:30", "00:61:00:00", "aa:00:00:00", "00:00:00:-1"])
def test_what_is_no_timecode_of_this_rate_is_refused(bad):
    with pytest.raises(ValueError):
        Timebase(NTSC).number_of(bad)


def test_a_clips_timecode_is_where_its_timeline_begins():
    base = timebase_of(NTSC, "10:00:00;00")
    assert base.is_drop and base.timecode(0) == "10:00:00;00" and base.timecode(1800) == "10:01:00;02"
    assert timebase_of(Fraction(25), "10:00:00;00").is_drop is False, "25 frames drop none"
    assert timebase_of(NTSC, "10:00:00:00").timecode(1800) == "10:01:00:00"
    assert timebase_of(Fraction(25), "rubbish").start == timebase_of(Fraction(25)).start == 0


@pytest.mark.parametrize("rate", [FILM, Fraction(25), NTSC, Fraction(50), NTSC_60, Fraction(15)])
def test_a_steady_rate_is_the_timelines_own(rate):
    assert timeline_rate(rate) == (rate, True)


@pytest.mark.parametrize(
    ("mean", "rate"), [("29.87", NTSC), ("24.31", Fraction(24)), ("59.2", NTSC_60), ("12.5", FILM)]
)
def test_a_varying_rate_is_edited_at_the_nearest_usual_one(mean, rate):
    assert timeline_rate(Fraction(mean)) == (rate, False)


@pytest.mark.parametrize("rate", [FILM, Fraction(25), NTSC, NTSC_60])
def test_times_and_frames_meet_to_the_frame(rate):
    base = Timebase(rate)
    assert [base.frame_at(base.time_of(frame)) for frame in range(5000)] == list(range(5000))
    assert [base.frame_at(round(float(base.time_of(frame)), 3)) for frame in range(5000)] == list(range(5000))
