"""A drawing as a list of shapes, the same for PNG and SVG. Units are pixels of the PNG, y goes down."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: Points
    colour: str
    width: float = 1.0
    opacity: float = 1.0


@dataclass(frozen=True)
class Area:
    """A filled outline."""

    points: Points
    fill: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Hatch:
    """A rectangle of slanting lines on grey: nothing was seen here."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Text:
    """One line of words.

    Attributes:
        x, y: where its baseline begins, has its middle or ends, by `anchor`.
        anchor: "start", "middle" or "end".
    """

    x: float
    y: float
    words: str
    size: float
    colour: str
    anchor: str = "start"


@dataclass(frozen=True)
class Photo:
    """A picture: uint8 [h, w, 3], shown at its own size."""

    x: float
    y: float
    pixels: np.ndarray


Shape = Box | Line | Area | Hatch | Text | Photo


@dataclass
class Scene:
    """Shapes in the order they are drawn; words come out on top of all others.

    Attributes:
        width, height: of the whole.
        title: what it shows, for those who can't see it.
    """

    width: int
    height: int
    title: str
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Draw these next."""
        self.shapes.extend(shapes)


HATCH_FILL, HATCH_LINE, HATCH_STEP, HATCH_WIDTH = "#ececef", "#b9bac2", 7.0, 1.0
"""How hatching looks: its ground, its lines, their distance along x, their width."""
PAGE = "#ffffff"
