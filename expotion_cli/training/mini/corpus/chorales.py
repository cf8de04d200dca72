"""Reads part songs from the scores that come with music21, if their own licences clearly allow it.

music21's corpus licence grants nothing itself but refers to the statement inside each file, so each file is judged by
its own statement. Only a dedication to the public domain, CC0, or a plain Creative Commons Attribution licence counts
as clear. "Used by permission" (as in the Bach chorales) does not, nor does a file without a statement.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from expotion_cli.music.codecs.notes import tokens as notes
from expotion_cli.training.mini.corpus import theory
from expotion_cli.training.mini.corpus.describe import describe_plain
from expotion_cli.training.mini.corpus.piece import Piece

_SUFFIXES = {".mxl", ".xml", ".musicxml", ".krn", ".abc", ".rntxt", ".mid", ".capx"}
_RIGHTS = re.compile(
    r"<rights[^>]*>([^<]*)</rights>|^!!!YE[CM]:\s*(.*)$|^%\s*(?:copyright|licen[cs]e)\s*:?\s*(.*)$", re.I | re.M
)
_MENTION = re.compile(r"copyright|©|permission|licen[cs]e|public domain|creative commons", re.I)
_BORDER = re.compile(r"[<>\n]")
_FREE = re.compile(r"\bCC0\b|public domain|\bP\.D\.|CC[- ]BY(?![- ](?:SA|NC|ND))\b", re.I)
_RESTRICTED = re.compile(r"\b(?:NC|ND|SA)\b|non-?commercial|all rights reserved|permission|GPL|General Public", re.I)
_PARTS = ("melody", "counter", "figure", "bass")
MIN_PARTS, MAX_PARTS = 3, 5


def judge(statement: str) -> str:
    """What a file's own words about rights allow: "free", "unclear" or "restricted"."""
    if _RESTRICTED.search(statement):
        return "restricted"
    return "free" if _FREE.search(statement) else "unclear"


def statement_of(path: Path) -> str:
    """What a score file says about its rights: its rights fields, and other sentences that mention them."""
    if path.suffix == ".mxl":
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.startswith("META-INF")]
            text = "\n".join(archive.read(n).decode("utf-8", "replace") for n in names)
    else:
        text = path.read_text("utf-8", "replace")
    found = [next(g for g in m.groups() if g is not None).strip() for m in _RIGHTS.finditer(text)]
    found = [f for f in found if f]
    mentions = []
    for match in _MENTION.finditer(text):
        before = max(text.rfind(border, 0, match.start()) for border in "<>\n") + 1
        after = _BORDER.search(text, match.end())
        mentions.append(text[before : after.start() if after else len(text)].strip()[:200])
    return "; ".join(dict.fromkeys(found + mentions))[:300]


def read_scores() -> tuple[list[Piece], list[dict[str, Any]]]:
    """Read all usable scores.

    Returns:
        The pieces, and a table of all files with rights statement, verdict, and whether and why (not) they are used.
    """
    pieces: list[Piece] = []
    rows: list[dict[str, Any]] = []
    unused: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    root, files = corpus_files()
    for path in files:
        name = path.relative_to(root).as_posix()
        statement = statement_of(path)
        verdict = judge(statement)
        if verdict != "free":
            unused[(name.split("/")[0], verdict, statement)].append(name)
            continue
        try:
            piece = read_score(path, f"music21 corpus: {name}", statement)
        except ValueError as problem:
            rows.append(
                {"file": name, "statement": statement, "verdict": verdict, "used": False, "reason": str(problem)}
            )
            continue
        pieces.append(piece)
        rows.append(
            {
                "file": name,
                "statement": statement,
                "verdict": verdict,
                "used": True,
                "bars": piece.tokens.shape[1] // 48,
            }
        )
    for (_, verdict, statement), names in sorted(unused.items()):
        rows.append(
            {
                "files": names,
                "statement": statement,
                "verdict": verdict,
                "used": False,
                "reason": "no licence that clearly allows use",
            }
        )
    return pieces, rows


def corpus_files() -> tuple[Path, Iterator[Path]]:
    """(root folder, all score files in order) of music21's corpus."""
    import music21

    root = Path(music21.__file__).parent / "corpus"
    return root, (p for p in sorted(root.rglob("*")) if p.suffix in _SUFFIXES and p.is_file())


def read_score(path: Path, source: str, licence: str) -> Piece:
    """Read a part song in 4/4 as tokens, transposed to a tonic of C.

    Args:
        path: the score file.
        source: of the piece, for its attributes.
        licence: its rights statement.

    Raises:
        ValueError: it is not in 4/4 throughout, or does not have three to five parts.
    """
    from music21 import converter

    score = converter.parse(str(path))
    if not hasattr(score, "parts"):
        raise ValueError("not a single score")
    metres = {t.ratioString for t in score.recurse().getElementsByClass("TimeSignature")}
    if metres != {"4/4"}:
        raise ValueError(f"metre {', '.join(sorted(metres)) or 'unknown'}, not 4/4 throughout")
    parts = [_notes_of(part) for part in score.parts]
    parts = [p for p in parts if p]
    if not MIN_PARTS <= len(parts) <= MAX_PARTS:
        raise ValueError(f"{len(parts)} parts, not {MIN_PARTS} to {MAX_PARTS}")
    key = score.analyze("key")
    pickup = score.parts[0].getElementsByClass("Measure").first()
    lead = round((4.0 - pickup.duration.quarterLength) * 12) % 48 if pickup is not None else 0
    return from_parts(parts, key.tonic.pitchClass, key.mode, lead, source, licence)


def _notes_of(part: Any) -> list[tuple[int, int, int]]:
    """(start, end, MIDI pitch) of a part's notes: ties joined, the highest note of each chord."""
    found = []
    for element in part.stripTies().flatten().notes:
        start = round(float(element.offset) * 12)
        end = start + max(1, round(float(element.duration.quarterLength) * 12))
        if element.duration.quarterLength:
            found.append((start, end, max(p.midi for p in element.pitches)))
    return found


def from_parts(
    parts: list[list[tuple[int, int, int]]], tonic: int, mode: str, lead: int, source: str, licence: str
) -> Piece:
    """Make a piece from the notes of its parts.

    Args:
        parts: a list of (start step, end step, MIDI pitch) for each part.
        tonic: pitch class of the key.
        mode: "major" or "minor".
        lead: steps of silence before the first note, so that bars start on multiples of 48.
        source: where the piece comes from.
        licence: of the piece.
    """
    parts = sorted(parts, key=lambda p: -float(np.mean([n[2] for n in p])))
    shift = -tonic if tonic <= 6 else 12 - tonic
    names = _PARTS if len(parts) != 3 else ("melody", "counter", "bass")
    chosen = parts[:3] + parts[-1:] if len(parts) > 3 else parts
    total = max(end for part in chosen for _, end, _ in part) + lead
    num_steps = -(-(total + 12) // 48) * 48
    events: dict[str, list[notes.Event]] = {"dynamics": [notes.Event(0, num_steps, 4)]}
    sounding = np.zeros((num_steps // 12, 12))
    lowest = np.full(num_steps // 12, 128)
    for name, part in zip(names, chosen, strict=True):
        voice = notes.VOICES[notes.VOICE_INDEX[name]]
        row = []
        for start, end, pitch in part:
            pitch += shift
            while pitch < voice.base:
                pitch += 12
            while pitch >= voice.base + notes.PITCH_RANGE:
                pitch -= 12
            row.append(notes.Event(start + lead, end + lead, pitch, 2 if (start + lead) % 24 == 0 else 1))
            for beat in range((start + lead) // 12, min(-(-(end + lead) // 12), len(sounding))):
                overlap = min(end + lead, 12 * beat + 12) - max(start + lead, 12 * beat)
                sounding[beat, pitch % 12] += overlap
                lowest[beat] = min(lowest[beat], pitch)
        events[name] = row
    events["harmony"] = _chords(sounding, lowest, mode)
    tokens = notes.events_to_tokens(events, num_steps).astype(np.int16)
    instruments = dict.fromkeys(names, "choir") | {"harmony": "organ"}
    return Piece(tokens, describe_plain("chorale", mode, 80, tokens, instruments, level=4 / 7), source, licence)


def _chords(sounding: np.ndarray, lowest: np.ndarray, mode: str) -> list[notes.Event]:
    """A chord for each beat where the harmony changes: the one that covers most of the sounding notes."""
    events: list[notes.Event] = []
    known = None
    for beat, weights in enumerate(sounding):
        if weights.sum() == 0:
            known = None
            continue
        best, best_value = -np.inf, 0
        for root in range(12):
            for quality in ("maj", "min", "dim", "dom7", "min7"):
                pcs = [(root + i) % 12 for i in notes.QUALITIES[quality]]
                score = 2 * weights[pcs].sum() - weights.sum() - 3 * (weights[pcs] == 0).sum()
                score += 2 * (lowest[beat] % 12 == root) - 0.5 * len(pcs)
                if score > best:
                    best, best_value = score, theory.make_chord(root, quality, mode).value
        if best_value != known:
            if events and events[-1].end > 12 * beat:
                events[-1] = notes.Event(events[-1].start, 12 * beat, events[-1].value, 0)
            events.append(notes.Event(12 * beat, 12 * beat + 12, best_value, 0))
            known = best_value
        else:
            events[-1] = notes.Event(events[-1].start, 12 * beat + 12, events[-1].value, 0)
    return events
