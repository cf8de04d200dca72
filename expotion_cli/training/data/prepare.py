"""Makes a data folder: encodes every clip once, splits the clips, and reports where the split leaks."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import ClipError, ExpotionError, OutputError, UsageError, reason_of
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.training.data import fingerprint, splits
from expotion_cli.training.data.curves import MusicCurves
from expotion_cli.training.data.data_folder import ClipRecord, DataFolder, PreparedClip
from expotion_cli.training.data.encode import ClipEncoder, usual_features
from expotion_cli.training.data.listing import ClipSource, Listing, find_clips
from expotion_cli.training.data.tokens import MUSICGEN_FORMAT, AudioTokenizer, TokenFormat
from expotion_cli.vision.cache import EmbeddingCache

FEATURES_HZ = 5.0
"""Rows a second of the features that EXPOTION's authors extract (section 4)."""

OnClip = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare clips.

    Attributes:
        streams: encoders for videos; empty leaves pictures out.
        caption: template for clips without a caption; may hold {stem} and {folder}.
        held_out: a folder or list to hold out as a whole; None chooses among the clips.
        held_out_share: share of the whole duration to hold out, 0..1, where `held_out` is None.
        drop_leaks: set clips aside that share a track, a recording or a person with `held_out`.
        root: where a list's relative paths begin; the list's own folder by default.
        features: streams that a list's features hold; empty recognises them by their width.
        features_hz: rows a second of a list's features.
        seed: of the choice of held-out clips.
    """

    streams: tuple[str, ...] = ("face", "pose", "flow")
    caption: str = ""
    held_out: Path | None = None
    held_out_share: float = 0.1
    drop_leaks: bool = False
    root: Path | None = None
    features: tuple[StreamSpec, ...] = ()
    features_hz: float = FEATURES_HZ
    seed: int = 0


@dataclass(frozen=True)
class PrepareResult:
    """What a data folder holds after a run.

    Attributes:
        clips: all of them.
        problems: skipped clips and files, and why.
        leaks: of the held-out clips.
        notes: sentences on what the user should know.
        encoded: clips that were encoded in this run; the others were there already.
    """

    clips: tuple[ClipRecord, ...]
    problems: tuple[ExpotionError, ...]
    leaks: splits.Leaks
    notes: tuple[str, ...] = ()
    encoded: int = 0


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    tokenizer: AudioTokenizer | None,
    options: PrepareOptions = PrepareOptions(),
    cache: EmbeddingCache | None = None,
    on_clip: OnClip | None = None,
) -> PrepareResult:
    """Prepare a folder or a list; run again, it resumes, and encodes only what is new.

    Args:
        source: a folder of videos and music, or a list of ready features and tokens.
        out: the data folder.
        tokenizer: the model's codec; a list of tokens needs none.
        options: streams, captions, split.
        cache: of embedding streams; the user's own by default.
        on_clip: called with (clips done, clips in all, name) before each clip.

    Raises:
        UsageError: no usable clip, or no tokenizer for music.
        OutputError: the data folder can't be written.
    """
    out = Path(out)
    listing, given = _list(source, options, out)
    if not listing.clips:
        raise UsageError(f"it holds no usable clip: {_first_lines(listing.problems)}", path=source)
    needs_codec = any(clip.tokens is None for clip in listing.clips)
    if needs_codec and tokenizer is None:
        raise UsageError("music can't be encoded without a model.", remedy="Name it: --model musicgen-small.")
    streams, notes = _available(options.streams) if any(clip.video for clip in listing.clips) else ((), [])
    encoder = ClipEncoder(
        tokenizer,
        tokenizer.format if tokenizer is not None else MUSICGEN_FORMAT,
        cache or EmbeddingCache(),
        streams,
        options.features or usual_features(listing.clips),
        options.features_hz,
    )
    folder = DataFolder(out)
    problems = list(listing.problems)
    done: list[tuple[ClipSource, str, PreparedClip]] = []
    encoded = 0
    for number, clip in enumerate(listing.clips):
        if on_clip is not None:
            on_clip(number, len(listing.clips), clip.name)
        try:
            digest = encoder.digest(clip)
            prepared = folder.find(digest)
            if prepared is None:
                prepared = encoder.encode(clip)
                folder.put(digest, prepared)
                encoded += 1
            done.append((clip, digest, _without_curves(prepared)))
        except ClipError as error:
            problems.append(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise OutputError(f"there is no room left ({reason_of(error)}).", path=error.filename) from error
            problems.append(ClipError(f"it can't be read ({reason_of(error)}).", path=clip.path))
    if not done:
        raise UsageError(f"none of its {len(listing.clips)} clips is usable: {_first_lines(problems)}", path=source)
    where = _split(done, given, encoder.format, options, notes)
    return _finish(folder, done, where, encoder.format, problems, notes, encoded)


def _list(source: str | Path, options: PrepareOptions, out: Path) -> tuple[Listing, set[str] | None]:
    """(all clips, names of those that a given split holds out, or None)."""
    listing = find_clips(source, caption=options.caption, root=options.root, out=out)
    if options.held_out is None:
        return listing, None
    held = find_clips(options.held_out, caption=options.caption, root=options.root, out=out)
    taken = {clip.name for clip in listing.clips}
    apart = [replace(c, name=f"held-out/{c.name}") if c.name in taken else c for c in held.clips]
    both = Listing((*listing.clips, *apart), (*listing.problems, *held.problems))
    return both, {clip.name for clip in apart}


def _available(names: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
    """(encoders that can run here, notes on those that can't)."""
    from expotion_cli.vision.streams import available_encoders

    available = available_encoders()
    if unknown := [name for name in names if name not in available]:
        raise UsageError(f"No embedding stream is called {unknown[0]!r}.", remedy=f"Streams: {', '.join(available)}.")
    missing = [f"{name} is left out: {available[name]}" for name in names if available[name] is not None]
    return tuple(name for name in names if available[name] is None), missing


def _first_lines(problems: Sequence[ExpotionError]) -> str:
    return "; ".join(str(problem) for problem in problems[:3])


def _without_curves(clip: PreparedClip) -> PreparedClip:
    """Only what splitting and the records need, so that memory holds a large folder."""
    streams = {
        name: replace(stream, values=np.zeros((0, len(stream.dims)), np.float32))
        for name, stream in clip.streams.items()
    }
    curves = clip.curves and MusicCurves(*(np.zeros(0, np.float32) for _ in range(3)))
    return replace(clip, streams=streams, curves=curves)


@dataclass(frozen=True)
class _SplitResult:
    where: list[str]
    leaks: splits.Leaks


def _split(
    done: Sequence[tuple[ClipSource, str, PreparedClip]],
    given: set[str] | None,
    form: TokenFormat,
    options: PrepareOptions,
    notes: list[str],
) -> _SplitResult:
    """Each clip's split and what the held-out clips leak; adds to the notes."""
    identities = [
        splits.Identity(
            source.name, source.track, source.person, storage.digest_bytes(clip.tokens.tobytes()), clip.duration_s
        )
        for source, _, clip in done
    ]
    pairs = _shared_recordings([clip for _, _, clip in done], form)
    if given is None:
        where = splits.split(identities, pairs, options.held_out_share, options.seed)
        if options.held_out_share > 0 and splits.HELD_OUT not in where:
            notes.append("nothing is held out: all clips share a track or a person, so no clean split exists")
    else:
        where = [splits.HELD_OUT if source.name in given else splits.TRAIN for source, _, _ in done]
        if options.drop_leaks:
            where = splits.drop_leaks(identities, pairs, where)
    return _SplitResult(where, splits.find_leaks(identities, pairs, where))


def _finish(
    folder: DataFolder,
    done: Sequence[tuple[ClipSource, str, PreparedClip]],
    split: _SplitResult,
    form: TokenFormat,
    problems: Sequence[ExpotionError],
    notes: list[str],
    encoded: int,
) -> PrepareResult:
    """Write `data.json` and pack the clips."""
    records = [
        ClipRecord(
            name=source.name,
            digest=digest,
            split=where,
            caption=source.caption,
            track=source.track,
            person=source.person,
            num_steps=int(clip.tokens.shape[1]),
            duration_s=round(clip.duration_s, 3),
            streams={name: round(float(stream.mask.mean()), 4) for name, stream in clip.streams.items()},
            has_sound=clip.curves is not None,
        )
        for (source, digest, clip), where in zip(done, split.where, strict=True)
    ]
    if count := sum(not record.caption for record in records):
        notes.append(f"{count} of {len(records)} clips have no caption; --caption gives them one")
    if not any(record.streams for record in records):
        notes.append("there is no picture: train with synthetic motion, made from the music (--recipe synthetic)")
    folder.finish(
        {
            "tokens": form.to_dict(),
            "streams": _stream_table([clip for _, _, clip in done]),
            "leaks": split.leaks.to_dict(),
            "skipped": [{"path": str(problem.path), "reason": problem.reason} for problem in problems],
        },
        records,
    )
    return PrepareResult(tuple(records), tuple(problems), split.leaks, tuple(notes), encoded)


def _shared_recordings(clips: Sequence[PreparedClip], form: TokenFormat) -> list[list[int]]:
    """Pairs of clips that share a recording; clips with sound and clips of tokens alone are compared separately."""
    pairs = []
    for has_sound, rate_hz in ((True, fingerprint.WORDS_HZ), (False, float(form.rate_hz))):
        numbers = [n for n, clip in enumerate(clips) if (clip.curves is not None) == has_sound]
        found = fingerprint.find_shared_recordings([clips[n].fingerprint for n in numbers], rate_hz)
        pairs += [[numbers[one], numbers[other]] for one, other in found]
    return pairs


def _stream_table(clips: Sequence[PreparedClip]) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for clip in clips:
        for name, stream in clip.streams.items():
            entry = table.setdefault(name, {"dims": list(stream.dims), "rate_hz": stream.rate_hz, "clips": 0})
            entry["clips"] += 1
    return table
