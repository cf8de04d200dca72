"""Notes and marks of scored folders, one row a folder: what to look at when takes are judged by eye.

Each folder holds results of one recipe: `expotion-score CLIPS --recipe NAME --midi --out FOLDER`. Of the tune:
notes a second, different pitches, the share of notes that repeat the one before, and its range in semitones. Of the
chords: lowest and highest pitch. Below: percentiles of what the sidecars measured, over all results.

    python benchmarks/looking.py scored/*
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
from bench import machine, print_table, write_results

MEASURED = ("spread_db", "hole_share", "pulse", "hits", "hits_chance")
PERCENTILES = (0, 50, 100)


def voice(midi: pretty_midi.PrettyMIDI, name: str) -> list[pretty_midi.Note]:
    """The notes of a voice, by time."""
    notes = [note for track in midi.instruments if track.name.startswith(name) for note in track.notes]
    return sorted(notes, key=lambda note: note.start)


def row(folder: Path) -> dict[str, Any]:
    """Means over a folder's results."""
    tunes, chords = [], []
    for path in sorted(folder.glob("*.mid")):
        midi = pretty_midi.PrettyMIDI(str(path))
        pitches = [note.pitch for note in voice(midi, "melody")]
        if len(pitches) > 2:
            same = float(np.mean(np.diff(pitches) == 0))
            tunes.append((len(pitches) / midi.get_end_time(), len(set(pitches)), same, max(pitches) - min(pitches)))
        if notes := [note.pitch for note in voice(midi, "harmony")]:
            chords.append((min(notes), max(notes)))
    means = [*np.mean(tunes, axis=0), *np.mean(chords, axis=0)] if tunes and chords else [float("nan")] * 6
    keys = ("notes_a_second", "pitches", "repeated", "range", "lowest_chord_note", "highest_chord_note")
    return {"takes": len(chords), **{key: round(float(value), 2) for key, value in zip(keys, means, strict=True)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    rows = {folder.name: row(folder) for folder in options.folders}
    print_table("Notes", ("", *next(iter(rows.values()))), [(name, *values.values()) for name, values in rows.items()])
    sidecars = [json.loads(path.read_text()) for each in options.folders for path in sorted(each.glob("*.score.json"))]
    measured = {
        key: [
            round(float(value), 2) for value in np.percentile([one["measured"][key] for one in sidecars], PERCENTILES)
        ]
        for key in MEASURED
    }
    titles = ("", *(f"{percent} %" for percent in PERCENTILES))
    print_table(f"Measured over {len(sidecars)} results", titles, [(key, *each) for key, each in measured.items()])
    write_results("looking", {"machine": machine(), "folders": rows, "measured": measured})


if __name__ == "__main__":
    main()
