"""The main person is kept to while others come, pass and go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from expotion_cli import demo
from expotion_cli.demo import DEMO_CLIPS, Bend, write_demo_clips
from expotion_cli.vision import signals
from expotion_cli.vision.main_person import GREY, MainPerson
from expotion_cli.vision.streams import encode_clip

MAIN = np.array([280.0, 120, 380, 240])


def passer_by(time_s: float) -> np.ndarray:
    """[4] somebody smaller who walks from left to right in four seconds, through the main person's place."""
    left = -60 + 175 * time_s
    return np.array([left, 140, left + 60, 210])


def watch(people: Callable[[float], list[np.ndarray]], times: np.ndarray) -> list[np.ndarray]:
    """The frames with the others painted out; what people there are is told by the time alone."""
    now = [0.0]
    others = MainPerson(lambda _: np.array(people(now[0])).reshape(-1, 4), 0.2)
    picture = np.random.default_rng(0).integers(0, 100, (480, 640, 3), dtype=np.uint8)
    painted = []
    for time_s in times:
        now[0] = float(time_s)
        painted.append(others.mask_others(picture, float(time_s)))
    return painted


def grey_share(picture: np.ndarray, box: np.ndarray) -> float:
    left, top, right, bottom = np.clip(np.rint(box), 0, [640, 480, 640, 480]).astype(int)
    part = picture[top:bottom, left:right]
    return float((part == GREY).all(axis=-1).mean()) if part.size else 0.0


def test_alone_nothing_is_painted_over():
    painted = watch(lambda _: [MAIN], np.arange(20) / 25)
    assert all(frame is painted[0] for frame in painted)


def test_who_passes_is_painted_out_and_the_main_person_is_not():
    times = np.arange(0, 4, 0.04)
    painted, checked = watch(lambda t: [MAIN, passer_by(t)], times), 0
    for time_s, picture in zip(times, painted, strict=True):
        box = passer_by(time_s)
        apart = box[2] < MAIN[0] - 20 or box[0] > MAIN[2] + 20
        if time_s > 0.8 and apart and 0 < box[0] and box[2] < 640:
            assert grey_share(picture, box) > 0.8, time_s
            assert grey_share(picture, MAIN) == 0, time_s
            checked += 1
    assert checked > 30, "they are apart most of the time"


def test_the_main_person_keeps_the_part_while_hidden_and_loses_it_when_gone():
    small = np.array([500.0, 150, 560, 220])

    def people(time_s: float) -> list[np.ndarray]:
        there = time_s < 2 or 2.8 < time_s < 4
        return [MAIN, small] if there else [small]

    times = np.arange(0, 8, 0.1)
    shares = np.array([grey_share(frame, small) for frame in watch(people, times)])
    assert (shares[(times > 0.5) & (times < 4)] > 0.9).all(), "also while the main person is hidden"
    assert (shares[times > 7] == 0).all(), "gone for good: the other one is followed"


def test_a_find_that_nobody_could_have_moved_to_begins_a_new_span():
    times = np.arange(40) / 25
    places = np.where(times[:, None] < 0.8, [0.0, 0.0], [0.5, 0.0])
    found, size = np.ones(40, dtype=bool), np.full(40, 0.1)
    jumps = signals.jumps(times, found, places, size, speed=10)
    assert np.flatnonzero(jumps).tolist() == [20]
    rows = signals.split_at_jumps(signals.rows_from_pictures(times, found, places, 40, 25.0), times, jumps, 25.0)
    assert rows.spans == ((0, 20), (20, 40))
    assert np.abs(signals.speeds(rows.values, rows.spans, 25.0)).max() == 0
    slow = np.stack([0.02 * np.arange(40), np.zeros(40)], axis=1)
    assert not signals.jumps(times, found, slow, size, speed=10).any()


@pytest.fixture(scope="module")
def crossing(tmp_path_factory):
    """Two clips: somebody who keeps still, and the same while a smaller head passes before them."""
    still = dataclasses.replace(DEMO_CLIPS[2], duration_s=3.0, has_sound=False, bend=lambda _: Bend())
    real, folder = demo._render, tmp_path_factory.mktemp("crossing")
    (alone,) = write_demo_clips(folder, (dataclasses.replace(still, name="alone"),))
    count = [0]

    def with_passer_by(bend, layers):
        picture = real(bend, layers).copy()
        time_s = count[0] / still.fps
        count[0] += 1
        head = real(Bend(), layers)[40:240, 220:420][::2, ::2]  # half as large
        left = round(-110 + 280 * time_s)
        low, high = max(left, 0), min(left + 100, picture.shape[1])
        if high > low:
            picture[60:160, low:high] = head[:, low - left : high - left]
        return picture

    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "_render", with_passer_by)
    (passed,) = write_demo_clips(folder, (dataclasses.replace(still, name="passed"),))
    patch.undo()
    return alone.path, passed.path


def test_a_second_face_that_passes_before_the_main_one_does_not_take_the_track(crossing):
    alone, passed = (encode_clip(path, ["face"])["face"] for path in crossing)
    where = np.median(alone.dim("head_x"))
    seen = passed.mask
    assert alone.mask.all() and seen.mean() > 0.6
    assert np.abs(passed.dim("head_x")[seen] - where).max() < 6, "centimetres: a third of a face"
    assert passed.mask[-5:].all() and abs(passed.dim("head_x")[-1] - where) < 2


@pytest.fixture(scope="module")
def at_90_bpm(tmp_path_factory):
    """Eight seconds of somebody who sways and nods at 90 beats a minute."""
    sway = demo._on_beats(90, 0.5, lambda _: Bend(22, 10, 8))
    clip = dataclasses.replace(
        DEMO_CLIPS[0], name="ninety", duration_s=8.0, tempo_bpm=90.0, bend=sway, has_sound=False,
        accent_times_s=demo._beats(90, 0.5, 8.0),
    )  # fmt: skip
    return write_demo_clips(tmp_path_factory.mktemp("ninety"), (clip,))[0]


@pytest.mark.long
@pytest.mark.parametrize(("name", "dim"), [("face", "head_accent"), ("pose", "accent"), ("flow", "accent")])
def test_a_portrait_that_sways_at_90_bpm_has_accents_at_90_bpm(at_90_bpm, seen_in, name, dim):
    curve = seen_in(at_90_bpm.path)[name].dim(dim)
    beats = np.array(at_90_bpm.accent_times_s)
    near = [slice(max(0, round(25 * beat) - 5), round(25 * beat) + 6) for beat in beats]
    peaks = np.array([(part.start + np.argmax(curve[part])) / 25 for part in near])
    slope = np.polyfit(np.arange(len(beats)), peaks, 1)[0]
    assert 60 / slope == pytest.approx(90, rel=0.02)
    assert np.abs(peaks - beats).max() <= 0.12
    outside = np.ones(len(curve), dtype=bool)
    for part in near:
        outside[part] = False
    assert np.median([curve[part].max() for part in near]) > 3 * np.median(curve[outside])


@pytest.mark.long
@pytest.mark.parametrize(("name", "dim"), [("face", "head_accent"), ("pose", "accent"), ("flow", "accent")])
def test_who_does_not_know_the_beats_finds_their_tempo_in_the_accents(at_90_bpm, seen_in, name, dim):
    assert tempo_of(seen_in(at_90_bpm.path)[name].dim(dim)) == pytest.approx(90, rel=0.02)


def tempo_of(curve: np.ndarray, rate_hz: float = 25.0) -> float:
    """Beats a minute by autocorrelation, between 60 and 180."""
    centred = curve - curve.mean()
    lags = np.arange(round(rate_hz * 60 / 180), round(rate_hz * 60 / 60) + 1)
    strength = [np.dot(centred[:-lag], centred[lag:]) / (len(centred) - lag) for lag in lags]
    best = min(max(int(np.argmax(strength)), 1), len(lags) - 2)
    low, here, high = strength[best - 1 : best + 2]
    return 60 * rate_hz / (lags[best] + 0.5 * (low - high) / (low - 2 * here + high))
