"""Small faces in oblong frames: looked for in squares, followed in one, and told as in the whole frame."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from expotion_cli.vision.framing import Framing, corners

WIDE = (120, 240, 3)


class Finder:
    """Finds a white spot in frames that are not oblong, and nothing in others."""

    def __init__(self):
        self.shapes = []

    def __call__(self, rgb):
        self.shapes.append(rgb.shape[:2])
        places = np.argwhere(rgb[..., 0] == 255)
        if rgb.shape[0] != rgb.shape[1] or not len(places):
            return np.zeros((0, 4))
        (top, left), (bottom, right) = places.min(axis=0), places.max(axis=0) + 1
        return np.array([[left, top, right, bottom]], dtype=float)


def picture(x, y, shape=WIDE):
    rgb = np.zeros(shape, np.uint8)
    rgb[y - 5 : y + 5, x - 5 : x + 5] = 255
    return rgb


@pytest.mark.parametrize("shape", [(120, 240), (240, 120), (256, 340), (480, 640), (100, 400)])
def test_squares_cover_an_oblong_picture_and_overlap_by_half(shape):
    side, places = min(shape), corners(shape)
    along = [max(place) for place in places]
    assert all(min(place) == 0 for place in places) and along[0] == 0 and along[-1] + side == max(shape)
    assert all(0 < after - before <= side / 2 + 1 for before, after in itertools.pairwise(along))


def test_who_is_seen_in_the_whole_picture_is_not_looked_for_in_parts():
    finder = Finder()
    framing = Framing(finder)
    square = picture(60, 60, (120, 120, 3))
    assert framing.find(square).tolist() == [[55, 55, 65, 65]] and finder.shapes == [(120, 120)]
    assert framing.part(square, 0.0) is square


def test_a_small_face_is_found_in_a_square_and_the_square_goes_along_with_it():
    framing = Framing(Finder())
    assert framing.find(picture(200, 60)).tolist() == [[195, 55, 205, 65]], "in the whole picture's pixels, and once"
    assert framing.part(picture(200, 60), 0.0).shape == (120, 120, 3)
    framing.report(0.0, (80 / 120, 0.5), WIDE)
    for number, x in enumerate(range(200, 40, -10), 1):
        part = framing.part(picture(x, 60), number / 25)
        assert part.shape == (120, 120, 3) and (part == 255).any(), x
        left = np.argwhere(part[..., 0] == 255)[:, 1].mean() + 0.5
        framing.report(number / 25, (left / 120, 0.5), WIDE)


def test_who_is_lost_in_the_square_is_looked_for_everywhere_again():
    framing = Framing(Finder())
    framing.find(picture(200, 60))
    shapes = [framing.part(picture(200, 60), number / 25).shape[1] for number in range(15)]
    assert shapes == [120] * 11 + [240] * 4


@pytest.mark.parametrize("shape", [(100, 110, 3), (10, 1600, 3), (1, 1, 3)])
def test_nearly_square_and_very_thin_pictures_are_looked_at_once(shape):
    finder = Finder()
    Framing(finder).find(np.full(shape, 9, np.uint8))
    assert finder.shapes == [shape[:2]]


def test_an_empty_picture_has_nobody():
    framing = Framing(Finder())
    empty = np.zeros(WIDE, np.uint8)
    assert framing.find(empty).shape == (0, 4) and framing.part(empty, 0.0) is empty


@pytest.mark.parametrize("shape", [(120, 240, 3), (240, 120, 3)])
def test_a_head_has_the_same_place_in_the_whole_picture(shape):
    height, width = shape[:2]
    half_field = math.tan(math.radians(31.5))

    def place_on_screen(matrix, size):
        """Pixels right and down of the picture's middle, and pixels that a centimetre takes there."""
        scale = size / (2 * half_field * -matrix[2, 3])
        return np.array([matrix[0, 3] * scale, -matrix[1, 3] * scale, scale])

    framing = Framing(Finder())
    x, y = width - 30, height - 25
    framing.find(picture(x, y, shape))
    part = framing.part(picture(x, y, shape), 0.0)
    corner = np.array([width, height]) - 120
    matrix = np.eye(4)
    matrix[:3, 3] = (4.0, -6.0, -40.0)
    whole = framing.in_whole(matrix, shape)
    assert part.shape[:2] == (120, 120) and np.array_equal(whole[:3, :3], np.eye(3))
    seen, told = place_on_screen(matrix, 120), place_on_screen(whole, height)
    assert told[2] == pytest.approx(seen[2])
    assert told[:2] + np.array([width / 2, height / 2]) == pytest.approx(seen[:2] + 60 + corner)
    assert np.array_equal(matrix[:3, 3], (4.0, -6.0, -40.0)), "its own matrix stays"


@pytest.mark.slow
def test_a_speaker_far_from_the_camera_has_a_face_where_the_body_has_its_head(real_clips, seen_in):
    clips = [path for path in real_clips if path.stem == "talking-head"]
    if not clips:
        pytest.skip("talking-head.mp4 is not among the real clips")
    streams = seen_in(clips[0])
    face, pose = streams["face"], streams["pose"]
    assert face.coverage >= 0.9
    both = face.mask & pose.mask
    across = face.dim("head_x") / (2 * math.tan(math.radians(31.5)) * -face.dim("head_z"))
    nose = pose.dim("torso_x") + pose.dim("nose_x") * pose.dim("torso_size")
    assert np.abs(across - nose)[both].max() < 0.08, "picture heights"
