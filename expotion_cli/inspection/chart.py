"""Lays an observation out: title, pictures along the time axis, lanes, legend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from expotion_cli.inspection.drawing import DIM, FAINT, INK, Plot, draw_keys, draw_lane, pin_head
from expotion_cli.inspection.fonts import shortened, text_width
from expotion_cli.inspection.geometry import LIMBS, face_boxes, joints
from expotion_cli.inspection.lanes import lanes_of
from expotion_cli.inspection.marks import RED, Lane, Ticks
from expotion_cli.inspection.observe import Observation
from expotion_cli.inspection.plan_lanes import CAUSE_COLOURS, CAUSE_HEADS, beat_times, is_dense
from expotion_cli.inspection.scene import Box, Hatch, Line, Photo, Scene, Text
from expotion_cli.spotting.plan import CuePlan

WIDTH, LEFT, RIGHT = 1600, 184, 140
PLOT = WIDTH - LEFT - RIGHT
"""Pixels from the clip's beginning to its end, one column each."""
THUMB_HEIGHT, THUMB_GAP = 108, 4
_GAP, _LOWEST_STRIP = 10, 56
_FACE, _BODY, _HALO = "#ff8fd0", "#7fd4ff", "#000000"
_STEPS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MAX_LABELS = 16


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the thumbnails of a clip, proportion kept: side by side they fill the time axis."""
    widest = min(PLOT / _num_thumbnails(width, height) - THUMB_GAP, 1.2 * THUMB_HEIGHT * width / height)
    return max(1, round(widest)), max(1, round(widest * height / width))


def thumbnail_times(duration_s: float, width: int, height: int) -> list[float]:
    """When the thumbnails are taken: in the middle of as many equal parts of the clip as fit side by side."""
    count = _num_thumbnails(width, height)
    return [(i + 0.5) * duration_s / count for i in range(count)]


def _num_thumbnails(width: int, height: int) -> int:
    return min(24, max(3, round((PLOT + THUMB_GAP) / (THUMB_HEIGHT * width / height + THUMB_GAP))))


def draw(seen: Observation, thumbnails: Sequence[np.ndarray]) -> Scene:
    """The picture of an observation.

    Args:
        seen: what to show.
        thumbnails: uint8 [h, w, 3] at `thumbnail_times`, of `thumbnail_size`.
    """
    lanes = lanes_of(seen, PLOT)
    strip = max(_LOWEST_STRIP, thumbnail_size(seen.clip.width, seen.clip.height)[1])
    notes = list(_wrapped(" · ".join(seen.notes), 13, WIDTH - 48)) if seen.notes else []
    top = 84 + 20 * len(notes)
    height = top + strip + _GAP + sum(lane.height + _GAP for lane in lanes) + 78
    scene = Scene(WIDTH, height, f"What expotion saw in {seen.name}")
    _draw_heading(scene, seen, notes)
    plot = Plot(LEFT, PLOT, RIGHT, seen.duration_s)
    _draw_thumbnails(scene, plot, seen, thumbnails, top)
    if not is_dense(seen.plan, PLOT):
        draw_hits(scene, plot, seen.plan, top + strip, strip / 2)
    y = top + strip + _GAP
    end = y + sum(lane.height + _GAP for lane in lanes)
    beats = beat_times(seen.plan, seen.clip.duration)
    for lane in lanes:
        draw_lane(scene, plot, lane, y, beats)
        y += lane.height + _GAP
    draw_cuts(scene, plot, seen.plan, top, end - _GAP)
    _draw_axis(scene, seen.duration_s, top + strip + _GAP, end)
    _draw_legend(scene, seen, lanes, height - 22)
    return scene


def time_to_x(time_s: float, duration_s: float) -> float:
    """Where a time stands."""
    return LEFT + PLOT * time_s / duration_s


def axis_times(duration_s: float) -> tuple[list[float], Callable[[float], str]]:
    """Times to label, and how to write them: seconds, or minutes and seconds of longer clips."""
    step = next((step for step in _STEPS_S if duration_s / step <= _MAX_LABELS), _STEPS_S[-1])
    times = [i * step for i in range(int(duration_s / step + 1e-6) + 1)]
    return times, (lambda time: f"{time:g} s") if duration_s < 120 else clock


def clock(time_s: float) -> str:
    """Hours, minutes, seconds."""
    minutes, seconds = divmod(round(time_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


def length_words(duration_s: float) -> str:
    """A clip's length: seconds, of longer clips also as on a clock."""
    return f"{duration_s:.2f} s" if duration_s < 120 else f"{clock(duration_s)} ({duration_s:.1f} s)"


def _draw_heading(scene: Scene, seen: Observation, notes: list[str]) -> None:
    clip = seen.clip
    facts = [
        length_words(seen.duration_s),
        f"{float(clip.fps):.4g} fps",
        f"{clip.width}x{clip.height}",
        clip.video_codec,
    ]
    sure = "no clear pulse" if seen.tempo.confidence == 0 else f"confidence {seen.tempo.confidence:.2f}"
    facts.append(f"tempo for {seen.recipe.name}: {float(seen.tempo.bpm):.1f} bpm, {sure}")
    scene.add(Text(24, 42, shortened(seen.name, 27, WIDTH - 48), 27, INK))
    scene.add(Text(24, 68, shortened("  ·  ".join(facts), 16, WIDTH - 48), 16, DIM))
    for number, note in enumerate(notes):
        scene.add(Text(24, 90 + 20 * number, note, 13, "#a33c00"))


def draw_hits(scene: Scene, plot: Plot, plan: CuePlan, bottom: float, height: float) -> None:
    """A plan's hit points over pictures: strokes from `bottom` up, `height` pixels for a weight of 1."""
    for hit in plan.hits:
        x, y = plot.x(hit.time_s), bottom - height * hit.weight
        scene.add(
            Line(((x, bottom), (x, y)), "#ffffff", 4.5, 0.85), pin_head(x, y, CAUSE_HEADS[hit.cause], "#ffffff", 6)
        )
        scene.add(Line(((x, bottom), (x, y)), CAUSE_COLOURS[hit.cause], 2))
        scene.add(pin_head(x, y, CAUSE_HEADS[hit.cause], CAUSE_COLOURS[hit.cause]))


def draw_cuts(scene: Scene, plot: Plot, plan: CuePlan, top: float, bottom: float) -> None:
    """A plan's changes of scene from the page's `top` to its `bottom`: sharp lines, and broad ones for dissolves."""
    for cut in plan.cuts:
        upright = ((plot.x(cut.time_s), top), (plot.x(cut.time_s), bottom))
        scene.add(Line(upright, RED, 1.4, 0.8) if cut.kind == "hard" else Line(upright, RED, 5, 0.35))


def _draw_thumbnails(scene: Scene, plot: Plot, seen: Observation, thumbnails: Sequence[np.ndarray], top: float) -> None:
    times = thumbnail_times(seen.duration_s, seen.clip.width, seen.clip.height)
    aspect = seen.clip.width / seen.clip.height
    face, pose = seen.streams.get("face"), seen.streams.get("pose")
    boxes = face_boxes(face, aspect) if face is not None else None
    scene.add(Text(LEFT - 14, top + 16, "Picture", 15, INK, "end"))
    keys = [("face", _FACE)] if face is not None and boxes is not None and face.mask.any() else []
    keys += [("arms, torso", _BODY)] if pose is not None and pose.mask.any() else []
    draw_keys(scene, plot, keys, top + 34)
    for time, pixels in zip(times, thumbnails, strict=False):
        height, width = pixels.shape[:2]
        x = round(time_to_x(time, seen.duration_s) - width / 2)
        scene.add(Photo(x, top, pixels))

        def place(point: tuple[float, float], x: float = x, size: tuple[int, int] = (width, height)) -> tuple:
            inside = np.clip(point, 0, 1)
            return x + float(inside[0]) * size[0], top + float(inside[1]) * size[1]

        if pose is not None:
            found = joints(pose, _row(pose, time), aspect)
            limbs = [(place(found[a]), place(found[b])) for a, b in LIMBS if a in found and b in found]
            scene.add(*(Line(limb, _HALO, 3.4, 0.55) for limb in limbs), *(Line(limb, _BODY, 1.8) for limb in limbs))
        if boxes is not None and np.isfinite(box := boxes[_row(face, time)]).all():
            left, upper, right, lower = box
            corners = [(left, upper), (right, upper), (right, lower), (left, lower), (left, upper)]
            frame = tuple(place(corner) for corner in corners)
            scene.add(Line(frame, _HALO, 3.4, 0.55), Line(frame, _FACE, 1.8))


def _row(stream, time_s: float) -> int:
    return min(len(stream.mask) - 1, round(time_s * stream.rate_hz))


def _draw_axis(scene: Scene, duration_s: float, top: float, bottom: float) -> None:
    times, words = axis_times(duration_s)
    rules = [Line(((x, top), (x, bottom)), INK, 1, 0.09) for x in (time_to_x(time, duration_s) for time in times)]
    scene.add(*rules, Line(((LEFT, bottom), (LEFT + PLOT, bottom)), FAINT, 1.2))
    scene.add(Text(LEFT - 34, bottom + 21, "Time", 15, INK, "end"))
    for time in times:
        x = time_to_x(time, duration_s)
        scene.add(
            Line(((x, bottom), (x, bottom + 6)), FAINT, 1.2), Text(x, bottom + 21, words(time), 13, DIM, "middle")
        )


def _draw_legend(scene: Scene, seen: Observation, lanes: Sequence[Lane], y: float) -> None:
    x = float(LEFT)

    def word(text: str) -> None:
        nonlocal x
        scene.add(Text(x, y, text, 13, DIM))
        x += text_width(text, 13) * 1.06 + 26

    if any(lane.unseen is not None for lane in lanes):
        scene.add(Hatch(x, y - 11, 30, 14))
        x += 38
        word("not seen")
    if any(isinstance(mark, Ticks) for lane in lanes for mark in lane.marks):
        scene.add(
            Line(((x + 2, y + 2), (x + 2, y - 11)), "#3a3a44", 2.4),
            Line(((x + 12, y + 2), (x + 12, y - 5)), "#3a3a44", 1.2),
        )
        x += 22
        word("bar and beat of the tempo")
    if seen.plan.cuts:
        scene.add(Line(((x + 4, y + 2), (x + 4, y - 11)), RED, 1.4, 0.8))
        x += 14
        if any(cut.kind != "hard" for cut in seen.plan.cuts):
            scene.add(Line(((x + 4, y + 2), (x + 4, y - 11)), RED, 5, 0.35))
            x += 16
        word("scene cut" if all(cut.kind == "hard" for cut in seen.plan.cuts) else "scene cut, dissolve")
    if any(len(stream.mask) > PLOT for stream in seen.streams.values()):
        scene.add(Box(x, y - 11, 24, 14, "#0072b2", 0.25), Line(((x, y - 4), (x + 24, y - 4)), "#0072b2", 1.6))
        x += 32
        word("lowest to highest, and mean, of each pixel's stretch of time")
    encoders = " · ".join(f"{stream.encoder} {stream.version}" for stream in seen.streams.values())
    scene.add(Text(WIDTH - 24, y, f"expotion inspect · encoders {encoders}", 13, FAINT, "end"))


def _wrapped(text: str, size: float, width: float) -> Sequence[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shortened(line, size, width) for line in lines]
