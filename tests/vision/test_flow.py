import numpy as np
import pytest

from expotion_cli.vision import flow, motion
from expotion_cli.vision.lucas_kanade import lucas_kanade
from expotion_cli.vision.streams import encode_clip


def tempo_of(accent: np.ndarray, rate_hz: float = 25.0) -> float:
    """Beats a minute by autocorrelation, between 80 and 180."""
    centred = accent - accent.mean()
    lags = np.arange(round(rate_hz * 60 / 180), round(rate_hz * 60 / 80) + 1)
    strength = [np.dot(centred[:-lag], centred[lag:]) / (len(centred) - lag) for lag in lags]
    best = int(np.argmax(strength))
    low, here, high = (strength[min(max(best + d, 0), len(lags) - 1)] for d in (-1, 0, 1))
    offset = 0.5 * (low - high) / (low - 2 * here + high) if low - 2 * here + high < 0 else 0.0
    return 60 * rate_hz / (lags[best] + offset)


@pytest.mark.parametrize(("tempo_bpm", "fps"), [(90, 25), (120, 30)])
def test_motion_on_a_beat_has_that_beat_in_its_accents(moving_patch, tempo_bpm, fps):
    stream = encode_clip(moving_patch(160, tempo_bpm, 4.0, fps=fps), ["flow"])["flow"]
    assert tempo_of(stream.dim("accent")) == pytest.approx(tempo_bpm, rel=0.04)
    on_beat = [stream.dim("accent")[round(i * 60 / tempo_bpm * 25)] for i in range(1, 5)]
    assert min(on_beat) > 3 * np.median(stream.dim("accent"))


def test_a_static_picture_has_no_energy(make_clip, moving_patch):
    still = moving_patch(160, 90, 0.04)
    grey = make_clip(lambda _: np.full((240, 320, 3), 90, np.uint8), 1.0, name="grey.mp4")
    stream = encode_clip(grey, ["flow"])["flow"]
    assert stream.dim("energy").max() == 0 and stream.dim("accent").max() == 0
    assert stream.mask.all() and (stream.dim("presence") == 1).all()
    assert encode_clip(still, ["flow"])["flow"].values.shape == (1, len(stream.dims))


@pytest.mark.parametrize(
    ("centre_x", "more", "less"), [(70, "energy_left", "energy_right"), (250, "energy_right", "energy_left")]
)
def test_motion_lands_on_its_side(moving_patch, centre_x, more, less):
    stream = encode_clip(moving_patch(centre_x, 120, 2.0), ["flow"])["flow"]
    assert stream.dim(more).mean() > 10 * stream.dim(less).mean()
    cells = [name for name in stream.dims if name.startswith("cell_")]
    busiest = max(cells, key=lambda name: stream.dim(name).mean())
    assert int(busiest[-1]) in ((0, 1) if centre_x == 70 else (2, 3))


def test_a_camera_pan_is_removed_and_told(moving_patch):
    steady = encode_clip(moving_patch(160, 120, 2.0), ["flow"])["flow"]
    panned = encode_clip(moving_patch(160, 120, 2.0, pan_px_s=48, name="pan.mp4"), ["flow"])["flow"]
    assert panned.dim("camera_x").mean() == pytest.approx(-48 / 240, rel=0.1)
    # the patch keeps its place while the picture moves, so it now moves against the background as fast as the camera
    background = [f"cell_{row}_{column}" for row in range(3) for column in (0, 3)]
    assert np.mean([panned.dim(name).mean() for name in background]) < 0.2 * 48 / 240
    assert abs(steady.dim("camera_x")).max() < 0.02


def shifted_pair(right, down):
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.random((20, 24)), np.ones((8, 8)))
    for _ in range(4):
        coarse = (coarse + sum(np.roll(coarse, step, axis) for step in (-1, 1) for axis in (0, 1))) / 5
    picture = (coarse * 255).astype(np.uint8)
    return picture[20:140, 16:176], picture[20 - down : 140 - down, 16 - right : 176 - right]


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, -3), (5, 4)])
def test_flow_without_opencv_measures_known_shifts(right, down):
    found = np.median(lucas_kanade(*shifted_pair(right, down)).reshape(-1, 2), axis=0)
    assert found == pytest.approx([right, down], abs=0.3)


def test_flow_goes_on_without_opencv_under_another_identity(moving_patch, monkeypatch):
    clip = moving_patch(70, 120, 1.0)
    with_opencv = encode_clip(clip, ["flow"])["flow"]
    for module in (motion, flow):
        monkeypatch.setattr(module, "flow_method", lambda: "lucas-kanade")
    without = encode_clip(clip, ["flow"])["flow"]
    assert without.digest != with_opencv.digest
    assert without.dim("energy_left").mean() > 5 * without.dim("energy_right").mean()
    assert np.corrcoef(without.dim("energy"), with_opencv.dim("energy"))[0, 1] > 0.8
