"""The `pose` encoder: the upper body's motion from MediaPipe's Pose Landmarker (lite, or a larger one).

Joints stand relative to the middle of the shoulders, in torso lengths (mid-shoulders to mid-hips). The torso length
in the picture is the person's own one in metres times the scale that best lays the metric skeleton over the visible
landmarks, so it holds when hips are out of the picture or the body turns sideways. Speeds are those seen in the
picture, whole-body motion included, and are weighted by visibility: a joint that is only guessed does not move.
`left` and `right` are the person's own; the main person is meant (`main_person`).
Gaps up to 0.4 s are interpolated, longer ones hold the last values with all speeds zero; the mask is False in both.
"""

from __future__ import annotations

import numpy as np

from expotion_cli.errors import UsageError
from expotion_cli.vision import landmarks, signals
from expotion_cli.vision.encoder import RATE_HZ, Dim
from expotion_cli.vision.worker import NUM_LANDMARKS, POSE_COLUMNS
from expotion_cli.weights.manifest import find_manifest

MODELS = {"lite": "pose", "full": "pose-full", "heavy": "pose-heavy"}
"""What a setting means for `landmarks.task_file`."""

# Joint -> its place among MediaPipe's 33 landmarks.
JOINTS = {
    "nose": 0,
    "left_shoulder": 11,
    "right_shoulder": 12,
    "left_elbow": 13,
    "right_elbow": 14,
    "left_wrist": 15,
    "right_wrist": 16,
    "left_hip": 23,
    "right_hip": 24,
}
_MOVERS = tuple(name for name in JOINTS if not name.endswith("hip"))
# Beats are shown with the hands first; the rest of the arm and the head tell them less clearly.
_ACCENT_WEIGHTS = {"nose": 0.4, "left_shoulder": 0.4, "right_shoulder": 0.4, "left_elbow": 0.6, "right_elbow": 0.6,
                   "left_wrist": 1.0, "right_wrist": 1.0}  # fmt: skip
_SCALE_REACH = 25
NOISE = 0.06
"""Torso lengths a second: how much landmarks of a still person tremble; it is taken off every speed."""
MAX_SPEED = 10.0
"""Torso lengths a second: shoulders that move faster are somebody else's."""
STILL_ENERGY = 0.15
_STILL_REACH = 6  # rows to either side
_LITTLE = 1e-6

DIMS: tuple[Dim, ...] = (
    *(Dim(f"{joint}_{axis}", "torso lengths", f"{joint.replace('_', ' ')} {where} the middle of the shoulders")
      for joint in JOINTS for axis, where in (("x", "to the picture's right of"), ("y", "above"))),
    *(Dim(f"{joint}_v{axis}", "torso lengths/s",
          f"speed of the {joint.replace('_', ' ')} {where}, times how surely it is seen")
      for joint in JOINTS for axis, where in (("x", "to the right"), ("y", "up"))),
    *(Dim(f"{joint}_a{axis}", "torso lengths/s²", f"change of {joint}_v{axis}")
      for joint in JOINTS for axis in ("x", "y")),
    *(Dim(f"{joint}_seen", "0..1", f"{joint.replace('_', ' ')}: how surely it is seen (0 outside the picture)")
      for joint in JOINTS),
    Dim("torso_x", "picture heights", "middle of the shoulders right of the picture's centre"),
    Dim("torso_y", "picture heights", "middle of the shoulders above the picture's centre"),
    Dim("torso_size", "picture heights", "torso length, median over 2 s"),
    Dim("torso_lean", "rad", "how far the shoulders lean to the picture's right of the hips"),
    Dim("energy", "torso lengths/s", "mean speed of the visible ones of hands, elbows, shoulders and head"),
    Dim("energy_left", "torso lengths/s", "mean speed of the visible joints of the left arm"),
    Dim("energy_right", "torso lengths/s", "mean speed of the visible joints of the right arm"),
    Dim("energy_both", "torso lengths/s", "mean speed of the visible joints of both arms"),
    Dim("energy_head", "torso lengths/s", "speed of the head (nose)"),
    Dim("accent", "torso lengths/s, >= 0", "peaks where hands (else elbows, shoulders, head) stop or turn sharply"),
    Dim("stillness", "0..1", "1 for somebody who rests, 0.5 at an energy of 0.15; over about half a second"),
    Dim("hands_height", "torso lengths", "mean height of the visible hands: 0 at the hips, 1 at the shoulders"),
    Dim("openness", "torso lengths", "distance between the hands if both are visible, else of elbows or shoulders"),
    Dim("presence", "0 or 1", "a body was seen"),
)  # fmt: skip


class PoseEncoder(landmarks.LandmarkEncoder):
    """Encodes a clip's upper-body motion; see `DIMS`.

    Args:
        model: `lite` (ships), `full` or `heavy` (`expotion fetch mediapipe-pose-full`): finer, and slower.

    Raises:
        UsageError: there is no such model.
    """

    name = "pose"
    version = "4"
    dims = tuple(dim.name for dim in DIMS)

    def __init__(self, model: str = "lite") -> None:
        if model not in MODELS:
            raise UsageError(f"pose has no model {model!r}.", remedy=f"Models: {', '.join(MODELS)}.")
        super().__init__(MODELS[model])

    def unavailable(self) -> str | None:
        """See `encoder.Encoder`."""
        return super().unavailable() or find_manifest(f"mediapipe-{self._model}", "encoder").missing_reason()

    def condense(self, raw: np.ndarray) -> np.ndarray:
        """See `landmarks.LandmarkEncoder`."""
        return pose_state(raw, self._aspect)

    def read(self, times: np.ndarray, state: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """See `landmarks.LandmarkEncoder`."""
        return pose_features(times, state, rows)


def pose_state(raw: np.ndarray, aspect: float) -> np.ndarray:
    """What counts of each picture's landmarks.

    Args:
        raw: [n, POSE_COLUMNS] as `worker.pose_row` gives them.
        aspect: picture width / height.

    Returns:
        [n, 32]: found, middle of the shoulders (x, y), joints' places (x, y each), how surely they are seen, torso
        length, lean. Places in picture heights from the picture's middle, y up.
    """
    assert raw.shape[1] == POSE_COLUMNS, raw.shape
    points = raw[:, 1:].reshape(-1, NUM_LANDMARKS, 6).astype(np.float64)
    places = np.stack([(points[..., 0] - 0.5) * aspect, 0.5 - points[..., 1]], axis=-1)  # picture heights, y up
    seen = _visibility(points)
    body = points[..., 3:] * np.array([1, -1, -1])  # metres, x right, y up, z towards the camera
    lengths = _torso_lengths(places, seen, body)
    lean = np.arctan2(*np.moveaxis((_middle(body, 11) - _middle(body, 23))[:, :2], 1, 0))
    index = list(JOINTS.values())
    joints = places[:, index].reshape(len(raw), -1)
    parts = [raw[:, :1], _middle(places, 11), joints, seen[:, index], lengths[:, None], lean[:, None]]
    return np.concatenate(parts, axis=1)


def pose_features(times_s: np.ndarray, state: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of a clip from what the landmarker saw.

    Args:
        times_s: [N] time of each frame.
        state: [N, 32] from `pose_state`.
        rows: T.

    Returns:
        float32 [T, D] values and bool [T] mask.
    """
    assert len(state) == len(times_s), state.shape
    found = state[:, 0] > 0.5
    others = signals.jumps(times_s, found, state[:, 1:3], state[:, -2], MAX_SPEED)
    grid = signals.rows_from_pictures(times_s, found, state[:, 3:], rows, RATE_HZ)
    del state
    grid = signals.smooth_rows(signals.split_at_jumps(grid, times_s, others, RATE_HZ))
    return _summarise(grid), grid.mask


def _summarise(grid: signals.Rows) -> np.ndarray:
    rows, count = len(grid.values), len(JOINTS)
    names = list(JOINTS)
    places = grid.values[:, : 2 * count].reshape(rows, count, 2)
    seen = grid.values[:, 2 * count : 3 * count]
    lean = grid.values[:, -1]
    size = np.maximum(signals.running_median(grid.values[:, -2], _SCALE_REACH), 0.02)
    if not grid.spans:
        size = np.zeros(rows)
    unit = np.where(size > 0, size, 1.0)[:, None, None]
    shoulders = places[:, [names.index("left_shoulder"), names.index("right_shoulder")]].mean(axis=1)
    relative = (places - shoulders[:, None]) / unit
    velocity = signals.without_noise(signals.speeds(places, grid.spans, RATE_HZ) / unit, NOISE)
    speed = np.linalg.norm(velocity, axis=-1)
    sharp = signals.accents(velocity, grid.spans)
    moving = np.zeros(rows, dtype=bool)
    for start, stop in grid.spans:
        moving[start:stop] = True

    def mean_over(values: np.ndarray, joints: tuple[str, ...], weights: dict[str, float] | None = None) -> np.ndarray:
        columns = [names.index(joint) for joint in joints]
        share = seen[:, columns] * np.array([(weights or {}).get(joint, 1.0) for joint in joints])
        total = share.sum(axis=1)
        return np.where(total > 0.1, (values[:, columns] * share).sum(axis=1) / np.maximum(total, _LITTLE), 0.0)

    def arm(side: str) -> tuple[str, ...]:
        return tuple(f"{side}_{joint}" for joint in ("wrist", "elbow", "shoulder"))

    energy = mean_over(speed, _MOVERS)
    wrists = ("left_wrist", "right_wrist")
    hands_seen = seen[:, [names.index(joint) for joint in wrists]].max(axis=1) > 0.1
    height = np.where(hands_seen, 1 + mean_over(relative[..., 1], wrists), 0.0)
    summary = [
        energy,
        mean_over(speed, arm("left")),
        mean_over(speed, arm("right")),
        mean_over(speed, (*arm("left"), *arm("right"))),
        mean_over(speed, ("nose",)),
        mean_over(sharp, _MOVERS, _ACCENT_WEIGHTS),
        _stillness(energy, moving),
        height,
        _openness(relative, seen, names) * moving,
        grid.mask,
    ]
    weighted = velocity * seen[..., None]
    change = signals.speeds(weighted, grid.spans, RATE_HZ)
    torso = [shoulders[:, 0], shoulders[:, 1], size, lean]
    flat = (part.reshape(rows, -1) for part in (relative, weighted, change))
    parts = [*flat, seen, *(p[:, None] for p in (*torso, *summary))]
    return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")


def _stillness(energy: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """[T] 0..1, of the rows where somebody was followed."""
    reach = np.ones(2 * _STILL_REACH + 1)
    sums = (np.convolve(values, reach) for values in (energy * moving, moving.astype(float)))
    total, count = (part[_STILL_REACH : _STILL_REACH + len(energy)] for part in sums)
    return moving / (1 + (total / np.maximum(count, 1) / STILL_ENERGY) ** 2)


def _openness(relative: np.ndarray, seen: np.ndarray, names: list[str]) -> np.ndarray:
    """Distance between the outermost pair of joints of which both are seen, blended by how surely they are."""
    result = np.zeros(len(relative))
    for joint in ("shoulder", "elbow", "wrist"):  # each surer, farther pair replaces the nearer one
        left, right = names.index(f"left_{joint}"), names.index(f"right_{joint}")
        sure = np.minimum(seen[:, left], seen[:, right])
        distance = np.linalg.norm(relative[:, left] - relative[:, right], axis=-1)
        result = sure * distance + (1 - sure) * result
    return result


def _middle(points: np.ndarray, left: int) -> np.ndarray:
    return (points[:, left] + points[:, left + 1]) / 2


def _visibility(points: np.ndarray) -> np.ndarray:
    """How far each joint can be trusted: [N, 33] in 0..1.

    From MediaPipe's visibility: 0 up to 0.5 (such joints are guessed, and jump), 1 from 0.8 on; 0 outside the frame.
    """
    inside = ((points[..., :2] > -0.02) & (points[..., :2] < 1.02)).all(axis=-1)
    ramp = np.clip((points[..., 2] - 0.5) / 0.3, 0, 1)
    return ramp * ramp * (3 - 2 * ramp) * inside


def _torso_lengths(places: np.ndarray, seen: np.ndarray, body: np.ndarray) -> np.ndarray:
    """[N] torso length in picture heights: the metric torso times the scale that fits the visible upper body."""
    upper = slice(0, 25)
    weight = seen[:, upper, None] + 1e-3
    total = weight.sum(axis=1, keepdims=True)
    flat = body[:, upper, :2]
    here = places[:, upper] - (places[:, upper] * weight).sum(axis=1, keepdims=True) / total
    there = flat - (flat * weight).sum(axis=1, keepdims=True) / total
    scale = (weight * here * there).sum(axis=(1, 2)) / np.maximum((weight * there * there).sum(axis=(1, 2)), _LITTLE)
    return np.maximum(scale, 0) * np.linalg.norm(_middle(body, 11) - _middle(body, 23), axis=1)
