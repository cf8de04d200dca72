"""The record of an inspection as plain values: `NAME.inspect.json`.

format        2; raised when a key comes to mean something else
clip          file, sha256, duration_s, fps, width, height, rotation (degrees clockwise), container, video_codec,
              num_frames, has_sound
streams       one record each:
    name, encoder, version, digest, rate_hz, rows, num_dims
    coverage      share of rows where something was found, 0..1
    skipped       frames that could not be decoded
    seen_s        [start, end] of each stretch where something was seen
    change        mean and p95 of how far a row is from the one before, a second (Euclidean, in all dimensions)
    dims          by name: unit, mean, p95; of rows where something was seen. Empty where dimensions are numbers
curves        rate_hz (5), and under `values` means over 1 / rate_hz seconds, null where nothing was seen:
    STREAM.DIM    energies, sides, expression, camera, in the unit that the stream's dims state
    face.x, face.y, face.width, face.height
                  the face's box: its middle and its size in shares of the picture, (0, 0) is the upper left corner
accents       by time: time_s; strength, 0..1.5 in shares of the clip's own 95th percentile plus a floor; source
stillness     source (the stream that was asked, or null), threshold of its energy, still_s: [start, end] of each
plan          what a cue follows by this recipe and its prompt: tempo, tempo map, hit points, cuts, sections, intensity,
              as `expotion plan` writes it (docs/spotting.md)
recipe        name, and range_bpm: lowest and highest tempo that it and its prompt allow
notes         remarks, as text
versions      of this program and of the libraries that a result may depend on
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.inspection.curves import at_rate, row_changes, spans_s
from expotion_cli.inspection.geometry import face_boxes
from expotion_cli.inspection.observe import Observation
from expotion_cli.scoring import ladder
from expotion_cli.spotting.plan_file import as_record

if TYPE_CHECKING:
    from expotion_cli.vision.encoder import EmbeddingStream

FORMAT = 2
CURVE_RATE_HZ = 5
CURVE_DIMS = {
    "pose": ("energy", "energy_left", "energy_right", "energy_head", "stillness"),
    "face": ("head_speed", "valence", "arousal"),
    "flow": ("energy", "energy_left", "energy_right", "camera_x", "camera_y"),
}


def record_of(seen: Observation) -> dict[str, Any]:
    """The record of an observation; see the head of this module. Holds no NaN."""
    from expotion_cli.scoring.sidecar import versions

    clip = seen.clip
    return {
        "format": FORMAT,
        "clip": {
            "file": seen.name,
            "sha256": seen.content,
            "duration_s": round(seen.duration_s, 6),
            "fps": round(float(clip.fps), 6),
            "width": clip.width,
            "height": clip.height,
            "rotation": clip.rotation,
            "container": clip.container,
            "video_codec": clip.video_codec,
            "num_frames": clip.num_frames,
            "has_sound": clip.has_sound,
        },
        "streams": [_stream(stream, seen.duration_s) for stream in seen.streams.values()],
        "curves": {"rate_hz": CURVE_RATE_HZ, "values": _curves(seen)},
        "accents": [
            {"time_s": accent.time_s, "strength": accent.strength, "source": accent.source} for accent in seen.accents
        ],
        "stillness": {
            "source": seen.stillness.source,
            "threshold": seen.stillness.threshold,
            "still_s": [_rounded(span) for span in seen.stillness.spans_s],
        },
        "plan": as_record(seen.plan, seen.name),
        "recipe": {"name": seen.recipe.name, "range_bpm": list(ladder.tempo_range(seen.recipe))},
        "notes": list(seen.notes),
        "versions": versions(),
    }


def _stream(stream: EmbeddingStream, duration_s: float) -> dict[str, Any]:
    named = not all(name.isdecimal() for name in stream.dims)
    units = _units(stream.encoder) if named else {}
    return {
        "name": stream.name,
        "encoder": stream.encoder,
        "version": stream.version,
        "digest": stream.digest,
        "rate_hz": stream.rate_hz,
        "rows": len(stream.mask),
        "num_dims": len(stream.dims),
        "coverage": round(stream.coverage, 4),
        "skipped": stream.skipped,
        "seen_s": [_rounded(span) for span in spans_s(stream.mask, stream.rate_hz, duration_s)],
        "change": _summary(row_changes(stream.values, stream.rate_hz), stream.mask),
        "dims": {
            name: {"unit": units.get(name), **_summary(stream.values[:, index], stream.mask)}
            for index, name in enumerate(stream.dims)
        }
        if named
        else {},
    }


def _curves(seen: Observation) -> dict[str, list[float | None]]:
    curves = {}
    for name, dims in CURVE_DIMS.items():
        stream = seen.streams.get(name)
        if stream is None:
            continue
        for dim in dims:
            if dim in stream.dims:
                curves[f"{name}.{dim}"] = _curve(stream.dim(dim), stream, seen.duration_s)
        boxes = face_boxes(stream, seen.clip.width / seen.clip.height) if name == "face" else None
        if boxes is not None:
            left, top, right, bottom = boxes.T
            track = {"x": (left + right) / 2, "y": (top + bottom) / 2, "width": right - left, "height": bottom - top}
            curves |= {f"face.{key}": _curve(values, stream, seen.duration_s) for key, values in track.items()}
    return curves


def _curve(values: np.ndarray, stream: EmbeddingStream, duration_s: float) -> list[float | None]:
    return [_plain(value) for value in at_rate(values, stream.mask, stream.rate_hz, duration_s, CURVE_RATE_HZ)]


def _units(encoder: str) -> Mapping[str, str]:
    """Units of an encoder's dimensions by name, where its module states them."""
    from expotion_cli.vision.encoder import REGISTRY, encoder_class

    if encoder not in REGISTRY:
        return {}
    module = importlib.import_module(encoder_class(encoder).__module__)
    return {dim.name: dim.unit for dim in getattr(module, "DIMS", ())}


def _summary(values: np.ndarray, mask: np.ndarray) -> dict[str, float | None]:
    seen = np.asarray(values, dtype=np.float64)[mask]
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        return {"mean": None, "p95": None}
    return {"mean": _plain(seen.mean()), "p95": _plain(np.percentile(seen, 95))}


def _plain(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _rounded(span: tuple[float, float]) -> list[float]:
    return [round(float(time), 3) for time in span]
