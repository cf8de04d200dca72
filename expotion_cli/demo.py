"""Three short clips of a person with known motion, for trying the tool and testing it.

A public-domain portrait (see `data/README.md`) is cut out and bent in front of a steady background: leaning sideways,
nodding, bobbing, breathing. The body moves, never the camera, and the times of all accents are known.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import OutputError, writing

WIDTH, HEIGHT = 640, 480
ENERGY_RATE_HZ = 25
TRUTH_FILE = "demo.json"

_DATA = Path(__file__).resolve().parent / "data"
_PORTRAIT_SIDE = 486
_PORTRAIT_TOP = 46  # leaves air above the hair; the portrait's lower edge lies below the frame
_LAYER_HEIGHT = _PORTRAIT_TOP + _PORTRAIT_SIDE
_FINE = 4  # the person is kept this much finer than the frame, so that small motions are smooth
_HEAD_Y, _CHIN_Y, _COLLAR_Y, _SHOULDER_Y = 60, 215, 275, 300


@dataclass(frozen=True)
class Bend:
    """The person's pose at one moment, in pixels of a 480-line frame.

    Attributes:
        lean: how far the top of the head moves to the right; further down the body moves less.
        nod: how far the head moves down.
        bob: how far the whole upper body moves down.
    """

    lean: float = 0.0
    nod: float = 0.0
    bob: float = 0.0


@dataclass(frozen=True)
class DemoClip:
    """A demo clip and its known motion.

    Attributes:
        name: what it is called; the file is `name`.mp4.
        about: one sentence.
        fps: frames per second.
        duration_s: its length.
        tempo_bpm: beats a minute of its motion; None if it has no beat.
        accent_times_s: when the motion stops or turns sharply.
        has_sound: whether there is a sound track (quiet room noise).
        bend: the motion itself, seconds -> Bend.
        path: the file, once written.
    """

    name: str
    about: str
    fps: int
    duration_s: float
    tempo_bpm: float | None
    accent_times_s: tuple[float, ...]
    has_sound: bool
    bend: Callable[[float], Bend] = dataclasses.field(repr=False)
    path: Path | None = None

    @property
    def energy(self) -> np.ndarray:
        """[T] float, picture heights a second at `ENERGY_RATE_HZ`: mean speed of head and shoulders."""
        times = np.arange(round(self.duration_s * ENERGY_RATE_HZ)) / ENERGY_RATE_HZ
        half = 0.5 / ENERGY_RATE_HZ
        heights = np.array([(_HEAD_Y + _CHIN_Y) / 2, _SHOULDER_Y])
        before, after = (np.array([_shift(self.bend(t + d), heights) for t in times]) for d in (-half, half))
        return np.hypot(*np.moveaxis(after - before, 1, 0)).mean(axis=-1) * ENERGY_RATE_HZ / HEIGHT

    def truth(self) -> dict:
        """Its known motion as JSON values."""
        return {
            "name": self.name,
            "file": f"{self.name}.mp4",
            "about": self.about,
            "fps": self.fps,
            "duration_s": self.duration_s,
            "tempo_bpm": self.tempo_bpm,
            "accent_times_s": list(self.accent_times_s),
            "has_sound": self.has_sound,
            "energy_rate_hz": ENERGY_RATE_HZ,
            "energy": [round(float(value), 4) for value in self.energy],
        }


def _beats(tempo_bpm: float, first_s: float, duration_s: float) -> tuple[float, ...]:
    count = math.floor((duration_s - first_s - 0.1) * tempo_bpm / 60) + 1
    return tuple(round(first_s + i * 60 / tempo_bpm, 4) for i in range(count))


def _arrival(phase: float, hold: float) -> float:
    """0 while holding, then faster and faster to 1 at the next beat, where the motion stops dead."""
    return max(0.0, (phase - hold) / (1 - hold)) ** 2


def _dip(phase: float) -> float:
    """1 on the beat, eased up to 0 in half a beat, then dropping faster and faster to the next beat."""
    return 0.5 * (1 + math.cos(2 * math.pi * phase)) if phase < 0.5 else (2 * phase - 1) ** 2


def _on_beats(tempo_bpm: float, first_s: float, size: Callable[[float], Bend]) -> Callable[[float], Bend]:
    """Lean from side to side, arriving on each beat, with a nod and a bob that hit bottom there.

    Args:
        tempo_bpm: beats a minute.
        first_s: when the first beat falls.
        size: how large the motion is on the beat at that time.
    """

    def bend(time_s: float) -> Bend:
        position = (time_s - first_s) * tempo_bpm / 60
        beat = math.floor(position + 1e-9)
        phase = max(0.0, position - beat)
        here, there = (size(first_s + i * 60 / tempo_bpm) for i in (beat, beat + 1))
        side = -1 if beat % 2 else 1
        way = _arrival(phase, hold=0.3)
        nearest = here if phase < 0.5 else there
        return Bend(
            lean=side * (here.lean * (1 - way) - there.lean * way),
            nod=nearest.nod * _dip(phase),
            bob=nearest.bob * _dip(phase),
        )

    return bend


def _breathing(time_s: float) -> Bend:
    breath = math.sin(2 * math.pi * time_s / 4.2)
    return Bend(lean=0.8 * math.sin(2 * math.pi * time_s / 7.0), nod=0.4 * breath, bob=-1.5 * breath)


_RISE_S = 9.0

DEMO_CLIPS: tuple[DemoClip, ...] = (
    DemoClip(
        name="sway",
        about="Sways from side to side and nods, with a clear stop on each beat.",
        fps=25,
        duration_s=10.0,
        tempo_bpm=96.0,
        accent_times_s=_beats(96, 0.5, 10.0),
        has_sound=False,
        bend=_on_beats(96, 0.5, lambda time_s: Bend(lean=34, nod=9, bob=4)),
    ),
    DemoClip(
        name="rise",
        about="Bounces and sways on the beat, hardly at first, widely at the end.",
        fps=30,
        duration_s=_RISE_S,
        tempo_bpm=120.0,
        accent_times_s=_beats(120, 0.4, _RISE_S),
        has_sound=False,
        bend=_on_beats(
            120,
            0.4,
            lambda time_s: Bend(*(full * (0.1 + 0.9 * max(0.0, time_s / _RISE_S) ** 1.2) for full in (42, 8, 14))),
        ),
    ),
    DemoClip(
        name="still",
        about="Sits nearly still and breathes.",
        fps=25,
        duration_s=8.0,
        tempo_bpm=None,
        accent_times_s=(),
        has_sound=True,
        bend=_breathing,
    ),
)


def write_demo_clips(folder: str | Path, clips: Sequence[DemoClip] = DEMO_CLIPS) -> list[DemoClip]:
    """Write the demo clips and `demo.json`, which describes their motion.

    With the same version of ffmpeg the files are the same bytes each time.

    Args:
        folder: created if missing. Files of the same names are replaced.
        clips: which ones; `dataclasses.replace` makes variants.

    Returns:
        The clips, each with its `path`.

    Raises:
        OutputError: the folder can't be written.
        MissingLibraryError: there is no ffmpeg.
    """
    folder = Path(folder)
    with writing(folder, "the demo clips", remedy="Choose another folder."):
        folder.mkdir(parents=True, exist_ok=True)
        layers = _layers()
        with ThreadPoolExecutor() as pool:
            written = list(pool.map(lambda clip: _write(clip, folder, layers), clips))
        storage.write_json(folder / TRUTH_FILE, {"clips": [clip.truth() for clip in written]})
    return written


def render_frames(clip: DemoClip) -> Iterator[np.ndarray]:
    """The clip's frames, uint8 [480, 640, 3] each."""
    layers = _layers()
    for i in range(round(clip.duration_s * clip.fps)):
        yield _render(clip.bend(i / clip.fps), layers)


def _write(clip: DemoClip, folder: Path, layers: _Layers) -> DemoClip:
    import ffmpeg

    from expotion_cli.media.ffmpeg import ffmpeg_exe

    final = folder / f"{clip.name}.mp4"
    streams = [ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{WIDTH}x{HEIGHT}", framerate=clip.fps)]
    # One thread an encoder: the bytes then do not depend on the machine, and the clips are encoded side by side.
    options = {"c:v": "libx264", "preset": "veryfast", "crf": 20, "pix_fmt": "yuv420p", "threads": 1, "g": 2 * clip.fps}
    if clip.has_sound:
        noise = "anoisesrc=color=brown:amplitude=0.02:seed=1:sample_rate=48000"
        streams.append(ffmpeg.input(noise, format="lavfi", t=clip.duration_s))
        options |= {"c:a": "aac", "b:a": "64k", "flags:a": "+bitexact"}
    with storage.atomic_path(final) as temporary:
        process = (
            ffmpeg.output(*streams, str(temporary), **options, **{"flags:v": "+bitexact", "fflags": "+bitexact"},
                          movflags="+faststart")
            .global_args("-hide_banner", "-loglevel", "error")
            .overwrite_output()
            .run_async(cmd=ffmpeg_exe(), pipe_stdin=True, pipe_stderr=True)
        )  # fmt: skip
        try:
            for i in range(round(clip.duration_s * clip.fps)):
                process.stdin.write(_render(clip.bend(i / clip.fps), layers).tobytes())
        except BrokenPipeError:
            pass  # ffmpeg's own message says why
        process.stdin.close()
        complaint = process.stderr.read().decode(errors="replace").strip()
        process.stderr.close()
        if process.wait() != 0:
            raise OutputError(f"ffmpeg could not write it ({complaint}).", path=final, remedy="Choose another folder.")
    return dataclasses.replace(clip, path=final)


@dataclass(frozen=True)
class _Layers:
    """The cut-out person and the background."""

    person: np.ndarray  # uint32 [_LAYER_HEIGHT * _FINE, WIDTH * _FINE], packed RGBA, colours times alpha
    background: np.ndarray  # uint8 [HEIGHT, WIDTH, 3]


def _layers() -> _Layers:
    from PIL import Image, ImageFilter

    portrait = Image.open(_DATA / "portrait.jpg").convert("RGB")
    mask = Image.open(_DATA / "portrait-mask.png").convert("L")
    side = _PORTRAIT_SIDE * _FINE
    colour, alpha = (np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in (portrait, mask))
    person = np.zeros((_LAYER_HEIGHT * _FINE, WIDTH * _FINE, 4), dtype=np.uint8)
    top, left = _PORTRAIT_TOP * _FINE, (WIDTH * _FINE - side) // 2
    person[top : top + side, left : left + side, :3] = colour.astype(np.uint16) * alpha[..., None] // 255
    person[top : top + side, left : left + side, 3] = alpha
    # What is behind the person: the portrait's own background, blurred, spread over the place where the person stood.
    small = np.asarray(portrait.resize((128, 128)), dtype=np.float32)
    behind = np.asarray(mask.resize((128, 128)).filter(ImageFilter.MaxFilter(7)), dtype=np.float32)
    seen = 1 - behind[..., None] / 255
    planes = np.concatenate([small * seen, seen], axis=2)
    for _ in range(3):  # three boxes make nearly a Gaussian
        planes = _box_blur(planes, 8)
    filled = np.clip(planes[..., :3] / np.maximum(planes[..., 3:], 1e-4), 0, 255).astype(np.uint8)
    background = Image.fromarray(filled).resize((WIDTH, WIDTH), Image.Resampling.BICUBIC).crop((0, 0, WIDTH, HEIGHT))
    return _Layers(person.view(np.uint32)[..., 0], np.asarray(background))


def _box_blur(values: np.ndarray, reach: int) -> np.ndarray:
    """[H, W, C], mean over a square window; the picture ends in black."""
    size = 2 * reach + 1
    for axis in (0, 1):
        margin = [(reach + 1, reach) if i == axis else (0, 0) for i in range(3)]
        sums = np.cumsum(np.pad(values, margin), axis=axis, dtype=np.float64)
        starts = np.arange(sums.shape[axis] - size)
        values = np.take(sums, starts + size, axis) - np.take(sums, starts, axis)
    return values / size**2


def _shift(bend: Bend, y: np.ndarray) -> np.ndarray:
    """[2, ...] by how many pixels the person is moved right and down at these heights of the frame."""
    lean = np.clip((_LAYER_HEIGHT - y) / (_LAYER_HEIGHT - _HEAD_Y), 0, 1.2) ** 0.7
    head = np.clip((_COLLAR_Y - y) / (_COLLAR_Y - _CHIN_Y), 0, 1)
    head = head * head * (3 - 2 * head)
    return np.stack([bend.lean * lean, bend.nod * head + bend.bob * np.minimum(1, lean * 1.3)])


def _render(bend: Bend, layers: _Layers) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3]. Rows are shifted as wholes, to a quarter of a pixel."""
    rows = np.arange(HEIGHT)
    right, down = _shift(bend, rows.astype(float))
    height, width = layers.person.shape
    source_row = np.clip(np.round((rows - down) * _FINE).astype(int), 0, height - 1)
    source_column = np.arange(WIDTH) * _FINE - np.round(right * _FINE).astype(int)[:, None]
    picked = layers.person.ravel()[source_row[:, None] * width + np.clip(source_column, 0, width - 1)]
    bent = picked.view(np.uint8).reshape(HEIGHT, WIDTH, 4)
    see_through = 255 - bent[..., 3:].astype(np.uint16)
    return bent[..., :3] + (layers.background * see_through // 255).astype(np.uint8)
