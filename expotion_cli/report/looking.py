"""What the page shows of a video beside its facts: a small picture, the shape of its sound, how much moves."""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.errors import ExpotionError
from expotion_cli.hints import FileHints, state_of
from expotion_cli.report.results import takes_of
from expotion_cli.scoring.guard import as_failure
from expotion_cli.scoring.plan import CLIP_TIMEOUT_PER_S, CLIP_TIMEOUT_S

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.report.results import Result
    from expotion_cli.scoring.executors import Executor
    from expotion_cli.vision.encoder import EmbeddingStream

VERSION = 1
"""Raised when the same video comes to be looked at with another outcome."""
POSTER_SIDE, POSTER_BYTES = 360, 9_000
COLUMNS, TAKE_COLUMNS = 480, 96
SOUND_HZ = 8_000
LONGEST_S = 7200.0
"""What a sidecar may claim of its clip's length where that decides how long looking at it may take."""
_QUALITIES = (70, 60, 50, 40, 30)
_SMALLEST_SIDE = 8
_NO_DIGEST = "0" * 64  # a hint of the page's own: its key tells the file's state, and nobody asks it for the content
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Look:
    """What a video looks and sounds like.

    Attributes:
        duration_s: of its picture.
        width, height: of its picture.
        poster: a JPEG, at most `POSTER_BYTES`, base64; empty where no frame can be read.
        peaks: the sound's peak in each of at most `COLUMNS` columns, 0..255 of its highest, base64; empty if silent.
        motion: how much moves, 255 for the clip's own activity or more, likewise; empty where nothing moves.
        takes: name of a kept take's file → the shape of its sound, as `peaks`, in fewer columns.
        trouble: what could not be read, in words.
    """

    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    poster: str = ""
    peaks: str = ""
    motion: str = ""
    takes: Mapping[str, str] = field(default_factory=dict)
    trouble: tuple[str, ...] = ()


def look_at(video: Path, streams: Mapping[str, str], takes: Sequence[Path] = ()) -> dict[str, Any]:
    """Look at a video and listen to it.

    Args:
        video: the file.
        streams: name → digest of embedding streams of its clip, which spare looking again if the cache has them.
        takes: sound files of its takes.

    Returns:
        The fields of a `Look`, in plain values.

    Raises:
        ProbeError: it can't be opened.
    """
    from expotion_cli.media.probe import probe

    info = probe(video)
    duration_s = float(info.duration)
    found: dict[str, Any] = {"duration_s": round(duration_s, 3), "width": info.width, "height": info.height}
    trouble = []
    for name, make in (
        ("poster", lambda: _poster(info)),
        ("peaks", lambda: _peaks(info)),
        ("motion", lambda: _motion(info, streams)),
        ("takes", lambda: {take.name: _peaks_of(take) for take in takes}),
    ):
        try:
            found[name] = make()
        except ExpotionError as error:
            trouble.append(error.reason)
    return {**found, "trouble": trouble}


def look(
    results: Iterable[Result], executor: Executor, on_progress: Callable[[int, int], None] | None = None
) -> dict[Path, Look]:
    """Look at the videos of results; what was seen of an unchanged one is remembered.

    Args:
        results: those without a video are passed over.
        executor: where it is done; a video that can't be read costs no other.
        on_progress: called with the numbers of videos that are done and that there are.

    Returns:
        Video → what was seen.
    """
    hints, found, waiting = FileHints(), {}, {}
    for result in results:
        if (video := result.video) is None:
            continue
        key: tuple[int, ...] = ()
        takes: list[Path] = []
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            takes = [take.sound for take in takes_of(result) if take.sound is not None]
            key = (VERSION, *(number for path in (video, *takes) for number in state_of(path)))
            known = hints.recall(key)
            if known is not None:
                found[video] = _from_record(known["look"])
                continue
        duration_s = result.facts.table("clip").number("duration_s") or 0.0
        limit_s = CLIP_TIMEOUT_S + CLIP_TIMEOUT_PER_S * min(max(duration_s, 0.0), LONGEST_S)
        outcome = executor.submit("see", look_at, video, _streams(result), takes, path=video, limit_s=limit_s)
        waiting[video] = key, outcome
    total = len(found) + len(waiting)
    for video, (key, outcome) in waiting.items():
        try:
            record = outcome.result()
            found[video] = _from_record(record)
            hints.keep(key, _NO_DIGEST, look=record)
        except Exception as error:  # whatever is wrong with one video, the others are shown
            found[video] = Look(trouble=(as_failure(error, video).reason,))
        if on_progress is not None:
            on_progress(len(found), total)
    return found


def _from_record(record: Mapping[str, Any]) -> Look:
    return Look(**{**record, "trouble": tuple(record["trouble"])})


def _poster(info: ClipInfo) -> str:
    """A frame a third into the clip, where most clips have begun."""
    from PIL import Image

    from expotion_cli.media.frames import View
    from expotion_cli.media.stills import stills

    (frame,) = stills(info, [float(info.duration) / 3], View(max_side=POSTER_SIDE))
    image = Image.fromarray(frame)
    while min(image.size) >= _SMALLEST_SIDE:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
            if buffer.tell() <= POSTER_BYTES:
                return base64.b64encode(buffer.getvalue()).decode()
        image = image.resize((image.width // 2, image.height // 2))
    return ""


def _peaks(info: ClipInfo) -> str:
    from expotion_cli.media.sound import read_clip_sound

    return _shape(read_clip_sound(info, SOUND_HZ), COLUMNS)


def _peaks_of(take: Path) -> str:
    from expotion_cli.media.sound import read_sound

    return _shape(read_sound(take, SOUND_HZ, max_s=LONGEST_S), TAKE_COLUMNS)


def _shape(sound: np.ndarray, columns: int) -> str:
    """[channels, n] → its peak in each column."""
    peaks = np.abs(sound).max(axis=0)
    peaks = np.maximum.reduceat(peaks, _starts(len(peaks), columns)) if len(peaks) else peaks
    return _packed(peaks, float(peaks.max(initial=0.0)))


def _motion(info: ClipInfo, streams: Mapping[str, str]) -> str:
    """From the streams that scoring saw, where the cache still has them; else from this picture's flow."""
    from expotion_cli.spotting.activity import MOTION_RATE_HZ, activity_curve
    from expotion_cli.vision.cache import EmbeddingCache
    from expotion_cli.vision.streams import encode_clip

    cache = EmbeddingCache()
    kept = {name: cache.get(digest) for name, digest in streams.items() if _DIGEST.fullmatch(digest)}
    found: dict[str, EmbeddingStream] = {name: stream for name, stream in kept.items() if stream is not None}
    if "flow" not in found:
        found = encode_clip(info, ("flow",), cache=cache)
    curve, _, _ = activity_curve(found, float(info.duration), MOTION_RATE_HZ)
    starts = _starts(len(curve), COLUMNS)
    mean = np.add.reduceat(curve, starts) / np.diff(np.append(starts, len(curve)))
    return _packed(mean, max(1.0, float(mean.max())))  # 1 is the clip's own activity: a still clip stays low


def _starts(count: int, columns: int) -> np.ndarray:
    """Where each of at most so many columns begins among `count` values."""
    return np.linspace(0, count, min(columns, count), endpoint=False).astype(int)


def _packed(columns: np.ndarray, top: float) -> str:
    """One byte a column, `top` 255, base64; empty where nothing reaches half a step."""
    if not np.isfinite(top) or top <= 0:
        return ""
    steps = np.rint(np.clip(columns / top, 0, 1) * 255).astype(np.uint8)
    return base64.b64encode(steps.tobytes()).decode() if steps.any() else ""


def _streams(result: Result) -> dict[str, str]:
    """Name → digest of the streams that a sidecar names."""
    rows = result.facts.rows("streams")
    return {row.text("name"): row.text("digest") for row in rows if row.text("name") and row.text("digest")}
