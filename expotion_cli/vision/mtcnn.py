"""Face detection by MTCNN (Zhang et al. 2016, arXiv:1604.02878; facenet-pytorch's networks), made cheap by tracking.

The usual way runs MTCNN's whole pyramid over each frame at full size. Here, once a second or while nobody is in
sight, it runs over a frame reduced to about 320 pixels; in between only over the surroundings of where `tracking`
expects each face, at the scales near its size and at full resolution, so that boxes come out as the usual way gives
them. A face found in the reduced frame is refined in full resolution in the same way. Where the reduced frame
shows nobody, the larger one is searched once a second, for faces of a 32nd of its longer side and more.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import WeightsError
from expotion_cli.vision import networks
from expotion_cli.vision.tracking import Tracker, overlap

if TYPE_CHECKING:
    from torch import nn

CROP = 160
"""Height and width of a cut-out face, as FaceNet wants it."""

SCAN_S = 1.0
"""Time between two searches of the whole frame while somebody is in sight."""

MIN_SCORE = 0.9
"""Somebody new must be this sure; who is already followed may be as unsure as MTCNN allows."""

MAX_FACES = 4
"""So many are followed at once, the last seen and largest."""

THRESHOLDS, FACTOR, MIN_FACE = (0.6, 0.7, 0.7), 0.709, 20
"""MTCNN's defaults: scores of its three stages, step of the pyramid, smallest face in pixels."""

_REDUCED_SIDE = 320
_SMALLEST_SHARE = 32  # of the longer side, where the picture is larger than MTCNN's smallest face allows for
_SURROUNDINGS = 1.0  # box sizes to each side of the centre that are searched ...
_SMALLEST_NEAR = 0.6  # ... for faces of at least this much of the size
_SAME = 0.5  # boxes that overlap more belong to one face
_NOBODY = np.zeros((0, 5))
_STAGES = ("pnet", "rnet", "onet")

Nets = tuple["nn.Module", "nn.Module", "nn.Module"]


def missing_reason() -> str | None:
    """Why MTCNN can't run here and what to install, or None. Imports nothing heavy."""
    if importlib.util.find_spec("facenet_pytorch") is None:
        return "The Python package facenet-pytorch is not installed. Run: pip install --no-deps facenet-pytorch"
    return None


def weight_files() -> dict[str, Path]:
    """The files with MTCNN's weights in facenet-pytorch's package, by stage."""
    found = importlib.util.find_spec("facenet_pytorch")
    folder = Path(found.origin).parent / "data" if found is not None and found.origin else Path()
    return {stage: folder / f"{stage}.pt" for stage in _STAGES}


@functools.cache
def weights_digest() -> str:
    """Hash of MTCNN's weights; empty where they are missing."""
    try:
        return storage.digest_of({stage: storage.digest_file(path) for stage, path in weight_files().items()})
    except OSError:
        return ""


@functools.cache
def load() -> Nets:
    """MTCNN's three networks, on the CPU.

    Raises:
        WeightsError: their weights are missing or damaged.
    """
    from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

    nets = []
    for (_, path), kind in zip(weight_files().items(), (PNet, RNet, ONet), strict=True):
        remedy = "Install facenet-pytorch again."
        if not path.is_file():
            raise WeightsError("MTCNN's weights are missing.", path=path, remedy=remedy)
        net = kind(pretrained=False)  # asked for its weights, it would read them with whatever reader torch defaults to
        networks.fill(net, networks.read_tensors(path, remedy), path, remedy)
        nets.append(net)
    return tuple(nets)


class FaceFinder:
    """Finds the faces of a clip's frames, one frame after the other.

    Attributes:
        tracker: who was seen so far.
    """

    def __init__(self) -> None:
        self._nets = load()
        self.tracker = Tracker()
        self._scanned_s = self._searched_s = -math.inf

    def begin_shot(self) -> None:
        """Expect nobody any more: the next frame is the first of another shot."""
        self.tracker.begin_shot()
        self._scanned_s = self._searched_s = -math.inf

    def find(self, time_s: float, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The faces of the next frame; they are given to `tracker`, too.

        Args:
            time_s: later than the frame before.
            pixels: uint8 [H, W, 3] RGB.

        Returns:
            [n, 4] boxes in pixels (they may reach over the picture's edge) and [n] scores, surest first.
        """
        found = [self._near(pixels, box) for box in self._expected(time_s)]
        faces = _distinct(np.concatenate([_NOBODY, *found]))
        if not len(faces) or time_s - self._scanned_s >= SCAN_S - 1e-3:
            self._scanned_s = time_s
            new = self._others(time_s, pixels, faces)
            faces = _distinct(np.concatenate([faces, new[new[:, 4] >= MIN_SCORE]]))
        self.tracker.add(time_s, faces[:, :4], faces[:, 4], _appearances(pixels, faces))
        return faces[:, :4], faces[:, 4]

    def _expected(self, time_s: float) -> list[np.ndarray]:
        """Where to appearance for those who are followed."""
        live = sorted(self.tracker.live, key=lambda track: (-track.times_s[-1], -_size(track.boxes[-1])))
        return [track.expected(time_s) for track in live[:MAX_FACES]]

    def _others(self, time_s: float, pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
        """[n, 5] boxes and scores in the whole frame, less those known already."""
        longer = max(pixels.shape[:2])
        times = max(1, round(longer / _REDUCED_SIDE))
        faces = self._detect(_reduced(pixels, times), MIN_FACE)
        faces[:, :4] *= times
        if times > 1 and not len(faces) and not len(known) and time_s - self._searched_s >= SCAN_S - 1e-3:
            self._searched_s = time_s
            faces = self._detect(pixels, max(MIN_FACE, longer / _SMALLEST_SHARE))
        new = [face for face in _distinct(faces) if all(overlap(face[:4], other[:4]) <= _SAME for other in known)]
        if times == 1:
            return np.array(new).reshape(-1, 5)
        return _distinct(np.concatenate([_NOBODY, *(self._near(pixels, face[:4]) for face in new[:MAX_FACES])]))

    def _near(self, pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
        """[n, 5] boxes and scores of faces of about the box's size, around the box."""
        height, width = pixels.shape[:2]
        size, centre = _size(box), (box[:2] + box[2:]) / 2
        low = np.clip(np.floor(centre - _SURROUNDINGS * size), 0, None).astype(int)
        high = np.clip(np.ceil(centre + _SURROUNDINGS * size), 0, (width, height)).astype(int)
        # one of the sizes that the pyramid over the whole frame has, so that the same faces come out
        steps = math.floor(math.log(max(1.0, _SMALLEST_NEAR * size / MIN_FACE)) / -math.log(FACTOR))
        faces = self._detect(pixels[low[1] : high[1], low[0] : high[0]], MIN_FACE / FACTOR**steps)
        faces[:, :4] += np.tile(low, 2)
        return faces

    def _detect(self, pixels: np.ndarray, smallest: float) -> np.ndarray:
        """[n, 5] what MTCNN says of a frame, or of a part of one."""
        if min(pixels.shape[:2], default=0) < smallest:
            return _NOBODY.copy()  # no level of its pyramid would be large enough
        import torch
        from facenet_pytorch.models.utils.detect_face import detect_face

        with torch.inference_mode():
            boxes, _ = detect_face(pixels, smallest, *self._nets, THRESHOLDS, FACTOR, torch.device("cpu"))
        return np.asarray(boxes[0], dtype=np.float64).reshape(-1, 5)


def cut_out(pixels: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """A face as facenet-pytorch cuts it out with its defaults: no margin, stretched to a square, bilinear.

    Args:
        pixels: uint8 [H, W, 3].
        box: [4] in pixels.

    Returns:
        uint8 [CROP, CROP, 3]; None where nothing of the box lies in the picture.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    left, top = (int(max(edge, 0)) for edge in box[:2])
    right, bottom = int(min(box[2], width)), int(min(box[3], height))
    if right <= left or bottom <= top:
        return None
    face = Image.fromarray(pixels[top:bottom, left:right])
    return np.asarray(face.resize((CROP, CROP), Image.Resampling.BILINEAR))


def _appearances(pixels: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[n, L] what the faces appearance like, coarsely: colours and shades, without the brightness of all."""
    appearances = np.zeros((len(faces), 3 * 8 * 8))
    for appearance, face in zip(appearances, faces, strict=True):
        if (cut := cut_out(pixels, face[:4])) is not None:
            coarse = cut.reshape(8, CROP // 8, 8, CROP // 8, 3).mean(axis=(1, 3)).ravel()
            appearance[:] = coarse - coarse.mean()
    return appearances


def _reduced(pixels: np.ndarray, times: int) -> np.ndarray:
    from PIL import Image

    return pixels if times == 1 else np.asarray(Image.fromarray(pixels).reduce(times))


def _distinct(faces: np.ndarray) -> np.ndarray:
    """[n, 5] -> [m, 5], surest first, each face once."""
    kept: list[np.ndarray] = []
    for face in faces[np.argsort(-faces[:, 4], kind="stable")]:
        if all(overlap(face[:4], other[:4]) <= _SAME for other in kept):
            kept.append(face)
    return np.array(kept).reshape(-1, 5)


def _size(box: np.ndarray) -> float:
    return math.sqrt(max(float((box[2] - box[0]) * (box[3] - box[1])), 1.0))
