"""Makes a data folder: reads, checks and encodes every clip once, splits them, and tells where the split leaks."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli import storage
from expotion_cli.errors import ClipError, ExpotionError, OutputError, UsageError, reason_of
from expotion_cli.media.clip import ClipInfo
from expotion_cli.media.probe import probe
from expotion_cli.media.sound import duration_of, read_clip_sound, read_sound, refuse_silence, to_mono
from expotion_cli.music.checkpoints.adapter_files import KNOWN_WIDTHS
from expotion_cli.music.transformer.adapter import StreamSpec
from expotion_cli.training.data import curves as hearing
from expotion_cli.training.data import fingerprint, splits
from expotion_cli.training.data.arrays import read_features, read_tokens
from expotion_cli.training.data.listing import ClipSource, Listing, find_clips
from expotion_cli.training.data.shards import ClipRecord, DataFolder, Item, StoredStream
from expotion_cli.training.data.tokens import MUSICGEN_FORMAT, SoundTokenizer, TokenFormat
from expotion_cli.vision.cache import EmbeddingCache

ITEM_VERSION = 1
SHORTEST_S = 1.0
MISMATCH_S, MISMATCH_SHARE = 1.0, 0.05
"""Music and picture (or tokens and features) may differ by this much; what is longer is cut."""
FEATURES_HZ = 5.0
"""Rows a second of the authors' features."""
_ANALYSIS_RATE = 32_000
_LOOKED_AT = 25

OnClip = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Wanted:
    """What to make of the clips.

    Attributes:
        streams: encoders that look at videos; empty leaves pictures out.
        caption: words for clips without their own; may hold {stem} and {folder}.
        held_out: a folder or list that is held out as it is; None to choose here.
        held_out_share: how much of the whole to hold out otherwise.
        drop_leaks: set clips aside that a given held-out set shares a track, recording or person with.
        root: where a list's relative paths begin.
        features: what a list's features are; by their width, if empty.
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
class Prepared:
    """What a data folder has become.

    Attributes:
        clips: all of them.
        problems: what was skipped, and why.
        leaks: of the held-out clips.
        notes: in words, what is out of the ordinary.
        encoded: clips that were encoded now; the others were there already.
    """

    clips: tuple[ClipRecord, ...]
    problems: tuple[ExpotionError, ...]
    leaks: splits.Leaks
    notes: tuple[str, ...] = ()
    encoded: int = 0


@dataclass
class _Kitchen:
    """What encoding clips needs."""

    wanted: Wanted
    tokenizer: SoundTokenizer | None
    format: TokenFormat
    cache: EmbeddingCache
    streams: tuple[str, ...]
    features: tuple[StreamSpec, ...] = field(default_factory=tuple)


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    tokenizer: SoundTokenizer | None,
    wanted: Wanted = Wanted(),
    cache: EmbeddingCache | None = None,
    on_clip: OnClip | None = None,
) -> Prepared:
    """Prepare a folder or a list; run again, it goes on and takes up what is new.

    Args:
        source: a folder of videos and music, or a list of ready features and tokens.
        out: the data folder.
        tokenizer: the model's codec; lists alone can do without.
        wanted: see there.
        cache: keeps embedding streams; the user's own by default.
        on_clip: called with (clips done, clips in all, name) before each.

    Raises:
        UsageError: nothing to learn from, or no tokenizer for music.
        OutputError: the data folder can't be written.
    """
    out = Path(out)
    listing, given = _list(source, wanted, out)
    if not listing.clips:
        lines = "; ".join(str(problem) for problem in listing.problems[:3])
        raise UsageError(f"it holds nothing that can be learnt from: {lines}", path=source)
    needs_codec = any(clip.tokens is None for clip in listing.clips)
    if needs_codec and tokenizer is None:
        raise UsageError(
            "without a model there is nothing to encode music with.", remedy="Name it: --model musicgen-small."
        )
    streams, notes = _available(wanted.streams) if any(c.video for c in listing.clips) else ((), [])
    form = tokenizer.format if tokenizer is not None else MUSICGEN_FORMAT
    kitchen = _Kitchen(wanted, tokenizer, form, cache or EmbeddingCache(), streams)
    kitchen.features = wanted.features or _usual_features(listing.clips)
    folder = DataFolder(out)
    problems = list(listing.problems)
    kept: list[tuple[ClipSource, str, Item]] = []
    encoded = 0
    for number, clip in enumerate(listing.clips):
        if on_clip is not None:
            on_clip(number, len(listing.clips), clip.name)
        try:
            digest = _digest(clip, kitchen)
            item = folder.find(digest)
            if item is None:
                item = _encode(clip, kitchen)
                folder.put(digest, item)
                encoded += 1
            kept.append((clip, digest, _without_curves(item)))
        except ClipError as error:
            problems.append(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise OutputError(f"there is no room left ({reason_of(error)}).", path=error.filename) from error
            problems.append(ClipError(f"it can't be read ({reason_of(error)}).", path=clip.path))
    if not kept:
        lines = "; ".join(str(problem) for problem in problems[:3])
        raise UsageError(f"none of its {len(listing.clips)} clips can be learnt from: {lines}", path=source)
    return _finish(folder, kept, given, kitchen, problems, notes, encoded)


def _list(source: str | Path, wanted: Wanted, out: Path) -> tuple[Listing, set[str] | None]:
    """(all clips, names of those that a given split holds out, or None)."""
    listing = find_clips(source, caption=wanted.caption, root=wanted.root, out=out)
    if wanted.held_out is None:
        return listing, None
    held = find_clips(wanted.held_out, caption=wanted.caption, root=wanted.root, out=out)
    taken = {clip.name for clip in listing.clips}
    apart = [replace(c, name=f"held-out/{c.name}") if c.name in taken else c for c in held.clips]
    both = Listing((*listing.clips, *apart), (*listing.problems, *held.problems))
    return both, {clip.name for clip in apart}


def _available(names: Iterable[str]) -> tuple[tuple[str, ...], list[str]]:
    from expotion_cli.vision.streams import available_encoders

    available = available_encoders()
    if unknown := [name for name in names if name not in available]:
        raise UsageError(f"No embedding stream is called {unknown[0]!r}.", remedy=f"Streams: {', '.join(available)}.")
    missing = [f"{name} left out: {available[name]}" for name in names if available[name] is not None]
    return tuple(name for name in names if available[name] is None), missing


def _digest(clip: ClipSource, kitchen: _Kitchen) -> str:
    """Hash of all that decides a clip's item."""
    from expotion_cli.vision.streams import stream_digests

    cache, parts = kitchen.cache, {"item": ITEM_VERSION, "tokens": kitchen.format.to_dict()}
    for kind in ("music", "tokens", "features"):
        path = getattr(clip, kind)
        if path is not None and not path.is_file():
            raise ClipError("there is no such file.", path=path, remedy="Check the list, or give --root.")
        parts[f"{kind} file"] = cache.content_hash(path) if path is not None else None
    parts["picture"] = stream_digests(clip.video, kitchen.streams, cache=cache) if clip.video is not None else None
    if clip.features is not None:
        parts["features"] = [str(kitchen.wanted.features_hz), [[s.name, len(s.dims)] for s in kitchen.features]]
    parts["versions"] = [hearing.VERSION, fingerprint.VERSION]
    return storage.digest_of(parts)


def _encode(clip: ClipSource, kitchen: _Kitchen) -> Item:
    return _encode_ready(clip, kitchen) if clip.tokens is not None else _encode_sound(clip, kitchen)


def _encode_sound(clip: ClipSource, kitchen: _Kitchen) -> Item:
    """Music as tokens and curves, and what its picture shows."""
    tokenizer = kitchen.tokenizer
    assert tokenizer is not None and clip.music is not None
    rate, channels = tokenizer.sample_rate, tokenizer.format.channels
    info = probe(clip.video) if clip.video is not None else None
    sound = _read_music(clip, info, rate, channels)
    duration = duration_of(sound, rate)
    if info is not None and clip.music != clip.video:
        _require_match(clip, float(duration), float(info.duration), "the music is {:.2f} s long, its picture {:.2f} s")
        duration = min(duration, info.duration)
        sound = sound[:, : int(duration * rate)]
    if duration < SHORTEST_S:
        raise ClipError(f"it is only {float(duration):.2f} s long.", path=clip.path)
    heard = sound if rate >= _ANALYSIS_RATE // 2 else _read_music(clip, info, _ANALYSIS_RATE, 1)
    heard_rate = rate if heard is sound else _ANALYSIS_RATE
    streams = {}
    if info is not None and kitchen.streams:
        from expotion_cli.vision.streams import encode_clip

        for name, stream in encode_clip(info, kitchen.streams, cache=kitchen.cache).items():
            streams[name] = StoredStream(stream.values, stream.mask, float(stream.rate_hz), tuple(stream.dims))
    return Item(
        tokens=tokenizer.encode(sound),
        streams=streams,
        hearing=hearing.hear(heard, heard_rate),
        words=fingerprint.words_of_sound(heard, heard_rate),
        duration_s=float(duration),
    )


def _read_music(clip: ClipSource, info: ClipInfo | None, rate: int, channels: int) -> np.ndarray:
    assert clip.music is not None
    if info is None or clip.music != clip.video:
        sound = read_sound(clip.music, rate, channels)
    else:
        sound = read_clip_sound(info, rate)  # on the picture's clock
        sound = to_mono(sound) if channels == 1 else sound
    refuse_silence(sound, clip.music, remedy="Leave the clip out, or put its music beside it as a sound file.")
    return sound


def _encode_ready(clip: ClipSource, kitchen: _Kitchen) -> Item:
    """Tokens and features that somebody else made."""
    assert clip.tokens is not None
    form = kitchen.format
    tokens = read_tokens(clip.tokens, form.vocab_size)
    if len(tokens) != form.num_streams:
        raise ClipError(
            f"it holds {len(tokens)} streams of tokens, the model speaks {form.num_streams}.", path=clip.tokens
        )
    duration_s = float(tokens.shape[1] / form.rate_hz)
    if duration_s < SHORTEST_S:
        raise ClipError(f"it is only {duration_s:.2f} s long.", path=clip.tokens)
    streams = {}
    if clip.features is not None:
        values = read_features(clip.features)
        rate_hz = kitchen.wanted.features_hz
        _require_match(clip, duration_s, len(values) / rate_hz, "the tokens are {:.2f} s long, the features {:.2f} s")
        first = 0
        for spec in _feature_specs(values.shape[1], clip, kitchen):
            part = np.ascontiguousarray(values[:, first : first + len(spec.dims)])
            streams[spec.name] = StoredStream(part, np.ones(len(part), dtype=bool), rate_hz, spec.dims)
            first += len(spec.dims)
    return Item(tokens, streams, None, fingerprint.words_of_tokens(tokens), duration_s)


def _feature_specs(width: int, clip: ClipSource, kitchen: _Kitchen) -> tuple[StreamSpec, ...]:
    specs = kitchen.features or KNOWN_WIDTHS.get(width, ())
    if not specs:
        known = ", ".join(f"{w} ({' + '.join(s.name for s in specs)})" for w, specs in KNOWN_WIDTHS.items())
        raise ClipError(
            f"its features are {width} wide, which tells no stream; known are {known}.",
            path=clip.features,
            remedy=f"Name them: --features NAME={width}.",
        )
    if (expected := sum(len(spec.dims) for spec in specs)) != width:
        names = " + ".join(spec.name for spec in specs)
        raise ClipError(
            f"its features are {width} wide, {names} is {expected}.",
            path=clip.features,
            remedy="Extract them like the others, or prepare them apart.",
        )
    return specs


def _usual_features(clips: Sequence[ClipSource]) -> tuple[StreamSpec, ...]:
    """What most of a list's features are, by their width; one that is different must not decide for all."""
    widths: Counter[int] = Counter()
    for clip in clips:
        if clip.features is not None and widths.total() < _LOOKED_AT:
            with contextlib.suppress(ClipError):
                widths[read_features(clip.features).shape[1]] += 1
    return KNOWN_WIDTHS.get(widths.most_common(1)[0][0], ()) if widths else ()


def _require_match(clip: ClipSource, one_s: float, other_s: float, said: str) -> None:
    if abs(one_s - other_s) > max(MISMATCH_S, MISMATCH_SHARE * max(one_s, other_s)):
        raise ClipError(f"{said.format(one_s, other_s)}.", path=clip.path, remedy="Cut them to the same stretch.")


def _without_curves(item: Item) -> Item:
    """Only what splitting and the records need: a large folder's curves would fill the memory."""
    streams = {
        name: replace(stream, values=np.zeros((0, len(stream.dims)), np.float32))
        for name, stream in item.streams.items()
    }
    heard = item.hearing and hearing.Hearing(*(np.zeros(0, np.float32) for _ in range(3)))
    return replace(item, streams=streams, hearing=heard)


def _finish(
    folder: DataFolder,
    kept: Sequence[tuple[ClipSource, str, Item]],
    given: set[str] | None,
    kitchen: _Kitchen,
    problems: list[ExpotionError],
    notes: list[str],
    encoded: int,
) -> Prepared:
    wanted = kitchen.wanted
    identities = [
        splits.Identity(c.name, c.track, c.person, storage.digest_bytes(i.tokens.tobytes()), i.duration_s)
        for c, _, i in kept
    ]
    pairs = _shared([item for _, _, item in kept], kitchen.format)
    if given is None:
        where = splits.split(identities, pairs, wanted.held_out_share, wanted.seed)
        if wanted.held_out_share > 0 and splits.HELD_OUT not in where:
            notes.append("nothing is held out: all clips share a track or a person, so no honest choice exists")
    else:
        where = [splits.HELD_OUT if clip.name in given else splits.TRAIN for clip, _, _ in kept]
        if wanted.drop_leaks:
            where = splits.drop_leaks(identities, pairs, where)
    leaks = splits.find_leaks(identities, pairs, where)
    records = [
        ClipRecord(
            name=clip.name,
            digest=digest,
            split=place,
            caption=clip.caption,
            track=clip.track,
            person=clip.person,
            num_steps=int(item.tokens.shape[1]),
            duration_s=round(item.duration_s, 3),
            streams={name: round(float(stream.mask.mean()), 4) for name, stream in item.streams.items()},
            has_sound=item.hearing is not None,
        )
        for (clip, digest, item), place in zip(kept, where, strict=True)
    ]
    wordless = sum(not record.caption for record in records)
    if wordless:
        notes.append(f"{wordless} of {len(records)} clips have no words; --caption gives them some")
    if not any(record.streams for record in records):
        notes.append("there is no picture: an adapter learns from motion made up from the music (--recipe synthetic)")
    folder.finish(
        {
            "tokens": kitchen.format.to_dict(),
            "streams": _stream_table([item for _, _, item in kept]),
            "leaks": leaks.to_dict(),
            "skipped": [{"path": str(p.path), "reason": p.reason} for p in problems],
        },
        records,
    )
    return Prepared(tuple(records), tuple(problems), leaks, tuple(notes), encoded)


def _shared(items: Sequence[Item], form: TokenFormat) -> list[list[int]]:
    """Pairs of clips that share a recording; those with sound and those of tokens alone are compared apart."""
    pairs = []
    for has_sound, rate_hz in ((True, fingerprint.WORDS_HZ), (False, float(form.rate_hz))):
        numbers = [n for n, item in enumerate(items) if (item.hearing is not None) == has_sound]
        found = fingerprint.shared([items[n].words for n in numbers], rate_hz)
        pairs += [[numbers[one], numbers[other]] for one, other in found]
    return pairs


def _stream_table(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for item in items:
        for name, stream in item.streams.items():
            entry = table.setdefault(name, {"dims": list(stream.dims), "rate_hz": stream.rate_hz, "clips": 0})
            entry["clips"] += 1
    return table
