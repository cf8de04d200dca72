"""The program that runs one MediaPipe landmarker in a process of its own (`landmarks.py` starts it).

In the main process MediaPipe would write to standard error, send usage figures over the network and compete with the
decoder for the interpreter lock.

Protocol on the pipes, little endian. In: `B` begin a clip; `C` begin a new shot of it; `F` int64 milliseconds, int32
height, int32 width, the RGB bytes; `E` end the clip; end of file: leave. Out: once `Y` (ready) or `N` + int32 length +
the reason; after each `E` int32 rows, int32 columns, float32 rows.
"""

from __future__ import annotations

import functools
import os
import struct
import sys
import types
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from expotion_cli.processes import die_with_parent, ignore_interrupts
from expotion_cli.vision import memory
from expotion_cli.vision.row_buffer import RowBuffer

FRAME = struct.Struct("<qii")
SHAPE = struct.Struct("<ii")
LENGTH = struct.Struct("<i")

NUM_BLENDSHAPES = 52
FACE_COLUMNS = 1 + NUM_BLENDSHAPES + 16
"""found, 52 blendshape scores, the 4x4 head matrix row by row."""
NUM_LANDMARKS = 33
POSE_COLUMNS = 1 + NUM_LANDMARKS * 6
"""found, then for each landmark x, y (shares of the picture), visibility, and x, y, z in metres."""
MAX_PEOPLE = 3
NOSE = 1
"""Index of the tip of the nose among the 478 landmarks of a face."""
SEARCH_PERIOD_S = {"face": 0.4, "pose": 1.0}
"""Seconds between two detections of all people; detecting bodies costs three times as much as faces."""
SETTLING_DETECTIONS, SETTLING_MS = 10, 100
"""A newly found person is detected so many more times, so far apart on MediaPipe's clock, until its filter settles."""
RELEASE_EVERY_FRAMES = 250
"""Frames between two calls of `memory.release_free`."""
NEW_AFTER_MS = 1000
"""A person who was not seen for longer counts as newly found."""


def face_row(result: Any, place: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
    """float32 [FACE_COLUMNS] of one FaceLandmarkerResult; all zero where no face was found.

    Args:
        result: what the landmarker saw.
        place: brings the head's matrix [4, 4] to the whole frame.
    """
    row = np.zeros(FACE_COLUMNS, dtype=np.float32)
    if result.face_landmarks:
        row[0] = 1
        row[1 : 1 + NUM_BLENDSHAPES] = [shape.score for shape in result.face_blendshapes[0]]
        row[1 + NUM_BLENDSHAPES :] = place(np.asarray(result.facial_transformation_matrixes[0])).ravel()
    return row


def pose_row(result: Any) -> np.ndarray:
    """float32 [POSE_COLUMNS] of one PoseLandmarkerResult; all zero where no body was found."""
    row = np.zeros(POSE_COLUMNS, dtype=np.float32)
    if result.pose_landmarks:
        row[0] = 1
        pairs = zip(result.pose_landmarks[0], result.pose_world_landmarks[0], strict=True)
        row[1:] = [v for p, w in pairs for v in (p.x, p.y, p.visibility, w.x, w.y, w.z)]
    return row


def _people_finder(kind: str, model: str) -> tuple[Any, Any]:
    """(a landmarker for single frames that must be closed, `tracking.FindPeople` made of it)."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    base = BaseOptions(model_asset_path=model)
    if kind == "face":
        finder = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(base_options=base, num_faces=MAX_PEOPLE)
        )
    else:
        finder = vision.PoseLandmarker.create_from_options(
            vision.PoseLandmarkerOptions(base_options=base, num_poses=MAX_PEOPLE)
        )

    def find(rgb: np.ndarray) -> np.ndarray:
        height, width = rgb.shape[:2]
        result = finder.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb))
        people = result.face_landmarks if kind == "face" else result.pose_landmarks
        places = [np.array([(mark.x, mark.y) for mark in person]) * (width, height) for person in people]
        return np.array([(*place.min(axis=0), *place.max(axis=0)) for place in places]).reshape(-1, 4)

    return finder, find


def _make_landmarker(kind: str, model: str) -> Any:
    from mediapipe.tasks.python import BaseOptions, vision

    base = BaseOptions(model_asset_path=model)
    video = vision.RunningMode.VIDEO
    if kind == "face":
        options = vision.FaceLandmarkerOptions(
            base_options=base,
            running_mode=video,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        return vision.FaceLandmarker.create_from_options(options)
    options = vision.PoseLandmarkerOptions(base_options=base, running_mode=video)
    return vision.PoseLandmarker.create_from_options(options)


class SteadyLandmarker:
    """A landmarker that follows one person from frame to frame and reports no motion for a still image.

    MediaPipe's temporal filter starts from a rough first guess, so for half a second even a photograph seems to move.
    Therefore a newly found person is detected repeatedly on the same frame until the filter has settled, and a frame
    equal to the one before returns the same result.

    Args:
        make: makes one of MediaPipe's landmarkers for video.
    """

    def __init__(self, make: Callable[[], Any]):
        self._make = make
        self._landmarker = make()
        self._used = False
        self._begin()

    def _begin(self) -> None:
        self._clock_ms, self._added_ms = -1, 0
        self._seen_ms: int | None = None
        self._last: tuple[np.ndarray, Any] | None = None

    def begin(self) -> None:
        """Start a clip or a shot; nobody is remembered."""
        if self._used:
            self.close()
        if self._landmarker is None:
            self._landmarker = self._make()
        self._used = False
        self._begin()

    def detect(self, pixels: np.ndarray, time_ms: int) -> Any:
        """Landmarks of the next frame.

        Args:
            pixels: uint8 [H, W, 3] RGB, not changed later.
            time_ms: later than the frame before.
        """
        if self._last is not None and np.array_equal(self._last[0], pixels):
            if _is_somebody(self._last[1]):
                self._seen_ms = time_ms
            return self._last[1]
        import mediapipe as mp

        self._used = True
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)
        self._clock_ms = max(time_ms + self._added_ms, self._clock_ms + 1)
        result = self._landmarker.detect_for_video(image, self._clock_ms)
        if _is_somebody(result):
            if self._seen_ms is None or time_ms - self._seen_ms > NEW_AFTER_MS:
                result = self._settle(image, result)
            self._seen_ms = time_ms
        self._last = pixels, result
        return result

    def _settle(self, image: Any, result: Any) -> Any:
        for _ in range(SETTLING_DETECTIONS):
            self._clock_ms += SETTLING_MS
            self._added_ms += SETTLING_MS
            again = self._landmarker.detect_for_video(image, self._clock_ms)
            result = again if _is_somebody(again) else result
        return result

    def close(self) -> None:
        """Safe to call twice; without it MediaPipe's destructor would raise when the interpreter ends."""
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None


def _is_somebody(result: Any) -> bool:
    return bool(getattr(result, "face_landmarks", None) or getattr(result, "pose_landmarks", None))


def _read_exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _leave_out_plotting() -> None:
    """Spare MediaPipe the import of matplotlib, which takes longer than starting a landmarker.

    A function that nobody calls here would plot landmarks with it. Only ever done in the worker's own process.
    """
    for name in ("matplotlib", "matplotlib.pyplot"):
        sys.modules.setdefault(name, types.ModuleType(name))


def serve(kind: str, model: str, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer clips until the input ends."""
    from expotion_cli.vision.framing import Framing
    from expotion_cli.vision.main_person import MainPerson

    _leave_out_plotting()
    columns = FACE_COLUMNS if kind == "face" else POSE_COLUMNS
    landmarker = finder = others = framing = None
    rows = RowBuffer(columns)
    last_ms = -1
    try:
        # The landmarker is made before the first clip, so that a missing library is reported at once.
        landmarker = SteadyLandmarker(functools.partial(_make_landmarker, kind, model))
        finder, find_people = _people_finder(kind, model)
        sink.write(b"Y")
        sink.flush()
        while command := source.read(1):
            if command in (b"B", b"C"):
                landmarker.begin()
                if command == b"B":
                    rows.close()
                    rows, last_ms = RowBuffer(columns), -1
                framing = Framing(find_people) if kind == "face" else None
                others = MainPerson(framing.find if framing else find_people, SEARCH_PERIOD_S[kind])
            elif command == b"F":
                time_ms, height, width = FRAME.unpack(_read_exactly(source, FRAME.size))
                data = _read_exactly(source, height * width * 3)
                rgb = np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
                last_ms = max(time_ms, last_ms + 1)
                if len(rows) % RELEASE_EVERY_FRAMES == RELEASE_EVERY_FRAMES - 1:
                    memory.release_free()
                assert others is not None, "a frame came before the beginning of a clip"
                rgb = others.mask_others(rgb, last_ms / 1000)
                part = framing.part(rgb, last_ms / 1000) if framing else rgb
                result = landmarker.detect(part, last_ms)
                if framing is None:
                    rows.add(pose_row(result))
                    continue
                rows.add(face_row(result, functools.partial(framing.in_whole, shape=rgb.shape)))
                nose = result.face_landmarks[0][NOSE] if result.face_landmarks else None
                framing.report(last_ms / 1000, nose and (nose.x, nose.y), rgb.shape)
            elif command == b"E":
                sink.write(SHAPE.pack(len(rows), columns))
                sink.writelines(block.astype("<f4").tobytes() for block in rows.blocks())
                sink.flush()
    except EOFError:
        pass
    finally:
        rows.close()
        for one in (landmarker, finder):
            if one is not None:
                one.close()  # its destructor would raise when the interpreter ends


def main() -> None:
    """Run with `face` or `pose` and the path of the task file."""
    ignore_interrupts()  # the parent decides; it closes the pipe
    die_with_parent()
    kind, model = sys.argv[1:3]
    # Libraries may print: keep the pipe to ourselves and send whatever they print to the error stream.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(kind, model, sys.stdin.buffer, sink)
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".encode()
        sink.write(b"N" + LENGTH.pack(len(reason)) + reason)
        sink.flush()
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
