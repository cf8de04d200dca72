"""A scene as PNG, drawn with Pillow."""

from __future__ import annotations

import io
import math

from PIL import Image, ImageColor, ImageDraw

from expotion_cli.inspection import scene as kinds
from expotion_cli.inspection.fonts import font_for
from expotion_cli.inspection.scene import Scene

_FINE = 3
"""All is drawn this many times larger and then made smaller: smooth edges, and letters at their true distances."""
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def to_png(scene: Scene) -> bytes:
    """Draw a scene."""
    image = Image.new("RGB", (scene.width * _FINE, scene.height * _FINE), kinds.PAGE)
    pen = ImageDraw.Draw(image, "RGBA")
    for shape in scene.shapes:
        match shape:
            case kinds.Box():
                if shape.width > 0 and shape.height > 0:
                    pen.rectangle(_corners(shape), fill=_colour(shape.fill, shape.opacity))
            case kinds.Line():
                _draw_line(pen, shape)
            case kinds.Area():
                if len(shape.points) > 2:
                    pen.polygon([_fine(point) for point in shape.points], fill=_colour(shape.fill, shape.opacity))
            case kinds.Hatch():
                _draw_hatch(pen, shape)
            case kinds.Photo():
                photo = Image.fromarray(shape.pixels)
                size = (photo.width * _FINE, photo.height * _FINE)
                at = (round(shape.x) * _FINE, round(shape.y) * _FINE)
                image.paste(photo.resize(size, Image.Resampling.NEAREST), at)
    for text in scene.shapes:
        if isinstance(text, kinds.Text) and text.words:
            font = font_for(text.words, text.size * _FINE)
            pen.text(_fine((text.x, text.y)), text.words, text.colour, font, anchor=_ANCHORS[text.anchor])
    image = image.reduce(_FINE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _fine(point: tuple[float, float]) -> tuple[float, float]:
    return point[0] * _FINE, point[1] * _FINE


def _corners(box: kinds.Box | kinds.Hatch) -> tuple[int, int, int, int]:
    # Pillow counts the last pixel in
    left, top = round(box.x * _FINE), round(box.y * _FINE)
    right, bottom = round((box.x + box.width) * _FINE) - 1, round((box.y + box.height) * _FINE) - 1
    return left, top, max(left, right), max(top, bottom)


def _colour(name: str, opacity: float) -> tuple[int, int, int, int]:
    return (*ImageColor.getrgb(name)[:3], round(255 * opacity))


def _draw_line(pen: ImageDraw.ImageDraw, line: kinds.Line) -> None:
    width = max(1, round(line.width * _FINE))
    points = [_fine(point) for point in line.points]
    pen.line(points, fill=_colour(line.colour, line.opacity), width=width, joint="curve" if width > _FINE else None)


def _draw_hatch(pen: ImageDraw.ImageDraw, hatch: kinds.Hatch) -> None:
    left, top, right, bottom = _corners(hatch)
    pen.rectangle((left, top, right, bottom), fill=_colour(kinds.HATCH_FILL, 1))
    step, width = round(kinds.HATCH_STEP * _FINE), round(kinds.HATCH_WIDTH * _FINE)
    # Lines x + y = offset, laid over the whole drawing so that neighbouring stretches fit together.
    for offset in range(math.ceil((left + top) / step) * step, right + bottom + 1, step):
        start, stop = max(left, offset - bottom), min(right, offset - top)
        pen.line((start, offset - start, stop, offset - stop), fill=_colour(kinds.HATCH_LINE, 1), width=width)
