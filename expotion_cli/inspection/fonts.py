"""Letters: the font that comes with Pillow, and the system's for what it lacks."""

from __future__ import annotations

import functools
import unicodedata

from PIL import ImageFont

_OTHERS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial Unicode.ttf"),
    *("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "meiryo.ttc", "malgun.ttf", "AppleGothic.ttf"),
)
"""File names that Pillow looks for in the system's font folders."""
_MEASURED = 3
"""Widths are taken at this many times the size: small letters stand at whole pixels."""
_NOBODYS = "\U0010fffe"  # in no font: gives the box that stands for a missing letter


def printable(text: str) -> str:
    """Text that any file format can hold: composed letters, no control characters, no halves of characters."""
    kept = unicodedata.normalize("NFC", text).encode("utf-8", "replace").decode("utf-8")
    return "".join(
        "?" if unicodedata.category(letter) == "Cc" or letter in "\ufffe\uffff" else letter for letter in kept
    )


@functools.lru_cache(maxsize=512)
def font_for(text: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The first font that has all letters of the text, else the one that lacks the fewest."""
    own = ImageFont.load_default(size)
    lacking = _lacking(own, text)
    if not lacking:
        return own
    best = (lacking, own)
    for name in _OTHERS:
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        best = min(best, (_lacking(font, text), font), key=lambda pair: pair[0])
        if best[0] == 0:
            break
    return best[1]


def text_width(text: str, size: float) -> float:
    """Pixels from the first letter's beginning to the last one's end."""
    return font_for(text, _MEASURED * size).getlength(text) / _MEASURED


def shortened(text: str, size: float, width: float) -> str:
    """The text, with its middle left out where it is longer than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and text_width(_without_middle(text, kept), size) > width:
        kept = kept - 1 if kept < 80 else kept * 9 // 10
    return _without_middle(text, kept)


def _without_middle(text: str, kept: int) -> str:
    ending = kept // 2
    return f"{text[: kept - ending]}…{text[len(text) - ending :]}"


def _lacking(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    missing = _shape(font, _NOBODYS)
    return sum(not letter.isspace() and _shape(font, letter) == missing for letter in set(text))


def _shape(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
