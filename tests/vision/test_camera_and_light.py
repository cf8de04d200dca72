"""What is no gesture to the flow: the camera's own motion, light, noise and cuts."""

from __future__ import annotations

import numpy as np
import pytest

from expotion_cli.vision.streams import encode_clip

HEIGHT, WIDTH = 240, 320


def scene(seed: int = 3, height: int = 480, width: int = 640) -> np.ndarray:
    """Smooth random patches, larger than the picture."""
    coarse = np.random.default_rng(seed).integers(40, 216, (height // 16, width // 16, 1))
    fine = np.kron(coarse, np.ones((16, 16, 3)))
    for _ in range(3):
        fine = sum(np.roll(fine, step, axis) for step in (-3, 3) for axis in (0, 1)) / 4
    return fine


def camera(wall: np.ndarray, right=0.0, down=0.0, zoom=1.0, roll=0.0) -> np.ndarray:
    """What a camera sees that is moved, zoomed and turned about the picture's middle; bilinear."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    y, x = (y - HEIGHT / 2) / zoom, (x - WIDTH / 2) / zoom
    y, x = np.cos(roll) * y + np.sin(roll) * x, np.cos(roll) * x - np.sin(roll) * y
    y, x = y + wall.shape[0] / 2 + down, x + wall.shape[1] / 2 + right
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    low, left = (y - row)[..., None], (x - column)[..., None]
    upper = wall[row, column] * (1 - left) + wall[row, column + 1] * left
    lower = wall[row + 1, column] * (1 - left) + wall[row + 1, column + 1] * left
    return (upper * (1 - low) + lower * low).astype(np.uint8)


def with_person(picture: np.ndarray, right: float = 0.0, size: int = 100) -> np.ndarray:
    """A patch of its own texture in the middle."""
    shown = picture.copy()
    left, top = round(WIDTH / 2 - size / 2 + right), (HEIGHT - size) // 2
    shown[top : top + size, left : left + size] = scene(seed=9)[:size, :size].astype(np.uint8)
    return shown


def energy(make_clip, picture, seconds: float = 1.2, name: str = "clip.mp4") -> np.ndarray:
    return encode_clip(make_clip(picture, seconds, name=name), ["flow"])["flow"].dim("energy")


MOVES = {
    "pan": lambda t: {"right": 60 * t},
    "tilt": lambda t: {"down": 40 * t},
    "shake": lambda t: {"right": 5 * np.sin(10 * np.pi * t), "down": 4 * np.cos(11 * np.pi * t)},
    "zoom": lambda t: {"zoom": 1 + 0.15 * t},
    "roll": lambda t: {"roll": 0.12 * t},
}


@pytest.mark.long
@pytest.mark.parametrize("move", sorted(MOVES))
def test_the_cameras_own_motion_is_near_nothing_beside_a_gesture_of_that_size(make_clip, move):
    wall = scene()
    own = energy(make_clip, lambda t: camera(wall, **MOVES[move](t)))
    gesture = energy(make_clip, lambda t: with_person(camera(wall), 40 * np.sin(6 * t)), name="gesture.mp4")
    assert own.mean() < 0.03 * gesture.mean()


def test_a_pan_with_somebody_in_the_middle_who_moves_along_leaves_them_alone_moving(make_clip):
    """They keep their place in the picture, so against the room they move; the room must not."""
    wall = scene()
    stream = encode_clip(make_clip(lambda t: with_person(camera(wall, right=50 * t)), 1.2), ["flow"])["flow"]
    border = [f"cell_{row}_{column}" for row in range(3) for column in (0, 3)]
    assert np.mean([stream.dim(name).mean() for name in border]) < 0.1 * 50 / HEIGHT
    assert stream.dim("camera_x").mean() == pytest.approx(-50 / HEIGHT, rel=0.15)


def test_somebody_who_fills_most_of_the_picture_is_not_taken_for_the_camera(make_clip):
    wall = scene()
    moved = energy(make_clip, lambda t: with_person(camera(wall), 12 * np.sin(2 * np.pi * t), size=200))
    assert moved.mean() > 0.03


def test_light_that_comes_and_goes_is_no_motion(make_clip):
    wall = scene()
    flicker = energy(make_clip, lambda t: (camera(wall) * (0.75 + 0.25 * np.sin(8 * t))).astype(np.uint8))
    assert flicker.max() < 0.01


def test_a_coded_still_picture_with_noise_has_no_energy(make_clip):
    wall = scene()
    rng = np.random.default_rng(0)
    noisy = energy(
        make_clip, lambda _: np.clip(camera(wall) + rng.normal(0, 4, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    )
    assert noisy.max() < 0.005


@pytest.mark.long
def test_a_cut_is_no_gesture_and_motion_goes_on_after_it(make_clip):
    first, second = scene(3), scene(4)
    own = energy(
        make_clip, lambda t: with_person(camera(first if t < 0.6 else second), 30 * np.sin(6 * t)), name="a.mp4"
    )
    whole = energy(make_clip, lambda t: with_person(camera(first), 30 * np.sin(6 * t)), name="b.mp4")
    assert own.max() < 1.3 * whole.max()
    assert own[20:].mean() > 0.5 * whole[20:].mean()
