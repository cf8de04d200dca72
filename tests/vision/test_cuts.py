"""Cuts are found where shots change, and nowhere else."""

from __future__ import annotations

import made_shots as made
import numpy as np
import pytest

from expotion_cli.media.decode import iter_frames
from expotion_cli.media.frames import Frame
from expotion_cli.spotting.cuts import Cut, find_cuts
from expotion_cli.vision import cuts
from expotion_cli.vision.streams import encode_clip

FPS = 25


def found(frames: made.Frames, fps: float = FPS) -> list[tuple[str, float]]:
    """(kind, number of the frame) of all changes."""
    changes = cuts.find_changes([Frame(i / fps, made.small(frame)) for i, frame in enumerate(frames)])
    return [("hard" if change.is_hard else "dissolve", change.time_s * fps) for change in changes]


SHOTS = {
    "still": lambda: made.still(0, 40),
    "another still": lambda: made.still(1, 40),
    "pan": lambda: made.pan(3, [8] * 40),
    "zoom": lambda: made.zoom(4, 40, 1.5),
    "person": lambda: made.person("plain", 40),
    "mirrored": lambda: made.person("mirrored", 40),
    "near": lambda: made.person("near", 40),
    "blue": lambda: made.person("blue", 40),
    "noisy": lambda: made.noisy([made.picture(7)] * 40, 20),
    "passer-by": lambda: made.passer_by(8, 40, 20),
}
PAIRS = [(one, other) for i, one in enumerate(SHOTS) for j, other in enumerate(SHOTS) if i != j and (i + j) % 3 == 0]


@pytest.mark.parametrize(("before", "after"), PAIRS, ids="-".join)
def test_a_hard_cut_is_found_on_its_frame(before, after):
    assert found(SHOTS[before]()[:30] + SHOTS[after]()[5:35]) == [("hard", pytest.approx(30))]


NO_CUTS = {
    **SHOTS,
    "whip-fast pan": lambda: made.pan(0, [0] * 15 + [150] * 8 + [0] * 15),
    "pan faster than a frame is wide": lambda: made.pan(1, [0] * 15 + [300] * 8 + [0] * 15),
    "pan that starts and stops gently": lambda: made.pan(2, [0] * 15 + [20, 50, 100, 100, 50, 20] + [0] * 15),
    "fast zoom": lambda: made.zoom(0, 15, 3) + [made.zoom(0, 15, 3)[-1]] * 12,
    "flash of one frame": lambda: made.flash(made.still(0, 30), 14, 1),
    "flash of three frames": lambda: made.flash(made.still(1, 30), 14, 3, 5, 250),
    "flash in a pan": lambda: made.flash(made.pan(2, [12] * 30), 14, 2),
    "flash that dies away": lambda: made.light(made.still(1, 40), lambda i: 1 + 3 * 0.6 ** (i - 15) if i >= 15 else 1),
    "somebody who fills the frame": lambda: made.passer_by(0, 60, 10, 320),
    "somebody who runs past": lambda: made.passer_by(1, 60, 4, 200),
    "lamp switched off": lambda: made.light(made.still(2, 40), lambda i: 1 if i < 20 else 0.5),
    "exposure that changes": lambda: made.light(made.still(0, 60), lambda i: 1 - 0.7 * np.clip((i - 20) / 20, 0, 1)),
    "strong noise": lambda: made.noisy([made.picture(1)] * 40, 60),
    "flicker": lambda: made.light(made.still(2, 40), lambda i: (1, 0.6)[i % 2]),
    "stroboscope": lambda: [f if i % 4 < 2 else made.black(1)[0] for i, f in enumerate(made.still(0, 40))],
    "lost frames": lambda: made.still(0, 14) + made.black(2) + made.still(0, 14),
    "black for a while": lambda: made.still(1, 20) + made.black(25) + made.still(1, 20),
    "fade in": lambda: made.light(made.still(2, 40), lambda i: min(1, i / 20)),
    "fade out": lambda: made.light(made.still(2, 40), lambda i: max(0, 1 - i / 30)),
    "all black": lambda: made.black(40),
    "nothing but noise": lambda: [
        np.random.default_rng(i).integers(0, 256, (240, 320, 3), dtype=np.uint8) for i in range(40)
    ],
    "one frame": lambda: made.still(0, 1),
    "two frames": lambda: made.still(0, 1) + made.still(1, 1),
}


@pytest.mark.parametrize("name", NO_CUTS)
def test_no_cut_is_invented(name):
    assert found(NO_CUTS[name]()) == []


@pytest.mark.parametrize("length", [6, 12, 25])
@pytest.mark.parametrize(("before", "after"), [("still", "person"), ("person", "mirrored"), ("near", "noisy")])
def test_a_dissolve_is_found_near_its_middle(before, after, length):
    one = SHOTS[before]()
    middle = len(one) - length + (length - 1) / 2
    assert found(made.dissolve(one, SHOTS[after](), length)) == [("dissolve", pytest.approx(middle, abs=0.3 * FPS))]


@pytest.mark.parametrize(("before", "after"), [("still", "person"), ("pan", "near"), ("mirrored", "another still")])
def test_a_fade_through_black_is_found_near_its_middle(before, after):
    out = made.light(SHOTS[before](), lambda i: min(1, max(0, (39 - i) / 12)))
    into = made.light(SHOTS[after](), lambda i: min(1, i / 12))
    assert found(out + made.black(4) + into) == [("dissolve", pytest.approx(41.5, abs=0.3 * FPS))]


def test_a_cut_through_black_or_white_frames_counts_once_at_the_new_shot():
    one, other = made.still(0, 30), made.person("plain", 30)
    assert found(one + made.black(20) + other) == [("hard", pytest.approx(50))]
    assert found(one + [np.full_like(one[0], 255)] * 2 + other) == [("hard", pytest.approx(32))]


def test_short_shots_are_all_found():
    lengths = (20, 8, 5, 12, 4, 6, 9, 15)
    frames = [frame for seed, length in enumerate(lengths) for frame in made.still(seed, length)]
    assert [round(number) for _, number in found(frames)] == np.cumsum(lengths)[:-1].tolist()


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_times_are_right_to_the_frame_at_any_rate_and_survive_the_cache(make_clip, cache, fps):
    """Rows stand at 25 a second, and at 60 frames a second the other encoders see every second frame."""
    first = round(0.7 * fps) + 1
    views = made.picture(0), made.picture(1)
    path = make_clip(lambda time_s: views[round(time_s * fps) >= first], 1.5, fps=fps)
    [time_s] = [frame.time_s for number, frame in enumerate(iter_frames(path)) if number == first]
    for _ in range(2):
        [cut] = find_cuts(encode_clip(path, ["cuts"], cache=cache))
        assert cut.kind == "hard" and cut.strength > 0.5
        assert cut.time_s == pytest.approx(time_s, abs=1e-5)


def test_cuts_are_kept_with_the_other_streams_and_not_decoded_again(make_clip, cache, monkeypatch):
    views = made.picture(0), made.picture(1)
    path = make_clip(lambda time_s: views[time_s >= 0.6], 1.2)
    assert list(encode_clip(path, ["flow"], cache=cache)) == ["flow"]
    monkeypatch.setattr("expotion_cli.vision.streams._encode", lambda *_: pytest.fail("decoded again"))
    assert find_cuts(encode_clip(path, ["flow", "cuts"], cache=cache)) == (Cut(0.6, "hard", pytest.approx(1, abs=0.3)),)
    assert find_cuts({}) == ()


def test_rows_hold_the_changes_they_were_made_of():
    changes = (cuts.Change(0.0, True, 0.5), cuts.Change(1.23456, False, 0.75), cuts.Change(3599.983333, True, 1.0))
    again = cuts.from_rows(cuts.to_rows(changes, 90_000, 25.0), 25.0)
    assert [(c.is_hard, c.strength) for c in again] == [(c.is_hard, c.strength) for c in changes]
    assert [c.time_s for c in again] == pytest.approx([c.time_s for c in changes], abs=1e-5)


@pytest.mark.parametrize("size", [(16, 64), (64, 16), (36, 64), (17, 23)])
def test_frames_of_any_shape_are_compared(size):
    frames = [np.ascontiguousarray(made.picture(seed, *size)) for seed in (0, 1) for _ in range(20)]
    changes = cuts.find_changes([Frame(i / FPS, frame) for i, frame in enumerate(frames)])
    assert [(c.is_hard, round(c.time_s * FPS)) for c in changes] == [(True, 20)]


def test_frames_whose_size_changes_are_compared():
    frames = [np.ascontiguousarray(made.small(made.picture(0))) for _ in range(20)]
    frames += [np.ascontiguousarray(made.small(made.picture(1))[:36]) for _ in range(20)]
    changes = cuts.find_changes([Frame(i / FPS, frame) for i, frame in enumerate(frames)])
    assert [(c.is_hard, round(c.time_s * FPS)) for c in changes] == [(True, 20)]


REAL = ("clip-04", "clip-20", "clip-418", "clip-46", "clip-54", "clip-79", "tennis", "talking-head")


@pytest.mark.parametrize("name", REAL)
def test_no_cut_is_invented_in_real_clips_of_one_shot(real_clip, name):
    assert find_cuts(encode_clip(real_clip(f"{name}.mp4"), ["cuts"])) == ()


@pytest.mark.long
def test_cuts_between_real_clips_are_found_and_nothing_else(real_clip):
    view = cuts.CutEncoder.view
    shots = [
        [frame.pixels for frame in iter_frames(real_clip(f"{name}.mp4"), max_side=view.max_side)][start:][:60]
        for name, start in zip(REAL[:7], (0, 40, 80, 30, 120, 60, 100), strict=True)
    ]
    frames = [Frame(i / 30, pixels) for i, pixels in enumerate(pixels for shot in shots for pixels in shot)]
    changes = cuts.find_changes(frames)
    assert [(c.is_hard, round(c.time_s * 30)) for c in changes] == [(True, 60 * i) for i in range(1, 7)]
