"""The `face` encoder: expression and head motion from MediaPipe's Face Landmarker.

Angles and positions come from the head matrix (camera's frame: x right in the picture, y up, z towards the camera).
The main person's face is meant (`main_person`); in oblong frames small faces are looked for in squares (`framing`).
Gaps up to 0.4 s are interpolated, longer ones hold the last values with all speeds zero; the mask is False in both.
Where no face is ever seen all values are zero.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.vision import landmarks, signals
from expotion_cli.vision.encoder import RATE_HZ, Dim
from expotion_cli.vision.worker import FACE_COLUMNS, NUM_BLENDSHAPES

FACE_SIZE_CM = 16.0
"""Height of the face model that the head matrix places, brow to chin and a little more."""
MAX_SPEED = 20.0
"""Face sizes a second: a face that moves faster is another one."""

# In the order of the task file's blendshape model.
BLENDSHAPES = tuple(
    """neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight
    jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight
    mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft
    mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight""".split()
)

DIMS: tuple[Dim, ...] = (
    *(Dim(f"blend_{name}", "0..1", f"blendshape {name}: how far that part of the face moved") for name in BLENDSHAPES),
    Dim("head_yaw", "rad", "the face turned towards the picture's right is positive"),
    Dim("head_pitch", "rad", "the face turned up is positive"),
    Dim("head_roll", "rad", "the head tilted counter-clockwise as seen in the picture is positive"),
    Dim("head_x", "cm", "the head's place right of the picture's centre, if heads are of one size"),
    Dim("head_y", "cm", "the head's place above the picture's centre"),
    Dim("head_z", "cm", "the head's place towards the camera (negative: in front of it)"),
    Dim("head_yaw_speed", "rad/s", "change of head_yaw"),
    Dim("head_pitch_speed", "rad/s", "change of head_pitch"),
    Dim("head_roll_speed", "rad/s", "change of head_roll"),
    Dim("head_x_speed", "cm/s", "change of head_x"),
    Dim("head_y_speed", "cm/s", "change of head_y"),
    Dim("head_z_speed", "cm/s", "change of head_z"),
    Dim("valence", "-1..1", "smile minus half of frown and lowered brows"),
    Dim("arousal", "0..1", "brows up, eyes wide, jaw open"),
    Dim("expression_speed", "1/s", "mean absolute change of the blendshapes"),
    Dim("head_speed", "rad/s + face sizes/s", "how fast the head turns and moves across the picture"),
    Dim("head_accent", "rad/s + face sizes/s, >= 0", "peaks where the head's motion stops or turns sharply"),
    Dim("presence", "0 or 1", "a face was seen"),
)


class FaceEncoder(landmarks.LandmarkEncoder):
    """Encodes a clip's face; see `DIMS`."""

    name = "face"
    version = "5"
    dims = tuple(dim.name for dim in DIMS)

    def condense(self, raw: np.ndarray) -> np.ndarray:
        """See `landmarks.LandmarkEncoder`."""
        return face_state(raw)

    def read(self, times: np.ndarray, state: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """See `landmarks.LandmarkEncoder`."""
        return face_features(times, state, rows)


def face_state(raw: np.ndarray) -> np.ndarray:
    """[n, FACE_COLUMNS] as `worker.face_row` gives them → [n, 59] found, blendshapes, angles, place of the head."""
    assert raw.shape[1] == FACE_COLUMNS, raw.shape
    matrices = raw[:, 1 + NUM_BLENDSHAPES :].reshape(-1, 4, 4).astype(np.float64)
    return np.concatenate([raw[:, : 1 + NUM_BLENDSHAPES], head_angles(matrices), matrices[:, :3, 3]], axis=1)


def face_features(times_s: np.ndarray, state: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of a clip from what the landmarker saw.

    Args:
        times_s: [N] time of each frame.
        state: [N, 59] from `face_state`.
        rows: T.

    Returns:
        float32 [T, D] values and bool [T] mask.
    """
    assert len(state) == len(times_s), state.shape
    found = state[:, 0] > 0.5
    others = signals.jumps(times_s, found, state[:, -3:-1], np.full(len(state), FACE_SIZE_CM), MAX_SPEED)
    grid = signals.rows_from_pictures(times_s, found, state[:, 1:], rows, RATE_HZ)
    del state
    grid = signals.smooth_rows(signals.split_at_jumps(grid, times_s, others, RATE_HZ))
    blend, head = grid.values[:, :NUM_BLENDSHAPES], grid.values[:, NUM_BLENDSHAPES:]
    head_speeds = signals.speeds(head, grid.spans, RATE_HZ)
    turning, moving = head_speeds[:, :3], head_speeds[:, 3:5] / FACE_SIZE_CM
    changes = signals.speeds(blend[:, 1:], grid.spans, RATE_HZ)
    blend_speed = np.abs(changes, out=changes).mean(axis=1)
    del changes
    head_speed = np.linalg.norm(turning, axis=1) + np.linalg.norm(moving, axis=1)
    accent = signals.accents(turning, grid.spans) + signals.accents(moving, grid.spans)
    summary = [valence(blend), arousal(blend), blend_speed, head_speed, accent, grid.mask]
    parts = [blend, head, head_speeds, np.stack(summary, axis=1)]
    return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind"), grid.mask


def head_angles(matrices: np.ndarray) -> np.ndarray:
    """[N, 3] yaw, pitch, roll in radians of head matrices [N, 4, 4] (turned first by roll, then pitch, then yaw)."""
    yaw = np.arctan2(matrices[:, 0, 2], matrices[:, 2, 2])
    pitch = np.arcsin(np.clip(matrices[:, 1, 2], -1, 1))
    roll = np.arctan2(matrices[:, 1, 0], matrices[:, 1, 1])
    return np.stack([yaw, pitch, roll], axis=1)


def _both(blend: np.ndarray, name: str) -> np.ndarray:
    return (blend[:, BLENDSHAPES.index(name + "Left")] + blend[:, BLENDSHAPES.index(name + "Right")]) / 2


def valence(blend: np.ndarray) -> np.ndarray:
    """[T] in -1..1 from blendshapes [T, 52]."""
    return _both(blend, "mouthSmile") - (_both(blend, "mouthFrown") + _both(blend, "browDown")) / 2


def arousal(blend: np.ndarray) -> np.ndarray:
    """[T] in 0..1 from blendshapes [T, 52]."""
    brows = (blend[:, BLENDSHAPES.index("browInnerUp")] + _both(blend, "browOuterUp")) / 2
    return 0.4 * brows + 0.2 * _both(blend, "eyeWide") + 0.4 * blend[:, BLENDSHAPES.index("jawOpen")]
