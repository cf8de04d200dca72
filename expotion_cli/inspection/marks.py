"""What lanes are made of: curves, bands, ticks and other marks over time, not yet drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from expotion_cli.inspection.curves import Columns

# Okabe and Ito's colours, which the colour-blind tell apart; one stream keeps one colour everywhere.
BLUE, ORANGE, GREEN, SKY, RED, PINK, DARK = "#0072b2", "#e69f00", "#009e73", "#56b4e9", "#d55e00", "#b0578d", "#3a3a44"
PURPLE = "#5b4a9e"
STREAM_COLOURS = {"face": PINK, "pose": BLUE, "flow": GREEN}
HEADS = ("diamond", "square", "circle")


@dataclass(frozen=True)
class Curve:
    """A curve; `filled` down to zero. Where columns hold several rows, a band shows their lowest and highest."""

    columns: Columns
    colour: str
    filled: bool = False


@dataclass(frozen=True)
class Band:
    """The area between two curves."""

    low: Columns
    high: Columns
    colour: str


@dataclass(frozen=True)
class Ticks:
    """Upright strokes from `base`: (time in seconds, height in the lane's values)."""

    marks: tuple[tuple[float, float], ...]
    colour: str
    base: float = 0.0
    width: float = 1.6


@dataclass(frozen=True)
class Stretches:
    """Stretches of time, filled from the lane's bottom to its top."""

    spans_s: tuple[tuple[float, float], ...]
    colour: str


@dataclass(frozen=True)
class Pins:
    """Upright strokes with a head: (time in seconds, height in the lane's values, one of `HEADS`, or "" for none)."""

    marks: tuple[tuple[float, float, str], ...]
    colour: str


@dataclass(frozen=True)
class Steps:
    """A curve of stairs filled down to zero: a value from each edge to the next."""

    edges_s: tuple[float, ...]
    values: tuple[float, ...]
    colour: str


@dataclass(frozen=True)
class Shades:
    """Stretches of time filled more or less: (start, end, share of the colour), with words inside where they fit."""

    spans: tuple[tuple[float, float, float], ...]
    words: tuple[str, ...]
    colour: str


@dataclass(frozen=True)
class Borders:
    """Lines from the lane's bottom to its top."""

    times_s: tuple[float, ...]
    colour: str


Mark = Curve | Band | Ticks | Stretches | Pins | Steps | Shades | Borders


@dataclass(frozen=True)
class Lane:
    """One lane of the picture.

    Attributes:
        title: what it shows.
        unit: of its values, or what they mean.
        height: in pixels.
        low, high: values at the bottom and the top.
        marks: what is drawn.
        keys: (name, colour) of the curves, where there are several.
        facts: short texts beside it.
        levels: (value, label) of the lines across.
        unseen: [n] bool columns of equal length where nothing was seen, or None.
        said: text across the lane.
        has_beats: the beats of the tempo stand behind it.
    """

    title: str
    unit: str
    height: int
    low: float
    high: float
    marks: tuple[Mark, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    facts: tuple[str, ...] = ()
    levels: tuple[tuple[float, str], ...] = ()
    unseen: np.ndarray | None = None
    said: str | None = None
    has_beats: bool = False


THIN, LOW, TALL = 20, 46, 84
