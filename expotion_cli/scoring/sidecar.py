"""The sidecar `NAME.score.json`: what a result is known by, how it came about, and whether it is whole.

A result is done when the video is there, the sidecar beside it names the same digest, and the video's bytes are the
ones the sidecar recorded. Names and times decide nothing.

Format 2 names stages and settings as the rest of the program does (`see`, `finish`, `generate.takes`). Format 1 (before
0.2) is read as if it were format 2.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expotion_cli.hints import FileHints
from expotion_cli.scoring.extras import NO_EXTRAS, Extras, is_whole, path_of, records
from expotion_cli.scoring.markers import grid_facts, marker_path
from expotion_cli.spotting.plan_file import plan_digest
from expotion_cli.storage import digest_file, digest_of, parse_json, read_text, remove_temporaries, write_json
from expotion_cli.timeline.files import WRITERS
from expotion_cli.version import __version__

if TYPE_CHECKING:
    from expotion_cli.media.clip import ClipInfo
    from expotion_cli.media.remux import RemuxReport
    from expotion_cli.music.identity import ModelIdentity
    from expotion_cli.music.model import Model
    from expotion_cli.recipe import Recipe
    from expotion_cli.scoring.follow.layer import Answer
    from expotion_cli.spotting.plan import CuePlan
    from expotion_cli.timing import Tempo, Timeline

FORMAT = 2
"""Raised when a sidecar comes to be written in another form."""

CUE_VERSION = 1
"""Raised when the digest of a cue comes to be made of other facts."""

RESULT_VERSION = 4
"""Raised when the same tokens and settings come to give another result."""

SIDECAR_SUFFIX = ".score.json"
_STAGES_OF_FORMAT_1 = {"look": "see", "encode": "finish"}


def cue_digest(fields: Mapping[str, Any]) -> str:
    """sha256 (hex) of all that decides a cue's tokens."""
    return digest_of({"format": CUE_VERSION, "cue": fields})


def result_digest(fields: Mapping[str, Any]) -> str:
    """sha256 (hex) of all that decides a finished result, the digest of its tokens included."""
    return digest_of({"format": RESULT_VERSION, **fields})


def sidecar_path(video: Path) -> Path:
    """`NAME.score.json` beside `NAME.mp4`."""
    return video.with_name(video.stem + SIDECAR_SUFFIX)


def midi_path(video: Path) -> Path:
    """`NAME.mid` beside `NAME.mp4`."""
    return video.with_name(video.stem + ".mid")


def file_record(path: Path) -> dict[str, Any]:
    """Name, size and sha256 of a finished file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest_file(path)}


def read_sidecar(video: Path) -> dict[str, Any] | None:
    """The sidecar of a result in today's form, or None where there is none that can be read."""
    try:
        content = parse_json(read_text(sidecar_path(video)))
    except (OSError, ValueError):
        return None
    return upgraded(content) if isinstance(content, dict) else None


def upgraded(sidecar: dict[str, Any]) -> dict[str, Any]:
    """A sidecar's content in today's form; sidecars of format 1 called some stages and settings otherwise."""
    if sidecar.get("format") != 1:
        return sidecar
    found = dict(sidecar)
    if isinstance(found.get("stages_s"), dict):
        found["stages_s"] = renamed_stages(found["stages_s"])
    recipe = found.get("recipe")
    if isinstance(recipe, dict) and isinstance(recipe.get("generate"), dict):
        generate = dict(recipe["generate"])
        if "drafts" in generate:
            generate["takes"] = generate.pop("drafts")
        found["recipe"] = {**recipe, "generate": generate}
    return found


def renamed_stages(stages_s: Mapping[str, float]) -> dict[str, float]:
    """Durations of stages under their names of today."""
    return {_STAGES_OF_FORMAT_1.get(stage, stage): value for stage, value in stages_s.items()}


def write_sidecar(video: Path, content: Mapping[str, Any]) -> None:
    """Write the sidecar: the last step of a result, so that its presence means the rest is whole."""
    write_json(sidecar_path(video), content)


def matches(path: Path, record: Any, hints: FileHints | None = None) -> bool:
    """Whether a file is the one of this record (`file_record`).

    Args:
        path: the file.
        record: of size and sha256; anything else matches nothing.
        hints: spares reading unchanged files again.
    """
    try:
        if path.stat().st_size != record["bytes"]:
            return False
        return bool((digest_file(path) if hints is None else hints.sha256(path)) == record["sha256"])
    except (OSError, TypeError, KeyError):
        return False


def is_done(
    video: Path,
    sidecar: Mapping[str, Any] | None,
    digest: str,
    *,
    midi: bool = False,
    extras: Extras = NO_EXTRAS,
    beside: Iterable[tuple[Path, Any]] = (),
    hints: FileHints | None = None,
    is_same: Callable[[Path, Any, FileHints | None], bool] = matches,
) -> bool:
    """Whether this very result is already there, whole and unaltered.

    Args:
        video: the result's final path.
        sidecar: what `read_sidecar` says of it.
        digest: what the sidecar must name.
        midi: whether a MIDI file belongs to it.
        extras: sound files that belong to it.
        beside: what else must be there: files and their records.
        hints: remembers what unchanged files hold; without them every byte is read.
        is_same: tells whether a file is the one of a record.
    """
    if sidecar is None or sidecar.get("artefact") != digest:
        return False
    if midi and sidecar.get("midi") is None and sidecar.get("has_midi", True):
        return False
    wanted = [(video, sidecar.get("output"))] + ([(midi_path(video), sidecar["midi"])] if sidecar.get("midi") else [])
    if not all(is_same(path, record, hints) for path, record in (*wanted, *beside)):
        return False
    return is_whole(video, sidecar, extras, lambda path, record: is_same(path, record, hints))


def remove_leftovers(video: Path) -> None:
    """Remove temporary files and folders that a killed run left beside this result."""
    markers = [marker_path(video, kind) for kind in WRITERS]
    stems = path_of(video, ".stems")  # beside it lie, until they are whole, all sound files
    remove_temporaries(video, sidecar_path(video), midi_path(video), *markers, stems)


def sound_files(video: Path) -> list[str]:
    """Names (`extras.path_of`) of the sound files that belong to the result that is there, unaltered ones alone."""
    known = records(read_sidecar(video))
    return [name for name, record in known.items() if matches(path_of(video, name), record)]


def tempo_record(tempo: Tempo | None) -> dict[str, Any] | None:
    """A tempo as plain values, exact enough to make the same grid again; None for music without a beat grid."""
    if tempo is None:
        return None
    from expotion_cli.timing import COMMON_METRE

    return {
        "bpm": round(float(tempo.bpm), 3),
        "start_s": round(float(tempo.start), 6),
        "confidence": round(float(tempo.confidence), 3),
        "exact": [str(tempo.bpm), str(tempo.start)],
        **({"metre": tempo.metre} if tempo.metre != COMMON_METRE else {}),
        **({"bends": [list(bend) for bend in tempo.bends]} if tempo.bends else {}),
    }


def cue_timeline(model: Model, duration: Fraction, record: Mapping[str, Any] | None) -> Timeline:
    """The step grid of a cue that was composed before.

    Args:
        model: that composed it.
        duration: of the picture, in seconds.
        record: of its tempo (`tempo_record`); None for codecs without a beat grid.
    """
    return model.codec.timeline(duration, None if record is None else tempo_of(record))


def tempo_of(record: Mapping[str, Any]) -> Tempo:
    """The tempo of a `tempo_record`."""
    from expotion_cli.timing import COMMON_METRE, Tempo

    bpm, start = (Fraction(text) for text in record["exact"])
    bends = tuple((float(time_s), float(factor)) for time_s, factor in record.get("bends", ()))
    return Tempo(bpm, start, record["confidence"], bends, record.get("metre", COMMON_METRE))


def describe(
    identity: ModelIdentity,
    recipe: Recipe,
    clip: ClipInfo,
    cue_notes: Mapping[str, Any],
    report: RemuxReport,
    *,
    prompt: str,
    seed: int,
    stages_s: Mapping[str, float],
    run_notes: Iterable[str] = (),
) -> dict[str, Any]:
    """What the sidecar says about a result, in plain JSON values; a silent result's loudness is null.

    Args:
        identity: of the model that composed.
        recipe: with all flags laid over it.
        clip: what was scored.
        cue_notes: what was noted when the cue was composed.
        report: of the finished video.
        prompt: of the cue.
        seed: of the cue.
        stages_s: how long rendering and finishing took.
        run_notes: what holds for all results of the run.
    """
    tempo = cue_notes["tempo"]
    return {
        "format": FORMAT,
        "clip": {
            "duration_s": round(float(clip.duration), 6),
            "fps": round(float(clip.fps), 6),
            "width": clip.width,
            "height": clip.height,
            "has_sound": clip.has_sound,
        },
        "output": {"audio_codec": report.audio_codec, "sample_rate": report.sample_rate},
        "recipe": {"name": recipe.name, "tags": list(recipe.tags), "digest": recipe.digest, **recipe.fields()},
        "prompt": prompt,
        "seed": seed,
        "model": {
            "name": identity.name,
            "digest": identity.digest,
            "licence": identity.licence,
            "backbone": identity.backbone,
        },
        "adapter": identity.adapter_name,
        "soundfont": identity.soundfont,
        "device": identity.device,
        "dtype": identity.dtype,
        "streams": cue_notes["streams"],
        "left_out": cue_notes["left_out"],
        "tempo": tempo and {key: tempo[key] for key in ("bpm", "start_s", "confidence")},
        "loudness": loudness_record(report),
        **({} if report.speech is None else {"speech": [list(span) for span in report.speech]}),
        "notes": [*run_notes, *cue_notes["notes"], *report.notes],
        "stages_s": {**renamed_stages(cue_notes["stages_s"]), **stages_s},
        "composed_together": cue_notes["composed_together"],
        "versions": versions(),
    }


def loudness_record(report: RemuxReport) -> dict[str, float | None]:
    """How loud a result came out; null for silence."""
    return {
        "integrated_lufs": _finite(report.loudness.integrated_lufs),
        "true_peak_dbtp": _finite(report.loudness.true_peak_dbtp),
        "range_lu": _finite(report.loudness.range_lu),
        "gain_db": _finite(report.gain_db),
        "limited_db": _finite(report.limited_db),
    }


def followed(plan: CuePlan, given: str | None, answers: Iterable[Answer], *, has_beats: bool = True) -> dict[str, Any]:
    """What the sidecar says of a result's cue plan.

    Where it is from, its hit points and what answers them, its cuts and sections, and the beat grid.

    Args:
        plan: what the music should do.
        given: the file that the plan was read from, or None if it was found in the picture.
        answers: the accents that answer them.
        has_beats: whether the music keeps to the plan's beats.
    """
    by_hit = {answer.hit_s: answer for answer in answers}
    hits = []
    for hit in plan.hits:
        answer = by_hit.get(hit.time_s)
        hits.append(
            {
                "time_s": hit.time_s,
                "weight": hit.weight,
                "cause": hit.cause,
                "source": hit.source,
                "answered_s": answer.time_s if answer is not None else None,
                "sounds": list(answer.sounds) if answer is not None else [],
            }
        )
    cuts = [{"time_s": cut.time_s, "kind": cut.kind, "strength": cut.strength} for cut in plan.cuts]
    about = {"given": given, "digest": plan_digest(plan), "start_s": plan.start_s, "end_s": plan.end_s}
    return {"plan": about, "hits": hits, "cuts": cuts, **grid_facts(plan, plan.tempo if has_beats else None)}


def _finite(value: float) -> float | None:
    return round(float(value), 2) if math.isfinite(value) else None


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python, of this program and of the libraries that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in ("expotion", "torch", "transformers", "audiocraft", "diffusers", "mediapipe", "av", "symusic", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "expotion": __version__}
