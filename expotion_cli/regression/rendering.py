"""Renders clips up the ordinary ladder, taking nothing from a cache, and keeps what a comparison needs."""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from expotion_cli.errors import ClipError, EnvironmentProblem, ExpotionError, ProbeError, reading
from expotion_cli.media.clip import output_suffix
from expotion_cli.music.identity import ModelIdentity
from expotion_cli.recipe import Recipe
from expotion_cli.regression.measures import Sound
from expotion_cli.scoring import ladder, playing
from expotion_cli.scoring.discover import Source
from expotion_cli.scoring.group import ComposedCue, Order, compose, groups
from expotion_cli.scoring.guard import guard
from expotion_cli.scoring.naming import destination, refuse_collisions
from expotion_cli.scoring.sidecar import tempo_record, versions
from expotion_cli.scoring.streams import missing_in_clip, missing_streams, needs_of, streams_for
from expotion_cli.scoring.takes.playing import play_composed
from expotion_cli.storage import digest_bytes, digest_file

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.music.model import Model
    from expotion_cli.vision.encoder import StreamSource


@dataclass(frozen=True)
class Clip:
    """A clip to render.

    Attributes:
        name: path inside the input, with forward slashes.
        info: what probing found.
        sha256: of its bytes.
    """

    name: str
    info: ClipInfo
    sha256: str


@dataclass(frozen=True)
class Rendered:
    """A clip's music and all that decided it.

    Attributes:
        clip: what was rendered.
        prompt, seed: of its cue.
        tempo: `scoring.sidecar.tempo_record`, or None.
        streams: what was seen: name, digest and share found of each embedding stream.
        conditioning: digest of what the decoder received.
        tokens: [K, S] int64.
        rate_hz, start_s: of the step grid.
        sound: the finished video's sound track, decoded.
        measured: loudness, true peak and the number of onsets, for people.
        notes: in words, what is out of the ordinary.
        duration_s: how long rendering took, the shared composing aside.
    """

    clip: Clip
    prompt: str
    seed: int
    tempo: dict[str, Any] | None
    streams: list[dict[str, Any]]
    conditioning: str
    tokens: np.ndarray
    rate_hz: float
    start_s: float
    sound: Sound
    measured: dict[str, Any]
    notes: tuple[str, ...]
    duration_s: float


class TimeLimit:
    """Seconds from now until nothing more is begun.

    Args:
        limit_s: None for no limit.
    """

    def __init__(self, limit_s: float | None):
        self.limit_s, self._started = limit_s, time.monotonic()

    def check(self, *_: object) -> None:
        """Raise once the time is over; takes and ignores what progress callbacks are given.

        Raises:
            ClipError: it is over.
        """
        if self.limit_s is not None and time.monotonic() - self._started > self.limit_s:
            raise ClipError(
                f"the time limit of {self.limit_s:g} s was reached before this clip was through.",
                remedy="Raise --time-limit, or check fewer or shorter clips.",
            )


def inspect(source: Source) -> Clip:
    """Probe and hash one file.

    Raises:
        ProbeError: it can't be read.
    """
    from expotion_cli.media.probe import probe

    with reading(source.path, error=ProbeError, remedy="Check its permissions."):
        return Clip(source.relative.as_posix(), probe(source.path), digest_file(source.path))


def render(
    clips: Sequence[Clip],
    recipe: Recipe,
    model: Model,
    *,
    features: Sequence[StreamSource] = (),
    limit: TimeLimit | None = None,
    on_stage: Callable[[str, str], None] | None = None,
) -> Iterator[tuple[int, Rendered | ExpotionError]]:
    """Render clips, many cues at a time.

    Args:
        clips: what to render.
        recipe: with all flags laid over it; its seed policy gives each clip its seed.
        model: from `music.load.load_model`.
        features: folders of rows computed elsewhere, in place of the encoders of these names.
        limit: when to stop.
        on_stage: told (clip name, "see", "compose" or "render") as each begins.

    Yields:
        (index of the clip, what came of it), each clip once, in any order; a failure of one never ends the others.

    Raises:
        EnvironmentProblem: this machine lacks something that all clips need.
    """
    limit, tell = limit or TimeLimit(None), on_stage or (lambda name, stage: None)
    choice = streams_for(recipe, needs_of(model), features)
    identity, common = ModelIdentity.of(model), run_notes(model, recipe, features)

    def see(clip: Clip) -> ladder.Seen:
        tell(clip.name, "see")
        limit.check()
        # No cache: an entry would hide what changed in the code that made it.
        return ladder.see(clip.info, choice.sources, cache=None, on_progress=limit.check)

    def begun(orders: Sequence[Order]) -> None:
        for order in orders:
            tell(clips[order.key].name, "compose")

    orders = [
        Order(clip.info, recipe, recipe.prompt, recipe.seed_for(clip.sha256), see=partial(see, clip), key=index)
        for index, clip in enumerate(clips)
    ]
    failures: list[tuple[int, ExpotionError]] = []
    for some in groups(orders, model.device):
        cues = compose(
            model,
            some,
            failed=lambda order, error: failures.append((order.key, error)),
            fatal=(EnvironmentProblem,),
            on_begin=begun,
            on_progress=limit.check,
        )
        for cue in cues:
            clip = clips[cue.order.key]
            tell(clip.name, "render")
            notes = (*common, *cue.seen.notes, *missing_in_clip(identity, choice, cue.seen.streams, recipe))
            outcome: list[Rendered | ExpotionError] = []
            with guard(clip.info.path, outcome.append, fatal=(EnvironmentProblem,)):
                limit.check()
                outcome.append(_finish(clip, model, cue, notes))
            yield cue.order.key, outcome[0]
        yield from failures
        failures.clear()


def run_notes(model: Model, recipe: Recipe, features: Sequence[StreamSource] = ()) -> tuple[str, ...]:
    """What holds for all clips: encoders that can't run, what the adapter reads but does not get, missing kits."""
    choice = streams_for(recipe, needs_of(model), features)
    missing = missing_streams(ModelIdentity.of(model), choice, recipe)
    return (*choice.notes, *choice.remarks, *missing, *playing.check_instruments(model, recipe))


def _finish(clip: Clip, model: Model, cue: ComposedCue, notes: Iterable[str]) -> Rendered:
    from expotion_cli.media.flac import to_16_bit
    from expotion_cli.media.sound import read_clip_sound

    started = time.monotonic()
    recipe, request = cue.order.recipe, cue.request
    chosen = play_composed(model, cue)
    score = chosen.played.score
    with tempfile.TemporaryDirectory(prefix="expotion-regress-") as scratch:
        video = destination(scratch, PurePath(PurePath(clip.name).name), output_suffix(clip.info))
        report = ladder.finish(clip.info, score, recipe, video)
        # What is heard is compared: after the limiter and the encoder, on the picture's clock.
        sound = Sound(to_16_bit(read_clip_sound(video, report.sample_rate)), report.sample_rate)
    measured = {
        "integrated_lufs": _tenths(report.loudness.integrated_lufs),
        "true_peak_dbtp": _tenths(report.loudness.true_peak_dbtp),
        "onsets": len(sound.onset_times_s),
        "audio_codec": report.audio_codec,
    }
    streams = [{key: record[key] for key in ("name", "digest", "found")} for record in cue.seen.reports]
    return Rendered(
        clip=clip,
        prompt=request.prompt,
        seed=request.seed,
        tempo=tempo_record(cue.tempo),
        streams=streams,
        conditioning=conditioning_digest(request.conditioning),
        tokens=np.asarray(cue.takes[chosen.number - 1]),
        rate_hz=float(request.timeline.rate_hz),
        start_s=float(request.timeline.start),
        sound=sound,
        measured=measured,
        notes=(*notes, *report.notes),
        duration_s=round(cue.seen.took_s + time.monotonic() - started, 3),
    )


def conditioning_digest(conditioning: Mapping[str, Any] | None) -> str:
    """sha256 (hex) over the streams the decoder receives, or of their absence."""
    parts = [b"none" if conditioning is None else b"streams"]
    for name, stream in sorted((conditioning or {}).items()):
        values = np.ascontiguousarray(stream.values, np.float32)
        parts += [name.encode(), repr(values.shape).encode(), values.tobytes(), np.asarray(stream.mask, bool).tobytes()]
    return digest_bytes(*parts)


def machine_facts(model: Model) -> dict[str, str]:
    """What the exact tokens and samples of a render may depend on besides settings, weights and this program.

    Library matrix products round by instruction set, number of threads and version; decoders and face models likewise.
    """
    import torch

    device = torch.device(str(model.device))
    facts = {
        "system": platform.system(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "number type": str(model.dtype).removeprefix("torch."),
    }
    return facts | versions() | {"ffmpeg": _ffmpeg_version()}


NOT_OF_THE_MACHINE = ("python", "expotion")
"""Facts that are told when they change, but leave exact equality to be expected."""


@lru_cache(maxsize=1)
def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def _ffmpeg_version() -> str:
    import imageio_ffmpeg

    from expotion_cli.media.ffmpeg import ffmpeg_exe

    ffmpeg_exe()
    return imageio_ffmpeg.get_ffmpeg_version()


def _tenths(value: float) -> float | None:
    return round(float(value), 1) if np.isfinite(value) else None


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """All settings that shape a result, as plain JSON values."""
    fields = {"prompt": recipe.prompt, "seed": recipe.generate.seed, **recipe.fields()}
    return json.loads(json.dumps(fields))


def refuse_equal_names(clips: Iterable[Clip]) -> None:
    """Notice clips whose references would overwrite each other.

    Raises:
        UsageError: naming them.
    """
    refuse_collisions((clip.info.path, Path("reference") / clip.name) for clip in clips)
