"""Plots of two sounds and their difference: spectrograms as PNG, loudness as SVG."""

from __future__ import annotations

import io

import numpy as np
from markupsafe import Markup

from expotion_cli.regression.measures import CELL_LIMIT_DB, FLOOR_DB, Sound

MAX_COLUMNS = 900
ROW_PIXELS = 3
_QUIETEST_LUFS, _LOUDEST_LUFS = -50.0, -5.0
# From silence to loud: dark blue over violet and orange to light yellow; reads on light and dark pages alike.
_HEAT = np.array([(10, 8, 32), (59, 22, 96), (129, 37, 106), (199, 66, 79), (241, 128, 48), (251, 196, 74), (252, 253, 191)])  # fmt: skip # noqa: E501
_LOUDER, _QUIETER = (214, 69, 65), (38, 110, 196)


def spectrogram(sound: Sound) -> bytes:
    """A mel spectrogram as PNG, low notes at the bottom."""
    mel = _columns(sound.mel_db)
    share = np.clip((mel - mel.max()) / FLOOR_DB + 1, 0, 1) if np.ptp(mel) else np.zeros_like(mel)
    position = share * (len(_HEAT) - 1)
    low = np.minimum(position.astype(int), len(_HEAT) - 2)
    weight = (position - low)[..., None]
    return _png(_HEAT[low] * (1 - weight) + _HEAT[low + 1] * weight)


def difference(one: Sound, two: Sound) -> bytes:
    """Where the second sound is louder (red) or quieter (blue) than the first, as PNG; clear where they are equal."""
    rows = max(len(one.mel_db), len(two.mel_db))
    first, second = (
        np.pad(s.mel_db, ((0, rows - len(s.mel_db)), (0, 0)), constant_values=s.mel_db.min()) for s in (one, two)
    )
    floor = max(first.max(), second.max()) - FLOOR_DB
    apart = _columns(np.maximum(second, floor) - np.maximum(first, floor))
    colour = np.where(apart[..., None] > 0, np.array(_LOUDER), np.array(_QUIETER))
    opacity = np.clip(np.abs(apart) / CELL_LIMIT_DB, 0, 1) * 255
    return _png(np.concatenate([colour, opacity[..., None]], axis=-1))


def loudness(one: Sound, two: Sound) -> Markup:
    """Momentary loudness of both over time, as an SVG element; its colours are the page's."""
    width, height = 900, 120
    lines = []
    duration_s = max(one.duration_s, two.duration_s)
    for sound, kind in ((one, "reference"), (two, "new")):
        values = np.clip(sound.momentary_lufs, _QUIETEST_LUFS, _LOUDEST_LUFS)
        if not len(values):
            continue
        x = (np.arange(len(values)) / 10 + 0.2) / duration_s * width
        y = (_LOUDEST_LUFS - values) / (_LOUDEST_LUFS - _QUIETEST_LUFS) * height
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        lines.append(f'<polyline class="{kind}" points="{points}"/>')
    grid = []
    for level in (-10, -20, -30, -40):
        y = (_LOUDEST_LUFS - level) / (_LOUDEST_LUFS - _QUIETEST_LUFS) * height
        grid.append(f'<line x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/><text x="4" y="{y - 3:.1f}">{level}</text>')
    return Markup(
        f'<svg class="loudness" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="momentary loudness in LUFS">{"".join(grid)}{"".join(lines)}</svg>'
    )


def _columns(mel: np.ndarray) -> np.ndarray:
    """[rows, columns]: bands upwards, time to the right, neighbours averaged where there are more than pixels."""
    if len(mel) > MAX_COLUMNS:
        edges = np.linspace(0, len(mel), MAX_COLUMNS, endpoint=False).astype(int)
        mel = np.add.reduceat(mel, edges, axis=0) / np.diff(np.append(edges, len(mel)))[:, None]
    return mel.T[::-1]


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    image = image.resize((MAX_COLUMNS, image.height * ROW_PIXELS), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
