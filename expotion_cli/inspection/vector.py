"""A scene as SVG: one file, its pictures inside, valid XML whatever the clip is called."""

from __future__ import annotations

import base64
import io
from xml.sax.saxutils import escape, quoteattr

from PIL import Image

from expotion_cli.inspection import scene as kinds
from expotion_cli.inspection.scene import Points, Scene

_FONTS = "Aileron, Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_JPEG_QUALITY = 82


def to_svg(scene: Scene) -> str:
    """Draw a scene; the text is UTF-8's."""
    title = escape(scene.title)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{scene.width}" height="{scene.height}" '
            f'viewBox="0 0 {scene.width} {scene.height}" role="img" aria-label={quoteattr(scene.title)} '
            f'font-family="{_FONTS}">'
        ),
        f"<title>{title}</title>",
        _hatch_pattern(),
        f'<rect width="{scene.width}" height="{scene.height}" fill="{kinds.PAGE}"/>',
    ]
    words = [shape for shape in scene.shapes if isinstance(shape, kinds.Text)]
    others = [shape for shape in scene.shapes if not isinstance(shape, kinds.Text)]
    lines += [_element(shape) for shape in (*others, *words)]
    return "\n".join([*filter(None, lines), "</svg>", ""])


def _element(shape: kinds.Shape) -> str:
    match shape:
        case kinds.Box():
            return f"<rect {_frame(shape)} fill={_paint(shape.fill)}{_opacity(shape.opacity)}/>"
        case kinds.Hatch():
            return f'<rect {_frame(shape)} fill="url(#unseen)"/>'
        case kinds.Line():
            return (
                f'<polyline points="{_points(shape.points)}" fill="none" stroke={_paint(shape.colour)} '
                f'stroke-width="{_number(shape.width)}" stroke-linejoin="round"{_opacity(shape.opacity)}/>'
            )
        case kinds.Area():
            return f'<polygon points="{_points(shape.points)}" fill={_paint(shape.fill)}{_opacity(shape.opacity)}/>'
        case kinds.Text():
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            place = f'x="{_number(shape.x)}" y="{_number(shape.y)}" font-size="{_number(shape.size)}"'
            return f"<text {place} fill={_paint(shape.colour)}{anchor}>{escape(shape.words)}</text>"
        case kinds.Photo():
            height, width = shape.pixels.shape[:2]
            place = f'x="{_number(shape.x)}" y="{_number(shape.y)}" width="{width}" height="{height}"'
            return f'<image {place} href="data:image/jpeg;base64,{_jpeg(shape)}"/>'


def _hatch_pattern() -> str:
    step = kinds.HATCH_STEP
    stroke = f'stroke="{kinds.HATCH_LINE}" stroke-width="{kinds.HATCH_WIDTH}"'
    lines = f'<path d="M0 {step}L{step} 0M-1 1L1 -1M{step - 1} {step + 1}L{step + 1} {step - 1}" {stroke}/>'
    ground = f'<rect width="{step}" height="{step}" fill="{kinds.HATCH_FILL}"/>'
    size = f'width="{step}" height="{step}"'
    return f'<defs><pattern id="unseen" patternUnits="userSpaceOnUse" {size}>{ground}{lines}</pattern></defs>'


def _frame(shape: kinds.Box | kinds.Hatch) -> str:
    return (
        f'x="{_number(shape.x)}" y="{_number(shape.y)}" '
        f'width="{_number(max(0.0, shape.width))}" height="{_number(max(0.0, shape.height))}"'
    )


def _points(points: Points) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _paint(colour: str) -> str:
    return quoteattr(colour)


def _opacity(share: float) -> str:
    return "" if share == 1 else f' opacity="{share:g}"'


def _jpeg(photo: kinds.Photo) -> str:
    buffer = io.BytesIO()
    Image.fromarray(photo.pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
