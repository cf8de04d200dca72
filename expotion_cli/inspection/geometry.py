"""Where in the picture the encoders found somebody: the face's box, the joints of the upper body."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from expotion_cli.vision.encoder import EmbeddingStream

FIELD_OF_VIEW = math.radians(63)
"""Of the camera that MediaPipe's head matrix assumes, from the picture's upper to its lower edge."""
FACE_CM = (15.5, 17.5)
"""Width and height of the face model that the head matrix places."""
SURE = 0.5
LIMBS = (
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_hip", "right_hip"),
)


def face_boxes(stream: EmbeddingStream, aspect: float) -> np.ndarray | None:
    """The face's box, projected from the head's place in space.

    Args:
        stream: the `face` stream.
        aspect: picture width / height.

    Returns:
        [T, 4] left, top, right, bottom in shares of the picture's width and height, 0 at its left and upper edges; NaN
        where no face was seen. None if the stream doesn't tell the head's place.
    """
    if any(name not in stream.dims for name in ("head_x", "head_y", "head_z")):
        return None
    x, y, z = (stream.dim(name).astype(np.float64) for name in ("head_x", "head_y", "head_z"))
    depth = np.maximum(-z, 1.0)
    per_cm = 1 / (2 * depth * math.tan(FIELD_OF_VIEW / 2))  # picture heights
    middle_x, middle_y = 0.5 + x * per_cm / aspect, 0.5 - y * per_cm
    half_x, half_y = FACE_CM[0] / 2 * per_cm / aspect, FACE_CM[1] / 2 * per_cm
    boxes = np.stack([middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y], axis=1)
    boxes[~(stream.mask & np.isfinite(boxes).all(axis=1))] = np.nan
    return boxes


def joints(stream: EmbeddingStream, row: int, aspect: float) -> dict[str, tuple[float, float]]:
    """Positions of the clearly visible joints at a row of the `pose` stream: (x, y) in shares of the picture.

    Empty where no body was seen, or if the stream doesn't tell.
    """
    needed = ("torso_x", "torso_y", "torso_size")
    if not stream.mask[row] or any(name not in stream.dims for name in needed):
        return {}
    value = dict(zip(stream.dims, stream.values[row].astype(float), strict=True))
    found = {}
    for name in dict.fromkeys(["nose", *(joint for limb in LIMBS for joint in limb)]):
        if value.get(f"{name}_seen", 0.0) < SURE or f"{name}_x" not in value or f"{name}_y" not in value:
            continue
        right = value["torso_x"] + value[f"{name}_x"] * value["torso_size"]
        up = value["torso_y"] + value[f"{name}_y"] * value["torso_size"]
        found[name] = (0.5 + right / aspect, 0.5 - up)
    return found
