"""Turns decoded frames into upright pixels: scaled, deinterlaced, and tone-mapped from HDR to standard range."""

from __future__ import annotations

import functools
from fractions import Fraction

import av
import numpy as np

from expotion_cli.media.frames import View
from expotion_cli.media.probe import Orientation, stored_size

PQ, HLG = 16, 18
"""Transfer characteristics (ITU-T H.273) of HDR video: SMPTE ST 2084 and ARIB STD-B67."""
BT2020 = 9
REFERENCE_WHITE_NITS = 203.0  # ITU-R BT.2408: HDR reference white
_KNEE = 0.7
_LEVELS = 4096


class Painter:
    """Paints decoded frames of one stream as one view wants them.

    Args:
        stream: where the frames come from.
        view: size and colours.
    """

    def __init__(self, stream: av.video.stream.VideoStream, view: View):
        self._stream, self._view = stream, view
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._orientation: Orientation | None = None
        self._fields = _FieldPicker()

    def paint(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as uint8 [h, w, 3] RGB, or [h, w] grey."""
        if self._orientation is None:
            self._orientation = Orientation.of(frame)
        stored = stored_size(frame, self._stream)
        wanted = self._view.size_of(*self._orientation.turned(stored))
        width, height = self._orientation.turned(wanted)
        # AREA averages what it drops, so fine texture doesn't flicker between frames
        interpolation = "AREA" if width * height < stored[0] * stored[1] else "BICUBIC"
        transfer = int(getattr(frame, "color_trc", 0))
        is_hdr = transfer in (PQ, HLG) and not self._view.grey
        layout = "gray8" if self._view.grey else "rgb48le" if is_hdr else "rgb24"
        source = self._fields.pick(frame) if frame.interlaced_frame and frame.height > 4 else frame
        picture = self._reformatter.reformat(source, width, height, layout, interpolation=interpolation, threads=1)
        pixels = picture.to_ndarray()
        if is_hdr:
            pixels = to_standard_range(pixels, transfer, wide=int(getattr(frame, "color_primaries", 0)) == BT2020)
        return self._orientation.apply(pixels)


class _FieldPicker:
    """Takes one field of interlaced frames: half the lines, but all of one moment."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[int, int, str] | None = None

    def pick(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The upper field of a frame."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or self._shape != shape:
            self._graph, self._shape = av.filter.Graph(), shape
            source = self._graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base or Fraction(1, 25),
            )
            field, sink = self._graph.add("field", "top"), self._graph.add("buffersink")
            source.link_to(field)
            field.link_to(sink)
            self._graph.configure()
        self._graph.push(frame)
        pulled = self._graph.pull()
        assert isinstance(pulled, av.VideoFrame)
        return pulled


def to_standard_range(pixels: np.ndarray, transfer: int, *, wide: bool = True) -> np.ndarray:
    """Bring an HDR frame to the brightness and colours of an ordinary one.

    Light is computed from the transfer function (SMPTE ST 2084, or ARIB STD-B67 for a display of 1,000 nits), turned
    from BT.2020 to BT.709 colours, kept as it is up to 0.7 of reference white and pressed together above.

    Args:
        pixels: uint16 [h, w, 3], full range.
        transfer: `PQ` or `HLG`.
        wide: the colours are BT.2020's.

    Returns:
        uint8 [h, w, 3].
    """
    light = _light_table(transfer)[pixels >> 4]
    if wide:
        light = np.maximum(light @ _BT2020_TO_BT709.T, 0)
    # square roots spread the table's entries about as the eye would
    return _display_table()[np.minimum(np.sqrt(light) * (_LEVELS / 8), _LEVELS - 1).astype(np.uint16)]


_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)  # ITU-R BT.2407


@functools.cache
def _light_table(transfer: int) -> np.ndarray:
    """[4096] float32: code value → light, 1 for reference white."""
    code = np.arange(_LEVELS) / (_LEVELS - 1)
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        nits = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        nits = 1000 * scene**1.2
    return (nits / REFERENCE_WHITE_NITS).astype(np.float32)


@functools.cache
def _display_table() -> np.ndarray:
    """[4096] uint8: eight times the root of light, in 4096 steps → BT.709 code value of what is shown."""
    light = (np.arange(_LEVELS) * 8 / _LEVELS) ** 2
    shown = np.where(light <= _KNEE, light, _KNEE + (1 - _KNEE) * (1 - np.exp(-(light - _KNEE) / (1 - _KNEE))))
    coded = np.where(shown < 0.018, 4.5 * shown, 1.099 * shown**0.45 - 0.099)
    return np.rint(255 * np.clip(coded, 0, 1)).astype(np.uint8)
