"""Reads a folder of General-MIDI files as pieces of the corpus.

Each file is quantised to the step grid, transposed so that its tonic is C, and written for the eight voices: drums by
lanes, the bass line, the most salient part as the melody, the next ones as figure and counter, and the chords they make
together. Only stretches in 4/4 are read. A piece is held out or not by a hash of its name, whoever reads it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import midi_voices
from expotion_cli.training.mini.corpus.describe import describe
from expotion_cli.training.mini.corpus.energy import HALF_BEAT, EnergyProfile
from expotion_cli.training.mini.corpus.keys import find_keys
from expotion_cli.training.mini.corpus.midi_drums import BASSES
from expotion_cli.training.mini.corpus.midi_grid import Grid, find_grid
from expotion_cli.training.mini.corpus.midi_parts import Part, Stroke, read_parts
from expotion_cli.training.mini.corpus.piece import Piece
from expotion_cli.training.mini.plan_from_music import plan_of

MIDI = "midi "
"""What the sources of these pieces begin with; the file's name follows."""
LICENCE_FILE = "LICENCE.txt"
BAR = 48
HELD_OUT_OF = 4
"""One piece in so many is held out."""
_LEAST_BARS, _VIEWS = 4, 3
_METRES = (36, 48, 60)


def is_held_out(name: str) -> bool:
    """Whether a piece of this name (without its suffix) is kept from training: a stable quarter of all names."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % HELD_OUT_OF == 0


def read_folder(folder: Path) -> tuple[list[Piece], list[dict[str, Any]]]:
    """Read all MIDI files of a folder.

    Args:
        folder: with `*.mid` files, and `LICENCE.txt` with their terms.

    Returns:
        The pieces, and one row a file: its licence, whether it is used, and what was left out and why.
    """
    licence = statement_of(folder)
    pieces: list[Piece] = []
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.mid")):
        row: dict[str, Any] = {"file": path.name, "statement": licence}
        try:
            found, facts = read_piece(path, licence)
        except ValueError as problem:
            rows.append({**row, "used": False, "reason": str(problem)})
            continue
        pieces += found
        rows.append({**row, "used": True, "held_out": is_held_out(path.stem), **facts})
    return pieces, rows


def statement_of(folder: Path) -> str:
    """What a folder's `LICENCE.txt` says in short: its first lines about copyright and licence."""
    path = folder / LICENCE_FILE
    if not path.is_file():
        return "not stated"
    lines = [" ".join(line.split()) for line in path.read_text("utf-8").splitlines()]
    firsts = [next((line for line in lines if line.lower().startswith(word)), "") for word in ("copyright", "licen")]
    return "; ".join(line for line in firsts if line) or f"see {LICENCE_FILE}"


def read_piece(path: Path, licence: str) -> tuple[list[Piece], dict[str, Any]]:
    """Read a MIDI file: one piece for each stretch in one key, and other views of it to train on.

    Args:
        path: of the file.
        licence: of the music.

    Returns:
        The pieces, and facts: bars read, keys, and how the grid was found.

    Raises:
        ValueError: it has no stretch in 4/4, or no beat grid fits it.
    """
    import symusic

    score = symusic.Score(path)
    tracks = [track for track in score.tracks if len(track.notes)]
    if not tracks:
        raise ValueError("it has no notes")
    ticks = np.concatenate([[note.time for note in track.notes] for track in tracks])
    first_qpm = score.tempos[0].qpm if len(score.tempos) else 120.0
    grid = find_grid(ticks, score.ticks_per_quarter, first_qpm / 60 * score.ticks_per_quarter, _strong(tracks))
    if grid is None:
        raise ValueError("no beat grid fits its onsets")
    parts, strokes = read_parts(score, grid)
    size = max([0, *(end for part in parts for _, end, _, _ in part.notes), *(s[0] + 1 for s in strokes)])
    spans, other = _in_four(score, grid, -(-size // BAR))
    if len(score.time_signatures) == 0 and _other_metre(parts, strokes, size):
        raise ValueError("it seems not to be in 4/4")
    pieces: list[Piece] = []
    keys: list[str] = []
    for first, stop in spans:
        tempo = _tempo(score, grid, first * BAR, stop * BAR)
        for start, end, tonic, mode in _key_spans(*_cut(parts, strokes, first, stop), stop - first):
            cut = _cut(parts, strokes, first + start, first + end)
            if end - start < _LEAST_BARS or not (cut[0] or cut[1]):
                continue
            keys.append(f"{tonic} {mode}")
            views = range(1 if is_held_out(path.stem) else _VIEWS)
            pieces += [_piece(*cut, end - start, tonic, mode, tempo, path.stem, licence, view) for view in views]
    if not pieces:
        raise ValueError(f"no stretch of {_LEAST_BARS} bars in 4/4 ({', '.join(sorted(other)) or 'too short'})")
    bars = sum(stop - first for first, stop in spans)
    facts = {"bars": bars, "keys": keys, "grid": "fitted to the onsets" if grid.is_fitted else "its own"}
    return pieces, {**facts, **({"left_out": other} if other else {})}


def _strong(tracks: Sequence[Any]) -> np.ndarray:
    """Ticks of kicks, crashes and bass notes."""
    found = [
        note.time
        for track in tracks
        for note in track.notes
        if (track.is_drum and note.pitch in (35, 36, 49, 57)) or (not track.is_drum and track.program in BASSES)
    ]
    return np.array(found or [note.time for track in tracks for note in track.notes], dtype=float)


def _in_four(score: Any, grid: Grid, num_bars: int) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """([(first bar, end)] in 4/4, steps in each other metre); a file without a time signature is read as 4/4."""
    marks = [(int(grid.steps(np.array([t.time]))[0]), f"{t.numerator}/{t.denominator}") for t in score.time_signatures]
    if grid.is_fitted or not marks:
        marks = [(0, "4/4")]
    marks[0] = (0, marks[0][1])
    spans: list[tuple[int, int]] = []
    other: dict[str, int] = {}
    for (start, metre), (stop, _) in itertools.pairwise([*marks, (num_bars * BAR, "")]):
        if metre in ("4/4", "2/4", "2/2") and start % BAR == 0:
            if stop - start >= _LEAST_BARS * BAR:
                spans.append((start // BAR, stop // BAR))
        elif stop > start:
            other[metre] = other.get(metre, 0) + stop - start
    return spans, other


def _other_metre(parts: Sequence[Part], strokes: Sequence[Stroke], size: int) -> bool:
    """Whether onsets return clearly more after three or five beats than after four."""
    onsets = np.zeros(size + 1)
    for part in parts:
        for start, _, _, loud in part.notes:
            onsets[start] += loud
    for step, _, _, loud in strokes:
        onsets[min(step, size)] += loud
    onsets -= onsets.mean()
    returns = {lag: float(onsets[lag:] @ onsets[:-lag]) / max(float(onsets @ onsets), 1e-9) for lag in _METRES}
    return max(returns.values()) > returns[48] + 0.12


def _tempo(score: Any, grid: Grid, first_step: int, last_step: int) -> int:
    """Mean tempo of a stretch, in beats a minute."""
    qpm = np.array([t.qpm for t in score.tempos] or [120.0])
    at = np.array([t.time for t in score.tempos] or [0])
    ticks = grid.first_tick + grid.ticks_per_step * np.arange(first_step, max(last_step, first_step + 1), 12)
    seconds = 1 / qpm[np.maximum(np.searchsorted(at, ticks, side="right") - 1, 0)]
    return round(float(12 * grid.ticks_per_step / score.ticks_per_quarter) ** -1 / float(seconds.mean()))


def _cut(parts: Sequence[Part], strokes: Sequence[Stroke], first: int, stop: int) -> tuple[list[Part], list[Stroke]]:
    """Bars `first` to `stop` of a piece."""
    start, end = first * BAR, stop * BAR
    cut = [
        Part(part.program, [(s - start, min(e, end) - start, p, v) for s, e, p, v in part.notes if start <= s < end])
        for part in parts
    ]
    struck = [(step - start, voice, lane, loud) for step, voice, lane, loud in strokes if start <= step < end]
    return [part for part in cut if part.notes], struck


def _key_spans(parts: Sequence[Part], strokes: Sequence[Stroke], num_bars: int) -> list[tuple[int, int, int, str]]:
    """(first bar, end, tonic, mode) of each stretch in one key."""
    del strokes
    bass = [part for part in parts if part.mean_pitch < 48]
    keys = find_keys(midi_voices.sounding(parts, num_bars, BAR), midi_voices.sounding(bass, num_bars, BAR))
    edges = [0, *(bar for bar in range(1, num_bars) if keys[bar] != keys[bar - 1]), num_bars]
    return [(first, stop, *keys[first]) for first, stop in itertools.pairwise(edges)]


def _piece(
    parts: Sequence[Part],
    strokes: Sequence[Stroke],
    num_bars: int,
    tonic: int,
    mode: str,
    tempo_bpm: int,
    name: str,
    licence: str,
    view: int,
) -> Piece:
    """A stretch in one key as a piece. View 1 moves voices by octaves, view 2 gives the melody to another."""
    shift = -tonic if tonic <= 6 else 12 - tonic
    moved = [Part(p.program, [(s, e, pitch + shift, v) for s, e, pitch, v in p.notes]) for p in parts]
    events, sounds = midi_voices.write_voices(moved, strokes, num_bars, swap=view == 2)
    if view == 1:
        r = Random(f"{name} {num_bars} {tonic}")
        for voice in ("melody", "figure", "counter"):
            events[voice] = _by_octave(events.get(voice, []), voice, r.choice((-12, 12)))
    low = [part for part in moved if part.mean_pitch < 48]
    halves = 2 * num_bars
    chords = midi_voices.write_chords(
        midi_voices.sounding(moved, halves, BAR // 2), midi_voices.sounding(low, halves, BAR // 2), mode
    )
    events["harmony"] = chords
    events["dynamics"] = midi_voices.write_dynamics(moved, strokes, num_bars)
    tokens = notes.events_to_tokens(events, num_bars * BAR).astype(np.int16)
    if chords and "harmony" not in sounds:
        sounds = {"harmony": sounds.get("counter") or sounds.get("figure") or "synth pad", **sounds}
    attributes = _attributes(tokens, sounds, [p.program for p in parts], mode, tempo_bpm, name)
    return Piece(tokens, attributes, MIDI + name, licence)


def _by_octave(row: list[notes.Event], voice_name: str, by: int) -> list[notes.Event]:
    """A voice moved by an octave, if its range allows that for nearly all of it; else as it is."""
    base = notes.VOICES[notes.VOICE_INDEX[voice_name]].base
    fits = [base <= event.value + by < base + notes.PITCH_RANGE for event in row]
    if not row or sum(fits) < 0.97 * len(row):
        return row
    return [replace(e, value=e.value + by) if fit else e for e, fit in zip(row, fits, strict=True)]


def _attributes(
    tokens: np.ndarray, sounds: dict[str, str], programs: Sequence[int], mode: str, tempo_bpm: int, name: str
) -> dict[str, Any]:
    """What captions are written from: its energy is how many notes a second there are, and how that changes."""
    plan = plan_of(tokens, tempo_bpm)
    beats = tokens.shape[1] / 12
    per_second = float((tokens[1:] >= notes.FIRST_ONSET).sum() / beats * tempo_bpm / 60)
    middle = float(np.clip(0.15 + 0.035 * per_second, 0.2, 0.8))
    energy = np.repeat(np.clip(middle + 0.5 * (plan.intensity - 0.5), 0.08, 1.0), BAR // HALF_BEAT).tolist()
    profile = EnergyProfile(energy, [False] * len(energy), dict(plan.hits), 1.0)
    style = style_of(programs, has_drums="drums" in sounds, per_second=per_second, tempo_bpm=tempo_bpm)
    r = Random(name)
    attributes = describe(r, style, mode, "straight", tempo_bpm, profile, [*energy, *[0.3] * 8], tokens, sounds)
    return {**attributes, "scale": mode}


def style_of(programs: Sequence[int], *, has_drums: bool, per_second: float, tempo_bpm: int) -> str:
    """The style of a piece, by its instruments: a key of `captions.STYLE_NAMES`.

    Args:
        programs: General-MIDI programs that play.
        has_drums: whether drums play.
        per_second: onsets a second.
        tempo_bpm: in beats a minute.
    """
    count = max(1, len(programs))
    distorted = sum(p in (29, 30) for p in programs)
    guitars = sum(24 <= p <= 31 for p in programs)
    synths = sum(p in (38, 39) or 80 <= p <= 103 for p in programs)
    orchestral = sum(40 <= p <= 79 and p not in (50, 51, 54) for p in programs)
    if not has_drums:
        return "ambient" if per_second < 4 and synths >= orchestral else "cinematic"
    if distorted and per_second > 9 and tempo_bpm >= 100:
        return "metal"
    if guitars and guitars >= max(synths, orchestral) / 2:
        return "rock"
    if orchestral > synths:
        return "cinematic"
    return "ambient" if per_second < 3.5 and synths > count / 2 else "electronic"
